//! What would happen, as lines: what changes for which unit, and in which order.
//!
//! The words for states, copies and reasons are those of `status` and `why`: the same functions, on the state that the
//! forecast leads to.

use std::collections::BTreeSet;

use policy::{
    End, Event, EventKind, Evidence, Millis, Node, NodeId, OnQuorumLoss, Permit, Refusal, Start, State,
    Suppose, Unit, UnitName, Wanted, Wish,
};

use super::{View, events};
use crate::api::model::{ChangeLine, CopyLine, Forecast, StepLine, UnitLine, WhyLine};

/// How many reasons are told of each unit: of a big cluster it may be all nodes that do not suit.
const REASONS: usize = 3;

/// In whose name a supposed wish is asked.
pub const BY: &str = "this forecast";

/// What would happen from a state on, looked at for as long as `may_go_on` says.
///
/// # Errors
/// The [`Refusal`] of a wish that would be refused now.
pub fn forecast(
    state: &State,
    now: Millis,
    quorum: bool,
    supposed: &[Suppose],
    may_go_on: impl FnMut() -> bool,
) -> Result<Forecast, Refusal> {
    let told = policy::forecast(state.clone(), now, supposed, may_go_on)?;
    let plan = policy::plan(state, now);
    let before = View { state, plan: &plan, now };
    let after = View { state: &told.state, plan: &told.plan, now: told.now };
    let asked: BTreeSet<&UnitName> = supposed.iter().filter_map(unit_of).collect();
    let change = |name: &UnitName| match told.end {
        End::NoQuorum => before.undecided(name, &told.state),
        // What was asked about is told of in any case.
        End::AtRest | End::Unfinished => {
            after.change(name, &before).filter(|line| line.changes || asked.contains(name))
        }
    };
    let names: BTreeSet<&UnitName> = state.units.keys().chain(told.state.units.keys()).collect();
    let units: Vec<ChangeLine> = names.iter().copied().filter_map(change).collect();
    // What was asked for is no step towards it.
    let mut adopted: BTreeSet<&UnitName> = supposed.iter().filter_map(adopted).collect();
    let follows = |event: &&Event| {
        let taken_over = event.unit.as_ref().filter(|_| event.kind == EventKind::DefinitionAdopted);
        taken_over.is_none_or(|unit| !adopted.remove(unit))
    };
    let steps: Vec<StepLine> =
        told.steps.iter().filter(follows).filter_map(|event| step(&told.state, event, now)).collect();
    Ok(Forecast {
        supposed: clause(state, supposed),
        quorum,
        index: state.index,
        end: match told.end {
            End::AtRest => "at-rest",
            End::NoQuorum => "no-quorum",
            End::Unfinished => "unfinished",
        }
        .to_owned(),
        unchanged: names.len().saturating_sub(units.len()) as u64,
        assumes: assumptions(&told),
        steps,
        units,
    })
}

impl View<'_> {
    /// How a unit is then, beside how it is now.
    fn change(&self, name: &UnitName, before: &View<'_>) -> Option<ChangeLine> {
        let then = self.unit_line(name)?;
        let now = before.unit_line(name);
        let same = |now: &UnitLine| {
            now.state == then.state && now.goal == then.goal && places(&now.copies) == places(&then.copies)
        };
        let changes = !now.as_ref().is_some_and(same);
        // What holds a unit that is where one expects it explains nothing.
        let mut reasons = if then.reason.is_some() { self.reasons(name) } else { Vec::new() };
        reasons.truncate(REASONS);
        let (state_now, now) =
            now.map_or_else(|| ("unknown".to_owned(), Vec::new()), |now| (now.state, now.copies));
        Some(ChangeLine {
            unit: name.0.clone(),
            changes,
            state_now,
            now,
            state_then: then.state,
            then: then.copies.into_iter().map(|copy| CopyLine { token: None, ..copy }).collect(),
            reasons: reasons.into_iter().map(|(_, line)| line).collect(),
        })
    }

    /// What becomes of a unit's copies where nothing is decided any more: each node acts by the terms of its permit.
    fn undecided(&self, name: &UnitName, then: &State) -> Option<ChangeLine> {
        let line = self.unit_line(name)?;
        let unit = self.state.units.get(name)?;
        let (mut copies, mut reasons) = (Vec::new(), Vec::new());
        for permit in unit.permits.values() {
            let node = self.state.node_name(permit.node);
            let heard = then.nodes.get(&permit.node).is_some_and(|node| node.in_session().is_some());
            let left = self.state.copy_maintenance(name, permit.node).is_some();
            let (state, fact) = match permit.terms.fencing {
                policy::Fencing::Required | policy::Fencing::Isolated if left && heard => {
                    (Some("active"), format!("{node} lets it run when its lease ends: it is in maintenance"))
                }
                _ => lease_end(permit, heard, &node),
            };
            if let Some(state) = state {
                copies.push(CopyLine { node, state: state.to_owned(), token: None, adopted: permit.adopted });
            }
            reasons.push(WhyLine {
                rule: "S3".to_owned(),
                fact,
                release: "a majority of the voters: `convoke status` shows who is missing".to_owned(),
            });
        }
        copies.sort_by_key(|copy| super::natural(&copy.node));
        if places(&line.copies) == places(&copies) || unit.permits.is_empty() {
            return None;
        }
        let state = if copies.is_empty() { "stopped" } else { "unknown" };
        Some(ChangeLine {
            unit: name.0.clone(),
            changes: true,
            state_now: line.state,
            now: line.copies,
            state_then: state.to_owned(),
            then: copies,
            reasons,
        })
    }
}

