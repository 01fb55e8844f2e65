//! Fence cases: opened, attempted, proven, contradicted.

use alloc::format;
use alloc::string::{String, ToString};

use crate::command::FenceOutcome;
use crate::drill::Because;
use crate::event::{EventKind, Severity};
use crate::evidence::{Class, Evidence};
use crate::fence::{FenceCase, Phase};
use crate::lately::Ended;
use crate::name::{CaseId, Incarnation, Millis, NodeId, Token, UnitName};
use crate::node::{Gone, Node};
use crate::permit::Permit;
use crate::refusal::Refusal;

use super::{Step, stale};

/// Wait after round n through all levels, in milliseconds: grows from 5 s to 60 s, for ever (never "give up and start
/// anyway").
const BACK_OFF_MS: [Millis; 5] = [5_000, 10_000, 20_000, 40_000, 60_000];
/// Wait before a level that failed is tried again, in milliseconds.
const RETRY_MS: Millis = 1_000;

impl Step<'_> {
    pub(super) fn open_case(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        because: &UnitName,
    ) -> Result<(), Refusal> {
        self.life(id, incarnation)?;
        if self.node(id)?.lost_since().is_none() {
            return Err(Refusal::Unsafe(format!("{} is not lost", self.state.node_name(id))));
        }
        if self.state.open_case(id).is_some() {
            return Err(stale("a case is open already"));
        }
        if !self.state.units.contains_key(because) {
            return Err(Refusal::UnknownUnit(because.clone()));
        }
        self.state.may_touch(because, id)?;
        let case = CaseId(self.index);
        let opened = FenceCase::new(id, incarnation.clone(), Because::Unit(because.clone()), self.time);
        self.state.open(case, opened);
        let kind = EventKind::FenceWanted { case, because: because.clone() };
        self.record(Severity::Warning, Some(id), None, kind);
        Ok(())
    }

    /// An attempt is committed before its agent runs. Each device of its level must have been seen ON for this very life.
    pub(super) fn begin_attempt(
        &mut self,
        id: CaseId,
        attempt: u32,
        level: u32,
        executor: NodeId,
        executor_incarnation: &Incarnation,
    ) -> Result<(), Refusal> {
        let case = self.case(id)?;
        let due = self.state.attempt_due(case, level).is_some_and(|at| at <= self.time);
        if attempt != case.attempts.saturating_add(1) || !due {
            return Err(stale("no attempt is due"));
        }
        let (target, incarnation) = (case.node, case.incarnation.clone());
        if self.state.fencing_held_until().is_some_and(|until| until > self.time) {
            return Err(Refusal::Unsafe("too many nodes were lost at once: fencing waits".to_string()));
        }
        self.may_be_struck(id, case, level)?;
        self.state.may_touch_node(target)?;
        let device = self.state.level_name(target, level);
        let counts = match case.drill() {
            Some(_) => self.state.level_was_on(target, level, &incarnation),
            None => self.state.level_counts(target, level, &incarnation),
        };
        if !counts {
            return Err(Refusal::Unsafe(format!("{device} never saw this life of the node with power on")));
        }
        self.may_isolate(target, &incarnation, level)?;
        if self.state.level_is_busy(target, level) {
            return Err(stale("the device is at work on another node"));
        }
        let life = self.node(executor)?.in_session().filter(|life| life.incarnation == *executor_incarnation);
        if life.is_none() || executor == target {
            return Err(Refusal::NotInSession(executor));
        }
        let (since, retries) = (self.time, self.state.retries(target, level));
        if let Some(case) = self.state.cases.get_mut(&id) {
            if case.level == level && case.retries_left > 0 {
                case.retries_left = case.retries_left.saturating_sub(1);
            } else {
                if level <= case.level {
                    case.rounds = case.rounds.saturating_add(1);
                }
                case.retries_left = retries;
            }
            case.attempts = attempt;
            case.level = level;
            let executor_incarnation = executor_incarnation.clone();
            case.phase = Phase::Running { executor, executor_incarnation, since };
            case.off_at = None;
        }
        self.power_may_go(target, level);
        let kind = EventKind::FenceBegan { case: id, attempt, device, executor };
        self.record(Severity::Warning, Some(target), None, kind);
        Ok(())
    }

    /// A node that is heard is switched off for a drill alone, and only while nobody is hurt by it (P91).
    fn may_be_struck(&self, id: CaseId, case: &FenceCase, level: u32) -> Result<(), Refusal> {
        let Some(drill) = case.drill() else {
            return match self.node(case.node)?.lost_since() {
                Some(_) => Ok(()),
                None => Err(Refusal::Unsafe("the target is heard".to_string())),
            };
        };
        if level != drill.level {
            return Err(stale("the drill is of another level"));
        }
        self.state
            .drill_hurts(case.node, level, Some(id), self.time)
            .map_or(Ok(()), |why| Err(Refusal::Unsafe(why)))
    }

    /// The word of the attempt that runs; any other is too late (F4).
    pub(super) fn fence_reported(
        &mut self,
        id: CaseId,
        attempt: u32,
        outcome: &FenceOutcome,
    ) -> Result<(), Refusal> {
        let case = self.case(id)?;
        if !matches!(case.phase, Phase::Running { .. }) {
            return Err(stale("the case has no attempt under way"));
        }
        if case.attempts != attempt {
            return Err(stale("a later attempt is under way"));
        }
        let node = case.node;
        match outcome {
            // Nobody said so: there is nobody to say it.
            FenceOutcome::Off if self.state.level(case.node, case.level).next().is_none() => {
                return Err(stale("the level has no devices"));
            }
            FenceOutcome::Off if self.state.level_isolates(case.node, case.level) => self.isolate(id)?,
            FenceOutcome::Off if self.awaits_silence(id)? => {}
            FenceOutcome::Off => self.prove(id, Class::Off, Evidence::Fenced(id), None),
            FenceOutcome::Failed(error) => {
                // An agent that fails may have sent its command, and a slow device obeys it later.
                self.quarantine(node);
                self.fail_attempt(id, error, false);
            }
            FenceOutcome::Unable(error) => self.fail_attempt(id, error, true),
            FenceOutcome::CalledOff => self.call_off(id),
            FenceOutcome::TimedOut(error) => self.cut_attempt(id, error),
        }
        Ok(())
    }

    /// A restarted daemon ran the agent once more: what the first one told the device may still strike.
    pub(super) fn fence_repeated(&mut self, id: CaseId, attempt: u32) -> Result<(), Refusal> {
        let case = self.case(id)?;
        if !matches!(case.phase, Phase::Running { .. }) || case.attempts != attempt {
            return Err(stale("that attempt is not under way"));
        }
        self.quarantine(case.node);
        Ok(())
    }

    pub(super) fn abandon_attempt(&mut self, id: CaseId, attempt: u32) -> Result<(), Refusal> {
        let case = self.case(id)?;
        let Phase::Running { executor, executor_incarnation, .. } = &case.phase else {
            return Err(stale("the case has no attempt under way"));
        };
        if case.attempts != attempt {
            return Err(stale("a later attempt is under way"));
        }
        if self.state.attempt_ends(case).is_none_or(|at| at > self.time) {
            return Err(Refusal::Unsafe("the executor is heard; its word is awaited".to_string()));
        }
        let target = case.node;
        if case.off_at.is_some() {
            self.found_liar(id);
            return Ok(());
        }
        let heard = self.state.nodes.get(executor).and_then(Node::in_session);
        let heard = heard.is_some_and(|life| life.incarnation == *executor_incarnation);
        let name = self.state.node_name(*executor);
        let error = if heard {
            format!("{name} ran the agent and never said how it ended")
        } else {
            format!("{name} was lost while it ran the agent")
        };
        self.quarantine_strike(target);
        self.cut_attempt(id, &error);
        Ok(())
    }

    /// Only while no agent ever ran, or once no late command can strike any more (F31). Whether anything waits for it still is
    /// the planner's to say: a case that is wanted is opened anew.
    pub(super) fn cancel_case(&mut self, id: CaseId) -> Result<(), Refusal> {
        let case = self.case(id)?;
        let target = self.node(case.node)?;
        if case.drill().is_some() {
            return self.cancel_drill(id);
        }
        let settled = target.quarantined_until <= self.time;
        match &case.phase {
            Phase::Wanted => {}
            Phase::Failed { .. } if settled => {}
            Phase::Running { .. }
            | Phase::Failed { .. }
            | Phase::Proven { .. }
            | Phase::Cancelled { .. }
            | Phase::Contradicted { .. } => {
                return Err(Refusal::Unsafe("an attempt was begun: the case runs to its end".to_string()));
            }
        }
        let (node, at) = (case.node, self.time);
        if let Some(case) = self.state.cases.get_mut(&id) {
            case.phase = Phase::Cancelled { at };
        }
        self.power_comes_back(node, Class::Released, 0);
        self.record(Severity::Info, Some(node), None, EventKind::FenceCancelled { case: id });
        Ok(())
    }

    /// An operator's word for one incarnation, which must be silent (F36).
    pub(super) fn vouch_fenced(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        by: &str,
    ) -> Result<(), Refusal> {
        let life = self.life(id, incarnation)?;
        let heard = life.contradicted.max(life.isolated.as_ref().and_then(|isolation| isolation.heard_at));
        let name = self.state.node_name(id);
        let Some(lost) = self.node(id)?.lost_since() else {
            let why = format!("{name} is not lost: it was heard, or is proven gone already");
            return Err(Refusal::Impossible(why));
        };
        // The loss was committed more than one lease after the last answer; one more makes two.
        let lease = self.state.settings.lease_ms();
        let spoke = heard.map_or(0, |at| at.saturating_add(lease).saturating_add(lease));
        let from = lost.saturating_add(lease).max(spoke);
        if from > self.time {
            let wait = from.saturating_sub(self.time);
            let why = format!("{name} was heard a moment ago; look again in {wait} ms");
            return Err(Refusal::Impossible(why));
        }
        match self.state.open_case(id).map(|(case, open)| (case, matches!(open.phase, Phase::Running { .. })))
        {
            Some((case, strikes)) => {
                self.prove(case, Class::Word, Evidence::Vouched, Some(by));
                if strikes {
                    self.quarantine_strike(id);
                }
            }
            None => self.prove_without_case(id, incarnation, by)?,
        }
        Ok(())
    }

    /// The word closes no case, but what it voided is kept like a case's, for the word may be wrong too (F18).
    fn prove_without_case(&mut self, id: NodeId, incarnation: &Incarnation, by: &str) -> Result<(), Refusal> {
        let at = self.time;
        self.life_mut(id, incarnation)?.gone = Some(Gone { class: Class::Word, at });
        let evidence = Evidence::Vouched;
        let kind = EventKind::FenceProven { case: None, evidence, by: Some(by.into()), after_ms: 0 };
        self.record(Severity::Warning, Some(id), None, kind);
        self.power_comes_back(id, Class::Word, 0);
        let voided = self.void_all(id, incarnation, evidence);
        self.note_end(id, incarnation, Class::Word, None, Some(by), &voided);
        if let Some((because, _, _)) = voided.first() {
            let mut case = FenceCase::new(id, incarnation.clone(), Because::Unit(because.clone()), at);
            case.phase = Phase::Proven { class: Class::Word, at };
            case.voided = voided;
            self.state.cases.insert(CaseId(self.index), case);
        }
        Ok(())
    }

    /// Closes a case with its proof; the permits end by it, and the incarnation is gone.
    pub(super) fn prove(&mut self, id: CaseId, class: Class, evidence: Evidence, by: Option<&str>) {
        let at = self.time;
        let Some(case) = self.state.cases.get_mut(&id) else { return };
        let ran = if let Phase::Running { since, executor, .. } = case.phase {
            Some((since, executor))
        } else {
            None
        };
        case.phase = Phase::Proven { class, at };
        let is_drill = case.drill().is_some();
        let (node, incarnation, level) = (case.node, case.incarnation.clone(), case.level);
        let after_ms = at.saturating_sub(case.opened_at);
        // A drill that passed is told as such, and counts for no fence loop.
        if !is_drill || class != Class::Off {
            let by = by.map(String::from);
            let kind = EventKind::FenceProven { case: Some(id), evidence, by, after_ms };
            self.record(Severity::Warning, Some(node), None, kind);
        }
        self.drill_proven(id, class, ran.map(|(since, _)| since));
        let voided = self.void_all(node, &incarnation, evidence);
        self.note_end(node, &incarnation, class, Some((id, ran)), by, &voided);
        if let Some(case) = self.state.cases.get_mut(&id) {
            case.voided = voided;
        }
        if let Ok(life) = self.life_mut(node, &incarnation) {
            life.gone = Some(Gone { class, at });
        }
        // After a drill the node is to come back whatever is wished after a fence.
        if !is_drill || class == Class::Word {
            self.power_comes_back(node, class, level);
        }
    }

    /// Kept for the node's next life, which is told (P113).
    fn note_end(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        class: Class,
        case: Option<(CaseId, Option<(Millis, NodeId)>)>,
        by: Option<&str>,
        voided: &[(UnitName, Token, Permit)],
    ) {
        let (found, ran) = case.map_or((None, None), |(id, ran)| (self.state.cases.get(&id), ran));
        let off = found.filter(|_| class == Class::Off);
        let ended = Ended {
            incarnation: incarnation.clone(),
            class,
            at: self.time,
            wall_ms: self.wall_ms,
            silent_wall_ms: None,
            device: off.map(|case| self.state.level_name(id, case.level)),
            executor: ran.filter(|_| off.is_some()).map(|(_, executor)| self.state.node_name(executor)),
            by: by.map(String::from),
            because: found.map(|case| case.because.clone()),
            held: voided.iter().map(|(unit, _, _)| unit.clone()).collect(),
        };
        self.keep_end(id, ended);
    }

    /// The same for a life that was cut off and may run on: what it held is told to the next one.
    pub(super) fn note_isolation(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        (devices, executor, because): (String, Option<String>, Because),
        voided: &[(UnitName, Token, Permit)],
    ) {
        let ended = Ended {
            incarnation: incarnation.clone(),
            class: Class::Isolated,
            at: self.time,
            wall_ms: self.wall_ms,
            silent_wall_ms: None,
            device: Some(devices),
            executor,
            by: None,
            because: Some(because),
            held: voided.iter().map(|(unit, _, _)| unit.clone()).collect(),
        };
        self.keep_end(id, ended);
    }

    fn keep_end(&mut self, id: NodeId, ended: Ended) {
        let Some(node) = self.state.nodes.get_mut(&id) else { return };
        let silent_wall_ms = node.lately.silent_wall_ms;
        let before = node.lately.ended.take().filter(|before| before.incarnation == ended.incarnation);
        let mut held = before.map(|before| before.held).unwrap_or_default();
        held.extend(ended.held);
        node.lately.ended = Some(Ended { silent_wall_ms, held, ..ended });
    }

    /// What was cut off may still strike, whatever a status says meanwhile; it is not repeated at once.
    pub(super) fn cut_attempt(&mut self, id: CaseId, error: &str) {
        if let Some(case) = self.state.cases.get_mut(&id) {
            case.retries_left = 0;
            let node = case.node;
            self.quarantine(node);
        }
        self.fail_attempt(id, error, false);
    }

    /// The pause is for the devices. Where none was asked, the next node tries at once, until each had its turn.
    pub(super) fn fail_attempt(&mut self, id: CaseId, error: &str, unable: bool) {
        let able = |target: NodeId| {
            self.state.nodes.iter().filter(|(id, node)| **id != target && node.in_session().is_some()).count()
        };
        let able = self.state.cases.get(&id).map_or(0, |case| able(case.node));
        let Some(case) = self.state.cases.get_mut(&id) else { return };
        let back_off = BACK_OFF_MS.get(case.rounds as usize).or(BACK_OFF_MS.last()).copied();
        let wait = match case.retries_left {
            1.. if unable => 0,
            0 if unable && (case.rounds as usize).saturating_add(1) < able => 0,
            1.. => RETRY_MS,
            0 => back_off.unwrap_or_default(),
        };
        let next_at = self.time.saturating_add(wait);
        case.phase = Phase::Failed { error: error.into(), next_at };
        case.off_at = None;
        let (node, level, attempt) = (case.node, case.level, case.attempts);
        let is_over = case.drill().is_some() && case.retries_left == 0;
        let device = self.state.level_name(node, level);
        let kind = EventKind::FenceFailed { case: id, attempt, device, error: error.into() };
        self.record(Severity::Alert, Some(node), None, kind);
        if is_over {
            self.end_drill(id, error);
        }
    }

    /// No agent ran, and none failed: nobody is to look at it. One that is wanted again begins at once.
    fn call_off(&mut self, id: CaseId) {
        let at = self.time;
        let why = "it was called off before it began";
        let Some(case) = self.state.cases.get_mut(&id) else { return };
        case.off_at = None;
        let (node, level, attempt) = (case.node, case.level, case.attempts);
        if case.drill().is_some() {
            case.phase = Phase::Cancelled { at };
            let kind = EventKind::DrillCancelled { case: id, why: why.into() };
            return self.record(Severity::Warning, Some(node), None, kind);
        }
        case.phase = Phase::Failed { error: why.into(), next_at: at };
        let device = self.state.level_name(node, level);
        let kind = EventKind::FenceFailed { case: id, attempt, device, error: why.into() };
        self.record(Severity::Info, Some(node), None, kind);
    }

    pub(super) fn case(&self, id: CaseId) -> Result<&FenceCase, Refusal> {
        self.state.cases.get(&id).ok_or_else(|| stale("no such case"))
    }
}
