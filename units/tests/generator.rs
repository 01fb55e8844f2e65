//! The generator as PID 1 runs it: three directories, exit code 0, and gates whatever happens.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SECTION: &str = "[Service]\nExecStart=/bin/true\n[X-Convoke]\n";
const GATE: &str = "~convoke-gate.conf";

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        Node { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// systemd empties the three directories before each run.
    fn reload(&self) -> Output {
        let early = self.path("early");
        let _ = fs::remove_dir_all(&early);
        fs::create_dir(&early).unwrap();
        self.run(&[])
    }

    fn run(&self, env: &[(&str, &str)]) -> Output {
        let dirs = ["normal", "early", "late", "root"].map(|d| self.path(d));
        fs::create_dir_all(&dirs[3]).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_convoke-generator"))
            .args(&dirs)
            .envs(env.iter().copied())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        for other in [&dirs[0], &dirs[2]] {
            assert!(!other.exists(), "only the early directory is written to");
        }
        output
    }

    fn gate(&self, unit: &str) -> Option<String> {
        fs::read_to_string(self.path("early").join(format!("{unit}.d")).join(GATE)).ok()
    }
}

#[test]
fn gates_are_written_and_remembered() {
    let node = Node::new();
    node.put("root/etc/systemd/system/db.service", SECTION);
    node.reload();
    let gate = node.gate("db.service").unwrap();
    assert!(
        gate.contains("\nAssertPathExists=/run/convoke/permits/%n\n") && gate.contains("ExecCondition=+"),
        "{gate}"
    );
    let memory = node.path("root/run/convoke/generator-last-good");
    assert_eq!(fs::read_to_string(memory.join("db.service.d").join(GATE)).unwrap(), gate);
    let leftovers: Vec<_> = fs::read_dir(node.path("early/db.service.d")).unwrap().collect();
    assert_eq!(leftovers.len(), 1, "{leftovers:?}");
}

#[test]
fn a_removed_section_loses_its_gate_unless_the_unit_is_known() {
    let node = Node::new();
    node.put("root/etc/systemd/system/a.service", SECTION);
    node.put("root/etc/systemd/system/b.service", SECTION);
    node.put("root/etc/systemd/system/c.service", SECTION);
    node.put("root/var/lib/convoke/gated", "b.service\n");
    // As at a boot whose /var is mounted later.
    node.put("root/etc/convoke/gated", "c.service\n");
    node.reload();
    for unit in ["a", "b", "c"] {
        node.put(&format!("root/etc/systemd/system/{unit}.service"), "[Service]\nExecStart=/bin/true\n");
    }
    node.reload();
    assert_eq!(node.gate("a.service"), None);
    for known in ["b.service", "c.service"] {
        assert!(node.gate(known).unwrap().contains("ExecCondition=+"), "as full as with a section");
    }
}

#[test]
fn what_cannot_be_read_keeps_the_gates_of_the_last_good_run() {
    let node = Node::new();
    node.put("root/etc/systemd/system/db.service", SECTION);
    node.put("root/etc/systemd/system/web.service.d/convoke.conf", "[X-Convoke]\n");
    node.reload();
    // Root reads everything, so an unreadable file is played by a directory behind a link.
    fs::remove_file(node.path("root/etc/systemd/system/db.service")).unwrap();
    fs::create_dir_all(node.path("root/etc/odd/db.service")).unwrap();
    std::os::unix::fs::symlink("/etc/odd/db.service", node.path("root/etc/systemd/system/db.service"))
        .unwrap();
    fs::remove_dir_all(node.path("root/etc/systemd/system/web.service.d")).unwrap();
    let told = node.reload();
    assert!(node.gate("db.service").is_some(), "{told:?}");
    assert!(node.gate("web.service").is_some(), "nothing is taken away by an incomplete reading");
}

