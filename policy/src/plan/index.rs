//! What nodes say, turned round: for each unit the nodes that offer it, and those where it may be running.
//!
//! Made once per plan of the units that are planned, of all units in one look at every offer and every permit, so that the
//! plan of a unit does not look over all nodes or all units (clustered services still do), and no unit asks of a node what
//! another one has asked. Says what [`State`]'s own queries say, which `apply` asks: a mistake here makes a plan that is refused.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use crate::definition::Definition;
use crate::name::{Millis, NodeId, UnitName};
use crate::node::{Life, Node, Offer};
use crate::query::Possibly;
use crate::refusal::Refusal;
use crate::standing::{Candidate, Standing};
use crate::state::State;
use crate::unit::{Adopted, Unit};

/// A node as it stands for every unit.
pub(super) struct Host<'a> {
    pub(super) id: NodeId,
    pub(super) node: &'a Node,
    /// Why it takes nothing now, if so: as [`State::node_accepts`].
    pub(super) accepts: Result<(), Refusal>,
    /// It takes nothing before its fence devices were looked at.
    pub(super) awaits_observation: bool,
    /// One of its isolating devices has not shown its way open.
    pub(super) not_connected: bool,
    /// It has not said, in its present life, what runs on it.
    silent: bool,
}

/// One node's offer of a unit.
pub(super) struct Offered<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) offer: &'a Offer,
    /// Whether they say what the definition in force does.
    pub(super) agrees: bool,
    /// Whether a copy may be started by them: as [`Offer::is_sound`].
    pub(super) sound: bool,
}

/// One unit, as the nodes have it. Its lists are in the order of nodes.
#[derive(Default)]
pub(super) struct Known<'a> {
    unit: Option<&'a Unit>,
    definition: Option<&'a Definition>,
    /// Nodes that offer it, or ever did.
    pub(super) offers: Vec<Offered<'a>>,
    /// Where it is possibly running, and why.
    pub(super) running: Vec<(NodeId, Possibly)>,
    /// Nodes whose present life found it active without a permit.
    pub(super) strays: Vec<NodeId>,
}

/// Everything that is looked up by unit.
pub(super) struct Index<'a> {
    state: &'a State,
    hosts: &'a [Host<'a>],
    /// Those that it is of.
    names: Vec<&'a UnitName>,
    known: Vec<Known<'a>>,
    nobody: Known<'a>,
    /// The place of the one that was asked for last: most questions are about the same unit, or the next.
    last: Cell<usize>,
    /// Nodes that run units and have not said what runs on them.
    silent: Vec<NodeId>,
    /// Nodes in maintenance on which copies ended meanwhile.
    keeping: Vec<(NodeId, &'a Node)>,
    /// Those that have, by how far: up to which index they were asked about new units.
    surveyed: Vec<(u64, NodeId, &'a Node)>,
}

impl<'a> Host<'a> {
    /// All nodes, in their order.
    pub(super) fn all(state: &'a State, now: Millis) -> Vec<Self> {
        let unlooked = unlooked(state);
        // Few nodes have such a device, and each is asked of all of its devices.
        let cutting = state.devices.values().filter(|device| device.isolates.is_some());
        let cut: BTreeSet<NodeId> = cutting.flat_map(|device| device.targets.keys().copied()).collect();
        let silent = |life: &Life| life.gone.is_none() && !life.inventory;
        let hosts = state.nodes.iter().map(|(id, node)| Self {
            id: *id,
            node,
            accepts: state.node_accepts(*id, node, now),
            awaits_observation: unlooked.contains(id),
            not_connected: cut.contains(id) && state.not_connected(*id).is_some(),
            silent: node.life.as_ref().is_none_or(silent),
        });
        hosts.collect()
    }
}

impl<'a> Offered<'a> {
    /// The node, as one that may take the unit.
    pub(super) fn candidate(&self) -> Candidate<'a> {
        let Host { id, node, accepts, .. } = self.host;
        Candidate { id: *id, node, accepts, offer: Some(self.offer), sound: self.sound }
    }
}

