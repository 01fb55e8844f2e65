//! What PID 1 is told of the daemon: ready, alive, stopping. It is never waited for.
//!
//! PID 1 may hang, and its socket be full; a send that waited for it would keep the daemon from its lease.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use libsystemd::daemon::{NotifyState, watchdog_enabled};
use tokio::time::sleep;
use tracing::debug;

use crate::session::Pulse;

/// Between two attempts to tell what PID 1 has to hear, while it has too much to read.
const AGAIN: Duration = Duration::from_millis(100);

/// The store is open and the node listens. Comes back once PID 1 can read that, or else it would end the start.
pub(super) async fn ready() {
    let status = NotifyState::Status("in charge of this node's cluster units".to_owned());
    insist(&[NotifyState::Ready, status]).await;
}

/// The end has begun.
pub(super) fn stopping(why: &str) {
    mention(&[NotifyState::Stopping, NotifyState::Status(why.to_owned())]);
}

/// More time for an orderly end.
pub(super) fn extend(by: Duration) {
    mention(&[NotifyState::Other(format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()))]);
}

/// Feeds the service's watchdog for as long as the runtime schedules this task. Never returns.
pub(super) async fn feed(_pulse: Pulse) {
    let Some(period) = watchdog_enabled(false) else { return std::future::pending().await };
    loop {
        insist(&[NotifyState::Watchdog]).await;
        sleep(period / 3).await;
    }
}

/// Tells it again and again until it can be read.
async fn insist(states: &[NotifyState]) {
    while let Err(error) = tell(states) {
        debug!(%error, "PID 1 was not told");
        if error.kind() != io::ErrorKind::WouldBlock {
            return;
        }
        sleep(AGAIN).await;
    }
}

/// Tells what is told again later anyway, or can be missed.
fn mention(states: &[NotifyState]) {
    if let Err(error) = tell(states) {
        debug!(%error, "PID 1 was not told");
    }
}

fn tell(states: &[NotifyState]) -> io::Result<()> {
    // Without one it is not systemd that started this.
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    send(&socket, &text)
}

/// As sd_notify(3), but an error of the kind `WouldBlock` where that would wait.
fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let ours = UnixDatagram::unbound()?;
    ours.set_nonblocking(true)?;
    ours.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn a_manager_that_reads_nothing_holds_nobody_up() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let path = dir.path().join("notify");
        let name = format!("convoke-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        for (socket, manager) in [
            (path.clone().into_os_string(), UnixDatagram::bind(&path)),
            (OsString::from(format!("@{name}")), UnixDatagram::bind_addr(&address)),
        ] {
            let manager = manager.expect("bound");
            let (mut told, mut full) = (0, None);
            // More than any socket's queue holds.
            while told < 100_000 && full.is_none() {
                match send(&socket, "WATCHDOG=1\n") {
                    Ok(()) => told += 1,
                    Err(error) => full = Some(error.kind()),
                }
            }
            assert_eq!(full, Some(io::ErrorKind::WouldBlock), "{}", socket.display());
            let mut buffer = [0; 64];
            for _ in 0..told {
                let length = manager.recv(&mut buffer).expect("a message");
                assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
            }
            send(&socket, "READY=1\n").expect("it takes messages again");
        }
    }
}
