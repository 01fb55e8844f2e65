//! What `OnStopFailure=`, `OnQuorumLoss=` and `Fencing=lease` promise, on real nodes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Fault;
use scenarios::{Cluster, Moment, Plan, UnitFile, run, say, unwrapped};

const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;
/// 92 % of `detect`, which is 2 s.
const LEASE: Duration = Duration::from_millis(1840);
/// What a busy machine may add to the end of a lease.
const SLACK: Duration = Duration::from_secs(1);

#[test]
fn a_unit_is_treated_as_its_terms_say() -> Result<()> {
    run("terms", Plan::three(), |scenario| {
        scenario.part("OnStopFailure=block leaves a unit that does not stop, and says so", stop_blocks);
        scenario
            .part("OnStopFailure=fence takes the node down before the unit starts elsewhere", stop_fences);
        scenario
            .part("a unit that does not stop at the end of the lease takes its node down", lease_end_stuck);
        scenario.part("OnQuorumLoss=reboot", reboots);
        scenario.part("OnQuorumLoss=freeze: frozen, and thawed where the permit holds", freezes);
        scenario.part("OnQuorumLoss=freeze: what was stopped meanwhile stops", stopped_frozen);
        scenario.part("OnQuorumLoss=freeze: what lost its permit is killed while frozen", killed_frozen);
        scenario.part("OnQuorumLoss=freeze: what was replaced meanwhile never goes on", replaced_frozen);
        scenario.part("OnQuorumLoss=continue", continues);
        scenario
            .part("Fencing=lease: a node without power is replaced after lease and stop budget", lease_power);
        scenario.part("Fencing=lease: a node that is cut off stops slowly, and in time", lease_cut);
    })
}

/// Where stops of [`stubborn`] units look.
const HANGING: &str = "/run/hang";

/// A witness whose stop looks into the hanging file system.
fn stubborn(name: &str, key: &str) -> UnitFile {
    UnitFile::new(name)
        .key("Replicas=1")
        .key(key)
        .service("TimeoutStopSec=1")
        .service(&format!("ExecStop=-/usr/bin/stat {HANGING}/x"))
}

