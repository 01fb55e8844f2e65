//! The end of a lease, and what it leaves to be stopped.

use super::*;

#[test]
fn at_the_end_of_a_lease_files_go_first_and_dependents_stop_first() {
    let mut ip = permit(8);
    ip.stops_before = BTreeSet::from(["db.service".into()]);
    let mut web = permit(9);
    web.terms = Terms { on_quorum_loss: OnQuorumLoss::Continue, ..web.terms };
    let mut db = permit(7);
    db.stops_before = BTreeSet::new();
    let mut lab = lab_with(&[("db.service", db), ("ip.service", ip), ("web.service", web)]);
    lab.discover(&["db.service", "ip.service", "web.service"]);
    for unit in ["db.service", "ip.service", "web.service"] {
        lab.look(unit, up());
    }
    lab.now.leased = false;
    assert_eq!(
        lab.hear(Event::Tick),
        "unfile db.service; unfile ip.service; unfile ip.service; stop ip.service or take down"
    );
    assert_eq!(
        lab.end("ip.service", gone("ip.service")),
        "unfile db.service; stop db.service or take down; look ip.service"
    );
    assert_eq!(lab.end("db.service", gone("db.service")), "look db.service");
    assert_eq!(*lab.run("web.service"), Run::Up);
    lab.look("ip.service", down());
    lab.look("db.service", down());
    // The releases are told when there is somebody to tell.
    lab.now.leased = true;
    assert_eq!(
        lab.open(2),
        "send inventory running [web.service]; send released ip.service 8 LeaseEnded; \
         send released db.service 7 LeaseEnded"
    );
}

#[test]
fn in_maintenance_only_what_others_count_on_ends_with_the_lease() {
    let mut db = permit(7);
    db.hands_off = true;
    let mut leased = permit(8);
    leased.hands_off = true;
    leased.terms = Terms { fencing: policy::Fencing::Lease, ..leased.terms };
    assert!(
        !Permit { terms: Terms { fencing: policy::Fencing::None, ..db.terms.clone() }, ..db.clone() }
            .outlasts_the_lease()
    );
    let mut lab = lab_with(&[("db.service", db), ("web.service", leased)]);
    lab.discover(&["db.service", "web.service"]);
    for unit in ["db.service", "web.service"] {
        lab.look(unit, up());
    }
    lab.now.leased = false;
    assert_eq!(
        lab.hear(Event::Tick),
        "unfile web.service; unfile web.service; stop web.service or take down"
    );
    assert_eq!(lab.changes("db.service", failed()), "");
    assert_eq!(*lab.run("db.service"), Run::Down, "and its file is still there");
}

#[test]
fn the_end_of_a_lease_cancels_a_start_and_starts_nothing_after() {
    let mut lab = lab();
    lab.order(vec![view("db.service", 7, Phase::Granted)]);
    lab.now.leased = false;
    assert_eq!(lab.hear(Event::Tick), "unfile db.service; unfile db.service; stop db.service or take down");
    lab.end("db.service", gone("db.service"));
    lab.look("db.service", down());
    lab.now.leased = true;
    assert_eq!(lab.hear(Event::Tick), "", "a lease alone starts nothing: the orders are old");
}

#[test]
fn a_grant_that_came_before_the_lease_is_used_when_the_lease_is_there() {
    let mut lab = lab();
    lab.now.leased = false;
    lab.hear(Event::Tick);
    assert_eq!(lab.order(vec![view("db.service", 7, Phase::Granted)]), "", "the welcome took too long");
    lab.now.leased = true;
    assert_eq!(lab.hear(Event::Tick), "start db.service 7");
}

#[test]
fn what_could_not_be_sent_keeps_the_agent_ticking() {
    let mut lab = lab();
    assert!(!lab.agent.is_restless(), "nothing waits for a tick");
    lab.agent.unsend();
    assert!(lab.agent.is_restless(), "the inventory was not sent");
    lab.now.leased = false;
    lab.hear(Event::Tick);
    assert!(lab.agent.is_restless(), "the return of the lease is found by the tick");
}

