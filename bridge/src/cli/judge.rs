//! Whether what was asked has happened, as far as a picture of the cluster tells.
//!
//! Pure. What it calls done is what an operator would: for a stop, that the unit is proven stopped (F22).

mod assembly;
mod site;

pub(super) use assembly::assembled;
pub(super) use site::{Progress, Way, off, on};

use super::confirm;
use crate::api::model::{CopyLine, FenceLine, Overview, UnitLine};

/// What a picture says of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has happened; what, in words.
    Done(String),
    /// Not yet; what it waits for.
    Pending(String),
    /// It has come as far as it will as things are, unless something changes in the next moment.
    Settled(String),
    /// Nothing is on the way to make it happen, unless something changes in the next moment; why, and what to do.
    Stalled(String, String),
    /// It will not happen by waiting; why, and what to do.
    Stuck(String, String),
}

use Verdict::{Done, Pending, Settled, Stalled, Stuck};

/// After `start`.
pub(super) fn started(picture: &Overview, name: &str, on: Option<&str>) -> Verdict {
    let Some(unit) = find(picture, name) else {
        return Pending("the cluster does not know it yet".to_owned());
    };
    if unit.goal == "stopped" {
        return overtaken(unit, "stopped");
    }
    if was_never_formed(unit) {
        return Stalled(
            format!("{name} is to start, and was never formed: whose data does it begin with?"),
            format!("convoke assemble {name} --from NODE"),
        );
    }
    let active = active(unit);
    let there = on.is_none_or(|node| active.contains(&node));
    match (unit.state.as_str(), on) {
        ("active", None) => Done(format!("{name} is active on {}", active.join(", "))),
        (_, Some(node)) if there => Done(format!("{name} is active on {node}")),
        ("active", Some(node)) => Stuck(
            format!("{name} is active on {}, not on {node}", active.join(", ")),
            format!("`convoke move {name} {node}` moves it; `convoke why {name}` says why it is not there"),
        ),
        _ => failed_everywhere(unit).unwrap_or_else(|| Pending(waits_for(unit))),
    }
}

/// What is tried again within this many seconds is worth the wait.
const SOON_S: u64 = 5;

/// It failed on each node that might take it, and is left alone for a while.
fn failed_everywhere(unit: &UnitLine) -> Option<Verdict> {
    let name = &unit.name;
    let retry = unit.failed.iter().map(|failed| failed.retry_s).min().filter(|retry| *retry > SOON_S)?;
    let ends: Vec<String> =
        unit.failed.iter().map(|failed| format!("{}: {}", failed.node, failed.why)).collect();
    Some(Stalled(
        format!("{name} failed on every node that may take it ({})", ends.join("; ")),
        format!(
            "mend that, then `convoke start {name}` tries at once; it is tried again by itself in {retry} s"
        ),
    ))
}

/// A clustered service of which nobody has said yet whose data it begins with.
fn was_never_formed(unit: &UnitLine) -> bool {
    unit.assembly.as_ref().is_some_and(|it| it.state == "gathering" && !it.formed && it.words.is_empty())
}

/// After `stop`.
pub(super) fn stopped(picture: &Overview, name: &str) -> Verdict {
    let Some(unit) = find(picture, name) else { return Done(format!("{name} is not there any more")) };
    if unit.goal == "started" {
        return overtaken(unit, "started");
    }
    if unit.copies.is_empty() {
        return Done(format!("{name} is stopped"));
    }
    let silent = |copy: &&CopyLine| copy.state == "unknown" && being_fenced(picture, &copy.node).is_none();
    let silent: Vec<_> = unit.copies.iter().filter(silent).map(|copy| copy.node.as_str()).collect();
    if silent.len() == unit.copies.len() {
        let nodes = silent.join(", ");
        let (node, verb) =
            (silent.first().copied().unwrap_or_default(), if silent.len() == 1 { "is" } else { "are" });
        return Stuck(
            format!(
                "{name} will stay stopped, but it is not proven stopped: {nodes} {verb} silent and may still run it"
            ),
            format!("start {node} again, or switch it off and type `convoke fence confirm {node}`"),
        );
    }
    Pending(waits_for(unit))
}

/// After `move`; `before` is the highest permit from before the wish.
pub(super) fn moved(
    picture: &Overview,
    name: &str,
    (from, to): (&str, Option<&str>),
    before: u64,
) -> Verdict {
    let Some(unit) = find(picture, name) else {
        return Pending("the cluster does not know it yet".to_owned());
    };
    if unit.goal == "stopped" {
        return overtaken(unit, "stopped");
    }
    let fresh = unit
        .copies
        .iter()
        .find(|copy| copy.state == "active" && copy.token.is_some_and(|token| token > before));
    match fresh {
        Some(copy) if copy.node == from => Stuck(
            format!("{name} is back on {from}: it could not run elsewhere"),
            format!("`convoke events --unit {name}` shows what happened"),
        ),
        Some(CopyLine { node, .. }) if to.is_some_and(|to| to != node) => Stuck(
            format!("{name} moved from {from} to {node}: it could not run on {}", to.unwrap_or_default()),
            format!("`convoke events --unit {name}` shows what happened"),
        ),
        Some(copy) => Done(format!("{name} moved from {from} to {}", copy.node)),
        // Nothing has been stopped for it yet, and nothing will be while this is so.
        None if unit.state == "active" => {
            Pending(format!("{}; `convoke start {name}` takes the move back", waits_for(unit)))
        }
        None => Pending(waits_for(unit)),
    }
}

