//! What of the state decides anything, for voters to compare (F20).
//!
//! All voters have the same state, to the last letter, as long as one program made it on all of them. After an upgrade a state
//! may still hold sentences that an earlier version worded otherwise: what a client was answered, why a fence failed. Nothing
//! rests on them, so they are left out, and a version that says a thing better parts no voters.

use crate::drill::DrillResult;
use crate::fence::{Phase, Power};
use crate::refusal::Refusal;
use crate::state::State;

impl State {
    /// The state without its history, and without sentences that `apply` makes.
    #[must_use]
    pub fn gist(&self) -> Self {
        let mut gist = self.clone();
        gist.history.clear();
        for reply in gist.replies.values_mut() {
            if reply.outcome.is_err() {
                reply.outcome = Err(Refusal::Outdated);
            }
        }
        for alarm in gist.alarms.values_mut() {
            alarm.detail.clear();
        }
        for seen in gist.observations.values_mut() {
            if let Power::Unknown(why) | Power::Unable(why) = &mut seen.power {
                why.clear();
            }
        }
        for (_, reach) in gist.reach.values_mut().flatten() {
            reach.access.clear();
        }
        for case in gist.cases.values_mut() {
            if let Phase::Failed { error, .. } = &mut case.phase {
                error.clear();
            }
        }
        for drilled in gist.drills.values_mut().flat_map(|levels| levels.values_mut()) {
            drilled.devices.clear();
            if let DrillResult::Failed { why } = &mut drilled.result {
                why.clear();
            }
        }
        for ended in gist.nodes.values_mut().filter_map(|node| node.lately.ended.as_mut()) {
            ended.device = None;
            ended.executor = None;
        }
        for unit in gist.units.values_mut() {
            if let Some(by) = &mut unit.goal.by {
                by.clear();
            }
        }
        for life in gist.nodes.values_mut().filter_map(|node| node.life.as_mut()) {
            if let Some(isolation) = &mut life.isolated {
                isolation.devices.clear();
            }
        }
        for failures in gist.units.values_mut().flat_map(|unit| unit.failures.values_mut()) {
            failures.why.clear();
        }
        gist
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NodeId;
    use crate::state::{Alarm, AlarmKind, Reply};
    use crate::unit::{Failures, Unit};

    fn answered(outcome: Result<(), Refusal>, detail: &str) -> State {
        let mut state = State::default();
        state.replies.insert("client".into(), Reply { number: 1, index: 2, time: 3, outcome });
        let alarm = Alarm { wall_ms: 3, detail: detail.into() };
        state.alarms.insert(AlarmKind::LeftOff(NodeId(1)), alarm);
        state
    }

    #[test]
    fn what_is_only_worded_otherwise_is_the_same() {
        let one = answered(Err(Refusal::Stale("it was".into())), "3 times");
        let other = answered(Err(Refusal::Stale("it is no more".into())), "thrice");
        assert_ne!(one, other);
        assert_eq!(one.gist(), other.gist());
        let taken = answered(Ok(()), "3 times");
        assert_ne!(one.gist(), taken.gist(), "whether it was refused is no wording");
        assert_ne!(one.gist(), State::default().gist());
    }

    /// A unit with that goal, whose copy failed once for that reason.
    fn failed(by: Option<&str>, why: &str) -> State {
        let mut state = State::default();
        let mut unit = Unit::new(1, 2);
        unit.goal.by = by.map(Into::into);
        unit.failures.insert(NodeId(1), Failures { count: 1, last: 2, why: why.into() });
        state.units.insert("db.service".into(), unit);
        state
    }

    #[test]
    fn whether_anybody_decided_is_no_wording() {
        assert_eq!(
            failed(Some("ann"), "exit-code").gist(),
            failed(Some("ann, by starting web"), "signal").gist()
        );
        assert_ne!(failed(Some("ann"), "exit-code").gist(), failed(None, "exit-code").gist());
    }
}
