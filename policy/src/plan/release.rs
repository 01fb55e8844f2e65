//! What would release a unit from a reason: the command to type, and what it gives up.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::assembly::{BootUp, Found};
use crate::definition::{Fencing, Replicas};
use crate::name::{NodeId, UnitName};
use crate::node::Life;
use crate::query::Possibly;
use crate::state::State;
use crate::succession::Succession;
use crate::unit::Unit;

use super::Reason;
use super::reason::{is_alone_by_terms, is_starting};

impl Reason {
    /// What would release the unit.
    #[must_use]
    pub fn release(&self, state: &State, unit: &UnitName) -> String {
        let name = |node: &NodeId| state.node_name(*node);
        let is_silent = |id: NodeId| state.nodes.get(&id).is_some_and(|node| node.lost_since().is_some());
        match self {
            Self::Stopped => format!("convoke start {unit}"),
            Self::ClusterDrained => "convoke undrain --cluster".to_string(),
            Self::Held(node) => format!("convoke start {unit} --on {}", name(node)),
            Self::NoDefinition if !state.is_offered(unit) => {
                format!("give a node its drop-in, then `systemctl daemon-reload`; or `convoke forget {unit}`")
            }
            Self::NoDefinition => {
                format!("make the [X-Convoke] sections equal; `convoke verify {unit}` shows errors")
            }
            Self::Differs(node) => {
                format!(
                    "make the files on {} equal to the others', then `systemctl daemon-reload`",
                    name(node)
                )
            }
            Self::Fault { node, .. } => {
                format!("mend it on {} (`convoke verify {unit}`), then `systemctl daemon-reload`", name(node))
            }
            Self::PossiblyRunning { node, how: Possibly::Stray }
                if state.copy_maintenance(unit, *node).is_some() =>
            {
                let by_hand = format!("by hand: `systemctl stop {unit}` on {}", name(node));
                format!("{by_hand}; or {}", maintenance_release(state, unit, *node))
            }
            Self::PossiblyRunning { node, how } => running_release(state, unit, *node, *how),
            Self::Maintenance { scope, .. } => state.maintenance_release(scope),
            Self::Kept(node) => format!("convoke unmaintain {}", name(node)),
            Self::WaitsForFence { node } if state.copy_maintenance(unit, *node).is_some() => {
                maintenance_release(state, unit, *node)
            }
            Self::StopsFirst { unit: other, node } if state.copy_maintenance(other, *node).is_some() => {
                maintenance_release(state, other, *node)
            }
            Self::StopsFirst { node, .. } if state.isolation(*node).is_some() => {
                state.end_of_cut(*node)
            }
            Self::StopsFirst { node, .. } if is_silent(*node) => {
                format!(
                    "the return of {0}, a proof that it is off, or your word for that: `convoke fence confirm {0}`",
                    name(node)
                )
            }
            Self::WaitsForFence { node } if state.isolation(*node).is_some() => {
                format!("a fence by a power switch, {}", state.end_of_cut(*node))
            }
            Self::WaitsForFence { node } => {
                // Whoever spoke after its proof is heard again in its next life only.
                let spoke = |life: &Life| life.contradicted.is_some();
                let spoke = state.nodes.get(node).and_then(|node| node.life.as_ref()).is_some_and(spoke);
                let back = if spoke { "a boot" } else { "the return" };
                format!(
                    "a fence that succeeds, {back} of {0}, or your word that it is off: `convoke fence confirm {0}`",
                    name(node)
                )
            }
            Self::Unheard(node) if state.nodes.get(node).is_some_and(|node| node.in_session().is_some()) => {
                format!("the word of {}, which takes it a moment", name(node))
            }
            Self::Unheard(node) => {
                format!(
                    "start convoked on {0}, give your word that it is off (`convoke fence confirm {0}`), or take it \
                     out of the cluster (`convoke leave {0}`)",
                    name(node)
                )
            }
            Self::NotAdopted(_) => {
                format!(
                    "make the files equal on all nodes, or choose one: `convoke adopt {unit} --from NODE`"
                )
            }
            Self::Requires(other) => format!("`convoke why {other}`"),
            Self::PartStopped(whole) => format!("`convoke start {whole}`, or `convoke start {unit}`"),
            Self::Conflicts { unit: other, .. } => {
                format!(
                    "the end of {other}: `convoke stop {other}`, or `convoke start {unit}`, which stops it too"
                )
            }
            Self::TooManyStarts(_) => "the end of one of them".to_string(),
            Self::After(other) if !is_starting(state, other) => format!("`convoke why {other}`"),
            Self::After(_) | Self::AfterStop(_) | Self::Starting(_) | Self::Observing(_) => {
                "the end of that".to_string()
            }
            Self::Unfit { .. } => "a node that may take it".to_string(),
            Self::HeldBack { node, .. } => format!("time, or `convoke reset-failed {}`", name(node)),
            Self::Avoided { .. } => format!("time, or `convoke start {unit}`"),
            Self::NotOffered => "a node in session with its drop-in".to_string(),
            Self::Stopping { stuck: None, .. } | Self::StopsFirst { .. } => {
                "the end of that stop".to_string()
            }
            Self::Stopping { node, stuck: Some(_), .. } => {
                format!("the end of what is left on {}, or the node's reboot", name(node))
            }
            Self::RestartPending { node, .. } => pending_release(state, unit, &name(node)),
            Self::CannotMove { .. } => {
                format!("that fact's end, or another target; `convoke start {unit}` takes the move back")
            }
            Self::Position { node, needed: true, .. } => {
                let (node, returns) = (name(node), word_of(state, unit, *node));
                format!(
                    "{returns}; or `convoke assemble {unit} --without {node}`, which gives up what only {node} has"
                )
            }
            Self::Position { node, needed: false, .. } => {
                let returns = word_of(state, unit, *node);
                let failed = boot_up_of(state, unit).and_then(|boot_up| state.still_heard(boot_up, *node));
                match failed.map(|heard| &heard.found) {
                    Some(Found::Failed(_)) if has_resync(state, unit) => {
                        format!("{returns}; or {}", resync_word(unit, &name(node)))
                    }
                    _ => returns,
                }
            }
            Self::Unproven(node) => unproven_release(state, unit, *node),
            Self::FirstFormation => {
                format!(
                    "your word whose data is the first: `convoke assemble {unit} --from NODE`; other data does not join it"
                )
            }
            Self::NoElection(_) if !has_data(state, unit) => {
                "data, brought back on one of them (a disk that is not mounted, a backup), then `systemctl restart convoked` \
                 there"
                    .to_string()
            }
            Self::NoElection(_) => {
                format!(
                    "the word of others on their data; or yours, which gives up what only the others have: `convoke \
                     assemble {unit} --from NODE`"
                )
            }
            Self::Rank { node, .. } => {
                let (node, returns) = (name(node), rank_of(state, unit, *node));
                format!(
                    "{returns}; or `convoke assemble {unit} --without {node}`, which gives up what only {node} has"
                )
            }
            Self::NoRank(_) => {
                format!(
                    "the ranks of others; or your word, which gives up what only the others have: `convoke assemble \
                     {unit} --from NODE`"
                )
            }
            Self::CannotBegin { node, .. } if is_chosen(state, unit, *node) => {
                format!("the end of that; or `convoke assemble {unit} --from NODE` for another")
            }
            Self::CannotBegin { node, why } if is_full(state, unit, *node, why) => {
                format!("room on {}: the end of what takes it, or a higher Priority= than that has", name(node))
            }
            Self::CannotBegin { node, .. } => {
                let node = name(node);
                format!(
                    "the end of that; or `convoke assemble {unit} --without {node}`, which gives up what only {node} has"
                )
            }
            Self::NotReady { node, .. } => {
                format!(
                    "its own progress; `systemctl status {unit}` on {} shows it, and Ready= says when it is there",
                    name(node)
                )
            }
            Self::JoinsAfter(node) | Self::OneByOne(node) => format!("the end of that on {}", name(node)),
            Self::Diverged { node, .. } => diverged_release(state, unit, &name(node)),
        }
    }
}

