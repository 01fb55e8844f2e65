//! What the cluster knows of each node's data, as `convoke status --json` shows it.

use anyhow::{Context as _, Result, ensure};
use scenarios::Cluster;
use serde::Deserialize;

use super::RABBITMQ;

#[derive(Deserialize)]
struct Picture {
    quorum: bool,
    units: Vec<Unit>,
}

#[derive(Deserialize)]
struct Unit {
    name: String,
    assembly: Option<Assembly>,
}

#[derive(Deserialize)]
struct Assembly {
    nodes: Vec<Data>,
}

/// One node's data.
#[derive(Debug, Deserialize)]
pub(crate) struct Data {
    /// Which node.
    pub(crate) node: String,
    /// Whether it was live last.
    pub(crate) last: bool,
    /// What `Position=` said of it: `stopped`, `empty`, `unusable`, …
    #[serde(rename = "data")]
    pub(crate) said: String,
    /// Whether that does not count any more.
    pub(crate) void: bool,
}

/// The data of all nodes, as a majority confirms it.
pub(crate) fn of_all(c: &Cluster) -> Result<Vec<Data>> {
    let text = c.run(c.anybody()?, "convoke status --json")?.stdout;
    let picture: Picture =
        serde_json::from_str(&text).with_context(|| format!("`convoke status` says {text}"))?;
    ensure!(picture.quorum, "no majority confirms it");
    let unit = picture.units.into_iter().find(|unit| unit.name == RABBITMQ.unit);
    let assembly = unit.and_then(|unit| unit.assembly).context("it is no clustered service")?;
    Ok(assembly.nodes)
}
