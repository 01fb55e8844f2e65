//! One node of a test: everything of the daemon but systemd.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bridge::doors::{self, Doors, Guests};
use bridge::identity::{self, Enrolled};
use bridge::init;
use bridge::join::{self, Joiner, Token};
use bridge::leader;
use bridge::net::{AddressBook, Book, DialTiming, Dialer, Listener, Stream};
use bridge::paths::Paths;
use bridge::session::client::{self, Local};
use bridge::session::message::{Reply, Request};
use bridge::session::{Accord, Asker, Farewell, FromSession, Lease, Pulse, Standing, ToSession};
use bridge::tls::NodeTls;
use consensus::Consensus;
use policy::{Fact, Incarnation, NodeId, PermitView, Phase, Role, Wish};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A node, running.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) asker: Asker,
    pub(crate) lease: Lease,
    /// Whether the cluster has turned it away.
    pub(crate) standing: Standing,
    /// What its voter says of its state.
    pub(crate) accord: Accord,
    /// Whether it says that it goes down.
    pub(crate) farewell: Farewell,
    /// PID 1 answers no more while this is set.
    pub(crate) silent: Arc<AtomicBool>,
    name: String,
    consensus: Option<Consensus>,
    /// Sessions to the leader on this node, with who is at their other end.
    pub(crate) streams: mpsc::Sender<(NodeId, Stream)>,
    to_session: mpsc::Sender<ToSession>,
    from_session: mpsc::Receiver<FromSession>,
    permits: Vec<PermitView>,
    number: u64,
    tasks: Vec<JoinHandle<()>>,
}

/// Waits for a condition, ten seconds at most.
pub(crate) async fn settle(condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to that within ten seconds");
}

impl Node {
    /// Makes a cluster of one node.
    pub(crate) async fn first(dir: &Path) -> Self {
        let paths = place(dir, "n1");
        let listener_port = free_port();
        let address = format!("127.0.0.1:{listener_port}").parse().expect("address");
        let first = init::First {
            cluster_name: "test".to_owned(),
            node_name: "n1".to_owned(),
            addresses: vec![address],
        };
        let enrolled = init::create(&paths, &first).expect("a cluster");
        Self::run(paths, enrolled, listener_port).await
    }

    /// A cluster that is open, and in it `m1`, whose daemon has ended: a test speaks in its place.
    pub(crate) async fn first_with_member(dir: &Path) -> (Self, NodeId) {
        let mut first = Self::first(dir).await;
        first.opened().await;
        let member = first.joined_by(dir, "m1", Role::Member).await;
        let id = member.id;
        member.kill().await;
        (first, id)
    }

    /// Has another node join by a token.
    pub(crate) async fn joined_by(&self, dir: &Path, name: &str, role: Role) -> Self {
        let paths = place(dir, name);
        let port = free_port();
        let own = identity::load(&place(dir, &self.name)).expect("whole").expect("enrolled");
        let addresses = own_addresses(&place(dir, &self.name));
        let ca = bridge::pki::sha256(own.credentials.ca());
        let identity = own.identity;
        let (token, record) =
            Token::generate(identity.cluster, &identity.cluster_name, ca, addresses, i64::MAX / 2)
                .expect("a token");
        let wish = Wish::IssueToken {
            id: bridge::pki::hex(&record.id),
            secret_hash: bridge::pki::hex(&record.secret_sha256),
            valid_ms: 60_000,
            by: "test".to_owned(),
        };
        let request = Request::Wish { client: format!("token for {name}"), number: 1, wish };
        match ask(&self.asker, request).await {
            Reply::Wish(outcome) => outcome.expect("recorded"),
            other => panic!("not an answer to a wish: {other:?}"),
        };
        let joiner = Joiner {
            name: name.to_owned(),
            addresses: vec![format!("127.0.0.1:{port}").parse().expect("address")],
            port,
            machine_id: format!("machine of {name}"),
            product_uuid: None,
            role: Some(match role {
                Role::Voter => identity::Role::Voter,
                Role::Member => identity::Role::Member,
                Role::Witness => identity::Role::Witness,
            }),
            version: "0".to_owned(),
        };
        let joined = join::request(&token, &joiner, 0).await.expect("the cluster takes it");
        joined.install(&paths).expect("installed");
        let enrolled = identity::load(&paths).expect("whole").expect("joined");
        Self::run(paths, enrolled, port).await
    }

