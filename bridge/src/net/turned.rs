//! Peers that turned this node away, and until when they are left alone.
//!
//! Whoever was taken out of a cluster is told so at every door, for ever. Without this it would knock many times a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After the first refusal; doubles with each. A refusal is no passing trouble, but may be of a voter that is behind.
const FIRST: Duration = Duration::from_secs(1);
/// The most that it grows to.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
struct Refusal {
    reason: String,
    pause: Duration,
    until: Instant,
}

/// Refusals by peer.
#[derive(Debug, Default)]
pub(super) struct Turned(Mutex<BTreeMap<u64, Refusal>>);

impl Turned {
    /// The peer has just turned us away.
    pub(super) fn note(&self, peer: u64, reason: &str, now: Instant) {
        let mut refusals = self.lock();
        let before = refusals.get(&peer);
        // Connections that were under way together count once.
        if before.is_some_and(|before| now < before.until) {
            return;
        }
        let pause = before.map_or(FIRST, |before| LONGEST.min(before.pause * 2));
        refusals.insert(peer, Refusal { reason: reason.to_owned(), pause, until: now + pause });
    }

    /// The peer has let us in.
    pub(super) fn welcome(&self, peer: u64) {
        self.lock().remove(&peer);
    }

    /// In which words the peer turned us away, and how long it is still left alone.
    pub(super) fn by(&self, peer: u64, now: Instant) -> Option<(String, Duration)> {
        let refusal = self.lock().get(&peer).cloned()?;
        let left = refusal.until.saturating_duration_since(now);
        (!left.is_zero()).then_some((refusal.reason, left))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Refusal>> {
        // Every change is a single insert or removal, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_followed_by_a_longer_pause() {
        let turned = Turned::default();
        let mut now = Instant::now();
        assert_eq!(turned.by(2, now), None);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            turned.note(2, "go away", now);
            turned.note(2, "go away", now);
            let (reason, left) = turned.by(2, now).expect("turned away");
            assert_eq!(reason, "go away");
            pauses.push(left.as_secs());
            now += left;
            assert_eq!(turned.by(2, now), None, "it may be tried again");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        turned.welcome(2);
        turned.note(2, "go away", now);
        assert_eq!(turned.by(2, now).expect("turned away").1, FIRST);
        assert_eq!(turned.by(3, now), None, "another peer decides for itself");
    }
}
