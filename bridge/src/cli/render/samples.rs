//! Pictures to show and to judge.

use crate::api::model::{CopyLine, NodeLine, Overview, UnitLine};

/// A voter that is online, with a device that works.
pub(in crate::cli) fn node(name: &str) -> NodeLine {
    NodeLine {
        name: name.to_owned(),
        id: 1,
        role: "voter".to_owned(),
        state: "online".to_owned(),
        drained: None,
        fencing: "ready".to_owned(),
        device: Some(format!("bmc-{name}")),
        fencing_error: None,
        addresses: vec!["10.0.0.1:7433".to_owned()],
        units: Vec::new(),
        quarantine_s: None,
        incarnation: Some(format!("boot-{name}")),
    }
}

/// A copy with this permit.
pub(in crate::cli) fn copy(node: &str, state: &str, token: u64) -> CopyLine {
    CopyLine { node: node.to_owned(), state: state.to_owned(), token: Some(token), adopted: false }
}

/// An exclusive unit that is started.
pub(in crate::cli) fn unit(name: &str, state: &str, copies: Vec<CopyLine>) -> UnitLine {
    UnitLine {
        name: name.to_owned(),
        goal: "started".to_owned(),
        goal_by: Some("alice as root on n1 (convoke start)".to_owned()),
        state: state.to_owned(),
        copies,
        wanted: Some(1),
        exclusive: true,
        reason: None,
    }
}

/// Three nodes where all is well.
pub(in crate::cli) fn picture() -> Overview {
    let mut first = node("n1");
    first.units = vec!["db.service".to_owned(), "vip.service".to_owned()];
    Overview {
        cluster: "harbour".to_owned(),
        cluster_id: "0123456789abcdef0123456789abcdef".to_owned(),
        quorum: true,
        leader: Some("n1".to_owned()),
        term: 3,
        index: 100,
        nodes: vec![first, node("n2"), node("n3")],
        units: vec![
            unit("db.service", "active", vec![copy("n1", "active", 40)]),
            unit("vip.service", "active", vec![copy("n1", "active", 41)]),
        ],
        fences: Vec::new(),
        fences_closed: Vec::new(),
        links: Vec::new(),
        alarms: Vec::new(),
        memory: None,
    }
}
