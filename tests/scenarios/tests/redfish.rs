//! An unmodified `fence_redfish` at a real Redfish service over HTTPS, with other devices behind it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{BMC_PASSWORD, BMC_USER, Fault, Protocol};
use scenarios::{Change, Cluster, Gauge, Moment, Plan, run, say, unwrapped};

const UNIT: &str = "witness.service";
const LATE: Duration = Duration::from_secs(60);
const S: fn(u64) -> Duration = Duration::from_secs;
/// Deadline of a call. The agent has none of its own; a call takes a second, or some on a busy machine.
const DEADLINE: Duration = Duration::from_secs(10);
/// The file with the right password, and one with another.
const SECRET: &str = "/etc/convoke/secrets/bmc";
const WRONG: &str = "/etc/convoke/secrets/wrong";
const WRONG_PASSWORD: &str = "n0t-this-0ne";
/// Counts the agents that run, and not itself.
const AGENTS: &str = "pgrep -c -f '/usr/sbin/[f]ence_redfish'";

#[test]
fn a_redfish_service_proves_a_node_off_or_the_next_level_does() -> Result<()> {
    run("redfish", Plan::three(), |scenario| {
        scenario.part("settings without `systems_uri` are refused", refused);
        scenario.part("a frozen node", frozen);
        scenario.part("a node without power", without_power);
        scenario.part("a node that is back while it is fenced", back_meanwhile);
        scenario.part("a service that accepts and never answers", never_answers);
        scenario.part("a service that answers the reset with an error", answers_with_an_error);
        scenario.part("a controller that dies with its machine", dies_with_its_machine);
        scenario.part("a service that says off and leaves it on", lies);
        scenario.part("a wrong password, certificate or address before any crash", red_before_the_crash);
    })
}

/// What is behind the Redfish services.
#[derive(Clone, Copy)]
enum Behind {
    Nothing,
    /// The same controllers, by IPMI.
    Ipmi,
    /// The only feed, by SNMP.
    Feed,
}

fn settings(c: &Cluster, behind: Behind) -> String {
    let mut text = match behind {
        Behind::Ipmi => c.settings().replace("\nagent = ", "\nlevel = 2\nagent = "),
        Behind::Nothing | Behind::Feed => "quarantine = \"3s\"\n".to_owned(),
    };
    for node in c.nodes() {
        let (name, redfish) = (node.name(), c.lab.redfish(node.index()));
        text.push_str(&format!(
            "\n[fence.redfish-{name}]\nagent = \"fence_redfish\"\n\
             targets = {{ {name} = {{ ip = \"{}\", systems_uri = \"{}\" }} }}\n\
             options = {{ username = \"{BMC_USER}\", ssl_insecure = \"1\", power_timeout = \"3\" }}\n\
             secrets = {{ password = \"{SECRET}\" }}\ntimeout = \"{}s\"\n",
            redfish.address(),
            redfish.systems_uri(),
            DEADLINE.as_secs(),
        ));
    }
    if matches!(behind, Behind::Feed) {
        let targets: Vec<String> =
            c.nodes().iter().map(|node| format!("{0} = {{ plug = \"{0}\" }}", node.name())).collect();
        text.push_str(&format!(
            "\n[fence.feed]\nagent = \"fence_apc_snmp\"\nlevel = 2\ntargets = {{ {} }}\n\
             options = {{ ip = \"{}\", snmp_version = \"1\", community = \"{}\" }}\ntimeout = \"15s\"\n",
            targets.join(", "),
            c.lab.pdu(1).address(),
            lab::PDU_COMMUNITY,
        ));
    }
    text
}

/// Every device seen to work for every node; the unit on a node that does not lead.
fn placed(c: &Cluster, behind: Behind) -> Result<usize> {
    for node in c.nodes() {
        c.lab.redfish(node.index()).start()?;
    }
    if matches!(behind, Behind::Feed) {
        c.lab.pdu(1).start()?;
    }
    c.configure(&settings(c, behind))?;
    let count = if matches!(behind, Behind::Nothing) { 1 } else { 2 };
    c.until("every device has shown every node", LATE, |now| {
        now.nodes
            .iter()
            .all(|node| node.devices.len() == count && node.devices.iter().all(|one| one.state == "ready"))
    })?;
    let victim = c.follower(&[])?;
    c.run_unit(UNIT, victim)?;
    Ok(victim)
}

/// What the node's controller was told, as `redfish power 0`.
fn told(c: &Cluster, victim: usize) -> Vec<String> {
    let (name, begun) = (c.node(victim).name(), c.begun().0);
    let events = c.lab.power_events().into_iter().filter(|e| e.node == name && e.at_ns >= begun);
    let word = |by| if by == Protocol::Redfish { "redfish" } else { "ipmi" };
    events.map(|e| format!("{} {}", word(e.by), e.command)).collect()
}

