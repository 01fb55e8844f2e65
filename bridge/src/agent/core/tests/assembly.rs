//! A clustered service: its data is read, its copy asked whether it is ready, and each start made once.

use policy::{Duty, Found, Start};
use units::section::{Assembly, AssemblyStyle, GatherThen, Program, Variable};

use super::*;
use crate::agent::permit::{Environment, Starts};
use crate::agent::probe::Finding;

const UNIT: &str = "galera.service";

fn galera() -> Assembly {
    let program = |path: &str| Program { path: path.into(), args: Vec::new() };
    let variable = |name: &str| Variable { name: name.into(), value: "yes".into() };
    Assembly {
        style: AssemblyStyle::OneThenSerial,
        position: program("/bin/position"),
        ready: Some(program("/bin/ready")),
        gather_wait_ms: None,
        gather_then: GatherThen::Refuse,
        alone: vec![variable("ALONE")],
        resync: vec![variable("RESYNC")],
    }
}

fn position(epoch: u64) -> Option<Duty> {
    Some(Duty { start: None, position: Some(epoch), ready: None })
}

fn holder(start: Option<Start>, ready: Option<u64>) -> Option<Duty> {
    Some(Duty { start, position: None, ready })
}

fn data(rank: i64) -> Finding {
    Finding::Position(Found::Data { rank, identity: "uuid".into(), safe: false })
}

impl Lab {
    /// In session with a clustered service that is down.
    fn clustered(held: &[(&str, Permit)]) -> Self {
        let mut lab = lab_with(held);
        let found = crate::agent::offer::Found {
            definition: Some(Definition::replicated(policy::Replicas::All)),
            assembly: Some(galera()),
            rank: Some(Program { path: "/bin/rank".into(), args: Vec::new() }),
            ..plain()
        };
        let found = BTreeMap::from([(UnitName::from(UNIT), found)]);
        lab.hear(Event::Discovered(Discovery { found, ..Discovery::default() }));
        lab
    }

    /// The cluster's word on this unit.
    fn told(&mut self, permit: Option<PermitView>, duty: Option<Duty>) -> String {
        self.told_all(permit, duty, None)
    }

    /// The same of a role: from which index on its rank is asked for.
    fn told_role(&mut self, permit: Option<PermitView>, rank: Option<u64>) -> String {
        self.told_all(permit, None, rank)
    }

    fn told_all(&mut self, permit: Option<PermitView>, duty: Option<Duty>, rank: Option<u64>) -> String {
        self.index += 1;
        let view = NodeView {
            index: self.index,
            permits: permit.into_iter().collect(),
            units: BTreeSet::from([UnitName::from(UNIT)]),
            survey: 0,
            stop: BTreeSet::new(),
            stops_before: BTreeMap::new(),
            assembly: duty.map(|duty| (UnitName::from(UNIT), duty)).into_iter().collect(),
            ranks: rank.map(|after| (UnitName::from(UNIT), after)).into_iter().collect(),
            ended: None,
        };
        let orders = Box::new(nothing_else(view));
        self.hear(Event::Session(FromSession::Orders { session: 1, orders }))
    }

    /// The look that was begun last ends.
    fn finds(&mut self, finding: Option<Finding>) -> String {
        let id = self.done.iter().rev().find_map(|action| match action {
            Action::Probe { id, .. } => Some(*id),
            _ => None,
        });
        self.hear(Event::Probed { id: id.expect("asked"), unit: UNIT.into(), finding })
    }

    fn sub_state(&mut self, sub_state: &str) -> String {
        let sub_state = Some(sub_state.to_owned());
        let changed = Signal::UnitChanged { unit: UNIT.into(), active_state: None, sub_state };
        self.hear(Event::Signal(changed))
    }

    fn environment(&self) -> &Environment {
        let started = self.done.iter().rev().find_map(|action| match action {
            Action::Start { environment, .. } => Some(environment),
            _ => None,
        });
        started.expect("started")
    }

    fn permit_of_galera(&self) -> Option<&Permit> {
        self.agent.units[&UnitName::from(UNIT)].held.as_ref()
    }

    /// Started alone under token 7, ready.
    fn leading() -> Self {
        let mut lab = Self::clustered(&[]);
        lab.look(UNIT, down());
        lab.open(1);
        let granted = view(UNIT, 7, Phase::Granted);
        assert_eq!(lab.told(Some(granted), holder(Some(Start::Alone), None)), format!("start {UNIT} 7"));
        assert_eq!(lab.sub_state("start"), format!("spend {UNIT} 7"));
        let end = End::Started { job: "done".into(), look: Box::new(look(UNIT, up())) };
        assert_eq!(lab.end(UNIT, end), format!("look {UNIT}; send started {UNIT} 7"));
        assert_eq!(lab.look(UNIT, up()), "");
        lab
    }
}

