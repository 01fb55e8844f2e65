//! What `convoke` shows: the same structures over D-Bus, as JSON, and to the text renderer.
//!
//! Stable for scripts: fields are added, never renamed or taken away.

mod assembly;
mod forecast;

use serde::{Deserialize, Serialize};

pub use assembly::{AssemblyLine, DataLine, ElectionLine, FormationLine, WordLine};
pub use forecast::{ChangeLine, Forecast, StepLine};

/// The state of the cluster, as its leader sees it, or as a voter remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// Cluster's name.
    pub cluster: String,
    /// Cluster's id.
    pub cluster_id: String,
    /// Whether a majority of voters confirmed this picture. Without, it is what this node last knew.
    pub quorum: bool,
    /// Leader's name.
    pub leader: Option<String>,
    /// Raft term.
    pub term: u64,
    /// Log index that the picture was taken at.
    pub index: u64,
    /// Nodes by name.
    pub nodes: Vec<NodeLine>,
    /// Units by name.
    pub units: Vec<UnitLine>,
    /// Open fence cases.
    pub fences: Vec<FenceLine>,
    /// Closed ones of the nodes' present lives.
    #[serde(default)]
    pub fences_closed: Vec<FenceLine>,
    /// Links that are down.
    pub links: Vec<LinkLine>,
    /// What people have their hands on, and the cluster leaves alone.
    #[serde(default)]
    pub maintenance: Vec<MaintenanceLine>,
    /// Who drained the whole cluster, so that nothing runs and nothing starts; none if nobody did.
    #[serde(default)]
    pub drained: Option<String>,
    /// What somebody should look at, worst first.
    pub alarms: Vec<AlarmLine>,
    /// What is wrong with the set of units, whether or not they are to run; `None` from a node that cannot tell.
    #[serde(default)]
    pub findings: Option<Vec<FindingLine>>,
    /// Whether the node that made it foretells what changed files of a unit would lead to; an older one cannot.
    #[serde(default)]
    pub foretells_files: bool,
    /// Set if nobody confirms this picture: why, and what this node still knows for certain.
    #[serde(default)]
    pub memory: Option<Memory>,
}

/// A maintenance that was begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceLine {
    /// `cluster`, `node` or `unit`.
    pub kind: String,
    /// Which; none for the cluster.
    pub name: Option<String>,
    /// Who began it.
    pub by: String,
    /// What for.
    pub reason: Option<String>,
    /// When, wall clock, milliseconds since 1970.
    pub since_wall_ms: u64,
    /// What it means, in one sentence.
    pub text: String,
    /// What ends it.
    pub remedy: String,
}

/// Something wrong with the definitions of units, or with where the votes are, which no waiting mends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingLine {
    /// `error` if something cannot run as long as this stands, or if a witness is of no use where it is; else `warning`.
    pub severity: String,
    /// A stable word for what it is (`circle`).
    pub kind: String,
    /// Which unit; of several, the first by name. Empty if it is about the nodes.
    pub unit: String,
    /// Which nodes, if it is about where the votes are.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Those whom it concerns that are not to run now. Empty: it matters now.
    #[serde(default)]
    pub idle: Vec<String>,
    /// One sentence, without the unit's name before it.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// Why a picture is old, and what is known all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The node whose memory it is.
    pub node: String,
    /// Why nobody confirms it, in one sentence.
    pub why: String,
    /// Voters that it does not reach.
    pub unreached: Vec<String>,
    /// How long ago its lease ended, in seconds; none if it lasts, or there was none since the boot.
    pub lease_ended_s: Option<u64>,
    /// Whether it keeps the cluster's log: a member does not, and knows its own units only.
    pub keeps_log: bool,
    /// Its own units as they are now.
    pub here: Vec<HereLine>,
}

