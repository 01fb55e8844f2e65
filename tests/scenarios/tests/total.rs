//! All power is gone at once, and comes back: everything is as it was, and runs once.

use std::time::Duration;

use anyhow::{Result, ensure};
use scenarios::{Change, Cluster, Moment, Plan, UnitFile, run, say};

const UNIT: &str = "witness.service";
const STOPPED: &str = "witness@stopped.service";
const HELD: &str = "witness@held.service";
const UP: Duration = Duration::from_secs(90);

#[test]
fn after_a_power_cut_of_all_everything_is_as_it_was() -> Result<()> {
    run("total", Plan::three(), |scenario| {
        scenario.part("all lose power at once and boot: goals, holds and history stay", all_at_once);
        scenario.part("all lose power in the middle of wishes: no acknowledged one is lost", under_load);
        scenario.part("one boots alone: nothing runs; the second makes a majority", one_by_one);
    })
}

/// Everything that an operator decided.
fn decided(c: &Cluster) -> Result<Vec<(String, String, Option<String>)>> {
    let now = c.until("there is a majority", UP, |_| true)?;
    Ok(now.units.into_iter().map(|u| (u.name, u.goal, u.goal_by)).collect())
}

fn blackout(c: &Cluster) -> Result<Moment> {
    let then = Moment::now();
    c.lab.power_off_all()?;
    Ok(then)
}

fn all_at_once(c: &Cluster) -> Result<()> {
    c.install(&UnitFile::new(STOPPED).key("Replicas=1"))?;
    c.install(&UnitFile::new(HELD).key("Replicas=all"))?;
    c.run_unit(UNIT, 2)?;
    c.run_unit(STOPPED, 1)?;
    c.ok(1, &format!("convoke start {HELD}"))?;
    c.until("the replicas run", UP, |now| now.places(HELD).len() == 3)?;
    // A stop in the very moment of the start is taken for its part; a person is not so quick.
    std::thread::sleep(Duration::from_secs(1));
    // By hand, on the node: the whole unit for an exclusive one, this node's copy for a replica.
    c.ok(1, &format!("systemctl stop {STOPPED}"))?;
    c.ok(3, &format!("systemctl stop {HELD}"))?;
    c.until("both stops are known", UP, |now| {
        now.state_of(STOPPED) == "stopped" && now.places(HELD) == ["n1", "n2"]
    })?;
    let before = decided(c)?;
    let history = c.events()?;

    let then = blackout(c)?;
    c.lab.boot_all()?;
    c.next_life(UNIT, then, UP)?;
    c.until("the replicas run again where they are not held", UP, |now| now.places(HELD) == ["n1", "n2"])?;
    ensure!(decided(c)? == before, "decided before: {before:?}, after: {:?}", decided(c)?);
    let after: Vec<Change> = c.events()?.into_iter().take(history.len()).collect();
    ensure!(after == history, "the history has changed");
    c.always("what was stopped by hand stays so", Duration::from_secs(3), || {
        let now = c.overview()?;
        Ok(now.state_of(STOPPED) == "stopped" && !now.places(HELD).contains(&"n3"))
    })?;
    c.stays_silent(STOPPED, Duration::from_secs(1))?;
    // One life since the power came back.
    let lives = c.timeline(UNIT)?.runs.iter().filter(|r| r.from_ns > then.0).count();
    ensure!(lives == 1, "it began {lives} lives");
    c.never_twice(UNIT)
}

fn under_load(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    let unit = "witness@wishes.service";
    c.install(&UnitFile::new(unit).key("Replicas=1"))?;
    let node = c.node(c.leader()?);
    // Each line is written after `convoke` has come back: the wish was acknowledged.
    let mut child = node.spawn(&format!(
        "while :; do for verb in start stop; do convoke $verb --no-wait {unit} && echo $verb >>/shared/acknowledged; \
         done; done"
    ))?;
    std::thread::sleep(Duration::from_secs(3));
    blackout(c)?;
    let _ = child.wait();
    let lines = std::fs::read_to_string(c.lab.shared().join("acknowledged"))?;
    let acknowledged = lines.lines().count();
    let last = lines.lines().last().unwrap_or_default().to_owned();
    ensure!(acknowledged > 3, "only {acknowledged} wishes were made");
    c.lab.boot_all()?;
    c.until("there is a majority", UP, |_| true)?;
    let asked = |e: &&Change| {
        e.unit.as_deref() == Some(unit) && (e.kind == "unit-start-asked" || e.kind == "unit-stop-asked")
    };
    let events = c.events()?;
    let recorded: Vec<_> = events.iter().filter(asked).collect();
    // Some were recorded, and the power went before anybody was told.
    ensure!(
        recorded.len() >= acknowledged,
        "{acknowledged} wishes were acknowledged, {} are known",
        recorded.len()
    );
    let goal = c.overview()?.unit(unit).map(|u| u.goal.clone()).unwrap_or_default();
    let meant = if last == "start" { "started" } else { "stopped" };
    ensure!(recorded.len() > acknowledged || goal == meant, "the last word was {last}, the goal is {goal}");
    c.ok(c.anybody()?, &format!("convoke stop {unit}"))?;
    c.never_twice(UNIT)?;
    c.never_twice(unit)
}

fn one_by_one(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    let then = blackout(c)?;
    c.node(2).boot()?;
    c.stays_silent(UNIT, Duration::from_secs(6))?;
    let alone = c.overview_of(2)?;
    ensure!(!alone.quorum, "one of three claims a quorum");
    let out = c.run(2, &format!("convoke start {UNIT}"))?;
    ensure!(out.code == 3, "without a quorum `convoke start` exits {}: {}", out.code, out.stderr);
    c.node(3).boot()?;
    let second = Moment::now();
    // n1 held the unit and has not come back: its power switch says that it is off.
    let beat = c.next_life(UNIT, then, UP)?;
    ensure!(beat.node != "n1", "n1 has no power");
    say(&format!("    {:.1?} after the second node was up", beat.since.since(second)));
    c.never_twice(UNIT)
}
