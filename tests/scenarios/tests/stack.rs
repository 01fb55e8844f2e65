//! A whole stack on three nodes: an address, proxies, Galera and RabbitMQ, and an API that needs both.
//!
//! Clients on all nodes send orders to the address, and keep a ledger of those that were taken; at the end of a part each of
//! them is a row of every member of the database, once, and a message of the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::ExtraFile;
use scenarios::{
    Change, Cluster, Ledger, Moment, Plan, Recipe, UnitFile, configure_galera, configure_rabbitmq, run, say,
};

const DATABASE: Recipe = Recipe { name: "galera", unit: "mariadb.service" };
const BROKER: Recipe = Recipe { name: "rabbitmq", unit: "rabbitmq-server.service" };
const PROXY: &str = "haproxy.service";
const ADDRESS: &str = "convoke-ocf@address.service";
const API: &str = "shop-api.service";
/// From the bottom to the top.
const STACK: [&str; 5] = [DATABASE.unit, BROKER.unit, PROXY, ADDRESS, API];
const ALL: [&str; 3] = ["n1", "n2", "n3"];
const UP: Duration = Duration::from_secs(180);
const CLIENT: &str = "/usr/local/bin/shop-client";

#[test]
fn a_stack_goes_down_and_comes_up_in_its_order() -> Result<()> {
    let mut plan = Plan::clustered();
    plan.extra.push(ExtraFile::script("/usr/local/bin/shop-api", include_str!("stack/api")));
    plan.extra.push(ExtraFile::script(CLIENT, include_str!("stack/client")));
    plan.extra.push(ExtraFile::text("/etc/haproxy/haproxy.cfg", include_str!("stack/haproxy.cfg")));
    run("stack", plan, |scenario| {
        scenario.part("one command starts all of it, from the bottom to the top", started);
        scenario.part("what fails in the middle is restarted, and nothing beside it", middle);
        scenario.part("a proxy that cannot run takes the address to another node", elsewhere);
        scenario.part("a stop in the middle stops what needs it, and a start brings that back", stopped);
        scenario.part("the node with the address loses power", node_lost);
        scenario.part("the whole site is switched off and on by one command each", site);
        scenario.part("the whole site loses power, and comes back by itself", blackout);
    })
}

fn ledger() -> Ledger {
    Ledger::new("shop-ledger", CLIENT)
}

/// The servers' own files, and those of `docs/recipes/stack.md`.
fn configure(c: &Cluster) -> Result<()> {
    configure_galera(c)?;
    configure_rabbitmq(c)?;
    let first = c.node(1).address();
    let (net, _) = first.rsplit_once('.').context("no IPv4 address")?;
    let shop = format!("{net}.200");
    let agent = format!(
        "OCF_AGENT=ocf:heartbeat:IPaddr2\nOCF_RESKEY_ip={shop}\nOCF_RESKEY_cidr_netmask=24\n\
         OCF_RESKEY_nic=host0\nOCF_MONITOR_INTERVAL=1s\n"
    );
    for node in c.nodes() {
        node.run_ok(&format!("grep -q ' shop$' /etc/hosts || echo '{shop} shop' >>/etc/hosts"))?;
        node.write("/etc/convoke/ocf/address.conf", &agent)?;
    }
    Ok(())
}

/// Beside the two recipes.
fn units() -> [UnitFile; 3] {
    let proxy = UnitFile::new(PROXY)
        .key("Replicas=all")
        .key("After=mariadb.service rabbitmq-server.service")
        // A proxy that is down here is tried here again by systemd, and then by the cluster after a minute.
        .key("FailureResetSec=1min");
    let address =
        UnitFile::new(ADDRESS).key("SameNodeAs=haproxy.service").key("GoneExec=/usr/bin/convoke ocf gone %i");
    let api = UnitFile::new(API)
        .fragment(
            "[Unit]\nDescription=Shop API\n[Service]\nExecStart=/usr/local/bin/shop-api\nRestart=on-failure\n\
             RestartSec=200ms\nDynamicUser=yes\n",
        )
        .key("Replicas=2")
        .key("Requires=mariadb.service rabbitmq-server.service")
        .key("Wants=haproxy.service convoke-ocf@address.service")
        .key("After=mariadb.service rabbitmq-server.service haproxy.service convoke-ocf@address.service");
    [proxy, address, api]
}