/// One unit of the node that answers, as PID 1 shows it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HereLine {
    /// Which.
    pub unit: String,
    /// `running`, `starting`, `stopping`, `stopped`, `frozen` or `unknown`.
    pub state: String,
    /// The permit that the node acts under.
    pub token: Option<u64>,
    /// One sentence.
    pub text: String,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLine {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u64,
    /// `voter`, `member` or `witness`.
    pub role: String,
    /// `online`, `joining` (no inventory yet), `leaving`, `away` (after an orderly shutdown; holds nothing), `lost`,
    /// `fencing`, `fenced`, `cut-off` (from what it shares; it may still run) or `unknown` (never heard).
    pub state: String,
    /// Whether it is drained, by itself or with the cluster, and by whom.
    pub drained: Option<String>,
    /// Whether it is in maintenance, by itself or with the cluster.
    #[serde(default)]
    pub maintenance: bool,
    /// `ready`, `unready`, `none` or `unknown`, and why not ready.
    pub fencing: String,
    /// Fence devices, level by level: `bmc-n1, then pdu-a and pdu-b`.
    pub device: Option<String>,
    /// What a device of the first level last showed if that was not ON.
    pub fencing_error: Option<String>,
    /// The devices, level by level.
    #[serde(default)]
    pub devices: Vec<DeviceLine>,
    /// The last drill of each level that was drilled.
    #[serde(default)]
    pub drills: Vec<DrillLine>,
    /// What the node said of the watchdog that resets it; none if it said nothing, as where no unit rests on one.
    #[serde(default)]
    pub watchdog: Option<WatchdogLine>,
    /// Where it is reached.
    pub addresses: Vec<String>,
    /// Units that hold a permit there.
    pub units: Vec<String>,
    /// Seconds of quarantine that are left.
    pub quarantine_s: Option<u64>,
    /// How often it fell silent of late, one time soon after the other; not counted what was asked for.
    #[serde(default)]
    pub losses: usize,
    /// It stays off although fenced nodes are switched on again, because it was fenced too often.
    #[serde(default)]
    pub left_off: bool,
    /// For how many seconds more it takes nothing that another node can run, because of that.
    #[serde(default)]
    pub held_back_s: Option<u64>,
    /// How its last life ended, if not in order.
    #[serde(default)]
    pub last_end: Option<EndLine>,
    /// Present incarnation.
    pub incarnation: Option<String>,
}

impl NodeLine {
    /// What the node is for, if this version knows the word.
    #[must_use]
    pub fn role(&self) -> Option<policy::Role> {
        match self.role.as_str() {
            "voter" => Some(policy::Role::Voter),
            "member" => Some(policy::Role::Member),
            "witness" => Some(policy::Role::Witness),
            _ => None,
        }
    }
}

/// How a life of a node ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndLine {
    /// `fenced`, `declared-off` (by an operator's word), `rebooted` (before anybody had it proven off),
    /// `cut-off` or `gone`.
    pub how: String,
    /// When that was known, wall clock in milliseconds since 1970.
    pub wall_ms: u64,
    /// Seconds ago.
    pub ago_s: u64,
    /// Through which devices.
    pub device: Option<String>,
    /// Which node ran their agents.
    pub executor: Option<String>,
    /// Which unit waited for it; or which drill it was, in words.
    pub because: Option<String>,
    /// Units that it held until then.
    pub held: Vec<String>,
    /// One sentence, to go after the node's name.
    pub text: String,
}

/// The watchdog of a node, as that said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchdogLine {
    /// Which device is armed and fed by convoked; none if none is.
    pub device: Option<String>,
    /// How long after it was last fed it resets the node, in milliseconds, as read back.
    pub timeout_ms: Option<u64>,
    /// How long it has been armed, in seconds.
    pub since_s: Option<u64>,
    /// Why none is armed.
    pub error: Option<String>,
}

/// One unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitLine {
    /// Its name.
    pub name: String,
    /// `started` or `stopped`; `unknown` from a member without a quorum.
    pub goal: String,
    /// Who asked for the goal.
    pub goal_by: Option<String>,
    /// `active`, `starting`, `restarting` (by its own systemd), `stopping`, `stopped`, `waiting`, `partial` (fewer copies than
    /// wanted), `unknown` (on a lost node only), `down` (in maintenance, stopped by a person) or `undefined` (no definition
    /// in force).
    pub state: String,
    /// Copies that run, or may.
    pub copies: Vec<CopyLine>,
    /// Copies wanted; `None` for all.
    pub wanted: Option<u32>,
    /// Whether S1 covers it.
    pub exclusive: bool,
    /// Whether it is in maintenance, by itself or with the cluster.
    #[serde(default)]
    pub maintenance: bool,
    /// The first reason why it is not where one would expect.
    pub reason: Option<String>,
    /// Where it failed, if that was everywhere: nothing runs, and nothing is tried before the first of these is over.
    #[serde(default)]
    pub failed: Vec<FailedLine>,
    /// How it comes up, if it is a clustered service.
    #[serde(default)]
    pub assembly: Option<AssemblyLine>,
}

/// One copy of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyLine {
    /// Where.
    pub node: String,
    /// `active`, `starting`, `restarting`, `stopping`, `unknown` (node lost), `down` (in maintenance, stopped by a person) or
    /// `stray` (without a permit).
    pub state: String,
    /// Permit.
    pub token: Option<u64>,
    /// Whether it was adopted: it has no `CONVOKE_TOKEN`.
    pub adopted: bool,
}

/// A node on which a unit failed too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedLine {
    /// Where.
    pub node: String,
    /// How, the last time.
    pub why: String,
    /// Seconds until it may be tried there again.
    pub retry_s: u64,
}

