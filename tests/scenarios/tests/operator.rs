//! The operator's word holds, whether it was given to `systemctl` or to `convoke`.

use std::time::Duration;

use anyhow::{Result, ensure};
use scenarios::{Cluster, Moment, Plan, UnitFile, run};

const UNIT: &str = "witness.service";
const REPLICA: &str = "witness@replica.service";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn what_an_operator_says_holds() -> Result<()> {
    run("operator", Plan::three(), |scenario| {
        scenario.part("systemctl stop is for the whole cluster, over elections and reboots", stopped_by_hand);
        scenario
            .part("a start on the wrong node is refused, with the reason in systemctl status", wrong_node);
        scenario.part("systemctl start where the cluster would place it is granted", right_node);
        scenario.part("a start by hand of a stopped unit is refused by name", start_of_stopped);
        scenario.part("an enabled unit that was stopped stays stopped at boot", enabled_and_stopped);
        scenario.part("drain moves everything away, undrain lets it come back", drained);
        scenario.part("systemctl stop of a replica holds it on that node", replica_held);
        scenario.part("a move leaves nothing behind", move_leaves_nothing);
        scenario.part("systemctl restart is a restart, not a wish", restart_in_place);
        scenario.part(
            "systemctl stop counts during a start, before an order, and without the daemon",
            overlapped,
        );
        scenario.part("commands about nothing say what is there", unknown_names);
    })
}

fn is_stopped(c: &Cluster, unit: &str) -> Result<()> {
    c.until("it is stopped", LATE, |now| {
        now.unit(unit).is_some_and(|u| u.goal == "stopped" && u.state == "stopped")
    })?;
    Ok(())
}

fn stopped_by_hand(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 2)?;
    let index = c.overview()?.index;
    c.ok(2, &format!("systemctl stop {UNIT}"))?;
    is_stopped(c, UNIT)?;
    let by = c.overview()?.unit(UNIT).and_then(|u| u.goal_by.clone()).unwrap_or_default();
    ensure!(by.contains("operator") && by.contains("n2"), "who stopped it: `{by}`");
    c.stays_silent(UNIT, S(3))?;
    // An election, a reboot of where it ran, and a reboot of the leader.
    let leader = c.leader()?;
    c.ok(leader, "systemctl restart convoked")?;
    c.stays_silent(UNIT, S(4))?;
    c.node(2).reboot()?;
    let leader = c.leader()?;
    c.node(leader).reboot()?;
    c.until("all are back", LATE, |now| now.nodes.iter().all(|n| n.state == "online"))?;
    c.stays_silent(UNIT, S(3))?;
    is_stopped(c, UNIT)?;
    let granted = c.events_after(index)?;
    let granted: Vec<_> =
        granted.iter().filter(|e| e.kind == "unit-granted" && e.unit.as_deref() == Some(UNIT)).collect();
    ensure!(granted.is_empty(), "{granted:#?}");
    let then = Moment::now();
    c.ok(3, &format!("convoke start {UNIT}"))?;
    c.next_life(UNIT, then, LATE)?;
    c.never_twice(UNIT)
}

fn wrong_node(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    let before = c.process(1, UNIT)?;
    let begin = Moment::now();
    let out = c.run(3, &format!("systemctl start {UNIT}"))?;
    ensure!(out.code == 1, "`systemctl start` on the wrong node exits {}", out.code);
    ensure!(out.stderr.contains("Assertion failed on job"), "it says: {}", out.stderr);
    ensure!(begin.elapsed() < S(10), "the refusal takes {:?}", begin.elapsed());
    let state = c.node(3).show(UNIT, "ActiveState")?;
    ensure!(state == "inactive", "the refused unit is {state}");
    let status = c.run(3, &format!("systemctl status --no-pager --lines=20 {UNIT}"))?.stdout;
    ensure!(status.contains("n1"), "`systemctl status` does not say where it runs:\n{status}");
    ensure!(status.contains("convoke"), "`systemctl status` does not say what to do:\n{status}");
    c.still_runs(&before)?;
    c.never_twice(UNIT)
}

