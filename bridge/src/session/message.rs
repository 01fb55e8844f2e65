//! What a node and the leader say to each other in a session.
//!
//! One connection, one session: the leader challenges, the node says who it is, and from then on beats go up and states
//! come down. Frames are MessagePack with named fields; unknown fields are ignored, so that a session survives a
//! rolling upgrade.

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    AgentAction, CaseId, Device, Fact, Incarnation, NodeId, NodeView, Refusal, Severity, Suppose, Token,
    UnitName, Wish,
};
use serde::{Deserialize, Serialize};

use crate::api::model::{Forecast, Overview, UnitWhy};
use crate::join::Peer;

/// A number that answers are matched by; unique within a session.
pub type Number = u64;

const fn first_level() -> u32 {
    1
}

/// What a voter's state was, for the leader to compare with that of the others (F20).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Index of the last entry in it.
    pub index: u64,
    /// Which program made it: what different ones made is not compared.
    pub program: String,
    /// SHA-256 of its gist, hexadecimal.
    pub state: String,
}

/// From a node to the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "made, sent and taken one at a time: nothing holds many")]
pub enum Up {
    /// Who it is; the answer to [`Down::Challenge`].
    Hello {
        /// The nonce of the challenge (F3).
        nonce: u64,
        /// Present life of the node.
        incarnation: Incarnation,
        /// Machine id, and firmware's id where there is one.
        machine: String,
        /// Where it can be reached.
        addresses: Vec<String>,
        /// Number of the last session that this life had; a lower one than the leader knows means that the node
        /// was rolled back (F21).
        last_session: u64,
        /// Version of convoked on it.
        version: String,
        /// The highest feature level that it knows (F20). One that says none knows the first.
        #[serde(default = "first_level")]
        level: u32,
        /// It goes down: nothing is to be granted to it in this session either (F30).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        leaving: bool,
    },
    /// "I am here, and PID 1 answers." Answered after a quorum round that began later (F5).
    Beat {
        /// Rises; the answer names it.
        nonce: u64,
        /// Voters that this node does not reach directly.
        cut_off_from: BTreeSet<NodeId>,
        /// What the state of this voter was; nothing where there is none to speak of (F20).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// It was a voter, and takes no part any more: its state was another one than that of most voters.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        set_aside: bool,
    },
    /// A fact about this node, or of a task that it was given. Sent again in each session until it is answered.
    Fact {
        /// For the answer.
        number: Number,
        /// The fact.
        fact: Fact,
    },
    /// A question, or an operator's wish.
    Ask {
        /// For the answer.
        number: Number,
        /// What is asked.
        request: Request,
    },
    /// The asker has gone: the answer is not wanted any more (F34).
    Withdraw {
        /// Of the question.
        number: Number,
    },
}

/// From the leader to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Down {
    /// The first frame of the leader.
    Challenge {
        /// To be sent back in the hello.
        nonce: u64,
        /// Leader's term.
        term: u64,
    },
    /// The first frame of a voter that does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
        /// Nodes and addresses, so that a node that was away learns of new ones.
        book: Vec<Peer>,
    },
    /// The session is open; its lease counts from the sending of the hello.
    Welcome {
        /// Number of the session.
        session: u64,
        /// How long the lease is, in milliseconds.
        lease_ms: u64,
        /// How often to beat, in milliseconds.
        beat_ms: u64,
        /// What the cluster calls lost, in milliseconds; other times derive from it.
        detect_ms: u64,
    },
    /// No session.
    Denied(Denial),
    /// The beat counts: the lease now ends `lease_ms` after that beat was sent.
    Beaten {
        /// Of the beat.
        nonce: u64,
        /// How long the lease is, in milliseconds.
        lease_ms: u64,
        /// When to send the next beat, in milliseconds from now: all nodes' beats share one quorum round.
        next_in_ms: u64,
        /// The state of this voter is another one than that of most voters, in words: it must not vote any more (F20).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parted: Option<String>,
    },
    /// The state that concerns this node, whole, as of one applied index (F2).
    State(Box<Orders>),
    /// What became of a fact.
    FactTaken {
        /// Of the fact.
        number: Number,
        /// Applied, or refused; either way it need not be sent again.
        outcome: Result<(), Refusal>,
    },
    /// The answer to a question.
    Answer {
        /// Of the question.
        number: Number,
        /// The answer.
        reply: Reply,
    },
    /// Nodes and addresses have changed.
    Book(Vec<Peer>),
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denial {
    /// This life was proven ended: reboot now, without an orderly stop (F18).
    RebootNow {
        /// Why, in words.
        why: String,
    },
    /// This machine may not use this identity (F3).
    Identity {
        /// Why, in words.
        why: String,
    },
    /// The node is no longer one of the cluster.
    Removed,
    /// Its software does not know what is in force (F20).
    OldSoftware {
        /// Why, in words.
        why: String,
    },
    /// Not now; try again.
    Later {
        /// Why, in words.
        why: String,
    },
}

