//! A unit that moves, dies, or loses its node runs again soon, elsewhere, and never twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use scenarios::{Cluster, Gauge, Moment, Plan, UnitFile, run, say};

const UNIT: &str = "witness.service";
const MS: fn(u64) -> Duration = Duration::from_millis;
/// After this nobody would say "soon" of anything here.
const LATE: Duration = Duration::from_secs(40);
/// How soon a silent node is called lost, by default.
const DETECT: Duration = Duration::from_secs(2);

#[test]
fn a_unit_runs_again_soon_and_never_twice() -> Result<()> {
    run("failover", Plan::three(), |scenario| {
        scenario.part("twenty planned moves leave short gaps", planned_moves);
        scenario.part("a killed process without Restart= runs elsewhere at once", killed_for_good);
        scenario.part("a killed process with Restart= is restarted where it was", killed_and_restarted);
        scenario.part("a unit whose restarts are used up runs elsewhere", restarts_used_up);
        scenario.part("a unit whose health check fails or hangs runs elsewhere", unwell);
        scenario
            .part("a node without power is fenced, then its unit runs elsewhere", |c| power_loss(c, false));
        scenario.part("so it is when the node was the leader", |c| power_loss(c, true));
        scenario.part("a lost node without units is not fenced", idle_loss);
    })
}

fn planned_moves(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    let mut by_hand = Gauge::new("systemctl stop + start by hand", MS(33));
    let mut moves = Gauge::new("planned move", MS(80));
    say("    move   gap ms  (witness)");
    for step in 0..20 {
        let target = c.node(1 + (step + 1) % 3);
        let then = Moment::now();
        c.ok(c.anybody()?, &format!("convoke move {UNIT} {}", target.name()))?;
        let beat = c.next_life(UNIT, then, LATE)?;
        ensure!(beat.node == target.name(), "it went to {} instead of {}", beat.node, target.name());
        let gap = c.gap_after(UNIT, then)?;
        say(&format!(
            "    {step:>2} {}→{}  {:.1}",
            gap.from_node,
            gap.to_node,
            gap.length().as_secs_f64() * 1e3
        ));
        moves.add(gap.length());
    }
    for _ in 0..5 {
        by_hand.add(bare_hand_over(c)?);
    }
    say(&format!("    {}", by_hand.line()));
    moves.judge()?;
    c.never_twice(UNIT)
}

/// What systemd alone takes for the same, on this machine and now: the witness of nobody's cluster.
fn bare_hand_over(c: &Cluster) -> Result<Duration> {
    let plain = "witness@plain.service";
    c.ok(1, &format!("systemctl start {plain}"))?;
    let then = Moment::now();
    c.ok(1, &format!("systemctl stop {plain}"))?;
    c.ok(2, &format!("systemctl start {plain}"))?;
    let gap = c.gap_after(plain, then)?;
    c.ok(2, &format!("systemctl stop {plain}"))?;
    Ok(gap.length())
}

/// When systemd gave up on a unit, by its own clock.
fn gave_up(c: &Cluster, node: usize, unit: &str) -> Result<Moment> {
    let text = c.node(node).show(unit, "InactiveEnterTimestampMonotonic")?;
    Ok(Moment(text.parse::<u64>()? * 1000))
}

fn kill(c: &Cluster, node: usize, unit: &str) -> Result<Moment> {
    let then = Moment::now();
    c.ok(node, &format!("systemctl kill --kill-who=main --signal=KILL {unit}"))?;
    Ok(then)
}

fn killed_for_good(c: &Cluster) -> Result<()> {
    let mut reaction = Gauge::new("process killed, Restart=no, until it runs elsewhere", MS(300));
    for home in [1, 2, 3] {
        c.run_unit(UNIT, home)?;
        let then = kill(c, home, UNIT)?;
        let beat = c.next_life(UNIT, then, LATE)?;
        ensure!(beat.node != c.node(home).name(), "it runs on {} again, where it failed", beat.node);
        let failed = gave_up(c, home, UNIT)?;
        ensure!(failed >= then && failed < beat.since, "systemd gave up at {failed:?}, killed at {then:?}");
        reaction.add(beat.since.since(failed));
        c.ok(c.anybody()?, &format!("convoke reset-failed {UNIT}"))?;
    }
    reaction.judge()?;
    c.never_twice(UNIT)
}

fn killed_and_restarted(c: &Cluster) -> Result<()> {
    let unit = "witness@restarts.service";
    let file = UnitFile::new(unit).service("Restart=on-failure").service("RestartSec=100ms");
    c.install(&file.key("Replicas=1"))?;
    c.run_unit(unit, 2)?;
    let index = c.overview()?.index;
    for _ in 0..3 {
        let then = kill(c, 2, unit)?;
        let beat = c.next_life(unit, then, LATE)?;
        ensure!(beat.node == "n2", "it was moved to {}, though systemd restarts it", beat.node);
    }
    let now = c.until("it is active on n2", LATE, |now| now.runs_on(unit, "n2"))?;
    ensure!(now.unit(unit).is_some_and(|u| u.goal == "started"), "a restart changed the goal");
    let grants = c.events_after(index)?;
    let grants =
        grants.iter().filter(|e| e.unit.as_deref() == Some(unit) && e.kind == "unit-granted").count();
    ensure!(grants == 0, "systemd's own restart was granted {grants} new permits");
    c.never_twice(unit)
}

