//! The three words that are never mixed (protocol, section 0): known active, possibly running, gone.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::definition::{Definition, Fencing};
use crate::name::{NodeId, Token, UnitName};
use crate::node::{Life, Node, Presence};
use crate::permit::{Permit, Phase};
use crate::state::State;
use crate::unit::Unit;

/// Why a unit must be taken for running on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Possibly {
    /// It holds a permit that no evidence has voided.
    Permit(Token),
    /// The node found it active without a permit.
    Stray,
    /// The node has not said in its present life what runs on it.
    Unheard,
}

impl Possibly {
    /// Whether it is one of the copies of a unit that a number of replicas is compared with. `Fencing=none` asks for no
    /// proof of a lost replica, so it waits for no word of a silent node either.
    pub(crate) fn counts(self, definition: &Definition) -> bool {
        self != Self::Unheard || definition.fencing != Fencing::None
    }
}

impl State {
    /// Why `unit` is possibly running on `node`; `None` when it is gone there.
    #[must_use]
    pub fn possibly_running_on(&self, unit: &UnitName, id: NodeId, node: &Node) -> Option<Possibly> {
        let held = self.units.get(unit).and_then(|known| known.permit_on(id));
        held.map(|(token, _)| Possibly::Permit(token)).or_else(|| said_to_run(unit, node))
    }

    /// Every unit that is possibly running on a node, in the order of their names. No look over all units.
    #[must_use]
    pub fn possibly_there<'a>(&'a self, id: NodeId, node: &'a Node) -> BTreeSet<&'a UnitName> {
        let life = node.life.as_ref();
        let unheard = life.is_none_or(|life| !life.inventory).then(|| node.offers.keys());
        let strays = life.map(|life| &life.strays);
        // All that `said_to_run` may say something of, and what holds a permit.
        let said = unheard.into_iter().flatten().chain(strays.into_iter().flatten());
        let all =
            self.held_on(id).map(|(unit, ..)| unit).chain(said.filter(|unit| self.units.contains_key(*unit)));
        all.filter(|unit| self.possibly_running_on(unit, id, node).is_some()).collect()
    }

    /// Every node on which `unit` is possibly running, with the reason.
    #[must_use]
    pub fn possibly_running(&self, unit: &UnitName) -> Vec<(NodeId, Possibly)> {
        let held = self.units.get(unit).map(held).unwrap_or_default();
        let how = |(id, node): (&NodeId, &Node)| {
            Some((*id, held.get(id).copied().or_else(|| said_to_run(unit, node))?))
        };
        self.nodes.iter().filter_map(how).collect()
    }

