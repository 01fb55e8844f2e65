//! What an idle group costs, and how fast it is: one voter in this process, two in processes of their own, TCP over
//! loopback.
//!
//! `cargo run --release -p consensus --example idle -- SECONDS HEARTBEAT_MS THREADS` prints, for the leader and for a
//! follower, the processor time and the context switches per second while nothing happens, then the times of single
//! writes and of barriers. Election times are two to four heartbeats; with 0 threads everything runs on the main one.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::io;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use consensus::{BoxFuture, BoxStream, Consensus, Dial, MachineRequest, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

struct Loopback {
    from: u64,
    base: u16,
}

impl Dial for Loopback {
    fn dial(&self, node: u64) -> BoxFuture<'static, io::Result<BoxStream>> {
        let (from, port) = (self.from, self.base + u16::try_from(node).unwrap());
        Box::pin(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            stream.write_u64(from).await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

async fn start(node: u64, base: u16, heartbeat_ms: u64, dir: &std::path::Path) -> Consensus {
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
    Consensus::create(dir, &settings).await.unwrap();
    let consensus =
        Consensus::open(dir, settings, owner, Arc::new(Loopback { from: node, base })).await.unwrap();
    let listener = TcpListener::bind(("127.0.0.1", base + u16::try_from(node).unwrap())).await.unwrap();
    let serving = consensus.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let serving = serving.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true).unwrap();
                let Ok(from) = stream.read_u64().await else { return };
                serving.serve(Box::new(stream), from).await;
            });
        }
    });
    consensus
}

/// Processor time in microseconds and context switches of a process so far.
fn cost(pid: u32) -> (u64, u64) {
    let (mut time, mut switches) = (0, 0);
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
        time += stat.split(' ').next().unwrap().parse::<u64>().unwrap() / 1000;
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        switches += counts.map(|line| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()).sum::<u64>();
    }
    (time, switches)
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

fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|arg| arg.parse().expect("a number")).collect();
    let threads = usize::try_from(args.get(2).copied().unwrap_or(0)).unwrap();
    let mut runtime = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(threads.max(1)).enable_all();
    let task = async move {
        match args[..] {
            [_, heartbeat, _, node, base] => follower(heartbeat, node, base).await,
            [seconds, heartbeat, threads] => measure(seconds, heartbeat, threads).await,
            _ => panic!("usage: idle SECONDS HEARTBEAT_MS THREADS"),
        }
    };
    runtime.build().unwrap().block_on(async { tokio::spawn(task).await.unwrap() });
}

async fn follower(heartbeat: u64, node: u64, base: u64) {
    let dir = tempfile::tempdir().unwrap();
    let _node = start(node, u16::try_from(base).unwrap(), heartbeat, dir.path()).await;
    std::future::pending().await
}

async fn measure(seconds: u64, heartbeat: u64, threads: u64) {
    let base = 21_000 + u16::try_from(std::process::id() % 9000).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let leader = start(1, base, heartbeat, dir.path()).await;
    leader.initialize().await.unwrap();
    leader.leadership().wait_for(|now| now.mine).await.unwrap();
    let spawn = |node: u64| {
        let exe = std::env::current_exe().unwrap();
        let args = [seconds, heartbeat, threads, node, u64::from(base)].map(|arg| arg.to_string());
        Killed(Command::new(exe).args(args).spawn().unwrap())
    };
    let followers = [spawn(2), spawn(3)];
    for node in [2, 3] {
        leader.add_learner(node).await.unwrap();
    }
    leader.set_voters(BTreeSet::from([1, 2, 3])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;

    let pids = [("leader", std::process::id()), ("follower", followers[0].0.id())];
    let before = pids.map(|(_, pid)| cost(pid));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for ((name, pid), (time, switches)) in pids.into_iter().zip(before) {
        let (time, switches) = (cost(pid).0 - time, cost(pid).1 - switches);
        println!(
            "{name}: {:.3} % of a core, {} context switches per second",
            time as f64 / (seconds * 10_000) as f64,
            switches / seconds
        );
    }
    let (mut writes, mut barriers) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        let start = Instant::now();
        leader.propose(vec![0; 400]).await.unwrap();
        writes.push(start.elapsed());
        let start = Instant::now();
        leader.barrier().await.unwrap();
        barriers.push(start.elapsed());
    }
    percentiles("write of 400 B", writes);
    percentiles("barrier", barriers);
}
