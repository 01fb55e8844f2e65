//! The replicated state: everything that a decision may rest on.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::command::{Device, Settings};
use crate::drill::Drilled;
use crate::event::Event;
use crate::feature;
use crate::fence::{FenceCase, Observation, Phase, SwitchedOff};
use crate::held::Held;
use crate::maintenance::Maintenance;
use crate::name::{CaseId, Millis, NodeId, Token, UnitName};
use crate::node::Node;
use crate::reach::Reach;
use crate::refusal::Refusal;
use crate::relations::Naming;
use crate::unit::Unit;
use crate::unsaid::Unsaid;

/// Lines of history kept. Enough for a week of a quiet cluster, or for a bad night of a busy one.
pub(crate) const HISTORY: usize = 2_000;
/// Clients whose last result is kept for a repeat. A client is a daemon process, one gate, or one join.
const CLIENTS: usize = 256;
/// While it may still ask again, or take back what it asked for, a client is kept beyond that, in milliseconds of cluster time.
/// Only an operator's stop is tried for longer, and that counts by its permit.
const REPEATS_MS: Millis = 180_000;
/// More than that are never kept.
const CLIENTS_MAX: usize = 4_096;

/// Who leads, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    /// Raft term.
    pub term: u64,
    /// The leader.
    pub leader: NodeId,
    /// Cluster time of its first entry.
    pub since: Millis,
}

/// What an alarm is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    /// A proof of fencing was contradicted: two copies may have run (F18).
    ProofContradicted(NodeId),
    /// Two machines share one identity (F3).
    OtherMachine(NodeId),
    /// A device does not read a living node as on.
    WrongPlug(NodeId, String),
    /// A unit's stop does not come to its end.
    StopStuck(UnitName, NodeId),
    /// A node stays off, because it was fenced too often of late.
    LeftOff(NodeId),
    /// Too many nodes were lost within one lease to believe it at once (F23).
    ManyLost,
}

impl AlarmKind {
    /// The node that it is about.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::ProofContradicted(node)
            | Self::OtherMachine(node)
            | Self::WrongPlug(node, _)
            | Self::LeftOff(node)
            | Self::StopStuck(_, node) => Some(*node),
            Self::ManyLost => None,
        }
    }
}

/// Something that must not go unseen. It stays until its cause is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Since when, wall clock in milliseconds since 1970.
    pub wall_ms: u64,
    /// In words that the source of the fact chose (an agent's, PID 1's).
    pub detail: String,
}

/// A token that lets a machine join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// SHA-256 of its secret.
    pub secret_hash: String,
    /// Cluster time of its end.
    pub expires: Millis,
}

/// The outcome of a client's last command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) number: u64,
    pub(crate) index: u64,
    #[serde(default)]
    pub(crate) time: Millis,
    pub(crate) outcome: Result<(), Refusal>,
}

