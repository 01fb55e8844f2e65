//! What befalls a machine under its daemon: pauses, clocks, disks, the bus, PID 1, the package.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Fault;
use scenarios::{Cluster, Moment, Plan, Process, UnitFile, run, say};

/// What must stop at the end of a lease.
mod host {
    pub(crate) mod leases;
}

use host::leases;

const UNIT: &str = "witness.service";
const REPLICA: &str = "witness@replica.service";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn the_machine_under_the_daemon() -> Result<()> {
    run("host", Plan::three(), |scenario| {
        scenario.part("a node that is paused for longer than its lease goes on", paused);
        scenario.part("the bus is restarted, and PID 1 executes itself anew", bus_and_manager);
        scenario.part("journald hangs: nobody waits for it, and leases end in time", leases::journald_hangs);
        scenario.part("steps of the daemon's clock", clock_steps);
        scenario.part("a full disk under the leader's store", full_disk);
        scenario.part("a full disk under a unit that a lease guards", leases::full_disk);
        scenario.part(
            "a disk that hangs while the daemon starts, under a unit that a lease guards",
            leases::hanging_disk,
        );
        scenario.part("no page of the daemon waits for a disk", keeps_memory);
        scenario.part("the identity is gone under a unit that a lease guards", leases::lost_identity);
        scenario.part("a node without room for permits says so, and the unit runs elsewhere", full_run);
        scenario.part("systemctl stop convoked leaves replicas, and start takes them over", replicas_stay);
        scenario.part("a voter whose store is put back to an earlier time takes no part", put_back);
        scenario.part("the package is purged, installed again, and the machine joins anew", purged);
    })
}

/// The exclusive unit on `home`, and a replica on each node.
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

/// Nothing was given, taken or fenced after an index of the log.
fn nothing_happened(c: &Cluster, index: u64) -> Result<()> {
    let bad = ["unit-granted", "unit-revoked", "unit-released", "node-lost", "fence-wanted"];
    let events = c.events_after(index)?;
    let bad: Vec<_> = events.iter().filter(|e| bad.contains(&e.kind.as_str())).collect();
    ensure!(bad.is_empty(), "{bad:#?}");
    Ok(())
}

/// Like a suspended virtual machine. Its switch is dead, so that only the node itself can let go.
fn paused(c: &Cluster) -> Result<()> {
    for of_leader in [false, true] {
        let leader = c.leader()?;
        let home = if of_leader { leader } else { c.follower(&[])? };
        c.run_unit(UNIT, home)?;
        c.bmc_faults(home, &[Fault::FailOff])?;
        c.freeze(home)?;
        std::thread::sleep(S(4));
        let then = Moment::now();
        c.thaw(home)?;
        let beat = c.next_life(UNIT, then, LATE)?;
        let life = c.timeline(UNIT)?;
        let old = life.runs.iter().filter(|r| r.from_ns < then.0).map(|r| r.to_ns).max().unwrap_or(0);
        say(&format!(
            "    it went on for {:?} when its node woke, and ran anew on {} after {:.1?}",
            Moment(old).since(then),
            beat.node,
            beat.since.since(then)
        ));
        ensure!(Moment(old).since(then) < S(2), "it went on without a lease");
        c.bmc_faults(home, &[])?;
        c.settle()?;
    }
    c.never_twice(UNIT)
}

fn bus_and_manager(c: &Cluster) -> Result<()> {
    let units = units(c, 2)?;
    let index = c.overview()?.index;
    for (what, line) in [
        ("the bus", "systemctl restart dbus.service"),
        ("PID 1", "systemctl daemon-reexec"),
        ("a reload", "systemctl daemon-reload"),
        // As an upgrade of systemd does it: units are being looked at when the connection breaks.
        (
            "a reload and PID 1",
            "for i in 1 2 3; do sleep 1; systemctl daemon-reload; systemctl daemon-reexec; done",
        ),
        ("the journal", "systemctl restart systemd-journald"),
    ] {
        for i in 1..=3 {
            c.ok(i, line)?;
        }
        // Longer than a lease.
        std::thread::sleep(S(3));
        whole(c).with_context(|| what.to_owned())?;
        all_still_run(c, &units).with_context(|| what.to_owned())?;
        for i in 1..=3 {
            c.ok(i, "convoke status").with_context(|| what.to_owned())?;
        }
    }
    nothing_happened(c, index)?;
    // And everything is heard as before.
    c.ok(1, &format!("convoke move {UNIT} n3"))?;
    c.ok(3, &format!("systemctl kill --kill-who=main --signal=KILL {UNIT}"))?;
    let then = Moment::now();
    c.next_life(UNIT, then, S(5))?;
    c.never_twice(UNIT)
}

