//! What a daemon that cannot start still does: it keeps the promise of its lease (F8).
//!
//! A full disk, a damaged store or a mistake in `convoke.toml` ends every start of the daemon at once, and PID 1 tries
//! again. The units run on meanwhile, and others count on it that they stop at the end of the lease. So before a failed
//! start gives up it looks at what an earlier daemon left in `/run/convoke`, and applies `OnQuorumLoss=` where the lease
//! has ended. Needs neither the store nor the identity; decides nothing by itself, the agent does.

use std::time::Duration;

use policy::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tracing::error;
use units::systemd::journal::Journal;

use super::{Chain, notify};
use crate::agent::{self, AgentCommand, Shutdown, Snapshot};
use crate::identity::{self, Enrolled};
use crate::paths::Paths;
use crate::pki::ClusterId;
use crate::session::{Asker, Farewell, Pulse, QUEUE};

/// Between two looks at how far the stops are. They end by their own budgets, or the node goes down.
const LOOK: Duration = Duration::from_millis(100);
/// With nothing left to stop, a start that fails is repeated no more often than this: PID 1 would do it five times a second,
/// and push everything else out of the journal.
const AGAIN: Duration = Duration::from_secs(3);
/// PID 1 gives a start only so long; while the stops last, it is asked for more, this often and each time for longer.
const MORE: Duration = Duration::from_secs(60);
const MORE_LOOKS: usize = 300;

/// Applies `OnQuorumLoss=` if the lease has ended and anything is left to be stopped; comes back when that is done.
pub(super) async fn keep_lease(
    paths: &Paths,
    chain: &Chain,
    journal: Option<Journal>,
    obstacle: &anyhow::Error,
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
    let prepared = match agent::prepare(paths).await {
        Ok(prepared) => prepared,
        Err(why) => {
            error!(why = %anyhow::Error::from(why), "cannot take charge of this node's units");
            return;
        }
    };
    let (node, node_name, cluster) = me(paths);
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
        if ending.iter().all(|unit| is_over(&now, unit.as_str())) {
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
