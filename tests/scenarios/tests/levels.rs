//! Fence levels on real protocols: a management controller (IPMI), and two feeds through switched power strips (SNMP).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Fault;
use scenarios::{Change, Cluster, Moment, Plan, run, unwrapped};

/// What has a file of its own.
mod levels {
    pub(crate) mod shown;
}

const UNIT: &str = "witness.service";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;
const FEEDS: [usize; 2] = [1, 2];

#[test]
fn the_next_level_proves_what_the_first_one_cannot() -> Result<()> {
    run("levels", Plan::three(), |scenario| {
        // Before the others: a node that was fenced three times of late stays off.
        scenario.part("a fenced node that is to come back", comes_back);
        scenario.part("a node that is fenced again and again", fenced_again_and_again);
        scenario.part("a drill", drill);
        scenario.part("a controller that dies with its machine", controller_dies_too);
        scenario.part("a controller that does nothing, at a node that lives", controller_does_nothing);
        scenario.part("half a level, whose feed comes back", half_a_level);
        scenario.part("half a level, and the node is back meanwhile", back_meanwhile);
        scenario.part("one feed alone proves nothing", one_feed_alone);
        scenario.part("a strip that takes the command and does nothing", strip_ignores);
        scenario.part("a frozen node between two feeds", frozen);
        scenario.part("what each device shows, and what is said of it", levels::shown::said_of_devices);
        scenario.part("strips that list their outlets", levels::shown::listed);
    })
}

/// The settings with both kinds of devices; `more` is put before the tables.
fn settings(c: &Cluster, controllers: u32, feeds: u32, more: &str) -> String {
    let text = format!("{more}\n{}", c.settings());
    let text = text.replace(
        "\nagent = \"fence_ipmilan\"",
        &format!("\nlevel = {controllers}\nagent = \"fence_ipmilan\""),
    );
    let targets: Vec<String> =
        c.nodes().iter().map(|node| format!("{0} = {{ plug = \"{0}\" }}", node.name())).collect();
    text + &strips(c, feeds, &format!("{{ {} }}", targets.join(", ")))
}

/// The tables of both strips, with these targets.
fn strips(c: &Cluster, level: u32, targets: &str) -> String {
    let strip = |feed: usize| {
        format!(
            "\n[fence.feed-{feed}]\nagent = \"fence_apc_snmp\"\nlevel = {level}\ntargets = {targets}\n\
             options = {{ ip = \"{}\", snmp_version = \"1\", community = \"{}\" }}\ntimeout = \"15s\"\n",
            c.lab.pdu(feed).address(),
            lab::PDU_COMMUNITY,
        )
    };
    FEEDS.map(strip).concat()
}

/// Power everywhere, both kinds of devices seen to work for every node; the unit on a node that does not lead.
fn placed(c: &Cluster, controllers: u32, feeds: u32, more: &str) -> Result<usize> {
    placed_by(c, &settings(c, controllers, feeds, more))
}

fn placed_by(c: &Cluster, document: &str) -> Result<usize> {
    for feed in FEEDS {
        c.lab.pdu(feed).start()?;
    }
    c.configure(document)?;
    ready(c, 3)?;
    let victim = c.follower(&[])?;
    c.run_unit(UNIT, victim)?;
    Ok(victim)
}

/// Each node has so many devices, and each of them has shown it.
fn ready(c: &Cluster, devices: usize) -> Result<()> {
    let shown = |node: &scenarios::NodeStatus| {
        node.devices.len() == devices && node.devices.iter().all(|device| device.state == "ready")
    };
    c.until("every device has shown every node", LATE, |now| now.nodes.iter().all(shown)).map(drop)
}

/// The fence events since an index, as `began bmc-n1`, `failed bmc-n1`, `proven`.
fn story(c: &Cluster, index: u64) -> Result<Vec<String>> {
    let word = |event: &Change| {
        let device = |before: &str| {
            let (_, rest) = event.text.split_once(before)?;
            Some(rest.split(" (").next()?.split(" failed").next()?.to_owned())
        };
        match event.kind.as_str() {
            "fence-began" | "fence-failed" => {
                Some(format!("{} {}", event.kind.trim_start_matches("fence-"), device(" by ")?))
            }
            "fence-proven" => Some("proven".to_owned()),
            _ => None,
        }
    };
    Ok(c.events_after(index)?.iter().filter_map(word).collect())
}

