//! What would happen, in the words of `convoke plan`.

use policy::{Fencing, First, NodeTerm, OnQuorumLoss, Preference, Suppose, Wish};

use super::*;
use crate::api::model::{ChangeLine, Forecast};

fn told(state: &State, supposed: &[Suppose]) -> Forecast {
    forecast(state, NOW, true, supposed, || true).expect("nothing is refused")
}

fn lost(ids: &[u64]) -> Vec<Suppose> {
    ids.iter().map(|id| Suppose::Lost(NodeId(*id))).collect()
}

fn steps(told: &Forecast) -> Vec<&str> {
    told.steps.iter().map(|step| step.text.as_str()).collect()
}

/// A unit's states and places, now and then.
fn change(line: &ChangeLine) -> String {
    let places = |copies: &[crate::api::model::CopyLine]| {
        copies.iter().map(|copy| format!("{} {}", copy.state, copy.node)).collect::<Vec<_>>().join(", ")
    };
    let (now, then) = (places(&line.now), places(&line.then));
    format!("{}: {} [{now}] -> {} [{then}]", line.unit, line.state_now, line.state_then)
}

fn changes(told: &Forecast) -> Vec<String> {
    told.units.iter().map(change).collect()
}

#[test]
fn a_loss_is_fenced_and_the_unit_starts_elsewhere() {
    let state = state();
    let told = told(&state, &lost(&[1]));
    assert_eq!(told.supposed, "n1 is lost");
    assert_eq!(changes(&told), ["db.service: active [active n1] -> active [active n2]"]);
    let expected = [
        "let n2 lead",
        "call n1 lost",
        "fence n1 by bmc-n1, run on n3",
        "take n1 for proven off",
        "start db.service on n2",
    ];
    assert_eq!(steps(&told), expected);
    assert!(told.units[0].reasons.is_empty(), "{:?}", told.units);
    assert_eq!(told.units[0].then[0].token, None, "nobody knows the number of a permit to come");
    assert_eq!(
        told.assumes,
        [
            "each start and each stop succeeds",
            "fencing works",
            "what is lost stays away",
            "nothing else happens meanwhile"
        ]
    );
    assert_eq!((told.end.as_str(), told.unchanged, told.index), ("at-rest", 0, 50));
}

#[test]
fn without_a_device_it_waits_in_the_words_of_why() {
    let mut state = state();
    state.devices.clear();
    let told = told(&state, &lost(&[1]));
    assert_eq!(changes(&told), ["db.service: active [active n1] -> unknown [unknown n1]"]);
    let reason = &told.units[0].reasons[0];
    assert_eq!((reason.rule.as_str(), reason.fact.as_str()), ("S2", "n1 is lost and has no fence device"));
    assert!(!told.assumes.iter().any(|one| one == "fencing works"), "no fence begins");
}

#[test]
fn without_a_majority_each_node_acts_by_its_permits() {
    let fates = [
        (OnQuorumLoss::Stop, "-> stopped []"),
        (OnQuorumLoss::Freeze, "-> unknown [frozen n1]"),
        (OnQuorumLoss::Reboot, "-> stopped []"),
    ];
    for (fate, expected) in fates {
        let mut state = state();
        let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
        unit.permits.values_mut().for_each(|permit| permit.terms.on_quorum_loss = fate);
        let told = told(&state, &lost(&[2, 3]));
        assert_eq!(told.end, "no-quorum");
        assert!(told.steps.is_empty(), "nobody decides: {:?}", told.steps);
        assert!(changes(&told)[0].ends_with(expected), "{fate:?}: {:?}", changes(&told));
        assert_eq!(told.units[0].reasons[0].rule, "S3");
    }
    // On a node that is lost it may run on.
    let told = told(&state(), &lost(&[1, 2]));
    assert_eq!(changes(&told), ["db.service: active [active n1] -> unknown [unknown n1]"]);
    // What runs on as it did changes nothing.
    let mut state = state();
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    unit.permits.values_mut().for_each(|permit| permit.terms.on_quorum_loss = OnQuorumLoss::Continue);
    assert_eq!(changes(&forecast(&state, NOW, true, &lost(&[2, 3]), || true).expect("told")), [""; 0]);
}

/// In maintenance, what nobody replaces before a proof runs on; what others may count as ended after a time ends (F7).
#[test]
fn without_a_majority_only_what_needs_a_proof_is_left_alone_in_maintenance() {
    for (fencing, runs_on) in [(Fencing::Required, true), (Fencing::Lease, false), (Fencing::None, false)] {
        let mut state = state();
        state.nodes.get_mut(&NodeId(1)).expect("n1").maintenance =
            Some(policy::Maintenance { by: "alice".to_owned(), reason: None, wall_ms: 7 });
        let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
        unit.permits.values_mut().for_each(|permit| permit.terms.fencing = fencing);
        let told = told(&state, &lost(&[2, 3]));
        assert_eq!(told.end, "no-quorum");
        assert_eq!(changes(&told).is_empty(), runs_on, "{fencing:?}: {:?}", changes(&told));
    }
}

