//! What the devices have in common that nodes see as files of the host's: attributes, and a folder served through FUSE.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use fuser::{FileAttr, FileType, Filesystem, INodeNo};

use crate::host::call;

/// Nothing is remembered of an attribute.
pub(crate) const TTL: Duration = Duration::from_secs(1);

/// Serves a folder until it is unmounted.
pub(crate) fn serve(filesystem: impl Filesystem, dir: &Path, name: &str) -> Result<()> {
    let mut config = fuser::Config::default();
    config.mount_options.push(fuser::MountOption::FSName(name.to_owned()));
    fuser::mount(filesystem, dir, &config).with_context(|| format!("cannot serve {name}"))
}

/// Takes away what a server that has ended left mounted, if it did.
pub(crate) fn unmount(dir: &Path) -> Result<()> {
    let dir = dir.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(dir.as_str())) {
        call("umount", &["--lazy", &dir])?;
    }
    Ok(())
}

/// Attributes of the served folder.
pub(crate) fn folder() -> FileAttr {
    attributes(INodeNo::ROOT, FileType::Directory, 0o755, 0)
}

/// Attributes of a file in it.
pub(crate) fn file(inode: INodeNo, size: u64) -> FileAttr {
    attributes(inode, FileType::RegularFile, 0o600, size)
}

fn attributes(ino: INodeNo, kind: FileType, perm: u16, size: u64) -> FileAttr {
    FileAttr {
        ino,
        size,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 512,
        flags: 0,
    }
}
