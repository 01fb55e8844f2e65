use std::time::Duration as Wait;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::pki::{Authority, ClusterId, NodeKey};

const OURS: ClusterId = ClusterId::from_bytes([0xaa; 16]);
const THEIRS: ClusterId = ClusterId::from_bytes([0xbb; 16]);

fn credentials_for(authority: &Authority, name: NodeName, days: i64) -> Credentials {
    let key = NodeKey::generate().expect("key");
    let request = key.signing_request().expect("request");
    let cert = authority.sign_for(&request, name, time::Duration::days(days)).expect("certificate");
    Credentials::new(authority.cert().clone(), cert, key).expect("credentials")
}

fn node_of(authority: &Authority, cluster: ClusterId, node: u64) -> Arc<NodeTls> {
    NodeTls::new(&credentials_for(authority, NodeName { cluster, node }, 1)).expect("settings")
}

type Accepted = Result<(server::TlsStream<DuplexStream>, Alpn, Option<NodeName>), HandshakeError>;

/// Dials `node` on `server`; the client reads a byte, as in TLS 1.3 it hears of a refusal only then.
async fn meet(
    client: &NodeTls,
    server: &NodeTls,
    node: u64,
    alpn: Alpn,
) -> (Result<(), HandshakeError>, Accepted) {
    let (near, far) = duplex(1 << 16);
    let dial = async {
        let mut stream = client.connect(near, node, alpn).await?;
        stream.read_u8().await.map(drop).map_err(HandshakeError::from)
    };
    let accept = async {
        let mut accepted = server.accept(far).await?;
        tokio::io::AsyncWriteExt::write_u8(&mut accepted.0, 1).await?;
        tokio::io::AsyncWriteExt::flush(&mut accepted.0).await?;
        Ok(accepted)
    };
    tokio::time::timeout(Wait::from_secs(10), async { tokio::join!(dial, accept) }).await.expect("in time")
}

#[tokio::test]
async fn two_nodes_know_each_other() {
    let authority = Authority::create(OURS).expect("authority");
    let (one, two) = (node_of(&authority, OURS, 1), node_of(&authority, OURS, 2));
    for alpn in [Alpn::Raft, Alpn::Session, Alpn::Relay, Alpn::Probe] {
        let (dialled, accepted) = meet(&one, &two, 2, alpn).await;
        dialled.expect("dialled");
        let (_, asked, peer) = accepted.expect("accepted");
        assert_eq!((asked, peer), (alpn, Some(one.name())));
    }
}

