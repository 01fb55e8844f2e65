//! What a node of the group must be told, and how it becomes openraft's configuration.

use std::time::Duration;

use openraft::SnapshotPolicy;

/// Identity and times of one node of the group.
///
/// There is no `Default`: every time here bears on who may lead, so whoever knows the cluster's detection time derives
/// them. A follower calls an election after `election_max_ms` without its leader plus a random time between
/// `election_min_ms` and `election_max_ms`, so a dead leader is replaced after `max + min` to `2 × max`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's id. Never given to another node, and never again to this one once its store is lost.
    pub node: u64,
    /// Id of the cluster; a store of another cluster is refused.
    pub cluster: String,
    /// Longest time between two heartbeats of a leader, in milliseconds. Quorum rounds that follow each other more
    /// closely take their place.
    pub heartbeat_ms: u64,
    /// Shortest random part of an election timer, in milliseconds; longer than the heartbeat.
    pub election_min_ms: u64,
    /// Longest random part of an election timer and the time for which voters stay with a leader that they heard, in
    /// milliseconds.
    pub election_max_ms: u64,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// Entries kept behind a snapshot, for followers that are only a little behind.
    pub keep_logs: u64,
    /// Tells this run of the node from all others (F21): drawn anew each time a store is opened.
    pub mark: u64,
}

/// Why [`Settings`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The times contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

/// A snapshot is sent whole: over a slow link, with the receiver's write and restore, that may take long.
const SNAPSHOT_TIMEOUT_MS: u64 = 30_000;

impl Settings {
    /// How long one request to a peer may take. openraft would allow one heartbeat; a follower that syncs its disk for
    /// 150 ms is slow, not gone, and dropping its connection makes it slower.
    pub(crate) fn request_limit(&self) -> Duration {
        Duration::from_millis(self.election_min_ms.max(self.heartbeat_ms))
    }

    /// Whether the times fit together.
    ///
    /// # Errors
    /// Says which do not.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.config().map(drop)
    }

    pub(crate) fn config(&self) -> Result<openraft::Config, SettingsError> {
        // Two heartbeats, and half of one for what they take: one that comes late or not at all starts no election.
        let soonest = self.election_min_ms + self.election_max_ms;
        if self.heartbeat_ms == 0 || 2 * soonest < 5 * self.heartbeat_ms {
            return Err(SettingsError::Contradiction(format!(
                "an election may begin {soonest} ms after a heartbeat; that must be at least 2.5 heartbeats of {} ms",
                self.heartbeat_ms
            )));
        }
        let config = openraft::Config {
            cluster_name: self.cluster.clone(),
            heartbeat_interval: self.heartbeat_ms,
            heartbeat_min_interval: Some(0),
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.keep_logs,
            // A snapshot would not cure a follower that lags by less than the distance between two snapshots.
            replication_lag_threshold: self.snapshot_every + self.keep_logs,
            enable_pre_vote: Some(true),
            // A restarted leader asks for votes like everyone else: its state machine starts from a snapshot.
            enable_leader_restore: Some(false),
            // Without it the heartbeats of a leader that lost its quorum keep the others from electing one.
            quorum_loss_probe_interval: Some(2 * self.election_max_ms),
            // A peer that comes back is reached within half a second.
            backoff: "50ms 100ms 200ms ..500ms".to_owned(),
            api_channel_size: Some(4096),
            notification_channel_size: Some(4096),
            ..openraft::Config::default()
        };
        config.validate().map_err(|e| SettingsError::Contradiction(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(heartbeat_ms: u64, election_min_ms: u64, election_max_ms: u64) -> Settings {
        Settings {
            node: 1,
            cluster: "test".into(),
            heartbeat_ms,
            election_min_ms,
            election_max_ms,
            snapshot_every: 5000,
            mark: 0,
            keep_logs: 1000,
        }
    }

    #[test]
    fn the_times_the_daemon_uses_are_accepted_and_contradictions_are_not() {
        assert!(settings(100, 200, 400).config().is_ok());
        assert!(settings(250, 1000, 2000).config().is_ok());
        assert!(settings(280, 300, 440).config().is_ok());
        assert!(settings(100, 110, 130).config().is_err(), "a heartbeat may come late once");
        assert!(settings(100, 90, 400).config().is_err(), "the random part is no heartbeat long");
        assert!(settings(0, 200, 400).config().is_err(), "no heartbeat at all");
        assert!(settings(100, 400, 300).config().is_err(), "shortest beyond longest");
    }
}
