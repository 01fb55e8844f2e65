//! MariaDB with Galera, from Debian's packages, by the recipe of the package: what was committed stays (F16).
//!
//! Clients write on all nodes and keep a ledger of what was acknowledged; at the end of a part every member has all of it,
//! once.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::ExtraFile;
use scenarios::{Cluster, Ledger, Plan, Recipe, configure_galera, run};

mod apart;
mod copies;
mod site;

const GALERA: Recipe = Recipe { name: "galera", unit: "mariadb.service" };
const ALL: [&str; 3] = ["n1", "n2", "n3"];
const UP: Duration = Duration::from_secs(120);
const CLIENT: &str = "/usr/local/bin/galera-client";

#[test]
fn galera_loses_nothing_that_was_committed() -> Result<()> {
    let mut plan = Plan::clustered();
    plan.extra.push(ExtraFile::script(CLIENT, include_str!("client")));
    run("galera", plan, |scenario| {
        scenario.part(
            "the first formation is the operator's word, and no bootstrap by hand is taken",
            site::formed,
        );
        scenario.part("no bootstrap by hand is taken while the cluster runs", site::by_hand);
        scenario.part("all are stopped, and started again: who stopped last begins", site::stopped);
        scenario.part("all are stopped at once, and started again: the latest begins", site::stopped_at_once);
        scenario
            .part("all lose power while they write, ten times: they come back by themselves", site::blackout);
        scenario.part("a joiner that is killed in the midst of its copy is never first", copies::half_copied);
        scenario.part("a member that was wiped is never first", site::wiped);
        scenario.part(
            "a member gets what it lacks, or all of it, and its log tells which",
            copies::lacking_or_all,
        );
        scenario.part("a member is ready when it is Synced, and not when it is active", copies::behind);
        scenario.part("the copy for a member takes longer than a bounded start may", copies::long_copy);
        scenario.part("a member that was live last is given up, comes back ahead, and is held", apart::ahead);
        scenario.part("a member that is cut off takes no writes, and the others go on", apart::minority);
        scenario.part("two of three members are killed: nobody serves until a word", apart::quorum_lost);
    })
}

fn ledger() -> Ledger {
    Ledger::new("galera-ledger", CLIENT)
}

/// Has all three up, whatever was before.
fn up(c: &Cluster) -> Result<()> {
    ledger().rest(c)?;
    if matches!(c.overview()?.state_of(GALERA.unit), "undefined" | "unknown to the cluster") {
        configure_galera(c)?;
        GALERA.enable(c)?;
        GALERA.start(c)?;
        GALERA.assemble(c, "--from n1")?;
    } else {
        GALERA.start(c)?;
    }
    all_synced(c)?;
    sql(c, 1, "CREATE DATABASE IF NOT EXISTS ledger")?;
    sql(
        c,
        1,
        "CREATE TABLE IF NOT EXISTS ledger.writes (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL)",
    )
    .map(drop)
}

fn sql(c: &Cluster, i: usize, statement: &str) -> Result<String> {
    c.ok(i, &format!("mariadb --batch --skip-column-names --execute='{statement}'"))
}

fn all_synced(c: &Cluster) -> Result<()> {
    GALERA.runs_on(c, &ALL)?;
    for i in 1..=3 {
        c.wait_for(&format!("n{i} is one of three that are synced"), UP, || {
            let said = sql(
                c,
                i,
                "SHOW STATUS WHERE Variable_name IN (\"wsrep_cluster_size\", \"wsrep_local_state\", \
                \"wsrep_cluster_status\")",
            )?;
            let whole = ["wsrep_cluster_size\t3", "wsrep_local_state\t4", "wsrep_cluster_status\tPrimary"];
            ensure!(whole.iter().all(|line| said.contains(line)), "{said}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// Every member has everything that was acknowledged, and they have the same.
fn whole(c: &Cluster) -> Result<()> {
    all_synced(c)?;
    ledger().rest(c)?;
    let mut first = None;
    for i in 1..=3 {
        // A member waits for what the others have committed before it answers.
        let found = sql(c, i, "SET wsrep_sync_wait = 1; SELECT name FROM ledger.writes ORDER BY name")?;
        ledger().compare(c, &format!("n{i}"), &found)?;
        let before = first.get_or_insert_with(|| found.clone());
        ensure!(*before == found, "n{i} has other rows than n1");
    }
    Ok(())
}

/// Writes until so many more were acknowledged.
fn written(c: &Cluster, more: usize) -> Result<()> {
    let before = ledger().count(c);
    ledger().write(c)?;
    c.wait_for("the clients write", UP, || Ok((ledger().count(c) >= before + more).then_some(())))
}
