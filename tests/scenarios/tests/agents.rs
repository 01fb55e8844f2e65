//! A fence agent that lies, hangs, dies, floods or is not there: what is said of it, and what comes after it.
//!
//! `fence_bad` misbehaves as its option `mode` says. Its devices are the first levels of one node; the last one is that node's controller,
//! through `fence_ipmilan`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{BMC_PASSWORD, BMC_USER, Fault};
use scenarios::{Change, Cluster, Moment, Overview, Plan, UnitFile, run, unwrapped};

/// What has a file of its own.
mod agents {
    pub(crate) mod credentials;
    pub(crate) mod restarted;
}

const UNIT: &str = "witness.service";
const OTHER: &str = "witness@other.service";
const SECRET: &str = "/etc/convoke/secrets/bmc";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;
/// The level of the controllers.
const LAST: u32 = 9;
/// Deadline of a call, in seconds: an honest one takes one, or two on a busy machine.
const DEADLINE_S: u32 = 5;
/// How much the daemon's memory may grow while an agent writes 128 MiB, in kB. Of each output it keeps 16 KiB.
const GROWTH_KB: u64 = 8 * 1024;
/// Whatever an agent left on a node: processes, control groups, units.
const LEFT: &str = "pgrep -af '[f]ence_bad|[s]leep (1|5|infinity)$|[s]leep 5;'; \
    ls -d /sys/fs/cgroup/system.slice/convoke-fence-* 2>/dev/null; \
    systemctl list-units --all --no-legend --plain 'convoke-fence-*'";

#[test]
fn whatever_an_agent_does_the_next_level_proves_it() -> Result<()> {
    let mut plan = Plan::three();
    // Long enough to be seen on a busy machine.
    plan.quarantine_s = 8;
    run("agents", plan, |scenario| {
        scenario.part("off that is said and not done", lie);
        scenario.part("agents that say everything but off", says_anything);
        scenario.part("agents that do not end, and one that leaves a child", never_ends);
        scenario.part("an agent whose daemon is restarted", agents::restarted::restarted);
        scenario.part("an agent that floods", flood);
        scenario.part("what an agent is given", given);
        scenario.part("a password that is an encrypted credential", agents::credentials::credential);
        scenario.part("an agent that is missing on one node", agent_missing);
        scenario.part("a program that the agents call is missing everywhere", helper_missing);
        scenario.part("an agent that takes a minute delays nobody else", slow);
        scenario.part("a node that is not switched on again", not_switched_on);
        // Its alarm stands for a day.
        scenario.part("a device that says off for ever while the node lives", liar);
    })
}

/// The device of `fence_bad` with that mode.
fn device(mode: &str) -> String {
    mode.replace(':', "-")
}

/// The settings with devices of `fence_bad` for one node, level by level.
fn settings(c: &Cluster, victim: usize, levels: &[&[&str]], timeout_s: u32) -> String {
    let last = format!("\nlevel = {LAST}\nagent = \"fence_ipmilan\"");
    let mut text = c.settings().replace("\nagent = \"fence_ipmilan\"", &last);
    let (name, address) = (c.node(victim).name(), c.lab.bmc(victim).address());
    for (modes, level) in levels.iter().zip(1..) {
        for mode in *modes {
            text.push_str(&format!(
                "\n[fence.{}]\nagent = \"fence_bad\"\nlevel = {level}\n\
                 targets = {{ {name} = {{ ip = \"{address}\", plug = \"{name}\" }} }}\n\
                 options = {{ mode = \"{mode}\", username = \"{BMC_USER}\", lanplus = \"1\", cipher = \"3\", power_wait = \"0\" }}\n\
                 secrets = {{ password = \"{SECRET}\" }}\ntimeout = \"{timeout_s}s\"\n",
                device(mode),
            ));
        }
    }
    text
}

