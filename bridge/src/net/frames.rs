//! Messages on a stream: a length of four bytes, then MessagePack with named fields.
//!
//! Named fields let a newer peer add some; unknown ones are ignored here. Commands of the replicated log are decoded
//! strictly elsewhere (F20).

use std::io;
use std::marker::Unpin;

use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// The usual limit of one message. Snapshots of the state are KB to some MB.
pub const FRAME_MAX: usize = 16 * 1024 * 1024;

/// Why a message could not be sent or received. After any of them the connection is of no use, but for a message that is
/// too long to be sent: nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the connection between two messages.
    #[error("the peer closed the connection")]
    Closed,
    /// The message is longer than agreed.
    #[error("a message is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// The bytes are not the message that was expected.
    #[error("a message cannot be understood")]
    Decode(#[source] rmp_serde::decode::Error),
    /// The message cannot be written as MessagePack.
    #[error("a message cannot be encoded")]
    Encode(#[source] rmp_serde::encode::Error),
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

/// Both directions of a stream of messages.
#[derive(Debug)]
pub struct Frames<S> {
    reader: FrameReader<ReadHalf<S>>,
    writer: FrameWriter<WriteHalf<S>>,
}

impl<S: AsyncRead + AsyncWrite> Frames<S> {
    /// Messages of up to `max` bytes over `stream`.
    pub fn new(stream: S, max: usize) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { reader: FrameReader::new(read, max), writer: FrameWriter::new(write, max) }
    }

    /// Sends one message.
    pub async fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), FrameError> {
        self.writer.send(message).await
    }

    /// Receives one message.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        self.reader.recv().await
    }

    /// The two directions, for two tasks.
    pub fn split(self) -> (FrameReader<ReadHalf<S>>, FrameWriter<WriteHalf<S>>) {
        (self.reader, self.writer)
    }
}

/// The receiving direction.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: FramedRead<R, LengthDelimitedCodec>,
    max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Messages of up to `max` bytes.
    pub fn new(read: R, max: usize) -> Self {
        Self { inner: FramedRead::new(read, codec(max)), max }
    }

    /// Receives one message. Safe to cancel, as in `select!`: a half-read message is kept.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        let frame = self.inner.next().await.ok_or(FrameError::Closed)?;
        let frame = frame.map_err(|error| io_error(error, self.max))?;
        rmp_serde::from_slice(&frame).map_err(FrameError::Decode)
    }
}

/// The sending direction.
#[derive(Debug)]
pub struct FrameWriter<W> {
    inner: FramedWrite<W, LengthDelimitedCodec>,
    max: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Messages of up to `max` bytes.
    pub fn new(write: W, max: usize) -> Self {
        Self { inner: FramedWrite::new(write, codec(max)), max }
    }

    /// Sends one message and flushes it. A cancelled call has sent the message wholly, or will with the next
    /// one, or has not taken it up; never a part.
    pub async fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), FrameError> {
        let frame = rmp_serde::to_vec_named(message).map_err(FrameError::Encode)?;
        if frame.len() > self.max {
            return Err(FrameError::TooLong { max: self.max });
        }
        self.inner.send(Bytes::from(frame)).await.map_err(|error| io_error(error, self.max))
    }
}

fn codec(max: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(4).max_frame_length(max).new_codec()
}

/// The codec tells of frames that are too long by errors of these kinds, without a stream having failed.
fn io_error(error: io::Error, max: usize) -> FrameError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => FrameError::TooLong { max },
        _ => FrameError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use tokio::io::{AsyncWriteExt, duplex};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        beat: u64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        beat: u64,
        more: String,
    }

    #[tokio::test]
    async fn fields_of_a_newer_peer_are_tolerated() {
        let (near, far) = duplex(64);
        let (mut near, mut far) = (Frames::new(near, 1024), Frames::new(far, 1024));
        let message = New { beat: 7, more: "x".repeat(300) };
        let (sent, received) = tokio::join!(near.send(&message), far.recv::<Old>());
        sent.expect("sent");
        assert_eq!(received.expect("received"), Old { beat: 7 });
    }

    #[tokio::test]
    async fn every_end_has_its_own_error() {
        let (near, far) = duplex(64);
        let mut far = Frames::new(far, 16);
        assert!(matches!(far.send(&"x".repeat(64)).await, Err(FrameError::TooLong { max: 16 })));
        far.send("short").await.expect("nothing of the long one was sent");
        drop(near);
        assert!(matches!(far.recv::<Old>().await, Err(FrameError::Closed)));

        // A length of 2 GiB is refused before a byte of it is awaited.
        let (mut near, far) = duplex(64);
        near.write_all(&[0x80, 0, 0, 0]).await.expect("written");
        assert!(matches!(Frames::new(far, 16).recv::<Old>().await, Err(FrameError::TooLong { .. })));

        let (mut near, far) = duplex(64);
        near.write_all(&[0, 0, 0, 1, 0xc1]).await.expect("written");
        assert!(matches!(Frames::new(far, 16).recv::<Old>().await, Err(FrameError::Decode(_))));

        let (mut near, far) = duplex(64);
        near.write_all(&[0, 0, 0, 9, 1]).await.expect("written");
        drop(near);
        assert!(matches!(Frames::new(far, 16).recv::<Old>().await, Err(FrameError::Io(_))));
    }

    #[tokio::test]
    async fn a_cancelled_receive_loses_nothing() {
        let (mut near, far) = duplex(64);
        let mut far = Frames::new(far, 1024);
        let frame = rmp_serde::to_vec_named(&Old { beat: 3 }).expect("encoded");
        near.write_all(&[0, 0, 0, u8::try_from(frame.len()).expect("short")]).await.expect("length");
        near.write_all(&frame[..2]).await.expect("a part");
        tokio::select! {
            biased;
            received = far.recv::<Old>() => panic!("half a message was taken for one: {received:?}"),
            () = tokio::task::yield_now() => {}
        }
        near.write_all(&frame[2..]).await.expect("the rest");
        assert_eq!(far.recv::<Old>().await.expect("received"), Old { beat: 3 });
    }
}
