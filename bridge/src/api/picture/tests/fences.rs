//! How fence devices and cases are shown.

use super::*;

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
    let seen = Observation { incarnation: incarnation(1), power, at: NOW, trusted: true, misses: 0 };
    state.observations.insert((device.to_owned(), NodeId(1)), seen);
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
