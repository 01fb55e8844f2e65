//! Maintenance: the cluster keeps its hands off, and fences nobody, until a word ends it.

use std::time::Duration;

use anyhow::{Result, ensure};
use scenarios::{Cluster, Moment, Plan, run, unwrapped};

const UNIT: &str = "witness.service";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn what_is_in_maintenance_is_left_alone() -> Result<()> {
    run("maintenance", Plan::three(), |scenario| {
        scenario.part("a unit is stopped, started and killed by hand", by_hand);
        scenario.part("the network and the daemons are taken away under a unit", no_network);
        scenario.part("a node is switched off", switched_off);
        scenario.part("a node is rebooted", rebooted);
        scenario.part("the cluster is in maintenance while all its nodes lose power", all_power);
    })
}

/// Nothing was decided on the unit since an index, and no node was touched.
fn untouched(c: &Cluster, index: u64) -> Result<()> {
    let touches = |kind: &str| {
        matches!(kind, "unit-granted" | "unit-revoked" | "unit-adopted" | "fence-wanted" | "fence-began")
    };
    let events = c.events_after(index)?;
    let decided: Vec<_> = events.iter().filter(|event| touches(&event.kind)).collect();
    ensure!(decided.is_empty(), "{decided:#?}");
    for i in 1..=3 {
        let off: Vec<_> = c.power_commands(i).into_iter().filter(|command| command == "power 0").collect();
        ensure!(off.is_empty(), "n{i} was fenced");
    }
    Ok(())
}

/// Waits until the node that runs the unit has heard of its maintenance.
fn knows(c: &Cluster, home: usize) -> Result<()> {
    c.wait_for("its node knows it", LATE, || {
        let file = c.ok(home, &format!("cat /run/convoke/permits/{UNIT}"))?;
        Ok(file.contains("\"hands_off\":true").then_some(()))
    })
}

fn why_says(c: &Cluster, words: &[&str]) -> Result<()> {
    let why = c.ok(c.anybody()?, &format!("convoke why {UNIT}"))?;
    let flat = unwrapped(&why);
    let missing: Vec<_> = words.iter().filter(|word| !flat.contains(**word)).collect();
    ensure!(missing.is_empty(), "`convoke why` does not say {missing:?}:\n{why}");
    Ok(())
}

fn by_hand(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 2)?;
    c.ok(1, &format!("convoke maintain {UNIT} --reason 'new schema'"))?;
    let index = c.overview()?.index;
    let status = c.ok(3, "convoke status")?;
    ensure!(status.contains("in maintenance") && status.contains("new schema"), "{status}");
    knows(c, 2)?;
    // A person's stop is no wish, and a person's start needs nobody's leave.
    let process = c.process(2, UNIT)?;
    c.ok(2, &format!("systemctl stop {UNIT}"))?;
    c.stays_silent(UNIT, S(3))?;
    c.until("it is shown down", LATE, |now| now.state_of(UNIT) == "down")?;
    let out = c.run(1, &format!("convoke start {UNIT}"))?;
    ensure!(!out.ok() && out.stderr.contains("convoke unmaintain"), "`convoke start`: {}", out.stderr);
    // Elsewhere it is refused by hand too, with the command that would let it go there.
    ensure!(!c.run(3, &format!("systemctl start {UNIT}"))?.ok(), "n3 started it beside its permit");
    let said = c.ok(3, &format!("journalctl -b -u {UNIT} -o cat"))?;
    let next = format!("convoke unmaintain {UNIT}, then convoke move {UNIT} n3");
    ensure!(said.contains("is down, by hand, on n2") && said.contains(&next), "{said}");
    let then = Moment::now();
    c.ok(2, &format!("systemctl start {UNIT}"))?;
    c.next_life(UNIT, then, LATE)?;
    ensure!(c.process(2, UNIT)?.invocation != process.invocation, "it was not started anew");
    // A crash is left as it is.
    c.ok(2, &format!("kill -9 {}", c.process(2, UNIT)?.pid))?;
    c.stays_silent(UNIT, S(4))?;
    why_says(c, &["witness.service is in maintenance", "new schema", "convoke unmaintain witness.service"])?;
    untouched(c, index)?;
    ensure!(c.overview()?.unit(UNIT).is_some_and(|unit| unit.goal == "started"), "its goal was changed");
    let then = Moment::now();
    c.ok(3, &format!("convoke unmaintain {UNIT}"))?;
    c.next_life(UNIT, then, LATE)?;
    c.never_twice(UNIT)
}

