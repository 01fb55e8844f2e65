//! Power, disks and logs of one node.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lab::{Lab, Suite, wait_until};

use super::{Checks, ms, network::reaches};

pub(super) fn power(checks: &mut Checks, suite: Suite, lab: &Lab) {
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

pub(super) fn files(checks: &mut Checks, suite: Suite, lab: &Lab) {
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

pub(super) fn many_cycles(checks: &mut Checks, suite: Suite, lab: &Lab, cycles: usize) {
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
