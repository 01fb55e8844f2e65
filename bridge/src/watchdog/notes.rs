//! What the feeder has to say, written by a thread of its own: a journal that hangs must not keep a device from being fed.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::handle::{NOT_NEEDED, Standing};

/// How many may wait. With more, the journal hangs, and what comes then is not written.
const NOTES: usize = 64;
const STACK: usize = 128 * 1024;

#[derive(Debug)]
pub(super) enum Note {
    /// How it stands from now on.
    Stands(Standing),
    /// The settings ask for another timeout than this one.
    TimeoutLater(u64),
    NotDisarmed(io::Error),
    /// The file that the next daemon looks at cannot be taken away.
    FileStays(io::Error),
}

/// Where notes go.
#[derive(Debug)]
pub(super) struct Notes(SyncSender<Note>);

impl Notes {
    pub(super) fn begin() -> io::Result<Self> {
        let (notes, inbox) = sync_channel::<Note>(NOTES);
        thread::Builder::new()
            .name("watchdog-log".to_owned())
            .stack_size(STACK)
            .spawn(move || inbox.into_iter().for_each(Note::write))?;
        Ok(Self(notes))
    }

    pub(super) fn take(&self, note: Note) {
        // How it stands is told to the agent as well.
        drop(self.0.try_send(note));
    }
}

impl Note {
    fn write(self) {
        match self {
            Self::Stands(Standing::Armed { device, timeout_ms }) => {
                tracing::info!(device, timeout_ms, "the watchdog is armed");
            }
            Self::Stands(Standing::Unarmed { why }) if why == NOT_NEEDED => {
                tracing::info!("the watchdog is disarmed");
            }
            Self::Stands(Standing::Unarmed { why }) => tracing::warn!(why, "no watchdog is armed"),
            Self::TimeoutLater(timeout_ms) => {
                tracing::info!(timeout_ms, "the watchdog's new timeout counts once it was disarmed");
            }
            Self::NotDisarmed(error) => {
                tracing::error!(%error, "the watchdog cannot be disarmed, and resets this node");
            }
            Self::FileStays(error) => {
                tracing::error!(%error, "the next daemon takes a watchdog for running that is disarmed");
            }
        }
    }
}