fn no_network(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    c.run_unit(UNIT, home)?;
    c.ok(1, &format!("convoke maintain {UNIT}"))?;
    let index = c.overview()?.index;
    knows(c, home)?;
    let before = c.process(home, UNIT)?;
    c.cut(home)?;
    c.until("it is lost", LATE, |now| now.node(&name).is_some_and(|node| node.state == "lost"))?;
    c.ok(home, "systemctl restart convoked")?;
    std::thread::sleep(S(4));
    c.still_runs(&before)?;
    why_says(c, &[&format!("{name} is lost, and witness.service is in maintenance: it is not fenced")])?;
    c.heal(home)?;
    c.until("it is back", LATE, |now| now.online(&name))?;
    c.ok(home, "systemctl stop convoked")?;
    c.still_runs(&before)?;
    c.ok(home, "systemctl start convoked")?;
    c.until("it is back", LATE, |now| now.online(&name))?;
    untouched(c, index)?;
    c.ok(1, &format!("convoke unmaintain {UNIT}"))?;
    c.always("what ran goes on", S(2), || Ok(c.overview()?.runs_on(UNIT, &name)))?;
    c.still_runs(&before)?;
    c.never_twice(UNIT)
}

fn switched_off(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    c.run_unit(UNIT, home)?;
    c.ok(1, &format!("convoke maintain {name} --reason 'power supply'"))?;
    let index = c.overview()?.index;
    c.node(home).power_off()?;
    c.until("it is lost", LATE, |now| now.node(&name).is_some_and(|node| node.state == "lost"))?;
    c.stays_silent(UNIT, S(5))?;
    untouched(c, index)?;
    why_says(
        c,
        &[
            &format!("{name} is lost, and in maintenance: it is not fenced"),
            &format!("`convoke unmaintain {name}` lets the cluster act"),
        ],
    )?;
    let then = Moment::now();
    c.ok(c.anybody()?, &format!("convoke unmaintain {name}"))?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it runs on the node that is off");
    c.never_twice(UNIT)
}

fn rebooted(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    c.run_unit(UNIT, home)?;
    c.ok(1, &format!("convoke maintain {name}"))?;
    c.node(home).reboot()?;
    c.until("it is online", LATE, |now| now.online(&name))?;
    c.stays_silent(UNIT, S(3))?;
    why_says(c, &[&format!("its copy on {name} ended while {name} is in maintenance")])?;
    let then = Moment::now();
    c.ok(1, &format!("convoke unmaintain {name}"))?;
    c.next_life(UNIT, then, LATE)?;
    c.never_twice(UNIT)
}

fn all_power(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 2)?;
    c.ok(1, "convoke maintain --cluster --reason 'new switchboard'")?;
    c.lab.power_off_all()?;
    c.lab.boot_all()?;
    c.until("all are back", S(60), |now| now.nodes.iter().all(|node| node.state == "online"))?;
    c.stays_silent(UNIT, S(4))?;
    let status = c.ok(2, "convoke status")?;
    ensure!(
        status.contains("the cluster is in maintenance") && status.contains("new switchboard"),
        "{status}"
    );
    why_says(c, &["the cluster is in maintenance", "convoke unmaintain --cluster"])?;
    let then = Moment::now();
    c.ok(3, "convoke unmaintain --cluster")?;
    c.next_life(UNIT, then, LATE)?;
    c.never_twice(UNIT)
}
