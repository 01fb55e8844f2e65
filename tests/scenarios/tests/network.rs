//! Cut cables: a cut link loses nobody; a minority stops in time, and the majority waits for the fence.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Fault;
use scenarios::{Cluster, Gauge, Moment, Plan, UnitFile, run, say};

const UNIT: &str = "witness.service";
const LATE: Duration = Duration::from_secs(40);
/// 92 % of `detect`, which is 2 s.
const LEASE: Duration = Duration::from_millis(1840);

#[test]
fn a_cut_link_loses_nobody() -> Result<()> {
    run("network", Plan::three(), |scenario| {
        scenario.part("one link of three is cut for a minute", one_link);
        scenario.part("each other link is cut", each_link);
        scenario.part("a link that is dead in one direction", one_way);
        scenario.part("a minority stops within its lease, the majority starts after the fence", minority);
        scenario.part("a leader alone stops deciding, and the others go on", leader_alone);
        scenario
            .part("a leader without any link for five seconds is fenced only if it has to be", leader_blinks);
        scenario.part("a stop by hand on a node that is cut off counts after its reboot", stopped_while_cut);
        scenario.part("a node without the management network can be fenced by another", no_management);
    })
}

#[test]
fn a_node_without_a_vote_is_a_node() -> Result<()> {
    let mut plan = Plan::of(4, lab::Suite::Bookworm);
    plan.members = vec![4];
    run("member", plan, |scenario| {
        scenario.part("a unit runs on a plain member, and is moved off it", member_runs);
        scenario.part("a lost plain member is fenced like any node", member_lost);
        scenario.part("a plain member survives the loss of its leader", member_keeps);
    })
}

fn nobody_lost(c: &Cluster, since: u64) -> Result<()> {
    let events = c.events_after(since)?;
    let bad: Vec<_> =
        events.iter().filter(|e| e.kind == "node-lost" || e.kind.starts_with("fence-")).collect();
    ensure!(bad.is_empty(), "somebody was lost: {bad:#?}");
    for i in 1..=3 {
        ensure!(c.power_commands(i).is_empty(), "n{i} was fenced: {:?}", c.power_commands(i));
    }
    Ok(())
}

/// How soon a unit runs elsewhere after its process was killed.
fn reaction(c: &Cluster, home: usize) -> Result<Duration> {
    c.run_unit(UNIT, home)?;
    let then = Moment::now();
    c.ok(home, &format!("systemctl kill --kill-who=main --signal=KILL {UNIT}"))?;
    let beat = c.next_life(UNIT, then, LATE)?;
    let failed = c.node(home).show(UNIT, "InactiveEnterTimestampMonotonic")?.parse::<u64>()?;
    c.ok(c.anybody()?, &format!("convoke reset-failed {UNIT}"))?;
    Ok(beat.since.since(Moment(failed * 1000)))
}

fn one_link(c: &Cluster) -> Result<()> {
    let leader = c.leader()?;
    // The worst link: leader's own.
    let other = c.follower(&[])?;
    c.run_unit(UNIT, other)?;
    let before = c.process(other, UNIT)?;
    let index = c.overview()?.index;
    let begin = Moment::now();
    c.lab.cut_link(leader, other)?;
    let (a, b) = (c.node(leader).name(), c.node(other).name());
    c.until("status names the link", LATE, |now| {
        now.links.iter().any(|l| (l.from == a && l.to == b) || (l.from == b && l.to == a))
    })?;
    let text = c.ok(c.anybody()?, "convoke status")?;
    ensure!(
        text.lines().any(|l| l.contains(&a) && l.contains(&b)),
        "`convoke status` has no line with both {a} and {b}:\n{text}"
    );
    c.still_runs(&before)?;
    let mut times = Gauge::new("process killed while a link is cut", Duration::from_millis(300));
    for home in [other, leader, other] {
        times.add(reaction(c, home)?);
    }
    times.judge()?;
    while begin.elapsed() < Duration::from_secs(60) {
        let now = c.overview()?;
        ensure!(now.nodes.iter().all(|n| n.state == "online"), "somebody is not online any more");
        std::thread::sleep(Duration::from_millis(500));
    }
    nobody_lost(c, index)?;
    c.lab.heal_link(leader, other)?;
    c.until("the link is up again", LATE, |now| now.links.is_empty())?;
    c.never_twice(UNIT)
}