fn reported(lab: &Lab, told: &str) -> Fact {
    assert!(told.starts_with("send "), "{told}");
    let sent = lab.done.iter().rev().find_map(|action| match action {
        Action::Send { fact, .. } => Some(fact.clone()),
        _ => None,
    });
    sent.expect("sent")
}

#[test]
fn the_position_is_read_when_it_is_asked_for_and_nothing_runs() {
    let mut lab = Lab::clustered(&[]);
    lab.look(UNIT, down());
    lab.open(1);
    assert_eq!(lab.told(None, None), "");
    assert_eq!(lab.told(None, position(40)), format!("ask {UNIT} for its Position after 0 ms"));
    assert_eq!(lab.told(None, position(40)), "", "it is under way");
    let told = lab.finds(Some(data(5)));
    let Fact::PositionReported { epoch, seen, found, .. } = reported(&lab, &told) else { panic!("{told}") };
    // The index of the view in which it was asked for: later news do not count as seen.
    assert_eq!((epoch, seen), (40, 2));
    assert_eq!(Finding::Position(found), data(5));
    assert!(told.ends_with("after 1000 ms"), "{told}: in case the cluster did not take it");
    assert_eq!(lab.told(None, None), format!("call off Position of {UNIT}"));
    assert_eq!(lab.finds(None), "");
    assert_eq!(lab.told(None, position(50)), format!("ask {UNIT} for its Position after 0 ms"));
}

#[test]
fn a_position_that_cannot_be_read_is_told_once_and_looked_for_more_and_more_rarely() {
    let mut lab = Lab::clustered(&[]);
    lab.look(UNIT, down());
    lab.open(1);
    lab.told(None, position(40));
    let failed = || Some(Finding::Position(Found::Failed("no data directory".into())));
    let told = lab.finds(failed());
    assert!(matches!(reported(&lab, &told), Fact::PositionReported { found: Found::Failed(_), .. }));
    for pause in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
        assert_eq!(lab.finds(failed()), format!("ask {UNIT} for its Position after {pause} ms"));
    }
    let told = lab.finds(Some(data(5)));
    assert!(matches!(reported(&lab, &told), Fact::PositionReported { .. }), "{told}");
    // In a new session it has to be said again, and at once.
    lab.hear(Event::Session(FromSession::Closed));
    lab.open(2);
    lab.finds(Some(data(5)));
    assert!(lab.agent.outbox.len() >= 3);
}

#[test]
fn data_is_not_read_while_anything_runs_on_it_or_is_about_to() {
    let mut lab = Lab::clustered(&[]);
    lab.look(UNIT, up());
    lab.open(1);
    assert_eq!(lab.told(None, position(40)), "", "a copy runs");
    assert_eq!(
        lab.changes(UNIT, down()),
        "send observed galera.service down; ask galera.service for its Position after 0 ms"
    );
    // A look alone calls nothing off, what it shows may.
    assert_eq!(lab.changes(UNIT, down()), "");
    let granted = || Some(view(UNIT, 7, Phase::Granted));
    let join = holder(Some(Start::Join), None);
    assert_eq!(lab.told(granted(), join), format!("call off Position of {UNIT}"), "first the look is ended");
    assert_eq!(lab.told(granted(), join), "");
    assert_eq!(lab.finds(Some(data(9))), format!("start {UNIT} 7"), "and what it still said is void");
}

#[test]
fn a_start_finds_its_variant_and_is_made_once() {
    let lab = Lab::leading();
    let environment = lab.environment();
    assert_eq!(environment.start, Start::Alone);
    assert_eq!(environment.variables, galera().alone);
    assert_eq!(lab.permit_of_galera().map(|held| held.starts), Some(Starts::Made));
    let filed = lab.done.iter().find_map(|action| match action {
        Action::Start { permit, .. } => Some(permit.starts),
        _ => None,
    });
    assert_eq!(filed, Some(Starts::One), "the gate sees it until the program was begun");
}

#[test]
fn the_environment_stays_until_the_program_itself_is_begun() {
    let mut lab = Lab::clustered(&[]);
    lab.look(UNIT, down());
    lab.open(1);
    lab.told(Some(view(UNIT, 7, Phase::Granted)), holder(Some(Start::Resync), None));
    assert_eq!(lab.environment().variables, galera().resync);
    for early in ["condition", "start-pre"] {
        assert_eq!(lab.sub_state(early), "", "{early}");
    }
    assert_eq!(lab.sub_state("start"), format!("spend {UNIT} 7"));
    assert_eq!(lab.sub_state("start-post"), "", "once");
}

