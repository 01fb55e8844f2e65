//! The `[X-Convoke]` section as a type: the rules under which the cluster runs a unit.
//!
//! Decides what each key may hold and which values go together. Plain data: knows no file, node or
//! permit, so that it can be stored, compared and sent. Section 5 of the design lists the keys.

pub(crate) mod assembly;
mod check;
mod keys;
mod merge;
mod role;
pub(crate) mod specifier;
pub mod timespan;
mod value;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use assembly::{Assembly, AssemblyStyle, GatherThen, Program, Variable};
pub use check::Check;
pub use merge::parse;
pub(crate) use merge::read;

/// The rules of one unit, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// On how many nodes it runs at a time.
    pub replicas: Replicas,
    /// What must be known of a lost node before its replica is replaced.
    pub fencing: Fencing,
    /// What a node does with it when its lease ends.
    pub on_quorum_loss: OnQuorumLoss,
    /// Units that must be active somewhere in the cluster.
    pub requires: Vec<String>,
    /// Units that are started with it.
    pub wants: Vec<String>,
    /// Units that it needs as those it requires, and whose end of any kind ends it.
    pub binds_to: Vec<String>,
    /// Units whose stop or restart takes it along.
    pub part_of: Vec<String>,
    /// Units that start before it where both start.
    pub after: Vec<String>,
    /// Units that start after it where both start.
    pub before: Vec<String>,
    /// Units that never run while it may.
    pub conflicts: Vec<String>,
    /// Where it may run; empty means every node that offers it. Any one match is enough.
    pub nodes: Vec<NodeExpr>,
    /// Where it had better run.
    pub prefer: Vec<Preference>,
    /// Where it had better not run.
    pub avoid: Vec<Preference>,
    /// The attribute of nodes over whose values its copies are spread.
    pub spread: Option<String>,
    /// What a copy takes of its node's capacities.
    pub uses: BTreeMap<String, u64>,
    /// Who is placed first, and stays where there is not enough for all.
    pub priority: i64,
    /// How much better another node must be before it moves.
    pub stickiness: Stickiness,
    /// Cluster units on whose node it must run.
    pub same_node_as: Vec<String>,
    /// Cluster units that it must not share a node with.
    pub other_node_than: Vec<String>,
    /// Whether a copy starts only when the one before it is active.
    pub start_one_at_a_time: bool,
    /// What follows when it cannot be stopped.
    pub on_stop_failure: OnStopFailure,
    /// How many failures on a node before that node is avoided.
    pub failures_max: u32,
    /// For how long, in milliseconds, a node with too many failures is avoided; `None` is for ever.
    pub failure_reset_ms: Option<u64>,
    /// How it comes up where none of it is live; `None` if each copy starts by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assembly: Option<Assembly>,
    /// The program that prints how good this node would be in the role; `None` if it is no role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Program>,
    /// How its health is checked beside systemd's own means; `None` if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// `GoneExec=`: says, once it is stopped, whether anything of it is left outside its processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Program>,
}

impl Section {
    /// Whether the cluster promises that it never runs twice (S1). F7: `Fencing=none` gives that up.
    pub fn exclusive(&self) -> bool {
        self.replicas == Replicas::One && self.fencing != Fencing::None
    }
}

/// `Replicas=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replicas {
    /// On one node.
    One,
    /// On this many nodes, at least two.
    Count(u32),
    /// On every node where it may run.
    All,
}

/// `Fencing=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fencing {
    /// Verified off, a new incarnation, the node's own release, or an operator's word.
    Required,
    /// Also: the node is cut off from all that the unit shares with others.
    Isolated,
    /// Also: the self-fencing time has passed.
    Watchdog,
    /// Also: the lease with its stop budget has ended.
    Lease,
    /// Nothing.
    None,
}

/// `OnQuorumLoss=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnQuorumLoss {
    /// Stop it.
    Stop,
    /// Freeze its processes.
    Freeze,
    /// Leave it alone.
    Continue,
    /// Reboot the node.
    Reboot,
}

/// `OnStopFailure=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStopFailure {
    /// Fence the node.
    Fence,
    /// Keep the permit and wait for an operator.
    Block,
}

/// `Stickiness=`: a number on the scale of the weights of `Prefer=`, or never to move without need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stickiness {
    /// It moves when another node is better by more than this, 0 to 1,000,000.
    Weight(u32),
    /// It moves only when it must: the default.
    Infinity,
}

/// One word of `Nodes=` or `Prefer=`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeExpr {
    /// The node of this name.
    Name(String),
    /// Nodes with this attribute.
    Attribute {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
}

/// One word of `Prefer=` or `Avoid=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preference {
    /// Which nodes.
    pub node: NodeExpr,
    /// How much, 1 to 1,000,000; 100 if the file gives no number.
    pub weight: u32,
}

#[cfg(test)]
mod tests;
