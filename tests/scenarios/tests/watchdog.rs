//! `Fencing=watchdog` on nodes that nothing else can fence: whatever becomes of the daemon, the node is reset in time, and
//! the unit starts elsewhere after that and not before.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Suite;
use scenarios::{Cluster, Moment, Plan, UnitFile, run, say, unwrapped};

const UNIT: &str = "witness@watched.service";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;
/// What the nodes' settings ask for.
const TIMEOUT: Duration = Duration::from_secs(3);
/// 92 % of `detect`, which is 2 s.
const LEASE: Duration = Duration::from_millis(1840);
/// `TimeoutStopSec=200ms`, once for each of three ways in which systemd ends it, and a second.
const BUDGET: Duration = Duration::from_millis(1600);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(2);

#[test]
fn a_node_is_reset_by_its_own_watchdog() -> Result<()> {
    let mut plan = Plan::of(3, Suite::Bookworm);
    (plan.fencing, plan.watchdog) = (false, true);
    run("watchdog", plan, |scenario| {
        scenario.part("it is armed before the unit starts, and status says so", armed);
        scenario.part("restarts and crashes of the daemon reset nobody", restarted);
        scenario.part("a daemon that is killed and stays dead", killed);
        scenario.part("a daemon that is stopped where it stands", stopped);
        scenario.part("a node that is frozen", frozen);
        scenario.part("a node without power, which nothing resets", without_power);
        scenario.part("a node that boots again before its watchdog's time is over", back_meanwhile);
        scenario.part("a node that is cut off stops the unit, and is not reset", cut);
        scenario.part("systemctl stop convoked disarms it", ended);
    })
}

/// The unit runs on the answer, a node that does not lead.
fn running(c: &Cluster) -> Result<usize> {
    // `convoke init` and `join` have written their addresses there.
    let table = format!("\\n[watchdog]\\ntimeout = \"{}s\"\\n", TIMEOUT.as_secs());
    c.everywhere(&format!(
        "grep -q watchdog /etc/convoke/convoke.toml || \
         {{ printf '{table}' >>/etc/convoke/convoke.toml && systemctl restart convoked; }}"
    ))?;
    c.until("everybody is online", LATE, |now| now.nodes.iter().all(|n| n.state == "online"))?;
    c.install(
        &UnitFile::new(UNIT)
            .key("Replicas=1")
            .key("Fencing=watchdog")
            .key("OnQuorumLoss=stop")
            .service("TimeoutStopSec=200ms"),
    )?;
    let home = c.follower(&[])?;
    c.run_unit(UNIT, home)?;
    Ok(home)
}

/// When the watchdog of a node reset it, if that was after `then`.
fn fired(c: &Cluster, i: usize, then: Moment) -> Option<Moment> {
    let events = c.lab.watchdog_events(i).into_iter();
    events.filter(|event| event.what == "fired").map(|event| Moment(event.at_ns)).find(|at| *at > then)
}

fn boots(c: &Cluster) -> Vec<usize> {
    c.nodes().iter().map(|node| node.boots().len()).collect()
}

fn armed(c: &Cluster) -> Result<()> {
    let home = running(c)?;
    let name = c.node(home).name();
    let opened = c.lab.watchdog_events(home).into_iter().find(|event| event.what == "opened");
    let opened = Moment(opened.context("the device was not opened")?.at_ns);
    let begun = c.beat(UNIT).context("it does not run")?.since;
    ensure!(opened < begun, "it was armed after the unit had started");
    let text = unwrapped(&c.ok(c.anybody()?, &format!("convoke status {name}"))?);
    ensure!(text.contains("/dev/watchdog, fed by convoked, resets it 3 s after the last feed"), "{text}");
    let events = c.events()?;
    let of = |kind: &str| events.iter().filter(|e| e.kind == kind).map(|e| e.index).collect::<Vec<_>>();
    let (armed, granted) = (of("watchdog-armed"), of("unit-granted"));
    ensure!(armed.len() == 3, "{} nodes have armed theirs", armed.len());
    let its = events.iter().find(|e| e.kind == "watchdog-armed" && e.node.as_deref() == Some(name.as_str()));
    let its = its.context("its node has not armed its own")?.index;
    ensure!(
        granted.last().is_some_and(|granted| its < *granted),
        "it was granted before its node had armed its own"
    );
    c.never_twice(UNIT)
}

