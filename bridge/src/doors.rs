//! What comes in at the node's port, and who takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use consensus::{BoxStream, Consensus};
use policy::{NodeId, Wish};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::identity;
use crate::join::{self, Approval, JoinRequest, RefusalKind};
use crate::net::{AddressBook, Incoming, Listener, Relay, Stream, Wire};
use crate::pki::{Authority, ClusterId, hex};
use crate::session::Asker;
use crate::session::message::{Reply, Request};
use crate::tls::Alpn;

/// How long the cluster may take to decide on a newcomer.
const DECIDE: Duration = Duration::from_secs(20);

/// Whom a voter lets in: the nodes of the cluster, and those that it cannot have heard of yet.
///
/// Follows from the state alone, so that a restart does not let a removed node in again: ids are numbers of entries, so
/// one that is not newer than the state, and is not in it, was removed.
#[derive(Clone, Debug, Default)]
pub struct Guests {
    /// Nodes of the cluster.
    pub nodes: BTreeSet<u64>,
    /// Those of them that vote.
    pub voters: BTreeSet<u64>,
    /// The highest id that the state may know of.
    pub newest: u64,
    /// What nodes that were taken out are told.
    pub removed: BTreeMap<u64, String>,
}

impl Guests {
    /// Lets a node in.
    ///
    /// # Errors
    /// What a node is told that is not let in.
    pub fn admit(&self, node: u64) -> Result<(), String> {
        if node > self.newest || self.nodes.contains(&node) {
            return Ok(());
        }
        let why = self.removed.get(&node).cloned();
        Err(why.unwrap_or_else(|| "it is not a node of this cluster any more".to_owned()))
    }

    /// Whether a node that was let in may speak Raft: a member is trusted with its own units, and not with the log.
    #[must_use]
    pub fn votes(&self, node: u64) -> bool {
        self.voters.contains(&node) || !self.nodes.contains(&node)
    }
}

/// Who takes what.
pub struct Doors {
    /// This node's way to others, for relaying.
    pub wire: Arc<dyn Wire>,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Nodes and addresses, for relaying.
    pub book: AddressBook,
    /// Raft, on a voter.
    pub consensus: Option<Consensus>,
    /// Who is let in, and who of them votes.
    pub guests: Arc<ArcSwap<Guests>>,
    /// Takes sessions.
    pub streams: mpsc::Sender<(NodeId, Stream)>,
    /// Signs newcomers, on a voter.
    pub authority: Option<Arc<Authority>>,
    /// Asks the leader whether a newcomer may join.
    pub asker: Asker,
}

/// Serves the port until the daemon ends.
pub async fn serve(mut listener: Listener, doors: Doors) {
    let relay = Arc::new(Relay::new(Arc::clone(&doors.wire), doors.book.clone()));
    while let Some(incoming) = listener.accept().await {
        match incoming.alpn {
            Alpn::Raft => doors.raft(incoming),
            Alpn::Session => doors.session(incoming).await,
            Alpn::Relay => {
                let relay = Arc::clone(&relay);
                tokio::spawn(async move {
                    if let Err(error) = relay.serve(incoming).await {
                        debug!(%error, "a relay ended");
                    }
                });
            }
            Alpn::Join => doors.join(incoming),
            Alpn::Probe => {}
        }
    }
}

/// This node's own session, without the network.
pub async fn own(node: NodeId, mut ends: mpsc::Receiver<Stream>, streams: mpsc::Sender<(NodeId, Stream)>) {
    while let Some(stream) = ends.recv().await {
        if streams.send((node, stream)).await.is_err() {
            return;
        }
    }
}

impl Doors {
    fn raft(&self, incoming: Incoming) {
        let (Some(consensus), Some(peer)) = (self.consensus.clone(), incoming.peer) else { return };
        if !self.guests.load().votes(peer.node) {
            let node = peer.node;
            warn!(
                node,
                "closed a Raft connection of a node without a vote; convoked opens none there, so look at what does"
            );
            return;
        }
        tokio::spawn(async move {
            consensus.serve(Box::new(incoming.stream) as BoxStream, peer.node).await;
        });
    }

