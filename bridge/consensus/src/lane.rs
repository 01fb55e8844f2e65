//! One outgoing connection to one peer.
//!
//! A lane carries one request at a time. It dials, and says hello, beside the request that needs it, so that a slow
//! handshake is not cut short by the request's own limit and begun again for ever; and it enforces every time limit itself.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use openraft::async_runtime::WatchReceiver;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::Bytes;
use crate::peers::Peers;
use crate::types::Raft;
use crate::wire::{self, BoxStream, Frames, Numbered, Reply, Request};

/// A future that owns what it needs.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens connections to other voters.
pub trait Dial: Send + Sync + 'static {
    /// Connects to voter `node` and returns the stream once the peer has proven to be that node. It may be dropped
    /// half-way. It is never asked for this node itself.
    fn dial(&self, node: u64) -> BoxFuture<'static, io::Result<BoxStream>>;
}

/// How long one attempt to connect may take, handshake included. A lost first packet is repeated by TCP after a second.
const DIAL_LIMIT: Duration = Duration::from_secs(2);

/// Shortest and longest pause after a failed attempt. A peer that boots is found half a second later at most.
const DIAL_PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(500));

/// The same between two attempts to tell a voter of this run.
const INTRODUCE_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Why a request got no reply. It may have arrived all the same.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    #[error("no connection to node {target}")]
    Unreachable {
        target: u64,
        #[source]
        source: io::Error,
    },
    #[error("node {target} did not answer within {limit:?}")]
    TimedOut { target: u64, limit: Duration },
}

/// Clones share the connection.
#[derive(Clone)]
pub(crate) struct Lane {
    target: u64,
    /// How long a peer may leave a request unanswered before its connection is given up.
    patience: Duration,
    state: Arc<Mutex<State>>,
}

struct State {
    target: u64,
    dial: Arc<dyn Dial>,
    peers: Peers,
    connection: Option<Connection>,
    dialing: Option<oneshot::Receiver<io::Result<Connection>>>,
    not_before: Instant,
    pause: Duration,
}

struct Connection {
    frames: Frames,
    peers: Peers,
    number: u64,
    /// When the oldest request without a reply was sent. A request whose caller went away leaves its reply behind.
    waiting_since: Option<Instant>,
}

impl Lane {
    pub(crate) fn new(target: u64, dial: Arc<dyn Dial>, peers: Peers, patience: Duration) -> Self {
        let state = State {
            target,
            dial,
            peers,
            connection: None,
            dialing: None,
            not_before: Instant::now(),
            pause: DIAL_PAUSE.0,
        };
        Self { target, patience, state: Arc::new(Mutex::new(state)) }
    }

    /// Sends `request` and waits for its reply, `limit` in all. May be dropped at any point.
    pub(crate) async fn call(&self, request: Request, limit: Duration) -> Result<Reply, LaneError> {
        let deadline = Instant::now() + limit;
        let timed_out = || LaneError::TimedOut { target: self.target, limit };
        let Ok(mut state) = timeout_at(deadline, self.state.lock()).await else { return Err(timed_out()) };
        match timeout_at(deadline, state.exchange(&request, self.patience)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(source)) => {
                state.connection = None;
                Err(LaneError::Unreachable { target: self.target, source })
            }
            Err(_) => {
                // Its late reply must not meet the next request.
                state.connection = None;
                Err(timed_out())
            }
        }
    }
}

impl State {
    async fn exchange(&mut self, request: &Request, patience: Duration) -> io::Result<Reply> {
        if self.peers.is_condemned() {
            return Err(io::Error::other("this node's store was rolled back"));
        }
        if self.connection.as_ref().is_some_and(|c| c.is_stuck(patience)) {
            self.connection = None;
        }
        if let Some(connection) = &mut self.connection {
            match connection.exchange(request).await {
                Ok(reply) => return Ok(reply),
                // A connection that was idle may have died unnoticed: once more on a new one. Every request of Raft
                // may arrive twice.
                Err(_) => self.connection = None,
            }
        }
        self.connect().await?.exchange(request).await
    }