/// Every device seen to work; the unit on the victim.
fn placed(c: &Cluster, victim: usize, document: &str) -> Result<()> {
    c.configure(document)?;
    let count = document.matches("[fence.").count();
    c.until("every device has shown its node", LATE, |now| {
        let devices: Vec<_> = now.nodes.iter().flat_map(|node| &node.devices).collect();
        devices.len() == count && devices.iter().all(|device| device.state == "ready")
    })?;
    c.run_unit(UNIT, victim)
}

/// A node that does not lead, with the unit and these devices.
fn victim(c: &Cluster, levels: &[&[&str]], timeout_s: u32) -> Result<usize> {
    let victim = c.follower(&[])?;
    placed(c, victim, &settings(c, victim, levels, timeout_s))?;
    Ok(victim)
}

/// The nodes that may run its agents.
fn others(victim: usize) -> Vec<usize> {
    (1..=3).filter(|i| *i != victim).collect()
}

/// The attempts, as `began off-hang`, `failed off-hang`, `proven`.
fn story(events: &[Change]) -> Vec<String> {
    let word = |event: &Change| {
        let by = event.text.split_once(" by ").map_or("", |(_, rest)| rest);
        let by = by.split(" (").next().unwrap_or_default().trim_end_matches(" failed");
        match event.kind.as_str() {
            "fence-began" => Some(format!("began {by}")),
            "fence-failed" => Some(format!("failed {by}")),
            "fence-proven" => Some("proven".to_owned()),
            _ => None,
        }
    };
    events.iter().filter_map(word).collect()
}

/// It runs elsewhere, once, and the fence went like that; the answer is what happened.
fn recovered(c: &Cluster, victim: usize, then: Moment, index: u64, expected: &[&str]) -> Result<Vec<Change>> {
    let name = c.node(victim).name();
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it runs on the fenced node");
    ensure!(!c.node(victim).is_on(), "it started while {name} was on");
    let events = c.events_after(index)?;
    let told = story(&events);
    let expected: Vec<String> = expected.iter().map(|line| line.replace("NODE", &name)).collect();
    ensure!(told == expected, "the fence went otherwise: {told:?}, not {expected:?}: {events:#?}");
    c.never_twice(UNIT)?;
    Ok(events)
}

/// What is said of the attempt through a device.
fn failure(events: &[Change], device: &str) -> Result<String> {
    let words = format!(" by {device} failed ");
    let mut failed = events.iter().filter(|event| event.kind == "fence-failed");
    let found = failed.find(|event| event.text.contains(&words));
    Ok(found.with_context(|| format!("no failure of {device}: {events:#?}"))?.text.clone())
}

/// The core rule: success is what status says. The controller waits, so that what is shown can be read.
fn lie(c: &Cluster) -> Result<()> {
    let victim = c.follower(&[])?;
    let name = c.node(victim).name();
    let level = format!("\nlevel = {LAST}\n");
    let document = settings(c, victim, &[&["lie"]], DEADLINE_S);
    let document = document.replace(&level, &format!("{level}delay = \"8s\"\n"));
    placed(c, victim, &document)?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    let said = "lie said off, status says on";
    let now = c.until("the lie is found out", LATE, |now| {
        now.fence(&name).is_some_and(|fence| fence.error.is_some())
    })?;
    let fence = now.fence(&name).context("no fence")?;
    let text = format!("fencing {name} by lie failed ({said}); bmc-{name} is tried in ");
    ensure!(fence.error.as_deref() == Some(said) && fence.text.starts_with(&text), "{fence:?}");
    let asked = c.anybody()?;
    for question in ["convoke status".to_owned(), format!("convoke why {UNIT}")] {
        let shown = unwrapped(&c.run(asked, &question)?.stdout);
        ensure!(shown.contains(said), "`{question}` does not say `{said}`: {shown}");
    }
    let reasons = c.why(UNIT)?.reasons;
    let first = reasons.first().context("`why` gives no reason")?;
    ensure!(first.rule == "S2" && first.fact.contains(said), "the first reason is {first:?}");
    ensure!(c.node(victim).is_on(), "{name} is off");
    let events = recovered(c, victim, then, index, &["began lie", "failed lie", "began bmc-NODE", "proven"])?;
    let failed = failure(&events, "lie")?;
    ensure!(failed.ends_with(said), "{failed}");
    Ok(())
}

