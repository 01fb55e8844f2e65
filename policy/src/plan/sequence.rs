//! In which order units are planned, started and stopped.
//!
//! One total order, made from the definitions in force and kept as long as they are: every unit after what it needs and, where that
//! makes no circle, after what `After=` and `Before=` put before it. Starts follow it, stops go backwards through it,
//! so no two units can wait for each other. Knows no node and no permit.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::Range;

use crate::definition::Definition;
use crate::name::UnitName;
use crate::state::State;
use crate::unit::Unit;

use super::island::Islands;

/// The order of all units. Follows from the definitions in force and from nothing else.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    /// Every unit, in the order of names: the other lists speak of their places here.
    names: Vec<UnitName>,
    /// For each unit, those that it merely comes after.
    after: Vec<Vec<usize>>,
    /// The same edges from their other end.
    before: Vec<Vec<usize>>,
    /// For each unit, those that run where it runs.
    beside: Vec<Vec<usize>>,
    /// Place in the order, and `Priority=`: its own, or that of the most important unit that needs it.
    ranks: Vec<(usize, i64)>,
    /// Which units may have to do with each other.
    islands: Islands,
}

/// Edges between units by their places in the list of all.
struct Graph {
    /// Who comes later, through a need.
    needed_by: Vec<Vec<usize>>,
    /// Who comes later, by `After=` and `Before=` alone.
    followed_by: Vec<Vec<usize>>,
    /// Who runs where it runs.
    beside: Vec<Vec<usize>>,
    /// Who may have to do with whom.
    islands: Islands,
}

impl Sequence {
    pub(super) fn of(state: &State) -> Self {
        let names: Vec<&UnitName> = state.units.keys().collect();
        let graph = Graph::of(state, &names);
        let own = |unit: &Unit| unit.definition().map_or(0, |it| it.priority);
        let mut priority: Vec<i64> = state.units.values().map(own).collect();
        // What an important unit needs is as important. Backwards through any order that heeds needs, once is enough.
        let (mut order, mut raised) = (graph.sorted(&priority), false);
        for at in order.iter().rev().copied() {
            let later = graph.needed_by.get(at).into_iter().flatten();
            let highest = later.filter_map(|later| priority.get(*later)).max().copied();
            if let (Some(highest), Some(own)) = (highest, priority.get_mut(at))
                && highest > *own
            {
                *own = highest;
                raised = true;
            }
        }
        if raised {
            order = graph.sorted(&priority);
        }
        let mut rank = vec![0usize; names.len()];
        for (position, unit) in order.into_iter().enumerate() {
            if let Some(rank) = rank.get_mut(unit) {
                *rank = position;
            }
        }
        let mut after = vec![Vec::new(); names.len()];
        let mut before = vec![Vec::new(); names.len()];
        for (earlier, followers) in graph.followed_by.iter().enumerate() {
            for later in followers {
                // An edge that would close a circle does not count: its later end comes first.
                if rank.get(earlier) < rank.get(*later) {
                    after.get_mut(*later).into_iter().for_each(|list| list.push(earlier));
                    before.get_mut(earlier).into_iter().for_each(|list| list.push(*later));
                }
            }
        }
        let Graph { beside, islands, .. } = graph;
        let ranks = rank.into_iter().zip(priority).collect();
        let names = names.into_iter().cloned().collect();
        Self { names, after, before, beside, ranks, islands }
    }

    /// How many units there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Every unit, in the order of names.
    pub(super) fn names(&self) -> &[UnitName] {
        &self.names
    }

    /// The island of a unit; `None` if it is not in the order.
    pub(super) fn island(&self, unit: &UnitName) -> Option<usize> {
        self.islands.of(self.place(unit)?)
    }

    /// All islands.
    pub(super) fn islands(&self) -> Range<usize> {
        0..self.islands.count()
    }

    /// The units of these islands, in the order in which they are planned.
    pub(super) fn units(&self, islands: &BTreeSet<usize>) -> Vec<&UnitName> {
        let mut places: Vec<usize> =
            islands.iter().flat_map(|it| self.islands.members(*it)).copied().collect();
        places.sort_by_cached_key(|place| self.ranks.get(*place).map(|(rank, _)| *rank));
        places.into_iter().filter_map(|place| self.names.get(place)).collect()
    }

