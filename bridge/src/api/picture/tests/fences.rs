//! How fence devices and cases are shown.

use policy::{Access, Reach};

use super::*;
use crate::api::model::AlarmLine;

/// The state with a switch behind the controllers, which saw n1.
fn with_switch() -> State {
    let mut state = state();
    let mut switch = state.devices["bmc-n1"].clone();
    switch.level = 2;
    state.devices.insert("pdu".to_owned(), switch);
    saw(&mut state, "pdu", Power::On);
    state
}

fn saw(state: &mut State, device: &str, power: Power) {
    let seen = Observation {
        incarnation: incarnation(1),
        power,
        at: NOW,
        trusted: true,
        misses: 0,
        by: None,
        off_since: None,
        doubted: None,
        answered: None,
    };
    state.observations.insert((device.to_owned(), NodeId(1)), seen);
}

/// The state with a port in the place of n1's controller, which saw its way open.
fn with_port() -> State {
    let mut state = state();
    let mut port = state.devices.remove("bmc-n1").expect("known");
    port.isolates = Some(Reconnect::AfterCut);
    state.devices.insert("port".to_owned(), port);
    saw(&mut state, "port", Power::On);
    state
}

/// A case of which nothing was tried yet.
fn untried(id: u64) -> FenceCase {
    FenceCase { attempts: 0, level: 0, rounds: 0, ..case(id, FencePhase::Wanted) }
}

#[test]
fn a_device_that_fails_is_a_warning_while_another_level_works() {
    let mut state = with_switch();
    assert_eq!(node_line(&state, "n1").device.as_deref(), Some("bmc-n1, then pdu"));
    let alarm = Alarm { wall_ms: 0, detail: "no route".to_owned() };
    state.alarms.insert(AlarmKind::WrongPlug(NodeId(1), "bmc-n1".to_owned()), alarm);
    saw(&mut state, "bmc-n1", Power::Unknown("no route".to_owned()));
    assert_eq!(node_line(&state, "n1").fencing, "ready");
    let [alarm] = show(&state).alarms.try_into().expect("one alarm");
    assert_eq!(alarm.severity, "warning");
    assert!(alarm.remedy.ends_with("until then n1 is fenced by pdu alone"), "{}", alarm.remedy);
    saw(&mut state, "pdu", Power::Off);
    let line = node_line(&state, "n1");
    assert_eq!((line.fencing.as_str(), line.fencing_error.as_deref()), ("unready", Some("no route")));
    let [alarm] = show(&state).alarms.try_into().expect("one alarm");
    assert_eq!(alarm.severity, "alert");
    assert!(alarm.remedy.ends_with("a loss of n1 needs `convoke fence confirm`"), "{}", alarm.remedy);
    assert!(alarm.remedy.starts_with("check address, plug, login"), "{}", alarm.remedy);
    // Nothing is wrong with the settings: their login was not even tried.
    saw(&mut state, "bmc-n1", Power::Unable("there is no credential convoke.bmc on n2".to_owned()));
    let [alarm] = show(&state).alarms.try_into().expect("one alarm");
    assert!(alarm.remedy.starts_with("mend that, then `convoke reset-failed n1`"), "{}", alarm.remedy);
}

#[test]
fn who_cannot_use_a_device_is_told_of_and_a_node_that_nobody_else_could_fence_is_red() {
    let mut state = with_switch();
    let mut lack = |node: u64, why: &str| {
        for device in ["bmc-n1", "pdu"] {
            let reach = Reach { at: NOW, access: Access::NoAgent(why.to_owned()) };
            state.reach.entry(device.to_owned()).or_default().insert(NodeId(node), reach);
        }
        (node_line(&state, "n1"), show(&state).alarms)
    };
    let (line, alarms) = lack(2, "no fence_x");
    assert_eq!(line.fencing, "ready");
    let [alarm] = alarms.try_into().expect("one alarm");
    assert_eq!(alarm.text, "n2 cannot use bmc-n1, pdu: no fence_x");
    assert!(alarm.remedy.starts_with("mend that, then `convoke reset-failed n2`"), "{}", alarm.remedy);
    // Its own word says nothing of whether others can.
    assert_eq!(lack(1, "no secret").0.fencing, "ready");
    let (line, _) = lack(3, "no way to it");
    let why = "nobody that is here can use it; n2 cannot: no fence_x";
    assert_eq!((line.fencing.as_str(), line.fencing_error.as_deref()), ("unready", Some(why)));
}

