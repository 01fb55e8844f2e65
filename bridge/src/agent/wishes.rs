//! Operators' stops on disk, until the cluster has answered them (F10): `/var/lib/convoke/wishes/UNIT`.

use std::fs;
use std::io;
use std::path::PathBuf;

use policy::{Token, UnitName};

use super::event::Spooled;
use super::permit::usable;
use crate::atomic;

/// The directory of stops that were not answered yet; one per unit, the latest.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    dir: PathBuf,
}

impl Spool {
    pub(super) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Brings it to disk.
    pub(super) fn keep(&self, stop: &Spooled) -> io::Result<()> {
        if !usable(&stop.unit) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        atomic::create_private_dir(&self.dir)?;
        let text = serde_json::to_vec(stop).map_err(io::Error::other)?;
        atomic::write(&self.dir.join(stop.unit.as_str()), &text, atomic::PRIVATE)
    }

    /// Forgets it, unless a later one has taken its place.
    pub(super) fn forget(&self, unit: &UnitName, token: Token) -> io::Result<()> {
        if !usable(unit) {
            return Ok(());
        }
        let path = self.dir.join(unit.as_str());
        match read(&path) {
            Some(stop) if stop.token != token => Ok(()),
            _ => atomic::remove(&path),
        }
    }

    /// All that were not answered. What cannot be read was never complete: the release followed the write.
    pub(super) fn load(&self) -> Vec<Spooled> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        entries.flatten().filter_map(|entry| read(&entry.path())).collect()
    }
}

fn read(path: &std::path::Path) -> Option<Spooled> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use policy::NodeId;

    use super::*;

    fn stop(token: u64) -> Spooled {
        Spooled {
            unit: "db.service".into(),
            node: NodeId(1),
            token: Token(token),
            by: "operator on n1 (systemctl stop)".into(),
        }
    }

    #[test]
    fn a_stop_is_kept_until_its_own_answer() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let spool = Spool::at(dir.path().join("wishes"));
        assert_eq!(spool.load(), []);
        spool.keep(&stop(5)).expect("kept");
        spool.keep(&stop(9)).expect("kept");
        fs::write(dir.path().join("wishes/cut.service.tmp"), "{").expect("cut");
        spool.forget(&"db.service".into(), Token(5)).expect("an older answer");
        assert_eq!(spool.load(), [stop(9)]);
        spool.forget(&"db.service".into(), Token(9)).expect("answered");
        assert_eq!(spool.load(), []);
    }
}
