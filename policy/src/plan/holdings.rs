//! What units hold on the nodes, kept from plan to plan.
//!
//! What one unit holds is taken out and put in anew when that unit is planned. The sums are wide enough for every amount
//! that there can be, so that what is taken out leaves what was there before.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::name::{NodeId, Token, UnitName};
use crate::permit::Phase;
use crate::state::State;
use crate::unit::Unit;

use super::index::Index;

/// What is held on the nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    /// Permits on each node.
    load: BTreeMap<NodeId, u32>,
    /// Starts under way on each node.
    starting: BTreeMap<NodeId, u32>,
    /// Starts under way on all nodes.
    under_way: u32,
    /// How much of each capacity is possibly taken.
    taken: Amounts,
    /// How much of it permits take.
    held: Amounts,
    /// Permits of units that take any of it.
    users: BTreeMap<NodeId, BTreeSet<(UnitName, Token)>>,
    /// What of all this is whose.
    shares: BTreeMap<UnitName, Share>,
}

/// What one unit holds.
#[derive(Clone, Debug)]
struct Share {
    /// Each permit's node, and whether it is starting there.
    permits: Vec<(NodeId, Token, bool)>,
    /// Where it is possibly running, if it takes any capacity.
    running: Vec<NodeId>,
    /// What it takes of its node's capacities.
    uses: BTreeMap<String, u64>,
}

/// Amounts of each capacity, by node.
#[derive(Clone, Debug, Default)]
pub(super) struct Amounts(BTreeMap<NodeId, BTreeMap<String, u128>>);

impl Holdings {
    /// Notes what a unit holds now, in place of what it held before.
    pub(super) fn note(&mut self, state: &State, index: &Index<'_>, name: &UnitName, unit: &Unit) {
        let share = Share::of(state, index, name, unit);
        let before = self.shares.remove(name);
        if let Some(before) = &before {
            self.take_out(name, before);
        }
        self.put_in(name, &share);
        // Most units hold nothing that is worth a line.
        if !share.permits.is_empty() || !share.running.is_empty() {
            self.shares.insert(name.clone(), share);
        }
    }

    fn put_in(&mut self, name: &UnitName, share: &Share) {
        for (node, token, starting) in &share.permits {
            count(&mut self.load, *node, 1);
            if *starting {
                count(&mut self.starting, *node, 1);
                self.under_way = self.under_way.saturating_add(1);
            }
            if !share.uses.is_empty() {
                self.held.add(*node, &share.uses);
                self.users.entry(*node).or_default().insert((name.clone(), *token));
            }
        }
        for node in &share.running {
            self.taken.add(*node, &share.uses);
        }
    }

    fn take_out(&mut self, name: &UnitName, share: &Share) {
        for (node, token, starting) in &share.permits {
            count(&mut self.load, *node, -1);
            if *starting {
                count(&mut self.starting, *node, -1);
                self.under_way = self.under_way.saturating_sub(1);
            }
            if !share.uses.is_empty() {
                self.held.subtract(*node, &share.uses);
                self.users.entry(*node).or_default().remove(&(name.clone(), *token));
            }
        }
        for node in &share.running {
            self.taken.subtract(*node, &share.uses);
        }
    }

    /// Permits on a node.
    pub(super) fn load(&self, node: NodeId) -> u32 {
        self.load.get(&node).copied().unwrap_or(0)
    }

    /// Starts under way on a node.
    pub(super) fn starting(&self, node: NodeId) -> u32 {
        self.starting.get(&node).copied().unwrap_or(0)
    }

    /// Starts under way on all nodes.
    pub(super) fn under_way(&self) -> u32 {
        self.under_way
    }

    /// How much of a capacity is possibly taken.
    pub(super) fn taken(&self, node: NodeId, of: &str) -> u64 {
        self.taken.of(node, of)
    }

    /// How much of it permits take.
    pub(super) fn held(&self, node: NodeId, of: &str) -> u64 {
        self.held.of(node, of)
    }

    /// Permits of units that take any capacity of a node, in the order of names.
    pub(super) fn users(&self, node: NodeId) -> impl Iterator<Item = &(UnitName, Token)> {
        self.users.get(&node).into_iter().flatten()
    }

    /// Whether permits of a unit are on a node that has given more than it has.
    pub(super) fn exceeds(&self, state: &State, name: &UnitName) -> bool {
        let Some(share) = self.shares.get(name) else { return false };
        share.uses.keys().any(|of| {
            share.permits.iter().any(|(id, _, _)| {
                let capacity = state.nodes.get(id).and_then(|node| node.capacity(of));
                capacity.is_some_and(|capacity| self.held(*id, of) > capacity)
            })
        })
    }
}

impl Share {
    fn of(state: &State, index: &Index<'_>, name: &UnitName, unit: &Unit) -> Self {
        let permits = unit.permits.iter().map(|(token, permit)| {
            (permit.node, *token, permit.phase == Phase::Granted && !state.is_lost(permit))
        });
        let uses = unit.definition().map(|definition| definition.uses.clone()).unwrap_or_default();
        let running = index.running(name).iter().map(|(node, _)| *node);
        let running = if uses.is_empty() { Vec::new() } else { running.collect() };
        Self { permits: permits.collect(), running, uses }
    }
}

impl Amounts {
    /// Adds what a unit takes on a node.
    pub(super) fn add(&mut self, node: NodeId, uses: &BTreeMap<String, u64>) {
        self.change(node, uses, u128::saturating_add);
    }

    /// Takes that back.
    pub(super) fn subtract(&mut self, node: NodeId, uses: &BTreeMap<String, u64>) {
        self.change(node, uses, u128::saturating_sub);
    }

    fn change(&mut self, node: NodeId, uses: &BTreeMap<String, u64>, by: fn(u128, u128) -> u128) {
        for (of, amount) in uses {
            let sum = self.0.entry(node).or_default().entry(of.clone()).or_default();
            *sum = by(*sum, u128::from(*amount));
        }
    }

    /// How much of a capacity there is.
    pub(super) fn of(&self, node: NodeId, of: &str) -> u64 {
        let sum = self.0.get(&node).and_then(|amounts| amounts.get(of)).copied();
        u64::try_from(sum.unwrap_or(0)).unwrap_or(u64::MAX)
    }
}

fn count(counts: &mut BTreeMap<NodeId, u32>, node: NodeId, by: i32) {
    let count = counts.entry(node).or_default();
    *count = count.saturating_add_signed(by);
}