/// The fence events since an index.
fn fences(c: &Cluster, index: u64) -> Result<Vec<Change>> {
    Ok(c.events_after(index)?.into_iter().filter(|event| event.kind.starts_with("fence-")).collect())
}

/// It runs elsewhere, and the fence went level by level: `began redfish-n2`, …
fn recovered(c: &Cluster, victim: usize, then: Moment, index: u64, expected: &[&str]) -> Result<Vec<Change>> {
    let name = c.node(victim).name();
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it runs on the fenced node");
    ensure!(!c.node(victim).is_on(), "it started while {name} was on");
    say(&format!("          it ran again {:.1?} after the loss", beat.since.since(then)));
    let events = fences(c, index)?;
    let word = |event: &Change| {
        let device = event.text.split_once(" by ").map_or("", |(_, rest)| rest);
        let device = device.split([' ', ':']).next().unwrap_or_default();
        match event.kind.as_str() {
            "fence-began" => Some(format!("began {device}")),
            "fence-failed" => Some(format!("failed {device}")),
            "fence-proven" => Some("proven".to_owned()),
            _ => None,
        }
    };
    let went: Vec<String> = events.iter().filter_map(word).collect();
    let expected: Vec<String> = expected.iter().map(|line| line.replace("NODE", &name)).collect();
    ensure!(went == expected, "the fence went otherwise: {went:?}, not {expected:?}: {events:#?}");
    c.never_twice(UNIT)?;
    Ok(events)
}

/// Without it the agent takes the last system behind the controller for the node.
fn refused(c: &Cluster) -> Result<()> {
    let document = settings(c, Behind::Nothing);
    let uri = format!(", systems_uri = \"{}\"", c.lab.redfish(2).systems_uri());
    let without = document.replace(&uri, "");
    ensure!(without != document, "the settings do not have {uri}");
    let before = c.ok(1, "convoke config show")?;
    let refused = c.configure(&without).err().context("taken without a word")?;
    let text = format!("{refused:#}");
    for words in [
        "fence_redfish without `systems_uri` may switch off another system",
        "n2 = { systems_uri = \"/redfish",
    ] {
        ensure!(text.contains(words), "not `{words}`: {text}");
    }
    let after = c.ok(1, "convoke config show")?;
    ensure!(before == after && !after.contains("redfish"), "half of it is in force: {after}");
    Ok(())
}

fn frozen(c: &Cluster) -> Result<()> {
    let victim = placed(c, Behind::Nothing)?;
    let name = c.node(victim).name();
    let index = c.overview()?.index;
    let then = Moment::now();
    c.freeze(victim)?;
    let events = recovered(c, victim, then, index, &["began redfish-NODE", "proven"])?;
    let at = |kind: &str| events.iter().find(|e| e.kind == kind).map(|e| e.time_ms).context("no such event");
    let took = Duration::from_millis(at("fence-proven")? - at("fence-began")?);
    Gauge::once("fence_redfish, from its start to the proof", S(3), took).judge()?;
    ensure!(told(c, victim) == ["redfish power 0"], "{:?}", told(c, victim));
    let history =
        c.ok(c.anybody()?, &format!("convoke fence history {name} --device redfish-{name} --json"))?;
    ensure!(history.contains("fence-proven"), "the history of the device has no proof: {history}");
    comes_back(c, victim)
}

/// In its next life it knows how the last one ended.
fn comes_back(c: &Cluster, victim: usize) -> Result<()> {
    let name = c.node(victim).name();
    c.node(victim).boot()?;
    let end = c.back(victim, LATE)?;
    ensure!(end.how == "fenced" && end.device == Some(format!("redfish-{name}")), "{end:?}");
    c.never_twice(UNIT)
}

/// Its controller has power of its own and says off: the agent has nothing to switch.
fn without_power(c: &Cluster) -> Result<()> {
    let victim = placed(c, Behind::Nothing)?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.node(victim).power_off()?;
    recovered(c, victim, then, index, &["began redfish-NODE", "proven"])?;
    ensure!(told(c, victim).is_empty(), "{:?}", told(c, victim));
    comes_back(c, victim)
}

