//! Stops by hand that something else overlaps: a start, an order, the end of a lease, a daemon that was away.

use super::*;

const BY_HAND: &str =
    "look db.service; send released db.service 7 Operator(\"operator on n1 (systemctl stop)\")";

impl Lab {
    fn heard_of(&mut self, id: u32, unit: &str, kind: Option<JobKind>, ours: bool) {
        let at = self.now.mono;
        let _ = self.hear(Event::Signal(Signal::JobNew { id, unit: unit.into(), kind, ours, at }));
    }

    fn ended(&mut self, id: u32, unit: &str, result: JobResult, ours: bool) -> String {
        let at = self.now.mono;
        self.hear(Event::Signal(Signal::JobRemoved { id, unit: unit.into(), result, ours, at }))
    }

    fn pass(&mut self, ms: u64) {
        self.now.boot_ms += ms;
        self.now.mono += Duration::from_millis(ms);
    }

    /// Our start under token 7 is cancelled by a stop that is over at once.
    fn cancelled_start(&mut self) {
        assert_eq!(self.order(vec![view("db.service", 7, Phase::Granted)]), "start db.service 7");
        self.heard_of(5, "db.service", Some(JobKind::Start), true);
        self.pass(2_000);
        self.ended(5, "db.service", JobResult::Canceled, true);
        self.heard_of(6, "db.service", None, false);
        self.ended(6, "db.service", JobResult::Done, false);
    }

    /// The start's end and the look that follows show this.
    fn start_ends(&mut self, job: &str, seen: Look) -> String {
        let end = End::Started { job: job.into(), look: Box::new(look("db.service", down())) };
        assert_eq!(self.end("db.service", end), "look db.service", "its jobs may be told a moment later");
        self.end("db.service", End::Looked(Box::new(seen)))
    }

    fn spooled(&self) -> Option<Token> {
        self.done.iter().rev().find_map(|action| match action {
            Action::Begin { work: Work::Stop(stop), .. } => stop.spool.as_ref().map(|spool| spool.token),
            _ => None,
        })
    }

    fn cancelled_gate(&mut self, id: u64, manager: SystemState) -> String {
        let job = 40 + id as u32;
        self.job(job, "db.service", JobKind::Start);
        let _answer = ask(self, id);
        gate_look(self, id, Some(job), SystemState::Running);
        assert_eq!(self.hear(Event::GateClosed { id }), "withdraw; settle");
        self.ended(job, "db.service", JobResult::Canceled, false);
        self.look("db.service", down());
        self.settled(id, manager)
    }

    fn settled(&mut self, id: u64, manager: SystemState) -> String {
        let reading = reading("db.service", ActiveState::Inactive, "dead", "success");
        let (upheld_by_active, active_triggers) = (Vec::new(), Vec::new());
        let look = Ok(Box::new(GateLook { reading, manager, upheld_by_active, active_triggers }));
        self.hear(Event::GateSettled { id, unit: "db.service".into(), since: self.now.mono, look })
    }
}

#[test]
fn a_stop_by_hand_while_the_cluster_starts_it_is_no_failed_start() {
    let mut lab = lab();
    lab.cancelled_start();
    assert_eq!(lab.start_ends("canceled", look("db.service", down())), "unfile db.service; stop db.service");
    assert_eq!(lab.spooled(), Some(Token(7)));
    assert_eq!(lab.end("db.service", gone("db.service")), BY_HAND);
}

#[test]
fn a_shutdown_that_stops_a_unit_before_its_start_was_looked_at_is_no_failed_start() {
    for (manager, told) in [
        (SystemState::Running, "7 StartFailed"),
        (SystemState::Stopping, "look db.service; send released db.service 7 Shutdown"),
    ] {
        let mut lab = lab();
        assert_eq!(lab.order(vec![view("db.service", 7, Phase::Granted)]), "start db.service 7");
        lab.heard_of(5, "db.service", Some(JobKind::Start), true);
        lab.ended(5, "db.service", JobResult::Done, true);
        lab.pass(50);
        lab.heard_of(6, "db.service", Some(JobKind::Stop), false);
        lab.ended(6, "db.service", JobResult::Done, false);
        let seen = Look { manager: Some(manager), ..look("db.service", down()) };
        let release = lab.end("db.service", End::Started { job: "done".into(), look: Box::new(seen) });
        assert!(release.starts_with("unfile db.service; stop db.service"), "{release}");
        let end = lab.end("db.service", gone("db.service"));
        assert!(end.contains(told), "{end}");
    }
}