/// Has all of it up, whatever was before.
fn up(c: &Cluster) -> Result<()> {
    ledger().rest(c)?;
    if c.overview()?.state_of(API) == "unknown to the cluster" {
        configure(c)?;
        for recipe in [&DATABASE, &BROKER] {
            recipe.enable(c)?;
        }
        for unit in units() {
            c.install(&unit)?;
        }
        // What a database and a broker have of their own, once.
        for recipe in [&DATABASE, &BROKER] {
            recipe.start(c)?;
            recipe.assemble(c, "--from n1")?;
            recipe.runs_on(c, &ALL)?;
        }
        let tables = "CREATE DATABASE shop; \
             CREATE TABLE shop.orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL); \
             CREATE USER shop@\"%\" IDENTIFIED BY \"shop\"; GRANT ALL ON shop.* TO shop@\"%\"; CREATE USER haproxy@\"%\"";
        c.ok(1, &format!("mariadb --execute='{tables}'"))?;
        c.ok(1, "rabbitmqctl add_user shop shop && rabbitmqctl set_permissions shop '.*' '.*' '.*'")?;
    }
    let asked = c.anybody()?;
    for unit in STACK {
        c.ok(asked, &format!("convoke reset-failed {unit}"))?;
    }
    c.ok(asked, &format!("convoke start --no-wait {}", STACK.join(" ")))?;
    serves(c)
}

/// Every unit runs where it should.
fn serves(c: &Cluster) -> Result<()> {
    c.until("the whole stack runs", UP, |now| {
        let copies = |unit| now.places(unit).len();
        [DATABASE.unit, BROKER.unit, PROXY].iter().all(|unit| copies(unit) == 3)
            && copies(ADDRESS) == 1
            && copies(API) == 2
    })?;
    Ok(())
}

/// Has the clients send orders until so many more were taken.
fn sold(c: &Cluster, more: usize) -> Result<()> {
    ledger().write(c)?;
    taken(c, more)
}

/// Waits until so many more were taken of the clients that run.
fn taken(c: &Cluster, more: usize) -> Result<()> {
    let before = ledger().count(c);
    c.wait_for("orders are taken", UP, || Ok((ledger().count(c) >= before + more).then_some(())))
}

/// Every order that was taken is in each member of the database, once, and in the broker.
fn whole(c: &Cluster) -> Result<()> {
    serves(c)?;
    ledger().rest(c)?;
    for i in 1..=3 {
        let rows = c.wait_for(&format!("n{i} shows its rows"), UP, || {
            let query = "SET wsrep_sync_wait = 1; SELECT name FROM shop.orders";
            c.ok(i, &format!("mariadb --batch --skip-column-names --execute='{query}'")).map(Some)
        })?;
        ledger().compare(c, &format!("the database of n{i}"), &rows)?;
    }
    let found =
        c.wait_for("the queue has a leader", UP, || c.ok(1, &format!("{CLIENT} --read")).map(Some))?;
    ledger().compare(c, "the queue", &found)
}

/// Of each unit and node, which life of it PID 1 runs.
fn lives(c: &Cluster) -> Result<BTreeMap<(String, String), String>> {
    let mut found = BTreeMap::new();
    for node in c.nodes() {
        for unit in STACK {
            let life = node.show(unit, "InvocationID")?;
            found.insert((unit.to_owned(), node.name()), life.trim().to_owned());
        }
    }
    Ok(found)
}

/// Fails unless the lives that ended since are those of these units on these nodes.
fn only(c: &Cluster, before: &BTreeMap<(String, String), String>, meant: &[(&str, &str)]) -> Result<()> {
    let now = lives(c)?;
    let changed: Vec<_> = before.iter().filter(|(key, life)| now.get(*key) != Some(*life)).collect();
    let changed: Vec<(&str, &str)> =
        changed.iter().map(|((unit, node), _)| (unit.as_str(), node.as_str())).collect();
    ensure!(changed == meant, "other lives have ended than {meant:?}: {changed:?}");
    Ok(())
}

