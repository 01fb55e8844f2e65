//! What this node owes to clustered services: how its data stands, whether its copy is ready, and that a start which the
//! cluster gave is made once (F16).
//!
//! Decides when the programs run. The position is read only while no copy runs and none is about to; a start that is to
//! be made ends the reading first. A question stands for as long as the cluster asks it; each answer is followed by
//! another look after a pause, which the next word of the cluster calls off.

use std::time::Duration;

use policy::{Fact, Start, Token, UnitName};
use units::section::Variable;

use super::Agent;
use crate::agent::decide::Run;
use crate::agent::event::{Action, OpId};
use crate::agent::permit::Starts;
use crate::agent::probe::{Finding, Question};
use crate::agent::unit::{OpKind, Unit};

/// After a look at the data that could not be made, or that the cluster did not take.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest of these pauses; each is twice the one before.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// After a look at a copy that is not ready: the next member waits for it.
const READY_AGAIN: Duration = Duration::from_millis(100);
/// The same after so many looks: what takes longer than seconds takes minutes.
const READY_AGAIN_LATER: Duration = Duration::from_secs(1);
const READY_LOOKS_SOON: u32 = 50;
/// A copy that is not ready after so many looks is said to lack what it lacks: most are ready sooner.
const READY_LOOKS: u32 = 10;
/// States of a service in which `ExecStart=` has not been begun: the environment is still to be read.
const BEFORE_EXEC: [&str; 4] = ["dead", "failed", "condition", "start-pre"];

/// What the cluster asks, as far as one look answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// How the data stands, in this epoch.
    Position(u64),
    /// Whether the copy under this permit is ready, by a look after this index.
    Ready(Token, u64),
    /// How good this node would be in a role, by a look after this index; of the holder, how far it is.
    Rank(u64),
}

/// The look under way.
#[derive(Debug)]
struct UnderWay {
    id: OpId,
    asked: Asked,
    /// Index that was known when it was begun.
    seen: u64,
    /// It is being ended, and whatever it still says is void.
    ended: bool,
}

/// What one unit was asked and said.
#[derive(Debug, Default)]
pub(in crate::agent) struct Probing {
    under_way: Option<UnderWay>,
    /// The question that was answered last, the answer, and how often in a row.
    told: Option<(Asked, Finding, u32)>,
}

impl Probing {
    /// The data may have changed: the next look is the first.
    pub(in crate::agent) fn forget(&mut self) {
        self.told = None;
    }

    fn pause(&self, asked: Asked) -> Duration {
        let (before, said, tries) = match &self.told {
            Some((before, said, tries)) if before.is_same_question(asked) => (*before, said, *tries),
            _ => return Duration::ZERO,
        };
        let longer = AGAIN.saturating_mul(1 << (tries - 1).min(6)).min(AGAIN_MAX);
        match asked {
            Asked::Position(_) | Asked::Rank(_) => longer,
            // It was said, and the cluster does not take it for ready: the history that it has is not the service's.
            Asked::Ready(..) if before == asked && said.is_ready() => longer,
            Asked::Ready(..) if tries < READY_LOOKS_SOON => READY_AGAIN,
            Asked::Ready(..) => READY_AGAIN_LATER,
        }
    }
}

impl Asked {
    fn question(self) -> Question {
        match self {
            Self::Position(_) => Question::Position,
            Self::Ready(..) => Question::Ready,
            Self::Rank(_) => Question::Rank,
        }
    }

    /// Whether a later look at the same thing.
    fn is_same_question(self, other: Self) -> bool {
        match (self, other) {
            (Self::Ready(a, _), Self::Ready(b, _)) => a == b,
            _ => self == other,
        }
    }
}

