//! Every kind of event as a stable word for scripts and a sentence for people.

use policy::{
    CaseId, Cause, Event, EventKind, Evidence, Fencing, Ground, NodeId, Severity, Start, State, Wanted, Word,
};

use super::departed::{name_of, unmarked};
use crate::api::model::{FenceStep, HistoryLine};

pub(super) fn line(state: &State, event: &Event) -> HistoryLine {
    HistoryLine {
        index: event.index,
        wall_ms: event.wall_ms,
        time_ms: event.time,
        severity: match event.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Alert => "alert",
        }
        .to_owned(),
        node: event.node.map(|node| name_of(state, node)),
        unit: event.unit.as_ref().map(|unit| unit.0.clone()),
        kind: word(&event.kind).to_owned(),
        text: sentence(state, event),
        fence: fence_step(state, &event.kind),
    }
}

fn fence_step(state: &State, kind: &EventKind) -> Option<FenceStep> {
    let step =
        |case: CaseId| FenceStep { case: case.0, attempt: None, device: None, executor: None, result: None };
    let step = match kind {
        EventKind::FenceBegan { case, attempt, device, executor } => FenceStep {
            attempt: Some(*attempt),
            device: Some(device.clone()),
            executor: Some(name_of(state, *executor)),
            ..step(*case)
        },
        EventKind::FenceFailed { case, attempt, device, error } => FenceStep {
            attempt: Some(*attempt),
            device: Some(device.clone()),
            result: Some(error.clone()),
            ..step(*case)
        },
        EventKind::FenceProven { case: Some(case), evidence, .. } => {
            FenceStep { result: Some(proof(*evidence).to_owned()), ..step(*case) }
        }
        EventKind::NodeIsolated { case, devices, .. } => FenceStep {
            device: Some(devices.clone()),
            result: Some("it was seen cut off, and may have run on".to_owned()),
            ..step(*case)
        },
        EventKind::DrillPassed { case, device, .. } => FenceStep {
            device: Some(device.clone()),
            result: Some("the drill passed: its power was seen off".to_owned()),
            ..step(*case)
        },
        EventKind::DrillFailed { case, device, why, .. } => {
            FenceStep { device: Some(device.clone()), result: Some(why.clone()), ..step(*case) }
        }
        EventKind::DrillCancelled { case, why } => FenceStep { result: Some(why.clone()), ..step(*case) },
        EventKind::FenceWanted { case, .. }
        | EventKind::FenceCancelled { case }
        | EventKind::DrillAsked { case, .. }
        | EventKind::DrillEnded { case, .. }
        | EventKind::ProofContradicted { case: Some(case) } => step(*case),
        _ => return None,
    };
    Some(step)
}

/// The stable word. Never renamed: scripts match on it.
fn word(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Founded => "cluster-founded",
        EventKind::LeaderChanged { .. } => "leader-changed",
        EventKind::FeatureLevelRaised { .. } => "feature-level-raised",
        EventKind::NodeEnrolled => "node-joined",
        EventKind::NodeRemoved { .. } => "node-removed",
        EventKind::NodeBooted => "node-booted",
        EventKind::NodeReturned => "node-returned",
        EventKind::NodeLeaving => "node-leaving",
        EventKind::NodeLost => "node-lost",
        EventKind::OtherMachine { .. } => "node-duplicated",
        // Of the whole cluster, the event names no node.
        EventKind::NodeDrained { drained: true, .. } => "node-drained",
        EventKind::NodeDrained { drained: false, .. } => "node-undrained",
        EventKind::MaintenanceBegan { .. } => "maintenance-began",
        EventKind::MaintenanceEnded { .. } => "maintenance-ended",
        EventKind::DefinitionAdopted => "unit-defined",
        EventKind::GoalSet { wanted: Wanted::Started, .. } => "unit-start-asked",
        EventKind::GoalSet { wanted: Wanted::Stopped, .. } => "unit-stop-asked",
        EventKind::HeldOnNode { .. } => "unit-held",
        EventKind::MoveAsked { .. } => "unit-move-asked",
        EventKind::Granted { .. } => "unit-granted",
        EventKind::GatherOpened { .. } => "unit-gather-opened",
        EventKind::AssemblyWord { .. } => "unit-assembly-word",
        EventKind::Elected { .. } => "unit-elected",
        EventKind::RankChosen { .. } => "unit-rank-chosen",
        EventKind::GrantedAs { .. } => "unit-granted",
        EventKind::Ready { .. } => "unit-ready",
        EventKind::NotReady { .. } => "unit-not-ready",
        EventKind::Adopted { .. } => "unit-adopted",
        EventKind::Started { .. } => "unit-started",
        EventKind::Revoked { .. } => "unit-revoked",
        EventKind::CheckFailed { .. } => "unit-check-failed",
        EventKind::StopStuck { .. } => "unit-stop-stuck",
        EventKind::Released { .. } => "unit-released",
        EventKind::Voided { .. } => "unit-voided",
        EventKind::FenceWanted { .. } => "fence-wanted",
        EventKind::FenceBegan { .. } => "fence-began",
        EventKind::FenceFailed { .. } => "fence-failed",
        EventKind::DrillAsked { .. } => "fence-drill-asked",
        EventKind::DrillPassed { .. } => "fence-drill-passed",
        EventKind::DrillFailed { .. } => "fence-drill-failed",
        EventKind::DrillCancelled { .. } => "fence-drill-cancelled",
        EventKind::DrillEnded { .. } => "fence-drill-ended",
        EventKind::WatchdogArmed { .. } => "watchdog-armed",
        EventKind::WatchdogDisarmed { .. } => "watchdog-disarmed",
        EventKind::NodeIsolated { .. } => "fence-isolated",
        EventKind::OpeningBegan { .. } => "fence-opening",
        EventKind::WayOpened { .. } => "fence-opened",
        EventKind::SwitchedOn { .. } => "switched-on",
        EventKind::NotSwitchedOn { .. } => "not-switched-on",
        EventKind::LeftOff { .. } => "left-off",
        EventKind::NodeForgiven { .. } => "node-reset",
        EventKind::FenceProven { .. } => "fence-proven",
        EventKind::FenceCancelled { .. } => "fence-cancelled",
        EventKind::ProofContradicted { .. } => "fence-contradicted",
        EventKind::DeviceRefused { .. } => "fence-device-refused",
        EventKind::AgentUnable { .. } => "fence-agent-unable",
        EventKind::Configured { .. } => "cluster-configured",
        EventKind::Forgotten { .. } => "unit-forgotten",
    }
}

