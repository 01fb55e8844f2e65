//! What is remembered of a clustered service: who was live last, what was gathered, who was elected.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
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
    /// Where it began; `None` if nobody was elected.
    pub rank: Option<i64>,
    /// Nodes whose copies were ready in it since.
    pub joined: BTreeSet<NodeId>,
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
        }
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
