//! Keeps this node's session with the leader: finds it, beats, carries facts and questions up and states down.
//!
//! Decides nothing about units. The lease is extended only from the sending time of the very beat, or hello, that was
//! answered (F5); a connection that closes ends nothing. A path that stalls is left for another one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use policy::{Incarnation, NodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::handle::{FromSession, Pulse, ToSession};
use super::lease::{Lease, boottime_ms};
use super::message::{Denial, Down, Number, Reply, Request, Up};
use crate::join::Peer;
use crate::net::{Book, Dialer, Direct, FrameError, FrameReader, FrameWriter, Frames, Path, Stream};
use crate::tls::Alpn;

/// Largest frame of a session: the state that concerns one node.
pub const FRAME_MAX: usize = 16 << 20;
/// Pause before another voter is asked, when nobody leads or nobody answers.
const PAUSE: Duration = Duration::from_millis(40);
/// How long a dial may take at first, so that a leader which has just died keeps nobody from the next one until the lease
/// is over; half of it where the direct path is known to be down, as a relay answers at once or not at all. It doubles
/// with each round of voters that was in vain, for sites that are far apart.
const DIAL: Duration = Duration::from_millis(600);
/// The most that it grows to.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// How long a leader may take to open a session: a new incarnation waits until the old one's lease has ended.
const WELCOME: Duration = Duration::from_secs(10);
/// The same while this node holds a lease, before a cluster told its own time: such a node waits for nobody's end, and
/// another leader may stand already.
const HURRY: Duration = Duration::from_millis(700);
/// Leaders that voters may point to, one after another, before there is a pause: two may each take the other for it.
const REDIRECTS: u32 = 3;
/// How long PID 1 may be silent before a cluster told its own time: `docs/design/0003-a-silent-pid-1.md`.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two looks whether a silent PID 1 is back.
const SILENT_PAUSE: Duration = Duration::from_millis(250);

/// What the task needs to know of its node.
pub struct Setup {
    /// This node.
    pub node: NodeId,
    /// Its present life.
    pub incarnation: Incarnation,
    /// Machine id, and firmware's id.
    pub machine: String,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// Session that the lease file speaks of.
    pub last_session: u64,
    /// Boot id, for the lease file.
    pub boot: String,
    /// Where the lease is kept.
    pub lease_file: PathBuf,
    /// Where the address book is kept.
    pub peers_file: PathBuf,
    /// The lease.
    pub lease: Lease,
    /// When PID 1 last answered.
    pub pulse: Pulse,
    /// Reaches other nodes.
    pub dialer: Dialer,
    /// On a voter: who leads, as its own Raft sees it, and the way to the leader's end when it is this node.
    pub local: Option<Local>,
    /// Facts and questions.
    pub requests: mpsc::Receiver<ToSession>,
    /// To the agent.
    pub agent: mpsc::Sender<FromSession>,
}

/// What a voter adds.
pub struct Local {
    /// Who leads.
    pub leader: watch::Receiver<Option<NodeId>>,
    /// Takes this node's own end of a connection to itself.
    pub accept: mpsc::Sender<Stream>,
}

/// Runs until the daemon drops the other ends.
pub async fn run(setup: Setup) {
    let mut client = Client {
        pending: BTreeMap::new(),
        // The leader knows a repeated gate by its number (F10), so no later daemon of this life gives one again.
        next_number: boottime_ms().saturating_mul(1_000),
        target: None,
        doubted: None,
        redirects: 0,
        asked: BTreeSet::new(),
        dial: DIAL,
        hurry: HURRY,
        silence: SILENCE,
        session: setup.last_session,
        setup,
    };
    loop {
        match client.once().await {
            End::Stop => return,
            End::Again => {}
            End::Pause => client.pause().await,
        }
    }
}

enum End {
    Again,
    Pause,
    Stop,
}

struct Client {
    setup: Setup,
    pending: BTreeMap<Number, Pending>,
    next_number: Number,
    target: Option<NodeId>,
    /// A node that has just said that it does not lead, whatever this voter's Raft takes it for.
    doubted: Option<NodeId>,
    /// How often in a row a voter pointed to another.
    redirects: u32,
    asked: BTreeSet<NodeId>,
    dial: Duration,
    /// How long a leader may take to open a session while there is a lease.
    hurry: Duration,
    /// PID 1 may be silent for so long.
    silence: Duration,
    session: u64,
}

struct Pending {
    request: Request,
    reply: oneshot::Sender<Reply>,
}

