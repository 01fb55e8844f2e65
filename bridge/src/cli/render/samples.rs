//! Pictures to show and to judge.

use crate::api::model::{
    AssemblyLine, CopyLine, DataLine, DeviceLine, FenceLine, FindingLine, FormationLine, NodeLine, Overview,
    UnitLine,
};

/// A voter that is online, with a device that works.
pub(in crate::cli) fn node(name: &str) -> NodeLine {
    NodeLine {
        name: name.to_owned(),
        id: 1,
        role: "voter".to_owned(),
        state: "online".to_owned(),
        drained: None,
        maintenance: false,
        fencing: "ready".to_owned(),
        device: Some(format!("bmc-{name}")),
        fencing_error: None,
        devices: vec![device(&format!("bmc-{name}"), 1)],
        drills: Vec::new(),
        watchdog: None,
        addresses: vec!["10.0.0.1:7433".to_owned()],
        units: Vec::new(),
        quarantine_s: None,
        losses: 0,
        left_off: false,
        held_back_s: None,
        last_end: None,
        incarnation: Some(format!("boot-{name}")),
    }
}

/// A device that works.
pub(in crate::cli) fn device(name: &str, level: u32) -> DeviceLine {
    DeviceLine {
        name: name.to_owned(),
        level,
        isolates: false,
        state: "ready".to_owned(),
        error: None,
        asked_s: Some(4),
        answered_by: None,
        unable: Vec::new(),
    }
}

/// The case by which this life of a node was cut off.
pub(in crate::cli) fn cut(name: &str) -> FenceLine {
    FenceLine {
        node: name.to_owned(),
        incarnation: format!("boot-{name}"),
        state: "isolated".to_owned(),
        device: Some("port".to_owned()),
        attempts: 1,
        error: None,
        next_in_s: None,
        because: "db.service".to_owned(),
        drill: false,
        case: 6,
        text: format!("{name} was cut off by port 4 s ago; it may have run on"),
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
        maintenance: false,
        reason: None,
        failed: Vec::new(),
        assembly: None,
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
        maintenance: Vec::new(),
        drained: None,
        alarms: Vec::new(),
        findings: Some(Vec::new()),
        foretells_files: true,
        memory: None,
    }
}

/// A node that was live last, has stopped, and said how its data stands.
pub(in crate::cli) fn data(node: &str, rank: i64) -> DataLine {
    DataLine {
        node: node.to_owned(),
        last: true,
        copy: "ended".to_owned(),
        lacks: None,
        data: "stopped".to_owned(),
        rank: Some(rank),
        identity: Some("9d1f".to_owned()),
        branch: None,
        safe: false,
        void: false,
        error: None,
        node_state: "online".to_owned(),
        silent_s: None,
    }
}

/// A node of which nothing is heard, and which may run its copy still.
pub(in crate::cli) fn unheard(node: &str) -> DataLine {
    DataLine {
        copy: "unproven".to_owned(),
        data: "unheard".to_owned(),
        rank: None,
        identity: None,
        branch: None,
        node_state: "lost".to_owned(),
        silent_s: Some(190),
        ..data(node, 0)
    }
}

/// A gathering in which n1 and n2 were heard, and n3 is waited for.
pub(in crate::cli) fn gathering() -> AssemblyLine {
    AssemblyLine {
        style: "one-then-serial".to_owned(),
        state: "gathering".to_owned(),
        formed: true,
        epoch: 120,
        since_s: Some(180),
        best_in_s: None,
        resync: true,
        nodes: vec![data("n1", 1742), data("n2", 1740), unheard("n3")],
        election: None,
        formation: Some(FormationLine { epoch: 40, identity: Some("9d1f".to_owned()) }),
        words: Vec::new(),
        awaited: vec!["n3".to_owned()],
    }
}

/// A service that came up, with a copy that is ready on each node.
pub(in crate::cli) fn formed() -> AssemblyLine {
    let ready = |node| DataLine { copy: "ready".to_owned(), void: true, ..data(node, 17) };
    AssemblyLine {
        state: "formed".to_owned(),
        epoch: 40,
        since_s: None,
        nodes: vec![ready("n1"), ready("n2"), ready("n3")],
        awaited: Vec::new(),
        ..gathering()
    }
}

/// A clustered service of three copies.
pub(in crate::cli) fn clustered(state: &str, copies: Vec<CopyLine>, assembly: AssemblyLine) -> UnitLine {
    UnitLine {
        wanted: Some(3),
        exclusive: false,
        assembly: Some(assembly),
        ..unit("mariadb.service", state, copies)
    }
}

/// A need that nobody offers.
pub(in crate::cli) fn finding(severity: &str, unit: &str) -> FindingLine {
    FindingLine {
        severity: severity.to_owned(),
        kind: "not-offered".to_owned(),
        unit: unit.to_owned(),
        nodes: Vec::new(),
        idle: Vec::new(),
        text: "it needs cache.service (Requires=), which no node offers".to_owned(),
        remedy: "give a node that runs units cache.service with an [X-Convoke] section, or take it out of Requires="
            .to_owned(),
    }
}
