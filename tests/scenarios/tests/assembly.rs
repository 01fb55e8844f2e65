//! A clustered service comes up from the data that is the latest, whatever befell its nodes (F16, section 6 of the design).
//!
//! The service is `assembly/ring`: real copies on real nodes, which lose data without a word when they are started in the
//! wrong order, and write down that they did. Nothing acknowledged may be missing at the end of any part.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::ExtraFile;
use scenarios::{Cluster, Plan, Recipe, UnitFile, run, say};

const UNIT: &str = "ring.service";
const UP: Duration = Duration::from_secs(60);
const RING: &str = include_str!("assembly/ring");
const ALL: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn a_clustered_service_loses_nothing() -> Result<()> {
    let mut plan = Plan::three();
    plan.extra.push(ExtraFile::script("/usr/local/bin/ring", RING));
    run("assembly", plan, |scenario| {
        scenario.part("the first formation is the operator's word; the others join one by one", formed);
        scenario.part("stopped and started as a whole: who stopped last begins", stopped);
        scenario.part("all lose power while they write: it comes back by itself", blackout);
        scenario.part("the daemons are killed while it comes up: nobody begins twice", killed);
        scenario.part("a copy that is killed comes back as a joiner, and a restart by hand does", joins);
        scenario.part("one that was live last is missing: the others wait for it by name", missing);
        scenario
            .part("given up by word, and back with more than the others have: it does not just join", ahead);
        scenario.part(
            "a copy that was killed while it copied, and one that was wiped, are never first",
            treacherous,
        );
    })
}

fn ring() -> UnitFile {
    UnitFile::new(UNIT)
        .unguarded()
        .fragment(
            "[Service]\nType=exec\nExecStart=/usr/local/bin/ring run\nRestart=on-failure\nTimeoutStopSec=5\n",
        )
        .key("Replicas=all")
        .key("Assembly=one-then-serial")
        .key("Position=/usr/local/bin/ring position")
        .key("Ready=/usr/local/bin/ring ready")
        .key("StartAlone=RING_ALONE=yes")
        .key("StartResync=RING_ALONE=no")
}

/// A line that a copy wrote.
#[derive(Clone, Debug)]
struct Line {
    at_ns: u64,
    node: String,
    what: String,
    words: Vec<String>,
}

fn lines(c: &Cluster, file: &str) -> Result<Vec<Line>> {
    let text = fs::read_to_string(c.lab.shared().join(file)).unwrap_or_default();
    text.lines()
        .map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            let at_ns = words.next().context("a time")?.parse()?;
            let (node, what) = (words.next().context("a node")?, words.next().context("a word")?);
            Ok(Line { at_ns, node, what, words: words.collect() })
        })
        .collect()
}

/// What the copies wrote in this part.
fn log(c: &Cluster) -> Result<Vec<Line>> {
    let begun = c.begun().0;
    Ok(lines(c, "ring.log")?.into_iter().filter(|line| line.at_ns > begun).collect())
}

/// How the copies were begun in this part, in order: `n1 alone`.
fn begins(c: &Cluster) -> Result<Vec<String>> {
    let begins = log(c)?.into_iter().filter(|line| line.what == "begins");
    Ok(begins
        .map(|line| format!("{} {}", line.node, line.words.first().map_or("", String::as_str)))
        .collect())
}

/// The rank and identity of a node's data.
fn data(c: &Cluster, i: usize) -> Result<(i64, String)> {
    let text = c.ok(i, "/usr/local/bin/ring report")?;
    let (rank, identity) = text.trim().split_once(' ').context("rank and identity")?;
    Ok((rank.parse()?, identity.to_owned()))
}

/// Whether a copy gave a sign of life just now.
fn beats(c: &Cluster, node: &str) -> bool {
    let text = fs::read_to_string(c.lab.shared().join("ring").join(node)).unwrap_or_default();
    let beat: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let at = beat.and_then(|beat| beat.get("at")?.as_f64());
    at.is_some_and(|at| scenarios::Moment::now().0 as f64 / 1e9 - at < 0.5)
}