fn recovered(c: &Cluster, victim: usize, then: Moment, index: u64, expected: &[&str]) -> Result<()> {
    let name = c.node(victim).name();
    let beat = c.next_life(UNIT, then, S(60))?;
    ensure!(beat.node != name, "it runs on the fenced node");
    let told = story(c, index)?;
    let expected: Vec<String> = expected.iter().map(|line| line.replace("NODE", &name)).collect();
    ensure!(told == expected, "the fence went otherwise: {told:?}, not {expected:?}");
    c.never_twice(UNIT)
}

fn cords(c: &Cluster, victim: usize) -> [bool; 2] {
    FEEDS.map(|feed| c.lab.pdu(feed).is_on(victim))
}

fn controller_dies_too(c: &Cluster) -> Result<()> {
    let victim = placed(c, 1, 2, "")?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.lab.bmc(victim).stop()?;
    c.node(victim).power_off()?;
    recovered(
        c,
        victim,
        then,
        index,
        &["began bmc-NODE", "failed bmc-NODE", "began feed-1 and feed-2", "proven"],
    )?;
    ensure!(cords(c, victim) == [false, false], "the feeds that proved it are on: {:?}", cords(c, victim));
    c.lab.bmc(victim).start()
}

/// The agent gives up before it is cut off, and says why.
fn controller_does_nothing(c: &Cluster) -> Result<()> {
    let polls = "power_wait = \"0\", power_timeout = \"3\"";
    let victim = placed_by(c, &settings(c, 1, 2, "").replace("power_wait = \"0\"", polls))?;
    c.bmc_faults(victim, &[Fault::IgnoreOff])?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    c.says_that_it_is_fenced(UNIT, victim, &format!("bmc-{}", c.node(victim).name()))?;
    recovered(
        c,
        victim,
        then,
        index,
        &["began bmc-NODE", "failed bmc-NODE", "began feed-1 and feed-2", "proven"],
    )?;
    ensure!(!c.node(victim).is_on(), "the node lives");
    let events = c.events_after(index)?;
    let failed = events.iter().find(|event| event.kind == "fence-failed").context("nothing failed")?;
    let words = "off exited with status 1: Failed: Timed out waiting to power OFF";
    ensure!(failed.text.contains(words), "{}", failed.text);
    c.bmc_faults(victim, &[])
}

/// Feed 1 goes off, feed 2's strip does not answer; the controller proves the node off, and feed 1 comes back.
fn half_a_level(c: &Cluster) -> Result<()> {
    let victim = placed(c, 2, 1, "")?;
    let name = c.node(victim).name();
    let index = c.overview()?.index;
    let then = Moment::now();
    c.lab.pdu(2).stop()?;
    c.cut(victim)?;
    c.wait_for("feed 1 was switched off", LATE, || Ok((!c.lab.pdu(1).is_on(victim)).then_some(())))?;
    c.says_that_it_is_fenced(UNIT, victim, "feed-1 and feed-2")?;
    recovered(
        c,
        victim,
        then,
        index,
        &["began feed-1 and feed-2", "failed feed-1 and feed-2", "began bmc-NODE", "proven"],
    )?;
    c.wait_for("feed 1 is on again", LATE, || Ok(c.lab.pdu(1).is_on(victim).then_some(())))?;
    let told = c.until_event(index, "switched-on", S(10))?;
    let told = told.iter().find(|event| event.kind == "switched-on").context("no event of it")?;
    ensure!(told.text.contains(&format!("{name} has its power back by feed-1")), "{}", told.text);
    // Nobody asked for the node itself: its controller keeps it off.
    ensure!(!c.node(victim).is_on(), "the node was switched on");
    c.lab.pdu(2).start()
}

