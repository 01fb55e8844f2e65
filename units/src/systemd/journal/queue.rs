//! The way of a daemon's lines to journald, on which nobody waits.
//!
//! journald may hang with its socket full, and a send to it then lasts as long as that. So a thread of its own sends, and
//! whoever has a line hands it to a queue that is bounded, or drops it. What is dropped is counted, and told once journald
//! takes lines again. Knows nothing of units.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use libsystemd::logging::Priority;

/// Lines that wait for journald before more are dropped: all that a daemon says in a bad minute, in less than a megabyte.
const ENTRIES_WAITING: usize = 1024;

/// One line, as journald gets it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// How important it is.
    pub priority: Priority,
    /// The text.
    pub message: String,
    /// More fields, upper case, without a leading underscore; others are dropped.
    pub fields: Vec<(String, String)>,
}

/// Sends one line and waits until journald has taken it. A long one goes by a file in memory, as journald wants that.
pub(super) fn send(entry: &Entry) -> io::Result<()> {
    let fields = entry.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    libsystemd::logging::journal_send(entry.priority, &entry.message, fields)
        .map_err(|error| io::Error::other(error.to_string()))
}

/// A thread that talks to journald for others, who never wait.
#[derive(Debug, Clone)]
pub struct Journal {
    entries: SyncSender<Entry>,
    tally: Arc<Tally>,
}

/// How many lines went which way.
#[derive(Debug, Default)]
struct Tally {
    handed: AtomicU64,
    /// Dropped or refused, and not told yet.
    lost: AtomicU64,
    /// Of those handed over, how many the thread is through with.
    done: Mutex<u64>,
    progress: Condvar,
}

impl Journal {
    /// Starts the thread; it ends with the last clone of the handle.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start() -> io::Result<Self> {
        Self::start_with(send)
    }

    /// As [`start`](Self::start), with something else than journald that takes the lines. It may block.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start_with(deliver: impl FnMut(&Entry) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (entries, waiting) = sync_channel(ENTRIES_WAITING);
        let tally = Arc::<Tally>::default();
        let shared = tally.clone();
        thread::Builder::new().name("journal".to_owned()).spawn(move || carry(&waiting, &shared, deliver))?;
        Ok(Self { entries, tally })
    }

    /// Hands a line over; drops it when journald is far behind.
    pub fn tell(&self, line: impl Into<Entry>) {
        // Counted before it can be done with, so that a flush never takes another's line for this one.
        self.tally.handed.fetch_add(1, Ordering::SeqCst);
        if self.entries.try_send(line.into()).is_err() {
            self.tally.handed.fetch_sub(1, Ordering::SeqCst);
            self.tally.lost.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until the lines that were handed over are sent, and never longer than `limit`. Returns whether they are.
    pub fn flush(&self, limit: Duration) -> bool {
        let handed = self.tally.handed.load(Ordering::SeqCst);
        let done = self.tally.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.tally.progress.wait_timeout_while(done, limit, |done| *done < handed);
        let (_done, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        !outcome.timed_out()
    }
}

fn carry(waiting: &Receiver<Entry>, tally: &Tally, mut deliver: impl FnMut(&Entry) -> io::Result<()>) {
    loop {
        let next = waiting.try_recv().or_else(|_| {
            // All that waited is sent: the gap is told behind it.
            let lost = tally.lost.swap(0, Ordering::SeqCst);
            if lost > 0 && deliver(&gap(lost)).is_err() {
                tally.lost.fetch_add(lost, Ordering::SeqCst);
            }
            waiting.recv()
        });
        let Ok(entry) = next else { return };
        if deliver(&entry).is_err() {
            tally.lost.fetch_add(1, Ordering::SeqCst);
        }
        *tally.done.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        tally.progress.notify_all();
    }
}

/// What stands in the log instead of lines that are lost.
fn gap(lost: u64) -> Entry {
    Entry {
        priority: Priority::Warning,
        message: format!("journald did not take all that was to be logged; lines lost: {lost}"),
        fields: vec![
            ("SYSLOG_IDENTIFIER".to_owned(), "convoked".to_owned()),
            ("F_LOST".to_owned(), lost.to_string()),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn line(message: impl Into<String>) -> Entry {
        Entry { priority: Priority::Info, message: message.into(), fields: Vec::new() }
    }

    fn lost_in(message: &str) -> Option<u64> {
        message.split_once("lines lost: ")?.1.parse().ok()
    }

    #[test]
    fn a_journald_that_hangs_holds_nobody_up_and_what_it_did_not_take_is_told() {
        const LINES: u64 = 10_000;
        // Nobody reads at first: the socket's queue is soon full, and a send to it blocks.
        let (ours, journald) = UnixDatagram::pair().expect("sockets");
        journald.set_read_timeout(Some(LONG)).expect("a bound");
        let journal = Journal::start_with(move |entry| ours.send(entry.message.as_bytes()).map(drop));
        let journal = journal.expect("a thread");
        let begun = Instant::now();
        for i in 0..LINES {
            journal.tell(line(i.to_string()));
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let begun = Instant::now();
        let limit = Duration::from_millis(50);
        assert!(!journal.flush(limit), "it says that a journald that hangs took everything");
        assert!(begun.elapsed() >= limit && begun.elapsed() < LONG, "{:?}", begun.elapsed());

        let (mut taken, mut lost, mut next, mut buffer) = (0, 0, 0, [0; 256]);
        while taken + lost < LINES {
            let length = journald.recv(&mut buffer).expect("a line");
            let message = std::str::from_utf8(&buffer[..length]).expect("text");
            if let Some(gap) = lost_in(message) {
                lost += gap;
                continue;
            }
            // As long as the socket has room, lines are dropped here and there, wherever the thread is behind.
            let number: u64 = message.parse().expect("a number");
            assert!(number >= next, "{number} comes after {next}");
            (taken, next) = (taken + 1, number + 1);
        }
        assert!(lost > 0);
        assert_eq!(taken + lost, LINES);
        assert!(journal.flush(LONG));
        journal.tell(line("after"));
        let length = journald.recv(&mut buffer).expect("a line");
        assert_eq!(&buffer[..length], b"after", "the gap is told once");
    }

    #[test]
    fn a_flush_comes_back_when_all_is_sent() {
        let (sent, seen) = mpsc::channel();
        let journal = Journal::start_with(move |entry| {
            thread::sleep(Duration::from_millis(2));
            sent.send(entry.message.clone()).map_err(io::Error::other)
        });
        let journal = journal.expect("a thread");
        for i in 0..20 {
            journal.tell(line(i.to_string()));
        }
        assert!(journal.flush(LONG));
        assert_eq!(seen.try_iter().count(), 20);
    }

    #[test]
    fn what_journald_refused_is_told_once_it_is_back() {
        let away = Arc::new(AtomicBool::new(true));
        let (sent, seen) = mpsc::channel();
        let gone = away.clone();
        let journal = Journal::start_with(move |entry| {
            if gone.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            sent.send(entry.message.clone()).map_err(io::Error::other)
        });
        let journal = journal.expect("a thread");
        journal.tell(line("refused"));
        assert!(journal.flush(LONG), "what was refused is not waited for");
        away.store(false, Ordering::SeqCst);
        journal.tell(line("taken"));
        drop(journal);
        // The thread has ended with its last handle.
        let seen: Vec<String> = seen.iter().collect();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen.contains(&"taken".to_owned()), "{seen:?}");
        assert_eq!(seen.iter().filter_map(|message| lost_in(message)).sum::<u64>(), 1, "{seen:?}");
    }
}
