//! Nodes, units and alarms as they are.

use super::*;

#[test]
fn a_healthy_cluster_raises_no_alarm() {
    let picture = show(&state());
    assert_eq!(picture.alarms, []);
    assert_eq!(picture.leader.as_deref(), Some("n2"));
    assert!(picture.nodes.iter().all(|node| node.state == "online" && node.fencing == "ready"));
    assert_eq!(picture.nodes[0].units, [DB]);
    let unit = &picture.units[0];
    assert_eq!((unit.state.as_str(), unit.reason.as_deref(), unit.wanted), ("active", None, Some(1)));
    assert_eq!(unit.copies[0].node, "n1");
}

#[test]
fn each_state_of_a_node_has_its_word() {
    let with = |change: &dyn Fn(&mut Node)| {
        let mut state = state();
        change(state.nodes.get_mut(&NodeId(3)).expect("n3"));
        node_line(&state, "n3").state
    };
    let life = |change: &dyn Fn(&mut Life)| with(&|node| change(node.life.as_mut().expect("a life")));
    assert_eq!(with(&|node| node.life = None), "unknown");
    assert_eq!(life(&|life| life.inventory = false), "joining");
    assert_eq!(life(&|life| life.presence = Presence::Leaving), "leaving");
    assert_eq!(life(&|life| life.presence = Presence::Lost { since: 1 }), "lost");
    assert_eq!(life(&|life| life.gone = Some(Gone { class: Class::Off, at: 1 })), "fenced");
    let mut state = state();
    lose(&mut state, 3);
    cut(&mut state, 3);
    assert_eq!(node_line(&state, "n3").state, "cut-off");
    let phase = FencePhase::Running { executor: NodeId(1), executor_incarnation: incarnation(1), since: 1 };
    state.cases.insert(CaseId(7), case(3, phase));
    assert_eq!(node_line(&state, "n3").state, "fencing");
}

#[test]
fn a_device_counts_only_for_the_life_that_it_was_seen_with() {
    let with = |power: Option<Power>, life: u64| {
        let mut state = state();
        let key = ("bmc-n3".to_owned(), NodeId(3));
        match power {
            Some(power) => state.observations.insert(
                key,
                Observation {
                    incarnation: incarnation(life),
                    power,
                    at: 1,
                    trusted: false,
                    misses: 0,
                    by: None,
                    off_since: None,
                    doubted: None,
                    answered: None,
                },
            ),
            None => state.observations.remove(&key),
        };
        let line = node_line(&state, "n3");
        (line.fencing, line.fencing_error)
    };
    assert_eq!(with(None, 3), ("unknown".to_owned(), None));
    assert_eq!(with(Some(Power::On), 99), ("unknown".to_owned(), None));
    assert_eq!(with(Some(Power::Off), 3).0, "unready");
    let failed = with(Some(Power::Unknown("no route to host".to_owned())), 3);
    assert_eq!(failed, ("unready".to_owned(), Some("no route to host".to_owned())));
    let mut state = state();
    state.devices.clear();
    assert_eq!(node_line(&state, "n3").fencing, "none");
}

#[test]
fn each_state_of_a_unit_has_its_word() {
    let with = |change: &dyn Fn(&mut State, &mut Unit)| {
        let mut state = state();
        let mut unit = state.units.remove(&UnitName::from(DB)).expect("the unit");
        change(&mut state, &mut unit);
        state.units.insert(DB.into(), unit);
        unit_line(&state).state
    };
    let phase = |phase: Phase| {
        with(&|_, unit| unit.permits.get_mut(&Token(9)).expect("the permit").phase = phase.clone())
    };
    assert_eq!(phase(Phase::Granted), "starting");
    assert_eq!(phase(Phase::Revoking(StopReason::Moved)), "stopping");
    assert_eq!(with(&|state, _| lose(state, 1)), "unknown");
    assert_eq!(with(&|_, unit| unit.permits.clear()), "waiting");
    assert_eq!(with(&|_, unit| unit.goal.wanted = Wanted::Stopped), "stopping");
    let stopped = |state: &mut State, unit: &mut Unit| {
        unit.goal.wanted = Wanted::Stopped;
        unit.permits.clear();
        state.index += 1;
    };
    assert_eq!(with(&stopped), "stopped");
    // Stopped by the operator, and yet perhaps running on a node that is silent (F22).
    let silent = |state: &mut State, unit: &mut Unit| {
        unit.goal.wanted = Wanted::Stopped;
        lose(state, 1);
    };
    assert_eq!(with(&silent), "unknown");
    let undefined = |state: &mut State, unit: &mut Unit| {
        unit.permits.clear();
        unit.adopted = None;
        for node in state.nodes.values_mut() {
            node.offers.clear();
        }
    };
    assert_eq!(with(&undefined), "undefined");
    let replicated = |replicas| {
        with(&move |_, unit: &mut Unit| {
            let definition = Definition::replicated(replicas);
            unit.adopted = Some(Adopted { revision: 1, definition });
        })
    };
    assert_eq!(replicated(Replicas::Count(2)), "partial");
    assert_eq!(replicated(Replicas::All), "partial");
}