/// Everything that one node's agent acts on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Permits and units.
    pub view: NodeView,
    /// Fence attempts that this node executes.
    pub fences: Vec<FenceOrder>,
    /// Looks at other nodes' power that this node takes.
    pub looks: Vec<LookOrder>,
    /// Power that this node gives back to others after a fence.
    pub switch_on: Vec<SwitchOnOrder>,
    /// What is new for units that the node offers. Said once, and in no later orders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// A line for a unit's own journal. Nothing follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Which unit.
    pub unit: UnitName,
    /// How much it matters.
    pub severity: Severity,
    /// The line.
    pub text: String,
}

/// A call of a fence agent, complete but for its secrets, which the executor has by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCall {
    /// The device's name.
    pub device: String,
    /// The agent's program name.
    pub agent: String,
    /// Options, the device's and the target's together.
    pub options: BTreeMap<String, String>,
    /// Options whose value the executor has by itself (name → where, as in the settings).
    pub secrets: BTreeMap<String, String>,
    /// Deadline of one call, in milliseconds.
    pub timeout_ms: u64,
    /// Deadlines of the calls for one action, where they are others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub timeouts: BTreeMap<AgentAction, u64>,
    /// How many attempts the device takes at a time.
    pub at_once: u32,
    /// Index of the settings that say all this.
    pub configured: u64,
    /// The target.
    pub node: NodeId,
    /// The target's name.
    pub node_name: String,
}

impl AgentCall {
    /// Of a device for a node; `None` if the node is none of its targets.
    #[must_use]
    pub fn of(name: &str, device: &Device, node: NodeId, node_name: String, configured: u64) -> Option<Self> {
        let mut options = device.options.clone();
        options.extend(device.targets.get(&node)?.clone());
        Some(Self {
            device: name.to_owned(),
            agent: device.agent.clone(),
            options,
            secrets: device.secrets.clone(),
            timeout_ms: device.timeout_ms,
            timeouts: device.timeouts.clone(),
            at_once: device.at_once,
            configured,
            node,
            node_name,
        })
    }

    /// Deadline of a call for that, in milliseconds.
    #[must_use]
    pub fn deadline_ms(&self, action: AgentAction) -> u64 {
        self.timeouts.get(&action).copied().unwrap_or(self.timeout_ms)
    }
}

/// A committed fence attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceOrder {
    /// Which case.
    pub case: CaseId,
    /// Which attempt.
    pub attempt: u32,
    /// How: a call for each device of the level, by the devices' names. All are to say off.
    pub calls: Vec<AgentCall>,
    /// Of those with which each node registers itself, the calls for the executor. All are to say on after that: where its own
    /// registration is gone too, whatever kept them has forgotten all, and refuses nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<AgentCall>,
}

/// A node's power is to be switched on. Nothing waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchOnOrder {
    /// After which attempt: its index.
    pub since: u64,
    /// How often it failed before: each try is another order.
    pub failures: u32,
    /// Whether it is never run twice: a decision of the cluster, and no errand that is repeated until it works.
    #[serde(default)]
    pub once: bool,
    /// How.
    pub call: AgentCall,
}

/// A look at a node's power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookOrder {
    /// The life that is looked at.
    pub incarnation: Incarnation,
    /// How.
    pub call: AgentCall,
}