fn restarted(c: &Cluster) -> Result<()> {
    let home = running(c)?;
    let (before, unit) = (boots(c), c.process(home, UNIT)?);
    for _ in 0..2 {
        c.ok(home, "systemctl restart convoked")?;
        renewed(c, home)?;
    }
    for i in 1..=3 {
        c.kill_daemon(i)?;
        c.until("everybody is online", LATE, |now| now.nodes.iter().all(|n| n.state == "online"))?;
        // Whoever was killed may count as online still, and home may have lost its leader.
        renewed(c, i)?;
        renewed(c, home)?;
    }
    // Longer than any device that was not taken over would have waited.
    c.always("nobody is reset", TIMEOUT + S(1), || Ok(boots(c) == before))?;
    c.still_runs(&unit)?;
    c.never_twice(UNIT)
}

/// Waits until the cluster renews a node's lease: what is done next begins with a whole one.
fn renewed(c: &Cluster, i: usize) -> Result<()> {
    let ends = || -> Result<u64> {
        c.ok(i, "sed -n 's/^ends_ms = //p' /run/convoke/lease")?.trim().parse().context("no lease")
    };
    let before = ends()?;
    c.wait_for(&format!("the lease of n{i} is renewed"), LATE, || Ok((ends()? > before).then_some(())))
}

/// From `then` on nobody feeds the watchdog of `home`: it resets the node, and the unit starts elsewhere when others may take
/// that for certain. `convoked` does not come back with the node, so that nothing but time can say so.
fn reset_and_replaced(c: &Cluster, home: usize, then: Moment) -> Result<()> {
    let begun = replaced(c, home, then)?;
    let down = fired(c, home, then).context("its watchdog has not reset it")?;
    let down_after = down.since(then);
    say(&format!("    its node was reset after {down_after:.2?}"));
    ensure!(begun > down, "it started before its node was down");
    ensure!(down_after <= TIMEOUT + SLACK, "the reset came late: {down_after:?}");
    c.node(home).wait_running(LATE)?;
    c.ok(home, "systemctl enable --now convoked").map(drop)
}

/// Nothing but time says that the lost node is down: the unit starts elsewhere when that is over, and the answer is when it did.
fn replaced(c: &Cluster, home: usize, then: Moment) -> Result<Moment> {
    let beat = c.next_life(UNIT, then, LATE)?;
    let after = beat.since.since(then);
    say(&format!("    it ran on {} after {after:.2?}", beat.node));
    ensure!(beat.node != c.node(home).name(), "it runs on the lost node");
    let wait = LEASE + (BUDGET + TIMEOUT * 2) * 101 / 100 + S(2);
    ensure!(after + MS(500) >= wait, "too early: {after:?}, and not after {wait:?}");
    ensure!(after <= wait + SLACK, "too late: {after:?}, and not after {wait:?}");
    c.never_twice(UNIT)?;
    Ok(beat.since)
}

/// It runs where `convoked` does not come back after a boot.
fn without_return(c: &Cluster) -> Result<usize> {
    let home = running(c)?;
    c.ok(home, "systemctl disable convoked")?;
    Ok(home)
}

fn killed(c: &Cluster) -> Result<()> {
    let home = without_return(c)?;
    c.ok(
        home,
        "mkdir -p /run/systemd/system/convoked.service.d && \
         printf '[Service]\\nRestart=no\\n' >/run/systemd/system/convoked.service.d/dead.conf && \
         systemctl daemon-reload",
    )?;
    c.mute(home);
    let then = Moment::now();
    c.kill_daemon(home)?;
    reset_and_replaced(c, home, then)
}

fn stopped(c: &Cluster) -> Result<()> {
    let home = without_return(c)?;
    c.mute(home);
    let then = Moment::now();
    c.ok(home, "systemctl kill --kill-who=main --signal=STOP convoked.service")?;
    reset_and_replaced(c, home, then)
}