#[tokio::test]
async fn a_node_answers_for_itself_only() {
    let authority = Authority::create(OURS).expect("authority");
    let (one, two) = (node_of(&authority, OURS, 1), node_of(&authority, OURS, 2));
    let (dialled, _) = meet(&one, &two, 3, Alpn::Session).await;
    let error = dialled.expect_err("it is not node 3");
    assert!(
        matches!(error, HandshakeError::Peer(PeerError::WrongNode { dialled: 3, found: 2 })),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_dialler_names_both_clusters() {
    let (a, b) = (Authority::create(OURS).expect("authority"), Authority::create(THEIRS).expect("authority"));
    let (dialled, accepted) = meet(&node_of(&a, OURS, 1), &node_of(&b, THEIRS, 2), 2, Alpn::Session).await;
    let text = dialled.expect_err("another cluster").to_string();
    assert!(text.contains(&OURS.to_string()) && text.contains(&THEIRS.to_string()), "{text}");
    assert!(accepted.is_err());
}

#[tokio::test]
async fn the_listener_names_both_clusters() {
    let (a, b) = (Authority::create(OURS).expect("authority"), Authority::create(THEIRS).expect("authority"));
    // A client that believes our server and shows another cluster's certificate.
    let stranger = credentials_for(&b, NodeName { cluster: THEIRS, node: 1 }, 1);
    let server = node_of(&a, OURS, 2);
    let believes_us = credentials_for(&a, NodeName { cluster: OURS, node: 9 }, 1);
    let verifier = Arc::new(PeerVerifier::new(&believes_us).expect("verifier"));
    let mut client = client_builder()
        .expect("builder")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![stranger.cert().clone()], stranger.tls_key())
        .expect("client");
    client.alpn_protocols = wire_names([Alpn::Raft]);
    let (near, far) = duplex(1 << 16);
    let dial = async {
        let mut stream = connect(client, DialledNode(2), near, Alpn::Raft).await?;
        stream.read_u8().await.map(drop).map_err(HandshakeError::from)
    };
    let (dialled, accepted) = tokio::join!(dial, server.accept(far));
    let text = accepted.expect_err("another cluster").to_string();
    assert!(text.contains(&OURS.to_string()) && text.contains(&THEIRS.to_string()), "{text}");
    let text = dialled.expect_err("refused").to_string();
    assert!(text.contains("does not accept this node's certificate (of another cluster"), "{text}");
}

#[tokio::test]
async fn the_right_names_signed_by_another_key_are_not_believed() {
    // Both say cluster OURS; only the keys differ, as after an imitation.
    let (real, fake) =
        (Authority::create(OURS).expect("authority"), Authority::create(OURS).expect("authority"));
    let (one, two) = (node_of(&real, OURS, 1), node_of(&fake, OURS, 2));
    for (client, server, node) in [(&one, &two, 2), (&two, &one, 1)] {
        let (dialled, accepted) = meet(client, server, node, Alpn::Session).await;
        let error = dialled.expect_err("an imitation");
        assert!(matches!(error, HandshakeError::UnknownAuthority), "{error:?}");
        assert!(accepted.is_err());
    }
}

#[tokio::test]
async fn an_expired_certificate_opens_nothing() {
    let authority = Authority::create(OURS).expect("authority");
    let fresh = node_of(&authority, OURS, 1);
    let old = NodeTls::new(&credentials_for(&authority, NodeName { cluster: OURS, node: 2 }, -1))
        .expect("settings");
    let (dialled, _) = meet(&fresh, &old, 2, Alpn::Session).await;
    assert!(matches!(dialled, Err(HandshakeError::Expired)), "{dialled:?}");
    let (dialled, accepted) = meet(&old, &fresh, 1, Alpn::Session).await;
    assert!(matches!(accepted, Err(HandshakeError::Expired)), "{accepted:?}");
    assert!(matches!(dialled, Err(HandshakeError::NotAccepted { .. })), "{dialled:?}");
}

#[tokio::test]
async fn only_join_goes_without_a_certificate() {
    let authority = Authority::create(OURS).expect("authority");
    let server = node_of(&authority, OURS, 2);
    // Asking for two protocols at once must not get a session in by the strangers' door.
    for names in [vec![Alpn::Session], vec![Alpn::Join, Alpn::Session], vec![]] {
        let verifier = Arc::new(PinnedAuthority::new(OURS, crate::pki::fingerprint(authority.cert())));
        let mut client = client_builder()
            .expect("builder")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        client.alpn_protocols = wire_names(names.clone());
        let (near, far) = duplex(1 << 16);
        let name = DialledNode(2).server_name().expect("name");
        let connector = TlsConnector::from(Arc::new(client));
        let (_, accepted) = tokio::join!(connector.connect(name, near), server.accept(far));
        assert!(accepted.is_err(), "{names:?}");
    }
}

#[tokio::test]
async fn a_joiner_believes_the_pinned_authority_only() {
    let authority = Authority::create(OURS).expect("authority");
    let server = node_of(&authority, OURS, 2);
    let pin = crate::pki::fingerprint(authority.cert());

    let (near, far) = duplex(1 << 16);
    let (joined, accepted) = tokio::join!(connect_to_join(near, OURS, pin), server.accept(far));
    assert_eq!(&joined.expect("joined").1, authority.cert());
    let (_, alpn, peer) = accepted.expect("accepted");
    assert_eq!((alpn, peer), (Alpn::Join, None));

    let other = Authority::create(OURS).expect("authority");
    for (cluster, pin) in [(OURS, crate::pki::fingerprint(other.cert())), (THEIRS, pin)] {
        let (near, far) = duplex(1 << 16);
        let (joined, _) = tokio::join!(connect_to_join(near, cluster, pin), server.accept(far));
        assert!(matches!(joined, Err(HandshakeError::Peer(_))), "{joined:?}");
    }
}

#[tokio::test]
async fn showing_the_pinned_authority_beside_a_certificate_of_another_is_not_enough() {
    let (real, fake) =
        (Authority::create(OURS).expect("authority"), Authority::create(OURS).expect("authority"));
    let impostor = credentials_for(&fake, NodeName { cluster: OURS, node: 2 }, 1);
    let chain: Vec<CertificateDer<'static>> =
        vec![impostor.cert().clone(), fake.cert().clone(), real.cert().clone()];
    let mut config = server_builder()
        .expect("builder")
        .with_no_client_auth()
        .with_single_cert(chain, impostor.tls_key())
        .expect("server");
    config.alpn_protocols = wire_names([Alpn::Join]);
    let (near, far) = duplex(1 << 16);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let pin = crate::pki::fingerprint(real.cert());
    let (joined, _) = tokio::join!(connect_to_join(near, OURS, pin), acceptor.accept(far));
    assert!(matches!(joined, Err(HandshakeError::UnknownAuthority)), "{joined:?}");
}
