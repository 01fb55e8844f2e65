//! The daemon comes and goes; the units do not.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scenarios::{Cluster, Dice, Moment, NodeStatus, Plan, Process, UnitFile, run, say};

const UNIT: &str = "witness.service";
const REPLICA: &str = "witness@replica.service";
const WISHED: &str = "witness@wished.service";
const LATE: Duration = Duration::from_secs(40);

#[test]
fn the_daemon_comes_and_goes_and_units_stay() -> Result<()> {
    run("daemon", Plan::three(), |scenario| {
        scenario.part("convoked is restarted on each node: nothing else is", restarted);
        scenario.part("kill -9 of every convoked 50 times under load", killed_fifty_times);
        scenario.part("a killed daemon is not back before the lease ends", killed_over_the_lease);
        scenario.part("a package upgrade restarts no unit", upgraded);
        scenario.part("systemctl stop convoked releases, and start takes part again", stopped);
        scenario.part("a clean shutdown hands over without a fence", shut_down);
        scenario.part("a reboot hands over, and the node comes back", rebooted);
        scenario.part("a unit that runs already is adopted without a restart", adopted);
        scenario.part("an ordinary service of a cluster unit's name is not run twice", unasked);
        scenario.part("a unit that is forgotten is an ordinary service again", forgotten);
        scenario.part(
            "a voter that is set aside keeps its units, and votes no more until it has joined anew",
            set_aside,
        );
    })
}

/// An exclusive unit, and a replica on each node.
fn units(c: &Cluster, home: usize) -> Result<Vec<Process>> {
    c.install(&UnitFile::new(REPLICA).key("Replicas=all"))?;
    c.run_unit(UNIT, home)?;
    c.ok(c.anybody()?, &format!("convoke start {REPLICA}"))?;
    c.until("all replicas run", LATE, |now| now.places(REPLICA).len() == 3)?;
    let mut found = vec![c.process(home, UNIT)?];
    for i in 1..=3 {
        found.push(c.process(i, REPLICA)?);
    }
    Ok(found)
}

fn all_still_run(c: &Cluster, units: &[Process]) -> Result<()> {
    units.iter().try_for_each(|unit| c.still_runs(unit))
}

fn whole(c: &Cluster) -> Result<()> {
    c.until("everybody is online", LATE, |now| now.nodes.iter().all(|n| n.state == "online")).map(drop)
}

fn restarted(c: &Cluster) -> Result<()> {
    let units = units(c, 2)?;
    let index = c.overview()?.index;
    for i in 1..=3 {
        let begin = Moment::now();
        c.ok(i, "systemctl restart convoked")?;
        let took = begin.elapsed();
        ensure!(took < Duration::from_secs(10), "`systemctl restart convoked` takes {took:?}");
        whole(c)?;
        all_still_run(c, &units)?;
    }
    let events = c.events_after(index)?;
    let bad = ["unit-granted", "unit-revoked", "unit-released", "node-lost", "fence-wanted"];
    let bad: Vec<_> = events.iter().filter(|e| bad.contains(&e.kind.as_str())).collect();
    ensure!(bad.is_empty(), "a restart of the daemon did more than that: {bad:#?}");
    c.never_twice(UNIT)
}

/// A wish that was made, and whether `convoke` said that it is recorded.
struct Tried {
    verb: String,
    acknowledged: bool,
}

/// Wishes that are made all the time, from all nodes, and written down with what became of them.
struct Load {
    children: Vec<std::process::Child>,
}

impl Load {
    fn begin(c: &Cluster) -> Result<Load> {
        c.everywhere("rm -f /run/stop-load /shared/wishes.*")?;
        let line = format!(
            "while ! [ -e /run/stop-load ]; do for verb in start stop; do \
             if convoke $verb --no-wait {WISHED} 2>/dev/null; then echo $verb yes; else echo $verb no; fi \
             >>/shared/wishes.$(hostname); done; sleep 0.05; done"
        );
        let children = c.nodes().iter().map(|n| n.spawn(&line)).collect::<Result<_>>()?;
        Ok(Load { children })
    }