    /// Permits of `unit` whose node, in session now, said that it is active.
    pub fn known_active<'a>(&'a self, unit: &UnitName) -> impl Iterator<Item = (Token, &'a Permit)> + 'a {
        let permits = self.units.get(unit).into_iter().flat_map(|known| known.permits.iter());
        permits.filter(|(_, permit)| self.is_known_active(permit)).map(|(token, permit)| (*token, permit))
    }

    /// Whether this permit's holder, in session now, said that the unit is active, and nothing else since.
    #[must_use]
    pub fn is_known_active(&self, permit: &Permit) -> bool {
        let life = self.nodes.get(&permit.node).and_then(Node::in_session);
        permit.phase == Phase::Active
            && !permit.idle
            && life.is_some_and(|life| life.incarnation == permit.incarnation)
    }

    /// Whether a copy is known active and up at this moment, on that node or on any: what a start that needs it rests on (S4).
    /// What runs already stays while the copy is restarted by its own systemd.
    #[must_use]
    pub fn is_up(&self, unit: &UnitName, on: Option<NodeId>) -> bool {
        let there = |permit: &Permit| on.is_none_or(|node| permit.node == node);
        let told = |permit: &Permit| self.untold(permit).is_none();
        self.known_active(unit).any(|(_, permit)| permit.rest.is_none() && there(permit) && told(permit))
    }

    /// Who holds the permit, if that node was out of hearing, and has not said yet what became of the copy meanwhile.
    #[must_use]
    pub fn untold(&self, permit: &Permit) -> Option<&Node> {
        self.nodes.get(&permit.node).filter(|node| node.in_session().is_some_and(|life| !life.told))
    }

    /// Whether this permit's holder is lost and not proven gone.
    #[must_use]
    pub fn is_lost(&self, permit: &Permit) -> bool {
        self.nodes.get(&permit.node).is_some_and(|node| node.lost_since().is_some())
    }

    /// Units that require, are bound to, or run beside, `unit`: they stop before it (S4).
    pub fn dependents<'a>(&'a self, unit: &'a UnitName) -> impl Iterator<Item = &'a UnitName> + 'a {
        let needs = |name: &&UnitName| {
            let definition = self.units.get(*name).and_then(Unit::definition);
            definition.is_some_and(|definition| definition.needs_unit(unit))
        };
        // Who is kept as a dependent is only where to look: the definition in force decides.
        self.needed.get(unit).into_iter().flatten().filter(needs)
    }

    /// The dependent that has to stop before this permit may be revoked (S4), and where it is possibly running.
    ///
    /// A unit tied by `SameNodeAs=` hinders only on the same node; one that merely requires the unit hinders
    /// wherever it runs, unless other replicas of the unit stay. One that runs without a permit does so as well, where its
    /// node can be told to stop it.
    #[must_use]
    pub fn stops_first(&self, unit: &UnitName, token: Token) -> Option<(UnitName, NodeId)> {
        self.stops_first_of(unit, token, |_| true)
    }

    /// The same where other replicas are about to end too: only those of which `stays` is true count as staying.
    pub(crate) fn stops_first_of(
        &self,
        unit: &UnitName,
        token: Token,
        stays: impl Fn(Token) -> bool,
    ) -> Option<(UnitName, NodeId)> {
        let known = self.units.get(unit)?;
        let permit = known.permits.get(&token)?;
        let stay = |(other, permit): (&Token, &Permit)| {
            *other != token && stays(*other) && !permit.is_revoking() && !self.is_lost(permit)
        };
        let others_stay = known.permits.iter().any(stay);
        self.dependents(unit).find_map(|name| {
            let dependent = self.units.get(name)?;
            let beside = dependent.definition().is_some_and(|d| d.same_node_as.contains(unit));
            let holder = dependent.permits.values().find(|held| match beside {
                true => held.node == permit.node && !held.waits_beside(unit),
                false => !others_stay,
            });
            let there = |id: &NodeId| !others_stay && (!beside || *id == permit.node);
            let found = || self.found_running(name).find(there);
            Some((name.clone(), holder.map(|held| held.node).or_else(found)?))
        })
    }

    /// The nodes in session that run `unit` without a permit, where nobody else has the hands on it. Where its files are faulty it
    /// may be another unit's other name, which is not stopped for this one (F12).
    pub(crate) fn found_running<'a>(&'a self, unit: &'a UnitName) -> impl Iterator<Item = NodeId> + 'a {
        let faulty = |node: &Node| node.offers.get(unit).is_some_and(|offer| offer.fault.is_some());
        let runs = move |node: &Node| {
            node.in_session().is_some_and(|life| life.strays.contains(unit)) && !faulty(node)
        };
        let found = self.nodes.iter().filter(move |(_, node)| runs(node)).map(|(id, _)| *id);
        found.filter(|id| self.copy_maintenance(unit, *id).is_none())
    }

    /// Units that must not run while `unit` may: those that it names, and those that name it.
    pub fn opponents<'a>(&'a self, unit: &'a UnitName) -> impl Iterator<Item = &'a UnitName> + 'a {
        let definition = self.units.get(unit).and_then(Unit::definition);
        let named = definition.into_iter().flat_map(|definition| &definition.conflicts);
        let naming = self.opposed.get(unit).into_iter().flatten();
        named.chain(naming).filter(move |other| *other != unit)
    }

    /// An opponent that is possibly running, and where (section 0).
    #[must_use]
    pub fn opponent_running(&self, unit: &UnitName) -> Option<(UnitName, NodeId)> {
        self.opponents(unit).find_map(|other| {
            let (node, _) = self.possibly_running(other).into_iter().next()?;
            Some((other.clone(), node))
        })
    }

    /// Whether any node has a drop-in for it, right or wrong.
    #[must_use]
    pub fn is_offered(&self, unit: &UnitName) -> bool {
        self.nodes.values().any(|node| node.offers.get(unit).is_some_and(|offer| offer.present))
    }

    /// Nodes that run units and have not said, in their present life, whether this one runs there.
    ///
    /// A node may run a unit long before it offers it to the cluster: until it was asked by name, its silence on the
    /// unit says nothing.
    pub fn unheard_members<'a>(&'a self, unit: &'a UnitName) -> impl Iterator<Item = (NodeId, &'a Node)> {
        let since = self.units.get(unit).map_or(0, |known| known.since);
        self.nodes.iter().filter(move |(_, node)| is_unheard(unit, since, node)).map(|(id, node)| (*id, node))
    }

    /// Whether no session of the node may be given work: its presence, in words; `None` if it may.
    #[must_use]
    pub fn presence_fault(&self, node: &Node) -> Option<&'static str> {
        let Some(life) = &node.life else { return Some("was never heard") };
        if life.gone.is_some() {
            return Some("was fenced");
        }
        match life.presence {
            Presence::InSession => None,
            Presence::Leaving => Some("is going away: it, or its convoked, is being stopped"),
            Presence::Lost { .. } if life.isolated.is_some() => {
                Some("was cut off, and this life of it gets nothing more")
            }
            Presence::Lost { .. } if life.contradicted.is_some() => Some("spoke after it was proven off"),
            Presence::Lost { .. } => Some("is lost"),
        }
    }
}

/// The nodes that hold permits of a unit.
pub(crate) fn held(unit: &Unit) -> BTreeMap<NodeId, Possibly> {
    let mut held = BTreeMap::new();
    for (token, permit) in &unit.permits {
        held.entry(permit.node).or_insert(Possibly::Permit(*token));
    }
    held
}

/// Why a unit is possibly running on a node that holds no permit of it.
pub(crate) fn said_to_run(unit: &UnitName, node: &Node) -> Option<Possibly> {
    let Some(life) = node.life.as_ref() else {
        return node.offers.contains_key(unit).then_some(Possibly::Unheard);
    };
    if life.gone.is_some() {
        return None;
    }
    if life.strays.contains(unit) {
        return Some(Possibly::Stray);
    }
    (!life.inventory && node.offers.contains_key(unit)).then_some(Possibly::Unheard)
}

/// Whether a node runs units and has not said, in its present life, whether a unit that is known `since` runs there.
pub(crate) fn is_unheard(unit: &UnitName, since: u64, node: &Node) -> bool {
    node.role.runs_units()
        && match &node.life {
            None => true,
            Some(Life { gone: Some(_), .. }) => false,
            Some(life) => !life.inventory || (node.surveyed < since && !node.offers.contains_key(unit)),
        }
}
