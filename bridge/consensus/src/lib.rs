//! Convoke's Raft group: a replicated log of commands, its durable store, its voters, and proofs of leadership.
//!
//! The only crate that names openraft, and the only one that would change with it. It decides which commands are in the
//! log and in what order, on disk on a majority before anyone hears of it. It refuses to know what a command means
//! (that is the owner of the state, asked by [`MachineRequest`]s), who a peer is ([`Dial`] and the caller of
//! [`Consensus::serve`] prove that) and what the group is used for.
//!
//! ```text
//! propose ─▶ log ─▶ store (own thread) ─▶ majority ─▶ MachineRequest::Apply ─▶ Applied
//! ```
//!
//! Leadership is not authority: see [`Leadership`] and [`Consensus::barrier`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod consensus;
mod lane;
mod machine;
mod membership;
mod network;
mod pacer;
mod peers;
mod propose;
mod serve;
mod settings;
mod store;
mod types;
mod watch;
mod wire;

pub use consensus::{
    Barrier, BarrierError, Consensus, InitializeGroupError, RecoveryError, Status, TransferError,
};
pub use lane::{BoxFuture, Dial};
pub use machine::MachineRequest;
pub use membership::MembershipError;
pub use propose::{Applied, Proposal, ProposeError};
pub use settings::{Settings, SettingsError};
pub use store::OpenError;
#[cfg(feature = "simulated")]
pub use store::memory::{MemoryDisk, Pace};
pub use tokio_util::bytes::Bytes;
pub use watch::Leadership;
pub use wire::{BoxStream, Duplex};
