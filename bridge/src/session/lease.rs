//! This node's lease: until when it may hold what it was permitted, by its own count.
//!
//! Counted on CLOCK_BOOTTIME from the sending of the very beat that was answered (F5), so a suspended or stopped
//! process sees it over when it wakes. Kept in `/run/convoke/lease`: a restarted daemon honours the old one, and
//! never begins a fresh one by itself (F8).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
pub struct Lease(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ends_ms: AtomicU64,
    /// The longest that it was ever valid for, in milliseconds.
    longest_ms: AtomicU64,
    /// The file that it is kept in, and its length.
    file: Mutex<Option<(File, usize)>>,
}

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
        Self(Arc::new(Inner { ends_ms: AtomicU64::new(ends), ..Inner::default() }))
    }

    /// The session that the kept lease belonged to; 0 if there is none of this boot.
    #[must_use]
    pub fn kept_session(path: &Path, boot: &str) -> u64 {
        let kept = std::fs::read_to_string(path).ok().and_then(|text| toml::from_str::<Kept>(&text).ok());
        kept.filter(|kept| kept.boot == boot).map_or(0, |kept| kept.session)
    }

    /// Extends the lease to `ends_ms` (CLOCK_BOOTTIME); never shortens it.
    pub fn extend(&self, ends_ms: u64) {
        self.0.longest_ms.fetch_max(ends_ms.saturating_sub(boottime_ms()), Ordering::SeqCst);
        self.0.ends_ms.fetch_max(ends_ms, Ordering::SeqCst);
    }

    /// The longest that it was valid for at any extension by this daemon, in milliseconds; 0 if there was none.
    #[must_use]
    pub fn longest_ms(&self) -> u64 {
        self.0.longest_ms.load(Ordering::SeqCst)
    }

    /// Ends it now: the node was told that it is fenced, removed or shared.
    pub fn end(&self) {
        // Not longer ago than now: what has to stop at its end has its time from here on (F17).
        self.0.ends_ms.fetch_min(boottime_ms(), Ordering::SeqCst);
    }

    /// When it ends, in milliseconds of CLOCK_BOOTTIME; 0 if there never was one.
    #[must_use]
    pub fn ends_ms(&self) -> u64 {
        self.0.ends_ms.load(Ordering::SeqCst)
    }

    /// How long it still lasts; `None` once it has ended.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let left = self.ends_ms().checked_sub(boottime_ms())?;
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Writes it for the next daemon of this boot, always to the same path.
    ///
    /// This is done with every beat that is answered, so the file is replaced only when its length changes, and else
    /// written in place: a few bytes in a file in memory, which a daemon that is killed has written wholly or not at
    /// all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self, path: &Path, boot: &str, session: u64) -> io::Result<()> {
        let kept = Kept { boot: boot.to_owned(), session, ends_ms: self.ends_ms() };
        let text = toml::to_string(&kept).map_err(io::Error::other)?;
        // What is behind a poisoned lock is a file that is complete, or none.
        let mut open = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever fails here is mended by a new file.
        if let Some((file, length)) = open.take()
            && length == text.len()
            && file.write_all_at(text.as_bytes(), 0).is_ok()
        {
            *open = Some((file, length));
            return Ok(());
        }
        if let Err(error) = atomic::write(path, text.as_bytes(), atomic::PUBLIC) {
            // What stands there is of an earlier session, or of a lease that was taken away: the next daemon would honour
            // it, and a leader take this machine for one that was put back to an earlier time (F8, F21).
            drop(atomic::remove(path));
            return Err(error);
        }
        *open = Some((OpenOptions::new().write(true).open(path)?, text.len()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_replaced_is_taken_away() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let path = dir.path().join("lease");
        let lease = Lease::default();
        lease.extend(u64::MAX);
        lease.keep(&path, "boot", 9).expect("kept");
        // As on a full file system: nothing new can be written beside it.
        std::fs::create_dir(dir.path().join("lease.tmp")).expect("in the way");
        lease.end();
        lease.keep(&path, "boot", 9).expect_err("cannot be written");
        assert_eq!(Lease::load(&path, "boot").left(), None, "a lease that was taken away is honoured");
        assert_eq!(Lease::kept_session(&path, "boot"), 0);
    }

    #[test]
    fn a_later_daemon_reads_what_was_kept_last() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let path = dir.path().join("lease");
        let lease = Lease::default();
        // In place and anew: lengths that stay, rise and fall.
        for (round, (ends, session)) in
            [(7, 1), (8, 1), (1_000, 2), (1_700, 10), (1_800, 10)].into_iter().enumerate()
        {
            lease.extend(ends);
            lease.keep(&path, "boot", session).expect("kept");
            assert_eq!(Lease::load(&path, "boot").ends_ms(), ends, "{round}");
            assert_eq!(Lease::kept_session(&path, "boot"), session, "{round}");
        }
        assert_eq!(Lease::load(&path, "another boot").ends_ms(), 0);
        lease.end();
        lease.keep(&path, "boot", 10).expect("kept");
        assert_eq!(Lease::load(&path, "boot").left(), None);
        assert_eq!(Lease::kept_session(&path, "boot"), 10);
    }

    #[test]
    fn one_that_is_taken_away_ends_then_and_no_sooner() {
        let lease = Lease::default();
        lease.end();
        assert_eq!(lease.ends_ms(), 0, "there was none");
        let before = boottime_ms();
        lease.extend(before + 60_000);
        lease.end();
        assert_eq!(lease.left(), None);
        assert!((before..=boottime_ms()).contains(&lease.ends_ms()), "{} of {before}", lease.ends_ms());
    }
}
