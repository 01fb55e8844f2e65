//! The server side: requests of one peer, answered in order until its connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use openraft::raft::AppendEntriesResponse;

use crate::peers::Peers;
use crate::types::{Raft, Snapshot};
use crate::wire::{self, BoxStream, Frames, Numbered, Reply, Request};

/// How long a peer may leave a reply unread.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// When this voter last acknowledged an append or a heartbeat to a leader.
///
/// It never claims an older acknowledgement than the last: one that is being sent counts as sent now.
#[derive(Clone)]
pub(crate) struct Acknowledged(Arc<Marks>);

struct Marks {
    sent: Notify,
    origin: Instant,
    /// Microseconds after `origin`, plus one; 0 means never.
    last: AtomicU64,
    sending: AtomicU64,
}

impl Acknowledged {
    pub(crate) fn never() -> Self {
        let (last, sending) = (AtomicU64::new(0), AtomicU64::new(0));
        let marks = Marks { sent: Notify::new(), origin: Instant::now(), last, sending };
        Self(Arc::new(marks))
    }

    pub(crate) fn age(&self) -> Option<Duration> {
        let marks = &*self.0;
        // `last` is written before `sending` falls, and read after it.
        if marks.sending.load(Ordering::SeqCst) > 0 {
            return Some(Duration::ZERO);
        }
        self.silence()
    }

    /// Time since the last acknowledgement that was sent whole; one that is being sent does not count.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let marks = &*self.0;
        let last = marks.last.load(Ordering::SeqCst).checked_sub(1)?;
        Some(marks.origin.elapsed().saturating_sub(Duration::from_micros(last)))
    }

    /// Waits for the next acknowledgement; for one task.
    pub(crate) async fn sent(&self) {
        self.0.sent.notified().await;
    }

    fn sending(&self) -> Sending {
        self.0.sending.fetch_add(1, Ordering::SeqCst);
        Sending { marks: self.0.clone(), refused: false }
    }
}

/// An acknowledgement on its way; counted as sent when dropped, unless it became a refusal.
struct Sending {
    marks: Arc<Marks>,
    refused: bool,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.refused {
            let now = u64::try_from(self.marks.origin.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1;
            self.marks.last.fetch_max(now, Ordering::SeqCst);
        }
        self.marks.sending.fetch_sub(1, Ordering::SeqCst);
        self.marks.sent.notify_one();
    }
}

/// Serves `stream` until the peer closes it, breaks the protocol, or this node stops.
pub(crate) async fn serve(
    raft: Raft,
    peers: Peers,
    stream: BoxStream,
    from: u64,
    acknowledged: Acknowledged,
) {
    let mut frames = wire::frames(stream);
    let mut greeted = false;
    while let Some(frame) = frames.next().await {
        let request = frame.and_then(|frame| wire::decode::<Numbered<Request>>(&frame));
        let Numbered { number, body, held } = match request {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(peer = from, %error, "connection of a voter ended");
                return;
            }
        };
        if let Some(claimed) = body.sender().filter(|claimed| *claimed != from) {
            tracing::error!(peer = from, claimed, "a voter spoke for another one; connection closed");
            return;
        }
        let body = match body {
            Request::Hello(hello) => {
                let Ok(verdict) = peers.judge(from, hello).await else { return };
                greeted = verdict.is_ok();
                let reply = match verdict {
                    Ok(()) => Reply::Hello(peers.hello()),
                    Err(what) => {
                        tracing::error!(
                            peer = from,
                            what,
                            "its store was rolled back: it is told, and not heard"
                        );
                        Reply::RolledBack(what)
                    }
                };
                if !send(&mut frames, number, reply).await {
                    return;
                }
                continue;
            }
            // A voter whose run is not known is not believed, nor has one that was put back a vote (F21).
            _ if !greeted => return,
            Request::RolledBack(what) => return peers.condemned_by(from, what).await,
            _ if peers.is_condemned() => return,
            body => body,
        };
        if let Request::Append(request) = &body {
            peers.led(from, request.vote.leader_id.term, held);
        }
        // Held until the reply is out.
        let mut mark = matches!(body, Request::Append(_)).then(|| acknowledged.sending());
        let Some(reply) = answer(&raft, body).await else { return };
        if let Some(mark) = &mut mark {
            mark.refused = matches!(reply, Reply::Append(AppendEntriesResponse::HigherVote(_)));
        }
        if !send(&mut frames, number, reply).await {
            return;
        }
    }
}

/// Sends a reply; false if the connection is of no use any more.
async fn send(frames: &mut Frames, number: u64, reply: Reply) -> bool {
    let Ok(frame) = wire::encode(&Numbered { number, body: reply, held: None }) else { return false };
    matches!(timeout(SEND_LIMIT, frames.send(frame)).await, Ok(Ok(())))
}

async fn answer(raft: &Raft, request: Request) -> Option<Reply> {
    let reply = match request {
        Request::Append(request) => raft.append_entries(request).await.ok().map(Reply::Append),
        Request::Vote(request) => raft.vote(request).await.ok().map(Reply::Vote),
        Request::PreVote(request) => raft.pre_vote(request).await.ok().map(Reply::PreVote),
        Request::Snapshot { vote, meta, bytes } => {
            let snapshot = Snapshot { meta, snapshot: bytes.0 };
            raft.install_full_snapshot(vote, snapshot).await.ok().map(Reply::Snapshot)
        }
        Request::Transfer(request) => raft.handle_transfer_leader(request).await.ok().map(Reply::Transfer),
        // No matter of Raft.
        Request::Hello(_) | Request::RolledBack(_) => None,
    };
    // The only error left is that this node has stopped; `fatal` tells why.
    reply
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::duplex;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{BoxFuture, Consensus, Dial, Settings};

    struct Nobody;

    impl Dial for Nobody {
        fn dial(&self, _: u64) -> BoxFuture<'static, io::Result<BoxStream>> {
            Box::pin(async { Err(io::ErrorKind::NotConnected.into()) })
        }
    }

    #[tokio::test]
    async fn nobody_ends_a_store_who_has_not_said_which_run_he_is() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let settings = Settings {
            node: 1,
            cluster: "test".into(),
            heartbeat_ms: 100,
            election_min_ms: 400,
            election_max_ms: 800,
            snapshot_every: 50,
            keep_logs: 10,
            mark: 1,
        };
        Consensus::create(dir.path(), &settings).await.expect("made");
        let (owner, _requests) = mpsc::channel(1);
        let voter = Consensus::open(dir.path(), settings, owner, Arc::new(Nobody)).await.expect("open");
        let (near, far) = duplex(1 << 16);
        let mut near = wire::frames(Box::new(near));
        let word = Numbered { number: 1, body: Request::RolledBack("made up".into()), held: None };
        near.send(wire::encode(&word).expect("a frame")).await.expect("sent");
        // Comes back because the connection is closed.
        timeout(Duration::from_secs(10), voter.serve(Box::new(far), 2)).await.expect("turned away");
        let ended = timeout(Duration::from_millis(200), voter.fatal()).await;
        assert!(ended.is_err(), "it was believed: {ended:?}");
    }
}
