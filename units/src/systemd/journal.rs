//! Says the reason in the log of the unit that it concerns.
//!
//! `OBJECT_SYSTEMD_UNIT=` from root makes `systemctl status X` and `journalctl -u X` show the line; the message id
//! lets `journalctl -x` explain it. [`Journal`] is for a daemon: it never waits for journald.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

pub use libsystemd::logging::Priority;

/// Lines that wait for journald before more are dropped (and counted in our own log).
const LINES_WAITING: usize = 256;

/// What kind of line it is. Each kind has a fixed id, to be explained in the message catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A start was refused by the cluster.
    StartRefused,
    /// A start was granted, or begun by the cluster.
    StartGranted,
    /// The cluster stops the unit: moved, revoked, replaced.
    StoppedByCluster,
    /// The lease has ended: `OnQuorumLoss=` is applied.
    LeaseEnded,
    /// The unit did not stop completely.
    StopFailed,
    /// The operator's stop was taken as a wish, or is not known to the cluster yet.
    StopWish,
    /// The gate of the unit is not in force.
    GateMissing,
    /// A running unit was taken over without a restart.
    Adopted,
    /// Anything else worth a line in the unit's log.
    Notice,
}

impl Kind {
    /// All kinds, for the message catalog.
    pub const ALL: [Kind; 9] = [
        Kind::StartRefused,
        Kind::StartGranted,
        Kind::StoppedByCluster,
        Kind::LeaseEnded,
        Kind::StopFailed,
        Kind::StopWish,
        Kind::GateMissing,
        Kind::Adopted,
        Kind::Notice,
    ];

    /// The `MESSAGE_ID`. Random once, the same for ever.
    pub fn id(self) -> &'static str {
        match self {
            Kind::StartRefused => "0de360423b8d4e678f104c6476742f71",
            Kind::StartGranted => "04bc575b24214149bc29b932713d3aec",
            Kind::StoppedByCluster => "731c6d99e8cb4b558fa0f7129576b4da",
            Kind::LeaseEnded => "e8b7cc8e8ce04831af03617d235d11b5",
            Kind::StopFailed => "d7b6bdf4770d4715b643e4425f4450af",
            Kind::StopWish => "5ba12885e68d46ae9d99bdae92c45792",
            Kind::GateMissing => "f5b060ce018d4299b101ea5bbbcdea23",
            Kind::Adopted => "fb562a4ab02648aeb0100bc654f783a6",
            Kind::Notice => "e6f5e9654e66431dba423bc5d9830e4d",
        }
    }
}

/// One line for a unit's log.
#[derive(Debug, Clone)]
pub struct Line {
    /// The unit whose log it belongs to.
    pub unit: String,
    /// Its kind, which is its message id.
    pub kind: Kind,
    /// How important it is.
    pub priority: Priority,
    /// The text.
    pub message: String,
    /// More fields, upper case, without a leading underscore; others are dropped.
    pub fields: Vec<(String, String)>,
}

/// Writes one line to journald and waits for it. Only for short-lived programs; a daemon uses [`Journal`].
///
/// # Errors
/// When journald's socket cannot be written to.
pub fn tell(line: &Line) -> io::Result<()> {
    libsystemd::logging::journal_send(line.priority, &line.message, fields_of(line).into_iter())
        .map_err(|error| io::Error::other(error.to_string()))
}

fn fields_of(line: &Line) -> Vec<(&str, &str)> {
    let mut fields = vec![
        ("SYSLOG_IDENTIFIER", "convoke"),
        ("MESSAGE_ID", line.kind.id()),
        ("OBJECT_SYSTEMD_UNIT", line.unit.as_str()),
        ("CONVOKE_UNIT", line.unit.as_str()),
    ];
    fields.extend(line.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    fields
}

/// A thread that talks to journald for others, who never wait.
#[derive(Debug, Clone)]
pub struct Journal {
    lines: SyncSender<Line>,
}

impl Journal {
    /// Starts the thread; it ends with the last clone of the handle.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start() -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<Line>(LINES_WAITING);
        thread::Builder::new().name("journal".to_owned()).spawn(move || {
            for line in waiting {
                if let Err(error) = tell(&line) {
                    tracing::warn!(unit = line.unit, message = line.message, %error, "journald did not take a line");
                }
            }
        })?;
        Ok(Self { lines })
    }

    /// Hands the line over; drops it, and says so in our own log, when journald is far behind.
    pub fn tell(&self, line: Line) {
        if let Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) = self.lines.try_send(line) {
            tracing::warn!(unit = line.unit, message = line.message, "dropped a line for the journal");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_an_id_of_its_own() {
        let ids: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.id()).collect();
        assert_eq!(ids.len(), Kind::ALL.len());
        assert!(
            ids.iter()
                .all(|id| id.len() == 32
                    && id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()))
        );
    }

    #[test]
    fn a_line_names_its_unit_and_kind() {
        let line = Line {
            unit: "db.service".into(),
            kind: Kind::StartRefused,
            priority: Priority::Notice,
            message: "held".into(),
            fields: vec![("CONVOKE_NODE".into(), "n1".into())],
        };
        let fields = fields_of(&line);
        assert!(fields.contains(&("OBJECT_SYSTEMD_UNIT", "db.service")));
        assert!(fields.contains(&("MESSAGE_ID", Kind::StartRefused.id())));
        assert!(fields.contains(&("CONVOKE_NODE", "n1")));
    }
}
