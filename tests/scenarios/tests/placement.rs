//! Where units run: attributes, companions, strangers, capacities and priority; what is foretold of that; and how many starts are under way.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Run;
use scenarios::{Change, Cluster, Moment, Overview, Plan, UnitFile, run, unwrapped};

const LATE: Duration = Duration::from_secs(40);
const NODES: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn units_run_where_they_were_meant_to() -> Result<()> {
    run("placement", Plan::three(), |scenario| {
        scenario.part("attributes of the document say where units run, and spread their copies", attributes);
        scenario.part("a companion goes along, and a stranger keeps away", company);
        scenario.part("no node gives more than it has, and the important stay", shortage);
        scenario.part("the last node is for the more important of two strangers", last_node);
        scenario.part("a forecast comes true, and what never can is named", foretold);
        scenario.part("changed files are foretold before they are read", defined);
        scenario.part("copies start one at a time", rolling);
        scenario.part("no more starts are under way than the document allows", caps);
    })
}

/// A unit with one copy, or as many as `Replicas=` in its keys says.
fn unit(name: &str, keys: &[&str]) -> UnitFile {
    let replicas = keys.iter().any(|key| key.starts_with("Replicas="));
    let first = if replicas { UnitFile::new(name) } else { UnitFile::new(name).key("Replicas=1") };
    keys.iter().fold(first, |file, key| file.key(key))
}

/// Puts the scenario's settings in force, with these lines before them and these attributes of n1, n2 and n3.
fn configure(c: &Cluster, caps: &str, attributes: [&str; 3]) -> Result<()> {
    let nodes = NODES.iter().zip(attributes).map(|(name, lines)| format!("\n[node.{name}]\n{lines}\n"));
    c.configure(&format!("{caps}\n{}{}", c.settings(), nodes.collect::<String>()))
}

fn start(c: &Cluster, units: &[&str]) -> Result<()> {
    c.ok(c.anybody()?, &format!("convoke start {}", units.join(" "))).map(drop)
}

fn stop(c: &Cluster, units: &[&str]) -> Result<()> {
    c.ok(c.anybody()?, &format!("convoke stop {}", units.join(" "))).map(drop)
}

fn home(now: &Overview, unit: &str) -> String {
    now.places(unit).first().copied().unwrap_or_default().to_owned()
}

/// Lives that began after an instant.
fn lives(c: &Cluster, unit: &str, then: Moment) -> Result<Vec<Run>> {
    Ok(c.timeline(unit)?.runs.into_iter().filter(|run| run.from_ns > then.0).collect())
}

/// Fails if two units were ever alive on one node at one time.
fn never_on_one_node(c: &Cluster, one: &str, other: &str, then: Moment) -> Result<()> {
    let others = lives(c, other, then)?;
    for run in lives(c, one, then)? {
        let beside = others
            .iter()
            .find(|other| other.node == run.node && other.from_ns <= run.to_ns && run.from_ns <= other.to_ns);
        ensure!(beside.is_none(), "{one} shared a node with {other}: {run:?} and {beside:?}");
    }
    Ok(())
}

/// The most that was ever taken on each node at one time, by what the witnesses of these units saw.
fn most_taken(c: &Cluster, uses: &[(&str, u64)], then: Moment) -> Result<BTreeMap<String, u64>> {
    let mut changes: Vec<(u64, bool, String, u64)> = Vec::new();
    for (unit, amount) in uses {
        for run in lives(c, unit, then)? {
            changes.push((run.from_ns, true, run.node.clone(), *amount));
            // One that was seen once only ends after its begin.
            changes.push((run.to_ns.max(run.from_ns + 1), false, run.node, *amount));
        }
    }
    changes.sort();
    let (mut now, mut most) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for (_, begins, node, amount) in changes {
        let taken = now.entry(node.clone()).or_default();
        *taken = if begins { *taken + amount } else { *taken - amount };
        let taken = *taken;
        let top = most.entry(node).or_default();
        *top = (*top).max(taken);
    }
    Ok(most)
}