/// After `drain`; `before` is what held a permit there before the wish.
pub(super) fn drained(picture: &Overview, name: &str, before: &[String]) -> Verdict {
    let Some(node) = picture.nodes.iter().find(|node| node.name == name) else {
        return Done(format!("{name} is not in the cluster any more"));
    };
    if node.drained.is_none() {
        return Stuck(
            format!("{name} is not drained any more: somebody has undrained it"),
            format!("convoke drain {name}"),
        );
    }
    if node.units.is_empty() {
        return elsewhere(picture, name, before);
    }
    // A fence that runs proves it off, and that empties it. Before it is decided on, a moment passes.
    if let Some(fence) = being_fenced(picture, name) {
        return Pending(fence.text.clone());
    }
    if matches!(node.state.as_str(), "lost" | "cut-off" | "unknown" | "fencing") {
        let end = match confirm::is_cut_off(picture, node) {
            true => confirm::end_of_cut(name),
            false => format!("start it again, or switch it off and type `convoke fence confirm {name}`"),
        };
        return Stalled(format!("{name} is {} and may still run {}", node.state, node.units.join(", ")), end);
    }
    // Nothing but a word ends that.
    let kept = |name: &&String| find(picture, name).is_some_and(|unit| unit.maintenance);
    if let Some(unit) = node.units.iter().find(kept) {
        return Stalled(
            format!("{name} is drained, and {unit} stays there: it is in maintenance"),
            format!("`convoke unmaintain {unit}` lets it leave"),
        );
    }
    let waits = |unit: &String| match find(picture, unit).and_then(|unit| unit.reason.clone()) {
        Some(reason) => format!("{unit}: {reason}"),
        None => format!("{unit} is still there"),
    };
    Pending(node.units.first().map(waits).unwrap_or_default())
}

/// The node is empty: whether what ran there runs elsewhere now.
fn elsewhere(picture: &Overview, name: &str, before: &[String]) -> Verdict {
    let empty = format!("{name} is drained and runs no cluster unit");
    let started = |unit: &&String| find(picture, unit).is_some_and(|unit| unit.goal == "started");
    let units: Vec<&UnitLine> =
        before.iter().filter(started).filter_map(|unit| find(picture, unit)).collect();
    let missing: Vec<&UnitLine> = units.iter().copied().filter(|unit| unit.state != "active").collect();
    if missing.is_empty() {
        let moved = units.iter().map(|unit| format!("{} on {}", unit.name, active(unit).join(", ")));
        let moved: Vec<_> = moved.collect();
        return Done(if moved.is_empty() {
            empty
        } else {
            format!("{empty}; now active: {}", moved.join("; "))
        });
    }
    let moves = |unit: &&&UnitLine| unit.copies.iter().any(|copy| copy.state != "active");
    if let Some(unit) = missing.iter().find(moves) {
        return Pending(format!("{}: {}", unit.name, waits_for(unit)));
    }
    let missing = missing.iter().map(|unit| match unit.state.as_str() {
        "partial" => {
            format!("{} has {} copies less than wanted ({})", unit.name, short(unit), waits_for(unit))
        }
        _ => format!("{} runs nowhere now ({})", unit.name, waits_for(unit)),
    });
    Settled(format!("{empty}, but {}", missing.collect::<Vec<_>>().join("; ")))
}

fn short(unit: &UnitLine) -> usize {
    let wanted = unit.wanted.map_or(0, |wanted| wanted as usize);
    wanted.saturating_sub(active(unit).len()).max(1)
}

/// Highest permit of a unit, and where its copy to be moved is.
pub(super) fn place(unit: &UnitLine, from: Option<&str>) -> (String, u64) {
    let before = unit.copies.iter().filter_map(|copy| copy.token).max().unwrap_or(0);
    let copy = unit.copies.iter().find(|copy| from.is_none_or(|from| copy.node == from));
    (copy.map(|copy| copy.node.clone()).unwrap_or_default(), before)
}

pub(super) fn find<'a>(picture: &'a Overview, name: &str) -> Option<&'a UnitLine> {
    picture.units.iter().find(|unit| unit.name == name)
}

fn active(unit: &UnitLine) -> Vec<&str> {
    unit.copies.iter().filter(|copy| copy.state == "active").map(|copy| copy.node.as_str()).collect()
}

/// A fence that runs will prove the node off, or fail and be seen to.
pub(super) fn being_fenced<'a>(picture: &'a Overview, node: &str) -> Option<&'a FenceLine> {
    picture
        .fences
        .iter()
        .find(|fence| fence.node == node && fence.state != "failed" && fence.device.is_some())
}

pub(super) fn overtaken(unit: &UnitLine, goal: &str) -> Verdict {
    let by = unit.goal_by.as_deref().unwrap_or("somebody");
    Stuck(format!("{} was {goal} meanwhile by {by}", unit.name), format!("convoke why {}", unit.name))
}

pub(super) fn waits_for(unit: &UnitLine) -> String {
    unit.reason.clone().unwrap_or_else(|| unit.state.clone())
}

#[cfg(test)]
mod tests;