fn restarts_used_up(c: &Cluster) -> Result<()> {
    let unit = "witness@limited.service";
    let file = UnitFile::new(unit).unit("StartLimitBurst=2").unit("StartLimitIntervalSec=60");
    let file = file.service("Restart=always").service("RestartSec=50ms");
    c.install(&file.key("Replicas=1"))?;
    c.run_unit(unit, 1)?;
    let mut last = Moment::now();
    for round in 0..3 {
        last = kill(c, 1, unit)?;
        let beat = c.next_life(unit, last, LATE)?;
        if beat.node != "n1" {
            ensure!(round > 0, "it left before its restarts were used up");
            break;
        }
    }
    let beat = c.next_life(unit, last, LATE)?;
    ensure!(beat.node != "n1", "it is still on n1 after all of its restarts");
    let failed = gave_up(c, 1, unit)?;
    Gauge::once("Restart= used up, until it runs elsewhere", MS(300), beat.since.since(failed)).judge()?;
    c.never_twice(unit)
}

fn unwell(c: &Cluster) -> Result<()> {
    let (unit, program) = ("witness@checked.service", "/usr/local/bin/checked");
    let script = "#!/bin/sh\\n[ ! -e /run/hangs ] || sleep 30\\nls /run/healthy\\n";
    c.everywhere(&format!("touch /run/healthy; printf '{script}' >{program}; chmod +x {program}"))?;
    let times = ["CheckIntervalSec=200ms", "CheckTimeoutSec=1s"];
    let file = UnitFile::new(unit).key("Replicas=1").key(&format!("CheckExec={program}"));
    c.install(&times.into_iter().fold(file, UnitFile::key))?;
    c.run_unit(unit, 1)?;
    c.always("a well copy stays", Duration::from_secs(2), || Ok(c.overview()?.runs_on(unit, "n1")))?;
    let index = c.overview()?.index;
    let told = |i: usize, what: &str| -> Result<()> {
        let events = c.events_after(index)?;
        let told = |e: &scenarios::Change| e.kind == "unit-check-failed" && e.text.contains(what);
        ensure!(events.iter().any(told), "no event says `{what}`: {events:#?}");
        let journal = c.ok(i, &format!("journalctl -b -u {unit} -o cat"))?;
        ensure!(journal.contains("its health check failed") && journal.contains(what), "{journal}");
        Ok(())
    };

    let then = Moment::now();
    c.ok(1, "rm /run/healthy")?;
    let second = c.next_life(unit, then, LATE)?.node;
    ensure!(second != "n1", "it is still where it is unwell");
    told(1, "cannot access '/run/healthy'")?;

    let (then, second) = (Moment::now(), c.number(&second));
    c.ok(second, "touch /run/hangs")?;
    let third = c.next_life(unit, then, LATE)?.node;
    ensure!(third != "n1" && third != c.node(second).name(), "it went back to {third}, where it failed");
    told(second, "it did not end within 1 s")?;

    // A check that cannot be made says nothing of the unit.
    let third = c.number(&third);
    c.ok(third, &format!("rm {program}"))?;
    c.wait_for("the journal says so", LATE, || {
        let journal = c.ok(third, &format!("journalctl -b -u {unit} -o cat"))?;
        ensure!(journal.contains("its health is not checked"), "{journal}");
        Ok(Some(()))
    })?;
    c.always("it runs on", Duration::from_secs(2), || {
        Ok(c.overview()?.runs_on(unit, &c.node(third).name()))
    })?;
    c.everywhere("rm -f /run/hangs")?;
    c.ok(third, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

fn power_loss(c: &Cluster, of_leader: bool) -> Result<()> {
    let leader = c.leader()?;
    let victim = if of_leader { leader } else { c.follower(&[])? };
    c.run_unit(UNIT, victim)?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.node(victim).power_off()?;
    let beat = c.next_life(UNIT, then, LATE)?;
    let gap = c.gap_after(UNIT, then)?;
    ensure!(gap.to_node != c.node(victim).name(), "it runs on the node without power");
    ensure!(c.power_commands(victim).is_empty() || !c.node(victim).is_on(), "the fence switched it on again");
    let events = c.events_after(index)?;
    let at = |kind: &str| events.iter().find(|e| e.kind == kind).map(|e| e.time_ms);
    let (began, proven) = (at("fence-began"), at("fence-proven"));
    let granted = events.iter().find(|e| e.kind == "unit-granted" && e.unit.as_deref() == Some(UNIT));
    let (Some(began), Some(proven), Some(granted)) = (began, proven, granted) else {
        anyhow::bail!("no fence before the start: {events:#?}");
    };
    ensure!(began <= proven && proven <= granted.time_ms, "the unit was granted before the fence was proven");
    // The very calls again: the node has no power, so the agent takes the same steps.
    let executor = c.node(c.number(&beat.node));
    let again = Moment::now();
    for action in ["off", "status"] {
        c.lab.bmc(victim).agent(&executor, action)?;
    }
    let agent = again.elapsed();
    say(&format!(
        "    agent by hand {} ms, in the cluster {} ms (off and status)",
        agent.as_millis(),
        proven.saturating_sub(began)
    ));
    let extra = MS(if of_leader { 2000 } else { 200 });
    let what = if of_leader { "power loss of the leader" } else { "power loss, leader elsewhere" };
    Gauge::once(&format!("{what}, until it runs elsewhere"), DETECT + agent + extra, gap.length()).judge()?;
    c.never_twice(UNIT)
}

fn idle_loss(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    for unit in ["witness@restarts.service", "witness@limited.service"] {
        if c.overview()?.unit(unit).is_some() {
            c.run_unit(unit, 1)?;
        }
    }
    c.node(3).power_off()?;
    c.until("n3 is lost", LATE, |now| now.node("n3").is_some_and(|n| n.state == "lost"))?;
    c.always("nobody fences n3", Duration::from_secs(4), || Ok(c.overview()?.fences.is_empty()))?;
    ensure!(c.power_commands(3).is_empty(), "n3 was fenced for nothing: {:?}", c.power_commands(3));
    c.never_twice(UNIT)
}
