//! That this node votes no more, because its state was another one than that of most voters (F20).
//!
//! It is written down beside the store before the vote ends, so that no later start brings it back. The node's units are no part
//! of it: the next daemon keeps them, as on a node without a vote, until the node has joined anew.

use std::fs;
use std::io;

use anyhow::Context;
use tracing::error;

use crate::atomic;
use crate::identity;
use crate::paths::Paths;

/// Why this node was set aside, if it was.
///
/// # Errors
/// A file that is there and cannot be read: whether this node may vote is not known then.
pub(super) fn read(paths: &Paths) -> anyhow::Result<Option<String>> {
    let file = paths.set_aside_file();
    match fs::read_to_string(&file) {
        Ok(why) => Ok(Some(why.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", file.display())),
    }
}

/// Sets this node aside.
pub(super) fn set(paths: &Paths, why: &str) {
    let file = paths.set_aside_file();
    if let Err(error) = atomic::write(&file, format!("{why}\n").as_bytes(), atomic::PRIVATE) {
        error!(%error, path = %file.display(), "cannot be kept: this node votes again until it is told once more");
    }
}

/// What an operator reads on the node.
pub(super) fn line(paths: &Paths, why: &str) -> String {
    let remedy = identity::remedy(&paths.identity_dir());
    format!(
        "{why}: this node votes no more, and keeps its units; keep a copy of `{}` for a report, drain this node, then {remedy}",
        paths.store_file().display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_at_the_next_start() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        assert_eq!(read(&paths).expect("no error"), None);
        fs::create_dir_all(paths.state_dir()).expect("its place");
        set(&paths, "at index 4 it differs");
        assert_eq!(read(&paths).expect("no error").as_deref(), Some("at index 4 it differs"));
        let line = line(&paths, "at index 4 it differs");
        assert!(line.starts_with("at index 4 it differs: ") && line.contains("convoke leave"), "{line}");
        fs::remove_file(paths.set_aside_file()).expect("removed");
        fs::create_dir(paths.set_aside_file()).expect("something else");
        read(&paths).expect_err("nobody knows");
    }
}