#[test]
fn a_stop_under_way_at_the_end_of_the_lease_loses_its_patience() {
    let mut lab = lab();
    lab.running();
    assert_eq!(
        lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]),
        "unfile db.service; stop db.service"
    );
    lab.now.leased = false;
    assert_eq!(lab.hear(Event::Tick), "unfile db.service; stop db.service or take down");
}

#[test]
fn a_stop_that_pid_1_never_answers_takes_the_node_down_in_time() {
    let mut lab = lab();
    lab.running();
    lab.now.leased = false;
    assert!(lab.hear(Event::Tick).contains("stop db.service or take down"));
    let silent = End::Failed(Failure::Connection("systemd did not answer StopUnit within 25000 ms".into()));
    assert_eq!(lab.end("db.service", silent), "");
    lab.now.boot_ms += permit(7).terms.stop_budget_ms;
    assert_eq!(lab.hear(Event::Tick), "stop db.service or take down", "it may still succeed");
    lab.now.boot_ms += 600;
    let told = lab.hear(Event::Tick);
    assert!(told.contains("take down: db.service had to stop at the end of the lease"), "{told}");
}

#[test]
fn without_a_connection_to_pid_1_the_end_of_a_lease_is_kept_as_well() {
    let mut lab = lab();
    lab.running();
    lab.hear(Event::Signal(Signal::Disconnected));
    lab.now.leased = false;
    assert_eq!(lab.hear(Event::Tick), "unfile db.service");
    lab.now.boot_ms += permit(7).terms.stop_budget_ms + 600;
    assert!(lab.hear(Event::Tick).contains("take down: db.service"));
}

#[test]
fn a_stop_that_others_count_from_the_end_of_the_lease_gets_no_time_anew() {
    let mut db = permit(7);
    db.terms.fencing = policy::Fencing::Lease;
    let (budget, told_late) = (db.terms.stop_budget_ms, 3_000);
    for (fencing, overdue) in [(policy::Fencing::Lease, true), (policy::Fencing::Required, false)] {
        db.terms.fencing = fencing;
        // As after a restart in the midst of the stops: nothing is filed, and the lease is over.
        let mut lab = Lab::new(&[], &[("db.service", db.clone())]);
        lab.now.leased = false;
        lab.now.ends_ms = lab.now.boot_ms - told_late;
        let told = lab.hear(Event::Connected);
        assert_eq!(told, "unfile db.service; unfile db.service; stop db.service or take down");
        lab.now.boot_ms += budget + 600 - told_late;
        assert_eq!(lab.hear(Event::Tick).contains("take down: db.service"), overdue, "{fencing:?}");
    }
}

#[test]
fn what_was_being_released_is_forgotten_once_it_is_gone() {
    let mut lab = Lab::new(&[], &[("db.service", permit(7))]);
    lab.hear(Event::Connected);
    lab.discover(&["db.service"]);
    lab.look("db.service", (ActiveState::Deactivating, "stop-sigterm", "success"));
    lab.changes("db.service", down());
    assert_eq!(lab.hear(Event::Tick), "", "why it stopped, the cluster knows");
    lab.open(1);
    let told = lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]);
    assert_eq!(told, "unfile db.service; stop db.service");
    assert!(lab.end("db.service", gone("db.service")).contains("released db.service 7 Ordered"));
    assert!(lab.done.iter().any(|action| matches!(action, Action::Forget { .. })));
}

#[test]
fn what_has_stopped_in_time_takes_nobody_down() {
    let mut lab = lab();
    lab.running();
    lab.now.leased = false;
    lab.hear(Event::Tick);
    lab.end("db.service", gone("db.service"));
    lab.look("db.service", down());
    lab.now.boot_ms += 1_000_000;
    assert_eq!(lab.hear(Event::Tick), "");
    assert_eq!(lab.agent.down_by_ms, None, "the timer has nothing left to wait for");
}

