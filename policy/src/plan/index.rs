//! What nodes say, turned round: for each unit the nodes that offer it, and those where it may be running.
//!
//! Made once per plan, in one look at every offer and every permit, so that no unit's plan looks over all nodes or all
//! units. Says what [`State`]'s own queries say, which `apply` asks: a mistake here makes a plan that is refused.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use crate::definition::Definition;
use crate::name::{NodeId, UnitName};
use crate::node::{Node, Offer};
use crate::query::{Possibly, Standing};
use crate::state::State;
use crate::unit::{Adopted, Unit};

/// One node's offer of a unit.
pub(super) struct Offered<'a> {
    pub(super) id: NodeId,
    pub(super) node: &'a Node,
    pub(super) offer: &'a Offer,
    /// Whether it is the definition in force.
    pub(super) agrees: bool,
}

/// One unit, as the nodes have it.
#[derive(Default)]
pub(super) struct Known<'a> {
    definition: Option<&'a Definition>,
    /// Nodes that offer it, or ever did.
    pub(super) offers: Vec<Offered<'a>>,
    /// Where it is possibly running, and why.
    pub(super) running: Vec<(NodeId, Possibly)>,
    /// Nodes whose present life found it active without a permit.
    pub(super) strays: Vec<NodeId>,
}

/// Everything that is looked up by unit. Every list is in the order of nodes.
pub(super) struct Index<'a> {
    state: &'a State,
    names: Vec<&'a UnitName>,
    known: Vec<Known<'a>>,
    nobody: Known<'a>,
    /// Nodes that run units and have not said what runs on them.
    silent: Vec<NodeId>,
    /// Those that have, by how far: up to which index they were asked about new units.
    surveyed: Vec<(u64, NodeId, &'a Node)>,
    /// Nodes that take nothing before their fence devices were looked at.
    unlooked: BTreeSet<NodeId>,
}

impl<'a> Index<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let names: Vec<&UnitName> = state.units.keys().collect();
        let known = |unit: &'a Unit| Known { definition: unit.definition(), ..Known::default() };
        let known = state.units.values().map(known).collect();
        let mut index = Self {
            state,
            names,
            known,
            nobody: Known::default(),
            silent: vec![],
            surveyed: vec![],
            unlooked: unlooked(state),
        };
        for (id, node) in &state.nodes {
            index.node(*id, node);
        }
        index.surveyed.sort_by_key(|(surveyed, id, _)| (*surveyed, *id));
        for (known, unit) in index.known.iter_mut().zip(state.units.values()) {
            known.permits(state, unit);
        }
        index
    }

    fn node(&mut self, id: NodeId, node: &'a Node) {
        let life = node.life.as_ref();
        let gone = life.is_some_and(|life| life.gone.is_some());
        let silent = !gone && life.is_none_or(|life| !life.inventory);
        if node.role.runs_units() && silent {
            self.silent.push(id);
        } else if node.role.runs_units() && !gone {
            self.surveyed.push((node.surveyed, id, node));
        }
        let mut at = 0;
        for name in life.into_iter().flat_map(|life| &life.strays) {
            at = seek(&self.names, at, name);
            let Some(known) = self.found(at, name) else { continue };
            known.strays.push(id);
            if !gone {
                known.running.push((id, Possibly::Stray));
            }
        }
        let mut at = 0;
        for (name, offer) in &node.offers {
            at = seek(&self.names, at, name);
            let Some(known) = self.found(at, name) else { continue };
            let agrees = known.definition == offer.definition.as_ref();
            known.offers.push(Offered { id, node, offer, agrees });
            if silent && known.running.last().is_none_or(|(last, _)| *last != id) {
                known.running.push((id, Possibly::Unheard));
            }
        }
    }

    fn found(&mut self, at: usize, name: &UnitName) -> Option<&mut Known<'a>> {
        let here = self.names.get(at).is_some_and(|known| *known == name);
        self.known.get_mut(at).filter(|_| here)
    }

    /// A unit; nothing of one that nobody knows.
    pub(super) fn known(&self, name: &UnitName) -> &Known<'a> {
        let at = self.names.binary_search(&name).ok();
        at.and_then(|at| self.known.get(at)).unwrap_or(&self.nobody)
    }

    /// As [`State::possibly_running`].
    pub(super) fn running(&self, name: &UnitName) -> &[(NodeId, Possibly)] {
        &self.known(name).running
    }

    /// As [`State::unheard_members`].
    pub(super) fn unheard(&self, name: &UnitName, unit: &Unit) -> Vec<NodeId> {
        let asked_later = self.surveyed.iter().take_while(|(surveyed, _, _)| *surveyed < unit.since);
        let asked_later = asked_later.filter(|(_, _, node)| !node.offers.contains_key(name));
        let mut unheard: Vec<NodeId> = self.silent.clone();
        unheard.extend(asked_later.map(|(_, id, _)| *id));
        unheard.sort();
        unheard
    }

    /// As [`State::standing`].
    pub(super) fn standing<'b>(
        &self,
        name: &'b UnitName,
        unit: &'b Unit,
        adopted: &'b Adopted,
    ) -> Standing<'b> {
        let opponent = self.state.opponents(name).find_map(|other| {
            let (node, _) = self.running(other).first()?;
            Some((other.clone(), *node))
        });
        let first = unit.is_exclusive() && unit.last_token.is_none();
        let unheard = if first { self.unheard(name, unit) } else { Vec::new() };
        let running = self.running(name).to_vec();
        Standing { name, unit, adopted, running, unheard, opponent }
    }

    /// Whether a node takes nothing before its fence devices were looked at.
    pub(super) fn awaits_look(&self, node: NodeId) -> bool {
        self.unlooked.contains(&node)
    }
}

