//! Starts and releases: from the inventory to the last answer.

use super::*;

#[test]
fn a_session_begins_with_the_inventory() {
    let mut lab = lab_with(&[]);
    lab.discover(&["db.service", "web.service"]);
    lab.look("db.service", up());
    assert_eq!(lab.open(1), "", "not before everything was looked at");
    assert_eq!(lab.look("web.service", down()), "send inventory running [db.service]");
    lab.hear(Event::Session(FromSession::Closed));
    assert_eq!(lab.changes("web.service", up()), "", "nobody is there to be told");
    assert_eq!(
        lab.open(2),
        "send inventory running [db.service web.service]",
        "what changed meanwhile is in the inventory"
    );
}

#[test]
fn a_granted_unit_is_started_and_then_left_alone() {
    let mut lab = lab();
    lab.running();
    assert_eq!(lab.changes("db.service", up()), "");
}

#[test]
fn orders_of_another_session_or_an_older_state_are_dropped() {
    let mut lab = lab();
    let granted = || vec![view("db.service", 7, Phase::Granted)];
    assert_eq!(lab.orders(2, 5, granted(), &[]), "");
    assert_eq!(lab.orders(1, 9, Vec::new(), &[]), "");
    assert_eq!(lab.orders(1, 8, granted(), &[]), "");
    assert_eq!(lab.orders(1, 10, granted(), &[]), "start db.service 7");
}

#[test]
fn a_crash_is_released_in_four_steps_with_its_reason() {
    let mut lab = lab();
    lab.running();
    assert_eq!(lab.changes("db.service", failed()), "unfile db.service; stop db.service");
    assert_eq!(
        lab.end("db.service", End::Gone(Box::new(look("db.service", failed())))),
        "look db.service; send released db.service 7 Failed(\"exit status 1\")"
    );
    assert_eq!(
        lab.agent.floors.of(&"db.service".into()),
        Token(7),
        "the floor is there before the fact is sent"
    );
    assert_eq!(lab.look("db.service", failed()), "");
    assert_eq!(
        lab.order(vec![view("db.service", 7, Phase::Active)]),
        "",
        "an old view while the release is on its way"
    );
}

#[test]
fn a_restart_by_systemd_itself_is_not_the_clusters_business() {
    let mut lab = lab();
    lab.running();
    let told = lab.changes("db.service", (ActiveState::Activating, "auto-restart", "exit-code"));
    assert_eq!(told, "send rests db.service 7 Some(Restarts)", "and nothing is released");
    assert_eq!(lab.changes("db.service", up()), "send rests db.service 7 None");
}

#[test]
fn an_operators_stop_travels_inside_the_release() {
    let mut lab = lab();
    lab.running();
    lab.job(5, "db.service", JobKind::Stop);
    let stops = lab.changes("db.service", (ActiveState::Deactivating, "stop-sigterm", "success"));
    assert_eq!(stops, "send rests db.service 7 Some(Stops)");
    assert_eq!(lab.changes("db.service", down()), "unfile db.service; stop db.service");
    let stop = lab.done.iter().rev().find_map(|action| match action {
        Action::Begin { work: Work::Stop(stop), .. } => stop.spool.clone(),
        _ => None,
    });
    assert_eq!(stop.map(|stop| stop.token), Some(Token(7)), "it is on disk before it is told");
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 Operator(\"operator on n1 (systemctl stop)\")"
    );
    let number = lab.agent.outbox.len() as u64;
    assert!(number > 0);
    let sent = lab.done.iter().rev().find_map(|action| match action {
        Action::Send { number, .. } => Some(*number),
        _ => None,
    });
    let taken = FromSession::FactTaken { number: sent.expect("sent"), outcome: Ok(()) };
    assert_eq!(lab.hear(Event::Session(taken)), "unspool db.service");
}

#[test]
fn a_clean_exit_is_looked_at_twice_because_a_job_may_be_told_late() {
    let mut lab = lab();
    lab.running();
    assert_eq!(lab.changes("db.service", down()), "look db.service");
    assert_eq!(lab.look("db.service", down()), "unfile db.service; stop db.service");
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 Failed(\"exited by itself\")"
    );
}

#[test]
fn a_shutdown_is_said_before_its_first_release() {
    let mut lab = lab();
    lab.running();
    lab.job(5, "db.service", JobKind::Stop);
    lab.job(6, "shutdown.target", JobKind::Start);
    assert_eq!(lab.changes("db.service", down()), "unfile db.service; stop db.service; send leaving");
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 Shutdown"
    );
}

