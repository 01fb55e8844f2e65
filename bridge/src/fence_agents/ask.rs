//! Runs a program once, for what it prints: a fence agent for its metadata, or for the plugs of a device.
//!
//! The question goes by standard input: with any argument an agent would not read it, and with an empty
//! input it would switch a node off. So the input is complete before the agent begins. Of a call for metadata no option and
//! no secret is ever a part. An agent that hangs, floods or dies gives an error; whatever it started is killed with it, also when
//! whoever asked gives up.

use std::ffi::OsStr;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use units::systemd::sealed_input;

use super::metadata::{Metadata, MetadataError};

/// The slowest of Debian's agents took 0.3 s; a machine under load may take ten times as long.
pub const LIMIT: Duration = Duration::from_secs(10);
/// A killed process is gone within milliseconds.
const DEATH_LIMIT: Duration = Duration::from_secs(1);
/// Between two looks whether it has ended, once its outputs have.
const END_PAUSE: Duration = Duration::from_millis(2);
/// The longest of Debian's agents prints 11 KiB.
const OUTPUT_MAX: u64 = 512 * 1024;
const INPUT: &[u8] = b"action=metadata\n";
/// Agents start helpers by name.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest word of an agent that is shown.
const WORDS_MAX: usize = 200;

/// Why an agent's metadata, or a device's plugs, are not known.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No such program.
    #[error("it is not installed on this machine")]
    NotInstalled,
    /// It could not be run.
    #[error("it cannot be started")]
    Start(#[source] io::Error),
    /// Its output could not be read.
    #[error("its output cannot be read")]
    Read(#[source] io::Error),
    /// It did not end in time.
    #[error("it did not answer within {} s", limit.as_secs_f32())]
    TimedOut {
        /// The time that it had.
        limit: Duration,
    },
    /// It printed without end.
    #[error("it prints more than {} KiB", OUTPUT_MAX / 1024)]
    TooMuch,
    /// It failed.
    #[error("it ended with {status} instead of answering{said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// Its last words, after a colon; may be empty.
        said: String,
    },
    /// What it printed is no metadata.
    #[error(transparent)]
    Malformed(#[from] MetadataError),
}

impl AskError {
    /// The same without the agent's own words, which may hold what it was told.
    pub(super) fn without_words(self) -> Self {
        match self {
            Self::Failed { status, said: _ } => Self::Failed { status, said: String::new() },
            other => other,
        }
    }
}

/// Asks the agent at `program` for its metadata.
///
/// # Errors
/// If it gives none within `limit`.
pub async fn ask(program: &Path, limit: Duration) -> Result<Metadata, AskError> {
    let stdout = output(program, INPUT, limit).await?;
    Ok(Metadata::parse(&String::from_utf8_lossy(&stdout))?)
}

/// What the agent at `program` prints when it gets this input.
pub(super) async fn output(program: &Path, input: &[u8], limit: Duration) -> Result<Vec<u8>, AskError> {
    let Ended { status, stdout, stderr } = run(program, [], input, limit).await?;
    if !status.success() {
        return Err(AskError::Failed { status, said: last_words(&stderr, &stdout) });
    }
    Ok(stdout)
}

/// How a program ended by itself, and what it printed. Not to be shown as it is: what is asked for may be a secret.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs a program for what it prints. Its arguments can be seen by everybody.
///
/// # Errors
/// If it cannot be run, prints without end, or does not end within `limit`.
pub(crate) async fn run<'a>(
    program: &Path,
    args: impl IntoIterator<Item = &'a OsStr>,
    input: &[u8],
    limit: Duration,
) -> Result<Ended, AskError> {
    let mut command = Command::new(program);
    command.args(args);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").env("PYTHONWARNINGS", "ignore").current_dir("/");
    command
        .stdin(sealed_input(input).map_err(AskError::Start)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A group of its own, so that it can be killed with its children.
    command.process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if !program.exists() => AskError::NotInstalled,
        _ => AskError::Start(error),
    })?;
    let mut child = Group(child);
    let asked = tokio::time::timeout(limit, answer(&mut child)).await;
    match asked {
        Ok(Ok(ended)) => Ok(ended),
        Ok(Err(error)) => {
            end(&mut child).await;
            Err(error)
        }
        Err(_) => {
            end(&mut child).await;
            Err(AskError::TimedOut { limit })
        }
    }
}

async fn answer(child: &mut Group) -> Result<Ended, AskError> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(read(stdout), read(stderr))?;
    child.ended().await.map_err(AskError::Read)?;
    // What it left behind, before anybody waits for it: until then its number names no other process group.
    child.kill();
    let status = child.wait().await.map_err(AskError::Read)?;
    Ok(Ended { status, stdout, stderr })
}

/// Reads to the end, also from children that have the other end still open.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, AskError> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_MAX + 1).read_to_end(&mut bytes).await.map_err(AskError::Read)?;
    }
    if bytes.len() as u64 > OUTPUT_MAX { Err(AskError::TooMuch) } else { Ok(bytes) }
}

