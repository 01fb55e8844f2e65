//! The names that everything else is keyed by. To this crate they are opaque.

use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Milliseconds of cluster time (F6): never goes back, never runs faster than real time.
pub type Millis = u64;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// A machine that was enrolled. Allocated from the log as `generation << 48 | index`, never used again (F14).
    NodeId
);
number!(
    /// A permit: `generation << 48 | index` of its `Grant`. Rises with every grant; units get it as `CONVOKE_TOKEN`.
    Token
);
number!(
    /// A fence case: the index of the entry that opened it.
    CaseId
);

impl Token {
    /// Index of the entry that granted it, in its generation.
    #[must_use]
    pub fn index(self) -> u64 {
        self.0 & 0xffff_ffff_ffff
    }
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    /// A cluster unit's name: systemd's `Id`, with its suffix (`db.service`).
    UnitName
);
text!(
    /// One life of a machine, from boot to power loss (F35): boot id, start of PID 1 and soft-reboot count, as the
    /// agent put them together. Two are equal or not; they have no order (F3).
    Incarnation
);
