//! What the demo says: one line per thing that happened, with the time since the start.
//!
//! Plain lines in order, nothing is rewritten: it reads the same on a terminal and in a log.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Nothing is silent for longer than the first; whatever is slow says so again after the second.
const FIRST_WORD: Duration = Duration::from_secs(2);
const NEXT_WORD: Duration = Duration::from_secs(10);

/// The story with its clock.
pub(crate) struct Timeline {
    begin: Instant,
}

impl Timeline {
    pub(crate) fn begin() -> Timeline {
        Timeline { begin: Instant::now() }
    }

    /// Something happened. The topic opens a chapter; an empty one goes on with it.
    pub(crate) fn say(&self, topic: &str, text: &str) {
        for (i, line) in text.lines().enumerate() {
            let topic = if i == 0 { topic } else { "" };
            println!("{:>6.1} s  {topic:<8} {line}", self.seconds());
        }
    }

    /// What a program printed, indented.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            println!("{:>19}| {}", "", line.trim_end());
        }
    }

    /// Does something that may take long. Quick work is silent; slow work says what it is.
    pub(crate) fn during<T>(&self, topic: &str, doing: &str, work: impl FnOnce() -> T) -> T {
        let (done, waits) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut pause = FIRST_WORD;
                while waits.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    self.say(topic, &format!("... {doing}"));
                    pause = NEXT_WORD;
                }
            });
            let result = work();
            drop(done);
            result
        })
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
}
