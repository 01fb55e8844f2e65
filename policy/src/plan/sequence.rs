//! In which order units are planned, started and stopped.
//!
//! One total order, made once per plan from the definitions in force: every unit after what it needs and, where that
//! makes no circle, after what `After=` and `Before=` put before it. Starts follow it, stops go backwards through it,
//! so no two units can wait for each other. Knows no node and no permit.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::definition::Definition;
use crate::name::UnitName;
use crate::state::State;
use crate::unit::Unit;

/// The order of one plan.
pub(super) struct Sequence<'a> {
    /// Every unit, in the order in which it is planned.
    pub(super) units: Vec<&'a UnitName>,
    /// For each unit, those that it merely comes after.
    after: BTreeMap<&'a UnitName, Vec<&'a UnitName>>,
    /// The same edges from their other end.
    before: BTreeMap<&'a UnitName, Vec<&'a UnitName>>,
    /// For each unit, those that run where it runs.
    beside: BTreeMap<&'a UnitName, Vec<&'a UnitName>>,
    /// Place in the order, and `Priority=`: its own, or that of the most important unit that needs it.
    ranks: BTreeMap<&'a UnitName, (usize, i64)>,
}

/// Edges between units by their places in the list of all.
struct Graph {
    /// Who comes later, through a need.
    needed_by: Vec<Vec<usize>>,
    /// Who comes later, by `After=` and `Before=` alone.
    followed_by: Vec<Vec<usize>>,
}

impl<'a> Sequence<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let names: Vec<&UnitName> = state.units.keys().collect();
        let graph = Graph::of(state, &names);
        let own =
            |name: &&UnitName| state.units.get(*name).and_then(Unit::definition).map_or(0, |it| it.priority);
        let mut priority: Vec<i64> = names.iter().map(own).collect();
        // What an important unit needs is as important. Backwards through any order that heeds needs, once is enough.
        for at in graph.sorted(&priority).into_iter().rev() {
            let later = graph.needed_by.get(at).into_iter().flatten();
            let highest = later.filter_map(|later| priority.get(*later)).max().copied();
            if let (Some(highest), Some(own)) = (highest, priority.get_mut(at)) {
                *own = highest.max(*own);
            }
        }
        let order = graph.sorted(&priority);
        let mut rank = vec![0usize; names.len()];
        for (position, unit) in order.iter().enumerate() {
            if let Some(rank) = rank.get_mut(*unit) {
                *rank = position;
            }
        }
        let mut after: BTreeMap<&UnitName, Vec<&UnitName>> = BTreeMap::new();
        let mut before: BTreeMap<&UnitName, Vec<&UnitName>> = BTreeMap::new();
        for (earlier, followers) in graph.followed_by.iter().enumerate() {
            for later in followers {
                // An edge that would close a circle does not count: its later end comes first.
                let (Some(first), Some(second)) = (names.get(earlier), names.get(*later)) else { continue };
                if rank.get(earlier) < rank.get(*later) {
                    after.entry(second).or_default().push(first);
                    before.entry(first).or_default().push(second);
                }
            }
        }
        let mut beside: BTreeMap<&UnitName, Vec<&UnitName>> = BTreeMap::new();
        for (name, unit) in &state.units {
            let Some(definition) = unit.definition() else { continue };
            for leader in &definition.same_node_as {
                beside.entry(leader).or_default().push(name);
            }
        }
        let ranks = names.iter().zip(rank.iter().copied().zip(priority)).map(|(name, ranks)| (*name, ranks));
        let ranks = ranks.collect();
        let units = order.iter().filter_map(|unit| names.get(*unit).copied()).collect();
        Self { units, after, before, beside, ranks }
    }

    /// Units that `unit` merely comes after: it starts after them and stops before them, where both do.
    pub(super) fn before(&self, unit: &UnitName) -> impl Iterator<Item = &'a UnitName> {
        self.after.get(unit).into_iter().flatten().copied()
    }

    /// Units that run where `unit` runs.
    pub(super) fn beside(&self, unit: &UnitName) -> impl Iterator<Item = &'a UnitName> {
        self.beside.get(unit).into_iter().flatten().copied()
    }

    /// How important a unit is.
    pub(super) fn priority(&self, unit: &UnitName) -> i64 {
        self.ranks.get(unit).map_or(0, |(_, priority)| *priority)
    }

    /// Whether `one` is planned after `other`.
    pub(super) fn is_later(&self, one: &UnitName, other: &UnitName) -> bool {
        self.ranks.get(one).map(|(rank, _)| rank) > self.ranks.get(other).map(|(rank, _)| rank)
    }

    /// Units that merely come after `unit`.
    pub(super) fn after(&self, unit: &UnitName) -> impl Iterator<Item = &'a UnitName> {
        self.before.get(unit).into_iter().flatten().copied()
    }
}

impl Graph {
    fn of(state: &State, names: &[&UnitName]) -> Self {
        let place: BTreeMap<&UnitName, usize> =
            names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        let mut graph =
            Self { needed_by: vec![Vec::new(); names.len()], followed_by: vec![Vec::new(); names.len()] };
        for (at, name) in names.iter().enumerate() {
            let Some(definition) = state.units.get(*name).and_then(Unit::definition) else { continue };
            graph.join(at, definition, &place);
        }
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
