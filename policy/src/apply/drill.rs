//! Drills: asked for, taken back, ended. What a drill may do between is in `fencing.rs`: it is a case like any other.

use alloc::format;

use crate::drill::{Because, Drill, DrillResult, Drilled};
use crate::event::{EventKind, Severity};
use crate::evidence::Class;
use crate::fence::{FenceCase, Phase};
use crate::name::{CaseId, Millis, NodeId};
use crate::refusal::Refusal;

use super::{Step, stale};

/// Whether a device was found to say off while the node went on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lied {
    Yes,
    No,
}

impl Step<'_> {
    /// Opens a case for a node that is heard, and that nobody needs (P90).
    pub(super) fn test_fence(&mut self, id: NodeId, level: Option<u32>, by: &str) -> Result<(), Refusal> {
        self.node(id)?;
        let level = level.or_else(|| self.state.levels(id).first().copied()).unwrap_or(1);
        if let Some(why) = self.state.drill_hurts(id, level, None, self.time) {
            return Err(Refusal::Impossible(why));
        }
        let life = self.node(id)?.life.as_ref().ok_or(Refusal::WrongIncarnation)?;
        let incarnation = life.incarnation.clone();
        let case = CaseId(self.index);
        let because = Because::Drill(Drill { by: by.into(), level });
        self.state.open(case, FenceCase::new(id, incarnation, because, self.time));
        let kind = EventKind::DrillAsked { case, level, by: by.into() };
        self.record(Severity::Warning, Some(id), None, kind);
        Ok(())
    }

    /// An operator takes back what has not begun (P95).
    pub(super) fn cancel_fence(&mut self, id: NodeId, by: &str) -> Result<(), Refusal> {
        let name = &self.node(id)?.name;
        let Some((case, open)) = self.state.open_case(id) else {
            return Err(Refusal::Impossible(format!("{name} is not being fenced")));
        };
        let why = match (&open.because, &open.phase) {
            (Because::Drill(_), Phase::Wanted | Phase::Failed { .. }) => {
                self.end_drill(case, &format!("{by} took it back"));
                return Ok(());
            }
            (_, Phase::Running { .. }) => format!(
                "an agent may be switching {name} off at this moment; the attempt runs to its end (`convoke fence`)"
            ),
            (Because::Unit(unit), Phase::Wanted) => format!(
                "{unit} waits for {name} to be proven off; it is given up as soon as nothing does, as after \
                 `convoke stop {unit}`"
            ),
            _ => format!(
                "an attempt was begun, and nobody knows whether {name} has power; it ends with a proof, with the return of \
                 {name}, or when nothing waits for it any more"
            ),
        };
        Err(Refusal::Impossible(why))
    }

    /// The planner found that it is not harmless any more (P91).
    pub(super) fn cancel_drill(&mut self, id: CaseId) -> Result<(), Refusal> {
        let Some((case, drill)) = self.state.cases.get(&id).and_then(|case| Some((case, case.drill()?)))
        else {
            return Err(stale("no such drill"));
        };
        if !matches!(case.phase, Phase::Wanted | Phase::Failed { .. }) {
            return Err(Refusal::Unsafe("an attempt was begun: the drill runs to its end".into()));
        }
        let Some(why) = self.state.drill_hurts(case.node, drill.level, Some(id), self.time) else {
            return Err(stale("the drill hurts nobody"));
        };
        self.end_drill(id, &why);
        Ok(())
    }

    /// A drill that no agent is under way for, and that is not harmless any more or not wanted (P91). It has failed if
    /// one ran.
    pub(super) fn end_drill(&mut self, id: CaseId, why: &str) {
        let Some(case) = self.state.cases.get_mut(&id) else { return };
        let (node, at) = (case.node, self.time);
        let before = core::mem::replace(&mut case.phase, Phase::Cancelled { at });
        if let Phase::Failed { error, .. } = before {
            self.drill_failed(id, &error, Lied::No);
        } else {
            let kind = EventKind::DrillCancelled { case: id, why: why.into() };
            self.record(Severity::Warning, Some(node), None, kind);
        }
    }

    /// How a drill's case was proven. Only its own devices' word, in the attempt that runs, lets it pass.
    pub(super) fn drill_proven(&mut self, id: CaseId, class: Class, began: Option<Millis>) {
        let Some(case) = self.state.cases.get(&id) else { return };
        if case.drill().is_none() {
            return;
        }
        let at = case.off_at.unwrap_or(self.time);
        let why = match class {
            Class::Off => {
                let off_ms = at.saturating_sub(began.unwrap_or(at));
                let (node, level) = (case.node, case.level);
                self.drill_ended(id, DrillResult::Passed { off_ms, back_ms: None }, at, Lied::No);
                let device = self.state.level_name(node, level);
                let kind = EventKind::DrillPassed { case: id, level, device, after_ms: off_ms };
                self.record(Severity::Info, Some(node), None, kind);
                return;
            }
            Class::Reborn => "it booted again before its power was seen off",
            Class::Word => "an operator gave a word before its power was seen off",
            Class::Released | Class::Expired | Class::Isolated => "it ended otherwise",
        };
        self.drill_failed(id, why, Lied::No);
    }

    pub(super) fn drill_failed(&mut self, id: CaseId, why: &str, lied: Lied) {
        let Some((case, drill)) = self.state.cases.get(&id).and_then(|case| Some((case, case.drill()?)))
        else {
            return;
        };
        let (node, level) = (case.node, drill.level);
        self.drill_ended(id, DrillResult::Failed { why: why.into() }, self.time, lied);
        let device = self.state.level_name(node, level);
        let kind = EventKind::DrillFailed { case: id, level, device, why: why.into() };
        self.record(Severity::Alert, Some(node), None, kind);
    }

    /// The devices of a level said off in a fence, and the node went on. Known beyond this life of the node: until one of its
    /// drills passes, what the level says proves nothing (P23).
    pub(super) fn fence_lied(&mut self, id: CaseId, node: NodeId, level: u32, why: &str) {
        let (at, wall_ms, devices) = (self.time, self.wall_ms, self.state.level_name(node, level));
        let result = DrillResult::Failed { why: why.into() };
        let drilled = Drilled { case: id, by: None, devices, at, wall_ms, result, lied: true };
        self.state.drills.entry(node).or_default().insert(level, drilled);
    }

    fn drill_ended(&mut self, id: CaseId, result: DrillResult, at: Millis, lied: Lied) {
        let Some(case) = self.state.cases.get(&id) else { return };
        let Some(drill) = case.drill() else { return };
        let (node, level, by) = (case.node, drill.level, Some(drill.by.clone()));
        let passed = matches!(result, DrillResult::Passed { .. });
        let lied = lied == Lied::Yes || (!passed && self.state.has_lied(node, level));
        let (wall_ms, devices) = (self.wall_ms, self.state.level_name(node, level));
        let drilled = Drilled { case: id, by, devices, at, wall_ms, result, lied };
        self.state.drills.entry(node).or_default().insert(level, drilled);
    }

    /// A new life ends the wait for a node that was switched off in a drill.
    pub(super) fn drill_is_over(&mut self, node: NodeId) {
        let time = self.time;
        let mut after = None;
        for drilled in self.state.drills.get_mut(&node).into_iter().flat_map(|drills| drills.values_mut()) {
            if let DrillResult::Passed { back_ms: back @ None, .. } = &mut drilled.result {
                let after_ms = time.saturating_sub(drilled.at);
                *back = Some(after_ms);
                after = Some((drilled.case, after_ms));
            }
        }
        if let Some((case, after_ms)) = after {
            self.record(Severity::Info, Some(node), None, EventKind::DrillEnded { case, after_ms });
        }
    }
}
