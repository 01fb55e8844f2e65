//! A voter's part in the decisions: the replicated state, and, while it leads, sessions, leases and plans.
//!
//! One task owns the state ([`Core`]). It is fed events and answers each of them at once; whatever takes time (a
//! quorum round, a proposal, a connection) happens elsewhere and comes back as an event.

mod answers;
mod connections;
mod core;
mod digests;
mod entry;
mod foretell;
mod gates;
mod joining;
mod leases;
mod memory;
mod orders;
mod program;
mod proposals;
mod reign;
mod replica;
mod store;
mod times;
mod voters;
mod waiting;

pub use core::{Core, Event, Setup, run};
pub use entry::{Stamped, decode, encode};
pub(crate) use foretell::FORECAST_LIMIT;
pub use memory::Asked;
pub use replica::{Comparison, Replica, replay};
pub use store::{Opened, open, path, raft};
