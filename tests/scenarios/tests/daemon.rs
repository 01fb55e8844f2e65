//! The daemon comes and goes; the units do not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scenarios::{Change, Cluster, Moment, Plan, Process, UnitFile, run, say};

const UNIT: &str = "witness.service";
const REPLICA: &str = "witness@replica.service";
const WISHED: &str = "witness@wished.service";
const LATE: Duration = Duration::from_secs(40);

#[test]
fn the_daemon_comes_and_goes_and_units_stay() -> Result<()> {
    run("daemon", Plan::three(), |scenario| {
        scenario.part("convoked is restarted on each node: nothing else is", restarted);
        scenario.part("kill -9 of every convoked 50 times under load", killed_fifty_times);
        scenario.part("a killed daemon is not back before the lease ends", killed_over_the_lease);
        scenario.part("a package upgrade restarts no unit", upgraded);
        scenario.part("systemctl stop convoked releases, and start takes part again", stopped);
        scenario.part("a clean shutdown hands over without a fence", shut_down);
        scenario.part("a reboot hands over, and the node comes back", rebooted);
        scenario.part("a unit that runs already is adopted without a restart", adopted);
    })
}

/// An exclusive unit, and a replica on each node.
fn units(c: &Cluster, home: usize) -> Result<Vec<Process>> {
    c.install(&UnitFile::new(REPLICA).key("Replicas=all"))?;
    c.run_unit(UNIT, home)?;
    c.ok(c.anybody()?, &format!("convoke start {REPLICA}"))?;
    c.until("all replicas run", LATE, |now| now.places(REPLICA).len() == 3)?;
    let mut found = vec![c.process(home, UNIT)?];
    for i in 1..=3 {
        found.push(c.process(i, REPLICA)?);
    }
    Ok(found)
}

fn all_still_run(c: &Cluster, units: &[Process]) -> Result<()> {
    units.iter().try_for_each(|unit| c.still_runs(unit))
}

fn whole(c: &Cluster) -> Result<()> {
    c.until("everybody is online", LATE, |now| now.nodes.iter().all(|n| n.state == "online")).map(drop)
}

fn restarted(c: &Cluster) -> Result<()> {
    let units = units(c, 2)?;
    let index = c.overview()?.index;
    for i in 1..=3 {
        let begin = Moment::now();
        c.ok(i, "systemctl restart convoked")?;
        let took = begin.elapsed();
        ensure!(took < Duration::from_secs(10), "`systemctl restart convoked` takes {took:?}");
        whole(c)?;
        all_still_run(c, &units)?;
    }
    let events = c.events_after(index)?;
    let bad = ["unit-granted", "unit-revoked", "unit-released", "node-lost", "fence-wanted"];
    let bad: Vec<_> = events.iter().filter(|e| bad.contains(&e.kind.as_str())).collect();
    ensure!(bad.is_empty(), "a restart of the daemon did more than that: {bad:#?}");
    c.never_twice(UNIT)
}

/// Wishes that are made all the time, from all nodes, and written down once they were acknowledged.
struct Load {
    children: Vec<std::process::Child>,
}

impl Load {
    fn begin(c: &Cluster) -> Result<Load> {
        c.everywhere("rm -f /run/stop-load /shared/wishes.*")?;
        let line = format!(
            "while ! [ -e /run/stop-load ]; do for verb in start stop; do \
             convoke $verb --no-wait {WISHED} 2>/dev/null && echo $verb >>/shared/wishes.$(hostname); done; \
             sleep 0.05; done"
        );
        let children = c.nodes().iter().map(|n| n.spawn(&line)).collect::<Result<_>>()?;
        Ok(Load { children })
    }

    /// How many were acknowledged.
    fn end(mut self, c: &Cluster) -> Result<usize> {
        c.everywhere("touch /run/stop-load")?;
        for child in &mut self.children {
            child.wait()?;
        }
        let count = |i: usize| {
            let text =
                std::fs::read_to_string(c.lab.shared().join(format!("wishes.n{i}"))).unwrap_or_default();
            text.lines().count()
        };
        Ok((1..=3).map(count).sum())
    }
}

/// A small generator: the moments differ from run to run, and are printed with the seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn killed_fifty_times(c: &Cluster) -> Result<()> {
    c.install(&UnitFile::new(WISHED).key("Replicas=1"))?;
    let units = units(c, 1)?;
    let index = c.overview()?.index;
    let seed = std::env::var("CONVOKE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(lab::now_ns);
    let mut dice = Dice(seed | 1);
    let load = Load::begin(c)?;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(dice.roll(400)));
        for i in 1..=3 {
            // Not all at the very same instant: each order of deaths has its own hazards.
            std::thread::sleep(Duration::from_millis(dice.roll(30)));
            let killed =
                c.run(i, "kill -9 $(systemctl show -p MainPID --value convoked | sed 's/^0$//') 2>/dev/null");
            killed.context("kill")?;
        }
    }
    let acknowledged = load.end(c)?;
    whole(c).with_context(|| format!("seed {seed}"))?;
    let events = c.events_after(index)?;
    let asked = |e: &&Change| {
        e.unit.as_deref() == Some(WISHED) && (e.kind == "unit-start-asked" || e.kind == "unit-stop-asked")
    };
    let known = events.iter().filter(asked).count();
    say(&format!("    {acknowledged} wishes acknowledged, {known} known, seed {seed}"));
    ensure!(acknowledged >= 20, "only {acknowledged} wishes were acknowledged: that was no load");
    ensure!(
        known >= acknowledged,
        "{acknowledged} wishes were acknowledged, {known} are known (seed {seed})"
    );
    all_still_run(c, &units).with_context(|| format!("seed {seed}"))?;
    c.never_twice(UNIT)?;
    c.never_twice(WISHED)
}

