//! Runs a program in a transient unit of its own: fence agents, probes.
//!
//! What is promised: complete input and then its end; both outputs read to the end, kept whole or by both their ends, never
//! blocking on an orphan that holds a pipe; at the deadline the whole control group is killed; when this
//! process dies, systemd kills the program ([`TransientSpec::binds_to`]) and, as a net, ends it by a time-out of
//! its own. Knows nothing of what the program does.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::Instant;
use zbus::zvariant::{Fd, Value};

use super::error::Error;
use super::gone::Remembered;
use super::handle::{CALL_LIMIT, Link, PendingJob, Systemd, ignore_refusal};
use super::ops::REPLACE;
use super::proxies::Properties;
use super::reading::Reading;
use super::signal::{JobKind, JobResult};

/// How much later than our own deadline systemd's net comes: it must never win while we live.
const NET_DELAY: Duration = Duration::from_secs(5);
/// systemd's own patience when it stops the unit; the first signal is SIGKILL already.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// How long a killed group may take to be empty before it is reported as stuck.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How long output that was written before the end may take to arrive. The pipe holds it already.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);
/// One in so many of the bytes kept is of an output's begin. What went wrong is said at the end.
const HEAD_SHARE: usize = 4;
/// Exit statuses with which systemd's own child reports that it could not execute the program.
const SETUP_FAILED: std::ops::RangeInclusive<i32> = 200..=245;
/// `CLD_EXITED`, the first of the two ways in which a process ends.
const CLD_EXITED: i32 = 1;
/// SIGKILL, as a property.
const SIGKILL: i32 = 9;
/// Fence agents change their behaviour with it, so it is never passed on.
const FORBIDDEN_VARIABLE: &str = "PCMK_service";

/// What is to be run.
#[derive(Debug, Clone)]
pub struct TransientSpec {
    /// Full unit name, ending in `.service`. A prefix of its own lets leftovers be found.
    pub name: String,
    /// Shown by `systemctl status` and `list-jobs`.
    pub description: String,
    /// Absolute path.
    pub program: String,
    /// Arguments without the program itself. Visible to everybody: no secrets here.
    pub args: Vec<String>,
    /// Given on standard input, from memory: never in a property, file or argument.
    pub stdin: Vec<u8>,
    /// After this the group is killed.
    pub deadline: Duration,
    /// Bytes kept of each output. Of a longer one these are its first lines and its last; what is between is read and dropped.
    pub output_cap: usize,
    /// Environment; `PYTHONWARNINGS=ignore` is added, because warnings were seen to confuse readers of output.
    pub environment: BTreeMap<String, String>,
    /// The unit whose end kills the program: the daemon's own. Without one it may also be started while the machine shuts down.
    pub binds_to: Option<String>,
}

/// How the program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal, not sent by us.
    Signaled(i32),
    /// We killed it at the deadline. What it did until then is unknown.
    TimedOut,
    /// It did not run.
    NotStarted(String),
    /// It ran, but nobody knows how it ended: somebody else stopped the unit, or the connection was lost.
    Unknown(String),
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransientEnd {
    /// How it ended.
    pub outcome: Outcome,
    /// Standard output, as far as it is kept.
    pub stdout: Vec<u8>,
    /// Standard error, as far as it is kept.
    pub stderr: Vec<u8>,
    /// From the request to the end.
    pub took: Duration,
    /// Processes that survived SIGKILL, in words; `None` is the normal case.
    pub left: Option<String>,
}

impl Systemd {
    /// Runs the program and waits for its end, at most about the deadline and some seconds for the killing.
    ///
    /// Dropping the future does not stop the program: `binds_to` and [`stop_leftover_transients`] do.
    ///
    /// [`stop_leftover_transients`]: Self::stop_leftover_transients
    pub async fn run_transient(&self, spec: TransientSpec) -> TransientEnd {
        let begun = Instant::now();
        let mut end = match self.run_until_end(&spec, begun).await {
            Ok(end) => end,
            Err(outcome) => TransientEnd {
                outcome,
                stdout: Vec::new(),
                stderr: Vec::new(),
                took: Duration::ZERO,
                left: None,
            },
        };
        end.took = begun.elapsed();
        end
    }

