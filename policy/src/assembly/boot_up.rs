//! What is remembered of a clustered service: who was live last, what was gathered, who was elected.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};

use crate::name::{Incarnation, Millis, NodeId, Token};

/// How a copy is started: which of its environments it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Start {
    /// It joins those that are live, or waits for them.
    Join,
    /// It begins by itself, on its own data. At most one in an epoch.
    Alone,
    /// Its data is thrown away and taken from those that are live.
    Resync,
}

/// A member of the last active set: its data may be the latest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// In which life it got its latest permit.
    pub incarnation: Incarnation,
    /// That permit.
    pub token: Token,
    /// How it was started; `None` for a copy that was adopted.
    pub start: Option<Start>,
    /// Where its data stood when it was let start alone: its history, if it had one, and its rank.
    pub began: Option<(Option<String>, i64)>,
    /// Index that its node knew when it last looked and found the copy ready; `None` if it is not.
    pub ready: Option<u64>,
    /// What the copy lacks to be ready, as its node says.
    pub lacks: Option<String>,
    /// It was not live last, and started along with those that were: nothing is known of it but that it is behind them,
    /// until it is active.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub late: bool,
    /// It was active under this permit: it may have had all the data, and have written, before it was found ready.
    pub active: bool,
    /// It was ready under this permit: it had all the data then.
    pub served: bool,
    /// Another history than the service's, that this copy says it has: it was let join, and joined somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stranger: Option<String>,
    /// Time ended the permit, and its node has said since that no copy runs there: another that is found is not this one.
    pub quiet: bool,
    /// Index of the entry that ended the permit by a release or a proof. A loss, or time, never does (F16).
    pub ended: Option<u64>,
}

/// What a node's `Position=` said of its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// Stopped, with data.
    Data {
        /// How far it is: the higher, the later.
        rank: i64,
        /// Which history it belongs to. Ranks compare only under equal identities.
        identity: String,
        /// The service itself takes it for safe to start first. Only breaks ties.
        safe: bool,
    },
    /// A copy runs, and serves.
    Live,
    /// A copy runs, and waits for others.
    LiveWithoutQuorum,
    /// A copy is starting or stopping.
    Busy,
    /// Half-copied or damaged: whatever number it carries says nothing.
    Unusable,
    /// No data at all.
    Empty,
    /// The program failed, or took too long. This is not `empty`.
    Failed(String),
}

impl Found {
    /// Whether it tells how the data stands, with no copy running on it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Data { .. } | Self::Unusable | Self::Empty)
    }
}

/// A position that was heard in the present epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// In which life of its node.
    pub incarnation: Incarnation,
    /// In which session: a node that left the gather says it again.
    pub session: u64,
    /// What it is.
    pub found: Found,
    /// A copy was started on the data since.
    pub void: bool,
}

/// One thing that an operator says of a boot-up. It counts in the epoch that the operator was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// Do without this node's data.
    Without(NodeId),
    /// Begin with this node's data, whatever the others have.
    From(NodeId),
    /// Throw this node's data away and copy the others'.
    Resync(NodeId),
}

/// The operators' words of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// Nodes whose data is given up, with who said so.
    pub without: BTreeMap<NodeId, String>,
    /// The node whose data is to be taken, with who said so.
    pub from: Option<(NodeId, String)>,
    /// Nodes whose data may be thrown away.
    pub resync: BTreeSet<NodeId>,
}

/// Why it was enough to hear those that were heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ground {
    /// Everybody who was live last was heard.
    AllHeard,
    /// An operator gave up those that were not.
    Word,
    /// `GatherThen=best`, and the time was over.
    Best,
}

/// Who is to start alone. Committed before it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    /// Who.
    pub node: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Which history its data belongs to; `None` for a first formation on no data.
    pub identity: Option<String>,
    /// How far its data is.
    pub rank: i64,
    /// Members of the last active set that were not heard.
    pub absent: BTreeSet<NodeId>,
    /// Why that was enough.
    pub ground: Ground,
    /// The one permit to start alone that came of it.
    pub token: Option<Token>,
}

/// The service as it came up last: what a member that returns is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    /// The epoch that it came of.
    pub epoch: u64,
    /// Its history, if it was told.
    pub identity: Option<String>,
    /// Nodes whose copies were live in it.
    pub joined: BTreeSet<NodeId>,
    /// A copy ran behind the gate before anybody had told the history: whoever joined since may have joined that.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub doubted: bool,
}

/// Where one history may have forked: somebody was let start alone in it, and whoever was ahead of that, or was on
/// another branch already, has no part in what followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forks {
    /// The lowest rank at which it ever did.
    pub lowest: i64,
    /// The same for a node whose copy was live since: the lowest after that.
    pub since: BTreeMap<NodeId, i64>,
}

