//! What a unit waits for, as terms and as sentences.

use alloc::format;
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};

use crate::event::StopReason;
use crate::maintenance::Scope;
use crate::name::{Millis, NodeId, UnitName};
use crate::permit::{Permit, Rest};
use crate::query::Possibly;
use crate::state::State;

use super::lost::{fence_text, time_text};

/// One fact that holds a unit where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Its goal is `stopped`.
    Stopped,
    /// The whole cluster is drained, and nothing starts.
    ClusterDrained,
    /// It is held on a node.
    Held(NodeId),
    /// No definition of it is in force, because the offers differ or have errors.
    NoDefinition,
    /// A node's files say something else than the definition in force.
    Differs(NodeId),
    /// A node's section has an error, or the unit cannot run there.
    Fault {
        /// Which node.
        node: NodeId,
        /// The error.
        fault: String,
    },
    /// It must be taken for running on a node.
    PossiblyRunning {
        /// Which node.
        node: NodeId,
        /// Why.
        how: Possibly,
    },
    /// A lost node has to be proven gone first.
    WaitsForFence {
        /// Which node.
        node: NodeId,
    },
    /// A member has not said whether it runs the unit, which the cluster never started yet (F11).
    Unheard(NodeId),
    /// Most nodes offer another definition than the one in force, and it is not taken over: why.
    NotAdopted(String),
    /// What it requires is not active.
    Requires(UnitName),
    /// What it requires, or is ordered after, is being started.
    After(UnitName),
    /// What it is ordered with, or part of, is being stopped.
    AfterStop(UnitName),
    /// What it is part of was stopped after it was asked to run.
    PartStopped(UnitName),
    /// As many starts are under way as may be: on the node, or in the whole cluster.
    TooManyStarts(Option<NodeId>),
    /// A unit that it conflicts with is possibly running.
    Conflicts {
        /// Which unit.
        unit: UnitName,
        /// Where; `None` if it starts with this very plan.
        node: Option<NodeId>,
    },
    /// No node may take it: why this one may not.
    Unfit {
        /// Which node.
        node: NodeId,
        /// Why, as `apply` would say it.
        why: String,
    },
    /// A node is avoided after failures.
    Avoided {
        /// Which node.
        node: NodeId,
        /// The last failure.
        why: String,
        /// Until when, in cluster time.
        until: Millis,
    },
    /// A node fell silent again and again: what others run, or can, is not given to it now.
    HeldBack {
        /// Which node.
        node: NodeId,
        /// Until when, in cluster time.
        until: Millis,
    },
    /// No node offers it.
    NotOffered,
    /// It is starting.
    Starting(NodeId),
    /// It is being stopped.
    Stopping {
        /// Where.
        node: NodeId,
        /// Why.
        reason: StopReason,
        /// What is left, if the stop hangs.
        stuck: Option<String>,
    },
    /// It is to stop, and something stops before it.
    StopsFirst {
        /// What.
        unit: UnitName,
        /// Where.
        node: NodeId,
    },
    /// A copy runs by an earlier definition, and keeps its place until it starts again (P127).
    RestartPending {
        /// Where.
        node: NodeId,
        /// Why the definition in force would have it elsewhere.
        reason: StopReason,
    },
    /// A move cannot be done as asked.
    CannotMove {
        /// Where to.
        to: Option<NodeId>,
        /// Why not.
        why: String,
    },
    /// The power of a node that could take it is being looked at for the first time.
    Observing(NodeId),
    /// How a node's data stands has not been heard: why not.
    Position {
        /// Which node.
        node: NodeId,
        /// Why not.
        why: String,
        /// Whether it was live last, so that everybody waits for it.
        needed: bool,
    },
    /// Neither a release nor a proof says that a node does not run it still: nobody starts alone beside it.
    Unproven(NodeId),
    /// It was never formed: an operator says whose data it begins with.
    FirstFormation,
    /// Nobody can be elected to start alone, by what was heard: why not.
    NoElection(String),
    /// A node may have later data than all that said their ranks of a role.
    Rank {
        /// Which node.
        node: NodeId,
        /// Why it has not said its own.
        why: String,
    },
    /// Nobody can be chosen for a role by what was heard: why not.
    NoRank(String),
    /// A node has the latest data, and cannot start now.
    CannotBegin {
        /// Which node.
        node: NodeId,
        /// Why not.
        why: String,
    },
    /// It is active on a node, and not ready.
    NotReady {
        /// Which node.
        node: NodeId,
        /// What it lacks, if that was said.
        lacks: Option<String>,
    },
    /// The next joins when this one is ready.
    JoinsAfter(NodeId),
    /// A node's data is not a part of what is live: it does not just join.
    Diverged {
        /// Which node.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// People have their hands on it: the cluster decides nothing on it.
    Maintenance {
        /// What is in maintenance.
        scope: Scope,
        /// Where the copy is that is left alone; `None` if all are.
        node: Option<NodeId>,
    },
    /// A copy ended on a node in maintenance, and nothing takes its place before the end of it.
    Kept(NodeId),
    /// Its copies stop one after another, and this node's is first.
    OneByOne(NodeId),
}

