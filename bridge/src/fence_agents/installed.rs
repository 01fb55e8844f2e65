//! Which fence agents this machine has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;

use super::ask::{AskError, LIMIT, ask};
use super::metadata::Metadata;

/// Where agents are installed.
pub const DIRECTORY: &str = "/usr/sbin";
/// Named like agents, and not agents: one is for a person, some are daemons, the others are parts of an agent.
pub(super) const OTHERS: &[&str] = &[
    "fence_ack_manual",
    "fence_check",
    "fence_kdump_send",
    "fence_mpath_check",
    "fence_node",
    "fence_sanlockd",
    "fence_scsi_check",
    "fence_tool",
    "fence_virtd",
    "fence_xvmd",
];
/// How many are asked at a time: each is an interpreter that starts, and does nothing else.
const AT_ONCE: usize = 4;

/// What an agent said of itself.
pub type Look = Result<Metadata, AskError>;

/// An agent of this machine.
#[derive(Debug)]
pub struct Installed {
    /// The name of its program.
    pub name: String,
    /// What it said.
    pub look: Look,
}

/// Whether this names a program of the fence-agents collection: no path, and nothing that needs a quote.
#[must_use]
pub fn usable_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.strip_prefix("fence_").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(plain))
}

/// The program of an agent; `None` if it is not installed, or only named like one.
#[must_use]
pub fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    if !usable_name(name) || OTHERS.contains(&name) {
        return None;
    }
    let path = directory.join(name);
    let found = fs::metadata(&path).ok()?;
    (found.is_file() && found.permissions().mode() & 0o111 != 0).then_some(path)
}

/// All agents, asked one by one; by name.
///
/// # Errors
/// If the directory cannot be read.
pub async fn installed(directory: &Path) -> std::io::Result<Vec<Installed>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        if let Some(name) = entry?.file_name().to_str().filter(|name| find(directory, name).is_some()) {
            names.insert(name.to_owned());
        }
    }
    let looked = look(directory, &names).await;
    Ok(looked.into_iter().map(|(name, look)| Installed { name, look }).collect())
}

/// What these agents say of themselves.
pub async fn look(directory: &Path, names: &BTreeSet<String>) -> BTreeMap<String, Look> {
    let one = |name: String| async move {
        let look = match find(directory, &name) {
            Some(program) => ask(&program, LIMIT).await,
            None => Err(AskError::NotInstalled),
        };
        (name, look)
    };
    futures_util::stream::iter(names.iter().cloned().map(one)).buffer_unordered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::agents;
    use super::*;

    #[tokio::test]
    async fn the_agents_of_a_directory_are_listed_and_nothing_else_is_run() {
        let dir = agents(&["fence_mute", "fence_good", "fence_virtd", "fenced", "fence_"]);
        fs::write(dir.path().join("fence_data"), "not a program").expect("written");
        fs::create_dir(dir.path().join("fence_dir")).expect("a directory");
        let found = installed(dir.path()).await.expect("listed");
        let names: Vec<_> = found.iter().map(|agent| (agent.name.as_str(), agent.look.is_ok())).collect();
        assert_eq!(names, [("fence_good", true), ("fence_mute", false)]);
        assert!(!dir.path().join("started").exists(), "a daemon was started");
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_said_to_be_missing() {
        let dir = agents(&["fence_good"]);
        let names = ["fence_good", "fence_x", "../fence_good"].map(str::to_owned).into();
        let looked = look(dir.path(), &names).await;
        assert!(looked["fence_good"].is_ok());
        assert!(matches!(looked["fence_x"], Err(AskError::NotInstalled)));
        assert!(matches!(looked["../fence_good"], Err(AskError::NotInstalled)));
    }

    #[test]
    fn names_of_agents_need_no_quotes() {
        for (name, good) in [
            ("fence_ipmilan", true),
            ("fence_ilo4_ssh", true),
            ("fence_", false),
            ("fence_X", false),
            ("fence_a-b", false),
            ("/usr/sbin/fence_ipmilan", false),
            ("sh", false),
        ] {
            assert_eq!(usable_name(name), good, "{name}");
        }
    }
}
