//! The joiner's side: asks the nodes that the token names, and holds what they gave until it is installed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::{Answer, Hello, MESSAGE_MAX, Peer, Refusal, RefusalKind};
use super::token::{Token, TokenError};
use crate::atomic;
use crate::identity::{self, Identity, IdentityError, Role};
use crate::net::{Book, FrameError, Frames, greeting};
use crate::paths::Paths;
use crate::pki::{Authority, Credentials, NodeKey, NodeName, PkiError, random};
use crate::tls::{HandshakeError, connect_to_join};

/// For TCP and TLS with one address.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// For the cluster to decide: an election may be under way.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What a machine says of itself.
#[derive(Clone, Debug)]
pub struct Joiner {
    /// What it wants to be called.
    pub name: String,
    /// Where it can be reached; empty: the address by which it reaches the cluster, with `port`.
    pub addresses: Vec<SocketAddr>,
    /// The port it will listen on.
    pub port: u16,
    /// systemd's id of the installation.
    pub machine_id: String,
    /// The firmware's id of the machine, where it has one.
    pub product_uuid: Option<String>,
    /// What it would like to do; none leaves it to the cluster.
    pub role: Option<Role>,
    /// The version of convoked on it.
    pub version: String,
}

/// What the cluster gave; in memory until [`Joined::install`].
#[derive(Debug)]
pub struct Joined {
    /// Who this node is.
    pub identity: Identity,
    /// The proof.
    pub credentials: Credentials,
    /// The signing key, if the node votes.
    pub authority: Option<Authority>,
    /// All nodes.
    pub peers: Vec<Peer>,
}

/// Why one address of the token did not help.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// No TCP connection.
    #[error("{0}")]
    Tcp(io::Error),
    /// No answer in time.
    #[error("no answer")]
    TimedOut,
    /// Somebody else is there.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The conversation broke off.
    #[error("{0}")]
    Frame(FrameError),
    /// It could not tell.
    #[error("{0}")]
    NotNow(Refusal),
}

/// Why the machine did not join. Nothing of the attempt is left on it.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is no good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The cluster said no.
    #[error("cluster `{cluster_name}` refused: {refusal}")]
    Refused {
        /// Which cluster.
        cluster_name: String,
        /// Its answer.
        refusal: Refusal,
    },
    /// None of the token's addresses led to an answer.
    #[error("no node of cluster `{cluster_name}` answered ({})", list(.attempts))]
    NoAnswer {
        /// Which cluster.
        cluster_name: String,
        /// What was tried.
        attempts: Vec<(SocketAddr, AttemptError)>,
    },
    /// The cluster's answer does not hold together.
    #[error("the cluster's answer is not usable: {reason}")]
    Answer {
        /// Why.
        reason: String,
    },
    /// No key could be drawn.
    #[error("cannot make the node's key")]
    Key(#[from] PkiError),
}

fn list(attempts: &[(SocketAddr, AttemptError)]) -> String {
    if attempts.is_empty() {
        return "the token names no address".to_owned();
    }
    attempts.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>().join("; ")
}

/// Asks the cluster of the token for membership, at one address after the other. Writes nothing.
pub async fn request(token: &Token, joiner: &Joiner, now_unix: i64) -> Result<Joined, JoinError> {
    token.check_expiry(now_unix)?;
    let key = NodeKey::generate()?;
    let signing_request = key.signing_request()?;
    let attempt = random()?;
    let mut attempts = Vec::new();
    for address in &token.addresses {
        let hello = |local: SocketAddr| Hello {
            token: super::message::Token { id: token.id, secret: token.secret },
            attempt,
            name: joiner.name.clone(),
            addresses: match joiner.addresses.as_slice() {
                [] => vec![SocketAddr::new(local.ip(), joiner.port)],
                given => given.to_vec(),
            },
            machine_id: joiner.machine_id.clone(),
            product_uuid: joiner.product_uuid.clone(),
            role: joiner.role,
            version: joiner.version.clone(),
            signing_request: signing_request.clone(),
        };
        match ask(token, *address, hello).await {
            Ok((ca, answer)) => return accept(token, joiner, key, ca, answer),
            Err(error) => attempts.push((*address, error)),
        }
    }
    Err(JoinError::NoAnswer { cluster_name: token.cluster_name.clone(), attempts })
}

