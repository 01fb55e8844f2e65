//! What PID 1 tells without being asked, in our own words.

use std::fmt;
use std::time::Duration;

/// What a job does to its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// Start, or the second half of a restart.
    Start,
    /// Check that the unit is active (`Requisite=`).
    VerifyActive,
    /// Stop.
    Stop,
    /// Reload only, in any of its forms.
    Reload,
    /// Stop, then start; also `try-restart` and `reload-or-start`.
    Restart,
    /// A job that only orders (`nop`).
    Nop,
}

impl JobKind {
    /// Reads the `JobType` property. An unknown word is `None`, as if the job had gone already.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "start" => JobKind::Start,
            "verify-active" => JobKind::VerifyActive,
            "stop" => JobKind::Stop,
            "reload" | "try-reload" | "reload-or-start" => JobKind::Reload,
            "restart" | "try-restart" => JobKind::Restart,
            "nop" => JobKind::Nop,
            _ => return None,
        })
    }
}

/// How a job ended, in systemd's words. `Done` does not prove what the unit is now: read it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "these are the words of systemd's JobRemoved signal")]
pub enum JobResult {
    Done,
    Canceled,
    Timeout,
    Failed,
    Dependency,
    Skipped,
    Invalid,
    Assert,
    Unsupported,
    Collected,
    Once,
    Frozen,
    Concurrency,
    /// A word this version does not know.
    Other(String),
}

/// The words of `JobResult` in one table, so that reading and writing cannot differ.
const RESULTS: [(&str, JobResult); 13] = [
    ("done", JobResult::Done),
    ("canceled", JobResult::Canceled),
    ("timeout", JobResult::Timeout),
    ("failed", JobResult::Failed),
    ("dependency", JobResult::Dependency),
    ("skipped", JobResult::Skipped),
    ("invalid", JobResult::Invalid),
    ("assert", JobResult::Assert),
    ("unsupported", JobResult::Unsupported),
    ("collected", JobResult::Collected),
    ("once", JobResult::Once),
    ("frozen", JobResult::Frozen),
    ("concurrency", JobResult::Concurrency),
];

impl JobResult {
    /// Reads systemd's word.
    pub fn parse(word: &str) -> Self {
        RESULTS
            .iter()
            .find(|(text, _)| *text == word)
            .map_or_else(|| JobResult::Other(word.to_owned()), |(_, result)| result.clone())
    }

    /// Whether only a job that was to *start* something ends so.
    pub fn only_of_starts(&self) -> bool {
        matches!(
            self,
            JobResult::Failed
                | JobResult::Dependency
                | JobResult::Skipped
                | JobResult::Assert
                | JobResult::Unsupported
                | JobResult::Once
                | JobResult::Concurrency
        )
    }
}

impl fmt::Display for JobResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let JobResult::Other(word) = self {
            return f.write_str(word);
        }
        let word = RESULTS.iter().find(|(_, result)| result == self).map_or("unknown", |(text, _)| text);
        f.write_str(word)
    }
}

/// The state of the whole manager (`SystemState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "these are systemd's own words")]
pub enum SystemState {
    Initializing,
    Starting,
    Running,
    Degraded,
    Maintenance,
    Stopping,
    /// A word this version does not know; it is neither boot nor shutdown.
    Other,
}

impl SystemState {
    /// Reads systemd's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "initializing" => SystemState::Initializing,
            "starting" => SystemState::Starting,
            "running" => SystemState::Running,
            "degraded" => SystemState::Degraded,
            "maintenance" => SystemState::Maintenance,
            "stopping" => SystemState::Stopping,
            _ => SystemState::Other,
        }
    }

    /// Whether the boot transaction still runs.
    pub fn is_booting(self) -> bool {
        matches!(self, SystemState::Initializing | SystemState::Starting)
    }
}

/// What the owner of a connection hears. The order is the order in which PID 1 said it.
///
/// `at` is CLOCK_MONOTONIC at arrival, the clock of systemd's own `…TimestampMonotonic` properties.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// A job was queued, for any unit of the system.
    JobNew {
        /// The job's number, never reused within one run of PID 1.
        id: u32,
        /// The unit's `Id`.
        unit: String,
        /// `None` when the job was over before it could be asked.
        kind: Option<JobKind>,
        /// Whether this connection asked for the job.
        ours: bool,
        /// When it was heard.
        at: Duration,
    },
    /// A job ended.
    JobRemoved {
        /// The job's number.
        id: u32,
        /// The unit's `Id`.
        unit: String,
        /// systemd's word on how it ended.
        result: JobResult,
        /// Whether this connection asked for the job.
        ours: bool,
        /// When it was heard.
        at: Duration,
    },
    /// A watched unit changed. The two states are there when the signal carried them.
    UnitChanged {
        /// The name under which it is watched.
        unit: String,
        /// `ActiveState`, as a hint only: decisions read the unit afresh.
        active_state: Option<String>,
        /// `SubState`, as a hint only.
        sub_state: Option<String>,
    },
    /// A daemon-reload began (`true`) or ended (`false`).
    Reloading(bool),
    /// The last signal of this connection. Jobs in flight have ended with an error; connect again.
    Disconnected,
}

/// Now, on the clock of systemd's monotonic timestamps.
pub(crate) fn monotonic_now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_reads_back_as_it_is_written() {
        for (word, result) in &RESULTS {
            assert_eq!(&JobResult::parse(word), result);
            assert_eq!(&result.to_string(), word);
        }
        assert_eq!(JobResult::parse("melted").to_string(), "melted");
    }
}
