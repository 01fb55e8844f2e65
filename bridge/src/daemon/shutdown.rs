//! The daemon's end: leadership handed over, units released where that is meant, releases confirmed.

use std::io;
use std::pin::pin;
use std::time::Duration;

use consensus::Consensus;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::{End, notify};
use units::systemd::{JobKind, SystemState, Systemd};

use crate::agent::{AgentCommand, Shutdown};

/// How long the releases may take at the end of the system, where the units were stopped before. Without them the permits
/// stay, and the node is fenced later (F30).
const CONFIRM: Duration = Duration::from_secs(120);
/// The same when somebody stops the daemon, and it the units: their own stops, one after another, may take long.
const STOPS: Duration = Duration::from_secs(900);
/// How much more time is asked of PID 1 while that lasts, each time for longer than until the next.
const MORE: Duration = Duration::from_secs(60);
/// How long the hand-over of leadership may take.
const HAND_OVER: Duration = Duration::from_secs(2);

/// Waits for the signal to end.
pub(super) async fn asked() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Ends in order. The agent finds out whether this is a stop, a restart or the end of the system, and acts on it (F8).
pub(super) async fn run(
    end: End,
    commands: mpsc::Sender<AgentCommand>,
    consensus: Option<Consensus>,
) -> anyhow::Result<()> {
    match end {
        End::Asked => {
            info!("stopping");
            notify::stopping("releasing what this node holds");
            notify::extend(MORE);
            let kind = kind().await;
            info!(?kind, "the reason to end");
            release(kind, &commands).await;
            if let Some(consensus) = consensus {
                if consensus.leadership().borrow().mine {
                    match timeout(HAND_OVER, consensus.transfer()).await {
                        Ok(Ok(to)) => info!(to, "leadership handed over"),
                        Ok(Err(error)) => info!(%error, "leadership is not handed over"),
                        Err(_) => warn!("the hand-over of leadership took too long"),
                    }
                }
                consensus.shutdown().await;
            }
            Ok(())
        }
        End::Failed(why) => {
            error!(%why, "ending; systemd starts this daemon again");
            anyhow::bail!(why)
        }
        End::Parted(why) => {
            error!(%why, "ending; systemd starts this daemon again, which keeps the units and votes no more");
            anyhow::bail!(why)
        }
    }
}

/// Has the agent release what is to be released. Session and Raft go on meanwhile, or nothing could be confirmed.
async fn release(kind: Shutdown, commands: &mpsc::Sender<AgentCommand>) {
    let limit = if kind == Shutdown::Stop { STOPS } else { CONFIRM };
    let (done, finished) = oneshot::channel();
    if commands.send(AgentCommand::Shutdown { kind, done }).await.is_err() {
        return;
    }
    let mut finished = pin!(timeout(limit, finished));
    loop {
        tokio::select! {
            ended = &mut finished => {
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => warn!("the agent ended before its releases were confirmed"),
                    Err(_) => error!("not everything was released within {} s; the permits stay", limit.as_secs()),
                }
                return;
            }
            () = sleep(MORE / 3) => notify::extend(MORE),
        }
    }
}

/// The daemon's own unit, whose job says why it ends.
const OWN_UNIT: &str = "convoked.service";
/// PID 1 has that long to say it.
const ASK: Duration = Duration::from_secs(5);

/// Whether the machine goes down, the daemon is restarted, or somebody stopped it. Where PID 1 does not say, nothing is
/// touched: units go on under their permits, and the next daemon, or a fence, takes it from there.
async fn kind() -> Shutdown {
    let asking = async {
        let (systemd, _signals) = Systemd::connect().await?;
        if systemd.manager_state().await? == SystemState::Stopping {
            return Ok(Shutdown::SystemDown);
        }
        let job = systemd.read(OWN_UNIT).await?.job;
        Ok::<_, units::systemd::Error>(match job.map(|job| job.kind) {
            Some(Some(JobKind::Stop)) => Shutdown::Stop,
            _ => Shutdown::Restart,
        })
    };
    match timeout(ASK, asking).await {
        Ok(Ok(kind)) => kind,
        Ok(Err(error)) => {
            warn!(%error, "PID 1 does not say why this daemon ends; nothing is touched");
            Shutdown::Restart
        }
        Err(_) => Shutdown::Restart,
    }
}