fn frozen(c: &Cluster) -> Result<()> {
    let home = without_return(c)?;
    let then = Moment::now();
    c.freeze(home)?;
    reset_and_replaced(c, home, then)
}

/// The device dies with its machine. The others cannot know that, and wait as for any other loss.
fn without_power(c: &Cluster) -> Result<()> {
    let home = without_return(c)?;
    let then = Moment::now();
    c.node(home).power_off()?;
    replaced(c, home, then)?;
    ensure!(fired(c, home, then).is_none(), "the watchdog of a node without power has reset it");
    c.node(home).boot()?;
    c.ok(home, "systemctl enable --now convoked")?;
    told(c, home)
}

/// That it booted is evidence, and comes sooner than time. What the life before had armed resets nobody.
fn back_meanwhile(c: &Cluster) -> Result<()> {
    let home = running(c)?;
    let name = c.node(home).name();
    let index = c.overview()?.index;
    let then = Moment::now();
    c.node(home).power_off()?;
    c.until(&format!("{name} is lost"), LATE, |now| now.node(&name).is_some_and(|n| n.state == "lost"))?;
    c.node(home).boot()?;
    let before = boots(c);
    let beat = c.next_life(UNIT, then, LATE)?;
    say(&format!("    it ran on {} after {:.2?}", beat.node, beat.since.since(then)));
    let events = c.events_after(index)?;
    let at = |kind: &str| events.iter().find(|event| event.kind == kind).map(|event| event.index);
    let booted = at("node-booted").context("its next life was not heard")?;
    ensure!(at("unit-granted") > Some(booted), "it was granted before {name} was heard: {events:#?}");
    told(c, home)?;
    c.always("nobody is reset", TIMEOUT + S(1), || Ok(boots(c) == before))?;
    ensure!(fired(c, home, then).is_none(), "a watchdog outlived the life that had armed it");
    c.never_twice(UNIT)
}

/// Its next life knows that nobody had proven it off, and its journal says so.
fn told(c: &Cluster, home: usize) -> Result<()> {
    let end = c.back(home, LATE)?;
    ensure!(end.how == "rebooted", "{end:?}");
    c.wait_for("its journal tells it", S(10), || {
        let journal = c.ok(home, "journalctl -b -u convoked -o cat")?;
        Ok(journal.contains("before this boot this machine had gone down by itself").then_some(()))
    })
}

/// The daemon lives, and does what the terms say: with the unit stopped nothing rests on the watchdog, and it is fed on.
fn cut(c: &Cluster) -> Result<()> {
    let home = running(c)?;
    let before = boots(c);
    let then = Moment::now();
    c.cut(home)?;
    let beat = c.next_life(UNIT, then, LATE)?;
    let after = beat.since.since(then);
    let gap = c.gap_after(UNIT, then)?;
    say(&format!(
        "    the node that was cut off had stopped it after {:.2?}, it ran on {} after {after:.2?}",
        Moment(gap.from_ns).since(then),
        beat.node
    ));
    ensure!(Moment(gap.from_ns).since(then) <= LEASE + BUDGET + SLACK, "it was stopped late");
    ensure!(boots(c) == before, "the node was reset");
    c.heal(home)?;
    let name = c.node(home).name();
    c.until("it is back", LATE, |now| now.online(&name))?;
    c.never_twice(UNIT)
}

fn ended(c: &Cluster) -> Result<()> {
    let home = running(c)?;
    let before = boots(c);
    let then = Moment::now();
    c.mute(home);
    c.ok(home, "systemctl stop convoked")?;
    let took = then.elapsed();
    let last = c.lab.watchdog_events(home).pop().context("nothing happened to the watchdog")?;
    ensure!(last.what == "disarmed" && last.at_ns > then.0, "it was not disarmed: {last:?}");
    let beat = c.next_life(UNIT, then, LATE)?;
    say(&format!(
        "    `systemctl stop convoked` took {took:.2?}, and it ran on {} after {:.2?}",
        beat.node,
        beat.since.since(then)
    ));
    c.always("nobody is reset", TIMEOUT + S(1), || Ok(boots(c) == before))?;
    c.never_twice(UNIT)
}
