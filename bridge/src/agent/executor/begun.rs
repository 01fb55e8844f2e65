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
        if self.read(errand, which)? {
            return Ok(false);
        }
        atomic::create_private_dir(&self.0)?;
        atomic::write(&self.0.join(errand), which.as_bytes(), atomic::PRIVATE)?;
        Ok(true)
    }

    /// Whether a daemon of this boot may have begun it: what cannot be read may say so.
    pub(super) fn may_have(&self, errand: &str, which: &str) -> bool {
        self.read(errand, which).unwrap_or(true)
    }

    fn read(&self, errand: &str, which: &str) -> io::Result<bool> {
        match fs::read_to_string(self.0.join(errand)) {
            Ok(before) => Ok(before == which),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
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
        assert!(next.may_have("case1", "2") && !next.may_have("case1", "3") && !next.may_have("case2", "2"));
        assert!(!next.begin("case1", "2").expect("read"));
        assert!(next.begin("case1", "3").expect("noted"));
        assert!(next.begin("on-port-1", "2").expect("noted"));
    }

    #[test]
    fn what_cannot_be_noted_is_not_begun() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::below(root.path());
        fs::create_dir_all(paths.begun_dir().join("case1")).expect("made");
        let begun = Begun::new(&paths);
        assert!(begun.begin("case1", "1").is_err() && begun.may_have("case1", "1"));
    }
}