/// Where copies are, and how, whatever their permits.
fn places(copies: &[CopyLine]) -> Vec<(&str, &str)> {
    copies.iter().map(|copy| (copy.node.as_str(), copy.state.as_str())).collect()
}

/// What a node does with a copy at the end of its lease: the copy's state then, and a sentence.
fn lease_end(permit: &Permit, heard: bool, node: &str) -> (Option<&'static str>, String) {
    if !heard {
        return (
            Some("unknown"),
            format!("{node} is lost and may still run it; nobody could prove or decide anything"),
        );
    }
    match permit.terms.on_quorum_loss {
        OnQuorumLoss::Stop => (None, format!("{node} stops it when its lease ends (OnQuorumLoss=stop)")),
        OnQuorumLoss::Freeze => {
            (Some("frozen"), format!("{node} freezes it when its lease ends (OnQuorumLoss=freeze)"))
        }
        OnQuorumLoss::Continue => {
            (Some("active"), format!("{node} lets it run when its lease ends (OnQuorumLoss=continue)"))
        }
        OnQuorumLoss::Reboot => (None, format!("{node} reboots when its lease ends (OnQuorumLoss=reboot)")),
    }
}

/// The unit that is asked about.
fn unit_of(supposed: &Suppose) -> Option<&UnitName> {
    match supposed {
        Suppose::Asked(
            Wish::SetGoal { unit, .. } | Wish::Move { unit, .. } | Wish::AdoptFrom { unit, .. },
        )
        | Suppose::Offered { unit, .. } => Some(unit),
        Suppose::Asked(_) | Suppose::Lost(_) => None,
    }
}

/// The unit of which another definition is asked for.
fn adopted(supposed: &Suppose) -> Option<&UnitName> {
    match supposed {
        Suppose::Asked(Wish::AdoptFrom { unit, .. }) => Some(unit),
        Suppose::Asked(_) | Suppose::Lost(_) | Suppose::Offered { .. } => None,
    }
}

