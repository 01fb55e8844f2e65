//! Whether this voter's state is its peers' (F20): what it says of its own, and what it was told.
//!
//! Shared by the task that owns the state, the one that keeps the session, and the daemon, which ends this node's vote. Compares
//! nothing itself; the leader does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::message::Digest;

/// As the tasks of the daemon share it.
#[derive(Clone, Debug, Default)]
pub struct Accord(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    said: ArcSwapOption<Digest>,
    told: watch::Sender<Option<String>>,
    set_aside: AtomicBool,
}

impl Accord {
    /// What the state was at the latest index at which voters compare theirs.
    pub fn say(&self, digest: Digest) {
        self.0.said.store(Some(Arc::new(digest)));
    }

    /// The state was replaced: what was said is not of the one that is here now.
    pub fn forget(&self) {
        self.0.said.store(None);
    }

    /// What was said last.
    #[must_use]
    pub fn said(&self) -> Option<Digest> {
        self.0.said.load_full().map(|digest| digest.as_ref().clone())
    }

    /// This voter's state is another one than that of most voters, in the leader's words.
    pub fn differs(&self, why: String) {
        self.0.told.send_if_modified(|told| told.is_none() && told.replace(why).is_none());
    }

    /// The leader's words, if it said that.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        self.0.told.borrow().clone()
    }

    /// Waits until the leader says that.
    pub async fn parted(&self) -> String {
        let mut told = self.0.told.subscribe();
        let why = told.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            // The other end is held here.
            None => std::future::pending().await,
        }
    }

    /// This node was a voter, and takes no part in decisions any more.
    pub fn set_aside(&self) {
        self.0.set_aside.store(true, Ordering::SeqCst);
    }

    /// Whether it was set aside.
    #[must_use]
    pub fn is_set_aside(&self) -> bool {
        self.0.set_aside.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_word_that_it_differs_is_kept() {
        let accord = Accord::default();
        let waits = tokio::spawn({
            let accord = accord.clone();
            async move { accord.parted().await }
        });
        accord.differs("at 4".to_owned());
        accord.differs("at 8".to_owned());
        assert_eq!(waits.await.expect("told"), "at 4");
        assert_eq!(accord.parted().await, "at 4", "whoever asks later is told as well");
    }
}
