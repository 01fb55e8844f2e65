//! Writes files and directories so that a power cut leaves the old content or the new, never a mixture.
//!
//! A write is: temporary file beside the target, data to disk, rename, directory to disk. Knows nothing of
//! what is written. Readers that find a `.tmp` file may ignore it: it was never in force.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Readable by root alone: keys, and what lies beside them.
pub const PRIVATE: u32 = 0o600;

/// Readable by everybody, writable by root.
pub const PUBLIC: u32 = 0o644;

/// Replaces the file at `path` by `content` with `mode`, durably.
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let tmp = beside(path);
    // A leftover may have another mode, and `mode` counts only for a file that is created here.
    remove(&tmp)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&tmp)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&tmp, path)?;
    sync_parent(path)
}

/// Creates the directory and its parents; the last one with `mode` 0700.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts a prepared directory in its place. Refuses to replace one that is there.
pub fn install_dir(staged: &Path, target: &Path) -> io::Result<()> {
    // rename(2) would replace an empty directory without a word.
    if target.symlink_metadata().is_ok() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", target.display())));
    }
    File::open(staged)?.sync_all()?;
    fs::rename(staged, target)?;
    sync_parent(target)
}

/// Removes a file; one that is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Brings the directory entry of `path` to disk.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_leftover_of_a_cut_write_changes_neither_content_nor_mode() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let path = dir.path().join("key");
        fs::write(beside(&path), b"half").expect("leftover");
        fs::set_permissions(beside(&path), PermissionsExt::from_mode(0o666)).expect("mode");
        write(&path, b"whole", PRIVATE).expect("write");
        assert_eq!(fs::read(&path).expect("read"), b"whole");
        assert_eq!(path.metadata().expect("metadata").permissions().mode() & 0o777, PRIVATE);
        assert!(!beside(&path).exists());
    }

    #[test]
    fn a_directory_is_never_replaced() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let (staged, target) = (dir.path().join("new"), dir.path().join("old"));
        create_private_dir(&staged).expect("staged");
        create_private_dir(&target).expect("target");
        let error = install_dir(&staged, &target).expect_err("an existing directory stays");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(staged.exists());
    }
}
