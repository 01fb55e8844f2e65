//! What nodes have to give, with what this plan takes of it, and who makes room for whom.
//!
//! Priority decides who is placed first and who stays on a shortage; of equals, whoever came first.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::definition::Definition;
use crate::event::StopReason;
use crate::name::{NodeId, Token, UnitName};
use crate::node::Node;
use crate::permit::{Permit, Phase};
use crate::query::Possibly;
use crate::room::lack;
use crate::unit::Unit;

use super::holdings::{Amounts, Holdings};
use super::{Planner, Reason};

/// What is held on the nodes, with what this plan adds.
pub(super) struct Room<'a> {
    /// What is held before it.
    before: &'a Holdings,
    /// Permits of this plan on each node: as many starts.
    granted: BTreeMap<NodeId, u32>,
    /// Permits of this plan on all nodes.
    begun: u32,
    /// How much of each capacity this plan takes.
    taken: Amounts,
}

/// How well a node suits.
pub(super) type Merit = (usize, usize, Reverse<i64>);

/// Permits that make room for another.
type Victims = Vec<(UnitName, Token)>;

/// How much is lost by clearing a node, the smaller the better: the highest priority that leaves, how many leave.
type Loss = (Option<i64>, usize, NodeId);

/// Copies on each value of `Spread=`.
pub(super) type Copies<'a> = BTreeMap<Option<&'a str>, usize>;

impl<'a> Room<'a> {
    pub(super) fn of(before: &'a Holdings) -> Self {
        Self { before, granted: BTreeMap::new(), begun: 0, taken: Amounts::default() }
    }

    /// Notes a grant of this plan.
    pub(super) fn grant(&mut self, node: NodeId, definition: &Definition) {
        let granted = self.granted.entry(node).or_default();
        *granted = granted.saturating_add(1);
        self.begun = self.begun.saturating_add(1);
        self.taken.add(node, &definition.uses);
    }

    /// Keeps what a unit is to have on a node.
    pub(super) fn keep(&mut self, node: NodeId, definition: &Definition) {
        self.taken.add(node, &definition.uses);
    }

    /// Takes that back.
    pub(super) fn give_back(&mut self, node: NodeId, definition: &Definition) {
        self.taken.subtract(node, &definition.uses);
    }

    fn granted(&self, node: NodeId) -> u32 {
        self.granted.get(&node).copied().unwrap_or(0)
    }

    /// Permits on a node, those of this plan among them.
    pub(super) fn load(&self, node: NodeId) -> u32 {
        self.before.load(node).saturating_add(self.granted(node))
    }

    fn taken(&self, node: NodeId, of: &str) -> u64 {
        self.before.taken(node, of).saturating_add(self.taken.of(node, of))
    }

    /// What the node lacks for the unit, in words.
    pub(super) fn lack(&self, id: NodeId, node: &Node, definition: &Definition) -> Option<String> {
        lack(node, definition, |of| self.taken(id, of))
    }

    /// How many starts may still begin in the whole cluster.
    pub(super) fn starts_left(&self, most: Option<u32>) -> usize {
        most.map_or(usize::MAX, |most| {
            let under_way = self.before.under_way().saturating_add(self.begun);
            most.saturating_sub(under_way) as usize
        })
    }

    /// Whether the node has as many starts under way as it may.
    pub(super) fn is_busy(&self, node: NodeId, most: Option<u32>) -> bool {
        most.is_some_and(|most| self.before.starting(node).saturating_add(self.granted(node)) >= most)
    }
}

