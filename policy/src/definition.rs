//! What a drop-in's `[X-Convoke]` section asks of the cluster, after parsing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::assembly::Assembly;
use crate::name::{Millis, UnitName};
use crate::node::Node;

/// How many copies are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replicas {
    /// `Replicas=1` or a number above.
    Count(u32),
    /// `Replicas=all`: one on every node where it may run.
    All,
}

/// What must be known of a lost node before its replica is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fencing {
    /// Nothing but the end of the session.
    None,
    /// The lease and the stop budget have passed (F7).
    Lease,
    /// The self-fencing time has passed as well.
    Watchdog,
    /// All that `Required` takes; or its node is cut off from what the unit shares with others, all of which lies behind the
    /// node's isolating devices.
    Isolated,
    /// Verified off, a new incarnation, its own release, or an operator's word.
    Required,
}

impl Fencing {
    /// What only takes what both take. Of isolation and of time neither takes the other, so that both together are `Required`.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Isolated, Self::Lease | Self::Watchdog)
            | (Self::Lease | Self::Watchdog, Self::Isolated) => Self::Required,
            (one, other) => one.max(other),
        }
    }
}

/// What a node does with a unit at the end of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnQuorumLoss {
    /// Stop it.
    Stop,
    /// Freeze it, and thaw or kill it later (F26).
    Freeze,
    /// Let it run.
    Continue,
    /// Take the node down.
    Reboot,
}

/// What happens when a unit cannot be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnStopFailure {
    /// The node is fenced.
    Fence,
    /// The unit stays blocked until an operator acts.
    Block,
}

/// A node's name, or an attribute with its value (`rack=a`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeTerm {
    /// A node by its name.
    Name(String),
    /// All nodes with this attribute.
    Attribute(String, String),
}

impl NodeTerm {
    /// Whether the term names this node.
    #[must_use]
    pub fn matches(&self, node: &Node) -> bool {
        match self {
            Self::Name(name) => *name == node.name,
            Self::Attribute(key, value) => node.attributes.get(key) == Some(value),
        }
    }
}

/// A weighted wish for a node: the sum of what matches counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preference {
    /// Whom it is for.
    pub term: NodeTerm,
    /// How much, in points.
    pub weight: i64,
}

/// A cluster unit's definition: what a node offers and the cluster adopts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// `Replicas=`.
    pub replicas: Replicas,
    /// `Fencing=`.
    pub fencing: Fencing,
    /// `OnQuorumLoss=`.
    pub on_quorum_loss: OnQuorumLoss,
    /// `OnStopFailure=`.
    pub on_stop_failure: OnStopFailure,
    /// `Requires=`: starts only while each of these is known active somewhere.
    pub requires: BTreeSet<UnitName>,
    /// `Wants=`: has these started where nobody decided otherwise, and needs none of them.
    #[serde(default)]
    pub wants: BTreeSet<UnitName>,
    /// `BindsTo=`: as `Requires=`, and stops when one of these is known active no more, for whatever reason.
    #[serde(default)]
    pub binds_to: BTreeSet<UnitName>,
    /// `PartOf=`: a stop or a restart of one of these takes it along.
    #[serde(default)]
    pub part_of: BTreeSet<UnitName>,
    /// `After=`: starts after these where both are to start; stops before them.
    pub after: BTreeSet<UnitName>,
    /// `Before=`: the same edge, seen from the other end.
    #[serde(default)]
    pub before: BTreeSet<UnitName>,
    /// `Conflicts=`: never runs while one of these may run, nor they while it may.
    #[serde(default)]
    pub conflicts: BTreeSet<UnitName>,
    /// `OtherNodeThan=`: never on a node where one of these may run, nor they where it may.
    #[serde(default)]
    pub other_node_than: BTreeSet<UnitName>,
    /// `SameNodeAs=`: runs where these run.
    pub same_node_as: BTreeSet<UnitName>,
    /// `Nodes=`: where it may run; empty for every node that has the drop-in.
    pub nodes: Vec<NodeTerm>,
    /// `Prefer=`, and `Avoid=` with weights below zero.
    pub prefer: Vec<Preference>,
    /// `Spread=`: the attribute over whose values copies are spread.
    #[serde(default)]
    pub spread: Option<String>,
    /// `Uses=`: what a copy takes of its node's capacity, which is the attribute of that name.
    #[serde(default)]
    pub uses: BTreeMap<String, u64>,
    /// `Priority=`: who is placed first, and stays where there is not enough for all.
    #[serde(default)]
    pub priority: i64,
    /// `StartOneAtATime=`: a copy starts when the one before it is active.
    #[serde(default)]
    pub start_one_at_a_time: bool,
    /// `Stickiness=` in points of preference; `None` for `infinity`: never moves without need.
    pub stickiness: Option<i64>,
    /// `FailuresMax=`: failures on a node before it is avoided.
    pub failures_max: u32,
    /// `FailureResetSec=`, in milliseconds.
    pub failure_reset_ms: Millis,
    /// `Assembly=` and its keys, of a clustered service.
    pub assembly: Option<Assembly>,
    /// Whether `Rank=` names a program: it is a role, held by the node whose copy of the unit beside it is the best.
    #[serde(default)]
    pub rank: bool,
}

