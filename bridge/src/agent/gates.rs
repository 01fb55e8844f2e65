//! Decides about starts that wait at a gate (F9, F34; gate, rows 17, 24, 27 and 57).
//!
//! A gate is a question. Only a person's start is also a wish; a boot is answered at once, a repeat of a refusal from
//! memory, and a gate that has gone takes its question with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::{Token, UnitName};
use tokio::sync::oneshot;
use units::systemd::journal::{Kind, Priority};
use units::systemd::starts::{self, StartBatch, StartCause};
use units::systemd::stops::{self, Bonds, StopCause};
use units::systemd::{JobKind, JobResult};

use super::core::Agent;
use super::event::{Action, GateLook, Now};
use super::gate::{Answer, GateId};
use super::permit::{self, Starts};
use super::unit::{GivenUp, Unit};
use crate::session::message::GateAnswer;

/// For how long a refusal is repeated from memory: `Upholds=` asks five times in a tenth of a second (row 8). No longer,
/// for this node hears nothing of what changes elsewhere: a start that follows a `convoke stop` is a new question.
const MEMORY: Duration = Duration::from_millis(300);
/// How long a start waits for the end of a stop: less than the gate's own `TimeoutStartSec=60`, so that the reason is told.
const PARKED_MAX: Duration = Duration::from_secs(50);
/// For how long a grant after a cancelled start is taken for its late answer.
const UNWANTED_MS: u64 = 10_000;
/// What a person's start is called.
fn starter(node: &str) -> String {
    format!("operator on {node} (systemctl start)")
}

/// A start that waits.
#[derive(Debug)]
struct Gate {
    unit: UnitName,
    reply: oneshot::Sender<Answer>,
    /// A person's wish was sent to the cluster.
    wished: bool,
    /// It waits for the end of a release.
    parked: bool,
    /// It waits for this permit, which the orders bring; it may be taken back before that.
    granted: Option<Token>,
    /// When it asked (CLOCK_MONOTONIC).
    since: Duration,
}

/// All starts that wait, and what was refused lately.
#[derive(Debug, Default)]
pub(super) struct Gates {
    open: BTreeMap<GateId, Gate>,
    refused: BTreeMap<UnitName, (Duration, Answer)>,
}

impl Gates {
    /// Whether a start waits at its gate.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The state has changed: another answer may be right now.
    pub(super) fn forget_refusals(&mut self) {
        self.refused.clear();
    }

    /// The gates of a unit, to be answered by whoever writes its permit.
    pub(super) fn take_waiting(&mut self, unit: &UnitName) -> Vec<oneshot::Sender<Answer>> {
        let ids: Vec<GateId> =
            self.open.iter().filter(|(_, gate)| gate.unit == *unit).map(|(id, _)| *id).collect();
        ids.iter().filter_map(|id| self.open.remove(id)).map(|gate| gate.reply).collect()
    }
}

/// Whether its permit was for one start, which was made: what starts it next needs another (F16).
fn has_made_its_start(unit: &Unit) -> bool {
    let made = unit.held.as_ref().is_some_and(|held| held.starts == Starts::Made);
    made && unit.release.is_none()
}