/// What was supposed, as a clause.
fn clause(state: &State, supposed: &[Suppose]) -> String {
    let one = |one: &Suppose| match one {
        Suppose::Lost(node) => format!("{} is lost", state.node_name(*node)),
        Suppose::Asked(Wish::SetDrained { node, drained, .. }) => {
            let what = node.map_or_else(|| "the whole cluster".to_owned(), |node| state.node_name(node));
            format!("{what} is {}", if *drained { "drained" } else { "undrained" })
        }
        Suppose::Asked(Wish::BeginMaintenance { scope, .. }) => state.maintenance_text(scope),
        Suppose::Asked(Wish::EndMaintenance { scope, .. }) => {
            format!("the maintenance of {} ends", state.scope_name(scope))
        }
        Suppose::Asked(Wish::SetGoal { unit, wanted, node, .. }) => {
            let place = node.map(|node| format!(" on {}", state.node_name(node))).unwrap_or_default();
            match wanted {
                Wanted::Started => format!("{unit} is started{place}"),
                Wanted::Stopped => format!("{unit} is stopped"),
            }
        }
        Suppose::Asked(Wish::Move { unit, from, to, .. }) => {
            let from = from.map(|node| format!(" from {}", state.node_name(node))).unwrap_or_default();
            let to =
                to.map_or_else(|| " elsewhere".to_owned(), |node| format!(" to {}", state.node_name(node)));
            format!("{unit} is moved{from}{to}")
        }
        Suppose::Asked(Wish::AdoptFrom { unit, node, .. }) => {
            format!("{unit} is defined as on {}", state.node_name(*node))
        }
        Suppose::Asked(_) => "something else is asked for".to_owned(),
        Suppose::Offered { unit, first, .. } => {
            let offered = |node: &Node| node.offers.get(unit).is_some_and(|offer| offer.present);
            let at = state.node_name(first.node);
            if state.nodes.values().any(offered) {
                format!("all nodes that offer {unit} have the files that {at} has on its disk")
            } else {
                format!("{at} offers {unit} by the files that it has on its disk")
            }
        }
    };
    supposed.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// An event as something that is to be done; `None` for what only says that it came about.
fn step(state: &State, event: &Event, now: Millis) -> Option<StepLine> {
    let name = |id: NodeId| state.node_name(id);
    let node = event.node.map(name).unwrap_or_default();
    let unit = event.unit.as_ref().map_or("", UnitName::as_str);
    let text = match &event.kind {
        EventKind::NodeLost => format!("call {node} lost"),
        EventKind::LeaderChanged { .. } => format!("let {node} lead"),
        EventKind::DefinitionAdopted => format!("take over the definition of {unit} that the nodes offer"),
        EventKind::GoalSet { by: Some(by), .. } if by == BY => return None,
        EventKind::GoalSet { wanted: Wanted::Started, by } => match by {
            Some(by) => format!("have {unit} started too, which {by} wants"),
            None => format!("have {unit} started"),
        },
        EventKind::GoalSet { wanted: Wanted::Stopped, .. } => format!("have {unit} stopped, which conflicts"),
        EventKind::GatherOpened { .. } => format!("ask all nodes how their data of {unit} stands"),
        EventKind::RankChosen { .. } => format!("choose {node} for {unit} by its rank"),
        EventKind::Elected { .. } => format!("elect {node} to begin {unit} alone"),
        EventKind::Granted { .. } => format!("start {unit} on {node}"),
        EventKind::GrantedAs { start, .. } => match start {
            Start::Join => format!("let {unit} on {node} join the others"),
            Start::Alone => format!("start {unit} on {node} alone"),
            Start::Resync => format!("let {unit} on {node} copy its data anew and join"),
        },
        EventKind::Adopted { .. } => format!("take over the copy of {unit} that runs on {node}"),
        EventKind::Revoked { reason, .. } => format!("stop {unit} on {node}: {reason}"),
        EventKind::Voided { evidence: Evidence::Expired, .. } => {
            let unit = event.unit.as_ref();
            let defined = unit.and_then(|unit| state.units.get(unit)).and_then(Unit::definition);
            let unit = unit.map_or("", UnitName::as_str);
            match defined.map(|one| one.fencing) {
                Some(policy::Fencing::Lease) => {
                    format!("count {unit} on {node} as ended: its lease and the time of its stop are over")
                }
                Some(policy::Fencing::Watchdog) => {
                    format!("count {unit} on {node} as ended: its own watchdog has reset it by then")
                }
                _ => format!("count {unit} on {node} no more: Fencing=none waits for no proof"),
            }
        }
        EventKind::FenceBegan { device, executor, .. } => {
            format!("fence {node} by {device}, run on {}", name(*executor))
        }
        EventKind::DrillPassed { .. } => format!("see {node} off, as the drill wants"),
        EventKind::DrillCancelled { why, .. } => format!("give up the drill of {node}: {why}"),
        EventKind::NodeIsolated { devices, .. } => format!("have {node} cut off by {devices}"),
        EventKind::FenceProven { .. } => format!("take {node} for proven off"),
        EventKind::FenceCancelled { .. } => format!("give up the fence of {node}, which nothing waits for"),
        _ => return None,
    };
    let line = events::line(state, event);
    let after_ms = event.time.saturating_sub(now);
    Some(StepLine { after_ms, kind: line.kind, node: line.node, unit: line.unit, text })
}

fn assumptions(told: &policy::Forecast) -> Vec<String> {
    let mut assumed = Vec::new();
    if told.end != End::NoQuorum {
        assumed.push("each start and each stop succeeds");
    }
    let fenced =
        |event: &Event| matches!(event.kind, EventKind::FenceBegan { .. } | EventKind::FenceProven { .. });
    if told.steps.iter().any(fenced) {
        assumed.push("fencing works");
    }
    if told.state.nodes.values().any(|node| node.life.is_some() && node.in_session().is_none()) {
        assumed.push("what is lost stays away");
    }
    assumed.push("nothing else happens meanwhile");
    assumed.into_iter().map(str::to_owned).collect()
}