fn all_live(c: &Cluster) -> Result<()> {
    c.until("all three are live", UP, |now| now.places(UNIT) == ALL)?;
    // What is shown as active may be a life that is over.
    c.wait_for("all three take part", UP, || Ok(ALL.iter().all(|node| beats(c, node)).then_some(())))
}

/// Has all three live, whatever was before.
fn up(c: &Cluster) -> Result<()> {
    c.install(&ring())?;
    if lines(c, "ring.log")?.is_empty() {
        c.ok(1, &format!("convoke start --no-wait {UNIT}"))?;
        c.until("it waits for a word", UP, |now| now.state_of(UNIT) == "waiting")?;
        begin_with(c, 1)?;
    } else {
        let asked = c.anybody()?;
        c.ok(asked, &format!("convoke reset-failed {UNIT}"))?;
        c.ok(asked, &format!("convoke start --no-wait {UNIT}"))?;
    }
    all_live(c)
}

/// The command line of an operator's word.
fn word(word: &str, node: &str) -> String {
    format!("convoke assemble {UNIT} --{word} {node} --yes --no-wait")
}

fn begin_with(c: &Cluster, i: usize) -> Result<()> {
    // Its position has to be heard first.
    c.wait_for("the word is taken", UP, || c.ok(c.anybody()?, &word("from", &format!("n{i}"))).map(Some))?;
    Ok(())
}

/// No acknowledged write is missing, no copy lost any without a word, and there is one history.
fn whole(c: &Cluster) -> Result<()> {
    let begun = c.begun().0;
    for line in log(c)? {
        let bad = ["LOST", "SECOND", "SPLIT"].contains(&line.what.as_str());
        ensure!(!bad, "{} says {} {}", line.node, line.what, line.words.join(" "));
    }
    all_live(c)?;
    let acknowledged = lines(c, "ring.ledger")?;
    let last = acknowledged.last().context("nothing was acknowledged")?;
    let (identity, rank) = (last.what.clone(), last.words.first().context("a rank")?.parse::<i64>()?);
    for i in 1..=3 {
        c.wait_for(&format!("n{i} has every acknowledged write"), Duration::from_secs(5), || {
            let (has, of) = data(c, i)?;
            ensure!(of == identity, "n{i} has the history {of}, the ledger {identity}");
            ensure!(has >= rank, "n{i} has {has} writes, {rank} were acknowledged");
            Ok(Some(()))
        })?;
    }
    let here = acknowledged.iter().filter(|line| line.at_ns > begun).count();
    say(&format!("    {here} acknowledged writes, all of them on all nodes"));
    Ok(())
}

/// Before this moment each start was over, one after another: the next began when the one before was ready.
fn one_by_one(c: &Cluster) -> Result<()> {
    let mut coming: Option<String> = None;
    for line in log(c)? {
        match line.what.as_str() {
            "begins" => {
                if let Some(before) = coming.replace(line.node.clone()) {
                    bail!("{} was begun before {before} was live", line.node);
                }
            }
            "live" => coming = None,
            _ => {}
        }
    }
    Ok(())
}

fn formed(c: &Cluster) -> Result<()> {
    c.install(&ring())?;
    c.ok(1, &format!("convoke start --no-wait {UNIT}"))?;
    c.until("it waits for a word", UP, |now| now.state_of(UNIT) == "waiting")?;
    let why = c.wait_for("`why` names the word", UP, || {
        let why = c.why(UNIT)?;
        let named = why.reasons.iter().any(|reason| reason.release.contains("convoke assemble"));
        Ok(named.then_some(why))
    })?;
    say(&format!("    {}", why.reasons.iter().map(|r| r.fact.clone()).collect::<Vec<_>>().join("; ")));
    ensure!(begins(c)?.is_empty(), "begun without a word: {:?}", begins(c)?);
    // Behind the cluster's back it does not begin either.
    let by_hand = c.run(2, &format!("systemctl start {UNIT}"))?;
    ensure!(by_hand.code != 0 && begins(c)?.is_empty(), "begun by hand: {:?}", begins(c)?);
    begin_with(c, 2)?;
    all_live(c)?;
    let begins = begins(c)?;
    ensure!(begins == ["n2 alone", "n1 join", "n3 join"], "{begins:?}");
    one_by_one(c)?;
    whole(c)
}

