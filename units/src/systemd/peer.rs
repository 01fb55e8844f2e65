//! A socket to PID 1 alone, made readable for the D-Bus library.
//!
//! On its own socket PID 1 signs its messages with its *well-known* name (seen on 252 and 257). The D-Bus
//! specification has unique names there, and the library ends its reading task in a panic over any other. So
//! the sender's bytes, which say nothing on a socket with one peer, are replaced by a unique name of the same
//! length as they are read. Nothing else is touched: the stream is followed message by message, and only in
//! the header's fields is a sender looked for.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split};
use zbus::fdo::ConnectionCredentials;

/// How a sender of this length begins in a header: field 7, of type string, 24 bytes.
const SENDER: [u8; 8] = [7, 1, b's', 0, 24, 0, 0, 0];
/// What takes its place.
const INSTEAD: [u8; 24] = *b":1.systemd-private-pid-1";
/// Fixed part of a header, with the length of the fields at its end.
const FIXED: usize = 16;
/// First byte of a message in this machine's usual byte order; no line of the handshake begins with it.
const LITTLE_ENDIAN: u8 = b'l';

/// The connected socket.
#[derive(Debug)]
pub(super) struct PeerSocket(pub(super) UnixStream);

impl Socket for PeerSocket {
    type ReadHalf = PeerReader;
    type WriteHalf = OwnedWriteHalf;

    fn split(self) -> Split<PeerReader, OwnedWriteHalf> {
        let (read, write) = self.0.into_split();
        Split::new(PeerReader { inner: read, stream: Follower::default() }, write)
    }
}

/// The reading half.
#[derive(Debug)]
pub(super) struct PeerReader {
    inner: OwnedReadHalf,
    stream: Follower,
}

/// What the library's trait asks for, written out as its attribute would.
type Received<'a> = Pin<Box<dyn Future<Output = io::Result<(usize, Vec<OwnedFd>)>> + Send + 'a>>;
type Credentials<'a> = Pin<Box<dyn Future<Output = io::Result<ConnectionCredentials>> + Send + 'a>>;

impl ReadHalf for PeerReader {
    fn recvmsg<'life0, 'life1, 'async_trait>(
        &'life0 mut self,
        buffer: &'life1 mut [u8],
    ) -> Received<'async_trait>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let (length, fds) = self.inner.recvmsg(buffer).await?;
            self.stream.pass(&mut buffer[..length]);
            Ok((length, fds))
        })
    }

    fn can_pass_unix_fd(&self) -> bool {
        self.inner.can_pass_unix_fd()
    }

    fn peer_credentials<'life0, 'async_trait>(&'life0 mut self) -> Credentials<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        ReadHalf::peer_credentials(&mut self.inner)
    }
}

/// Knows, byte by byte, where in the stream it is.
#[derive(Debug, Default)]
struct Follower {
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Lines of the handshake; whether the next byte begins one.
    Lines { at_start: bool },
    /// Inside of a message.
    Message { at: usize, fixed: [u8; FIXED], matched: usize },
}

impl Default for Phase {
    fn default() -> Self {
        Phase::Lines { at_start: true }
    }
}

impl Follower {
    fn pass(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.phase = match std::mem::take(&mut self.phase) {
                Phase::Lines { at_start: true } if *byte == LITTLE_ENDIAN => {
                    Self::message(0, [0; FIXED], 0, byte)
                }
                Phase::Lines { .. } => Phase::Lines { at_start: *byte == b'\n' },
                Phase::Message { at, fixed, matched } => Self::message(at, fixed, matched, byte),
            };
        }
    }

    fn message(at: usize, mut fixed: [u8; FIXED], mut matched: usize, byte: &mut u8) -> Phase {
        let number = |fixed: &[u8; FIXED], from: usize| {
            fixed[from..from + 4].iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
        };
        if at < FIXED {
            fixed[at] = *byte;
        } else if at < FIXED + number(&fixed, 12) {
            // Fields begin at multiples of eight; one that does not match to its eighth byte is another one.
            if matched < SENDER.len() {
                let aligned = at % 8 == matched;
                matched = if aligned && *byte == SENDER[matched] { matched + 1 } else { 0 };
            } else if let Some(instead) = INSTEAD.get(matched - SENDER.len()) {
                *byte = *instead;
                matched += 1;
            }
        }
        let at = at + 1;
        if at < FIXED {
            return Phase::Message { at, fixed, matched };
        }
        let header = FIXED + number(&fixed, 12);
        let total = header.next_multiple_of(8) + number(&fixed, 4);
        if at < total {
            return Phase::Message { at, fixed, matched };
        }
        Phase::Message { at: 0, fixed: [0; FIXED], matched: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sender: &str, body: &str) -> Vec<u8> {
        let message = zbus::message::Message::signal("/a", "a.b", "C").unwrap();
        // The builder refuses a well-known sender: put a unique one of the same length, then its bytes.
        let stand_in = format!(":1.{}", "x".repeat(sender.len() - 3));
        let message = message.sender(stand_in.as_str()).unwrap().build(&(body,)).unwrap();
        let mut bytes = message.data().to_vec();
        let at = bytes.windows(sender.len()).position(|window| window == stand_in.as_bytes()).unwrap();
        bytes[at..at + sender.len()].copy_from_slice(sender.as_bytes());
        bytes
    }

    #[test]
    fn the_sender_is_replaced_however_the_stream_is_cut() {
        let tricky = "\u{7}\u{1}s\0\u{18}\0\0\0org.freedesktop.systemd1".replace('\0', " ");
        let one = message("org.freedesktop.systemd1", &tricky);
        let two = message("org.freedesktop.other", "untouched");
        let stream = [b"OK 0123\r\nAGREE_UNIX_FD\r\n".as_slice(), &one, &two, &one].concat();
        for step in 1..64 {
            let mut bytes = stream.clone();
            let mut follower = Follower::default();
            bytes.chunks_mut(step).for_each(|chunk| follower.pass(chunk));
            let count = |text: &[u8]| bytes.windows(text.len()).filter(|window| *window == text).count();
            assert_eq!(count(&INSTEAD), 2, "in steps of {step}");
            assert_eq!(count(b"org.freedesktop.other"), 1);
            assert_eq!(count(b"org.freedesktop.systemd1"), 2, "the bodies stay as they are");
            assert_eq!(bytes.len(), stream.len());
        }
    }
}