impl Agent {
    pub(super) fn gate_asked(
        &mut self,
        id: GateId,
        unit: UnitName,
        reply: oneshot::Sender<Answer>,
        now: &Now,
    ) {
        if !permit::usable(&unit) {
            let answer = Answer::refused(
                format!("`{unit}` is not a unit's name"),
                "give the full name of a unit".into(),
            );
            self.actions.push(Action::GateAnswer { reply, answer });
            return;
        }
        let known = self.units.get(&unit);
        let made = known.is_some_and(has_made_its_start);
        if let Some(held) = known.filter(|unit| unit.filed && unit.release.is_none() && !made) {
            // A gate runs only where it finds no file: somebody removed it, or it was written just now.
            if let Some(permit) = held.held.clone().filter(|_| now.leased) {
                self.actions.push(Action::File { unit, permit });
            }
            self.actions.push(Action::GateAnswer { reply, answer: Answer::granted() });
            return;
        }
        if let Some((at, answer)) = self.gates.refused.get(&unit)
            && !made
            && now.mono.saturating_sub(*at) < MEMORY
        {
            let answer = answer.clone();
            // Told each time: what PID 1 logs of a storm of starts would push it out of `systemctl status`.
            self.tell(&unit, Kind::StartRefused, Priority::Notice, answer.sentence());
            self.actions.push(Action::GateAnswer { reply, answer });
            return;
        }
        // What ends is told before what begins: a start after a stop is asked for once the stop is told.
        let ends = known.is_some_and(|unit| unit.release.is_some() || unit.due.is_some());
        self.gates.open.insert(
            id,
            Gate { unit: unit.clone(), reply, wished: false, parked: ends, granted: None, since: now.mono },
        );
        if !ends {
            self.actions.push(Action::GateLook { id, unit });
        }
    }

    /// The member of a unit whose own start waits for the unit's gate.
    fn starting_member(&self, unit: &UnitName) -> Option<String> {
        let members = self.units.get(unit)?.members();
        let starting = self.jobs.jobs().rev().filter(|job| job.ended.is_none() && job.may_start());
        starting.map(|job| &job.unit).find(|name| members.contains(*name)).cloned()
    }

    /// The unit was released: starts that came meanwhile may be asked for now.
    pub(super) fn resume_gates(&mut self, unit: &UnitName) {
        let floor = self.floors.of(unit);
        let waits = |gate: &Gate| gate.parked || gate.granted.is_some_and(|token| token <= floor);
        for (id, gate) in self.gates.open.iter_mut().filter(|(_, gate)| gate.unit == *unit && waits(gate)) {
            (gate.parked, gate.granted) = (false, None);
            self.actions.push(Action::GateLook { id: *id, unit: unit.clone() });
        }
    }

    /// New orders: starts that came while a release was on the way are asked for again.
    pub(super) fn resume_all_gates(&mut self) {
        let waits = |gate: &&Gate| gate.parked || gate.granted.is_some();
        let parked = self.gates.open.values().filter(waits).map(|gate| gate.unit.clone());
        let ends = |unit: &Unit| unit.release.is_some() || unit.due.is_some() || has_made_its_start(unit);
        let idle = |unit: &UnitName| self.units.get(unit).is_none_or(|unit| !ends(unit));
        for unit in parked.filter(idle).collect::<BTreeSet<_>>() {
            self.resume_gates(&unit);
        }
    }

    /// Starts that wait too long for a stop are told so, before systemd ends their gates without a word.
    pub(super) fn refuse_parked(&mut self, now: &Now) {
        let waits = |gate: &Gate| gate.parked || gate.granted.is_some();
        let late = |gate: &Gate| waits(gate) && now.mono.saturating_sub(gate.since) >= PARKED_MAX;
        let late: Vec<(GateId, UnitName, Option<Token>)> = self
            .gates
            .open
            .iter()
            .filter(|(_, gate)| late(gate))
            .map(|(id, gate)| (*id, gate.unit.clone(), gate.granted))
            .collect();
        for (id, unit, granted) in late {
            let stuck = self.units.get(&unit).and_then(|unit| unit.stuck.as_ref());
            let after_stop = "start it again when it is; ";
            let (why, when) = match (granted, stuck) {
                (Some(token), _) => {
                    (format!("it may start here, but permit {} has not come", token.0), "start it again; ")
                }
                (None, Some(what)) => (format!("its stop on this node hangs: {what}"), after_stop),
                (None, None) => ("its stop on this node is not over".to_owned(), after_stop),
            };
            self.refuse_gate(id, &why, format!("{when}`convoke why {unit}`"), now);
            // It was no answer of the cluster: the next start is a new question.
            self.gates.refused.remove(&unit);
        }
    }