/// What happened, in one sentence, with names instead of ids.
#[must_use]
pub fn sentence(state: &State, event: &Event) -> String {
    let name = |id: NodeId| name_of(state, id);
    let node = event.node.map_or_else(|| "a node".to_owned(), name);
    let unit = event.unit.as_ref().map_or("a unit", |unit| unit.as_str());
    match &event.kind {
        EventKind::Founded => format!("the cluster was founded on {node}"),
        EventKind::LeaderChanged { term } => format!("{node} leads the cluster (term {term})"),
        EventKind::NodeEnrolled => format!("{node} joined the cluster"),
        EventKind::NodeRemoved { by } => {
            let (by, called) = unmarked(by);
            format!("{} was taken out of the cluster by {by}", called.unwrap_or(&node))
        }
        EventKind::FeatureLevelRaised { level } => {
            format!(
                "every node knows feature level {level}, which is in force from now on; no older version can join any more"
            )
        }
        EventKind::NodeBooted => format!("{node} is up after a boot"),
        EventKind::NodeReturned => format!("{node} is back without a reboot"),
        EventKind::NodeLeaving => {
            format!("{node} is going away: it, or its convoked, is being stopped; it gets nothing new")
        }
        // The policy calls it no trouble if the node had said that it goes.
        EventKind::NodeLost if event.severity == Severity::Info => {
            format!("{node} is away after an orderly end of its daemon")
        }
        EventKind::NodeLost => format!("{node} is lost: its lease ended and it may still run its units"),
        EventKind::OtherMachine { machine } => {
            format!("machine {machine} shows the identity of {node} and was turned away")
        }
        EventKind::NodeDrained { drained, by } => {
            let what = if event.node.is_some() { node.as_str() } else { "the whole cluster" };
            match drained {
                true => format!("{what} is drained by {by}"),
                false => format!("{what} takes units again, by {by}"),
            }
        }
        EventKind::MaintenanceBegan { scope, by, reason } => {
            let what = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!(
                "{} is in maintenance, by {by}{what}: the cluster leaves it alone",
                state.scope_name(scope)
            )
        }
        EventKind::MaintenanceEnded { scope, by } => {
            format!("{} is in maintenance no more, by {by}", state.scope_name(scope))
        }
        EventKind::DefinitionAdopted => format!("{unit}: a definition came into force"),
        EventKind::GoalSet { wanted, by } => {
            let verb = match wanted {
                Wanted::Started => "start",
                Wanted::Stopped => "stop",
            };
            let place = event.node.map(|id| format!(" on {}", name(id))).unwrap_or_default();
            match by {
                Some(by) => format!("{unit}: asked to {verb}{place} by {by}"),
                None => format!("{unit}: to {verb}, as its enablement on the nodes says"),
            }
        }
        EventKind::HeldOnNode { by } => format!("{unit}: held on {node} by {by}"),
        EventKind::MoveAsked { to: Some(to), by } => {
            format!("{unit}: asked to move from {node} to {} by {by}", name(*to))
        }
        EventKind::MoveAsked { to: None, by } => format!("{unit}: asked to move away from {node} by {by}"),
        EventKind::Granted { token } => format!("{unit}: {node} may start it (permit {token})"),
        EventKind::GatherOpened { epoch } => {
            format!("{unit}: nothing of it is live; gathering {epoch} asks all how their data stands")
        }
        EventKind::AssemblyWord { word, by } => match word {
            Word::Without(_) => {
                format!("{unit}: it is to come up without the data of {node}, by the word of {by}")
            }
            Word::From(_) => format!("{unit}: it is to begin with the data of {node}, by the word of {by}"),
            Word::Resync(_) => format!("{unit}: the data of {node} may be thrown away, by the word of {by}"),
        },
        EventKind::Elected { identity, rank, absent, ground, .. } => {
            let data = match identity {
                Some(identity) => format!("its data has rank {rank} of {identity}"),
                None => "there is no data yet".to_owned(),
            };
            let absent: Vec<String> = absent.iter().map(|id| name(*id)).collect();
            let why = match ground {
                Ground::AllHeard => "all that were live last were heard".to_owned(),
                Ground::Word if absent.is_empty() => "by an operator's word".to_owned(),
                Ground::Word => format!("by an operator's word, without {}", absent.join(", ")),
                Ground::Best => format!("{} did not come in time (GatherThen=best)", absent.join(", ")),
            };
            format!("{unit}: {node} is elected to start alone: {data}; {why}")
        }
        EventKind::RankChosen { identity, rank, without } => {
            let without: Vec<String> = without.iter().map(|id| name(*id)).collect();
            let unheard = match without.as_slice() {
                [] => String::new(),
                names => format!(", without a word of {}", names.join(", ")),
            };
            format!("{unit}: {node} is to hold it: nobody's rank is higher ({rank} of {identity}{unheard})")
        }
        EventKind::GrantedAs { token, start } => {
            let how = match start {
                Start::Join => "to join the others",
                Start::Alone => "alone",
                Start::Resync => "and copy its data anew",
            };
            format!("{unit}: {node} may start it {how} (permit {token})")
        }
        EventKind::Ready { token } => format!("{unit}: ready on {node} (permit {token})"),
        EventKind::NotReady { token, lacks } => {
            format!("{unit}: not ready any more on {node}: {lacks} (permit {token})")
        }
        EventKind::Adopted { token } => {
            format!("{unit}: the copy that runs on {node} was taken over (permit {token})")
        }
        EventKind::Started { token, after_ms } => {
            format!("{unit}: active on {node} after {after_ms} ms (permit {token})")
        }
        EventKind::Revoked { token, reason } => {
            format!("{unit}: {node} is to stop it, because {reason} (permit {token})")
        }
        EventKind::CheckFailed { why, .. } => format!("{unit}: its health check failed on {node}: {why}"),
        EventKind::StopStuck { what } => format!("{unit}: does not stop on {node}: {what}"),
        EventKind::Released { token, because } => {
            format!("{unit}: gone on {node}: {} (permit {token})", cause(because))
        }
        // Nothing is proven, and a unit with OnQuorumLoss=continue may well run on.
        EventKind::Voided { token, evidence: Evidence::Expired } => {
            format!("{unit}: does not count on {node} any more: {} (permit {token})", expired(state, event))
        }
        EventKind::Voided { token, evidence: Evidence::Isolated(_) } => {
            format!(
                "{unit}: does not count on {node} any more: it is cut off from all that the unit shares (Fencing=isolated) \
                 (permit {token})"
            )
        }
        EventKind::Voided { token, evidence } => {
            format!("{unit}: cannot be running on {node}: {} (permit {token})", proof(*evidence))
        }
        EventKind::FenceWanted { because, .. } => format!("{node} has to be fenced: {because} waits for it"),
        EventKind::FenceBegan { attempt, device, executor, .. } => {
            format!("{}: began to fence {node} by {device} (attempt {attempt})", name(*executor))
        }
        EventKind::FenceFailed { attempt, device, error, .. } => {
            format!("fence of {node} by {device} failed (attempt {attempt}): {error}")
        }
        EventKind::FenceProven { evidence, by, after_ms, .. } => match by {
            Some(by) => format!("{node} is off by the word of {by}"),
            None => format!("{node} is proven gone after {after_ms} ms: {}", proof(*evidence)),
        },
        EventKind::NodeIsolated { devices, after_ms, .. } => {
            format!(
                "{node} is cut off by {devices} after {after_ms} ms; it may still run, and gets nothing more before it boots"
            )
        }
        EventKind::OpeningBegan { device, executor } => {
            format!("{}: began to let {node} in again by {device}", name(*executor))
        }
        EventKind::WayOpened { device } => format!("{node} is let in again by {device}"),
        EventKind::FenceCancelled { .. } => format!("{node} need not be fenced any more"),
        EventKind::ProofContradicted { .. } => {
            format!("{node} spoke after it was proven off: its units may have run twice")
        }
        EventKind::DrillAsked { level, by, .. } => {
            format!("{node} is to be switched off and on again: a drill of level {level}, asked for by {by}")
        }
        EventKind::DrillPassed { level, device, after_ms, .. } => {
            format!(
                "drill of {node} passed: {device} (level {level}) had it off in {after_ms} ms, and it fell silent"
            )
        }
        EventKind::DrillFailed { level, device, why, .. } => {
            format!("drill of {node} by {device} (level {level}) failed: {why}")
        }
        EventKind::DrillCancelled { why, .. } => {
            format!("drill of {node} was given up before it began: {why}")
        }
        EventKind::DrillEnded { after_ms, .. } => {
            format!("{node} is back from the drill, {after_ms} ms after its power was seen off")
        }
        EventKind::WatchdogArmed { device, timeout_ms } => {
            format!("{node} has armed {device}: it is reset {} s after it was last fed", timeout_ms / 1000)
        }
        EventKind::WatchdogDisarmed { why } => format!("{node} has no watchdog armed: {why}"),
        EventKind::SwitchedOn { device } => format!("{node} has its power back by {device}"),
        EventKind::NotSwitchedOn { device, why, again } => {
            let then = if *again { "it is tried again" } else { "nobody tries it any more" };
            // What it is now says what it was then, but for a device that was taken out since.
            let is_way = state.devices.get(device).is_some_and(|device| device.isolates.is_some());
            match is_way {
                true => format!("{device} did not open the way of {node}: {why}; {then}"),
                false => format!("{device} did not switch {node} on again: {why}; {then}"),
            }
        }
        EventKind::LeftOff { times } => {
            format!("{node} is not switched on again: it was fenced {times} times within half an hour")
        }
        EventKind::NodeForgiven { by } => {
            format!("{node} is held back no more, and its fences are forgotten: {by} says so")
        }
        EventKind::DeviceRefused { device, why } => format!("{device} does not count for {node}: {why}"),
        EventKind::AgentUnable { device, why } => {
            format!("{node} cannot use {device}, and leaves it to others: {why}")
        }
        EventKind::Configured { by } => format!("the cluster's settings were changed by {by}"),
        EventKind::Forgotten { by } => format!("{unit}: forgotten by {by}"),
    }
}

