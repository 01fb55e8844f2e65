//! Devices that only cut a node off: a port of a managed switch by an unmodified `fence_ifmib` and real SNMP, and keys that each node
//! registers itself, by an agent with the metadata of `fence_scsi`.
//!
//! What is guarded is written over the network, to this test: a unit behind a shut port may run, and nothing that it sends arrives. That the
//! frozen copy did go on when it thawed is seen in a file of its own node.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{ExtraFile, Switch};
use scenarios::{Cluster, Moment, Plan, UnitFile, run};

const GUARDED: &str = "guarded.service";
const STRICT: &str = "witness.service";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn who_is_cut_off_writes_no_more_and_comes_back_by_a_new_life() -> Result<()> {
    let mut plan = Plan::three();
    plan.extra.push(ExtraFile::script("/usr/sbin/fence_keys", include_str!("isolation/fence_keys")));
    run("isolation", plan, |scenario| {
        scenario.part("a frozen node behind a shut port", behind_a_port);
        scenario.part("a node without power, whose next life is behind its port", without_power);
        scenario.part("a node that is cut off, and whose cable is mended behind its port", cut_off);
        scenario.part("a node that thaws before its port is shut", back_meanwhile);
        scenario.part("a port that does not exist", no_such_port);
        scenario.part("a node that lost its key, and is heard", without_its_key);
    })
}

/// What arrived of the guarded writes.
struct Writes {
    arrived: Arc<Mutex<Vec<(Moment, String)>>>,
    address: String,
}

impl Writes {
    fn listen(c: &Cluster) -> Result<Writes> {
        let socket = UdpSocket::bind((c.lab.host_address(), 0))?;
        let address = format!("{}/{}", c.lab.host_address(), socket.local_addr()?.port());
        let arrived: Arc<Mutex<Vec<(Moment, String)>>> = Arc::default();
        let into = Arc::clone(&arrived);
        std::thread::spawn(move || {
            let mut text = [0; 64];
            while let Ok(read) = socket.recv(&mut text) {
                let name = String::from_utf8_lossy(text.get(..read).unwrap_or_default()).trim().to_owned();
                let Ok(mut into) = into.lock() else { return };
                into.push((Moment::now(), name));
            }
        });
        Ok(Writes { arrived, address })
    }

    /// Those of a node, or of others than it, after a moment.
    fn after(&self, then: Moment, by: impl Fn(&str) -> bool) -> usize {
        self.all().iter().filter(|(at, name)| *at > then && by(name)).count()
    }

    /// Who wrote since a moment, one after another.
    fn turns(&self, then: Moment) -> Vec<String> {
        let mut names: Vec<String> =
            self.all().into_iter().filter(|(at, _)| *at > then).map(|(_, name)| name).collect();
        names.dedup();
        names
    }

    fn all(&self) -> Vec<(Moment, String)> {
        self.arrived.lock().map(|arrived| arrived.clone()).unwrap_or_default()
    }
}

/// A unit that writes to this test as long as `guard` holds on its node, and counts what it tries in `/run/guarded`.
fn guarded(writes: &Writes, guard: &str) -> UnitFile {
    let address = &writes.address;
    UnitFile::new(GUARDED)
        .fragment(&format!(
            "[Unit]\nDescription=Writes to what it shares\n[Service]\nTimeoutStopSec=2\n\
             ExecStart=/bin/bash -c 'n=$$(hostname); while :; do echo >>/run/guarded; {guard} echo $$n >/dev/udp/{address}; \
             sleep 0.02; done'\n"
        ))
        .key("Replicas=1")
        .key("Fencing=isolated")
}

fn configured(c: &Cluster, devices: &str) -> Result<()> {
    c.configure(&format!("quarantine = \"3s\"\n{devices}"))?;
    c.until("every node can be cut off", LATE, |now| {
        now.nodes
            .iter()
            .all(|node| node.devices.len() == 1 && node.devices.iter().all(|one| one.state == "ready"))
    })
    .map(drop)
}