#[test]
fn a_start_that_the_system_or_another_unit_cancels_is_no_wish() {
    let mut lab = lab();
    lab.cancelled_start();
    let stopping = Look { manager: Some(SystemState::Stopping), ..look("db.service", down()) };
    assert_eq!(lab.start_ends("canceled", stopping), "unfile db.service; stop db.service; send leaving");
    assert!(lab.end("db.service", gone("db.service")).ends_with("released db.service 7 Shutdown"));

    let mut lab = super::lab();
    lab.cancelled_start();
    lab.heard_of(7, "net.service", Some(JobKind::Stop), false);
    let mut taken = look("db.service", down());
    taken.reading.relations.requires = vec!["net.service".into()];
    lab.start_ends("canceled", taken);
    let told = lab.end("db.service", gone("db.service"));
    assert!(told.ends_with("7 Propagated(\"net.service was stopped on n1\")"), "{told}");
}

#[test]
fn a_start_that_we_cancel_ourselves_has_failed() {
    let mut lab = lab();
    lab.order(vec![view("db.service", 7, Phase::Granted)]);
    let end = End::Started { job: "cancelled after 7 s".into(), look: Box::new(look("db.service", down())) };
    assert_eq!(lab.end("db.service", end), "unfile db.service; stop db.service");
    let told = lab.end("db.service", gone("db.service"));
    assert!(told.ends_with("StartFailed(\"its start job ended as cancelled after 7 s\")"), "{told}");
}

#[test]
fn a_slow_stop_by_hand_is_not_renamed_by_an_order() {
    let mut lab = lab();
    lab.running();
    lab.job(5, "db.service", JobKind::Stop);
    lab.changes("db.service", (ActiveState::Deactivating, "stop-sigterm", "success"));
    assert_eq!(
        lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]),
        "unfile db.service; stop db.service"
    );
    assert_eq!(lab.spooled(), Some(Token(7)));
    assert_eq!(lab.end("db.service", gone("db.service")), BY_HAND);
}

#[test]
fn a_stop_by_hand_of_an_earlier_run_says_nothing_of_this_one() {
    let mut lab = lab();
    lab.job(5, "db.service", JobKind::Stop);
    lab.ended(5, "db.service", JobResult::Done, false);
    lab.look("db.service", down());
    assert_eq!(lab.order(vec![view("db.service", 7, Phase::Granted)]), "start db.service 7");
    lab.heard_of(6, "db.service", Some(JobKind::Start), true);
    lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]);
    assert!(lab.end("db.service", gone("db.service")).ends_with("released db.service 7 Ordered"));
}

#[test]
fn a_restart_by_hand_does_not_outrank_an_order() {
    let mut lab = lab();
    lab.running();
    lab.job(5, "db.service", JobKind::Restart);
    lab.changes("db.service", (ActiveState::Deactivating, "stop-sigterm", "success"));
    lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]);
    assert!(lab.end("db.service", gone("db.service")).ends_with("released db.service 7 Ordered"));
}

#[test]
fn a_slow_stop_by_hand_is_not_renamed_by_the_end_of_the_lease() {
    let mut lab = lab();
    lab.running();
    lab.job(5, "db.service", JobKind::Stop);
    lab.changes("db.service", (ActiveState::Deactivating, "stop-sigterm", "success"));
    lab.now.leased = false;
    let told = lab.hear(Event::Tick);
    assert_eq!(told, "unfile db.service; unfile db.service; stop db.service or take down");
    assert_eq!(lab.spooled(), Some(Token(7)));
    assert_eq!(lab.end("db.service", gone("db.service")), BY_HAND);
}

#[test]
fn a_stop_by_hand_that_is_not_on_disk_is_told_where_nobody_else_knows_of_it() {
    let mut lab = lab();
    lab.running();
    let unspooled = || Event::NotSpooled { unit: "db.service".into(), why: "No space left on device".into() };
    let warned = |lab: &Lab| {
        let told =
            |action: &&Action| matches!(action, Action::Tell(line) if line.message.contains("No space left"));
        lab.done.iter().filter(told).count()
    };
    lab.hear(unspooled());
    assert_eq!(warned(&lab), 0, "the cluster hears of it in a moment");
    lab.hear(Event::Session(FromSession::Closed));
    lab.hear(unspooled());
    assert_eq!(warned(&lab), 1);
}

#[test]
fn the_end_of_a_lease_hurries_a_release_and_leaves_its_cause() {
    let mut lab = lab();
    lab.running();
    lab.job(5, "db.service", JobKind::Stop);
    lab.changes("db.service", down());
    lab.now.leased = false;
    assert_eq!(lab.hear(Event::Tick), "unfile db.service; stop db.service or take down");
    assert_eq!(lab.end("db.service", gone("db.service")), BY_HAND);
}