impl<'a> Index<'a> {
    /// Of every unit, and of what was forgotten while a node had it running.
    pub(super) fn of(state: &'a State, hosts: &'a [Host<'a>]) -> Self {
        let forgotten: BTreeSet<&UnitName> = forgotten(state).collect();
        let mut names: Vec<&UnitName> = state.units.keys().chain(forgotten).collect();
        names.sort();
        let mut index = Self::empty(state, hosts, names);
        for host in hosts {
            index.hears_all(host);
        }
        index.permits();
        index
    }

    /// Of some units, of which these nodes and no others may say anything, each in their order.
    pub(super) fn of_units<'b>(
        state: &'a State,
        hosts: &'a [Host<'a>],
        mut names: Vec<&'a UnitName>,
        places: impl Fn(&UnitName) -> &'b [NodeId],
    ) -> Self {
        names.sort();
        let mut index = Self::empty(state, hosts, names);
        for (name, known) in index.names.iter().copied().zip(&mut index.known) {
            for host in places(name).iter().filter_map(|id| find(hosts, *id)) {
                let life = host.node.life.as_ref();
                let stray = life.is_some_and(|life| life.strays.contains(name));
                known.hears(host, host.node.offers.get(name), stray);
            }
        }
        index.permits();
        index
    }

    fn empty(state: &'a State, hosts: &'a [Host<'a>], names: Vec<&'a UnitName>) -> Self {
        let known = |name: &&'a UnitName| {
            let unit = state.units.get(*name);
            Known { unit, definition: unit.and_then(Unit::definition), ..Known::default() }
        };
        let known = names.iter().map(known).collect();
        let (silent, surveyed, keeping) = (vec![], vec![], vec![]);
        let (nobody, last) = (Known::default(), Cell::new(0));
        let mut index = Self { state, hosts, names, known, nobody, last, silent, surveyed, keeping };
        for Host { id, node, silent, .. } in hosts {
            if !node.kept.is_empty() {
                index.keeping.push((*id, *node));
            }
            if node.role.runs_units() && *silent {
                index.silent.push(*id);
            } else if node.role.runs_units() && node.life.as_ref().is_some_and(|life| life.gone.is_none()) {
                index.surveyed.push((node.surveyed, *id, *node));
            }
        }
        index.surveyed.sort_by_key(|(surveyed, id, _)| (*surveyed, *id));
        index
    }

    /// What a node says of all units.
    fn hears_all(&mut self, host: &'a Host<'a>) {
        let mut next = 0;
        for name in host.node.life.iter().flat_map(|life| &life.strays) {
            let Some(known) = self.next(&mut next, name) else { continue };
            known.hears(host, None, true);
        }
        let mut next = 0;
        for (name, offer) in &host.node.offers {
            let Some(known) = self.next(&mut next, name) else { continue };
            known.hears(host, Some(offer), false);
        }
    }

    fn permits(&mut self) {
        for known in &mut self.known {
            if let Some(unit) = known.unit {
                known.permits(self.state, unit);
            }
        }
    }

    /// The unit of that name, at `from` or beyond, which is left behind it: names are asked for in their order. A node
    /// that offers every unit takes one step for each, one that offers few skips the others.
    fn next(&mut self, from: &mut usize, name: &UnitName) -> Option<&mut Known<'a>> {
        if self.names.get(*from).is_none_or(|next| *next != name) {
            *from = seek(&self.names, *from, name);
            if self.names.get(*from).is_none_or(|next| *next != name) {
                return None;
            }
        }
        let known = self.known.get_mut(*from);
        *from = from.saturating_add(1);
        known
    }

    /// The units that it is of, in the order of names.
    pub(super) fn units(&self) -> impl Iterator<Item = (&'a UnitName, &'a Unit)> {
        self.names.iter().zip(&self.known).filter_map(|(name, known)| Some((*name, known.unit?)))
    }

    /// Nodes that say anything of each of them, in the order of names.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'a UnitName, Vec<NodeId>)> {
        self.names.iter().zip(&self.known).map(|(name, known)| (*name, known.named()))
    }

    /// A unit; nothing of one that nobody knows.
    pub(super) fn known(&self, name: &UnitName) -> &Known<'a> {
        let last = self.last.get();
        let near = [last, last.saturating_add(1)];
        let near = near.into_iter().find(|at| self.names.get(*at).is_some_and(|known| *known == name));
        let Some(at) = near.or_else(|| self.names.binary_search(&name).ok()) else { return &self.nobody };
        self.last.set(at);
        self.known.get(at).unwrap_or(&self.nobody)
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
        let kept = self.kept(name).collect();
        Standing::of(self.state, (name, unit, adopted), running, (unheard, kept), opponent)
    }

    /// Nodes in maintenance on which copies of it ended meanwhile.
    pub(super) fn kept(&self, name: &UnitName) -> impl Iterator<Item = NodeId> {
        self.keeping.iter().filter(move |(_, node)| node.kept.contains(name)).map(|(id, _)| *id)
    }

    /// The node, as it stands for every unit.
    pub(super) fn host(&self, id: NodeId) -> Option<&'a Host<'a>> {
        find(self.hosts, id)
    }
}

impl<'a> Known<'a> {
    /// A node, as one that may take the unit.
    pub(super) fn candidate(&self, host: &'a Host<'a>) -> Candidate<'a> {
        let at = self.offers.binary_search_by_key(&host.id, |offered| offered.host.id).ok();
        let offered = at.and_then(|at| self.offers.get(at));
        let (offer, sound) = (offered.map(|it| it.offer), offered.is_some_and(|it| it.sound));
        Candidate { id: host.id, node: host.node, accepts: &host.accepts, offer, sound }
    }

    /// Nodes that say anything of it, in their order.
    fn named(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.offers.iter().map(|offered| offered.host.id).collect();
        if !self.strays.is_empty() {
            nodes.extend(&self.strays);
            nodes.sort();
            nodes.dedup();
        }
        nodes
    }

    /// What a node says of it.
    fn hears(&mut self, host: &'a Host<'a>, offer: Option<&'a Offer>, stray: bool) {
        if stray {
            self.strays.push(host.id);
            if host.node.life.as_ref().is_some_and(|life| life.gone.is_none()) {
                self.running.push((host.id, Possibly::Stray));
            }
        }
        let Some(offer) = offer else { return };
        let agrees = self.definition == offer.definition.as_ref();
        let sound = agrees && offer.is_usable();
        self.offers.push(Offered { host, offer, agrees, sound });
        if host.silent && self.running.last().is_none_or(|(last, _)| *last != host.id) {
            self.running.push((host.id, Possibly::Unheard));
        }
    }

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

fn find<'a>(hosts: &'a [Host<'a>], id: NodeId) -> Option<&'a Host<'a>> {
    let at = hosts.binary_search_by_key(&id, |host| host.id).ok()?;
    hosts.get(at)
}

/// What nodes found active without a permit that is no unit of the cluster any more.
pub(super) fn forgotten(state: &State) -> impl Iterator<Item = &UnitName> {
    let lives = state.nodes.values().filter_map(|node| node.life.as_ref());
    lives.flat_map(|life| &life.strays).filter(|name| !state.units.contains_key(*name))
}

/// The place of `name`, or of the first after it, at `from` or beyond. Steps grow until they pass it.
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
