use policy::{Incarnation, Token};

use super::*;
use crate::net::BookEntry;

fn book() -> Book {
    let entry =
        |id: u64, name: &str, voter| (id, BookEntry { name: name.to_owned(), addresses: Vec::new(), voter });
    Book::of([entry(1, "n1", true), entry(2, "n2", true), entry(3, "n3", true), entry(4, "n4", false)])
}

fn seen(unit: &str, run: &str, token: Option<u64>) -> UnitSnapshot {
    UnitSnapshot {
        unit: unit.to_owned(),
        run: run.to_owned(),
        token: token.map(Token),
        adopted: false,
        filed: token.is_some(),
        doing: None,
        gated: true,
        stuck: None,
    }
}

fn here(unreached: &[u64], units: Vec<UnitSnapshot>) -> Here {
    Here {
        name: "n1".to_owned(),
        id: 1,
        book: book(),
        unreached: unreached.iter().copied().collect(),
        lease_ended_s: Some(42),
        leased: false,
        agent: Some(Snapshot {
            incarnation: Incarnation("boot-1".to_owned()),
            session: None,
            index: 7,
            leased: false,
            connected: true,
            unanswered: 0,
            units,
        }),
    }
}

fn copy(node: &str, state: &str, token: u64) -> CopyLine {
    CopyLine { node: node.to_owned(), state: state.to_owned(), token: Some(token), adopted: false }
}

fn unit(name: &str, copies: Vec<CopyLine>) -> UnitLine {
    UnitLine {
        name: name.to_owned(),
        goal: "started".to_owned(),
        goal_by: Some("alice".to_owned()),
        state: "active".to_owned(),
        copies,
        wanted: Some(1),
        exclusive: true,
        maintenance: false,
        reason: None,
        failed: Vec::new(),
        assembly: None,
    }
}

/// What the log said before n1 was alone: one unit here, one on n2, one on both.
fn known() -> Overview {
    let mut picture = here(&[], Vec::new()).bare_overview();
    picture.quorum = true;
    picture.units = vec![
        unit("db.service", vec![copy("n1", "active", 40)]),
        unit("elsewhere.service", vec![copy("n2", "active", 41)]),
        unit("web.service", vec![copy("n1", "active", 42), copy("n2", "active", 43)]),
    ];
    picture
}

#[test]
fn it_names_the_voters_that_are_not_reached() {
    assert_eq!(
        here(&[2, 3, 4], Vec::new()).why(),
        "n1 does not reach n2, n3 and counts 1 of 3 voters, no majority; its lease ended 42 s ago"
    );
    let one = here(&[3], Vec::new()).why();
    assert!(one.starts_with("no leader answers, and n1 does not reach n3"), "{one}");
    // A member that is not reached takes no vote away.
    let none = here(&[4], Vec::new()).why();
    assert!(none.starts_with("no leader answers, though n1 reaches every voter"), "{none}");
    let mut booted = here(&[2, 3], Vec::new());
    booted.lease_ended_s = None;
    assert!(booted.why().ends_with("it has had no lease since its boot"), "{}", booted.why());
}

#[test]
fn the_own_units_are_shown_as_pid_1_shows_them_and_not_as_the_log_has_them() {
    let units = vec![
        seen("db.service", "down", None),
        seen("elsewhere.service", "down", None),
        seen("web.service", "up", Some(42)),
    ];
    let picture = here(&[2, 3], units).overview(Some(known()));
    assert!(!picture.quorum);
    assert!(picture.alarms[0].text.starts_with("n1 does not reach n2, n3"), "{:?}", picture.alarms);
    let get = |name: &str| picture.units.iter().find(|unit| unit.name == name).expect(name);
    let db = get("db.service");
    assert!(db.copies.is_empty(), "the log still has it here: {db:?}");
    assert_eq!(db.state, "waiting");
    assert!(db.reason.as_deref().is_some_and(|why| why.contains("on n1 now: it is not running")), "{db:?}");
    // What is elsewhere stays as it was last known.
    assert_eq!(get("elsewhere.service").copies, [copy("n2", "active", 41)]);
    let nodes: Vec<_> = get("web.service").copies.iter().map(|copy| copy.node.as_str()).collect();
    assert_eq!(nodes, ["n2", "n1"]);
    assert_eq!(picture.nodes[0].units, ["web.service"], "db.service runs here no more");
    let memory = picture.memory.expect("marked as old");
    let lines: Vec<_> = memory.here.iter().map(|line| (line.unit.as_str(), line.state.as_str())).collect();
    assert_eq!(lines, [("db.service", "stopped"), ("web.service", "running")]);
    assert!(memory.here[1].text.contains("OnQuorumLoss="), "{:?}", memory.here);
}

#[test]
fn a_member_knows_its_own_units_and_the_nodes() {
    let mut member =
        here(&[1, 2, 3], vec![seen("db.service", "down", None), seen("web.service", "up", Some(42))]);
    (member.name, member.id) = ("n4".to_owned(), 4);
    let picture = member.overview(None);
    assert_eq!(picture.nodes.len(), 4);
    assert_eq!(picture.nodes[3].units, ["web.service"]);
    assert_eq!(picture.units[1].state, "active");
    let memory = picture.memory.expect("marked as old");
    assert!(!memory.keeps_log);
    let lines: Vec<_> = memory.here.iter().map(|line| (line.unit.as_str(), line.state.as_str())).collect();
    assert_eq!(lines, [("db.service", "stopped"), ("web.service", "running")], "nothing is left out");
    let why = member.why_unit("web.service", None).expect("known here");
    assert_eq!(why.unit.goal, "unknown");
    assert_eq!(why.reasons.len(), 2);
    assert!(member.why_unit("other.service", None).is_none());
}

#[test]
fn why_begins_with_the_lost_quorum_and_the_truth_here() {
    let node = here(&[2, 3], vec![seen("db.service", "down", None)]);
    let overview = known();
    let why = UnitWhy {
        unit: overview.units[0].clone(),
        quorum: false,
        reasons: vec![WhyLine { rule: "S2".to_owned(), fact: "a".to_owned(), release: "b".to_owned() }],
        history: Vec::new(),
        memory: None,
        definition: None,
        offers: Vec::new(),
    };
    let why = node.why_unit("db.service", Some((Some(why), overview))).expect("known");
    let facts: Vec<_> = why.reasons.iter().map(|reason| reason.fact.as_str()).collect();
    assert!(facts[0].starts_with("n1 does not reach n2, n3"), "{facts:?}");
    assert!(facts[1].starts_with("on n1 now: it is not running"), "{facts:?}");
    assert_eq!(facts[2], "a");
    assert!(!why.quorum && why.memory.is_some());
}