#[test]
fn a_cancelled_start_takes_its_wish_back_and_its_grant_is_given_back() {
    let mut lab = lab();
    let wish = "take back 1 for db.service by operator on n1 (start cancelled)";
    assert_eq!(lab.cancelled_gate(1, SystemState::Running), wish);
    assert_eq!(lab.order(vec![view("db.service", 7, Phase::Granted)]), "unfile db.service; stop db.service");
    assert!(lab.end("db.service", gone("db.service")).ends_with("released db.service 7 Unused"));
    lab.look("db.service", down());
    // Taken back at 9: what was granted before that is still its answer, and what comes later is another's.
    lab.hear(Event::Withdrawn { id: 1, unit: "db.service".into(), index: Some(9) });
    assert_eq!(lab.order(vec![view("db.service", 8, Phase::Granted)]), "unfile db.service; stop db.service");
    assert!(lab.end("db.service", gone("db.service")).ends_with("released db.service 8 Unused"));
    lab.look("db.service", down());
    assert_eq!(lab.order(vec![view("db.service", 10, Phase::Granted)]), "start db.service 10");
}

#[test]
fn a_cancelled_start_that_asked_for_nothing_refuses_no_grant() {
    let mut lab = lab();
    lab.cancelled_gate(1, SystemState::Running);
    let taken_back = |id, index| Event::Withdrawn { id, unit: "db.service".into(), index };
    // The answer to an older gate is none to this one.
    lab.hear(taken_back(0, None));
    assert!(lab.order(vec![view("db.service", 7, Phase::Granted)]).contains("stop db.service"));
    lab.end("db.service", gone("db.service"));
    lab.look("db.service", down());
    lab.hear(taken_back(1, None));
    assert_eq!(lab.order(vec![view("db.service", 8, Phase::Granted)]), "start db.service 8");
}

#[test]
fn a_gate_that_the_system_or_a_rival_cancels_wishes_nothing() {
    let mut lab = lab();
    assert_eq!(lab.cancelled_gate(1, SystemState::Stopping), "send leaving");

    let mut lab = super::lab();
    lab.heard_of(4, "rescue.target", Some(JobKind::Start), false);
    assert_eq!(lab.cancelled_gate(1, SystemState::Running), "");
    assert_eq!(lab.order(vec![view("db.service", 7, Phase::Granted)]), "start db.service 7");
}

#[test]
fn a_gate_that_ends_for_another_reason_wishes_nothing() {
    let mut lab = lab();
    lab.job(5, "db.service", JobKind::Start);
    let _answer = ask(&mut lab, 1);
    gate_look(&mut lab, 1, Some(5), SystemState::Running);
    lab.hear(Event::GateClosed { id: 1 });
    assert_eq!(lab.settled(1, SystemState::Running), "");
}

/// `db.service` ran under token 7 and is found down by a daemon that was away.
fn away(filed: bool, seen: Look) -> String {
    let mut lab = lab_with(&[]);
    if filed {
        lab.agent.units.entry("db.service".into()).or_default().left_filed = Some(permit(7));
    }
    lab.discover(&["db.service"]);
    lab.end("db.service", End::Looked(Box::new(seen.clone())));
    lab.open(1);
    assert_eq!(lab.order(vec![view("db.service", 7, Phase::Active)]), "look db.service");
    lab.end("db.service", End::Looked(Box::new(seen)));
    lab.end("db.service", gone("db.service"))
}

#[test]
fn a_stop_by_hand_while_the_daemon_was_away_is_known_by_what_a_unit_cannot_do_itself() {
    let exited = || look("db.service", down());
    let by_itself = "look db.service; send released db.service 7 Failed(\"exited by itself\")";
    assert_eq!(away(true, exited()), by_itself);

    let mut endless = exited();
    endless.reading.restart = "always".into();
    assert_eq!(away(true, endless.clone()), BY_HAND);
    assert_eq!(away(false, endless.clone()), by_itself, "without its file it was the daemon that stopped it");

    let mut terminated = exited();
    (terminated.reading.exec_main_code, terminated.reading.exec_main_status) = (2, 15);
    assert_eq!(away(true, terminated), BY_HAND);

    let rescued = Look { manager: Some(SystemState::Maintenance), ..endless.clone() };
    let told = away(true, rescued);
    assert!(
        told.ends_with("7 Propagated(\"rescue.target or emergency.target was isolated on n1\")"),
        "{told}"
    );

    endless.partners_gone = vec!["net.service".into()];
    let told = away(true, endless);
    assert!(told.ends_with("7 Propagated(\"net.service was stopped on n1\")"), "{told}");
}