/// A fence device as it sees one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLine {
    /// Its name.
    pub name: String,
    /// Its level.
    pub level: u32,
    /// Whether it cuts the node off instead of switching its power.
    #[serde(default)]
    pub isolates: bool,
    /// `ready`: it showed this life of the node with power on; `unready` or `unknown`.
    pub state: String,
    /// What it showed if not that.
    pub error: Option<String>,
    /// Seconds since it was last asked.
    pub asked_s: Option<u64>,
    /// The node that had its last answer about this one: it is the first that is asked to fence it.
    #[serde(default)]
    pub answered_by: Option<String>,
    /// Nodes that could not run its agent, in words: others are asked in their place.
    #[serde(default)]
    pub unable: Vec<String>,
}

/// The last drill of one level of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillLine {
    /// The level.
    pub level: u32,
    /// Its devices: `pdu-a and pdu-b`.
    pub device: String,
    /// Log index of the wish.
    pub case: u64,
    /// Who asked; empty if it was no drill but a fence after which the node spoke.
    pub by: String,
    /// When it ended, wall clock in milliseconds since 1970.
    pub wall_ms: u64,
    /// Whether the node was off, and fell silent.
    pub passed: bool,
    /// Milliseconds from the begin of the attempt to the devices' word.
    pub off_ms: Option<u64>,
    /// From there to the node's next life, once there is one.
    pub back_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// The level does not count: it said off while the node went on.
    pub lied: bool,
    /// One sentence.
    pub text: String,
}

/// One fence case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceLine {
    /// Target.
    pub node: String,
    /// Its incarnation: what an operator vouches for.
    pub incarnation: String,
    /// `wanted`, `running` or `failed`; closed: `proven`, `cancelled` or `contradicted`.
    pub state: String,
    /// Devices of the level in use, or of all levels.
    pub device: Option<String>,
    /// Attempts begun.
    pub attempts: u32,
    /// The last error.
    pub error: Option<String>,
    /// Seconds until the next attempt.
    pub next_in_s: Option<u64>,
    /// Which unit waits; or which drill it is, in words.
    pub because: String,
    /// Whether it is a drill.
    #[serde(default)]
    pub drill: bool,
    /// Log index at which it was opened.
    #[serde(default)]
    pub case: u64,
    /// One sentence.
    pub text: String,
}

/// A link that is down while both ends live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLine {
    /// One end.
    pub from: String,
    /// The other.
    pub to: String,
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmLine {
    /// `alert` or `warning`.
    pub severity: String,
    /// One sentence.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// Why a unit is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitWhy {
    /// The unit, as `status` shows it.
    pub unit: UnitLine,
    /// Whether a majority confirmed it.
    pub quorum: bool,
    /// What holds it, most important first; empty if nothing does.
    pub reasons: Vec<WhyLine>,
    /// Where it last ran, and what happened there lately.
    pub history: Vec<HistoryLine>,
    /// Set if nobody confirms this.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// The definition in force.
    #[serde(default)]
    pub definition: Option<Keys>,
    /// What each node's files say of it, and whether it may run there.
    #[serde(default)]
    pub offers: Vec<OfferLine>,
}

/// A definition, as the keys of `[X-Convoke]` with their values; those that say nothing are left out.
pub type Keys = std::collections::BTreeMap<String, String>;

/// One node's files of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferLine {
    /// Which node.
    pub node: String,
    /// Whether the section is there now.
    pub present: bool,
    /// What it says, where it has no errors.
    pub definition: Option<Keys>,
    /// What is wrong with it.
    pub fault: Option<String>,
    /// Why the node may not take the unit now, if so.
    pub unfit: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyLine {
    /// The rule, as the book numbers it (`S1`).
    pub rule: String,
    /// The fact.
    pub fact: String,
    /// What would release it.
    pub release: String,
}

/// One line of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// Log index.
    pub index: u64,
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: u64,
    /// Cluster time in milliseconds: differences are exact.
    pub time_ms: u64,
    /// `info`, `warning` or `alert`.
    pub severity: String,
    /// Which node.
    pub node: Option<String>,
    /// Which unit.
    pub unit: Option<String>,
    /// A stable word for what happened (`unit-granted`).
    pub kind: String,
    /// One sentence.
    pub text: String,
    /// What it says of a fence, for those kinds that do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceStep>,
}

/// A step of a fence case, as numbers and names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceStep {
    /// Log index at which the case was opened.
    pub case: u64,
    /// Number of the attempt.
    pub attempt: Option<u32>,
    /// Devices, in words.
    pub device: Option<String>,
    /// Who ran the agent.
    pub executor: Option<String>,
    /// How it ended: the evidence, or what went wrong.
    pub result: Option<String>,
}
