//! Units of the cluster start, stop and conflict in the words of systemd, and in its order (S4).
//!
//! Who came first is read from the witnesses' files. What others wait for is slow to start and what has to go first is
//! slow to stop, so that whoever does not wait is seen.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Fault, Run};
use scenarios::{Cluster, Moment, Plan, UnitFile, run};

/// One copy.
const DB: &str = "witness@db.service";
/// Two copies that require the database.
const APP: &str = "witness@app.service";
/// On all nodes; it wants the two copies, and comes after them.
const WEB: &str = "witness@web.service";
/// Bound to the database, on another node.
const BOUND: &str = "witness@bound.service";
/// A part of the database, after it.
const PART: &str = "witness@part.service";
/// Restarted by its own systemd.
const AGAIN: &str = "witness@again.service";
/// What requires that: one runs, one is started meanwhile.
const OLD: &str = "witness@old.service";
const NEW: &str = "witness@new.service";
/// What something that is no cluster unit requires.
const UNDER: &str = "witness@under.service";
const DAY: &str = "witness@day.service";
const NIGHT: &str = "witness@night.service";
const LATE: Duration = Duration::from_secs(40);

#[test]
fn what_belongs_together_starts_and_stops_in_order() -> Result<()> {
    run("order", Plan::three(), |scenario| {
        scenario.part("a start begins at the bottom, a stop at the top (S4)", up_and_down);
        scenario.part("a move stops what needs the unit before it, and starts it after it (S4)", moved);
        scenario.part("a crash takes along what is bound to it, and nothing else (S4)", crash);
        scenario.part("what systemd itself restarts is waited for, and stops nobody (S4)", restarted);
        scenario
            .part("what is bound to a lost unit ends before the fence, and starts after it (S2, S4)", loss);
        scenario.part("what depends on a unit on its node alone stops in its own time", dependent);
        scenario.part("of two that conflict the one asked for runs, and never both (S1)", conflict);
        scenario.part("nothing that conflicts with a lost unit starts before the fence (S2)", lost_opponent);
        scenario.part("after a power cut of all it starts in order (S4)", blackout);
    })
}

fn install(c: &Cluster) -> Result<()> {
    let unit = |name: &str, replicas: &str| UnitFile::new(name).key(&format!("Replicas={replicas}"));
    let slow_to_stop = |unit: UnitFile| unit.service("ExecStop=/bin/sleep 0.7");
    let db = unit(DB, "1").service("ExecStartPre=/bin/sleep 1");
    let app = unit(APP, "2").key(&format!("Requires={DB}")).service("ExecStartPre=/bin/sleep 0.5");
    let web = unit(WEB, "all").key(&format!("Wants={APP}")).key(&format!("After={APP}"));
    let bound = unit(BOUND, "1").key(&format!("BindsTo={DB}")).key(&format!("OtherNodeThan={DB}"));
    let part = unit(PART, "1").key(&format!("PartOf={DB}")).key(&format!("After={DB}"));
    for unit in [db, slow_to_stop(app), web, slow_to_stop(bound), slow_to_stop(part)] {
        c.install(&unit)?;
    }
    Ok(())
}

/// The whole stack runs.
fn stack(c: &Cluster) -> Result<()> {
    install(c)?;
    c.ok(c.anybody()?, &format!("convoke start {WEB} {BOUND} {PART}"))?;
    all_run(c)
}

fn all_run(c: &Cluster) -> Result<()> {
    let copies = [(DB, 1), (APP, 2), (WEB, 3), (BOUND, 1), (PART, 1)];
    let whole = |now: &scenarios::Overview| copies.iter().all(|(unit, n)| now.places(unit).len() == *n);
    c.until("all of the stack runs", LATE, whole).map(drop)
}

/// Lives that began after an instant.
fn lives(c: &Cluster, unit: &str, then: Moment) -> Result<Vec<Run>> {
    Ok(c.timeline(unit)?.runs.into_iter().filter(|run| run.from_ns > then.0).collect())
}

/// The same; there must be some.
fn born(c: &Cluster, unit: &str, then: Moment) -> Result<Vec<Run>> {
    let lives = lives(c, unit, then)?;
    ensure!(!lives.is_empty(), "{unit} did not start anew");
    Ok(lives)
}

/// Lives that an instant fell into; there must be some.
fn alive(c: &Cluster, unit: &str, then: Moment) -> Result<Vec<Run>> {
    let lives = c.timeline(unit)?.runs.into_iter();
    let lives: Vec<Run> = lives.filter(|run| run.from_ns < then.0 && run.to_ns > then.0).collect();
    ensure!(!lives.is_empty(), "{unit} did not run");
    Ok(lives)
}