#[test]
fn a_member_that_crashed_is_not_started_again_under_its_permit() {
    let mut lab = Lab::leading();
    lab.told(Some(view(UNIT, 7, Phase::Active)), holder(Some(Start::Alone), None));
    let told = lab.changes(UNIT, failed());
    assert_eq!(told, format!("unfile {UNIT}; stop {UNIT}"));
    let told = lab.end(UNIT, gone(UNIT));
    assert!(told.contains("released galera.service 7 Failed"), "{told}");
}

#[test]
fn a_copy_is_asked_until_it_is_ready_and_says_what_it_lacks() {
    let mut lab = Lab::leading();
    let active = || Some(view(UNIT, 7, Phase::Active));
    let asked = holder(Some(Start::Alone), Some(7));
    assert_eq!(lab.told(active(), asked), format!("ask {UNIT} for its Ready after 0 ms"));
    let lacks = |what: &str| Some(Finding::Ready(Err(what.into())));
    for _ in 1..10 {
        assert_eq!(lab.finds(lacks("not Synced")), format!("ask {UNIT} for its Ready after 100 ms"));
    }
    let told = lab.finds(lacks("not Synced"));
    let fact = reported(&lab, &told);
    assert!(
        matches!(&fact, Fact::ReadyReported { lacks: Some(what), .. } if what == "not Synced"),
        "{fact:?}"
    );
    assert!(!lab.finds(lacks("not Synced")).contains("send"), "the same is said once");
    for _ in 0..50 {
        lab.finds(lacks("not Synced"));
    }
    assert!(lab.finds(lacks("not Synced")).ends_with("after 1000 ms"));
    let told = lab.finds(Some(Finding::Ready(Ok(Some("uuid".into())))));
    let fact = reported(&lab, &told);
    assert!(
        matches!(&fact, Fact::ReadyReported { lacks: None, token: Token(7), identity: Some(one), .. } if one == "uuid"),
        "{fact:?}"
    );
    // A copy that the cluster does not take for ready, as of another history, goes on saying so, ever more rarely.
    assert!(told.contains("after 1000 ms"), "{told}");
    assert!(lab.finds(Some(Finding::Ready(Ok(Some("uuid".into()))))).ends_with("after 2000 ms"));
    assert_eq!(lab.told(active(), holder(Some(Start::Alone), None)), format!("call off Ready of {UNIT}"));
    // Somebody ended: ready again counts only by a look after that.
    lab.finds(None);
    lab.told(active(), holder(Some(Start::Alone), Some(90)));
    assert_eq!(lab.told(active(), holder(Some(Start::Alone), Some(95))), format!("call off Ready of {UNIT}"));
}

#[test]
fn a_restart_by_hand_goes_through_the_cluster() {
    let mut lab = Lab::leading();
    lab.told(Some(view(UNIT, 7, Phase::Active)), holder(Some(Start::Alone), None));
    lab.job(31, UNIT, JobKind::Restart);
    let stops = lab.changes(UNIT, (ActiveState::Deactivating, "stop-sigterm", "success"));
    assert_eq!(stops, "send rests galera.service 7 Some(Stops)");
    let gate = 1;
    let (reply, mut answer) = oneshot::channel();
    assert_eq!(
        lab.hear(Event::GateAsked { id: gate, unit: UNIT.into(), reply }),
        format!("look {UNIT} for a gate")
    );
    let mut reading = look(UNIT, down()).reading;
    reading.job =
        Some(units::systemd::CurrentJob { id: 31, kind: Some(JobKind::Start), activation_details: None });
    let look_at = GateLook {
        reading,
        manager: SystemState::Running,
        upheld_by_active: Vec::new(),
        active_triggers: Vec::new(),
    };
    assert_eq!(
        lab.hear(Event::GateLooked { id: gate, look: Ok(Box::new(look_at)) }),
        format!("look {UNIT}"),
        "first the stop is told"
    );
    assert!(answer.try_recv().is_err());
}

#[test]
fn a_daemon_that_comes_back_gives_a_spent_permit_back_and_starts_nothing_under_it() {
    let held = Permit { starts: Starts::Made, ..permit(7) };
    let mut lab = Lab::clustered(&[(UNIT, held)]);
    let told = lab.look(UNIT, failed());
    assert!(told.contains("stop"), "{told}");
    lab.open(1);
    let told = lab.told(Some(view(UNIT, 7, Phase::Granted)), holder(Some(Start::Alone), None));
    assert!(!told.contains("start"), "{told}");
}