fn attributes(c: &Cluster) -> Result<()> {
    let (spread, tied, drawn) = ("witness@spread.service", "witness@tied.service", "witness@drawn.service");
    configure(c, "", ["rack = \"a\"", "rack = \"a\"", "rack = \"b\""])?;
    c.install(&unit(spread, &["Replicas=2", "Spread=rack"]))?;
    c.install(&unit(tied, &["Nodes=rack=b"]))?;
    c.install(&unit(drawn, &["Avoid=rack=a", "Prefer=n2:150"]))?;
    // What runs on n3 already makes the others the emptier ones: only the rule leads there.
    start(c, &[tied])?;
    start(c, &[spread, drawn])?;
    let now = c.overview()?;
    ensure!(now.runs_on(tied, "n3"), "Nodes=rack=b: it runs on {:?}", now.places(tied));
    ensure!(now.places(spread).contains(&"n3"), "both copies are in one rack: {:?}", now.places(spread));
    ensure!(now.runs_on(drawn, "n2"), "it prefers n2 and runs on {:?}", now.places(drawn));
    c.ok(1, "convoke drain n2")?;
    c.until("what avoids a rack goes to the other", LATE, |now| now.runs_on(drawn, "n3"))?;
    c.ok(1, "convoke undrain n2")?;

    c.ok(1, "convoke drain n3")?;
    c.until("without the other rack the copies share one", LATE, |now| now.places(spread) == ["n1", "n2"])?;
    let now = c.overview()?;
    ensure!(now.state_of(tied) == "waiting", "it may run on n3 only, and is {}", now.state_of(tied));
    let why = c.why(tied)?;
    let facts: Vec<&str> = why.reasons.iter().map(|r| r.fact.as_str()).collect();
    ensure!(facts.iter().any(|fact| fact.contains("Nodes=")), "`why` does not name the rule: {facts:?}");
    c.ok(1, "convoke undrain n3")?;
    c.until("it comes back to n3", LATE, |now| now.runs_on(tied, "n3"))?;

    // A document may change them at any time.
    configure(c, "", ["rack = \"b\"", "rack = \"a\"", "rack = \"a\""])?;
    c.until("it goes where the attribute is now", LATE, |now| now.runs_on(tied, "n1"))?;

    // A file that changes ends nothing: it says what it would have, and a person says when (P127).
    let index = c.overview()?.index;
    c.install(&unit(tied, &["Nodes=rack=a"]))?;
    let pending = |now: &Overview| {
        let reason = now.unit(tied).and_then(|unit| unit.reason.clone()).unwrap_or_default();
        reason.contains("restart pending") && reason.contains("Nodes=")
    };
    c.until("it is shown as restart pending", LATE, pending)?;
    let warned = c.ok(1, "convoke status")?;
    ensure!(warned.contains("restart pending"), "status has no word of it: {warned}");
    let revoked = |e: &Change| e.kind == "unit-revoked" && e.unit.as_deref() == Some(tied);
    ensure!(!c.events_after(index)?.iter().any(revoked), "a change of a file stopped it");
    c.ok(1, &format!("convoke move {tied}"))?;
    c.until("it runs where its file says", LATE, |now| {
        (now.runs_on(tied, "n2") || now.runs_on(tied, "n3")) && !pending(now)
    })?;
    c.never_twice(tied)?;
    stop(c, &[spread, tied, drawn])
}

fn company(c: &Cluster) -> Result<()> {
    let (leader, companion) = ("witness@leader.service", "witness@companion.service");
    let stranger = "witness@stranger.service";
    let begin = Moment::now();
    c.install(&unit(leader, &[]))?;
    c.install(&unit(companion, &[&format!("SameNodeAs={leader}"), &format!("Requires={leader}")]))?;
    c.install(&unit(stranger, &[&format!("OtherNodeThan={leader}")]))?;
    c.run_unit(leader, 1)?;
    c.run_unit(stranger, 2)?;
    start(c, &[companion])?;
    ensure!(c.overview()?.runs_on(companion, "n1"), "the companion is elsewhere");
    let index = c.overview()?.index;

    // A move to the stranger's node does not even stop it; the wish is shown, and can be taken back.
    let out = c.run(1, &format!("convoke move {leader} n2 --timeout 1s"))?;
    ensure!(out.code == 5 && out.stderr.contains(stranger), "exits {}: {}", out.code, out.stderr);
    let reason = c.overview()?.unit(leader).and_then(|unit| unit.reason.clone()).unwrap_or_default();
    ensure!(reason.contains("cannot move") && reason.contains(stranger), "its line says `{reason}`");
    start(c, &[leader])?;
    c.until("nothing is asked for any more", LATE, |now| {
        now.unit(leader).is_some_and(|unit| unit.reason.is_none())
    })?;
    let stopped = |e: &Change| e.kind == "unit-revoked" && e.unit.as_deref() == Some(leader);
    ensure!(!c.events_after(index)?.iter().any(stopped), "the move stopped it");

    let then = Moment::now();
    c.ok(1, &format!("convoke move {leader} n3"))?;
    c.until("its companion is with it", LATE, |now| {
        now.runs_on(leader, "n3") && now.runs_on(companion, "n3")
    })?;
    ensure!(lives(c, stranger, then)?.is_empty(), "the stranger was moved, too");
    c.node(3).power_off()?;
    let now = c.until("both run elsewhere", LATE, |now| {
        now.state_of(leader) == "active" && now.state_of(companion) == "active" && home(now, leader) != "n3"
    })?;
    ensure!(home(&now, leader) == home(&now, companion), "the companion is elsewhere");
    ensure!(now.runs_on(leader, "n1"), "it shares n2 with the stranger");
    never_on_one_node(c, leader, stranger, begin)?;
    stop(c, &[companion, leader, stranger])?;
    c.never_twice(leader)?;
    c.never_twice(companion)
}