/// One fence of a node: each of these levels fails, and the controller's proves it. One of them is cut off and may have sent its command, so
/// that there is a quarantine. The answer is the node, and what happened.
fn each_fails(c: &Cluster, modes: &[&str]) -> Result<(usize, Vec<Change>)> {
    let levels: Vec<&[&str]> = modes.iter().map(std::slice::from_ref).collect();
    let victim = victim(c, &levels, DEADLINE_S)?;
    let name = c.node(victim).name();
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    c.until("it is in quarantine", LATE, |now| {
        now.node(&name).is_some_and(|node| node.quarantine_s.is_some())
    })?;
    let attempts = modes.iter().map(|mode| device(mode));
    let attempts = attempts.flat_map(|device| [format!("began {device}"), format!("failed {device}")]);
    let expected: Vec<String> = attempts.chain(["began bmc-NODE", "proven"].map(str::to_owned)).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    Ok((victim, recovered(c, victim, then, index, &expected)?))
}

/// Nothing that is readable, nothing at all, a signal, and a number that means off where it is not asked for.
fn says_anything(c: &Cluster) -> Result<()> {
    let (_, events) = each_fails(c, &["off:garbage", "off:closed", "off:crash", "off:offexit2"])?;
    let garbage = failure(&events, "off-garbage")?;
    ensure!(
        garbage.contains("off exited with status 1: ") && garbage.ends_with("Failed: garbled"),
        "{garbage}"
    );
    ensure!(!garbage.chars().any(char::is_control), "{garbage:?}");
    let closed = failure(&events, "off-closed")?;
    ensure!(closed.ends_with("off exited with status 1"), "{closed}");
    let crash = failure(&events, "off-crash")?;
    ensure!(crash.contains("off: the agent was killed by signal 11"), "{crash}");
    let number = failure(&events, "off-offexit2")?;
    ensure!(number.contains("off exited with status 2"), "{number}");
    Ok(())
}

/// At the deadline everything of an agent ends, whatever it ignores; what it leaves behind does not outlive it either.
fn never_ends(c: &Cluster) -> Result<()> {
    let (victim, events) = each_fails(c, &["off:hang", "off:stubborn", "off:orphan"])?;
    let name = c.node(victim).name();
    // Sooner than the child of the last one would end by itself.
    c.wait_for("nothing of the agents is left", S(2), || {
        for i in others(victim) {
            let left = c.run(i, LEFT)?.stdout;
            ensure!(left.trim().is_empty(), "n{i}: {left}");
        }
        Ok(Some(()))
    })?;
    let struck = c.power_commands(victim);
    c.heal(victim)?;
    c.node(victim).power_on()?;
    c.always("nothing strikes late", S(6), || Ok(c.node(victim).is_on()))?;
    ensure!(c.power_commands(victim) == struck, "{struck:?}, then {:?}", c.power_commands(victim));
    for device in ["off-hang", "off-stubborn"] {
        let failed = failure(&events, device)?;
        let words = format!("{device}: off: the agent did not end within {} ms", DEADLINE_S * 1000);
        ensure!(failed.ends_with(&words), "{failed}");
    }
    let orphan = failure(&events, "off-orphan")?;
    ensure!(orphan.ends_with("off exited with status 1: Failed: unable to connect"), "{orphan}");
    let now = c.overview()?;
    ensure!(now.fence(&name).is_none(), "{:?}", now.fences);
    c.never_twice(UNIT)
}

