//! Fence cases and what is known of the devices that carry them out.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::drill::Because;
use crate::evidence::Class;
use crate::name::{CaseId, Incarnation, Millis, NodeId, Token, UnitName};
use crate::permit::Permit;
use crate::state::State;

/// Of the cases of one life that came to nothing the last are kept: a link that flaps opens them without end.
const CANCELLED_KEPT: usize = 20;

/// What a device said of a node's power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    /// The plug has power.
    On,
    /// It has none. For a node that is heard, this means a wrong plug.
    Off,
    /// The device could not say; the agent's own words.
    Unknown(String),
    /// No agent could be run, and the device was asked nothing: where it was to run, it or something that it needs is missing.
    Unable(String),
}

/// The last look at a node through its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Which life of the node was looked at. A device counts only while seen ON for this very life.
    pub incarnation: Incarnation,
    /// What it showed.
    pub power: Power,
    /// When.
    pub at: Millis,
    /// Whether it was seen ON in this life and nothing has contradicted that since. A look that failed does not: a
    /// switch that is slow for a moment is still the right one.
    pub trusted: bool,
    /// When a look first showed OFF, where that was so until then. If the node falls silent at that moment, it has seen it die.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_since: Option<Millis>,
    /// Looks in a row at which the device could not say. Each is taken from another node, for the first may lack the way to it,
    /// and each after a longer pause.
    pub misses: u32,
    /// Who took it, or was to take the next one and could not: the turn is that of the one after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<NodeId>,
    /// Who had none since then, where another node had one: before anything is made of that somebody looks who had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubted: Option<NodeId>,
    /// Who had an answer last, on or off, and has not failed to get one since: the way from there is known to lead to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<NodeId>,
}

/// Where a fence case stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Something waits for this node; no attempt has begun.
    Wanted,
    /// An attempt was committed; its agent may run at any moment from here on.
    Running {
        /// Who runs the agent.
        executor: NodeId,
        /// In which life.
        executor_incarnation: Incarnation,
        /// Since when.
        since: Millis,
    },
    /// The last attempt did not prove anything.
    Failed {
        /// What went wrong, in the agent's words.
        error: String,
        /// When this level, or one before it, may be tried again. Those behind it are tried at once.
        next_at: Millis,
    },
    /// The incarnation is gone.
    Proven {
        /// How that is known.
        class: Class,
        /// Since when.
        at: Millis,
    },
    /// Nothing waits for it any more, and no late command can strike; or it was a drill that proved nothing.
    Cancelled {
        /// Since when.
        at: Millis,
    },
    /// It was proven, and then the same incarnation spoke (F18).
    Contradicted {
        /// Since when.
        at: Millis,
    },
}

/// One fence of one incarnation of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceCase {
    /// The target.
    pub node: NodeId,
    /// The life of it that must end.
    pub incarnation: Incarnation,
    /// Progress.
    pub phase: Phase,
    /// Attempts begun so far.
    pub attempts: u32,
    /// The level of the last one; 0 before the first.
    #[serde(default)]
    pub level: u32,
    /// How often that level is tried again before the next one is.
    #[serde(default)]
    pub retries_left: u32,
    /// When the devices of the attempt under way said off, while the node was not lost: what they said counts once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_at: Option<Millis>,
    /// How often all levels were gone through without a proof.
    #[serde(default)]
    pub rounds: u32,
    /// When it was opened.
    pub opened_at: Millis,
    /// The unit whose waiting opened it, or the drill that it is.
    pub because: Because,
    /// Permits that its proof voided, kept so that a contradiction can bring them back.
    pub voided: Vec<(UnitName, Token, Permit)>,
}

impl FenceCase {
    /// One of which nothing was tried yet.
    pub(crate) fn new(node: NodeId, incarnation: Incarnation, because: Because, opened_at: Millis) -> Self {
        Self {
            node,
            incarnation,
            phase: Phase::Wanted,
            attempts: 0,
            level: 0,
            retries_left: 0,
            off_at: None,
            rounds: 0,
            opened_at,
            because,
            voided: Vec::new(),
        }
    }

    /// Whether it may still change what the node is allowed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Wanted | Phase::Running { .. } | Phase::Failed { .. })
    }
}

/// What may have lost its power to a fence attempt and is to have it again: a feed of a level that proved nothing, or
/// a node that is to come back by itself. Of an isolating device: that the way is to be opened, after a cut or for a life that
/// has not registered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchedOff {
    /// Index of the attempt, or of the decision that opens the way: what is said of an earlier one does not count.
    pub since: u64,
    /// How often the device failed to switch it on.
    pub failures: u32,
    /// When it may be tried next.
    pub next_at: Millis,
    /// The agent that is opening the way that an isolating device has cut, or was to. It was committed before it ran, for
    /// nothing may rest on that device meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
    /// A new life is to be registered as well, once that agent has ended: it was let run for the one before.
    #[serde(default)]
    pub again: bool,
}

impl State {
    /// Opens a case. Of those that came to nothing on its node the latest are kept.
    pub(crate) fn open(&mut self, id: CaseId, case: FenceCase) {
        self.forget_cancelled(case.node);
        self.cases.insert(id, case);
    }

    fn forget_cancelled(&mut self, node: NodeId) {
        let cancelled = |case: &FenceCase| case.node == node && matches!(case.phase, Phase::Cancelled { .. });
        let found: Vec<CaseId> =
            self.cases.iter().filter(|(_, case)| cancelled(case)).map(|(id, _)| *id).collect();
        for old in found.iter().rev().skip(CANCELLED_KEPT - 1) {
            self.cases.remove(old);
        }
    }
}

impl SwitchedOff {
    /// What is owed from an entry on.
    pub(crate) fn since(index: u64) -> Self {
        Self { since: index, ..Self::default() }
    }
}

/// An agent under way that opens what an isolating device has cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Who runs it.
    pub executor: NodeId,
    /// In which life.
    pub executor_incarnation: Incarnation,
    /// Since when.
    pub since: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_flaps_leaves_the_last_cases() {
        let (mut state, node) = (State::default(), NodeId(1));
        for index in 1..=30 {
            let because = Because::Unit("db.service".into());
            let mut case = FenceCase::new(node, "a1".into(), because, 0);
            // Of the first two, one proved something and one is another node's.
            case.node = if index == 2 { NodeId(2) } else { node };
            case.phase = match index {
                1 => Phase::Proven { class: Class::Off, at: 0 },
                _ => Phase::Cancelled { at: 0 },
            };
            state.cases.insert(CaseId(index), case);
        }
        state.forget_cancelled(node);
        let left: Vec<u64> = state.cases.keys().map(|id| id.0).collect();
        let expected: Vec<u64> = [1, 2].into_iter().chain(12..=30).collect();
        assert_eq!(left, expected);
    }
}