#[test]
fn what_stops_already_is_not_frozen_in_the_midst_of_it() {
    let mut db = permit(7);
    db.terms.on_quorum_loss = OnQuorumLoss::Freeze;
    let mut lab = lab_with(&[("db.service", db)]);
    lab.discover(&["db.service"]);
    lab.look("db.service", up());
    lab.open(1);
    let told = lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]);
    assert_eq!(told, "unfile db.service; stop db.service");
    lab.now.leased = false;
    assert_eq!(lab.hear(Event::Tick), "unfile db.service; stop db.service or take down");
}

#[test]
fn a_lease_that_ends_and_comes_back_does_not_undo_the_stop_of_the_daemon() {
    let mut ip = permit(8);
    ip.stops_before = BTreeSet::from(["db.service".into()]);
    let mut lab = lab_with(&[("db.service", permit(7)), ("ip.service", ip)]);
    lab.discover(&["db.service", "ip.service"]);
    lab.look("db.service", up());
    lab.look("ip.service", up());
    lab.open(1);
    let (done, _finished) = oneshot::channel();
    lab.hear(Event::Command(AgentCommand::Shutdown { kind: Shutdown::Stop, done }));
    lab.now.leased = false;
    lab.hear(Event::Tick);
    lab.now.leased = true;
    lab.open(2);
    let permits = vec![view("db.service", 7, Phase::Active), view("ip.service", 8, Phase::Active)];
    assert_eq!(lab.orders(2, 5, permits, &[]), "", "nothing is given back to a daemon that ends");
    assert!(lab.end("ip.service", gone("ip.service")).contains("stop db.service"));
}

#[test]
fn a_unit_in_session_again_before_its_turn_goes_on() {
    let mut ip = permit(8);
    ip.stops_before = BTreeSet::from(["db.service".into()]);
    let mut lab = lab_with(&[("db.service", permit(7)), ("ip.service", ip)]);
    lab.discover(&["db.service", "ip.service"]);
    lab.look("db.service", up());
    lab.look("ip.service", up());
    lab.open(1);
    lab.now.leased = false;
    lab.hear(Event::Tick);
    lab.now.leased = true;
    lab.open(2);
    let permits = vec![view("db.service", 7, Phase::Active), view("ip.service", 8, Phase::Active)];
    assert_eq!(lab.orders(2, 5, permits, &[]), "file db.service 7");
}

#[test]
fn freeze_takes_the_file_first_and_thaws_only_for_the_same_permit() {
    for kept in [true, false] {
        let mut db = permit(7);
        db.terms.on_quorum_loss = OnQuorumLoss::Freeze;
        let terms = db.terms.clone();
        let mut lab = lab_with(&[("db.service", db)]);
        lab.discover(&["db.service"]);
        lab.look("db.service", up());
        lab.now.leased = false;
        assert_eq!(lab.hear(Event::Tick), "unfile db.service; freeze db.service");
        let mut frozen = look("db.service", up());
        frozen.reading.freezer_state = "frozen".into();
        assert_eq!(lab.end("db.service", End::Froze(Ok(Box::new(frozen)))), "");
        lab.now.leased = true;
        assert_eq!(lab.open(1), "send inventory running [db.service]", "a frozen unit is possibly running");
        let mut word = view("db.service", 7, Phase::Active);
        word.terms = terms;
        let told = lab.order(if kept { vec![word] } else { Vec::new() });
        let expected =
            if kept { "file db.service 7; thaw db.service" } else { "unfile db.service; stop db.service" };
        assert_eq!(told, expected);
        let stop = lab
            .done
            .iter()
            .any(|action| matches!(action, Action::Begin { work: Work::Stop(stop), .. } if stop.frozen));
        assert_eq!(stop, !kept, "what is frozen is killed, never stopped");
    }
}

#[test]
fn reboot_terms_take_the_node_down() {
    let mut db = permit(7);
    db.terms.on_quorum_loss = OnQuorumLoss::Reboot;
    let mut lab = lab_with(&[("db.service", db)]);
    lab.now.leased = false;
    assert!(lab.hear(Event::Tick).contains("take down: db.service must not run without a quorum"));
}