#[test]
fn a_move_that_cannot_be_done_yet_is_shown_beside_a_healthy_unit() {
    let mut state = state();
    assert_eq!(unit_line(&state).reason, None);
    state.nodes.get_mut(&NodeId(2)).expect("n2").drained = Some("root".to_owned());
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    let (from, leaving, to) = (Token(9), NodeId(1), Some(NodeId(2)));
    unit.moving = Some(MoveWish { from, leaving, to, by: "alice".to_owned() });
    let line = unit_line(&state);
    assert_eq!(line.state, "active");
    assert_eq!(line.reason.as_deref(), Some("it cannot move to n2: n2 is drained"));
}

#[test]
fn a_unit_on_all_nodes_does_not_wait_for_those_that_are_away() {
    let mut state = state();
    let definition = Definition::replicated(Replicas::All);
    for node in state.nodes.values_mut() {
        node.offers.insert(DB.into(), Offer { definition: Some(definition.clone()), ..offer() });
    }
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    unit.adopted = Some(Adopted { revision: 1, definition });
    unit.permits.insert(Token(10), permit(2, Phase::Active));
    assert_eq!(unit_line(&state).state, "partial");
    state.nodes.get_mut(&NodeId(3)).expect("n3").drained = Some("root".to_owned());
    assert_eq!(unit_line(&state).state, "active");
}

#[test]
fn a_stray_copy_is_shown_and_warned_of() {
    let mut state = state();
    let life = state.nodes.get_mut(&NodeId(3)).and_then(|node| node.life.as_mut()).expect("a life");
    life.strays.insert(DB.into());
    let line = unit_line(&state);
    assert_eq!((line.copies[1].node.as_str(), line.copies[1].state.as_str()), ("n3", "stray"));
    assert!(show(&state).alarms.iter().any(|alarm| alarm.text == "db.service runs on n3 without a permit"));
}

#[test]
fn a_loss_without_a_device_says_what_to_type() {
    let mut state = state();
    state.devices.remove("bmc-n1");
    lose(&mut state, 1);
    state.cases.insert(CaseId(7), case(1, FencePhase::Wanted));
    let picture = show(&state);
    let alarm = &picture.alarms[0];
    assert_eq!(alarm.severity, "alert");
    assert_eq!(alarm.text, "n1 is lost and has no fence device; db.service waits for it");
    assert!(alarm.remedy.contains("`convoke fence confirm n1`"), "{}", alarm.remedy);
    let why = why(&state, &plan(&state, NOW), NOW, &live(), &DB.into()).expect("known");
    assert_eq!(why.reasons[0].rule, "S2");
    assert_eq!(why.reasons[0].fact, "n1 is lost and has no fence device");
    assert!(why.reasons[0].release.contains("convoke fence confirm n1"), "{}", why.reasons[0].release);
    assert_eq!(why.reasons[1].rule, "S1");
    assert_eq!(why.unit.reason.as_deref(), Some("n1 is lost and has no fence device"));
}

#[test]
fn a_witness_needs_no_fence_device_and_adopts_nothing() {
    let mut state = state();
    state.devices.remove("bmc-n3");
    assert_eq!(show(&state).alarms.len(), 1);
    let witness = state.nodes.get_mut(&NodeId(3)).expect("n3");
    witness.role = Role::Witness;
    witness.life.as_mut().expect("a life").strays.insert(DB.into());
    // Two voters and the witness are three votes.
    let alarms = show(&state).alarms;
    let [stray] = alarms.as_slice() else { panic!("{alarms:?}") };
    assert_eq!(stray.text, "db.service runs on n3 without a permit");
    assert!(stray.remedy.contains("`systemctl stop db.service` on n3"), "{}", stray.remedy);
}