fn shortage(c: &Cluster) -> Result<()> {
    let small = ["witness@s1.service", "witness@s2.service", "witness@s3.service", "witness@s4.service"];
    let (fifth, big) = ("witness@s5.service", "witness@big.service");
    // n3 has no such attribute, and so nothing to give.
    configure(c, "", ["slots = 2", "slots = 2", ""])?;
    for name in small.into_iter().chain([fifth]) {
        c.install(&unit(name, &["Uses=slots=1"]))?;
    }
    c.install(&unit(big, &["Uses=slots=2", "Priority=10"]))?;
    let then = Moment::now();
    start(c, &small)?;
    let on = |now: &Overview, node: &str| small.iter().filter(|unit| now.runs_on(unit, node)).count();
    let now = c.overview()?;
    ensure!((on(&now, "n1"), on(&now, "n2")) == (2, 2), "they are not two and two: {:?}", now.units);

    // An equal finds no room, and nobody leaves for it.
    c.ok(1, &format!("convoke start --no-wait {fifth}"))?;
    c.until("it waits, and says for what", LATE, |now| {
        let reason = now.unit(fifth).and_then(|unit| unit.reason.as_deref()).unwrap_or_default();
        now.state_of(fifth) == "waiting" && reason.contains("slots")
    })?;
    ensure!(on(&c.overview()?, "n1") + on(&c.overview()?, "n2") == 4, "an equal was stopped for it");

    // The important one does: the two of one node leave, and those of the other stay.
    let index = c.overview()?.index;
    start(c, &[big])?;
    let now = c.overview()?;
    let (home, other) = if now.runs_on(big, "n1") { ("n1", "n2") } else { ("n2", "n1") };
    ensure!((on(&now, home), on(&now, other)) == (0, 2), "on {home} and {other}: {:?}", now.units);
    let outranked: Vec<Change> = c.events_after(index)?;
    let outranked: Vec<&Change> = outranked.iter().filter(|e| e.kind == "unit-revoked").collect();
    ensure!(
        outranked.len() == 2 && outranked.iter().all(|e| e.text.contains(big)),
        "stopped for it: {outranked:#?}"
    );
    stop(c, &[big])?;
    c.until("who left comes back", LATE, |now| on(now, "n1") + on(now, "n2") >= 3)?;
    c.until("both nodes are full again", LATE, |now| {
        small.iter().chain([&fifth]).filter(|unit| now.state_of(unit) == "active").count() == 4
    })?;

    // Less to give: the youngest goes.
    configure(c, "", ["slots = 1", "slots = 2", ""])?;
    c.until("n1 gives what it has left", LATE, |now| {
        now.node("n1").is_some_and(|n| n.units.iter().filter(|unit| unit.contains("@s")).count() == 1)
    })?;
    stop(c, &[small[0], small[1], small[2], small[3], fifth])?;
    let uses: Vec<(&str, u64)> = small.iter().map(|unit| (*unit, 1)).chain([(fifth, 1), (big, 2)]).collect();
    let most = most_taken(c, &uses, then)?;
    let full: BTreeMap<String, u64> = [("n1".to_owned(), 2), ("n2".to_owned(), 2)].into();
    ensure!(most == full, "at one time the nodes gave {most:?}");
    Ok(())
}

