//! What a script reads from `convoke --json`: only the fields that the scenarios rest on.

use serde::Deserialize;

/// `convoke status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Overview {
    /// Whether a majority confirmed it.
    pub quorum: bool,
    /// Leader's name.
    pub leader: Option<String>,
    /// Log index.
    pub index: u64,
    /// Nodes.
    pub nodes: Vec<NodeStatus>,
    /// Units.
    pub units: Vec<UnitStatus>,
    /// Open fence cases.
    pub fences: Vec<Fence>,
    /// Links that are down.
    pub links: Vec<Link>,
    /// What is left alone.
    pub maintenance: Vec<Maintenance>,
    /// Who drained the whole cluster.
    pub drained: Option<String>,
    /// What needs somebody's eye.
    pub alarms: Vec<Alarm>,
}

/// A maintenance.
#[derive(Clone, Debug, Deserialize)]
pub struct Maintenance {
    /// Of which node or unit; none for the cluster.
    pub name: Option<String>,
}

/// A node.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    /// Name.
    pub name: String,
    /// `voter`, `member`, `witness`.
    pub role: String,
    /// `online`, `lost`, …
    pub state: String,
    /// Who drained it.
    pub drained: Option<String>,
    /// `ready`, `unready`, `none`, `unknown`.
    pub fencing: String,
    /// What its device showed, if not ON.
    pub fencing_error: Option<String>,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Units that hold a permit there.
    pub units: Vec<String>,
    /// Seconds of quarantine left.
    pub quarantine_s: Option<u64>,
    /// How often it fell silent of late.
    pub losses: usize,
    /// How its last life ended, if not in order.
    pub last_end: Option<End>,
}

/// How a node's last life ended.
#[derive(Clone, Debug, Deserialize)]
pub struct End {
    /// `fenced`, `cut-off`, `declared-off`, `rebooted`.
    pub how: String,
    /// Through which devices.
    pub device: Option<String>,
    /// Which node ran their agents.
    pub executor: Option<String>,
    /// What waited for it.
    pub because: Option<String>,
}

/// A fence device of a node.
#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    /// Name.
    pub name: String,
    /// `ready`, `unready`, `unknown`.
    pub state: String,
    /// Who had its last answer, and is asked first to fence the node.
    pub answered_by: Option<String>,
}

/// A unit.
#[derive(Clone, Debug, Deserialize)]
pub struct UnitStatus {
    /// Name.
    pub name: String,
    /// `started` or `stopped`.
    pub goal: String,
    /// Who set it.
    pub goal_by: Option<String>,
    /// `active`, `stopped`, `waiting`, …
    pub state: String,
    /// Its copies.
    pub copies: Vec<Copy>,
    /// Whether only one may run.
    pub exclusive: bool,
    /// Why it is not where one would expect.
    pub reason: Option<String>,
}

/// A copy of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Copy {
    /// Where.
    pub node: String,
    /// `active`, `starting`, `stopping`, `unknown`, `stray`.
    pub state: String,
    /// Permit.
    pub token: Option<u64>,
    /// Whether it was found running.
    pub adopted: bool,
}

/// A fence case.
#[derive(Clone, Debug, Deserialize)]
pub struct Fence {
    /// Target.
    pub node: String,
    /// `wanted`, `running`, `failed`.
    pub state: String,
    /// Device.
    pub device: Option<String>,
    /// Attempts begun.
    pub attempts: u32,
    /// The last error.
    pub error: Option<String>,
    /// One sentence.
    pub text: String,
}

/// A link that is down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Link {
    /// One end.
    pub from: String,
    /// The other.
    pub to: String,
}

/// An alarm.
#[derive(Clone, Debug, Deserialize)]
pub struct Alarm {
    /// `alert` or `warning`.
    pub severity: String,
    /// One sentence.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// `convoke why --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Why {
    /// The unit.
    pub unit: UnitStatus,
    /// What holds it.
    pub reasons: Vec<WhyReason>,
}

/// One reason.
#[derive(Clone, Debug, Deserialize)]
pub struct WhyReason {
    /// The rule.
    pub rule: String,
    /// The fact.
    pub fact: String,
    /// What would release it.
    pub release: String,
}

/// A line of `convoke events --json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Change {
    /// Log index.
    pub index: u64,
    /// Wall clock.
    pub wall_ms: u64,
    /// Cluster time.
    pub time_ms: u64,
    /// Node.
    pub node: Option<String>,
    /// Unit.
    pub unit: Option<String>,
    /// A stable word.
    pub kind: String,
    /// One sentence.
    pub text: String,
}

impl Overview {
    /// A node's line.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeStatus> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// A unit's line.
    #[must_use]
    pub fn unit(&self, name: &str) -> Option<&UnitStatus> {
        self.units.iter().find(|u| u.name == name)
    }

    /// The open fence of a node.
    #[must_use]
    pub fn fence(&self, node: &str) -> Option<&Fence> {
        self.fences.iter().find(|f| f.node == node)
    }

    /// State of a unit, or `unknown to the cluster`.
    #[must_use]
    pub fn state_of(&self, unit: &str) -> &str {
        self.unit(unit).map_or("unknown to the cluster", |u| u.state.as_str())
    }

    /// Where the copies of a unit are active, in order of the nodes' names.
    #[must_use]
    pub fn places(&self, unit: &str) -> Vec<&str> {
        let copies = self.unit(unit).into_iter().flat_map(|u| &u.copies);
        let mut places: Vec<_> = copies.filter(|c| c.state == "active").map(|c| c.node.as_str()).collect();
        places.sort_unstable();
        places
    }

    /// Whether the only copy of a unit is active on this node.
    #[must_use]
    pub fn runs_on(&self, unit: &str, node: &str) -> bool {
        self.unit(unit).is_some_and(|u| matches!(&u.copies[..], [c] if c.node == node && c.state == "active"))
    }

    /// Whether a node is online.
    #[must_use]
    pub fn online(&self, node: &str) -> bool {
        self.node(node).is_some_and(|n| n.state == "online")
    }

    /// Whether an alarm says this.
    #[must_use]
    pub fn alarms_with(&self, words: &[&str]) -> bool {
        self.alarms.iter().any(|a| words.iter().all(|w| a.text.contains(w)))
    }
}