fn right_node(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    c.ok(1, &format!("convoke stop {UNIT}"))?;
    is_stopped(c, UNIT)?;
    let then = Moment::now();
    c.ok(2, &format!("convoke start --no-wait {UNIT}"))?;
    let beat = c.next_life(UNIT, then, LATE)?;
    // Where it runs already, a start is nothing new.
    let home = c.number(&beat.node);
    c.until("it is active", LATE, |now| now.runs_on(UNIT, &beat.node))?;
    let before = c.process(home, UNIT)?;
    c.ok(home, &format!("systemctl start {UNIT}"))?;
    c.still_runs(&before)
}

fn start_of_stopped(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    c.ok(1, &format!("convoke stop {UNIT}"))?;
    is_stopped(c, UNIT)?;
    // By hand on a node, it is an operator's wish to start it there.
    let then = Moment::now();
    c.ok(3, &format!("systemctl start {UNIT}"))?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node == "n3", "asked for on n3, started on {}", beat.node);
    c.until("the goal is started", LATE, |now| now.unit(UNIT).is_some_and(|u| u.goal == "started"))?;
    c.never_twice(UNIT)
}

fn enabled_and_stopped(c: &Cluster) -> Result<()> {
    let unit = "witness@enabled.service";
    let file = UnitFile::new(unit).key("Replicas=1");
    c.install(&file)?;
    c.everywhere(&format!(
        "mkdir -p /etc/systemd/system/multi-user.target.wants && \
         ln -sf /etc/systemd/system/witness@.service /etc/systemd/system/multi-user.target.wants/{unit} && \
         systemctl daemon-reload"
    ))?;
    c.run_unit(unit, 1)?;
    c.ok(1, &format!("convoke stop {unit}"))?;
    is_stopped(c, unit)?;
    for i in 1..=3 {
        c.node(i).reboot()?;
        c.until("it is online again", LATE, |now| now.online(&format!("n{i}")))?;
        let state = c.node(i).wait_running(S(60))?;
        let failed = c.ok(i, "systemctl --failed --plain --no-legend")?;
        ensure!(state == "running", "n{i} is {state} after a boot: {failed}");
    }
    c.stays_silent(unit, S(3))?;
    is_stopped(c, unit)
}

fn drained(c: &Cluster) -> Result<()> {
    c.install(&UnitFile::new(REPLICA).key("Replicas=all"))?;
    c.run_unit(UNIT, 2)?;
    c.ok(1, &format!("convoke start {REPLICA}"))?;
    c.until("all replicas run", LATE, |now| now.places(REPLICA).len() == 3)?;
    c.ok(1, "convoke drain n2")?;
    let now = c.until("n2 holds nothing", LATE, |now| now.node("n2").is_some_and(|n| n.units.is_empty()))?;
    ensure!(now.places(UNIT).len() == 1 && now.places(REPLICA) == ["n1", "n3"], "{:?}", now.units);
    ensure!(now.node("n2").is_some_and(|n| n.drained.is_some()), "n2 is not shown as drained");
    let out = c.run(2, &format!("systemctl start {UNIT}"))?;
    ensure!(!out.ok(), "a unit was started on a drained node");
    c.node(2).reboot()?;
    c.until("n2 is online", LATE, |now| now.online("n2"))?;
    c.always("n2 stays drained over a reboot", S(3), || {
        Ok(c.overview()?.node("n2").is_some_and(|n| n.units.is_empty()))
    })?;
    c.ok(1, "convoke undrain n2")?;
    c.until("its replica is back", LATE, |now| now.places(REPLICA).contains(&"n2"))?;
    c.never_twice(UNIT)
}

fn replica_held(c: &Cluster) -> Result<()> {
    c.install(&UnitFile::new(REPLICA).key("Replicas=all"))?;
    c.ok(1, &format!("convoke start {REPLICA}"))?;
    c.until("all replicas run", LATE, |now| now.places(REPLICA).len() == 3)?;
    c.ok(3, &format!("systemctl stop {REPLICA}"))?;
    c.until("it is held on n3 only", LATE, |now| {
        now.unit(REPLICA).is_some_and(|u| u.goal == "started") && now.places(REPLICA) == ["n1", "n2"]
    })?;
    c.node(3).reboot()?;
    c.until("n3 is online", LATE, |now| now.online("n3"))?;
    c.always("it stays held over a reboot", S(4), || Ok(!c.overview()?.places(REPLICA).contains(&"n3")))?;
    let why = c.ok(1, &format!("convoke why {REPLICA}"))?;
    ensure!(why.contains("n3") && why.contains("held"), "`why` does not name the hold:\n{why}");
    c.ok(3, &format!("convoke start {REPLICA} --on n3"))?;
    c.until("it runs everywhere again", LATE, |now| now.places(REPLICA).len() == 3)?;
    Ok(())
}