#[test]
fn a_level_is_ready_with_all_its_devices() {
    let mut state = with_switch();
    state.devices.get_mut("bmc-n1").expect("known").level = 2;
    assert_eq!(node_line(&state, "n1").device.as_deref(), Some("bmc-n1 and pdu"));
    assert_eq!(node_line(&state, "n1").fencing, "ready");
    state.observations.remove(&("pdu".to_owned(), NodeId(1)));
    assert_eq!(node_line(&state, "n1").fencing, "unknown");
    saw(&mut state, "pdu", Power::Off);
    assert_eq!(node_line(&state, "n1").fencing, "unready");
}

#[test]
fn a_case_names_the_level_in_use() {
    let mut state = with_switch();
    lose(&mut state, 1);
    let running =
        FencePhase::Running { executor: NodeId(2), executor_incarnation: incarnation(2), since: NOW };
    state.cases.insert(CaseId(7), FenceCase { level: 2, ..case(1, running) });
    let picture = show(&state);
    assert_eq!(picture.fences[0].device.as_deref(), Some("pdu"));
    assert!(
        picture.fences[0].text.contains("is being fenced by pdu, run on n2"),
        "{}",
        picture.fences[0].text
    );
}

#[test]
fn a_fence_that_nothing_waits_for_any_more_calls_nobody() {
    let mut state = state();
    let phase = FencePhase::Failed { error: "too slow".to_owned(), next_at: NOW + 5_000 };
    state.cases.insert(CaseId(7), case(1, phase));
    state.nodes.get_mut(&NodeId(1)).expect("known").quarantined_until = NOW + 12_000;
    // It is heard again.
    let picture = show(&state);
    let text = "fencing n1 by bmc-n1 failed (too slow), and nothing waits for it any more; a late command may strike for another \
                12 s";
    assert_eq!(picture.fences[0].text, text);
    assert!(picture.alarms.iter().all(|alarm| alarm.severity != "alert"), "{:?}", picture.alarms);
    // It is lost, and what it held has ended by time.
    lose(&mut state, 1);
    assert!(show(&state).alarms.iter().any(|alarm| alarm.text.contains("too slow")));
    state.units.get_mut(&UnitName::from(DB)).expect("known").permits.clear();
    state.find_held();
    assert_eq!(show(&state).fences[0].text, text);
    assert!(show(&state).alarms.iter().all(|alarm| !alarm.text.contains("too slow")));
}

#[test]
fn what_says_off_of_a_node_that_is_heard_is_told_as_that() {
    let mut state = state();
    let running =
        FencePhase::Running { executor: NodeId(2), executor_incarnation: incarnation(2), since: NOW };
    state.cases.insert(CaseId(7), FenceCase { off_at: Some(NOW), ..case(1, running) });
    let told = &show(&state).fences[0].text;
    assert!(told.starts_with("bmc-n1 says that n1 is off; it was heard since"), "{told}");
}

#[test]
fn a_failing_fence_shows_device_error_and_next_attempt() {
    let mut state = state();
    lose(&mut state, 1);
    let phase = FencePhase::Failed { error: "Connection timed out".to_owned(), next_at: NOW + 11_500 };
    state.cases.insert(CaseId(7), case(1, phase));
    let picture = show(&state);
    let [fence] = picture.fences.as_slice() else { panic!("{:?}", picture.fences) };
    assert_eq!((fence.state.as_str(), fence.next_in_s, fence.attempts), ("failed", Some(12), 2));
    assert_eq!(fence.incarnation, "boot-1");
    assert!(fence.text.contains("by bmc-n1 failed (Connection timed out)"), "{}", fence.text);
    assert_eq!(picture.alarms[0].severity, "alert");
}