impl Definition {
    /// An exclusive unit with every default of the design's table.
    #[must_use]
    pub fn exclusive() -> Self {
        Self {
            replicas: Replicas::Count(1),
            fencing: Fencing::Required,
            on_quorum_loss: OnQuorumLoss::Stop,
            on_stop_failure: OnStopFailure::Fence,
            requires: BTreeSet::new(),
            wants: BTreeSet::new(),
            binds_to: BTreeSet::new(),
            part_of: BTreeSet::new(),
            after: BTreeSet::new(),
            before: BTreeSet::new(),
            conflicts: BTreeSet::new(),
            other_node_than: BTreeSet::new(),
            same_node_as: BTreeSet::new(),
            nodes: Vec::new(),
            prefer: Vec::new(),
            spread: None,
            uses: BTreeMap::new(),
            priority: 0,
            start_one_at_a_time: false,
            stickiness: None,
            failures_max: 1,
            failure_reset_ms: 600_000,
            assembly: None,
            rank: false,
        }
    }

    /// A replicated unit with every default of the design's table.
    #[must_use]
    pub fn replicated(replicas: Replicas) -> Self {
        Self {
            replicas,
            fencing: Fencing::None,
            on_quorum_loss: OnQuorumLoss::Continue,
            on_stop_failure: OnStopFailure::Block,
            ..Self::exclusive()
        }
    }

    /// Whether S1 covers the unit: one copy, and some proof before the next (F7: `none` is excluded by name).
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.replicas == Replicas::Count(1) && self.fencing != Fencing::None
    }

    /// What has to be known active before it starts, and stops only after it (S4).
    pub fn needs(&self) -> impl Iterator<Item = &UnitName> {
        self.requires.iter().chain(&self.binds_to).chain(&self.same_node_as)
    }

    /// What its start asks for as well.
    pub fn pulls_in(&self) -> impl Iterator<Item = &UnitName> {
        self.requires.iter().chain(&self.binds_to).chain(&self.wants)
    }

    /// Every unit that it names, in whatever way.
    pub(crate) fn named(&self) -> impl Iterator<Item = &UnitName> {
        let ordered = self.after.iter().chain(&self.before).chain(&self.part_of).chain(&self.wants);
        self.needs().chain(ordered).chain(&self.conflicts).chain(&self.other_node_than)
    }

    /// Whether `unit` is among its needs.
    #[must_use]
    pub fn needs_unit(&self, unit: &UnitName) -> bool {
        self.requires.contains(unit) || self.binds_to.contains(unit) || self.same_node_as.contains(unit)
    }

    /// Whether `Nodes=` lets it run there.
    #[must_use]
    pub fn allows(&self, node: &Node) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|term| term.matches(node))
    }

    /// The sum of the preferences that name this node.
    #[must_use]
    pub fn preference(&self, node: &Node) -> i64 {
        let matching = self.prefer.iter().filter(|preference| preference.term.matches(node));
        matching.fold(0i64, |sum, preference| sum.saturating_add(preference.weight))
    }

    /// Whether a change from `other` to this touches what safety rests on (F13).
    #[must_use]
    pub fn differs_in_safety(&self, other: &Self) -> bool {
        self.replicas != other.replicas
            || self.fencing != other.fencing
            || self.on_quorum_loss != other.on_quorum_loss
            || self.on_stop_failure != other.on_stop_failure
            || self.assembly != other.assembly
            || self.rank != other.rank
            || (self.rank && self.same_node_as != other.same_node_as)
    }

    /// Why no permit may ever carry these terms (F7), if so.
    #[must_use]
    pub fn contradiction(&self) -> Option<&'static str> {
        if self.rank && !self.is_exclusive() {
            return Some("Rank= is for an exclusive unit: one holds the role");
        }
        if self.rank && self.same_node_as.len() != 1 {
            return Some("Rank= needs one unit in SameNodeAs=, whose copies are ranked");
        }
        if let Some(assembly) = &self.assembly {
            if self.replicas == Replicas::Count(1) {
                return Some("Assembly= is for a unit of several replicas");
            }
            if let Some(why) = assembly.contradiction() {
                return Some(why);
            }
        }
        let waits = matches!(self.fencing, Fencing::Lease | Fencing::Watchdog);
        let ends = matches!(self.on_quorum_loss, OnQuorumLoss::Stop | OnQuorumLoss::Reboot);
        (waits && !ends).then_some("Fencing=lease and watchdog need OnQuorumLoss=stop or reboot")
    }
}