/// Of each unit, when something of one kind happened to it after an index of the log.
fn order(c: &Cluster, index: u64, kind: &str) -> Result<BTreeMap<String, Vec<u64>>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in c.events_after(index)? {
        if let (true, Some(unit)) = (event.kind == kind, event.unit) {
            found.entry(unit).or_default().push(event.index);
        }
    }
    Ok(found)
}

/// What needs something else.
const NEEDS: [(&str, &str); 3] = [(ADDRESS, PROXY), (API, DATABASE.unit), (API, BROKER.unit)];
/// What merely comes after something else.
const COMES_AFTER: [(&str, &str); 3] = [(PROXY, DATABASE.unit), (PROXY, BROKER.unit), (API, ADDRESS)];

/// The starts after an index went from the bottom to the top: one copy of what is below was there before the first copy of what
/// is above was granted.
fn rose(c: &Cluster, index: u64, edges: &[(&str, &str)]) -> Result<()> {
    let granted = order(c, index, "unit-granted")?;
    let started = order(c, index, "unit-started")?;
    let ready = order(c, index, "unit-ready")?;
    for (upper, lower) in edges {
        let first = granted.get(*upper).and_then(|starts| starts.first()).context("not granted")?;
        let there = ready.get(*lower).or_else(|| started.get(*lower)).and_then(|list| list.first());
        ensure!(
            there.is_some_and(|there| there < first),
            "{upper} began at {first}, {lower} was there at {there:?}"
        );
    }
    Ok(())
}

/// The stops after an index went from the top to the bottom.
fn sank(c: &Cluster, index: u64) -> Result<()> {
    let revoked = order(c, index, "unit-revoked")?;
    let released = order(c, index, "unit-released")?;
    let before = [
        (API, DATABASE.unit),
        (API, BROKER.unit),
        (API, PROXY),
        (API, ADDRESS),
        (PROXY, DATABASE.unit),
        (PROXY, BROKER.unit),
    ];
    for (upper, lower) in before {
        let gone = released.get(upper).and_then(|ends| ends.last()).context("not released")?;
        let told = revoked.get(lower).and_then(|stops| stops.first()).context("not revoked")?;
        ensure!(gone < told, "{lower} was to stop at {told}, {upper} had stopped at {gone}");
    }
    // Beside each other: of the proxies only that on the address's own node has it to wait for.
    let events = c.events_after(index)?;
    let gone = events.iter().rfind(|e| e.kind == "unit-released" && e.unit.as_deref() == Some(ADDRESS));
    let gone = gone.context("the address was not released")?;
    let beside =
        |e: &&Change| e.kind == "unit-revoked" && e.unit.as_deref() == Some(PROXY) && e.node == gone.node;
    let told = events.iter().find(beside).context("the proxy beside the address was not revoked")?;
    ensure!(gone.index < told.index, "{}, and only then {}", told.text, gone.text);
    Ok(())
}

fn started(c: &Cluster) -> Result<()> {
    up(c)?;
    let asked = c.anybody()?;
    c.ok(asked, &format!("convoke stop {}", STACK.join(" ")))?;
    let index = c.overview()?.index;
    let begun = Moment::now();
    say(&c.ok(asked, &format!("convoke start --timeout 3min {}", STACK.join(" ")))?);
    say(&format!("    all was up after {:.1?}", begun.elapsed()));
    serves(c)?;
    rose(c, index, &NEEDS)?;
    rose(c, index, &COMES_AFTER)?;
    sold(c, 20)?;
    whole(c)
}

