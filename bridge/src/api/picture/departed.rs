//! Nodes that were taken out of the cluster: what they were called, and how they went.
//!
//! The state forgets a node that is taken out. Its name goes into the history with the wish that took it out, as a mark at
//! the end of who asked; everything else that the history says of the node is older than that.

use policy::{EventKind, NodeId, State};

/// A node that was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Departed<'a> {
    /// What it was called, where that is known.
    pub(super) name: Option<&'a str>,
    /// Who took it out.
    pub(super) by: &'a str,
    /// When, in milliseconds since 1970.
    pub(super) wall_ms: u64,
}

/// Who asks for the removal, with the name of the node that goes.
#[must_use]
pub fn marked(by: &str, name: &str) -> String {
    format!("{by} [{name}]")
}

/// Who asked, and the name in the mark.
pub(super) fn unmarked(by: &str) -> (&str, Option<&str>) {
    let marked = by.strip_suffix(']').and_then(|rest| rest.rsplit_once(" ["));
    marked.map_or((by, None), |(by, name)| (by, Some(name)))
}

pub(super) fn departed(state: &State, id: NodeId) -> Option<Departed<'_>> {
    state.history.iter().rev().find_map(|event| match &event.kind {
        EventKind::NodeRemoved { by } if event.node == Some(id) => {
            let (by, name) = unmarked(by);
            Some(Departed { name, by, wall_ms: event.wall_ms })
        }
        _ => None,
    })
}

/// What a node is called, or was.
pub(super) fn name_of(state: &State, id: NodeId) -> String {
    if state.nodes.contains_key(&id) {
        return state.node_name(id);
    }
    departed(state, id).and_then(|node| node.name).map_or_else(|| state.node_name(id), str::to_owned)
}

/// The node of that name, present ones first; else the last that was called so.
pub(super) fn named(state: &State, name: &str) -> Option<NodeId> {
    let past = || {
        state.history.iter().rev().find_map(|event| match &event.kind {
            EventKind::NodeRemoved { by } if unmarked(by).1 == Some(name) => event.node,
            _ => None,
        })
    };
    state.node_named(name).or_else(past)
}

/// Why each node that was taken out is turned away, for itself to show.
#[must_use]
pub fn farewells(state: &State) -> std::collections::BTreeMap<u64, String> {
    let gone = state.history.iter().filter(|event| matches!(event.kind, EventKind::NodeRemoved { .. }));
    let nodes = gone.filter_map(|event| event.node).filter(|id| !state.nodes.contains_key(id));
    nodes.filter_map(|id| departed(state, id).map(|node| (id.0, farewell(&node)))).collect()
}

fn farewell(node: &Departed<'_>) -> String {
    let at = i64::try_from(node.wall_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.map(|at| format!(" on {}", at.strftime("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default();
    format!("it was taken out of the cluster{at} by {}", node.by)
}