/// After an instant `earlier` began, and only then any copy of `later`.
fn starts_after(c: &Cluster, later: &str, earlier: &str, then: Moment) -> Result<()> {
    let first = born(c, earlier, then)?.iter().map(|run| run.from_ns).min();
    let early: Vec<Run> =
        born(c, later, then)?.into_iter().filter(|run| Some(run.from_ns) <= first).collect();
    ensure!(early.is_empty(), "{later} began before {earlier}, which began at {first:?}: {early:#?}");
    Ok(())
}

/// What ran at an instant has ended: all of `first`, and only then `last`.
fn stops_before(c: &Cluster, first: &str, last: &str, then: Moment) -> Result<()> {
    let end = alive(c, last, then)?.iter().map(|run| run.to_ns).min();
    let late: Vec<Run> = alive(c, first, then)?.into_iter().filter(|run| Some(run.to_ns) >= end).collect();
    ensure!(late.is_empty(), "{first} ran on after {last}, which ended at {end:?}: {late:#?}");
    Ok(())
}

/// What ran at an instant runs still, and nothing else was started.
fn undisturbed(c: &Cluster, unit: &str, then: Moment) -> Result<()> {
    let now = Moment::now();
    let before = alive(c, unit, then)?;
    let goes_on = || {
        let lives = c.timeline(unit)?.runs;
        Ok(before
            .iter()
            .all(|was| lives.iter().any(|run| run.pid == was.pid && run.to_ns > now.0))
            .then_some(()))
    };
    c.wait_for(&format!("{unit} runs on"), Duration::from_secs(1), goes_on)?;
    let anew = lives(c, unit, then)?;
    ensure!(anew.is_empty(), "{unit} was started anew: {anew:#?}");
    Ok(())
}

/// No life of one unit touches a life of the other.
fn never_together(c: &Cluster, one: &str, other: &str) -> Result<()> {
    let others = c.timeline(other)?.runs;
    for run in c.timeline(one)?.runs {
        let beside = others.iter().find(|other| other.from_ns <= run.to_ns && run.from_ns <= other.to_ns);
        ensure!(beside.is_none(), "{one} RAN BESIDE {other}: {run:?} and {beside:?}");
    }
    Ok(())
}

fn up_and_down(c: &Cluster) -> Result<()> {
    install(c)?;
    let then = Moment::now();
    // Nobody asks for the database or the two copies: what wants and requires them does.
    stack(c)?;
    starts_after(c, APP, DB, then)?;
    starts_after(c, WEB, APP, then)?;
    starts_after(c, BOUND, DB, then)?;
    starts_after(c, PART, DB, then)?;

    let then = Moment::now();
    c.ok(2, &format!("convoke stop {DB}"))?;
    for unit in [APP, BOUND, PART] {
        stops_before(c, unit, DB, then)?;
        ensure!(c.overview()?.places(unit).is_empty(), "{unit} runs without the database");
    }
    undisturbed(c, WEB, then)?;
    let why = c.why(APP)?;
    ensure!(
        why.reasons.iter().any(|r| r.rule == "S4" && r.fact.contains(DB)),
        "`why` does not name what it requires: {:#?}",
        why.reasons
    );
    // What an operator stopped stays so, whoever wants it.
    c.ok(2, &format!("convoke start --no-wait {APP}"))?;
    c.always("the database stays stopped", Duration::from_secs(1), || {
        Ok(c.overview()?.state_of(DB) == "stopped")
    })?;

    let then = Moment::now();
    c.ok(3, &format!("convoke start {DB}"))?;
    all_run(c)?;
    for unit in [APP, BOUND, PART] {
        starts_after(c, unit, DB, then)?;
    }
    c.never_twice(DB)
}

fn moved(c: &Cluster) -> Result<()> {
    stack(c)?;
    let now = c.overview()?;
    let home = now.places(DB).first().copied().context("it runs nowhere")?.to_owned();
    let beside = now.places(BOUND).first().copied().unwrap_or_default().to_owned();
    let target = ["n1", "n2", "n3"].into_iter().find(|name| *name != home && *name != beside);
    let target = target.context("no third node")?;
    let then = Moment::now();
    c.ok(1, &format!("convoke move {DB} {target}"))?;
    all_run(c)?;
    ensure!(c.overview()?.runs_on(DB, target), "it was not moved to {target}");
    for unit in [APP, BOUND, PART] {
        stops_before(c, unit, DB, then)?;
        starts_after(c, unit, DB, then)?;
    }
    undisturbed(c, WEB, then)?;
    c.never_twice(DB)
}