    async fn run_until_end(&self, spec: &TransientSpec, begun: Instant) -> Result<TransientEnd, Outcome> {
        let not_started = |error: &dyn std::fmt::Display| Outcome::NotStarted(error.to_string());
        let input = sealed_input(&spec.stdin).map_err(|error| not_started(&error))?;
        let (mut stdout, stdout_end) = Capture::open(spec.output_cap).map_err(|error| not_started(&error))?;
        let (mut stderr, stderr_end) = Capture::open(spec.output_cap).map_err(|error| not_started(&error))?;
        let properties = unit_properties(spec, self.shared.link, [input, stdout_end, stderr_end]);
        let (manager, name) = (self.shared.manager.clone(), spec.name.clone());
        // PID 1 has its own copies of the outputs when it replies; ours, which go with the call, would keep the
        // pipes open for ever.
        let call = async move { manager.start_transient_unit(&name, REPLACE, &properties, &[]).await };
        let pending = match self.begin(JobKind::Start, "StartTransientUnit", call).await {
            Ok(pending) => pending,
            Err(error @ Error::Refused { .. }) => return Err(not_started(&error)),
            // The request may have arrived.
            Err(error) => {
                self.stop_transient(&spec.name, None).await;
                return Err(Outcome::Unknown(error.to_string()));
            }
        };
        let running = self.read(&spec.name).await.ok();
        let remembered = running.as_ref().map(Remembered::of);

        let waited = Self::wait_and_read(pending, begun + spec.deadline, &mut stdout, &mut stderr).await;
        let (outcome, left) = match waited {
            Waited::Ended(result) => (self.outcome_of(spec, &result).await, None),
            Waited::Deadline => {
                (Outcome::TimedOut, self.stop_transient(&spec.name, remembered.as_ref()).await)
            }
            Waited::Lost => {
                let left = self.kill_remembered(remembered.as_ref()).await;
                (Outcome::Unknown("the connection to systemd was lost".to_owned()), left)
            }
        };
        // An orphan outside of the group may hold the pipes open: what is there by now is all that counts.
        drop(tokio::time::timeout(DRAIN_LIMIT, read_both(&mut stdout, &mut stderr)).await);
        self.forget_transient(&spec.name).await;
        let (stdout, stderr) = (stdout.kept(), stderr.kept());
        Ok(TransientEnd { outcome, stdout, stderr, took: Duration::ZERO, left })
    }

    async fn wait_and_read(
        pending: PendingJob,
        deadline: Instant,
        stdout: &mut Capture,
        stderr: &mut Capture,
    ) -> Waited {
        let reading = async {
            read_both(stdout, stderr).await;
            // The outputs may be closed long before the program ends.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            ended = pending.ended => ended.map_or(Waited::Lost, Waited::Ended),
            () = tokio::time::sleep_until(deadline) => Waited::Deadline,
            () = reading => Waited::Lost,
        }
    }

    /// Kept alive by our reference (or as a failed unit on the private socket), the unit still knows.
    async fn outcome_of(&self, spec: &TransientSpec, result: &JobResult) -> Outcome {
        if *result == JobResult::Canceled {
            return Outcome::Unknown("somebody else stopped the unit".to_owned());
        }
        let reading = match self.read(&spec.name).await {
            Ok(reading) if reading.load_state == "loaded" && reading.exec_main_code != 0 => reading,
            // PID 1 collects a successful unit at once where nobody may hold a reference.
            Ok(_) if *result == JobResult::Done && self.shared.link == Link::Private => {
                return Outcome::Exited(0);
            }
            Ok(reading) => {
                let why = format!("the job ended as `{result}`, Result={}", reading.result);
                // One that is there says that nothing ran; one that is gone says nothing.
                return match result {
                    JobResult::Failed | JobResult::Dependency if reading.load_state == "loaded" => {
                        Outcome::NotStarted(why)
                    }
                    _ => Outcome::Unknown(why),
                };
            }
            Err(error) => return Outcome::Unknown(error.to_string()),
        };
        outcome_from(&reading, spec)
    }

    /// Stops the unit (by SIGKILL), kills what is left of its group, and says what survived.
    async fn stop_transient(&self, name: &str, remembered: Option<&Remembered>) -> Option<String> {
        let now = self.read(name).await.ok();
        let mut groups = remembered.cloned().unwrap_or_default();
        if let Some(reading) = &now {
            groups.add(reading);
        }
        if let Err(error) = self.stop(name, STOP_LIMIT + KILL_LIMIT).await {
            tracing::debug!(unit = name, %error, "the transient unit did not stop by itself");
        }
        self.kill_remembered(Some(&groups)).await
    }

    async fn kill_remembered(&self, remembered: Option<&Remembered>) -> Option<String> {
        let remembered = remembered?;
        match self.kill_group(remembered, KILL_LIMIT).await {
            Ok(true) => None,
            Ok(false) => {
                let groups = remembered.groups.values().flatten();
                Some(groups.map(|group| self.shared.cgroups.describe(group)).collect::<Vec<_>>().join("; "))
            }
            Err(error) => Some(error.to_string()),
        }
    }

