//! Decides who took a unit down: a person, the system, another unit, or the unit itself (rule F10).
//!
//! Pure: jobs, the manager's state and a reading in, one cause out. Only [`StopCause::OperatorStop`] is a wish;
//! whenever the facts allow another explanation, that other one is given, because a stop that is wrongly taken
//! for a wish keeps the unit down everywhere, and one that is wrongly not taken for it can be repeated.

use std::time::Duration;

use super::joblog::{BATCH_WINDOW, JobLog, SeenJob};
use super::reading::{ActiveState, CurrentJob, Reading, Relations};
use super::signal::{JobKind, JobResult, SystemState};

/// How much later than PID 1's own time a signal may be heard.
const HEARD_LATE: Duration = BATCH_WINDOW;
/// A unit that was started less than this before a job of unknown kind was heard may have been started *by* it.
const STARTED_BEFORE: Duration = Duration::from_millis(100);

/// The jobs of one transaction are mostly told within this. systemd's own restart of what has failed comes later (`RestartSec=`,
/// 100 ms unless set); one that comes sooner is taken for a stop, which is the harmless mistake.
const TRANSACTION: Duration = Duration::from_millis(50);

/// What is known of the units that a unit is bound to (`BindsTo=`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bonds {
    /// Those that are not active.
    pub down: Vec<String>,
    /// When each of them was active last, on CLOCK_MONOTONIC. One that never was is left out.
    pub left: Vec<(String, Duration)>,
}

impl Bonds {
    /// Those whose end had what is bound to them stopped from then on: PID 1 does that in the same moment.
    fn ended(&self, began: Duration) -> Vec<String> {
        let just_before = |at: Duration| at <= began && began.saturating_sub(at) <= BATCH_WINDOW;
        self.left.iter().filter(|(_, at)| just_before(*at)).map(|(unit, _)| unit.clone()).collect()
    }
}

/// What is known about one stop.
#[derive(Debug, Clone)]
pub struct StopBatch {
    /// The unit, by its `Id`.
    pub unit: String,
    /// The job that may have stopped it, if there was one.
    pub job: Option<SeenJob>,
    /// The job that it has now, after it went down: the second half of a restart, or a new start.
    pub next: Option<CurrentJob>,
    /// The jobs heard together with the one that may have stopped it; without one, together with the stop.
    pub batch: Vec<SeenJob>,
    /// State of the manager, read after the stop.
    pub manager: SystemState,
    /// What other units may have taken it with them.
    pub relations: Relations,
    /// Those of its `BindsTo=` units that are not active.
    pub bonds_down: Vec<String>,
    /// Those that had just left "active" when the stop of this one began.
    pub bonds_ended: Vec<String>,
    /// `StopWhenUnneeded=`.
    pub stop_when_unneeded: bool,
    /// Whether systemd is about to restart it by itself.
    pub auto_restart: bool,
    /// `ActiveState` after the stop.
    pub active_state: ActiveState,
    /// `Result` of the run that ended.
    pub result: String,
    /// Exit status or signal of the main process, for people.
    pub exec_main_status: i32,
}

impl StopBatch {
    /// Puts together what the log and a fresh reading tell. To be called on the `UnitChanged` that shows the stop,
    /// after the log saw all signals before it: what PID 1 said of the job was said before.
    ///
    /// `noticed` is now, on CLOCK_MONOTONIC: PID 1 forgets the times of a stopped unit that nobody references (no
    /// references can be held on its own socket).
    pub fn gather(
        reading: &Reading,
        log: &JobLog,
        manager: SystemState,
        bonds: Bonds,
        noticed: Duration,
    ) -> Self {
        let times = reading.times;
        let left = times.active_exit.or(times.inactive_exit).unwrap_or(noticed.saturating_sub(HEARD_LATE));
        let next = reading.job.clone();
        let job = log
            .jobs()
            .rev()
            .find(|job| {
                let over = next.as_ref().is_none_or(|next| next.id != job.id);
                job.unit == reading.id && over && took_part(job, reading, left)
            })
            .cloned();
        let this_run = |exit: &Duration| times.inactive_exit.is_none_or(|start| *exit >= start);
        let began = times.active_exit.filter(this_run).or(job.as_ref().map(|job| job.at)).unwrap_or(left);
        Self {
            unit: reading.id.clone(),
            batch: log.batch(job.as_ref().map_or(left, |job| job.at)),
            job,
            next,
            manager,
            relations: reading.relations.clone(),
            bonds_ended: bonds.ended(began),
            bonds_down: bonds.down,
            stop_when_unneeded: reading.stop_when_unneeded,
            auto_restart: reading.is_auto_restart(),
            active_state: reading.active_state,
            result: reading.result.clone(),
            exec_main_status: reading.exec_main_status,
        }
    }
}