#[test]
fn a_stop_that_the_daemon_before_had_begun_is_no_failure() {
    for (seen, because) in [(down(), "LeaseEnded"), (failed(), "Failed(\"exit status 1\")")] {
        let mut lab = Lab::new(&[], &[("db.service", permit(7))]);
        lab.hear(Event::Connected);
        lab.discover(&["db.service"]);
        lab.look("db.service", (ActiveState::Deactivating, "stop-sigterm", "success"));
        lab.changes("db.service", seen);
        lab.open(1);
        lab.order(vec![view("db.service", 7, Phase::Active)]);
        lab.end("db.service", End::Looked(Box::new(look("db.service", seen))));
        let told = lab.end("db.service", gone("db.service"));
        assert!(told.ends_with(&format!("send released db.service 7 {because}")), "{told}");
    }
}

#[test]
fn a_stop_by_hand_while_the_bus_was_lost_is_known_in_the_same_way() {
    for started in [true, false] {
        let mut lab = lab();
        match started {
            true => lab.running(),
            false => drop(lab.order(vec![view("db.service", 7, Phase::Granted)])),
        }
        lab.hear(Event::Signal(Signal::Disconnected));
        if !started {
            lab.end("db.service", End::Failed(Failure::Connection("lost".into())));
        }
        assert_eq!(lab.hear(Event::Connected), "look db.service");
        let mut seen = look("db.service", down());
        seen.reading.restart = "always".into();
        assert_eq!(lab.end("db.service", End::Looked(Box::new(seen.clone()))), "look db.service");
        lab.end("db.service", End::Looked(Box::new(seen)));
        let told = lab.end("db.service", gone("db.service"));
        // What was not seen to run may never have been started.
        assert_eq!(told == BY_HAND, started, "{told}");
    }
}

#[test]
fn terms_that_the_file_has_already_are_acknowledged_once() {
    let mut lab = lab_with(&[("db.service", permit(7))]);
    lab.discover(&["db.service"]);
    lab.look("db.service", up());
    lab.open(1);
    let mut word = view("db.service", 7, Phase::Active);
    word.next_terms = Some(word.terms.clone());
    let told = lab.order(vec![word.clone()]);
    assert!(told.starts_with("send TermsAcknowledged"), "{told}");
    assert_eq!(lab.order(vec![word]), "", "it is on its way");
}

#[test]
fn what_systemd_restarts_by_itself_is_not_up_and_keeps_its_permit() {
    let mut lab = lab();
    lab.running();
    let waits = (ActiveState::Activating, "auto-restart", "exit-code");
    lab.now.boot_ms += 10_000;
    assert_eq!(lab.changes("db.service", waits), "send rests db.service 7 Some(Restarts)");
    assert_eq!(lab.changes("db.service", up()), "send rests db.service 7 None", "others wait for that");
    assert_eq!(lab.changes("db.service", waits), "", "not more than once a second");
    assert!(lab.agent.is_restless(), "it is told by a tick");
    assert_eq!(lab.hear(Event::Tick), "");
    lab.now.boot_ms += 1_000;
    assert_eq!(lab.hear(Event::Tick), "send rests db.service 7 Some(Restarts)");
    assert!(!lab.agent.is_restless());
    assert_eq!(lab.changes("db.service", up()), "send rests db.service 7 None");
    lab.now.boot_ms += 1_000;
    let stops = (ActiveState::Deactivating, "stop-post", "exit-code");
    assert_eq!(lab.changes("db.service", stops), "send rests db.service 7 Some(Stops)");
    // The next session begins with that.
    lab.now.boot_ms += 1_000;
    let told = lab.open(2);
    assert!(told.contains("inventory running [db.service] 7 Stops"), "{told}");
    lab.index += 1;
    assert_eq!(lab.orders(2, lab.index, vec![view("db.service", 7, Phase::Active)], &[]), "");
    assert_eq!(lab.changes("db.service", up()), "send rests db.service 7 None");
}

#[test]
fn what_was_told_of_an_earlier_permit_is_not_told_of_the_next() {
    let mut lab = lab();
    lab.running();
    let told = Some((Token(6), Some(policy::Rest::Restarts), lab.now.boot_ms));
    lab.agent.units.entry("db.service".into()).or_default().rest_told = told;
    assert_eq!(lab.changes("db.service", up()), "");
    let waits = (ActiveState::Activating, "auto-restart", "exit-code");
    assert_eq!(lab.changes("db.service", waits), "send rests db.service 7 Some(Restarts)", "and at once");
}

#[test]
fn what_was_still_to_be_told_of_a_copy_ends_with_its_permit() {
    let mut lab = lab();
    lab.running();
    let waits = (ActiveState::Activating, "auto-restart", "exit-code");
    for seen in [waits, up(), waits] {
        lab.changes("db.service", seen);
    }
    assert!(lab.agent.is_restless());
    lab.order(vec![view("db.service", 7, Phase::Revoking(StopReason::Moved))]);
    lab.end("db.service", gone("db.service"));
    lab.look("db.service", down());
    lab.order(Vec::new());
    assert!(!lab.agent.units[&UnitName::from("db.service")].rest_due);
}
