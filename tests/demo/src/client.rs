//! The client: commits numbered rows through the service address, all the time, and remembers what was acknowledged.
//!
//! Knows nothing of the cluster but one address. A row whose answer never came may be there or not; it is sent again under
//! its number until an answer comes, and the table's key lets it in once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Config, NoTls, Statement};

/// Pause between two commits.
const BEAT: Duration = Duration::from_millis(5);
/// An answer that takes longer makes it try another connection beside.
const PATIENCE: Duration = Duration::from_millis(50);
/// A host that does not answer within this is not there. Short, as the next try may reach another node.
const CONNECT: Duration = Duration::from_millis(40);
const LOGIN: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(10);

/// A row that the database said is committed.
#[derive(Clone, Copy, Debug)]
struct Ack {
    n: i64,
    at_ns: u64,
}

enum Said {
    Committed(Ack),
    Trouble(String),
}

/// A client at work in a thread of its own.
pub(crate) struct Client {
    said: Receiver<Said>,
    acks: Vec<Ack>,
    trouble: Option<String>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Client {
    /// Begins to commit.
    pub(crate) fn start(address: &str) -> Client {
        let (tell, said) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (address, ends) = (address.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work(&address, &tell, &ends));
            Ok(())
        });
        Client { said, acks: Vec::new(), trouble: None, stop, thread }
    }

    /// Rows acknowledged so far.
    pub(crate) fn committed(&mut self) -> usize {
        self.listen();
        self.acks.len()
    }

    /// Waits until a row was committed that was acknowledged after `after_ns`.
    pub(crate) fn wait_commit(&mut self, after_ns: u64, patience: Duration) -> Result<()> {
        let got = lab::wait_until(patience, Duration::from_millis(5), || {
            self.listen();
            self.acks.last().is_some_and(|a| a.at_ns > after_ns)
        });
        let trouble = self.trouble.as_deref().unwrap_or("no error");
        ensure!(got, "the client could not commit for {} s; last trouble: {trouble}", patience.as_secs());
        Ok(())
    }

    /// The longest time without an acknowledged commit that touches a span of time, as its begin and end.
    pub(crate) fn gap(&mut self, from_ns: u64, to_ns: u64) -> Result<(u64, u64)> {
        self.listen();
        self.acks
            .windows(2)
            .filter_map(|w| if let [a, b] = w { Some((a.at_ns, b.at_ns)) } else { None })
            .filter(|(a, b)| *b >= from_ns && *a <= to_ns)
            .max_by_key(|(a, b)| b - a)
            .context("the client committed nothing at that time")
    }

    /// Ends the client. The answer is the set of numbers that were acknowledged.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<i64, u64>> {
        self.stop.store(true, Ordering::Relaxed);
        while !self.thread.is_finished() {
            self.listen();
            std::thread::sleep(BEAT);
        }
        self.listen();
        if self.thread.join().is_err() {
            bail!("the client died");
        }
        Ok(self.acks.iter().map(|a| (a.n, a.at_ns)).collect())
    }

    fn listen(&mut self) {
        for said in self.said.try_iter() {
            match said {
                Said::Committed(ack) => self.acks.push(ack),
                Said::Trouble(text) => self.trouble = Some(text),
            }
        }
    }
}

/// Commits row after row until it is told to stop. Whoever listens being gone is the end, too.
async fn work(address: &str, tell: &Sender<Said>, stop: &AtomicBool) {
    let mut session = None;
    let mut n = 1;
    while !stop.load(Ordering::Relaxed) {
        let Some(at) = session.take() else {
            session = connect(address, tell, stop).await;
            continue;
        };
        tokio::select! {
            // An answer that has come counts before anything else.
            biased;
            answer = Session::commit(&at, n) => match answer {
                Ok(_) => {
                    if tell.send(Said::Committed(Ack { n, at_ns: lab::now_ns() })).is_err() {
                        return;
                    }
                    n += 1;
                    session = Some(at);
                    sleep(BEAT).await;
                }
                Err(e) => {
                    let _ = tell.send(Said::Trouble(text_of(&e)));
                }
            },
            fresh = async { sleep(PATIENCE).await; connect(address, tell, stop).await } => session = fresh,
        }
    }
}

/// A connection with the statement prepared. Dropped, it is cut without a farewell.
struct Session {
    client: tokio_postgres::Client,
    insert: Statement,
    carrier: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

impl Session {
    async fn commit(&self, n: i64) -> Result<u64, tokio_postgres::Error> {
        self.client.execute(&self.insert, &[&n]).await
    }

    async fn open(address: &str) -> Result<Session> {
        let stream =
            timeout(CONNECT, TcpStream::connect((address, 5432))).await.context("no answer to connect")??;
        stream.set_nodelay(true)?;
        let mut config = Config::new();
        config.user("ledger").password("ledger").dbname("ledger").application_name("demo");
        timeout(LOGIN, async {
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            let carrier = tokio::spawn(async move {
                // An error of the connection comes out of the statement, too.
                let _ = connection.await;
            })
            .abort_handle();
            let insert = client.prepare("INSERT INTO ledger (n) VALUES ($1) ON CONFLICT DO NOTHING").await?;
            Ok(Session { client, insert, carrier })
        })
        .await
        .context("no answer to login")?
    }
}

/// Tries until there is a connection; none only if it is told to stop.
async fn connect(address: &str, tell: &Sender<Said>, stop: &AtomicBool) -> Option<Session> {
    while !stop.load(Ordering::Relaxed) {
        match Session::open(address).await {
            Ok(session) => return Some(session),
            Err(e) => {
                let _ = tell.send(Said::Trouble(format!("{e:#}")));
                sleep(RETRY).await;
            }
        }
    }
    None
}

/// The error with what the server said, which its own text leaves out.
fn text_of(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
}