/// It is heard while the second strip does not answer: that level fails, nobody goes on to the next one, and the node, which lived through it by
/// one cord, has power by both again.
fn back_meanwhile(c: &Cluster) -> Result<()> {
    let victim = placed(c, 2, 1, "")?;
    let name = c.node(victim).name();
    let (boots, index) = (c.node(victim).boots().len(), c.overview()?.index);
    let then = Moment::now();
    c.lab.pdu(2).stop()?;
    c.cut(victim)?;
    c.wait_for("feed 1 was switched off", LATE, || Ok((!c.lab.pdu(1).is_on(victim)).then_some(())))?;
    c.heal(victim)?;
    c.until("it is back, and the case is closed", LATE, |now| now.online(&name) && now.fences.is_empty())?;
    c.next_life(UNIT, then, LATE)?;
    c.wait_for("feed 1 is on again", LATE, || Ok(c.lab.pdu(1).is_on(victim).then_some(())))?;
    let told = story(c, index)?;
    ensure!(
        told == ["began feed-1 and feed-2", "failed feed-1 and feed-2"],
        "the fence went otherwise: {told:?}"
    );
    let events = c.events_after(index)?;
    let at = |kind: &str| events.iter().find(|event| event.kind == kind).map(|event| event.index);
    let (back, failed) = (at("node-returned").context("it was not heard")?, at("fence-failed"));
    ensure!(failed > Some(back), "it was back only after the attempt: {events:#?}");
    // It had stopped the unit at the end of its lease, and says so: nothing else has ended its permit.
    ensure!(at("unit-granted") > Some(back), "the unit was granted before its node was heard: {events:#?}");
    ensure!(c.node(victim).boots().len() == boots && c.node(victim).is_on(), "{name} was switched off");
    ensure!(c.power_commands(victim).is_empty(), "{:?}", c.power_commands(victim));
    c.lab.pdu(2).start()?;
    c.never_twice(UNIT)
}

/// One of two strips answers and switches nothing: that level fails, and the node's other feed comes back.
fn strip_ignores(c: &Cluster) -> Result<()> {
    let polls = "snmp_version = \"1\", power_timeout = \"4\"";
    let victim = placed_by(c, &settings(c, 2, 1, "").replace("snmp_version = \"1\"", polls))?;
    c.lab.pdu(2).ignore()?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    c.wait_for("feed 1 was switched off", LATE, || Ok((!c.lab.pdu(1).is_on(victim)).then_some(())))?;
    c.says_that_it_is_fenced(UNIT, victim, "feed-1 and feed-2")?;
    let expected = ["began feed-1 and feed-2", "failed feed-1 and feed-2", "began bmc-NODE", "proven"];
    recovered(c, victim, then, index, &expected)?;
    let events = c.events_after(index)?;
    let failed = events.iter().find(|event| event.kind == "fence-failed").context("nothing failed")?;
    let words = "feed-2: off exited with status 1: Failed: Timed out waiting to power OFF";
    ensure!(failed.text.contains(words), "{}", failed.text);
    ensure!(c.lab.pdu(2).is_on(victim), "the strip that ignores its commands has switched {victim} off");
    c.wait_for("feed 1 is on again", LATE, || Ok(c.lab.pdu(1).is_on(victim).then_some(())))?;
    c.lab.restore_feeds();
    Ok(())
}

/// The feeds do not ask what still runs. With both back it boots, and is told.
fn frozen(c: &Cluster) -> Result<()> {
    let victim = placed(c, 2, 1, "")?;
    let name = c.node(victim).name();
    let index = c.overview()?.index;
    let then = Moment::now();
    c.freeze(victim)?;
    recovered(c, victim, then, index, &["began feed-1 and feed-2", "proven"])?;
    ensure!(!c.node(victim).is_on() && cords(c, victim) == [false, false], "{:?}", cords(c, victim));
    ensure!(c.power_commands(victim).is_empty(), "{:?}", c.power_commands(victim));
    c.lab.restore_feeds();
    c.node(victim).boot()?;
    c.until("it is back", LATE, |now| now.online(&name))?;
    told_what_happened(c, victim, "feed-1 and feed-2")?;
    c.never_twice(UNIT)
}

