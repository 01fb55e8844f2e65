//! RabbitMQ, from Debian's packages, by the recipe of the package: what was confirmed stays (F16).
//!
//! Clients publish to a quorum queue on all nodes and keep a ledger of what was confirmed; at the end of a part all of it is
//! in the queue, once, and on all nodes.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::ExtraFile;
use scenarios::{Cluster, Ledger, Plan, Recipe, run};

mod beforehand;
mod given_up;
mod replicas;
mod site;
mod wiped;

const RABBITMQ: Recipe = Recipe { name: "rabbitmq", unit: "rabbitmq-server.service" };
const ALL: [&str; 3] = ["n1", "n2", "n3"];
const UP: Duration = Duration::from_secs(120);
const CLIENT: &str = "/usr/local/bin/rabbitmq-client";

#[test]
fn rabbitmq_loses_nothing_that_was_confirmed() -> Result<()> {
    let mut plan = Plan::clustered();
    plan.extra.push(ExtraFile::script(CLIENT, include_str!("client")));
    run("rabbitmq", plan, |scenario| {
        scenario.part(
            "the first formation is the operator's word; all are stopped, and started again",
            site::form,
        );
        scenario.part(
            "all lose power while they publish, ten times: they come back by themselves, and none is forced",
            site::blackout,
        );
        scenario.part("one of three does not come back: one of the others begins by word", given_up::missing);
        scenario.part(
            "one that was stopped before the others is not the one that begins without the third",
            given_up::stopped_before,
        );
        scenario.part("a node that was wiped is let go of, and joins anew", wiped::alone);
        scenario.part("a node that was wiped while all were down is never first", wiped::among_all);
        scenario.part("a node that lost half of its data is held until a word, and joins anew", wiped::half);
        scenario.part("one is stopped: the others have everything, and it catches up", replicas::without_one);
        scenario.part("all brokers are stopped in any order, and started again without force", site::orders);
        scenario.part("all brokers are killed at once, and come back by themselves", site::killed);
        scenario
            .part("another cookie or a name that no broker finds is said beforehand", beforehand::beforehand);
    })
}

fn ledger() -> Ledger {
    Ledger::new("rabbitmq-ledger", CLIENT)
}

/// Has all three up, whatever was before.
fn up(c: &Cluster) -> Result<()> {
    ledger().rest(c)?;
    if matches!(c.overview()?.state_of(RABBITMQ.unit), "undefined" | "unknown to the cluster") {
        return site::form(c);
    }
    RABBITMQ.start(c)?;
    RABBITMQ.runs_on(c, &ALL)
}

/// Publishes until so many more were confirmed.
fn written(c: &Cluster, more: usize) -> Result<()> {
    let before = ledger().count(c);
    ledger().write(c)?;
    c.wait_for("the clients publish", UP, || Ok((ledger().count(c) >= before + more).then_some(())))
}

/// The queue has everything that was confirmed, and every node a replica of it; every node knows all nodes and users.
fn whole(c: &Cluster) -> Result<()> {
    RABBITMQ.runs_on(c, &ALL)?;
    ledger().rest(c)?;
    has_all(c, 1)?;
    let mut users = Vec::new();
    for i in 1..=3 {
        let known = c.ok(i, "rabbitmqctl --quiet eval 'lists:sort(rabbit_nodes:all_running()).'")?;
        ensure!(ALL.iter().all(|node| known.contains(&format!("rabbit@{node}"))), "n{i} sees {known}");
        users.push(c.ok(i, "rabbitmqctl --quiet list_users")?);
    }
    ensure!(users.iter().all(|list| *list == users[0]), "the nodes know different users: {users:?}");
    replicas::complete(c)
}

/// What the broker of node `i` gives out is all that was confirmed, once.
fn has_all(c: &Cluster, i: usize) -> Result<()> {
    let found =
        c.wait_for("the queue has a leader", UP, || c.ok(i, &format!("{CLIENT} --read")).map(Some))?;
    ledger().compare(c, &format!("the queue, by n{i}"), &found)
}

/// After an index of the log one of `among` was forced, once, and the other two joined it; `late` was not let start before.
fn one_forced(c: &Cluster, index: u64, among: &[&str], late: &str) -> Result<()> {
    let starts = RABBITMQ.starts(c, index)?;
    let at = starts.iter().position(|start| start.ends_with(" alone"));
    let (before, since) = starts.split_at(at.with_context(|| format!("nobody was forced: {starts:?}"))?);
    let [alone, joined @ ..] = since else { bail!("{starts:?}") };
    let node = among.iter().find(|node| *alone == format!("{node} alone"));
    let node = node.with_context(|| format!("another was forced than one of {among:?}: {starts:?}"))?;
    let mut joined = joined.to_vec();
    joined.sort_unstable();
    let others = ALL.iter().filter(|other| *other != node);
    let others: Vec<String> = others.map(|other| format!("{other} join")).collect();
    ensure!(joined == others, "not both of the others joined {node}, once: {starts:?}");
    let waits = |start: &String| start.ends_with(" join") && !start.starts_with(late);
    ensure!(before.iter().all(waits), "{starts:?}");
    Ok(())
}