/// Of what is written without end both ends are kept, the rest is read: the last words are seen, and what counts is the status.
fn flood(c: &Cluster) -> Result<()> {
    let victim = victim(c, &[&["off:drown"], &["off:flood"]], 20)?;
    // Late rather than slow: to a controller that does not answer in time the agent would send its command again.
    c.bmc_faults(victim, &[Fault::Lag(1)])?;
    let index = c.overview()?.index;
    // Else a higher peak of an earlier part would hide this one.
    others(victim).into_iter().try_for_each(|i| forget_peak(c, i))?;
    let peaks = || others(victim).into_iter().map(|i| peak_kb(c, i)).collect::<Result<Vec<u64>>>();
    let before = peaks()?;
    let then = Moment::now();
    c.cut(victim)?;
    let expected = ["began off-drown", "failed off-drown", "began off-flood", "proven"];
    let events = recovered(c, victim, then, index, &expected)?;
    let drowned = failure(&events, "off-drown")?;
    ensure!(drowned.ends_with("off exited with status 1: Failed: drowned"), "{drowned}");
    let told = c.power_commands(victim);
    ensure!(told == ["power 0"], "{told:?}");
    for (before, after) in before.iter().zip(peaks()?) {
        ensure!(after <= before + GROWTH_KB, "the daemon had {before} kB at the most, and now {after} kB");
    }
    Ok(())
}

/// Has the peak of the daemon's memory begin at what it has now.
fn forget_peak(c: &Cluster, i: usize) -> Result<()> {
    let pid = c.node(i).pid_of("convoked.service")?;
    c.ok(i, &format!("echo 5 >/proc/{pid}/clear_refs")).map(drop)
}

/// The most memory that the daemon of a node had since.
fn peak_kb(c: &Cluster, i: usize) -> Result<u64> {
    let pid = c.node(i).pid_of("convoked.service")?;
    let status = c.ok(i, &format!("cat /proc/{pid}/status"))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    peak.with_context(|| format!("n{i}: no VmHWM in {status}"))
}

/// Everything by standard input, to its end, `action=` first; nothing in its arguments, no secret in its environment.
fn given(c: &Cluster) -> Result<()> {
    let victim = victim(c, &[&["record"]], DEADLINE_S)?;
    let (name, address) = (c.node(victim).name(), c.lab.bmc(victim).address());
    let folder = c.lab.shared().join("fence_bad.record");
    // What the looks left there.
    fs::remove_dir_all(&folder).context("no look has left a record")?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    recovered(c, victim, then, index, &["began record", "proven"])?;
    let mut files: Vec<String> = fs::read_dir(&folder)?
        .flatten()
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .collect();
    files.sort_unstable();
    let expected = ["off.argv", "off.environ", "off.stdin", "status.argv", "status.environ", "status.stdin"];
    ensure!(files == expected, "it was run for something else: {files:?}");
    for action in ["off", "status"] {
        let read = |what: &str| fs::read_to_string(folder.join(format!("{action}.{what}")));
        let (argv, environ, stdin) = (read("argv")?, read("environ")?, read("stdin")?);
        ensure!(argv == "/bin/sh\n/usr/sbin/fence_bad\n", "{action} was given arguments: {argv}");
        let complete = format!(
            "action={action}\ncipher=3\nip={address}\nlanplus=1\nmode=record\nplug={name}\npower_wait=0\n\
             username={BMC_USER}\npassword={BMC_PASSWORD}\n"
        );
        ensure!(stdin == complete, "{action} was given {stdin}, not {complete}");
        ensure!(environ.lines().any(|line| line == "PYTHONWARNINGS=ignore"), "{environ}");
        for word in ["PCMK_", BMC_PASSWORD, address.as_str()] {
            ensure!(!environ.contains(word), "{word} is in its environment: {environ}");
        }
    }
    Ok(())
}

/// Whose turn it is has no agent: the other node runs it at once. The pause after a failure is for the device.
fn agent_missing(c: &Cluster) -> Result<()> {
    let victim = c.follower(&[])?;
    let document = settings(c, victim, &[&["ok"]], DEADLINE_S);
    let document = document.replace("\nagent = \"fence_bad\"", "\nretries = 1\nagent = \"fence_bad\"");
    placed(c, victim, &document)?;
    // Who had the device's last answer is asked first, and does not know yet that it could have no other.
    let now = c.overview()?;
    let devices = &now.node(&c.node(victim).name()).context("it is in the picture")?.devices;
    let seen =
        devices.iter().find(|device| device.name == "ok").and_then(|device| device.answered_by.clone());
    let first = c.number(&seen.context("nobody has looked through it")?);
    c.ok(first, "mv /usr/sbin/fence_bad /usr/sbin/away")?;
    let fenced = fenced_by_the_other(c, victim, first);
    c.ok(first, "mv /usr/sbin/away /usr/sbin/fence_bad")?;
    fenced
}

