mod assembly;
mod fences;
mod findings;
mod forecast;

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    Adopted, Alarm, AlarmKind, CaseId, Cause, Class, Definition, Device, Event, EventKind, Evidence,
    FenceCase, FencePhase, Gone, Hold, Incarnation, Life, MoveWish, Node, Observation, Offer, Permit, Phase,
    Power, Presence, Replicas, Role, Severity, StopReason, Terms, Token, Unit, Wanted, plan,
};

use super::*;
use crate::api::model::{NodeLine, UnitLine};

const NOW: Millis = 100_000;
const DB: &str = "db.service";

fn incarnation(id: u64) -> Incarnation {
    Incarnation(format!("boot-{id}"))
}

fn offer() -> Offer {
    Offer {
        definition: Some(Definition::exclusive()),
        fault: None,
        gated: true,
        enabled: false,
        stop_budget_ms: 1_000,
        present: true,
    }
}

/// A voter in session that offers the unit.
fn node(id: u64) -> Node {
    Node {
        name: format!("n{id}"),
        addresses: vec![format!("10.0.0.{id}:7433")],
        role: Role::Voter,
        attributes: BTreeMap::new(),
        machine: format!("machine-{id}"),
        drained: None,
        life: Some(Life {
            incarnation: incarnation(id),
            session: 1,
            since: 0,
            presence: Presence::InSession,
            inventory: true,
            strays: BTreeSet::new(),
            gone: None,
            contradicted: None,
            stop_budget_ms: 0,
            lingering: std::collections::BTreeMap::new(),
            chain: policy::Chain::unknown(),
        }),
        past: BTreeSet::new(),
        offers: [(UnitName::from(DB), offer())].into(),
        quarantined_until: 0,
        highest_token: Token(0),
        surveyed: 0,
    }
}

fn permit(id: u64, phase: Phase) -> Permit {
    Permit {
        node: NodeId(id),
        incarnation: incarnation(id),
        phase,
        terms: Terms::of(&Definition::exclusive(), 1, 1_000, 0),
        next_terms: None,
        granted_at: 10,
        active_at: Some(20),
        adopted: false,
        contradicted: false,
        stuck: None,
    }
}

/// Three nodes with a device each that was seen to work; db.service is started, and active on n1.
fn state() -> State {
    let mut state = State::default();
    state.name = "harbour".to_owned();
    state.cluster = "id".to_owned();
    state.index = 50;
    for id in 1..=3 {
        state.nodes.insert(NodeId(id), node(id));
        let device = Device {
            agent: "fence_ipmilan".to_owned(),
            options: BTreeMap::new(),
            secrets: BTreeMap::new(),
            targets: [(NodeId(id), BTreeMap::new())].into(),
            timeout_ms: 60_000,
            level: 1,
            delay_ms: 0,
            retries: 0,
            at_once: 1,
        };
        state.devices.insert(format!("bmc-n{id}"), device);
        let seen =
            Observation { incarnation: incarnation(id), power: Power::On, at: NOW, trusted: true, misses: 0 };
        state.observations.insert((format!("bmc-n{id}"), NodeId(id)), seen);
    }
    let mut unit = Unit::new(5, 0);
    unit.adopted = Some(Adopted { revision: 1, definition: Definition::exclusive() });
    unit.goal.wanted = Wanted::Started;
    unit.goal.by = Some("alice".to_owned());
    unit.permits.insert(Token(9), permit(1, Phase::Active));
    state.units.insert(DB.into(), unit);
    state
}

fn live() -> Live {
    Live { leader: Some(NodeId(2)), term: 3, quorum: true, cuts: Vec::new() }
}

fn show(state: &State) -> Overview {
    overview(state, &plan(state, NOW), NOW, &live())
}

fn node_line(state: &State, name: &str) -> NodeLine {
    show(state).nodes.into_iter().find(|node| node.name == name).expect("the node")
}

fn unit_line(state: &State) -> UnitLine {
    show(state).units.into_iter().find(|unit| unit.name == DB).expect("the unit")
}

fn lose(state: &mut State, id: u64) {
    let life = state.nodes.get_mut(&NodeId(id)).and_then(|node| node.life.as_mut()).expect("a life");
    life.presence = Presence::Lost { since: NOW - 5_000 };
}

fn case(id: u64, phase: FencePhase) -> FenceCase {
    FenceCase {
        node: NodeId(id),
        incarnation: incarnation(id),
        phase,
        attempts: 2,
        level: 1,
        retries_left: 0,
        rounds: 1,
        opened_at: NOW - 4_000,
        because: DB.into(),
        voided: Vec::new(),
    }
}

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
                Observation { incarnation: incarnation(life), power, at: 1, trusted: false, misses: 0 },
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
        Observation { incarnation: incarnation(2), power: failed, at: 1, trusted: false, misses: 0 },
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

fn event(index: u64, node: Option<u64>, unit: Option<&str>, kind: EventKind) -> Event {
    Event {
        index,
        time: index * 10,
        wall_ms: index * 1_000,
        severity: Severity::Info,
        node: node.map(NodeId),
        unit: unit.map(UnitName::from),
        kind,
    }
}

#[test]
fn every_event_is_a_word_and_a_sentence_with_names() {
    let by = || "alice".to_owned();
    let token = Token(9);
    let case = CaseId(7);
    let kinds = [
        (EventKind::Founded, "cluster-founded", "the cluster was founded on n1"),
        (EventKind::LeaderChanged { term: 3 }, "leader-changed", "n1 leads the cluster (term 3)"),
        (EventKind::NodeEnrolled, "node-joined", "n1 joined the cluster"),
        (EventKind::NodeRemoved { by: by() }, "node-removed", "n1 was taken out of the cluster by alice"),
        (EventKind::NodeBooted, "node-booted", "n1 is up after a boot"),
        (EventKind::NodeReturned, "node-returned", "n1 is back without a reboot"),
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
    for (kind, word, text) in kinds {
        let line = events::line(&state, &event(1, Some(1), Some(DB), kind));
        assert_eq!((line.kind.as_str(), line.text.as_str()), (word, text));
        assert!(line.kind.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
    }
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
