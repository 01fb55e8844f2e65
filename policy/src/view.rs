//! What one node's agent has to know: its permits, and how each cluster unit stands.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::assembly::Duty;
use crate::lately::Ended;
use crate::name::{Incarnation, NodeId, Token, UnitName};
use crate::permit::{Phase, Terms};
use crate::state::State;

/// One permit of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitView {
    /// Which unit.
    pub unit: UnitName,
    /// Its token.
    pub token: Token,
    /// For which life of the node.
    pub incarnation: Incarnation,
    /// How far it is.
    pub phase: Phase,
    /// On what terms.
    pub terms: Terms,
    /// Terms that the node is to acknowledge.
    pub next_terms: Option<Terms>,
    /// Whether it was given to a copy that ran already.
    pub adopted: bool,
    /// Whether people have their hands on the copy: whatever it does, it is left alone.
    #[serde(default)]
    pub hands_off: bool,
    /// Names of the other nodes that hold permits of the unit.
    pub peers: Vec<String>,
}

/// Everything that one node's agent acts on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Applied index that it was taken at (F2).
    pub index: u64,
    /// The node's permits.
    pub permits: Vec<PermitView>,
    /// Every cluster unit that the cluster knows: the node gates them all (F12).
    pub units: BTreeSet<UnitName>,
    /// Index up to which the node is to look for units, say which of them run, and gate them all (F11): that of the
    /// entry that brought the newest.
    pub survey: u64,
    /// Copies to stop, because they run without a permit.
    pub stop: BTreeSet<UnitName>,
    /// Units that the node's units require or run beside, for the order of stops at the end of a lease (F25):
    /// a unit and what it stops before.
    pub stops_before: BTreeMap<UnitName, BTreeSet<UnitName>>,
    /// What the node owes to clustered services (F16).
    pub assembly: BTreeMap<UnitName, Duty>,
    /// Roles of which the node is to say its rank, by a look that began with a view of this index or later.
    #[serde(default)]
    pub ranks: BTreeMap<UnitName, u64>,
    /// How the node's last life ended, if not in order (P113).
    #[serde(default)]
    pub ended: Option<Ended>,
}

impl State {
    /// The view of one node. `stop` is filled by the caller from the plan's orders.
    #[must_use]
    pub fn view(&self, id: NodeId) -> NodeView {
        let mut permits = Vec::new();
        let mut stops_before: BTreeMap<UnitName, BTreeSet<UnitName>> = BTreeMap::new();
        for (name, unit) in &self.units {
            for later in unit.definition().into_iter().flat_map(|definition| &definition.before) {
                stops_before.entry(later.clone()).or_default().insert(name.clone());
            }
            for (token, permit) in unit.permits.iter().filter(|(_, permit)| permit.node == id) {
                let others = unit.permits.values().filter(|other| other.node != id);
                permits.push(PermitView {
                    unit: name.clone(),
                    token: *token,
                    incarnation: permit.incarnation.clone(),
                    phase: permit.phase.clone(),
                    terms: permit.terms.clone(),
                    next_terms: permit.next_terms.clone(),
                    adopted: permit.adopted,
                    // What was begun before is brought to its end.
                    hands_off: permit.phase == Phase::Active && self.copy_maintenance(name, id).is_some(),
                    peers: others.map(|other| self.node_name(other.node)).collect(),
                });
                if let Some(definition) = unit.definition() {
                    let earlier = definition.needs().chain(&definition.after).cloned();
                    stops_before.entry(name.clone()).or_default().extend(earlier);
                }
            }
        }
        let held: BTreeSet<&UnitName> = permits.iter().map(|permit: &PermitView| &permit.unit).collect();
        stops_before.retain(|name, _| held.contains(name));
        let duties = self.units.keys().filter_map(|name| Some((name.clone(), self.duty(name, id)?)));
        let ranks = self.units.keys().filter_map(|name| Some((name.clone(), self.rank_due(name, id)?)));
        NodeView {
            index: self.index,
            permits,
            units: self.units.keys().cloned().collect(),
            survey: self.units.values().map(|unit| unit.since).max().unwrap_or(0),
            stop: BTreeSet::new(),
            stops_before,
            assembly: duties.collect(),
            ranks: ranks.collect(),
            ended: self.last_end(id).cloned(),
        }
    }
}
