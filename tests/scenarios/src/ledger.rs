//! What a client was told is written, and whether it is there.
//!
//! Clients run in the nodes and add a line to a file that all nodes share when the server has acknowledged a write; each
//! write has a name of its own and is sent once. One that was under way when the power went may be there or not.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::cluster::Cluster;
use crate::say;

/// The acknowledged writes of a scenario's clients.
#[derive(Clone, Debug)]
pub struct Ledger {
    name: &'static str,
    client: &'static str,
}

impl Ledger {
    /// The ledger in the file `/shared/NAME`, which the program `client` writes on each node.
    #[must_use]
    pub fn new(name: &'static str, client: &'static str) -> Ledger {
        Ledger { name, client }
    }

    fn file(&self, c: &Cluster) -> PathBuf {
        c.lab.shared().join(self.name)
    }

    /// Starts a client on each node; those that run go on.
    pub fn write(&self, c: &Cluster) -> Result<()> {
        let (name, client) = (self.name, self.client);
        c.everywhere(&format!(
            "systemctl is-active --quiet {name} || systemd-run --quiet --collect --unit={name} {client} /shared/{name}"
        ))
    }

    /// Stops the clients, each after its last write.
    pub fn rest(&self, c: &Cluster) -> Result<()> {
        let name = self.name;
        c.everywhere(&format!("! systemctl is-active --quiet {name} || systemctl stop {name}"))
    }

    /// Names of the acknowledged writes.
    pub fn acknowledged(&self, c: &Cluster) -> Result<BTreeSet<String>> {
        let text = fs::read_to_string(self.file(c)).with_context(|| format!("no ledger {}", self.name))?;
        let lines: Vec<&str> =
            text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
        let names: BTreeSet<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        ensure!(names.len() == lines.len(), "a client used a name twice");
        Ok(names)
    }

    /// How many were acknowledged so far.
    #[must_use]
    pub fn count(&self, c: &Cluster) -> usize {
        fs::read_to_string(self.file(c)).map_or(0, |text| text.lines().count())
    }

    /// Fails if an acknowledged write is missing in what a node has, or if anything is there twice.
    pub fn compare(&self, c: &Cluster, node: &str, found: &str) -> Result<()> {
        let lines: Vec<&str> = found.lines().filter(|line| !line.is_empty()).collect();
        let there: BTreeSet<&str> = lines.iter().copied().collect();
        ensure!(there.len() == lines.len(), "{node} has {} writes twice", lines.len() - there.len());
        let acknowledged = self.acknowledged(c)?;
        ensure!(!acknowledged.is_empty(), "nothing was ever acknowledged");
        let missing: Vec<_> = acknowledged.iter().filter(|name| !there.contains(name.as_str())).collect();
        ensure!(
            missing.is_empty(),
            "{node} has {} of {} acknowledged writes; missing are {:?}",
            acknowledged.len() - missing.len(),
            acknowledged.len(),
            missing.iter().take(5).collect::<Vec<_>>()
        );
        say(&format!("    {node}: all {} acknowledged writes, once each", acknowledged.len()));
        Ok(())
    }
}