async fn ask(
    token: &Token,
    address: SocketAddr,
    hello: impl Fn(SocketAddr) -> Hello,
) -> Result<(CertificateDer<'static>, Answer), AttemptError> {
    let connect = async {
        let tcp = TcpStream::connect(address).await.map_err(AttemptError::Tcp)?;
        tcp.set_nodelay(true).map_err(AttemptError::Tcp)?;
        let local = tcp.local_addr().map_err(AttemptError::Tcp)?;
        let (mut stream, ca) = connect_to_join(tcp, token.cluster, token.authority).await?;
        greeting::await_acceptance(&mut stream).await?;
        Ok::<_, AttemptError>((stream, ca, local))
    };
    let connected = timeout(CONNECT_LIMIT, connect).await;
    let (stream, ca, local) = connected.unwrap_or(Err(AttemptError::TimedOut))?;
    let mut frames = Frames::new(stream, MESSAGE_MAX);
    let talk = async {
        frames.send(&hello(local)).await?;
        frames.recv::<Answer>().await
    };
    match timeout(ANSWER_LIMIT, talk).await {
        Ok(Ok(Answer::Refused(refusal))) if refusal.kind == RefusalKind::NotNow => {
            Err(AttemptError::NotNow(refusal))
        }
        Ok(Ok(answer)) => Ok((ca, answer)),
        Ok(Err(error)) => Err(AttemptError::Frame(error)),
        Err(_) => Err(AttemptError::TimedOut),
    }
}

/// Believes the answer only as far as it holds together: the certificate is ours, and of the cluster of the token.
fn accept(
    token: &Token,
    joiner: &Joiner,
    key: NodeKey,
    ca: CertificateDer<'static>,
    answer: Answer,
) -> Result<Joined, JoinError> {
    let unusable = |reason: String| JoinError::Answer { reason };
    let (cluster_name, node, generation, role, cert, authority_key, peers) = match answer {
        Answer::Joined { cluster_name, node, generation, role, cert, authority_key, peers } => {
            (cluster_name, node, generation, role, cert, authority_key, peers)
        }
        Answer::Refused(refusal) => {
            return Err(JoinError::Refused { cluster_name: token.cluster_name.clone(), refusal });
        }
    };
    let identity = Identity {
        cluster: token.cluster,
        cluster_name,
        node,
        node_name: joiner.name.clone(),
        generation,
        role,
    };
    let credentials = Credentials::new(ca.clone(), CertificateDer::from(cert), key)
        .map_err(|error| unusable(error.to_string()))?;
    let NodeName { cluster, node } = credentials.name();
    if credentials.name() != identity.certificate_name() {
        return Err(unusable(format!("it certifies node {node} of cluster {cluster}")));
    }
    let authority = match (role.votes(), authority_key) {
        (true, Some(key)) => {
            Some(Authority::from_key(ca, &key).map_err(|error| unusable(error.to_string()))?)
        }
        (true, None) => return Err(unusable("a voter needs the signing key, and none came".to_owned())),
        (false, _) => None,
    };
    Ok(Joined { identity, credentials, authority, peers })
}

impl Joined {
    /// Makes this machine the node: one rename at the end of it. The list of peers goes first, as a node that knows
    /// nobody could not ask again.
    pub fn install(&self, paths: &Paths) -> Result<(), IdentityError> {
        if let Some(present) = identity::load(paths)? {
            return Err(identity::already(present.identity));
        }
        let path = paths.peers_file();
        let book = Book::of(self.peers.iter().map(|peer| (peer.node, peer.entry.clone())));
        atomic::create_private_dir(&paths.state_dir())
            .and_then(|()| book.store(&path))
            .map_err(|source| IdentityError::File { path, source })?;
        identity::install(paths, &self.identity, &self.credentials, self.authority.as_ref())
    }
}
