//! The cluster's side of a join.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::message::{Answer, Approval, Hello, JoinRequest, MESSAGE_MAX, Refusal, RefusalKind};
use crate::net::{FrameError, Frames, Incoming};
use crate::pki::{Authority, ClusterId, NodeName, PkiError, check_signing_request, sha256};
use crate::tls::Alpn;

/// For a stranger to say what it wants, and to take the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Names and ids are short; longer ones only fill the log.
const TEXT_MAX: usize = 253;
const ADDRESSES_MAX: usize = 32;

/// Why a join came to nothing on this side.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The connection is for something else.
    #[error("not a request to join")]
    NotAJoin,
    /// The joiner said nothing in time, or did not take the answer.
    #[error("the joiner did not answer in time")]
    TimedOut,
    /// The joiner's message or the connection is broken.
    #[error("the joiner's message is not usable")]
    Frame(#[from] FrameError),
    /// The cluster said no; the joiner was told.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The certificate could not be made.
    #[error("cannot certify the new node")]
    Sign(#[source] PkiError),
    /// The connection broke before the answer was through. The approval stands; the same attempt may ask again.
    #[error("the answer did not reach the joiner")]
    Lost(#[source] io::Error),
}

/// Serves one connection: hears the request, has it approved, and certifies the joiner's key. `approve` checks token and
/// names, and commits the node before it says yes.
pub async fn serve<F, A>(
    incoming: Incoming,
    cluster: ClusterId,
    authority: &Authority,
    approve: F,
) -> Result<Approval, ServeError>
where
    F: FnOnce(JoinRequest) -> A,
    A: Future<Output = Result<Approval, Refusal>>,
{
    let Incoming { alpn: Alpn::Join, stream, remote, .. } = incoming else {
        return Err(ServeError::NotAJoin);
    };
    let mut frames = Frames::new(stream, MESSAGE_MAX);
    let hello: Hello = timeout(LIMIT, frames.recv()).await.map_err(|_| ServeError::TimedOut)??;
    let signing_request = hello.signing_request.clone();
    let outcome = match check(&hello) {
        Ok(()) => approve(request(hello, remote)).await,
        Err(refusal) => Err(refusal),
    };
    let approval = match outcome {
        Ok(approval) => approval,
        Err(refusal) => {
            answer(&mut frames, &Answer::Refused(refusal.clone())).await?;
            return Err(ServeError::Refused(refusal));
        }
    };
    let name = NodeName { cluster, node: approval.node };
    let cert = match authority.sign(&signing_request, name) {
        Ok(cert) => cert,
        Err(error) => {
            let refusal = Refusal::new(RefusalKind::Request, error.to_string());
            answer(&mut frames, &Answer::Refused(refusal)).await?;
            return Err(ServeError::Sign(error));
        }
    };
    let votes = approval.role.votes();
    let joined = Answer::Joined {
        cluster_name: approval.cluster_name.clone(),
        node: approval.node,
        generation: approval.generation,
        role: approval.role,
        cert: cert.to_vec(),
        authority_key: votes.then(|| authority.key_pem()),
        peers: approval.peers.clone(),
    };
    answer(&mut frames, &joined).await?;
    Ok(approval)
}

async fn answer<S>(frames: &mut Frames<S>, answer: &Answer) -> Result<(), ServeError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    match timeout(LIMIT, frames.send(answer)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(FrameError::Io(error))) => Err(ServeError::Lost(error)),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ServeError::TimedOut),
    }
}

/// What can be refused without asking the cluster.
fn check(hello: &Hello) -> Result<(), Refusal> {
    let wrong = |text: &str| Err(Refusal::new(RefusalKind::Request, text));
    if !usable_name(&hello.name) {
        return wrong(
            "the node's name must have 1 to 253 letters, digits, `-`, `_` or `.`; set `name =` in convoke.toml",
        );
    }
    if hello.machine_id.is_empty() || hello.machine_id.len() > TEXT_MAX {
        return wrong("the machine has no id; `systemd-machine-id-setup` makes one");
    }
    if hello.product_uuid.as_ref().is_some_and(|uuid| uuid.len() > TEXT_MAX)
        || hello.version.len() > TEXT_MAX
        || hello.addresses.len() > ADDRESSES_MAX
    {
        return wrong("a part of the request is too long");
    }
    check_signing_request(&hello.signing_request)
        .map_err(|error| Refusal::new(RefusalKind::Request, error.to_string()))
}

/// Whether a text can name a node: names stand in lists, files and environment variables.
pub fn usable_name(name: &str) -> bool {
    let usable = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    !name.is_empty() && name.len() <= TEXT_MAX && name.chars().all(usable)
}

fn request(hello: Hello, remote: std::net::SocketAddr) -> JoinRequest {
    JoinRequest {
        token_id: hello.token.id,
        secret_sha256: sha256(&hello.token.secret),
        attempt: hello.attempt,
        name: hello.name,
        addresses: hello.addresses,
        machine_id: hello.machine_id,
        product_uuid: hello.product_uuid,
        role: hello.role,
        version: hello.version,
        remote,
    }
}