    /// What each node tried, in order.
    fn end(mut self, c: &Cluster) -> Result<Vec<Vec<Tried>>> {
        c.everywhere("touch /run/stop-load")?;
        for child in &mut self.children {
            child.wait()?;
        }
        let of = |i: usize| -> Result<Vec<Tried>> {
            let text = std::fs::read_to_string(c.lab.shared().join(format!("wishes.n{i}")))?;
            let lines = text.lines().filter_map(|l| l.split_once(' '));
            Ok(lines.map(|(verb, said)| Tried { verb: verb.into(), acknowledged: said == "yes" }).collect())
        };
        (1..=3).map(of).collect()
    }
}

/// Whether the recorded wishes are those that were tried, in order, without any that was acknowledged missing.
fn all_recorded(tried: &[Tried], recorded: &[&str]) -> bool {
    // Which numbers of recorded wishes can have been reached after each trial.
    let mut reached = vec![false; recorded.len() + 1];
    reached[0] = true;
    for one in tried {
        let mut next = vec![false; recorded.len() + 1];
        for k in (0..=recorded.len()).filter(|k| reached[*k]) {
            next[k] |= !one.acknowledged;
            if recorded.get(k) == Some(&one.verb.as_str()) {
                next[k + 1] = true;
            }
        }
        reached = next;
    }
    reached[recorded.len()]
}

#[test]
fn a_lost_wish_is_noticed() {
    let tried = |words: &[(&str, bool)]| -> Vec<Tried> {
        words.iter().map(|(verb, yes)| Tried { verb: (*verb).into(), acknowledged: *yes }).collect()
    };
    let all = tried(&[("start", true), ("stop", true), ("start", false), ("stop", true)]);
    assert!(all_recorded(&all, &["start", "stop", "start", "stop"]));
    assert!(all_recorded(&all, &["start", "stop", "stop"]), "nobody promised the third");
    assert!(!all_recorded(&all, &["start", "start", "stop"]), "the second is lost");
    assert!(!all_recorded(&all, &["start", "stop", "start"]), "the last is lost");
}

fn killed_fifty_times(c: &Cluster) -> Result<()> {
    c.install(&UnitFile::new(WISHED).key("Replicas=1"))?;
    let units = units(c, 1)?;
    let index = c.overview()?.index;
    let mut dice = Dice::new();
    let seed = dice.seed();
    let load = Load::begin(c)?;
    // The history keeps 2,000 lines, which is some ten seconds of this load.
    let mut known = BTreeMap::new();
    let mut note = || -> Result<()> {
        known.extend(c.events_after(index)?.into_iter().map(|e| (e.index, e)));
        Ok(())
    };
    for round in 0..50 {
        // At any moment, but with room for an election: who is killed in each of them loses the lease by right.
        std::thread::sleep(Duration::from_millis(1_500 + dice.roll(1_500)));
        // Nobody may lead at this moment; the next round is soon enough.
        let _ = note();
        let mut order = [1, 2, 3];
        order.rotate_left(dice.roll(3) as usize);
        for i in order {
            std::thread::sleep(Duration::from_millis(dice.roll(60)));
            // One that is being restarted has no process to kill.
            c.run(i, "systemctl kill --kill-who=main --signal=KILL convoked.service")?;
        }
        all_still_run(c, &units).with_context(|| format!("round {round}, seed {seed}"))?;
    }
    let tried = load.end(c)?;
    whole(c).with_context(|| format!("seed {seed}"))?;
    note().with_context(|| format!("seed {seed}"))?;
    let mut total = (0, 0, 0);
    for (i, tried) in (1..=3).zip(&tried) {
        let by = format!("by root on n{i} (");
        let mine = known.values().filter(|e| e.unit.as_deref() == Some(WISHED) && e.text.contains(&by));
        let verbs = mine.filter_map(|e| match e.kind.as_str() {
            "unit-start-asked" => Some("start"),
            "unit-stop-asked" => Some("stop"),
            _ => None,
        });
        let verbs: Vec<&str> = verbs.collect();
        let acknowledged = tried.iter().filter(|t| t.acknowledged).count();
        total = (total.0 + tried.len(), total.1 + acknowledged, total.2 + verbs.len());
        ensure!(
            all_recorded(tried, &verbs),
            "n{i} made {} wishes, {acknowledged} were acknowledged, {} are recorded, and they do not fit (seed {seed})",
            tried.len(),
            verbs.len()
        );
    }
    say(&format!("    {} wishes made, {} acknowledged, {} recorded, seed {seed}", total.0, total.1, total.2));
    ensure!(total.1 >= 100, "only {} wishes were acknowledged: that was no load", total.1);
    all_still_run(c, &units).with_context(|| format!("seed {seed}"))?;
    c.never_twice(UNIT)?;
    c.never_twice(WISHED)
}

