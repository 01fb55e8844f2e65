//! The network: connections between machines, as TCP shows them, over cables that can be cut in either direction.
//!
//! Bytes are never lost, reordered or altered on an open connection: a cut holds them back, and they come a while after it
//! is mended, as retransmissions do. A connection that carries nothing for too long ends with an error, one to a machine
//! that has lost its memory is reset, and one to a machine without power is silent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use crate::kinds::LATENCY_MS;
use crate::rng::Rng;

/// As `bridge/src/net/socket.rs` sets it.
const USER_TIMEOUT_MS: u64 = 10_000;
/// The longest that a retransmission is behind the mending of a cable.
const RETRANSMIT_MS: u64 = 800;

/// The network. Clones are the same.
#[derive(Clone)]
pub(crate) struct Net(Arc<Mutex<Cables>>);

struct Cables {
    now: u64,
    rng: Rng,
    latency_ms: (u64, u64),
    /// Directions that carry nothing.
    cut: BTreeSet<(usize, usize)>,
    /// Directions that carry nothing before this time.
    resumes: BTreeMap<(usize, usize), u64>,
    /// Machines that take what comes; the others have no power, or stand still.
    listening: BTreeSet<usize>,
    doors: BTreeMap<usize, mpsc::UnboundedSender<End>>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
}

/// The two ends are 0, which dialled, and 1.
struct Connection {
    machines: [usize; 2],
    ends: [Side; 2],
    /// What each end has sent and the other has not got yet.
    ways: [Way; 2],
}

