//! A timer on CLOCK_BOOTTIME: a node that wakes from suspend finds its lease over at once (F5, F8).
//!
//! A thread of its own waits for it, because the runtime's timers stand still in suspend.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::sync::mpsc;

/// The thread needs no more.
const STACK: usize = 64 * 1024;

/// Fires once at a point of CLOCK_BOOTTIME.
#[derive(Debug)]
pub(super) struct BootTimer {
    fd: Arc<OwnedFd>,
    fired: mpsc::Receiver<()>,
    armed: Option<u64>,
}

impl BootTimer {
    pub(super) fn new() -> io::Result<Self> {
        let fd = Arc::new(timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?);
        let (fires, fired) = mpsc::channel(1);
        let waited = fd.clone();
        thread::Builder::new().name("lease".to_owned()).stack_size(STACK).spawn(move || {
            let mut count = [0; 8];
            loop {
                match rustix::io::read(&waited, &mut count) {
                    Ok(_) => {
                        if fires.blocking_send(()).is_err() {
                            return;
                        }
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return,
                }
            }
        })?;
        Ok(Self { fd, fired, armed: None })
    }

    /// When it fires.
    pub(super) fn armed(&self) -> Option<u64> {
        self.armed
    }

    /// Has it fire at that millisecond, or at once if that has passed.
    pub(super) fn arm(&mut self, at_ms: u64) -> io::Result<()> {
        let secs = i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX);
        // Never zero, which would disarm it.
        let nanos = i64::try_from(at_ms % 1_000 * 1_000_000).unwrap_or(0).max(1);
        let at = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: secs, tv_nsec: nanos },
        };
        timerfd_settime(&*self.fd, TimerfdTimerFlags::ABSTIME, &at)?;
        self.armed = Some(at_ms);
        Ok(())
    }

    /// Waits until it fires; for ever if it is not armed, or the thread has gone (the tick stands in then).
    pub(super) async fn fired(&mut self) {
        if self.armed.is_none() || self.fired.recv().await.is_none() {
            return std::future::pending().await;
        }
        self.armed = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::boottime_ms;

    #[tokio::test]
    async fn it_fires_at_its_time_and_not_before() {
        let mut timer = BootTimer::new().expect("timer");
        let begun = boottime_ms();
        timer.arm(begun + 40).expect("armed");
        tokio::time::timeout(Duration::from_secs(5), timer.fired()).await.expect("fired");
        assert!(boottime_ms() >= begun + 40);
        assert_eq!(timer.armed(), None);
        timer.arm(0).expect("armed in the past");
        tokio::time::timeout(Duration::from_secs(5), timer.fired()).await.expect("fired at once");
    }
}
