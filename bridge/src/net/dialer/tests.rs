use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::*;
use crate::net::{BookEntry, Direct, Listener, Relay};
use crate::pki::{Authority, ClusterId, Credentials, NodeKey, NodeName};
use crate::tls::NodeTls;

const CLUSTER: ClusterId = ClusterId::from_bytes([5; 16]);
const BOUND: Duration = Duration::from_secs(20);

fn tls(authority: &Authority, cluster: ClusterId, node: u64) -> Arc<NodeTls> {
    let key = NodeKey::generate().expect("key");
    let request = key.signing_request().expect("request");
    let cert = authority.sign(&request, NodeName { cluster, node }).expect("certificate");
    NodeTls::new(&Credentials::new(authority.cert().clone(), cert, key).expect("credentials"))
        .expect("settings")
}

/// Nodes on loopback. Each answers with its own id and its peer's, and relays; all share one book.
struct Site {
    authority: Authority,
    book: AddressBook,
    relayed: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Site {
    fn new() -> Self {
        let authority = Authority::create(CLUSTER).expect("authority");
        Self { authority, book: AddressBook::default(), relayed: Arc::default(), tasks: JoinSet::new() }
    }

    fn tls(&self, node: u64) -> Arc<NodeTls> {
        tls(&self.authority, CLUSTER, node)
    }

    /// Starts a node and enters its address.
    fn start(&mut self, node: u64) -> (SocketAddr, AbortHandle) {
        let (address, task) = self
            .start_with(node, Arc::new(|node| if node == 13 { Err("taken out".to_owned()) } else { Ok(()) }));
        self.enter(node, vec![address]);
        (address, task)
    }

    fn start_with(&mut self, node: u64, admission: crate::net::Admission) -> (SocketAddr, AbortHandle) {
        let loopback = "127.0.0.1:0".parse().expect("address");
        let mut listener =
            Listener::bind(loopback, self.tls(node), admission, self.book.clone()).expect("bound");
        let address = listener.local_addr();
        let relay = Relay::new(self.tls(node), self.book.clone());
        let relayed = Arc::clone(&self.relayed);
        let task = self.tasks.spawn(async move {
            let mut inner = JoinSet::new();
            while let Some(mut incoming) = listener.accept().await {
                let (relay, relayed) = (relay.clone(), Arc::clone(&relayed));
                inner.spawn(async move {
                    if incoming.alpn == Alpn::Relay {
                        relayed.fetch_add(1, Ordering::SeqCst);
                        let _ = relay.serve(incoming).await;
                        return;
                    }
                    let peer = incoming.peer.expect("a node").node;
                    let mut word = [0; 16];
                    word[..8].copy_from_slice(&node.to_be_bytes());
                    word[8..].copy_from_slice(&peer.to_be_bytes());
                    let _ = incoming.stream.write_all(&word).await;
                    let _ = incoming.stream.shutdown().await;
                });
            }
        });
        (address, task)
    }

    fn enter(&self, node: u64, addresses: Vec<SocketAddr>) {
        let mut book = (*self.book.load()).clone();
        book.nodes.insert(node, BookEntry { name: format!("n{node}"), addresses, voter: true });
        self.book.replace(book);
    }

    /// A dialler with waits that are short, or long where the test must not depend on them.
    fn dialer(&self, node: u64) -> Dialer {
        let timing = DialTiming {
            direct_grace: Duration::from_millis(50),
            probe_every: Duration::from_millis(20),
            ..DialTiming::default()
        };
        self.enter_if_absent(node);
        Dialer::new(self.tls(node), self.book.clone(), timing)
    }

    fn enter_if_absent(&self, node: u64) {
        if !self.book.load().nodes.contains_key(&node) {
            self.enter(node, Vec::new());
        }
    }
}

async fn dial(dialer: &Dialer, node: u64) -> Result<Dialed, DialError> {
    timeout(BOUND, dialer.connect(node, Alpn::Session)).await.expect("in time")
}

/// Who answered, and for whom it took us.
async fn answer(dialed: &mut Dialed) -> std::io::Result<(u64, u64)> {
    Ok((dialed.stream.read_u64().await?, dialed.stream.read_u64().await?))
}

/// An address of loopback at which nobody listens.
async fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    listener.local_addr().expect("address")
}

