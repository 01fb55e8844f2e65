//! The reasons of the plan, in the order in which an operator should read them.

use policy::{NodeId, Possibly, Reason, State, UnitName};

use super::View;
use crate::api::model::WhyLine;

impl View<'_> {
    /// What holds a unit, most important first: first what an operator decided, then what only an operator or a device
    /// can release, then what passes by itself, then what only narrows the choice of nodes.
    pub(super) fn reasons(&self, unit: &UnitName) -> Vec<(&Reason, WhyLine)> {
        let mut reasons: Vec<&Reason> = self.plan.reasons.get(unit).into_iter().flatten().collect();
        reasons.sort_by_key(|reason| rank(reason));
        let line = |reason: &Reason| WhyLine {
            rule: reason.rule().to_owned(),
            fact: reason.text(self.state, unit, self.now),
            release: remedy(self.state, unit, reason),
        };
        reasons.into_iter().map(|reason| (reason, line(reason))).collect()
    }
}

/// What would release a unit from a reason, with the command where a node is drained.
#[must_use]
pub fn remedy(state: &State, unit: &UnitName, reason: &Reason) -> String {
    let drained = |id: &NodeId| state.nodes.get(id).filter(|node| node.drained.is_some());
    match reason {
        Reason::Unfit { node, .. } | Reason::CannotMove { to: Some(node), .. } => match drained(node) {
            Some(node) => format!("convoke undrain {}", node.name),
            None => reason.release(state, unit),
        },
        _ => reason.release(state, unit),
    }
}

fn rank(reason: &Reason) -> u8 {
    match reason {
        Reason::Stopped | Reason::PartStopped(_) => 0,
        Reason::NoDefinition | Reason::NotAdopted(_) => 1,
        Reason::Stopping { stuck: Some(_), .. } => 2,
        // The fence first: it says what happens about the copy that may still run.
        Reason::WaitsForFence { .. } => 3,
        Reason::PossiblyRunning { how: Possibly::Stray, .. } => 4,
        Reason::PossiblyRunning { .. } => 5,
        // Of a clustered service: what an operator has to say first, then whose word is waited for.
        Reason::FirstFormation
        | Reason::NoElection(_)
        | Reason::Diverged { .. }
        | Reason::CannotBegin { .. } => 5,
        Reason::Unproven(_) | Reason::Position { .. } => 6,
        Reason::Unheard(_) => 6,
        Reason::CannotMove { .. } => 7,
        Reason::Requires(_) | Reason::Conflicts { .. } => 8,
        Reason::StopsFirst { .. } | Reason::OneByOne(_) => 9,
        Reason::Stopping { .. } => 10,
        Reason::Starting(_) => 11,
        Reason::NotReady { .. } | Reason::JoinsAfter(_) => 12,
        Reason::After(_) | Reason::AfterStop(_) => 12,
        Reason::Observing(_) | Reason::TooManyStarts(_) => 13,
        Reason::NotOffered => 14,
        Reason::Held(_) => 15,
        Reason::Avoided { .. } => 16,
        Reason::Unfit { .. } => 17,
        Reason::Fault { .. } => 18,
        Reason::Differs(_) => 19,
    }
}
