//! Takes the node down without PID 1 (F27): its service manager may be the very thing that hangs.

use std::time::Duration;
use std::{fs, io, thread};

use rustix::system::{RebootCommand, reboot};
use units::systemd::journal::{self, Kind, Line, Priority};

/// How long journald may take to get the reason to disk. Every millisecond of it is one of a node that must not run on.
const JOURNAL_LIMIT: Duration = Duration::from_millis(150);
/// journald writes lines of this priority to disk at once; it is given this long for it.
const DISK_WAIT: Duration = Duration::from_millis(40);
/// Between attempts: a way that works takes effect within this time, or hangs.
const RETRY: Duration = Duration::from_millis(500);

/// A way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// reboot(2). The kernel first tells its drivers, of which some stop their watchdog then; what hangs after that
    /// nothing resets.
    Reboot,
    /// The reset by sysrq, which asks nobody.
    Sysrq,
}

/// The ways down, in their order. With the watchdog counted on (`rests`), none that stops it comes first.
fn ways(rests: bool) -> [Way; 2] {
    if rests { [Way::Sysrq, Way::Reboot] } else { [Way::Reboot, Way::Sysrq] }
}

impl Way {
    fn go(self) {
        let gone = match self {
            Self::Reboot => reboot(RebootCommand::Restart).map_err(io::Error::from),
            Self::Sysrq => fs::write("/proc/sysrq-trigger", "b"),
        };
        if let Err(error) = gone {
            tracing::error!(%error, way = ?self, "this node cannot be taken down so");
        }
    }
}

/// Reboots at once, without an orderly stop; does not return. `unit` gets the reason into its journal. `rests` is whether
/// anything here rests on the watchdog.
pub(super) async fn take_down(unit: Option<&str>, why: String, rests: bool) -> ! {
    tracing::error!(reason = why, "taking this node down");
    let line = Line {
        unit: unit.unwrap_or("convoked.service").to_owned(),
        kind: Kind::StopFailed,
        priority: Priority::Alert,
        message: format!("convoked reboots this node: {why}"),
        fields: Vec::new(),
    };
    // The kernel's log reaches a console even when journald hangs; a full disk or a hung journald delays nothing.
    let _ = fs::write("/dev/kmsg", format!("<0>convoked: rebooting this node: {why}\n"));
    let told = tokio::task::spawn_blocking(move || journal::tell(&line).is_ok());
    if matches!(tokio::time::timeout(JOURNAL_LIMIT, told).await, Ok(Ok(true))) {
        tokio::time::sleep(DISK_WAIT).await;
    }
    loop {
        for way in ways(rests) {
            // One that hangs in the kernel does not keep the other from being tried.
            let gone = thread::Builder::new().spawn(move || way.go());
            if gone.is_err() {
                way.go();
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_on_is_not_stopped_first() {
        assert_eq!(ways(true)[0], Way::Sysrq);
        assert_eq!(ways(false)[0], Way::Reboot);
        assert_ne!(ways(true)[1], ways(true)[0], "should one be closed to us, there is the other");
    }
}
