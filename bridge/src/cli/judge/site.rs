//! Whether the whole site is off, or on again.

use std::collections::BTreeSet;

use crate::api::model::{CopyLine, NodeLine, Overview, UnitLine};

use super::Verdict::{self, Done, Pending, Settled, Stalled, Stuck};
use super::{active, being_fenced, find, waits_for, was_never_formed};

/// After `drain --cluster`: done is when nothing of the cluster may run anywhere.
pub(in crate::cli) fn off(picture: &Overview) -> Verdict {
    if picture.drained.is_none() {
        return Stuck(
            "the cluster is not drained any more: somebody has undrained it".to_owned(),
            "convoke drain --cluster".to_owned(),
        );
    }
    let left: Vec<&UnitLine> = picture.units.iter().filter(|unit| !unit.copies.is_empty()).collect();
    if left.is_empty() {
        return Done(
            "nothing of the cluster runs on any node: they can be switched off, all at once\n\
             `convoke undrain --cluster` starts all of it again, whenever that is"
                .to_owned(),
        );
    }
    let is_silent =
        |node: &&NodeLine| matches!(node.state.as_str(), "lost" | "cut-off" | "unknown" | "fencing");
    let silent: Vec<&NodeLine> = picture.nodes.iter().filter(is_silent).collect();
    let stops =
        |copy: &CopyLine| copy.state == "stopping" && !silent.iter().any(|node| node.name == copy.node);
    if let Some(unit) = left.iter().find(|unit| unit.copies.iter().any(stops)) {
        return Pending(format!("{}: {}", unit.name, waits_for(unit)));
    }
    // Whoever is silent holds up what stops after it too: it is what there is to mend.
    if let Some(node) = silent.iter().find(|node| !node.units.is_empty()) {
        let (name, state, units) = (&node.name, &node.state, node.units.join(", "));
        return match being_fenced(picture, name) {
            Some(fence) => Pending(fence.text.clone()),
            None => Stalled(
                format!("{name} is {state} and may still run {units}"),
                format!("start it again, or switch it off and type `convoke fence confirm {name}`"),
            ),
        };
    }
    // Nothing but a word ends that.
    if let Some(unit) = left.iter().find(|unit| unit.maintenance) {
        return Stalled(
            format!("the cluster is drained, and {} stays: it is in maintenance", unit.name),
            format!("`convoke unmaintain {}` lets it stop", unit.name),
        );
    }
    Pending(left.first().map(|unit| format!("{}: {}", unit.name, waits_for(unit))).unwrap_or_default())
}

/// After `undrain --cluster`: done is when all that is to run does.
pub(in crate::cli) fn on(picture: &Overview) -> Verdict {
    if let Some(by) = &picture.drained {
        return Stuck(
            format!("the cluster is drained again, by {by}"),
            "convoke undrain --cluster".to_owned(),
        );
    }
    let wanted: Vec<&UnitLine> = picture.units.iter().filter(|unit| unit.goal == "started").collect();
    let missing: Vec<&UnitLine> = wanted.iter().copied().filter(|unit| unit.state != "active").collect();
    if missing.is_empty() {
        return Done(format!("all {} units that are to run are active", wanted.len()));
    }
    let moves = |unit: &&&UnitLine| unit.copies.iter().any(|copy| copy.state != "active");
    let down = |unit: &&&UnitLine| unit.state != "partial" && !was_never_formed(unit);
    match missing.iter().find(moves).or_else(|| missing.iter().find(down)) {
        Some(unit) => Pending(format!("{}: {}", unit.name, waits_for(unit))),
        // All run, and some with fewer copies, as a node is away, or drained by itself; or a word is wanted.
        None => {
            let short = missing.iter().map(|unit| match active(unit)[..] {
                [] => format!("{} runs nowhere ({})", unit.name, waits_for(unit)),
                ref nodes => {
                    format!("{} is active on {} only ({})", unit.name, nodes.join(", "), waits_for(unit))
                }
            });
            Settled(short.collect::<Vec<_>>().join("; "))
        }
    }
}

/// What has changed on the way, line by line, each of them told once.
pub(in crate::cli) struct Progress {
    units: Vec<Step>,
    done: usize,
    way: Way,
}

/// A unit that is on its way.
struct Step {
    unit: String,
    /// Where its copies were when that was told last.
    told: Vec<String>,
    /// Where any of them ever was.
    ever: BTreeSet<String>,
    /// Whether it was counted: what moves or joins after that counts no more.
    counted: bool,
}

/// Where to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Way {
    /// Until a unit has no copy.
    Off,
    /// Until it is active.
    On,
}

impl Progress {
    /// From what there is now: of what runs, or of what is to.
    pub(in crate::cli) fn from(picture: &Overview, way: Way) -> Self {
        let counts = |unit: &&UnitLine| match way {
            Way::Off => !unit.copies.is_empty(),
            Way::On => unit.goal == "started" && unit.state != "active",
        };
        let units = picture.units.iter().filter(counts);
        let step = |unit: &UnitLine| {
            let told = places(unit, way);
            let ever = told.iter().cloned().collect();
            Step { unit: unit.name.clone(), ever, told, counted: false }
        };
        Self { units: units.map(step).collect(), done: 0, way }
    }

    /// The news since it was asked last.
    pub(in crate::cli) fn news(&mut self, picture: &Overview) -> Vec<String> {
        let (mut lines, all) = (Vec::new(), self.units.len());
        for Step { unit: name, told, ever, counted } in &mut self.units {
            let Some(unit) = find(picture, name) else { continue };
            let now = places(unit, self.way);
            if now == *told {
                continue;
            }
            ever.extend(now.iter().cloned());
            let ended = match self.way {
                Way::Off => now.is_empty(),
                Way::On => unit.state == "active",
            };
            let first = ended && !std::mem::replace(counted, true);
            self.done += usize::from(first);
            let count = if first { format!("{}/{all}", self.done) } else { String::new() };
            let what = match (self.way, ended) {
                (Way::Off, true) => {
                    let ever: Vec<&str> = ever.iter().map(String::as_str).collect();
                    format!("{name} has stopped on {}", ever.join(", "))
                }
                (Way::Off, false) => format!("{name} is stopping, and still on {}", now.join(", ")),
                (Way::On, true) => format!("{name} is active on {}", now.join(", ")),
                (Way::On, false) => format!("{name} is starting, and active on {}", now.join(", ")),
            };
            *told = now;
            lines.push(format!("  {count:>5}  {what}"));
        }
        lines
    }
}

fn places(unit: &UnitLine, way: Way) -> Vec<String> {
    match way {
        Way::Off => unit.copies.iter().map(|copy| copy.node.clone()).collect(),
        Way::On => active(unit).into_iter().map(str::to_owned).collect(),
    }
}
