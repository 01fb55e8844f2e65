//! Labs as a whole: packages, owners that die, two at once, and that nothing is left.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{ExtraFile, Lab, Options, Suite};

use super::Checks;

/// What concerns labs as a whole, on one Debian: packages, owners that die, two at once.
pub(super) fn labs(checks: &mut Checks) {
    let suite = Suite::Bookworm;
    let name = format!("selftest-labs-{}", std::process::id());
    checks.check(
        suite,
        "a package is really installed in all nodes, and one that cannot be is an error",
        || {
            let dir = std::env::temp_dir().join(&name);
            let good = package(&dir, "lab-good", "libc6")?;
            let mut options = Options::of(1, suite).with_deb(good);
            options.extra.push(ExtraFile::text("/etc/extra.conf", "extra\n"));
            let lab = Lab::booted(&name, &options)?;
            let n1 = lab.node(1);
            ensure!(
                n1.run_ok("dpkg-query -W -f '${db:Status-Status}' lab-good")? == "installed",
                "not installed"
            );
            ensure!(
                n1.run_ok("cat /var/lib/lab-good /etc/extra.conf")? == "configured\nextra",
                "not configured"
            );
            lab.down()?;
            let bad = package(&dir, "lab-bad", "no-such-package-at-all")?;
            let said =
                Lab::new(&name, &Options::of(1, suite).with_deb(bad)).err().context("it was installed")?;
            ensure!(format!("{said:#}").contains("no-such-package-at-all"), "{said:#}");
            std::fs::remove_dir_all(&dir)?;
            Ok(String::new())
        },
    );
    checks.check(suite, "a lab belongs to one owner, and what a killed one leaves is removed", || {
        let me = std::env::current_exe()?;
        let mut owner = Command::new(&me).args(["hold", &name]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(owner.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let taken = Lab::new(&name, &Options::of(1, suite)).err().context("two owners")?;
        ensure!(format!("{taken:#}").contains("in use"), "{taken:#}");
        let other = Lab::booted(&format!("{name}-b"), &Options::of(1, suite))?;
        ensure!(
            other.node(1).address() != Lab::attach(&name)?.node(1).address(),
            "two labs share an address"
        );
        owner.kill()?;
        owner.wait()?;
        ensure!(Lab::attach(&name)?.node(1).is_on(), "the node died with its owner");
        let again = Lab::new(&name, &Options::of(1, suite))?;
        ensure!(!again.node(1).is_on(), "the killed owner's node is on");
        drop(again);
        ensure!(other.node(1).run("true")?.ok(), "the neighbour was hit");
        drop(other);
        ensure!(traces(&name)?.is_empty(), "left behind: {:?}", traces(&name)?);
        Ok(String::new())
    });
    checks.check(suite, "a panic leaves the logs of the nodes, and no lab", || {
        let dir = std::env::temp_dir().join(&name);
        let me = std::env::current_exe()?;
        let out =
            Command::new(&me).args(["hold", "--panic", &name]).env("CONVOKE_LAB_LOGS", &dir).output()?;
        ensure!(out.status.code() == Some(101), "{}: {}", out.status, String::from_utf8_lossy(&out.stderr));
        let logs = dir.join(&name);
        ensure!(std::fs::read_to_string(logs.join("n1.journal"))?.contains("Startup finished"), "no journal");
        ensure!(std::fs::read_to_string(logs.join("n1.console"))?.contains("powered on"), "no console");
        ensure!(traces(&name)?.is_empty(), "left behind: {:?}", traces(&name)?);
        std::fs::remove_dir_all(&dir)?;
        Ok(String::new())
    });
}

/// A lab with one node, for as long as this process lives; or a test that panics in it.
pub(crate) fn hold(name: &str, panic: bool) -> Result<()> {
    let _lab = Lab::booted(name, &Options::of(1, Suite::Bookworm))?;
    assert!(!panic, "a test that fails, as told");
    println!("up");
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// Makes a package that depends on another and does something when configured.
fn package(dir: &Path, name: &str, depends: &str) -> Result<PathBuf> {
    let root = dir.join(name);
    std::fs::create_dir_all(root.join("DEBIAN"))?;
    std::fs::write(
        root.join("DEBIAN/control"),
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: lab <lab@localhost>\n\
             Depends: {depends}\nDescription: for the lab's own test\n"
        ),
    )?;
    let script = root.join("DEBIAN/postinst");
    std::fs::write(&script, format!("#!/bin/sh\nset -e\necho configured > /var/lib/{name}\n"))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let deb = dir.join(format!("{name}.deb"));
    let out =
        Command::new("dpkg-deb").arg("--root-owner-group").arg("--build").args([&root, &deb]).output()?;
    ensure!(out.status.success(), "dpkg-deb: {}", String::from_utf8_lossy(&out.stderr));
    Ok(deb)
}

/// Everything on the host that belongs to a lab: mounts, groups, links, namespaces, filter tables, processes.
pub(super) fn traces(name: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (file, word) in
        [("/proc/self/mounts", format!("/labs/{name}/")), ("/proc/self/mounts", format!("nspawn-{name}"))]
    {
        found.extend(std::fs::read_to_string(file)?.lines().filter(|l| l.contains(&word)).map(str::to_owned));
    }
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&format!(" {name} ")) || line.contains(&format!("/{name}/")) {
            found.push(line);
        }
    }
    let group = |at: &str| std::path::Path::new(at).join("convoke-lab").join(name);
    for at in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/pids"] {
        if group(at).exists() {
            found.push(group(at).display().to_string());
        }
    }
    for path in
        [format!("/run/convoke-lab/{name}"), lab::cache_dir().join("labs").join(name).display().to_string()]
    {
        if std::path::Path::new(&path).exists() {
            found.push(path);
        }
    }
    Ok(found)
}
