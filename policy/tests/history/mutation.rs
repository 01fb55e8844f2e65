//! Rules that are left out on purpose, to see that the search finds what each protects from.

use policy::{Cause, Command, Decision, Entry, Fact, State, Wish};

use super::World;

/// A rule that is left out on purpose, to see that the search finds what it protects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// F1: an agent calls a crashed unit released while its permit file is still there.
    ReleaseFirst,
    /// F2: an agent forgets what it released, and acts on views of any age and session.
    NoFloor,
    /// F2: a release voids whatever permit the unit has.
    ReleaseOfAny,
    /// F3: the hello of another incarnation is believed while the old one is in session.
    HelloIsProof,
    /// F4: a late word of a fence is believed of the life that is there now.
    ProofOfAnyLife,
    /// P93: what says off of a node that is heard is believed.
    ProofOfTheLiving,
    /// F6: the leader stamps its wall clock, which is set an hour ahead now and then.
    TimeJumps,
    /// F7: the leader does not wait for the stop after the end of a lease.
    NoStopBudget,
    /// F10: a stop by hand is taken for a crash.
    HandStopForgotten,
    /// F11: a node that has said nothing is taken for empty.
    SilenceIsAbsence,
    /// F11: a node that was not asked for a unit by name is taken for one that does not run it.
    UnaskedIsAbsence,
    /// F13: a permit takes a weaker definition's terms at once.
    TermsAtOnce,
    /// F18: nobody minds a node that speaks after its proof.
    NoContradiction,
    /// F22: nothing ever asks for a fence.
    NeverFenced,
    /// The plan that is kept beside the state is not told of releases.
    UntoldRelease,
    /// P120: a cut ends whatever the node holds.
    CutEndsAll,
    /// P121: who was cut off is let in again before that life is over.
    CutIsForgotten,
    /// S2: a loss voids what the node held.
    LossVoids,
    /// F16: whoever is lost was not live last.
    LossShrinks,
    /// F16: time is taken for proof that a copy has ended.
    TimeIsProof,
    /// F16: PID 1 starts again what was let start alone.
    RestartAlone,
    /// F16: whoever was ready before another stopped counts as ready after it.
    ReadyBefore,
    /// F16: what was written behind the gate counts by its rank.
    StrangerCounts,
}

impl World {
    /// Left-out rules that change what reaches `apply`.
    pub(super) fn bent(&mut self, command: Command) -> Command {
        match (self.broken, command) {
            (
                Some(Mutation::HandStopForgotten),
                Command::Fact(Fact::Released { node, incarnation, unit, token, because: Cause::Operator(_) }),
            ) => {
                let because = Cause::Failed("by hand".into());
                Command::Fact(Fact::Released { node, incarnation, unit, token, because })
            }
            (_, command) => command,
        }
    }

    /// Left-out rules that change what the kept plan is told.
    pub(super) fn is_untold(&self, command: &Command) -> bool {
        self.broken == Some(Mutation::UntoldRelease)
            && matches!(command, Command::Fact(Fact::Released { .. }))
    }

    /// Left-out rules that change what `apply` makes of it.
    pub(super) fn bend(&mut self, before: &State, entry: &Entry, accepted: bool) {
        self.bend_what_is_left_out(before, entry, accepted);
        if self.broken.is_some() {
            self.state.find_held();
        }
    }