/// Kills a unit's main process, and waits until PID 1 has another life of it running.
fn killed(c: &Cluster, unit: &str, i: usize) -> Result<()> {
    let before = c.node(i).show(unit, "InvocationID")?;
    c.ok(i, &format!("systemctl kill --kill-whom=main --signal=KILL {unit}"))?;
    c.wait_for(&format!("{unit} lives anew"), UP, || {
        let anew = c.node(i).show(unit, "InvocationID")? != before;
        Ok((anew && c.node(i).show(unit, "ActiveState")?.trim() == "active").then_some(()))
    })
}

/// The node that has the address.
fn front(c: &Cluster) -> Result<String> {
    c.overview()?.places(ADDRESS).first().map(ToString::to_string).context("no address")
}

fn middle(c: &Cluster) -> Result<()> {
    up(c)?;
    // A proxy, a member of the database that takes no writes, the one that takes them all, a broker, and a copy of the API.
    let front = front(c)?;
    let api = c.overview()?.places(API).first().map(ToString::to_string).context("no API")?;
    for (unit, node) in [
        (PROXY, front.as_str()),
        (DATABASE.unit, "n3"),
        (DATABASE.unit, "n1"),
        (BROKER.unit, "n2"),
        (API, api.as_str()),
    ] {
        let before = lives(c)?;
        sold(c, 20)?;
        killed(c, unit, c.number(node))?;
        sold(c, 20)?;
        whole(c)?;
        only(c, &before, &[(unit, node)])?;
    }
    Ok(())
}

fn elsewhere(c: &Cluster) -> Result<()> {
    up(c)?;
    sold(c, 20)?;
    let from = front(c)?;
    let i = c.number(&from);
    c.ok(i, "mv /etc/haproxy/haproxy.cfg /etc/haproxy/away.cfg")?;
    let index = c.overview()?.index;
    c.ok(i, &format!("systemctl kill --kill-whom=main --signal=KILL {PROXY}"))?;
    c.until(
        "the address is beside another proxy",
        UP,
        |now| matches!(now.places(ADDRESS)[..], [node] if node != from),
    )?;
    sold(c, 20)?;
    let granted = order(c, index, "unit-granted")?;
    let others: Vec<_> = granted.keys().filter(|unit| ![PROXY, ADDRESS].contains(&unit.as_str())).collect();
    ensure!(others.is_empty(), "these were started for it: {others:?}");
    c.ok(i, "mv /etc/haproxy/away.cfg /etc/haproxy/haproxy.cfg")?;
    up(c)?;
    whole(c)
}

fn stopped(c: &Cluster) -> Result<()> {
    up(c)?;
    sold(c, 20)?;
    ledger().rest(c)?;
    let before = lives(c)?;
    let index = c.overview()?.index;
    let asked = c.anybody()?;
    say(&c.ok(asked, &format!("convoke stop {}", BROKER.unit))?);
    c.until("the API and the broker are down", UP, |now| {
        now.places(API).is_empty() && now.places(BROKER.unit).is_empty()
    })?;
    let gone = order(c, index, "unit-released")?;
    ensure!(gone[API].last() < gone[BROKER.unit].first(), "{gone:?}");
    let now = lives(c)?;
    for (key, life) in
        before.iter().filter(|((unit, _), _)| [DATABASE.unit, PROXY, ADDRESS].contains(&unit.as_str()))
    {
        ensure!(now.get(key) == Some(life), "{key:?} was restarted");
    }
    c.ok(asked, &format!("convoke start --timeout 3min {}", BROKER.unit))?;
    whole(c)
}

fn node_lost(c: &Cluster) -> Result<()> {
    up(c)?;
    sold(c, 20)?;
    let lost = front(c)?;
    let begun = Moment::now();
    c.node(c.number(&lost)).power_off()?;
    c.until("the address is elsewhere", UP, |now| matches!(now.places(ADDRESS)[..], [node] if node != lost))?;
    say(&format!("    the address was elsewhere after {:.1?}", begun.elapsed()));
    taken(c, 20)?;
    say(&format!("    20 more orders were taken after {:.1?}", begun.elapsed()));
    c.until("the API has two copies", UP, |now| now.places(API).len() == 2)?;
    c.node(c.number(&lost)).boot()?;
    whole(c)
}

