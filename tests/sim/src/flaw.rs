//! Faults put in on purpose: the simulator has to find each of them.

use crate::kinds::Kinds;

/// One fault of the product, as it would be if a rule of the protocol were forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The agent says that a unit is gone when PID 1 has only begun to stop it (F1).
    ReleaseBeforeStop,
    /// A released permit's file stays in place (F1).
    PermitKept,
    /// A gate starts its unit without a permit.
    GateOpen,
    /// The agent takes its lease for valid when it has ended (F8).
    LeaseUnended,
    /// The fence device says off, and the machine runs on.
    DeviceLies,
    /// The disks of the voters say that they have synced, and have not.
    DiskLies,
    /// A voter makes something else of one entry than the others do (F20).
    EntryOtherwise,
    /// The agent says that a unit runs when PID 1 has only begun to start it (S4).
    StartedBeforeUp,
    /// A permit of a clustered service stays in place after the one start that it is for (F16).
    StartsAgain,
    /// The watchdog resets its machine long after the time that it shows (F17).
    WatchdogLate,
    /// The leader tells nodes of grants that are not in the log yet.
    GrantUncommitted,
    /// The leader answers beats without a quorum round (F5).
    BeatUnconfirmed,
    /// A node counts its lease from the answer, and not from the sending of its beat (F5).
    LeaseFromAnswer,
    /// The leader takes what a node said in an older life for a word of its present one (F2, F3).
    OldLifeHeard,
    /// The leader takes a fence report of another attempt for one of the attempt under way (F4).
    ReportOfAnother,
    /// The leader takes what a node said of its data in an older gathering for its present word (F16).
    OldPosition,
}

impl Flaw {
    /// All of them, by the name that `SIM_FLAW` takes.
    pub const ALL: [(&'static str, Self); 16] = [
        ("release-before-stop", Self::ReleaseBeforeStop),
        ("permit-kept", Self::PermitKept),
        ("gate-open", Self::GateOpen),
        ("lease-unended", Self::LeaseUnended),
        ("device-lies", Self::DeviceLies),
        ("disk-lies", Self::DiskLies),
        ("entry-otherwise", Self::EntryOtherwise),
        ("started-before-up", Self::StartedBeforeUp),
        ("starts-again", Self::StartsAgain),
        ("watchdog-late", Self::WatchdogLate),
        ("grant-uncommitted", Self::GrantUncommitted),
        ("beat-unconfirmed", Self::BeatUnconfirmed),
        ("lease-from-answer", Self::LeaseFromAnswer),
        ("old-life-heard", Self::OldLifeHeard),
        ("report-of-another", Self::ReportOfAnother),
        ("old-position", Self::OldPosition),
    ];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, flaw)| flaw)
    }

    /// What there has to be for it to do harm.
    pub(crate) fn kinds(self) -> Kinds {
        match self {
            Self::StartedBeforeUp => Kinds::ORDERED,
            Self::StartsAgain | Self::OldPosition => Kinds::CLUSTERED,
            Self::WatchdogLate => Kinds::WATCHED,
            Self::LeaseFromAnswer => Kinds::SLOW,
            _ => Kinds::PLAIN,
        }
    }

    /// Whether it lies in what the leader or the session makes of messages (src/tamper.rs).
    pub(crate) fn is_in_messages(self) -> bool {
        matches!(
            self,
            Self::GrantUncommitted
                | Self::BeatUnconfirmed
                | Self::OldLifeHeard
                | Self::ReportOfAnother
                | Self::OldPosition
        )
    }
}