/// Adds the seconds in `/run/skew` to the wall clock of a process. All nodes of the lab have one clock.
const SKEW: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(id, at);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) {
        char text[32] = {0};
        int file = open("/run/skew", O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0) at->tv_sec += atol(text);
            close(file);
        }
    }
    return result;
}
"#;

/// Has the daemons of all nodes read a clock that the test can step.
fn skewable(c: &Cluster) -> Result<()> {
    let dir = c.lab.shared();
    std::fs::write(dir.join("skew.c"), SKEW)?;
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([dir.join("skew.so"), dir.join("skew.c")])
        .status()?;
    ensure!(built.success(), "the clock for the tests is not built");
    for node in c.nodes() {
        node.write(
            "/run/systemd/system/convoked.service.d/skew.conf",
            "[Service]\nEnvironment=LD_PRELOAD=/shared/skew.so\n",
        )?;
        c.ok(node.index(), "systemctl daemon-reload && systemctl restart convoked")?;
        whole(c)?;
    }
    Ok(())
}

fn clock_steps(c: &Cluster) -> Result<()> {
    let units = units(c, 2)?;
    skewable(c)?;
    let leader = c.leader()?;
    let follower = c.follower(&[])?;
    let index = c.overview()?.index;
    for i in [leader, follower] {
        for step in [3_600, -3_600, 0] {
            c.node(i).write("/run/skew", step.to_string())?;
            std::thread::sleep(S(3));
            whole(c).with_context(|| format!("n{i}, {step} s"))?;
            all_still_run(c, &units).with_context(|| format!("n{i}, {step} s"))?;
        }
    }
    nothing_happened(c, index)?;
    // Neither is a new session, nor a new leader, refused because of it.
    let wall = c.events()?.last().map_or(0, |e| e.wall_ms);
    c.node(leader).write("/run/skew", "3600")?;
    c.ok(follower, &format!("convoke start {UNIT}"))?;
    let stepped = c.events()?.last().map_or(0, |e| e.wall_ms);
    ensure!(stepped > wall + 3_500_000, "the leader's clock was not stepped: {wall}, {stepped}");
    for (i, step) in [(1, 3_600), (2, -3_600), (3, 0)] {
        c.node(i).write("/run/skew", step.to_string())?;
    }
    let stamped = c.overview()?.index;
    c.ok(leader, "systemctl restart convoked")?;
    whole(c)?;
    c.ok(follower, "systemctl restart convoked")?;
    whole(c)?;
    all_still_run(c, &units)?;
    let times: Vec<u64> = c.events_after(stamped)?.iter().map(|e| e.time_ms).collect();
    ensure!(times.windows(2).all(|w| w[0] <= w[1] && w[1] - w[0] < 60_000), "cluster time jumps: {times:?}");
    c.everywhere("rm -rf /run/skew /run/systemd/system/convoked.service.d; systemctl daemon-reload")?;
    for i in 1..=3 {
        c.ok(i, "systemctl restart convoked")?;
        whole(c)?;
    }
    all_still_run(c, &units)?;
    c.never_twice(UNIT)
}

/// A leader that cannot write leads no more; with room again it takes part again by itself.
fn full_disk(c: &Cluster) -> Result<()> {
    let leader = c.leader()?;
    let home = c.follower(&[])?;
    let name = c.node(leader).name();
    c.run_unit(UNIT, home)?;
    small_disk(c, leader)?;
    c.run_unit(UNIT, home)?;
    // It is to lead again.
    for _ in 0..10 {
        let now = c.leader()?;
        if now == leader {
            break;
        }
        c.ok(now, "systemctl restart convoked")?;
        whole(c)?;
    }
    ensure!(c.leader()? == leader, "{name} does not lead");
    let witness = c.process(home, UNIT)?;
    let index = c.overview()?.index;
    c.ok(leader, "dd if=/dev/zero of=/var/lib/convoke/filler bs=64k 2>/dev/null; true")?;
    let begin = Moment::now();
    c.wait_for("another leads", S(60), || {
        for _ in 0..10 {
            c.run(home, "timeout 5 convoke token")?;
        }
        let now = c.overview_of(home)?;
        Ok((now.quorum && now.leader.as_deref() != Some(name.as_str())).then_some(()))
    })?;
    say(&format!("    another leads after {:.1?}", begin.elapsed()));
    let log = c.node(leader).journal("convoked")?;
    ensure!(log.contains("No space left"), "its log does not name the disk");
    ensure!(!log.contains("panicked"), "it panics");
    c.still_runs(&witness)?;
    c.ok(leader, "rm -f /var/lib/convoke/filler")?;
    let begin = Moment::now();
    c.wait_for("its daemon runs again", LATE, || Ok(c.run(leader, "convoke status")?.ok().then_some(())))?;
    whole(c)?;
    say(&format!("    it is online again {:.1?} after there was room", begin.elapsed()));
    c.still_runs(&witness)?;
    let fenced = c.events_after(index)?.into_iter().find(|e| e.kind.starts_with("fence-"));
    ensure!(fenced.is_none(), "{fenced:?}");
    own_disk(c, leader)?;
    c.still_runs(&witness)?;
    c.ok(home, &format!("convoke move {UNIT} {name}"))?;
    c.never_twice(UNIT)
}

