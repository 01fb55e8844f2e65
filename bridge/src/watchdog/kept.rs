//! What the next daemon of this boot has to know of a watchdog that runs: `/run/convoke/watchdog`.
//!
//! Written before the device is opened, and taken away after it was disarmed: a daemon that finds it takes the device over,
//! whatever `convoke.toml` says by then, and feeds it if it may.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic;

/// A watchdog that runs, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The kernel's id of the boot.
    pub(super) boot: String,
    /// The device.
    pub(super) device: PathBuf,
    /// Its timeout, which is never made longer in this boot while anything rests on it.
    pub(super) timeout_ms: u64,
}

impl Kept {
    /// What an earlier daemon of this boot left.
    pub(super) fn load(path: &Path, boot: &str) -> Option<Self> {
        let kept: Self = toml::from_str(&fs::read_to_string(path).ok()?).ok()?;
        (kept.boot == boot).then_some(kept)
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        atomic::write(path, text.as_bytes(), atomic::PUBLIC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_its_boot_alone() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let path = dir.path().join("watchdog");
        assert_eq!(Kept::load(&path, "boot"), None);
        let kept = Kept { boot: "boot".to_owned(), device: "/dev/watchdog".into(), timeout_ms: 5_000 };
        kept.save(&path).expect("written");
        assert_eq!(Kept::load(&path, "boot"), Some(kept));
        assert_eq!(Kept::load(&path, "another"), None);
    }
}
