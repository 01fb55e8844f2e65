//! Reads files whose place anybody may have filled with something else.
//!
//! PID 1 waits for the generator, and convoked for its look at the unit files: neither may hang on a pipe that nobody
//! writes to, nor fill the memory from a device that never ends. Knows nothing of units.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Longest file that is read, in bytes. systemd bounds a line, at 1 MiB, and no file; a unit file has some thousand bytes.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// The bytes of a regular file; nothing for `/dev/null`, whatever it is called there: such a file masks a unit.
///
/// # Errors
/// If there is no such file, if it is of another kind or longer than 4 MiB, or what the system says.
pub fn file(path: &Path) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: that alone arms a watchdog and winds back a tape.
    let found = fs::metadata(path)?;
    if is_null(&found) {
        return Ok(Vec::new());
    }
    regular(&found)?;
    // It may have become something else meanwhile; the open of a pipe does not wait then.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    regular(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(too_long());
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// As of [`file()`], and if it is not UTF-8.
pub fn text(path: &Path) -> io::Result<String> {
    String::from_utf8(file(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn is_null(found: &Metadata) -> bool {
    let device = found.rdev();
    found.file_type().is_char_device() && (rustix::fs::major(device), rustix::fs::minor(device)) == (1, 3)
}

fn regular(found: &Metadata) -> io::Result<()> {
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if found.len() > FILE_MAX {
        return Err(too_long());
    }
    Ok(())
}

fn too_long() -> io::Error {
    io::Error::other("it is longer than 4 MiB")
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        std::os::unix::fs::symlink("pipe", path("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for name in ["pipe", "link", "zero", "socket", "folder"] {
            let error = file(&path(name)).unwrap_err();
            assert_eq!(error.to_string(), "it is not a regular file", "{name}");
        }
        assert_eq!(file(&path("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_is_read_up_to_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "[Unit]\n").unwrap();
        assert_eq!(file(&path).unwrap(), b"[Unit]\n");
        let grown = |bytes| File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
        grown(FILE_MAX);
        assert_eq!(file(&path).unwrap().len() as u64, FILE_MAX);
        grown(FILE_MAX + 1);
        assert_eq!(file(&path).unwrap_err().to_string(), "it is longer than 4 MiB");
    }

    #[test]
    fn a_mask_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let mask = dir.path().join("mask");
        std::os::unix::fs::symlink("/dev/null", &mask).unwrap();
        assert_eq!(file(&mask).unwrap(), b"");
    }
}
