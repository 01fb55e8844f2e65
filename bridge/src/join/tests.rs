use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::identity::{self, Enrolled, Role};
use crate::init::{self, First};
use crate::net::{AddressBook, BookEntry, Listener};
use crate::paths::Paths;
use crate::pki::{NodeName, fingerprint, sha256};
use crate::tls::NodeTls;

const NOW: i64 = 1_000_000;
const BOUND: Duration = Duration::from_secs(20);

/// What the cluster is to answer.
type Answers = fn(&JoinRequest, &TokenRecord) -> Result<Approval, Refusal>;

struct Cluster {
    _dir: TempDir,
    enrolled: Arc<Enrolled>,
    token: Token,
    asked: Arc<Mutex<Vec<JoinRequest>>>,
    _task: JoinHandle<()>,
}

impl Cluster {
    /// A first node that answers joins so.
    fn start(answers: Answers) -> Self {
        let dir = tempfile::tempdir().expect("scratch directory");
        let first = First {
            cluster_name: "harbour".to_owned(),
            node_name: "n1".to_owned(),
            addresses: vec!["127.0.0.1:7433".parse().expect("address")],
        };
        let enrolled = Arc::new(init::create(&Paths::below(dir.path()), &first).expect("a new cluster"));
        let tls = NodeTls::new(&enrolled.credentials).expect("settings");
        let loopback = "127.0.0.1:0".parse().expect("address");
        let mut listener =
            Listener::bind(loopback, tls, Arc::new(|_| Ok(())), AddressBook::default()).expect("bound");
        let (token, record) = Token::generate(
            enrolled.identity.cluster,
            "harbour",
            fingerprint(enrolled.credentials.ca()),
            vec![listener.local_addr()],
            NOW + 3600,
        )
        .expect("token");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn({
            let (enrolled, asked) = (Arc::clone(&enrolled), Arc::clone(&asked));
            async move {
                while let Some(incoming) = listener.accept().await {
                    let authority = enrolled.authority.as_ref().expect("a voter has the key");
                    let approve = |request: JoinRequest| {
                        let answer = answers(&request, &record);
                        asked.lock().expect("not poisoned").push(request);
                        std::future::ready(answer)
                    };
                    let _ = serve(incoming, enrolled.identity.cluster, authority, approve).await;
                }
            }
        });
        Self { _dir: dir, enrolled, token, asked, _task: task }
    }

