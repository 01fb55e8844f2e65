//! What forbids something takes choices away, and gives nobody a new one.
//!
//! Not every fact that is bad news is a ban: a node that is lost is waited for no more as the last holder of a role (P83), and
//! a file that goes takes a silent node's say with it (P9). What is asked here are words, definitions and gates.

use std::collections::BTreeSet;

use policy::{
    Command, Decision, Definition, Entry, Fact, Goal, Hold, Maintenance, NodeId, NodeTerm, Phase, Start,
    State, UnitName, Wanted, apply, plan,
};

use super::check::{Checked, Violation};
use super::{World, laws};

/// Plans that are carried out, one after another, to see where they go.
const ROUNDS: usize = 4;
/// Kinds of bans: one of them is tried at each look.
const KINDS: u32 = 12;

/// How a copy of a clustered service is started.
const CLUSTERED: [Option<Start>; 3] = [Some(Start::Join), Some(Start::Alone), Some(Start::Resync)];

/// Something that may not be any more.
#[derive(Clone, Debug)]
enum Ban {
    Drained(NodeId),
    Quarantined(NodeId),
    NodeInMaintenance(NodeId),
    /// It has nothing to give.
    Full(NodeId),
    Held(UnitName, NodeId),
    /// `Nodes=` names all but this one.
    Off(UnitName, NodeId),
    Ungated(UnitName, NodeId),
    Apart(UnitName, UnitName),
    Opposed(UnitName, UnitName),
    Requiring(UnitName, UnitName),
    UnitInMaintenance(UnitName),
    Stopped(UnitName),
}

impl Ban {
    /// Of one kind, as many as there are nodes: other ones at each look.
    fn some(world: &World) -> Vec<Self> {
        let state = &world.state;
        let nodes = || state.nodes.keys().copied();
        let units = || state.units.keys().cloned();
        let on_nodes = |of: fn(UnitName, NodeId) -> Self| -> Vec<Self> {
            units().flat_map(|unit| nodes().map(move |id| of(unit.clone(), id))).collect()
        };
        let pairs = |of: fn(UnitName, UnitName) -> Self| -> Vec<Self> {
            let others = |unit: UnitName| units().filter(move |other| *other != unit);
            units().flat_map(|unit| others(unit.clone()).map(move |other| of(unit.clone(), other))).collect()
        };
        let look = world.checked / 48;
        let all: Vec<Self> = match look % KINDS {
            0 => nodes().map(Self::Drained).collect(),
            1 => on_nodes(Self::Held),
            2 => on_nodes(Self::Off),
            3 => nodes().map(Self::Full).collect(),
            4 => pairs(Self::Apart),
            // A circle of needs never comes into force.
            5 => pairs(Self::Requiring).into_iter().filter(|ban| !ban.closes_a_circle(state)).collect(),
            6 => nodes().map(Self::Quarantined).collect(),
            7 => pairs(Self::Opposed),
            8 => on_nodes(Self::Ungated),
            9 => units().map(Self::Stopped).collect(),
            // Of a role this is more than a ban: what a node in maintenance said of its copy counts for nothing (P82).
            10 if units().all(|unit| state.units.get(&unit).is_none_or(|unit| unit.succession.is_none())) => {
                nodes().map(Self::NodeInMaintenance).collect()
            }
            _ => units().map(Self::UnitInMaintenance).collect(),
        };
        let from = (look / KINDS) as usize * state.nodes.len();
        let several = all.iter().cycle().skip(from % all.len().max(1)).take(all.len().min(state.nodes.len()));
        several.cloned().collect()
    }

    fn closes_a_circle(&self, state: &State) -> bool {
        let Self::Requiring(name, other) = self else { return false };
        let needs = |name: &UnitName| {
            let definition = state.units.get(name).and_then(|unit| unit.definition());
            definition.into_iter().flat_map(Definition::needs).cloned().collect::<Vec<_>>()
        };
        let (mut known, mut open) = (BTreeSet::from([other.clone()]), vec![other.clone()]);
        while let Some(next) = open.pop() {
            open.extend(needs(&next).into_iter().filter(|need| known.insert(need.clone())));
        }
        known.contains(name)
    }