impl Reason {
    /// The fact, as a sentence fragment.
    #[must_use]
    pub fn text(&self, state: &State, unit: &UnitName, now: Millis) -> String {
        let name = |node: &NodeId| state.node_name(*node);
        match self {
            Self::Stopped => match state.units.get(unit).and_then(|unit| unit.goal.by.clone()) {
                Some(by) => format!("its goal is `stopped`: {by}"),
                None => "nobody has started it, and it is enabled on no node".to_string(),
            },
            Self::ClusterDrained => {
                format!(
                    "the whole cluster is drained, by {}, and nothing starts",
                    state.drained.as_deref().unwrap_or("somebody")
                )
            }
            Self::Held(node) => {
                let hold = state.units.get(unit).and_then(|unit| unit.holds.get(node));
                format!("it is held on {}: {}", name(node), hold.map_or("unknown", |hold| &hold.by))
            }
            Self::NoDefinition if !state.is_offered(unit) => {
                "no node offers it, so no definition is in force".to_string()
            }
            Self::NoDefinition => "no definition is in force: the offers differ or have errors".to_string(),
            Self::Differs(node) => format!("{} offers another definition than the one in force", name(node)),
            Self::Fault { node, fault } => format!("{}: {fault}", name(node)),
            Self::PossiblyRunning { node, how } => {
                let node_name = name(node);
                match how {
                    Possibly::Permit(token) => match state.permit(unit, *token) {
                        Some(permit) if permit.contradicted => {
                            format!("{node_name} spoke after it was proven off; it may still run the unit")
                        }
                        Some(permit) if state.is_lost(permit) && state.isolation(*node).is_some() => {
                            let by = state.isolation(*node).map(|isolation| isolation.devices.as_str());
                            let reset = time_text(state, unit, permit, now);
                            format!(
                                "{node_name} is cut off by {} and may still run it (permit {token}), and that is no proof for \
                                 it{reset}",
                                by.unwrap_or_default()
                            )
                        }
                        Some(permit) if state.is_lost(permit) => {
                            let reset = time_text(state, unit, permit, now);
                            format!("{node_name} is lost and may still run it (permit {token}){reset}")
                        }
                        Some(permit) if is_alone_by_terms(state, unit, permit) => {
                            format!("{node_name} holds permit {token}, by whose terms no other copy runs")
                        }
                        _ => format!("{node_name} holds permit {token}"),
                    },
                    Possibly::Stray => format!("it runs on {node_name} without a permit"),
                    Possibly::Unheard => {
                        format!("{node_name} has not said since its boot whether it runs it")
                    }
                }
            }
            Self::WaitsForFence { node } => fence_text(state, unit, *node, now),
            Self::Unheard(node) => match state.nodes.get(node).and_then(|node| node.life.as_ref()) {
                None => format!("{} is a member that was never heard, and may run it already", name(node)),
                Some(_) => format!("{} has not said yet whether it runs there", name(node)),
            },
            Self::NotAdopted(why) => {
                format!("the definition that most nodes offer is not taken over: {why}")
            }
            Self::Requires(other) => format!("it requires {other}, {}", why_not_up(state, other)),
            Self::After(other) if is_starting(state, other) => {
                format!("it starts after {other}, which is starting")
            }
            Self::After(other) if is_unready(state, other) => {
                format!("it starts after {other}, of which no copy is ready yet")
            }
            Self::After(other) => format!("it starts after {other}, which is still to start"),
            Self::AfterStop(other) => format!("it starts after {other}, which is stopping"),
            Self::TooManyStarts(Some(node)) => {
                format!("{} has as many starts under way as it may", name(node))
            }
            Self::TooManyStarts(None) => "the cluster has as many starts under way as it may".to_string(),
            Self::PartStopped(whole) => {
                let by = state.units.get(whole).and_then(|whole| whole.goal.by.clone()).unwrap_or_default();
                format!("it is part of {whole}, which was stopped: {by}")
            }
            Self::Conflicts { unit, node: Some(node) } => {
                format!("it conflicts with {unit}, which is possibly running on {}", name(node))
            }
            Self::Conflicts { unit, node: None } => format!("it conflicts with {unit}, which is starting"),
            Self::Unfit { why, .. } => why.clone(),
            Self::Avoided { node, why, until } => {
                let left = until.saturating_sub(now) / 1000;
                format!("{} is avoided for another {left} s after a failure: {why}", name(node))
            }
            Self::HeldBack { node, until } => {
                let times = state.nodes.get(node).map_or(0, |node| node.lately.losses.len());
                let left = until.saturating_sub(now).div_ceil(1000);
                format!(
                    "{} fell silent {times} times of late and takes nothing that others can run for another {left} s",
                    name(node)
                )
            }
            Self::NotOffered => "no node in session offers it".to_string(),
            Self::Starting(node) => format!("it is starting on {}", name(node)),
            Self::Stopping { node, reason, stuck } => {
                let why = stop_text(reason);
                match stuck {
                    Some(what) => format!("its stop on {} hangs ({why}): {what}", name(node)),
                    None => format!("it is stopping on {}: {why}", name(node)),
                }
            }
            Self::StopsFirst { unit, node } => format!("{unit} on {} stops before it", name(node)),
            Self::RestartPending { node, reason } => {
                let why = match reason {
                    StopReason::Apart(other) => format!("SameNodeAs= wants it beside {other}"),
                    StopReason::SharesNode(other) => format!("OtherNodeThan= parts it from {other}"),
                    other => stop_text(other),
                };
                format!(
                    "restart pending: it keeps its place on {} until it starts again, though {why}",
                    name(node)
                )
            }
            Self::CannotMove { to, why } => match to {
                Some(to) => format!("it cannot move to {}: {why}", name(to)),
                None => format!("it cannot move: {why}"),
            },
            Self::Observing(node) => format!("the fence device of {} is being looked at first", name(node)),
            Self::Position { why, .. } | Self::NoElection(why) | Self::Diverged { why, .. } => why.clone(),
            Self::Rank { why, .. } | Self::NoRank(why) => why.clone(),
            Self::Unproven(node) => {
                format!("no release and no proof says that {} does not run it still", name(node))
            }
            Self::FirstFormation => "it was never formed: whose data does it begin with?".to_string(),
            Self::CannotBegin { node, why } => {
                format!("{} has the latest data, and cannot start now: {why}", name(node))
            }
            Self::NotReady { node, lacks } => match lacks {
                Some(lacks) => format!("it is active on {}, and not ready: {lacks}", name(node)),
                None => format!("it is active on {}, which has not said that it is ready", name(node)),
            },
            Self::Maintenance { scope, node } => maintenance_text(state, scope, *node),
            Self::Kept(node) => state.kept_text(*node),
            Self::JoinsAfter(node) => format!("the next joins when the copy on {} is ready", name(node)),
            Self::OneByOne(node) => {
                format!("its copies stop one by one, and that on {} is first", name(node))
            }
        }
    }