fn move_leaves_nothing(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    c.ok(1, &format!("convoke move {UNIT} n2"))?;
    c.until("it runs on n2", LATE, |now| now.runs_on(UNIT, "n2"))?;
    let left = c.ok(1, "ls -A /run/convoke/permits /run/convoke/env 2>/dev/null")?;
    ensure!(!left.contains(UNIT), "files of the permit are left on n1:\n{left}");
    ensure!(c.ok(2, "ls /run/convoke/permits")?.contains(UNIT), "n2 has no permit file");
    ensure!(c.node(1).show(UNIT, "ActiveState")? == "inactive", "it is not inactive on n1");
    let environment = c.ok(2, &format!("tr '\\0' '\\n' </proc/{}/environ", c.process(2, UNIT)?.pid))?;
    ensure!(environment.contains("CONVOKE_TOKEN="), "the unit has no token: {environment}");
    // Where it was moved to is no rule: it stays, and n1 may take it again.
    c.ok(2, &format!("convoke move {UNIT}"))?;
    c.until("it runs elsewhere", LATE, |now| now.places(UNIT).len() == 1 && !now.runs_on(UNIT, "n2"))?;
    c.never_twice(UNIT)
}

fn restart_in_place(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 3)?;
    let before = c.process(3, UNIT)?;
    let index = c.overview()?.index;
    c.ok(3, &format!("systemctl restart {UNIT}"))?;
    let after = c.process(3, UNIT)?;
    ensure!(after.invocation != before.invocation, "it was not restarted");
    c.always("it stays where it is", S(3), || Ok(c.overview()?.runs_on(UNIT, "n3")))?;
    let asked = c.events_after(index)?;
    ensure!(
        !asked.iter().any(|e| e.kind == "unit-stop-asked"),
        "the stop half was taken for a wish: {asked:#?}"
    );
    c.never_twice(UNIT)
}

fn overlapped(c: &Cluster) -> Result<()> {
    let unit = "witness@slow.service";
    let file = UnitFile::new(unit).key("Replicas=1");
    c.install(&file.service("ExecStartPre=/bin/sleep 4").service("ExecStop=/bin/sleep 4"))?;
    let by_hand = |unit: &str, what: &str| -> Result<()> {
        is_stopped(c, unit)?;
        let by = c.overview()?.unit(unit).and_then(|u| u.goal_by.clone()).unwrap_or_default();
        ensure!(by.contains("systemctl stop"), "{what}: stopped by `{by}`");
        c.stays_silent(unit, S(6))
    };
    c.ok(1, &format!("convoke start --no-wait {unit}"))?;
    let home = c.wait_for("it is on its way up", LATE, || {
        let state = |i: &usize| c.node(*i).show(unit, "ActiveState").is_ok_and(|state| state == "activating");
        Ok((1..=3).find(state))
    })?;
    c.ok(home, &format!("systemctl stop {unit}"))?;
    by_hand(unit, "during a start")?;

    c.run_unit(unit, 1)?;
    c.ok(1, &format!("systemctl stop --no-block {unit}"))?;
    c.ok(2, &format!("convoke move --no-wait {unit} n2"))?;
    by_hand(unit, "before a move")?;

    // Nobody hears this one, but such a unit does not end by itself.
    let quick = "witness@quick.service";
    c.install(&UnitFile::new(quick).key("Replicas=1").service("Restart=always"))?;
    c.run_unit(quick, 1)?;
    c.kill_daemon(1)?;
    c.ok(1, &format!("systemctl stop {quick}"))?;
    by_hand(quick, "without the daemon")?;
    c.never_twice(unit)?;
    c.never_twice(quick)
}

fn unknown_names(c: &Cluster) -> Result<()> {
    for (line, code) in [
        ("convoke start nothing.service", 4),
        ("convoke why nothing.service", 4),
        ("convoke drain n9", 4),
        ("convoke move witness.service n9", 4),
        ("convoke frobnicate", 2),
    ] {
        let out = c.run(1, line)?;
        ensure!(out.code == code, "`{line}` exits {} instead of {code}: {}", out.code, out.stderr);
        ensure!(!out.stderr.trim().is_empty(), "`{line}` says nothing");
    }
    Ok(())
}