impl Known<'_> {
    /// A permit says more than what the node says of itself.
    fn permits(&mut self, state: &State, unit: &Unit) {
        for (token, permit) in &unit.permits {
            let how = Possibly::Permit(*token);
            match self.running.binary_search_by_key(&permit.node, |(node, _)| *node) {
                Ok(at) => match self.running.get_mut(at) {
                    Some((_, Possibly::Permit(_))) | None => {}
                    Some((_, said)) => *said = how,
                },
                Err(at) if state.nodes.contains_key(&permit.node) => {
                    self.running.insert(at, (permit.node, how));
                }
                Err(_) => {}
            }
        }
    }
}

/// The place of `name`, or of the first after it, at `from` or beyond. Steps grow until they pass it: a node that offers
/// every unit takes one step for each, one that offers few skips the others.
fn seek(names: &[&UnitName], from: usize, name: &UnitName) -> usize {
    let before = |at: usize| names.get(at).is_some_and(|known| *known < name);
    let (mut low, mut step) = (from, 1usize);
    while before(low.saturating_add(step)) {
        low = low.saturating_add(step);
        step = step.saturating_mul(2);
    }
    let high = low.saturating_add(step).min(names.len());
    let between = names.get(low..high).unwrap_or_default();
    low.saturating_add(between.partition_point(|known| *known < name))
}

/// A node with fence devices takes nothing before one level can fence it, or each of them was looked at once in its present
/// life, whatever that showed: a device that was never seen ON cannot fence it later. Without another node in session nobody
/// could look.
fn unlooked(state: &State) -> BTreeSet<NodeId> {
    let mut unlooked: BTreeSet<NodeId> = BTreeSet::new();
    let life = |node: NodeId| state.nodes.get(&node).and_then(|node| node.life.as_ref());
    for (name, device) in &state.devices {
        let unseen = |node: &&NodeId| {
            life(**node).is_some_and(|life| state.seen(name, **node, &life.incarnation).is_none())
        };
        unlooked.extend(device.targets.keys().filter(unseen));
    }
    let present = || state.nodes.iter().filter(|(_, node)| node.in_session().is_some()).map(|(id, _)| *id);
    unlooked.retain(|node| {
        let counts = life(*node).is_some_and(|life| state.first_level(*node, &life.incarnation).is_some());
        !counts && present().any(|other| other != *node)
    });
    unlooked
}
