//! Times that follow from `detect`: the leader's own, and Raft's. `docs/design/0004-times.md` has the sums.
//!
//! Shares of `detect`, so that what fits together at 2 s fits at every other value.

use std::time::Duration;

use policy::Settings;
use tracing::warn;

use super::core::Core;

/// Raft's times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elections {
    /// A quorum round follows each beat, 18 % of `detect` after the last and a gathering of beats later; only
    /// where one does not come is a heartbeat sent.
    pub(super) heartbeat_ms: u64,
    /// Random part of an election's timer, from here …
    pub(super) min_ms: u64,
    /// … to here; and how long a voter stays with a leader that it has heard.
    pub(super) max_ms: u64,
}

/// Raft's times for a cluster's `detect`.
///
/// An election begins `max + min` to `2 × max` after the last heartbeat, 48 to 52 % of `detect`. Above the default they
/// stay as they are: to elect later would help nobody, and a node that has not heard of the cluster's `detect` yet does
/// not call elections earlier than the others expect.
pub(super) fn elections(settings: &Settings) -> Elections {
    let detect = settings.detect_ms.min(Settings::default().detect_ms);
    let (min_ms, max_ms) = ((detect * 22).div_ceil(100), (detect * 26).div_ceil(100));
    Elections { heartbeat_ms: detect * 19 / 100, min_ms, max_ms }
}

/// How long the first beat of a tick waits for the others. On a lossless network they come within two milliseconds.
pub(super) fn gather(settings: &Settings) -> Duration {
    Duration::from_millis(settings.beat_ms() / 24)
}

/// Longest time between two looks at the leases, and at what waits for a moment, while leading. Longer than a beat and
/// what it gathers, so that no timer runs out on a leader that is fed; no longer where beats are rare.
pub(super) fn tick(settings: &Settings) -> Duration {
    let beat_ms = settings.beat_ms().min(Settings::default().beat_ms());
    Duration::from_millis(beat_ms * 6 / 5)
}

impl Core {
    /// Says once that this voter's Raft was opened at times that are too long for the `detect` of now: it is not
    /// unsafe, but the leases of the nodes may end in an election.
    pub(super) fn check_times(&mut self) {
        let Some(opened) = self.replica.opened else { return };
        let wanted = elections(&self.replica.state.settings);
        if opened.max_ms > wanted.max_ms {
            self.replica.opened = None;
            let detect_ms = self.replica.state.settings.detect_ms;
            warn!(
                detect_ms,
                "elections are too slow for this `detect` until convoked is restarted on this node"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a node may take to open a session with a new leader.
    const OPENING_MS: u64 = 100;

    #[test]
    fn a_lease_outlasts_an_election_at_every_detect() {
        for detect_ms in (500..60_000).step_by(7) {
            let settings = Settings { detect_ms, ..Settings::default() };
            let raft = elections(&settings);
            let group = consensus::Settings {
                node: 1,
                cluster: String::new(),
                heartbeat_ms: raft.heartbeat_ms,
                election_min_ms: raft.min_ms,
                election_max_ms: raft.max_ms,
                snapshot_every: 1,
                keep_logs: 1,
                mark: 0,
            };
            group.check().expect("times that Raft takes");
            // The dead leader may have sent a heartbeat, one beat after the last that it answered.
            let beat = settings.beat_ms() + gather(&settings).as_millis() as u64;
            // Raft looks at its timers five times per heartbeat.
            let election = 2 * raft.max_ms + raft.heartbeat_ms / 4;
            let opening = OPENING_MS.min(detect_ms / 20);
            assert!(beat + election + opening < settings.lease_ms(), "{detect_ms}");
            if detect_ms <= Settings::default().detect_ms {
                assert!(tick(&settings).as_millis() as u64 > beat, "{detect_ms}");
                assert!(raft.heartbeat_ms > beat, "{detect_ms}: two heartbeats where one would do");
            }
        }
    }
}