/// Who had PID 1 throw a start away that ended as `canceled`, in words of a stop. `noticed` is when that was seen.
///
/// The stop job that came in its place may be over too soon to be asked for its kind, and a unit that never ran has no
/// times to compare it with: so the end of the start is itself the evidence.
pub fn cancelled(
    reading: &Reading,
    log: &JobLog,
    manager: SystemState,
    bonds: Bonds,
    noticed: Duration,
) -> StopCause {
    let ends = log.jobs().rev().filter(|job| job.unit == reading.id && job.may_start());
    let at = ends.filter_map(|job| job.ended.as_ref()).find(|(_, result)| *result == JobResult::Canceled);
    let at = at.map_or(noticed, |(at, _)| *at);
    let unit = reading.id.clone();
    let stop = SeenJob { id: 0, unit, kind: Some(JobKind::Stop), ours: false, at, ended: None };
    classify(&StopBatch {
        batch: log.batch(at),
        job: Some(stop),
        bonds_ended: bonds.ended(at),
        auto_restart: false,
        ..StopBatch::gather(reading, log, manager, bonds, noticed)
    })
}

/// Who is stopping a unit, or has just stopped it, before we do: `None` if nobody is known to.
///
/// Only the unit's latest job is looked at: what stopped an earlier run says nothing of this one.
pub fn before_us(
    reading: &Reading,
    log: &JobLog,
    manager: SystemState,
    bonds: Bonds,
    noticed: Duration,
) -> Option<StopCause> {
    let batch = StopBatch::gather(reading, log, manager, bonds, noticed);
    let job = log.jobs().rev().find(|job| job.unit == reading.id).filter(|job| !job.ours)?;
    let stops = match (job.kind, &job.ended) {
        (Some(JobKind::Stop), ended) => ended.as_ref().is_none_or(|(_, result)| *result == JobResult::Done),
        // Too quick to be asked: by its times it took the unit down.
        (None, _) => reading.active_state.is_down() && batch.job.as_ref() == Some(job),
        (Some(_), _) => false,
    };
    stops.then(|| {
        let (job, jobs) = (Some(job.clone()), log.batch(job.at));
        classify(&StopBatch { job, batch: jobs, next: None, auto_restart: false, ..batch })
    })
}

/// Whether this job of the unit, by its times, took part in the stop. `left` is when the unit left "active".
///
/// PID 1 tells of a job at once, but a job that is over within a millisecond cannot be asked for its kind any more
/// (seen: 11 of 15 jobs of a quick service). Such a job may have been a start that changed nothing, or the start
/// before a crash; only one that brackets the stop, of a unit that had been up for a while, is taken for a stop.
fn took_part(job: &SeenJob, reading: &Reading, left: Duration) -> bool {
    let end = job.ended.as_ref().map_or(Duration::MAX, |(at, _)| *at);
    if !job.may_stop() || end < left {
        return false;
    }
    if job.kind.is_some() || job.ours {
        return true;
    }
    let down = reading.times.inactive_enter.unwrap_or(left).max(left);
    let started = reading.times.inactive_exit.unwrap_or_default();
    end >= down && job.at <= down + HEARD_LATE && started + STARTED_BEFORE <= job.at
}

/// Who took it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// A person, or a program in a person's name: a wish.
    OperatorStop,
    /// Another unit took it with it: a local hold, shown in `why`.
    Propagated {
        /// That unit.
        by: String,
    },
    /// What it is bound to (`BindsTo=`) ended without being stopped, and took it along: nobody's wish, and no reason to stay
    /// down once that is back.
    BondEnded {
        /// That unit.
        by: String,
    },
    /// Another unit was started that must not run beside it (`Conflicts=` of either).
    Opposed {
        /// That unit.
        by: String,
    },
    /// The machine goes down.
    Shutdown,
    /// `systemctl isolate`, `rescue`, `emergency`.
    Isolate {
        /// The target that was isolated.
        target: String,
    },
    /// Our own job.
    Own,
    /// The first half of a restart: it comes back.
    RestartHalf,
    /// `StopWhenUnneeded=`: nobody needs it any more.
    Unneeded,
    /// It ended by itself and without an error, or by a signal that systemd calls clean.
    CleanExit,
    /// It failed.
    Failed {
        /// systemd's word: `signal`, `exit-code`, `oom-kill`, `timeout`…
        result: String,
    },
}

impl StopCause {
    /// Whether the stop is a wish of a person (promise S6).
    pub fn is_wish(&self) -> bool {
        *self == StopCause::OperatorStop
    }
}

/// Units whose start job means that the machine goes down.
const SHUTDOWN_UNITS: [&str; 9] = [
    "shutdown.target",
    "umount.target",
    "final.target",
    "reboot.target",
    "poweroff.target",
    "halt.target",
    "kexec.target",
    "soft-reboot.target",
    "exit.target",
];