fn crash(c: &Cluster) -> Result<()> {
    stack(c)?;
    let home = c.number(c.overview()?.places(DB).first().copied().unwrap_or_default());
    let then = Moment::now();
    c.ok(home, &format!("systemctl kill --kill-who=main --signal=KILL {DB}"))?;
    c.next_life(BOUND, then, LATE)?;
    all_run(c)?;
    // It ended after the database: nobody could know before. And it was started after the database's new life began.
    starts_after(c, BOUND, DB, then)?;
    for unit in [APP, PART, WEB] {
        undisturbed(c, unit, then)?;
    }
    c.ok(1, &format!("convoke reset-failed {DB}"))?;
    c.never_twice(BOUND)?;
    c.never_twice(DB)
}

/// A copy that waits for its `RestartSec=` keeps its permit, and is not there for what starts meanwhile.
fn restarted(c: &Cluster) -> Result<()> {
    let unit = |name: &str| UnitFile::new(name).key("Replicas=1");
    let needs = |name: &str| unit(name).key(&format!("Requires={AGAIN}")).key(&format!("After={AGAIN}"));
    c.install(&unit(AGAIN).service("Restart=always").service("RestartSec=6"))?;
    c.install(&needs(OLD))?;
    c.install(&needs(NEW))?;
    c.ok(1, &format!("convoke start {AGAIN} {OLD}"))?;
    let home = c.number(c.overview()?.places(AGAIN).first().copied().unwrap_or_default());
    let (index, then) = (c.overview()?.index, Moment::now());
    c.ok(home, &format!("systemctl kill --kill-who=main --signal=KILL {AGAIN}"))?;
    c.until("it is said to be restarted", LATE, |now| now.state_of(AGAIN) == "restarting")?;
    let why = c.why(AGAIN)?.reasons;
    ensure!(why.iter().any(|it| it.fact.contains(&format!("not up on n{home}"))), "{why:?}");
    c.ok(1, &format!("convoke start --no-wait {NEW}"))?;
    let waits = c.why(NEW)?.reasons;
    ensure!(waits.iter().any(|it| it.fact.contains("restarts at this moment")), "{waits:?}");
    c.until("both run", LATE, |now| now.places(NEW).len() == 1 && now.places(AGAIN).len() == 1)?;
    starts_after(c, NEW, AGAIN, then)?;
    undisturbed(c, OLD, then)?;
    let kept = c.events_after(index)?;
    ensure!(kept.iter().all(|it| it.unit.as_deref() != Some(AGAIN)), "it got another permit: {kept:#?}");
    // By another of its names, on the node that has that.
    c.ok(2, "ln -s /etc/systemd/system/witness@.service /etc/systemd/system/other@.service")?;
    c.ok(2, "systemctl daemon-reload && convoke stop other@new")?;
    c.ok(2, "rm /etc/systemd/system/other@.service && systemctl daemon-reload")?;
    ensure!(c.overview()?.state_of(NEW) == "stopped", "{NEW} runs on");
    c.ok(1, &format!("convoke stop {OLD} {AGAIN}")).map(drop)
}

fn loss(c: &Cluster) -> Result<()> {
    stack(c)?;
    let home = c.number(c.overview()?.places(DB).first().copied().unwrap_or_default());
    let index = c.overview()?.index;
    c.bmc_faults(home, &[Fault::FailOff, Fault::FailStatus])?;
    let then = Moment::now();
    c.node(home).power_off()?;
    c.until_event(index, "fence-failed", LATE)?;
    let now = c.until("what is bound to it has ended", LATE, |now| now.places(BOUND).is_empty())?;
    ensure!(now.fences.len() == 1, "the fence is not open any more: {:?}", now.fences);
    ensure!(now.state_of(DB) == "unknown", "the database is {}", now.state_of(DB));
    c.stays_silent(DB, Duration::from_secs(1))?;
    c.stays_silent(BOUND, Duration::from_secs(1))?;
    c.bmc_faults(home, &[])?;
    c.next_life(BOUND, then, LATE)?;
    starts_after(c, BOUND, DB, then)?;
    let events = c.events_after(index)?;
    let first = |kind: &str, unit: Option<&str>| {
        events.iter().find(|e| e.kind == kind && e.unit.as_deref() == unit).map(|e| e.index)
    };
    let proven = first("fence-proven", None).context("no fence was proven")?;
    let granted = first("unit-granted", Some(DB)).context("the database was not granted")?;
    ensure!(proven < granted, "the database was granted at {granted}, before the proof at {proven}");
    c.never_twice(BOUND)?;
    c.never_twice(DB)
}

fn pair(c: &Cluster) -> Result<()> {
    let unit = |name: &str| UnitFile::new(name).key("Replicas=1").service("ExecStop=/bin/sleep 0.7");
    c.install(&unit(DAY))?;
    // Named on one side, meant for both.
    c.install(&unit(NIGHT).key(&format!("Conflicts={DAY}")))
}