    /// As it would be without.
    fn lift(&self, state: &mut State) {
        match self {
            Self::Drained(id) => node(state, *id, |node| node.drained = None),
            Self::Quarantined(id) => node(state, *id, |node| node.quarantined_until = 0),
            Self::NodeInMaintenance(id) => node(state, *id, |node| node.maintenance = None),
            Self::Held(name, id) => drop(state.units.get_mut(name).map(|unit| unit.holds.remove(id))),
            Self::UnitInMaintenance(name) => {
                state.units.get_mut(name).into_iter().for_each(|unit| unit.maintenance = None);
            }
            _ => {}
        }
    }

    fn put(&self, state: &mut State, now: u64) {
        let by = || "o".to_string();
        let hands = || Some(Maintenance { by: by(), reason: None, wall_ms: 0 });
        match self {
            Self::Drained(id) => node(state, *id, |node| node.drained = Some(by())),
            Self::Quarantined(id) => node(state, *id, |node| node.quarantined_until = now + 10_000),
            Self::NodeInMaintenance(id) => node(state, *id, |node| node.maintenance = hands()),
            Self::Full(id) => node(state, *id, |node| drop(node.attributes.remove("slots"))),
            Self::Held(name, id) => {
                let hold = Hold { by: by(), wall_ms: 0 };
                drop(state.units.get_mut(name).map(|unit| unit.holds.insert(*id, hold)));
            }
            Self::Ungated(name, id) => node(state, *id, |node| {
                node.offers.get_mut(name).into_iter().for_each(|offer| offer.gated = false);
            }),
            Self::Off(name, id) => {
                let others = state.nodes.iter().filter(|(other, _)| *other != id);
                let others: Vec<NodeTerm> =
                    others.map(|(_, node)| NodeTerm::Name(node.name.clone())).collect();
                define(state, name, |definition| definition.nodes.clone_from(&others));
            }
            // Each names the other: who is named by whom is kept in the state, beside the definitions.
            Self::Apart(name, other) => {
                for (one, another) in [(name, other), (other, name)] {
                    define(state, one, |definition| {
                        definition.other_node_than.insert(another.clone());
                    });
                }
            }
            Self::Opposed(name, other) => {
                for (one, another) in [(name, other), (other, name)] {
                    define(state, one, |definition| {
                        definition.conflicts.insert(another.clone());
                    });
                }
            }
            Self::Requiring(name, other) => {
                define(state, name, |definition| {
                    definition.requires.insert(other.clone());
                });
            }
            Self::UnitInMaintenance(name) => {
                state.units.get_mut(name).into_iter().for_each(|unit| unit.maintenance = hands());
            }
            Self::Stopped(name) => {
                let goal =
                    Goal { wanted: Wanted::Stopped, revision: state.index, by: Some(by()), wall_ms: 0 };
                state.units.get_mut(name).into_iter().for_each(|unit| unit.goal = goal.clone());
            }
        }
        // What is kept beside the definitions is found anew.
        *state = laws::reread(state);
    }

    /// Whether it says by itself that this may not be.
    fn forbids(&self, state: &State, (unit, id): &(UnitName, NodeId)) -> bool {
        let possibly = |name: &UnitName| !state.possibly_running(name).is_empty();
        match self {
            Self::Drained(banned) | Self::Quarantined(banned) | Self::NodeInMaintenance(banned) => {
                banned == id
            }
            Self::Full(banned) => {
                let uses = state.units.get(unit).and_then(|unit| unit.definition()).map(|it| &it.uses);
                banned == id && uses.is_some_and(|uses| uses.contains_key("slots"))
            }
            Self::Held(name, banned) | Self::Off(name, banned) | Self::Ungated(name, banned) => {
                name == unit && banned == id
            }
            Self::Apart(one, other) => {
                let beside =
                    |name: &UnitName| state.units.get(name).is_some_and(|it| it.permit_on(*id).is_some());
                (one == unit && beside(other)) || (other == unit && beside(one))
            }
            Self::Opposed(one, other) => (one == unit && possibly(other)) || (other == unit && possibly(one)),
            Self::Requiring(name, other) => name == unit && state.known_active(other).next().is_none(),
            Self::UnitInMaintenance(name) | Self::Stopped(name) => name == unit,
        }
    }
}

fn node(state: &mut State, id: NodeId, change: impl FnOnce(&mut policy::Node)) {
    if let Some(node) = state.nodes.get_mut(&id) {
        change(node);
    }
}

