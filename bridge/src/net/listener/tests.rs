use tokio::net::TcpSocket;

use super::*;
use crate::net::{Book, BookEntry, DialTiming, Dialer};
use crate::pki::{Authority, ClusterId, Credentials, NodeKey};

const CLUSTER: ClusterId = ClusterId::from_bytes([5; 16]);

fn tls(authority: &Authority, node: u64) -> Arc<NodeTls> {
    let key = NodeKey::generate().expect("key");
    let request = key.signing_request().expect("request");
    let cert = authority.sign(&request, NodeName { cluster: CLUSTER, node }).expect("certificate");
    NodeTls::new(&Credentials::new(authority.cert().clone(), cert, key).expect("credentials"))
        .expect("settings")
}

fn entry(address: SocketAddr) -> BookEntry {
    BookEntry { name: "n".to_owned(), addresses: vec![address], voter: true }
}

/// A connection from an address of this host that says nothing.
async fn idle(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.bind(SocketAddr::from((from, 0))).expect("an address of loopback");
    socket.connect(to).await.expect("connected")
}

#[tokio::test]
async fn strangers_that_say_nothing_do_not_keep_a_node_out() {
    let authority = Authority::create(CLUSTER).expect("authority");
    let book = AddressBook::default();
    let loopback = "127.0.0.1:0".parse().expect("address");
    let mut listener =
        Listener::bind(loopback, tls(&authority, 1), Arc::new(|_| Ok(())), book.clone()).expect("bound");
    let address = listener.local_addr();
    let node = "127.0.0.1:7433".parse().expect("address");
    book.replace(Book::of([(1, entry(address)), (2, entry(node))]));
    // As many as there are places, from four addresses.
    let mut idlers = Vec::new();
    for place in 0..HANDSHAKES {
        let host = 2 + u8::try_from(place / HANDSHAKES_PER_ADDRESS).expect("few");
        idlers.push(idle([127, 0, 0, host], address).await);
    }
    let dialer = Dialer::new(tls(&authority, 2), book, DialTiming::default());
    // Before any of them has had its time.
    let met = timeout(HANDSHAKE_LIMIT / 2, async {
        tokio::join!(dialer.connect(1, Alpn::Session), listener.accept())
    });
    let (dialed, incoming) = met.await.expect("let in at once");
    dialed.expect("reached");
    assert_eq!(incoming.and_then(|incoming| incoming.peer).map(|peer| peer.node), Some(2));
}

#[test]
fn a_host_is_counted_once_whatever_it_calls_itself() {
    let counted = |text: &str, known| counted_as(text.parse().expect("address"), known).to_string();
    for (address, known, expected) in [
        ("192.0.2.7", false, "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", false, "2001:db8:1:2::"),
        ("2001:db8:1:2::1", false, "2001:db8:1:2::"),
        ("2001:db8:1:3::1", false, "2001:db8:1:3::"),
        // Nodes share a network with each other, and with strangers perhaps.
        ("2001:db8:1:2::1", true, "2001:db8:1:2::1"),
    ] {
        assert_eq!(counted(address, known), expected, "{address}");
    }
}