/// The whole replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct State {
    /// Identity of the cluster; empty before it was founded.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Generation (F14): upper 16 bits of node ids and tokens.
    pub generation: u16,
    /// Index of the last entry applied.
    pub index: u64,
    /// Cluster time of the last entry applied.
    pub time: Millis,
    /// By which level's rules entries are applied (F20).
    #[serde(default = "feature::first")]
    pub feature_level: u32,
    /// Who leads.
    pub tenure: Option<Tenure>,
    /// The maintenance of the whole cluster.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// Who drained the whole cluster, if anybody did.
    #[serde(default)]
    pub drained: Option<String>,
    /// Times.
    pub settings: Settings,
    /// Machines.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Cluster units.
    pub units: BTreeMap<UnitName, Unit>,
    /// Who names a unit in `Conflicts=`, by the definitions in force: for each unit, known or not, those that do.
    #[serde(default)]
    pub(crate) opposed: Naming,
    /// The same for `OtherNodeThan=`.
    #[serde(default)]
    pub(crate) parted: Naming,
    /// Who requires a unit, is bound to it or runs beside it. In no snapshot: it is found again when one is read.
    #[serde(skip)]
    pub(crate) needed: Naming,
    /// Which nodes have to be asked for a unit that holds no permit there. In no snapshot either.
    #[serde(skip)]
    pub(crate) unsaid: Unsaid,
    /// What each node holds. In no snapshot either.
    #[serde(skip)]
    pub(crate) held: Held,
    /// Fence devices.
    pub devices: BTreeMap<String, Device>,
    /// Index of the entry that put them in force.
    #[serde(default)]
    pub configured: u64,
    /// Last look at each node through each device.
    #[serde(with = "pairs")]
    pub observations: BTreeMap<(String, NodeId), Observation>,
    /// What is to have its power back after a fence, by device and node.
    #[serde(default, with = "pairs")]
    pub switched_off: BTreeMap<(String, NodeId), SwitchedOff>,
    /// Until when an agent of which nobody knows how it ended may still open a node's way, by device and node. Kept apart from
    /// what is to be opened: a later opening that ends well takes nothing back of an earlier one.
    #[serde(default, with = "pairs")]
    pub late_openings: BTreeMap<(String, NodeId), Millis>,
    /// What each node in session found when it looked through a device last, by device and node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reach: BTreeMap<String, BTreeMap<NodeId, Reach>>,
    /// Fence cases, closed ones of the present incarnations among them.
    pub cases: BTreeMap<CaseId, FenceCase>,
    /// The last drill of each level of each node.
    #[serde(default)]
    pub drills: BTreeMap<NodeId, BTreeMap<u32, Drilled>>,
    /// Join tokens that are still valid.
    pub tokens: BTreeMap<String, JoinToken>,
    /// Alarms that stand.
    #[serde(with = "pairs")]
    pub alarms: BTreeMap<AlarmKind, Alarm>,
    /// History, oldest first.
    pub history: VecDeque<Event>,
    pub(crate) replies: BTreeMap<String, Reply>,
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The derived function, which `remote` leaves without the trait.
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for State {
    /// Reads what a snapshot holds, and finds again what only follows from it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut state = Self::deserialize(deserializer)?;
        state.find_needed();
        state.find_unsaid();
        state.find_held();
        Ok(state)
    }
}

impl Default for State {
    /// The empty state, before the first entry. It decides nothing.
    fn default() -> Self {
        Self {
            cluster: String::new(),
            name: String::new(),
            generation: 0,
            index: 0,
            time: 0,
            feature_level: feature::first(),
            tenure: None,
            maintenance: None,
            drained: None,
            settings: Settings::default(),
            nodes: BTreeMap::new(),
            units: BTreeMap::new(),
            opposed: BTreeMap::new(),
            parted: BTreeMap::new(),
            needed: BTreeMap::new(),
            unsaid: Unsaid::default(),
            held: Held::default(),
            devices: BTreeMap::new(),
            configured: 0,
            observations: BTreeMap::new(),
            switched_off: BTreeMap::new(),
            late_openings: BTreeMap::new(),
            reach: BTreeMap::new(),
            cases: BTreeMap::new(),
            drills: BTreeMap::new(),
            tokens: BTreeMap::new(),
            alarms: BTreeMap::new(),
            history: VecDeque::new(),
            replies: BTreeMap::new(),
        }
    }
}

impl State {
    /// `generation << 48 | index`: what node ids and tokens are made of (F14).
    #[must_use]
    pub fn number(&self, index: u64) -> u64 {
        (u64::from(self.generation) << 48) | (index & 0xffff_ffff_ffff)
    }

    /// Whether who shows this token may join.
    ///
    /// # Errors
    /// [`Refusal::Impossible`] with what to do, if it is unknown or expired.
    pub fn knows_token(&self, token: &str, secret_hash: &str, now: Millis) -> Result<(), Refusal> {
        let known = self.tokens.get(token).filter(|known| known.secret_hash == secret_hash);
        let why = match known {
            Some(known) if known.expires > now => return Ok(()),
            Some(_) => "the token is expired; get a new one with `convoke token`",
            None => {
                "the cluster does not know this token: it was never issued here, or is long expired; \
                 get a new one with `convoke token`"
            }
        };
        Err(Refusal::Impossible(why.into()))
    }

    /// Whether the last command of this client still has its answer here.
    #[must_use]
    pub fn has_answered(&self, client: &str) -> bool {
        self.replies.contains_key(client)
    }

    /// Keeps what a client was answered, and as many others as there is room for.
    pub(crate) fn keep_reply(&mut self, client: &str, reply: Reply) {
        let may_ask = reply.time.saturating_sub(REPEATS_MS);
        self.replies.insert(client.into(), reply);
        while self.replies.len() > CLIENTS {
            let Some((oldest, reply)) = self.replies.iter().min_by_key(|(_, reply)| reply.index) else {
                return;
            };
            if reply.time > may_ask && self.replies.len() <= CLIENTS_MAX {
                return;
            }
            let oldest = oldest.clone();
            self.replies.remove(&oldest);
        }
    }

