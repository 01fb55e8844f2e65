//! Fence cases beside each other, and deaths in the midst of one: a slow device holds up nobody else, and whoever decides or runs a case may die.
//!
//! Five nodes, three of them with a vote. Controllers act late rather than slowly: to one that does not answer in time the agent sends
//! its command again, and commands could not be counted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{ExtraFile, Fault, Suite};
use scenarios::{Change, Cluster, Gauge, Moment, NodeStatus, Plan, UnitFile, run, say};

const UNIT: &str = "witness.service";
const SECOND: &str = "witness@second.service";
const THIRD: &str = "witness@third.service";
/// How many nodes there are.
const NODES: usize = 5;
/// Two nodes without a vote: three voters are left without them.
const MEMBERS: (usize, usize) = (4, 5);
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;
/// 92 % of `detect`, which is 2 s.
const LEASE_MS: u64 = 1840;
/// The controllers' own agent, which takes 25 s more to switch off.
const SLOW: &str = "#!/bin/sh\n\
    input=$(cat)\n\
    case $input in *action=off*) sleep 25 ;; esac\n\
    printf '%s\\n' \"$input\" | fence_ipmilan\n";

/// The same, which says only 4 s later that the node is off.
const LATE_TO_SAY: &str = "#!/bin/sh\n\
    input=$(cat)\n\
    printf '%s\\n' \"$input\" | fence_ipmilan || exit\n\
    case $input in *action=off*) sleep 4 ;; esac\n";

#[test]
fn fence_cases_run_beside_each_other_and_outlive_whoever_runs_them() -> Result<()> {
    let mut plan = Plan::of(NODES, Suite::Bookworm);
    plan.extra.push(ExtraFile::script("/usr/sbin/fence_slow", SLOW));
    plan.extra.push(ExtraFile::script("/usr/sbin/fence_late_to_say", LATE_TO_SAY));
    run("cases", plan, |scenario| {
        scenario.part("of two nodes without power the slow one holds up nobody", beside_each_other);
        scenario.part("an executor that loses its power in mid-action", executor_without_power);
        for (by, whose) in [(By::Another, "another node's"), (By::Leader, "its own")] {
            scenario.part(&format!("a leader that dies between an intent and {whose} action"), move |c| {
                leader_dies(c, by, "fence_ipmilan")
            });
            scenario.part(&format!("a leader that dies between {whose} action and the record"), move |c| {
                leader_dies(c, by, "fence_late_to_say")
            });
        }
    })
}

/// Who runs the attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The node that leads.
    Leader,
    /// One that does not.
    Another,
}

/// The first event of a kind that is about a node.
fn first<'a>(events: &'a [Change], kind: &str, node: &str) -> Result<&'a Change> {
    let found = events.iter().find(|event| event.kind == kind && event.node.as_deref() == Some(node));
    found.with_context(|| format!("no {kind} of {node} among {events:#?}"))
}

fn count(events: &[Change], kind: &str, node: &str) -> usize {
    events.iter().filter(|event| event.kind == kind && event.node.as_deref() == Some(node)).count()
}

/// Who runs the attempt that began.
fn executor(c: &Cluster, began: &Change) -> Result<usize> {
    let (name, _) = began.text.split_once(':').with_context(|| format!("who fences? {}", began.text))?;
    Ok(c.number(name))
}

/// How often a node's controller was told to switch it off in this part.
fn shots(c: &Cluster, i: usize) -> usize {
    c.power_commands(i).iter().filter(|command| *command == "power 0").count()
}

/// It runs elsewhere, once, and the case that proved it is over; the answer is what happened.
fn recovered(c: &Cluster, victim: usize, then: Moment, index: u64) -> Result<Vec<Change>> {
    let name = c.node(victim).name();
    let beat = c.next_life(UNIT, then, S(60))?;
    ensure!(beat.node != name, "it runs on the fenced node");
    ensure!(!c.node(victim).is_on(), "it started while {name} was on");
    c.until("it is active, and no case is open", LATE, |now| {
        now.runs_on(UNIT, &beat.node) && now.fences.is_empty()
    })?;
    let told = shots(c, victim);
    c.always("nobody is fenced again", S(3), || Ok(c.overview()?.fences.is_empty()))?;
    ensure!(shots(c, victim) == told, "{name} was struck after its proof: {:?}", c.power_commands(victim));
    let events = c.events_after(index)?;
    let proven = count(&events, "fence-proven", &name);
    ensure!(proven == 1, "{name} was proven gone {proven} times: {events:#?}");
    c.never_twice(UNIT)?;
    Ok(events)
}

