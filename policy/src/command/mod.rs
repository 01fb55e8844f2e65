//! What the log carries: facts that were observed, wishes that an operator has, decisions that the planner made.

mod decision;
mod fact;
mod settings;
mod wish;

use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::name::Millis;

pub use decision::Decision;
pub use fact::{Cause, Fact, FenceOutcome, InventoryItem};
pub use settings::{AfterFence, AgentAction, Device, Reconnect, Settings};
pub use wish::Wish;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its place in the log.
    pub index: u64,
    /// Cluster time, stamped by the leader (F6).
    pub time: Millis,
    /// Wall clock, milliseconds since 1970, for people only.
    pub wall_ms: u64,
    /// Who sent it, where a repeat must not count twice.
    pub origin: Option<Origin>,
    /// What it says.
    pub command: Command,
}

/// A client's number for its command: sending it again is answered from memory (F10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// A name that no other client uses.
    pub client: String,
    /// Rises with each command of that client.
    pub number: u64,
}

/// A fact, a wish or a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// What was observed.
    Fact(Fact),
    /// What an operator asks.
    Wish(Wish),
    /// What the leader's planner concluded.
    Decision(Decision),
}