    async fn session(&self, incoming: Incoming) {
        let Some(peer) = incoming.peer.filter(|_| self.consensus.is_some()) else { return };
        if self.streams.send((NodeId(peer.node), incoming.stream)).await.is_err() {
            debug!("no core takes sessions");
        }
    }

    fn join(&self, incoming: Incoming) {
        let Some(authority) = self.authority.clone() else {
            debug!("a machine asks to join here, where no signing key is");
            return;
        };
        let (cluster, asker) = (self.cluster, self.asker.clone());
        tokio::spawn(async move {
            match join::serve(incoming, cluster, &authority, |request| approve(asker, request)).await {
                Ok(approval) => info!(node = approval.node, "a machine has joined"),
                Err(error) => warn!(%error, "a machine did not join"),
            }
        });
    }
}

/// Has the cluster decide: the token, the name and the id are its matter.
async fn approve(asker: Asker, request: JoinRequest) -> Result<Approval, join::Refusal> {
    let wish = Wish::Enroll {
        token: hex(&request.token_id),
        secret_hash: hex(&request.secret_sha256),
        name: request.name.clone(),
        addresses: request.addresses.iter().map(ToString::to_string).collect(),
        machine: identity::text_of(&request.machine_id, request.product_uuid.as_deref()),
        role: request.role.map(role_of),
    };
    let attempt = format!("join {}", hex(&request.attempt));
    let later = |why: String| join::Refusal::new(RefusalKind::NotNow, why);
    match asker.ask(Request::Enroll { attempt, wish }, DECIDE).await {
        Ok(Reply::Enrolled { node, role, generation, book, cluster_name }) => Ok(Approval {
            node: node.0,
            cluster_name,
            generation: u64::from(generation),
            role: match role {
                policy::Role::Voter => identity::Role::Voter,
                policy::Role::Member => identity::Role::Member,
                policy::Role::Witness => identity::Role::Witness,
            },
            peers: book,
        }),
        Ok(Reply::Wish(Err(refusal))) => {
            let text = refusal.to_string();
            let kind = match () {
                () if text.contains("expired") => RefusalKind::Expired,
                () if text.contains("token") => RefusalKind::Token,
                () => RefusalKind::Taken,
            };
            Err(join::Refusal::new(kind, text))
        }
        Ok(Reply::Unable(why)) => Err(later(why)),
        Ok(_) => Err(later("the leader's answer makes no sense".to_owned())),
        Err(error) => Err(later(error.to_string())),
    }
}

fn role_of(role: identity::Role) -> policy::Role {
    match role {
        identity::Role::Voter => policy::Role::Voter,
        identity::Role::Member => policy::Role::Member,
        identity::Role::Witness => policy::Role::Witness,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_removed_stays_out_and_who_is_new_comes_in() {
        let removed = [(30, "by alice".to_owned())].into();
        let guests = Guests { nodes: [1, 20].into(), voters: [1].into(), newest: 50, removed };
        assert_eq!(guests.admit(20), Ok(()));
        assert_eq!(guests.admit(30), Err("by alice".to_owned()), "removed before this state");
        assert!(guests.admit(31).is_err(), "removed so long ago that nobody knows by whom");
        assert_eq!(guests.admit(51), Ok(()), "enrolled by an entry that is still to be applied");
        assert_eq!(guests.admit((1 << 48) | 10), Ok(()), "enrolled in a later generation");
        assert_eq!(Guests::default().admit(1), Ok(()), "a voter that knows nothing yet turns nobody away");
    }

    #[test]
    fn raft_is_spoken_with_those_that_vote_or_may() {
        let guests = Guests { nodes: [1, 20].into(), voters: [1].into(), newest: 50, ..Guests::default() };
        assert!(guests.votes(1));
        assert!(!guests.votes(20), "a member");
        assert!(guests.votes(51), "enrolled by an entry that is still to be applied");
        assert!(Guests::default().votes(20), "a voter that knows nothing yet");
    }
}