/// What lets the cluster act on a copy again.
fn maintenance_release(state: &State, unit: &UnitName, id: NodeId) -> String {
    let scope = state.copy_maintenance(unit, id);
    scope
        .map(|scope| format!("`{}` lets the cluster act", state.maintenance_release(&scope)))
        .unwrap_or_default()
}

/// What ends a copy that may run: the word of a node that is heard, or what is known of one that is not.
fn running_release(state: &State, unit: &UnitName, id: NodeId, how: Possibly) -> String {
    let name = state.node_name(id);
    let silent = state.nodes.get(&id).is_none_or(|node| node.in_session().is_none());
    let permit = match how {
        Possibly::Permit(token) => state.permit(unit, token),
        Possibly::Stray | Possibly::Unheard => None,
    };
    let contradicted = permit.is_some_and(|permit| permit.contradicted);
    let by_time = permit.is_some_and(|permit| {
        matches!(permit.terms.fencing, Fencing::Lease | Fencing::Watchdog)
            && state.expires_at(unit, permit).is_some()
    });
    match how {
        _ if contradicted => format!(
            "a boot of {name}, a fence by another device, or your word, once you see that it is off: `convoke fence confirm \
             {name}`"
        ),
        _ if by_time => format!("that time, which passes by itself; or the return of {name}"),
        _ if silent && state.isolation(id).is_some() => {
            format!("a fence by a power switch, {}", state.end_of_cut(id))
        }
        _ if silent => format!(
            "the return of {name}, or proof that it is off: a fence that succeeds, or your word (`convoke fence confirm \
             {name}`)"
        ),
        Possibly::Stray => format!(
            "the cluster takes it over or stops it, as soon as the other reasons let it; by hand: `systemctl stop {unit}` \
             on {name}"
        ),
        _ if permit.is_some_and(|permit| is_alone_by_terms(state, unit, permit)) => {
            terms_release(state, unit, id)
        }
        Possibly::Permit(_) => format!("its end on {name}; `systemctl status {unit}` there shows it"),
        Possibly::Unheard => format!("the word of {name}, which takes it a moment"),
    }
}

