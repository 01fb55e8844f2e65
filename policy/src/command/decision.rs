//! What the planner concluded. Each is checked by `apply` against everything that it rests on.

use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::assembly::{Election, Start};
use crate::definition::Definition;
use crate::event::StopReason;
use crate::name::{CaseId, Incarnation, NodeId, Token, UnitName};

/// What the planner concluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "an entry is made, sent and applied one at a time: nothing holds many"
)]
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
        /// How a clustered service is started; `None` for all others, and for a copy that runs already.
        start: Option<Start>,
    },
    /// Positions of a clustered service's data are gathered anew: the entry's index is the epoch (F16).
    OpenGather {
        /// Which unit.
        unit: UnitName,
    },
    /// Who is to start alone, committed before it does (F16).
    Elect {
        /// Which unit.
        unit: UnitName,
        /// In which epoch.
        epoch: u64,
        /// Who, with everything that the choice rests on.
        election: Election,
    },
    /// A unit that nobody decided on is to run, because one that is started requires or wants it.
    PullIn {
        /// Which unit.
        unit: UnitName,
        /// Who names it.
        by: UnitName,
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
        /// Through which level of the node's devices.
        level: u32,
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
    /// What an isolating device has cut, or a life that has not registered with it, is connected: committed before the agent
    /// runs.
    BeginOpening {
        /// Whose way.
        node: NodeId,
        /// Through which device.
        device: String,
        /// Who runs the agent.
        executor: NodeId,
        /// In which life.
        executor_incarnation: Incarnation,
    },
    /// What a later version does otherwise comes into force: the software of all enrolled nodes knows it (F20).
    RaiseFeatureLevel {
        /// From now on.
        level: u32,
    },
    /// Nobody will say how that ended.
    AbandonOpening {
        /// Whose way.
        node: NodeId,
        /// Through which device.
        device: String,
        /// Index of the decision that began it.
        since: u64,
    },
}
