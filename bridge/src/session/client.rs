//! Keeps this node's session with the leader: finds it, beats, carries facts and questions up and states down.
//!
//! Decides nothing about units. The lease is extended only from the sending time of the very beat, or hello, that was
//! answered (F5); a connection that closes ends nothing. A path that stalls is left for another one.

mod find;
mod open;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use policy::{Incarnation, NodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::accord::Accord;
use super::handle::{Farewell, FromSession, Pulse, ToSession};
use super::lease::{Lease, boottime_ms};
use super::message::{Denial, Down, Number, Reply, Request, Up};
use super::standing::{Outcast, Standing};
use crate::join::Peer;
use crate::net::{Book, Dialer, Frames, Stream};
use open::Open;

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
    /// Whether this node goes down.
    pub farewell: Farewell,
    /// Told when the cluster turns this node away.
    pub standing: Standing,
    /// What this voter says of its state, and what it is told of that.
    pub accord: Accord,
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
    let (books, changed) = watch::channel(Book::default());
    tokio::spawn(keep_books(setup.peers_file.clone(), changed));
    let mut client = Client {
        books,
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
    /// What is to be written of the address book.
    books: watch::Sender<Book>,
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

    async fn once(&mut self) -> End {
        // A node whose PID 1 is silent must not be taken for a healthy one, nor get a lease by a hello (F27).
        if self.setup.pulse.age() > self.silence {
            sleep(SILENT_PAUSE).await;
            return End::Again;
        }
        let Some(target) = self.choose() else { return End::Pause };
        let (stream, relayed) = match self.connect(target).await {
            Some(connected) => connected,
            None => return self.unreached().await,
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
            level: policy::FEATURE_LEVEL,
            leaving: self.setup.farewell.is_said(),
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
        self.setup.standing.clear();
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
            told: false,
            trusted: false,
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

    /// No way to the one that was tried. Where every other voter turns this node away, it was taken out of the cluster: whoever
    /// asks here is told so, and it knocks ever more rarely.
    async fn unreached(&mut self) -> End {
        let book = self.setup.dialer.book().load();
        let others = book.voters().filter(|voter| *voter != self.setup.node.0);
        let turned: Vec<_> = others.map(|voter| self.setup.dialer.turned_away(voter)).collect();
        let first = turned.iter().flatten().min_by_key(|(_, left)| *left);
        let Some((reason, left)) = first.filter(|_| turned.iter().all(Option::is_some)) else {
            return End::Pause;
        };
        if self.setup.standing.turn_away(Outcast::Removed(reason.clone())) {
            error!("the cluster turns this node away: {reason}");
        }
        sleep(*left).await;
        End::Again
    }

    async fn denied(&mut self, denial: Denial) -> End {
        match &denial {
            Denial::Removed => {
                let why = "it was taken out of the cluster".to_owned();
                self.setup.standing.turn_away(Outcast::Removed(why));
            }
            Denial::Identity { why } => {
                self.setup.standing.turn_away(Outcast::Identity(why.clone()));
            }
            Denial::OldSoftware { why } => {
                if self.setup.standing.turn_away(Outcast::OldSoftware(why.clone())) {
                    error!("no session: {why}");
                }
            }
            Denial::RebootNow { .. } | Denial::Later { .. } => {}
        }
        // What runs here may run on until the lease ends: the version may be put back before that.
        if !matches!(denial, Denial::Later { .. } | Denial::OldSoftware { .. }) {
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
            self.setup.dialer.book().replace(book.clone());
            self.books.send_replace(book);
        }
    }
}

/// Writes each new address book, or the latest where the disk is slow: no session waits for that.
async fn keep_books(path: PathBuf, mut books: watch::Receiver<Book>) {
    while books.changed().await.is_ok() {
        let (book, file) = (books.borrow_and_update().clone(), path.clone());
        if let Ok(Err(error)) = spawn_blocking(move || book.store(&file)).await {
            warn!(%error, path = %path.display(), "cannot keep the address book");
        }
    }
}
