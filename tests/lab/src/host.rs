//! Runs programs of the host, keeps records of what was started, locks and hashes files.
//!
//! Knows nothing of nodes. Every process that outlives a call is recorded with its start time, because a pid alone
//! may belong to somebody else by the time it is to be ended.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};

use crate::clock::wait_until;

/// Progress for people, on stderr so that a test's own output stays clean.
pub(crate) fn say(text: &str) {
    eprintln!("lab: {text}");
}

/// Runs a program to its end; what it printed, or an error that has all of it.
pub(crate) fn call(program: &str, args: &[&str]) -> Result<String> {
    feed(program, args, b"")
}

/// As [`call`], with bytes for its standard input.
pub(crate) fn feed(program: &str, args: &[&str], input: &[u8]) -> Result<String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}; run tests/lab/setup first"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may be gone already; its exit status says what matters.
        let _ = stdin.write_all(input);
    }
    let out = child.wait_with_output()?;
    ensure!(
        out.status.success(),
        "`{program} {}`: {}\n{}{}",
        args.join(" "),
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Writes a file with its parents.
pub(crate) fn put(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a tree; that it is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// An exclusive lock on a file. It ends with this value, or with the process.
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its descriptor")] File);

impl Lock {
    fn open(path: &Path) -> Result<File> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    /// Waits for the lock.
    pub(crate) fn wait(path: &Path) -> Result<Lock> {
        let file = Self::open(path)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(|()| Lock(file)).context("flock"),
            }
        }
    }

    /// Takes the lock if nobody has it.
    pub(crate) fn take(path: &Path) -> Result<Option<Lock>> {
        loop {
            let file = Self::open(path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Its last owner may have removed it in between; then it locks nothing.
                Ok(()) if is_at(&file, path) => return Ok(Some(Lock(file))),
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(e).context("flock"),
            }
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if a.ino() == b.ino() && a.dev() == b.dev())
}

/// The pid file of something that was started in the background.
pub(crate) struct Started {
    file: PathBuf,
}

impl Started {
    pub(crate) fn at(file: PathBuf) -> Started {
        Started { file }
    }

    /// Starts a program in a session of its own, with no descriptor of ours but the log for both streams: whoever
    /// calls (an IPMI simulator, a test) must not leave its sockets and pipes in what it powers on.
    pub(crate) fn start(&self, log: &Path, argv: &[&str]) -> Result<()> {
        const DETACH: &str = r#"for f in /proc/$$/fd/*; do n=${f##*/}; if ((n > 2)); then eval "exec $n>&-"; fi; done
            echo $$ >"$0.new"; exec "$@""#;
        if let Some(parent) = self.file.parent() {
            fs::create_dir_all(parent)?;
        }
        let fresh = PathBuf::from(format!("{}.new", self.file.display()));
        let _ = fs::remove_file(&fresh);
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let status = Command::new("setsid")
            .args(["-f", "bash", "-c", DETACH])
            .arg(&self.file)
            .args(argv)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .status()?;
        ensure!(status.success(), "setsid: {status}");
        let mut pid = None;
        wait_until(Duration::from_secs(10), Duration::from_millis(1), || {
            pid = fs::read_to_string(&fresh).ok().and_then(|t| t.strip_suffix('\n')?.parse::<u32>().ok());
            pid.is_some()
        });
        let Some(pid) = pid else { bail!("{} did not start", argv.join(" ")) };
        // One that ended at once has no start time; 0 is nobody's.
        let begun = start_time(pid).unwrap_or(0);
        put(&fresh, format!("{pid} {begun}"))?;
        fs::rename(&fresh, &self.file)?;
        Ok(())
    }

    /// Its pid, if it still runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        let text = fs::read_to_string(&self.file).ok()?;
        let (pid, begun) = text.trim().split_once(' ')?;
        let pid: u32 = pid.parse().ok()?;
        (begun != "0" && start_time(pid)?.to_string() == begun).then_some(pid)
    }

    /// Ends it by its pid: SIGTERM, and after a second SIGKILL.
    pub(crate) fn end(&self) -> Result<()> {
        for (signal, patience) in [(Signal::TERM, 1), (Signal::KILL, 5)] {
            let Some(pid) = self.pid() else { break };
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, signal);
            }
            wait_until(Duration::from_secs(patience), Duration::from_millis(2), || self.pid().is_none());
        }
        ensure!(self.pid().is_none(), "{} does not end", self.file.display());
        let _ = fs::remove_file(&self.file);
        Ok(())
    }
}

/// Start of a process in clock ticks since boot; none if it is gone or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    if matches!(fields.first(), Some(&("Z" | "X"))) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Short name of the content of all parts, for caches.
pub(crate) fn digest(parts: &[&[u8]]) -> Result<String> {
    let mut all = Vec::new();
    for part in parts {
        all.extend((part.len() as u64).to_le_bytes());
        all.extend_from_slice(part);
    }
    Ok(feed("sha256sum", &[], &all)?[..16].to_owned())
}

/// A program of this package by name, built if it is missing or older than its source.
///
/// A test binary has its dependencies' libraries but not their programs, and the lab needs two at run time: the
/// one that keeps a node's power, and the witness.
pub(crate) fn own_program(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    if me.file_name().is_some_and(|n| n == name) {
        return Ok(me);
    }
    if let Some(dir) = std::env::var_os("CONVOKE_LAB_BIN") {
        return Ok(PathBuf::from(dir).join(name));
    }
    let mut dir = me.parent().context("no folder of the own program")?;
    if dir.file_name().is_some_and(|n| n == "deps" || n == "examples") {
        dir = dir.parent().context("no folder of the own program")?;
    }
    let program = dir.join(name);
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    if program.exists() && (!package.exists() || modified(&program)? >= newest(&package.join("src"))?) {
        return Ok(program);
    }
    ensure!(package.exists(), "{} is missing and its source is not here", program.display());
    say(&format!("building {name}"));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = package.join("Cargo.toml").display().to_string();
    let mut args = vec!["build", "--quiet", "--bins", "--manifest-path", &manifest];
    if dir.file_name().is_some_and(|n| n == "release") {
        args.push("--release");
    }
    call(&cargo, &args)?;
    // Cargo leaves a program alone that the change did not reach; without a new date each test would ask again.
    let built = File::open(&program).with_context(|| format!("{} was not built", program.display()))?;
    built.set_modified(std::time::SystemTime::now())?;
    Ok(program)
}

fn modified(path: &Path) -> Result<std::time::SystemTime> {
    Ok(fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?.modified()?)
}

fn newest(dir: &Path) -> Result<std::time::SystemTime> {
    let mut newest = modified(dir)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        newest = newest.max(if path.is_dir() { self::newest(&path)? } else { modified(&path)? });
    }
    Ok(newest)
}