#[test]
fn a_revoked_unit_is_stopped_even_while_it_starts() {
    let mut lab = lab();
    lab.order(vec![view("db.service", 7, Phase::Granted)]);
    assert_eq!(
        lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::GoalStopped))]),
        "unfile db.service; stop db.service"
    );
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 Ordered"
    );
}

#[test]
fn the_end_of_a_replaced_operation_changes_nothing() {
    let mut lab = lab();
    lab.order(vec![view("db.service", 7, Phase::Granted)]);
    let replaced = lab.agent.units[&UnitName::from("db.service")].op.expect("start").id;
    lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::GoalStopped))]);
    let end = End::Started { job: "done".into(), look: Box::new(look("db.service", up())) };
    assert_eq!(lab.hear(Event::Done { op: replaced, unit: "db.service".into(), end }), "");
    assert!(lab.agent.units[&UnitName::from("db.service")].release.is_some());
}

#[test]
fn a_failed_start_is_released_with_the_reason() {
    let mut lab = lab();
    lab.order(vec![view("db.service", 7, Phase::Granted)]);
    let end = End::Started { job: "failed".into(), look: Box::new(look("db.service", failed())) };
    assert_eq!(lab.end("db.service", end), "unfile db.service; stop db.service");
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 StartFailed(\"exit status 1\")"
    );
}

#[test]
fn a_start_that_came_to_nothing_is_explained_by_what_held_it() {
    let why = |job: &str, state: State, change: &dyn Fn(&mut Look)| {
        let mut look = look("db.service", state);
        change(&mut look);
        crate::agent::cause::start_failure(job, &look)
    };
    let fresh = |look: &mut Look| {
        // PID 1 looks at neither before the job has come to its turn.
        (look.reading.condition_result, look.reading.assert_result) = (false, false);
        look.reading.relations.requires = vec!["mnt.mount".into()];
        look.partners_gone = vec!["other.target".into(), "mnt.mount".into()];
    };
    assert_eq!(why("dependency", down(), &fresh), "mnt.mount, which it requires on this node, did not start");
    assert!(why("timeout", down(), &fresh).contains("JobTimeoutSec="));
    assert!(why("assert", down(), &fresh).contains("Assert… lines do not hold"));
    let condition = |look: &mut Look| look.reading.condition_result = false;
    assert!(why("done", down(), &condition).contains("Condition… lines do not hold"));
    assert!(why("done", down(), &|_| {}).contains("RemainAfterExit=yes"));
    assert_eq!(why("canceled", down(), &|_| {}), "its start job ended as canceled");
    assert_eq!(why("failed", failed(), &|_| {}), "exit status 1");
}

#[test]
fn a_start_that_finds_no_lease_is_given_back_unused() {
    let mut lab = lab();
    lab.order(vec![view("db.service", 7, Phase::Granted)]);
    assert_eq!(lab.end("db.service", End::Failed(Failure::NoLease)), "unfile db.service; stop db.service");
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 Unused"
    );
}

#[test]
fn a_start_that_a_shutdown_refuses_is_no_failure() {
    let mut lab = lab();
    lab.order(vec![view("db.service", 7, Phase::Granted)]);
    assert_eq!(
        lab.end("db.service", End::Failed(Failure::Leaving)),
        "unfile db.service; stop db.service; send leaving"
    );
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 Shutdown"
    );
}

#[test]
fn a_lost_connection_in_the_middle_of_a_stop_goes_on_with_the_stop() {
    let mut lab = lab();
    lab.running();
    lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]);
    lab.hear(Event::Signal(Signal::Disconnected));
    assert_eq!(lab.end("db.service", End::Failed(Failure::Connection("lost".into()))), "");
    assert_eq!(lab.hear(Event::Connected), "stop db.service");
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 Ordered"
    );
}

#[test]
fn a_lost_answer_is_given_again_and_nothing_is_started() {
    let mut lab = lab();
    lab.agent.floors.raise(&"db.service".into(), Token(7), Cause::Failed("exit status 1".into()));
    assert_eq!(
        lab.order(vec![view("db.service", 7, Phase::Granted)]),
        "send released db.service 7 Failed(\"exit status 1\")"
    );
}