/// What a daemon has used stays in memory: it has to act in time also where everything else is swapped out.
fn keeps_memory(c: &Cluster) -> Result<()> {
    for i in 1..=3 {
        let status = c.ok(i, "cat /proc/$(systemctl show -P MainPID convoked)/status")?;
        let kb = |key: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
            Ok(line.trim_matches(|letter: char| !letter.is_ascii_digit()).parse()?)
        };
        let (locked, resident) = (kb("VmLck:")?, kb("VmRSS:")?);
        ensure!(locked >= resident, "of {resident} kB that are resident {locked} kB are locked");
    }
    Ok(())
}

/// Where no permit can be written nothing starts, and that is told.
fn full_run(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    let full = c.follower(&[home])?;
    let name = c.node(full).name();
    c.run_unit(UNIT, home)?;
    let index = c.overview()?.index;
    c.ok(
        full,
        "mount -o remount,size=16m /run && { dd if=/dev/zero of=/run/filler bs=1k 2>/dev/null; true; }",
    )?;
    let then = Moment::now();
    c.run(home, &format!("timeout 30 convoke move {UNIT} {name}"))?;
    let beat = c.next_life(UNIT, then, LATE)?;
    say(&format!("    it ran on {} after {:.1?}", beat.node, beat.since.since(then)));
    ensure!(beat.node != name, "it runs on {name}");
    let told = c.events_after(index)?.into_iter().any(|e| e.text.contains("No space left on device"));
    ensure!(told, "nobody says that {name} has no room: {:#?}", c.events_after(index)?);
    c.ok(full, "rm /run/filler")?;
    c.ok(home, &format!("convoke reset-failed {UNIT}"))?;
    c.ok(home, &format!("convoke move {UNIT} {name}"))?;
    c.ok(full, "mount -o remount,size=20% /run")?;
    c.never_twice(UNIT)
}

/// Puts the store of a node on a disk of 16 MB.
fn small_disk(c: &Cluster, i: usize) -> Result<()> {
    c.ok(
        i,
        "systemctl stop convoked && cp -a /var/lib/convoke /root/store && mount -t tmpfs -o size=16m,mode=700 tmpfs \
         /var/lib/convoke && cp -a /root/store/. /var/lib/convoke/ && systemctl start convoked",
    )?;
    whole(c)
}

/// Ends [`small_disk`].
fn own_disk(c: &Cluster, i: usize) -> Result<()> {
    c.ok(
        i,
        "systemctl stop convoked && cp -a /var/lib/convoke/. /root/store/ && umount /var/lib/convoke && \
         cp -a /root/store/. /var/lib/convoke/ && rm -rf /root/store && systemctl start convoked",
    )?;
    whole(c)
}

/// Replicas need no permission to go on, and the others say what they know.
fn replicas_stay(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    let name = c.node(home).name();
    let units = units(c, home)?;
    let replicas: Vec<Process> = units.iter().filter(|u| u.unit == REPLICA).cloned().collect();
    let then = Moment::now();
    c.mute(home);
    c.ok(home, "systemctl stop convoked")?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "the exclusive unit runs on where convoked was stopped");
    all_still_run(c, &replicas)?;
    // Past the lease.
    std::thread::sleep(S(5));
    let now = c.overview()?;
    let copy = now.unit(REPLICA).and_then(|u| u.copies.iter().find(|copy| copy.node == name)).cloned();
    let node = now.node(&name).map(|n| n.state.clone());
    ensure!(node.as_deref() == Some("away"), "{name} is {node:?}");
    ensure!(copy.is_none_or(|copy| copy.state != "active"), "a copy that nobody hears of is called active");
    all_still_run(c, &replicas)?;
    ensure!(c.power_commands(home).is_empty(), "{name} was fenced");
    c.ok(home, "systemctl start convoked")?;
    c.until("the copy is active again", LATE, |now| now.places(REPLICA).len() == 3)?;
    all_still_run(c, &replicas)?;
    c.never_twice(UNIT)
}

