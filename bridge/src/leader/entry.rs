//! A command as it lies in the log: what the proposer stamped, and what the log adds.

use policy::{Command, Entry, Millis, Origin, Refusal};
use serde::{Deserialize, Serialize};

/// What is proposed. The index comes from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamped {
    /// Cluster time (F6).
    pub time: Millis,
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: u64,
    /// Who must not be counted twice.
    pub origin: Option<Origin>,
    /// The command.
    pub command: Command,
}

/// What became of an entry, as the log answers its proposer.
pub(super) type Outcome = Result<(), Refusal>;

/// As bytes for the log: MessagePack with named fields.
///
/// # Errors
/// None in practice; every command can be encoded.
pub fn encode(stamped: &Stamped) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(stamped)
}

/// From the log. Strict: an entry that this version does not understand stops the voter, because to skip it would
/// make its state another one than its peers' (F20).
///
/// # Errors
/// Unknown commands or fields, and damaged bytes.
pub fn decode(index: u64, bytes: &[u8]) -> Result<Entry, rmp_serde::decode::Error> {
    let Stamped { time, wall_ms, origin, command } = rmp_serde::from_slice(bytes)?;
    Ok(Entry { index, time, wall_ms, origin, command })
}

/// As bytes for the proposer.
pub(crate) fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    rmp_serde::to_vec_named(outcome).unwrap_or_default()
}

/// From the log's answer.
pub(crate) fn decode_outcome(bytes: &[u8]) -> Result<Outcome, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}
