//! What is known of the direct path to each peer.
//!
//! A cut link between two nodes loses nobody, as a third carries their bytes; it must be seen all the same. Times are
//! the wall clock's: they are for people.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Whether a peer can be reached without help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Direct {
    /// The last attempt succeeded.
    Up {
        /// Since when.
        since: SystemTime,
    },
    /// The last attempt failed, or a connection stalled.
    Down {
        /// Since when.
        since: SystemTime,
        /// What is wrong.
        error: String,
    },
}

/// The path to one peer, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The peer.
    pub peer: u64,
    /// The direct path.
    pub direct: Direct,
    /// The voter that carries the bytes meanwhile; none while the direct path is used, or nobody could.
    pub via: Option<u64>,
}

/// The links of one node.
#[derive(Debug, Default)]
pub(super) struct Links {
    known: Mutex<BTreeMap<u64, Link>>,
    broke: Notify,
}

impl Links {
    pub(super) fn all(&self) -> Vec<Link> {
        self.lock().values().cloned().collect()
    }

    /// Notes that the direct path works; says whether it did not before.
    pub(super) fn up(&self, peer: u64) -> bool {
        let mut links = self.lock();
        let healed = match links.get(&peer) {
            Some(Link { direct: Direct::Up { .. }, via: None, .. }) => return false,
            Some(Link { direct: Direct::Down { .. }, .. }) => true,
            _ => false,
        };
        links.insert(peer, Link { peer, direct: Direct::Up { since: SystemTime::now() }, via: None });
        healed
    }

    /// Notes that the direct path does not work; the time of the first failure stays, and so does a relay in use.
    pub(super) fn down(&self, peer: u64, error: String) {
        let mut links = self.lock();
        let (since, via) = match links.get(&peer) {
            Some(Link { direct: Direct::Down { since, .. }, via, .. }) => (*since, *via),
            _ => {
                self.broke.notify_one();
                (SystemTime::now(), None)
            }
        };
        links.insert(peer, Link { peer, direct: Direct::Down { since, error }, via });
    }

    /// Notes who carries the bytes, or that nobody could.
    pub(super) fn via(&self, peer: u64, relay: Option<u64>) {
        if let Some(link) = self.lock().get_mut(&peer) {
            link.via = relay;
        }
    }

    pub(super) fn is_down(&self, peer: u64) -> bool {
        matches!(self.lock().get(&peer), Some(Link { direct: Direct::Down { .. }, .. }))
    }

    /// The peers whose direct path is down, less those that are peers no more.
    pub(super) fn broken(&self, is_peer: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut links = self.lock();
        links.retain(|peer, _| is_peer(*peer));
        let down = links.values().filter(|link| matches!(link.direct, Direct::Down { .. }));
        down.map(|link| link.peer).collect()
    }

    /// Waits until a path that worked does not; for one task.
    pub(super) async fn broke(&self) {
        self.broke.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Link>> {
        // Every change is a single insert, so a panic elsewhere leaves the map whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_time_of_its_first_failure_and_heals_once() {
        let links = Links::default();
        assert!(!links.up(2), "it was not down");
        links.down(2, "refused".to_owned());
        let first = links.all();
        links.via(2, Some(3));
        links.down(2, "no answer".to_owned());
        let second = links.all();
        let since = |links: &[Link]| match links {
            [Link { direct: Direct::Down { since, .. }, .. }] => *since,
            other => panic!("{other:?}"),
        };
        assert_eq!(since(&first), since(&second));
        assert_eq!(second[0].via, Some(3));
        assert_eq!(links.broken(|_| true), [2]);
        assert!(links.up(2), "it heals");
        assert!(!links.up(2), "once");
        assert_eq!(links.all()[0].via, None);
        links.down(2, "refused".to_owned());
        assert!(links.broken(|peer| peer != 2).is_empty());
        assert!(links.all().is_empty(), "a removed node has no link");
    }
}
