//! Says the reason in the log of the unit that it concerns.
//!
//! `OBJECT_SYSTEMD_UNIT=` from root makes `systemctl status X` and `journalctl -u X` show the line; the message id
//! lets `journalctl -x` explain it. [`Journal`] is for a daemon: it never waits for journald.

mod queue;

use std::io;

pub use libsystemd::logging::Priority;
pub use queue::{Entry, Journal};

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
    /// It waits for the fence of a node, or does not any more.
    WaitsForFence,
    /// Anything else worth a line in the unit's log.
    Notice,
}

impl Kind {
    /// All kinds, for the message catalog.
    pub const ALL: [Kind; 10] = [
        Kind::StartRefused,
        Kind::StartGranted,
        Kind::StoppedByCluster,
        Kind::LeaseEnded,
        Kind::StopFailed,
        Kind::StopWish,
        Kind::GateMissing,
        Kind::Adopted,
        Kind::WaitsForFence,
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
            Kind::WaitsForFence => "a3886c56c00940f19d9826b376e5886c",
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

impl From<Line> for Entry {
    fn from(line: Line) -> Self {
        let mut fields = vec![
            ("SYSLOG_IDENTIFIER".to_owned(), "convoke".to_owned()),
            ("MESSAGE_ID".to_owned(), line.kind.id().to_owned()),
            ("OBJECT_SYSTEMD_UNIT".to_owned(), line.unit.clone()),
            ("CONVOKE_UNIT".to_owned(), line.unit),
        ];
        fields.extend(line.fields);
        Self { priority: line.priority, message: line.message, fields }
    }
}

/// Writes one line to journald and waits for it, however long it hangs: where that matters, use [`Journal`].
///
/// # Errors
/// When journald's socket cannot be written to.
pub fn tell(line: &Line) -> io::Result<()> {
    queue::send(&Entry::from(line.clone()))
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
        let entry = Entry::from(line);
        assert_eq!(entry.message, "held");
        let has = |name: &str, value: &str| entry.fields.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("OBJECT_SYSTEMD_UNIT", "db.service"));
        assert!(has("MESSAGE_ID", Kind::StartRefused.id()));
        assert!(has("CONVOKE_NODE", "n1"));
    }
}
