//! Events, and what is told of what was.

use super::*;

#[test]
fn every_event_is_a_word_and_a_sentence_with_names() {
    let by = || "alice".to_owned();
    let token = Token(9);
    let case = CaseId(7);
    let kinds = [
        (EventKind::Founded, "cluster-founded", "the cluster was founded on n1"),
        (EventKind::LeaderChanged { term: 3 }, "leader-changed", "n1 leads the cluster (term 3)"),
        (EventKind::NodeEnrolled, "node-joined", "n1 joined the cluster"),
        (
            EventKind::FeatureLevelRaised { level: 2 },
            "feature-level-raised",
            "every node knows feature level 2, which is in force from now on; no older version can join any more",
        ),
        (EventKind::NodeRemoved { by: by() }, "node-removed", "n1 was taken out of the cluster by alice"),
        (EventKind::NodeBooted, "node-booted", "n1 is up after a boot"),
        (
            EventKind::AgentUnable { device: "bmc-n2".to_owned(), why: "no fence_x".to_owned() },
            "fence-agent-unable",
            "n1 cannot use bmc-n2, and leaves it to others: no fence_x",
        ),
        (EventKind::NodeReturned, "node-returned", "n1 is back without a reboot"),
        (
            EventKind::CheckFailed { token, why: "exit status 1".to_owned() },
            "unit-check-failed",
            "db.service: its health check failed on n1: exit status 1",
        ),
        (
            EventKind::NodeLeaving,
            "node-leaving",
            "n1 is going away: it, or its convoked, is being stopped; it gets nothing new",
        ),
        (EventKind::NodeLost, "node-lost", "n1 is away after an orderly end of its daemon"),
        (EventKind::NodeDrained { drained: true, by: by() }, "node-drained", "n1 is drained by alice"),
        (
            EventKind::NodeDrained { drained: false, by: by() },
            "node-undrained",
            "n1 takes units again, by alice",
        ),
        (
            EventKind::GoalSet { wanted: Wanted::Started, by: Some(by()) },
            "unit-start-asked",
            "db.service: asked to start on n1 by alice",
        ),
        (
            EventKind::MoveAsked { to: Some(NodeId(2)), by: by() },
            "unit-move-asked",
            "db.service: asked to move from n1 to n2 by alice",
        ),
        (EventKind::Granted { token }, "unit-granted", "db.service: n1 may start it (permit 9)"),
        (
            EventKind::Started { token, after_ms: 42 },
            "unit-started",
            "db.service: active on n1 after 42 ms (permit 9)",
        ),
        (
            EventKind::Revoked { token, reason: StopReason::Drained },
            "unit-revoked",
            "db.service: n1 is to stop it, because the node is drained (permit 9)",
        ),
        (
            EventKind::Released { token, because: Cause::Failed("exit code 1".to_owned()) },
            "unit-released",
            "db.service: gone on n1: failed: exit code 1 (permit 9)",
        ),
        (
            EventKind::Voided { token, evidence: Evidence::Fenced(case) },
            "unit-voided",
            "db.service: cannot be running on n1: its power was seen off (permit 9)",
        ),
        (
            EventKind::Voided { token, evidence: Evidence::Expired },
            "unit-voided",
            "db.service: does not count on n1 any more: the node is lost, and the time after which its copy does not \
             count is over (permit 9)",
        ),
        (
            EventKind::FenceBegan { case, attempt: 2, device: "bmc-n1".to_owned(), executor: NodeId(2) },
            "fence-began",
            "n2: began to fence n1 by bmc-n1 (attempt 2)",
        ),
        (
            EventKind::FenceFailed {
                case,
                attempt: 2,
                device: "bmc-n1".to_owned(),
                error: "no route".to_owned(),
            },
            "fence-failed",
            "fence of n1 by bmc-n1 failed (attempt 2): no route",
        ),
        (
            EventKind::FenceProven { case: None, evidence: Evidence::Vouched, by: Some(by()), after_ms: 3 },
            "fence-proven",
            "n1 is off by the word of alice",
        ),
    ];
    let state = state();
    let page = include_str!("../../../../../docs/reference.md");
    for (kind, word, text) in kinds {
        assert!(page.contains(&format!("`{word}`")), "docs/reference.md does not have `{word}`");
        let line = events::line(&state, &event(1, Some(1), Some(DB), kind));
        assert_eq!((line.kind.as_str(), line.text.as_str()), (word, text));
        assert!(line.kind.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
    }
}

#[test]
fn an_opening_that_failed_is_not_called_a_power_that_stays_off() {
    let mut state = state();
    let kind =
        EventKind::NotSwitchedOn { device: "bmc-n1".to_owned(), why: "no route".to_owned(), again: true };
    let failed = event(1, Some(1), None, kind);
    assert_eq!(sentence(&state, &failed), "bmc-n1 did not switch n1 on again: no route; it is tried again");
    state.devices.get_mut("bmc-n1").expect("known").isolates = Some(Reconnect::AfterCut);
    assert_eq!(sentence(&state, &failed), "bmc-n1 did not open the way of n1: no route; it is tried again");
}

#[test]
fn units_that_may_have_run_twice_are_shown_for_a_day() {
    let mut state = state();
    state.history.push_back(Event {
        time: NOW,
        ..event(1, Some(2), None, EventKind::ProofContradicted { case: Some(CaseId(1)) })
    });
    let told = |state: &State, now| {
        let alarms = overview(state, &plan(state, now), now, &live()).alarms;
        alarms.into_iter().filter(|alarm| alarm.text.starts_with("n2 was proven off and then spoke")).count()
    };
    assert_eq!(told(&state, NOW + 3_600_000), 1, "it has rebooted long ago");
    assert_eq!(told(&state, NOW + 86_400_000), 0);
    let alarm = Alarm { wall_ms: 0, detail: "bmc-n2".to_owned() };
    state.alarms.insert(AlarmKind::ProofContradicted(NodeId(2)), alarm);
    assert_eq!(told(&state, NOW + 1), 1, "not twice");
}

#[test]
fn history_is_filtered_and_keeps_its_order() {
    let mut state = state();
    state.history.extend([
        event(1, Some(1), Some(DB), EventKind::Granted { token: Token(1) }),
        event(2, Some(2), None, EventKind::NodeBooted),
        event(3, Some(1), Some("web.service"), EventKind::Granted { token: Token(3) }),
        event(4, Some(2), Some(DB), EventKind::Granted { token: Token(4) }),
    ]);
    let indices = |lines: Vec<HistoryLine>| lines.iter().map(|line| line.index).collect::<Vec<_>>();
    assert_eq!(indices(history(&state, 10, None, None)), [1, 2, 3, 4]);
    assert_eq!(indices(history(&state, 2, None, None)), [3, 4]);
    assert_eq!(indices(history(&state, 10, Some(&DB.into()), None)), [1, 4]);
    assert_eq!(indices(history(&state, 10, None, Some("n1"))), [1, 3]);
    assert_eq!(indices(history(&state, 10, None, Some("n9"))), [0; 0]);
}

/// n1 said that it goes, and went.
fn away() -> State {
    let mut state = state();
    lose(&mut state, 1);
    state.history.push_back(event(40, Some(1), None, EventKind::NodeLeaving));
    state.history.push_back(event(41, Some(1), None, EventKind::NodeLost));
    state.units.get_mut(&DB.into()).expect("known").permits.clear();
    state
}

#[test]
fn a_move_calls_a_node_what_status_calls_it() {
    let state = away();
    let why = why(&state, &plan(&state, NOW), NOW, &live(), &DB.into()).expect("known");
    let offer = why.offers.into_iter().find(|offer| offer.node == "n1").expect("n1");
    assert_eq!(offer.unfit.as_deref(), Some("n1 is away after an orderly end of its daemon"));
}

#[test]
fn a_time_that_is_over_is_told_as_what_the_fencing_makes_of_it() {
    let told = |fencing| {
        let mut state = state();
        let unit = state.units.get_mut(&UnitName::from(DB)).expect("known");
        unit.adopted.as_mut().expect("a definition").definition.fencing = fencing;
        let kind = EventKind::Voided { token: Token(9), evidence: Evidence::Expired };
        sentence(&state, &event(1, Some(1), Some(DB), kind))
    };
    assert!(told(policy::Fencing::Lease).contains("stops the unit by itself is over (Fencing=lease)"));
    assert!(told(policy::Fencing::None).contains("Fencing=none waits for no proof"));
}

#[test]
fn a_copy_whose_drop_in_is_gone_is_told() {
    let mut gone = state();
    let node = gone.nodes.get_mut(&NodeId(1)).expect("n1");
    node.offers.get_mut(&UnitName::from(DB)).expect("an offer").present = false;
    let why = |state: &State| why(state, &plan(state, NOW), NOW, &live(), &DB.into()).expect("known");
    let reasons = why(&gone).reasons;
    let line = reasons.iter().find(|reason| reason.fact.contains("no file with an [X-Convoke]"));
    let line = line.expect("it is told");
    assert!(line.fact.starts_with("n1 runs it"), "{line:?}");
    assert!(line.release.contains("convoke move db.service --from n1"), "{line:?}");
    assert!(unit_line(&gone).reason.is_some(), "and in `status`");
    assert_eq!(why(&state()).reasons, []);
    // A node that has not listed its units yet has said nothing of their files.
    let life = gone.nodes.get_mut(&NodeId(1)).and_then(|node| node.life.as_mut()).expect("a life");
    life.inventory = false;
    assert!(why(&gone).reasons.iter().all(|reason| !reason.fact.contains("[X-Convoke]")));
}

#[test]
fn an_orderly_shutdown_is_no_loss() {
    let state = away();
    assert_eq!(node_line(&state, "n1").state, "away");
    let alarms = show(&state).alarms;
    let alarm = alarms.iter().find(|alarm| alarm.text.starts_with("n1 ")).expect("it is not there");
    assert!(
        alarm.text.contains("away for 5 s after an orderly end of its daemon, and holds no permit"),
        "{alarm:?}"
    );

    // One that died is lost, whatever it holds.
    let mut lost = away();
    lost.history
        .push_back(Event { severity: Severity::Warning, ..event(42, Some(1), None, EventKind::NodeLost) });
    assert_eq!(node_line(&lost, "n1").state, "lost");
    assert!(history(&lost, 1, None, None)[0].text.contains("it may still run its units"));

    // One that went and still holds a permit is not done with.
    let mut holds = away();
    let unit = holds.units.get_mut(&DB.into()).expect("known");
    unit.permits.insert(Token(9), permit(1, Phase::Active));
    assert_ne!(node_line(&holds, "n1").state, "away");
}

#[test]
fn a_node_that_was_drained_and_switched_off_raises_no_alarm() {
    let mut state = away();
    state.nodes.get_mut(&NodeId(1)).expect("a node").drained = Some("alice".to_owned());
    assert!(
        show(&state).alarms.iter().all(|alarm| !alarm.text.starts_with("n1 ")),
        "{:?}",
        show(&state).alarms
    );
    assert_eq!(node_line(&state, "n1").drained.as_deref(), Some("alice"));
}

#[test]
fn copies_stand_in_the_order_of_their_nodes() {
    let mut state = state();
    let unit = state.units.get_mut(&DB.into()).expect("known");
    unit.permits = [
        (Token(1), permit(3, Phase::Active)),
        (Token(2), permit(1, Phase::Active)),
        (Token(3), permit(2, Phase::Active)),
    ]
    .into();
    let nodes: Vec<_> = unit_line(&state).copies.into_iter().map(|copy| copy.node).collect();
    assert_eq!(nodes, ["n1", "n2", "n3"]);
}

#[test]
fn a_node_that_was_taken_out_keeps_its_name_in_the_history() {
    let mut state = state();
    state.nodes.remove(&NodeId(3));
    state.history.push_back(event(40, Some(3), Some(DB), EventKind::Granted { token: Token(4) }));
    let by = marked("alice on n1 (convoke leave)", "n3");
    state.history.push_back(event(41, Some(3), None, EventKind::NodeRemoved { by }));
    let texts: Vec<_> = history(&state, 9, None, None).into_iter().map(|line| line.text).collect();
    assert_eq!(
        texts,
        [
            "db.service: n3 may start it (permit 4)",
            "n3 was taken out of the cluster by alice on n1 (convoke leave)"
        ]
    );
    assert_eq!(history(&state, 9, None, Some("n3")).len(), 2, "its past can be asked for");
    let farewell = &farewells(&state)[&3];
    assert!(
        farewell.contains("taken out of the cluster on 1970-01-01 00:00:41 UTC by alice on n1"),
        "{farewell}"
    );
    // A later node of that name is another one.
    state.nodes.insert(NodeId(60), Node { name: "n3".to_owned(), ..node(3) });
    assert_eq!(history(&state, 9, None, Some("n3")).len(), 0);
    // One that was taken out before names were kept has none.
    state.history.push_back(event(42, Some(8), None, EventKind::NodeRemoved { by: "bob".to_owned() }));
    assert_eq!(history(&state, 1, None, None)[0].text, "node 8 was taken out of the cluster by bob");
}

#[test]
fn who_may_not_take_a_unit_is_known_before_it_is_asked() {
    let mut state = state();
    state.nodes.get_mut(&NodeId(2)).expect("a node").drained = Some("alice".to_owned());
    state.nodes.get_mut(&NodeId(3)).expect("a node").offers.clear();
    let show = |state: &State| {
        let why = why(state, &plan(state, NOW), NOW, &live(), &DB.into()).expect("known");
        let offers = why.offers.into_iter().map(|offer| (offer.node, offer.unfit.zip(offer.remedy)));
        offers.collect::<BTreeMap<_, _>>()
    };
    let offers = show(&state);
    assert_eq!(offers["n1"], None);
    assert_eq!(offers["n2"], Some(("n2 is drained by alice".to_owned(), "convoke undrain n2".to_owned())));
    assert!(offers["n3"].as_ref().is_some_and(|(why, _)| why.contains("does not offer")), "{offers:?}");
    let node = state.nodes.get_mut(&NodeId(3)).expect("a node");
    let mut other = offer();
    other.definition = Some(Definition::replicated(Replicas::All));
    node.offers.insert(DB.into(), other);
    assert!(show(&state)["n3"].as_ref().is_some_and(|(why, _)| why.contains("another definition")));
    lose(&mut state, 3);
    assert!(show(&state)["n3"].as_ref().is_some_and(|(why, _)| why.contains("is lost")));
    let drained = policy::Reason::Unfit { node: NodeId(2), why: "n2 is drained".to_owned() };
    assert_eq!(remedy(&state, &DB.into(), &drained), "convoke undrain n2");
}

#[test]
fn closed_fences_say_how_they_ended() {
    let mut state = state();
    state.cases.insert(CaseId(7), case(1, FencePhase::Proven { class: Class::Off, at: NOW - 3_000 }));
    state.cases.insert(CaseId(8), case(2, FencePhase::Cancelled { at: NOW - 1_000 }));
    let picture = show(&state);
    assert_eq!(picture.fences, []);
    let closed: Vec<_> =
        picture.fences_closed.iter().map(|fence| (fence.state.as_str(), fence.text.as_str())).collect();
    assert_eq!(
        closed,
        [
            ("proven", "n1 was proven gone 3 s ago: its power was seen off"),
            ("cancelled", "n2 did not have to be fenced any more 1 s ago"),
        ]
    );
}