#[test]
fn a_lost_record_of_releases_trusts_only_what_is_seen_running() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let path = dir.path().join("floors");
    std::fs::write(&path, "{").expect("damaged");
    let mut lab = lab_with(&[("web.service", permit(8))]);
    lab.agent.floors = Floors::load(&path, "boot", None, true);
    lab.discover(&["db.service", "web.service"]);
    lab.look("db.service", down());
    lab.look("web.service", up());
    lab.open(1);
    assert_eq!(
        lab.order(vec![view("db.service", 7, Phase::Granted), view("web.service", 8, Phase::Active)]),
        "send released db.service 7 Unused"
    );
    // A permit of a later state is newer than anything that was forgotten.
    assert!(lab.order(vec![view("db.service", 9, Phase::Granted)]).contains("start db.service 9"));
}

#[test]
fn what_says_that_it_is_gone_is_asked_at_each_stop_and_counts_in_its_time() {
    let mut lab = lab();
    let program = units::section::Program { path: "/usr/bin/gone".into(), args: Vec::new() };
    let found = Found { gone: Some(program.clone()), ..plain() };
    let seen = reading("db.service", ActiveState::Active, "running", "success");
    let budget = |found: &Found| crate::agent::offer::offer(found, &seen, 500).stop_budget_ms;
    assert_eq!((budget(&plain()), budget(&found)), (4_500, 9_500));
    let found = BTreeMap::from([("db.service".into(), found)]);
    lab.hear(Event::Discovered(Discovery { found, ..Discovery::default() }));
    lab.order(vec![view("db.service", 7, Phase::Granted)]);
    lab.end("db.service", End::Started { job: "done".into(), look: Box::new(look("db.service", up())) });
    lab.order(vec![view("db.service", 7, Phase::Revoking(policy::StopReason::Moved))]);
    let asked = lab.done.iter().rev().find_map(|action| match action {
        Action::Begin { work: Work::Stop(stop), .. } => stop.gone.clone(),
        _ => None,
    });
    assert_eq!(asked, Some(program));
}

/// A drop-in that is broken while the unit runs takes the question from no copy; a unit that is down is asked anew.
#[test]
fn what_says_that_it_is_gone_is_kept_with_the_permit_and_asked_of_what_is_down() {
    let program = units::section::Program { path: "/usr/bin/gone".into(), args: Vec::new() };
    let names = |gone: Option<&units::section::Program>| {
        let found = Found { gone: gone.cloned(), ..plain() };
        let found = BTreeMap::from([("db.service".into(), found)]);
        Event::Discovered(Discovery { found, ..Discovery::default() })
    };
    let last_look = |lab: &Lab| {
        lab.done.iter().rev().find_map(|action| match action {
            Action::Begin { work: Work::Look { gone, .. }, .. } => Some(gone.clone()),
            _ => None,
        })
    };
    let mut lab = lab();
    assert_eq!(
        lab.hear(names(Some(&program))),
        "look db.service",
        "it was seen down, and is not told before"
    );
    assert_eq!(last_look(&lab), Some(Some(program.clone())));
    assert_eq!(lab.hear(names(Some(&program))), "");
    lab.look("db.service", down());
    lab.order(vec![view("db.service", 7, Phase::Granted)]);
    lab.end("db.service", End::Started { job: "done".into(), look: Box::new(look("db.service", up())) });
    lab.hear(names(None));
    let permit = lab.agent.units[&UnitName::from("db.service")].held.clone().expect("held");
    assert_eq!(permit.gone, Some(program.clone()));
    lab.order(vec![view("db.service", 7, Phase::Revoking(policy::StopReason::Moved))]);
    let asked = lab.done.iter().rev().find_map(|action| match action {
        Action::Begin { work: Work::Stop(stop), .. } => stop.gone.clone(),
        _ => None,
    });
    assert_eq!(asked, Some(program));
}

#[test]
fn what_another_command_of_a_unit_did_is_not_said_of_its_main_process() {
    let ended = |result: &str, code, status| {
        let (exec_main_code, exec_main_status) = (code, status);
        let reading = reading("db.service", ActiveState::Failed, "failed", result);
        crate::agent::cause::ending(&Reading { exec_main_code, exec_main_status, ..reading })
    };
    assert_eq!(ended("exit-code", 1, 3), "exit status 3");
    assert_eq!(ended("signal", 2, 9), "killed by signal 9");
    for (result, code, status) in
        [("exit-code", 1, 0), ("exit-code", 0, 0), ("signal", 0, 0), ("signal", 1, 0)]
    {
        let said = ended(result, code, status);
        assert!(said.starts_with("one of its commands (ExecStartPre="), "{result}: {said}");
    }
}
