//! Nodes that are killed, and nodes whose disk is full. Both run in a process of their own: this one, started again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use consensus::Consensus;
use tokio::time::timeout;

use crate::fixture::{Net, PATIENCE, State, open};

const FOLDER: &str = "CONVOKE_TEST_FOLDER";
const FIRST: &str = "CONVOKE_TEST_FIRST";

/// Not a test of its own: the process that the others start. It proposes without end, eight at a time, and prints each
/// number once it is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let node = lone(Path::new(&folder), &State::default()).await;
    let fatal = node.fatal();
    let work = async {
        for number in (first..).step_by(8) {
            let eight: Vec<_> = (number..number + 8)
                .map(|n| (n, node.propose(format!("{n} {}", "x".repeat(2000)).into_bytes())))
                .collect();
            for (n, proposal) in eight {
                if proposal.await.is_err() {
                    return std::future::pending().await;
                }
                say(&format!("acked {n}"));
            }
        }
    };
    tokio::select! {
        () = work => {}
        reason = fatal => say(&format!("fatal {reason}")),
    }
}

/// Past the test harness, which keeps what tests print.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::fs::OpenOptions::new().write(true).open("/dev/stderr").unwrap();
    writeln!(out, "{line}").unwrap();
}

/// A group of one on `folder`, ready to take proposals.
async fn lone(folder: &Path, state: &State) -> Consensus {
    let fresh = !Consensus::exists(folder);
    let node = open(folder, 1, &Net::default(), state).await.unwrap();
    if fresh {
        node.initialize().await.unwrap();
    }
    node.wait_for_recovery(PATIENCE).await.unwrap();
    let mut leadership = node.leadership();
    timeout(PATIENCE, leadership.wait_for(|now| now.mine)).await.unwrap().unwrap();
    node.barrier().await.unwrap();
    node
}

fn spawn(mut command: Command, folder: &Path, first: u64) -> Child {
    command.env(FOLDER, folder).env(FIRST, first.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn this_test() -> [String; 3] {
    let exe = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    [exe, "--exact".into(), "crashes::child".into()]
}

fn numbers(state: &State) -> Vec<u64> {
    let number = |command: String| command.split_once(' ').unwrap().0.parse().unwrap();
    state.commands().into_iter().map(number).collect()
}

/// Every acknowledged number is there, once, and in order.
fn check(state: &State, acked: &[u64]) {
    let held = numbers(state);
    assert!(held.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice");
    let lost: Vec<_> = acked.iter().filter(|n| held.binary_search(n).is_err()).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_while_it_writes_loses_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = Vec::new();
    for round in 0..6_u64 {
        let first = round * 1_000_000;
        let [exe, exact, name] = this_test();
        let mut command = Command::new(exe);
        command.args([exact, name]);
        let mut child = spawn(command, dir.path(), first);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = 0;
        // A number that moves the moment of the kill about; the snapshots come every 50 entries.
        for line in &mut lines {
            let line = line.unwrap();
            if let Some(n) = line.strip_prefix("acked ") {
                acked.push(n.parse().unwrap());
                seen += 1;
            }
            if seen >= 37 + 41 * round {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acked.extend(
            lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("acked ")?.parse::<u64>().ok()),
        );
        assert!(seen > 0, "the child did nothing");
        let state = State::default();
        let node = lone(dir.path(), &state).await;
        check(&state, &acked);
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_node_with_the_reason_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // A limit on the size of files stands in for the full disk: it needs no privilege and hits the same calls.
    let [exe, exact, name] = this_test();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$@\"", "sh", &exe, &exact, &name]);
    let mut child = spawn(command, dir.path(), 0);
    let (mut acked, mut reason) = (Vec::new(), None);
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        if let Some(n) = line.strip_prefix("acked ") {
            acked.push(n.parse().unwrap());
        } else if let Some(text) = line.strip_prefix("fatal ") {
            reason = Some(text.to_owned());
            break;
        }
        assert!(acked.len() < 50_000, "the disk never filled up");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let reason = reason.expect("the node did not say why it ended");
    assert!(reason.contains("raft.redb") && reason.contains("File too large"), "{reason}");
    assert!(!acked.is_empty());
    // With room again, all is as it was.
    let state = State::default();
    let node = lone(dir.path(), &state).await;
    check(&state, &acked);
    let on = timeout(Duration::from_secs(5), node.propose(b"9999999 on".to_vec())).await.unwrap();
    assert!(on.is_ok());
    node.shutdown().await;
}
