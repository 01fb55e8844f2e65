//! Which run of a unit this is, as PID 1 tells it: what must stay the same when nothing was restarted.

use anyhow::{Result, ensure};

use crate::cluster::Cluster;

/// One run of a unit on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Node, from 1.
    pub node: usize,
    /// Unit.
    pub unit: String,
    /// systemd's id of the run.
    pub invocation: String,
    /// Its main process.
    pub pid: String,
}

impl Cluster {
    /// The present run of a unit on a node.
    pub fn process(&self, node: usize, unit: &str) -> Result<Process> {
        let text =
            self.ok(node, &format!("systemctl show -p ActiveState -p InvocationID -p MainPID '{unit}'"))?;
        let field = |name: &str| {
            text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned()
        };
        ensure!(field("ActiveState") == "active", "n{node}: {unit} is {}", field("ActiveState"));
        Ok(Process { node, unit: unit.into(), invocation: field("InvocationID"), pid: field("MainPID") })
    }

    /// Fails unless this very run still goes on.
    pub fn still_runs(&self, before: &Process) -> Result<()> {
        let now = self.process(before.node, &before.unit)?;
        ensure!(now == *before, "n{}: {} was restarted: {before:?}, now {now:?}", before.node, before.unit);
        Ok(())
    }
}