/// What has a node take over the terms of the definition in force.
fn terms_release(state: &State, unit: &UnitName, id: NodeId) -> String {
    let name = state.node_name(id);
    let definition = state.units.get(unit).and_then(Unit::definition);
    let lacks = definition.and_then(|definition| {
        let contradiction = definition.contradiction().map(ToString::to_string);
        contradiction.or_else(|| state.fencing_ground(id, definition).err())
    });
    match lacks {
        _ if state.copy_maintenance(unit, id).is_some() => maintenance_release(state, unit, id),
        Some(why) => format!("new terms, which {name} cannot have: {why}"),
        None => format!("its new terms, as soon as {name} has them"),
    }
}

/// What has a copy start again elsewhere, or end where there is no elsewhere.
fn pending_release(state: &State, unit: &UnitName, node: &str) -> String {
    let replicas = state.units.get(unit).and_then(Unit::definition).map(|definition| definition.replicas);
    match replicas {
        Some(Replicas::All) => format!("`systemctl stop {unit}` on {node}, when it may end"),
        Some(Replicas::Count(2..)) => {
            format!("`convoke move {unit} --from {node}`, when it may be interrupted")
        }
        Some(Replicas::Count(_)) | None => format!("`convoke move {unit}`, when it may be interrupted"),
    }
}

fn boot_up_of<'a>(state: &'a State, unit: &UnitName) -> Option<&'a BootUp> {
    state.units.get(unit).and_then(|unit| unit.boot_up.as_ref())
}

/// Whether an operator said that it begins with this node's data.
fn is_chosen(state: &State, unit: &UnitName, id: NodeId) -> bool {
    let from = boot_up_of(state, unit).and_then(|boot_up| boot_up.words.from.as_ref());
    from.is_some_and(|(node, _)| *node == id)
}

/// Whether a node has no room for it, and nobody else who has data does: then it helps nobody to give up what the node has.
fn is_full(state: &State, unit: &UnitName, id: NodeId, why: &str) -> bool {
    let Some(definition) = state.units.get(unit).and_then(Unit::definition) else { return false };
    let crowding = |id: &NodeId| state.crowding(unit, *id, state.nodes.get(id)?, definition);
    let has_room = |boot_up: &BootUp| {
        let data = |id: &&NodeId| matches!(state.position(boot_up, **id), Some(Found::Data { .. }));
        boot_up.heard.keys().filter(data).any(|id| crowding(id).is_none())
    };
    crowding(&id).is_some_and(|found| found == why) && !boot_up_of(state, unit).is_some_and(has_room)
}

/// Whether anybody was heard to have data of the service.
fn has_data(state: &State, unit: &UnitName) -> bool {
    let has = |boot_up: &BootUp| {
        let mut heard = boot_up.heard.keys().filter_map(|id| state.position(boot_up, *id));
        heard.any(|found| matches!(found, Found::Data { .. }))
    };
    boot_up_of(state, unit).is_some_and(has)
}