    /// Lets PID 1 collect the unit.
    async fn forget_transient(&self, name: &str) {
        let forgotten = match self.shared.link {
            Link::Bus => {
                ignore_refusal(self.ask("UnrefUnit", CALL_LIMIT, self.shared.manager.unref_unit(name)).await)
            }
            Link::Private => self.reset_failed(name).await,
        };
        if let Err(error) = forgotten {
            tracing::debug!(unit = name, %error, "the transient unit is left to be found at the next start");
        }
    }

    /// Stops and kills transient units that an earlier run of the daemon left behind, and names them.
    ///
    /// # Errors
    /// When PID 1 cannot be asked, or something survived SIGKILL.
    pub async fn stop_leftover_transients(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let pattern = format!("{prefix}*.service");
        let patterns = [pattern.as_str()];
        let call = self.shared.manager.list_units_by_patterns(&[], &patterns);
        let listed = self.ask("ListUnitsByPatterns", CALL_LIMIT, call).await?;
        let mut stopped = Vec::new();
        for (name, ..) in listed {
            self.end_transient(&name).await?;
            stopped.push(name);
        }
        Ok(stopped)
    }

    /// Stops and kills a transient unit, if there is one of this name, and has PID 1 forget it.
    ///
    /// # Errors
    /// When PID 1 cannot be asked, or something survived SIGKILL.
    pub async fn end_transient(&self, name: &str) -> Result<(), Error> {
        if self.read(name).await?.load_state == "not-found" {
            return Ok(());
        }
        let left = self.stop_transient(name, None).await;
        self.reset_failed(name).await?;
        // Ours, if the run was given up by this very process.
        self.forget_transient(name).await;
        match left {
            Some(left) => {
                let source = io::Error::other(left);
                Err(Error::Local { what: format!("{name} cannot be stopped"), source })
            }
            None => Ok(()),
        }
    }
}

fn unit_properties(spec: &TransientSpec, link: Link, fds: [OwnedFd; 3]) -> Properties<'static> {
    // systemd expands variables in what it executes; a doubled sign is a single one.
    let mut argv = vec![spec.program.replace('$', "$$")];
    argv.extend(spec.args.iter().map(|arg| arg.replace('$', "$$")));
    let exec = vec![(spec.program.clone(), argv, false)];
    let usec = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX - 1);
    let mut environment = vec!["PYTHONWARNINGS=ignore".to_owned()];
    let wanted = spec.environment.iter().filter(|(name, _)| *name != FORBIDDEN_VARIABLE);
    environment.extend(wanted.map(|(name, value)| format!("{name}={value}")));
    let [stdin, stdout, stderr] = fds;
    let mut properties: Properties<'static> = vec![
        ("Description", Value::from(spec.description.clone())),
        // The job of a oneshot ends with its process, and the unit never counts as up.
        ("Type", Value::from("oneshot")),
        ("ExecStart", Value::from(exec)),
        ("StandardInputFileDescriptor", Value::from(Fd::from(stdin))),
        ("StandardOutputFileDescriptor", Value::from(Fd::from(stdout))),
        ("StandardErrorFileDescriptor", Value::from(Fd::from(stderr))),
        ("Environment", Value::from(environment)),
        ("KillMode", Value::from("control-group")),
        ("KillSignal", Value::from(SIGKILL)),
        ("SendSIGKILL", Value::from(true)),
        ("TimeoutStartUSec", Value::from(usec(spec.deadline + NET_DELAY))),
        ("TimeoutStopUSec", Value::from(usec(STOP_LIMIT))),
        // A restart of the daemon is passed on to what is bound to it: the program would run again, its input read to the end.
        ("StartLimitBurst", Value::from(1u32)),
        ("StartLimitIntervalUSec", Value::from(u64::MAX)),
        // `systemctl isolate` shall not interrupt a fence.
        ("IgnoreOnIsolate", Value::from(true)),
    ];
    match link {
        // Our reference keeps the result readable; without us nothing of the unit stays.
        Link::Bus => {
            properties.push(("CollectMode", Value::from("inactive-or-failed")));
            properties.push(("AddRef", Value::from(true)));
            // What a status means is not for PID 1 to say: a switch that is off, a copy that is not ready yet.
            let answers: Vec<i32> = (1..*SETUP_FAILED.start()).collect();
            properties.push(("SuccessExitStatus", Value::from((answers, Vec::<i32>::new()))));
        }
        // No references here: a failed unit stays until it is read.
        Link::Private => properties.push(("CollectMode", Value::from("inactive"))),
    }
    match &spec.binds_to {
        // Not After=: before the daemon said READY, its agents would wait for it and it for them.
        Some(daemon) => properties.push(("BindsTo", Value::from(vec![daemon.clone()]))),
        // Else it conflicts with shutdown.target.
        None => properties.push(("DefaultDependencies", Value::from(false))),
    }
    properties
}