fn tried(c: &Cluster, i: usize) -> Result<usize> {
    c.node(i).run_ok("wc -c </run/guarded")?.trim().parse().context("no count")
}

/// The settings with a port of the switch for every node.
fn ports(c: &Cluster, switch: &Switch) -> String {
    let targets: Vec<String> = c
        .nodes()
        .iter()
        .map(|node| format!("{} = {{ plug = \"{}\" }}", node.name(), Switch::port(node.index())))
        .collect();
    format!(
        "[fence.switch]\nagent = \"fence_ifmib\"\ntargets = {{ {} }}\n\
         options = {{ ip = \"{}\", snmp_version = \"2c\", community = \"{}\" }}\ntimeout = \"15s\"\n",
        targets.join(", "),
        switch.address(),
        lab::PDU_COMMUNITY
    )
}

/// The switch is asked before the settings are in force.
fn no_such_port(c: &Cluster) -> Result<()> {
    let switch = c.lab.switch();
    switch.start()?;
    let right = ports(c, &switch);
    let wrong = right.replace(&format!("\"{}\"", Switch::port(1)), "\"9\"");
    ensure!(wrong != right, "the settings do not have the port of n1");
    let before = c.ok(1, "convoke config show")?;
    let refused = c.configure(&wrong).err().map(|error| format!("{error:#}"));
    ensure!(refused.as_ref().is_some_and(|said| said.contains("switch lists no plug `9`")), "{refused:?}");
    ensure!(c.ok(1, "convoke config show")? == before, "something of it is in force");
    Ok(())
}

/// Every node behind a port of the switch; the unit that takes a cut, and the one that does not, on a node that does not lead.
fn behind_ports(c: &Cluster) -> Result<(Switch, Writes, usize)> {
    let switch = c.lab.switch();
    switch.start()?;
    configured(c, &ports(c, &switch))?;
    let writes = Writes::listen(c)?;
    // One that runs since the part before writes to that part's address.
    if c.overview()?.unit(GUARDED).is_some() {
        c.ok(c.anybody()?, &format!("convoke stop {GUARDED}"))?;
    }
    c.install(&guarded(&writes, ""))?;
    let victim = c.follower(&[])?;
    let begun = Moment::now();
    c.run_unit(GUARDED, victim)?;
    c.run_unit(STRICT, victim)?;
    let name = c.node(victim).name();
    c.wait_for("the unit writes", S(5), || Ok((writes.after(begun, |by| by == name) > 0).then_some(())))?;
    Ok((switch, writes, victim))
}

/// Waits until another node writes behind a port that is shut; the answer is a moment at which it did.
fn goes_on_elsewhere(
    c: &Cluster,
    (switch, writes): (&Switch, &Writes),
    victim: usize,
    then: Moment,
) -> Result<Moment> {
    let name = c.node(victim).name();
    c.wait_for("it goes on elsewhere", LATE, || Ok((writes.after(then, |by| by != name) > 0).then_some(())))?;
    let cut = Moment::now();
    ensure!(!switch.is_open(victim), "the port is open");
    Ok(cut)
}

/// Somebody has looked, and says that the life that was cut off is over: its port opens.
fn word(c: &Cluster, switch: &Switch, victim: usize) -> Result<()> {
    let name = c.node(victim).name();
    c.ok(c.anybody()?, &format!("convoke fence confirm --yes-i-have-verified-it-is-off {name}"))?;
    c.wait_for("the port opens", LATE, || Ok(switch.is_open(victim).then_some(())))
}

/// It is heard in its next life, is told of the last one, and runs again what it had.
fn works_again(c: &Cluster, writes: &Writes, victim: usize) -> Result<()> {
    let name = c.node(victim).name();
    let end = c.back(victim, LATE)?;
    ensure!(end.how == "declared-off", "{end:?}");
    let back = Moment::now();
    c.run_unit(GUARDED, victim)?;
    c.wait_for("it writes again", S(5), || Ok((writes.after(back, |by| by == name) > 0).then_some(())))?;
    c.never_twice(STRICT)
}

