//! Who stopped or started a unit, as a table of short stories (rules F9 and F10).

use std::time::Duration;

use units::systemd::starts::{self, StartBatch, StartCause};
use units::systemd::stops::{self, Bonds, StopBatch, StopCause};
use units::systemd::{
    ActiveState, CurrentJob, JobKind, JobLog, JobResult, Reading, Relations, Signal, SystemState, Times,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// `x.service`, started at 1 s, that went down at 10.000 to 10.010 s.
fn stopped() -> Reading {
    Reading {
        id: "x.service".into(),
        names: vec!["x.service".into()],
        load_state: "loaded".into(),
        active_state: ActiveState::Inactive,
        sub_state: "dead".into(),
        job: None,
        fragment_path: String::new(),
        drop_in_paths: Vec::new(),
        unit_file_state: String::new(),
        need_daemon_reload: false,
        invocation_id: Vec::new(),
        asserts: Vec::new(),
        condition_result: true,
        assert_result: true,
        relations: Relations::default(),
        times: Times {
            state_change: Some(ms(10_010)),
            inactive_exit: Some(ms(1_000)),
            active_enter: Some(ms(1_001)),
            active_exit: Some(ms(10_000)),
            inactive_enter: Some(ms(10_010)),
        },
        can_freeze: false,
        freezer_state: String::new(),
        stop_when_unneeded: false,
        result: "success".into(),
        slice: "system.slice".into(),
        control_group: String::new(),
        main_pid: None,
        n_restarts: 0,
        exec_main_code: 1,
        exec_main_status: 0,
        restart: "no".into(),
        kill_mode: "control-group".into(),
        send_sigkill: true,
        timeout_stop: None,
        timeout_start: None,
        what: String::new(),
        where_: String::new(),
        lazy_unmount: false,
    }
}

fn failed(result: &str) -> Reading {
    Reading {
        active_state: ActiveState::Failed,
        sub_state: "failed".into(),
        result: result.into(),
        ..stopped()
    }
}

/// What is heard of a job from its beginning to its end.
struct Heard {
    unit: &'static str,
    kind: Option<JobKind>,
    from: u64,
    to: Option<(u64, JobResult)>,
    ours: bool,
}

fn job(unit: &'static str, kind: Option<JobKind>, from: u64, to: u64) -> Heard {
    Heard { unit, kind, from, to: Some((to, JobResult::Done)), ours: false }
}

fn log(jobs: &[Heard]) -> JobLog {
    let mut log = JobLog::default();
    for (id, job) in (1..).zip(jobs) {
        log.saw(&new_job(id, job));
    }
    for (id, job) in (1..).zip(jobs) {
        if let Some((to, result)) = &job.to {
            let (unit, result) = (job.unit.to_owned(), result.clone());
            log.saw(&removed(id, unit, result, job.ours, ms(*to)));
        }
    }
    log
}

fn new_job(id: u32, job: &Heard) -> Signal {
    Signal::JobNew { id, unit: job.unit.to_owned(), kind: job.kind, ours: job.ours, at: ms(job.from) }
}

fn removed(id: u32, unit: String, result: JobResult, ours: bool, at: Duration) -> Signal {
    Signal::JobRemoved { id, unit, result, ours, at }
}

fn cause(reading: &Reading, jobs: &[Heard], manager: SystemState) -> StopCause {
    bound(reading, jobs, manager, Bonds::default())
}

fn bound(reading: &Reading, jobs: &[Heard], manager: SystemState, bonds: Bonds) -> StopCause {
    stops::classify(&StopBatch::gather(reading, &log(jobs), manager, bonds, ms(10_015)))
}

const STOP: Option<JobKind> = Some(JobKind::Stop);
const START: Option<JobKind> = Some(JobKind::Start);
const RESTART: Option<JobKind> = Some(JobKind::Restart);
const UP: SystemState = SystemState::Running;

fn with(change: impl FnOnce(&mut Reading)) -> Reading {
    let mut reading = stopped();
    change(&mut reading);
    reading
}

fn relations(change: impl FnOnce(&mut Relations)) -> Reading {
    with(|reading| change(&mut reading.relations))
}

fn propagated(by: &str) -> StopCause {
    StopCause::Propagated { by: by.into() }
}

fn failure(result: &str) -> StopCause {
    StopCause::Failed { result: result.into() }
}

#[test]
fn a_stop_job_of_nobody_else_is_a_wish() {
    assert_eq!(cause(&stopped(), &[job("x.service", STOP, 9_999, 10_011)], UP), StopCause::OperatorStop);
    let degraded = cause(&stopped(), &[job("x.service", STOP, 9_999, 10_011)], SystemState::Degraded);
    assert!(degraded.is_wish(), "a degraded host is no shutdown");
}

#[test]
fn a_stop_whose_end_is_not_heard_yet_is_a_wish() {
    let open = Heard { to: None, ..job("x.service", STOP, 9_999, 0) };
    assert_eq!(cause(&stopped(), &[open], UP), StopCause::OperatorStop);
}

#[test]
fn a_stop_too_quick_to_be_asked_is_a_wish_whatever_its_result() {
    let quick = || [job("x.service", None, 10_001, 10_012)];
    assert_eq!(cause(&stopped(), &quick(), UP), StopCause::OperatorStop);
    assert_eq!(cause(&failed("exit-code"), &quick(), UP), StopCause::OperatorStop);
}

#[test]
fn without_a_job_it_ended_by_itself() {
    assert_eq!(cause(&stopped(), &[], UP), StopCause::CleanExit);
    assert_eq!(cause(&failed("oom-kill"), &[], UP), failure("oom-kill"));
}

#[test]
fn a_start_that_changed_nothing_before_a_crash_is_no_stop() {
    // A script says `systemctl start x` every minute; its jobs are too quick to be asked.
    let jobs = [job("x.service", None, 9_000, 9_001)];
    assert_eq!(cause(&failed("signal"), &jobs, UP), failure("signal"));
    let jobs = [job("x.service", START, 9_999, 10_011)];
    assert_eq!(cause(&failed("signal"), &jobs, UP), failure("signal"));
}

#[test]
fn the_job_that_started_a_run_did_not_end_it() {
    // Crashed 5 ms after its start: the start's end was heard after the crash.
    let mut reading = failed("exit-code");
    reading.times.inactive_exit = Some(ms(9_995));
    reading.times.active_enter = Some(ms(9_996));
    assert_eq!(cause(&reading, &[job("x.service", None, 9_997, 10_012)], UP), failure("exit-code"));
}

#[test]
fn a_crash_beside_a_quick_job_of_its_slice_is_a_crash() {
    // The first instance of a template starts its slice, too; it crashed within a batch of that.
    let mut reading = failed("signal");
    reading.times.inactive_exit = Some(ms(9_900));
    reading.relations.requires.push("system-x.slice".into());
    let jobs = [job("system-x.slice", None, 9_890, 9_891), job("x.service", START, 9_890, 9_950)];
    assert_eq!(cause(&reading, &jobs, UP), failure("signal"));
}

#[test]
fn a_stop_soon_after_the_start_of_its_slice_is_a_wish() {
    let quick = |after: &[&str]| {
        let mut reading = stopped();
        reading.times.inactive_exit = Some(ms(9_840));
        reading.relations.requires.push("system-x.slice".into());
        reading.relations.after.extend(after.iter().map(|unit| (*unit).to_owned()));
        reading
    };
    let after = quick(&["system-x.slice"]);
    let start = job("system-x.slice", None, 9_840, 9_841);
    let jobs = [start, job("x.service", STOP, 9_995, 10_010)];
    assert_eq!(cause(&after, &jobs, SystemState::Running), StopCause::OperatorStop);
    // Where nothing says that it would have to stop later, it may have been the one.
    assert_eq!(cause(&quick(&[]), &jobs, SystemState::Running), propagated("system-x.slice"));
    // And a slice that is stopped itself ends after what is in it.
    let jobs = [job("system-x.slice", STOP, 9_995, 10_012), job("x.service", STOP, 9_995, 10_010)];
    assert_eq!(cause(&after, &jobs, SystemState::Running), propagated("system-x.slice"));
}

#[test]
fn a_job_that_failed_to_start_is_no_stop() {
    let refused = Heard { to: Some((10_012, JobResult::Assert)), ..job("x.service", None, 10_001, 0) };
    assert_eq!(cause(&stopped(), &[refused], UP), StopCause::CleanExit);
}

#[test]
fn our_own_stop_is_ours_even_in_a_shutdown() {
    let own = || [Heard { ours: true, ..job("x.service", STOP, 9_999, 10_011) }];
    assert_eq!(cause(&stopped(), &own(), UP), StopCause::Own);
    assert_eq!(cause(&stopped(), &own(), SystemState::Stopping), StopCause::Own);
}

#[test]
fn a_shutdown_is_known_by_the_manager_or_by_its_job() {
    let stop = || job("x.service", STOP, 9_999, 10_011);
    assert_eq!(cause(&stopped(), &[stop()], SystemState::Stopping), StopCause::Shutdown);
    let jobs = [Heard { to: None, ..job("shutdown.target", START, 9_998, 0) }, stop()];
    assert_eq!(cause(&stopped(), &jobs, UP), StopCause::Shutdown);
}

#[test]
fn an_isolated_target_is_no_person() {
    let jobs = [job("x.service", STOP, 9_999, 10_011), job("rescue.target", START, 10_000, 10_100)];
    assert_eq!(cause(&stopped(), &jobs, UP), StopCause::Isolate { target: "rescue.target".into() });
}

#[test]
fn a_target_that_came_up_with_the_unit_isolated_nothing() {
    let jobs = |start| {
        let target = job("network-online.target", START, 9_840, 9_900);
        let start = Heard { ours: true, ..job("x.service", start, 9_840, 9_990) };
        [start, target, job("x.service", STOP, 9_995, 10_011)]
    };
    let isolated = StopCause::Isolate { target: "network-online.target".into() };
    let after = relations(|relations| relations.after.push("network-online.target".into()));
    assert_eq!(cause(&after, &jobs(None), UP), StopCause::OperatorStop);
    assert_eq!(cause(&stopped(), &jobs(START), UP), StopCause::OperatorStop);
    // Nothing says that it came up with the unit, or that it was done before.
    assert_eq!(cause(&stopped(), &jobs(None), UP), isolated);
    let [start, target, stop] = jobs(START);
    assert_eq!(cause(&stopped(), &[target, start, stop], UP), isolated);
    let running = [job("network-online.target", START, 9_994, 10_020), job("x.service", STOP, 9_995, 10_011)];
    assert_eq!(cause(&after, &running, UP), isolated);
    let [target, stop] = running;
    assert_eq!(cause(&after, &[Heard { ours: true, ..target }, stop], UP), StopCause::OperatorStop);
}

#[test]
fn the_stop_half_of_a_restart_is_none() {
    // Waiting at the gate: the restart job has become a start job under the same number.
    let waiting = with(|reading| {
        reading.job = Some(CurrentJob { id: 1, kind: START, activation_details: None });
    });
    for kind in [RESTART, None] {
        let open = Heard { to: None, ..job("x.service", kind, 9_999, 0) };
        assert_eq!(cause(&waiting, &[open], UP), StopCause::RestartHalf);
    }
}

#[test]
fn a_restart_that_is_over_is_followed_by_a_crash() {
    let jobs = [job("x.service", RESTART, 9_900, 10_012)];
    assert_eq!(cause(&failed("exit-code"), &jobs, UP), failure("exit-code"));
}

#[test]
fn a_crash_that_systemd_will_mend_is_a_crash() {
    let reading = with(|reading| {
        reading.active_state = ActiveState::Activating;
        reading.sub_state = "auto-restart-queued".into();
        reading.result = "signal".into();
    });
    assert_eq!(cause(&reading, &[job("x.service", None, 10_001, 10_012)], UP), failure("signal"));
}

#[test]
fn every_relation_that_stops_takes_along() {
    let base = || "base.service".to_owned();
    let cases = [
        relations(|relations| relations.requires.push(base())),
        relations(|relations| relations.requisite.push(base())),
        relations(|relations| relations.binds_to.push(base())),
        relations(|relations| relations.part_of.push(base())),
        relations(|relations| relations.stop_propagated_from.push(base())),
    ];
    for (number, reading) in cases.iter().enumerate() {
        for kind in [STOP, RESTART, None] {
            let jobs = [job("base.service", kind, 9_998, 10_020), job("x.service", STOP, 9_999, 10_011)];
            assert_eq!(cause(reading, &jobs, UP), propagated("base.service"), "case {number}, {kind:?}");
        }
        let unrelated = [job("other.service", STOP, 9_998, 10_020), job("x.service", STOP, 9_999, 10_011)];
        assert_eq!(cause(reading, &unrelated, UP), StopCause::OperatorStop, "case {number}");
        let earlier = [job("base.service", STOP, 5_000, 5_001), job("x.service", STOP, 9_999, 10_011)];
        assert_eq!(cause(reading, &earlier, UP), StopCause::OperatorStop, "case {number}");
    }
}

#[test]
fn a_rival_that_starts_takes_its_place() {
    let jobs = || [job("rival.service", START, 9_998, 10_020), job("x.service", STOP, 9_999, 10_011)];
    let here = relations(|relations| relations.conflicts.push("rival.service".into()));
    let there = relations(|relations| relations.conflicted_by.push("rival.service".into()));
    for reading in [here, there] {
        assert_eq!(cause(&reading, &jobs(), UP), StopCause::Opposed { by: "rival.service".into() });
    }
}

/// `base.service`, which was active until then; whether it is again.
fn base_left(at: u64, up: bool) -> Bonds {
    let base = || "base.service".to_owned();
    Bonds { down: (!up).then(base).into_iter().collect(), left: vec![(base(), ms(at))] }
}

#[test]
fn a_bond_that_crashed_takes_along_without_a_job_of_its_own() {
    let reading = relations(|relations| relations.binds_to.push("base.service".into()));
    let ended = StopCause::BondEnded { by: "base.service".into() };
    let stop = || job("x.service", STOP, 9_999, 10_011);
    assert_eq!(bound(&reading, &[stop()], UP, base_left(9_998, false)), ended);
    // By then systemd is restarting it, or has.
    for (kind, up) in [(RESTART, false), (None, true)] {
        let jobs = [stop(), job("base.service", kind, 10_110, 10_130)];
        assert_eq!(bound(&reading, &jobs, UP, base_left(9_998, up)), ended, "{kind:?}");
    }
}

#[test]
fn a_bond_that_did_not_end_first_was_stopped_with_it() {
    let reading = relations(|relations| relations.binds_to.push("base.service".into()));
    let base = |kind| job("base.service", kind, 10_110, 10_130);
    let stop = || job("x.service", STOP, 9_999, 10_011);
    let long_ago = Bonds { down: vec!["base.service".into()], left: Vec::new() };
    for (why, jobs, bonds) in [
        ("a stop of the bond is somebody's word", vec![stop(), base(STOP)], base_left(9_998, false)),
        (
            "stopped by hand, and the bond restarted after it",
            vec![stop(), base(RESTART)],
            base_left(10_115, true),
        ),
        ("stopped by hand, and the bond started after it", vec![stop(), base(None)], long_ago.clone()),
        ("nobody was there to hear of a job", vec![], base_left(9_998, false)),
        ("the bond had been down for long", vec![stop()], long_ago),
        ("the bond ended much earlier", vec![stop()], base_left(2_000, false)),
    ] {
        assert_eq!(bound(&reading, &jobs, UP, bonds), propagated("base.service"), "{why}");
    }
    // It takes long to stop, and meanwhile its bond is stopped, too.
    let slow = with(|reading| {
        reading.relations.binds_to.push("base.service".into());
        reading.times.active_exit = Some(ms(4_000));
    });
    let jobs = [job("x.service", STOP, 4_000, 10_011), job("base.service", STOP, 7_000, 10_012)];
    assert_eq!(bound(&slow, &jobs, UP, base_left(7_000, false)), propagated("base.service"));
}

#[test]
fn a_start_that_is_cancelled_while_its_bond_starts_was_cancelled_by_somebody() {
    let reading = with(|reading| {
        reading.relations.binds_to.push("base.service".into());
        reading.times = Times::default();
    });
    let ends = Heard { to: Some((10_011, JobResult::Canceled)), ..job("x.service", START, 9_000, 0) };
    let bonds = Bonds { down: vec!["base.service".into()], left: Vec::new() };
    let cause = stops::cancelled(&reading, &log(&[ends]), UP, bonds, ms(10_015));
    assert_eq!(cause, propagated("base.service"));
}

#[test]
fn a_bond_that_ends_while_the_unit_starts_is_judged_by_this_start() {
    // It ran before, and PID 1 remembers when that ended.
    let reading = with(|reading| {
        reading.relations.binds_to.push("base.service".into());
        reading.times.active_exit = Some(ms(4_000));
        reading.times.inactive_exit = Some(ms(9_000));
    });
    let ended = StopCause::BondEnded { by: "base.service".into() };
    let stop = job("x.service", STOP, 9_999, 10_011);
    assert_eq!(bound(&reading, &[stop], UP, base_left(9_998, false)), ended);
    let start = Heard { to: Some((9_999, JobResult::Canceled)), ..job("x.service", START, 9_000, 0) };
    let cause = stops::cancelled(&reading, &log(&[start]), UP, base_left(9_998, false), ms(10_015));
    assert_eq!(cause, ended);
}

#[test]
fn nobody_needing_it_is_no_person() {
    let reading = with(|reading| reading.stop_when_unneeded = true);
    assert_eq!(cause(&reading, &[job("x.service", STOP, 9_999, 10_011)], UP), StopCause::Unneeded);
}

#[test]
fn a_unit_that_pid_1_forgot_is_judged_by_when_it_was_noticed() {
    let forgotten = with(|reading| reading.times = Times::default());
    assert_eq!(cause(&forgotten, &[job("x.service", STOP, 9_999, 10_011)], UP), StopCause::OperatorStop);
    assert_eq!(cause(&forgotten, &[job("x.service", STOP, 5_000, 5_001)], UP), StopCause::CleanExit);
}

/// A start that waits at the gate.
fn start(
    jobs: &[Heard],
    manager: SystemState,
    details: Option<&[(&str, &str)]>,
    change: impl FnOnce(&mut StartBatch),
) -> StartCause {
    let owned =
        details.map(|details| details.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect());
    let reading = with(|reading| {
        reading.job = Some(CurrentJob { id: 1, kind: START, activation_details: owned });
        reading.relations.wanted_by = vec!["multi-user.target".into()];
        reading.relations.required_by = vec!["app.service".into()];
    });
    let mut batch = StartBatch::gather(&reading, &log(jobs), manager);
    change(&mut batch);
    starts::classify(&batch)
}

fn waiting() -> Heard {
    Heard { to: None, ..job("x.service", START, 20_000, 0) }
}

#[test]
fn a_start_of_nobody_else_is_a_wish() {
    let gate = || Heard { to: None, ..job("convoke-gate@x.service.service", START, 20_000, 0) };
    assert_eq!(start(&[waiting(), gate()], UP, Some(&[]), |_| {}), StartCause::Wish);
}

#[test]
fn a_boot_or_shutdown_starts_nothing_by_wish() {
    for (manager, wanted) in [
        (SystemState::Starting, StartCause::Boot),
        (SystemState::Initializing, StartCause::Boot),
        (SystemState::Stopping, StartCause::Shutdown),
    ] {
        assert_eq!(start(&[waiting()], manager, Some(&[]), |_| {}), wanted);
    }
}

#[test]
fn a_trigger_is_no_person() {
    let details = [("trigger_unit", "x.timer"), ("trigger_timer_realtime_usec", "1")];
    let wanted = StartCause::Triggered { by: "x.timer".into() };
    assert_eq!(start(&[waiting()], UP, Some(&details), |_| {}), wanted);
    let old = start(&[waiting()], UP, None, |batch| batch.active_triggers.push("x.timer".into()));
    assert_eq!(old, wanted);
}

#[test]
fn who_wants_it_and_starts_pulls_it_in() {
    for unit in ["multi-user.target", "app.service"] {
        let jobs = [waiting(), Heard { to: None, ..job(unit, START, 20_001, 0) }];
        assert_eq!(start(&jobs, UP, Some(&[]), |_| {}), StartCause::PulledIn { by: unit.into() });
        let stops = [waiting(), job(unit, STOP, 20_001, 20_002)];
        assert_eq!(start(&stops, UP, Some(&[]), |_| {}), StartCause::Wish, "{unit} stops");
        let long_ago = [waiting(), job(unit, START, 10_000, 10_001)];
        assert_eq!(start(&long_ago, UP, Some(&[]), |_| {}), StartCause::Wish, "{unit} long ago");
    }
}

#[test]
fn what_upholds_it_or_fails_into_it_is_no_person() {
    let upheld = start(&[waiting()], UP, Some(&[]), |batch| batch.upheld_by_active.push("u.service".into()));
    assert_eq!(upheld, StartCause::PulledIn { by: "u.service".into() });
    let jobs = [waiting(), job("a.service", START, 19_900, 20_000)];
    let handler = start(&jobs, UP, Some(&[]), |batch| batch.relations.on_failure_of.push("a.service".into()));
    assert_eq!(handler, StartCause::PulledIn { by: "a.service".into() });
}

#[test]
fn a_start_that_was_given_up_or_is_ours_is_no_wish() {
    let mut batch = StartBatch::gather(&stopped(), &log(&[waiting()]), UP);
    assert_eq!(starts::classify(&batch), StartCause::NoJob);
    assert!(!starts::is_wish(&batch));
    batch.job = None;
    assert!(!starts::is_wish(&batch));
    let own = [Heard { ours: true, ..waiting() }];
    assert_eq!(start(&own, UP, Some(&[]), |_| {}), StartCause::Own);
    assert_eq!(
        start(&[waiting()], UP, Some(&[]), |batch| batch.auto_restart = true),
        StartCause::AutoRestart
    );
}