/// Both feeds are one level: off through one of them is no evidence, and the node that lives keeps its unit to itself.
fn one_feed_alone(c: &Cluster) -> Result<()> {
    let victim = placed(c, 1, 1, "")?;
    let name = c.node(victim).name();
    c.lab.pdu(2).stop()?;
    c.bmc_faults(victim, &[Fault::IgnoreOff])?;
    c.cut(victim)?;
    let now = c.until("the fence has failed", LATE, |now| {
        now.fence(&name).is_some_and(|fence| fence.attempts > 0 && fence.error.is_some())
    })?;
    let fence = now.fence(&name).context("no fence")?;
    ensure!(fence.text.contains("bmc-") && fence.text.contains("feed-1 and feed-2"), "{}", fence.text);
    c.says_why(UNIT, victim, "feed-1 and feed-2", &format!("fencing {name} by"))?;
    c.stays_silent(UNIT, S(6))?;
    let then = Moment::now();
    c.bmc_faults(victim, &[])?;
    c.lab.pdu(2).start()?;
    let beat = c.next_life(UNIT, then, S(90))?;
    ensure!(beat.node != name && !c.node(victim).is_on(), "{name} is on, or runs it");
    c.never_twice(UNIT)
}

fn comes_back(c: &Cluster) -> Result<()> {
    let victim = placed(c, 1, 2, "after_fence = \"on\"")?;
    let name = c.node(victim).name();
    let boots = c.node(victim).boots().len();
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    c.wait_for("the node is off", LATE, || Ok((!c.node(victim).is_on()).then_some(())))?;
    // The cable is mended while it is off.
    c.heal(victim)?;
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it runs on the fenced node");
    c.node(victim).wait_boots(boots + 1, LATE)?;
    c.until_event(index, "switched-on", S(10))?;
    c.until("it is back", LATE, |now| now.online(&name))?;
    // It came back as nothing but a node: the unit stays where it went.
    c.always("the unit stays where it went", S(3), || {
        Ok(c.beat(UNIT).is_some_and(|now| now.node == beat.node))
    })?;
    c.never_twice(UNIT)
}

/// It is told each time what happened, and passed over for a while; the third time it stays off, with an alarm, until a word.
fn fenced_again_and_again(c: &Cluster) -> Result<()> {
    let victim = placed(c, 1, 2, "after_fence = \"on\"")?;
    let name = c.node(victim).name();
    for time in 1..=3 {
        let boots = c.node(victim).boots().len();
        let then = Moment::now();
        c.cut(victim)?;
        c.wait_for("the node is off", LATE, || Ok((!c.node(victim).is_on()).then_some(())))?;
        c.heal(victim)?;
        let beat = c.next_life(UNIT, then, LATE)?;
        ensure!(beat.node != name, "it runs on the fenced node");
        if time == 3 {
            break;
        }
        c.node(victim).wait_boots(boots + 1, LATE)?;
        c.until("it is back", LATE, |now| now.online(&name))?;
        told_what_happened(c, victim, &format!("bmc-{name}"))?;
        if time == 2 {
            let shown = unwrapped(&c.ok(victim, "convoke status")?);
            ensure!(shown.contains("fell silent 2 times of late: takes nothing"), "{shown}");
        }
        // Whoever names it knows why.
        c.run_unit(UNIT, victim)?;
    }
    c.until("it is left off, with an alarm", S(10), |now| {
        let text = format!("{name} stays off: it was fenced 3 times within half an hour");
        now.alarms.iter().any(|alarm| alarm.severity == "alert" && alarm.text == text)
    })?;
    c.always("it stays off", S(8), || Ok(!c.node(victim).is_on()))?;
    let boots = c.node(victim).boots().len();
    let said = c.ok(c.anybody()?, &format!("convoke reset-failed {name}"))?;
    ensure!(said.contains("is switched on again"), "{said}");
    c.node(victim).wait_boots(boots + 1, LATE)?;
    c.until("it is back", LATE, |now| now.online(&name) && now.alarms.is_empty())?;
    c.never_twice(UNIT)
}