    async fn connect(&mut self) -> io::Result<&mut Connection> {
        let dialing = match &mut self.dialing {
            Some(dialing) => dialing,
            none => {
                sleep_until(self.not_before).await;
                none.insert(spawn_dial(self.dial.clone(), self.peers.clone(), self.target))
            }
        };
        let dialed = dialing.await;
        self.dialing = None;
        match dialed.unwrap_or_else(|_| Err(io::Error::other("dialling was given up"))) {
            Ok(connection) => {
                self.pause = DIAL_PAUSE.0;
                Ok(self.connection.insert(connection))
            }
            Err(error) => {
                self.not_before = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(DIAL_PAUSE.1);
                Err(error)
            }
        }
    }
}

/// Says once to every other voter which run of this node it is, so that those remember it who never lead it (F21).
/// Ends with the group.
pub(crate) async fn introduce(raft: Raft, dial: Arc<dyn Dial>, peers: Peers) {
    let me = *raft.node_id();
    let mut changes = raft.server_metrics();
    let (mut greeted, mut pause) = (BTreeSet::from([me]), INTRODUCE_PAUSE.0);
    loop {
        let voters: BTreeSet<u64> = changes.borrow_and_update().membership_config.voter_ids().collect();
        for voter in &voters - &greeted {
            if let Ok(Ok(_)) = spawn_dial(dial.clone(), peers.clone(), voter).await {
                greeted.insert(voter);
            }
        }
        let again = if voters.is_subset(&greeted) { None } else { Some(pause) };
        pause = if again.is_some() { (pause * 2).min(INTRODUCE_PAUSE.1) } else { INTRODUCE_PAUSE.0 };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(again.unwrap_or_default()), if again.is_some() => {}
        }
    }
}

fn spawn_dial(dial: Arc<dyn Dial>, peers: Peers, target: u64) -> oneshot::Receiver<io::Result<Connection>> {
    let (mut reply, answer) = oneshot::channel();
    tokio::spawn(async move {
        let connect = async {
            let stream = dial.dial(target).await?;
            let mut connection = Connection::new(stream, peers);
            connection.greet(target).await?;
            Ok(connection)
        };
        tokio::select! {
            dialed = timeout(DIAL_LIMIT, connect) => {
                let dialed = dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                // The lane may be gone.
                let _ = reply.send(dialed);
            }
            () = reply.closed() => {}
        }
    });
    answer
}

impl Connection {
    fn new(stream: BoxStream, peers: Peers) -> Self {
        Self { frames: wire::frames(stream), peers, number: 0, waiting_since: None }
    }

    /// Says which run of this node it is, and hears the same of the peer (F21).
    async fn greet(&mut self, target: u64) -> io::Result<()> {
        match self.exchange(&Request::Hello(self.peers.hello())).await? {
            Reply::Hello(hello) => {
                let Err(what) = self.peers.judge(target, hello).await? else { return Ok(()) };
                tracing::error!(peer = target, what, "its store was rolled back: it is told, and not used");
                // It ends the connection, and answers nothing more.
                let _ = self.exchange(&Request::RolledBack(what.clone())).await;
                Err(io::Error::other(format!("its store was rolled back: {what}")))
            }
            Reply::RolledBack(what) => {
                self.peers.condemned_by(target, what.clone()).await;
                Err(io::Error::other(format!("this node's store was rolled back: {what}")))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the reply to a hello was none")),
        }
    }

    fn is_stuck(&self, patience: Duration) -> bool {
        self.waiting_since.is_some_and(|since| since.elapsed() > patience)
    }

    /// Safe to drop at any point: a frame is handed over whole, and replies are matched by number.
    async fn exchange(&mut self, request: &Request) -> io::Result<Reply> {
        self.number += 1;
        let number = self.number;
        let frame: Bytes = wire::encode(&Numbered { number, body: request, held: self.peers.held() })?;
        self.waiting_since.get_or_insert_with(Instant::now);
        self.frames.send(frame).await?;
        loop {
            let frame = self.frames.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
            let reply: Numbered<Reply> = wire::decode(&frame)?;
            if reply.number == number {
                self.waiting_since = None;
                return Ok(reply.body);
            }
            if reply.number > number {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a reply to a request that was never sent",
                ));
            }
        }
    }
}
