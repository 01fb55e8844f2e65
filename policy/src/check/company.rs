//! Units that have to run on one node, and units that must not.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::definition::{Definition, Replicas};
use crate::name::{NodeId, UnitName};

use super::places::{Places, common};
use super::{Finding, Flaw, Key, Link, finding, needs};

/// For each unit, by its place, other units.
type Edges = Vec<BTreeSet<usize>>;

/// Pairs of units, the smaller place first, each with a key that says so.
type Pairs = BTreeMap<(usize, usize), Link>;

/// By `Conflicts=`: at most one of the two ever runs.
pub(super) fn rivals(places: &Places) -> Pairs {
    pairs(places, Key::Conflicts, |definition| &definition.conflicts)
}

/// Who has to run where a unit runs, if all of them run: what it runs beside, and what runs beside it where it has one
/// copy only; and so on.
struct Ties {
    beside: Edges,
    followers: Edges,
    single: Vec<bool>,
}

impl Ties {
    fn of(places: &Places) -> Self {
        let mut ties = Self {
            beside: vec![BTreeSet::new(); places.len()],
            followers: vec![BTreeSet::new(); places.len()],
            single: vec![false; places.len()],
        };
        for (at, _, definition) in places.defined() {
            let leaders = definition.same_node_as.iter().filter_map(|other| places.at(other));
            for leader in leaders.filter(|leader| *leader != at && places.definition(*leader).is_some()) {
                join(&mut ties.beside, at, leader);
                join(&mut ties.followers, leader, at);
            }
            let single = definition.replicas == Replicas::Count(1);
            ties.single.get_mut(at).into_iter().for_each(|slot| *slot = single);
        }
        ties
    }

    fn is_single(&self, at: usize) -> bool {
        self.single.get(at) == Some(&true)
    }

    fn group(&self, first: usize) -> BTreeSet<usize> {
        reach(first, |at| {
            let followers = self.followers.get(at).into_iter().filter(move |_| self.is_single(at));
            self.beside.get(at).into_iter().chain(followers).flatten().copied()
        })
    }

    /// Groups of more than one unit. Who is in a group of one with a single copy has no other of its own.
    fn groups(&self) -> Vec<Group> {
        let tied = |at: &usize| {
            let edges = [self.beside.get(*at), self.followers.get(*at)];
            edges.into_iter().flatten().any(|edges| !edges.is_empty())
        };
        let mut groups = Vec::new();
        let mut covered: BTreeSet<usize> = BTreeSet::new();
        let (single, several): (Vec<usize>, Vec<usize>) =
            (0..self.single.len()).filter(tied).partition(|at| self.is_single(*at));
        for at in single.into_iter().chain(several) {
            if covered.contains(&at) {
                continue;
            }
            let units = self.group(at);
            let of = if self.is_single(at) {
                covered.extend(&units);
                units.iter().copied().filter(|member| self.is_single(*member)).collect()
            } else {
                vec![at]
            };
            if units.len() > 1 {
                groups.push(Group { units: units.into_iter().collect(), of });
            }
        }
        groups
    }
}

/// Units that have to run on one node.
struct Group {
    units: Vec<usize>,
    /// Those of them that run nowhere else: a replicated unit has other nodes beside those of its followers.
    of: Vec<usize>,
}