fn last_node(c: &Cluster) -> Result<()> {
    let (humble, important) = ("witness@humble.service", "witness@important.service");
    c.install(&unit(humble, &[]))?;
    c.install(&unit(important, &["Priority=10", &format!("OtherNodeThan={humble}")]))?;
    c.ok(1, "convoke drain n2")?;
    c.ok(1, "convoke drain n3")?;
    let then = Moment::now();
    start(c, &[humble])?;
    start(c, &[important])?;
    let now = c.until("the less important one waits", LATE, |now| now.state_of(humble) == "waiting")?;
    ensure!(now.runs_on(important, "n1"), "the important one has no node");
    c.ok(1, "convoke undrain n3")?;
    let now = c.until("it runs where there is room", LATE, |now| now.runs_on(humble, "n3"))?;
    ensure!(now.runs_on(important, "n1"), "the important one was disturbed");
    c.ok(1, "convoke undrain n2")?;
    never_on_one_node(c, humble, important, then)?;
    stop(c, &[humble, important])
}

/// Where the forecast has each of these units in the end, whether it is told of or stays.
fn forecast(c: &Cluster, ask: &str, units: &[&str]) -> Result<BTreeMap<String, Vec<String>>> {
    let told: serde_json::Value =
        serde_json::from_str(&c.ok(c.anybody()?, &format!("convoke plan {ask} --json"))?)?;
    let mut places = placed(&c.overview()?, units);
    for change in told["units"].as_array().context("no units")? {
        let nodes = change["then"].as_array().context("no copies")?.iter();
        let nodes = nodes.filter_map(|copy| copy["node"].as_str()).map(str::to_owned).collect();
        places.insert(change["unit"].as_str().context("no name")?.to_owned(), nodes);
    }
    Ok(places)
}

fn placed(now: &Overview, units: &[&str]) -> BTreeMap<String, Vec<String>> {
    let places = |unit: &str| now.places(unit).into_iter().map(str::to_owned).collect();
    units.iter().map(|unit| ((*unit).to_owned(), places(unit))).collect()
}

fn foretold(c: &Cluster) -> Result<()> {
    let (base, beside, pair) = ("witness@base.service", "witness@beside.service", "witness@pair.service");
    let units = [base, beside, pair];
    // Racks for what an earlier part left: it is stopped, and still checked.
    configure(c, "", ["slots = 2\nrack = \"a\"", "slots = 1\nrack = \"a\"", "slots = 2\nrack = \"b\""])?;
    c.install(&unit(base, &["Uses=slots=1"]))?;
    c.install(&unit(beside, &[&format!("SameNodeAs={base}"), &format!("Requires={base}"), "Uses=slots=1"]))?;
    c.install(&unit(pair, &["Replicas=2", "Fencing=required"]))?;
    c.run_unit(base, 1)?;
    start(c, &[beside, pair])?;

    let before = placed(&c.overview()?, &units);
    let told = forecast(c, "drain n1", &units)?;
    ensure!(placed(&c.overview()?, &units) == before, "a forecast moved something: {before:?}");
    ensure!(told != before, "nothing would change: {told:?}");
    c.ok(1, "convoke drain n1")?;
    c.until("the drain ends as foretold", LATE, |now| placed(now, &units) == told)?;
    c.ok(1, "convoke undrain n1")?;
    ensure!(placed(&c.overview()?, &units) == told, "an undrain moved something");

    let victim = c.number(&home(&c.overview()?, base));
    let told = forecast(c, &format!("lose n{victim}"), &units)?;
    c.node(victim).power_off()?;
    c.until("the loss ends as foretold", LATE, |now| placed(now, &units) == told)?;
    [base, beside].iter().try_for_each(|unit| c.never_twice(unit))?;
    c.node(victim).boot()?;
    stop(c, &units)?;

    let sound = c.ok(c.anybody()?, "convoke check")?;
    ensure!(sound.ends_with("units checked, nothing found"), "{sound}");
    let needy = "witness@needy.service";
    c.install(&unit(needy, &["Requires=ghost.service"]))?;
    let out = c.run(c.anybody()?, "convoke check")?;
    let named =
        format!("{needy}: it needs ghost.service (Requires=), which no node offers; it is not to run now");
    ensure!(out.code == 1 && unwrapped(&out.stdout).contains(&named), "exits {}: {}", out.code, out.stdout);
    ensure!(!c.overview()?.alarms_with(&[needy]), "what is stopped hinders nobody");
    c.ok(c.anybody()?, &format!("convoke start --no-wait {needy}"))?;
    c.until("`status` names it once it is to run", LATE, |now| now.alarms_with(&[needy, "ghost.service"]))?;
    stop(c, &[needy])
}