#[test]
fn what_would_hurt_at_the_next_loss_is_said_before_it() {
    let mut state = state();
    state.devices.remove("bmc-n3");
    let key = ("bmc-n2".to_owned(), NodeId(2));
    let failed = Power::Unknown("no route to host".to_owned());
    state.observations.insert(
        key,
        Observation {
            incarnation: incarnation(2),
            power: failed,
            at: 1,
            trusted: false,
            misses: 0,
            by: None,
            off_since: None,
            doubted: None,
            answered: None,
        },
    );
    let alarms = show(&state).alarms;
    let texts: Vec<_> = alarms.iter().map(|alarm| alarm.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "n2 could not be fenced now: no route to host",
            "n3 has no fence device: if it is lost, db.service waits for a person"
        ]
    );
    state.nodes.remove(&NodeId(3));
    assert!(show(&state).alarms.iter().any(|alarm| alarm.text.starts_with("with two voters")));
}

#[test]
fn every_standing_alarm_has_a_remedy() {
    let mut state = state();
    let alarm = || Alarm { wall_ms: 0, detail: "detail".to_owned() };
    for kind in [
        AlarmKind::ProofContradicted(NodeId(1)),
        AlarmKind::OtherMachine(NodeId(1)),
        AlarmKind::WrongPlug(NodeId(1), "bmc-n1".to_owned()),
        AlarmKind::StopStuck(DB.into(), NodeId(1)),
    ] {
        state.alarms.insert(kind, alarm());
    }
    let seen = state.observations.get_mut(&("bmc-n1".to_owned(), NodeId(1))).expect("looked at");
    seen.power = Power::Off;
    let alarms = show(&state).alarms;
    assert_eq!(alarms.iter().filter(|alarm| alarm.severity == "alert").count(), 4);
    assert!(
        alarms.iter().all(|alarm| alarm.text.contains("detail") && !alarm.remedy.is_empty()),
        "{alarms:?}"
    );
}

/// P127: a changed file ends nothing, and a person is told what does.
#[test]
fn a_copy_that_a_changed_file_would_have_elsewhere_is_warned_of() {
    let mut state = state();
    let nodes = vec![policy::NodeTerm::Name("n2".to_owned())];
    let definition = Definition { nodes, ..Definition::exclusive() };
    for node in state.nodes.values_mut() {
        node.offers.insert(DB.into(), Offer { definition: Some(definition.clone()), ..offer() });
    }
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    unit.adopted = Some(Adopted { revision: 1, definition });
    let pending = policy::Pending { nodes: true, ..policy::Pending::default() };
    unit.permits.get_mut(&Token(9)).expect("the permit").pending = Some(pending);
    let alarms = show(&state).alarms;
    let told = alarms.iter().map(|alarm| [&alarm.severity, &alarm.text, &alarm.remedy].map(String::as_str));
    let told: Vec<_> = told.collect();
    let text = "db.service: restart pending: it keeps its place on n1 until it starts again, though Nodes= does not let it run \
                there";
    assert_eq!(told, [["warning", text, "`convoke move db.service`, when it may be interrupted"]]);
}

#[test]
fn that_fencing_waits_is_said_as_long_as_it_does() {
    let mut state = state();
    state.alarms.insert(AlarmKind::ManyLost, Alarm { wall_ms: 0, detail: "a slow leader".to_owned() });
    let told = |since, state: &mut State| {
        for id in [1, 2] {
            lose(state, id);
            let life = state.nodes.get_mut(&NodeId(id)).and_then(|node| node.life.as_mut()).expect("heard");
            life.presence = Presence::Lost { since };
        }
        show(state).alarms.into_iter().find(|alarm| alarm.text.contains("a slow leader"))
    };
    assert!(!told(NOW - 100, &mut state).expect("it waits").remedy.is_empty());
    assert_eq!(told(NOW - 5_000, &mut state).map(|alarm| alarm.text), None);
}