/// Changes the definition in force, and what each node offers that offers just that.
fn define(state: &mut State, name: &UnitName, change: impl Fn(&mut Definition)) {
    let Some(adopted) = state.units.get_mut(name).and_then(|unit| unit.adopted.as_mut()) else { return };
    let before = adopted.definition.clone();
    change(&mut adopted.definition);
    let offers = state.nodes.values_mut().filter_map(|node| node.offers.get_mut(name)?.definition.as_mut());
    offers.filter(|offered| **offered == before).for_each(change);
}

/// What may be granted under a ban may be granted without it: at once, by anybody, and by the plans that follow one another.
pub(crate) fn a_ban_only_removes_choices(world: &World) -> Checked {
    let broken = |what: String| Err(Violation { rule: "law", what });
    for ban in Ban::some(world) {
        let mut free = world.state.clone();
        ban.lift(&mut free);
        let mut banned = free.clone();
        ban.put(&mut banned, world.now);
        let without = choices(&free, world.now);
        for choice in choices(&banned, world.now) {
            if !without.contains(&choice) {
                return broken(format!("{choice:?} may be granted only because of {ban:?}"));
            }
            if ban.forbids(&banned, &choice) {
                return broken(format!("{choice:?} may be granted in spite of {ban:?}"));
            }
        }
        if let Some(what) = granted_by_a_ban(free, banned, world.now) {
            return broken(format!("{what}, only because of {ban:?}"));
        }
    }
    Ok(())
}

/// Carries out what is planned under a ban, beside a state without it: the first start that only the former lets be. Where
/// they differ in anything else, they part.
fn granted_by_a_ban(mut free: State, mut banned: State, now: u64) -> Option<String> {
    for _ in 0..ROUNDS {
        let planned = plan(&banned, now).decisions.into_iter().map(Command::Decision);
        let planned: Vec<Command> = planned.collect();
        for command in planned {
            let entry = entry(&banned, now, command);
            free.index = banned.index;
            match (apply(&mut banned, &entry), apply(&mut free, &entry)) {
                (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
                (Ok(_), Err(why)) if matches!(entry.command, Command::Decision(Decision::Grant { .. })) => {
                    return Some(format!("{:?} is planned, and refused otherwise: {why}", entry.command));
                }
                _ => return None,
            }
        }
        let told = started(&banned);
        if told.is_empty() {
            return None;
        }
        for fact in told {
            let entry = entry(&banned, now, Command::Fact(fact));
            free.index = banned.index;
            if apply(&mut banned, &entry).is_ok() != apply(&mut free, &entry).is_ok() {
                return None;
            }
        }
    }
    None
}

fn entry(state: &State, now: u64, command: Command) -> Entry {
    Entry { index: state.index + 1, time: now, wall_ms: 0, origin: None, command }
}

/// All that was granted starts.
fn started(state: &State) -> Vec<Fact> {
    let mut facts = Vec::new();
    for (name, unit) in &state.units {
        for (token, permit) in unit.permits.iter().filter(|(_, permit)| permit.phase == Phase::Granted) {
            let (node, incarnation) = (permit.node, permit.incarnation.clone());
            facts.push(Fact::Started { node, incarnation, unit: name.clone(), token: *token });
        }
    }
    facts
}

/// What may be granted where, as `apply` says.
pub(super) fn choices(state: &State, now: u64) -> BTreeSet<(UnitName, NodeId)> {
    let mut choices = BTreeSet::new();
    for (name, unit) in &state.units {
        for (id, node) in &state.nodes {
            let (Some(adopted), Some(life)) = (&unit.adopted, &node.life) else { continue };
            let clustered = adopted.definition.assembly.is_some();
            let starts: &[Option<Start>] = if clustered { &CLUSTERED } else { &[None] };
            let free = starts.iter().any(|start| {
                let decision = Decision::Grant {
                    unit: name.clone(),
                    node: *id,
                    incarnation: life.incarnation.clone(),
                    revision: adopted.revision,
                    adopt: false,
                    start: *start,
                };
                apply(&mut state.clone(), &entry(state, now, Command::Decision(decision))).is_ok()
            });
            if free {
                choices.insert((name.clone(), *id));
            }
        }
    }
    choices
}