/// An agent with all that it starts: nothing of it outlives this.
struct Group(Child);

impl Group {
    /// `None` once it was waited for: its number may be another's then.
    fn number(&self) -> Option<Pid> {
        self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    fn kill(&self) {
        if let Some(group) = self.number() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits until it has ended, and leaves its number taken.
    async fn ended(&self) -> io::Result<()> {
        let Some(number) = self.number() else { return Ok(()) };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(number), look)?.is_none() {
            tokio::time::sleep(END_PAUSE).await;
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Deref for Group {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Group {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// Kills it and what it started.
async fn end(child: &mut Group) {
    child.kill();
    // One that hangs in the kernel does not even die; it is left behind.
    let _ = tokio::time::timeout(DEATH_LIMIT, child.wait()).await;
}

fn last_words(stderr: &[u8], stdout: &[u8]) -> String {
    let said = super::said::said(stderr, stdout);
    said.map(|said| format!(": {}", said.chars().take(WORDS_MAX).collect::<String>())).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Instant;

    use tempfile::TempDir;

    use super::*;

    /// Enough for a program that sleeps for ever.
    const SHORT: Duration = Duration::from_millis(500);

    /// A directory with the agent of the tests under these names.
    pub(in crate::fence_agents) fn agents(names: &[&str]) -> TempDir {
        let agent = concat!(env!("CARGO_MANIFEST_DIR"), "/src/fence_agents/samples/agent");
        let dir = tempfile::tempdir().expect("a directory");
        for name in names {
            symlink(agent, dir.path().join(name)).expect("a link");
        }
        dir
    }

    async fn asked(name: &str, limit: Duration) -> Result<Metadata, AskError> {
        let dir = agents(&[name]);
        ask(&dir.path().join(name), limit).await
    }

    #[tokio::test]
    async fn an_agent_is_asked_by_its_standard_input_alone() {
        let metadata = asked("fence_good", LIMIT).await.expect("metadata");
        assert_eq!(metadata.name, "fence_switch");
    }

    #[tokio::test]
    async fn agents_that_misbehave_are_told_apart() {
        for (name, limit, message) in [
            ("fence_hang", SHORT, "did not answer within 0.5 s"),
            ("fence_left", SHORT, "did not answer within 0.5 s"),
            ("fence_flood", LIMIT, "more than 512 KiB"),
            ("fence_noise", LIMIT, "more than 512 KiB"),
            ("fence_crash", LIMIT, "SIGSEGV"),
            ("fence_broken", LIMIT, "exit status: 1 instead of answering: No module named requests"),
            ("fence_badxml", LIMIT, "not XML"),
            ("fence_mute", LIMIT, "prints nothing"),
        ] {
            let error = asked(name, limit).await.expect_err(name).to_string();
            assert!(error.contains(message), "{name}: {error}");
        }
        let missing = ask("/usr/sbin/fence_no_such_agent".as_ref(), LIMIT).await;
        assert!(matches!(missing, Err(AskError::NotInstalled)), "{missing:?}");
    }

    #[tokio::test]
    async fn what_a_hanging_agent_started_is_killed_with_it() {
        let dir = agents(&["fence_stubborn"]);
        let agent = dir.path().join("fence_stubborn");
        let began = Instant::now();
        // On a slow machine it may not have come to its child by the end of a short limit.
        while !dir.path().join("child").exists() {
            let error = ask(&agent, SHORT).await.expect_err("hangs");
            assert!(matches!(error, AskError::TimedOut { .. }), "{error}");
            assert!(began.elapsed() < LIMIT, "it starts no child");
        }
        dies(dir.path(), began).await;
    }

    #[tokio::test]
    async fn what_an_agent_leaves_behind_is_killed_when_it_has_ended() {
        let dir = agents(&["fence_leaver"]);
        let metadata = ask(&dir.path().join("fence_leaver"), LIMIT).await.expect("metadata");
        assert_eq!(metadata.name, "fence_switch");
        dies(dir.path(), Instant::now()).await;
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_nothing_running() {
        let dir = agents(&["fence_stubborn"]);
        let (agent, noted) = (dir.path().join("fence_stubborn"), dir.path().join("child"));
        let asked = tokio::spawn(async move { ask(&agent, LIMIT).await });
        let began = Instant::now();
        while !noted.exists() {
            assert!(began.elapsed() < LIMIT, "it starts no child");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        asked.abort();
        dies(dir.path(), began).await;
    }

    /// Waits until the child that an agent has noted is gone.
    async fn dies(dir: &Path, began: Instant) {
        let child = fs::read_to_string(dir.join("child")).expect("a child");
        // A killed process stays until somebody waits for it; its command line is empty at once.
        while fs::read(format!("/proc/{}/cmdline", child.trim())).is_ok_and(|line| !line.is_empty()) {
            assert!(began.elapsed() < LIMIT * 2, "the child lives");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
