//! How maintenance is shown: first of all, and with what ends it.

use policy::{Maintenance, Scope};

use super::*;

fn begun() -> Option<Maintenance> {
    Some(Maintenance { by: "alice".to_owned(), reason: Some("disks".to_owned()), wall_ms: 7 })
}

#[test]
fn everything_that_is_in_maintenance_is_listed_with_its_end() {
    let mut state = state();
    assert_eq!(show(&state).maintenance, []);
    state.maintenance = begun();
    state.nodes.get_mut(&NodeId(2)).expect("n2").maintenance = begun();
    state.units.get_mut(&DB.into()).expect("db").maintenance = begun();
    let shown = show(&state);
    let told: Vec<_> =
        shown.maintenance.iter().map(|line| (line.kind.as_str(), line.remedy.as_str())).collect();
    let expected = [
        ("cluster", "`convoke unmaintain --cluster` ends it"),
        ("node", "`convoke unmaintain n2` ends it"),
        ("unit", "`convoke unmaintain db.service` ends it"),
    ];
    assert_eq!(told, expected);
    assert!(shown.nodes.iter().all(|node| node.maintenance) && unit_line(&state).maintenance);
    state.maintenance = None;
    assert!(!node_line(&state, "n1").maintenance && node_line(&state, "n2").maintenance);
}

#[test]
fn a_lost_node_in_maintenance_is_said_not_to_be_fenced() {
    let mut state = state();
    state.nodes.get_mut(&NodeId(1)).expect("n1").maintenance = begun();
    lose(&mut state, 1);
    let reason = unit_line(&state).reason;
    assert_eq!(reason.as_deref(), Some("n1 is lost, and in maintenance: it is not fenced"));
    let [alarm] = show(&state).alarms.try_into().expect("one alarm");
    assert!(alarm.remedy.contains("`convoke unmaintain n1` lets the cluster act"), "{}", alarm.remedy);
}

#[test]
fn a_copy_that_a_person_stopped_is_down_and_a_second_one_is_an_alert() {
    let mut state = state();
    let db = state.units.get_mut(&DB.into()).expect("db");
    db.maintenance = begun();
    db.permits.get_mut(&Token(9)).expect("its permit").idle = true;
    assert_eq!(unit_line(&state).state, "down");
    assert_eq!(show(&state).alarms, []);
    let life = state.nodes.get_mut(&NodeId(3)).and_then(|node| node.life.as_mut()).expect("a life");
    life.strays.insert(DB.into());
    let [alarm] = show(&state).alarms.try_into().expect("one alarm");
    assert_eq!(alarm.severity, "alert");
    assert!(alarm.text.ends_with("is in maintenance, and may run on n1 too"), "{}", alarm.text);
    assert_eq!(state.unit_maintenance(&DB.into()), Some(Scope::Unit(DB.into())));
}
