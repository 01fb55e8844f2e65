//! Brings one unit a step nearer to what the cluster wants, and takes in how operations ended.

mod causes;
mod ends;
mod lease_end;
mod rest;
mod terms;

use std::collections::BTreeSet;
use std::time::Duration;

use policy::{Cause, Fact, OnStopFailure, PermitView, Phase, Terms, Token, UnitName};
use units::systemd::journal::{Kind, Priority};

use super::core::Agent;
use super::decide::{AtLeaseEnd, Case, Run, Step, Why, Word, at_lease_end, decide};
use super::event::{Action, IfStuck, Now, Spooled, Stop, Work};
use super::offer;
use super::permit::{Environment, Permit, Starts};
use super::unit::{OpKind, Release, Unit};

/// A gate that is missing is mended once in this time: never a reload in a loop.
const MEND_PAUSE_MS: u64 = 600_000;
/// A stop of a copy without a permit has the unit's own time, and this if it has none.
const STRAY_BUDGET: Duration = Duration::from_secs(90);

impl Agent {
    /// Decides the unit's next step. Called until nothing has changed any more.
    pub(super) fn reconcile(&mut self, name: &UnitName, now: &Now) {
        if !self.connected {
            return;
        }
        let Some(unit) = self.units.get(name) else { return };
        let under_way = unit.op.map(|op| op.kind);
        if under_way == Some(OpKind::Stop) {
            return;
        }
        // A release that was begun is gone on with, whatever became of its last operation.
        if unit.release.is_some() {
            self.begin_stop(name);
            return;
        }
        if let Some(because) = unit.due.clone() {
            if self.is_its_turn(name) {
                self.release_due(name, because, now);
            }
            return;
        }
        if matches!(under_way, Some(OpKind::Start)) && !self.start_is_off(name) {
            return;
        }
        if under_way == Some(OpKind::Look) {
            // What has to stop does not wait for a look at it.
            let step = self.step(name, now);
            if matches!(&step, Step::Release(_, why) if !matches!(why, Why::WentDown | Why::Maintained)) {
                self.take(name, step, now);
            }
            return;
        }
        if matches!(under_way, Some(OpKind::Freeze | OpKind::Thaw)) {
            return;
        }
        if under_way.is_none() && self.units.get(name).is_some_and(|unit| unit.stale) {
            self.look(name, Duration::ZERO);
            return;
        }
        self.refile(name);
        let step = self.step(name, now);
        if step == Step::Wait {
            self.tell_rest(name, now);
        }
        self.take(name, step, now);
    }

    /// Whether a start under way must not go on: its permit is revoked or gone.
    fn start_is_off(&self, name: &UnitName) -> bool {
        let Some(view) = &self.view else { return false };
        let held = self.units.get(name).and_then(|unit| unit.held.as_ref()).map(|held| held.token);
        match view.permits.get(name) {
            None => true,
            Some(permit) => Some(permit.token) != held || matches!(permit.phase, Phase::Revoking(_)),
        }
    }

    fn step(&self, name: &UnitName, now: &Now) -> Step {
        let Some(unit) = self.units.get(name) else { return Step::Wait };
        let word = match &self.view {
            None => Word::None,
            Some(view) => match view.permits.get(name) {
                Some(permit) => Word::Permit(permit),
                None => Word::Without { stop: view.stop.contains(name) },
            },
        };
        let given_up =
            |permit: &PermitView| unit.given_up.is_some_and(|start| start.answers(permit.token, now.boot_ms));
        // What is being started must be stopped, even if it was not seen running yet.
        let run = if unit.op.is_some_and(|op| op.kind == OpKind::Start) { &Run::Starting } else { &unit.run };
        decide(&Case {
            incarnation: &self.incarnation,
            word,
            floor: self.floors.of(name),
            held: unit.held.as_ref(),
            filed: unit.filed,
            run,
            leased: now.leased,
            leaving: self.is_ending(),
            unwanted: self.permit_of(name).is_some_and(given_up),
        })
    }

