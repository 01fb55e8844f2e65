//! Connections between nodes: who listens, who dials, by which path, and how messages are cut.
//!
//! A node is reached at any of its addresses, or through another voter that carries the bytes; either way the two
//! ends speak TLS with each other, so the path is a matter of availability and never of trust (F29). Knows nothing of
//! what is said on a connection.

pub mod addresses;
pub mod book;
pub mod dialer;
pub mod frames;
pub(crate) mod greeting;
pub mod links;
pub mod listener;
pub mod relay;
mod socket;
mod turned;
mod wire;

pub use book::{AddressBook, Book, BookEntry};
pub use dialer::{DialError, DialTiming, Dialed, Dialer, Failure, Path, PathError};
pub use frames::{FrameError, FrameReader, FrameWriter, Frames};
pub use links::{Direct, Link};
pub use listener::{Admission, Incoming, Listener};
pub use relay::{Relay, RelayError};
pub use wire::Wire;

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection of either kind, direct or carried by a relay.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An authenticated, encrypted stream of bytes.
pub type Stream = Box<dyn Io>;

/// The port that nodes listen on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7433;
