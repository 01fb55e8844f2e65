//! What an idle group costs, and how fast it is: one voter in this process, two in processes of their own, TCP over
//! loopback.
//!
//! `cargo run --release -p consensus --example idle -- SECONDS HEARTBEAT_MS THREADS` prints, for the leader and for a
//! follower, the processor time and the context switches per second while nothing happens, then the times of single
//! writes and of barriers. Election times are two to four heartbeats; with 0 threads everything runs on the main one.
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use consensus::{BoxFuture, BoxStream, Consensus, Dial, MachineRequest, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

struct Loopback {
    from: u64,
    base: u16,
}

impl Dial for Loopback {
    fn dial(&self, node: u64) -> BoxFuture<'static, io::Result<BoxStream>> {
        let (from, port) = (self.from, port(self.base, node));
        Box::pin(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port?)).await?;
            stream.set_nodelay(true)?;
            stream.write_u64(from).await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

fn port(base: u16, node: u64) -> io::Result<u16> {
    u16::try_from(node).map(|node| base + node).map_err(io::Error::other)
}

async fn start(node: u64, base: u16, heartbeat_ms: u64, dir: &std::path::Path) -> Outcome<Consensus> {
    let settings = Settings {
        node,
        cluster: "idle".into(),
        heartbeat_ms,
        election_min_ms: 2 * heartbeat_ms,
        election_max_ms: 4 * heartbeat_ms,
        snapshot_every: 5000,
        keep_logs: 1000,
        mark: 0,
    };
    let (owner, mut requests) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                MachineRequest::Apply { entries, reply } => {
                    let _ = reply.send(Ok(vec![Vec::new(); entries.len()]));
                }
                MachineRequest::Snapshot { reply } => drop(reply.send(Vec::new())),
                MachineRequest::Restore { reply, .. } => drop(reply.send(Ok(()))),
            }
        }
    });
    Consensus::create(dir, &settings).await?;
    let consensus = Consensus::open(dir, settings, owner, Arc::new(Loopback { from: node, base })).await?;
    let listener = TcpListener::bind(("127.0.0.1", port(base, node)?)).await?;
    let serving = consensus.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let serving = serving.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let from = stream.read_u64().await?;
                serving.serve(Box::new(stream), from).await;
                io::Result::Ok(())
            });
        }
    });
    Ok(consensus)
}

/// Processor time in microseconds and context switches of a process so far.
fn cost(pid: u32) -> Outcome<(u64, u64)> {
    let (mut time, mut switches) = (0, 0);
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        let stat = std::fs::read_to_string(task.join("schedstat"))?;
        time += stat.split(' ').next().unwrap_or_default().parse::<u64>()? / 1000;
        let status = std::fs::read_to_string(task.join("status"))?;
        for line in status.lines().filter(|line| line.contains("ctxt_switches")) {
            switches += line.rsplit('\t').next().unwrap_or_default().parse::<u64>()?;
        }
    }
    Ok((time, switches))
}

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what}: p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100));
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Outcome<()> {
    let args = std::env::args().skip(1).map(|arg| arg.parse()).collect::<Result<Vec<u64>, _>>()?;
    let threads = usize::try_from(args.get(2).copied().unwrap_or(0))?;
    let mut runtime = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(threads.max(1)).enable_all();
    let task = async move {
        match args[..] {
            [_, heartbeat, _, node, base] => follower(heartbeat, node, base).await,
            [seconds, heartbeat, threads] => measure(seconds, heartbeat, threads).await,
            _ => Err("usage: idle SECONDS HEARTBEAT_MS THREADS".into()),
        }
    };
    runtime.build()?.block_on(async { tokio::spawn(task).await? })
}

async fn follower(heartbeat: u64, node: u64, base: u64) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let _node = start(node, u16::try_from(base)?, heartbeat, dir.path()).await?;
    std::future::pending().await
}

async fn measure(seconds: u64, heartbeat: u64, threads: u64) -> Outcome<()> {
    let base = 21_000 + u16::try_from(std::process::id() % 9000)?;
    let dir = tempfile::tempdir()?;
    let leader = start(1, base, heartbeat, dir.path()).await?;
    leader.initialize().await?;
    leader.leadership().wait_for(|now| now.mine).await?;
    let spawn = |node: u64| -> io::Result<Killed> {
        let exe = std::env::current_exe()?;
        let args = [seconds, heartbeat, threads, node, u64::from(base)].map(|arg| arg.to_string());
        Ok(Killed(Command::new(exe).args(args).spawn()?))
    };
    let followers = [spawn(2)?, spawn(3)?];
    for node in [2, 3] {
        leader.add_learner(node).await?;
    }
    leader.set_voters(BTreeSet::from([1, 2, 3])).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let pids = [("leader", std::process::id()), ("follower", followers[0].0.id())];
    let before = [cost(pids[0].1)?, cost(pids[1].1)?];
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for ((name, pid), before) in pids.into_iter().zip(before) {
        let after = cost(pid)?;
        let (time, switches) = (after.0 - before.0, after.1 - before.1);
        println!(
            "{name}: {:.3} % of a core, {} context switches per second",
            time as f64 / (seconds * 10_000) as f64,
            switches / seconds
        );
    }
    let (mut writes, mut barriers) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        let start = Instant::now();
        leader.propose(vec![0; 400]).await?;
        writes.push(start.elapsed());
        let start = Instant::now();
        leader.barrier().await?;
        barriers.push(start.elapsed());
    }
    percentiles("write of 400 B", writes);
    percentiles("barrier", barriers);
    Ok(())
}