    fn asked(&self) -> Vec<JoinRequest> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

fn approve_as(role: Role) -> Approval {
    let entry = |name: &str, voter| BookEntry { name: name.to_owned(), addresses: Vec::new(), voter };
    let peers =
        vec![Peer { node: 1, entry: entry("n1", true) }, Peer { node: 42, entry: entry("n2", role.votes()) }];
    Approval { node: 42, cluster_name: "harbour".to_owned(), generation: 0, role, peers }
}

fn check_token(request: &JoinRequest, record: &TokenRecord) -> Result<(), Refusal> {
    match record.matches(&request.token_id, &request.secret_sha256) {
        true => Ok(()),
        false => {
            Err(Refusal::new(RefusalKind::Token, "the token is not known; `convoke token` prints a new one"))
        }
    }
}

fn joiner() -> Joiner {
    Joiner {
        name: "n2".to_owned(),
        addresses: Vec::new(),
        port: 7433,
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        product_uuid: None,
        role: None,
        version: "0.1.0".to_owned(),
    }
}

async fn join(token: &Token, joiner: &Joiner) -> Result<Joined, JoinError> {
    timeout(BOUND, request(token, joiner, NOW)).await.expect("in time")
}

#[tokio::test]
async fn a_machine_becomes_a_node_and_nothing_is_written_before() {
    let cluster = Cluster::start(|request, record| {
        check_token(request, record)?;
        Ok(approve_as(Role::Member))
    });
    let dir = tempfile::tempdir().expect("scratch directory");
    let paths = Paths::below(dir.path());
    let joined = join(&cluster.token, &joiner()).await.expect("joined");
    assert_eq!(std::fs::read_dir(dir.path()).expect("directory").count(), 0);

    joined.install(&paths).expect("installed");
    let node = identity::load(&paths).expect("whole").expect("there");
    assert_eq!(node.identity, joined.identity);
    assert_eq!((node.identity.node, node.identity.node_name.as_str()), (42, "n2"));
    let name = NodeName { cluster: cluster.enrolled.identity.cluster, node: 42 };
    assert_eq!(node.credentials.name(), name);
    assert_eq!(node.credentials.ca(), cluster.enrolled.credentials.ca());
    assert!(node.authority.is_none(), "a member has no signing key");
    assert!(!paths.ca_key().exists());
    assert_eq!(crate::net::Book::load(&paths.peers_file()).expect("peers").nodes.len(), 2);

    // Without addresses of its own the machine is known by the one it came from.
    let asked = cluster.asked();
    assert_eq!(asked[0].addresses, ["127.0.0.1:7433".parse::<SocketAddr>().expect("address")]);
    assert_eq!(asked[0].secret_sha256, sha256(&cluster.token.secret));

    let error = joined.install(&paths).expect_err("it is a node already");
    assert!(
        error.to_string().starts_with("this node is already `n2` (node 42) of cluster `harbour`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_new_voter_can_certify_others() {
    let cluster = Cluster::start(|_, _| Ok(approve_as(Role::Voter)));
    let dir = tempfile::tempdir().expect("scratch directory");
    let paths = Paths::below(dir.path());
    join(&cluster.token, &joiner()).await.expect("joined").install(&paths).expect("installed");
    let node = identity::load(&paths).expect("whole").expect("there");
    let authority = node.authority.expect("a voter has the key");
    assert_eq!(authority.cert(), cluster.enrolled.credentials.ca());
}

#[tokio::test]
async fn the_clusters_no_comes_with_its_reason() {
    let cluster = Cluster::start(|request, record| {
        check_token(request, record)?;
        Ok(approve_as(Role::Member))
    });
    let mut forged = cluster.token.clone();
    forged.secret = [0; 32];
    let error = join(&forged, &joiner()).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "cluster `harbour` refused: the token is not known; `convoke token` prints a new one"
    );
    assert!(matches!(error, JoinError::Refused { refusal: Refusal { kind: RefusalKind::Token, .. }, .. }));

    let unnamed = Joiner { name: "a b".to_owned(), ..joiner() };
    let error = join(&cluster.token, &unnamed).await.expect_err("refused");
    assert!(matches!(error, JoinError::Refused { refusal: Refusal { kind: RefusalKind::Request, .. }, .. }));
    assert_eq!(cluster.asked().len(), 1, "a name like that never reaches the cluster's state");
}

#[tokio::test]
async fn an_expired_token_asks_nobody() {
    let cluster = Cluster::start(|_, _| Ok(approve_as(Role::Member)));
    let error = timeout(BOUND, request(&cluster.token, &joiner(), NOW + 3600)).await.expect("in time");
    assert!(matches!(error, Err(JoinError::Token(TokenError::Expired { .. }))), "{error:?}");
    assert!(cluster.asked().is_empty());
}

#[tokio::test]
async fn a_node_of_another_cluster_hears_no_secret() {
    let right = Cluster::start(|_, _| Ok(approve_as(Role::Member)));
    let wrong = Cluster::start(|_, _| Ok(approve_as(Role::Member)));
    let mut token = right.token.clone();
    token.addresses = wrong.token.addresses.clone();
    let text = join(&token, &joiner()).await.expect_err("another cluster").to_string();
    assert!(text.contains("its certificate is not of the cluster that made the token"), "{text}");
    assert!(wrong.asked().is_empty());
}

#[tokio::test]
async fn a_node_that_cannot_tell_now_is_not_the_last_one_asked() {
    let busy = Cluster::start(|_, _| Err(Refusal::new(RefusalKind::NotNow, "no leader at the moment")));
    let error = join(&busy.token, &joiner()).await.expect_err("not now");
    assert!(error.to_string().contains("no leader at the moment"), "{error}");

    let ready = Cluster::start(|_, _| Ok(approve_as(Role::Member)));
    let mut token = ready.token.clone();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address");
    token.addresses.insert(0, dead);
    token.addresses.insert(1, busy.token.addresses[0]);
    assert_eq!(join(&token, &joiner()).await.expect("joined").identity.node, 42);
}

#[tokio::test]
async fn one_attempt_has_one_name_at_every_node() {
    let busy = Cluster::start(|_, _| Err(Refusal::new(RefusalKind::NotNow, "no leader at the moment")));
    let mut token = busy.token.clone();
    token.addresses.push(busy.token.addresses[0]);
    join(&token, &joiner()).await.expect_err("not now");
    join(&token, &joiner()).await.expect_err("not now");
    let attempts: Vec<_> = busy.asked().into_iter().map(|request| request.attempt).collect();
    assert_eq!(attempts.len(), 4);
    assert!(attempts[0] == attempts[1] && attempts[2] == attempts[3] && attempts[0] != attempts[2]);
}

#[tokio::test]
async fn a_bad_signing_request_spends_no_node_id() {
    let cluster = Cluster::start(|_, _| Ok(approve_as(Role::Member)));
    let tcp = tokio::net::TcpStream::connect(cluster.token.addresses[0]).await.expect("connected");
    let token = &cluster.token;
    let (mut stream, _) = crate::tls::connect_to_join(tcp, token.cluster, token.authority)
        .await
        .expect("a node of the cluster");
    crate::net::greeting::await_acceptance(&mut stream).await.expect("accepted");
    let mut frames = crate::net::Frames::new(stream, message::MESSAGE_MAX);
    let hello = message::Hello {
        token: message::Token { id: token.id, secret: token.secret },
        attempt: [0; 16],
        name: "n2".to_owned(),
        addresses: Vec::new(),
        machine_id: "m".to_owned(),
        product_uuid: None,
        role: None,
        version: String::new(),
        signing_request: vec![1, 2, 3],
    };
    frames.send(&hello).await.expect("sent");
    let answer = timeout(BOUND, frames.recv::<message::Answer>()).await.expect("in time").expect("an answer");
    assert!(
        matches!(answer, message::Answer::Refused(Refusal { kind: RefusalKind::Request, .. })),
        "{answer:?}"
    );
    assert!(cluster.asked().is_empty());
}
