//! That this node votes no more, because its state was another one than that of most voters (F20).
//!
//! It is written down beside the store before the vote ends, so that no later start brings it back. The node's units are no part
//! of it: the next daemon keeps them, as on a node without a vote, until the node has joined anew.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context;
use policy::NodeId;
use tracing::error;

use crate::atomic;
use crate::identity;
use crate::paths::Paths;
use crate::pki::ClusterId;

/// Why this node was set aside, if it was. A file of another identity, which this machine had before, says nothing.
///
/// # Errors
/// A file that is there and cannot be read: whether this node may vote is not known then.
pub(super) fn read(paths: &Paths, mark: &str) -> anyhow::Result<Option<String>> {
    for file in files(paths) {
        match fs::read_to_string(&file) {
            Ok(text) => {
                if let Some(why) = text.strip_prefix(mark) {
                    return Ok(Some(why.trim_end().to_owned()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", file.display())),
        }
    }
    Ok(None)
}

/// Sets this node aside.
pub(super) fn set(paths: &Paths, mark: &str, why: &str) {
    for file in files(paths) {
        let text = format!("{mark}{why}\n");
        if let Err(error) = atomic::write(&file, text.as_bytes(), atomic::PRIVATE) {
            error!(%error, path = %file.display(), "that this node votes no more cannot be kept there");
        }
    }
}

/// Beside the store, and for a disk that takes nothing any more in memory: until the next boot, and then it is told anew.
fn files(paths: &Paths) -> [PathBuf; 2] {
    [paths.set_aside_file(), paths.run_dir().join("set-aside")]
}

/// What such a file begins with: of whom it is. Ids are given anew in each cluster.
pub(super) fn mark(node: NodeId, cluster: ClusterId) -> String {
    format!("node {} of {cluster}: ", node.0)
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
        let mark = mark(NodeId(7), ClusterId::from_bytes([1; 16]));
        assert_eq!(read(&paths, &mark).expect("no error"), None);
        fs::create_dir_all(paths.run_dir()).expect("its place");
        set(&paths, &mark, "at index 4 it differs");
        assert_eq!(
            read(&paths, &mark).expect("no error").as_deref(),
            Some("at index 4 it differs"),
            "a full disk"
        );
        fs::create_dir_all(paths.state_dir()).expect("its place");
        set(&paths, &mark, "at index 4 it differs");
        fs::remove_dir_all(paths.run_dir()).expect("a boot");
        assert_eq!(read(&paths, &mark).expect("no error").as_deref(), Some("at index 4 it differs"));
        assert_eq!(
            read(&paths, &super::mark(NodeId(7), ClusterId::from_bytes([2; 16]))).expect("no error"),
            None,
            "it has joined anew since"
        );
        let line = line(&paths, "at index 4 it differs");
        assert!(line.starts_with("at index 4 it differs: ") && line.contains("convoke leave"), "{line}");
        fs::remove_file(paths.set_aside_file()).expect("removed");
        fs::create_dir(paths.set_aside_file()).expect("something else");
        read(&paths, &mark).expect_err("nobody knows");
    }
}