/// F31: it is heard again before its controller has done what it was told, gets nothing, and is off at the end.
fn back_meanwhile(c: &Cluster) -> Result<()> {
    let victim = placed(c, Behind::Nothing)?;
    let name = c.node(victim).name();
    c.lab.redfish(victim).set_faults(&[Fault::Slow(4)])?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    c.wait_for("the controller was told to switch off", LATE, || {
        Ok((!told(c, victim).is_empty()).then_some(()))
    })?;
    c.heal(victim)?;
    let events = c.until_event(index, "fence-proven", LATE)?;
    let proven = events.iter().position(|event| event.kind == "fence-proven").unwrap_or(events.len());
    let its = |kind: &str| {
        let before = events.iter().take(proven);
        before.filter(|event| event.kind == kind && event.node.as_ref() == Some(&name)).count()
    };
    ensure!(its("node-returned") > 0, "{name} was not heard before it was off: {events:#?}");
    ensure!(its("unit-granted") == 0, "{name} got a permit while it was being fenced: {events:#?}");
    ensure!(!c.node(victim).is_on(), "it was proven off, and is on");
    // Once heard it may have said itself that it had stopped the unit: that is evidence too.
    let beat = c.next_life(UNIT, then, LATE)?;
    ensure!(beat.node != name, "it runs on the fenced node");
    ensure!(told(c, victim) == ["redfish power 0"], "{:?}", told(c, victim));
    comes_back(c, victim)
}

/// The agent would wait for ever: its deadline ends it, with all of its group.
fn never_answers(c: &Cluster) -> Result<()> {
    let victim = placed(c, Behind::Ipmi)?;
    c.lab.redfish(victim).set_faults(&[Fault::Hang])?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    let agents = || -> Result<usize> {
        let mut found = 0;
        for node in c.nodes().iter().filter(|node| node.index() != victim) {
            found += node.run(AGENTS)?.stdout.trim().parse::<usize>()?;
        }
        Ok(found)
    };
    c.wait_for("the agent waits for an answer", LATE, || Ok((agents()? > 0).then_some(())))?;
    c.says_that_it_is_fenced(UNIT, victim, &format!("redfish-{}", c.node(victim).name()))?;
    let expected = ["began redfish-NODE", "failed redfish-NODE", "began bmc-NODE", "proven"];
    let events = recovered(c, victim, then, index, &expected)?;
    let failed = events.iter().find(|e| e.kind == "fence-failed").context("nothing failed")?;
    let began = events.iter().find(|e| e.kind == "fence-began").context("nothing began")?;
    ensure!(failed.text.contains("did not end within"), "{}", failed.text);
    let lasted = Duration::from_millis(failed.time_ms - began.time_ms);
    ensure!(lasted + S(1) > DEADLINE, "it was given up after {lasted:?}, before its deadline");
    Gauge::once("a call that hangs, until it is given up", DEADLINE + S(1), lasted).judge()?;
    c.wait_for("no agent is left", LATE, || Ok((agents()? == 0).then_some(())))?;
    ensure!(told(c, victim) == ["ipmi power 0"], "{:?}", told(c, victim));
    Ok(())
}

/// The agent does not look at what became of its request: only that the node goes on says that nothing did.
fn answers_with_an_error(c: &Cluster) -> Result<()> {
    let victim = placed(c, Behind::Ipmi)?;
    c.lab.redfish(victim).set_faults(&[Fault::FailOff])?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.freeze(victim)?;
    c.says_that_it_is_fenced(UNIT, victim, &format!("redfish-{}", c.node(victim).name()))?;
    let expected = ["began redfish-NODE", "failed redfish-NODE", "began bmc-NODE", "proven"];
    recovered(c, victim, then, index, &expected)?;
    ensure!(told(c, victim) == ["redfish power 0", "ipmi power 0"], "{:?}", told(c, victim));
    Ok(())
}

fn dies_with_its_machine(c: &Cluster) -> Result<()> {
    let victim = placed(c, Behind::Feed)?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.lab.bmc(victim).stop()?;
    c.node(victim).power_off()?;
    let expected = ["began redfish-NODE", "failed redfish-NODE", "began feed", "proven"];
    recovered(c, victim, then, index, &expected)?;
    ensure!(!c.lab.pdu(1).is_on(victim), "the feed that proved it is on");
    Ok(())
}

/// A drill finds it out, and the level counts for nothing until one passes.
fn lies(c: &Cluster) -> Result<()> {
    let victim = placed(c, Behind::Ipmi)?;
    let name = c.node(victim).name();
    let from = c.leader()?;
    c.ok(from, &format!("convoke drain {name}"))?;
    let drill = format!("convoke fence test {name} --level 1 --yes --timeout 3min");
    c.lab.redfish(victim).set_faults(&[Fault::LieOff])?;
    let lied = c.run(from, &drill)?;
    let words = format!("redfish-{name} said off, and {name} went on");
    ensure!(!lied.ok() && lied.stderr.contains(&words), "not `{words}`: {lied:?}");
    ensure!(c.node(victim).is_on(), "{name} was switched off");
    let doubted = || -> Result<bool> {
        Ok(c.ok(from, "convoke fence")?.contains("this level does not count before a drill of it passes"))
    };
    ensure!(doubted()?, "the level that lied counts");
    c.lab.redfish(victim).set_faults(&[])?;
    let boots = c.node(victim).boots().len();
    c.wait_for("a drill passes", LATE, || Ok(c.run(from, &drill)?.ok().then_some(())))?;
    c.node(victim).wait_boots(boots + 1, S(1))?;
    ensure!(!doubted()?, "the level counts for nothing, though its drill has passed");
    let expected = ["redfish power 0", "redfish power 0", "redfish power 1"];
    ensure!(told(c, victim) == expected, "{:?}", told(c, victim));
    c.ok(from, &format!("convoke undrain {name}")).map(drop)
}