impl Agent {
    /// Begins the look that the cluster asks for, or ends one that it asks for no more.
    pub(super) fn keep_asking(&mut self, name: &UnitName) {
        let asked = self.asked(name);
        let next = self.last_op + 1;
        let seen = self.floors.index();
        let Some(unit) = self.units.get_mut(name) else { return };
        let question = match (&mut unit.probing.under_way, asked) {
            (Some(under_way), _) if under_way.ended || Some(under_way.asked) == asked => return,
            (Some(under_way), _) => {
                under_way.ended = true;
                let (id, question) = (under_way.id, under_way.asked.question());
                self.actions.push(Action::EndProbe { id, unit: name.clone(), question });
                return;
            }
            (None, Some(asked)) if !unit.stale && unit.op.is_none() => asked,
            (None, _) => return,
        };
        let found = unit.found.as_ref();
        let assembly = found.and_then(|found| found.assembly.as_ref());
        let program = match question {
            Asked::Position(_) => assembly.map(|assembly| assembly.position.clone()),
            Asked::Ready(..) => assembly.and_then(|assembly| assembly.ready.clone()),
            Asked::Rank(_) => found.and_then(|found| found.rank.clone()),
        };
        let after = unit.probing.pause(question);
        unit.probing.under_way = Some(UnderWay { id: next, asked: question, seen, ended: false });
        self.last_op = next;
        let (unit, question) = (name.clone(), question.question());
        self.actions.push(Action::Probe { id: next, unit, question, program, after });
    }

    /// Whether a program of a unit may run now, and the cluster be told what it says.
    pub(super) fn may_ask(&self, unit: &Unit) -> bool {
        let answers = self.connected && self.session.is_some() && self.inventory_told && !self.is_ending();
        // A look at the unit calls nothing off by itself: what it shows may.
        let busy = unit.op.is_some_and(|op| op.kind != OpKind::Look);
        answers && !busy && unit.release.is_none() && unit.due.is_none()
    }

    /// What the cluster asks of a unit, if it can be answered now.
    fn asked(&self, name: &UnitName) -> Option<Asked> {
        let unit = self.units.get(name).filter(|unit| self.may_ask(unit))?;
        let view = self.view.as_ref()?;
        let (duty, rank) = (view.assembly.get(name), view.ranks.get(name).copied());
        match (view.permits.get(name), &unit.held) {
            (None, None) if unit.run == Run::Down => {
                let position = duty.and_then(|duty| duty.position).map(Asked::Position);
                position.or(rank.map(Asked::Rank))
            }
            (Some(permit), Some(held)) if permit.token == held.token && unit.run == Run::Up => {
                let ready = duty.and_then(|duty| duty.ready).map(|after| Asked::Ready(held.token, after));
                ready.or(rank.map(Asked::Rank))
            }
            _ => None,
        }
    }

    /// Whether the data is being read. Nothing may start on it meanwhile.
    pub(in crate::agent) fn reads_data(&self, name: &UnitName) -> bool {
        let under_way = self.units.get(name).and_then(|unit| unit.probing.under_way.as_ref());
        under_way.is_some_and(|under_way| matches!(under_way.asked, Asked::Position(_)))
    }

    /// A program ended; `None` if it was called off.
    pub(super) fn probed(&mut self, id: OpId, name: &UnitName, finding: Option<Finding>) {
        let asked = self.units.get(name).and_then(|unit| unit.probing.under_way.as_ref());
        match asked.is_some_and(|under_way| under_way.id == id) {
            true => self.answered(id, name, finding),
            false => self.checked(id, name, finding),
        }
    }

