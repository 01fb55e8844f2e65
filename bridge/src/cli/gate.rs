//! `convoke gate UNIT`: asks this node's convoked whether the unit may start here.
//!
//! Runs in convoke-gate@.service while the unit's start job waits. Asks by the private socket, which works when the bus
//! does not; its end, in any way, withdraws the question. Only the permit file lets the unit start, never this program.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use units::systemd::journal::{Journal, Kind, Line, Priority};
use units::systemd::{Link, SystemState, Systemd};

use super::exit::Code;
use super::out;
use crate::paths::Paths;

/// How long a daemon that is being restarted is waited for.
const SOCKET_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks for it.
const SOCKET_PAUSE: Duration = Duration::from_millis(50);
/// PID 1 is asked before anything else can be known, and may be busy.
const MANAGER_LIMIT: Duration = Duration::from_millis(500);
/// How long journald may take to take a line. The unit's start job waits meanwhile.
const JOURNAL_LIMIT: Duration = Duration::from_millis(500);
const ANSWER_MAX: u64 = 64 * 1024;

#[derive(Serialize)]
struct Question<'a> {
    gate: &'a str,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Answer {
    granted: bool,
    #[serde(default)]
    why: Option<String>,
    #[serde(default)]
    remedy: Option<String>,
}

pub(super) async fn gate(unit: &str) -> ExitCode {
    let socket = Paths::default().socket();
    let reached = match UnixStream::connect(&socket) {
        Ok(stream) => Ok(stream),
        Err(_) if booting_or_stopping().await => {
            return decided(
                unit,
                "the system is starting or stopping",
                "the cluster starts it once convoked is up",
            );
        }
        Err(_) => connect(&socket, SOCKET_LIMIT).await,
    };
    let answer = reached.and_then(|stream| ask(stream, unit));
    match answer {
        Ok(Answer { granted: true, .. }) => ExitCode::SUCCESS,
        Ok(answer) => {
            // convoked writes the reason into the unit's log; this one is in the gate's.
            let why = answer.why.unwrap_or_else(|| "the cluster refuses the start".to_owned());
            out::note(&format!("{unit} may not start here: {why}"));
            if let Some(remedy) = answer.remedy {
                out::note(&remedy);
            }
            Code::Failed.into()
        }
        Err(error) => decided(
            unit,
            &format!("convoked does not answer on this node ({error})"),
            "see `systemctl status convoked`; start it with `systemctl start convoked`",
        ),
    }
}

/// A refusal that convoked knows nothing of, so this program has to put it into the unit's log.
fn decided(unit: &str, why: &str, remedy: &str) -> ExitCode {
    let message = format!("{unit} may not start here: {why}; {remedy}");
    out::note(&message);
    let line = Line {
        unit: unit.to_owned(),
        kind: Kind::StartRefused,
        priority: Priority::Warning,
        message,
        fields: Vec::new(),
    };
    // Without journald the line above is all there is.
    if let Ok(journal) = Journal::start() {
        journal.tell(line);
        journal.flush(JOURNAL_LIMIT);
    }
    Code::Failed.into()
}

/// While a boot is under way nobody waits: convoked starts its units once it is up (gate.md, row 57).
async fn booting_or_stopping() -> bool {
    let look = async {
        let (systemd, _signals) = Systemd::connect_by(Link::Private).await.ok()?;
        systemd.manager_state().await.ok()
    };
    let state = tokio::time::timeout(MANAGER_LIMIT, look).await.ok().flatten();
    matches!(state, Some(SystemState::Initializing | SystemState::Starting | SystemState::Stopping))
}

async fn connect(socket: &Path, limit: Duration) -> io::Result<UnixStream> {
    let until = Instant::now() + limit;
    loop {
        match UnixStream::connect(socket) {
            Err(_) if Instant::now() < until => tokio::time::sleep(SOCKET_PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Waits as long as the cluster takes; systemd ends this program if that is too long.
fn ask(mut stream: UnixStream, unit: &str) -> io::Result<Answer> {
    let mut question = serde_json::to_vec(&Question { gate: unit })?;
    question.push(b'\n');
    stream.write_all(&question)?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"));
    }
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn daemon(dir: &Path, answer: &'static str) -> (std::path::PathBuf, std::thread::JoinHandle<String>) {
        let path = dir.join("sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a caller");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a question");
            (&stream).write_all(answer.as_bytes()).expect("answered");
            line
        });
        (path, server)
    }

    #[tokio::test]
    async fn one_line_each_way() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let (path, server) =
            daemon(dir.path(), "{\"granted\":false,\"why\":\"held\",\"remedy\":\"x\",\"more\":1}\n");
        let stream = connect(&path, SOCKET_LIMIT).await.expect("connected");
        let answer = ask(stream, "db.service").expect("answered");
        assert_eq!(
            answer,
            Answer { granted: false, why: Some("held".to_owned()), remedy: Some("x".to_owned()) }
        );
        assert_eq!(server.join().expect("served"), "{\"gate\":\"db.service\"}\n");
    }

    #[tokio::test]
    async fn a_hang_up_is_a_refusal() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let (path, _server) = daemon(dir.path(), "");
        let stream = connect(&path, SOCKET_LIMIT).await.expect("connected");
        assert_eq!(ask(stream, "db.service").expect_err("no answer").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_daemon_that_never_comes_is_not_waited_for_long() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let began = Instant::now();
        assert!(connect(&dir.path().join("none"), Duration::from_millis(100)).await.is_err());
        assert!(began.elapsed() >= Duration::from_millis(100));
    }
}