/// F21: what it acknowledged and voted since is gone, and its store looks sound.
fn put_back(c: &Cluster) -> Result<()> {
    let home = c.follower(&[1])?;
    let name = c.node(home).name();
    c.run_unit(UNIT, 1)?;
    let (save, restore) =
        ("rm -rf /root/old && cp -a /var/lib/convoke /root/old", "cp -a /root/old /var/lib/convoke");
    c.ok(home, &format!("systemctl stop convoked && {save} && systemctl start convoked"))?;
    whole(c)?;
    for _ in 0..3 {
        c.ok(1, &format!("convoke stop {UNIT} && convoke start {UNIT} --on n1"))?;
    }
    let unit = c.process(1, UNIT)?;
    c.ok(home, &format!("systemctl stop convoked && rm -rf /var/lib/convoke && {restore}"))?;
    c.run(home, "systemctl start --no-block convoked")?;
    c.wait_for("it says what is wrong", LATE, || {
        let log = c.node(home).journal("convoked")?;
        Ok(log.contains("was put back to an earlier time").then_some(()))
    })?;
    let out = c.run(home, "convoke status")?;
    ensure!(!out.ok(), "its daemon runs on: {}", out.stdout);
    c.still_runs(&unit)?;
    // A replica of an earlier part runs on there.
    c.run(home, &format!("systemctl stop convoked '{REPLICA}'"))?;
    let left = || Ok(c.run(1, &format!("convoke leave {name}"))?.ok().then_some(()));
    c.wait_for("it can be taken out", LATE, left)?;
    c.ok(home, "rm -rf /var/lib/convoke /root/old")?;
    join_anew(c, home)?;
    c.still_runs(&unit)?;
    c.ok(1, &format!("convoke move {UNIT} {name}"))?;
    c.never_twice(UNIT)
}

fn join_anew(c: &Cluster, home: usize) -> Result<()> {
    let token = c.token(1)?;
    let out = c.run(home, &format!("convoke join --address {} '{token}'", c.node(home).address()))?;
    ensure!(out.ok(), "it cannot join again: {}{}", out.stdout, out.stderr);
    c.heal(home)?;
    whole(c)?;
    c.configure(&c.settings())
}

fn purged(c: &Cluster) -> Result<()> {
    let home = c.follower(&[1])?;
    let name = c.node(home).name();
    let units = units(c, home)?;
    let replicas: Vec<Process> = units.into_iter().filter(|u| u.unit == REPLICA).collect();
    let then = Moment::now();
    c.mute(home);
    let deb = std::fs::read(scenarios::package()?)?;
    let out = c.run(home, "DEBIAN_FRONTEND=noninteractive dpkg --purge convoke")?;
    ensure!(out.ok(), "the purge fails: {}{}", out.stdout, out.stderr);
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it runs on {name}");
    let line = "ls -d /var/lib/convoke /run/convoke /usr/bin/convoke /run/systemd/generator.early/witness* 2>/dev/null";
    let left = c.run(home, line)?;
    ensure!(left.stdout.trim().is_empty(), "left: {}", left.stdout);
    // The administrator's own guard still holds.
    let out = c.run(home, &format!("systemctl start {UNIT}"))?;
    ensure!(!out.ok(), "without the package an exclusive unit was started");
    // Once it is lost, and what it ran is not waited for.
    c.wait_for("it can be taken out", LATE, || {
        let out = c.run(1, &format!("convoke leave {name}"))?;
        ensure!(out.ok(), "{}{}", out.stdout, out.stderr);
        Ok(Some(()))
    })?;
    let out = c
        .node(home)
        .feed("cat >/root/convoke.deb && dpkg --install /root/convoke.deb && rm /root/convoke.deb", &deb)?;
    ensure!(out.ok(), "it cannot be installed again: {}{}", out.stdout, out.stderr);
    join_anew(c, home)?;
    // What ran on there all the time is taken over.
    c.until("all replicas are known", LATE, |now| now.places(REPLICA).len() == 3)?;
    all_still_run(c, &replicas)?;
    c.ok(1, &format!("convoke move {UNIT} {name}"))?;
    c.until("it runs there", LATE, |now| now.runs_on(UNIT, &name))?;
    c.never_twice(UNIT)
}
