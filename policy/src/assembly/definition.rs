//! What a drop-in says of a clustered service's boot-up.

use serde::{Deserialize, Serialize};

use crate::name::Millis;

/// `Assembly=`: how a clustered service comes up where none of it is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AssemblyStyle {
    /// One starts alone, then the others join it one after another (Galera).
    OneThenSerial,
    /// All start at once and find each other; alone is the exception (RabbitMQ).
    AllTogether,
}

/// `GatherThen=`: what follows when members that were live last are still not heard after `GatherWaitSec=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatherThen {
    /// Nothing: their return or an operator's word.
    Refuse,
    /// The best of those that were heard, if they are most of them.
    Best,
}

/// The keys of a clustered service. Its programs and variables are the node's own business; here it counts only that
/// they are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembly {
    /// `Assembly=`.
    pub style: AssemblyStyle,
    /// Whether `Position=` names a program.
    pub position: bool,
    /// Whether `Ready=` names a program; without one, a copy that is active when its node looks is ready.
    pub ready: bool,
    /// `GatherWaitSec=`, in milliseconds; `None` for `infinity`.
    pub gather_wait_ms: Option<Millis>,
    /// `GatherThen=`.
    pub gather_then: GatherThen,
    /// Whether `StartAlone=` says how.
    pub alone: bool,
    /// Whether `StartResync=` says how.
    pub resync: bool,
}

impl Assembly {
    /// An assembly that can be carried out, with every default of the design's table.
    #[must_use]
    pub fn of(style: AssemblyStyle) -> Self {
        Self {
            style,
            position: true,
            ready: true,
            gather_wait_ms: None,
            gather_then: GatherThen::Refuse,
            alone: true,
            resync: false,
        }
    }

    /// What is missing, so that it could never come up, or not safely.
    #[must_use]
    pub fn contradiction(&self) -> Option<&'static str> {
        if !self.position {
            return Some("Assembly= needs Position=: nobody can say whose data is the latest");
        }
        if !self.alone {
            return Some("Assembly= needs StartAlone=: nobody could ever start first");
        }
        let endless = self.gather_wait_ms.is_none() && self.gather_then == GatherThen::Best;
        endless.then_some("GatherThen=best needs GatherWaitSec=: it would never come to that")
    }
}
