//! Maintenance: what people have put their hands on, and the cluster leaves alone.
//!
//! Says what is in maintenance and since when; what follows from it, `apply` keeps and `plan` heeds. It begins and ends by
//! a word alone. Clauses P61 to P66 of `docs/policy.md`.

use alloc::format;
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};

use crate::name::{NodeId, UnitName};
use crate::node::Node;
use crate::state::State;
use crate::unit::Unit;

/// What is in maintenance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Everything.
    Cluster,
    /// A node, and every copy on it.
    Node(NodeId),
    /// A unit, wherever it has copies.
    Unit(UnitName),
}

/// A maintenance that was begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Who began it.
    pub by: String,
    /// What for, in that person's words.
    pub reason: Option<String>,
    /// When, wall clock in milliseconds since 1970.
    pub wall_ms: u64,
}

impl State {
    /// What keeps the cluster's hands off every copy of a unit: its own maintenance, or the cluster's.
    #[must_use]
    pub fn unit_maintenance(&self, unit: &UnitName) -> Option<Scope> {
        let own = self.units.get(unit).is_some_and(|unit| unit.maintenance.is_some());
        own.then(|| Scope::Unit(unit.clone())).or_else(|| self.cluster_maintenance())
    }

    /// What keeps them off a node: its own maintenance, or the cluster's.
    #[must_use]
    pub fn node_maintenance(&self, id: NodeId) -> Option<Scope> {
        let own = self.nodes.get(&id).is_some_and(|node| node.maintenance.is_some());
        own.then_some(Scope::Node(id)).or_else(|| self.cluster_maintenance())
    }

    /// What keeps them off the copy of a unit on a node.
    #[must_use]
    pub fn copy_maintenance(&self, unit: &UnitName, id: NodeId) -> Option<Scope> {
        self.unit_maintenance(unit).or_else(|| self.node_maintenance(id))
    }

    /// The same of any of a unit's copies: what an operator asks of the unit could not be done there.
    #[must_use]
    pub fn any_maintenance(&self, unit: &UnitName) -> Option<Scope> {
        let copies = || self.units.get(unit).into_iter().flat_map(|unit| unit.permits.values());
        self.unit_maintenance(unit).or_else(|| copies().find_map(|permit| self.node_maintenance(permit.node)))
    }

    /// That a copy ended on a node in maintenance, and is missed nowhere else before the end of it.
    pub(crate) fn kept_text(&self, id: NodeId) -> String {
        format!(
            "its copy on {0} ended while {0} is in maintenance, and nothing takes its place",
            self.node_name(id)
        )
    }

    fn cluster_maintenance(&self) -> Option<Scope> {
        self.maintenance.is_some().then_some(Scope::Cluster)
    }

    /// Who began it, when and what for.
    #[must_use]
    pub fn maintenance_of(&self, scope: &Scope) -> Option<&Maintenance> {
        match scope {
            Scope::Cluster => self.maintenance.as_ref(),
            Scope::Node(id) => self.nodes.get(id).and_then(|node: &Node| node.maintenance.as_ref()),
            Scope::Unit(name) => self.units.get(name).and_then(|unit: &Unit| unit.maintenance.as_ref()),
        }
    }

    /// The fact, as a sentence fragment.
    #[must_use]
    pub fn maintenance_text(&self, scope: &Scope) -> String {
        format!("{} is in maintenance", self.scope_name(scope))
    }

    /// What ends it.
    #[must_use]
    pub fn maintenance_release(&self, scope: &Scope) -> String {
        let name = match scope {
            Scope::Cluster => "--cluster".to_string(),
            Scope::Node(_) | Scope::Unit(_) => self.scope_name(scope),
        };
        format!("convoke unmaintain {name}")
    }

    /// What it is called.
    #[must_use]
    pub fn scope_name(&self, scope: &Scope) -> String {
        match scope {
            Scope::Cluster => "the cluster".to_string(),
            Scope::Node(id) => self.node_name(*id),
            Scope::Unit(name) => name.to_string(),
        }
    }
}