    fn bend_what_is_left_out(&mut self, before: &State, entry: &Entry, accepted: bool) {
        let state = &mut self.state;
        match (self.broken, &entry.command) {
            (Some(Mutation::LossVoids), Command::Fact(Fact::NodeLost { node, .. })) if accepted => {
                for unit in state.units.values_mut() {
                    unit.permits.retain(|_, permit| permit.node != *node);
                }
            }
            (
                Some(Mutation::SilenceIsAbsence),
                Command::Wish(Wish::Enroll { .. }) | Command::Fact(Fact::NodeHeard { .. }),
            ) => {
                for node in state.nodes.values_mut() {
                    node.surveyed = u64::MAX;
                    match &mut node.life {
                        Some(life) => life.inventory = true,
                        None => node.role = policy::Role::Voter,
                    }
                }
                state.find_unsaid();
            }
            (Some(Mutation::UnaskedIsAbsence), _) => {
                for node in state.nodes.values_mut() {
                    node.surveyed = u64::MAX;
                }
                state.find_unsaid();
            }
            (Some(Mutation::ReleaseOfAny), Command::Fact(Fact::Released { unit, .. })) if !accepted => {
                if let Some(unit) = state.units.get_mut(unit) {
                    unit.permits.clear();
                }
            }
            (Some(Mutation::ProofOfAnyLife), Command::Fact(Fact::FenceReported { case, outcome, .. }))
                if !accepted =>
            {
                let target = before.cases.get(case).map(|case| case.node);
                let target = target.or_else(|| self.attempts.first().map(|attempt| attempt.target));
                if *outcome == policy::FenceOutcome::Off {
                    for unit in state.units.values_mut() {
                        unit.permits.retain(|_, permit| Some(permit.node) != target);
                    }
                }
            }
            (Some(Mutation::ProofOfTheLiving), Command::Fact(Fact::FenceReported { case, .. }))
                if accepted =>
            {
                let waits = before
                    .cases
                    .get(case)
                    .filter(|_| state.cases.get(case).is_some_and(|case| case.off_at.is_some()));
                if let Some(case) = waits {
                    for unit in state.units.values_mut() {
                        unit.permits.retain(|_, permit| permit.node != case.node);
                    }
                }
            }
            (Some(Mutation::CutEndsAll), Command::Fact(Fact::FenceReported { .. })) if accepted => {
                for (id, node) in &state.nodes {
                    let cut = node.life.as_ref().filter(|life| life.isolated.is_some());
                    let Some(life) = cut else { continue };
                    for unit in state.units.values_mut() {
                        unit.permits
                            .retain(|_, permit| permit.node != *id || permit.incarnation != life.incarnation);
                    }
                }
            }
            (Some(Mutation::CutIsForgotten), Command::Fact(Fact::FenceReported { .. })) if accepted => {
                for life in state.nodes.values_mut().filter_map(|node| node.life.as_mut()) {
                    life.isolated = None;
                }
            }
            (Some(Mutation::NoStopBudget), Command::Decision(Decision::Grant { unit, .. })) => {
                let permits =
                    state.units.get_mut(unit).into_iter().flat_map(|unit| unit.permits.values_mut());
                for permit in permits {
                    permit.terms.stop_budget_ms = 0;
                }
            }
            (
                Some(Mutation::TermsAtOnce),
                Command::Decision(Decision::AdoptDefinition { unit, definition }),
            ) => {
                let permits =
                    state.units.get_mut(unit).into_iter().flat_map(|unit| unit.permits.values_mut());
                for permit in permits {
                    permit.terms = policy::Terms::of(definition, permit.terms.revision, 0, 0);
                }
            }
            _ => {}
        }
        self.bend_boot_ups(entry, accepted);
    }

    /// The same for what is remembered of clustered services.
    fn bend_boot_ups(&mut self, entry: &Entry, accepted: bool) {
        let Some(broken) = self.broken else { return };
        for boot_up in self.state.units.values_mut().filter_map(|unit| unit.boot_up.as_mut()) {
            match (broken, &entry.command) {
                (Mutation::LossShrinks, Command::Fact(Fact::NodeLost { node, .. })) if accepted => {
                    boot_up.members.remove(node);
                }
                (Mutation::TimeIsProof, Command::Decision(Decision::Expire { .. })) if accepted => {
                    boot_up.members.values_mut().for_each(|member| {
                        member.ended.get_or_insert(entry.index);
                    });
                }
                (Mutation::ReadyBefore, Command::Fact(Fact::Released { .. }))
                    if accepted && boot_up.members.values().any(|member| member.ready.is_some()) =>
                {
                    boot_up.members.retain(|_, member| member.ended.is_none());
                }
                (Mutation::StrangerCounts, _) => boot_up.estranged.clear(),
                _ => {}
            }
        }
    }
}