/// Puts settings in force where one node's device has another agent, which takes its time.
fn with_agent(c: &Cluster, i: usize, agent: &str) -> Result<()> {
    let document = c.settings();
    let heading = format!("[fence.bmc-{}]\n", c.node(i).name());
    let (before, section) = document.split_once(&heading).context("it has no device")?;
    let agent = format!("\"{agent}\"");
    let slow = section.replacen("\"fence_ipmilan\"", &agent, 1);
    let slow = slow.replacen("timeout = \"6s\"", "timeout = \"45s\"", 1);
    ensure!(slow.contains(&agent) && slow.contains("\"45s\""), "other settings: {document}");
    c.configure(&format!("{before}{heading}{slow}"))?;
    c.until("every device has shown its node", LATE, |now| {
        let devices: Vec<_> = now.nodes.iter().flat_map(|node| &node.devices).collect();
        devices.len() == NODES && devices.iter().all(|device| device.state == "ready")
    })
    .map(drop)
}

fn beside_each_other(c: &Cluster) -> Result<()> {
    for unit in [SECOND, THIRD] {
        c.install(&UnitFile::new(unit).key("Replicas=1"))?;
    }
    let (slow, quick) = MEMBERS;
    with_agent(c, slow, "fence_slow")?;
    let outcome = two_cases(c, slow, quick);
    // The other parts have quick switches.
    let restored = c.configure(&c.settings());
    outcome?;
    restored
}

fn two_cases(c: &Cluster, slow: usize, quick: usize) -> Result<()> {
    c.run_unit(UNIT, slow)?;
    c.run_unit(SECOND, quick)?;
    c.run_unit(THIRD, c.follower(&[slow, quick])?)?;
    let names = (c.node(slow).name(), c.node(quick).name());
    let index = c.overview()?.index;
    let then = Moment::now();
    c.node(slow).power_off()?;
    c.node(quick).power_off()?;
    c.until("an alarm says that fencing waits", LATE, |now| {
        now.alarms_with(&["many nodes were lost at once", "fencing waits"])
    })?;
    let beat = c.next_life(SECOND, then, LATE)?;
    ensure!(beat.node != names.1, "it runs on a node without power");
    say(&format!("    the quick one's unit ran again after {:.1?}", beat.since.since(then)));
    slow_runs(c, &names.0)?;
    let mut times = Gauge::new("process killed beside a slow agent, until it runs elsewhere", MS(300));
    for _ in 0..3 {
        times.add(reaction(c)?);
    }
    slow_runs(c, &names.0)?;
    times.judge()?;
    let events = recovered(c, slow, then, index)?;
    let beat = c.beat(UNIT).context("it does not run")?;
    say(&format!("    and the slow one's after {:.1?}", beat.since.since(then)));
    added(&events, [(names.0.as_str(), UNIT), (names.1.as_str(), SECOND)])?;
    for unit in [SECOND, THIRD] {
        c.never_twice(unit)?;
        c.ok(c.anybody()?, &format!("convoke stop {unit}"))?;
    }
    Ok(())
}

fn slow_runs(c: &Cluster, name: &str) -> Result<()> {
    let now = c.overview()?;
    let fence = now.fence(name).with_context(|| format!("no case of {name}: {:?}", now.fences))?;
    ensure!(fence.state == "running" && fence.attempts == 1, "its agent does not run any more: {fence:?}");
    Ok(())
}