fn stop_blocks(c: &Cluster) -> Result<()> {
    let unit = "witness@blocks.service";
    c.install(&stubborn(unit, "OnStopFailure=block"))?;
    let (home, to) = (c.follower(&[])?, c.leader()?);
    let name = c.node(home).name();
    c.run_unit(unit, home)?;
    c.hang(home, HANGING)?;
    let index = c.overview()?.index;
    let boot = c.node(home).boot_id()?;
    c.run(to, &format!("convoke move --no-wait {unit} {}", c.node(to).name()))?;
    c.until_event(index, "unit-stop-stuck", LATE)?;
    let now = c.until("an alarm says so", S(5), |now| now.alarms_with(&[unit, &name]))?;
    let alarm = now.alarms.iter().find(|a| a.text.contains(unit)).context("no alarm")?;
    ensure!(alarm.severity == "alert" && alarm.remedy.contains(&name), "{alarm:?}");
    let why = unwrapped(&c.run(to, &format!("convoke why {unit}"))?.stdout);
    for word in ["its stop on", "hangs", &format!("the end of what is left on {name}")] {
        ensure!(why.contains(word), "`why` does not say `{word}`: {why}");
    }
    // Longer than the patience of OnStopFailure=fence.
    c.always("it stays put", S(12), || {
        let now = c.overview()?;
        let copies = now.unit(unit).map(|u| u.copies.clone()).unwrap_or_default();
        Ok(now.online(&name) && matches!(&copies[..], [one] if one.node == name && one.state == "stopping"))
    })?;
    ensure!(c.node(home).boot_id()? == boot && c.power_commands(home).is_empty(), "{name} was taken down");
    let then = Moment::now();
    c.unhang(home, HANGING)?;
    let beat = c.next_life(unit, then, S(10))?;
    ensure!(beat.node == c.node(to).name(), "it runs on {}", beat.node);
    c.until("the alarm is gone", S(5), |now| !now.alarms_with(&[unit, &name]))?;
    c.ok(to, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

fn stop_fences(c: &Cluster) -> Result<()> {
    let unit = "witness@fences.service";
    c.install(&stubborn(unit, "OnStopFailure=fence"))?;
    let (home, to) = (c.follower(&[])?, c.leader()?);
    c.run_unit(unit, home)?;
    c.hang(home, HANGING)?;
    let boots = c.node(home).boots().len();
    let then = Moment::now();
    c.mute(home);
    c.run(to, &format!("convoke move --no-wait {unit} {}", c.node(to).name()))?;
    let beat = c.next_life(unit, then, LATE)?;
    let down = c.node(home).boots().get(boots).copied();
    let switched =
        c.lab.power_events().into_iter().find(|e| e.node == c.node(home).name() && e.at_ns > then.0);
    let down = down.or(switched.map(|e| e.at_ns)).context("the node was not taken down")?;
    say(&format!(
        "    its node went down after {:.1?}, it ran on {} after {:.1?}",
        Moment(down).since(then),
        beat.node,
        beat.since.since(then)
    ));
    ensure!(beat.since.0 > down, "it started before its old node was down");
    let log = c.wait_for("the node is back", LATE, || c.node(home).journal("").map(Some))?;
    ensure!(log.contains("OnStopFailure=fence"), "the journal does not say why it was rebooted");
    c.ok(to, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

/// Nobody else can help: the switch of the node does not work.
fn cut_without_switch(c: &Cluster, home: usize) -> Result<Moment> {
    c.bmc_faults(home, &[Fault::FailOff])?;
    let then = Moment::now();
    c.cut(home)?;
    Ok(then)
}

fn lease_end_stuck(c: &Cluster) -> Result<()> {
    let unit = "witness@late.service";
    c.install(&stubborn(unit, "OnStopFailure=block"))?;
    let home = c.follower(&[])?;
    c.run_unit(unit, home)?;
    c.hang(home, HANGING)?;
    let boots = c.node(home).boots().len();
    let then = cut_without_switch(c, home)?;
    c.node(home).wait_boots(boots + 1, LATE)?;
    let down = Moment(c.node(home).boots()[boots]).since(then);
    say(&format!("    its node took itself down after {down:.1?}"));
    // The stop budget is four times TimeoutStopSec= at the most.
    ensure!(down < LEASE + S(4) + SLACK * 2, "too late: {down:?}");
    c.stays_silent(unit, S(1))?;
    let then = Moment::now();
    c.heal(home)?;
    let beat = c.next_life(unit, then, LATE)?;
    say(&format!(
        "    it ran on {} {:.1?} after its node was heard again",
        beat.node,
        beat.since.since(then)
    ));
    c.ok(c.anybody()?, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

fn reboots(c: &Cluster) -> Result<()> {
    let unit = "witness@reboots.service";
    c.install(&UnitFile::new(unit).key("Replicas=1").key("OnQuorumLoss=reboot"))?;
    let home = c.follower(&[])?;
    c.run_unit(unit, home)?;
    let boots = c.node(home).boots().len();
    let then = cut_without_switch(c, home)?;
    c.node(home).wait_boots(boots + 1, LATE)?;
    let down = Moment(c.node(home).boots()[boots]).since(then);
    say(&format!("    its node rebooted after {down:.1?}"));
    ensure!(down < LEASE + SLACK, "too late: {down:?}");
    let last = c.beat(unit).context("it never ran")?;
    ensure!(last.at.since(then) < LEASE + SLACK, "it ran on for {:?}", last.at.since(then));
    // Nobody has proven anything yet.
    c.stays_silent(unit, S(3))?;
    let then = Moment::now();
    c.heal(home)?;
    c.next_life(unit, then, LATE)?;
    c.ok(c.anybody()?, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

/// A unit that freezes, its node cut off, and frozen: (node, its last beat).
fn frozen(c: &Cluster, unit: &str) -> Result<(usize, Moment)> {
    c.install(&UnitFile::new(unit).key("Replicas=1").key("OnQuorumLoss=freeze"))?;
    let home = c.follower(&[])?;
    c.run_unit(unit, home)?;
    let then = cut_without_switch(c, home)?;
    is_frozen(c, unit, home)?;
    let last = c.beat(unit).context("it never ran")?.at;
    ensure!(last.since(then) < LEASE + SLACK, "it ran on for {:?}", last.since(then));
    ensure!(!c.run(home, &format!("test -e /run/convoke/permits/{unit}"))?.ok(), "its permit file is there");
    c.stays_silent(unit, S(3))?;
    Ok((home, last))
}

fn freezes(c: &Cluster) -> Result<()> {
    let unit = "witness@freezes.service";
    let (home, last) = frozen(c, unit)?;
    let pid = c.process(home, unit)?;
    let then = Moment::now();
    c.heal(home)?;
    let beat = c.wait_for("it goes on", LATE, || Ok(c.beat(unit).filter(|b| b.at > then)))?;
    ensure!(beat.since < last, "it was started anew on {}", beat.node);
    say(&format!("    it went on {:.1?} after the cable was back", beat.at.since(then)));
    c.still_runs(&pid)?;
    let name = c.node(home).name();
    c.until("it is active again", LATE, |now| now.runs_on(unit, &name))?;
    c.ok(c.anybody()?, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

/// The permit of a replica without fencing ends with the loss of its node: the frozen copy is killed as it is (F26).
fn killed_frozen(c: &Cluster) -> Result<()> {
    let unit = "witness@replica.service";
    c.install(&UnitFile::new(unit).key("Replicas=3").key("Fencing=none").key("OnQuorumLoss=freeze"))?;
    c.ok(c.anybody()?, &format!("convoke start {unit}"))?;
    c.until("all replicas run", LATE, |now| now.places(unit).len() == 3)?;
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    let old = c.process(home, unit)?;
    let then = cut_without_switch(c, home)?;
    is_frozen(c, unit, home)?;
    std::thread::sleep(S(2));
    c.heal(home)?;
    c.until("it runs there again", LATE, |now| now.online(&name) && now.places(unit).len() == 3)?;
    let new = c.process(home, unit)?;
    ensure!(new.invocation != old.invocation, "a copy whose permit had ended goes on");
    let lives = c.timeline(unit)?;
    let old = lives.runs.iter().find(|r| r.node == name && r.from_ns < then.0).context("it never ran")?;
    ensure!(
        Moment(old.to_ns).since(then) < LEASE + SLACK,
        "it went on for {:?}",
        Moment(old.to_ns).since(then)
    );
    c.ok(c.anybody()?, &format!("convoke stop {unit}")).map(drop)
}

fn is_frozen(c: &Cluster, unit: &str, home: usize) -> Result<()> {
    c.wait_for("it is frozen", LATE, || {
        Ok((c.node(home).show(unit, "FreezerState")? == "frozen").then_some(()))
    })
}

/// The permit still holds, so it may end in order: it is thawed for its own stop, and does not come back.
fn stopped_frozen(c: &Cluster) -> Result<()> {
    let unit = "witness@freezes.service";
    let (home, _) = frozen(c, unit)?;
    c.run(c.anybody()?, &format!("convoke stop --no-wait {unit}"))?;
    let then = Moment::now();
    c.heal(home)?;
    c.until("it is stopped", LATE, |now| now.unit(unit).is_some_and(|u| u.state == "stopped"))?;
    let last = c.beat(unit).context("it never ran")?.at;
    ensure!(last.since(then) < S(2), "it went on for {:?}", last.since(then));
    c.stays_silent(unit, S(2))?;
    c.never_twice(unit)
}

fn replaced_frozen(c: &Cluster) -> Result<()> {
    let unit = "witness@freezes.service";
    let (home, last) = frozen(c, unit)?;
    let name = c.node(home).name();
    let boots = c.node(home).boots().len();
    // The operator is wrong: it lives.
    let then = Moment::now();
    c.ok(c.anybody()?, &format!("convoke fence confirm --yes-i-have-verified-it-is-off {name}"))?;
    let beat = c.next_life(unit, then, LATE)?;
    ensure!(beat.node != name, "it runs on {name}");
    c.heal(home)?;
    c.node(home).wait_boots(boots + 1, LATE)?;
    let lives = c.timeline(unit)?;
    let after = lives.runs.iter().any(|r| r.node == name && r.from_ns < last.0 && r.to_ns > last.0);
    ensure!(!after, "the replaced copy went on");
    c.ok(c.anybody()?, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

fn continues(c: &Cluster) -> Result<()> {
    let unit = "witness@continues.service";
    c.install(&UnitFile::new(unit).key("Replicas=1").key("OnQuorumLoss=continue"))?;
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    c.run_unit(unit, home)?;
    let pid = c.process(home, unit)?;
    cut_without_switch(c, home)?;
    c.until(&format!("{name} is lost"), LATE, |now| now.node(&name).is_some_and(|n| n.state == "lost"))?;
    c.always("it goes on", S(6), || Ok(c.beat(unit).is_some_and(|b| b.at.elapsed() < S(1))))?;
    // systemd still restarts it there: the permit's file stays.
    ensure!(c.run(home, &format!("test -e /run/convoke/permits/{unit}"))?.ok(), "its permit file is gone");
    c.heal(home)?;
    c.until("it is active where it was", LATE, |now| now.online(&name) && now.runs_on(unit, &name))?;
    c.still_runs(&pid)?;
    c.ok(c.anybody()?, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

/// Two seconds of stop budget: `TimeoutStopSec=` counts once for each way in which systemd ends it.
fn leased(c: &Cluster) -> Result<(usize, &'static str)> {
    let unit = "witness@leased.service";
    c.install(
        &UnitFile::new(unit)
            .key("Replicas=1")
            .key("Fencing=lease")
            .key("OnQuorumLoss=stop")
            .service("TimeoutStopSec=2")
            .service("ExecStop=/bin/sleep 1"),
    )?;
    let home = c.follower(&[])?;
    c.run_unit(unit, home)?;
    Ok((home, unit))
}

/// Not before lease, stop budget and margin have passed, and soon after.
fn replaced_in_time(c: &Cluster, unit: &str, home: usize, then: Moment) -> Result<()> {
    let beat = c.next_life(unit, then, LATE)?;
    ensure!(beat.node != c.node(home).name(), "it runs on the lost node");
    let after = beat.since.since(then);
    say(&format!("    it ran on {} after {after:.2?}", beat.node));
    let budget = S(2);
    ensure!(after > LEASE - Duration::from_millis(400) + budget + S(1), "too early: {after:?}");
    ensure!(after < LEASE + budget * 4 + S(1) + SLACK * 2, "too late: {after:?}");
    c.ok(c.anybody()?, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

fn lease_power(c: &Cluster) -> Result<()> {
    let (home, unit) = leased(c)?;
    c.bmc_faults(home, &[Fault::FailOff])?;
    let then = Moment::now();
    c.node(home).power_off()?;
    replaced_in_time(c, unit, home, then)
}

fn lease_cut(c: &Cluster) -> Result<()> {
    let (home, unit) = leased(c)?;
    let then = cut_without_switch(c, home)?;
    replaced_in_time(c, unit, home, then)?;
    let gap = c.gap_after(unit, then)?;
    say(&format!(
        "    the node that was cut off had stopped it after {:.2?}",
        Moment(gap.from_ns).since(then)
    ));
    Ok(())
}