#[test]
fn what_is_no_file_is_named_and_waited_for_by_nobody() {
    let node = Node::new();
    node.put("root/etc/systemd/system/db.service", SECTION);
    node.put("root/etc/systemd/system/web.service.d/convoke.conf", "[X-Convoke]\n");
    node.put("root/usr/lib/systemd/system/web.service", "[Service]\nExecStart=/bin/true\n");
    node.reload();
    node.put("root/etc/systemd/system/web.service.d/long.conf", &"#\n".repeat(4 << 20));
    for pipe in ["db.service", "web.service.d/pipe.conf", "other.service.d/pipe.conf"] {
        let path = node.path("root/etc/systemd/system").join(pipe);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    let told = node.reload();
    assert!(node.gate("db.service").is_some() && node.gate("web.service").is_some(), "{told:?}");
    let found = units::verify::verify(&node.path("root"), &[]);
    let unread = found.iter().filter(|d| d.code == units::Code::Unreadable).map(|d| d.message.as_str());
    assert_eq!(
        unread.collect::<BTreeSet<_>>(),
        BTreeSet::from([
            "cannot read /etc/systemd/system/db.service: it is not a regular file",
            "cannot read /etc/systemd/system/other.service.d/pipe.conf: it is not a regular file",
            "cannot read /etc/systemd/system/web.service.d/long.conf: it is longer than 4 MiB",
            "cannot read /etc/systemd/system/web.service.d/pipe.conf: it is not a regular file",
        ])
    );
    // What it says may forbid what the rest allows.
    let unit = |name: &str| units::unit(&node.path("root"), name);
    let web = unit("web.service").unwrap();
    assert!(web.section.is_none() && web.gated, "{web:?}");
    // What it says may be the section itself: where the unit had one, the unit stays and names the file.
    assert_eq!(unit("db.service"), None);
    node.put("root/var/lib/convoke/gated", "db.service\n");
    let db = unit("db.service").unwrap();
    let errors: Vec<_> = db.diagnostics.iter().filter(|d| d.severity == units::Severity::Error).collect();
    assert!(db.section.is_none() && db.gated && errors.len() == 1, "{db:?}");
    assert_eq!(units::verify::verify(&node.path("root"), &["db.service".to_owned()])[0], *errors[0]);
    let other = units::verify::verify(&node.path("root"), &["other.service".to_owned()]);
    assert!(other.len() == 1 && other[0].message.contains("other.service.d/pipe.conf"), "{other:?}");
}

#[test]
fn the_copy_of_the_last_boot_serves_the_first_run_of_the_next() {
    let node = Node::new();
    node.put("root/etc/systemd/system/db.service", SECTION);
    node.reload();
    units::write::keep_last_good(&node.path("root")).unwrap();
    fs::remove_dir_all(node.path("root/run")).unwrap();
    fs::remove_file(node.path("root/etc/systemd/system/db.service")).unwrap();
    std::os::unix::fs::symlink("/etc/odd", node.path("root/etc/systemd/system/db.service")).unwrap();
    fs::create_dir_all(node.path("root/etc/odd")).unwrap();
    node.reload();
    assert!(node.gate("db.service").is_some());
}

#[test]
fn it_has_no_business_in_user_managers_and_the_initrd() {
    for env in [("SYSTEMD_SCOPE", "user"), ("SYSTEMD_IN_INITRD", "1")] {
        let node = Node::new();
        node.put("root/etc/systemd/system/db.service", SECTION);
        fs::create_dir(node.path("early")).unwrap();
        node.run(&[env]);
        assert_eq!(node.gate("db.service"), None, "{env:?}");
    }
}

#[test]
fn wrong_arguments_and_unwritable_directories_are_no_failure() {
    let run = |args: &[&Path]| {
        let output = Command::new(env!("CARGO_BIN_EXE_convoke-generator")).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    run(&[]);
    let node = Node::new();
    node.put("root/etc/systemd/system/db.service", SECTION);
    node.put("file", "in the way");
    run(&[&node.path("n"), &node.path("file"), &node.path("l"), &node.path("root")]);
    assert!(!node.path("root/run").exists(), "what could not be written is not remembered as good");
}
