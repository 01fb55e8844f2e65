//! This node's lease: until when it may hold what it was permitted, by its own count.
//!
//! Counted on CLOCK_BOOTTIME from the sending of the very beat that was answered (F5), so a suspended or stopped
//! process sees it over when it wakes. Kept in `/run/convoke/lease`: a restarted daemon honours the old one, and
//! never begins a fresh one by itself (F8).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::atomic;

/// Milliseconds of CLOCK_BOOTTIME: the boot of the kernel is 0, time in suspend counts.
#[must_use]
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

/// The lease as all tasks of the daemon see it.
#[derive(Clone, Debug, Default)]
pub struct Lease(Arc<AtomicU64>);

/// What `/run/convoke/lease` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    boot: String,
    session: u64,
    ends_ms: u64,
}

impl Lease {
    /// A lease that a daemon of this boot left behind; one that has ended if there is none, or it cannot be read.
    #[must_use]
    pub fn load(path: &Path, boot: &str) -> Self {
        let kept = std::fs::read_to_string(path).ok().and_then(|text| toml::from_str::<Kept>(&text).ok());
        let ends = kept.filter(|kept| kept.boot == boot).map_or(0, |kept| kept.ends_ms);
        Self(Arc::new(AtomicU64::new(ends)))
    }

    /// The session that the kept lease belonged to; 0 if there is none of this boot.
    #[must_use]
    pub fn kept_session(path: &Path, boot: &str) -> u64 {
        let kept = std::fs::read_to_string(path).ok().and_then(|text| toml::from_str::<Kept>(&text).ok());
        kept.filter(|kept| kept.boot == boot).map_or(0, |kept| kept.session)
    }

    /// Extends the lease to `ends_ms` (CLOCK_BOOTTIME); never shortens it.
    pub fn extend(&self, ends_ms: u64) {
        self.0.fetch_max(ends_ms, Ordering::SeqCst);
    }

    /// Ends it now: the node was told that it is fenced, removed or shared.
    pub fn end(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// When it ends, in milliseconds of CLOCK_BOOTTIME; 0 if there never was one.
    #[must_use]
    pub fn ends_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// How long it still lasts; `None` once it has ended.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let left = self.ends_ms().checked_sub(boottime_ms())?;
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Writes it for the next daemon of this boot.
    ///
    /// # Errors
    /// When the file cannot be replaced.
    pub fn keep(&self, path: &Path, boot: &str, session: u64) -> io::Result<()> {
        let kept = Kept { boot: boot.to_owned(), session, ends_ms: self.ends_ms() };
        let text = toml::to_string(&kept).map_err(io::Error::other)?;
        atomic::write(path, text.as_bytes(), atomic::PUBLIC)
    }
}