/// Whether those that have to run together can: narrows `able` to the nodes that suit all of them.
pub(super) fn together(
    places: &Places,
    rivals: &Pairs,
    able: &mut [Vec<NodeId>],
    findings: &mut Vec<Finding>,
) {
    let groups = Ties::of(places).groups();
    let mut narrowed: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
    for Group { units: group, of } in &groups {
        // They never run all at once; that one needs two of them is told below.
        if has_pair(rivals, group) {
            continue;
        }
        let nodes: Vec<&[NodeId]> = group.iter().filter_map(|at| able.get(*at)).map(Vec::as_slice).collect();
        // One that has no node at all was told of.
        let Some((first, rest)) = nodes.split_first().filter(|_| nodes.iter().all(|nodes| !nodes.is_empty()))
        else {
            continue;
        };
        let shared = rest.iter().fold(first.to_vec(), |shared, nodes| common(&shared, nodes));
        let Some((name, with)) = named(places, group) else { continue };
        if shared.is_empty() {
            findings.push(finding(name, Flaw::NoCommonNode { with }));
            continue;
        }
        let mut takes: BTreeMap<String, u64> = BTreeMap::new();
        for (of, amount) in group.iter().filter_map(|at| places.definition(*at)).flat_map(|one| &one.uses) {
            let sum = takes.entry(of.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
        let roomy = places.roomy(&shared, &takes);
        if roomy.is_empty() {
            let short = places.short(&shared, &takes);
            findings.push(finding(name, Flaw::TooLarge { takes, short, with }));
            continue;
        }
        narrowed.extend(of.iter().map(|at| (*at, roomy.clone())));
    }
    for (at, nodes) in narrowed {
        able.get_mut(at).into_iter().for_each(|slot| slot.clone_from(&nodes));
    }
    torn_on_a_node(places, &groups, findings);
    torn_anywhere(places, rivals, findings);
}

/// Whether two of these units, given in the order of their places, are a pair.
fn has_pair(pairs: &Pairs, units: &[usize]) -> bool {
    let mut both =
        units.iter().enumerate().flat_map(|(at, one)| units.iter().skip(at).map(move |other| (*one, *other)));
    !pairs.is_empty() && both.any(|pair| pairs.contains_key(&pair))
}

/// Pairs of which one names the other in a key, each once.
fn pairs<'a>(
    places: &Places<'a>,
    key: Key,
    list: impl Fn(&'a Definition) -> &'a BTreeSet<UnitName>,
) -> Pairs {
    let mut pairs = Pairs::new();
    for (at, name, definition) in places.defined() {
        for other in list(definition) {
            let Some(place) = places.at(other).filter(|place| *place != at) else { continue };
            let link = Link { unit: name.clone(), key, other: other.clone() };
            pairs.entry((at.min(place), at.max(place))).or_insert(link);
        }
    }
    pairs
}

/// Two that must not share a node, in a group that has to.
fn torn_on_a_node(places: &Places, groups: &[Group], findings: &mut Vec<Finding>) {
    let pairs = pairs(places, Key::OtherNodeThan, |definition| &definition.other_node_than);
    let mut groups_of: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (number, group) in groups.iter().enumerate().filter(|_| !pairs.is_empty()) {
        for at in &group.units {
            groups_of.entry(*at).or_default().insert(number);
        }
    }
    for ((one, other), link) in pairs {
        let (Some(mine), Some(theirs)) = (groups_of.get(&one), groups_of.get(&other)) else { continue };
        if !mine.is_disjoint(theirs) {
            findings.push(Finding { unit: link.unit.clone(), flaw: Flaw::Torn(link) });
        }
    }
}

/// Two that never run together, both needed, by way of others, by one unit. What needs that unit is not named again.
fn torn_anywhere(places: &Places, rivals: &Pairs, findings: &mut Vec<Finding>) {
    if rivals.is_empty() {
        return;
    }
    let mut needed_by: Edges = vec![BTreeSet::new(); places.len()];
    let mut needs_of: Edges = vec![BTreeSet::new(); places.len()];
    for (at, _, definition) in places.defined() {
        for other in needs(definition).filter_map(|(_, other)| places.at(other)) {
            join(&mut needed_by, other, at);
            join(&mut needs_of, at, other);
        }
    }
    let dependents = |of: usize| reach(of, |at| needed_by.get(at).into_iter().flatten().copied());
    for ((one, other), link) in rivals {
        let (first, second) = (dependents(*one), dependents(*other));
        let torn: BTreeSet<usize> = first.intersection(&second).copied().collect();
        let is_first = |at: &&usize| needs_of.get(**at).is_none_or(|needs| needs.is_disjoint(&torn));
        for name in torn.iter().filter(is_first).filter_map(|at| places.name(*at)) {
            findings.push(finding(name, Flaw::Torn(link.clone())));
        }
    }
}

/// Units each of which must not share a node with any other of them, and that want more nodes than there are.
///
/// Not all such sets: of each unit, the one that those it must not share a node with make in the order of names. And only
/// their number is counted: whether each finds a node of its own is left open. Copies for which a unit has no nodes by
/// itself were told of.
pub(super) fn crowds(places: &Places, rivals: &Pairs, able: &[Vec<NodeId>], findings: &mut Vec<Finding>) {
    let mut apart: Edges = vec![BTreeSet::new(); places.len()];
    for (one, other) in pairs(places, Key::OtherNodeThan, |one| &one.other_node_than).into_keys() {
        join(&mut apart, one, other);
        join(&mut apart, other, one);
    }
    let mut told: BTreeSet<usize> = BTreeSet::new();
    for at in 0..places.len() {
        let Some(strangers) = apart.get(at).filter(|strangers| !strangers.is_empty()) else { continue };
        let mut crowd = BTreeSet::from([at]);
        for other in strangers.iter().copied().filter(|other| *other > at) {
            let met = |one: &usize| rivals.contains_key(&(*one, other));
            if apart.get(other).is_some_and(|theirs| crowd.is_subset(theirs)) && !crowd.iter().any(met) {
                crowd.insert(other);
            }
        }
        if crowd.len() < 2 || crowd.is_subset(&told) {
            continue;
        }
        let each: Vec<&Vec<NodeId>> = crowd.iter().filter_map(|at| able.get(*at)).collect();
        let nodes: BTreeSet<NodeId> = each.iter().flat_map(|nodes| nodes.iter().copied()).collect();
        let copies = |at: &usize| match places.definition(*at).map(|definition| definition.replicas) {
            Some(Replicas::Count(count)) => {
                count.min(able.get(*at).map_or(0, |nodes| u32::try_from(nodes.len()).unwrap_or(u32::MAX)))
            }
            // All that it can get: one at the least.
            Some(Replicas::All) | None => 1,
        };
        let wanted = crowd.iter().map(copies).fold(0u32, u32::saturating_add);
        // One that finds no node by itself was told of.
        if nodes.len() < wanted as usize && each.iter().all(|nodes| !nodes.is_empty()) {
            told.extend(&crowd);
            let crowd: Vec<usize> = crowd.into_iter().collect();
            if let Some((name, with)) = named(places, &crowd) {
                let nodes = nodes.into_iter().collect();
                findings.push(finding(name, Flaw::Crowded { with, wanted, nodes }));
            }
        }
    }
}

/// The first of some units, and the others.
fn named<'a>(places: &Places<'a>, group: &[usize]) -> Option<(&'a UnitName, Vec<UnitName>)> {
    let mut names = group.iter().filter_map(|at| places.name(*at));
    Some((names.next()?, names.cloned().collect()))
}

fn join(edges: &mut Edges, from: usize, to: usize) {
    edges.get_mut(from).into_iter().for_each(|edges| {
        edges.insert(to);
    });
}

/// Everything that is reached from a unit, itself among it.
fn reach<I: Iterator<Item = usize>>(first: usize, next: impl Fn(usize) -> I) -> BTreeSet<usize> {
    let mut found = BTreeSet::from([first]);
    let mut open = vec![first];
    while let Some(at) = open.pop() {
        open.extend(next(at).filter(|next| found.insert(*next)));
    }
    found
}
