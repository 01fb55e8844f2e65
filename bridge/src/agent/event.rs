//! What the agent hears, and what it has done: the two sides of its synchronous middle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::{Fact, FenceOutcome, NodeId, Power, Token, UnitName};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use units::section::Program;
use units::systemd::stops::Bonds;
use units::systemd::{Reading, Remembered, Signal, SystemState};

use super::command::AgentCommand;
use super::gate::{Answer, GateId};
use super::offer::Found;
use super::permit::{Environment, Permit};
use super::probe::{Finding, Question};
use crate::session::FromSession;
use crate::session::message::{AgentCall, FenceOrder, GateAnswer, LookOrder, Number, SwitchOnOrder};
use crate::watchdog::Standing;

/// How a fence attempt ended here.
#[derive(Debug, PartialEq, Eq)]
pub struct Fenced {
    /// What it proved, or why nothing.
    pub outcome: FenceOutcome,
    /// An earlier daemon of this boot had begun it: what that one's agent told the device may still strike.
    pub again: bool,
}

/// Number of an operation. What a replaced operation still reports is dropped by it.
pub type OpId = u64;

/// The moment of an event.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// CLOCK_BOOTTIME, in milliseconds.
    pub boot_ms: u64,
    /// CLOCK_MONOTONIC, the clock of systemd's signals.
    pub mono: Duration,
    /// Whether the lease is valid.
    pub leased: bool,
    /// When it ends or ended, in milliseconds of CLOCK_BOOTTIME; 0 where nobody knows.
    pub ends_ms: u64,
}

/// What the agent hears.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub enum Event {
    /// From the session.
    Session(FromSession),
    /// From PID 1.
    Signal(Signal),
    /// A connection to PID 1 is in place.
    Connected,
    /// PID 1's state is another one.
    Manager(SystemState),
    /// The unit files were read.
    Discovered(Discovery),
    /// A daemon-reload that we asked for is over.
    Reloaded(Result<(), String>),
    /// The list of cluster units was written, or could not be.
    GatedKept { text: String, ok: bool },
    /// An operation ended.
    Done { op: OpId, unit: UnitName, end: End },
    /// A stop does not come to its end.
    Stuck { op: OpId, unit: UnitName, what: String },
    /// An operator's stop could not be written to disk; the release that tells of it follows.
    NotSpooled { unit: UnitName, why: String },
    /// A permit file is in place, with the terms of this revision.
    Filed { unit: UnitName, token: Token, revision: u64 },
    /// A permit file could not be written, or there was no lease to write it under.
    NotFiled { unit: UnitName, why: String },
    /// A gate asked.
    GateAsked { id: GateId, unit: UnitName, reply: oneshot::Sender<Answer> },
    /// What is seen of the unit that a gate asks for.
    GateLooked { id: GateId, look: Result<Box<GateLook>, String> },
    /// The cluster answered a gate.
    GateAnswered { id: GateId, answer: Result<GateAnswer, String> },
    /// The gate has gone.
    GateClosed { id: GateId },
    /// Some time after a gate has gone: by now the end of the start job is known.
    GateSettled { id: GateId, unit: UnitName, since: Duration, look: Result<Box<GateLook>, String> },
    /// The cluster answered to a cancelled start: the log's index, or none if it had nothing to take back.
    Withdrawn { id: GateId, unit: UnitName, index: Option<u64> },
    /// A fence attempt ended; `None` if it did not begin.
    Fenced { order: Box<FenceOrder>, ended: Option<Fenced> },
    /// A look at another node's power ended; `None` if it was given up for a fence.
    Powered { order: Box<LookOrder>, power: Option<Power> },
    /// Power was to be switched on; `None` if that was not begun.
    SwitchedOn { order: Box<SwitchOnOrder>, power: Option<Power> },
    /// A look at a clustered service's data or copy ended; `None` if it was called off.
    Probed { id: OpId, unit: UnitName, finding: Option<Finding> },
    /// How this node's watchdog stands.
    Watchdog(Standing),
    /// Asked by the rest of the daemon.
    Command(AgentCommand),
    /// Time has passed.
    Tick,
}