/// The steps that a command for the whole site told between its first sentence and its last, each with its unit and nodes: one of
/// each unit, and counted.
fn told<'a>(said: &'a str, verb: &str, (first, last): (&str, &str)) -> Result<Vec<(&'a str, &'a str)>> {
    ensure!(said.starts_with(first), "it does not begin with `{first}`: {said}");
    ensure!(said.ends_with(last), "it does not end with `{last}`: {said}");
    let mut steps = Vec::new();
    for (count, step) in said.lines().filter_map(|line| line.trim_start().split_once("  ")) {
        let expected = format!("{}/{}", steps.len() + 1, STACK.len());
        ensure!(count == expected, "`{count}` instead of `{expected}`: {said}");
        steps.push(step.split_once(verb).with_context(|| format!("`{step}` has no `{verb}`"))?);
    }
    let told: BTreeSet<&str> = steps.iter().map(|(unit, _)| *unit).collect();
    ensure!(steps.len() == STACK.len() && told == BTreeSet::from(STACK), "not each of them once: {said}");
    Ok(steps)
}

fn site(c: &Cluster) -> Result<()> {
    up(c)?;
    sold(c, 20)?;
    ledger().rest(c)?;
    let before = c.overview()?;
    let index = before.index;
    let begun = Moment::now();
    let said = c.ok(2, "convoke drain --cluster")?;
    say(&said);
    say(&format!("    all was down after {:.1?}", begun.elapsed()));
    let frame = (
        "the whole cluster is drained: all stops in the reverse order of its start, and nothing starts\n",
        "\nnothing of the cluster runs on any node: they can be switched off, all at once\n\
         `convoke undrain --cluster` starts all of it again, whenever that is",
    );
    let steps = told(&said, " has stopped on ", frame)?;
    for (unit, nodes) in &steps {
        ensure!(before.places(unit).join(", ") == *nodes, "{unit} was not on {nodes} before: {before:?}");
    }
    let upper = steps.iter().map(|(unit, _)| *unit).take(3);
    ensure!(upper.eq([API, ADDRESS, PROXY]), "not from the top to the bottom: {said}");
    sank(c, index)?;
    c.lab.power_off_all()?;
    c.lab.boot_all()?;
    let index =
        c.until("there is a quorum", UP, |now| now.quorum && ALL.iter().all(|n| now.online(n)))?.index;
    c.always("nothing starts before the word", Duration::from_secs(5), || {
        let now = c.overview()?;
        Ok(STACK.iter().all(|unit| now.places(unit).is_empty()))
    })?;
    let begun = Moment::now();
    let said = c.ok(3, "convoke undrain --cluster")?;
    say(&said);
    say(&format!("    all was up after {:.1?}", begun.elapsed()));
    let last = format!("\nall {} units that are to run are active", STACK.len());
    let frame = ("the cluster is drained no more, as it was by ", last.as_str());
    let steps = told(&said, " is active on ", frame)?;
    // It has ended when all runs, and not before.
    let now = c.overview()?;
    for (unit, nodes) in steps {
        let nodes: BTreeSet<&str> = nodes.split(", ").collect();
        ensure!(nodes == BTreeSet::from_iter(now.places(unit)), "{unit} is not on {nodes:?}: {now:?}");
    }
    serves(c)?;
    rose(c, index, &NEEDS)?;
    rose(c, index, &COMES_AFTER)?;
    sold(c, 20)?;
    whole(c)
}

fn blackout(c: &Cluster) -> Result<()> {
    up(c)?;
    sold(c, 20)?;
    let index = c.overview()?.index;
    c.lab.power_off_all()?;
    let power = Moment::now();
    c.lab.boot_all()?;
    sold(c, 1)?;
    say(&format!("    the first order was taken {:.1?} after the power", power.elapsed()));
    serves(c)?;
    // A machine that boots last is not waited for by what merely comes after.
    rose(c, index, &NEEDS)?;
    say(&format!("    all of it ran {:.1?} after the power", power.elapsed()));
    whole(c)
}
