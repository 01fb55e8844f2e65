//! What this node has released, and how far it has seen the state (F2).
//!
//! Kept in `/run/convoke/floors`, written before any release is sent: a restarted daemon neither acts on a permit that
//! its predecessor gave back, nor takes orders that are older than what that one saw. Tokens and indexes only rise within
//! a cluster, so what an earlier life left here is harmless; a reboot clears it with `/run`. Those of another cluster say
//! nothing in this one, whose index may still be far below.
//!
//! A file that is damaged, or gone although a lease of this boot is there, says nothing, and then nobody knows what was
//! given back. So every permit of the first orders that is not seen running under an intact permit file counts as
//! released: it is stopped, verified and released (again), and whatever is to run gets a newer token.
//!
//! Without them nothing can be told: that a start failed for want of room in `/run` least of all. So a file holds some of
//! that room from the start. It is given up for them, and made anew when there is room again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use policy::{Cause, Token, UnitName};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::pki::ClusterId;

/// Bytes held free for the floors: those of about a thousand units, twice, for a write leaves the old file in place until
/// the new one is whole.
const ROOM: u64 = 256 * 1024;

/// The highest released token of a unit, and why it was released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Floor {
    pub(super) token: Token,
    pub(super) because: Cause,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    boot: String,
    /// None in a file of an older version: it is of the cluster that the node is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterId>,
    index: u64,
    units: BTreeMap<UnitName, Floor>,
}

/// The floors of all units.
#[derive(Debug)]
pub struct Floors {
    path: PathBuf,
    /// Holds room for them.
    room: PathBuf,
    kept: Kept,
    /// Nobody knows what was released before this daemon started.
    lost: bool,
    dirty: bool,
}

impl Floors {
    /// Reads them. `expected` says that a daemon of this boot has had a lease, and so must have left a file. Where it cannot
    /// be read which cluster this is, there is no other.
    pub fn load(path: &Path, boot: &str, cluster: Option<ClusterId>, expected: bool) -> Self {
        let of_another = |kept: &Kept| kept.cluster.zip(cluster).is_some_and(|(kept, this)| kept != this);
        let (kept, lost) = match std::fs::read(path) {
            Ok(text) => match serde_json::from_slice::<Kept>(&text) {
                Ok(kept) if kept.boot == boot && !of_another(&kept) => (kept, false),
                Ok(_) => (Kept::default(), false),
                Err(_) => (Kept::default(), true),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Kept::default(), expected),
            Err(_) => (Kept::default(), true),
        };
        let kept = Kept { boot: boot.to_owned(), cluster: cluster.or(kept.cluster), ..kept };
        let floors =
            Self { path: path.to_owned(), room: path.with_extension("room"), kept, lost, dirty: true };
        floors.hold_room();
        floors
    }

    /// Whether what was released before is unknown; true once at the most.
    pub(super) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// The floor of a unit.
    pub(super) fn of(&self, unit: &UnitName) -> Token {
        self.kept.units.get(unit).map_or(Token(0), |floor| floor.token)
    }

    /// Why the unit was released last.
    pub(super) fn cause(&self, unit: &UnitName) -> Option<&Cause> {
        self.kept.units.get(unit).map(|floor| &floor.because)
    }

    /// The highest token released.
    pub(super) fn highest(&self) -> Token {
        self.kept.units.values().map(|floor| floor.token).max().unwrap_or(Token(0))
    }

    /// The highest state seen.
    pub(super) fn index(&self) -> u64 {
        self.kept.index
    }

    /// Takes note of a release, unless a later one is known.
    pub(super) fn raise(&mut self, unit: &UnitName, token: Token, because: Cause) {
        if token > self.of(unit) {
            self.kept.units.insert(unit.clone(), Floor { token, because });
            self.dirty = true;
        }
    }

    /// Takes note of a state; false if it is older than one that was seen.
    pub(super) fn saw(&mut self, index: u64) -> bool {
        if index < self.kept.index {
            return false;
        }
        self.dirty |= index > self.kept.index;
        self.kept.index = index;
        true
    }