/// What the unit files say.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub struct Discovery {
    pub found: BTreeMap<UnitName, Found>,
    /// What the stops of each unit's members take, in milliseconds.
    pub members_stop_ms: BTreeMap<UnitName, u64>,
}

/// One look at a unit.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub struct Look {
    pub reading: Reading,
    pub remembered: Remembered,
    /// What is left of a unit that is down, in words.
    pub left: Option<String>,
    /// State of the manager; asked only when the unit is down.
    pub manager: Option<SystemState>,
    /// The units of its `BindsTo=`; asked only when it is down.
    pub bonds: Bonds,
    /// Units that may have taken it with them: those that it stops with and that are not active, and its rivals that
    /// are. Asked only when it is down without an error.
    pub partners_gone: Vec<String>,
}

/// One look at a unit whose start waits at the gate.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub struct GateLook {
    pub reading: Reading,
    pub manager: SystemState,
    pub upheld_by_active: Vec<String>,
    pub active_triggers: Vec<String>,
}

/// How an operation ended.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub enum End {
    /// It was looked at.
    Looked(Box<Look>),
    /// The start's job is over; whether the unit runs says the look.
    Started {
        /// How the job ended, where that explains a failure.
        job: String,
        look: Box<Look>,
    },
    /// Verified: nothing of it is left.
    Gone(Box<Look>),
    /// The freezer was asked.
    Froze(Result<Box<Look>, String>),
    /// The thaw was asked.
    Thawed(Result<Box<Look>, String>),
    /// It could not be carried out.
    Failed(Failure),
}

/// Why an operation was not carried out.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The connection to PID 1 is lost: everything will be looked at again.
    Connection(String),
    /// There was no lease just before the start (F8).
    NoLease,
    /// The machine goes down.
    Leaving,
    /// Anything else, in words.
    Other(String),
}

impl Failure {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::NoLease => "this node's lease has ended: it has no session with a leader".to_owned(),
            Self::Leaving => "this node is shutting down".to_owned(),
            Self::Connection(why) | Self::Other(why) => why.clone(),
        }
    }
}

/// An operation on one unit.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub enum Work {
    /// Looks at it, after a pause.
    Look { watch: bool, after: Duration, gone: Option<Program> },
    /// Starts it; the permit file is in place.
    Start { triggers: Vec<String>, timeout: Option<Duration> },
    /// Stops it and verifies that it is gone.
    Stop(Box<Stop>),
    /// Freezes it.
    Freeze,
    /// Thaws it.
    Thaw,
}

/// A stop and its verification.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub struct Stop {
    /// Units that are gated on the same permit and go with it.
    pub members: BTreeSet<String>,
    pub remembered: Remembered,
    /// Says whether anything is left outside the unit's processes.
    pub gone: Option<Program>,
    /// After this the group is killed.
    pub budget: Duration,
    pub if_stuck: IfStuck,
    /// Whether it was seen to be down.
    pub down: bool,
    /// Whether it is frozen: then it is killed, and never stopped (F26).
    pub frozen: bool,
    /// An operator's stop, to be on disk before the release is told (F10).
    pub spool: Option<Spooled>,
}

/// What follows when a stop does not end within its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfStuck {
    /// It is told, and tried again.
    Report,
    /// The same, and after a while the node is taken down.
    TakeDownLater,
    /// The node is taken down at once: its lease has ended (F8).
    TakeDown,
}

/// An operator's stop on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub struct Spooled {
    pub unit: UnitName,
    pub node: NodeId,
    pub token: Token,
    pub by: String,
}