#[test]
fn what_only_cuts_a_node_off_hides_no_wait_for_a_person() {
    let mut state = with_port();
    lose(&mut state, 1);
    state.cases.insert(CaseId(7), untried(1));
    let waits = |alarm: &AlarmLine| alarm.text.ends_with("db.service waits for it");
    let told = |state: &State| show(state).alarms.into_iter().find(waits);
    let alarm = told(&state).expect("db.service asks for more than a cut");
    assert_eq!(alarm.severity, "alert");
    assert_eq!(
        alarm.text,
        "n1 is lost, and port would only cut it off, which is no proof for what waits; db.service waits for it"
    );
    assert!(
        alarm.remedy.contains("off, or has booted since, and type `convoke fence confirm n1`"),
        "{alarm:?}"
    );
    // What is passed over is not to be mended for this.
    let phase = FencePhase::Failed { error: "no route".to_owned(), next_at: NOW + 5_000 };
    state.cases.insert(CaseId(7), case(1, phase));
    let alarm = told(&state).expect("it failed");
    assert!(!alarm.remedy.contains("mend") && alarm.remedy.contains("fence confirm n1"), "{alarm:?}");
    // Where a cut would end something, it is tried, and mended.
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("known");
    unit.adopted.as_mut().expect("in force").definition.fencing = Fencing::Isolated;
    unit.permits.get_mut(&Token(9)).expect("held").terms.fencing = Fencing::Isolated;
    let alarm = told(&state).expect("it failed");
    assert!(alarm.remedy.starts_with("mend port"), "{alarm:?}");
    state.cases.insert(CaseId(7), untried(1));
    assert_eq!(told(&state), None);
    // Once it is cut off, no second cut ends anything.
    cut(&mut state, 1);
    let alarm = told(&state).expect("it waits for a person");
    assert!(alarm.text.starts_with("n1 is cut off by port and may still run"), "{alarm:?}");
    assert!(alarm.remedy.starts_with("boot n1") && alarm.remedy.contains("fence confirm n1"), "{alarm:?}");
}

#[test]
fn a_level_that_only_cuts_is_named_as_what_it_is() {
    let mut state = with_port();
    let mut strip = state.devices["bmc-n2"].clone();
    strip.targets = [(NodeId(1), BTreeMap::new())].into();
    strip.level = 2;
    state.devices.insert("pdu".to_owned(), strip);
    let alarm = Alarm { wall_ms: 0, detail: "no route".to_owned() };
    state.alarms.insert(AlarmKind::WrongPlug(NodeId(1), "pdu".to_owned()), alarm);
    let remedy = |state: &State| {
        let alarms = show(state).alarms;
        alarms.into_iter().find(|alarm| alarm.text.contains("no route")).expect("it stands").remedy
    };
    assert!(remedy(&state).contains("until then n1 can only be cut off, by port"), "{}", remedy(&state));
    let mut controller = state.devices["pdu"].clone();
    controller.level = 3;
    state.devices.insert("bmc-n1".to_owned(), controller);
    assert!(remedy(&state).ends_with("until then n1 is fenced by bmc-n1 alone"), "{}", remedy(&state));
}

#[test]
fn a_node_that_is_cut_off_is_not_merely_lost() {
    let mut state = with_port();
    lose(&mut state, 1);
    cut(&mut state, 1);
    let told =
        |state: &State| show(state).alarms.into_iter().find(|alarm| alarm.text.contains("n1 was cut off"));
    let alarm = told(&state).expect("it is cut off");
    assert_eq!(alarm.text, "n1 was cut off by port 4 s ago and may still run");
    assert!(alarm.remedy.starts_with("boot n1: once it is heard"), "{alarm:?}");
    assert!(alarm.remedy.ends_with("or has booted since, and type `convoke fence confirm n1`"), "{alarm:?}");
    assert!(!alarm.remedy.contains("leave"), "{alarm:?}");
    // Proven over, it is fenced as any other.
    let life = state.nodes.get_mut(&NodeId(1)).and_then(|node| node.life.as_mut()).expect("a life");
    life.gone = Some(Gone { class: Class::Word, at: NOW });
    assert_eq!(told(&state), None);
}

