//! Sessions between nodes and the leader: their messages, and the node's end.

mod accord;
pub mod client;
mod handle;
mod lease;
pub mod message;
mod standing;

pub use accord::Accord;
pub use handle::{AskError, Asker, Farewell, FromSession, Pulse, QUEUE, ToSession};
pub use lease::{Lease, boottime_ms};
pub use standing::{Outcast, Standing};