/// What the agent does. Carried out in order, each to its end or to a task that reports back.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made, sent and taken one at a time: nothing holds many")]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub enum Action {
    /// Writes a permit file for what runs already, if there is a lease.
    File { unit: UnitName, permit: Permit },
    /// Writes the files, answers the gates, and begins the start; each step only if there is a lease.
    Start {
        op: OpId,
        unit: UnitName,
        permit: Permit,
        environment: Environment,
        triggers: Vec<String>,
        /// `TimeoutStartSec=`; none for `infinity`.
        timeout: Option<Duration>,
        gates: Vec<oneshot::Sender<Answer>>,
    },
    /// Takes a permit file out of the gate's sight; what it says is kept until the unit is gone.
    Unfile { unit: UnitName },
    /// Forgets a permit that was taken out of sight.
    Forget { unit: UnitName },
    /// A start that is made once was begun: its files go out of the gate's sight (F16).
    Spend { unit: UnitName, permit: Permit },
    /// Runs a program of a clustered service, after a pause; without one, looks whether it is active.
    Probe { id: OpId, unit: UnitName, question: Question, program: Option<Program>, after: Duration },
    /// Calls such a look off; its end is told.
    EndProbe { id: OpId, unit: UnitName, question: Question },
    /// Begins an operation; what is under way on the unit is ended first.
    Begin { op: OpId, unit: UnitName, work: Work },
    /// Sends a fact, after the floors were saved.
    Send { number: Number, fact: Fact },
    /// Writes the list of cluster units.
    KeepGated(String),
    /// Reads the unit files.
    Discover,
    /// Has PID 1 read its files again.
    Reload,
    /// Writes a gate of last resort.
    Mend { unit: UnitName },
    /// Takes it away.
    Unmend { unit: UnitName },
    /// Tells the unit's own journal.
    Tell(units::systemd::journal::Line),
    /// Looks at a unit for a gate.
    GateLook { id: GateId, unit: UnitName },
    /// Asks the cluster for a gate.
    GateAsk { id: GateId, unit: UnitName, wish: Option<String> },
    /// Answers a gate.
    GateAnswer { reply: oneshot::Sender<Answer>, answer: Answer },
    /// Withdraws a gate's question.
    GateDrop { id: GateId },
    /// Comes back to a gate that has gone.
    GateSettle { id: GateId, unit: UnitName, since: Duration },
    /// Takes back what a gate asked for, in a person's name.
    Withdraw { id: GateId, unit: UnitName, by: String },
    /// An operator's stop has been answered.
    Unspool { unit: UnitName, token: Token },
    /// Runs a fence agent.
    Fence(Box<FenceOrder>),
    /// Looks at a node's power.
    Power(Box<LookOrder>),
    /// Switches a node's power on.
    SwitchOn(Box<SwitchOnOrder>),
    /// Arms this node's watchdog. How that went is told.
    Arm,
    /// Disarms it, and waits for that.
    Disarm,
    /// Gives up the lease.
    EndLease,
    /// Has another session opened.
    Renew,
    /// Takes the node down; nothing follows.
    TakeDown { unit: Option<UnitName>, why: String },
    /// Ends the agent.
    Exit(oneshot::Sender<()>),
    /// Answers a question of the daemon.
    Show(oneshot::Sender<super::command::Snapshot>, Box<super::command::Snapshot>),
}

/// Keys of tasks for other nodes.
#[derive(Debug, Default)]
pub(super) struct Errands {
    /// What the open session asks for.
    pub(super) ordered: Ordered,
    pub(super) fences: BTreeSet<(policy::CaseId, u32)>,
    /// Looks under way or lately done: the call, and the time of the next such at the earliest.
    pub(super) looks: BTreeMap<(String, NodeId, policy::Incarnation), (AgentCall, u64)>,
    /// What is being switched on, or was and is ordered still.
    pub(super) switch_on: BTreeSet<SwitchKey>,
    /// Those that are never to run again, as long as this daemon lives. Each is of a decision of its own, and rare.
    pub(super) once: BTreeSet<SwitchKey>,
}

/// What tells one order to switch on from another: device, node, after which attempt, how often it had failed, and by
/// which settings.
pub(super) type SwitchKey = (String, NodeId, u64, u32, u64);

/// Tasks for other nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Ordered {
    pub(super) fences: Vec<FenceOrder>,
    pub(super) looks: Vec<LookOrder>,
    pub(super) switch_on: Vec<SwitchOnOrder>,
}