/// What would fail in the crash is red before it; and the passwords are where they were put, and nowhere else.
fn red_before_the_crash(c: &Cluster) -> Result<()> {
    for node in c.nodes() {
        node.write(WRONG, format!("{WRONG_PASSWORD}\n"))?;
        node.run_ok(&format!("chmod 600 {WRONG}"))?;
    }
    let victim = placed(c, Behind::Nothing)?;
    let right = settings(c, Behind::Nothing);
    let cases = [
        (SECRET, WRONG, "Unable to get PowerState"),
        (", ssl_insecure = \"1\"", "", "certificate verify failed"),
        ("Systems/n", "Systems/m", "Unable to get PowerState"),
    ];
    for (from, to, error) in cases {
        let wrong = right.replace(from, to);
        ensure!(wrong != right, "the settings do not have {from}");
        c.configure(&wrong)?;
        c.until(&format!("every node is red for `{error}`"), LATE, |now| {
            let red = |node: &scenarios::NodeStatus| {
                let device = format!("redfish-{}", node.name);
                node.fencing == "unready"
                    && node.fencing_error.as_ref().is_some_and(|shown| shown.contains(error))
                    && now.alarms.iter().any(|a| a.severity == "alert" && a.text.contains(&device))
            };
            now.nodes.iter().all(red) && now.fences.is_empty()
        })?;
        let shown = unwrapped(&c.ok(victim, "convoke status")?);
        ensure!(shown.contains("redfish-n1 does not see n1") && shown.contains(error), "{shown}");
        secret(c)?;
        c.configure(&right)?;
        c.until("it is green again", LATE, |now| {
            now.alarms.is_empty() && now.nodes.iter().all(|node| node.fencing == "ready")
        })?;
    }
    // While agents wait for an answer, their command lines and their units can be read.
    for node in c.nodes() {
        c.lab.redfish(node.index()).set_faults(&[Fault::Hang])?;
    }
    c.configure(&right.replace("power_timeout = \"3\"", "power_timeout = \"4\""))?;
    let waiting = c.wait_for("an agent waits for an answer", LATE, || {
        let runs = |i: &usize| c.run(*i, AGENTS).is_ok_and(|out| out.ok());
        Ok((1..=3).find(runs))
    })?;
    secret(c)?;
    let still = c.run(waiting, AGENTS)?;
    ensure!(still.ok(), "no agent was left to look at");
    for node in c.nodes() {
        ensure!(told(c, node.index()).is_empty(), "{:?}", told(c, node.index()));
        c.lab.redfish(node.index()).set_faults(&[])?;
    }
    c.configure(&right)?;
    c.never_twice(UNIT)
}

/// Files, command lines, environments, the journal, systemd's properties and the cluster's own words.
fn secret(c: &Cluster) -> Result<()> {
    let look = "cat >/root/words; cd /; \
        grep -rlsaF -D skip -f /root/words etc run tmp var/lib/convoke var/log proc/[0-9]*/cmdline proc/[0-9]*/environ; \
        said() { name=$1; shift; \"$@\" 2>&1 | grep -qaF -f /root/words && echo \"$name\"; }; \
        said journal journalctl --no-pager -o export; said properties systemctl show '*'; \
        said status convoke status --json; said events convoke events -n 2000 --json; \
        said settings convoke config show; said history convoke fence history; \
        said control cat /etc/convoke/secrets/wrong; rm /root/words";
    for node in c.nodes() {
        let found = node.feed(look, format!("{BMC_PASSWORD}\n{WRONG_PASSWORD}\n").as_bytes())?;
        let mut places: Vec<&str> = found.stdout.lines().collect();
        places.sort_unstable();
        let expected = ["control", SECRET.trim_start_matches('/'), WRONG.trim_start_matches('/')];
        ensure!(
            places == expected,
            "{}: the passwords are to be read in {places:?}{}",
            node.name(),
            found.stderr
        );
    }
    Ok(())
}
