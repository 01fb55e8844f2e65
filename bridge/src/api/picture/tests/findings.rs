//! What is wrong with the set, in the words of `check` and of `status`.

use policy::NodeTerm;

use super::*;
use crate::api::model::FindingLine;

/// Puts a unit's definition in force and into every node's files; it is stopped and was never asked for.
fn define(state: &mut State, name: &str, definition: Definition) {
    let mut unit = Unit::new(6, 0);
    unit.adopted = Some(Adopted { revision: 2, definition: definition.clone() });
    state.units.insert(name.into(), unit);
    for node in state.nodes.values_mut() {
        node.offers.insert(name.into(), Offer { definition: Some(definition.clone()), ..offer() });
    }
}

fn start(state: &mut State, name: &str) {
    if let Some(unit) = state.units.get_mut(&UnitName::from(name)) {
        unit.goal.wanted = Wanted::Started;
    }
}

fn found(state: &State) -> Vec<FindingLine> {
    show(state).findings.expect("a leader knows")
}

/// Alarms of the set, by the words of the findings.
fn told(state: &State) -> Vec<(String, String)> {
    let findings = found(state);
    let texts: Vec<String> = findings.iter().map(|one| format!("{}: {}", one.unit, one.text)).collect();
    let alarms = show(state).alarms.into_iter().filter(|alarm| texts.contains(&alarm.text));
    alarms.map(|alarm| (alarm.severity, alarm.text)).collect()
}

fn units(names: &[&str]) -> BTreeSet<UnitName> {
    names.iter().map(|name| UnitName::from(*name)).collect()
}

#[test]
fn a_sound_set_has_no_findings() {
    assert_eq!(found(&state()), []);
}

#[test]
fn what_is_stopped_is_told_by_check_alone() {
    let mut state = state();
    let app = Definition { requires: units(&["cache.service"]), ..Definition::exclusive() };
    define(&mut state, "app.service", app);
    let line = FindingLine {
        severity: "error".to_owned(),
        kind: "not-offered".to_owned(),
        unit: "app.service".to_owned(),
        nodes: Vec::new(),
        idle: vec!["app.service".to_owned()],
        text: "it needs cache.service (Requires=), which no node offers".to_owned(),
        remedy: "give a node that runs units cache.service with an [X-Convoke] section, or take it out of Requires="
            .to_owned(),
    };
    assert_eq!(found(&state), [line]);
    assert_eq!(told(&state), []);
    start(&mut state, "app.service");
    let alarm = "app.service: it needs cache.service (Requires=), which no node offers";
    assert_eq!(told(&state), [("alert".to_owned(), alarm.to_owned())]);
}

#[test]
fn every_flaw_is_a_sentence() {
    let base = Definition::exclusive;
    let beside = |names: &[&str]| Definition { same_node_as: units(names), ..base() };
    let uses = |amount| Definition { uses: [("memory".to_owned(), amount)].into(), ..base() };
    let after = |name: &str| Definition { after: units(&[name]), ..base() };
    let apart = |names: &[&str]| Definition { other_node_than: units(names), ..base() };
    type Set = Vec<(&'static str, Definition)>;
    let table: Vec<(Set, &str)> = vec![
        (
            vec![("a.service", after("b.service")), ("b.service", after("a.service"))],
            "a.service: it comes after itself: a.service has After=b.service, b.service has After=a.service; one of these \
             orders is ignored, at start and at stop",
        ),
        (
            vec![(
                "a.service",
                Definition {
                    nodes: vec![
                        NodeTerm::Name("n7".to_owned()),
                        NodeTerm::Attribute("rack".to_owned(), "x".to_owned()),
                    ],
                    ..base()
                },
            )],
            "a.service: Nodes= allows none of the nodes that offer it (n1, n2 and n3); no node of the cluster is `n7` or \
             `rack=x`",
        ),
        (
            vec![("a.service", uses(9))],
            "a.service: it takes 9 `memory`, and n2, which has most `memory`, has 8",
        ),
        (
            vec![("a.service", Definition { uses: [("disk".to_owned(), 1)].into(), ..base() })],
            "a.service: it takes 1 `disk`, and none of its nodes has any `disk`",
        ),
        (
            vec![
                ("a.service", uses(5)),
                ("b.service", Definition { same_node_as: units(&["a.service"]), ..uses(4) }),
            ],
            "a.service: it and b.service, which have to run on one node with it, take 9 `memory`, and n2, which has most \
             `memory`, has 8",
        ),
        (
            vec![
                ("a.service", Definition { nodes: vec![NodeTerm::Name("n1".to_owned())], ..base() }),
                (
                    "b.service",
                    Definition { nodes: vec![NodeTerm::Name("n2".to_owned())], ..beside(&["a.service"]) },
                ),
            ],
            "a.service: it has to run on one node with b.service (SameNodeAs=), and no node may run all of them",
        ),
        (
            vec![
                ("a.service", base()),
                (
                    "b.service",
                    Definition { other_node_than: units(&["a.service"]), ..beside(&["a.service"]) },
                ),
            ],
            "b.service: it must not share a node with a.service, and has to run on one node with it because of SameNodeAs=",
        ),
        (
            vec![
                ("a.service", base()),
                ("b.service", Definition { conflicts: units(&["a.service"]), ..base() }),
                ("c.service", Definition { requires: units(&["a.service", "b.service"]), ..base() }),
            ],
            "c.service: it needs both b.service and a.service, which conflict",
        ),
        (
            vec![("a.service", Definition::replicated(Replicas::Count(4)))],
            "a.service: Replicas=4, and only n1, n2 and n3 may run it",
        ),
        (
            vec![
                ("a.service", apart(&["b.service", "c.service", "d.service"])),
                ("b.service", apart(&["c.service", "d.service"])),
                ("c.service", apart(&["d.service"])),
                ("d.service", base()),
            ],
            "a.service: it and b.service, c.service and d.service must not share a node (OtherNodeThan=) and want 4 nodes \
             together; only n1, n2 and n3 may run any of them",
        ),
    ];
    for (set, expected) in table {
        let mut state = state();
        for (id, node) in &mut state.nodes {
            let memory = if id.0 == 2 { "8" } else { "4" };
            node.attributes = [("memory".to_owned(), memory.to_owned())].into();
        }
        for (name, definition) in &set {
            define(&mut state, name, definition.clone());
        }
        for (name, _) in &set {
            start(&mut state, name);
        }
        let found = found(&state);
        let texts: Vec<String> = found.iter().map(|one| format!("{}: {}", one.unit, one.text)).collect();
        assert_eq!(texts, [expected]);
        assert_eq!(told(&state).len(), 1, "{expected}");
        let severity = if found[0].severity == "error" { "alert" } else { "warning" };
        assert_eq!(told(&state)[0].0, severity, "{expected}");
    }
}

#[test]
fn a_node_without_a_device_is_told_by_node_in_status_and_by_unit_in_check() {
    let mut state = state();
    state.devices.clear();
    let found = found(&state);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].text,
        "it has Fencing=required, and nothing can fence n1, n2 and n3: lost there, it waits for a person"
    );
    assert_eq!(told(&state), []);
    assert!(show(&state).alarms.iter().any(|alarm| alarm.text.starts_with("n1 has no fence device")));
}

