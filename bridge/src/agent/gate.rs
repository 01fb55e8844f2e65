//! The socket at which gates ask: `/run/convoke/convoked.sock`.
//!
//! One question and one answer per connection, a line of JSON each: `{"gate":"db.service"}`, then
//! `{"granted":true}` or `{"granted":false,"why":"…","remedy":"…"}`. A closed connection withdraws the question. Only
//! root may connect. Decides nothing.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use policy::UnitName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::event::Event;

/// Number of a connection.
pub type GateId = u64;

/// Longest question. A unit's name has 255 characters at the most.
const LINE_MAX: u64 = 1_024;
/// How long a connection may take to ask.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// Questions at once; a boot of a node with thousands of cluster units asks them all together.
const OPEN_MAX: usize = 1_024;

#[derive(Debug, Deserialize)]
struct Question {
    gate: UnitName,
}

/// The answer to a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the unit may start.
    pub granted: bool,
    /// Why not, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Answer {
    pub(super) fn granted() -> Self {
        Self { granted: true, why: String::new(), remedy: String::new() }
    }

    pub(super) fn refused(why: String, remedy: String) -> Self {
        Self { granted: false, why, remedy }
    }

    /// For a log.
    pub(super) fn sentence(&self) -> String {
        if self.remedy.is_empty() {
            return format!("not started here: {}", self.why);
        }
        format!("not started here: {}. What to do: {}", self.why, self.remedy)
    }
}

/// Opens the socket, in place of one that an earlier daemon left.
pub(super) fn open(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Between the two calls the socket has the umask's mode, which is not stricter; but the directory is root's, and
    // what can be asked harms nobody.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the agent has gone.
pub(super) async fn serve(listener: UnixListener, events: mpsc::Sender<Event>) {
    let slots = Arc::new(Semaphore::new(OPEN_MAX));
    let mut last: GateId = 0;
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                last += 1;
                let (id, events) = (last, events.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, id, &events).await {
                        tracing::debug!(gate = id, %error, "a gate went away");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a gate");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        if events.is_closed() {
            return;
        }
    }
}

/// One question and its answer.
async fn converse(stream: UnixStream, id: GateId, events: &mpsc::Sender<Event>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(LINE_MAX));
    let mut line = String::new();
    tokio::time::timeout(ASK_LIMIT, read.read_line(&mut line)).await??;
    let unit = match serde_json::from_str::<Question>(&line) {
        Ok(question) => question.gate,
        Err(error) => {
            let answer = Answer::refused(
                format!("convoked did not understand the question: {error}"),
                "gates of another version ask otherwise; install the same version of all of Convoke"
                    .to_owned(),
            );
            return send(&mut write, &answer).await;
        }
    };
    let (reply, mut answer) = oneshot::channel();
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    events.send(Event::GateAsked { id, unit, reply }).await.map_err(|_| gone())?;
    let mut more = [0; 64];
    let answered = loop {
        tokio::select! {
            biased;
            answered = &mut answer => break answered.ok(),
            read = read.read(&mut more) => match read {
                Ok(1..) => {}
                _ => break None,
            },
        }
    };
    match answered {
        Some(answer) => send(&mut write, &answer).await,
        None => {
            events.send(Event::GateClosed { id }).await.map_err(|_| gone())?;
            Err(gone())
        }
    }
}

async fn send(write: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut text = serde_json::to_vec(answer).map_err(io::Error::other)?;
    text.push(b'\n');
    write.write_all(&text).await?;
    write.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        client: UnixStream,
        events: mpsc::Receiver<Event>,
    }

    fn fixture(id: GateId) -> Fixture {
        let (client, server) = UnixStream::pair().expect("socket pair");
        let (sender, events) = mpsc::channel(8);
        tokio::spawn(async move { converse(server, id, &sender).await });
        Fixture { client, events }
    }

    async fn answer_to(mut client: UnixStream) -> Answer {
        let mut text = String::new();
        client.read_to_string(&mut text).await.expect("answer");
        assert!(text.ends_with('\n'));
        serde_json::from_str(&text).expect("an answer")
    }

    #[tokio::test]
    async fn a_question_gets_its_answer() {
        let mut fixture = fixture(3);
        fixture.client.write_all(b"{\"gate\":\"db.service\"}\n").await.expect("asked");
        let Some(Event::GateAsked { id: 3, unit, reply }) = fixture.events.recv().await else {
            panic!("asked")
        };
        assert_eq!(unit.as_str(), "db.service");
        let refusal = Answer::refused("it runs on n2".into(), "convoke move db.service n1".into());
        reply.send(refusal.clone()).expect("answered");
        assert_eq!(answer_to(fixture.client).await, refusal);
    }

    #[tokio::test]
    async fn a_closed_connection_withdraws_the_question() {
        let mut fixture = fixture(4);
        fixture.client.write_all(b"{\"gate\":\"db.service\"}\n").await.expect("asked");
        let Some(Event::GateAsked { reply, .. }) = fixture.events.recv().await else { panic!("asked") };
        drop(fixture.client);
        assert!(matches!(fixture.events.recv().await, Some(Event::GateClosed { id: 4 })));
        assert!(reply.send(Answer::granted()).is_err());
    }

    #[tokio::test]
    async fn nonsense_is_refused_and_never_reaches_the_agent() {
        for text in ["\n", "{}\n", "{\"gate\":7}\n", "gate db.service\n"] {
            let mut fixture = fixture(5);
            fixture.client.write_all(text.as_bytes()).await.expect("asked");
            assert!(!answer_to(fixture.client).await.granted, "{text}");
            assert!(fixture.events.recv().await.is_none());
        }
    }

    #[tokio::test]
    async fn an_endless_line_is_cut() {
        let mut fixture = fixture(6);
        fixture.client.write_all(&[b'x'; LINE_MAX as usize]).await.expect("written");
        assert!(!answer_to(fixture.client).await.granted);
    }

    #[tokio::test]
    async fn the_socket_is_roots_alone_and_replaces_a_leftover() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let path = dir.path().join("convoked.sock");
        fs::write(&path, "leftover").expect("leftover");
        let _listener = open(&path).expect("opened");
        assert_eq!(path.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
    }
}