#[test]
fn a_stopped_unit_names_who_stopped_it() {
    let mut state = state();
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    unit.goal.wanted = Wanted::Stopped;
    unit.permits.clear();
    unit.holds.insert(NodeId(1), Hold { by: "bob".to_owned(), wall_ms: 0 });
    let plan = plan(&state, NOW);
    let why = why(&state, &plan, NOW, &live(), &DB.into()).expect("known");
    assert_eq!(why.reasons[0].fact, "its goal is `stopped`: alice");
    assert_eq!(why.reasons[0].release, "convoke start db.service");
    // It is where one expects it, so the list of all units says nothing of it.
    assert_eq!(unit_line(&state).reason, None);
}

#[test]
fn an_unknown_unit_is_refused() {
    let state = state();
    let asked = why(&state, &Plan::default(), NOW, &live(), &"x.service".into());
    assert!(matches!(asked, Err(Refusal::UnknownUnit(_))));
}

#[test]
fn nodes_are_ordered_as_people_count() {
    let mut names = ["n10", "n2", "n1", "a", "n2b"];
    names.sort_by_key(|name| natural(name));
    assert_eq!(names, ["a", "n1", "n2", "n2b", "n10"]);
}

#[test]
fn a_unit_that_failed_everywhere_names_all_nodes() {
    let mut state = state();
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    unit.permits.clear();
    let failures = |last| policy::Failures { count: 9, last, why: "exit status 1".to_owned() };
    unit.failures = [(NodeId(1), failures(NOW)), (NodeId(2), failures(NOW - 3_000))].into();
    let some = unit_line(&state);
    assert!(some.failed.is_empty(), "n3 is left to try: {:?}", some.failed);
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    unit.failures.insert(NodeId(3), failures(NOW));
    let line = unit_line(&state);
    let nodes: Vec<_> = line.failed.iter().map(|failed| (failed.node.as_str(), failed.retry_s)).collect();
    assert_eq!(nodes, [("n1", 600), ("n2", 597), ("n3", 600)]);
    assert_eq!(
        line.reason.as_deref(),
        Some(
            "it failed on every node that may take it (n1: exit status 1; n2: exit status 1; n3: exit status 1) and \
             is tried again in 597 s"
        )
    );
}

#[test]
fn a_copy_that_its_systemd_restarts_is_not_shown_as_active() {
    let mut state = state();
    let permit = |state: &mut State, rest| {
        let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
        unit.permits.get_mut(&Token(9)).expect("the permit").rest = rest;
    };
    let all = [
        (policy::Rest::Restarts, "restarting"),
        (policy::Rest::Stops, "stopping"),
        (policy::Rest::Down, "down"),
    ];
    for (rest, word) in all {
        permit(&mut state, Some(rest));
        let line = unit_line(&state);
        assert_eq!((line.state.as_str(), line.copies[0].state.as_str()), (word, word));
        let reason = line.reason.expect("a reason");
        assert!(reason.contains("on n1"), "{reason}");
    }
    permit(&mut state, None);
    assert_eq!(unit_line(&state).state, "active");
}

#[test]
fn a_voter_that_votes_no_more_is_an_alert() {
    let state = state();
    let differ = vec!["the voters' states differ at index 8".to_owned()];
    let aside = Live { set_aside: vec![NodeId(1)], differ, ..live() };
    let shown = overview(&state, &plan(&state, NOW), NOW, &aside);
    let alarm = shown.alarms.iter().find(|alarm| alarm.text.starts_with("n1 votes no more"));
    assert_eq!(alarm.map(|alarm| alarm.severity.as_str()), Some("alert"));
    let differs = shown.alarms.iter().find(|alarm| alarm.text.contains("differ at index 8"));
    assert_eq!(differs.map(|alarm| alarm.severity.as_str()), Some("alert"));
    assert!(show(&state).alarms.iter().all(|alarm| !alarm.text.contains("votes no more")));
}

#[test]
fn a_vote_that_is_not_counted_is_a_warning() {
    let state = state();
    let behind = Live { behind: vec![NodeId(1)], ..live() };
    let shown = overview(&state, &plan(&state, NOW), NOW, &behind);
    let alarm = shown.alarms.iter().find(|alarm| alarm.text.starts_with("n1 is to vote, and has no vote"));
    assert_eq!(alarm.map(|alarm| alarm.severity.as_str()), Some("warning"));
    assert!(show(&state).alarms.iter().all(|alarm| !alarm.text.contains("has no vote")));
}