    async fn run(paths: Paths, enrolled: Enrolled, port: u16) -> Self {
        let id = NodeId(enrolled.identity.node);
        let name = enrolled.identity.node_name.clone();
        let tls = NodeTls::new(&enrolled.credentials).expect("settings of TLS");
        let book = AddressBook::new(Book::load(&paths.peers_file()).expect("book"));
        let guests: Arc<ArcSwap<Guests>> = Arc::default();
        let listener = Listener::bind(
            format!("127.0.0.1:{port}").parse().expect("address"),
            Arc::clone(&tls),
            {
                let guests = Arc::clone(&guests);
                Arc::new(move |node| guests.load().admit(node))
            },
            book.clone(),
        )
        .expect("listener");
        let dialer = Dialer::new(tls.clone(), book.clone(), DialTiming::default());
        let (streams, accepted) = mpsc::channel(16);
        let (leader_now, leader) = watch::channel(None);
        let (to_session, requests) = mpsc::channel(64);
        let (to_agent, from_session) = mpsc::channel(64);
        let asker = Asker::new(to_session.clone());
        let addresses = vec![format!("127.0.0.1:{port}")];
        let mut tasks = Vec::new();
        let mut consensus = None;
        let accord = Accord::default();
        if enrolled.identity.role.votes() {
            let opened =
                leader::open(&paths, &enrolled, dialer.clone(), accord.clone()).await.expect("a store");
            consensus = Some(opened.consensus.clone());
            let found = Wish::Found {
                cluster: enrolled.identity.cluster.to_string(),
                name: enrolled.identity.cluster_name.clone(),
                generation: 0,
                node: id,
                node_name: name.clone(),
                addresses: addresses.clone(),
                machine: format!("machine of {name}"),
            };
            tasks.push(tokio::spawn(leader::run(leader::Setup {
                node: id,
                consensus: opened.consensus,
                replica: opened.replica,
                found: (id.0 == init::FIRST_NODE).then_some(found),
                machine: opened.machine,
                streams: accepted,
                book: book.clone(),
                guests: Arc::clone(&guests),
                leader: leader_now,
                applied: watch::channel(0).0,
                asked: mpsc::channel(1).1,
            })));
        }
        let (own_end, own_streams) = mpsc::channel(4);
        tasks.push(tokio::spawn(doors::own(id, own_streams, streams.clone())));
        tasks.push(tokio::spawn(doors::serve(
            listener,
            Doors {
                wire: tls,
                cluster: enrolled.identity.cluster,
                book,
                consensus: consensus.clone(),
                guests,
                streams: streams.clone(),
                authority: enrolled.authority.map(Arc::new),
                asker: asker.clone(),
            },
        )));
        let lease = Lease::default();
        let standing = Standing::default();
        let farewell = Farewell::default();
        let pulse = Pulse::default();
        pulse.felt();
        let silent = Arc::new(AtomicBool::new(false));
        tasks.push(tokio::spawn({
            let (pulse, silent) = (pulse.clone(), Arc::clone(&silent));
            async move {
                loop {
                    if !silent.load(Ordering::SeqCst) {
                        pulse.felt();
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }));
        tasks.push(tokio::spawn(client::run(client::Setup {
            node: id,
            incarnation: incarnation(&name),
            machine: format!("machine of {name}"),
            addresses,
            last_session: 0,
            boot: "boot".to_owned(),
            lease_file: paths.root().join("lease"),
            peers_file: paths.peers_file(),
            lease: lease.clone(),
            pulse,
            farewell: farewell.clone(),
            standing: standing.clone(),
            accord: accord.clone(),
            dialer,
            local: consensus.is_some().then(|| Local { leader, accept: own_end }),
            requests,
            agent: to_agent,
        })));
        Self {
            id,
            asker,
            lease,
            standing,
            accord,
            farewell,
            silent,
            name,
            consensus,
            streams,
            to_session,
            from_session,
            permits: Vec::new(),
            number: 0,
            tasks,
        }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        incarnation(&self.name)
    }

    /// The next word of the session.
    pub(crate) async fn next(&mut self) -> FromSession {
        let told = tokio::time::timeout(Duration::from_secs(10), self.from_session.recv()).await;
        let told = told.unwrap_or_else(|_| panic!("{} heard nothing for ten seconds", self.name));
        let told = told.expect("the session's task runs");
        if let FromSession::Orders { orders, .. } = &told {
            self.permits = orders.view.permits.clone();
        }
        told
    }

    /// Waits for a new session.
    pub(crate) async fn opened(&mut self) {
        while !matches!(self.next().await, FromSession::Opened { .. }) {}
    }

    /// Waits for the end of the session.
    pub(crate) async fn closed(&mut self) {
        while !matches!(self.next().await, FromSession::Closed) {}
    }

    /// Leaves the session for another.
    pub(crate) async fn renew(&mut self) {
        self.to_session.send(ToSession::Renew).await.expect("the session's task runs");
        self.opened().await;
    }

    /// Reports a fact and waits until it is taken.
    pub(crate) async fn report(&mut self, fact: Fact) {
        self.number += 1;
        let number = self.number;
        self.to_session.send(ToSession::Fact { number, fact }).await.expect("the session's task runs");
        loop {
            if let FromSession::FactTaken { number: taken, outcome } = self.next().await {
                assert_eq!(taken, number);
                outcome.expect("a fact that counts");
                return;
            }
        }
    }

    /// Waits for orders that change the permit, and gives it.
    pub(crate) async fn permit(&mut self) -> PermitView {
        loop {
            if let FromSession::Orders { .. } = self.next().await
                && let [permit] = self.permits.as_slice()
            {
                return permit.clone();
            }
        }
    }

    /// Waits until the permit is being revoked: orders that were sent before may still come first.
    pub(crate) async fn revoking(&mut self) -> PermitView {
        loop {
            let permit = self.permit().await;
            if matches!(permit.phase, Phase::Revoking(_)) {
                return permit;
            }
        }
    }

    /// Waits until there is no permit.
    pub(crate) async fn no_permit(&mut self) {
        while !self.permits.is_empty() {
            self.next().await;
        }
    }

    pub(crate) fn voters(&self) -> usize {
        self.consensus.as_ref().map_or(0, |consensus| consensus.status().voters.len())
    }

    /// Everything of the node is gone at once.
    pub(crate) async fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(consensus) = self.consensus {
            consensus.shutdown().await;
        }
    }
}

pub(crate) fn incarnation(name: &str) -> Incarnation {
    Incarnation(format!("boot of {name}"))
}

fn place(dir: &Path, name: &str) -> Paths {
    let root: PathBuf = dir.join(name);
    std::fs::create_dir_all(&root).expect("root");
    Paths::below(root)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("address").port()
}

/// Asks, and has an answer within five seconds.
async fn ask(asker: &Asker, request: Request) -> Reply {
    asker.ask(request, Duration::from_secs(5)).await.expect("an answer")
}

/// Where the first node of a place listens.
fn own_addresses(paths: &Paths) -> Vec<std::net::SocketAddr> {
    let book = Book::load(&paths.peers_file()).expect("book");
    book.nodes.into_values().flat_map(|entry| entry.addresses).collect()
}
