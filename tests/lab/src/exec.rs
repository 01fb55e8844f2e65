//! Commands in a node.
//!
//! They run in all of the node's namespaces and in a control group of it: a frozen node freezes them, and a power cut
//! kills them with the rest. What must outlive the call belongs into a unit (`systemd-run`).

use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};

use crate::cgroup::Groups;
use crate::machine;
use crate::node::Node;

/// No command of a test takes longer; one that does hangs.
const PATIENCE: Duration = Duration::from_secs(180);
/// A test's command goes into the node's group, then into its namespaces.
const ENTER: &str = r#"echo $$ >"$1" || exit 125; shift; exec nsenter --target "$1" --all -- env -i \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
    SYSTEMD_PAGER= SYSTEMD_COLORS=0 sh -c "$2""#;

/// What a command in a node said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status; 128 and the signal's number if one ended it (137: the node lost its power).
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the exit status is 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == 0
    }
}

impl Node {
    /// A command line of a shell in the node, ready to be spawned. Its pid on the host is that of the entering
    /// program; kill the inner one from within.
    pub fn command(&self, line: &str) -> Result<Command> {
        let leader = machine::leader(&self.place, self.index)
            .with_context(|| format!("{} is off", self.name()))?
            .to_string();
        let procs = Groups::of(&self.place, self.index)?.run_procs();
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh"]).arg(procs).args([&leader, line]);
        Ok(command)
    }

    /// Runs a shell's command line to its end, three minutes at most.
    pub fn run(&self, line: &str) -> Result<Output> {
        self.run_for(line, PATIENCE)
    }

    /// As [`run`](Self::run), and a status other than 0 is an error with all that was said. The answer is stdout
    /// without the last newline.
    pub fn run_ok(&self, line: &str) -> Result<String> {
        let out = self.run(line)?;
        ensure!(out.ok(), "{}: `{line}` exits {}\n{}{}", self.name(), out.code, out.stdout, out.stderr);
        Ok(out.stdout.trim_end_matches('\n').to_owned())
    }

    /// As [`run`](Self::run), with another limit; a command that is not done by then is killed, and that is an error.
    pub fn run_for(&self, line: &str, limit: Duration) -> Result<Output> {
        self.feed_for(line, &[], limit)
    }

    /// As [`run`](Self::run), with bytes for standard input.
    pub fn feed(&self, line: &str, input: &[u8]) -> Result<Output> {
        self.feed_for(line, input, PATIENCE)
    }

    /// Runs a fence agent with an action, its parameters on standard input as a cluster gives them.
    pub(crate) fn fence(&self, agent: &str, action: &str, parameters: &[(&str, String)]) -> Result<Output> {
        let mut text = format!("action={action}\n");
        for (name, value) in parameters {
            text.push_str(&format!("{name}={value}\n"));
        }
        self.feed(&format!("PYTHONWARNINGS=ignore {agent}"), text.as_bytes())
    }

    fn feed_for(&self, line: &str, input: &[u8], limit: Duration) -> Result<Output> {
        // Its own process group, so that a late one can be killed with its children.
        let mut child = self
            .command(line)?
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.map(|mut s| s.write_all(input)));
            let stdout = scope.spawn(move || text_of(stdout));
            let stderr = scope.spawn(move || text_of(stderr));
            let (over, done) = std::sync::mpsc::channel::<()>();
            let late = scope.spawn(move || {
                let late =
                    matches!(done.recv_timeout(limit), Err(std::sync::mpsc::RecvTimeoutError::Timeout));
                if let (true, Some(pid)) = (late, pid) {
                    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                }
                late
            });
            let status = child.wait()?;
            drop(over);
            let late = late.join().unwrap_or(false);
            let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
            if late {
                bail!("{}: `{line}` is not done after {limit:?}\n{stdout}{stderr}", self.name());
            }
            Ok(Output { code: machine::code_of(status), stdout, stderr })
        })
    }

    /// Starts a command and does not wait. Its output is dropped; the node's end is its end.
    pub fn spawn(&self, line: &str) -> Result<Child> {
        let mut command = self.command(line)?;
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }
}

fn text_of(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What came until an error is better than nothing.
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