/// Why a lost node's permit ended without proof. The definition in force says it best; the permit's own terms are gone.
fn expired(state: &State, event: &Event) -> &'static str {
    let unit = event.unit.as_ref().and_then(|unit| state.units.get(unit));
    match unit.and_then(policy::Unit::definition).map(|definition| definition.fencing) {
        Some(Fencing::Lease) => {
            "the node is lost, and the time in which it stops the unit by itself is over (Fencing=lease)"
        }
        Some(Fencing::Watchdog) => {
            "the node is lost, and its own watchdog has reset it by now (Fencing=watchdog)"
        }
        Some(Fencing::None) => "the node is lost, and Fencing=none waits for no proof that it stopped",
        _ => "the node is lost, and the time after which its copy does not count is over",
    }
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Ordered => "the cluster had it stopped".to_owned(),
        Cause::Operator(by) => format!("stopped there by {by}"),
        Cause::Failed(why) => format!("failed: {why}"),
        Cause::StartFailed(why) => format!("could not be started: {why}"),
        Cause::Propagated(why) => format!("another unit took it along: {why}"),
        Cause::Shutdown => "the node, or its convoked, was being stopped".to_owned(),
        Cause::LeaseEnded => "the node had lost the quorum and stopped it".to_owned(),
        Cause::Unused => "its permit was not used".to_owned(),
        Cause::DownInMaintenance => "it was down when its maintenance ended".to_owned(),
    }
}

fn proof(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Released => "the node said so",
        Evidence::Fenced(_) => "its power was seen off",
        Evidence::Reborn => "the machine has booted again",
        Evidence::Expired => "its time has passed",
        Evidence::Vouched => "an operator gave their word",
        Evidence::Isolated(_) => "it was cut off",
    }
}
