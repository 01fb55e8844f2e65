//! Decides who took a unit down: a person, the system, another unit, or the unit itself (rule F10).
//!
//! Pure: jobs, the manager's state and a reading in, one cause out. Only [`StopCause::OperatorStop`] is a wish;
//! whenever the facts allow another explanation, that other one is given, because a stop that is wrongly taken
//! for a wish keeps the unit down everywhere, and one that is wrongly not taken for it can be repeated.

use std::time::Duration;

use super::joblog::{JobLog, SeenJob};
use super::reading::{ActiveState, Reading, Relations};
use super::signal::{JobKind, SystemState};

/// What is known about one stop.
#[derive(Debug, Clone)]
pub struct StopBatch {
    /// The unit, by its `Id`.
    pub unit: String,
    /// The job that may have stopped it, if there was one.
    pub job: Option<SeenJob>,
    /// The jobs heard together with that one; without one, together with the stop.
    pub batch: Vec<SeenJob>,
    /// State of the manager, read after the stop.
    pub manager: SystemState,
    /// What other units may have taken it with them.
    pub relations: Relations,
    /// Those of its `BindsTo=` units that are not active.
    pub bonds_down: Vec<String>,
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
    /// Puts together what the log and a fresh reading tell about a stop that was noticed at `at`.
    ///
    /// `since` is when the unit was last known to be active: older jobs are not about this stop.
    pub fn gather(
        reading: &Reading,
        log: &JobLog,
        manager: SystemState,
        bonds_down: Vec<String>,
        since: Duration,
        at: Duration,
    ) -> Self {
        // A stop that is not over yet, or a restart on its way back up, is still in the log.
        let job = log
            .latest(&reading.id, since, SeenJob::may_stop)
            .or_else(|| {
                log.latest(&reading.id, since, |job| job.kind == Some(JobKind::Start) && job.ended.is_none())
            })
            .cloned();
        Self {
            unit: reading.id.clone(),
            batch: log.batch(job.as_ref().map_or(at, |job| job.at)),
            job,
            manager,
            relations: reading.relations.clone(),
            bonds_down,
            stop_when_unneeded: reading.stop_when_unneeded,
            auto_restart: reading.is_auto_restart(),
            active_state: reading.active_state,
            result: reading.result.clone(),
            exec_main_status: reading.exec_main_status,
        }
    }
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
    let Some(job) = job else {
        return batch.end_of_run();
    };
    if batch.auto_restart {
        return batch.end_of_run();
    }
    // systemd turns a restart job into a start job, under the same number, as soon as the unit is down.
    if matches!(job.kind, Some(JobKind::Restart | JobKind::Start)) {
        return StopCause::RestartHalf;
    }
    if let Some(by) = batch.taken_along() {
        return StopCause::Propagated { by };
    }
    if let Some(target) = batch.others().find(|other| is_isolation(other)) {
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
    fn taken_along(&self) -> Option<String> {
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
        self.others()
            .find(|other| {
                (other.may_stop() && named(&stops_with, &other.unit))
                    || (other.may_start() && named(&stops_against, &other.unit))
            })
            .map(|other| other.unit.clone())
            .or_else(|| self.bonds_down.first().cloned())
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

/// An isolated unit is the one that is *started* among many stops; practically always a target. A person who
/// starts a target in the very moment of another's stop is taken for it too, which is the harmless mistake.
fn is_isolation(job: &SeenJob) -> bool {
    job.may_start() && job.unit.ends_with(".target")
}