/// F8: while the daemon is away nobody renews; a late daemon finds its lease ended and stops what must stop.
fn killed_over_the_lease(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    c.run_unit(UNIT, home)?;
    // Its power switch is dead, so only the node itself can let go.
    c.bmc_faults(home, &[lab::Fault::FailOff])?;
    let then = Moment::now();
    c.mute(home);
    c.ok(home, "systemctl kill --kill-who=main --signal=STOP convoked.service")?;
    c.until(&format!("{name} is lost"), LATE, |now| now.node(&name).is_some_and(|n| n.state == "lost"))?;
    // On a busy machine systemd's own watchdog may have done it meanwhile.
    c.run(home, "systemctl kill --kill-who=main --signal=KILL convoked.service")?;
    // The new one may not think that it has a lease: it stops the unit, and says so once it is heard.
    let beat = c.next_life(UNIT, then, LATE)?;
    say(&format!("    it ran again on {} after {:.1?}", beat.node, beat.since.since(then)));
    c.never_twice(UNIT)
}

fn upgraded(c: &Cluster) -> Result<()> {
    let units = units(c, 3)?;
    let deb = std::fs::read(scenarios::package()?)?;
    for i in 1..=3 {
        let out = c.node(i).feed(
            "cat >/root/convoke.deb && DEBIAN_FRONTEND=noninteractive dpkg --install --force-confnew /root/convoke.deb",
            &deb,
        )?;
        ensure!(out.ok(), "n{i}: the upgrade fails: {}{}", out.stdout, out.stderr);
        c.ok(i, "rm /root/convoke.deb")?;
        c.ok(i, "systemctl is-active convoked")?;
        whole(c)?;
        all_still_run(c, &units)?;
    }
    c.never_twice(UNIT)
}

fn stopped(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    c.run_unit(UNIT, home)?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.ok(home, "systemctl stop convoked")?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != c.node(home).name(), "it still runs where convoked was stopped");
    let events = c.events_after(index)?;
    ensure!(
        !events.iter().any(|e| matches!(e.kind.as_str(), "fence-wanted" | "fence-began")),
        "a clean stop was fenced: {events:#?}"
    );
    // Nobody starts it there behind the cluster's back.
    let out = c.run(home, &format!("systemctl start {UNIT}"))?;
    ensure!(!out.ok(), "the gate is open while convoked is stopped");
    c.ok(home, "systemctl start convoked")?;
    whole(c)?;
    c.never_twice(UNIT)
}

fn shut_down(c: &Cluster) -> Result<()> {
    for of_leader in [false, true] {
        let leader = c.leader()?;
        let home = if of_leader { leader } else { c.follower(&[])? };
        c.run_unit(UNIT, home)?;
        let index = c.overview()?.index;
        let then = Moment::now();
        c.node(home).shutdown_cleanly()?;
        let beat = c.next_life(UNIT, then, LATE)?;
        let gap = c.gap_after(UNIT, then)?.length();
        let whose = if of_leader { "the leader" } else { "a follower" };
        say(&format!("    shutdown of {whose}: gap {gap:.1?}, then on {}", beat.node));
        let events = c.events_after(index)?;
        ensure!(
            !events.iter().any(|e| matches!(e.kind.as_str(), "fence-wanted" | "fence-began")),
            "a clean shutdown was fenced: {events:#?}"
        );
        ensure!(c.power_commands(home).is_empty(), "{:?}", c.power_commands(home));
        c.node(home).boot()?;
        whole(c)?;
    }
    c.never_twice(UNIT)
}

