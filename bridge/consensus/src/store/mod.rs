//! The durable half of a voter: its vote, its log and its last snapshot, in one redb file.
//!
//! * [`record`]: the bytes of each value
//! * [`disk`]: the file; knows no threads
//! * [`writer`]: the one thread that writes it, in call order, many changes to one commit
//! * `memory`: a disk in memory, for simulators alone (feature `simulated`)
//! * [`log`]: what openraft calls; the log is also kept in memory, and read only from there

pub(crate) mod disk;
pub(crate) mod log;
#[cfg(feature = "simulated")]
pub(crate) mod memory;
pub(crate) mod record;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

pub use disk::OpenError;
