//! Two nodes and a witness: a cut between the two shoots nobody, of two that are apart one is fenced, and a minority does nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use scenarios::{Change, Cluster, Moment, Plan, UnitFile, run};

const UNIT: &str = "witness.service";
const OTHER: &str = "witness@other.service";
/// The node that votes and runs no unit.
const WITNESS: usize = 3;
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;
/// Three times `detect`.
const LONG: Duration = Duration::from_secs(6);
/// What `convoke` ends with where there is no quorum.
const NO_QUORUM: i32 = 3;

#[test]
fn with_a_witness_two_nodes_never_shoot_each_other() -> Result<()> {
    let mut plan = Plan::three();
    plan.witnesses = vec![WITNESS];
    run("witness", plan, |scenario| {
        scenario.part("the link between the two is cut", link);
        scenario.part("each of the two is cut off", each_alone);
        scenario.part("the witness is lost, and then one of the two", two_lost);
    })
}

/// The other one of the two.
fn peer(i: usize) -> usize {
    if i == 1 { 2 } else { 1 }
}

/// One unit on this node, the other on its peer.
fn placed(c: &Cluster, home: usize) -> Result<()> {
    c.install(&UnitFile::new(OTHER).key("Replicas=1"))?;
    c.run_unit(UNIT, home)?;
    c.run_unit(OTHER, peer(home))
}

/// Neither unit ran twice, nor ever on the witness.
fn once_and_not_on_the_witness(c: &Cluster) -> Result<()> {
    let name = c.node(WITNESS).name();
    for unit in [UNIT, OTHER] {
        c.never_twice(unit)?;
        let runs = c.timeline(unit)?.runs;
        ensure!(runs.iter().all(|run| run.node != name), "{unit} ran on the witness");
    }
    Ok(())
}

/// What happened to nodes and by fences, each as its kind and the node.
fn losses(events: &[Change]) -> Vec<(&str, &str)> {
    let bad = events.iter().filter(|event| event.kind == "node-lost" || event.kind.starts_with("fence-"));
    bad.map(|event| (event.kind.as_str(), event.node.as_deref().unwrap_or_default())).collect()
}

/// One of the two leads, so that the other one's session has no way but by the witness.
fn led_by_one_of_the_two(c: &Cluster) -> Result<usize> {
    c.wait_for("one of the two leads", LATE, || {
        let leader = c.leader()?;
        if leader == WITNESS {
            c.ok(WITNESS, "systemctl restart convoked")?;
            return Ok(None);
        }
        Ok(Some(leader))
    })
}

/// How many sessions a node has had by way of another one, over all its boots.
fn relayed(c: &Cluster, i: usize) -> Result<usize> {
    let line = "journalctl --sync; journalctl --quiet --no-pager --output=cat F_RELAYED=true | wc -l";
    Ok(c.ok(i, line)?.trim().parse()?)
}

fn link(c: &Cluster) -> Result<()> {
    let now = c.overview()?;
    let third = now.node(&c.node(WITNESS).name());
    ensure!(third.is_some_and(|node| node.role == "witness"), "it is no witness: {third:?}");
    let leader = led_by_one_of_the_two(c)?;
    let other = peer(leader);
    c.until("everybody is online", LATE, |now| now.nodes.iter().all(|node| node.state == "online"))?;
    placed(c, other)?;
    let before = [c.process(other, UNIT)?, c.process(leader, OTHER)?];
    let (index, sessions) = (c.overview()?.index, relayed(c, other)?);
    c.lab.cut_link(leader, other)?;
    let ends = [c.node(leader).name(), c.node(other).name()];
    c.until("status names the link", LATE, |now| {
        now.links.iter().any(|link| ends.contains(&link.from) && ends.contains(&link.to))
    })?;
    c.always("nobody is lost", LONG, || Ok(c.overview()?.nodes.iter().all(|node| node.state == "online")))?;
    for i in [leader, other] {
        let now = c.overview_of(i)?;
        ensure!(now.quorum && now.fences.is_empty(), "n{i} sees {now:#?}");
    }
    let since = relayed(c, other)?;
    ensure!(since > sessions, "n{other} had no session by way of the witness; {:?} leads", c.leader()?);
    before.iter().try_for_each(|unit| c.still_runs(unit))?;
    c.lab.heal_link(leader, other)?;
    c.until("the link is up again", LATE, |now| now.links.is_empty())?;
    before.iter().try_for_each(|unit| c.still_runs(unit))?;
    let events = c.events_after(index)?;
    ensure!(losses(&events).is_empty(), "somebody was lost: {events:#?}");
    for i in [leader, other, WITNESS] {
        ensure!(c.power_commands(i).is_empty(), "n{i} was fenced: {:?}", c.power_commands(i));
    }
    once_and_not_on_the_witness(c)
}

