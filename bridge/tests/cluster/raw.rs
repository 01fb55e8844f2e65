//! A node's end of a session, frame by frame: what an honest node never sends, or no longer.

use std::time::Duration;

use bridge::net::Frames;
use bridge::session::client::FRAME_MAX;
use bridge::session::message::{Denial, Digest, Down, LookOrder, Reply, Request, Up};
use policy::{Fact, NodeId, Refusal};
use tokio::io::DuplexStream;

use super::node::{Node, incarnation};

/// One connection to the leader.
pub(crate) struct Raw {
    frames: Frames<DuplexStream>,
    name: String,
}

impl Raw {
    /// Connects to the leader on `leader`, as the node of that id and name.
    pub(crate) async fn connect(leader: &Node, id: NodeId, name: &str) -> Self {
        let (mine, theirs) = tokio::io::duplex(1 << 16);
        leader.streams.send((id, Box::new(theirs))).await.expect("the core runs");
        Self { frames: Frames::new(mine, FRAME_MAX), name: name.to_owned() }
    }

    pub(crate) async fn send(&mut self, up: Up) {
        self.frames.send(&up).await.expect("sent");
    }

    /// The next frame; `None` once the leader has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Down> {
        let frame = tokio::time::timeout(Duration::from_secs(10), self.frames.recv()).await;
        frame.expect("a frame, or the end, within ten seconds").ok()
    }

    /// Says hello; gives the number of the session, or why there is none.
    pub(crate) async fn hello(&mut self, last_session: u64) -> Result<u64, Denial> {
        self.hello_of(last_session, policy::FEATURE_LEVEL).await
    }

    /// The same as software that knows this feature level.
    pub(crate) async fn hello_of(&mut self, last_session: u64, level: u32) -> Result<u64, Denial> {
        let nonce = match self.next().await.expect("a challenge") {
            Down::Challenge { nonce, .. } => nonce,
            other => panic!("no challenge: {other:?}"),
        };
        self.send(Up::Hello {
            nonce,
            incarnation: incarnation(&self.name),
            machine: format!("machine of {}", self.name),
            addresses: Vec::new(),
            last_session,
            version: "0".to_owned(),
            level,
            leaving: false,
        })
        .await;
        match self.next().await.expect("an answer to a hello") {
            Down::Welcome { session, .. } => Ok(session),
            Down::Denied(denial) => Err(denial),
            other => panic!("not an answer to a hello: {other:?}"),
        }
    }

    /// Sends a beat and waits for its answer.
    pub(crate) async fn beat(&mut self, nonce: u64) {
        self.beat_of(nonce, None, false).await;
    }

    /// The same as a voter, which says what its state is; gives what it is told of that.
    pub(crate) async fn beat_of(
        &mut self,
        nonce: u64,
        digest: Option<Digest>,
        set_aside: bool,
    ) -> Option<String> {
        self.send(Up::Beat { nonce, cut_off_from: Default::default(), digest, set_aside }).await;
        loop {
            if let Down::Beaten { nonce: other, parted, .. } = self.next().await.expect("an answer")
                && other == nonce
            {
                return parted;
            }
        }
    }

    /// The next look that it is told to take.
    pub(crate) async fn look(&mut self) -> LookOrder {
        loop {
            if let Down::State(orders) = self.next().await.expect("orders")
                && let Some(look) = orders.looks.into_iter().next()
            {
                return look;
            }
        }
    }

    /// Reports a fact; gives what became of it.
    pub(crate) async fn report(&mut self, number: u64, fact: Fact) -> Result<(), Refusal> {
        self.send(Up::Fact { number, fact }).await;
        loop {
            if let Down::FactTaken { number: other, outcome } = self.next().await.expect("an answer")
                && other == number
            {
                return outcome;
            }
        }
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask(&mut self, number: u64, request: Request) -> Reply {
        self.send(Up::Ask { number, request }).await;
        loop {
            if let Down::Answer { number: other, reply } = self.next().await.expect("an answer")
                && other == number
            {
                return reply;
            }
        }
    }
}