/// An address that takes connections and never says a word.
async fn mute_address(site: &mut Site) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address");
    site.tasks.spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn a_node_is_reached_directly_at_whichever_address_works() {
    let mut site = Site::new();
    let (address, _) = site.start(2);
    site.start(3);
    let mute = mute_address(&mut site).await;
    site.enter(2, vec![dead_address().await, mute, address]);
    let dialer = site.dialer(1);
    let mut dialed = dial(&dialer, 2).await.expect("reached");
    assert_eq!(dialed.path, Path::Direct(address));
    assert_eq!(answer(&mut dialed).await.expect("an answer"), (2, 1));
    assert!(matches!(dialer.links().as_slice(), [Link { peer: 2, direct: Direct::Up { .. }, via: None }]));
}

#[tokio::test]
async fn listeners_take_both_families() {
    let site = Site::new();
    let Ok(mut listener) = Listener::bind(
        "[::]:0".parse().expect("address"),
        site.tls(2),
        Arc::new(|_| Ok(())),
        site.book.clone(),
    ) else {
        panic!("`[::]` must work with and without IPv6");
    };
    let port = listener.local_addr().port();
    site.enter(2, vec![SocketAddr::from(([127, 0, 0, 1], port))]);
    let dialer = site.dialer(1);
    let (dialed, incoming) = tokio::join!(dial(&dialer, 2), listener.accept());
    dialed.expect("reached");
    assert!(incoming.expect("accepted").remote.is_ipv4(), "shown as people write it");
}

#[tokio::test]
async fn a_cut_link_goes_through_a_third_node_and_is_named() {
    let mut site = Site::new();
    let (address, _) = site.start(2);
    site.start(3);
    let dialer = site.dialer(1);
    // Node 3 reaches node 2 where node 1 does not: the two look at different books.
    let cut = AddressBook::new((*site.book.load()).clone());
    let mut book = (*cut.load()).clone();
    book.nodes.get_mut(&2).expect("node 2").addresses = vec![mute_address(&mut site).await];
    cut.replace(book);
    let dialer = Dialer::new(site.tls(1), cut.clone(), dialer.0.timing);

    let mut dialed = dial(&dialer, 2).await.expect("reached");
    assert_eq!(dialed.path, Path::Relay(3));
    assert_eq!(
        answer(&mut dialed).await.expect("an answer"),
        (2, 1),
        "the ends know each other, not the relay"
    );
    assert_eq!(site.relayed.load(Ordering::SeqCst), 1);
    let links = dialer.links();
    let two = links.iter().find(|link| link.peer == 2).expect("a link");
    assert_eq!(two.via, Some(3));
    assert!(matches!(&two.direct, Direct::Down { error, .. } if error == "no answer within 50ms"), "{two:?}");

    // The link heals: the probe sees it, says so, and the next dial is direct.
    let mut healed = dialer.healed();
    let prober = tokio::spawn({
        let dialer = dialer.clone();
        async move { dialer.probe(|| None).await }
    });
    cut.replace((*site.book.load()).clone());
    assert_eq!(timeout(BOUND, healed.recv()).await.expect("in time"), Ok(2));
    prober.abort();
    assert_eq!(dial(&dialer, 2).await.expect("reached").path, Path::Direct(address));
}

#[tokio::test]
async fn nobody_looks_whether_the_way_to_a_leader_carries() {
    let site = Site::new();
    for node in [2, 3] {
        let dead = dead_address().await;
        site.enter(node, vec![dead]);
    }
    let timing = DialTiming { look_every: Duration::from_millis(20), ..site.dialer(1).0.timing };
    let dialer = Dialer::new(site.tls(1), site.book.clone(), timing);
    let down = |peer| dialer.links().iter().any(|link| link.peer == peer);
    let looked = async {
        while !down(3) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = dialer.probe(|| Some(2)) => {}
        looked = timeout(BOUND, looked) => looked.expect("the way to node 3 is looked at"),
    }
    assert!(!down(2), "sessions with the leader carry all the time");
}

