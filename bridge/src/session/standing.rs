//! What the cluster last said of this node when it turned it away.
//!
//! Known for as long as no session was opened since: what an operator reads on a node that was taken out, or shares its
//! identity with another machine, must not look like a lost quorum.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// Why this node has no place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcast {
    /// It was taken out; how, in the words of a voter.
    Removed(String),
    /// This machine may not use its identity; why.
    Identity(String),
    /// Its software is older than what the cluster has gone on to; in the leader's words.
    OldSoftware(String),
}

/// As the tasks of the daemon share it.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<ArcSwapOption<Outcast>>);

impl Standing {
    /// A session is open: all is well.
    pub fn clear(&self) {
        self.0.store(None);
    }

    /// The cluster turned this node away; says whether that is news.
    pub fn turn_away(&self, outcast: Outcast) -> bool {
        let before = self.0.swap(Some(Arc::new(outcast.clone())));
        before.is_none_or(|before| *before != outcast)
    }

    /// Why this node has no place, if so.
    #[must_use]
    pub fn outcast(&self) -> Option<Outcast> {
        self.0.load_full().map(|outcast| outcast.as_ref().clone())
    }
}
