//! Power switches with the real agent in a node, the misbehaving agent, and the witness.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Fault, Lab, Suite, wait_until};

use super::{Checks, ms};

pub(super) fn switches(checks: &mut Checks, suite: Suite, lab: &Lab) {
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
    // Debian 13 has each agent in a package of its own, and the nodes have one of them.
    if suite == Suite::Bookworm {
        checks.check(
            suite,
            "fence_redfish in a node: a service that is honest, refuses, and dies with its controller",
            || {
                let redfish = lab.redfish(3);
                let agent = |action: &str, code: i32| -> Result<()> {
                    let out = redfish.agent(&n2, action)?;
                    ensure!(
                        out.code == code,
                        "{action}: {} instead of {code}\n{}{}",
                        out.code,
                        out.stdout,
                        out.stderr
                    );
                    Ok(())
                };
                let begin = Instant::now();
                redfish.start()?;
                let mut note = format!("started in {} ms", ms(begin));
                agent("status", 0)?;
                redfish.set_faults(&[Fault::FailOff])?;
                agent("off\npower_timeout=2", 1)?;
                ensure!(n3.is_on(), "n3 is off");
                redfish.set_faults(&[])?;
                let begin = Instant::now();
                agent("off", 0)?;
                note += &format!(", off {} ms", ms(begin));
                ensure!(!n3.is_on(), "n3 is on");
                agent("status", 2)?;
                bmc.stop()?;
                bmc.start()?;
                agent("on", 0)?;
                ensure!(n3.is_on(), "n3 is off");
                n3.wait_running(Duration::from_secs(30))?;
                redfish.stop()?;
                agent("status", 1)?;
                Ok(note)
            },
        );
    }
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
        ensure!(bad("status", "off:fail")? == 0 && bad("off", "off:fail")? == 1, "one action only");
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

pub(super) fn witness(checks: &mut Checks, suite: Suite, lab: &Lab) {
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