fn rebooted(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    c.run_unit(UNIT, home)?;
    let goal = c.overview()?.unit(UNIT).map(|u| u.goal.clone());
    let then = Moment::now();
    c.node(home).reboot()?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it waited for the reboot of {name}");
    whole(c)?;
    let now = c.overview()?;
    ensure!(now.unit(UNIT).map(|u| u.goal.clone()) == goal, "a reboot changed the goal");
    ensure!(c.power_commands(home).is_empty(), "a reboot was fenced: {:?}", c.power_commands(home));
    c.never_twice(UNIT)
}

fn adopted(c: &Cluster) -> Result<()> {
    let unit = "witness@before.service";
    // It runs before anybody says that it is a cluster unit.
    c.ok(2, &format!("systemctl start {unit}"))?;
    let before = c.process(2, unit)?;
    c.install(&UnitFile::new(unit).key("Replicas=1"))?;
    c.ok(1, &format!("convoke start {unit}"))?;
    let now = c.until("it was adopted where it runs", LATE, |now| now.runs_on(unit, "n2"))?;
    ensure!(now.unit(unit).is_some_and(|u| u.copies[0].adopted), "it is not shown as adopted");
    c.still_runs(&before)?;
    c.ok(1, &format!("convoke move {unit} n3"))?;
    let now = c.until("it was moved like any other", LATE, |now| now.runs_on(unit, "n3"))?;
    ensure!(now.unit(unit).is_some_and(|u| !u.copies[0].adopted), "the new copy is shown as adopted");
    c.ok(1, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

/// F11: a node that has no drop-in runs the service; the other two offer it and are asked to start it.
fn unasked(c: &Cluster) -> Result<()> {
    let unit = "witness@plain.service";
    c.ok(2, &format!("systemctl start {unit}"))?;
    let before = c.process(2, unit)?;
    c.install_on(&UnitFile::new(unit).key("Replicas=1"), &[1, 3])?;
    let out = c.run(1, &format!("convoke start {unit} --timeout 3s"))?;
    ensure!(!out.ok(), "it was started beside the copy on n2: {}{}", out.stdout, out.stderr);
    let said = out.stdout + &out.stderr;
    ensure!(said.contains("n2"), "`convoke start` does not say where it runs: {said}");
    c.still_runs(&before)?;
    // From now on n2 may not start it either, though it has no drop-in.
    c.ok(2, &format!("systemctl stop {unit}"))?;
    let now = c.until("it starts where it is offered", LATE, |now| now.places(unit).len() == 1)?;
    ensure!(!now.runs_on(unit, "n2"), "it runs where nobody offers it");
    let refused = c.run(2, &format!("systemctl start {unit}"))?;
    ensure!(!refused.ok(), "n2 started it behind the cluster's back");
    c.ok(1, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

/// F12: only `convoke forget` opens a gate, and it does so on every node.
fn forgotten(c: &Cluster) -> Result<()> {
    let unit = "witness@passing.service";
    c.install(&UnitFile::new(unit).key("Replicas=1"))?;
    c.ok(1, &format!("convoke start {unit}"))?;
    c.ok(1, &format!("convoke stop {unit}"))?;
    c.everywhere(&format!("rm -r /etc/systemd/system/{unit}.d && systemctl daemon-reload"))?;
    // A start that is asked for earlier is granted on a node that offers it still.
    let gone =
        format!("journalctl --boot --no-pager --quiet --grep='section is gone .*convoke forget {unit}'");
    for i in 1..=3 {
        c.wait_for(&format!("n{i} has read its files"), LATE, || c.ok(i, &gone).map(Some))?;
    }
    for i in 1..=3 {
        ensure!(
            !c.run(i, &format!("systemctl start {unit}"))?.ok(),
            "n{i}: its gate is open before it is forgotten"
        );
    }
    c.wait_for("it can be forgotten", LATE, || {
        let out = c.run(1, &format!("convoke forget {unit}"))?;
        ensure!(out.ok(), "{}{}", out.stdout, out.stderr);
        Ok(Some(()))
    })?;
    for i in 1..=3 {
        c.wait_for(&format!("its gate on n{i} is gone"), LATE, || {
            let list = c.ok(i, "cat /var/lib/convoke/gated /etc/convoke/gated")?;
            ensure!(!list.contains(unit), "{list}");
            let gate = c.run(i, &format!("systemctl cat {unit} | grep /run/convoke"))?;
            ensure!(!gate.ok(), "{}", gate.stdout);
            Ok(Some(()))
        })?;
    }
    // It does not come back by itself, and is a service like any other.
    c.ok(2, "systemctl restart convoked")?;
    whole(c)?;
    ensure!(c.overview()?.unit(unit).is_none(), "it is back");
    c.ok(3, &format!("systemctl start {unit} && systemctl stop {unit}"))?;
    Ok(())
}

/// F20: the mark is the one that a voter leaves when its state was not that of most. Of three no other one may fail meanwhile.
fn set_aside(c: &Cluster) -> Result<()> {
    let home = c.follower(&[1])?;
    let name = c.node(home).name();
    c.run_unit(UNIT, home)?;
    let unit = c.process(home, UNIT)?;
    let mark = "cd /var/lib/convoke && node=$(sed -n 's/^node = //p' identity/identity.toml) && \
                cluster=$(sed -n 's/^cluster = \"\\(.*\\)\"$/\\1/p' identity/identity.toml) && \
                echo \"node $node of $cluster: somebody says so\" >set-aside";
    c.ok(home, &format!("{mark} && systemctl restart convoked"))?;
    c.until("an alarm tells of it", LATE, |now| {
        now.online(&name) && now.alarms_with(&[name.as_str(), "votes no more"])
    })?;
    c.still_runs(&unit)?;
    c.wait_for("its journal tells of it", LATE, || {
        let log = c.node(home).journal("convoked")?;
        Ok(log.contains("somebody says so: this node votes no more, and keeps its units").then_some(()))
    })?;
    // Whoever votes writes that down first, and each start of its store as well.
    let store = || c.ok(home, "sha256sum /var/lib/convoke/raft.redb");
    let before = store()?;
    c.run_unit(UNIT, 1)?;
    c.run_unit(UNIT, home)?;
    let unit = c.process(home, UNIT)?;
    c.ok(home, "systemctl restart convoked")?;
    ensure!(store()? == before, "it has written to its store: it takes part in votes");
    c.still_runs(&unit)?;

    // What docs/operating.md says.
    c.ok(1, &format!("convoke drain {name}"))?;
    c.ok(home, "systemctl disable --now convoked")?;
    c.wait_for("it can be taken out", LATE, || c.ok(1, &format!("convoke leave {name}")).map(Some))?;
    c.ok(home, "rm -rf /var/lib/convoke")?;
    let token = c.token(1)?;
    c.ok(home, &format!("convoke join --address {} '{token}'", c.node(home).address()))?;
    c.until("it has joined anew", LATE, |now| now.online(&name))?;
    c.configure(&c.settings())?;
    c.until("three voters are online, and no alarm tells of it", LATE, |now| {
        let whole = |n: &NodeStatus| n.role == "voter" && n.state == "online" && n.fencing == "ready";
        now.nodes.len() == 3 && now.nodes.iter().all(whole) && !now.alarms_with(&["votes no more"])
    })?;
    c.run_unit(UNIT, home)?;
    c.never_twice(UNIT)
}