/// It takes longer to stop than the unit itself ever would.
fn dependent(c: &Cluster) -> Result<()> {
    c.install(&UnitFile::new(UNDER).key("Replicas=1").service("TimeoutStopSec=1"))?;
    c.run_unit(UNDER, 1)?;
    let above = format!(
        "[Unit]\nRequires={UNDER}\nAfter={UNDER}\n[Service]\nExecStart=/bin/sleep infinity\n\
         ExecStop=/bin/sh -c 'sleep 8; touch /run/above.done'\n"
    );
    c.node(1).write("/etc/systemd/system/above.service", above)?;
    c.ok(1, "systemctl daemon-reload && systemctl start above.service")?;
    c.ok(1, &format!("convoke move --timeout 30s {UNDER} n2"))?;
    ensure!(c.run(1, "test -e /run/above.done")?.ok(), "what depends on it was cut off");
    let result = c.ok(1, &format!("systemctl show --property=Result --value {UNDER}"))?;
    ensure!(result.trim() == "success", "it was killed in the midst of that: {result}");
    c.ok(2, &format!("convoke stop {UNDER}"))?;
    c.never_twice(UNDER)
}

fn conflict(c: &Cluster) -> Result<()> {
    pair(c)?;
    c.run_unit(DAY, 1)?;
    for (one, other) in [(NIGHT, DAY), (DAY, NIGHT)] {
        let then = Moment::now();
        c.ok(1, &format!("convoke start {one}"))?;
        let ended = alive(c, other, then)?.iter().map(|run| run.to_ns).max();
        let begun = born(c, one, then)?.iter().map(|run| run.from_ns).min();
        ensure!(ended < begun, "{one} began at {begun:?}, {other} ended at {ended:?}");
        let now = c.overview()?;
        ensure!(now.state_of(other) == "stopped", "{other} is {}", now.state_of(other));
        let by = now.unit(other).and_then(|unit| unit.goal_by.clone()).unwrap_or_default();
        ensure!(by.contains(one), "{other} does not say what stopped it, but `{by}`");
    }
    // By hand on the other one's node: `systemctl start` comes back when it runs, and not with a refusal before.
    let home = c.number(c.overview()?.places(DAY).first().copied().unwrap_or_default());
    c.ok(home, &format!("systemctl start {NIGHT}"))?;
    ensure!(c.node(home).show(NIGHT, "ActiveState")? == "active", "it came back before {NIGHT} runs");
    c.until("the other one is stopped", LATE, |now| {
        now.state_of(DAY) == "stopped" && now.runs_on(NIGHT, &c.node(home).name())
    })?;
    c.ok(1, &format!("convoke stop {NIGHT}"))?;
    never_together(c, DAY, NIGHT)
}

fn lost_opponent(c: &Cluster) -> Result<()> {
    pair(c)?;
    let victim = c.follower(&[])?;
    c.run_unit(DAY, victim)?;
    let asked = c.follower(&[victim])?;
    let index = c.overview()?.index;
    c.bmc_faults(victim, &[Fault::FailOff, Fault::FailStatus])?;
    let then = Moment::now();
    c.node(victim).power_off()?;
    c.ok(asked, &format!("convoke start --no-wait {NIGHT}"))?;
    c.until_event(index, "fence-failed", LATE)?;
    let why = c.why(NIGHT)?;
    let named = |r: &scenarios::WhyReason| r.fact.contains("conflicts") && r.fact.contains(DAY);
    ensure!(why.reasons.iter().any(named), "`why` does not name the other one: {:#?}", why.reasons);
    ensure!(lives(c, NIGHT, then)?.is_empty(), "it runs beside what may run on the lost node");
    c.bmc_faults(victim, &[])?;
    c.next_life(NIGHT, then, LATE)?;
    let events = c.events_after(index)?;
    let proven = events.iter().find(|e| e.kind == "fence-proven").context("no fence was proven")?.index;
    let granted = events.iter().find(|e| e.kind == "unit-granted" && e.unit.as_deref() == Some(NIGHT));
    ensure!(granted.is_some_and(|e| e.index > proven), "granted before the proof: {events:#?}");
    c.ok(asked, &format!("convoke stop {NIGHT}"))?;
    never_together(c, DAY, NIGHT)
}

fn blackout(c: &Cluster) -> Result<()> {
    stack(c)?;
    let then = Moment::now();
    c.lab.power_off_all()?;
    c.lab.boot_all()?;
    all_run(c)?;
    starts_after(c, APP, DB, then)?;
    starts_after(c, WEB, APP, then)?;
    starts_after(c, BOUND, DB, then)?;
    starts_after(c, PART, DB, then)?;
    c.never_twice(DB)?;
    c.never_twice(BOUND)
}
