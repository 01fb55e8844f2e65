//! A short memory of the jobs of all units, so that one job can be seen beside those that came with it.
//!
//! Pure: the daemon feeds it with signals. It knows no relations and draws no conclusions.

use std::collections::VecDeque;
use std::time::Duration;

use super::signal::{JobKind, JobResult, Signal};

/// Jobs remembered. A shutdown of a large host makes some thousands in one transaction.
const JOBS_KEPT: usize = 8192;
/// Jobs that were heard within this time of each other count as one batch. The jobs of one transaction are
/// told in one burst, but PID 1 may spread a burst over some of its rounds. Too long merges what two people
/// did at once, and then a stop is taken for a propagated one, which is the harmless mistake.
pub const BATCH_WINDOW: Duration = Duration::from_millis(250);

/// One job, as far as it was heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenJob {
    /// Its number.
    pub id: u32,
    /// Its unit.
    pub unit: String,
    /// What it does; `None` when it was over too soon, or its beginning was not heard.
    pub kind: Option<JobKind>,
    /// Whether we asked for it.
    pub ours: bool,
    /// When it was heard first.
    pub at: Duration,
    /// When and how it ended.
    pub ended: Option<(Duration, JobResult)>,
}

impl SeenJob {
    /// Whether the job may have taken its unit down. An unknown kind may, unless its result is one that only
    /// starts have.
    pub fn may_stop(&self) -> bool {
        match self.kind {
            Some(JobKind::Stop | JobKind::Restart) => true,
            Some(_) => false,
            None => !self.ended.as_ref().is_some_and(|(_, result)| result.only_of_starts()),
        }
    }

    /// Whether the job may have been to start its unit.
    pub fn may_start(&self) -> bool {
        matches!(self.kind, None | Some(JobKind::Start | JobKind::Restart))
    }
}

/// The ring of jobs.
#[derive(Debug, Clone, Default)]
pub struct JobLog {
    jobs: VecDeque<SeenJob>,
}

impl JobLog {
    /// Takes note of a signal; those that are not about jobs change nothing.
    ///
    /// `Disconnected` forgets everything: what happened in between is unknown, and job numbers may start anew.
    pub fn saw(&mut self, signal: &Signal) {
        match signal {
            Signal::JobNew { id, unit, kind, ours, at } => {
                self.push(SeenJob {
                    id: *id,
                    unit: unit.clone(),
                    kind: *kind,
                    ours: *ours,
                    at: *at,
                    ended: None,
                });
            }
            Signal::JobRemoved { id, unit, result, ours, at } => {
                let ended = Some((*at, result.clone()));
                match self.jobs.iter_mut().rev().find(|job| job.id == *id && job.ended.is_none()) {
                    Some(job) => {
                        job.ended = ended;
                        job.ours |= ours;
                    }
                    None => self.push(SeenJob {
                        id: *id,
                        unit: unit.clone(),
                        kind: None,
                        ours: *ours,
                        at: *at,
                        ended,
                    }),
                }
            }
            Signal::Disconnected => self.jobs.clear(),
            Signal::UnitChanged { .. } | Signal::Reloading(_) => {}
        }
    }

    fn push(&mut self, job: SeenJob) {
        if self.jobs.len() == JOBS_KEPT {
            self.jobs.pop_front();
        }
        self.jobs.push_back(job);
    }

    /// All remembered jobs, oldest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &SeenJob> {
        self.jobs.iter()
    }

    /// The jobs heard within [`BATCH_WINDOW`] of that moment, oldest first.
    pub fn batch(&self, at: Duration) -> Vec<SeenJob> {
        self.jobs.iter().filter(|job| job.at.abs_diff(at) <= BATCH_WINDOW).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(id: u32, unit: &str, ms: u64) -> Signal {
        Signal::JobNew {
            id,
            unit: unit.into(),
            kind: Some(JobKind::Stop),
            ours: false,
            at: Duration::from_millis(ms),
        }
    }

    fn removed(id: u32, unit: &str, ms: u64) -> Signal {
        let (result, at) = (JobResult::Done, Duration::from_millis(ms));
        Signal::JobRemoved { id, unit: unit.into(), result, ours: false, at }
    }

    #[test]
    fn a_batch_is_what_was_heard_together() {
        let mut log = JobLog::default();
        for signal in [new(1, "a.service", 0), new(2, "b.service", 1000), new(3, "c.service", 1100)] {
            log.saw(&signal);
        }
        let units: Vec<_> = log.batch(Duration::from_millis(1000)).into_iter().map(|job| job.unit).collect();
        assert_eq!(units, ["b.service", "c.service"]);
    }

    #[test]
    fn an_end_finds_its_beginning() {
        let mut log = JobLog::default();
        log.saw(&new(1, "a.service", 0));
        log.saw(&removed(1, "a.service", 50));
        log.saw(&removed(2, "b.service", 60));
        let ended: Vec<_> = log.jobs().map(|job| (job.id, job.kind, job.ended.is_some())).collect();
        assert_eq!(ended, [(1, Some(JobKind::Stop), true), (2, None, true)]);
    }

    #[test]
    fn the_ring_is_bounded_and_a_lost_connection_empties_it() {
        let mut log = JobLog::default();
        for id in 0..10_000 {
            log.saw(&new(id, "a.service", u64::from(id)));
        }
        assert_eq!(log.jobs().count(), JOBS_KEPT);
        log.saw(&Signal::Disconnected);
        assert_eq!(log.jobs().count(), 0);
    }
}
