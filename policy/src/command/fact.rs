//! What was observed, and by whom. A fact is recorded or found stale; it is never weighed.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::assembly::Found;
use crate::fence::Power;
use crate::name::{CaseId, Incarnation, Millis, NodeId, Token, UnitName};
use crate::node::Offer;
use crate::permit::Rest;

/// Why a unit is gone on the node that releases it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The cluster had it stopped.
    Ordered,
    /// A person stopped it there; the text says who, as far as is known (S6, F10).
    Operator(String),
    /// It failed, and systemd's own restarts are exhausted.
    Failed(String),
    /// It could not be started.
    StartFailed(String),
    /// Another local unit took it along, by its stop or, in conflict with it, by its start: held here until that changes.
    Propagated(String),
    /// The node is shutting down.
    Shutdown,
    /// The lease ended and `OnQuorumLoss=` had it stopped.
    LeaseEnded,
    /// It was down when its maintenance ended: what a person did meanwhile.
    DownInMaintenance,
    /// The grant was not used: the job that asked for it is gone (F34).
    Unused,
}

/// One line of an inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryItem {
    /// Which unit.
    pub unit: UnitName,
    /// What the files say; `None` if they say nothing (any more).
    pub offer: Option<Offer>,
    /// Whether it is, or may be, running there.
    pub running: bool,
}

/// How a fence attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FenceOutcome {
    /// `off` succeeded and a separate `status` said off.
    Off,
    /// It failed; the agent's own words.
    Failed(String),
    /// The executor could not begin: no agent ran, so no device was asked for anything. Another node may be able to.
    Unable(String),
    /// The leader called it off before it was begun: nothing waits for it any more, or its node is heard again.
    CalledOff,
    /// It was cut off at the deadline: the node's power is unknown for the quarantine time.
    TimedOut(String),
}

