//! Starts that wait at the gate.

use super::*;

#[test]
fn a_persons_start_is_a_wish_and_is_answered_when_the_file_is_there() {
    let mut lab = lab();
    lab.job(5, "db.service", JobKind::Start);
    let _answer = ask(&mut lab, 1);
    assert_eq!(
        gate_look(&mut lab, 1, Some(5), SystemState::Running),
        "ask for db.service, operator on n1 (systemctl start) wishes"
    );
    let granted = Event::GateAnswered { id: 1, answer: Ok(GateAnswer::Granted { token: Token(7) }) };
    assert_eq!(lab.hear(granted), "", "the permit comes with the orders");
    assert_eq!(lab.order(vec![view("db.service", 7, Phase::Granted)]), "start db.service 7 with 1 gates");
}

#[test]
fn a_start_after_a_stop_is_asked_for_once_the_stop_is_told() {
    let mut lab = lab();
    lab.running();
    lab.job(5, "db.service", JobKind::Stop);
    lab.changes("db.service", down());
    let (reply, _answer) = oneshot::channel();
    let asked = Event::GateAsked { id: 1, unit: "db.service".into(), reply };
    assert_eq!(lab.hear(asked), "");
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service for a gate; look db.service; \
         send released db.service 7 Operator(\"operator on n1 (systemctl stop)\")"
    );
}

#[test]
fn a_start_that_waits_for_a_stop_that_hangs_is_told_what_hangs() {
    let mut lab = lab();
    lab.running();
    lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]);
    let (reply, _answer) = oneshot::channel();
    assert_eq!(lab.hear(Event::GateAsked { id: 1, unit: "db.service".into(), reply }), "");
    let op = lab.agent.units[&UnitName::from("db.service")].op.expect("stop").id;
    lab.hear(Event::Stuck { op, unit: "db.service".into(), what: "1 process left: pid 7 (x)".into() });
    lab.now.mono += Duration::from_secs(49);
    assert_eq!(lab.hear(Event::Tick), "");
    lab.now.mono += Duration::from_secs(1);
    let told = lab.hear(Event::Tick);
    assert_eq!(told, "gate refused: its stop on this node hangs: 1 process left: pid 7 (x)");
}

#[test]
fn a_boot_is_answered_at_once_and_asks_nobody() {
    let mut lab = lab();
    lab.job(5, "db.service", JobKind::Start);
    let _answer = ask(&mut lab, 1);
    assert!(
        gate_look(&mut lab, 1, Some(5), SystemState::Starting)
            .starts_with("gate refused: the system is starting")
    );
}

#[test]
fn a_repeat_is_answered_from_memory_until_the_state_changes() {
    let mut lab = lab();
    let refusal = |id| Event::GateAnswered {
        id,
        answer: Ok(GateAnswer::Refused { why: "it runs on n2".into(), remedy: "move it".into() }),
    };
    let _first = ask(&mut lab, 1);
    lab.hear(refusal(1));
    let mut second = ask(&mut lab, 2);
    assert!(second.try_recv().is_err(), "it waits in the action");
    assert!(!lab.agent.actions.iter().any(|action| matches!(action, Action::GateLook { id: 2, .. })));
    lab.order(Vec::new());
    let (reply, _third) = oneshot::channel();
    let asked = Event::GateAsked { id: 3, unit: "db.service".into(), reply };
    assert_eq!(lab.hear(asked), "look db.service for a gate");
}

#[test]
fn a_start_of_a_member_alone_is_refused_by_name_and_not_remembered() {
    let mut lab = lab();
    let found = Found { members: vec!["db.socket".into()], ..plain() };
    let found = BTreeMap::from([(UnitName::from("db.service"), found)]);
    lab.hear(Event::Discovered(Discovery { found, ..Discovery::default() }));
    lab.job(5, "db.socket", JobKind::Start);
    let _answer = ask(&mut lab, 1);
    assert_eq!(
        gate_look(&mut lab, 1, None, SystemState::Running),
        "gate refused: db.socket runs only where db.service runs"
    );
    // A start of the unit itself, a moment later, is a question of its own.
    lab.job(6, "db.service", JobKind::Start);
    let (reply, _second) = oneshot::channel();
    let asked = Event::GateAsked { id: 2, unit: "db.service".into(), reply };
    assert_eq!(lab.hear(asked), "look db.service for a gate");
}

#[test]
fn a_permit_that_a_gate_does_not_find_is_written_again() {
    let mut lab = lab();
    lab.running();
    let asked = |id| {
        let (reply, _answer) = oneshot::channel();
        Event::GateAsked { id, unit: "db.service".into(), reply }
    };
    assert_eq!(lab.hear(asked(1)), "file db.service 7; gate granted");
    // Without a lease no permit is written (F8).
    lab.now.leased = false;
    assert!(!lab.hear(asked(2)).contains("file db.service 7; gate"));
}

#[test]
fn a_start_that_was_given_up_does_not_answer_the_next() {
    let mut lab = lab();
    let _answer = ask(&mut lab, 1);
    assert_eq!(gate_look(&mut lab, 1, None, SystemState::Running), "gate refused: the start was cancelled");
    let (reply, _second) = oneshot::channel();
    let asked = Event::GateAsked { id: 2, unit: "db.service".into(), reply };
    assert_eq!(lab.hear(asked), "look db.service for a gate");
}

/// The release was sent, and the leader answers by a state in which the permit still stands.
#[test]
fn a_grant_of_what_was_released_is_no_answer() {
    let mut lab = lab();
    lab.agent.floors.raise(&"db.service".into(), Token(7), Cause::Failed("exit status 1".into()));
    lab.job(5, "db.service", JobKind::Start);
    let _answer = ask(&mut lab, 1);
    gate_look(&mut lab, 1, Some(5), SystemState::Running);
    let granted = || Event::GateAnswered { id: 1, answer: Ok(GateAnswer::Granted { token: Token(7) }) };
    assert_eq!(lab.hear(granted()), "");
    assert_eq!(lab.order(Vec::new()), "look db.service for a gate");
    assert_eq!(
        gate_look(&mut lab, 1, Some(5), SystemState::Running),
        "ask for db.service, operator on n1 (systemctl start) wishes"
    );
    assert_eq!(lab.order(vec![view("db.service", 8, Phase::Granted)]), "start db.service 8 with 1 gates");
}

/// A person's start that may be made under token 7, before the orders bring that.
fn granted() -> (Lab, oneshot::Receiver<Answer>) {
    let mut lab = lab();
    lab.job(5, "db.service", JobKind::Start);
    let answer = ask(&mut lab, 1);
    gate_look(&mut lab, 1, Some(5), SystemState::Running);
    lab.hear(Event::GateAnswered { id: 1, answer: Ok(GateAnswer::Granted { token: Token(7) }) });
    (lab, answer)
}

/// It was moved, or stopped, between the answer and the orders that bring the permit.
#[test]
fn a_grant_that_is_taken_back_before_it_came_is_asked_for_anew() {
    let (mut lab, _answer) = granted();
    assert_eq!(lab.order(Vec::new()), "", "these orders may be older than the answer");
    lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]);
    let told = lab.end("db.service", gone("db.service"));
    assert!(told.contains("look db.service for a gate"), "{told}");
}

#[test]
fn a_permit_that_does_not_come_is_not_waited_for_without_a_word() {
    let (mut lab, _answer) = granted();
    lab.now.mono += Duration::from_secs(50);
    assert_eq!(lab.hear(Event::Tick), "gate refused: it may start here, but permit 7 has not come");
}
