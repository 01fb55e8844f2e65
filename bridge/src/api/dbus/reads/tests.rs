use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use consensus::BoxFuture;
use futures_util::future::join_all;
use policy::{Plan, State};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};

use super::*;
use crate::api::Api;
use crate::api::picture::{self, Live};
use crate::net::{AddressBook, Book, BookEntry, DialTiming, Dialer, Stream, Wire};
use crate::session::{Asker, Lease, Standing, ToSession};
use crate::tls::{Alpn, HandshakeError};

/// A way on which nobody answers; counts who was tried.
#[derive(Debug, Default)]
struct Nowhere(AtomicUsize);

impl Wire for Nowhere {
    fn me(&self) -> u64 {
        1
    }

    fn reach(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }

    fn secure(&self, _: Stream, _: u64, _: Alpn) -> BoxFuture<'_, Result<Stream, HandshakeError>> {
        Box::pin(std::future::pending())
    }
}

/// A member's end of the bus, and its session.
pub(in super::super) struct Member {
    pub(in super::super) shared: Shared,
    pub(in super::super) session: mpsc::Receiver<ToSession>,
    wire: Arc<Nowhere>,
}

pub(in super::super) fn member() -> Member {
    let voter = BookEntry {
        name: "n2".to_owned(),
        addresses: vec!["192.0.2.2:4444".parse().expect("address")],
        voter: true,
    };
    let book = AddressBook::default();
    book.replace(Book::of([(2, voter)]));
    let wire = Arc::new(Nowhere::default());
    let (to_session, session) = mpsc::channel(256);
    let api = Api {
        asker: Asker::new(to_session),
        node_name: "n1".to_owned(),
        node: NodeId(1),
        cluster: "c".to_owned(),
        asked: None,
        applied: None,
        agent: mpsc::channel(1).0,
        dialer: Dialer::new(wire.clone(), book, DialTiming::default()),
        lease: Lease::default(),
        standing: Standing::default(),
    };
    let shared = Shared {
        api,
        client: "test".to_owned(),
        number: AtomicU64::new(0),
        one_wish: Mutex::new(()),
        reads: Reads::default(),
    };
    Member { shared, session, wire }
}

/// Answers as a leader with a log of that length that takes a moment for it; counts how often, and how many waited at once.
async fn lead(session: &mut mpsc::Receiver<ToSession>, index: u64, counts: &(AtomicUsize, AtomicUsize)) {
    let mut state = State::default();
    state.index = index;
    let live = Live { quorum: true, ..Live::default() };
    while let Some(asked) = session.recv().await {
        let ToSession::Ask { request, reply } = asked else { continue };
        counts.0.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(1)).await;
        counts.1.fetch_max(session.len() + 1, Ordering::SeqCst);
        let answer = match request {
            Request::Overview => {
                Reply::Overview(Box::new(picture::overview(&state, &Plan::default(), 0, &live)))
            }
            _ => Reply::History(Vec::new()),
        };
        // Whoever asked may have gone.
        let _ = reply.send(answer);
    }
}

#[tokio::test]
async fn pictures_for_a_thousand_callers_cost_the_leader_two() {
    let Member { shared, mut session, .. } = member();
    let counts = Default::default();
    tokio::select! {
        () = lead(&mut session, 7, &counts) => {}
        pictures = join_all((0..1_000).map(|_| shared.overview())) => {
            assert!(pictures.iter().all(|picture| picture.as_ref().is_ok_and(|picture| picture.quorum)));
        }
    }
    // That of the first, and that of all who asked while it was made.
    assert_eq!(counts.0.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn all_who_wait_for_a_change_look_for_it_together() {
    let Member { shared, mut session, .. } = member();
    let counts = Default::default();
    let limit = Duration::from_secs(2);
    tokio::select! {
        () = lead(&mut session, 7, &counts) => {}
        known = join_all((0..1_000).map(|_| shared.wait_change(7, limit))) => assert_eq!(known, [7; 1_000]),
    }
    let looks = counts.0.load(Ordering::SeqCst);
    assert!(looks <= 100, "{looks} looks in 2 s");
    // What has happened already is told at once.
    let began = Instant::now();
    tokio::select! {
        () = lead(&mut session, 8, &counts) => {}
        known = join_all((0..1_000).map(|_| shared.wait_change(7, limit))) => assert_eq!(known, [8; 1_000]),
    }
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
}

#[tokio::test]
async fn other_questions_wait_their_turn_and_are_all_answered() {
    let Member { shared, mut session, .. } = member();
    let counts = Default::default();
    let history = || shared.history(Request::History { lines: 1, unit: None, node: None });
    tokio::select! {
        () = lead(&mut session, 7, &counts) => {}
        lines = join_all((0..40).map(|_| history())) => assert!(lines.iter().all(Result::is_ok)),
    }
    assert_eq!(counts.0.load(Ordering::SeqCst), 40);
    assert!(counts.1.load(Ordering::SeqCst) <= AT_ONCE);
}

#[tokio::test]
async fn without_a_leader_all_are_told_by_the_same_looks_at_the_voters() {
    let Member { shared, session: _session, wire } = member();
    let pictures = join_all((0..1_000).map(|_| shared.overview())).await;
    for picture in pictures {
        let memory = picture.expect("what this node knows").memory.clone().expect("of its own");
        assert_eq!(memory.unreached, ["n2"]);
    }
    let looks = wire.0.load(Ordering::SeqCst);
    assert!(looks <= 3, "{looks} looks");
}