/// One network for everything: the node is cut off from the cluster as well, and comes back by the operator's word.
fn behind_a_port(c: &Cluster) -> Result<()> {
    let (switch, writes, victim) = behind_ports(c)?;
    let name = c.node(victim).name();
    let then = Moment::now();
    c.freeze(victim)?;
    let cut = goes_on_elsewhere(c, (&switch, &writes), victim, then)?;
    // The unit that takes nothing less than its node's end stays put, and says why.
    let now =
        c.until("it is shown", S(5), |now| now.node(&name).is_some_and(|node| node.state == "cut-off"))?;
    ensure!(!now.runs_on(GUARDED, &name), "it runs there");
    let why = format!("{:?}", c.why(STRICT)?);
    ensure!(why.contains("is cut off by switch and may still run"), "{why}");
    ensure!(why.contains(&format!("convoke fence confirm {name}")), "{why}");
    c.stays_silent(STRICT, S(3))?;

    // It thaws: the old copy goes on, and none of it arrives. At the end of its lease it stops by itself.
    let before = writes.after(cut, |by| by == name);
    c.node(victim).thaw()?;
    c.wait_for("the thawed node has stopped it", S(20), || {
        Ok((c.node(victim).run("systemctl is-active guarded.service")?.stdout.trim() != "active")
            .then_some(()))
    })?;
    let went_on = tried(c, victim)?;
    ensure!(before == 0 && writes.after(cut, |by| by == name) == 0, "a write of {name} has arrived");
    scenarios::say(&format!(
        "          the thawed copy had tried {went_on} writes in its life; none arrived after the cut"
    ));
    c.always("it stays cut off", S(3), || Ok(!switch.is_open(victim)))?;

    // The word comes when its power is off; then its port opens, and it joins.
    c.node(victim).power_off()?;
    word(c, &switch, victim)?;
    c.node(victim).boot()?;
    works_again(c, &writes, victim)
}

/// That it has no power anybody but the switch would have to say: its port is shut as that of any other, and its next life is
/// behind it until the word.
fn without_power(c: &Cluster) -> Result<()> {
    let (switch, writes, victim) = behind_ports(c)?;
    let then = Moment::now();
    c.node(victim).power_off()?;
    goes_on_elsewhere(c, (&switch, &writes), victim, then)?;
    c.mute(victim);
    c.node(victim).boot()?;
    c.stays_silent(STRICT, S(3))?;
    ensure!(!switch.is_open(victim), "the port was opened for a life that nobody has heard");
    word(c, &switch, victim)?;
    c.next_life(STRICT, then, LATE)?;
    works_again(c, &writes, victim)
}

/// It stops its copy at the end of its lease, and lives. Its port stays shut when its cable is whole again.
fn cut_off(c: &Cluster) -> Result<()> {
    let (switch, writes, victim) = behind_ports(c)?;
    let (name, other) = (c.node(victim).name(), c.leader()?);
    let ping = format!("ping -n -q -c 1 -W 1 {}", c.node(victim).address());
    c.ok(other, &ping)?;
    let then = Moment::now();
    c.cut(victim)?;
    let cut = goes_on_elsewhere(c, (&switch, &writes), victim, then)?;
    // The cable alone: nobody can ask the node.
    c.lab.heal(victim)?;
    c.stays_silent(STRICT, S(3))?;
    ensure!(!switch.is_open(victim), "the port was opened for a life that was cut off");
    ensure!(c.node(victim).is_on(), "a port has switched {name} off");
    ensure!(writes.after(cut, |by| by == name) == 0, "a write of {name} has arrived");
    // Its copy has ended with its lease, and writes no more: its kernel would answer.
    ensure!(!c.run(other, &ping)?.ok(), "{name} is reached through a shut port");
    c.node(victim).power_off()?;
    word(c, &switch, victim)?;
    c.next_life(STRICT, then, LATE)?;
    c.node(victim).boot()?;
    works_again(c, &writes, victim)
}