/// F8: while the daemon is away nobody renews; a late daemon finds its lease ended and stops what must stop.
fn killed_over_the_lease(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    c.run_unit(UNIT, home)?;
    // Its power switch is dead, so only the node itself can let go.
    c.bmc_faults(home, &[lab::Fault::FailOff])?;
    let then = Moment::now();
    c.ok(home, "systemctl kill --kill-who=main --signal=STOP convoked.service")?;
    c.until(&format!("{name} is lost"), LATE, |now| now.node(&name).is_some_and(|n| n.state == "lost"))?;
    c.kill_daemon(home)?;
    // The new one may not think that it has a lease: it stops the unit, and says so once it is heard.
    let beat = c.next_life(UNIT, then, LATE)?;
    say(&format!("    it ran again on {} after {:.1?}", beat.node, beat.since.since(then)));
    c.never_twice(UNIT)
}

fn upgraded(c: &Cluster) -> Result<()> {
    let units = units(c, 3)?;
    let deb = std::fs::read(scenarios::package()?)?;
    for i in 1..=3 {
        let out = c.node(i).feed(
            "cat >/root/convoke.deb && DEBIAN_FRONTEND=noninteractive dpkg --install --force-confnew /root/convoke.deb",
            &deb,
        )?;
        ensure!(out.ok(), "n{i}: the upgrade fails: {}{}", out.stdout, out.stderr);
        c.ok(i, "rm /root/convoke.deb")?;
        c.ok(i, "systemctl is-active convoked")?;
        whole(c)?;
        all_still_run(c, &units)?;
    }
    c.never_twice(UNIT)
}

fn stopped(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    c.run_unit(UNIT, home)?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.ok(home, "systemctl stop convoked")?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != c.node(home).name(), "it still runs where convoked was stopped");
    let events = c.events_after(index)?;
    ensure!(!events.iter().any(|e| e.kind.starts_with("fence-")), "a clean stop was fenced: {events:#?}");
    // Nobody starts it there behind the cluster's back.
    let out = c.run(home, &format!("systemctl start {UNIT}"))?;
    ensure!(!out.ok(), "the gate is open while convoked is stopped");
    c.ok(home, "systemctl start convoked")?;
    whole(c)?;
    c.never_twice(UNIT)
}

fn shut_down(c: &Cluster) -> Result<()> {
    for of_leader in [false, true] {
        let leader = c.leader()?;
        let home = if of_leader { leader } else { c.follower(&[])? };
        c.run_unit(UNIT, home)?;
        let index = c.overview()?.index;
        let then = Moment::now();
        c.node(home).shutdown_cleanly()?;
        let beat = c.next_life(UNIT, then, LATE)?;
        let gap = c.gap_after(UNIT, then)?.length();
        let whose = if of_leader { "the leader" } else { "a follower" };
        say(&format!("    shutdown of {whose}: gap {gap:.1?}, then on {}", beat.node));
        let events = c.events_after(index)?;
        ensure!(
            !events.iter().any(|e| e.kind.starts_with("fence-")),
            "a clean shutdown was fenced: {events:#?}"
        );
        ensure!(c.power_commands(home).is_empty(), "{:?}", c.power_commands(home));
        c.node(home).boot()?;
        whole(c)?;
    }
    c.never_twice(UNIT)
}

fn rebooted(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    c.run_unit(UNIT, home)?;
    let goal = c.overview()?.unit(UNIT).map(|u| u.goal.clone());
    let then = Moment::now();
    c.node(home).reboot()?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it waited for the reboot of {name}");
    whole(c)?;
    let now = c.overview()?;
    ensure!(now.unit(UNIT).map(|u| u.goal.clone()) == goal, "a reboot changed the goal");
    ensure!(c.power_commands(home).is_empty(), "a reboot was fenced: {:?}", c.power_commands(home));
    c.never_twice(UNIT)
}

fn adopted(c: &Cluster) -> Result<()> {
    let unit = "witness@before.service";
    // It runs before anybody says that it is a cluster unit.
    c.ok(2, &format!("systemctl start {unit}"))?;
    let before = c.process(2, unit)?;
    c.install(&UnitFile::new(unit).key("Replicas=1"))?;
    c.ok(1, &format!("convoke start {unit}"))?;
    let now = c.until("it was adopted where it runs", LATE, |now| now.runs_on(unit, "n2"))?;
    ensure!(now.unit(unit).is_some_and(|u| u.copies[0].adopted), "it is not shown as adopted");
    c.still_runs(&before)?;
    c.ok(1, &format!("convoke move {unit} n3"))?;
    let now = c.until("it was moved like any other", LATE, |now| now.runs_on(unit, "n3"))?;
    ensure!(now.unit(unit).is_some_and(|u| !u.copies[0].adopted), "the new copy is shown as adopted");
    c.ok(1, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}