#[tokio::test]
async fn a_stalled_link_asks_the_relays_without_waiting() {
    let mut site = Site::new();
    site.start(2);
    site.start(3);
    let mute = mute_address(&mut site).await;
    let book = AddressBook::new((*site.book.load()).clone());
    let mut cut = (*book.load()).clone();
    cut.nodes.get_mut(&2).expect("node 2").addresses = vec![mute];
    book.replace(cut);
    // A head start that the test would not survive.
    let timing = DialTiming { direct_grace: Duration::from_secs(3600), ..DialTiming::default() };
    let dialer = Dialer::new(site.tls(1), book, timing);
    dialer.note_stalled(2, "no beat answered for 2 s");
    assert_eq!(dial(&dialer, 2).await.expect("reached").path, Path::Relay(3));
    let links = dialer.links();
    let two = links.iter().find(|link| link.peer == 2).expect("a link");
    assert!(
        matches!(&two.direct, Direct::Down { error, .. } if error == "no beat answered for 2 s"),
        "{two:?}"
    );
}

#[tokio::test]
async fn a_node_that_is_off_is_reported_with_every_path() {
    let mut site = Site::new();
    site.start(3);
    let dead = dead_address().await;
    site.enter(2, vec![dead]);
    let dialer = site.dialer(1);
    let text = dial(&dialer, 2).await.expect_err("it is off").to_string();
    assert!(text.contains(&dead.to_string()), "{text}");
    assert!(text.contains("through node 3: node 2 cannot be reached from here either"), "{text}");
    assert!(matches!(dial(&dialer, 1).await, Err(DialError::NoSuchNode { node: 1 })));
    assert!(matches!(dial(&dialer, 9).await, Err(DialError::NoSuchNode { node: 9 })));
}

#[tokio::test]
async fn a_relay_refuses_what_is_not_in_its_book() {
    let mut site = Site::new();
    site.start(3);
    // Node 1 knows node 4, the relay does not.
    let book = AddressBook::new((*site.book.load()).clone());
    let mut wider = (*book.load()).clone();
    let entry = |addresses| BookEntry { name: "n4".to_owned(), addresses, voter: false };
    wider.nodes.insert(4, entry(vec![dead_address().await]));
    book.replace(wider);
    let dialer = Dialer::new(site.tls(1), book, site.dialer(1).0.timing);
    let text = dial(&dialer, 4).await.expect_err("not carried").to_string();
    assert!(text.contains("through node 3: node 4 is no node of this cluster"), "{text}");
}

