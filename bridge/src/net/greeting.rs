//! The first bytes of a connection: whether the listener takes us, and why not; and short exact messages.
//!
//! In TLS 1.3 the dialler is done before the listener has looked at its certificate. The greeting makes "connected"
//! mean "accepted", and carries the reason of a refusal that is ours and not TLS's. Everything here reads
//! exactly its own bytes, so that whatever follows is left in the stream.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::tls::HandshakeError;

/// Longer reasons are cut.
const REASON_MAX: usize = 512;

const ACCEPTED: u8 = 1;
const REFUSED: u8 = 2;

/// Tells the dialler that it is welcome.
pub(super) async fn accept<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.write_u8(ACCEPTED).await?;
    stream.flush().await
}

/// Tells the dialler why it is not.
pub(super) async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, reason: &str) -> io::Result<()> {
    let reason: String = reason.chars().take(REASON_MAX / 4).collect();
    stream.write_u8(REFUSED).await?;
    write_exact(stream, &reason).await?;
    stream.shutdown().await
}

/// Waits for the listener's word.
pub(crate) async fn await_acceptance<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), HandshakeError> {
    match stream.read_u8().await? {
        ACCEPTED => Ok(()),
        REFUSED => Err(HandshakeError::Refused { reason: read_exact(stream, REASON_MAX + 8).await? }),
        _ => Err(HandshakeError::NoProtocol),
    }
}

/// Writes one short message.
pub(super) async fn write_exact<S, T>(stream: &mut S, message: &T) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
    T: Serialize + ?Sized,
{
    let bytes = rmp_serde::to_vec_named(message).map_err(invalid)?;
    let length = u32::try_from(bytes.len()).map_err(invalid)?;
    stream.write_u32(length).await?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads one short message, and not a byte beyond. Not safe to cancel: give the connection up then.
pub(super) async fn read_exact<S, T>(stream: &mut S, max: usize) -> io::Result<T>
where
    S: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let length = usize::try_from(stream.read_u32().await?).map_err(invalid)?;
    if length > max {
        return Err(invalid(format!("a message of {length} bytes where {max} are allowed")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    rmp_serde::from_slice(&bytes).map_err(invalid)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