/// One open session.
struct Open {
    leader: NodeId,
    relayed: bool,
    read: FrameReader<tokio::io::ReadHalf<Stream>>,
    write: FrameWriter<tokio::io::WriteHalf<Stream>>,
    /// Sending time of each beat that waits for its answer.
    beats: BTreeMap<u64, u64>,
    next_nonce: u64,
    next_beat: Instant,
    beat: Duration,
    /// Unanswered for so long, the path has stalled.
    patience: Duration,
}

impl Client {
    /// Waits a moment, or until this voter hears of a leader.
    async fn pause(&mut self) {
        let wait = sleep(PAUSE);
        match &mut self.setup.local {
            Some(local) => tokio::select! {
                () = wait => {}
                changed = local.leader.changed() => if changed.is_err() { sleep(PAUSE).await },
            },
            None => wait.await,
        }
    }

    /// Whom to try: the known leader, else the voters in turn.
    fn choose(&mut self) -> Option<NodeId> {
        // Seen from here on: only a later change shall break off a dial.
        let known = self.setup.local.as_mut().and_then(|local| *local.leader.borrow_and_update());
        let doubted = self.doubted.take();
        let known = known.filter(|leader| Some(*leader) != doubted);
        if let Some(leader) = known.or_else(|| self.target.take()) {
            return Some(leader);
        }
        let book = self.setup.dialer.book().load();
        let mut voters: Vec<NodeId> = book.voters().map(NodeId).collect();
        // Those that are not reached come last: one of them may be the leader that has just died.
        voters.sort_by_key(|voter| (*voter == self.setup.node, self.is_down(*voter), *voter));
        if let Some(next) = voters.iter().find(|voter| !self.asked.contains(voter)) {
            self.asked.insert(*next);
            return Some(*next);
        }
        self.asked.clear();
        self.dial = DIAL_MAX.min(self.dial * 2);
        None
    }

    /// Whether the direct path to a node is known not to work.
    fn is_down(&self, node: NodeId) -> bool {
        let links = self.setup.dialer.links();
        links.iter().any(|link| link.peer == node.0 && matches!(link.direct, Direct::Down { .. }))
    }