fn each_alone(c: &Cluster) -> Result<()> {
    for victim in [1, 2] {
        let (name, other) = (c.node(victim).name(), peer(victim));
        placed(c, victim)?;
        let stays = c.process(other, OTHER)?;
        let spared = c.power_commands(other);
        let index = c.overview()?.index;
        let then = Moment::now();
        c.cut(victim)?;
        let beat = c.next_life(UNIT, then, LATE)?;
        ensure!(beat.node == c.node(other).name(), "it runs on {}", beat.node);
        ensure!(!c.node(victim).is_on(), "it started while {name} was on");
        c.until("both units run on the one that is left", LATE, |now| {
            now.runs_on(UNIT, &beat.node) && now.runs_on(OTHER, &beat.node)
        })?;
        c.still_runs(&stays)?;
        let events = c.events_after(index)?;
        let told = losses(&events);
        ensure!(told.contains(&("fence-proven", name.as_str())), "no proof: {events:#?}");
        ensure!(told.iter().all(|(_, node)| *node == name), "somebody else was lost: {events:#?}");
        ensure!(c.power_commands(other) == spared, "n{other} was fenced: {:?}", c.power_commands(other));
        c.settle()?;
    }
    let struck = c.power_commands(WITNESS);
    ensure!(struck.is_empty(), "the witness was fenced: {struck:?}");
    once_and_not_on_the_witness(c)
}

/// One of three decides nothing, and fences nobody, until the witness is back.
fn two_lost(c: &Cluster) -> Result<()> {
    let (left, lost) = (1, 2);
    let (third, name) = (c.node(WITNESS).name(), c.node(lost).name());
    placed(c, lost)?;
    let stays = c.process(left, OTHER)?;
    let index = c.overview()?.index;
    c.node(WITNESS).power_off()?;
    c.until("the witness is lost", LATE, |now| now.node(&third).is_some_and(|node| node.state == "lost"))?;
    // Nothing waits for it.
    c.always("nobody is fenced", S(3), || Ok(c.overview()?.fences.is_empty()))?;
    c.still_runs(&stays)?;
    c.node(lost).power_off()?;
    c.wait_for("the one that is left has no quorum", LATE, || {
        Ok((!c.overview_of(left)?.quorum).then_some(()))
    })?;
    c.wait_for("it stops its own unit at the end of its lease", S(10), || {
        Ok((c.run(left, &format!("systemctl is-active {OTHER}"))?.stdout.trim() == "inactive").then_some(()))
    })?;
    // By its own session, or by the command's patience.
    refuses(c, left, &format!("convoke start --timeout 5s {UNIT}"), &["majority", "quorum"])?;
    refuses(c, left, "convoke status", &["NO QUORUM"])?;
    for unit in [UNIT, OTHER] {
        c.stays_silent(unit, S(4))?;
    }
    for i in [lost, WITNESS] {
        ensure!(
            c.power_commands(i).is_empty(),
            "n{i} was fenced without a quorum: {:?}",
            c.power_commands(i)
        );
    }
    let then = Moment::now();
    c.node(WITNESS).boot()?;
    let beat = c.next_life(UNIT, then, S(60))?;
    ensure!(beat.node == c.node(left).name(), "it runs on {}", beat.node);
    c.until("both units run on the one that is left", LATE, |now| {
        now.runs_on(UNIT, &beat.node) && now.runs_on(OTHER, &beat.node)
    })?;
    let events = c.events_after(index)?;
    let told = losses(&events);
    let proven: Vec<_> = told.iter().filter(|(kind, _)| *kind == "fence-proven").collect();
    ensure!(matches!(&proven[..], [(_, node)] if *node == name), "who was proven gone? {events:#?}");
    ensure!(c.power_commands(WITNESS).is_empty(), "the witness was fenced");
    once_and_not_on_the_witness(c)
}

/// Without a quorum a command says so in one of these words, and ends with its exit code.
fn refuses(c: &Cluster, i: usize, line: &str, words: &[&str]) -> Result<()> {
    let out = c.run(i, line)?;
    let said = format!("{} {}", out.stdout, out.stderr);
    let says_so = words.iter().any(|word| said.contains(word));
    ensure!(out.code == NO_QUORUM && says_so, "`{line}` exits {}: {said}", out.code);
    Ok(())
}
