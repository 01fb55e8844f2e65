//! What the log carries: facts that were observed, wishes that an operator has, decisions that the planner made.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::definition::Definition;
use crate::event::StopReason;
use crate::fence::Power;
use crate::name::{CaseId, Incarnation, Millis, NodeId, Token, UnitName};
use crate::node::{Offer, Role};
use crate::unit::Wanted;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its place in the log.
    pub index: u64,
    /// Cluster time, stamped by the leader (F6).
    pub time: Millis,
    /// Wall clock, milliseconds since 1970, for people only.
    pub wall_ms: u64,
    /// Who sent it, where a repeat must not count twice.
    pub origin: Option<Origin>,
    /// What it says.
    pub command: Command,
}

/// A client's number for its command: sending it again is answered from memory (F10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// A name that no other client uses.
    pub client: String,
    /// Rises with each command of that client.
    pub number: u64,
}

/// A fact, a wish or a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// What was observed.
    Fact(Fact),
    /// What an operator asks.
    Wish(Wish),
    /// What the leader's planner concluded.
    Decision(Decision),
}

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
    /// Another local unit's stop took it along: held here until that changes.
    Propagated(String),
    /// The node is shutting down.
    Shutdown,
    /// The lease ended and `OnQuorumLoss=` had it stopped.
    LeaseEnded,
    /// The grant was not used: the job that asked for it is gone (F34).
    Unused,
}

/// One line of an inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// It was cut off at the deadline: the node's power is unknown for the quarantine time.
    TimedOut(String),
}

/// What was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        /// What it showed.
        power: Power,
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

/// How to switch a node's power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The fence agent's program name (`fence_ipmilan`).
    pub agent: String,
    /// Options for every target, as the agent names them.
    pub options: BTreeMap<String, String>,
    /// Options whose value is read from a root-only file on the executor; never in the log (name → path).
    pub secrets: BTreeMap<String, String>,
    /// Nodes that it can fence, each with its own options (`plug`, `ip`).
    pub targets: BTreeMap<NodeId, BTreeMap<String, String>>,
    /// Deadline of one call of the agent, in milliseconds.
    pub timeout_ms: Millis,
}

/// The cluster's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How soon a silent node is called lost; every other time derives from it.
    pub detect_ms: Millis,
    /// How long power is unknown after an attempt that was cut off.
    pub quarantine_ms: Millis,
}

impl Settings {
    /// The lease that a beat's answer grants (design, section 3): the most that `detect` leaves room for.
    ///
    /// A leader calls a node lost 1.01 leases and a margin of `detect`/40 after its last answer, and that must
    /// come to `detect` at the most; the rest is room for the commit.
    #[must_use]
    pub fn lease_ms(&self) -> Millis {
        self.detect_ms.saturating_mul(85) / 100
    }

    /// How long after its own last answer a leader calls a node lost: the lease × 1.01 and a margin (F5).
    #[must_use]
    pub fn loss_ms(&self) -> Millis {
        let lease = self.lease_ms();
        lease.saturating_add(lease / 100).saturating_add(self.detect_ms / 40)
    }

    /// How often a node sends a beat.
    #[must_use]
    pub fn beat_ms(&self) -> Millis {
        self.detect_ms / 8
    }
}

impl Default for Settings {
    /// `detect` 2 s; quarantine 30 s (field notes: the last queued power-off struck 12 s after the first).
    fn default() -> Self {
        Self { detect_ms: 2_000, quarantine_ms: 30_000 }
    }
}

