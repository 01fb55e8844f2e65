//! Who leads, as a hint; and the end of this node's part in the group, as a fact.

use openraft::async_runtime::WatchReceiver;
use openraft::error::Fatal;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::watch;

use crate::membership;
use crate::types::{Group, Raft};

/// Who leads the group, as far as this node knows.
///
/// A hint and never authority: a leader that is cut off goes on believing that it leads. What decides something needs a
/// [`barrier`](crate::Consensus::barrier) or a committed entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term of the vote that this node last accepted. A leadership is named by term *and* leader: two leaders may
    /// have had the same term, one after the other. For one node, each of its leaderships has a term of its own.
    pub term: u64,
    /// The leader of that term; none while an election is open.
    pub leader: Option<u64>,
    /// Whether this node leads in that term.
    pub mine: bool,
}

/// Follows the server state of `raft` until it stops, then says why.
///
/// Only changes of leader, vote or membership wake it: the metrics that change with every heartbeat are not watched.
pub(crate) async fn follow(
    raft: Raft,
    leadership: watch::Sender<Leadership>,
    ended: watch::Sender<Option<String>>,
) {
    let mut changes = raft.server_metrics();
    loop {
        let now = current(&changes.borrow_and_update());
        let changed = leadership.send_if_modified(|shown| {
            let changed = *shown != now;
            *shown = now;
            changed
        });
        if changed && now.mine {
            tokio::spawn(membership::finish_joint(raft.clone(), now.term));
        }
        if changes.changed().await.is_err() {
            break;
        }
    }
    leadership.send_modify(|shown| {
        shown.leader = None;
        shown.mine = false;
    });
    let state = raft.metrics().borrow_watched().running_state.clone();
    ended.send_if_modified(|reason| {
        let first = reason.is_none();
        reason.get_or_insert_with(|| match state {
            Err(Fatal::StorageError(error)) => error.to_string(),
            Err(Fatal::Panicked) => "the Raft core panicked".to_owned(),
            Err(Fatal::Stopped) | Ok(()) => "the Raft core has stopped".to_owned(),
        });
        first
    });
}

fn current(metrics: &RaftServerMetrics<Group>) -> Leadership {
    let mine = metrics.state.is_leader() && metrics.current_leader == Some(metrics.id);
    Leadership { term: metrics.vote.leader_id.term, leader: metrics.current_leader, mine }
}
