//! What a daemon that cannot start still does: it keeps the promise of its lease (F8).
//!
//! A full disk, a damaged store or a mistake in `convoke.toml` ends every start of the daemon at once, and PID 1 tries
//! again; a disk that does not answer keeps it from starting at all. The units run on meanwhile, and others count on it that
//! they stop at the end of the lease. So before a failed start gives up, and where one lasts past the lease, it looks at what
//! an earlier daemon left in `/run/convoke`, and applies `OnQuorumLoss=` where the lease has ended. Needs neither the store nor
//! the identity, and waits for no disk; decides nothing by itself, the agent does.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context;
use policy::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};
use units::systemd::journal::Journal;

use super::{Chain, READ, notify};
use crate::agent::{self, AgentCommand, Shutdown, Snapshot};
use crate::identity::{self, Enrolled};
use crate::paths::Paths;
use crate::pki::ClusterId;
use crate::session::{Asker, Farewell, Lease, Pulse, QUEUE};

/// Between two looks at how far the stops are. They end by their own budgets, or the node goes down.
const LOOK: Duration = Duration::from_millis(100);
/// With nothing left to stop, a start that fails is repeated no more often than this: PID 1 would do it five times a second,
/// and push everything else out of the journal.
const AGAIN: Duration = Duration::from_secs(3);
/// PID 1 gives a start only so long; as long as this lasts it is asked for more, this often and each time for longer.
const MORE: Duration = Duration::from_secs(60);
const MORE_LOOKS: usize = 300;
/// A start has this time, even where the lease has ended: the agent comes up with it and applies the same.
const START: Duration = Duration::from_millis(400);
/// A start that takes so long is told of.
const SLOW: Duration = Duration::from_secs(10);

/// Waits for what the start opens.
///
/// # Errors
/// Its own; and where units have to stop at the end of the lease and it is not done by then.
pub(super) async fn within_lease<T>(
    paths: &Paths,
    lease: &Lease,
    opening: &mut JoinHandle<anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        biased;
        opened = opening => opened.context("the start of the daemon panicked")?,
        () = too_late(paths, lease) => Err(anyhow::anyhow!("the start lasts past the lease; {}", disks(paths))),
        never = tell_of_delay(paths) => match never {},
    }
}

/// Says why a daemon does not come up, for whoever looks before PID 1 gives up.
async fn tell_of_delay(paths: &Paths) -> Infallible {
    sleep(SLOW).await;
    warn!("the start takes long; {}", disks(paths));
    std::future::pending().await
}

fn disks(paths: &Paths) -> String {
    let (state, config) = (paths.state_dir(), paths.config_file());
    format!("do the disks of `{}` and `{}` answer? `dmesg` may say more", state.display(), config.display())
}

/// Comes back once units run that had to stop at the end of the lease.
async fn too_late(paths: &Paths, lease: &Lease) {
    sleep(START).await;
    loop {
        match lease.left() {
            // The clock of the lease goes on while the machine is suspended.
            Some(left) => sleep(left.min(AGAIN)).await,
            None if agent::ends_with_lease(paths).is_empty() => sleep(AGAIN).await,
            None => return,
        }
    }
}

/// Applies `OnQuorumLoss=` if the lease has ended and anything is left to be stopped. Comes back when that is done, and nothing is
/// `opening` any more: a process of which a thread hangs does not end, so that no other daemon would feed the watchdog and
/// answer the gates.
pub(super) async fn keep_lease<T>(
    paths: &Paths,
    chain: &Chain,
    journal: Option<Journal>,
    obstacle: &anyhow::Error,
    opening: &JoinHandle<T>,
) {
    let (lease, ending) = match agent::boot_id(paths) {
        Ok(_) => {
            let lease = chain.lease.clone();
            // Not ended yet: PID 1 starts the next daemon long before, and that looks again.
            if lease.left().is_some() {
                return;
            }
            (lease, agent::ends_with_lease(paths))
        }
        Err(why) => {
            error!(%why, "nobody knows whether the lease has ended");
            return;
        }
    };
    if ending.is_empty() {
        sleep(AGAIN).await;
        return;
    }
    error!(units = ?ending, "the lease has ended and this daemon cannot start, so OnQuorumLoss= is applied: {obstacle:#}");
    let (node, node_name, cluster) =
        read(paths, me).await.unwrap_or_else(|| (NodeId(0), "this node".to_owned(), None));
    let gated = read(paths, agent::load_gated).await;
    let prepared = loop {
        match agent::prepare(paths).await {
            Ok(prepared) => break prepared,
            Err(why) => error!(why = %anyhow::Error::from(why), "cannot take charge of this node's units"),
        }
        if opening.is_finished() {
            return;
        }
        sleep(LOOK).await;
    };
    let (to_session, _requests) = mpsc::channel(QUEUE);
    let (_orders, from_session) = mpsc::channel(QUEUE);
    let (commands, agent_commands) = mpsc::channel(8);
    let setup = agent::AgentSetup {
        node,
        node_name,
        cluster,
        paths: paths.clone(),
        incarnation: prepared.incarnation.clone(),
        lease,
        pulse: Pulse::default(),
        farewell: Farewell::default(),
        asker: Asker::new(to_session.clone()),
        to_session,
        from_session,
        commands: agent_commands,
        root: paths.root().to_owned(),
        gated,
        watchdog: chain.watchdog.clone(),
        device: None,
        journal,
    };
    let agent = tokio::spawn(agent::run(setup, prepared));
    for round in 0_usize.. {
        let Some(now) = look(&commands).await else { break };
        if round % MORE_LOOKS == 0 {
            notify::extend(MORE);
        }
        if opening.is_finished() && ending.iter().all(|unit| is_over(&now, unit.as_str())) {
            break;
        }
        sleep(LOOK).await;
    }
    // What was released is written down for the next daemon, which reports it.
    let (done, written) = oneshot::channel();
    if commands.send(AgentCommand::Shutdown { kind: Shutdown::Restart, done }).await.is_ok() {
        drop(written.await);
    }
    drop(agent.await);
}

/// What a reader finds, unless the disk holds it up.
async fn read<T: Send + 'static>(paths: &Paths, reader: fn(&Paths) -> T) -> Option<T> {
    let paths = paths.clone();
    timeout(READ, spawn_blocking(move || reader(&paths))).await.ok()?.ok()
}

/// Who this node is, for messages, and in which cluster, as far as that can be read.
fn me(paths: &Paths) -> (NodeId, String, Option<ClusterId>) {
    match identity::load(paths) {
        Ok(Some(Enrolled { identity, .. })) => {
            (NodeId(identity.node), identity.node_name, Some(identity.cluster))
        }
        _ => (NodeId(0), "this node".to_owned(), None),
    }
}

async fn look(commands: &mpsc::Sender<AgentCommand>) -> Option<Snapshot> {
    let (reply, answer) = oneshot::channel();
    commands.send(AgentCommand::Snapshot { reply }).await.ok()?;
    answer.await.ok()
}

/// Whether a unit is stopped or frozen.
fn is_over(now: &Snapshot, unit: &str) -> bool {
    let found = now.units.iter().find(|found| found.unit == unit);
    found.is_none_or(|found| found.doing.is_none() && (found.token.is_none() || found.run == "frozen"))
}