    pub(super) fn gate_looked(&mut self, id: GateId, look: Result<Box<GateLook>, String>, now: &Now) {
        let Some(unit) = self.gates.open.get(&id).map(|gate| gate.unit.clone()) else { return };
        let look = match look {
            Ok(look) => look,
            Err(why) => {
                let remedy = "look at the log of convoked".to_owned();
                self.refuse_gate(id, &format!("systemd does not answer convoked: {why}"), remedy, now);
                return;
            }
        };
        if let Some(known) = self.units.get_mut(&unit).filter(|unit| has_made_its_start(unit)) {
            if look.reading.active_state.is_up() {
                // It runs: what was asked for is there.
                self.grant_gates(&unit);
                return;
            }
            // A start of it by hand is none that the cluster has decided on, and nothing is decided now.
            if known.held.as_ref().is_some_and(|held| held.hands_off) {
                let why =
                    "it is in maintenance, and each start of a clustered service is the cluster's to decide";
                self.refuse_gate(id, why, format!("`convoke why {unit}` says what ends that"), now);
                return;
            }
            // The second half of a restart, which is asked for once the first is told.
            known.stale = true;
            if let Some(gate) = self.gates.open.get_mut(&id) {
                gate.parked = true;
            }
            self.touch(&unit);
            return;
        }
        let mut batch = StartBatch::gather(&look.reading, &self.jobs, look.manager);
        batch.upheld_by_active = look.upheld_by_active;
        batch.active_triggers = look.active_triggers;
        let why = format!("convoke why {unit}");
        let wish = match starts::classify(&batch) {
            StartCause::Boot => {
                let text = "the system is starting: the cluster starts it where and when it may run";
                self.refuse_gate(id, text, format!("nothing; `{why}` shows what it waits for"), now);
                return;
            }
            StartCause::Shutdown => {
                self.refuse_gate(id, "the system is going down", "nothing".to_owned(), now);
                return;
            }
            // Older than our connection: it can be asked for, but nobody knows by whom.
            StartCause::NoJob
                if look.reading.job.as_ref().is_some_and(|job| job.kind != Some(JobKind::Stop)) =>
            {
                None
            }
            StartCause::NoJob => {
                let (text, remedy) = match self.starting_member(&unit) {
                    Some(_) if look.manager.is_booting() => {
                        let text = "the system is starting: the cluster starts it where and when it may run";
                        (text.to_owned(), format!("nothing; `{why}` shows what it waits for"))
                    }
                    Some(member) => {
                        (format!("{member} runs only where {unit} runs"), format!("convoke start {unit}"))
                    }
                    None => ("the start was cancelled".to_owned(), "start it again".to_owned()),
                };
                self.refuse_gate(id, &text, remedy, now);
                // It was no answer of the cluster: the next start is a new question.
                self.gates.refused.remove(&unit);
                return;
            }
            StartCause::Wish => Some(starter(&self.node_name)),
            StartCause::Own
            | StartCause::Triggered { .. }
            | StartCause::PulledIn { .. }
            | StartCause::AutoRestart => None,
        };
        if let Some(gate) = self.gates.open.get_mut(&id) {
            gate.wished = wish.is_some();
        }
        if wish.is_some()
            && let Some(unit) = self.units.get_mut(&unit)
        {
            unit.given_up = None;
        }
        self.actions.push(Action::GateAsk { id, unit, wish });
    }

