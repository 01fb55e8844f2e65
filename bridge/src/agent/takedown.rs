//! Takes the node down without PID 1 (F27): its service manager may be the very thing that hangs.

use std::fs;
use std::time::Duration;

use rustix::system::{RebootCommand, reboot};
use units::systemd::journal::{self, Kind, Line, Priority};

/// How long journald may take to get the reason to disk. Every millisecond of it is one of a node that must not run on.
const JOURNAL_LIMIT: Duration = Duration::from_millis(150);
/// journald writes lines of this priority to disk at once; it is given this long for it.
const DISK_WAIT: Duration = Duration::from_millis(40);
/// Between attempts, should both ways be closed to us.
const RETRY: Duration = Duration::from_millis(500);

/// Reboots at once, without an orderly stop; does not return. `unit` gets the reason into its journal.
pub(super) async fn take_down(unit: Option<&str>, why: String) -> ! {
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
        if let Err(error) = reboot(RebootCommand::Restart) {
            tracing::error!(%error, "reboot(2) failed; trying sysrq");
        }
        let _ = fs::write("/proc/sysrq-trigger", "b");
        tokio::time::sleep(RETRY).await;
    }
}
