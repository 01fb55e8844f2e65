//! What voids a permit. This list is closed: no evidence, no end.

use serde::{Deserialize, Serialize};

use crate::definition::Fencing;
use crate::name::CaseId;

/// How a node, or a unit on it, was proven gone (F4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// Verified off by status, on a device that had been seen on.
    Off,
    /// The same machine runs a new incarnation.
    Reborn,
    /// The node said so itself, by the four steps of a release (F1).
    Released,
    /// Lease and stop budget have passed, and the time of its watchdog where its terms say so.
    Expired,
    /// An operator vouched for one incarnation.
    Word,
    /// Cut off from what it shares with others, verified by status; it may still run.
    Isolated,
}

/// A reason to void one permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// The holder released it.
    Released,
    /// A fence case proved its holder's incarnation off.
    Fenced(CaseId),
    /// Its holder's machine was heard in a new incarnation.
    Reborn,
    /// Its own terms let it end by time.
    Expired,
    /// An operator's word for its holder's incarnation.
    Vouched,
    /// A fence case proved that its holder's incarnation reaches no more what the devices guard.
    Isolated(CaseId),
}

impl Evidence {
    /// The class it belongs to.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Self::Released => Class::Released,
            Self::Fenced(_) => Class::Off,
            Self::Reborn => Class::Reborn,
            Self::Expired => Class::Expired,
            Self::Vouched => Class::Word,
            Self::Isolated(_) => Class::Isolated,
        }
    }

    /// Whether a permit with this `Fencing=` ends by it (F4: each permit by its own terms).
    #[must_use]
    pub fn satisfies(self, fencing: Fencing) -> bool {
        match self.class() {
            Class::Off | Class::Reborn | Class::Released | Class::Word => true,
            // How much time that takes, and whether it counts at all, is measured elsewhere: `State::expires_at`.
            Class::Expired => matches!(fencing, Fencing::Watchdog | Fencing::Lease | Fencing::None),
            // It proves nothing of what goes another way, so only who says that all goes that way takes it.
            Class::Isolated => fencing == Fencing::Isolated,
        }
    }

    /// Whether the copy itself has ended. Time and isolation say only that others may go on.
    #[must_use]
    pub fn proves_end(self) -> bool {
        match self.class() {
            Class::Off | Class::Reborn | Class::Released | Class::Word => true,
            Class::Expired | Class::Isolated => false,
        }
    }
}