    /// The node of that name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().find(|(_, node)| node.name == name).map(|(id, _)| *id)
    }

    /// A node's name, or its number if it was removed.
    #[must_use]
    pub fn node_name(&self, id: NodeId) -> String {
        self.nodes.get(&id).map_or_else(|| alloc::format!("node {id}"), |node| node.name.clone())
    }

    /// Until when no fence attempt begins because too many nodes were lost at once (F23): more than one, and more
    /// than a quarter of all, within one lease. Most likely it was the leader that was slow; a lease later it is known.
    #[must_use]
    pub fn fencing_held_until(&self) -> Option<Millis> {
        let lease = self.settings.lease_ms();
        let lost: Vec<Millis> = self.nodes.values().filter_map(Node::lost_at).collect();
        let latest = lost.iter().copied().max()?;
        let at_once = lost.iter().filter(|since| latest.saturating_sub(**since) <= lease).count();
        let many = at_once > (self.nodes.len() / 4).max(1);
        many.then_some(latest.saturating_add(lease))
    }

    /// The open fence case of a node's present incarnation.
    #[must_use]
    pub fn open_case(&self, node: NodeId) -> Option<(CaseId, &FenceCase)> {
        self.cases.iter().find(|(_, case)| case.node == node && case.is_open()).map(|(id, case)| (*id, case))
    }

    /// When an attempt under way may be given up (F24): at once if its executor is lost; otherwise when it is long
    /// past the deadlines of all its calls, of a call for another node that it may have to wait for first,
    /// and a quarantine, so that an executor which forgot it cannot hold the case for ever. One whose devices have spoken waits
    /// for the node's silence alone. `None` if no attempt is under way.
    #[must_use]
    pub fn attempt_ends(&self, case: &FenceCase) -> Option<Millis> {
        let Phase::Running { executor, executor_incarnation, since } = &case.phase else {
            return None;
        };
        if let Some(due) = self.silence_due(case) {
            return Some(due);
        }
        let heard = self.nodes.get(executor).and_then(Node::in_session);
        if heard.is_none_or(|life| life.incarnation != *executor_incarnation) {
            return Some(*since);
        }
        let devices = || self.level(case.node, case.level).map(|(_, device)| device);
        let calls = devices().map(Device::attempt_ms);
        let calls = calls.fold(0, Millis::saturating_add);
        let before = devices().map(Device::longest_ms).max().unwrap_or(0);
        Some(since.saturating_add(before).saturating_add(calls).saturating_add(self.settings.quarantine_ms))
    }

    /// The holder of a live permit.
    #[must_use]
    pub fn permit(&self, unit: &UnitName, token: Token) -> Option<&crate::permit::Permit> {
        self.units.get(unit)?.permits.get(&token)
    }
}

/// Maps whose keys are no text, as lists of pairs: JSON knows no other keys than text.
mod pairs {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Vec::<(K, V)>::deserialize(deserializer).map(|pairs| pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(state: &mut State, clients: core::ops::Range<usize>, time: Millis) {
        for index in clients {
            let reply = Reply { number: 1, index: index as u64, time, outcome: Ok(()) };
            state.keep_reply(&alloc::format!("client {index}"), reply);
        }
    }

    #[test]
    fn who_may_ask_again_has_an_answer_however_many_come_after_it() {
        let mut state = State::default();
        answered(&mut state, 0..CLIENTS, 1_000);
        answered(&mut state, CLIENTS..1_000, 1_000 + REPEATS_MS - 1);
        assert!(state.has_answered("client 0"), "a gate among a thousand");
        answered(&mut state, 1_000..1_001, 1_000 + REPEATS_MS);
        assert!(!state.has_answered("client 0"));
        assert!(state.has_answered("client 256"));
        assert_eq!(state.replies.len(), 1_001 - CLIENTS);
        answered(&mut state, 1_001..6_000, 1_000 + REPEATS_MS);
        assert_eq!(state.replies.len(), CLIENTS_MAX, "nobody fills the memory of all voters");
        assert!(state.has_answered("client 5999"));
    }
}
