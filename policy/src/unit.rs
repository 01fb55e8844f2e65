//! A cluster unit: what was adopted for it, what operators want of it, and who holds permits.

use alloc::collections::BTreeMap;
use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::assembly::BootUp;
use crate::definition::{Definition, Fencing, Replicas};
use crate::maintenance::Maintenance;
use crate::name::{Millis, NodeId, Token};
use crate::permit::Permit;
use crate::succession::Succession;

/// The definition in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Index of the entry that adopted it.
    pub revision: u64,
    /// The definition.
    pub definition: Definition,
}

/// Whether the unit is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// It is to run.
    Started,
    /// It is not.
    Stopped,
}

/// What was last asked of the unit, and by whom (S6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// The wish.
    pub wanted: Wanted,
    /// Index of the entry that set it.
    pub revision: u64,
    /// Who asked, in words; `None` while nobody did and the unit's enablement decides.
    pub by: Option<String>,
    /// Wall clock of the wish, milliseconds since 1970, for people.
    pub wall_ms: u64,
}

/// A stop on one node only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who, or what, holds it.
    pub by: String,
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: u64,
}

/// A move that was asked for and is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveWish {
    /// The permit that is to end.
    pub from: Token,
    /// The node that it leaves.
    pub leaving: NodeId,
    /// Where to, or anywhere else.
    pub to: Option<NodeId>,
    /// Who asked.
    pub by: String,
}

/// Failures on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// How many since the last reset.
    pub count: u32,
    /// Cluster time of the latest.
    pub last: Millis,
    /// What the latest was.
    pub why: String,
}

/// One cluster unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Index of the entry by which the cluster first heard of it.
    pub since: u64,
    /// The definition in force, once one was adopted.
    pub adopted: Option<Adopted>,
    /// What is wanted of it.
    pub goal: Goal,
    /// Its maintenance.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// Nodes on which it must not run.
    pub holds: BTreeMap<NodeId, Hold>,
    /// Live permits.
    pub permits: BTreeMap<Token, Permit>,
    /// A pending move.
    pub moving: Option<MoveWish>,
    /// A node an operator asked for by starting the unit there; used for the next grant only.
    pub asked_for: Option<NodeId>,
    /// Failures per node.
    pub failures: BTreeMap<NodeId, Failures>,
    /// The latest permit ever granted.
    pub last_token: Option<Token>,
    /// Where it last ran.
    pub last_node: Option<NodeId>,
    /// What is remembered of its boot-up, if it is a clustered service.
    pub boot_up: Option<BootUp>,
    /// What is remembered of who may hold it, if it is a role.
    #[serde(default)]
    pub succession: Option<Succession>,
}

impl Unit {
    /// A unit that was just heard of. Nobody asked for anything.
    #[must_use]
    pub fn new(index: u64, wall_ms: u64) -> Self {
        Self {
            since: index,
            adopted: None,
            goal: Goal { wanted: Wanted::Stopped, revision: index, by: None, wall_ms },
            maintenance: None,
            holds: BTreeMap::new(),
            permits: BTreeMap::new(),
            moving: None,
            asked_for: None,
            failures: BTreeMap::new(),
            last_token: None,
            last_node: None,
            boot_up: None,
            succession: None,
        }
    }

    /// Its definition.
    #[must_use]
    pub fn definition(&self) -> Option<&Definition> {
        self.adopted.as_ref().map(|adopted| &adopted.definition)
    }

    /// Whether only one copy may run: by the definition or by any live permit, the stricter of all (F13).
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.definition().is_some_and(Definition::is_exclusive)
            || self.permits.values().any(Permit::is_exclusive)
    }

    /// Whether a copy is the only one by the terms of its permit, and by the definition in force one of several.
    pub(crate) fn is_alone_by_terms(&self, permit: &Permit) -> bool {
        let several = self.definition().is_some_and(|definition| !definition.is_exclusive());
        several && permit.is_exclusive() && !permit.is_revoking() && self.goal.wanted == Wanted::Started
    }

    /// What must be known before a lost holder's permit ends: the strictest of the permit's own terms, those that it
    /// was asked to take over, and the definition in force. A change never makes a live permit end sooner (F13).
    #[must_use]
    pub fn fencing_of(&self, permit: &Permit) -> Fencing {
        let next = permit.next_terms.as_ref().map(|terms| terms.fencing);
        let defined = self.definition().map(|definition| definition.fencing);
        [next, defined].into_iter().flatten().fold(permit.terms.fencing, Fencing::stricter)
    }

    /// Whether one copy is wanted at most, whatever is known of lost nodes (F7): a person who stops it means all of it.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.is_exclusive()
            || self.definition().is_some_and(|definition| definition.replicas == Replicas::Count(1))
    }

    /// The permit that a node holds.
    #[must_use]
    pub fn permit_on(&self, node: NodeId) -> Option<(Token, &Permit)> {
        self.permits.iter().find(|(_, permit)| permit.node == node).map(|(token, permit)| (*token, permit))
    }

    /// Until when a node is avoided after failures, if it is.
    #[must_use]
    pub fn avoided_until(&self, node: NodeId, now: Millis) -> Option<Millis> {
        let failures = self.failures.get(&node)?;
        let definition = self.definition()?;
        let until = failures.last.saturating_add(definition.failure_reset_ms);
        (failures.count >= definition.failures_max && until > now).then_some(until)
    }
}