fn defined(c: &Cluster) -> Result<()> {
    let changing = "witness@changing.service";
    configure(c, "", ["", "", ""])?;
    c.install(&unit(changing, &[]))?;
    c.run_unit(changing, 1)?;
    let status = || c.ok(1, &format!("convoke status {changing}"));
    let (before, index, running) = (status()?, c.overview()?.index, c.process(1, changing)?);

    let changed = unit(changing, &["Prefer=n2:150", "Stickiness=0"]);
    changed.write(&c.node(1))?;
    let told = unwrapped(&c.ok(1, &format!("convoke plan define {changing}"))?);
    for sentence in [
        format!("If all nodes that offer {changing} have the files that n1 has on its disk,"),
        format!("UNIT NOW THEN {changing} n1 n2"),
        format!("take over the definition of {changing} that the nodes offer"),
        format!("stop {changing} on n1: another node suits it better"),
        format!("start {changing} on n2"),
        "A forecast; nothing was changed.".to_owned(),
    ] {
        ensure!(told.contains(&sentence), "it does not say `{sentence}`: {told}");
    }
    let after = status()?;
    ensure!(after == before, "a forecast changed something: {before}\nand now {after}");
    c.still_runs(&running)?;
    let events = c.events_after(index)?;
    let its = events.iter().find(|event| event.unit.as_deref() == Some(changing));
    ensure!(its.is_none(), "a forecast changed something: {its:?}");

    c.install(&changed)?;
    c.until("it moves as foretold", LATE, |now| now.runs_on(changing, "n2"))?;
    c.never_twice(changing)?;
    stop(c, &[changing])
}

/// Between the first beats of a unit's copies, in order.
fn apart(c: &Cluster, unit: &str, then: Moment) -> Result<Vec<Duration>> {
    let mut begun: Vec<u64> = lives(c, unit, then)?.iter().map(|run| run.from_ns).collect();
    begun.sort_unstable();
    let pairs = begun.iter().zip(begun.iter().skip(1));
    Ok(pairs.map(|(one, next)| Duration::from_nanos(next - one)).collect())
}

fn rolling(c: &Cluster) -> Result<()> {
    let (rolling, crowd) = ("witness@rolling.service", "witness@crowd.service");
    let slow = |name: &str, keys: &[&str]| unit(name, keys).service("ExecStartPre=/bin/sleep 0.6");
    c.install(&slow(rolling, &["Replicas=all", "StartOneAtATime=yes"]))?;
    c.install(&slow(crowd, &["Replicas=all"]))?;
    let (then, least) = (Moment::now(), Duration::from_millis(600));
    start(c, &[rolling, crowd])?;
    let (one_by_one, together) = (apart(c, rolling, then)?, apart(c, crowd, then)?);
    ensure!(one_by_one.len() == 2 && one_by_one.iter().all(|gap| *gap >= least), "apart by {one_by_one:?}");
    // The same without the key, so that the times above mean something.
    ensure!(together.len() == 2 && together.iter().all(|gap| *gap < least), "apart by {together:?}");
    stop(c, &[rolling, crowd])
}

/// The most starts that were under way at one time, on any node and in all.
fn most_under_way(events: &[Change]) -> (usize, usize) {
    let (mut now, mut node, mut all) = (BTreeMap::<&str, String>::new(), 0, 0);
    for event in events {
        let Some(unit) = event.unit.as_deref() else { continue };
        match event.kind.as_str() {
            "unit-granted" => now.insert(unit, event.node.clone().unwrap_or_default()),
            "unit-started" => now.remove(unit),
            _ => continue,
        };
        let on = |name: &str| now.values().filter(|node| *node == name).count();
        node = node.max(NODES.into_iter().map(on).max().unwrap_or(0));
        all = all.max(now.len());
    }
    (node, all)
}

fn caps(c: &Cluster) -> Result<()> {
    let names: Vec<String> = (1..=6).map(|i| format!("witness@many{i}.service")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        c.install(&unit(name, &["Fencing=none"]).service("ExecStartPre=/bin/sleep 0.5"))?;
    }
    for (caps, allowed) in
        [("starts_per_node = 1\nstarts_per_cluster = 2", (1, 2)), ("starts_per_node = 1", (1, 3))]
    {
        configure(c, caps, ["", "", ""])?;
        let index = c.overview()?.index;
        start(c, &names)?;
        let seen = most_under_way(&c.events_after(index)?);
        ensure!(seen == allowed, "`{caps}`: {seen:?} starts were under way on a node and in all");
        stop(c, &names)?;
    }
    configure(c, "", ["", "", ""])?;
    let index = c.overview()?.index;
    start(c, &names)?;
    let seen = most_under_way(&c.events_after(index)?);
    ensure!(seen.0 >= 2 && seen.1 > 3, "without a cap only {seen:?} starts were under way");
    stop(c, &names).context("the end")
}