/// What proves that a member's copy has ended. Its data is given up by a word only where that would be taken.
fn unproven_release(state: &State, unit: &UnitName, id: NodeId) -> String {
    let name = state.node_name(id);
    if state.nodes.get(&id).is_some_and(|node| node.in_session().is_some()) {
        return format!("the word of {name}: mend Position= there, or reboot it");
    }
    let waits = |boot_up: &BootUp| {
        let words = &boot_up.words;
        let said = words.from.is_some() || words.without.contains_key(&id);
        boot_up.is_gathering() && boot_up.election.is_none() && boot_up.members.contains_key(&id) && !said
    };
    if boot_up_of(state, unit).is_some_and(waits) {
        format!(
            "its return; or `convoke assemble {unit} --without {name}`, which gives up what only {name} has and \
             has it fenced; without a fence, your word that it is off: `convoke fence confirm {name}`"
        )
    } else {
        format!(
            "the return of {name}, or proof that it is off: a fence that succeeds, or your word (`convoke fence confirm \
             {name}`)"
        )
    }
}

/// What brings a node's word on its data.
fn word_of(state: &State, unit: &UnitName, id: NodeId) -> String {
    let name = state.node_name(id);
    let silent = state.nodes.get(&id).is_none_or(|node| node.in_session().is_none());
    let heard =
        boot_up_of(state, unit).and_then(|boot_up| state.still_heard(boot_up, id)).map(|heard| &heard.found);
    match heard {
        _ if silent => format!("the return of {name}"),
        Some(Found::Failed(_)) => format!("mend that on {name}: Position= is asked again"),
        Some(Found::Live | Found::LiveWithoutQuorum | Found::Busy) => {
            format!("the end of that copy on {name}")
        }
        Some(Found::Empty | Found::Unusable) => {
            format!(
                "its data, brought back on {name} (a disk that is not mounted, a backup), then `systemctl restart convoked` \
                 there"
            )
        }
        _ => format!("the word of {name}, as soon as its Position= has looked"),
    }
}

/// What brings a node's rank of a role.
fn rank_of(state: &State, unit: &UnitName, id: NodeId) -> String {
    let name = state.node_name(id);
    let silent = state.nodes.get(&id).is_none_or(|node| node.in_session().is_none());
    let succession = state.units.get(unit).and_then(|unit| unit.succession.as_ref());
    let maintenance = succession.and_then(|known| state.rank_maintenance(unit, &known.beside, id));
    if let Some(scope) = maintenance.filter(|_| !silent) {
        return format!("`{}`", state.maintenance_release(&scope));
    }
    if let Some(word) = succession.and_then(|known| copy_word(state, known, id)).filter(|_| !silent) {
        return format!("`{word}`");
    }
    let failed = succession.and_then(|succession| succession.heard.get(&id));
    match failed.map(|heard| &heard.found) {
        _ if silent => format!("the return of {name}"),
        Some(Found::Failed(_)) => format!("mend that on {name}: Rank= is asked again"),
        _ => format!("the word of {name}, once its copy is active and Rank= has looked"),
    }
}

/// What brings a copy of what a role runs beside to a node, where none comes by itself: all that are wanted run elsewhere. One
/// leaves that is no heir, or the one that is known to be furthest behind.
fn copy_word(state: &State, succession: &Succession, id: NodeId) -> Option<String> {
    let beside = &succession.beside;
    let copies = state.units.get(beside)?;
    if copies.permit_on(id).is_some() {
        return None;
    }
    if let Some(word) = state.undrain(id) {
        return Some(word);
    }
    let Replicas::Count(wanted) = copies.definition()?.replicas else { return None };
    let held = copies.permits.values().filter(|permit| !state.is_lost(permit)).map(|permit| permit.node);
    let held: Vec<NodeId> = held.collect();
    if held.len() < wanted as usize {
        return None;
    }
    let behind = |node: &NodeId| {
        let heir = succession.heirs.contains_key(node);
        let rank = state.rank_of(succession, *node).map(|(rank, _)| rank);
        (!heir || rank.is_some()).then_some((heir, rank, *node))
    };
    let (_, _, from) = held.iter().filter_map(behind).min()?;
    Some(format!("convoke move {beside} {} --from {}", state.node_name(id), state.node_name(from)))
}

fn has_resync(state: &State, unit: &UnitName) -> bool {
    let definition = state.units.get(unit).and_then(|unit| unit.definition());
    definition.and_then(|definition| definition.assembly.as_ref()).is_some_and(|one| one.resync)
}

fn resync_word(unit: &UnitName, name: &str) -> String {
    format!("`convoke assemble {unit} --resync {name}`, which throws away what only {name} has")
}

/// What lets a node in whose data is not a part of what is live.
fn diverged_release(state: &State, unit: &UnitName, name: &str) -> String {
    if has_resync(state, unit) {
        resync_word(unit, name)
    } else {
        format!(
            "empty its data by hand on {name}, which gives up what only {name} has (no StartResync= says how the cluster \
             would), then `systemctl restart convoked` there, so that it is looked at again"
        )
    }
}
