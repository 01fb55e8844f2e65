//! What the rest of the daemon asks of the agent.

use policy::{Incarnation, Token};
use serde::Serialize;
use tokio::sync::oneshot;

/// A question or an order from within the daemon.
#[derive(Debug)]
pub enum AgentCommand {
    /// The daemon is going to end. The agent says when it may.
    Shutdown {
        /// For what reason.
        kind: Shutdown,
        /// Told once what had to be released is released and the cluster has said so, or nobody can wait any longer.
        done: oneshot::Sender<()>,
    },
    /// The local view, for people.
    Snapshot {
        /// Where it goes.
        reply: oneshot::Sender<Snapshot>,
    },
}

/// Why the daemon ends (F8, F30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// `systemctl stop convoked`: exclusive units are stopped and released first.
    Stop,
    /// `systemctl restart convoked`, an upgrade: nothing is touched.
    Restart,
    /// The machine goes down: everything is released.
    SystemDown,
}

/// This node as its agent sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// The life that it is.
    pub incarnation: Incarnation,
    /// The session, if one is open.
    pub session: Option<u64>,
    /// Applied index of the last orders.
    pub index: u64,
    /// Whether there is a valid lease.
    pub leased: bool,
    /// Whether PID 1 is connected.
    pub connected: bool,
    /// Facts that the cluster has not answered.
    pub unanswered: usize,
    /// The cluster units.
    pub units: Vec<UnitSnapshot>,
}

/// One unit as the agent sees it.
#[derive(Clone, Debug, Serialize)]
pub struct UnitSnapshot {
    /// Its name.
    pub unit: String,
    /// What PID 1 shows.
    pub run: String,
    /// The permit that the node acts under.
    pub token: Option<Token>,
    /// Whether the run was adopted: it has no `CONVOKE_TOKEN`.
    pub adopted: bool,
    /// Whether the permit's file is in place.
    pub filed: bool,
    /// The operation under way.
    pub doing: Option<&'static str>,
    /// Whether its gate is in force.
    pub gated: bool,
    /// What an ordered stop leaves behind.
    pub stuck: Option<String>,
}
