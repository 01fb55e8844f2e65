//! Connections of nodes to this voter: two tasks each, one for each direction, and the events between.

use std::collections::BTreeMap;

use policy::{Millis, NodeId};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tracing::debug;

use super::core::Event;
use crate::net::{FrameError, FrameWriter, Frames, Stream};
use crate::session::client::FRAME_MAX;
use crate::session::message::{Down, Reply, Up};

/// A connection of this process.
pub(super) type ConnectionId = u64;

/// Frames that may wait for a slow node. Beyond, its connection is closed: it comes back and is told the whole state.
const QUEUE: usize = 256;

/// The node's ends of open connections.
#[derive(Default)]
pub(super) struct Connections {
    open: BTreeMap<ConnectionId, Connection>,
}

pub(super) struct Connection {
    pub(super) peer: NodeId,
    /// Nonce of its challenge; 0 before it got one.
    pub(super) nonce: u64,
    /// Cluster time of the challenge.
    pub(super) asked: Millis,
    out: mpsc::Sender<Down>,
}

impl Connections {
    pub(super) fn add(&mut self, id: ConnectionId, peer: NodeId, out: mpsc::Sender<Down>) {
        self.open.insert(id, Connection { peer, nonce: 0, asked: 0, out });
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.open.get_mut(&id)
    }

    pub(super) fn peer(&self, id: ConnectionId) -> Option<NodeId> {
        self.open.get(&id).map(|connection| connection.peer)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.open.keys().copied().collect()
    }

    /// Those whose node was given a challenge.
    pub(super) fn challenged(&self) -> Vec<ConnectionId> {
        self.open.iter().filter(|(_, connection)| connection.nonce != 0).map(|(id, _)| *id).collect()
    }

    /// Closes: the writer ends when its queue does, and the reader with it.
    pub(super) fn close(&mut self, id: ConnectionId) {
        self.open.remove(&id);
    }

    /// Sends, or closes a connection that does not keep up.
    pub(super) fn send(&mut self, id: ConnectionId, down: Down) {
        let Some(connection) = self.open.get(&id) else { return };
        if connection.out.try_send(down).is_err() {
            debug!(id, "a node does not keep up; its connection is closed");
            self.open.remove(&id);
        }
    }
}

/// Serves one connection with two tasks until either direction ends.
pub(super) fn serve(id: ConnectionId, peer: NodeId, stream: Stream, events: mpsc::Sender<Event>) {
    let (mut read, mut write) = Frames::new(stream, FRAME_MAX).split();
    let (out, mut queue) = mpsc::channel::<Down>(QUEUE);
    let (stop, mut stopped) = mpsc::channel::<()>(1);
    tokio::spawn(async move {
        while let Some(down) = queue.recv().await {
            if deliver(&mut write, down).await.is_err() {
                break;
            }
        }
        drop(stop);
    });
    tokio::spawn(async move {
        if events.send(Event::Connected { id, peer, out }).await.is_err() {
            return;
        }
        loop {
            let up = tokio::select! {
                up = read.recv::<Up>() => up,
                _ = stopped.recv() => break,
            };
            match up {
                Ok(up) => {
                    if events.send(Event::Frame { id, up: Box::new(up) }).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    debug!(id, %peer, %error, "connection of a node ended");
                    break;
                }
            }
        }
        // The core may have gone first.
        let _ = events.send(Event::Closed { id }).await;
    });
}

/// Sends a frame; of an answer that no session carries, that it is one.
async fn deliver<W: AsyncWrite + Unpin>(write: &mut FrameWriter<W>, down: Down) -> Result<(), FrameError> {
    match (write.send(&down).await, down) {
        (Err(FrameError::TooLong { max }), Down::Answer { number, .. }) => {
            let why = format!("the answer is longer than a session carries ({max} bytes); ask about less");
            write.send(&Down::Answer { number, reply: Reply::Declined(why) }).await
        }
        (sent, _) => sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_told_of() {
        let (near, far) = tokio::io::duplex(1_024);
        let (_, mut write) = Frames::new(near, 200).split();
        let (mut read, _) = Frames::new(far, 200).split();
        let long = Reply::Unable("x".repeat(300));
        deliver(&mut write, Down::Answer { number: 7, reply: long }).await.expect("the connection goes on");
        let Ok(Down::Answer { number: 7, reply: Reply::Declined(why) }) = read.recv().await else {
            panic!("whoever asked would wait for ever")
        };
        assert!(why.contains("200 bytes"), "{why}");
    }
}