/// What was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "an entry is made, sent and applied one at a time: nothing holds many"
)]
pub enum Fact {
    /// A leader's first entry.
    TermBegan {
        /// Raft term.
        term: u64,
        /// Who leads.
        leader: NodeId,
    },
    /// A node echoed a nonce that this leader issued (F3) and gets a session.
    NodeHeard {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Number of the session; rises over the life of the cluster.
        session: u64,
        /// Its machine id now.
        machine: String,
        /// Where it is reached now.
        addresses: Vec<String>,
        /// The highest feature level that its software knows (F20).
        #[serde(default = "crate::feature::first")]
        level: u32,
        /// Leader's term.
        term: u64,
    },
    /// Another machine, or a second life, showed a node's identity (F3).
    IdentityShared {
        /// Whose.
        node: NodeId,
        /// The machine id that was shown.
        machine: String,
    },
    /// What runs on a node and what it offers (F11). Replaces what was known of its offers.
    InventoryReported {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Every cluster unit it knows.
        items: Vec<InventoryItem>,
        /// Of the permits it holds, those whose copies are not up at this moment, and why (S4).
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        rests: BTreeMap<Token, Rest>,
        /// Highest token it ever released or held.
        highest_token: Token,
    },
    /// One unit's line of the inventory has changed.
    UnitObserved {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// The line.
        item: InventoryItem,
    },
    /// A node has looked for every unit that the cluster heard of up to an index, has said so of those that run, and
    /// gates them all (F11, F12).
    Surveyed {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Index of the entry that brought the newest of them.
        index: u64,
    },
    /// A granted unit is active.
    Started {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which unit.
        unit: UnitName,
        /// By which permit.
        token: Token,
    },
    /// How good a node would be in a role; of the holder, how far it is.
    RankReported {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which role.
        unit: UnitName,
        /// Index that the node knew when it began to look.
        seen: u64,
        /// What it found.
        found: Found,
    },
    /// How a node's data of a clustered service stands (F16). Read with no copy running on it: the node says so too.
    PositionReported {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which unit.
        unit: UnitName,
        /// For which gathering.
        epoch: u64,
        /// Index that the node knew when it began to look.
        seen: u64,
        /// What it found.
        found: Found,
    },
    /// Whether a copy of a clustered service is ready: what others may join, and what has the latest data (F16).
    ReadyReported {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which unit.
        unit: UnitName,
        /// By which permit.
        token: Token,
        /// Index that the node knew when it began to look.
        seen: u64,
        /// What it lacks; `None` if it is ready.
        lacks: Option<String>,
        /// Which history the data belongs to that a ready copy serves, if its program says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
    },
    /// The health check of a copy failed (P68).
    CheckFailed {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which unit.
        unit: UnitName,
        /// By which permit.
        token: Token,
        /// What it found.
        why: String,
    },
    /// A node acknowledged new terms of a permit (F13).
    TermsAcknowledged {
        /// Who.
        node: NodeId,
        /// Which unit.
        unit: UnitName,
        /// Which permit.
        token: Token,
        /// Revision of the terms.
        revision: u64,
    },
    /// The four steps of a release are done (F1).
    Released {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which unit.
        unit: UnitName,
        /// Which permit.
        token: Token,
        /// Why.
        because: Cause,
    },
    /// Whether a copy that is active by its permit is up at this moment.
    RestReported {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which unit.
        unit: UnitName,
        /// Which permit.
        token: Token,
        /// Why it is not; `None` once it is.
        rest: Option<Rest>,
    },
    /// An ordered stop does not come to its end.
    StopStuck {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which unit.
        unit: UnitName,
        /// Which permit.
        token: Token,
        /// What is left.
        what: String,
    },
    /// A node is shutting down (F30).
    NodeLeaving {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// A node's lease has ended by the leader's count.
    NodeLost {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Its session then; a newer session makes this stale.
        session: u64,
        /// Leader's term (F32).
        term: u64,
    },
    /// A look at a node through its device.
    PowerObserved {
        /// Who was looked at.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Through which device.
        device: String,
        /// Under which settings ([`State::configured`](crate::State::configured)): by others it may be another plug.
        configured: u64,
        /// What it showed.
        power: Power,
        /// Who ran the agent. Nothing is proven by it: others are to be asked first, or last, by what this one was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<NodeId>,
    },
    /// A node's power was switched on again through a device, or was to be.
    SwitchedOn {
        /// Whose.
        node: NodeId,
        /// Through which device.
        device: String,
        /// After which attempt (`SwitchedOff::since`).
        since: u64,
        /// What its status said afterwards.
        power: Power,
    },
    /// A node has armed a watchdog that resets it unless its convoked feeds it (F17). Read back from the device.
    WatchdogArmed {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// When it said so, in milliseconds of its CLOCK_BOOTTIME; rises with each word on it.
        said_ms: u64,
        /// Which device.
        device: String,
        /// How long after it was last fed it resets the node.
        timeout_ms: Millis,
    },
    /// A node has no such watchdog armed, or is about to disarm it.
    WatchdogDisarmed {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// When it said so, as above.
        said_ms: u64,
        /// Why.
        why: String,
    },
    /// An attempt ended.
    FenceReported {
        /// Which case.
        case: CaseId,
        /// Which attempt.
        attempt: u32,
        /// How.
        outcome: FenceOutcome,
    },
    /// A daemon that was restarted in the middle of an attempt ran its agent once more. Said before the attempt's end.
    FenceRepeated {
        /// Which case.
        case: CaseId,
        /// Which attempt.
        attempt: u32,
    },
    /// An incarnation that was cut off spoke, and got no session: it is not silent (F36).
    CutOffHeard {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Leader's term.
        term: u64,
    },
    /// An incarnation that was proven gone answered a nonce issued after the proof (F18).
    ProofContradicted {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Leader's term.
        term: u64,
    },
}

impl Fact {
    /// The node that says it of itself; none where it is found out about a node.
    #[must_use]
    pub fn speaker(&self) -> Option<NodeId> {
        match self {
            Self::InventoryReported { node, .. }
            | Self::UnitObserved { node, .. }
            | Self::Surveyed { node, .. }
            | Self::Started { node, .. }
            | Self::PositionReported { node, .. }
            | Self::ReadyReported { node, .. }
            | Self::RankReported { node, .. }
            | Self::CheckFailed { node, .. }
            | Self::RestReported { node, .. }
            | Self::TermsAcknowledged { node, .. }
            | Self::Released { node, .. }
            | Self::StopStuck { node, .. }
            | Self::WatchdogArmed { node, .. }
            | Self::WatchdogDisarmed { node, .. }
            | Self::NodeLeaving { node, .. } => Some(*node),
            Self::TermBegan { .. }
            | Self::NodeHeard { .. }
            | Self::IdentityShared { .. }
            | Self::NodeLost { .. }
            | Self::PowerObserved { .. }
            | Self::SwitchedOn { .. }
            | Self::FenceReported { .. }
            | Self::FenceRepeated { .. }
            | Self::CutOffHeard { .. }
            | Self::ProofContradicted { .. } => None,
        }
    }
}