    /// The rule that the reason comes from, as the book numbers them.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Stopped
            | Self::ClusterDrained
            | Self::Held(_)
            | Self::PartStopped(_)
            | Self::Maintenance { .. }
            | Self::Kept(_) => "S6",
            Self::PossiblyRunning { .. } | Self::Conflicts { .. } => "S1",
            Self::WaitsForFence { .. } | Self::Observing(_) => "S2",
            Self::Requires(_) | Self::After(_) | Self::AfterStop(_) | Self::StopsFirst { .. } => "S4",
            Self::NoDefinition | Self::Differs(_) | Self::NotAdopted(_) | Self::RestartPending { .. } => {
                "F13"
            }
            Self::Fault { .. } => "F12",
            Self::Unheard(_) => "F11",
            Self::Position { .. }
            | Self::Unproven(_)
            | Self::FirstFormation
            | Self::NoElection(_)
            | Self::Rank { .. }
            | Self::NoRank(_)
            | Self::CannotBegin { .. }
            | Self::NotReady { .. }
            | Self::JoinsAfter(_)
            | Self::Diverged { .. }
            | Self::OneByOne(_) => "F16",
            Self::Unfit { .. }
            | Self::Avoided { .. }
            | Self::HeldBack { .. }
            | Self::NotOffered
            | Self::TooManyStarts(_)
            | Self::Starting(_)
            | Self::Stopping { .. }
            | Self::CannotMove { .. } => "L1",
        }
    }
}