#[derive(Default)]
struct Side {
    /// A process holds it.
    held: bool,
    open: bool,
    broken: bool,
    inbox: VecDeque<u8>,
    ended: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Way {
    flying: VecDeque<(u64, Segment)>,
    stuck_since: Option<u64>,
}

#[derive(Debug)]
enum Segment {
    Open,
    Accepted,
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// What must not be done while the network is locked.
#[derive(Default)]
struct Later {
    wake: Vec<Waker>,
    refused: Vec<End>,
}

/// One end of a connection, held by a process.
pub(crate) struct End {
    net: Net,
    id: u64,
    side: usize,
}

impl Net {
    pub(crate) fn new(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(Cables {
            now: 0,
            rng,
            latency_ms: LATENCY_MS,
            cut: BTreeSet::new(),
            resumes: BTreeMap::new(),
            listening: BTreeSet::new(),
            doors: BTreeMap::new(),
            connections: BTreeMap::new(),
            next: 1,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Cables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What passes between machines takes from now on as long as this.
    pub(crate) fn set_latency(&self, low: u64, high: u64) {
        self.lock().latency_ms = (low, high);
    }

    /// Whether the machine's kernel takes what comes.
    pub(crate) fn set_listening(&self, machine: usize, on: bool) {
        let mut cables = self.lock();
        if on {
            cables.listening.insert(machine);
        } else {
            cables.listening.remove(&machine);
        }
    }

    /// The machine has lost its memory: its ends are gone, and it says so to nobody by itself.
    pub(crate) fn forget(&self, machine: usize) {
        let mut cables = self.lock();
        cables.doors.remove(&machine);
        for connection in cables.connections.values_mut() {
            for side in [0, 1] {
                if connection.machines[side] == machine {
                    connection.ends[side] = Side::default();
                    connection.ways[side] = Way::default();
                }
            }
        }
    }

    /// A process listens on the machine, in the place of the one before.
    pub(crate) fn listen(&self, machine: usize) -> mpsc::UnboundedReceiver<End> {
        let (door, accepted) = mpsc::unbounded_channel();
        self.lock().doors.insert(machine, door);
        accepted
    }

    /// Cuts one direction.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.lock().cut.insert((from, to));
    }

    /// Mends all cables.
    pub(crate) fn mend(&self) {
        let mut cables = self.lock();
        for way in std::mem::take(&mut cables.cut) {
            let at = cables.now + cables.rng.between(0, RETRANSMIT_MS);
            cables.resumes.insert(way, at);
        }
    }

    /// Whether bytes pass both ways.
    pub(crate) fn is_open(&self, a: usize, b: usize) -> bool {
        let cables = self.lock();
        a == b || !cables.cut.contains(&(a, b)) && !cables.cut.contains(&(b, a))
    }

    /// Whether no cable is cut.
    pub(crate) fn is_whole(&self) -> bool {
        self.lock().cut.is_empty()
    }

    /// Brings what is due.
    pub(crate) fn step(&self, now: u64) {
        let mut later = Later::default();
        {
            let mut cables = self.lock();
            cables.now = now;
            let ids: Vec<u64> = cables.connections.keys().copied().collect();
            for id in ids {
                for side in [0, 1] {
                    while let Some(segment) = cables.due(id, side, &mut later) {
                        cables.arrive(self, id, side, segment, &mut later);
                    }
                }
            }
            cables.connections.retain(|_, connection| {
                connection.ends.iter().any(|end| end.held)
                    || connection.ways.iter().any(|way| !way.flying.is_empty())
            });
        }
        for waker in later.wake {
            waker.wake();
        }
    }

    /// Opens a connection from one machine to another, which may take for ever.
    pub(crate) async fn dial(&self, from: usize, to: usize) -> io::Result<End> {
        let id = {
            let mut cables = self.lock();
            let id = cables.next;
            cables.next += 1;
            let own = Side { held: true, ..Side::default() };
            let connection = Connection {
                machines: [from, to],
                ends: [own, Side::default()],
                ways: [Way::default(), Way::default()],
            };
            cables.connections.insert(id, connection);
            cables.send(id, 0, Segment::Open);
            id
        };
        let end = End { net: self.clone(), id, side: 0 };
        std::future::poll_fn(|context| {
            let mut cables = self.lock();
            let Some(side) = cables.side(id, 0) else { return Poll::Ready(Err(reset())) };
            if side.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
            }
            if side.open {
                return Poll::Ready(Ok(()));
            }
            side.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await?;
        Ok(end)
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Cables {
    fn side(&mut self, id: u64, side: usize) -> Option<&mut Side> {
        self.connections.get_mut(&id).map(|connection| &mut connection.ends[side])
    }

    fn carries(&self, from: usize, to: usize) -> bool {
        self.listening.contains(&to)
            && !self.cut.contains(&(from, to))
            && self.resumes.get(&(from, to)).is_none_or(|at| *at <= self.now)
    }

    fn send(&mut self, id: u64, side: usize, segment: Segment) {
        let (low, high) = self.latency_ms;
        let due = self.now + self.rng.between(low, high);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let way = &mut connection.ways[side];
        let due = way.flying.back().map_or(due, |(last, _)| due.max(*last));
        way.flying.push_back((due, segment));
    }

    /// The next segment that this side has sent, if it gets through now.
    fn due(&mut self, id: u64, side: usize, later: &mut Later) -> Option<Segment> {
        let connection = self.connections.get(&id)?;
        let (from, to) = (connection.machines[side], connection.machines[1 - side]);
        let (now, carries) = (self.now, self.carries(from, to));
        let connection = self.connections.get_mut(&id)?;
        let way = &mut connection.ways[side];
        if way.flying.front().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        if carries {
            way.stuck_since = None;
            return way.flying.pop_front().map(|(_, segment)| segment);
        }
        if now - *way.stuck_since.get_or_insert(now) > USER_TIMEOUT_MS {
            // The sender's kernel gives up, and tells the other side nothing that would reach it.
            *way = Way::default();
            connection.ends[side].broken = true;
            later.wake.extend(connection.ends[side].waker.take());
        }
        None
    }

    fn arrive(&mut self, net: &Net, id: u64, side: usize, segment: Segment, later: &mut Later) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let to = connection.machines[1 - side];
        let end = &mut connection.ends[1 - side];
        match segment {
            Segment::Open => {
                let accepted = End { net: net.clone(), id, side: 1 };
                let refused = match self.doors.get(&to) {
                    Some(door) => door.send(accepted).map_err(|refused| refused.0).err(),
                    None => Some(accepted),
                };
                match refused {
                    Some(refused) => {
                        later.refused.push(refused);
                        self.send(id, 1, Segment::Reset);
                    }
                    None => {
                        (end.held, end.open) = (true, true);
                        self.send(id, 1, Segment::Accepted);
                    }
                }
                return;
            }
            Segment::Reset => end.broken = true,
            // Nobody there knows of this connection.
            _ if !end.held => return self.send(id, 1 - side, Segment::Reset),
            Segment::Accepted => end.open = true,
            Segment::Bytes(bytes) => end.inbox.extend(bytes),
            Segment::End => end.ended = true,
        }
        later.wake.extend(end.waker.take());
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut cables = self.net.lock();
        if let Some(side) = cables.side(self.id, self.side).filter(|side| side.held) {
            side.held = false;
            cables.send(self.id, self.side, Segment::End);
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut cables = self.net.lock();
        let Some(side) = cables.side(self.id, self.side).filter(|side| side.held) else {
            return Poll::Ready(Err(reset()));
        };
        if !side.inbox.is_empty() {
            let count = side.inbox.len().min(buffer.remaining());
            let bytes: Vec<u8> = side.inbox.drain(..count).collect();
            buffer.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        if side.broken {
            return Poll::Ready(Err(reset()));
        }
        if side.ended {
            return Poll::Ready(Ok(()));
        }
        side.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut cables = self.net.lock();
        let usable = cables.side(self.id, self.side).is_some_and(|side| side.held && !side.broken);
        if !usable {
            return Poll::Ready(Err(reset()));
        }
        cables.send(self.id, self.side, Segment::Bytes(bytes.to_vec()));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.lock().send(self.id, self.side, Segment::End);
        Poll::Ready(Ok(()))
    }
}
