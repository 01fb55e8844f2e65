//! What the daemons of this boot have begun through fence devices, so that a restarted one does not run it a second time.
//!
//! A device may still carry out what it was told by an agent whose daemon died: only the cluster may say that the same is
//! to be done again, and it waits first (F24, F31). One file per fence case, and one per way that is opened; a boot voids them.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::atomic;
use crate::paths::Paths;

/// The files of `/run/convoke/begun`.
#[derive(Clone, Debug)]
pub(super) struct Begun(PathBuf);

impl Begun {
    pub(super) fn new(paths: &Paths) -> Self {
        Self(paths.begun_dir())
    }

    /// Takes note, just before an agent runs, that `which` of an errand begins. False if a daemon of this boot had begun
    /// it already.
    ///
    /// # Errors
    /// When the note cannot be kept: then the agent must not run.
    pub(super) fn begin(&self, errand: &str, which: &str) -> io::Result<bool> {
        let path = self.0.join(errand);
        match fs::read_to_string(&path) {
            Ok(before) if before == which => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        atomic::create_private_dir(&self.0)?;
        atomic::write(&path, which.as_bytes(), atomic::PRIVATE)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_begun_once_by_all_daemons_of_a_boot() {
        let root = tempfile::tempdir().expect("a folder");
        let daemon = || Begun::new(&Paths::below(root.path()));
        let first = daemon();
        assert!(first.begin("case1", "1").expect("noted"));
        assert!(first.begin("case1", "2").expect("noted"));
        let next = daemon();
        assert!(!next.begin("case1", "2").expect("read"));
        assert!(next.begin("case1", "3").expect("noted"));
        assert!(next.begin("on-port-1", "2").expect("noted"));
    }

    #[test]
    fn what_cannot_be_noted_is_not_begun() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::below(root.path());
        fs::create_dir_all(paths.begun_dir().join("case1")).expect("made");
        assert!(Begun::new(&paths).begin("case1", "1").is_err());
    }
}