    fn answered(&mut self, id: OpId, name: &UnitName, finding: Option<Finding>) {
        let (node, incarnation) = (self.node, self.incarnation.clone());
        let Some(unit) = self.units.get_mut(name) else { return };
        let Some(under_way) = unit.probing.under_way.take_if(|under_way| under_way.id == id) else { return };
        self.touched.insert(name.clone());
        let (Some(finding), false) = (finding, under_way.ended) else { return };
        let before = unit.probing.told.take();
        let same = before.filter(|(asked, said, _)| {
            asked.is_same_question(under_way.asked) && said.is_ready() == finding.is_ready()
        });
        let (tries, said) = same.map_or((1, None), |(_, said, tries)| (tries.saturating_add(1), Some(said)));
        let news = said.as_ref() != Some(&finding);
        let seen = under_way.seen;
        let unit = name.clone();
        match (under_way.asked, &finding) {
            // What the cluster did not take the first time may count by now.
            (Asked::Position(epoch), Finding::Position(found)) if news || found.is_told() => {
                let found = found.clone();
                self.outbox.push(Fact::PositionReported { node, incarnation, unit, epoch, seen, found });
            }
            (Asked::Rank(_), Finding::Position(found)) if news || found.is_told() => {
                let found = found.clone();
                self.outbox.push(Fact::RankReported { node, incarnation, unit, seen, found });
            }
            (Asked::Ready(token, _), Finding::Ready(look))
                if look.is_ok() || tries == READY_LOOKS || (news && tries > READY_LOOKS) =>
            {
                let (lacks, identity) = (look.clone().err(), look.clone().ok().flatten());
                self.outbox.push(Fact::ReadyReported {
                    node,
                    incarnation,
                    unit,
                    token,
                    seen,
                    lacks,
                    identity,
                });
            }
            _ => {}
        }
        if let Some(unit) = self.units.get_mut(name) {
            unit.probing.told = Some((under_way.asked, finding, tries));
        }
    }

    /// How a start is made: what it finds in its environment, and whether it is the only one under its permit.
    pub(in crate::agent) fn start_of(&self, name: &UnitName) -> (Start, Vec<Variable>, Starts) {
        let duty = self.view.as_ref().and_then(|view| view.assembly.get(name));
        let start = duty.and_then(|duty| duty.start).unwrap_or(Start::Join);
        let found = self.units.get(name).and_then(|unit| unit.found.as_ref());
        let assembly = found.and_then(|found| found.assembly.as_ref());
        let variables = assembly.map(|assembly| match start {
            Start::Join => Vec::new(),
            Start::Alone => assembly.alone.clone(),
            Start::Resync => assembly.resync.clone(),
        });
        let starts = if duty.is_some() { Starts::One } else { Starts::Any };
        (start, variables.unwrap_or_default(), starts)
    }

    /// PID 1 told a unit's state within a start: once the program was begun there is no second start (F16).
    pub(in crate::agent) fn note_dispatch(&mut self, name: &UnitName, sub_state: &str) {
        if !BEFORE_EXEC.contains(&sub_state) {
            self.spend(name);
        }
    }

    /// Takes the permit's file out of the gate's sight, and the environment away.
    pub(in crate::agent) fn spend(&mut self, name: &UnitName) {
        let Some(held) = self.units.get_mut(name).and_then(|unit| unit.held.as_mut()) else { return };
        if held.starts == Starts::One {
            held.starts = Starts::Made;
            let permit = held.clone();
            self.actions.push(Action::Spend { unit: name.clone(), permit });
        }
    }

    /// Keeps a permit's file where it belongs after `Assembly=` came or went while its unit runs.
    pub(super) fn keep_starts(&mut self, name: &UnitName) {
        let Some(view) = &self.view else { return };
        let assembled = view.assembly.contains_key(name);
        let granted = view.permits.get(name).map(|permit| permit.token);
        let Some(unit) = self.units.get_mut(name) else { return };
        let runs = unit.run == Run::Up && unit.op.is_none() && unit.release.is_none() && unit.filed;
        let Some(held) = unit.held.as_mut().filter(|held| runs && granted == Some(held.token)) else {
            return;
        };
        match (assembled, held.starts) {
            (true, Starts::Any | Starts::One) => {
                held.starts = Starts::One;
                self.spend(name);
            }
            (false, Starts::One | Starts::Made) => {
                held.starts = Starts::Any;
                let permit = held.clone();
                self.actions.push(Action::File { unit: name.clone(), permit });
            }
            _ => {}
        }
    }

    /// A new session was opened: what was said in an earlier one does not count in it.
    pub(super) fn forget_answers(&mut self) {
        for unit in self.units.values_mut() {
            unit.probing.forget();
            unit.checking.forget();
        }
    }
}