    fn take(&mut self, name: &UnitName, step: Step, now: &Now) {
        match step {
            Step::Wait => {}
            Step::Look => self.look(name, Duration::ZERO),
            // It looks at every unit when it has.
            step if !self.discovered && self.rests_on_files(name, &step) => {}
            // It is told as soon as it is known.
            Step::Start | Step::Adopt | Step::Thaw if self.is_unwatched_yet(name) => {}
            Step::Start => self.start(name),
            Step::Adopt => self.adopt(name),
            Step::Thaw => {
                self.adopt(name);
                self.begin(name, OpKind::Thaw, Work::Thaw);
            }
            Step::Release(token, why) => self.release(name, token, &why, now),
            // It is told as running, and holds up what bears this name; whose it is, people have to say (F12).
            Step::StopStray if self.is_other_name(name) => {}
            Step::StopStray => {
                let message = "stopped: it ran here without a permit of the cluster".to_owned();
                self.tell(name, Kind::StoppedByCluster, Priority::Warning, message);
                self.begin_release(name, Release::of(None, None, Cause::Ordered, false));
            }
            Step::Withdraw => self.withdraw(name),
            Step::ReportStarted(token) => self.report_started(name, token),
            Step::ReportReleased(token) => self.report_released(name, token),
            // What rests on the watchdog is not said to before it does (F17).
            Step::TakeTerms(_, terms) if !self.may_rest_on(&terms) => {}
            Step::TakeTerms(token, terms) => self.take_terms(name, token, terms),
        }
    }

