//! Circles of orders, each named by a shortest chain of keys.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use super::places::Places;
use super::{Finding, Flaw, Key, Link, finding, needs};

/// Circles that are named of units that are all in a knot with each other. Who has untied so many looks again.
const OF_ONE_KNOT: usize = 16;

/// For each unit, by its place, those that come before it; with the key that says so, and in whose section it stands.
type Orders = Vec<BTreeMap<usize, (Key, usize)>>;

/// Circles over all that orders starts. Needs alone make none: such definitions never come into force.
pub(super) fn circles(places: &Places) -> Vec<Finding> {
    let orders = orders(places);
    let mut findings = Vec::new();
    for knot in knots(&orders) {
        // The first by name first, so that it does not matter where the search began.
        let knot: BTreeSet<usize> = knot.into_iter().collect();
        let mut named: BTreeSet<usize> = BTreeSet::new();
        let mut count = 0usize;
        for first in knot.iter().copied() {
            if named.contains(&first) || count == OF_ONE_KNOT {
                continue;
            }
            let chain = shortest(&orders, &knot, first);
            named.extend(chain.iter().copied());
            count = count.saturating_add(1);
            let next = chain.iter().skip(1).chain(chain.first());
            let links = chain.iter().zip(next).filter_map(|(one, next)| link(places, &orders, *one, *next));
            if let Some(unit) = places.name(first) {
                findings.push(finding(unit, Flaw::Circle(links.collect())));
            }
        }
    }
    findings
}

/// Of several keys that put one unit before another, the one that cannot be ignored is named.
fn orders(places: &Places) -> Orders {
    let mut orders: Orders = vec![BTreeMap::new(); places.len()];
    let mut put = |later: usize, earlier: usize, key: Key, owner: usize| {
        if let Some(before) = orders.get_mut(later).filter(|_| later != earlier) {
            let known = before.entry(earlier).or_insert((key, owner));
            *known = (*known).min((key, owner));
        }
    };
    for (at, _, definition) in places.defined() {
        for (key, other) in needs(definition) {
            places.at(other).into_iter().for_each(|other| put(at, other, key, at));
        }
        for other in definition.after.iter().filter_map(|other| places.at(other)) {
            put(at, other, Key::After, at);
        }
        for other in definition.before.iter().filter_map(|other| places.at(other)) {
            put(other, at, Key::Before, at);
        }
    }
    orders
}

fn link(places: &Places, orders: &Orders, later: usize, earlier: usize) -> Option<Link> {
    let (key, owner) = *orders.get(later)?.get(&earlier)?;
    let other = if owner == later { earlier } else { later };
    Some(Link { unit: places.name(owner)?.clone(), key, other: places.name(other)?.clone() })
}

/// The shortest way from a unit back to itself within its knot.
fn shortest(orders: &Orders, knot: &BTreeSet<usize>, first: usize) -> Vec<usize> {
    let mut from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut open = VecDeque::from([first]);
    while let Some(at) = open.pop_front() {
        for next in orders.get(at).into_iter().flat_map(BTreeMap::keys).copied() {
            if next == first {
                let mut chain = vec![at];
                let mut at = at;
                while let Some(before) = from.get(&at).copied().filter(|_| at != first) {
                    chain.push(before);
                    at = before;
                }
                chain.reverse();
                return chain;
            }
            if knot.contains(&next) && !from.contains_key(&next) {
                from.insert(next, at);
                open.push_back(next);
            }
        }
    }
    Vec::new()
}

