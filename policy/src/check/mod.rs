//! What the definitions in force ask for together, and can never have.
//!
//! Pure: the state in, findings out, in the order of the units' names. Looks at the whole set and at what the nodes are,
//! not at what runs: a node that is away or drained counts, a hold or a failure does not. So what it finds is mended by no
//! waiting. What it does not find may still not fit: whether all copies find room together is not decided here.
//! Clauses P56 to P59 of `docs/policy.md`; where the votes are is looked at apart from the units.

mod circle;
mod company;
mod places;
mod votes;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::definition::{Definition, Fencing, NodeTerm, Replicas};
use crate::name::{NodeId, UnitName};
use crate::node::Node;
use crate::state::State;
use crate::unit::Wanted;

pub use votes::{VoteFlaw, check_votes};

use places::Places;

/// A key that names other units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `Requires=`
    Requires,
    /// `BindsTo=`
    BindsTo,
    /// `SameNodeAs=`
    SameNodeAs,
    /// `After=`
    After,
    /// `Before=`
    Before,
    /// `Conflicts=`
    Conflicts,
    /// `OtherNodeThan=`
    OtherNodeThan,
}

impl Key {
    /// As the files write it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Requires => "Requires=",
            Self::BindsTo => "BindsTo=",
            Self::SameNodeAs => "SameNodeAs=",
            Self::After => "After=",
            Self::Before => "Before=",
            Self::Conflicts => "Conflicts=",
            Self::OtherNodeThan => "OtherNodeThan=",
        }
    }
}

/// One unit's key that names another unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// In whose section.
    pub unit: UnitName,
    /// Which key.
    pub key: Key,
    /// Whom it names.
    pub other: UnitName,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A circle of orders, as a chain of keys that leads back to its first unit. One `After=` or `Before=` of it does not
    /// count, at start and at stop (P37).
    Circle(Vec<Link>),
    /// It needs a unit that no node offers.
    Lacks {
        /// By which key.
        key: Key,
        /// Which unit.
        other: UnitName,
    },
    /// No node that runs units offers it, and it is to run.
    NotOffered,
    /// `Nodes=` lets it run on none of those that offer it.
    NotAllowed {
        /// Those that offer it.
        offering: Vec<NodeId>,
        /// Terms of `Nodes=` that no node of the cluster matches.
        unmatched: Vec<NodeTerm>,
    },
    /// What it takes, with those that have to run beside it, is more than any of its nodes has.
    TooLarge {
        /// How much of which capacity they take.
        takes: BTreeMap<String, u64>,
        /// One of which no node has enough, and who has most of it, if any has; `None` if each node lacks another.
        short: Option<(String, Option<(NodeId, u64)>)>,
        /// Who has to run beside it.
        with: Vec<UnitName>,
    },
    /// Units that have to run on one node have no node in common.
    NoCommonNode {
        /// The others.
        with: Vec<UnitName>,
    },
    /// By `Conflicts=`: it needs, by way of others perhaps, both of these. By `OtherNodeThan=`: both have to run on one
    /// node, because of `SameNodeAs=`.
    Torn(Link),
    /// Fewer nodes may run it than it wants copies.
    TooFewNodes {
        /// How many copies.
        wanted: u32,
        /// Where it may run.
        nodes: Vec<NodeId>,
    },
    /// Units that must not share a node want more nodes together than there are for them.
    Crowded {
        /// The others.
        with: Vec<UnitName>,
        /// How many nodes they want.
        wanted: u32,
        /// Where any of them may run.
        nodes: Vec<NodeId>,
    },
    /// It has to be proven gone before it is started elsewhere (`Fencing=required`), and nothing but a person can prove
    /// that of these of its nodes: they have no fence device.
    Unfenced {
        /// Those nodes.
        nodes: Vec<NodeId>,
    },
    /// The same, where these nodes have devices, and each of them only cuts the node off: that is no proof for this unit.
    OnlyCutOff {
        /// Those nodes.
        nodes: Vec<NodeId>,
    },
    /// It rests on the nodes' own watchdogs (`Fencing=watchdog`), and these have none armed: it is not started there.
    Unwatched {
        /// Those nodes.
        nodes: Vec<NodeId>,
    },
}

