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
    let mut agent = ExtraFile::text("/usr/sbin/fence_keys", include_str!("isolation/fence_keys"));
    agent.mode = 0o755;
    plan.extra.push(agent);
    run("isolation", plan, |scenario| {
        scenario.part("a frozen node behind a shut port", behind_a_port);
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
        let arrived = self.arrived.lock().map(|arrived| arrived.clone()).unwrap_or_default();
        arrived.iter().filter(|(at, name)| *at > then && by(name)).count()
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

/// One network for everything: the node is cut off from the cluster as well, and comes back by the operator's word.
fn behind_a_port(c: &Cluster) -> Result<()> {
    let switch = c.lab.switch();
    switch.start()?;
    let targets: Vec<String> = c
        .nodes()
        .iter()
        .map(|node| format!("{} = {{ plug = \"{}\" }}", node.name(), Switch::port(node.index())))
        .collect();
    configured(
        c,
        &format!(
            "[fence.switch]\nagent = \"fence_ifmib\"\ntargets = {{ {} }}\n\
             options = {{ ip = \"{}\", snmp_version = \"2c\", community = \"{}\" }}\ntimeout = \"15s\"\n",
            targets.join(", "),
            switch.address(),
            lab::PDU_COMMUNITY
        ),
    )?;
    let writes = Writes::listen(c)?;
    c.install(&guarded(&writes, ""))?;
    let victim = c.follower(&[])?;
    let name = c.node(victim).name();
    c.run_unit(GUARDED, victim)?;
    c.run_unit(STRICT, victim)?;
    let begun = Moment::now();
    c.wait_for("the unit writes", S(5), || Ok((writes.after(begun, |by| by == name) > 0).then_some(())))?;

    let then = Moment::now();
    c.freeze(victim)?;
    c.wait_for("it goes on elsewhere", LATE, || Ok((writes.after(then, |by| by != name) > 0).then_some(())))?;
    let cut = Moment::now();
    ensure!(!switch.is_open(victim), "the port is open");
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
    c.ok(c.anybody()?, &format!("convoke fence confirm --yes-i-have-verified-it-is-off {name}"))?;
    c.wait_for("the port opens", LATE, || Ok(switch.is_open(victim).then_some(())))?;
    c.node(victim).boot()?;
    c.until("it is back", LATE, |now| now.online(&name))?;
    let back = Moment::now();
    c.run_unit(GUARDED, victim)?;
    c.wait_for("it writes again", S(5), || Ok((writes.after(back, |by| by == name) > 0).then_some(())))?;
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