    async fn once(&mut self) -> End {
        // A node whose PID 1 is silent must not be taken for a healthy one, nor get a lease by a hello (F27).
        if self.setup.pulse.age() > self.silence {
            sleep(SILENT_PAUSE).await;
            return End::Again;
        }
        let Some(target) = self.choose() else { return End::Pause };
        let (stream, relayed) = match self.connect(target).await {
            Some(connected) => connected,
            None => return End::Pause,
        };
        let (mut read, mut write) = Frames::new(stream, FRAME_MAX).split();
        let nonce = match self.hear(target, &mut read).await {
            Some(Ok(Down::Challenge { nonce, .. })) => nonce,
            Some(Ok(Down::NotLeader { leader, book })) => {
                self.learn(book);
                return self.redirected(target, leader);
            }
            Some(Ok(other)) => {
                warn!(?other, "unexpected first frame");
                return End::Pause;
            }
            Some(Err(error)) => {
                debug!(%error, "no challenge");
                return End::Pause;
            }
            None => return End::Pause,
        };
        let sent = boottime_ms();
        let hello = Up::Hello {
            nonce,
            incarnation: self.setup.incarnation.clone(),
            machine: self.setup.machine.clone(),
            addresses: self.setup.addresses.clone(),
            last_session: self.session,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if write.send(&hello).await.is_err() {
            return End::Pause;
        }
        let (session, lease_ms, beat_ms, detect_ms) = match self.hear(target, &mut read).await {
            Some(Ok(Down::Welcome { session, lease_ms, beat_ms, detect_ms })) => {
                (session, lease_ms, beat_ms, detect_ms)
            }
            Some(Ok(Down::Denied(denial))) => return self.denied(denial).await,
            Some(Ok(Down::NotLeader { leader, book })) => {
                self.learn(book);
                return self.redirected(target, leader);
            }
            Some(Ok(other)) => {
                warn!(?other, "no welcome");
                return End::Pause;
            }
            _ => return End::Pause,
        };
        self.session = session;
        self.asked.clear();
        self.redirects = 0;
        self.dial = DIAL;
        self.hurry = Duration::from_millis(lease_ms * 4 / 10).max(HURRY / 2);
        self.silence = Duration::from_millis(detect_ms) * 5;
        self.extend(sent.saturating_add(lease_ms));
        info!(leader = target.0, session, relayed, "in session");
        let beat = Duration::from_millis(beat_ms.max(10));
        let open = Open {
            leader: target,
            relayed,
            read,
            write,
            beats: BTreeMap::new(),
            next_nonce: 1,
            next_beat: Instant::now(),
            beat,
            // A third of the lease leaves time to find another path before it ends.
            patience: Duration::from_millis(lease_ms * 3 / 10),
        };
        let opened = FromSession::Opened { session, detect: Duration::from_millis(detect_ms) };
        if self.setup.agent.send(opened).await.is_err() {
            return End::Stop;
        }
        let end = self.serve(open).await;
        if self.setup.agent.send(FromSession::Closed).await.is_err() {
            return End::Stop;
        }
        end
    }

    /// The next frame of a session that is not open yet; `None` if it does not come in time, or another voter leads by
    /// now.
    async fn hear(
        &mut self,
        target: NodeId,
        read: &mut FrameReader<tokio::io::ReadHalf<Stream>>,
    ) -> Option<Result<Down, FrameError>> {
        let limit = if self.setup.lease.left().is_some() { self.hurry } else { WELCOME };
        let frame = timeout(limit, read.recv::<Down>());
        match &mut self.setup.local {
            Some(local) => tokio::select! {
                biased;
                frame = frame => frame.ok(),
                () = replaced(&mut local.leader, target) => None,
            },
            None => frame.await.ok(),
        }
    }

    /// Where to go, when a node says that it does not lead.
    fn redirected(&mut self, from: NodeId, to: Option<NodeId>) -> End {
        self.doubted = Some(from);
        self.target = to.filter(|leader| *leader != from);
        self.redirects += 1;
        if self.target.is_some() && self.redirects <= REDIRECTS {
            return End::Again;
        }
        self.redirects = 0;
        End::Pause
    }

    async fn connect(&mut self, target: NodeId) -> Option<(Stream, bool)> {
        if target == self.setup.node {
            let local = self.setup.local.as_ref()?;
            let (mine, theirs) = tokio::io::duplex(1 << 16);
            local.accept.send(Box::new(theirs)).await.ok()?;
            return Some((Box::new(mine), false));
        }
        let limit = if self.is_down(target) { self.dial / 2 } else { self.dial };
        let dialing = timeout(limit, self.setup.dialer.connect(target.0, Alpn::Session));
        // A dial to a leader that has just died must not keep this node from the next one.
        let dialed = match &mut self.setup.local {
            Some(local) => tokio::select! {
                dialed = dialing => dialed,
                () = replaced(&mut local.leader, target) => return None,
            },
            None => dialing.await,
        };
        match dialed {
            Ok(Ok(dialed)) => Some((dialed.stream, matches!(dialed.path, Path::Relay(_)))),
            Ok(Err(error)) => {
                debug!(%error, "cannot reach node {target}");
                None
            }
            Err(_) => {
                debug!("node {target} is not reached within {limit:?}");
                None
            }
        }
    }

    async fn denied(&mut self, denial: Denial) -> End {
        if !matches!(denial, Denial::Later { .. }) {
            self.setup.lease.end();
            // Else the next daemon of this boot would honour what has just ended (F8).
            self.keep_lease();
            warn!(?denial, "the cluster refuses this node");
        }
        if self.setup.agent.send(FromSession::Denied(denial)).await.is_err() {
            return End::Stop;
        }
        sleep(Duration::from_millis(500)).await;
        End::Again
    }

    async fn serve(&mut self, mut open: Open) -> End {
        self.pending.retain(|_, pending| !pending.reply.is_closed());
        let questions: Vec<(Number, Request)> =
            self.pending.iter().map(|(number, pending)| (*number, pending.request.clone())).collect();
        for (number, request) in questions {
            if open.write.send(&Up::Ask { number, request }).await.is_err() {
                return End::Again;
            }
        }
        let mut healed = self.setup.dialer.healed();
        loop {
            tokio::select! {
                frame = open.read.recv::<Down>() => match self.take(frame, &mut open).await {
                    Some(end) => return end,
                    None => continue,
                },
                request = self.setup.requests.recv() => {
                    let Some(request) = request else { return End::Stop };
                    if let Some(end) = self.send(request, &mut open).await {
                        return end;
                    }
                }
                () = sleep_until(open.next_beat) => {
                    if let Some(end) = self.beat(&mut open).await {
                        return end;
                    }
                }
                Ok(node) = healed.recv() => {
                    if open.relayed && node == open.leader.0 {
                        info!(node, "the direct path is back");
                        self.target = Some(open.leader);
                        return End::Again;
                    }
                }
            }
        }
    }

    async fn take(&mut self, frame: Result<Down, FrameError>, open: &mut Open) -> Option<End> {
        let down = match frame {
            Ok(down) => down,
            Err(error) => {
                debug!(%error, "the session's connection is gone");
                return Some(End::Again);
            }
        };
        let told = match down {
            Down::Beaten { nonce, lease_ms, next_in_ms } => {
                if let Some(sent) = open.beats.get(&nonce) {
                    self.extend(sent.saturating_add(lease_ms));
                }
                open.beats.retain(|other, _| *other > nonce);
                open.next_beat = Instant::now() + Duration::from_millis(next_in_ms).min(open.beat * 2);
                return None;
            }
            Down::State(orders) => FromSession::Orders { session: self.session, orders },
            Down::FactTaken { number, outcome } => FromSession::FactTaken { number, outcome },
            Down::Answer { number, reply } => {
                if let Some(pending) = self.pending.remove(&number) {
                    // An asker that has gone does not want the answer.
                    let _ = pending.reply.send(reply);
                }
                return None;
            }
            Down::Book(book) => {
                self.learn(book);
                return None;
            }
            Down::Denied(denial) => return Some(self.denied(denial).await),
            Down::NotLeader { leader, book } => {
                self.learn(book);
                return Some(self.redirected(open.leader, leader));
            }
            Down::Challenge { .. } | Down::Welcome { .. } => return Some(End::Again),
        };
        self.setup.agent.send(told).await.is_err().then_some(End::Stop)
    }

    async fn send(&mut self, request: ToSession, open: &mut Open) -> Option<End> {
        let up = match request {
            ToSession::Fact { number, fact } => Up::Fact { number, fact },
            // Whoever asked was told long ago that there is no answer: a wish must not be carried out behind their back.
            ToSession::Ask { reply, .. } if reply.is_closed() => return None,
            ToSession::Ask { request, reply } => {
                let number = self.remember(request.clone(), reply);
                Up::Ask { number, request }
            }
            ToSession::Renew => return Some(End::Again),
        };
        open.write.send(&up).await.is_err().then_some(End::Again)
    }

    fn remember(&mut self, request: Request, reply: oneshot::Sender<Reply>) -> Number {
        let number = self.next_number;
        self.next_number += 1;
        self.pending.insert(number, Pending { request, reply });
        number
    }

    async fn beat(&mut self, open: &mut Open) -> Option<End> {
        let now = boottime_ms();
        let oldest = open.beats.values().next().copied();
        if oldest.is_some_and(|sent| now.saturating_sub(sent) > open.patience.as_millis() as u64) {
            let why = format!("no answer for {} ms", open.patience.as_millis());
            if open.leader != self.setup.node && !open.relayed {
                self.setup.dialer.note_stalled(open.leader.0, why);
            }
            self.target = Some(open.leader);
            return Some(End::Again);
        }
        open.next_beat = Instant::now() + open.beat;
        let gone = self.pending.iter().filter(|(_, pending)| pending.reply.is_closed());
        let gone: Vec<Number> = gone.map(|(number, _)| *number).collect();
        for number in gone {
            self.pending.remove(&number);
            if open.write.send(&Up::Withdraw { number }).await.is_err() {
                return Some(End::Again);
            }
        }
        // F27
        if self.setup.pulse.age() > self.silence {
            return None;
        }
        let links = self.setup.dialer.links();
        let down = links.iter().filter(|link| matches!(link.direct, Direct::Down { .. }));
        let cut_off_from = down.map(|link| NodeId(link.peer)).collect();
        let nonce = open.next_nonce;
        open.next_nonce += 1;
        open.beats.insert(nonce, now);
        open.write.send(&Up::Beat { nonce, cut_off_from }).await.is_err().then_some(End::Again)
    }

    fn extend(&self, ends_ms: u64) {
        self.setup.lease.extend(ends_ms);
        self.keep_lease();
    }

    fn keep_lease(&self) {
        if let Err(error) = self.setup.lease.keep(&self.setup.lease_file, &self.setup.boot, self.session) {
            warn!(%error, path = %self.setup.lease_file.display(), "cannot keep the lease for a restart");
        }
    }

    fn learn(&self, peers: Vec<Peer>) {
        if peers.is_empty() {
            return;
        }
        let book = Book::of(peers.into_iter().map(|peer| (peer.node, peer.entry)));
        if *self.setup.dialer.book().load() != book {
            if let Err(error) = book.store(&self.setup.peers_file) {
                warn!(%error, path = %self.setup.peers_file.display(), "cannot keep the address book");
            }
            self.setup.dialer.book().replace(book);
        }
    }
}

/// Waits until this voter hears that another than `target` leads.
async fn replaced(leader: &mut watch::Receiver<Option<NodeId>>, target: NodeId) {
    while leader.changed().await.is_ok() {
        if leader.borrow_and_update().is_some_and(|leader| leader != target) {
            return;
        }
    }
}