impl Planner<'_> {
    /// Why a node that could take a unit must not have it beside these, which are there or come there with this plan.
    pub(super) fn crowd(&self, strangers: &[&UnitName], id: NodeId, node: &Node) -> Option<String> {
        strangers.iter().find_map(|other| {
            let how = match self.state.possibly_running_on(other, id, node) {
                Some(_) => "is on",
                None if self.comes(other, id) => "is to run on",
                None => return None,
            };
            Some(alloc::format!("it must not share a node with {other}, which {how} {}", node.name))
        })
    }

    /// Whether a unit comes to a node with this plan, or the node is being cleared for it.
    fn comes(&self, name: &UnitName, id: NodeId) -> bool {
        let units = [self.granted.get(&id), self.promised.get(&id)];
        units.into_iter().flatten().any(|units| units.contains(name))
    }

    /// Marks what has to leave so that a unit finds room on one of these nodes: whoever must not share it, then as few and
    /// as unimportant as will do, the youngest first. Nothing, if it would not do, or what leaves already will. What the unit is to have is kept for it.
    pub(super) fn make_room(&mut self, name: &UnitName, definition: &Definition, short: &[NodeId]) {
        let mut best: Option<(Loss, Victims)> = None;
        for id in short {
            let Some(node) = self.state.nodes.get(id) else { continue };
            let Some(victims) = self.victims(name, definition, *id, node) else { continue };
            let highest = victims.iter().map(|(unit, _)| self.sequence.priority(unit)).max();
            let key = (highest, victims.len(), *id);
            if best.as_ref().is_none_or(|(before, _)| key < *before) {
                best = Some((key, victims));
            }
        }
        let Some(((_, _, id), victims)) = best else { return };
        if self.promised.get(&id).is_some_and(|units| units.contains(name)) {
            return;
        }
        // Else who left would be back before the last of them has left.
        self.room.taken.add(id, &definition.uses);
        self.entangled = true;
        self.promised.entry(id).or_default().insert(name.clone());
        for (unit, token) in victims {
            self.mark(&unit, token, StopReason::Outranked(name.clone()));
        }
    }

    fn victims(&self, name: &UnitName, definition: &Definition, id: NodeId, node: &Node) -> Option<Victims> {
        let mut freed: BTreeMap<String, u64> = BTreeMap::new();
        let give = |uses: &BTreeMap<String, u64>, freed: &mut BTreeMap<String, u64>| {
            for of in definition.uses.keys() {
                let sum = freed.entry(of.clone()).or_default();
                *sum = sum.saturating_add(uses.get(of).copied().unwrap_or(0));
            }
        };
        let fits = |freed: &BTreeMap<String, u64>| {
            let left = |of: &str| self.room.taken(id, of).saturating_sub(freed.get(of).copied().unwrap_or(0));
            lack(node, definition, left).is_none()
        };
        let yields = |unit: &UnitName| {
            self.state.copy_maintenance(unit, id).is_none()
                && self.sequence.priority(unit) < self.sequence.priority(name)
                && self.sequence.is_later(unit, name)
        };
        // Of those that must not share the node with it, everyone has to go.
        let mut victims = Victims::new();
        for stranger in self.state.strangers(name) {
            match self.state.possibly_running_on(stranger, id, node) {
                None => {}
                Some(Possibly::Permit(token)) if self.is_leaving(stranger, token) => {}
                Some(Possibly::Permit(token)) if yields(stranger) => {
                    victims.push((stranger.clone(), token));
                }
                Some(_) => return None,
            }
            if self.comes(stranger, id) {
                return None;
            }
        }
        let mut able = Vec::new();
        for (unit, token) in self.room.before.users(id) {
            let Some(user) = self.state.units.get(unit).and_then(Unit::definition) else { continue };
            if self.is_leaving(unit, *token) || victims.iter().any(|(victim, _)| victim == unit) {
                give(&user.uses, &mut freed);
            } else if yields(unit) {
                able.push((Reverse(self.precedes(unit, *token)), *token, unit, user));
            }
        }
        able.sort_by_key(|(precedes, ..)| *precedes);
        for (_, token, unit, user) in able {
            if fits(&freed) {
                break;
            }
            if user.uses.keys().any(|of| definition.uses.contains_key(of)) {
                give(&user.uses, &mut freed);
                victims.push((unit.clone(), token));
            }
        }
        fits(&freed).then_some(victims)
    }

    /// Which of two copies stays on a shortage, the smaller: the more important, then who has run for longer. What a unit needs has
    /// run for as long as the unit: it stops last.
    fn precedes(&self, name: &UnitName, token: Token) -> (Reverse<i64>, Token, usize) {
        let mut oldest = token;
        let mut open: Vec<&UnitName> = self.state.dependents(name).collect();
        let mut seen = BTreeSet::new();
        while let Some(other) = open.pop() {
            if !seen.insert(other) {
                continue;
            }
            let held = self.state.units.get(other).and_then(|unit| unit.permits.keys().next());
            oldest = held.map_or(oldest, |held| oldest.min(*held));
            open.extend(self.state.dependents(other));
        }
        (Reverse(self.sequence.priority(name)), oldest, self.sequence.turn(name))
    }

    /// Whether a node gives more than it has, since its capacity was lowered, and this permit is the one to end.
    pub(super) fn exceeds(
        &mut self,
        name: &UnitName,
        token: Token,
        id: NodeId,
        node: &Node,
    ) -> Option<String> {
        let definition = self.state.units.get(name).and_then(Unit::definition)?;
        let over =
            |of: &str| node.capacity(of).is_some_and(|capacity| self.room.before.held(id, of) > capacity);
        if !definition.uses.keys().any(|of| over(of)) {
            return None;
        }
        self.restless = true;
        definition.uses.keys().find_map(|of| {
            let capacity = node.capacity(of).filter(|_| over(of))?;
            let mut users = Vec::new();
            for (unit, token) in self.room.before.users(id) {
                let used = self.state.units.get(unit).and_then(Unit::definition)?.uses.get(of).copied();
                users.push((self.precedes(unit, *token), *token, used.unwrap_or(0)));
            }
            users.sort();
            let mut sum = 0u64;
            let over = users.into_iter().find(|(_, user, amount)| {
                sum = sum.saturating_add(*amount);
                *user == token && sum > capacity
            });
            over.map(|_| of.to_string())
        })
    }

    /// Units tied to this one by `SameNodeAs=`, directly or through others, that are to run; none that must not share a node
    /// with it, which could nowhere follow it.
    pub(super) fn companions(&self, name: &UnitName) -> Vec<(&UnitName, &Unit)> {
        let mut found: Vec<(&UnitName, &Unit)> = Vec::new();
        let mut open: Vec<&UnitName> = self.sequence.beside(name).collect();
        while let Some(other) = open.pop() {
            let Some((other, unit)) = self.state.units.get_key_value(other) else { continue };
            let started = unit.goal.wanted == crate::unit::Wanted::Started;
            let torn = self.state.strangers(name).any(|stranger| stranger == other);
            if started && !torn && !found.iter().any(|(known, _)| *known == other) {
                found.push((other, unit));
                open.extend(self.sequence.beside(other));
            }
        }
        found
    }

    /// How well a node suits a unit and its companions, the smaller the better: how many could not follow it there, how
    /// many other copies have its value of `Spread=`, what they all prefer.
    pub(super) fn merit(
        &self,
        (unit, definition): (&Unit, &Definition),
        companions: &[(&UnitName, &Unit)],
        copies: &Copies,
        id: NodeId,
    ) -> Merit {
        let Some(node) = self.state.nodes.get(&id) else { return (usize::MAX, 0, Reverse(0)) };
        let (unfit, theirs) = if companions.is_empty() {
            (0, 0)
        } else {
            self.company((unit, definition), companions, id, node)
        };
        let same = copies.get(&self.spread_value(definition, id)).copied().unwrap_or(0);
        let spread = if definition.spread.is_some() { same } else { 0 };
        (unfit, spread, Reverse(definition.preference(node).saturating_add(theirs)))
    }

    /// How many copies there are on each value of `Spread=`, one of them aside.
    pub(super) fn copies(&self, unit: &Unit, definition: &Definition, aside: Option<Token>) -> Copies<'_> {
        let mut copies = Copies::new();
        for (_, permit) in unit.permits.iter().filter(|(token, _)| Some(**token) != aside) {
            let count = copies.entry(self.spread_value(definition, permit.node)).or_default();
            *count = count.saturating_add(1);
        }
        copies
    }

    /// A node's value of `Spread=`. Nodes that have none are together, as one value.
    pub(super) fn spread_value(&self, definition: &Definition, id: NodeId) -> Option<&str> {
        let attribute = definition.spread.as_ref()?;
        self.state.nodes.get(&id)?.attributes.get(attribute).map(String::as_str)
    }

    /// How many of a unit's companions could not follow it to a node, and what the others prefer of it.
    fn company(
        &self,
        (unit, definition): (&Unit, &Definition),
        companions: &[(&UnitName, &Unit)],
        id: NodeId,
        node: &Node,
    ) -> (usize, i64) {
        let (mut unfit, mut preference) = (0usize, 0i64);
        // What they have there is counted already.
        let held = |unit: &Unit| unit.permit_on(id).is_some();
        let uses = if held(unit) { BTreeMap::new() } else { definition.uses.clone() };
        let mut together = Definition { uses, ..Definition::exclusive() };
        for (name, unit) in companions {
            let Some(wanted) = unit.definition() else { continue };
            let fits = node.offers.get(*name).is_some_and(|offer| offer.is_sound(wanted))
                && wanted.allows(node)
                && !unit.holds.contains_key(&id)
                && unit.avoided_until(id, self.now).is_none()
                && self.crowd(&self.state.strangers(name).collect::<Vec<_>>(), id, node).is_none();
            if !fits {
                unfit = unfit.saturating_add(1);
                continue;
            }
            preference = preference.saturating_add(wanted.preference(node));
            for (of, amount) in wanted.uses.iter().filter(|_| !held(unit)) {
                let sum = together.uses.entry(of.clone()).or_default();
                *sum = sum.saturating_add(*amount);
            }
        }
        if self.room.lack(id, node, &together).is_some() {
            unfit = unfit.saturating_add(1);
        }
        (unfit, preference)
    }

    /// How many starts of a unit may begin now, by `StartOneAtATime=` and the cluster's cap.
    pub(super) fn starts_allowed(&mut self, name: &UnitName, unit: &Unit, definition: &Definition) -> usize {
        let left = self.room.starts_left(self.state.settings.starts_per_cluster);
        if left == 0 {
            self.because(name, Reason::TooManyStarts(None));
            return 0;
        }
        if !definition.start_one_at_a_time {
            return left;
        }
        let starting = |permit: &&Permit| permit.phase == Phase::Granted && !self.state.is_lost(permit);
        match unit.permits.values().find(starting).map(|permit| permit.node) {
            Some(node) => {
                self.because(name, Reason::Starting(node));
                0
            }
            None => left.min(1),
        }
    }
}
