//! A unit in maintenance over a person's stop and start, the end of it, and the end of the daemon.

use super::*;

fn maintained() -> Vec<PermitView> {
    vec![PermitView { hands_off: true, ..view("db.service", 7, Phase::Active) }]
}

fn over() -> Vec<PermitView> {
    vec![view("db.service", 7, Phase::Active)]
}

#[test]
fn a_person_stops_and_starts_it_under_the_permit_that_it_has() {
    let mut lab = lab();
    lab.running();
    assert_eq!(lab.order(maintained()), "file db.service 7; send observed db.service running");
    lab.job(5, "db.service", JobKind::Stop);
    lab.changes("db.service", (ActiveState::Deactivating, "stop-sigterm", "success"));
    assert_eq!(lab.changes("db.service", down()), "send observed db.service down");
    assert_eq!(lab.changes("db.service", up()), "send observed db.service running");
    assert_eq!(lab.changes("db.service", failed()), "send observed db.service down");
    assert_eq!(lab.order(over()), "unfile db.service; stop db.service");
    assert_eq!(
        lab.end("db.service", End::Gone(Box::new(look("db.service", failed())))),
        "look db.service; send released db.service 7 DownInMaintenance"
    );
}

#[test]
fn what_runs_at_the_end_of_it_is_the_clusters_again() {
    let mut lab = lab();
    lab.running();
    lab.order(maintained());
    assert_eq!(lab.order(over()), "file db.service 7");
    assert_eq!(lab.changes("db.service", failed()), "unfile db.service; stop db.service");
}

#[test]
fn the_daemon_may_be_stopped_under_it_but_a_machine_that_goes_down_says_so() {
    for (kind, expected) in [
        (Shutdown::Stop, "send leaving"),
        (Shutdown::SystemDown, "unfile db.service; stop db.service; send leaving"),
    ] {
        let mut lab = lab();
        lab.running();
        lab.order(maintained());
        let (done, _kept) = oneshot::channel();
        let said = lab.hear(Event::Command(AgentCommand::Shutdown { kind, done }));
        assert_eq!(said, expected);
    }
}

/// What others count as ended after a time has nobody to end it once the daemon has gone (F8).
#[test]
fn what_rests_on_its_lease_stops_with_the_daemon() {
    let mut lab = lab();
    let with = |phase, fencing| {
        let mut one = view("db.service", 7, phase);
        one.terms.fencing = fencing;
        vec![one]
    };
    lab.order(with(Phase::Granted, policy::Fencing::Lease));
    lab.end("db.service", End::Started { job: "done".into(), look: Box::new(look("db.service", up())) });
    lab.look("db.service", up());
    let maintained = with(Phase::Active, policy::Fencing::Lease).into_iter();
    lab.order(maintained.map(|one| PermitView { hands_off: true, ..one }).collect());
    let (done, _kept) = oneshot::channel();
    let said = lab.hear(Event::Command(AgentCommand::Shutdown { kind: Shutdown::Stop, done }));
    assert_eq!(said, "unfile db.service; stop db.service; send leaving");
}

/// A copy that may run more than once, too: nobody would end it when its lease is over.
#[test]
fn a_replica_that_rests_on_its_lease_stops_with_the_daemon() {
    for (fencing, expected) in [
        (policy::Fencing::Lease, "unfile db.service; stop db.service; send leaving"),
        (policy::Fencing::None, "send leaving"),
    ] {
        let mut lab = lab();
        let with = |phase| {
            let mut one = view("db.service", 7, phase);
            one.terms = Terms { fencing, exclusive: false, ..one.terms };
            vec![one]
        };
        lab.order(with(Phase::Granted));
        lab.end("db.service", End::Started { job: "done".into(), look: Box::new(look("db.service", up())) });
        lab.look("db.service", up());
        lab.order(with(Phase::Active));
        let (done, _kept) = oneshot::channel();
        let said = lab.hear(Event::Command(AgentCommand::Shutdown { kind: Shutdown::Stop, done }));
        assert_eq!(said, expected);
    }
}

/// Terms that were taken over, and of which the cluster has not heard yet, are not put back by a maintenance (F13).
#[test]
fn terms_that_were_taken_over_stay() {
    let mut lab = lab();
    lab.running();
    let mut next = view("db.service", 7, Phase::Active).terms;
    next.revision += 1;
    next.fencing = policy::Fencing::Lease;
    lab.order(vec![PermitView { next_terms: Some(next.clone()), ..view("db.service", 7, Phase::Active) }]);
    lab.order(vec![PermitView {
        next_terms: Some(next),
        hands_off: true,
        ..view("db.service", 7, Phase::Active)
    }]);
    let held = lab.agent.units[&UnitName::from("db.service")].held.clone().expect("held");
    assert_eq!((held.terms.fencing, held.hands_off), (policy::Fencing::Lease, true));
}
