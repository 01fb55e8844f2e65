//! Puts rendered texts into directories, so that no reader ever sees half a file.
//!
//! The only module of the text half that changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::gate::OUR_PREFIX;
use crate::generator::{LAST_GOOD, LAST_GOOD_KEPT};
use crate::read;

/// Why files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file or directory could not be made.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Writes one file under a name that readers skip, and renames it. The file is not synced: what is written
/// with this is either below /run or checked again at the next start.
pub fn file(path: &Path, text: &str) -> Result<(), WriteError> {
    let failed = |source| WriteError::Write { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(hidden);
    fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path)).map_err(|source| {
        // What is left over has no name that systemd reads.
        let _ = fs::remove_file(&temporary);
        failed(source)
    })
}

/// Writes all files below a directory. Goes on after a failure, since each file stands for itself, and
/// returns the first.
pub fn files(dir: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), WriteError> {
    let mut result = Ok(());
    for (path, text) in files {
        result = result.and(file(&dir.join(path), text));
    }
    result
}

/// The generated drop-ins below a directory, as [`files`] wrote them.
pub fn read_back(dir: &Path) -> Result<BTreeMap<PathBuf, String>, WriteError> {
    let mut out = BTreeMap::new();
    for unit in names(dir)? {
        if unit.as_encoded_bytes().ends_with(b".d") {
            let inside = dir.join(&unit);
            for name in names(&inside)? {
                if name.to_str().is_some_and(|n| n.starts_with(OUR_PREFIX) && n.ends_with(".conf")) {
                    let path = inside.join(&name);
                    let text = read::text(&path)
                        .map_err(|source| WriteError::Read { path: path.clone(), source })?;
                    out.insert(Path::new(&unit).join(&name), text);
                }
            }
        }
    }
    Ok(out)
}

/// Removes generated drop-ins below a directory that are not among `keep`, with directories that become
/// empty by it.
pub fn prune(dir: &Path, keep: &BTreeMap<PathBuf, String>) -> Result<(), WriteError> {
    let present: BTreeSet<PathBuf> = read_back(dir)?.into_keys().collect();
    for path in present.iter().filter(|p| !keep.contains_key(*p)) {
        let full = dir.join(path);
        fs::remove_file(&full).map_err(|source| WriteError::Write { path: full.clone(), source })?;
        if let Some(parent) = full.parent() {
            // Not empty means that somebody else's drop-ins are there.
            let _ = fs::remove_dir(parent);
        }
    }
    Ok(())
}

/// Copies the generator's last good output to where it outlives a reboot; for convoked, after each reload.
pub fn keep_last_good(root: &Path) -> Result<(), WriteError> {
    let from = root.join(LAST_GOOD.trim_start_matches('/'));
    let to = root.join(LAST_GOOD_KEPT.trim_start_matches('/'));
    let good = read_back(&from)?;
    files(&to, &good)?;
    prune(&to, &good)
}

/// The names in a directory; none if there is no such directory.
fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, WriteError> {
    let failed = |source| WriteError::Read { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(failed(e)),
    };
    let mut out = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if name != OsStr::new(".") {
            out.push(name);
        }
    }
    out.sort();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(names: &[&str]) -> BTreeMap<PathBuf, String> {
        names.iter().map(|n| (PathBuf::from(n), format!("# {n}\n"))).collect()
    }

    #[test]
    fn what_was_written_is_read_back_and_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let both = output(&["a.service.d/~convoke-gate.conf", "b.socket.d/~convoke-member.conf"]);
        files(dir.path(), &both).unwrap();
        fs::write(dir.path().join("b.socket.d/10-other.conf"), "").unwrap();
        assert_eq!(read_back(dir.path()).unwrap(), both);
        let one = output(&["a.service.d/~convoke-gate.conf"]);
        prune(dir.path(), &one).unwrap();
        assert_eq!(read_back(dir.path()).unwrap(), one);
        assert!(dir.path().join("b.socket.d/10-other.conf").exists(), "others' files stay");
        prune(dir.path(), &BTreeMap::new()).unwrap();
        assert!(!dir.path().join("a.service.d").exists());
        assert_eq!(read_back(&dir.path().join("missing")).unwrap(), BTreeMap::new());
    }

    #[test]
    fn one_failure_does_not_cost_the_others() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.service.d"), "in the way").unwrap();
        let all = output(&["a.service.d/~convoke-gate.conf", "b.service.d/~convoke-gate.conf"]);
        assert!(files(dir.path(), &all).is_err());
        assert_eq!(read_back(dir.path()).unwrap(), output(&["b.service.d/~convoke-gate.conf"]));
    }

    #[test]
    fn the_last_good_output_is_kept_for_the_next_boot() {
        let root = tempfile::tempdir().unwrap();
        let good = output(&["a.service.d/~convoke-gate.conf"]);
        files(&root.path().join("run/convoke/generator-last-good"), &good).unwrap();
        files(
            &root.path().join("var/lib/convoke/generator-last-good"),
            &output(&["old.service.d/~convoke-gate.conf"]),
        )
        .unwrap();
        keep_last_good(root.path()).unwrap();
        assert_eq!(read_back(&root.path().join("var/lib/convoke/generator-last-good")).unwrap(), good);
    }
}