enum Waited {
    Ended(JobResult),
    Deadline,
    Lost,
}

fn outcome_from(reading: &Reading, spec: &TransientSpec) -> Outcome {
    let status = reading.exec_main_status;
    match reading.exec_main_code {
        CLD_EXITED if SETUP_FAILED.contains(&status) => {
            Outcome::NotStarted(format!("systemd could not execute {} (status {status})", spec.program))
        }
        CLD_EXITED => Outcome::Exited(status),
        // By us, through systemd's net or a foreign stop: the program's own end stays unknown.
        _ if reading.result == "timeout" => Outcome::TimedOut,
        _ => Outcome::Signaled(status),
    }
}

/// An input in memory, sealed, read from its start: complete before a program begins, and with an end.
///
/// # Errors
/// If the kernel gives no memory for it.
pub fn sealed_input(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = memfd_create("convoke-stdin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(memory);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// One output of the program.
struct Capture {
    pipe: pipe::Receiver,
    head: Vec<u8>,
    /// The last bytes so far of what is behind the head.
    tail: VecDeque<u8>,
    /// How many between the two were dropped.
    left_out: usize,
    cap: usize,
}

impl Capture {
    /// The capture and the end for the program.
    fn open(cap: usize) -> io::Result<(Self, OwnedFd)> {
        let (sender, pipe) = pipe::pipe()?;
        let capture = Self { pipe, head: Vec::new(), tail: VecDeque::new(), left_out: 0, cap };
        Ok((capture, sender.into_blocking_fd()?))
    }

    /// Reads to the end. What was read so far stays when this is given up.
    async fn read_to_end(&mut self) {
        let mut chunk = [0; 8192];
        while let Ok(length @ 1..) = self.pipe.read(&mut chunk).await {
            self.take(chunk.get(..length).unwrap_or_default());
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let head_max = self.cap / HEAD_SHARE;
        let room = head_max.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(self.cap - head_max);
        self.tail.drain(..surplus);
        self.left_out += surplus;
    }

    /// What is kept. Where something is left out these are whole lines: whoever hides a password would not know half of it.
    fn kept(self) -> Vec<u8> {
        let (mut kept, tail) = (self.head, Vec::from(self.tail));
        if self.left_out == 0 {
            kept.extend(tail);
            return kept;
        }
        let ends_line = |byte: &u8| *byte == b'\n';
        let whole = kept.iter().rposition(ends_line).map_or(0, |end| end + 1);
        let broken = tail.iter().position(ends_line).map_or(tail.len(), |end| end + 1);
        let left_out = self.left_out + (kept.len() - whole) + broken;
        kept.truncate(whole);
        kept.extend(format!("[{left_out} bytes left out]\n").into_bytes());
        kept.extend_from_slice(tail.get(broken..).unwrap_or_default());
        kept
    }
}

async fn read_both(stdout: &mut Capture, stderr: &mut Capture) {
    tokio::join!(stdout.read_to_end(), stderr.read_to_end());
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn input_is_complete_ends_and_cannot_be_changed() {
        let mut file = std::fs::File::from(sealed_input(b"action=off\n").unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "action=off\n");
        assert!(file.write_all(b"x").is_err());
    }

    /// What is kept of an output, with this cap.
    async fn kept(cap: usize, output: Vec<u8>) -> String {
        let (mut capture, end) = Capture::open(cap).unwrap();
        let writer = std::thread::spawn(move || std::fs::File::from(end).write_all(&output));
        capture.read_to_end().await;
        writer.join().unwrap().unwrap();
        String::from_utf8(capture.kept()).unwrap()
    }

    #[tokio::test]
    async fn an_output_up_to_the_cap_is_kept_whole() {
        assert_eq!(kept(12, b"one\ntwo\nfour".to_vec()).await, "one\ntwo\nfour");
        assert_eq!(kept(12, Vec::new()).await, "");
    }

    #[tokio::test]
    async fn a_flood_is_read_to_its_end_and_its_first_and_last_lines_are_kept() {
        let mut flood = b"first\nsecond".to_vec();
        flood.resize(flood.len() + 1_000_000, b'x');
        flood.extend_from_slice(b"\nthe last words\n");
        assert_eq!(kept(64, flood).await, "first\n[1000007 bytes left out]\nthe last words\n");
        // Of a line that is longer than what is kept, any part may be half of something that is to be hidden.
        assert_eq!(kept(64, vec![b'x'; 1_000]).await, "[1000 bytes left out]\n");
    }
}