/// Gives the cause of a stop. The order of the questions is the order of certainty.
pub fn classify(batch: &StopBatch) -> StopCause {
    let job = batch.job.as_ref();
    if job.is_some_and(|job| job.ours) {
        return StopCause::Own;
    }
    if batch.manager == SystemState::Stopping || batch.others().any(is_shutdown) {
        return StopCause::Shutdown;
    }
    if batch.auto_restart {
        return batch.end_of_run();
    }
    // systemd turns a restart job into a start job, under the same number, as soon as the unit is down.
    if batch.next.as_ref().is_some_and(|next| next.kind != Some(JobKind::Stop)) {
        return StopCause::RestartHalf;
    }
    let Some(job) = job else {
        // Whoever takes a unit along gives it a stop job. Without one a failure is the unit's own, whatever else is
        // heard: the start of a template's slice is too quick to be told from a stop of it.
        return match batch.end_of_run() {
            StopCause::CleanExit => batch.taken_along().unwrap_or(StopCause::CleanExit),
            failed => failed,
        };
    };
    // A restart that is over had started the unit again: it ended by itself since then.
    if job.kind == Some(JobKind::Restart) {
        return batch.end_of_run();
    }
    if let Some(cause) = batch.taken_along() {
        return cause;
    }
    if let Some(target) = batch.others().find(|other| batch.is_isolation(other)) {
        return StopCause::Isolate { target: target.unit.clone() };
    }
    if batch.stop_when_unneeded {
        return StopCause::Unneeded;
    }
    StopCause::OperatorStop
}

impl StopBatch {
    fn others(&self) -> impl Iterator<Item = &SeenJob> {
        self.batch.iter().filter(|job| job.unit != self.unit)
    }

    /// The unit, if any, whose job or end explains this stop.
    fn taken_along(&self) -> Option<StopCause> {
        let relations = &self.relations;
        let stops_with = [
            &relations.requires,
            &relations.requisite,
            &relations.binds_to,
            &relations.part_of,
            &relations.stop_propagated_from,
        ];
        let stops_against = [&relations.conflicts, &relations.conflicted_by];
        let named = |lists: &[&Vec<String>], unit: &String| lists.iter().any(|list| list.contains(unit));
        let cause = |other: &SeenJob| {
            let by = other.unit.clone();
            if other.may_stop() && named(&stops_with, &by) && !self.over_before(other) {
                let ended = self.bonds_ended.contains(&by) && self.came_later(other);
                return Some(if ended { StopCause::BondEnded { by } } else { StopCause::Propagated { by } });
            }
            (other.may_start() && named(&stops_against, &by)).then_some(StopCause::Opposed { by })
        };
        // Without a job of its own nobody was there to hear who stopped what.
        let ended = self.bonds_ended.first().filter(|_| self.job.is_some());
        let bond = || match ended {
            Some(by) => Some(StopCause::BondEnded { by: by.clone() }),
            None => Some(StopCause::Propagated { by: self.bonds_down.first()?.clone() }),
        };
        self.others().find_map(cause).or_else(bond)
    }

    /// Whether a job is no part of what stopped the unit, but systemd's own next step after that.
    fn came_later(&self, other: &SeenJob) -> bool {
        let later = |own: &SeenJob| other.at > own.at.saturating_add(TRANSACTION);
        other.kind != Some(JobKind::Stop) && self.job.as_ref().is_some_and(later)
    }

    /// An isolated unit is the one that is *started* among many stops; practically always a target. A person who starts a
    /// target in the very moment of another's stop is taken for it too, which is the harmless mistake; a target that a start
    /// of the unit brought along is not (PID 1 numbers the job that was asked for first), nor is one that we start.
    fn is_isolation(&self, other: &SeenJob) -> bool {
        let brought = |own: &SeenJob| {
            own.unit == self.unit
                && own.kind == Some(JobKind::Start)
                && own.id < other.id
                && own.at.abs_diff(other.at) <= TRANSACTION
        };
        other.may_start()
            && !other.ours
            && other.unit.ends_with(".target")
            && !self.over_before(other)
            && !self.batch.iter().any(brought)
    }

    /// What a unit is ordered after stops after it and starts once it has stopped, so a job of it that was over before the
    /// unit's own job began was none that took the unit along. The first instance of a template starts its slice, too quick
    /// to be asked for its kind, and may be stopped by hand within the same batch.
    fn over_before(&self, other: &SeenJob) -> bool {
        let began = self.job.as_ref().map(|job| job.at);
        let ended = other.ended.as_ref().map(|(at, _)| *at);
        let over = began.zip(ended).is_some_and(|(began, ended)| ended < began);
        over && self.relations.after.contains(&other.unit)
    }

    /// No job took it down: it ended by itself.
    fn end_of_run(&self) -> StopCause {
        match self.result.as_str() {
            "" | "success" if self.active_state != ActiveState::Failed => StopCause::CleanExit,
            "" => StopCause::Failed { result: "unknown".to_owned() },
            result => StopCause::Failed { result: result.to_owned() },
        }
    }
}

fn is_shutdown(job: &SeenJob) -> bool {
    job.may_start() && SHUTDOWN_UNITS.contains(&job.unit.as_str())
}
