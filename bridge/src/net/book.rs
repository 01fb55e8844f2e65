//! Which nodes there are, where they can be reached, and which of them vote.
//!
//! The daemon replaces the book whenever the cluster's members change; everybody else reads it. A copy on disk lets
//! a restarted node find the others before it knows anything.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::atomic;

/// One node of the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookEntry {
    /// What people call it.
    pub name: String,
    /// Where it can be reached; all are tried.
    pub addresses: Vec<SocketAddr>,
    /// Whether it has a vote; voters carry the bytes of others.
    pub voter: bool,
}

/// The nodes of the cluster by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// The nodes.
    pub nodes: BTreeMap<u64, BookEntry>,
}

#[derive(Serialize, Deserialize)]
struct BookFile {
    #[serde(default)]
    node: Vec<BookLine>,
}

#[derive(Serialize, Deserialize)]
struct BookLine {
    id: u64,
    #[serde(flatten)]
    entry: BookEntry,
}

impl Book {
    /// A book of these nodes.
    pub fn of(nodes: impl IntoIterator<Item = (u64, BookEntry)>) -> Self {
        Self { nodes: nodes.into_iter().collect() }
    }

    /// The voters' ids.
    pub fn voters(&self) -> impl Iterator<Item = u64> {
        self.nodes.iter().filter(|(_, entry)| entry.voter).map(|(node, _)| *node)
    }

    /// Where `me` reaches `node`. An address that `me` has too (that of a container bridge, say, equal on every
    /// machine) leads back to `me` and is left out.
    pub fn route(&self, me: u64, node: u64) -> Vec<SocketAddr> {
        let own = self.nodes.get(&me).map(|entry| entry.addresses.as_slice()).unwrap_or_default();
        let theirs = self.nodes.get(&node).map(|entry| entry.addresses.as_slice()).unwrap_or_default();
        theirs.iter().filter(|address| !own.contains(address)).copied().collect()
    }

    /// Reads the copy on disk; none yet is an empty book.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let file: BookFile =
            toml::from_str(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Self::of(file.node.into_iter().map(|line| (line.id, line.entry))))
    }

    /// Writes the copy on disk.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let node = self.nodes.iter().map(|(id, entry)| BookLine { id: *id, entry: entry.clone() }).collect();
        let text = toml::to_string(&BookFile { node })
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let text = format!("# The last known nodes; convoked writes it whenever they change.\n{text}");
        atomic::write(path, text.as_bytes(), atomic::PUBLIC)
    }
}

/// The book that is in force, shared by everybody who dials.
#[derive(Clone, Debug, Default)]
pub struct AddressBook(Arc<ArcSwap<Book>>);

impl AddressBook {
    /// Shares this book.
    pub fn new(book: Book) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(book)))
    }

    /// The book as it is now.
    pub fn load(&self) -> Arc<Book> {
        self.0.load_full()
    }

    /// Puts another in its place.
    pub fn replace(&self, book: Book) {
        self.0.store(Arc::new(book));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(addresses: &[&str], voter: bool) -> BookEntry {
        let addresses = addresses.iter().map(|text| text.parse().expect("address")).collect();
        BookEntry { name: "n".to_owned(), addresses, voter }
    }

    #[test]
    fn the_copy_on_disk_reads_back() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let path = dir.path().join("peers.toml");
        assert_eq!(Book::load(&path).expect("none yet"), Book::default());
        let book = Book::of([
            (1, entry(&["10.0.0.1:7433", "[fd00::1]:7433"], true)),
            (1 << 48 | 7, entry(&[], false)),
        ]);
        book.store(&path).expect("stored");
        assert_eq!(Book::load(&path).expect("loaded"), book);
    }

    #[test]
    fn an_address_that_everybody_has_is_no_route() {
        let book = Book::of([
            (1, entry(&["10.0.0.1:7433", "172.17.0.1:7433"], true)),
            (2, entry(&["172.17.0.1:7433", "10.0.0.2:7433"], true)),
        ]);
        assert_eq!(book.route(1, 2), ["10.0.0.2:7433".parse().expect("address")]);
        assert!(book.route(1, 3).is_empty());
    }
}