fn stopped(c: &Cluster) -> Result<()> {
    up(c)?;
    let asked = c.anybody()?;
    c.ok(asked, &format!("convoke stop {UNIT}"))?;
    let ends: Vec<_> = log(c)?.into_iter().filter(|line| line.what == "ends").collect();
    ensure!(ends.len() == 3, "{ends:?}");
    let ranks = (1..=3).map(|i| data(c, i)).collect::<Result<Vec<_>>>()?;
    c.ok(asked, &format!("convoke start {UNIT}"))?;
    all_live(c)?;
    let begins: Vec<_> = begins(c)?.into_iter().rev().take(3).collect();
    let first = begins.last().cloned().unwrap_or_default();
    let best = ranks.iter().map(|(rank, _)| *rank).max();
    let chosen = first.strip_suffix(" alone").map(|node| c.number(node)).context("nobody began alone")?;
    ensure!(Some(ranks[chosen - 1].0) == best, "{first} of {ranks:?}");
    ensure!(begins.iter().filter(|line| line.ends_with("alone")).count() == 1, "{begins:?}");
    whole(c)
}

fn blackout(c: &Cluster) -> Result<()> {
    up(c)?;
    for round in 1..=3 {
        std::thread::sleep(Duration::from_millis(300));
        c.lab.power_off_all()?;
        let before = begins(c)?.len();
        c.lab.boot_all()?;
        let booted = scenarios::Moment::now();
        all_live(c)?;
        let since: Vec<_> = begins(c)?.split_off(before);
        let alone = since.iter().filter(|line| line.ends_with("alone")).count();
        ensure!(alone == 1 && since.len() == 3, "{since:?}");
        say(&format!(
            "    round {round}: all live {:.1?} after the boot; {}",
            booted.elapsed(),
            since.join(", ")
        ));
    }
    one_by_one(c)?;
    whole(c)
}

fn killed(c: &Cluster) -> Result<()> {
    up(c)?;
    let asked = c.anybody()?;
    c.ok(asked, &format!("convoke stop {UNIT}"))?;
    c.ok(asked, &format!("convoke start --no-wait {UNIT}"))?;
    // Each of them several times, at moments that fall into readings, elections and starts.
    for round in 0..9 {
        c.kill_daemon(round % 3 + 1)?;
        std::thread::sleep(Duration::from_millis(130 * (round as u64 % 4 + 1)));
    }
    all_live(c)?;
    whole(c)
}

fn joins(c: &Cluster) -> Result<()> {
    up(c)?;
    c.ok(3, &format!("systemctl kill --signal=KILL {UNIT}"))?;
    c.wait_for("n3 begins anew", UP, || {
        Ok((begins(c)?.last().map(String::as_str) == Some("n3 join")).then_some(()))
    })?;
    all_live(c)?;
    let before = begins(c)?.len();
    c.ok(1, &format!("systemctl restart {UNIT}"))?;
    // PID 1 is content once the program is executed; what it writes comes a moment later.
    c.wait_for("n1 joins, once", UP, || Ok((begins(c)?.split_off(before) == ["n1 join"]).then_some(())))?;
    // Nothing of the start is left that another could use.
    let left = c.ok(1, "ls /run/convoke/permits /run/convoke/env")?;
    ensure!(!left.contains(UNIT), "{left}");
    whole(c)
}

fn missing(c: &Cluster) -> Result<()> {
    up(c)?;
    c.lab.power_off_all()?;
    let before = begins(c)?.len();
    for i in [1, 3] {
        c.node(i).boot()?;
    }
    c.wait_for("`why` names n2", UP, || {
        let why = c.why(UNIT)?;
        let waits = why.reasons.iter().any(|r| r.fact.contains("n2") && r.release.contains("--without n2"));
        Ok(waits.then_some(()))
    })?;
    c.always("nobody begins", Duration::from_secs(3), || Ok(begins(c)?.len() == before))?;
    c.node(2).boot()?;
    all_live(c)?;
    whole(c)
}