fn each_link(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    let before = c.process(1, UNIT)?;
    let index = c.overview()?.index;
    for (a, b) in [(1, 2), (2, 3), (1, 3)] {
        c.lab.cut_link(a, b)?;
        c.until("status names the link", LATE, |now| !now.links.is_empty())?;
        std::thread::sleep(Duration::from_secs(5));
        c.lab.heal_link(a, b)?;
        c.until("the link is up again", LATE, |now| now.links.is_empty())?;
    }
    c.still_runs(&before)?;
    nobody_lost(c, index)
}

fn one_way(c: &Cluster) -> Result<()> {
    let (leader, other) = (c.leader()?, c.follower(&[])?);
    c.run_unit(UNIT, other)?;
    let before = c.process(other, UNIT)?;
    let index = c.overview()?.index;
    for (from, to) in [(leader, other), (other, leader)] {
        c.lab.cut_one_way(from, to)?;
        std::thread::sleep(Duration::from_secs(8));
        c.lab.heal_one_way(from, to)?;
        std::thread::sleep(Duration::from_secs(2));
    }
    c.still_runs(&before)?;
    nobody_lost(c, index)
}

fn minority(c: &Cluster) -> Result<()> {
    let victim = c.follower(&[])?;
    let name = c.node(victim).name();
    c.run_unit(UNIT, victim)?;
    // Slow enough that the end of the lease and the fence cannot be mixed up.
    c.bmc_faults(victim, &[Fault::Slow(5)])?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it runs on {name}");
    let gap = c.gap_after(UNIT, then)?;
    let stopped = Moment(gap.from_ns).since(then);
    say(&format!(
        "    the minority stopped after {stopped:.2?}, the majority started after {:.2?}",
        beat.since.since(then)
    ));
    // A stop at once, and the beats before the cut were answered up to one beat earlier.
    Gauge::once("cut off, until the unit has stopped", LEASE + Duration::from_millis(200), stopped)
        .judge()?;
    let switched = c
        .lab
        .power_events()
        .into_iter()
        .find(|e| e.node == name && e.at_ns > then.0 && e.command == "power 0");
    let switched = Moment(switched.ok_or_else(|| anyhow::anyhow!("it was not fenced"))?.at_ns);
    ensure!(beat.since > switched, "it started before the fence");
    ensure!(stopped < switched.since(then) + Duration::from_secs(5), "only the fence stopped it");
    let events = c.events_after(index)?;
    ensure!(events.iter().any(|e| e.kind == "fence-proven"), "no proof: {events:#?}");
    c.never_twice(UNIT)
}

fn leader_alone(c: &Cluster) -> Result<()> {
    let leader = c.leader()?;
    c.run_unit(UNIT, leader)?;
    let then = Moment::now();
    c.cut(leader)?;
    c.wait_for("the old leader knows that it has no quorum", LATE, || {
        Ok((!c.node(leader).is_on() || !c.overview_of(leader)?.quorum).then_some(()))
    })?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != c.node(leader).name(), "it runs on the old leader");
    c.never_twice(UNIT)
}

/// Nobody waits for anything on it, so nobody fences it, and nothing is restarted.
fn leader_blinks(c: &Cluster) -> Result<()> {
    let replica = "witness@replica.service";
    c.install(&UnitFile::new(replica).key("Replicas=all"))?;
    let leader = c.leader()?;
    let home = c.follower(&[])?;
    c.run_unit(UNIT, home)?;
    c.ok(home, &format!("convoke start {replica}"))?;
    c.until("all replicas run", LATE, |now| now.places(replica).len() == 3)?;
    let mut before = vec![c.process(home, UNIT)?];
    for i in 1..=3 {
        before.push(c.process(i, replica)?);
    }
    let blink = |leader: usize| -> Result<()> {
        c.cut(leader)?;
        std::thread::sleep(Duration::from_secs(5));
        c.heal(leader)?;
        c.until("everything is as before", LATE, |now| {
            now.nodes.iter().all(|n| n.state == "online") && now.places(replica).len() == 3
        })
        .map(drop)
    };
    blink(leader)?;
    before.iter().try_for_each(|unit| c.still_runs(unit))?;
    for i in 1..=3 {
        ensure!(c.power_commands(i).is_empty(), "n{i} was fenced: {:?}", c.power_commands(i));
    }
    reaction(c, home)?;
    // With the unit on the leader, and a switch that does not work: it stops there, and runs again somewhere.
    let leader = c.leader()?;
    c.run_unit(UNIT, leader)?;
    c.bmc_faults(leader, &[Fault::FailOff])?;
    let then = Moment::now();
    blink(leader)?;
    let beat = c.next_life(UNIT, then, LATE)?;
    say(&format!(
        "    with the unit on the leader it ran again on {} after {:.1?}",
        beat.node,
        beat.since.since(then)
    ));
    c.until("it is active", LATE, |now| now.runs_on(UNIT, &beat.node))?;
    c.settle()?;
    let home = c.leader()?;
    reaction(c, home)?;
    c.ok(home, &format!("convoke stop {replica}"))?;
    c.never_twice(UNIT)
}