/// What an operator asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// The first node makes the cluster.
    Found {
        /// Identity of the cluster.
        cluster: String,
        /// Name of the cluster.
        name: String,
        /// Generation (F14).
        generation: u16,
        /// First node's id, fixed at its enrolment.
        node: NodeId,
        /// First node's name.
        node_name: String,
        /// Where it is reached.
        addresses: Vec<String>,
        /// Its machine id.
        machine: String,
    },
    /// A token lets a machine join until it expires.
    IssueToken {
        /// Public part.
        id: String,
        /// SHA-256 of the secret, hexadecimal.
        secret_hash: String,
        /// For how long, in milliseconds of cluster time.
        valid_ms: Millis,
        /// Who asked.
        by: String,
    },
    /// A machine joins with a token. The node's id comes from the entry's index.
    Enroll {
        /// Public part of the token.
        token: String,
        /// SHA-256 of the secret that was shown.
        secret_hash: String,
        /// Node's name.
        name: String,
        /// Where it is reached.
        addresses: Vec<String>,
        /// Its machine id.
        machine: String,
        /// What it is to be; `None` lets the cluster choose.
        role: Option<Role>,
    },
    /// A node is taken out of the cluster for good (F19).
    RemoveNode {
        /// Which.
        node: NodeId,
        /// Who asked.
        by: String,
    },
    /// `convoke start` and `convoke stop`.
    SetGoal {
        /// Which unit.
        unit: UnitName,
        /// What is wanted.
        wanted: Wanted,
        /// Where it was asked for, if a place was meant.
        node: Option<NodeId>,
        /// Revision of the goal that the asker saw, if it matters.
        seen: Option<u64>,
        /// Who asked.
        by: String,
    },
    /// A person's `systemctl stop` that could not travel inside a release (F10).
    StoppedByHand {
        /// Which unit.
        unit: UnitName,
        /// Where.
        node: NodeId,
        /// Under which permit.
        token: Token,
        /// Who.
        by: String,
    },
    /// `convoke move`.
    Move {
        /// Which unit.
        unit: UnitName,
        /// From where; needed only for a replicated unit.
        from: Option<NodeId>,
        /// Where to, or anywhere else.
        to: Option<NodeId>,
        /// Who asked.
        by: String,
    },
    /// `convoke drain` and `convoke undrain`.
    SetDrained {
        /// Which node.
        node: NodeId,
        /// Whether it is to be empty.
        drained: bool,
        /// Who asked.
        by: String,
    },
    /// Failures are forgotten, on one node or all.
    ResetFailed {
        /// Which unit.
        unit: UnitName,
        /// Where.
        node: Option<NodeId>,
    },
    /// An operator vouches that one incarnation is off (F36).
    VouchFenced {
        /// Which node.
        node: NodeId,
        /// The incarnation that the operator was shown.
        incarnation: Incarnation,
        /// Who.
        by: String,
    },
    /// The cluster's own settings, whole.
    Configure {
        /// Times.
        settings: Settings,
        /// Fence devices by name.
        devices: BTreeMap<String, Device>,
        /// Attributes of nodes.
        attributes: BTreeMap<NodeId, BTreeMap<String, String>>,
        /// Who.
        by: String,
    },
    /// The operator chooses whose definition holds (F13).
    AdoptFrom {
        /// Which unit.
        unit: UnitName,
        /// Whose offer.
        node: NodeId,
        /// Who.
        by: String,
    },
    /// A unit that nothing offers or runs any more is forgotten, with its goal (F9, F12).
    Forget {
        /// Which unit.
        unit: UnitName,
        /// Who.
        by: String,
    },
}

/// What the planner concluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// A definition comes into force.
    AdoptDefinition {
        /// Which unit.
        unit: UnitName,
        /// The definition, as the deciding nodes offer it.
        definition: Definition,
    },
    /// A node may start a unit; or keep one that was found running.
    Grant {
        /// Which unit.
        unit: UnitName,
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Revision of the definition that it is granted under.
        revision: u64,
        /// Whether it runs there already, without a permit (F11).
        adopt: bool,
    },
    /// A node is to stop a unit.
    Revoke {
        /// Which unit.
        unit: UnitName,
        /// Which permit.
        token: Token,
        /// Why.
        reason: StopReason,
    },
    /// A live permit is to follow the definition's new terms (F13).
    Reterm {
        /// Which unit.
        unit: UnitName,
        /// Which permit.
        token: Token,
        /// Revision of the definition.
        revision: u64,
    },
    /// A permit ends by its own terms, after a loss.
    Expire {
        /// Which unit.
        unit: UnitName,
        /// Which permit.
        token: Token,
    },
    /// A lost node is to be fenced.
    OpenCase {
        /// Which node.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// The unit that waits.
        because: UnitName,
    },
    /// An attempt begins: committed before the agent runs.
    BeginAttempt {
        /// Which case.
        case: CaseId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// Through which device.
        device: String,
        /// Who runs the agent.
        executor: NodeId,
        /// In which life.
        executor_incarnation: Incarnation,
    },
    /// An attempt whose executor is lost counts as cut off (F24).
    AbandonAttempt {
        /// Which case.
        case: CaseId,
        /// Which attempt.
        attempt: u32,
    },
    /// Nothing waits any more, and no agent ever ran (F31).
    CancelCase {
        /// Which case.
        case: CaseId,
    },
}