    /// Units that `unit` merely comes after: it starts after them and stops before them, where both do.
    pub(super) fn before<'a>(&'a self, unit: &UnitName) -> impl Iterator<Item = &'a UnitName> + use<'a> {
        self.listed(&self.after, unit)
    }

    /// Units that run where `unit` runs.
    pub(super) fn beside<'a>(&'a self, unit: &UnitName) -> impl Iterator<Item = &'a UnitName> + use<'a> {
        self.listed(&self.beside, unit)
    }

    /// Units that merely come after `unit`.
    pub(super) fn after<'a>(&'a self, unit: &UnitName) -> impl Iterator<Item = &'a UnitName> + use<'a> {
        self.listed(&self.before, unit)
    }

    /// How important a unit is.
    pub(super) fn priority(&self, unit: &UnitName) -> i64 {
        self.rank(unit).map_or(0, |(_, priority)| *priority)
    }

    /// When a unit is planned: after what it needs.
    pub(super) fn turn(&self, unit: &UnitName) -> usize {
        self.rank(unit).map_or(usize::MAX, |(turn, _)| *turn)
    }

    /// Whether `one` is planned after `other`.
    pub(super) fn is_later(&self, one: &UnitName, other: &UnitName) -> bool {
        self.rank(one).map(|(rank, _)| rank) > self.rank(other).map(|(rank, _)| rank)
    }

    /// The place of a unit in the list of names.
    pub(super) fn place(&self, unit: &UnitName) -> Option<usize> {
        self.names.binary_search(unit).ok()
    }

    fn rank(&self, unit: &UnitName) -> Option<&(usize, i64)> {
        self.ranks.get(self.place(unit)?)
    }

    fn listed<'a>(
        &'a self,
        lists: &'a [Vec<usize>],
        unit: &UnitName,
    ) -> impl Iterator<Item = &'a UnitName> + use<'a> {
        let places = self.place(unit).and_then(|place| lists.get(place)).into_iter().flatten();
        places.filter_map(|place| self.names.get(*place))
    }
}

impl Graph {
    fn of(state: &State, names: &[&UnitName]) -> Self {
        let place: BTreeMap<&UnitName, usize> =
            names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        let none = || vec![Vec::new(); names.len()];
        let (needed_by, followed_by, beside) = (none(), none(), none());
        let mut graph = Self { needed_by, followed_by, beside, islands: Islands::default() };
        let mut joined = Vec::new();
        for (at, unit) in state.units.values().enumerate() {
            let Some(definition) = unit.definition() else { continue };
            graph.join(at, definition, &place);
            joined.extend(definition.named().filter_map(|unit| Some((at, *place.get(unit)?))));
        }
        graph.islands = Islands::joined(names.len(), joined);
        graph
    }

    fn join(&mut self, at: usize, definition: &Definition, place: &BTreeMap<&UnitName, usize>) {
        let places = |unit: &UnitName| place.get(unit).copied().filter(|other| *other != at);
        for earlier in definition.needs().filter_map(places) {
            self.needed_by.get_mut(earlier).into_iter().for_each(|later| later.push(at));
        }
        for earlier in definition.after.iter().filter_map(places) {
            self.followed_by.get_mut(earlier).into_iter().for_each(|later| later.push(at));
        }
        for later in definition.before.iter().filter_map(places) {
            self.followed_by.get_mut(at).into_iter().for_each(|list| list.push(later));
        }
        for leader in definition.same_node_as.iter().filter_map(places) {
            self.beside.get_mut(leader).into_iter().for_each(|list| list.push(at));
        }
    }

    /// All places, each after those that lead to it; ties by priority, then in the order of names. A circle, which only `After=` and
    /// `Before=` can make (needs in a circle are never adopted), is opened at the unit that waits for no need.
    fn sorted(&self, priority: &[i64]) -> Vec<usize> {
        let count = priority.len();
        let key = |at: usize| (Reverse(priority.get(at).copied().unwrap_or(0)), at);
        let mut needs = vec![0usize; count];
        let mut waits = vec![0usize; count];
        for (lists, counts) in [(&self.needed_by, &mut needs), (&self.followed_by, &mut waits)] {
            for later in lists.iter().flatten() {
                counts.get_mut(*later).into_iter().for_each(|count| *count = count.saturating_add(1));
            }
        }
        let count_of = |counts: &[usize], at: usize| counts.get(at).copied().unwrap_or(0);
        let mut ready = BTreeSet::new();
        let mut stuck = BTreeSet::new();
        let mut open: BTreeSet<(Reverse<i64>, usize)> = (0..count).map(key).collect();
        for at in 0..count {
            match (count_of(&needs, at), count_of(&waits, at)) {
                (0, 0) => ready.insert(key(at)),
                (0, _) => stuck.insert(key(at)),
                _ => false,
            };
        }
        let mut order = Vec::with_capacity(count);
        while let Some((rank, at)) =
            ready.pop_first().or_else(|| stuck.pop_first()).or_else(|| open.first().copied())
        {
            if !open.remove(&(rank, at)) {
                continue;
            }
            order.push(at);
            for (lists, counts) in [(&self.needed_by, &mut needs), (&self.followed_by, &mut waits)] {
                for later in lists.get(at).into_iter().flatten() {
                    counts.get_mut(*later).into_iter().for_each(|count| *count = count.saturating_sub(1));
                }
            }
            let later = [&self.needed_by, &self.followed_by].into_iter().filter_map(|lists| lists.get(at));
            for later in later.flatten().copied().filter(|later| open.contains(&key(*later))) {
                match (count_of(&needs, later), count_of(&waits, later)) {
                    (0, 0) => {
                        stuck.remove(&key(later));
                        ready.insert(key(later));
                    }
                    (0, _) => {
                        stuck.insert(key(later));
                    }
                    _ => {}
                }
            }
        }
        order
    }
}