/// Everything that is remembered of a clustered service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootUp {
    /// The last active set.
    pub members: BTreeMap<NodeId, Member>,
    /// Index at which each node last released its copy: the order of stops.
    pub stops: BTreeMap<NodeId, u64>,
    /// Index since which nobody is known to have touched the data of a node: a look that began before it is too old.
    pub touched: BTreeMap<NodeId, u64>,
    /// A copy was ready once: there is data somewhere.
    pub formed: bool,
    /// Index of the entry that began the present gathering; 0 before the first.
    pub epoch: u64,
    /// When it began.
    pub opened_at: Millis,
    /// Positions heard in it.
    pub heard: BTreeMap<NodeId, Heard>,
    /// What operators said in it.
    pub words: Words,
    /// Whom it elected.
    pub election: Option<Election>,
    /// The service as it came up last.
    pub formation: Option<Formation>,
    /// Each history that the service ever came up in, by its identity. An identity may outlive a fork, as Galera's does,
    /// and ranks go on rising on both branches: it takes the ranks of all forks since to tell them apart.
    pub forks: BTreeMap<String, Forks>,
    /// Nodes whose first word on the service, before any gathering, was that a copy runs: it ran before the cluster came.
    pub ran_before: BTreeSet<NodeId>,
    /// Nodes on whose data a copy ran that the cluster did not start, nor could keep: it may have a branch of its own,
    /// and its rank says nothing.
    pub estranged: BTreeSet<NodeId>,
}

impl BootUp {
    /// Of a service that is not known yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            members: BTreeMap::new(),
            stops: BTreeMap::new(),
            touched: BTreeMap::new(),
            formed: false,
            epoch: 0,
            opened_at: 0,
            heard: BTreeMap::new(),
            words: Words::none(),
            election: None,
            formation: None,
            forks: BTreeMap::new(),
            ran_before: BTreeSet::new(),
            estranged: BTreeSet::new(),
        }
    }

    /// A node is let start alone: from here on its data is the service's.
    pub(crate) fn fork(&mut self, id: NodeId, identity: &str, rank: i64) {
        // What it has of its own already, nobody else has.
        let strange = self.estranged.remove(&id);
        let at = if strange { i64::MIN } else { rank.min(self.shares(id, identity)) };
        let forks = self.history(identity);
        forks.lowest = forks.lowest.min(at);
        forks.since.values_mut().for_each(|since| *since = at.min(*since));
        forks.since.insert(id, i64::MAX);
    }

    /// The highest rank up to which a node's data is surely the service's, if it is of this history.
    fn shares(&self, id: NodeId, identity: &str) -> i64 {
        let Some(forks) = self.forks.get(identity) else { return i64::MAX };
        forks.since.get(&id).copied().unwrap_or(forks.lowest)
    }

    /// Why a node's data may have a branch of its own, so that its rank compares with nobody's.
    #[must_use]
    pub fn branch(&self, id: NodeId, identity: &str, rank: i64) -> Option<String> {
        if self.estranged.contains(&id) {
            return Some("a copy was started on it behind the gate".to_string());
        }
        let shares = self.shares(id, identity);
        let ahead =
            || format!("it was absent when the service came up, and is ahead of that ({rank} > {shares})");
        (rank > shares).then(ahead)
    }

    /// A node's data is a part of what is live, whatever was said of it before; and a part of nothing else.
    pub(crate) fn joins(&mut self, id: NodeId) {
        self.estranged.remove(&id);
        self.forks.values_mut().for_each(|forks| {
            forks.since.remove(&id);
        });
        let Some(formation) = &mut self.formation else { return };
        formation.joined.insert(id);
        if let Some(identity) = formation.identity.clone() {
            self.history(&identity).since.insert(id, i64::MAX);
        }
    }

    /// A copy runs on a node's data that the cluster did not start, nor can keep.
    pub(crate) fn estrange(&mut self, id: NodeId) {
        self.estranged.insert(id);
        if let Some(formation) = &mut self.formation {
            formation.doubted |= formation.identity.is_none();
        }
    }

    /// A node whose copy was live says which history its data is of. That is the service's, unless that is known, or the
    /// copy may have been live with others.
    pub(crate) fn learn(&mut self, id: NodeId, identity: &str) {
        let strange = self.estranged.contains(&id);
        let Some(formation) = &mut self.formation else { return };
        if formation.identity.is_none() && formation.joined.contains(&id) && !formation.doubted && !strange {
            formation.identity = Some(identity.into());
        }
    }

    fn history(&mut self, identity: &str) -> &mut Forks {
        let nowhere = || Forks { lowest: i64::MAX, since: BTreeMap::new() };
        self.forks.entry(identity.into()).or_insert_with(nowhere)
    }

    /// Whether somebody who was live last said that its data is later than this rank.
    pub(crate) fn is_behind(&self, rank: i64) -> bool {
        let of = |id: &NodeId| match self.heard.get(id).map(|heard| &heard.found) {
            Some(Found::Data { rank, .. }) => Some(*rank),
            _ => None,
        };
        self.members.keys().filter_map(of).any(|theirs| theirs > rank)
    }

    /// Whether the present epoch has not brought the service up.
    #[must_use]
    pub fn is_gathering(&self) -> bool {
        self.epoch > 0 && self.formation.as_ref().is_none_or(|formation| formation.epoch != self.epoch)
    }

    /// A copy was, or may have been, started or stopped on the node's data: what was said of it before is void.
    pub(crate) fn touch(&mut self, node: NodeId, index: u64) {
        self.touched.insert(node, index);
        if let Some(heard) = self.heard.get_mut(&node) {
            heard.void = true;
        }
    }
}

impl Words {
    /// Nobody said anything.
    #[must_use]
    pub fn none() -> Self {
        Self { without: BTreeMap::new(), from: None, resync: BTreeSet::new() }
    }
}
