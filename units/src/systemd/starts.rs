//! Decides whether a start that waits at the gate is a person's wish or only a question (rule F9).
//!
//! Pure, and as careful as [`stops`](super::stops): a start that may have another explanation than a person is
//! no wish, so that a boot, a timer or a dependency never undoes a stop by hand.

use super::joblog::{JobLog, SeenJob};
use super::reading::{Reading, Relations};
use super::signal::{JobKind, SystemState};

/// What is known about one start.
#[derive(Debug, Clone)]
pub struct StartBatch {
    /// The unit, by its `Id`.
    pub unit: String,
    /// Its start job, if it was heard.
    pub job: Option<SeenJob>,
    /// The jobs heard together with it.
    pub batch: Vec<SeenJob>,
    /// State of the manager, read while the gate waits.
    pub manager: SystemState,
    /// The units that could have pulled it in.
    pub relations: Relations,
    /// Those of its `UpheldBy=` units that are active.
    pub upheld_by_active: Vec<String>,
    /// What systemd says set the job off; `None` where it does not say (before 252).
    pub activation_details: Option<Vec<(String, String)>>,
    /// What may have set it off without systemd saying so: sockets that did, names on the bus, and where systemd gives no
    /// details all active `TriggeredBy=` units.
    pub active_triggers: Vec<String>,
    /// Whether systemd restarts it after a crash.
    pub auto_restart: bool,
}

impl StartBatch {
    /// Puts together what the log and a reading tell, taken while the gate waits. The two lists of other units
    /// (`upheld_by_active`, `active_triggers`) are left empty, to be filled by whoever reads those units.
    pub fn gather(reading: &Reading, log: &JobLog, manager: SystemState) -> Self {
        // What PID 1 holds now is the truth; the log knows when it came, and what came with it.
        let current = reading.job.as_ref();
        let job = log
            .jobs()
            .rev()
            .find(|job| {
                current.is_some_and(|current| current.id == job.id && current.kind != Some(JobKind::Stop))
            })
            .cloned();
        Self {
            unit: reading.id.clone(),
            batch: job.as_ref().map(|job| log.batch(job.at)).unwrap_or_default(),
            job,
            manager,
            relations: reading.relations.clone(),
            upheld_by_active: Vec::new(),
            activation_details: current.and_then(|job| job.activation_details.clone()),
            active_triggers: Vec::new(),
            auto_restart: reading.is_auto_restart(),
        }
    }
}

/// Why it is to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartCause {
    /// A person, as far as anybody can tell.
    Wish,
    /// Our own job.
    Own,
    /// The boot transaction.
    Boot,
    /// The machine goes down.
    Shutdown,
    /// A timer, path, socket or the like.
    Triggered {
        /// That unit.
        by: String,
    },
    /// Another unit wants or requires it.
    PulledIn {
        /// That unit.
        by: String,
    },
    /// systemd's own `Restart=`.
    AutoRestart,
    /// There is no start job any more: whoever wanted it has given up (rule F34).
    NoJob,
}

/// Gives the cause of a start.
pub fn classify(batch: &StartBatch) -> StartCause {
    let Some(job) = &batch.job else {
        return StartCause::NoJob;
    };
    if job.ours {
        return StartCause::Own;
    }
    if batch.manager.is_booting() {
        return StartCause::Boot;
    }
    if batch.manager == SystemState::Stopping {
        return StartCause::Shutdown;
    }
    if batch.auto_restart {
        return StartCause::AutoRestart;
    }
    if let Some(by) = batch.trigger() {
        return StartCause::Triggered { by };
    }
    match batch.puller() {
        Some(by) => StartCause::PulledIn { by },
        None => StartCause::Wish,
    }
}

/// Whether this start may change the unit's goal.
pub fn is_wish(batch: &StartBatch) -> bool {
    classify(batch) == StartCause::Wish
}

impl StartBatch {
    fn trigger(&self) -> Option<String> {
        let details = self.activation_details.as_deref().unwrap_or_default();
        let named = details.iter().find(|(key, _)| key == "trigger_unit").map(|(_, unit)| unit.clone());
        named
            .or_else(|| details.first().map(|(key, _)| key.clone()))
            .or_else(|| self.active_triggers.first().cloned())
    }

    fn puller(&self) -> Option<String> {
        let relations = &self.relations;
        let pulling =
            [&relations.wanted_by, &relations.required_by, &relations.bound_by, &relations.requisite_of];
        // These react to the end of another unit, not to its start: any job of theirs counts.
        let reacting = [&relations.on_failure_of, &relations.on_success_of];
        let named = |lists: &[&Vec<String>], unit: &String| lists.iter().any(|list| list.contains(unit));
        self.batch
            .iter()
            .filter(|job| job.unit != self.unit)
            .find(|job| (job.may_start() && named(&pulling, &job.unit)) || named(&reacting, &job.unit))
            .map(|job| job.unit.clone())
            .or_else(|| self.upheld_by_active.first().cloned())
    }
}