    pub(super) fn gate_answered(&mut self, id: GateId, answer: Result<GateAnswer, String>, now: &Now) {
        let Some(unit) = self.gates.open.get(&id).map(|gate| gate.unit.clone()) else { return };
        match answer {
            // The leader has not heard of the release yet: what it will say then is the answer.
            Ok(GateAnswer::Granted { token }) if token <= self.floors.of(&unit) => {
                if let Some(gate) = self.gates.open.get_mut(&id) {
                    gate.parked = true;
                }
            }
            Ok(GateAnswer::Granted { token }) => {
                let held =
                    self.units.get(&unit).filter(|unit| unit.filed).and_then(|unit| unit.held.as_ref());
                if held.is_some_and(|held| held.token == token) {
                    self.grant_gates(&unit);
                } else if let Some(gate) = self.gates.open.get_mut(&id) {
                    // The permit comes with the orders, and whoever writes its file answers.
                    gate.granted = Some(token);
                }
            }
            Ok(GateAnswer::Refused { why, remedy }) => self.refuse_gate(id, &why, remedy, now),
            Err(why) => {
                let remedy = "check the other nodes and the links between them (convoke status)".to_owned();
                self.refuse_gate(id, &why, remedy, now);
            }
        }
    }

    pub(super) fn grant_gates(&mut self, unit: &UnitName) {
        for reply in self.gates.take_waiting(unit) {
            self.actions.push(Action::GateAnswer { reply, answer: Answer::granted() });
        }
    }

    fn refuse_gate(&mut self, id: GateId, why: &str, remedy: String, now: &Now) {
        let Some(gate) = self.gates.open.remove(&id) else { return };
        let answer = Answer::refused(why.to_owned(), remedy);
        self.gates.refused.insert(gate.unit.clone(), (now.mono, answer.clone()));
        self.tell(&gate.unit, Kind::StartRefused, Priority::Notice, answer.sentence());
        self.actions.push(Action::GateAnswer { reply: gate.reply, answer });
    }

    /// The gate ended before it was answered: its time was over, it was killed, or the start was cancelled.
    pub(super) fn gate_closed(&mut self, id: GateId, now: &Now) {
        let Some(gate) = self.gates.open.remove(&id) else { return };
        self.actions.push(Action::GateDrop { id });
        if gate.wished {
            self.actions.push(Action::GateSettle { id, unit: gate.unit, since: now.mono });
        }
    }

    /// `systemctl stop` while the gate waited takes back what the gate asked for (F34). The job's end is known by now.
    ///
    /// A start that the system or another unit cancelled is nobody's wish, as with a stop.
    pub(super) fn gate_settled(
        &mut self,
        id: GateId,
        name: &UnitName,
        since: Duration,
        look: Result<Box<GateLook>, String>,
        now: &Now,
    ) {
        let recent = since.saturating_sub(Duration::from_secs(1));
        let cancelled = self.jobs.jobs().rev().any(|job| {
            let end = job.ended.as_ref().filter(|(at, _)| *at >= recent);
            job.unit == name.0
                && job.may_start()
                && !job.ours
                && end.is_some_and(|(_, result)| *result == JobResult::Canceled)
        });
        let Some(look) = look.ok().filter(|_| cancelled) else { return };
        match stops::cancelled(&look.reading, &self.jobs, look.manager, Bonds::default(), now.mono) {
            StopCause::OperatorStop => {}
            StopCause::Shutdown => return self.leave(),
            _ => return,
        }
        let by = format!("operator on {} (start cancelled)", self.node_name);
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.given_up = Some(GivenUp { gate: id, until_ms: now.boot_ms + UNWANTED_MS, index: None });
        self.actions.push(Action::Withdraw { id, unit: name.clone(), by });
        self.touch(name);
    }

    /// The cluster knows that the start was given up. What it grants from then on has another reason.
    pub(super) fn withdrawn(&mut self, id: GateId, name: &UnitName, index: Option<u64>) {
        let Some(unit) = self.units.get_mut(name) else { return };
        if let Some(given_up) = unit.given_up.as_mut().filter(|given_up| given_up.gate == id) {
            match index {
                Some(index) => given_up.index = Some(index),
                None => unit.given_up = None,
            }
            self.touch(name);
        }
    }
}