/// A unit, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which unit; of several, the first by name.
    pub unit: UnitName,
    /// What it is.
    pub flaw: Flaw,
}

impl Flaw {
    /// Whether something cannot run at all as long as this stands; the others cost order, copies, or a person's time.
    #[must_use]
    pub fn prevents(&self) -> bool {
        match self {
            Self::Lacks { .. }
            | Self::NotOffered
            | Self::NotAllowed { .. }
            | Self::TooLarge { .. }
            | Self::NoCommonNode { .. }
            | Self::Torn(_) => true,
            // Else each of them finds a node, and copies are lacking.
            Self::Crowded { with, nodes, .. } => with.len() >= nodes.len(),
            Self::Circle(_)
            | Self::TooFewNodes { .. }
            | Self::Unfenced { .. }
            | Self::OnlyCutOff { .. }
            | Self::Unwatched { .. } => false,
        }
    }
}

impl Finding {
    /// Every unit that has to be wanted for the flaw to matter. Of two that conflict only one ever is: who needs both counts.
    fn units(&self) -> BTreeSet<&UnitName> {
        let mut units = BTreeSet::from([&self.unit]);
        match &self.flaw {
            Flaw::Circle(links) => units.extend(links.iter().flat_map(|link| [&link.unit, &link.other])),
            Flaw::TooLarge { with, .. } | Flaw::NoCommonNode { with } | Flaw::Crowded { with, .. } => {
                units.extend(with);
            }
            Flaw::Torn(link) if link.key == Key::OtherNodeThan => units.extend([&link.other]),
            Flaw::Lacks { .. }
            | Flaw::NotOffered
            | Flaw::NotAllowed { .. }
            | Flaw::Torn(_)
            | Flaw::TooFewNodes { .. }
            | Flaw::Unfenced { .. }
            | Flaw::OnlyCutOff { .. }
            | Flaw::Unwatched { .. } => {}
        }
        units
    }

    /// Those whom it concerns that are not to run now, in the order of names. If there is one, the flaw hinders nobody now.
    pub fn idle<'a>(&'a self, state: &State) -> impl Iterator<Item = &'a UnitName> {
        let started =
            |name: &UnitName| state.units.get(name).is_some_and(|unit| unit.goal.wanted == Wanted::Started);
        self.units().into_iter().filter(move |name| !started(name))
    }

    /// Whether all of them are to run now.
    #[must_use]
    pub fn is_pressing(&self, state: &State) -> bool {
        self.idle(state).next().is_none()
    }
}

/// Everything that is wrong with the set of units, by the definitions in force.
#[must_use]
pub fn check(state: &State) -> Vec<Finding> {
    let places = Places::of(state);
    let mut findings = circle::circles(&places);
    lacks(&places, &mut findings);
    let mut able = own(&places, &mut findings);
    let rivals = company::rivals(&places);
    company::together(&places, &rivals, &mut able, &mut findings);
    copies(&places, &able, &mut findings);
    company::crowds(&places, &rivals, &able, &mut findings);
    unfenced(&places, &able, &mut findings);
    unwatched(&places, &able, &mut findings);
    // Stable: of one unit, the findings stay in the order in which they were looked for.
    findings.sort_by(|one, other| one.unit.cmp(&other.unit));
    findings
}

/// Needs that no node offers.
fn lacks(places: &Places, findings: &mut Vec<Finding>) {
    for (at, name, definition) in places.defined() {
        for (key, other) in needs(definition) {
            let offered = places.at(other).is_some_and(|other| !places.offering(other).is_empty());
            if !offered && places.at(other) != Some(at) {
                findings.push(finding(name, Flaw::Lacks { key, other: other.clone() }));
            }
        }
    }
}