/// F10: the operator was told "stopped", and nobody else knew.
fn stopped_while_cut(c: &Cluster) -> Result<()> {
    let unit = "witness@byhand.service";
    c.install(&UnitFile::new(unit).key("Replicas=1").key("OnQuorumLoss=continue"))?;
    // Before the end of the lease, and after it.
    for (wait, words) in [(0, "stopped by hand"), (4, "not yet known to the cluster")] {
        let home = c.follower(&[])?;
        c.run_unit(unit, home)?;
        c.bmc_faults(home, &[Fault::FailOff])?;
        c.cut(home)?;
        std::thread::sleep(Duration::from_secs(wait));
        c.ok(home, &format!("systemctl stop {unit}"))?;
        c.wait_for("its journal says what the stop means", Duration::from_secs(5), || {
            Ok(c.node(home).journal(unit)?.contains(words).then_some(()))
        })?;
        let then = Moment::now();
        c.node(home).reboot()?;
        c.heal(home)?;
        c.until("the stop is known", LATE, |now| {
            now.unit(unit).is_some_and(|u| u.goal == "stopped" && u.state == "stopped")
        })?;
        let by = c.overview()?.unit(unit).and_then(|u| u.goal_by.clone()).unwrap_or_default();
        ensure!(by.contains("operator") && by.contains(&c.node(home).name()), "who stopped it: `{by}`");
        c.until("it is back", LATE, |now| now.online(&c.node(home).name()))?;
        c.stays_silent(unit, Duration::from_secs(2))?;
        if c.beat(unit).is_some_and(|b| b.since > then) {
            say("    it ran for a moment between the node's return and its word");
        }
        let spooled = c.run(home, "ls /var/lib/convoke/wishes")?.stdout;
        ensure!(spooled.trim().is_empty(), "still on disk: {spooled}");
        c.bmc_faults(home, &[])?;
        c.settle()?;
    }
    c.never_twice(unit)
}

fn no_management(c: &Cluster) -> Result<()> {
    let victim = c.follower(&[])?;
    let blind = c.follower(&[victim])?;
    c.run_unit(UNIT, victim)?;
    c.lab.cut_management(blind)?;
    let then = Moment::now();
    c.node(victim).power_off()?;
    let beat = c.next_life(UNIT, then, Duration::from_secs(60))?;
    ensure!(beat.node != c.node(victim).name(), "it runs on a node without power");
    c.never_twice(UNIT)
}

fn member_runs(c: &Cluster) -> Result<()> {
    let now = c.overview()?;
    ensure!(
        now.node("n4").is_some_and(|n| n.role == "member"),
        "n4 is no plain member: {:?}",
        now.node("n4")
    );
    c.run_unit(UNIT, 4)?;
    c.ok(4, "convoke status")?;
    c.ok(4, &format!("convoke move {UNIT} n1"))?;
    c.until("it runs on n1", LATE, |now| now.runs_on(UNIT, "n1"))?;
    c.never_twice(UNIT)
}

fn member_lost(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 4)?;
    let then = Moment::now();
    c.cut(4)?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != "n4", "it runs on n4");
    ensure!(c.power_commands(4).iter().any(|p| p == "power 0"), "n4 was not fenced");
    c.never_twice(UNIT)
}

fn member_keeps(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 4)?;
    let before = c.process(4, UNIT)?;
    let leader = c.leader()?;
    c.node(leader).power_off()?;
    let name = c.node(leader).name();
    c.until("another leads and n4 is online", LATE, |now| {
        now.leader.as_ref().is_some_and(|l| *l != name) && now.online("n4")
    })?;
    std::thread::sleep(Duration::from_secs(3));
    c.still_runs(&before)?;
    c.never_twice(UNIT)
}
