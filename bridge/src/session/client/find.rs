//! Finds the leader: whom to try, how long, and where a voter points to.

use policy::NodeId;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::{Client, DIAL_MAX, End, REDIRECTS, WELCOME};
use crate::net::{Direct, FrameError, FrameReader, Path, Stream};
use crate::session::message::Down;
use crate::tls::Alpn;

impl Client {
    /// Whom to try: the known leader, else the voters in turn.
    pub(super) fn choose(&mut self) -> Option<NodeId> {
        // Seen from here on: only a later change shall break off a dial.
        let known = self.setup.local.as_mut().and_then(|local| *local.leader.borrow_and_update());
        let doubted = self.doubted.take();
        let known = known.filter(|leader| Some(*leader) != doubted);
        if let Some(leader) = known.or_else(|| self.target.take()) {
            return Some(leader);
        }
        let book = self.setup.dialer.book().load();
        let mut voters: Vec<NodeId> = book.voters().map(NodeId).collect();
        // Those that are not reached come last: one of them may be the leader that has just died.
        voters.sort_by_key(|voter| (*voter == self.setup.node, self.is_down(*voter), *voter));
        if let Some(next) = voters.iter().find(|voter| !self.asked.contains(voter)) {
            self.asked.insert(*next);
            return Some(*next);
        }
        self.asked.clear();
        self.dial = DIAL_MAX.min(self.dial * 2);
        None
    }

    /// Whether the direct path to a node is known not to work.
    fn is_down(&self, node: NodeId) -> bool {
        let links = self.setup.dialer.links();
        links.iter().any(|link| link.peer == node.0 && matches!(link.direct, Direct::Down { .. }))
    }

    /// The next frame of a session that is not open yet; `None` if it does not come in time, or another voter leads by
    /// now.
    pub(super) async fn hear(
        &mut self,
        target: NodeId,
        read: &mut FrameReader<tokio::io::ReadHalf<Stream>>,
    ) -> Option<Result<Down, FrameError>> {
        let limit = if self.setup.lease.left().is_some() { self.hurry } else { WELCOME };
        let frame = timeout(limit, read.recv::<Down>());
        match &mut self.setup.local {
            Some(local) => tokio::select! {
                biased;
                frame = frame => frame.ok(),
                () = replaced(&mut local.leader, target) => None,
            },
            None => frame.await.ok(),
        }
    }

    /// Where to go, when a node says that it does not lead.
    pub(super) fn redirected(&mut self, from: NodeId, to: Option<NodeId>) -> End {
        self.doubted = Some(from);
        self.target = to.filter(|leader| *leader != from);
        self.redirects += 1;
        if self.target.is_some() && self.redirects <= REDIRECTS {
            return End::Again;
        }
        self.redirects = 0;
        End::Pause
    }

    pub(super) async fn connect(&mut self, target: NodeId) -> Option<(Stream, bool)> {
        if target == self.setup.node {
            let local = self.setup.local.as_ref()?;
            let (mine, theirs) = tokio::io::duplex(1 << 16);
            local.accept.send(Box::new(theirs)).await.ok()?;
            return Some((Box::new(mine), false));
        }
        let limit = if self.is_down(target) { self.dial / 2 } else { self.dial };
        let dialing = timeout(limit, self.setup.dialer.connect(target.0, Alpn::Session));
        // A dial to a leader that has just died must not keep this node from the next one.
        let dialed = match &mut self.setup.local {
            Some(local) => tokio::select! {
                dialed = dialing => dialed,
                () = replaced(&mut local.leader, target) => return None,
            },
            None => dialing.await,
        };
        match dialed {
            Ok(Ok(dialed)) => Some((dialed.stream, matches!(dialed.path, Path::Relay(_)))),
            Ok(Err(error)) => {
                debug!(%error, "cannot reach node {target}");
                None
            }
            Err(_) => {
                debug!("node {target} is not reached within {limit:?}");
                None
            }
        }
    }
}

/// Waits until this voter hears that another than `target` leads.
async fn replaced(leader: &mut watch::Receiver<Option<NodeId>>, target: NodeId) {
    while leader.changed().await.is_ok() {
        if leader.borrow_and_update().is_some_and(|leader| leader != target) {
            return;
        }
    }
}