/// Where each unit may run by what it says of itself; empty where that was found to be nowhere.
fn own(places: &Places, findings: &mut Vec<Finding>) -> Vec<Vec<NodeId>> {
    let mut able = Vec::with_capacity(places.len());
    for (at, name, unit) in places.all() {
        let offering = places.offering(at);
        let Some(definition) = unit.definition() else {
            able.push(Vec::new());
            continue;
        };
        if offering.is_empty() {
            if unit.goal.wanted == Wanted::Started {
                findings.push(finding(name, Flaw::NotOffered));
            }
            able.push(Vec::new());
            continue;
        }
        let allowed: Vec<NodeId> = places.those(offering, |node| definition.allows(node));
        if allowed.is_empty() {
            let matched = |term: &&NodeTerm| places.state.nodes.values().any(|node| term.matches(node));
            let unmatched = definition.nodes.iter().filter(|term| !matched(term)).cloned().collect();
            findings.push(finding(name, Flaw::NotAllowed { offering: offering.to_vec(), unmatched }));
            able.push(Vec::new());
            continue;
        }
        let roomy = places.roomy(&allowed, &definition.uses);
        if roomy.is_empty() {
            let (takes, short) = (definition.uses.clone(), places.short(&allowed, &definition.uses));
            findings.push(finding(name, Flaw::TooLarge { takes, short, with: Vec::new() }));
        }
        able.push(roomy);
    }
    able
}

/// Fewer nodes than copies.
fn copies(places: &Places, able: &[Vec<NodeId>], findings: &mut Vec<Finding>) {
    for (at, name, definition) in places.defined() {
        let nodes = able.get(at).map_or(&[][..], Vec::as_slice);
        if let Replicas::Count(wanted) = definition.replicas
            && !nodes.is_empty()
            && nodes.len() < wanted as usize
        {
            findings.push(finding(name, Flaw::TooFewNodes { wanted, nodes: nodes.to_vec() }));
        }
    }
}

/// Exclusive units with nodes that nothing can fence. With one node alone nobody could take over, fenced or not.
fn unfenced(places: &Places, able: &[Vec<NodeId>], findings: &mut Vec<Finding>) {
    let devices = || places.state.devices.values();
    let fenced: BTreeSet<NodeId> = devices().flat_map(|device| device.targets.keys().copied()).collect();
    let power = devices().filter(|device| device.isolates.is_none());
    let switched: BTreeSet<NodeId> = power.flat_map(|device| device.targets.keys().copied()).collect();
    for (at, name, definition) in places.defined() {
        let nodes = able.get(at).map_or(&[][..], Vec::as_slice);
        let proof = matches!(definition.fencing, Fencing::Required | Fencing::Isolated);
        if !definition.is_exclusive() || !proof || nodes.len() < 2 {
            continue;
        }
        let bare: Vec<NodeId> = nodes.iter().copied().filter(|id| !fenced.contains(id)).collect();
        if !bare.is_empty() {
            findings.push(finding(name, Flaw::Unfenced { nodes: bare }));
        }
        let cut: Vec<NodeId> =
            nodes.iter().copied().filter(|id| fenced.contains(id) && !switched.contains(id)).collect();
        if definition.fencing == Fencing::Required && !cut.is_empty() {
            findings.push(finding(name, Flaw::OnlyCutOff { nodes: cut }));
        }
    }
}

/// Units that rest on watchdogs, with nodes that were heard and have none armed. What was never heard has said nothing.
fn unwatched(places: &Places, able: &[Vec<NodeId>], findings: &mut Vec<Finding>) {
    let watched = places.defined().filter(|(_, _, definition)| definition.fencing == Fencing::Watchdog);
    for (at, name, _) in watched {
        let nodes = able.get(at).map_or(&[][..], Vec::as_slice);
        let unwatched = |node: &Node| node.life.as_ref().is_some_and(|life| life.unwatched().is_some());
        let bare = places.those(nodes, unwatched);
        if !bare.is_empty() {
            findings.push(finding(name, Flaw::Unwatched { nodes: bare }));
        }
    }
}

/// What it needs, and by which key.
fn needs(definition: &Definition) -> impl Iterator<Item = (Key, &UnitName)> {
    let lists = [
        (Key::Requires, &definition.requires),
        (Key::BindsTo, &definition.binds_to),
        (Key::SameNodeAs, &definition.same_node_as),
    ];
    lists.into_iter().flat_map(|(key, units)| units.iter().map(move |unit| (key, unit)))
}

fn finding(unit: &UnitName, flaw: Flaw) -> Finding {
    Finding { unit: unit.clone(), flaw }
}

/// Whether units may be placed there at all.
fn runs_units(node: &Node) -> bool {
    node.role.runs_units()
}