/// The first lines of its own journal, and its own `status`, say by which devices, run on whom, and for which unit.
fn told_what_happened(c: &Cluster, victim: usize, devices: &str) -> Result<()> {
    let name = c.node(victim).name();
    let end =
        c.overview()?.node(&name).and_then(|node| node.last_end.clone()).context("nothing of its end")?;
    let executor = end.executor.context("nobody ran the agent")?;
    let expected = format!(
        "its power was switched off by {devices}, run on {executor}, because {UNIT} waited for it; until then it may have \
         run {UNIT}"
    );
    ensure!(end.how == "fenced" && executor != name, "{} by {executor}", end.how);
    c.wait_for("its journal tells it what happened", S(10), || {
        let told = c.ok(victim, "journalctl -b -u convoked -o cat")?;
        let mut lines = told.lines();
        Ok(lines
            .any(|line| line.contains("this machine was fenced at ") && line.contains(&expected))
            .then_some(()))
    })?;
    let shown = unwrapped(&c.ok(victim, &format!("convoke status {name}"))?);
    ensure!(shown.contains(&expected), "{shown}");
    Ok(())
}

/// A node is switched off on purpose: never under its unit, through either level, and what fails or lies is told.
fn drill(c: &Cluster) -> Result<()> {
    let victim = placed(c, 1, 2, "")?;
    let name = c.node(victim).name();
    let from = c.leader()?;
    let test = format!("convoke fence test {name} --yes --timeout 3min");
    let fails = |words: &str| -> Result<()> {
        let told = c.wait_for("an attempt that was cut off strikes no more", LATE, || {
            let told = c.run(from, &test)?;
            Ok((!told.stderr.contains("a late power-off may still strike")).then_some(told))
        })?;
        ensure!(!told.ok() && told.stderr.contains(words), "not `{words}`: {told:?}");
        ensure!(c.node(victim).is_on(), "{name} was switched off");
        Ok(())
    };
    fails(&format!("`convoke drain {name}` first"))?;
    c.ok(from, &format!("convoke drain {name}"))?;
    for (level, devices) in [(1, format!("bmc-{name}")), (2, "feed-1 and feed-2".to_owned())] {
        let (boots, index) = (c.node(victim).boots().len(), c.overview()?.index);
        let told = c.ok(from, &format!("{test} --level {level}"))?;
        ensure!(told.contains(&format!("passed (level {level}, {devices}, off in ")), "{told}");
        c.node(victim).wait_boots(boots + 1, S(1))?;
        c.until_event(index, "fence-drill-ended", S(1))?;
        c.until("every device has shown its new life", LATE, |now| {
            now.node(&name).is_some_and(|node| node.devices.iter().all(|device| device.state == "ready"))
        })?;
    }
    ensure!(cords(c, victim) == [true, true], "a feed stayed off: {:?}", cords(c, victim));
    c.lab.bmc(victim).stop()?;
    fails(&format!("failed (level 1, bmc-{name})"))?;
    c.lab.bmc(victim).start()?;
    c.bmc_faults(victim, &[Fault::LieOff])?;
    fails(&format!("bmc-{name} said off, and {name} went on"))?;
    c.bmc_faults(victim, &[])?;
    let shown = c.ok(from, "convoke fence")?;
    ensure!(shown.contains("this level does not count before a drill of it passes"), "{shown}");
    // A drill that passes makes it count again.
    let (boots, index) = (c.node(victim).boots().len(), c.overview()?.index);
    c.wait_for("nothing strikes late any more", LATE, || {
        let told = c.run(from, &format!("{test} --level 1"))?;
        Ok(told.ok().then_some(()))
    })?;
    c.node(victim).wait_boots(boots + 1, S(1))?;
    c.until_event(index, "fence-drill-ended", S(1))?;
    let shown = c.ok(from, "convoke fence")?;
    ensure!(!shown.contains("this level does not count"), "{shown}");
    c.ok(from, &format!("convoke undrain {name}"))?;
    c.never_twice(UNIT)
}
