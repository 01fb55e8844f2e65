//! Gives openraft a clock only while it has something to time.
//!
//! openraft looks at its timers five times per heartbeat, on every node. On an idle group that is most of what Raft
//! costs. Here a leader is told when a heartbeat is due, and a follower's timers run only while its leader is silent:
//! an election can begin no earlier than the longest election time after the last contact, so until then the timers
//! could do nothing. What openraft does when its timers run, or a heartbeat is due, is untouched.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use tokio::time::sleep;

use crate::serve::Acknowledged;
use crate::types::{Group, Raft};

/// What a node needs a clock for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// It leads others: heartbeats.
    Heartbeats,
    /// It may have to call an election.
    Elections,
    /// It leads only itself, or has no vote.
    Nothing,
}

/// Paces `raft` until it stops.
pub(crate) async fn pace(raft: Raft, acknowledged: Acknowledged, heartbeat: Duration) {
    // One heartbeat may be late. Settings make the shortest election time at least as long as this.
    let silence = 2 * heartbeat;
    let mut server = raft.server_metrics();
    loop {
        let need = need(&server.borrow_and_update());
        let (ticking, pause) = match need {
            Need::Nothing => (false, None),
            Need::Heartbeats => (false, Some(heartbeat)),
            Need::Elections => match acknowledged.silence() {
                Some(quiet) if quiet < silence => (false, Some(silence - quiet)),
                _ => (true, Some(heartbeat)),
            },
        };
        raft.runtime_config().tick(ticking);
        if need == Need::Heartbeats && raft.trigger().heartbeat().await.is_err() {
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
        }
    }
}

fn need(metrics: &RaftServerMetrics<Group>) -> Need {
    let memberships = [&metrics.membership_config, &metrics.committed_membership_config];
    let others = || memberships.iter().any(|m| m.nodes().any(|(node, _)| *node != metrics.id));
    let voter = || memberships.iter().any(|m| m.voter_ids().any(|node| node == metrics.id));
    if metrics.state.is_leader() {
        if others() { Need::Heartbeats } else { Need::Nothing }
    } else if voter() {
        Need::Elections
    } else {
        Need::Nothing
    }
}