    /// Writes them, if anything has changed. Nothing that rests on them may be sent before.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.dirty {
            let text = serde_json::to_vec(&self.kept).map_err(io::Error::other)?;
            match atomic::write(&self.path, &text, atomic::PRIVATE) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    atomic::remove(&self.room)?;
                    atomic::write(&self.path, &text, atomic::PRIVATE)?;
                }
                written => {
                    written?;
                    self.hold_room();
                }
            }
            self.dirty = false;
        }
        Ok(())
    }

    /// Holds room for later, unless it is held already. That there is none now is no fault yet.
    fn hold_room(&self) {
        if self.room.exists() {
            return;
        }
        let held = File::create_new(&self.room).and_then(|file| {
            let flags = rustix::fs::FallocateFlags::empty();
            Ok(rustix::fs::fallocate(&file, flags, 0, ROOM)?)
        });
        if held.is_err()
            && let Err(error) = atomic::remove(&self.room)
        {
            tracing::debug!(%error, "a file that holds no room stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("scratch directory");
        let path = dir.path().join("floors");
        (dir, path)
    }

    #[test]
    fn floors_only_rise_and_are_read_back() {
        let (_dir, path) = path();
        let unit: UnitName = "db.service".into();
        let mut floors = Floors::load(&path, "boot", None, false);
        assert!(!floors.take_lost());
        assert!(floors.saw(7));
        floors.raise(&unit, Token(5), Cause::Operator("operator on n1".into()));
        floors.raise(&unit, Token(4), Cause::Ordered);
        floors.save().expect("saved");
        let mut again = Floors::load(&path, "boot", None, true);
        assert!(!again.take_lost());
        assert_eq!(again.of(&unit), Token(5));
        assert_eq!(again.cause(&unit), Some(&Cause::Operator("operator on n1".into())));
        assert!(!again.saw(6), "an older state is dropped");
        assert!(again.saw(7));
        assert_eq!(again.highest(), Token(5));
    }

    #[test]
    fn another_boot_starts_from_nothing() {
        let (_dir, path) = path();
        let mut floors = Floors::load(&path, "one", None, false);
        floors.raise(&"db.service".into(), Token(5), Cause::Ordered);
        floors.saw(9);
        floors.save().expect("saved");
        let mut other = Floors::load(&path, "two", None, false);
        assert_eq!((other.of(&"db.service".into()), other.index(), other.take_lost()), (Token(0), 0, false));
    }

    #[test]
    fn another_cluster_starts_from_nothing_and_an_unknown_one_is_the_same() {
        let [one, two] = [1, 2].map(|id| Some(ClusterId::from_bytes([id; 16])));
        let unit: UnitName = "db.service".into();
        for (before, after, kept) in
            [(one, one, true), (one, two, false), (one, None, true), (None, one, true), (None, None, true)]
        {
            let (_dir, path) = path();
            let mut floors = Floors::load(&path, "boot", before, false);
            floors.raise(&unit, Token(5), Cause::Ordered);
            floors.saw(9);
            floors.save().expect("saved");
            // A look without the cluster, as by a daemon that cannot start, leaves it as it was.
            Floors::load(&path, "boot", None, true).save().expect("saved");
            let mut floors = Floors::load(&path, "boot", after, true);
            assert!(!floors.take_lost(), "{before:?} {after:?}");
            assert_eq!(floors.of(&unit) == Token(5), kept, "{before:?} {after:?}");
            assert_eq!(floors.saw(1), !kept, "{before:?} {after:?}");
        }
    }

    #[test]
    fn floors_of_an_older_version_are_those_of_this_cluster() {
        let (_dir, path) = path();
        let text = r#"{"boot":"boot","index":9,"units":{"db.service":{"token":5,"because":"Ordered"}}}"#;
        std::fs::write(&path, text).expect("written");
        let mut floors = Floors::load(&path, "boot", Some(ClusterId::from_bytes([1; 16])), true);
        assert_eq!((floors.of(&"db.service".into()), floors.index()), (Token(5), 9));
        assert!(!floors.take_lost());
    }

    #[test]
    fn a_damaged_file_and_a_missing_one_are_told() {
        let (_dir, path) = path();
        assert!(Floors::load(&path, "boot", None, true).take_lost(), "a lease without floors");
        for text in ["", "{", "{\"boot\":\"boot\"}", "[]"] {
            std::fs::write(&path, text).expect("damaged");
            let mut floors = Floors::load(&path, "boot", None, false);
            assert!(floors.take_lost(), "{text}");
            assert!(!floors.take_lost(), "only once");
        }
    }

    #[test]
    fn room_is_held_and_held_again() {
        let (dir, path) = path();
        let room = dir.path().join("floors.room");
        let mut floors = Floors::load(&path, "boot", None, false);
        assert_eq!(room.metadata().expect("held").len(), ROOM);
        std::fs::remove_file(&room).expect("used up");
        floors.saw(9);
        floors.save().expect("saved");
        assert_eq!(room.metadata().expect("held again").len(), ROOM);
    }
}
