//! What is said of a lost node, and of its fence, to whoever waits for it.

use alloc::format;
use alloc::string::{String, ToString};

use crate::command::Device;
use crate::definition::Fencing;
use crate::fence::{FenceCase, Phase, Power};
use crate::maintenance::Scope;
use crate::name::{Millis, NodeId, UnitName};
use crate::permit::Permit;
use crate::state::State;

/// When a lost node has certainly stopped a copy, or was reset by its own watchdog, if that ends the permit.
pub(super) fn time_text(state: &State, unit: &UnitName, permit: &Permit, now: Millis) -> String {
    let Some(at) = state.expires_at(unit, permit) else { return String::new() };
    let left = at.saturating_sub(now).div_ceil(1000);
    match permit.terms.fencing {
        Fencing::Watchdog => format!("; its own watchdog has reset it in {left} s at the latest"),
        Fencing::Lease => format!("; it has stopped it in {left} s at the latest (Fencing=lease)"),
        Fencing::None | Fencing::Isolated | Fencing::Required => String::new(),
    }
}

pub(super) fn fence_text(state: &State, unit: &UnitName, node: NodeId, now: Millis) -> String {
    let name = state.node_name(node);
    let running = state.open_case(node).is_some_and(|(_, case)| matches!(case.phase, Phase::Running { .. }));
    if let Some(scope) = state.copy_maintenance(unit, node).filter(|_| !running) {
        let whose = match &scope {
            Scope::Node(_) => "in maintenance".to_string(),
            Scope::Cluster | Scope::Unit(_) => state.maintenance_text(&scope),
        };
        return format!("{name} is lost, and {whose}: it is not fenced");
    }
    let Some((_, case)) = state.open_case(node) else {
        return format!("{name} is lost; a fence is wanted");
    };
    if let Some(until) = state.fencing_held_until().filter(|until| *until > now) {
        let left = until.saturating_sub(now);
        return format!("{name} is lost, with too many others at once; fencing waits another {left} ms");
    }
    let by = state.level_name(node, case.level);
    match &case.phase {
        Phase::Running { executor, .. } => {
            let done = if state.level_isolates(node, case.level) { "cut off" } else { "fenced" };
            format!("{name} is being {done} by {by}, run on {}", state.node_name(*executor))
        }
        Phase::Failed { error, next_at } => {
            let next = state.next_level(case, now);
            let due = next.and_then(|level| state.attempt_due(case, level)).unwrap_or(*next_at);
            let when = match due.saturating_sub(now).div_ceil(1000) {
                0 if next.is_some_and(|level| state.level_is_busy(node, level)) => {
                    String::from("after another node's fence")
                }
                0 => String::from("now"),
                left => format!("in {left} s"),
            };
            let then = match next.filter(|level| *level != case.level) {
                Some(level) => format!("{} is tried {when}", state.level_name(node, level)),
                None => format!("next attempt {when}"),
            };
            format!("fencing {name} by {by} failed ({error}); {then}")
        }
        _ => unfenced_text(state, case, now),
    }
}

/// Why no attempt has begun.
fn unfenced_text(state: &State, case: &FenceCase, now: Millis) -> String {
    let (node, name) = (case.node, state.node_name(case.node));
    if state.devices_of(node).next().is_none() {
        return format!("{name} is lost and has no fence device");
    }
    let helps = |level: &u32| state.level_helps(node, *level, &case.incarnation, now);
    if let Some(level) = state.levels(node).into_iter().find(helps) {
        let by = state.level_name(node, level);
        let left = state.attempt_due(case, level).unwrap_or_default().saturating_sub(now).div_ceil(1000);
        if left > 0 {
            return format!("{name} is lost; its fence by {by} begins in {left} s (`delay`)");
        }
        if state.level_is_busy(node, level) {
            return format!("{name} is lost; its fence by {by} waits for the end of another node's");
        }
        return format!("{name} is lost; its fence by {by} is about to begin");
    }
    let power = |(name, device): (&'_ str, &Device)| device.isolates.is_none().then(|| name.to_string());
    let Some(power) = state.devices_of(node).find_map(power) else {
        return cut_text(state, case, now);
    };
    // Of several devices the first that cannot count: which levels there are, `convoke config show` says.
    let trusted = |name: &str| state.seen(name, node, &case.incarnation).is_some_and(|seen| seen.trusted);
    let untrusted = |(name, device): &(&str, &Device)| device.isolates.is_none() && !trusted(name);
    let device = state.devices_of(node).find(untrusted).map_or(power.as_str(), |(name, _)| name);
    let lied = state.devices.get(device).is_some_and(|one| state.has_lied(node, one.level));
    match state.seen(device, node, &case.incarnation).map(|seen| &seen.power) {
        _ if lied => {
            format!(
                "{name} is lost, and {device} cannot count: it was found to say off while the node goes on"
            )
        }
        Some(Power::Unknown(error) | Power::Unable(error)) => {
            format!("{name} is lost, and {device} cannot count: {error}")
        }
        Some(_) => format!("{name} is lost, and {device} cannot count: it read OFF while the node was heard"),
        None => format!("{name} is lost, and {device} never saw this life of it with power on"),
    }
}

/// The same where all of a node's devices only cut it off.
fn cut_text(state: &State, case: &FenceCase, now: Millis) -> String {
    let (node, name) = (case.node, state.node_name(case.node));
    if let Some(isolation) = state.isolation(node) {
        return format!(
            "{name} is cut off by {} and may still run; none of its devices switches its power off",
            isolation.devices
        );
    }
    let by = state.fenced_by(node).unwrap_or_default();
    if !state.isolation_ends(node, &case.incarnation) {
        return format!("{name} is lost, and {by} would only cut it off, which is no proof for what waits");
    }
    let opening = state.levels(node).into_iter().find_map(|level| state.may_open(node, level, now));
    if let Some(device) = opening {
        return format!(
            "{name} is lost, and {device} may be opening its way at this moment: it cannot cut it off now"
        );
    }
    format!("{name} is lost, and {by} has not shown this life of it with its way open")
}