/// How soon a unit runs elsewhere after its process was killed.
fn reaction(c: &Cluster) -> Result<Duration> {
    let now = c.until("it is active", LATE, |now| now.places(THIRD).len() == 1)?;
    let home = c.number(now.places(THIRD).first().context("it runs nowhere")?);
    let then = Moment::now();
    c.ok(home, &format!("systemctl kill --kill-who=main --signal=KILL {THIRD}"))?;
    let beat = c.next_life(THIRD, then, LATE)?;
    ensure!(beat.node != c.node(home).name(), "it runs on {} again, where it failed", beat.node);
    let failed = c.node(home).show(THIRD, "InactiveEnterTimestampMonotonic")?.parse::<u64>()?;
    c.ok(c.anybody()?, &format!("convoke reset-failed {THIRD}"))?;
    Ok(beat.since.since(Moment(failed * 1000)))
}

/// F23: two of five within one lease are many. What had not begun by the second loss begins a lease after it; what is beyond that, and what lies
/// between proof and permit, is Convoke's own.
fn added(events: &[Change], cases: [(&str, &str); 2]) -> Result<()> {
    let [(one, _), (other, _)] = cases;
    let (one, other) = (first(events, "node-lost", one)?, first(events, "node-lost", other)?);
    let apart = one.time_ms.abs_diff(other.time_ms);
    ensure!(apart <= LEASE_MS, "the losses are {apart} ms apart: were they two?");
    let latest = if one.index < other.index { other } else { one };
    let mut gauge = Gauge::new("what is added to detection and the agent's own time", MS(100));
    for (name, unit) in cases {
        let lost = first(events, "node-lost", name)?;
        let began = first(events, "fence-began", name)?;
        let proven = first(events, "fence-proven", name)?;
        for kind in ["fence-began", "fence-proven"] {
            let times = count(events, kind, name);
            ensure!(times == 1, "{kind} of {name}: {times} times: {events:#?}");
        }
        let mut grants = events.iter().filter(|event| event.kind == "unit-granted");
        let granted = grants.find(|event| event.unit.as_deref() == Some(unit));
        let granted = granted.with_context(|| format!("no permit for {unit} among {events:#?}"))?;
        ensure!(granted.index > proven.index, "{unit} was granted before the proof: {events:#?}");
        let held = began.index > latest.index;
        let from = if held { latest.time_ms + LEASE_MS } else { lost.time_ms };
        ensure!(began.time_ms >= from, "the fence of {name} did not wait: {events:#?}");
        let (before, after) =
            (began.time_ms.saturating_sub(from), granted.time_ms.saturating_sub(proven.time_ms));
        let since = if held { "a lease after the second loss" } else { "its loss" };
        say(&format!("    {name}: {since} to fence-began {before} ms, fence-proven to permit {after} ms"));
        gauge.add(MS(before + after));
    }
    gauge.judge()
}

/// Three of five are left. What the dead one had begun is neither believed nor waited for.
fn executor_without_power(c: &Cluster) -> Result<()> {
    let (victim, _) = MEMBERS;
    let name = c.node(victim).name();
    c.run_unit(UNIT, victim)?;
    c.bmc_faults(victim, &[Fault::Lag(3)])?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    c.wait_for("the switch was told to switch off", LATE, || Ok((shots(c, victim) > 0).then_some(())))?;
    let events = c.events_after(index)?;
    let dead = executor(c, first(&events, "fence-began", &name)?)?;
    c.node(dead).power_off()?;
    let events = recovered(c, victim, then, index)?;
    let began = events.iter().filter(|event| event.kind == "fence-began");
    let executors: Vec<usize> = began.map(|event| executor(c, event)).collect::<Result<_>>()?;
    ensure!(
        matches!(&executors[..], [one, two] if *one == dead && *two != dead),
        "n{dead} died, and those who fenced are {executors:?}: {events:#?}"
    );
    let failed = first(&events, "fence-failed", &name)?;
    ensure!(failed.text.contains("was lost while it ran the agent"), "{failed:?}");
    ensure!(shots(c, victim) <= executors.len(), "{:?}", c.power_commands(victim));
    // Nothing waits for it.
    ensure!(shots(c, dead) == 0, "n{dead} was fenced too: {:?}", c.power_commands(dead));
    Ok(())
}