/// What is asked of the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// An operator's wish. `client` and `number` make a repeat harmless (F10).
    Wish {
        /// Unique to the asking process.
        client: String,
        /// Rises with each wish of it.
        number: u64,
        /// The wish.
        wish: Wish,
    },
    /// A unit is about to start: may it? (F9)
    Gate {
        /// Which unit.
        unit: UnitName,
        /// Set if a person asks for the start: who.
        wish: Option<String>,
        /// The gate's name, which no other gate of the node ever has: asked again, it is the same question.
        gate: String,
    },
    /// Just before the agent runs: is this attempt still to be made? (F24)
    MayFence {
        /// Which case.
        case: CaseId,
        /// Which attempt.
        attempt: u32,
    },
    /// Just before the agent runs: is this power still to be switched on? A person may have the hands in the machine by now.
    MaySwitchOn {
        /// Whose.
        node: NodeId,
        /// Through which device.
        device: String,
        /// After which attempt.
        since: u64,
        /// Index of the settings that the order was made by.
        configured: u64,
    },
    /// Everything that `status`, `list-units` and `list-nodes` show.
    Overview,
    /// Why a unit is where it is.
    Why {
        /// Which unit.
        unit: UnitName,
    },
    /// The last lines of the history, oldest first.
    History {
        /// At most so many.
        lines: usize,
        /// Only of this unit.
        unit: Option<UnitName>,
        /// Only of this node, by name.
        node: Option<String>,
    },
    /// A machine asks to join, over another voter.
    Enroll {
        /// Unique to the joiner's attempt.
        attempt: String,
        /// The wish; always [`Wish::Enroll`].
        wish: Wish,
    },
    /// The settings document.
    Config,
    /// What would happen. Asked of a leader only whose [`Overview`] shows that it knows the question.
    Forecast {
        /// If this were so.
        supposed: Vec<Suppose>,
    },
}

/// The client in whose name a gate's wish is recorded.
pub(crate) fn gate_client(node: NodeId, gate: &str) -> String {
    format!("gate {node} {gate}")
}

/// The leader's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The wish was recorded at this index, or refused.
    Wish(Result<u64, Refusal>),
    /// The answer to a gate.
    Gate(GateAnswer),
    /// Whether to run the agent.
    MayRun(bool),
    /// The state of the cluster.
    Overview(Box<Overview>),
    /// The reasons.
    Why(Result<Box<UnitWhy>, Refusal>),
    /// Lines of history.
    History(Vec<crate::api::model::HistoryLine>),
    /// The new node's id, its role and the cluster's generation.
    Enrolled {
        /// The id.
        node: NodeId,
        /// What it is to be.
        role: policy::Role,
        /// Generation (F14).
        generation: u16,
        /// All nodes, the new one too.
        book: Vec<Peer>,
        /// Cluster's name.
        cluster_name: String,
    },
    /// The settings in force.
    Config {
        /// Times.
        settings: policy::Settings,
        /// Devices by name.
        devices: BTreeMap<String, policy::Device>,
        /// Each node's name and attributes.
        nodes: BTreeMap<NodeId, (String, BTreeMap<String, String>)>,
    },
    /// What would happen, or the refusal of what was to be asked for.
    Forecast(Result<Box<Forecast>, Refusal>),
    /// The leader could not tell; the text says why.
    Unable(String),
    /// There is a leader, and no answer to this question from anybody: the text says why, and what to do.
    Declined(String),
}

/// What the gate lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GateAnswer {
    /// The unit may start here: a permit was granted.
    Granted {
        /// The permit.
        token: Token,
    },
    /// It may not.
    Refused {
        /// In one sentence.
        why: String,
        /// What to do about it.
        remedy: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_of_older_nodes_and_for_them_are_understood() {
        /// As they were before voters compared their states.
        #[derive(Debug, Serialize, Deserialize)]
        enum Old {
            Beat { nonce: u64, cut_off_from: BTreeSet<NodeId> },
        }
        let bytes = rmp_serde::to_vec_named(&Old::Beat { nonce: 7, cut_off_from: BTreeSet::new() });
        let up: Up = rmp_serde::from_slice(&bytes.expect("encoded")).expect("a beat");
        assert!(matches!(up, Up::Beat { nonce: 7, digest: None, set_aside: false, .. }), "{up:?}");

        let digest = Some(Digest { index: 8, program: "p".to_owned(), state: "s".to_owned() });
        let beat = Up::Beat { nonce: 9, cut_off_from: BTreeSet::new(), digest, set_aside: true };
        let bytes = rmp_serde::to_vec_named(&beat).expect("encoded");
        let Old::Beat { nonce, cut_off_from } = rmp_serde::from_slice(&bytes).expect("a beat");
        assert_eq!((nonce, cut_off_from.len()), (9, 0));
    }
}