/// Why the cluster stops a unit, in words.
fn stop_text(reason: &StopReason) -> String {
    reason.to_string()
}

impl core::fmt::Display for StopReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::GoalStopped => f.write_str("it was asked to stop"),
            Self::Held => f.write_str("it is held there"),
            Self::Drained => f.write_str("the node is drained"),
            Self::ClusterDrained => f.write_str("the whole cluster is drained"),
            Self::Moved => f.write_str("it moves"),
            Self::NotAllowed => f.write_str("Nodes= does not let it run there"),
            Self::RequirementStops(unit) => write!(f, "{unit}, which it requires, stops"),
            Self::BoundEnds(unit) => write!(f, "{unit}, which it is bound to, is not active any more"),
            Self::PartStops(unit) => write!(f, "{unit}, which it is part of, stops"),
            Self::Conflicts(unit) => write!(f, "it conflicts with {unit}"),
            Self::SharesNode(unit) => write!(f, "it must not share a node with {unit}"),
            Self::NoRoom(of) => write!(f, "the node has less `{of}` than its units take"),
            Self::Outranked(unit) => write!(f, "{unit}, which has a higher priority, needs its room"),
            Self::Apart(unit) => write!(f, "it runs beside {unit}, which leaves"),
            Self::Surplus => f.write_str("there are more copies than wanted"),
            Self::BetterNode => f.write_str("another node suits it better"),
            Self::ProofContradicted => f.write_str("the proof it started on was contradicted"),
            Self::Unwell(why) => write!(f, "its health check failed: {why}"),
            Self::Stranger(identity) => {
                write!(f, "it joined a copy of another history ({identity}) than the service's")
            }
            Self::OneAlone => f.write_str("it waits for others in vain: one has to start alone"),
        }
    }
}

/// What keeps a unit from being there for what starts now (S4).
fn why_not_up(state: &State, unit: &UnitName) -> String {
    let Some((_, permit)) = state.known_active(unit).next() else { return "which is not active".into() };
    if let Some(node) = state.untold(permit) {
        return format!("and {} has yet to say whether it is up there", node.name);
    }
    match permit.rest {
        None if state.is_up(unit, None) && !permit.is_revoking() => "which is to stop".into(),
        None if state.is_up(unit, None) => "which is stopping".into(),
        None | Some(Rest::Restarts | Rest::Stops) => "which systemd stops or restarts at this moment".into(),
        Some(Rest::Down) => {
            format!("and {} has yet to say what became of it there", state.node_name(permit.node))
        }
    }
}

pub(super) fn is_alone_by_terms(state: &State, unit: &UnitName, permit: &Permit) -> bool {
    state.units.get(unit).is_some_and(|unit| unit.is_alone_by_terms(permit))
}

/// Whether a copy of a unit is on its way up.
pub(super) fn is_starting(state: &State, unit: &UnitName) -> bool {
    let mut permits = state.units.get(unit).into_iter().flat_map(|unit| unit.permits.values());
    permits.any(|permit| permit.phase == crate::permit::Phase::Granted && !state.is_lost(permit))
}

/// Whether a clustered service runs, and no copy of it is ready.
fn is_unready(state: &State, unit: &UnitName) -> bool {
    let clustered = state.units.get(unit).is_some_and(|unit| unit.boot_up.is_some());
    clustered && state.known_active(unit).next().is_some() && !state.is_live(unit)
}

/// Who began it and what for, so that nobody has to look for that at night.
fn maintenance_text(state: &State, scope: &Scope, node: Option<NodeId>) -> String {
    let mut text = state.maintenance_text(scope);
    if let Some(maintenance) = state.maintenance_of(scope) {
        text.push_str(&format!(", by {}", maintenance.by));
        if let Some(reason) = &maintenance.reason {
            text.push_str(&format!(" ({reason})"));
        }
    }
    match node {
        Some(node) => {
            text.push_str(&format!(": the cluster leaves its copy on {} alone", state.node_name(node)))
        }
        None => text.push_str(": the cluster leaves it alone"),
    }
    text
}
