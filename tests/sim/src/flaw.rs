//! Faults put in on purpose: the simulator has to find each of them.

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
}

impl Flaw {
    /// All of them, by the name that `SIM_FLAW` takes.
    pub const ALL: [(&'static str, Self); 7] = [
        ("release-before-stop", Self::ReleaseBeforeStop),
        ("permit-kept", Self::PermitKept),
        ("gate-open", Self::GateOpen),
        ("lease-unended", Self::LeaseUnended),
        ("device-lies", Self::DeviceLies),
        ("disk-lies", Self::DiskLies),
        ("entry-otherwise", Self::EntryOtherwise),
    ];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, flaw)| flaw)
    }
}