#[tokio::test]
async fn a_removed_node_is_told_so() {
    let mut site = Site::new();
    site.start(2);
    let dialer = site.dialer(13);
    let text = dial(&dialer, 2).await.expect_err("removed").to_string();
    assert!(text.contains("it refused: taken out"), "{text}");
    let (reason, left) = dialer.turned_away(2).expect("known from now on");
    assert_eq!(reason, "taken out");
    assert!(left <= Duration::from_secs(1));
    // Nobody knocks again before that: the answer is known.
    let began = std::time::Instant::now();
    dial(&dialer, 2).await.expect_err("still removed");
    assert!(began.elapsed() < Duration::from_millis(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn voters_that_do_not_answer_now_are_named() {
    let mut site = Site::new();
    site.start(2);
    let (_, dead) = site.start(3);
    let dialer = site.dialer(1);
    assert!(dialer.silent(Duration::from_secs(2)).await.is_empty());
    dead.abort();
    site.enter(3, vec![dead_address().await]);
    assert_eq!(dialer.silent(Duration::from_millis(500)).await, [3]);
}

#[tokio::test]
async fn another_clusters_node_at_an_address_is_named() {
    let site = Site::new();
    let theirs = ClusterId::from_bytes([6; 16]);
    let other = Authority::create(theirs).expect("authority");
    let loopback = "127.0.0.1:0".parse().expect("address");
    let listener = Listener::bind(loopback, tls(&other, theirs, 2), Arc::new(|_| Ok(())), site.book.clone())
        .expect("bound");
    site.enter(2, vec![listener.local_addr()]);
    let text = dial(&site.dialer(1), 2).await.expect_err("another cluster").to_string();
    assert!(text.contains(&theirs.to_string()) && text.contains(&CLUSTER.to_string()), "{text}");
}

/// A relay that may do what it likes with the bytes: it has a good certificate, and no scruples.
async fn rogue<F, Fut>(site: &mut Site, node: u64, deed: F)
where
    F: Fn(Stream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let loopback = "127.0.0.1:0".parse().expect("address");
    let mut listener =
        Listener::bind(loopback, site.tls(node), Arc::new(|_| Ok(())), site.book.clone()).expect("bound");
    site.enter(node, vec![listener.local_addr()]);
    site.tasks.spawn(async move {
        while let Some(mut incoming) = listener.accept().await {
            if incoming.alpn == Alpn::Relay && relay::grant_anything(&mut incoming.stream).await.is_ok() {
                tokio::spawn(deed(incoming.stream));
            }
        }
    });
}

#[tokio::test]
async fn a_relay_cannot_answer_in_anothers_name() {
    let mut site = Site::new();
    site.enter(2, vec![dead_address().await]);
    let own = site.tls(3);
    rogue(&mut site, 3, move |stream| {
        let own = Arc::clone(&own);
        async move {
            if let Ok((mut stream, ..)) = own.accept(stream).await {
                let _ = stream.write_all(&[1; 17]).await;
            }
        }
    })
    .await;
    let text = dial(&site.dialer(1), 2).await.expect_err("not node 2").to_string();
    assert!(text.contains("through node 3: node 3 answers where node 2 was expected"), "{text}");
}

#[tokio::test]
async fn a_relay_that_changes_a_byte_is_noticed() {
    let mut site = Site::new();
    let (target, _) = site.start_with(2, Arc::new(|_| Ok(())));
    site.enter(2, vec![dead_address().await]);
    // It carries all but one byte of what comes from the target, at this place.
    let (place, carried) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
    let (change, count) = (Arc::clone(&place), Arc::clone(&carried));
    rogue(&mut site, 3, move |stream| {
        let (change, count) = (change.load(Ordering::SeqCst), Arc::clone(&count));
        async move {
            let (mut from_far, mut to_far) = TcpStream::connect(target).await.expect("target").into_split();
            let (mut from_near, mut to_near) = tokio::io::split(stream);
            let back = async {
                let mut at = 0;
                while let Ok(byte) = from_far.read_u8().await {
                    let byte = if at == change { byte ^ 1 } else { byte };
                    at += 1;
                    if to_near.write_all(&[byte]).await.and(to_near.flush().await).is_err() {
                        break;
                    }
                }
                count.store(at, Ordering::SeqCst);
                let _ = to_near.shutdown().await;
            };
            tokio::join!(back, async { drop(tokio::io::copy(&mut from_near, &mut to_far).await) });
        }
    })
    .await;
    let talk = async || {
        let mut dialed = dial(&site.dialer(1), 2).await.map_err(std::io::Error::other)?;
        let mut said = Vec::new();
        timeout(BOUND, dialed.stream.read_to_end(&mut said)).await.expect("in time")?;
        Ok::<_, std::io::Error>(said)
    };
    assert_eq!(talk().await.expect("an honest carrier").len(), 16);
    let all = carried.load(Ordering::SeqCst);
    // In the hello, in the certificate, and in the last words, which are before the 24 bytes of the farewell.
    for changed in [60, 400, all - 30] {
        place.store(changed, Ordering::SeqCst);
        let outcome = talk().await;
        assert!(outcome.is_err(), "byte {changed} of {all}: {outcome:?}");
    }
}

#[tokio::test]
async fn strangers_do_not_keep_the_nodes_out() {
    let mut site = Site::new();
    let (address, _) = site.start(2);
    // More silent connections than there are places, all from one address.
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(("127.0.0.1", address.port())).await.expect("connected"));
    }
    // Another address of loopback is another machine here.
    let socket = tokio::net::TcpSocket::new_v4().expect("socket");
    socket.bind("127.0.0.2:0".parse().expect("address")).expect("bound");
    let tcp = socket.connect(address).await.expect("connected");
    let stream = timeout(Duration::from_secs(4), site.tls(1).connect(tcp, 2, Alpn::Session)).await;
    stream.expect("before the strangers' time is up").expect("accepted");
}
