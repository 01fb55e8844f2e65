//! What operators ask for.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::assembly::Word;
use crate::maintenance::Scope;
use crate::name::{Incarnation, Millis, NodeId, Token, UnitName};
use crate::node::Role;
use crate::unit::Wanted;

use super::{Device, Settings};

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
    /// A start that waited at a node's gate was cancelled: what that very gate asked for is taken back (F34).
    WithdrawStart {
        /// Which unit.
        unit: UnitName,
        /// Where the gate waited.
        node: NodeId,
        /// The client under which the gate's own wish was sent, as in [`crate::Origin`].
        gate: String,
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
        /// Which node; all of them, and those that join meanwhile, where none is named.
        node: Option<NodeId>,
        /// Whether it is to be empty.
        drained: bool,
        /// Who asked.
        by: String,
    },
    /// `convoke maintain`: people have their hands on it, and the cluster keeps its own off.
    BeginMaintenance {
        /// What of.
        scope: Scope,
        /// What for.
        reason: Option<String>,
        /// Who asked.
        by: String,
    },
    /// `convoke unmaintain`.
    EndMaintenance {
        /// What of.
        scope: Scope,
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
    /// What was wrong with a node is mended: that it fell silent, or was fenced, again and again counts no more.
    ForgiveNode {
        /// Which node.
        node: NodeId,
        /// Who asked.
        by: String,
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
    /// A drill: a node that has nothing to lose is switched off and on again through one level of its devices.
    TestFence {
        /// Which node.
        node: NodeId,
        /// Which level; the first where none is named.
        level: Option<u32>,
        /// Who asked.
        by: String,
    },
    /// A drill is taken back before it begins.
    CancelFence {
        /// Which node's.
        node: NodeId,
        /// Who asked.
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
    /// `convoke assemble`: an operator's word for one gathering of a clustered service.
    Assemble {
        /// Which unit.
        unit: UnitName,
        /// The gathering that the operator was shown.
        epoch: u64,
        /// What is said.
        word: Word,
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
