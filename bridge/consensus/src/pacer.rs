//! Gives openraft a clock only while it has something to time.
//!
//! openraft looks at its timers five times per heartbeat, on every node. On an idle group that is most of what Raft
//! costs. Here a leader is told when a heartbeat is due, and a follower's timers run only while its leader is silent:
//! an election can begin no earlier than the longest election time after the last contact, so until then the timers
//! could do nothing. What openraft does when its timers run, or a heartbeat is due, is untouched.
//!
//! A quorum round is a heartbeat to every voter. While rounds follow each other closely enough, no other is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::serve::Acknowledged;
use crate::types::{Group, Raft};

/// When this node last began a quorum round that a majority answered.
#[derive(Clone)]
pub(crate) struct LastRound(Arc<Mark>);

struct Mark {
    noted: Notify,
    origin: Instant,
    /// Microseconds after `origin`, plus one; 0 means never.
    begun: AtomicU64,
}

impl LastRound {
    pub(crate) fn never() -> Self {
        Self(Arc::new(Mark { noted: Notify::new(), origin: Instant::now(), begun: AtomicU64::new(0) }))
    }

    /// A round that began at `begun` was answered.
    pub(crate) fn note(&self, begun: Instant) {
        let after = begun.saturating_duration_since(self.0.origin).as_micros();
        self.0.begun.fetch_max(u64::try_from(after).unwrap_or(u64::MAX - 1) + 1, Ordering::SeqCst);
        self.0.noted.notify_one();
    }

    fn age(&self) -> Option<Duration> {
        let begun = self.0.begun.load(Ordering::SeqCst).checked_sub(1)?;
        Some(self.0.origin.elapsed().saturating_sub(Duration::from_micros(begun)))
    }
}

/// What a node needs a clock for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// It leads other voters: heartbeats, unless quorum rounds do.
    Heartbeats,
    /// It leads nodes without a vote, which quorum rounds do not reach: heartbeats.
    Learners,
    /// It may have to call an election.
    Elections,
    /// It leads only itself, or has no vote.
    Nothing,
}

/// Paces `raft` until it stops.
pub(crate) async fn pace(raft: Raft, acknowledged: Acknowledged, rounds: LastRound, heartbeat: Duration) {
    // One heartbeat may be late. Settings make an election begin later than this.
    let silence = 2 * heartbeat;
    let mut server = raft.server_metrics();
    let mut ticks = None;
    loop {
        let need = need(&server.borrow_and_update());
        let mut due = false;
        let (ticking, pause) = match need {
            Need::Nothing => (false, None),
            Need::Heartbeats | Need::Learners => {
                let quiet = rounds.age().filter(|quiet| need == Need::Heartbeats && *quiet < heartbeat);
                due = quiet.is_none();
                (false, Some(heartbeat - quiet.unwrap_or_default()))
            }
            Need::Elections => match acknowledged.silence() {
                Some(quiet) if quiet < silence => (false, Some(silence - quiet)),
                _ => (true, Some(heartbeat)),
            },
        };
        // openraft's timers look at each change of it.
        if ticks.replace(ticking) != Some(ticking) {
            raft.runtime_config().tick(ticking);
        }
        if due && raft.trigger().heartbeat().await.is_err() {
            return;
        }
        let pause = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = server.changed() => if changed.is_err() { return },
            () = pause => {}
            // A pause that begins anew with each round or acknowledgement never wakes an idle process.
            () = rounds.0.noted.notified(), if need == Need::Heartbeats => {}
            () = acknowledged.sent(), if need == Need::Elections && !ticking => {}
        }
    }
}

fn need(metrics: &RaftServerMetrics<Group>) -> Need {
    let memberships = [&metrics.membership_config, &metrics.committed_membership_config];
    let others = || memberships.iter().any(|m| m.nodes().any(|(node, _)| *node != metrics.id));
    let voters = || metrics.membership_config.voter_ids().any(|node| node != metrics.id);
    let voter = || memberships.iter().any(|m| m.voter_ids().any(|node| node == metrics.id));
    if metrics.state.is_leader() {
        match (voters(), others()) {
            (true, _) => Need::Heartbeats,
            (false, true) => Need::Learners,
            (false, false) => Need::Nothing,
        }
    } else if voter() {
        Need::Elections
    } else {
        Need::Nothing
    }
}
