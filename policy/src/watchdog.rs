//! What a node says of the watchdog that resets it, and what time proves by it (F17).
//!
//! Pure: when a device is armed, fed and read back is the node's business.

use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::name::Millis;
use crate::node::Life;

/// A device that resets the node, processes and all, unless the node's convoked feeds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// Its path on the node.
    pub device: String,
    /// How long after it was last fed it resets the node, as read back from it.
    pub timeout_ms: Millis,
    /// Since when, in cluster time.
    pub since: Millis,
}

/// What a life said of its watchdog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The watchdog that is armed, if one is.
    pub armed: Option<Watchdog>,
    /// Why none is, in the node's words.
    pub why: Option<String>,
    /// When the node said so, in milliseconds of its own CLOCK_BOOTTIME: an older word, come late, says nothing.
    pub said_ms: u64,
    /// The longest timeout that was ever announced in this life; it counts until the life's end (F15).
    pub longest_ms: Millis,
}

impl Chain {
    /// Nothing was said yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self { armed: None, why: None, said_ms: 0, longest_ms: 0 }
    }

    /// The longest that the node lives after it was last right to feed its watchdog, in milliseconds.
    ///
    /// Twice the timeout: a device that is closed without being disarmed, as when its daemon is killed, is fed once more
    /// by the kernel (`watchdog_release`), at the latest an instant before it would have fired.
    #[must_use]
    pub fn reset_ms(&self) -> Millis {
        self.longest_ms.saturating_mul(2)
    }

    /// Why it protects nothing, in words; `None` if it is in force.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        match (&self.armed, &self.why) {
            (Some(_), _) => None,
            (None, Some(why)) => Some(why),
            (None, None) => Some("it has not said that it armed one"),
        }
    }
}

impl Life {
    /// Why this life has no self-fencing chain, in words; `None` if its watchdog is armed.
    #[must_use]
    pub fn unwatched(&self) -> Option<&str> {
        self.chain.fault()
    }
}

/// How long others wait for a watchdog that resets its node in `reset_ms`: × 1.01 for clocks that run apart, and a margin
/// for devices that round to their tick (field notes on fencing, 3.1).
#[must_use]
pub(crate) fn wait_ms(reset_ms: Millis) -> Millis {
    let margin = (reset_ms / 5).max(2_000);
    reset_ms.saturating_add(reset_ms / 100).saturating_add(margin)
}
