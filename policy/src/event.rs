//! The history that operators read: what happened, in terms, not in prose.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::assembly::{Ground, Start, Word};
use crate::command::Cause;
use crate::evidence::Evidence;
use crate::maintenance::Scope;
use crate::name::{CaseId, Millis, NodeId, Token, UnitName};
use crate::unit::Wanted;

/// Why a unit is stopped by the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// Its goal is `stopped`.
    GoalStopped,
    /// It is held on that node.
    Held,
    /// The node is drained.
    Drained,
    /// The whole cluster is.
    ClusterDrained,
    /// An operator moves it.
    Moved,
    /// `Nodes=` does not let it run there any more.
    NotAllowed,
    /// Something that it requires is being stopped.
    RequirementStops(UnitName),
    /// It is bound to this unit, which is known active no more.
    BoundEnds(UnitName),
    /// It is part of this unit, which is being stopped.
    PartStops(UnitName),
    /// It conflicts with this unit, which takes precedence.
    Conflicts(UnitName),
    /// It must not share the node with this unit, which stays there.
    SharesNode(UnitName),
    /// The node has less of this than it gives.
    NoRoom(String),
    /// A unit of higher priority needs its room.
    Outranked(UnitName),
    /// It runs beside this unit, which is not, or will not stay, on that node.
    Apart(UnitName),
    /// There are more copies than wanted.
    Surplus,
    /// Another node suits it better than its stickiness holds it.
    BetterNode,
    /// A proof of fencing was contradicted while this start was under way (F18).
    ProofContradicted,
    /// Its health check failed there: what it found.
    Unwell(String),
    /// It was let join, and says that it has this history, which is not the service's.
    Stranger(String),
    /// It waits for others in vain: one of those that wait is to start alone, and the rest joins it.
    OneAlone,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// All is as it should be.
    Info,
    /// Something to look at.
    Warning,
    /// Somebody should act.
    Alert,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The cluster was founded.
    Founded,
    /// A node leads.
    LeaderChanged {
        /// Raft term.
        term: u64,
    },
    /// Entries are applied by the rules of a later version from now on.
    FeatureLevelRaised {
        /// The level in force.
        level: u32,
    },
    /// A node joined the cluster.
    NodeEnrolled,
    /// A node was taken out.
    NodeRemoved {
        /// Who asked.
        by: String,
    },
    /// A node was heard in a new life.
    NodeBooted,
    /// A node came back in the same life.
    NodeReturned,
    /// A node is shutting down.
    NodeLeaving,
    /// A node's lease ended.
    NodeLost,
    /// Another machine uses a node's certificate.
    OtherMachine {
        /// Its machine id.
        machine: String,
    },
    /// A node was drained or undrained; the whole cluster, where the event names none.
    NodeDrained {
        /// Whether it is drained now.
        drained: bool,
        /// Who asked.
        by: String,
    },
    /// A maintenance began, or it was said anew what for.
    MaintenanceBegan {
        /// What of.
        scope: Scope,
        /// Who asked.
        by: String,
        /// What for.
        reason: Option<String>,
    },
    /// A maintenance ended.
    MaintenanceEnded {
        /// What of.
        scope: Scope,
        /// Who asked.
        by: String,
    },
    /// A definition came into force.
    DefinitionAdopted,
    /// A goal was set.
    GoalSet {
        /// To what.
        wanted: Wanted,
        /// Who asked, or which unit wants it; `None` when its enablement on the nodes decided.
        by: Option<String>,
    },
    /// A unit is held on a node.
    HeldOnNode {
        /// By whom or what.
        by: String,
    },
    /// A move was asked for.
    MoveAsked {
        /// Where to.
        to: Option<NodeId>,
        /// Who asked.
        by: String,
    },
    /// A node may start a unit.
    Granted {
        /// The permit.
        token: Token,
    },
    /// Positions of a clustered service's data are gathered.
    GatherOpened {
        /// The gathering.
        epoch: u64,
    },
    /// An operator's word for a gathering.
    AssemblyWord {
        /// What was said.
        word: Word,
        /// Who.
        by: String,
    },
    /// By which rank the holder of a role was chosen.
    RankChosen {
        /// Of which history.
        identity: String,
        /// The best that was heard.
        rank: i64,
        /// Nodes that may have had the latest data once and were not heard.
        without: Vec<NodeId>,
    },
    /// Who is to start a clustered service alone.
    Elected {
        /// The gathering.
        epoch: u64,
        /// The history of its data, if there is any.
        identity: Option<String>,
        /// How far its data is.
        rank: i64,
        /// Nodes that were live last and were not heard.
        absent: Vec<NodeId>,
        /// Why those that were heard were enough.
        ground: Ground,
    },
    /// A node may start a copy of a clustered service.
    GrantedAs {
        /// The permit.
        token: Token,
        /// How.
        start: Start,
    },
    /// A copy of a clustered service is ready.
    Ready {
        /// By which permit.
        token: Token,
    },
    /// A copy of a clustered service is not ready any more.
    NotReady {
        /// By which permit.
        token: Token,
        /// What it lacks.
        lacks: String,
    },
    /// A running copy was adopted.
    Adopted {
        /// The permit.
        token: Token,
    },
    /// A unit became active.
    Started {
        /// By which permit.
        token: Token,
        /// Milliseconds of cluster time since the grant.
        after_ms: Millis,
    },
    /// A health check failed.
    CheckFailed {
        /// By which permit the copy runs.
        token: Token,
        /// What it found.
        why: String,
    },
    /// A unit is to stop.
    Revoked {
        /// Which permit.
        token: Token,
        /// Why.
        reason: StopReason,
    },
    /// A stop does not come to its end.
    StopStuck {
        /// What is left.
        what: String,
    },
    /// A unit was released by its node.
    Released {
        /// Which permit.
        token: Token,
        /// Why.
        because: Cause,
    },
    /// A permit was voided by other evidence.
    Voided {
        /// Which permit.
        token: Token,
        /// By what.
        evidence: Evidence,
    },
    /// A fence is wanted.
    FenceWanted {
        /// The case.
        case: CaseId,
        /// Which unit waits.
        because: UnitName,
    },
    /// A fence attempt began.
    FenceBegan {
        /// The case.
        case: CaseId,
        /// Number of the attempt.
        attempt: u32,
        /// Through which devices, in words.
        device: String,
        /// Who runs the agent.
        executor: NodeId,
    },
    /// A fence attempt failed.
    FenceFailed {
        /// The case.
        case: CaseId,
        /// Number of the attempt.
        attempt: u32,
        /// Through which devices, in words.
        device: String,
        /// The agent's words.
        error: String,
    },
    /// A node was proven gone.
    FenceProven {
        /// The case, if one was open.
        case: Option<CaseId>,
        /// By what.
        evidence: Evidence,
        /// Who vouched, for an operator's word.
        by: Option<String>,
        /// Milliseconds of cluster time since the case was opened.
        after_ms: Millis,
    },
    /// A node was cut off from what it shares with others; it may still run.
    NodeIsolated {
        /// The case.
        case: CaseId,
        /// By which devices, in words.
        devices: String,
        /// Milliseconds of cluster time since the case was opened.
        after_ms: Millis,
    },
    /// An agent is to open what an isolating device has cut, or to register a new life with it.
    OpeningBegan {
        /// The device.
        device: String,
        /// Who runs the agent.
        executor: NodeId,
    },
    /// It did, and the device's status says so.
    WayOpened {
        /// The device.
        device: String,
    },
    /// A fence is not needed any more.
    FenceCancelled {
        /// The case.
        case: CaseId,
    },
    /// An incarnation spoke after it was proven gone.
    ProofContradicted {
        /// The case, if one proved it.
        case: Option<CaseId>,
    },
    /// A drill was asked for.
    DrillAsked {
        /// The case.
        case: CaseId,
        /// Through which level.
        level: u32,
        /// Who asked.
        by: String,
    },
    /// A drill showed that the level's devices switch the node off.
    DrillPassed {
        /// The case.
        case: CaseId,
        /// Which level.
        level: u32,
        /// Its devices, in words.
        device: String,
        /// Milliseconds of cluster time from the begin of the attempt to the devices' word.
        after_ms: Millis,
    },
    /// It did not.
    DrillFailed {
        /// The case.
        case: CaseId,
        /// Which level.
        level: u32,
        /// Its devices, in words.
        device: String,
        /// Why.
        why: String,
    },
    /// A drill was given up before its first attempt.
    DrillCancelled {
        /// The case.
        case: CaseId,
        /// Why.
        why: String,
    },
    /// A node that was switched off in a drill is back.
    DrillEnded {
        /// The case.
        case: CaseId,
        /// Milliseconds of cluster time since it was seen off.
        after_ms: Millis,
    },
    /// A node has armed its watchdog.
    WatchdogArmed {
        /// The device.
        device: String,
        /// Its timeout, in milliseconds.
        timeout_ms: Millis,
    },
    /// A node has no watchdog armed.
    WatchdogDisarmed {
        /// Why.
        why: String,
    },
    /// A device gave a node its power back after a fence.
    SwitchedOn {
        /// The device.
        device: String,
    },
    /// It did not.
    NotSwitchedOn {
        /// The device.
        device: String,
        /// The agent's words.
        why: String,
        /// Whether it is tried again.
        again: bool,
    },
    /// A node stays off although fenced nodes are switched on again: it was fenced too often of late.
    LeftOff {
        /// How often.
        times: u32,
    },
    /// An operator said that what was wrong with a node is mended.
    NodeForgiven {
        /// Who.
        by: String,
    },
    /// A device reads a node's power otherwise than the node lives.
    DeviceRefused {
        /// The device.
        device: String,
        /// Why it does not count.
        why: String,
    },
    /// A node cannot run a device's agent: it leaves that to others.
    AgentUnable {
        /// The device.
        device: String,
        /// Why.
        why: String,
    },
    /// The cluster's settings were changed.
    Configured {
        /// Who.
        by: String,
    },
    /// A unit was forgotten.
    Forgotten {
        /// Who.
        by: String,
    },
}

/// One line of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Index of the entry.
    pub index: u64,
    /// Cluster time.
    pub time: Millis,
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: u64,
    /// How much it matters.
    pub severity: Severity,
    /// Which node, if one.
    pub node: Option<NodeId>,
    /// Which unit, if one.
    pub unit: Option<UnitName>,
    /// What happened.
    pub kind: EventKind,
}
