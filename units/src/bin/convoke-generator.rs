//! systemd's generator of the gates: run by PID 1 at boot and at each reload, before any unit is loaded.
//!
//! It fails closed. Gates from the last good run and from the list of known units are written first and
//! refined after, so that a crash at any point leaves gates, and it always exits 0. It enables nothing and
//! writes only to the early directory, which no administrator's file masks, and to its own memory in /run.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use units::generator::{self, GATED_COPY, GATED_LIST, LAST_GOOD, LAST_GOOD_KEPT};
use units::write;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    // User managers and the initrd have no cluster units.
    if is("SYSTEMD_SCOPE", "user")
        || is("SYSTEMD_IN_INITRD", "1")
        || Path::new("/etc/initrd-release").exists()
    {
        return;
    }
    // systemd gives three directories. A fourth argument is the root that tests read instead of `/`.
    let [_normal, early, _late, rest @ ..] = &args[..] else {
        log("needs the three directories that systemd gives to generators; nothing done");
        return;
    };
    let root = PathBuf::from(rest.first().map_or("/", String::as_str));
    let early = Path::new(early);
    let in_root = |path: &str| root.join(path.trim_start_matches('/'));

    let fallback = first_pass(&in_root);
    report(write::files(early, &fallback));

    // From here on a crash costs nothing: what stands is what stood before.
    let output = generator::render(&root);
    for line in &output.log {
        log(line);
    }
    let files = output.with_fallback(&fallback);
    let written = write::files(early, &files);
    let clean = written.is_ok();
    report(written);
    if clean {
        // Takes away what the first pass wrote and the second found to be wrong.
        report(write::prune(early, &files));
    }
    if clean && output.complete {
        let memory = in_root(LAST_GOOD);
        report(write::files(&memory, &files).and_then(|()| write::prune(&memory, &files)));
    }
}

/// The gates that stand whatever happens next: those of the last good run, and the least for every unit
/// that this node knows.
fn first_pass(in_root: &dyn Fn(&str) -> PathBuf) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for list in [GATED_LIST, GATED_COPY] {
        let list = units::read::file(&in_root(list)).unwrap_or_default();
        files.extend(generator::render_known(&String::from_utf8_lossy(&list)));
    }
    for memory in [LAST_GOOD_KEPT, LAST_GOOD] {
        match write::read_back(&in_root(memory)) {
            Ok(good) => files.extend(good),
            Err(error) => log(&chain(&error)),
        }
    }
    files
}

fn report(result: Result<(), write::WriteError>) {
    if let Err(error) = result {
        log(&chain(&error));
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

/// One line in the kernel's log, the only one there is so early; on standard error when people run it.
fn log(line: &str) {
    // 4 is "warning"; the kernel cuts a record at about 1,000 bytes.
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(700).collect();
    let record = format!("<4>convoke-generator: {line}\n");
    let kernel = fs::OpenOptions::new().write(true).open("/dev/kmsg");
    // systemd sets the variable for every generator; without it the run is not PID 1's.
    let ours = env::var_os("SYSTEMD_SCOPE").is_some();
    let written = ours && kernel.and_then(|mut kmsg| kmsg.write_all(record.as_bytes())).is_ok();
    if !written {
        // A closed standard error must not end the run.
        let _ = writeln!(std::io::stderr(), "convoke-generator: {line}");
    }
}
