//! A permit: the right of one incarnation of one node to run one unit, and the terms it was given on.

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, Fencing, OnQuorumLoss, OnStopFailure};
use crate::event::StopReason;
use crate::name::{Incarnation, Millis, NodeId};
use crate::pending::Pending;

/// Where a permit stands. It leaves the state only by [`crate::Evidence`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The node may start the unit.
    Granted,
    /// The node said that the unit is active.
    Active,
    /// The node was told to stop it.
    Revoking(StopReason),
}

/// What was promised when the permit was given. Agents obey these, whatever the files say meanwhile (F13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Whether no other copy may run.
    pub exclusive: bool,
    /// What voids it after a loss.
    pub fencing: Fencing,
    /// What the node does at the end of its lease.
    pub on_quorum_loss: OnQuorumLoss,
    /// What the node does when the unit cannot be stopped.
    pub on_stop_failure: OnStopFailure,
    /// The longest an orderly stop may take, in milliseconds (F7).
    pub stop_budget_ms: Millis,
    /// Revision of the definition that it comes from.
    pub revision: u64,
    /// With `Fencing=watchdog`, how long after it was last right to feed its watchdog the node is gone at the latest, as it
    /// was announced before the grant (F17); 0 otherwise.
    #[serde(default)]
    pub watchdog_ms: Millis,
}

impl Terms {
    /// The terms that a definition gives on a node that is reset by its own watchdog within `chain` milliseconds.
    #[must_use]
    pub fn of(definition: &Definition, revision: u64, stop_budget_ms: Millis, chain: Millis) -> Self {
        Self {
            exclusive: definition.is_exclusive(),
            fencing: definition.fencing,
            on_quorum_loss: definition.on_quorum_loss,
            on_stop_failure: definition.on_stop_failure,
            stop_budget_ms,
            revision,
            watchdog_ms: if definition.fencing == Fencing::Watchdog { chain } else { 0 },
        }
    }
}

/// One permit. Its token is the key that it is stored under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Who holds it.
    pub node: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// How far it is.
    pub phase: Phase,
    /// On what terms.
    pub terms: Terms,
    /// Terms of a later definition that the node has not acknowledged yet (F13).
    pub next_terms: Option<Terms>,
    /// When it was granted.
    pub granted_at: Millis,
    /// When the unit was first said to be active.
    pub active_at: Option<Millis>,
    /// Given to a copy that was found running: it has no `CONVOKE_TOKEN` (F11).
    pub adopted: bool,
    /// A proof had voided it, and the proof was contradicted (F18): possibly running again.
    pub contradicted: bool,
    /// What its health check found, once it failed (P68).
    pub unwell: Option<alloc::string::String>,
    /// Its node says that nothing runs: in maintenance that is a person's business, and ends no permit.
    #[serde(default)]
    pub idle: bool,
    /// It is active by its permit, and not up at this moment: what needs it starts once it is (S4).
    #[serde(default)]
    pub rest: Option<Rest>,
    /// What the node says stands in the way of an ordered stop.
    pub stuck: Option<alloc::string::String>,
    /// What the definition would have of it, once it starts again (P127).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

/// Why a copy that keeps its permit is not up at a moment. All are systemd's own doing on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// It waits for its `RestartSec=` after a failure, or is on its way up again.
    Restarts,
    /// It is on its way down by itself.
    Stops,
    /// It is down. Whether that ends its permit its node has yet to say (F1).
    Down,
}

impl Permit {
    /// Whether its node may go by stricter terms than these already, though it has not said so (F13).
    #[must_use]
    pub fn next_is_stricter_than(&self, fencing: Fencing, on_quorum_loss: OnQuorumLoss) -> bool {
        let stops = |does: OnQuorumLoss| does != OnQuorumLoss::Continue;
        self.next_terms.as_ref().is_some_and(|next| {
            fencing.stricter(next.fencing) != fencing
                || (stops(next.on_quorum_loss) && !stops(on_quorum_loss))
        })
    }

    /// Whether no other copy may run: by its terms, or by those that it was asked to take over (F13).
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.terms.exclusive || self.next_terms.as_ref().is_some_and(|terms| terms.exclusive)
    }

    /// Whether the holder may not run it without a lease: by its terms, or by those that it may have taken over already.
    pub(crate) fn must_stop(&self) -> bool {
        let stops = |terms: &Terms| terms.on_quorum_loss != OnQuorumLoss::Continue;
        stops(&self.terms) || self.next_terms.as_ref().is_some_and(stops)
    }

    /// Whether the holder was told to stop.
    #[must_use]
    pub fn is_revoking(&self) -> bool {
        matches!(self.phase, Phase::Revoking(_))
    }
}