#[test]
fn wishes_are_told_by_what_they_lead_to() {
    let by = || BY.to_owned();
    let goal = |wanted| Wish::SetGoal { unit: DB.into(), wanted, node: None, seen: None, by: by() };
    let table = [
        (
            Wish::SetDrained { node: Some(NodeId(1)), drained: true, by: by() },
            "n1 is drained",
            "db.service: active [active n1] -> active [active n2]",
            vec!["stop db.service on n1: the node is drained", "start db.service on n2"],
        ),
        (
            goal(Wanted::Stopped),
            "db.service is stopped",
            "db.service: active [active n1] -> stopped []",
            vec!["stop db.service on n1: it was asked to stop"],
        ),
        (
            Wish::Move { unit: DB.into(), from: None, to: Some(NodeId(3)), by: by() },
            "db.service is moved to n3",
            "db.service: active [active n1] -> active [active n3]",
            vec!["stop db.service on n1: it moves", "start db.service on n3"],
        ),
    ];
    for (wish, clause, changed, expected) in table {
        let told = told(&state(), &[Suppose::Asked(wish)]);
        assert_eq!(told.supposed, clause);
        assert_eq!(changes(&told), [changed]);
        assert_eq!(steps(&told), expected);
    }
    // It runs already.
    let told = told(&state(), &[Suppose::Asked(goal(Wanted::Started))]);
    assert_eq!(
        (told.units[0].changes, told.units.len(), steps(&told).len(), told.unchanged),
        (false, 1, 0, 0)
    );
    let refused = Wish::Move { unit: DB.into(), from: None, to: Some(NodeId(1)), by: by() };
    assert!(
        forecast(&state(), NOW, true, &[Suppose::Asked(refused)], || true).is_err(),
        "it is there already"
    );
}

#[test]
fn changed_files_are_told_by_what_they_lead_to() {
    let files = |unit: &str, definition: Definition, running| Suppose::Offered {
        unit: unit.into(),
        definition,
        first: First { node: NodeId(3), enabled: false, running },
    };
    let taken_over = |unit: &str| format!("take over the definition of {unit} that the nodes offer");
    let prefer = vec![Preference { term: NodeTerm::Name("n2".to_owned()), weight: 10 }];
    let better = Definition { prefer, stickiness: Some(0), ..Definition::exclusive() };
    let moves = told(&state(), &[files(DB, better, false)]);
    assert_eq!(moves.supposed, "all nodes that offer db.service have the files that n3 has on its disk");
    assert_eq!(changes(&moves), ["db.service: active [active n1] -> active [active n2]"]);
    let expected = [
        taken_over(DB),
        "stop db.service on n1: another node suits it better".to_owned(),
        "start db.service on n2".to_owned(),
    ];
    assert_eq!(steps(&moves), expected);
    // Nobody offers it, and it runs on the node that asks.
    let new = told(&state(), &[files("new.service", Definition::exclusive(), true)]);
    assert_eq!(new.supposed, "n3 offers new.service by the files that it has on its disk");
    assert_eq!(changes(&new), ["new.service: unknown [] -> active [active n3]"]);
    let expected = [
        "have new.service started".to_owned(),
        taken_over("new.service"),
        "take over the copy of new.service that runs on n3".to_owned(),
    ];
    assert_eq!(steps(&new), expected);
}

#[test]
fn an_adoption_is_no_step_towards_itself() {
    let other = Definition { priority: 7, ..Definition::exclusive() };
    let adopt = [Suppose::Asked(Wish::AdoptFrom { unit: DB.into(), node: NodeId(2), by: BY.to_owned() })];
    let mut state = state();
    let offers = |state: &mut State, id: u64, offer: Offer| {
        state.nodes.get_mut(&NodeId(id)).expect("the node").offers.insert(DB.into(), offer);
    };
    offers(&mut state, 2, Offer { definition: Some(other), ..offer() });
    offers(&mut state, 3, Offer { present: false, ..offer() });
    let stands = told(&state, &adopt);
    assert_eq!(stands.supposed, "db.service is defined as on n2");
    assert_eq!(steps(&stands), [""; 0]);
    assert_eq!((stands.units.len(), stands.units[0].changes), (1, false));
    // Two offer what was in force: it comes back.
    offers(&mut state, 3, offer());
    let undone = told(&state, &adopt);
    assert_eq!(steps(&undone), ["take over the definition of db.service that the nodes offer"]);
}

#[test]
fn a_move_that_cannot_be_done_says_why() {
    let mut state = state();
    state.nodes.get_mut(&NodeId(3)).expect("n3").drained = Some("alice".to_owned());
    let wish = Wish::Move { unit: DB.into(), from: None, to: Some(NodeId(3)), by: BY.to_owned() };
    let told = told(&state, &[Suppose::Asked(wish)]);
    assert_eq!(changes(&told), ["db.service: active [active n1] -> active [active n1]"]);
    assert_eq!(told.units[0].reasons[0].fact, "it cannot move to n3: n3 is drained");
    assert!(!told.units[0].changes);
}