/// A node that this one would be asked to fence by that agent, and who leads. Who had the device's last answer is asked first.
fn victim(c: &Cluster, by: By, agent: &str) -> Result<(usize, usize)> {
    let leader = c.leader()?;
    // Each node looks once through a new device: that before the target last. Those without a vote before the others.
    let after = leader % NODES + 1;
    let others = (1..=NODES).rev().filter(|i| *i != leader);
    let mut candidates: Vec<usize> = others.collect();
    candidates.sort_by_key(|i| (*i == after) != (by == By::Leader));
    for victim in candidates {
        with_agent(c, victim, agent)?;
        let asked = settled(c)?;
        let asked = asked.get(&c.node(victim).name()).context("nobody has looked at it")?;
        if (c.number(asked) == leader) == (by == By::Leader) {
            return Ok((victim, leader));
        }
    }
    // In a new life the next node looks first, and the others have looked through that device before.
    let before = if leader == 1 { NODES } else { leader - 1 };
    let name = c.node(before).name();
    c.node(before).reboot()?;
    c.until("it is back", LATE, |now| now.online(&name))?;
    let asked = settled(c)?;
    let asked = asked.get(&name).context("nobody has looked at it")?;
    ensure!(
        (c.number(asked) == leader) == (by == By::Leader),
        "n{leader} leads, and {asked} would fence {name}"
    );
    Ok((before, leader))
}

/// Who had the last answer about each node, once no look follows another.
fn settled(c: &Cluster) -> Result<BTreeMap<String, String>> {
    let asked = || -> Result<BTreeMap<String, String>> {
        let of = |node: &NodeStatus| Some((node.name.clone(), node.devices.first()?.answered_by.clone()?));
        Ok(c.overview()?.nodes.iter().filter_map(of).collect())
    };
    let mut before = asked()?;
    c.wait_for("all have looked", LATE, || {
        std::thread::sleep(Duration::from_secs(3));
        let last = std::mem::replace(&mut before, asked()?);
        Ok((last == before && last.len() == NODES).then_some(()))
    })?;
    Ok(before)
}

/// The attempt is in the log: the next leader neither repeats it nor gives it to somebody else, and a daemon that was killed while it ran it
/// goes on with it. With the agent that is late to say so, the node is off by then.
fn leader_dies(c: &Cluster, by: By, agent: &str) -> Result<()> {
    let whom = victim(c, by, agent)?;
    let outcome = leader_dies_fencing(c, by, whom, agent != "fence_ipmilan");
    let restored = c.configure(&c.settings());
    outcome?;
    restored
}

fn leader_dies_fencing(c: &Cluster, by: By, (victim, leader): (usize, usize), once_off: bool) -> Result<()> {
    let name = c.node(victim).name();
    c.run_unit(UNIT, victim)?;
    c.bmc_faults(victim, &[Fault::Lag(2)])?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    let events = c.until_event(index, "fence-began", LATE)?;
    let runs = executor(c, first(&events, "fence-began", &name)?)?;
    if once_off {
        c.wait_for("the node is off", LATE, || Ok((!c.node(victim).is_on()).then_some(())))?;
    }
    c.kill_daemon(leader)?;
    let told = shots(c, victim);
    ensure!((runs == leader) == (by == By::Leader), "n{runs} fences and n{leader} leads");
    ensure!(!once_off || told == 1, "the node is off, and its switch was told {told} times");
    say(&format!(
        "    n{leader} led and died, n{runs} fences {name}, whose switch had been told {told} times"
    ));
    let events = recovered(c, victim, then, index)?;
    let changed = events.iter().find(|event| event.kind == "leader-changed");
    let changed = changed.with_context(|| format!("it led on: {events:#?}"))?;
    let proven = first(&events, "fence-proven", &name)?;
    ensure!(changed.index < proven.index, "it was proven before another led: {events:#?}");
    let began = count(&events, "fence-began", &name);
    ensure!(began == 1, "{began} attempts were begun: {events:#?}");
    // Its agent ends with the daemon that ran it, and is run again.
    let most = if by == By::Leader { 2 } else { 1 };
    ensure!(shots(c, victim) <= most, "{:?}", c.power_commands(victim));
    Ok(())
}
