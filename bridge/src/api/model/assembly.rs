//! The boot-up of a clustered service (`Assembly=`), as it is shown.

use serde::{Deserialize, Serialize};

/// How a clustered service comes up, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssemblyLine {
    /// `one-then-serial` or `all-together`.
    pub style: String,
    /// `new` (it never came up), `gathering` (all are asked how their data stands), `elected` (one is to start alone and
    /// was not ready yet) or `formed` (it came up, and no gathering was needed since).
    pub state: String,
    /// Whether it ever came up: there is data somewhere.
    pub formed: bool,
    /// The gathering in which an operator's word counts; 0 before the first.
    pub epoch: u64,
    /// For how long, in seconds, it has been gathering; none if it is not.
    pub since_s: Option<u64>,
    /// Seconds until the best of those heard may begin without the others (`GatherThen=best`).
    pub best_in_s: Option<u64>,
    /// Whether `StartResync=` says how a node's data is replaced.
    pub resync: bool,
    /// Nodes that were live last, that said how their data stands, or that offer it; by name.
    pub nodes: Vec<DataLine>,
    /// Who is to start alone.
    pub election: Option<ElectionLine>,
    /// What it began with when it came up last.
    pub formation: Option<FormationLine>,
    /// What operators said in this gathering.
    pub words: Vec<WordLine>,
    /// Nodes whose return, or whose word, everybody waits for.
    pub awaited: Vec<String>,
}

/// One node's copy of a clustered service, and its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataLine {
    /// Which node.
    pub node: String,
    /// Whether it was live last: its data may be the latest.
    pub last: bool,
    /// `ready`, `not-ready`, `starting`, `stopping`, `unknown` (on a lost node), `unproven` (no permit, and no release or
    /// proof either: it may run still), `ended` or `none`.
    pub copy: String,
    /// What a copy that is not ready lacks, as its node says.
    pub lacks: Option<String>,
    /// What `Position=` said in this gathering: `stopped` (there is data, and no copy runs), `empty`, `unusable`, `live`,
    /// `live-without-quorum`, `busy` or `failed`; `unheard` if nothing was heard.
    pub data: String,
    /// With `stopped`: how far the data is; the higher, the later. Compares only under one identity.
    pub rank: Option<i64>,
    /// With `stopped`: which history the data belongs to.
    pub identity: Option<String>,
    /// With `stopped`: why the data may have a branch of its own, so that its rank compares with nobody's.
    pub branch: Option<String>,
    /// With `stopped`: the service itself takes it for safe to begin with.
    pub safe: bool,
    /// It does not count any more: a copy was started on the data since, or the node left the gathering.
    pub void: bool,
    /// With `failed`: why.
    pub error: Option<String>,
    /// The node's state, as [`super::NodeLine`] has it.
    pub node_state: String,
    /// For how long, in seconds, the node has been silent or known to be off; none if it is heard.
    pub silent_s: Option<u64>,
}

/// Who is to start alone, as it was decided before it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionLine {
    /// Which node.
    pub node: String,
    /// The history of its data; none if there is no data yet.
    pub identity: Option<String>,
    /// How far its data is.
    pub rank: i64,
    /// Nodes that were live last and not heard.
    pub absent: Vec<String>,
    /// `all-heard`, `word` (an operator's) or `best` (`GatherThen=best`).
    pub ground: String,
    /// Its permit to start alone, once it has it.
    pub token: Option<u64>,
}

/// What a service began with when it came up last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormationLine {
    /// The gathering that it came of; 0 if it ran before the cluster knew it.
    pub epoch: u64,
    /// The history, if it was told.
    pub identity: Option<String>,
}

/// What an operator said of a boot-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordLine {
    /// `without`, `from` or `resync`.
    pub word: String,
    /// Of which node.
    pub node: String,
    /// Who; not remembered of `resync`, whose event says it.
    pub by: Option<String>,
}
