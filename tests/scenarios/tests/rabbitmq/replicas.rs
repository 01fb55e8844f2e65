//! A quorum queue has a replica on each node, and each of them has all of it.

use anyhow::{Context as _, Result, bail, ensure};
use scenarios::Cluster;
use serde::Deserialize;

use super::{RABBITMQ, UP, has_all, up, whole, written};

const STATUS: &str = "rabbitmq-queues --quiet quorum_status ledger --formatter json";

/// A line of `quorum_status`.
#[derive(Debug, Deserialize)]
struct Replica {
    #[serde(rename = "Node Name")]
    node: String,
    /// `leader`, `follower`; `noproc`, `nodedown`, `timeout` and the like of one that does not answer.
    #[serde(rename = "Raft State")]
    state: String,
    /// A number; an empty text of one that does not answer.
    #[serde(rename = "Log Index")]
    last: serde_json::Value,
}

/// The queue's replicas, of which each node has one that answers.
fn on_all(c: &Cluster) -> Result<Vec<Replica>> {
    let text = c.ok(1, STATUS)?;
    let replicas: Vec<Replica> =
        serde_json::from_str(&text).with_context(|| format!("`quorum_status` says {text}"))?;
    let mut nodes: Vec<&str> = replicas.iter().map(|replica| replica.node.as_str()).collect();
    nodes.sort_unstable();
    ensure!(nodes == ["rabbit@n1", "rabbit@n2", "rabbit@n3"], "{replicas:?}");
    ensure!(replicas.iter().all(|replica| replica.last.is_u64()), "{replicas:?}");
    Ok(replicas)
}

/// Waits until the queue has a replica on each node, one of them leads, and the others have all that it has.
pub(crate) fn complete(c: &Cluster) -> Result<()> {
    c.wait_for("the queue has three replicas, and each has all of it", UP, || {
        let replicas = on_all(c)?;
        let leaders: Vec<&Replica> = replicas.iter().filter(|replica| replica.state == "leader").collect();
        let [leader] = &leaders[..] else { bail!("not one leads: {replicas:?}") };
        let follows = |replica: &Replica| replica.state == "leader" || replica.state == "follower";
        let caught_up = |replica: &Replica| replica.last == leader.last;
        ensure!(replicas.iter().all(|replica| follows(replica) && caught_up(replica)), "{replicas:?}");
        Ok(Some(()))
    })
}

/// Waits until n2 counts as ready after an index of the log: its replica is not on its way then, but there.
pub(crate) fn ready_with_its_own(c: &Cluster, index: u64) -> Result<()> {
    c.wait_for("n2 is ready", UP, || {
        let ready = RABBITMQ.events(c, index, "unit-ready")?;
        Ok(ready.iter().any(|event| event.node.as_deref() == Some("n2")).then_some(()))
    })?;
    on_all(c).context("as soon as n2 is ready").map(drop)
}

/// n1 is stopped: the others have all of it, take more, and n1 catches up.
pub(crate) fn without_one(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    whole(c)?;
    RABBITMQ.stop_on(c, 1)?;
    has_all(c, 2)?;
    written(c, 20)?;
    RABBITMQ.start(c)?;
    whole(c)
}
