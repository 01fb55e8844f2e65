//! Tasks that wait for somebody else: for PID 1 to be back and to answer, for the cluster's answers to gates and wishes.

use std::time::Duration;

use policy::{Refusal, UnitName};
use tokio::sync::{mpsc, watch};
use units::systemd::{Signal, SystemState, Systemd};

use crate::agent::event::GateLook;
use crate::agent::{chain, looks};
use crate::session::message::{GateAnswer, Reply, Request};
use crate::session::{AskError, Asker, Pulse};

/// How long one attempt to bring a wish to the cluster takes at the most, and the pause before the next.
const WISH_LIMIT: Duration = Duration::from_secs(20);
const WISH_PAUSE: Duration = Duration::from_secs(5);
/// How long a gate waits for a session with a leader. An election takes less.
const GATE_SESSION_LIMIT: Duration = Duration::from_secs(2);
/// How long a gate waits for its answer: less than the gate's own `TimeoutStartSec=60`, so that the reason is told.
const GATE_LIMIT: Duration = Duration::from_secs(55);
/// Shortest and longest pause between attempts to reach PID 1.
const RECONNECT: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(2);

pub(super) async fn reconnect(connected: mpsc::Sender<(Systemd, mpsc::Receiver<Signal>)>) {
    let mut pause = RECONNECT;
    loop {
        match Systemd::connect().await {
            Ok(connection) => {
                drop(connected.send(connection).await);
                return;
            }
            Err(error) => tracing::warn!(error = chain(&error), "PID 1 cannot be reached"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT_MAX);
    }
}

/// Asks PID 1 for its state again and again, so that a session's beats can say that it lives (F27).
pub(super) async fn keep_pulse(
    pulse: Pulse,
    manager: watch::Sender<SystemState>,
    mut beats: watch::Receiver<(Option<Systemd>, Duration)>,
) {
    loop {
        let (systemd, period) = beats.borrow_and_update().clone();
        if let Some(systemd) = &systemd
            && let Ok(state) = systemd.manager_state().await
        {
            pulse.felt();
            manager.send_if_modified(|known| std::mem::replace(known, state) != state);
        }
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            changed = beats.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// The cluster's answer to a gate; refuses when there is no session for a while.
pub(super) async fn ask_gate(
    asker: &Asker,
    mut in_session: watch::Receiver<bool>,
    request: Request,
) -> Result<GateAnswer, String> {
    let none = || AskError::NoSession(GATE_SESSION_LIMIT).to_string();
    let undecided = undecided(&request);
    let asking = async {
        match asker.ask_long(request).await {
            Ok(Reply::Gate(answer)) => Ok(answer),
            Ok(Reply::Unable(why)) => Err(why),
            Ok(other) => Err(format!("the leader gave an answer of another kind: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    };
    let cut_off = async {
        // Each time that the session is lost, a new one may come.
        while in_session.wait_for(|open| !open).await.is_ok() {
            match tokio::time::timeout(GATE_SESSION_LIMIT, in_session.wait_for(|open| *open)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    tokio::select! {
        biased;
        answer = asking => answer,
        () = cut_off => Err(none()),
        () = tokio::time::sleep(GATE_LIMIT) => Ok(undecided),
    }
}

/// There was a session all along: the leader waits for something itself, and goes on when that is over.
fn undecided(request: &Request) -> GateAnswer {
    let unit = match request {
        Request::Gate { unit, .. } => unit.as_str(),
        _ => "UNIT",
    };
    GateAnswer::Refused {
        why: format!(
            "the cluster has not decided within {} s; it starts it once it can",
            GATE_LIMIT.as_secs()
        ),
        remedy: format!("`convoke why {unit}` shows what it waits for"),
    }
}

/// One look at a unit whose start waits, or waited, at its gate.
pub(super) async fn gate_look(systemd: Option<&Systemd>, unit: &UnitName) -> Result<Box<GateLook>, String> {
    match systemd {
        Some(systemd) => {
            looks::gate_look(systemd, unit.as_str()).await.map(Box::new).map_err(|error| chain(&error))
        }
        None => Err("PID 1 is not connected".to_owned()),
    }
}

/// Brings a wish to the cluster, and its answer back; `None` if there was none.
pub(super) async fn bring(asker: &Asker, request: Request, attempts: usize) -> Option<Result<u64, Refusal>> {
    for _ in 0..attempts {
        match asker.ask(request.clone(), WISH_LIMIT).await {
            Ok(Reply::Wish(outcome)) => {
                if let Err(refusal) = &outcome {
                    tracing::info!(%refusal, "the cluster did not take a wish of this node");
                }
                return Some(outcome);
            }
            Err(AskError::Stopping) => return None,
            Ok(_) | Err(_) => tokio::time::sleep(WISH_PAUSE).await,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_waited_too_long_is_told_where_to_look() {
        let asked = Request::Gate { unit: "db.service".into(), wish: None, gate: "agent/1".to_owned() };
        let GateAnswer::Refused { why, remedy } = undecided(&asked) else { panic!("refused") };
        assert_eq!(why, "the cluster has not decided within 55 s; it starts it once it can");
        assert!(remedy.contains("convoke why db.service"), "{remedy}");
    }
}
