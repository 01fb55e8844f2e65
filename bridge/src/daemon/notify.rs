//! What PID 1 is told of the daemon: ready, alive, stopping.

use std::time::Duration;

use libsystemd::daemon::{NotifyState, notify, watchdog_enabled};
use tracing::debug;

use crate::session::Pulse;

fn tell(states: &[NotifyState]) {
    if let Err(error) = notify(false, states) {
        debug!(%error, "PID 1 was not told");
    }
}

/// The store is open and the node listens.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("in charge of this node's cluster units".to_owned())]);
}

/// The end has begun.
pub(super) fn stopping(why: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(why.to_owned())]);
}

/// More time for an orderly end.
pub(super) fn extend(by: Duration) {
    tell(&[NotifyState::Other(format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()))]);
}

/// Feeds the service's watchdog for as long as the runtime schedules this task. Never returns.
pub(super) async fn feed(_pulse: Pulse) {
    let Some(period) = watchdog_enabled(false) else { return std::future::pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(period / 3).await;
    }
}