#[test]
fn a_copy_that_ran_before_it_became_a_clustered_service_keeps_no_permit_in_sight() {
    let mut lab = Lab::clustered(&[(UNIT, permit(7))]);
    lab.look(UNIT, up());
    lab.open(1);
    let active = || Some(view(UNIT, 7, Phase::Active));
    assert_eq!(lab.told(active(), holder(None, None)), format!("spend {UNIT} 7"));
    assert_eq!(lab.told(active(), None), format!("file {UNIT} 7"), "and gets it back");
}

#[test]
fn a_rank_is_read_while_the_role_is_vacant_and_again_when_the_vacancy_is_another() {
    let mut lab = Lab::clustered(&[]);
    lab.look(UNIT, down());
    lab.open(1);
    assert_eq!(lab.told_role(None, Some(40)), format!("ask {UNIT} for its Rank after 0 ms"));
    let told = lab.finds(Some(data(5)));
    let Fact::RankReported { seen, found, .. } = reported(&lab, &told) else { panic!("{told}") };
    assert_eq!((seen, Finding::Position(found)), (1, data(5)));
    assert_eq!(lab.told_role(None, None), format!("call off Rank of {UNIT}"));
    assert_eq!(lab.finds(None), "");
    assert_eq!(lab.told_role(None, Some(50)), format!("ask {UNIT} for its Rank after 0 ms"));
    let failed = Finding::Position(Found::Failed("it is in recovery".into()));
    let told = lab.finds(Some(failed));
    assert!(matches!(reported(&lab, &told), Fact::RankReported { found: Found::Failed(_), .. }), "{told}");
}

#[test]
fn a_rank_that_cannot_be_read_is_told_once_and_asked_for_more_and_more_rarely() {
    let mut lab = Lab::clustered(&[]);
    lab.look(UNIT, down());
    lab.open(1);
    lab.told_role(None, Some(40));
    let late = || Some(Finding::Position(Found::Failed("it did not end within 30 s".into())));
    let told = lab.finds(late());
    assert!(matches!(reported(&lab, &told), Fact::RankReported { found: Found::Failed(_), .. }), "{told}");
    for pause in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
        assert_eq!(lab.finds(late()), format!("ask {UNIT} for its Rank after {pause} ms"));
    }
    let told = lab.finds(Some(data(5)));
    assert!(matches!(reported(&lab, &told), Fact::RankReported { found: Found::Data { .. }, .. }), "{told}");
    // Another vacancy: what failed in the one before says nothing of it.
    lab.told_role(None, Some(50));
    assert_eq!(lab.finds(None), format!("ask {UNIT} for its Rank after 0 ms"));
}

#[test]
fn what_a_program_says_of_a_copy_that_ended_meanwhile_is_void() {
    let mut lab = Lab::clustered(&[]);
    lab.look(UNIT, down());
    lab.open(1);
    lab.told_role(None, Some(40));
    // The copy ended, or people have their hands on it: the cluster asks no more.
    assert_eq!(lab.told_role(None, None), format!("call off Rank of {UNIT}"));
    assert_eq!(lab.finds(Some(data(9))), "", "it printed its line before it was ended");
    // The role was held, and is vacant again, while the program ran.
    lab.told_role(None, Some(50));
    assert_eq!(lab.told_role(None, Some(60)), format!("call off Rank of {UNIT}"));
    assert_eq!(lab.finds(Some(data(9))), format!("ask {UNIT} for its Rank after 0 ms"));
}

#[test]
fn a_look_that_began_in_the_session_before_says_no_rank() {
    let mut lab = Lab::clustered(&[]);
    lab.look(UNIT, down());
    lab.open(1);
    lab.told_role(None, Some(40));
    lab.hear(Event::Session(FromSession::Closed));
    let opened = lab.open(2);
    assert!(opened.contains(&format!("call off Rank of {UNIT}")), "{opened}");
    let queued = lab.agent.outbox.len();
    lab.finds(Some(data(9)));
    assert_eq!(lab.agent.outbox.len(), queued);
}

#[test]
fn the_holder_says_how_far_it_is_while_it_runs() {
    let mut lab = Lab::leading();
    let active = || Some(view(UNIT, 7, Phase::Active));
    assert_eq!(
        lab.told_role(active(), Some(7)),
        format!("file {UNIT} 7; ask {UNIT} for its Rank after 0 ms")
    );
    let told = lab.finds(Some(data(9)));
    assert!(matches!(reported(&lab, &told), Fact::RankReported { .. }), "{told}");
    let crashed = lab.changes(UNIT, failed());
    assert!(crashed.contains(&format!("call off Rank of {UNIT}")), "{crashed}");
}