fn fenced_by_the_other(c: &Cluster, victim: usize, first: usize) -> Result<()> {
    let index = c.overview()?.index;
    let then = Moment::now();
    c.node(victim).power_off()?;
    let events = recovered(c, victim, then, index, &["began ok", "failed ok", "began ok", "proven"])?;
    let name = c.node(first).name();
    let failed = failure(&events, "ok")?;
    let words = format!("/usr/sbin/fence_bad is not installed on {name}");
    ensure!(failed.contains(&words), "{failed}");
    let began: Vec<&Change> = events.iter().filter(|event| event.kind == "fence-began").collect();
    ensure!(
        matches!(&began[..], [one, two] if one.text.starts_with(&name) && !two.text.starts_with(&name)),
        "who ran it? {began:#?}"
    );
    Ok(())
}

/// Told when it is configured, and red before any crash.
fn helper_missing(c: &Cluster) -> Result<()> {
    let right = c.settings();
    let wrong = right.replace("power_wait = \"0\"", "power_wait = \"0\", ipmitool_path = \"/nonexistent\"");
    ensure!(wrong != right, "the settings have no options: {right}");
    let asked = c.anybody()?;
    c.node(asked).write("/root/cluster.toml", &wrong)?;
    let told = c.run(asked, "convoke config apply /root/cluster.toml")?;
    let words = "fence_ipmilan calls /nonexistent, which is not on this node";
    ensure!(told.ok() && unwrapped(&format!("{} {}", told.stdout, told.stderr)).contains(words), "{told:?}");
    let error = "status exited with status 1: Ipmitool not found or not accessible";
    c.until("every node is red", LATE, |now| {
        now.nodes.iter().all(|node| {
            let alarm = format!("bmc-{0} does not see {0} as running: {error}", node.name);
            node.fencing == "unready"
                && node.fencing_error.as_deref() == Some(error)
                && now.alarms.iter().any(|one| one.severity == "alert" && one.text.contains(&alarm))
        })
    })?;
    c.configure(&right)?;
    c.until("every node is green", LATE, |now| {
        now.fences.is_empty() && now.nodes.iter().all(|node| node.fencing == "ready")
    })
    .map(drop)
}

/// It has its time, and whoever waits for something else does not wait for it.
fn slow(c: &Cluster) -> Result<()> {
    c.install(&UnitFile::new(OTHER).key("Replicas=1"))?;
    let leader = c.leader()?;
    let victim = victim(c, &[&["off:slow"]], 70)?;
    let name = c.node(victim).name();
    c.run_unit(OTHER, leader)?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    let runs = |now: &Overview| now.fence(&name).is_some_and(|fence| fence.state == "running");
    let now = c.until("the agent runs", LATE, runs)?;
    let text = now.fence(&name).map(|fence| fence.text.clone()).unwrap_or_default();
    ensure!(text.starts_with(&format!("{name} is being fenced by off-slow, run on n")), "{text}");
    let killed = Moment::now();
    c.ok(leader, &format!("systemctl kill --kill-who=main --signal=KILL {OTHER}"))?;
    c.next_life(OTHER, killed, S(10))?;
    c.stays_silent(UNIT, S(40))?;
    c.until("the agent still runs", S(5), runs)?;
    recovered(c, victim, then, index, &["began off-slow", "proven"])?;
    c.never_twice(OTHER)?;
    let asked = c.anybody()?;
    c.ok(asked, &format!("convoke reset-failed {OTHER}"))?;
    c.ok(asked, &format!("convoke stop {OTHER}")).map(drop)
}