    pub(super) fn look(&mut self, name: &UnitName, after: Duration) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.stale = false;
        let watch = !unit.watched;
        let gone = unit.asks_when_gone();
        self.begin(name, OpKind::Look, Work::Look { watch, after, gone });
    }

    /// What was seen to be down, or is just being looked at, was not asked for by the program that its files name now: it is
    /// told as down when it was.
    pub(super) fn look_anew(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get_mut(name) else { return };
        match unit.op.map(|op| op.kind) {
            None => unit.run = Run::Unknown,
            // It takes the place of the one under way.
            Some(OpKind::Look) => self.look(name, Duration::ZERO),
            // Each of the others ends with a look.
            Some(_) => {}
        }
    }

    /// Whether a step asks what only the unit files say: how to start, and what has to be gone.
    fn rests_on_files(&self, name: &UnitName, step: &Step) -> bool {
        let held = self.units.get(name).is_some_and(|unit| unit.held.is_some());
        match step {
            Step::Start | Step::Adopt | Step::StopStray => true,
            // The permit that it holds says it, and what ends does not wait for a disk.
            Step::Release(..) => !held,
            _ => false,
        }
    }

    /// What its files have named since, its permit's file names too: the next daemon may have to release it before it has read
    /// the others, or find them changed.
    fn refile(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get_mut(name).filter(|unit| unit.filed && unit.op.is_none()) else {
            return;
        };
        let (gone, members) = (unit.asks_when_gone(), unit.members());
        if let Some(held) = unit.held.as_mut().filter(|held| held.gone != gone || held.members != members) {
            (held.gone, held.members) = (gone, members);
            self.actions.push(Action::File { unit: name.clone(), permit: held.clone() });
        }
    }

    fn permit_of(&self, name: &UnitName) -> Option<&PermitView> {
        self.view.as_ref()?.permits.get(name)
    }

    /// Whether its permit rests on the watchdog, of which nothing is known yet.
    fn is_unwatched_yet(&self, name: &UnitName) -> bool {
        self.permit_of(name).is_some_and(|permit| self.awaits_watchdog(&permit.terms))
    }

    fn file_of(&self, permit: &PermitView) -> Permit {
        let known = self.units.get(&permit.unit).and_then(|unit| unit.held.as_ref());
        let known = known.filter(|held| held.token == permit.token);
        let assembled = self.view.as_ref().is_some_and(|view| view.assembly.contains_key(&permit.unit));
        // Terms that were taken over count, though the cluster may not have heard of that yet (F13): later ones, and of a copy
        // that was found running also those of the same definition.
        let later = known.map(|held| &held.terms).filter(|terms| {
            terms.revision > permit.terms.revision || permit.next_terms.as_ref() == Some(*terms)
        });
        Permit {
            token: permit.token,
            incarnation: permit.incarnation.clone(),
            terms: later.unwrap_or(&permit.terms).clone(),
            adopted: permit.adopted,
            stops_before: known.map(|held| held.stops_before.clone()).unwrap_or_default(),
            hands_off: permit.hands_off,
            gone: self.units.get(&permit.unit).and_then(|unit| unit.asks_when_gone()),
            members: self.units.get(&permit.unit).map(Unit::members).unwrap_or_default(),
            // What runs already was started: a clustered service is not started a second time (F16).
            starts: known.map_or(if assembled { Starts::Made } else { Starts::Any }, |held| held.starts),
        }
    }

    fn start(&mut self, name: &UnitName) {
        let Some(permit) = self.permit_of(name).cloned() else { return };
        // The look at its data is called off by the grant; its end is told.
        if self.reads_data(name) {
            return;
        }
        let (start, variables, starts) = self.start_of(name);
        let file = Permit { starts, ..self.file_of(&permit) };
        let (node, peers) = (self.node_name.clone(), permit.peers.clone());
        let environment = Environment { token: permit.token, node, peers, start, variables };
        let gates = self.gates.take_waiting(name);
        let op = self.next_op(name, OpKind::Start);
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.held = Some(file.clone());
        unit.filed = true;
        (unit.settled, unit.missed, unit.cut_off) = (false, false, None);
        unit.probing.forget();
        let triggers = triggers(&unit.members());
        let timeout = unit.reading.as_ref().and_then(|reading| reading.timeout_start);
        self.actions.push(Action::Start {
            op,
            unit: name.clone(),
            permit: file,
            environment,
            triggers,
            timeout,
            gates,
        });
    }

    fn adopt(&mut self, name: &UnitName) {
        let Some(permit) = self.permit_of(name).cloned() else { return };
        let file = self.file_of(&permit);
        let Some(unit) = self.units.get_mut(name) else { return };
        let known = unit.held.as_ref().is_some_and(|held| held.token == permit.token);
        let hands_off = unit.held.as_ref().is_some_and(|held| held.hands_off);
        if permit.hands_off && unit.run.is_down() {
            // The cluster goes by what is there, and hears of no end of a copy that has a permit.
            unit.told = None;
        }
        // Terms that were taken over and are not in place are acknowledged when they are.
        let later = file.terms != permit.terms;
        unit.filing = later.then_some((file.token, file.terms.revision));
        unit.held = Some(file.clone());
        unit.filed = true;
        self.actions.push(Action::File { unit: name.clone(), permit: file });
        if permit.adopted && !known {
            let message =
                "the cluster took this running unit over; it has no CONVOKE_TOKEN until its next start";
            self.tell(name, Kind::Adopted, Priority::Info, message.to_owned());
        }
        if permit.hands_off != hands_off {
            let message = match permit.hands_off {
                true => "in maintenance: the cluster leaves it alone, whatever is done with it here",
                false => "its maintenance is over: the cluster decides on it again",
            };
            self.tell(name, Kind::Notice, Priority::Notice, message.to_owned());
        }
        self.grant_gates(name);
        // Granted and running: what is to be said follows at once.
        self.touch(name);
    }

    fn withdraw(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get_mut(name) else { return };
        if let Some(held) = unit.held.take() {
            unit.filed = false;
            self.actions.push(Action::Unfile { unit: name.clone() });
            self.actions.push(Action::Forget { unit: name.clone() });
            self.floors.raise(name, held.token, Cause::Ordered);
        }
    }

    fn report_started(&mut self, name: &UnitName, token: Token) {
        let Some(unit) = self.units.get_mut(name) else { return };
        if unit.started_told == Some(token) {
            return;
        }
        unit.started_told = Some(token);
        let (node, incarnation) = (self.node, self.incarnation.clone());
        self.outbox.push(Fact::Started { node, incarnation, unit: name.clone(), token });
    }

    fn report_released(&mut self, name: &UnitName, token: Token) {
        let because = self.floors.cause(name).cloned().unwrap_or(Cause::Unused);
        let Some(unit) = self.units.get_mut(name) else { return };
        if unit.released_told == Some(token) || self.outbox.releases(name, token) {
            return;
        }
        unit.released_told = Some(token);
        let (node, incarnation) = (self.node, self.incarnation.clone());
        self.outbox.push(Fact::Released { node, incarnation, unit: name.clone(), token, because });
    }

    /// Begins a release for a reason that is not in the reading, or finds the reason there.
    fn release(&mut self, name: &UnitName, token: Token, why: &Why, now: &Now) {
        let (because, tell) = match why {
            Why::Ordered => (self.first_cause(name, Cause::Ordered, now), true),
            Why::Unused => (Cause::Unused, true),
            Why::Shutdown => (Cause::Shutdown, true),
            Why::Maintained => (Cause::DownInMaintenance, true),
            Why::Again => (self.floors.cause(name).cloned().unwrap_or(Cause::Unused), true),
            Why::Dead => (Cause::Ordered, false),
            Why::WentDown => match self.went_down(name, now) {
                Some(because) => (because, true),
                None => return,
            },
        };
        if *why != Why::Again {
            self.tell_wish(name, &because, now);
        }
        let terms = self.terms(name);
        self.begin_release(name, Release::of(Some(token), terms, because, tell));
    }

    fn tell_wish(&mut self, name: &UnitName, because: &Cause, now: &Now) {
        if let Cause::Operator(_) = because {
            let message = if now.leased {
                "stopped by hand: the cluster leaves it stopped until it is started again (convoke start)"
            } else {
                "stopped by hand, but not yet known to the cluster: this node has no session with a leader"
            };
            self.tell(name, Kind::StopWish, Priority::Notice, message.to_owned());
        }
    }

    fn terms(&self, name: &UnitName) -> Option<Terms> {
        let held = self.units.get(name).and_then(|unit| unit.held.as_ref()).map(|held| held.terms.clone());
        held.or_else(|| self.permit_of(name).map(|permit| permit.terms.clone()))
    }

    fn release_due(&mut self, name: &UnitName, because: Cause, now: &Now) {
        let ended = because == Cause::LeaseEnded;
        let because = if ended { self.first_cause(name, because, now) } else { because };
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.due = None;
        let Some(held) = unit.held.as_ref() else { return };
        let (token, terms) = (held.token, held.terms.clone());
        // A shutdown has no more time than the end of a lease leaves it.
        let without_lease = ended || (!now.leased && at_lease_end(held) != AtLeaseEnd::Leave);
        if because == Cause::LeaseEnded {
            let message = "stopped: this node has no quorum (OnQuorumLoss=stop)".to_owned();
            self.tell(name, Kind::LeaseEnded, Priority::Warning, message);
        }
        self.tell_wish(name, &because, now);
        let release = Release::of(Some(token), Some(terms), because, true);
        self.begin_release(name, Release { without_lease, ..release });
    }

    /// A unit stops after every unit that is to stop before it (F25). A circle is cut anywhere.
    fn is_its_turn(&self, name: &UnitName) -> bool {
        let ordered: Vec<(&UnitName, bool)> = self
            .units
            .iter()
            .filter(|(other, unit)| *other != name && (unit.due.is_some() || unit.release.is_some()))
            .map(|(other, unit)| {
                let before = unit.held.as_ref().is_some_and(|held| held.stops_before.contains(name));
                (other, before)
            })
            .collect();
        if ordered.iter().all(|(_, before)| !before) {
            return true;
        }
        // Nothing under way, and nobody's turn: then it is everybody's.
        self.units.values().all(|unit| unit.release.is_none())
            && self.units.iter().filter(|(_, unit)| unit.due.is_some()).all(|(one, _)| {
                self.units.iter().any(|(other, unit)| {
                    other != one
                        && unit.due.is_some()
                        && unit.held.as_ref().is_some_and(|held| held.stops_before.contains(one))
                })
            })
    }

    /// The first step of a release, and the begin of the others (F1).
    fn begin_release(&mut self, name: &UnitName, release: Release) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.due = None;
        unit.filed = false;
        unit.release = Some(release);
        // Also where no file is known: one that is left over opens the gate.
        self.actions.push(Action::Unfile { unit: name.clone() });
        self.begin_stop(name);
    }

    fn begin_stop(&mut self, name: &UnitName) {
        let node = self.node;
        let Some(unit) = self.units.get(name) else { return };
        let Some(release) = &unit.release else { return };
        let own = unit.reading.as_ref().map(|reading| Duration::from_millis(offer::stop_budget_ms(reading)));
        let budget = match &release.terms {
            Some(terms) => Duration::from_millis(terms.stop_budget_ms),
            None => own.unwrap_or(STRAY_BUDGET),
        };
        let if_stuck = match (release.without_lease, &release.terms) {
            (true, _) => IfStuck::TakeDown,
            (_, Some(terms)) if terms.on_stop_failure == OnStopFailure::Fence => IfStuck::TakeDownLater,
            _ => IfStuck::Report,
        };
        let spool = match (&release.because, release.token) {
            (Cause::Operator(by), Some(token)) => {
                Some(Spooled { unit: name.clone(), node, token, by: by.clone() })
            }
            _ => None,
        };
        let stop = Stop {
            members: unit.members(),
            remembered: unit.remembered.clone(),
            gone: unit.asks_when_gone(),
            budget,
            if_stuck,
            down: unit.run.is_down(),
            frozen: unit.run == Run::Frozen,
            spool,
        };
        self.begin(name, OpKind::Stop, Work::Stop(Box::new(stop)));
    }
}

/// Members that start the unit, or are started with it: they have no one else who would (gate, row 18).
fn triggers(members: &BTreeSet<String>) -> Vec<String> {
    members.iter().filter(|member| is_trigger(member)).cloned().collect()
}

/// Whether a unit of this type starts others.
pub(super) fn is_trigger(name: &str) -> bool {
    [".socket", ".timer", ".path"].iter().any(|kind| name.ends_with(kind))
}