#[test]
fn files_that_differ_are_among_the_findings_and_told_once() {
    let mut state = state();
    let node = state.nodes.get_mut(&NodeId(2)).expect("n2");
    let other = Definition { failures_max: 7, ..Definition::exclusive() };
    node.offers.insert(DB.into(), Offer { definition: Some(other), ..offer() });
    let found = found(&state);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, "differs");
    assert_eq!(told(&state).len(), 1);
}

#[test]
fn a_thousand_needs_of_one_missing_file_do_not_fill_the_screen() {
    let mut state = state();
    for number in 0..1_000 {
        let app = Definition { requires: units(&["cache.service"]), ..Definition::exclusive() };
        let name = format!("app{number}.service");
        define(&mut state, &name, app);
        start(&mut state, &name);
    }
    assert_eq!(found(&state).len(), 1_000);
    let alarms = show(&state).alarms;
    assert_eq!(alarms.len(), 11);
    assert_eq!(alarms[10].text, "990 more things are wrong with the units");
}

#[test]
fn where_the_votes_are_is_told_of_no_unit() {
    let mut state = state();
    state.settings.failure_domain = Some("room".to_owned());
    for (id, node) in &mut state.nodes {
        let room = if id.0 == 1 { "r1" } else { "r2" };
        node.attributes = [("room".to_owned(), room.to_owned())].into();
    }
    // With two rooms one of them has two of the votes, whatever is done.
    let voters = found(&state);
    let [line] = voters.as_slice() else { panic!("{voters:?}") };
    assert_eq!((line.severity.as_str(), line.unit.as_str()), ("warning", ""));
    assert_eq!(line.nodes, ["n2", "n3"]);
    assert_eq!(
        line.text,
        "n2 and n3 are in the same `room` (r2): what takes that takes 2 of 3 votes, and leaves no quorum"
    );
    // A witness could be in a third one.
    state.nodes.get_mut(&NodeId(3)).expect("n3").role = Role::Witness;
    let witness = found(&state);
    let [line] = witness.as_slice() else { panic!("{witness:?}") };
    assert_eq!((line.severity.as_str(), line.kind.as_str()), ("error", "votes-together"));
    let text = "n3 is a witness in the same `room` (r2) as n2: what takes that takes 2 of 3 votes, and leaves no quorum";
    assert_eq!(line.text, text);
    // Nothing is wrong before the room is lost.
    let alarms = show(&state).alarms;
    let alarm = alarms.iter().find(|alarm| alarm.text == text).expect("an alarm");
    assert_eq!(alarm.severity, "warning");
    state.nodes.get_mut(&NodeId(3)).expect("n3").attributes.clear();
    let unplaced = found(&state);
    let [line] = unplaced.as_slice() else { panic!("{unplaced:?}") };
    assert_eq!((line.severity.as_str(), line.kind.as_str()), ("warning", "votes-unplaced"));
    assert_eq!(line.text, "n3 has no attribute `room`: nothing says what it fails together with");
}
