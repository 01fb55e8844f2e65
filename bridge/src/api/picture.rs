//! Turns the replicated state and the plan into what operators read.
//!
//! Pure: a state, a plan and what the leader knows of links go in, lines come out, with names instead of ids. Decides
//! how things are called and which of them somebody has to look at; knows no bus, no terminal and no clock.

mod alarms;
mod assembly;
mod definitions;
mod departed;
mod drills;
mod events;
mod fences;
mod findings;
mod forecast;
mod maintenance;
mod nodes;
mod reasons;
mod role;
mod stays_off;

pub use departed::{farewells, marked};
pub use events::sentence;
pub use forecast::{BY, forecast};
pub use reasons::remedy;
pub use votes::{VoteSentence, vote_sentence};
pub(crate) use waiting::{Wait, wait_over, wait_text, waits};
mod units;
mod votes;
mod waiting;
mod ways;

use policy::{Millis, NodeId, Plan, Refusal, State, UnitName};

use super::model::{HistoryLine, LinkLine, Overview, UnitWhy};

/// Lines of a unit's history that `why` shows.
const WHY_HISTORY: usize = 8;

/// What the leader knows and the state does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// Raft term.
    pub term: u64,
    /// Whether a majority confirmed the state just now.
    pub quorum: bool,
    /// Links that are down while both ends live.
    pub cuts: Vec<(NodeId, NodeId)>,
    /// Voters that vote no more, as their states were other ones than those of most (F20).
    pub set_aside: Vec<NodeId>,
    /// Nodes that are to vote and have no vote, as they do not get the log.
    pub behind: Vec<NodeId>,
    /// How the states of others that vote differ, in words.
    pub differ: Vec<String>,
}

/// What every line is made from.
struct View<'a> {
    state: &'a State,
    plan: &'a Plan,
    now: Millis,
}

/// The state of the cluster at a cluster time.
#[must_use]
pub fn overview(state: &State, plan: &Plan, now: Millis, live: &Live) -> Overview {
    let view = View { state, plan, now };
    let flaws = policy::check(state);
    let mut nodes: Vec<_> = state.nodes.keys().filter_map(|id| view.node_line(*id)).collect();
    nodes.sort_by_key(|node| natural(&node.name));
    let mut links: Vec<_> = live
        .cuts
        .iter()
        .map(|(from, to)| LinkLine { from: state.node_name(*from), to: state.node_name(*to) })
        .collect();
    links.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    Overview {
        cluster: state.name.clone(),
        cluster_id: state.cluster.clone(),
        quorum: live.quorum,
        leader: live.leader.map(|leader| state.node_name(leader)),
        term: live.term,
        index: state.index,
        nodes,
        units: state.units.keys().filter_map(|name| view.unit_line(name)).collect(),
        fences: view.fence_lines(),
        fences_closed: view.closed_fence_lines(),
        links,
        maintenance: view.maintenance(),
        drained: state.drained.clone(),
        alarms: view.alarms(&flaws, live),
        findings: Some(view.findings(&flaws)),
        foretells_files: true,
        memory: None,
    }
}

/// Why a unit is where it is.
///
/// # Errors
/// [`Refusal::UnknownUnit`].
pub fn why(
    state: &State,
    plan: &Plan,
    now: Millis,
    live: &Live,
    unit: &UnitName,
) -> Result<UnitWhy, Refusal> {
    let view = View { state, plan, now };
    let line = view.unit_line(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
    Ok(UnitWhy {
        unit: line,
        quorum: live.quorum,
        reasons: view.reasons(unit).into_iter().map(|(_, line)| line).collect(),
        history: history(state, WHY_HISTORY, Some(unit), None),
        memory: None,
        definition: view.definition(unit),
        offers: view.offers(unit),
    })
}

/// The last lines of the history, oldest first; only of one unit or node where one is named.
#[must_use]
pub fn history(state: &State, lines: usize, unit: Option<&UnitName>, node: Option<&str>) -> Vec<HistoryLine> {
    let node = node.map(|name| departed::named(state, name));
    let fits = |event: &&policy::Event| {
        unit.is_none_or(|unit| event.unit.as_ref() == Some(unit))
            // A name that no node has fits nothing; it must not turn into "all".
            && node.is_none_or(|node| node.is_some() && event.node == node)
    };
    let mut found: Vec<_> =
        state.history.iter().rev().filter(fits).take(lines).map(|event| events::line(state, event)).collect();
    found.reverse();
    found
}

/// Orders `n2` before `n10`, as people do.
pub(crate) fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        parts.push((word.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    parts
}

/// A time in the future, in whole seconds, rounded up; `None` once it has passed.
fn seconds_until(at: Millis, now: Millis) -> Option<u64> {
    (at > now).then(|| (at - now).div_ceil(1000))
}

#[cfg(test)]
mod tests;