/// Sets of units each of which comes, by way of others, before itself (Tarjan's strongly connected components of more
/// than one unit). Linear, and without recursion: a chain may be as long as there are units.
fn knots(orders: &Orders) -> Vec<Vec<usize>> {
    let mut knots = Vec::new();
    let mut numbers: Vec<Option<usize>> = vec![None; orders.len()];
    let mut lowest = vec![0usize; orders.len()];
    let mut open = vec![false; orders.len()];
    let mut stack = Vec::new();
    let mut number = 0usize;
    for root in 0..orders.len() {
        if numbers.get(root).copied().flatten().is_some() {
            continue;
        }
        let mut way = vec![(root, None)];
        while let Some((at, done)) = way.pop() {
            let own = match numbers.get(at).copied().flatten() {
                Some(own) => own,
                None => {
                    set(&mut numbers, at, Some(number));
                    set(&mut lowest, at, number);
                    set(&mut open, at, true);
                    stack.push(at);
                    number = number.saturating_add(1);
                    number.saturating_sub(1)
                }
            };
            if let Some(child) = done {
                lower(&mut lowest, at, child);
            }
            let after = done.map_or(0, |child: usize| child.saturating_add(1));
            let rest =
                orders.get(at).into_iter().flat_map(|before| before.range(after..)).map(|(next, _)| *next);
            let mut descend = None;
            for next in rest {
                match numbers.get(next).copied().flatten() {
                    None => {
                        descend = Some(next);
                        break;
                    }
                    Some(met) if open.get(next) == Some(&true) => {
                        let low = lowest.get(at).copied().unwrap_or(met).min(met);
                        set(&mut lowest, at, low);
                    }
                    Some(_) => {}
                }
            }
            if let Some(next) = descend {
                way.extend([(at, Some(next)), (next, None)]);
                continue;
            }
            if lowest.get(at) == Some(&own) {
                let mut knot = Vec::new();
                while let Some(member) = stack.pop() {
                    set(&mut open, member, false);
                    knot.push(member);
                    if member == at {
                        break;
                    }
                }
                if knot.len() > 1 {
                    knots.push(knot);
                }
            }
        }
    }
    knots
}

/// A unit reaches back as far as one that it leads to, as long as that is in no knot of its own.
fn lower(lowest: &mut [usize], at: usize, child: usize) {
    if let (Some(own), Some(low)) = (lowest.get(at).copied(), lowest.get(child).copied()) {
        set(lowest, at, own.min(low));
    }
}

fn set<T>(list: &mut [T], at: usize, value: T) {
    if let Some(slot) = list.get_mut(at) {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every graph of four units: what is found in one knot are exactly those that reach each other.
    #[test]
    fn a_knot_is_who_reaches_each_other() {
        for bits in 0u32..1 << 12 {
            let mut orders: Orders = vec![BTreeMap::new(); 4];
            let pairs = (0..4).flat_map(|a| (0..4).filter(move |b| *b != a).map(move |b| (a, b)));
            for (bit, (later, earlier)) in pairs.enumerate() {
                if bits >> bit & 1 == 1 {
                    orders[later].insert(earlier, (Key::After, later));
                }
            }
            let mut reach = [[false; 4]; 4];
            for (later, before) in orders.iter().enumerate() {
                before.keys().for_each(|earlier| reach[later][*earlier] = true);
            }
            for by in 0..4 {
                for from in 0..4 {
                    for to in 0..4 {
                        reach[from][to] |= reach[from][by] && reach[by][to];
                    }
                }
            }
            let mut expected = BTreeSet::new();
            for a in (0..4).filter(|a| reach[*a][*a]) {
                expected.insert((0..4).filter(|b| reach[a][*b] && reach[*b][a]).collect::<BTreeSet<usize>>());
            }
            let found: BTreeSet<BTreeSet<usize>> =
                knots(&orders).into_iter().map(|knot| knot.into_iter().collect()).collect();
            assert_eq!(found, expected, "{orders:?}");
            for knot in &found {
                let first = *knot.first().expect("a member");
                let chain = shortest(&orders, knot, first);
                let next = chain.iter().skip(1).chain(chain.first());
                assert!(chain.len() > 1 && chain[0] == first, "{orders:?}: {chain:?}");
                assert!(
                    chain.iter().zip(next).all(|(one, next)| orders[*one].contains_key(next)),
                    "{chain:?}"
                );
            }
        }
    }
}