#[test]
fn a_way_that_does_not_open_is_told_of_a_node_that_is_not_heard() {
    let mut state = with_port();
    lose(&mut state, 1);
    cut(&mut state, 1);
    let fail = |state: &mut State, failures| {
        let debt = SwitchedOff { failures, ..SwitchedOff::default() };
        state.switched_off.insert(("port".to_owned(), NodeId(1)), debt);
    };
    let told =
        |state: &State| show(state).alarms.into_iter().find(|alarm| alarm.text.contains("did not open"));
    fail(&mut state, 2);
    assert_eq!(told(&state), None, "a way that is to stay shut");
    let life = state.nodes.get_mut(&NodeId(1)).and_then(|node| node.life.as_mut()).expect("a life");
    life.gone = Some(Gone { class: Class::Word, at: NOW });
    let alarm = told(&state).expect("it failed");
    assert!(
        alarm.text.starts_with("port did not open the way of n1: it failed 2 times, and is tried again"),
        "{alarm:?}"
    );
    assert_eq!(alarm.remedy, "mend port, or open the way of n1 by hand");
    let kind =
        EventKind::NotSwitchedOn { device: "port".to_owned(), why: "no route".to_owned(), again: true };
    state.history.push_back(event(1, Some(1), None, kind));
    fail(&mut state, 1);
    let alarm = told(&state).expect("it failed");
    assert!(alarm.text.contains("it failed once (no route), and is tried again"), "{alarm:?}");
    fail(&mut state, 0);
    assert_eq!(told(&state), None, "nothing failed yet");
    // Whoever was to open it is silent, and nobody else may meanwhile.
    lose(&mut state, 2);
    let executor = state.nodes.get(&NodeId(2)).and_then(|node| node.life.as_ref()).expect("a life");
    let executor_incarnation = executor.incarnation.clone();
    let opening = policy::Opening { executor: NodeId(2), executor_incarnation, since: NOW };
    let debt = SwitchedOff { opening: Some(opening), ..SwitchedOff::default() };
    state.switched_off.insert(("port".to_owned(), NodeId(1)), debt);
    let alarms = show(&state).alarms;
    let alarm =
        alarms.iter().find(|alarm| alarm.text.starts_with("n2 was to open the way of n1 through port"));
    assert!(alarm.expect("it waits for n2").remedy.contains("`convoke fence confirm n2`"), "{alarms:?}");
    // A feed that has no power is no way.
    fail(&mut state, 1);
    state.devices.get_mut("port").expect("known").isolates = None;
    assert_eq!(told(&state), None);
}

#[test]
fn a_node_that_could_not_be_switched_on_is_told_of_until_that_is_over() {
    let mut state = state();
    lose(&mut state, 3);
    let life = state.nodes.get_mut(&NodeId(3)).and_then(|node| node.life.as_mut()).expect("a life");
    life.gone = Some(Gone { class: Class::Off, at: NOW });
    let told =
        |state: &State| show(state).alarms.into_iter().find(|alarm| alarm.text.contains("could not switch"));
    let device = || "bmc-n3".to_owned();
    let failed = |again| EventKind::NotSwitchedOn { device: device(), why: "no route".to_owned(), again };
    state.history.push_back(event(1, Some(3), None, failed(true)));
    assert_eq!(told(&state), None, "it is tried again");
    state.history.push_back(event(2, Some(3), None, failed(false)));
    let alarm = told(&state).expect("nothing tries it any more");
    assert_eq!(alarm.severity, "alert");
    assert_eq!(alarm.text, "n3 stays off: bmc-n3 could not switch it on (no route)");
    assert_eq!(alarm.remedy, "start n3 by hand, and mend bmc-n3: nothing tries it any more");
    for end in [EventKind::SwitchedOn { device: device() }, EventKind::NodeBooted] {
        let mut state = state.clone();
        state.history.push_back(event(3, Some(3), None, end));
        assert_eq!(told(&state), None);
    }
    // `convoke reset-failed` may have it tried anew.
    let mut owed = state.clone();
    owed.switched_off.insert((device(), NodeId(3)), SwitchedOff::default());
    assert_eq!(told(&owed), None);
    // Nobody can mend what is not configured any more.
    let mut gone = state.clone();
    gone.devices.remove("bmc-n3");
    assert_eq!(told(&gone), None);
    // The history may have forgotten how it came up.
    let life = state.nodes.get_mut(&NodeId(3)).and_then(|node| node.life.as_mut()).expect("a life");
    (life.gone, life.presence) = (None, Presence::InSession);
    assert_eq!(told(&state), None);
}