fn ahead(c: &Cluster) -> Result<()> {
    up(c)?;
    // n2 alone has the last writes: the others stopped before.
    for i in [1, 3] {
        c.ok(i, &format!("systemctl stop {UNIT}"))?;
    }
    let ring = Recipe { name: "ring", unit: UNIT };
    c.wait_for("the log knows that n2 alone was live last", UP, || {
        Ok((ring.live_last(c)? == ["n2"]).then_some(()))
    })?;
    c.lab.power_off_all()?;
    for i in [1, 3] {
        c.node(i).boot()?;
    }
    c.until("there is a majority", UP, |now| now.online("n1") && now.online("n3"))?;
    let asked = c.anybody()?;
    // What a hand has stopped there stays so until it is started again (S6).
    c.ok(asked, &format!("convoke start --no-wait {UNIT}"))?;
    c.wait_for("n2 is given up", UP, || c.ok(asked, &word("without", "n2")).map(Some))?;
    // The others' data is older, so that one of them begins is another word.
    c.wait_for("`why` says that the data of the others is older", UP, || {
        let why = c.why(UNIT)?;
        Ok(why.reasons.iter().any(|r| r.fact.contains("older") && r.release.contains("--from")).then_some(()))
    })?;
    begin_with(c, 3)?;
    c.until("the others are live", UP, |now| now.places(UNIT) == ["n1", "n3"])?;
    std::thread::sleep(Duration::from_millis(300));
    let before = begins(c)?.len();
    c.node(2).boot()?;
    c.wait_for("`why` says that n2 is ahead", UP, || {
        let why = c.why(UNIT)?;
        Ok(why.reasons.iter().any(|r| r.release.contains("--resync n2")).then_some(()))
    })?;
    c.always("n2 does not begin", Duration::from_secs(2), || Ok(begins(c)?.len() == before))?;
    c.ok(asked, &word("resync", "n2"))?;
    all_live(c)?;
    let since: Vec<_> = begins(c)?.split_off(before);
    ensure!(since == ["n2 resync"], "{since:?}");
    for line in log(c)? {
        ensure!(!["LOST", "SECOND", "SPLIT"].contains(&line.what.as_str()), "{line:?}");
    }
    Ok(())
}

fn treacherous(c: &Cluster) -> Result<()> {
    up(c)?;
    // n1 is wiped, and n3 is killed in the midst of a copy: it shows the highest rank of all.
    c.ok(1, &format!("systemctl stop {UNIT} && rm -rf /var/lib/ring"))?;
    c.ok(3, &format!("systemctl stop {UNIT} && rm -rf /var/lib/ring"))?;
    for i in [1, 3] {
        c.node(i).write(
            &format!("/run/systemd/system/{UNIT}.d/slow.conf"),
            "[Service]\nEnvironment=RING_COPY_S=30\n",
        )?;
        c.ok(i, "systemctl daemon-reload")?;
    }
    c.ok(2, &format!("convoke start --no-wait {UNIT}"))?;
    c.wait_for("somebody copies", UP, || {
        let copying =
            [1, 3].iter().any(|i| c.run(*i, "test -e /var/lib/ring/copying").is_ok_and(|o| o.code == 0));
        Ok(copying.then_some(()))
    })?;
    c.lab.power_off_all()?;
    let before = begins(c)?.len();
    c.lab.boot_all()?;
    // What is half copied is thrown away by word alone: nobody else knows that nothing is lost.
    let again = c.wait_for("`why` names whose data is unusable", UP, || {
        let why = c.why(UNIT)?;
        let named = |i: &usize| why.reasons.iter().any(|r| r.release.contains(&format!("--resync n{i}")));
        Ok([1, 3].into_iter().find(named))
    })?;
    c.ok(c.anybody()?, &word("resync", &format!("n{again}")))?;
    all_live(c)?;
    let since: Vec<_> = begins(c)?.split_off(before);
    ensure!(since.first().map(String::as_str) == Some("n2 alone"), "{since:?}");
    whole(c)
}
