//! One outgoing connection to one peer.
//!
//! A lane carries one request at a time. It dials beside the request that needs it, so that a slow handshake is not cut
//! short by the request's own limit and begun again for ever; and it enforces every time limit itself.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::Bytes;
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
    connection: Option<Connection>,
    dialing: Option<oneshot::Receiver<io::Result<BoxStream>>>,
    not_before: Instant,
    pause: Duration,
}

struct Connection {
    frames: Frames,
    number: u64,
    /// When the oldest request without a reply was sent. A request whose caller went away leaves its reply behind.
    waiting_since: Option<Instant>,
}

impl Lane {
    pub(crate) fn new(target: u64, dial: Arc<dyn Dial>, patience: Duration) -> Self {
        let state = State {
            target,
            dial,
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
                none.insert(spawn_dial(self.dial.clone(), self.target))
            }
        };
        let dialed = dialing.await;
        self.dialing = None;
        match dialed.unwrap_or_else(|_| Err(io::Error::other("dialling was given up"))) {
            Ok(stream) => {
                self.pause = DIAL_PAUSE.0;
                let connection = Connection { frames: wire::frames(stream), number: 0, waiting_since: None };
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

fn spawn_dial(dial: Arc<dyn Dial>, target: u64) -> oneshot::Receiver<io::Result<BoxStream>> {
    let (mut reply, answer) = oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            dialed = timeout(DIAL_LIMIT, dial.dial(target)) => {
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
    fn is_stuck(&self, patience: Duration) -> bool {
        self.waiting_since.is_some_and(|since| since.elapsed() > patience)
    }

    /// Safe to drop at any point: a frame is handed over whole, and replies are matched by number.
    async fn exchange(&mut self, request: &Request) -> io::Result<Reply> {
        self.number += 1;
        let number = self.number;
        let frame: Bytes = wire::encode(&Numbered { number, body: request })?;
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
