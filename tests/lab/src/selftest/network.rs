//! Cables: whole, cut, one-way, slow, and dead with their node.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Lab, Node, Suite, wait_until};

use super::Checks;

/// Whether `from` gets an answer from an address, in at most half a second.
pub(super) fn reaches(from: &Node, address: &str) -> Result<bool> {
    Ok(from.run(&format!("ping -n -q -c 1 -W 0.5 {address}"))?.ok())
}

pub(super) fn network(checks: &mut Checks, suite: Suite, lab: &Lab) {
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