/// One device refuses, one says on and leaves it off: each is tried five times in a minute and a quarter. Nothing waits for it.
fn not_switched_on(c: &Cluster) -> Result<()> {
    let victim = c.follower(&[])?;
    let name = c.node(victim).name();
    let document = settings(c, victim, &[&["on:fail", "on:lie"]], DEADLINE_S);
    placed(c, victim, &format!("after_fence = \"on\"\n{document}"))?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    recovered(c, victim, then, index, &["began on-fail and on-lie", "proven"])?;
    let home = c.beat(UNIT).context("it does not run")?;
    c.heal(victim)?;
    c.always("it stays off", S(70), || Ok(!c.node(victim).is_on()))?;
    let (again, last) = ("; it is tried again", "; nobody tries it any more");
    let events = c.wait_for("both are given up", LATE, || {
        let events = c.events_after(index)?;
        let given_up = events.iter().filter(|event| event.text.ends_with(last)).count();
        Ok((given_up == 2).then_some(events))
    })?;
    let cases = [
        ("on-fail", "on exited with status 1: Failed: the power switch did not answer"),
        ("on-lie", "it said on, and then its status said off"),
    ];
    for (device, why) in cases {
        let said = format!("{device} did not switch {name} on again: {why}");
        let tried = events.iter().filter(|event| event.kind == "not-switched-on");
        let tried: Vec<&str> = tried.filter_map(|event| event.text.strip_prefix(&said)).collect();
        ensure!(tried == [again, again, again, again, last], "{device}: {tried:?} in {events:#?}");
        let alarm = format!("{name} stays off: {device} could not switch it on ({why})");
        c.until(&format!("`{alarm}`"), LATE, |now| now.alarms_with(&[alarm.as_str()]))?;
    }
    // A person does it; the unit stays where it went.
    c.node(victim).boot()?;
    c.until("it is back", LATE, |now| now.online(&name) && !now.alarms_with(&["could not switch it on"]))?;
    let beat = c.beat(UNIT).context("it does not run")?;
    ensure!((beat.pid, &beat.node) == (home.pid, &home.node), "it was {home:?}, and is {beat:?}");
    c.never_twice(UNIT)
}

/// F18: the node is heard after its proof. For its next life the device says off too, and is passed over.
fn liar(c: &Cluster) -> Result<()> {
    let victim = victim(c, &[&["liar"]], DEADLINE_S)?;
    let name = c.node(victim).name();
    let lie = c.lab.shared().join(format!("fence_bad.lied-{name}"));
    let life = c.node(victim).boot_id()?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name && c.node(victim).is_on(), "nothing to lie about: {beat:?}");
    let told = story(&c.events_after(index)?);
    ensure!(told == ["began liar", "proven"], "{told:?}");
    c.heal(victim)?;
    c.until("an alarm says that the proof was contradicted", LATE, |now| {
        now.alarms_with(&[name.as_str(), "proven off", "spoke"])
    })?;
    // That life ends by its own hand or by the controller's, whichever is first.
    c.wait_for("its next life is online", S(60), || {
        if !c.node(victim).is_on() {
            c.node(victim).power_on()?;
        }
        let now = c.overview()?;
        let calm = now.node(&name).is_some_and(|node| node.state == "online" && node.quarantine_s.is_none());
        Ok((calm && now.fences.is_empty() && c.node(victim).boot_id()? != life).then_some(()))
    })?;
    // At the end of its lease it had stopped the unit by itself, so even this lie did no harm.
    c.never_twice(UNIT)?;
    c.until("the liar does not count for it", LATE, |now| {
        let devices = now.node(&name).map(|node| &node.devices);
        let is = |device: &str, state: &str| {
            devices.into_iter().flatten().any(|one| one.name == device && one.state == state)
        };
        is("liar", "unready")
            && is(&format!("bmc-{name}"), "ready")
            && now.alarms_with(&["liar does not see", name.as_str(), "has no power: wrong plug?"])
    })?;
    c.run_unit(UNIT, victim)?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.node(victim).power_off()?;
    recovered(c, victim, then, index, &["began bmc-NODE", "proven"])?;
    fs::remove_file(&lie).context("it did not lie")
}
