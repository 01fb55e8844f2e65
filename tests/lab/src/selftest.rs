//! Tries the lab itself: every promise that scenarios lean on, on real nodes of each Debian.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{ExtraFile, Fault, Lab, Node, Options, Suite, wait_until};

/// Counts checks and prints a line for each.
#[derive(Default)]
struct Checks {
    passed: usize,
    failed: usize,
}

impl Checks {
    /// Does a check; its text is the answer's measured figures.
    fn check(&mut self, suite: Suite, what: &str, work: impl FnOnce() -> Result<String>) {
        let begin = Instant::now();
        match work() {
            Ok(note) => {
                self.passed += 1;
                println!("ok   {:<8} {what} ({} ms) {note}", suite.name(), begin.elapsed().as_millis());
            }
            Err(e) => {
                self.failed += 1;
                println!("FAIL {:<8} {what}: {e:#}", suite.name());
            }
        }
    }
}

pub(crate) fn run(suite: Option<Suite>, cycles: usize) -> Result<ExitCode> {
    let mut checks = Checks::default();
    for suite in suite.map_or_else(|| Suite::ALL.to_vec(), |s| vec![s]) {
        let name = format!("selftest-{}-{}", suite.name(), std::process::id());
        let before = traces(&name)?;
        let lab = Lab::new(&name, &Options::of(3, suite))?;
        power(&mut checks, suite, &lab);
        files(&mut checks, suite, &lab);
        network(&mut checks, suite, &lab);
        switches(&mut checks, suite, &lab);
        witness(&mut checks, suite, &lab);
        many_cycles(&mut checks, suite, &lab, cycles);
        if checks.failed > 0 {
            println!("logs: {}", lab.save_logs()?.display());
        }
        lab.down()?;
        checks.check(suite, "nothing is left of the lab", || {
            let after = traces(&name)?;
            ensure!(before == after, "left behind: {after:?}");
            Ok(String::new())
        });
    }
    labs(&mut checks);
    println!("{} passed, {} failed", checks.passed, checks.failed);
    Ok(if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ms(since: Instant) -> u128 {
    since.elapsed().as_millis()
}

fn power(checks: &mut Checks, suite: Suite, lab: &Lab) {
    let n1 = lab.node(1);
    checks.check(suite, "three nodes boot at once", || {
        lab.boot_all()?;
        for n in lab.nodes() {
            let state = n.wait_running(Duration::from_secs(5))?;
            let failed = n.run("systemctl --failed --no-legend")?.stdout;
            ensure!(state == "running", "{} is {state}: {failed}", n.name());
            ensure!(n.run_ok("hostname")? == n.name(), "wrong host name");
            ensure!(n.run_ok("cat /proc/1/comm")? == "systemd", "PID 1 is not systemd");
        }
        Ok(String::new())
    });
    checks.check(suite, "power off is at once, and the next boot is another", || {
        let boot = n1.boot_id()?;
        let id = n1.read("/etc/machine-id")?;
        let begin = Instant::now();
        n1.power_off()?;
        let off = ms(begin);
        ensure!(!n1.is_on(), "it is still on");
        ensure!(n1.run("true").is_err(), "a command runs in a node that is off");
        let begin = Instant::now();
        n1.power_on()?;
        let on = ms(begin);
        n1.wait_running(Duration::from_secs(30))?;
        ensure!(n1.boot_id()? != boot, "the boot id is the same");
        ensure!(n1.read("/etc/machine-id")? == id, "the machine id changed");
        Ok(format!("off {off} ms, PID 1 {on} ms, running {} ms", ms(begin)))
    });
    checks.check(suite, "a running command ends with the node's power", || {
        let mut sleeper = n1.spawn("sleep 1000")?;
        n1.reset()?;
        let ended = wait_until(Duration::from_secs(2), Duration::from_millis(5), || {
            sleeper.try_wait().is_ok_and(|s| s.is_some())
        });
        if !ended {
            let _ = sleeper.kill();
        }
        ensure!(ended, "it still runs");
        n1.wait_running(Duration::from_secs(30))?;
        Ok(String::new())
    });
    checks.check(suite, "a reboot from within boots again, a poweroff does not", || {
        let boot = n1.boot_id()?;
        n1.reboot()?;
        ensure!(n1.boot_id()? != boot, "the boot id is the same");
        n1.shutdown_cleanly()?;
        std::thread::sleep(Duration::from_millis(300));
        ensure!(!n1.is_on(), "it came back");
        n1.boot()?;
        Ok(String::new())
    });
    checks.check(suite, "reboot --force --force, a watchdog's way, boots again", || {
        let boots = n1.boots().len();
        n1.run("systemctl reboot --force --force")?;
        n1.wait_boots(boots + 1, Duration::from_secs(20))?;
        n1.wait_running(Duration::from_secs(30))?;
        Ok(String::new())
    });
    checks.check(suite, "a frozen node does nothing until it is thawed", || {
        n1.freeze()?;
        ensure!(n1.run_for("true", Duration::from_millis(500)).is_err(), "a frozen node ran a command");
        n1.thaw()?;
        n1.run_ok("true")?;
        Ok(String::new())
    });
    checks.check(suite, "a command that hangs is an error, and is killed", || {
        let said = n1.run_for("sleep 7777", Duration::from_millis(300)).err().context("no error")?;
        let gone = wait_until(Duration::from_secs(2), Duration::from_millis(20), || {
            n1.run("pgrep -f 'sleep 777[7]'").is_ok_and(|o| o.code == 1)
        });
        ensure!(gone, "it still runs; said: {said}");
        Ok(String::new())
    });
}

fn files(checks: &mut Checks, suite: Suite, lab: &Lab) {
    let n1 = lab.node(1);
    checks.check(suite, "files are written and read, on and off, and a wipe removes them", || {
        n1.write("/etc/some/where/file", "one\n")?;
        n1.write("/run/note", "two")?;
        ensure!(n1.run_ok("cat /etc/some/where/file /run/note")? == "one\ntwo", "not what was written");
        n1.run_ok("ln -s /etc/some/where/file /link; echo three > /var/three")?;
        ensure!(n1.read("/link")? == "one\n", "a link leads out of the node");
        ensure!(lab.node(2).read("/link").is_err(), "nodes share a disk");
        n1.power_off()?;
        ensure!(n1.read("/var/three")? == "three\n", "a power cut lost a written file");
        n1.write("/etc/some/where/file", "four\n")?;
        n1.boot()?;
        ensure!(n1.run_ok("cat /etc/some/where/file")? == "four", "what was written while off is not there");
        n1.power_off()?;
        n1.wipe()?;
        n1.boot()?;
        ensure!(n1.run("test -e /etc/some")?.code == 1, "the wiped disk has files");
        Ok(String::new())
    });
    checks.check(suite, "the journal outlives a power cut and is read on and off", || {
        n1.run_ok("systemd-run --quiet --wait --unit=speaker echo before the cut; journalctl --sync")?;
        n1.power_off()?;
        ensure!(n1.journal("speaker")?.contains("before the cut"), "off: the line is missing");
        n1.boot()?;
        ensure!(n1.journal("speaker")?.contains("before the cut"), "on: the line is missing");
        Ok(String::new())
    });
    checks.check(suite, "/shared is one folder for all", || {
        n1.run_ok("echo x > /shared/file")?;
        ensure!(lab.node(3).run_ok("cat /shared/file")? == "x", "n3 does not see it");
        std::fs::remove_file(lab.shared().join("file"))?;
        Ok(String::new())
    });
}

/// Whether `from` gets an answer from an address, in at most half a second.
fn reaches(from: &Node, address: &str) -> Result<bool> {
    Ok(from.run(&format!("ping -n -q -c 1 -W 0.5 {address}"))?.ok())
}

fn network(checks: &mut Checks, suite: Suite, lab: &Lab) {
    let pairs = |expected: &dyn Fn(usize, usize) -> bool| -> Result<String> {
        for a in 1..=3 {
            for b in (1..=3).filter(|&b| b != a) {
                let seen = reaches(&lab.node(a), &lab.node(b).address())?;
                ensure!(seen == expected(a, b), "n{a} to n{b}: {seen}");
            }
        }
        Ok(String::new())
    };
    checks.check(suite, "all reach all, by name, and the host", || {
        pairs(&|_, _| true)?;
        ensure!(reaches(&lab.node(1), "n3")? && reaches(&lab.node(1), "n3-bmc")?, "a name does not resolve");
        ensure!(reaches(&lab.node(2), &lab.host_address())?, "the host is not reached");
        Ok(String::new())
    });
    checks.check(suite, "a node that is cut off reaches nobody but the power switches", || {
        lab.cut(2)?;
        pairs(&|a, b| a != 2 && b != 2)?;
        ensure!(!reaches(&lab.node(2), &lab.host_address())?, "the host is reached");
        ensure!(reaches(&lab.node(2), "n1-bmc")?, "the switch is not reached");
        lab.node(2).reset()?;
        lab.node(2).wait_running(Duration::from_secs(30))?;
        pairs(&|a, b| a != 2 && b != 2).context("after a power cycle")?;
        lab.heal(2)?;
        pairs(&|_, _| true).context("after healing")
    });
    checks.check(suite, "one link of three is cut, both ways", || {
        lab.cut_link(1, 3)?;
        pairs(&|a, b| (a, b) != (1, 3) && (a, b) != (3, 1))?;
        lab.heal_link(1, 3)?;
        pairs(&|_, _| true)
    });
    checks.check(suite, "one direction is cut", || {
        // An echo needs both ways, so datagrams show the direction.
        let (n1, n2) = (lab.node(1), lab.node(2));
        let heard = |from: &Node, to: &Node| -> Result<bool> {
            to.run_ok("rm -f /run/heard; systemd-run --quiet --unit=ear -- sh -c 'timeout 3 nc -u -l 7000 > /run/heard'")?;
            wait_until(Duration::from_secs(2), Duration::from_millis(20), || {
                to.run("ss -Hlun sport = 7000").is_ok_and(|o| !o.stdout.is_empty())
            });
            from.run_ok(&format!("echo word | timeout 1 nc -u -w 1 {} 7000 || true", to.address()))?;
            let heard = to.read("/run/heard")?.contains("word");
            to.run_ok("systemctl stop ear 2>/dev/null; systemctl reset-failed ear 2>/dev/null; true")?;
            Ok(heard)
        };
        // With the neighbour known in advance, as an ARP request also needs both ways.
        ensure!(heard(&n1, &n2)? && heard(&n2, &n1)?, "not even without a cut");
        lab.cut_one_way(1, 2)?;
        ensure!(!heard(&n1, &n2)?, "n2 heard n1");
        ensure!(heard(&n2, &n1)?, "n1 did not hear n2");
        lab.heal_all()?;
        ensure!(heard(&n1, &n2)?, "not healed");
        Ok(String::new())
    });
    checks.check(suite, "a power cut tells the peers nothing", || {
        let (n1, n2) = (lab.node(1), lab.node(2));
        n2.run_ok("systemd-run --quiet --unit=server nc -l 7001")?;
        wait_until(Duration::from_secs(2), Duration::from_millis(20), || {
            n2.run("ss -Hltn sport = 7001").is_ok_and(|o| !o.stdout.is_empty())
        });
        n1.run_ok(&format!(
            "systemd-run --quiet --unit=client sh -c 'sleep 1000 | nc {} 7001'",
            n2.address()
        ))?;
        let established = || n1.run("ss -Htn state established dport = 7001").map(|o| !o.stdout.is_empty());
        ensure!(
            wait_until(Duration::from_secs(2), Duration::from_millis(20), || established().unwrap_or(false)),
            "no connection"
        );
        n2.power_off()?;
        std::thread::sleep(Duration::from_millis(500));
        ensure!(established()?, "the connection ended with the node's power");
        n1.run_ok("systemctl stop client; systemctl reset-failed; true")?;
        n2.boot()?;
        Ok(String::new())
    });
    checks.check(suite, "a slow link is slow", || {
        let (n1, n2) = (lab.node(1), lab.node(2));
        let time = || -> Result<Duration> {
            n2.run_ok("systemd-run --quiet --unit=sink sh -c 'nc -l 7002 > /dev/null'")?;
            wait_until(Duration::from_secs(2), Duration::from_millis(20), || {
                n2.run("ss -Hltn sport = 7002").is_ok_and(|o| !o.stdout.is_empty())
            });
            let begin = Instant::now();
            n1.run_ok(&format!("head -c 300000 /dev/zero | nc -N {} 7002", n2.address()))?;
            Ok(begin.elapsed())
        };
        let quick = time()?;
        n1.slow_link(Some(1000))?;
        let slow = time()?;
        n1.slow_link(None)?;
        ensure!(slow > Duration::from_secs(1) && quick < Duration::from_secs(1), "{quick:?} and {slow:?}");
        Ok(format!("300 kB in {} and {} ms", quick.as_millis(), slow.as_millis()))
    });
}

fn switches(checks: &mut Checks, suite: Suite, lab: &Lab) {
    let (n2, n3) = (lab.node(2), lab.node(3));
    let bmc = lab.bmc(3);
    let agent = |action: &str, code: i32| -> Result<u128> {
        let begin = Instant::now();
        let out = bmc.agent(&n2, action)?;
        ensure!(out.code == code, "{action}: {} instead of {code}\n{}{}", out.code, out.stdout, out.stderr);
        Ok(ms(begin))
    };
    checks.check(suite, "fence_ipmilan in a node: status, off, status, off, on", || {
        let mut note = format!("status {} ms", agent("status", 0)?);
        note += &format!(", off {} ms", agent("off", 0)?);
        ensure!(!n3.is_on(), "n3 is on");
        note += &format!(", status when off {} ms", agent("status", 2)?);
        agent("off", 0)?;
        note += &format!(", on {} ms", agent("on", 0)?);
        ensure!(n3.is_on(), "n3 is off");
        n3.wait_running(Duration::from_secs(30))?;
        ensure!(
            lab.power_events().iter().filter(|e| e.node == "n3" && e.command == "power 0").count() == 1,
            "{:?}",
            lab.power_events()
        );
        Ok(note)
    });
    checks.check(suite, "a node that is cut off is fenced all the same", || {
        lab.cut(3)?;
        agent("off", 0)?;
        ensure!(!n3.is_on(), "n3 is on");
        lab.heal(3)?;
        n3.boot()?;
        Ok(String::new())
    });
    checks.check(suite, "a switch that lies, ignores, refuses, or cannot tell", || {
        bmc.set_faults(&[Fault::LieOff])?;
        agent("off", 0)?;
        agent("status", 2)?;
        ensure!(n3.is_on(), "lie-off: n3 is off");
        bmc.set_faults(&[])?;
        agent("status", 0)?;
        bmc.set_faults(&[Fault::FailStatus])?;
        agent("status", 1)?;
        bmc.set_faults(&[Fault::FailOff])?;
        agent("off\npower_timeout=2", 1)?;
        bmc.set_faults(&[Fault::IgnoreOff])?;
        agent("off\npower_timeout=2", 1)?;
        ensure!(n3.is_on(), "n3 is off");
        bmc.set_faults(&[Fault::Lag(2)])?;
        let late = agent("off", 0)?;
        ensure!(late > 1500, "lag: {late} ms");
        bmc.set_faults(&[])?;
        n3.boot()?;
        Ok(format!("lag=2: off {late} ms"))
    });
    checks.check(suite, "a switch that is cut off, hangs or has no power", || {
        bmc.cut(true)?;
        agent("status\npower_timeout=2\nlogin_timeout=2\nipmitool_timeout=1", 1)?;
        bmc.cut(false)?;
        bmc.set_faults(&[Fault::Hang])?;
        agent("status\npower_timeout=2\nlogin_timeout=2\nipmitool_timeout=1", 1)?;
        bmc.set_faults(&[])?;
        bmc.stop()?;
        agent("status\npower_timeout=2\nlogin_timeout=2\nipmitool_timeout=1", 1)?;
        bmc.start()?;
        agent("status", 0)?;
        Ok(String::new())
    });
    checks.check(suite, "fence_bad: honest, failing, lying", || {
        let bad = |action: &str, mode: &str| -> Result<i32> {
            let mut text = format!("action={action}\nplug=n3\nmode={mode}\n");
            for (name, value) in bmc.agent_parameters() {
                text += &format!("{name}={value}\n");
            }
            Ok(n2.feed("fence_bad", text.as_bytes())?.code)
        };
        ensure!(bad("metadata", "ok")? == 0 && bad("status", "ok")? == 0, "metadata or status");
        ensure!(
            bad("off", "fail")? == 1 && bad("off", "lie")? == 0 && bad("status", "lie")? == 0,
            "fail or lie"
        );
        ensure!(bad("off", "liar")? == 0 && bad("status", "liar")? == 2, "liar");
        ensure!(n3.is_on(), "n3 is off");
        std::fs::write(lab.shared().join("fence_bad"), "fail\n")?;
        ensure!(bad("off", "ok")? == 1, "the file is not heeded");
        std::fs::remove_file(lab.shared().join("fence_bad"))?;
        ensure!(bad("off", "ok")? == 0 && !n3.is_on(), "honest off");
        n3.boot()?;
        Ok(String::new())
    });
}

fn witness(checks: &mut Checks, suite: Suite, lab: &Lab) {
    let (n1, n2) = (lab.node(1), lab.node(2));
    checks.check(suite, "the witness sees a move as a gap and two copies as an overlap", || {
        n1.run_ok("systemctl start witness.service")?;
        ensure!(n1.pid_of("witness.service")? > 1, "no main process");
        std::thread::sleep(Duration::from_millis(300));
        let moved = lab::now_ns();
        n1.run_ok("systemctl stop witness.service")?;
        n2.run_ok("systemctl start witness.service")?;
        std::thread::sleep(Duration::from_millis(100));
        let seen = lab.witness("witness")?;
        ensure!(seen.overlaps().is_empty() && seen.is_beating(), "{:?}", seen.runs);
        let gap = seen.gap_after(moved).context("no gap")?;
        ensure!((gap.from_node.as_str(), gap.to_node.as_str()) == ("n1", "n2"), "{gap:?}");
        ensure!(gap.length() < Duration::from_secs(2), "{gap:?}");
        let longest = seen.longest_gap().context("no gap")?;
        n2.power_off()?;
        n2.boot()?;
        ensure!(!lab.witness("witness")?.is_beating(), "it beats in a node that was off");
        n1.run_ok("systemctl start witness@x.service")?;
        n2.run_ok("systemctl start witness@x.service")?;
        let seen = || lab.witness("witness@x").is_ok_and(|t| t.overlaps().len() == 1);
        ensure!(
            wait_until(Duration::from_secs(1), Duration::from_millis(10), seen),
            "the overlap is not seen"
        );
        n1.run_ok("systemctl stop witness@x.service")?;
        n2.run_ok("systemctl stop witness@x.service")?;
        Ok(format!(
            "move by hand {:.1} ms, longest gap {:.1} ms",
            gap.length().as_secs_f64() * 1e3,
            longest.length().as_secs_f64() * 1e3
        ))
    });
}

fn many_cycles(checks: &mut Checks, suite: Suite, lab: &Lab, cycles: usize) {
    let n3 = lab.node(3);
    checks.check(suite, &format!("{cycles} power cycles in a row"), || {
        let (mut off, mut on, mut running) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..cycles {
            let begin = Instant::now();
            n3.power_off()?;
            off.push(ms(begin));
            let begin = Instant::now();
            n3.power_on()?;
            on.push(ms(begin));
            n3.wait_running(Duration::from_secs(30))?;
            running.push(ms(begin));
        }
        let figures = |mut v: Vec<u128>| {
            v.sort_unstable();
            v.last().map_or_else(String::new, |max| format!("{} (max {max}) ms", v[v.len() / 2]))
        };
        Ok(format!("off {}, PID 1 {}, running {}", figures(off), figures(on), figures(running)))
    });
    checks.check(suite, "five power cycles that do not wait for the boot", || {
        for _ in 0..5 {
            n3.power_on()?;
            n3.power_off()?;
        }
        n3.boot()?;
        ensure!(reaches(&lab.node(1), &n3.address())?, "n3 is not reached");
        Ok(String::new())
    });
}

/// What concerns labs as a whole, on one Debian: packages, owners that die, two at once.
fn labs(checks: &mut Checks) {
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
}

/// A lab with one node, for as long as this process lives.
pub(crate) fn hold(name: &str) -> Result<()> {
    let _lab = Lab::booted(name, &Options::of(1, Suite::Bookworm))?;
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
fn traces(name: &str) -> Result<Vec<String>> {
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
