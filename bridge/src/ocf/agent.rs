//! A resource agent's program: where it is, how it is called, and what its exit codes mean.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use crate::child::Group;

/// Where agents are, below a root.
const ROOT: &str = "usr/lib/ocf";
/// What of our own environment is not the agents' business.
const OURS: [&str; 5] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"];
/// The longest that an agent may take to print its metadata.
const METADATA_LIMIT: Duration = Duration::from_secs(20);

/// A program of the collection, such as `ocf:heartbeat:IPaddr2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// `heartbeat`
    pub provider: String,
    /// `IPaddr2`
    pub kind: String,
    root: PathBuf,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It had to be killed after this time.
    Late(Duration),
}

impl Ended {
    /// In words, with the API's own name for the code.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Code(code) => format!("{} ({code})", meaning(code)),
            Self::Signal(signal) => format!("it was killed by signal {signal}"),
            Self::Late(after) => format!("it did not end within {} s and was killed", after.as_secs()),
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        status.code().map_or_else(|| Self::Signal(status.signal().unwrap_or_default()), Self::Code)
    }
}

fn meaning(code: i32) -> &'static str {
    match code {
        0 => "success",
        1 => "generic error",
        2 => "a parameter is wrong on this machine",
        3 => "the agent does not know the action",
        4 => "not permitted",
        5 => "a program or file that it needs is not installed",
        6 => "a parameter is wrong everywhere",
        7 => "not running",
        8 => "running and promoted",
        9 => "failed while promoted",
        190 => "running, and about to fail",
        191 => "running and promoted, and about to fail",
        _ => "an exit code that the API does not know",
    }
}

impl Agent {
    /// The agent of this name, `ocf:PROVIDER:TYPE` or without the first part; it need not be installed.
    #[must_use]
    pub fn named(root: &Path, name: &str) -> Option<Self> {
        let sound = |part: &&str| {
            let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(good)
        };
        let mut parts = name.strip_prefix("ocf:").unwrap_or(name).split(':');
        let (provider, kind) = (parts.next().filter(sound)?, parts.next().filter(sound)?);
        let whole = parts.next().is_none();
        whole.then(|| Self { provider: provider.to_owned(), kind: kind.to_owned(), root: root.join(ROOT) })
    }

    /// `ocf:heartbeat:IPaddr2`
    #[must_use]
    pub fn name(&self) -> String {
        format!("ocf:{}:{}", self.provider, self.kind)
    }

    /// Its program.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.join("resource.d").join(&self.provider).join(&self.kind)
    }

    /// What it prints as its metadata.
    ///
    /// # Errors
    /// If it cannot be run, does not end in time, or fails.
    pub async fn metadata(&self) -> io::Result<String> {
        let mut command = self.command("meta-data", "metadata", &BTreeMap::new());
        command.stderr(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let ended = tokio::time::timeout(METADATA_LIMIT, command.output()).await;
        let output = ended.map_err(|_| io::Error::other("meta-data: it does not end"))??;
        match Ended::from(output.status) {
            Ended::Code(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            other => Err(io::Error::other(format!("meta-data: {}", other.text()))),
        }
    }

    /// Runs an action to its end. What it prints goes where our own output goes.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub async fn act(
        &self,
        action: &str,
        instance: &str,
        variables: &BTreeMap<String, String>,
        limit: Duration,
    ) -> io::Result<Ended> {
        let mut command = self.command(action, instance, variables);
        command.env("OCF_RESKEY_CRM_meta_timeout", limit.as_millis().to_string());
        let mut child = Group(command.process_group(0).spawn()?);
        match tokio::time::timeout(limit, child.0.wait()).await {
            Ok(status) => Ok(status?.into()),
            Err(_) => Ok(Ended::Late(limit)),
        }
    }

    fn command(
        &self,
        action: &str,
        instance: &str,
        variables: &BTreeMap<String, String>,
    ) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.path());
        for name in OURS {
            command.env_remove(name);
        }
        command
            .arg(action)
            .env("OCF_ROOT", &self.root)
            .env("OCF_RA_VERSION_MAJOR", "1")
            .env("OCF_RA_VERSION_MINOR", "1")
            .env("OCF_RESOURCE_INSTANCE", instance)
            .env("OCF_RESOURCE_PROVIDER", &self.provider)
            .env("OCF_RESOURCE_TYPE", &self.kind)
            .env("OCF_RESKEY_CRM_meta_name", action)
            .envs(variables)
            .stdin(Stdio::null());
        command
    }
}

/// The names of all agents of this machine, in their order.
///
/// # Errors
/// If their folders cannot be read; that there is none is no error.
pub fn installed(root: &Path) -> io::Result<Vec<String>> {
    let folder = root.join(ROOT).join("resource.d");
    let mut found = Vec::new();
    for provider in names(&folder)? {
        for kind in names(&folder.join(&provider))? {
            let agent = Agent::named(root, &format!("{}:{}", provider.display(), kind.display()));
            found.extend(agent.filter(|agent| is_program(&agent.path())).map(|agent| agent.name()));
        }
    }
    found.sort();
    Ok(found)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    match std::fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        entries => entries?.map(|entry| Ok(entry?.file_name())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_two_parts_and_leads_nowhere_else() {
        let name = |text| Agent::named(Path::new("/"), text).map(|agent| agent.path());
        let expected = Some("/usr/lib/ocf/resource.d/heartbeat/IPaddr2".into());
        assert_eq!(name("ocf:heartbeat:IPaddr2"), expected);
        assert_eq!(name("heartbeat:IPaddr2"), expected);
        for bad in ["IPaddr2", "ocf:heartbeat", "ocf:a:b:c", "ocf:..:x", "a:b/c", "a:", "lsb:x:"] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
