//! Drills: an operator has a node switched off and on again, to know that the cluster can.
//!
//! A drill is a fence case like any other, carried out by the same devices, executors and rules. It differs in what it
//! begins with (a node that is heard and has nothing to lose), in what it may try (one level), and in what it leaves
//! (the power back, and a record). Clauses P90 to P95 of `docs/policy.md`.

use alloc::format;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::fence::{FenceCase, Phase};
use crate::name::{CaseId, Millis, NodeId, UnitName};
use crate::state::State;

/// Why a node is fenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Because {
    /// This unit waits for it.
    Unit(UnitName),
    /// An operator asked for a drill.
    Drill(Drill),
}

/// A drill under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Who asked for it.
    pub by: String,
    /// The level that is tried, and no other.
    pub level: u32,
}

/// The last drill of one level of a node, or a fence since then that showed a device lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// Its case.
    pub case: CaseId,
    /// Who asked for it; nobody did if it was no drill.
    pub by: Option<String>,
    /// Its devices, in words.
    pub devices: String,
    /// When it ended, or for one that passed, when the devices said off. Cluster time.
    pub at: Millis,
    /// When it ended, wall clock in milliseconds since 1970.
    pub wall_ms: u64,
    /// How it ended.
    pub result: DrillResult,
    /// A device of the level said off while the node went on, in this drill or one before it, and none has passed since.
    pub lied: bool,
}

/// How a drill ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrillResult {
    /// The node was off, and fell silent.
    Passed {
        /// From the begin of the attempt to the devices' word, in milliseconds.
        off_ms: Millis,
        /// From there to the node's next life, once there is one.
        back_ms: Option<Millis>,
    },
    /// It was not.
    Failed {
        /// Why.
        why: String,
    },
}

impl Because {
    /// The unit that waits, if one does.
    #[must_use]
    pub fn unit(&self) -> Option<&UnitName> {
        match self {
            Self::Unit(unit) => Some(unit),
            Self::Drill(_) => None,
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "{unit}"),
            Self::Drill(drill) => write!(f, "a drill asked for by {}", drill.by),
        }
    }
}

impl FenceCase {
    /// The drill that it is, if it is one.
    #[must_use]
    pub fn drill(&self) -> Option<&Drill> {
        match &self.because {
            Because::Unit(_) => None,
            Because::Drill(drill) => Some(drill),
        }
    }
}

impl State {
    /// Why a node may not be switched off for a drill of one of its levels, with what would change that; `None` if
    /// nobody is hurt by it. `own` is the drill's case, once it is open.
    #[must_use]
    pub fn drill_hurts(&self, id: NodeId, level: u32, own: Option<CaseId>, now: Millis) -> Option<String> {
        let node = self.nodes.get(&id)?;
        let name = &node.name;
        let Some(life) = node.in_session() else {
            return Some(format!("{name} is not heard: a drill is for a node that lives"));
        };
        if self.level_isolates(id, level) {
            return Some(format!(
                "{} cuts {name} off and leaves it running, so that nobody would see whether it did; cut it off by hand, and \
                 look at {name}",
                self.level_name(id, level)
            ));
        }
        if let Some(scope) = self.node_maintenance(id) {
            let (text, release) = (self.maintenance_text(&scope), self.maintenance_release(&scope));
            return Some(format!("{text}, and hands may be in {name}; `{release}` first"));
        }
        let unheard = |unit: &UnitName| self.unheard_members(unit).any(|(other, _)| other == id);
        if !life.inventory || self.units.keys().any(unheard) {
            return Some(format!("{name} has not said yet what runs on it; wait a moment"));
        }
        if let Some(unit) = self.possibly_there(id, node).first() {
            return Some(format!("{unit} is possibly running on {name}; `convoke drain {name}` first"));
        }
        if node.role.runs_units() && self.drained_by(id).is_none() {
            return Some(format!("{name} may be given units at any moment; `convoke drain {name}` first"));
        }
        // A late strike of the drill itself is what it is for.
        let began = own.and_then(|own| self.cases.get(&own)).is_some_and(|case| case.attempts > 0);
        if node.quarantined_until > now && !began {
            let left = node.quarantined_until.saturating_sub(now).div_ceil(1000);
            return Some(format!("a late power-off may still strike {name}; wait {left} s"));
        }
        // Its device may be needed, or the node itself to run the agent.
        if let Some((_, other)) = self.cases.iter().find(|(case, open)| open.is_open() && Some(**case) != own)
        {
            let other = self.node_name(other.node);
            return Some(format!(
                "{other} is being fenced; a drill waits until that is over (`convoke fence`)"
            ));
        }
        if !self.has_majority_without(id) {
            return Some(format!("without {name} the cluster would have no quorum now"));
        }
        let mut devices = self.level(id, level).peekable();
        if devices.peek().is_none() {
            return Some(match self.fenced_by(id) {
                Some(all) => format!("{name} has no fence device of level {level}; it is fenced by {all}"),
                None => format!("{name} has no fence device"),
            });
        }
        let unseen =
            devices.find(|(device, _)| self.seen(device, id, &life.incarnation).is_none_or(|it| !it.trusted));
        unseen.map(|(device, _)| {
            format!("{device} has not shown {name} with power on: it would prove nothing (`convoke status {name}`)")
        })
    }

    /// Whether the voters in session are a majority of all voters even if this node is not counted.
    fn has_majority_without(&self, id: NodeId) -> bool {
        let voters = || self.nodes.iter().filter(|(_, node)| node.role.votes());
        let heard = voters().filter(|(other, node)| **other != id && node.in_session().is_some());
        heard.count().saturating_mul(2) > voters().count()
    }

    /// Whether the last drills of a level found a device that says off while the node goes on.
    #[must_use]
    pub fn has_lied(&self, node: NodeId, level: u32) -> bool {
        self.drills.get(&node).and_then(|drills| drills.get(&level)).is_some_and(|drill| drill.lied)
    }

    /// Whether a node is off for a drill that passed, and not back yet.
    pub(crate) fn is_off_for_drill(&self, node: NodeId) -> bool {
        let waits = |drill: &Drilled| matches!(drill.result, DrillResult::Passed { back_ms: None, .. });
        self.drills.get(&node).is_some_and(|drills| drills.values().any(waits))
    }

    /// Until when a node may be heard whose devices said off. From then on they lied: a node that is off is lost one lease
    /// after its last answer, and a new leader waits a lease of its own.
    pub(crate) fn silence_due(&self, case: &FenceCase) -> Option<Millis> {
        let Phase::Running { .. } = case.phase else { return None };
        let off_at = case.off_at?;
        let since = self.tenure.map_or(0, |tenure| tenure.since);
        Some(off_at.max(since).saturating_add(self.settings.loss_ms().saturating_mul(2)))
    }
}