/// The switch does not answer, so that the attempt lasts; the node is heard meanwhile, and keeps its life and its way.
fn back_meanwhile(c: &Cluster) -> Result<()> {
    let (switch, writes, victim) = behind_ports(c)?;
    let name = c.node(victim).name();
    let (boots, index) = (c.node(victim).boots().len(), c.overview()?.index);
    let begun = Moment::now();
    switch.stop()?;
    c.freeze(victim)?;
    c.until_event(index, "fence-began", LATE)?;
    c.thaw(victim)?;
    let events = c.until_event(index, "fence-failed", LATE)?;
    let at = |kind: &str| events.iter().find(|event| event.kind == kind).map(|event| event.index);
    let back = at("node-returned").context("it was not heard")?;
    ensure!(at("fence-failed") > Some(back), "it was heard only after the attempt: {events:#?}");
    switch.start()?;
    // Whatever the attempt may have shut.
    c.until_event(index, "fence-opened", LATE)?;
    c.until("the case is closed, and its way is seen open", LATE, |now| {
        let open = |node: &scenarios::NodeStatus| node.devices.iter().all(|device| device.state == "ready");
        now.fences.is_empty() && now.online(&name) && now.node(&name).is_some_and(open)
    })?;
    // It had stopped both units at the end of its lease, and says so: they go on.
    c.next_life(STRICT, begun, LATE)?;
    let now = Moment::now();
    c.wait_for("it writes", LATE, || Ok((writes.after(now, |_| true) > 0).then_some(())))?;
    let turns = writes.turns(begun);
    ensure!(turns.len() <= 2, "two copies wrote by turns: {turns:?}");
    let events = c.events_after(index)?;
    ensure!(events.iter().all(|event| event.kind != "fence-isolated"), "it was cut off: {events:#?}");
    ensure!(switch.is_open(victim) && c.node(victim).boots().len() == boots, "it lost its way or its life");
    c.run_unit(GUARDED, victim)?;
    c.never_twice(STRICT)
}

/// The keys guard what is shared; the network stays whole. The node is heard, told to go, and registers itself in its next life.
fn without_its_key(c: &Cluster) -> Result<()> {
    let targets: Vec<String> =
        c.nodes().iter().map(|node| format!("{0} = {{ plug = \"{0}\" }}", node.name())).collect();
    let targets = targets.join(", ");
    let refused = c.configure(&format!("[fence.keys]\nagent = \"fence_keys\"\ntargets = {{ {targets} }}\n"));
    ensure!(format!("{refused:?}").contains("by-node"), "taken without a word: {refused:?}");
    configured(
        c,
        &format!("[fence.keys]\nagent = \"fence_keys\"\nisolates = \"by-node\"\ntargets = {{ {targets} }}\n"),
    )?;
    let writes = Writes::listen(c)?;
    c.install(&guarded(&writes, "[ -e /shared/keys/$$n ] &&"))?;
    let victim = c.follower(&[])?;
    let name = c.node(victim).name();
    c.run_unit(GUARDED, victim)?;
    let boots = c.node(victim).boots().len();
    let then = Moment::now();
    c.freeze(victim)?;
    c.wait_for("it goes on elsewhere", LATE, || Ok((writes.after(then, |by| by != name) > 0).then_some(())))?;
    let cut = Moment::now();
    c.thaw(victim)?;
    c.node(victim).wait_boots(boots + 1, LATE)?;
    c.until("it is back", LATE, |now| now.online(&name))?;
    ensure!(writes.after(cut, |by| by == name) == 0, "a write of {name} has arrived");
    let alarms = format!("{:?}", c.overview()?.alarms);
    ensure!(!alarms.contains("spoke after"), "{alarms}");
    let back = Moment::now();
    c.run_unit(GUARDED, victim)?;
    c.wait_for("it writes again", S(5), || Ok((writes.after(back, |by| by == name) > 0).then_some(())))?;
    let calls = std::fs::read_to_string(c.lab.shared().join("keys.log"))?;
    let own: Vec<&str> = calls.lines().filter(|line| line.ends_with(&format!(" on {name}"))).collect();
    ensure!(
        own.len() == 2 && own.iter().all(|line| line.starts_with(&name)),
        "registered otherwise: {own:?}"
    );
    Ok(())
}
