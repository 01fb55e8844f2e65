//! The agent driven by events alone: no systemd, no socket, no clock.

mod assembly;
mod gates;
mod lease_end;
mod stops;
mod survey;

use policy::{Cause, Definition, NodeView, OnQuorumLoss, Phase, Power, StopReason, Terms, Token};
use units::systemd::{ActiveState, JobKind, JobResult, Reading, Relations, SystemState, Times};

use super::*;
use crate::agent::command::{AgentCommand, Shutdown};
use crate::agent::decide::Run;
use crate::agent::event::{End, Failure, GateLook, IfStuck, Look};
use crate::agent::gate::Answer;
use crate::agent::permit::tests::permit;
use crate::session::FromSession;
use crate::session::message::{Denial, GateAnswer, Orders};

/// An agent with the two things that events leave behind: actions, and a clock.
struct Lab {
    agent: Agent,
    now: Now,
    index: u64,
    done: Vec<Action>,
    _dir: tempfile::TempDir,
}

fn lab_with(held: &[(&str, Permit)]) -> Lab {
    let mut lab = Lab::new(held, &[]);
    lab.hear(Event::Connected);
    lab
}

/// In session, the inventory sent, nothing held.
fn lab() -> Lab {
    let mut lab = lab_with(&[]);
    lab.discover(&["db.service"]);
    lab.look("db.service", down());
    lab.open(1);
    lab
}

fn reading(unit: &str, state: ActiveState, sub: &str, result: &str) -> Reading {
    Reading {
        id: unit.into(),
        names: vec![unit.into()],
        load_state: "loaded".into(),
        active_state: state,
        sub_state: sub.into(),
        job: None,
        fragment_path: String::new(),
        drop_in_paths: vec![format!("/run/systemd/generator.early/{unit}.d/~convoke-gate.conf")],
        unit_file_state: "enabled".into(),
        need_daemon_reload: false,
        invocation_id: Vec::new(),
        asserts: vec![units::systemd::Assert {
            name: "AssertPathExists".into(),
            trigger: false,
            negate: false,
            parameter: format!("/run/convoke/permits/{unit}"),
            state: 1,
        }],
        condition_result: true,
        assert_result: true,
        relations: Relations {
            wants: vec![format!("convoke-gate@{unit}.service")],
            after: vec![format!("convoke-gate@{unit}.service")],
            ..Relations::default()
        },
        times: Times::default(),
        can_freeze: true,
        freezer_state: "running".into(),
        stop_when_unneeded: false,
        result: result.into(),
        slice: "system.slice".into(),
        control_group: format!("/system.slice/{unit}"),
        main_pid: None,
        n_restarts: 0,
        exec_main_code: 1,
        exec_main_status: 1,
        restart: "no".into(),
        kill_mode: "control-group".into(),
        send_sigkill: true,
        timeout_stop: Some(Duration::from_secs(1)),
        timeout_start: Some(Duration::from_secs(1)),
        what: String::new(),
        where_: String::new(),
        lazy_unmount: false,
    }
}

type State = (ActiveState, &'static str, &'static str);

fn down() -> State {
    (ActiveState::Inactive, "dead", "success")
}

fn up() -> State {
    (ActiveState::Active, "running", "success")
}

fn failed() -> State {
    (ActiveState::Failed, "failed", "exit-code")
}

fn look(unit: &str, (state, sub, result): State) -> Look {
    let reading = reading(unit, state, sub, result);
    let remembered = units::systemd::Remembered::of(&reading);
    let manager = state.is_down().then_some(SystemState::Running);
    Look { reading, remembered, left: None, manager, bonds_down: Vec::new(), partners_gone: Vec::new() }
}

fn view(unit: &str, token: u64, phase: Phase) -> PermitView {
    let Permit { incarnation, terms, .. } = permit(token);
    PermitView {
        unit: unit.into(),
        token: Token(token),
        incarnation,
        phase,
        terms,
        next_terms: None,
        adopted: false,
        peers: vec!["n2".into()],
    }
}

impl Lab {
    /// Not connected yet.
    fn new(held: &[(&str, Permit)], releasing: &[(&str, Permit)]) -> Self {
        let dir = tempfile::tempdir().expect("scratch directory");
        let named = |permits: &[(&str, Permit)]| {
            permits.iter().map(|(unit, permit)| (UnitName::from(*unit), permit.clone())).collect()
        };
        let agent = Agent::new(Origin {
            node: NodeId(1),
            node_name: "n1".into(),
            incarnation: "boot/1/0".into(),
            floors: Floors::load(&dir.path().join("floors"), "boot", false),
            held: named(held),
            releasing: named(releasing),
            left_filed: BTreeMap::new(),
            gated: Gated::default(),
        });
        let now = Now { boot_ms: 100_000, mono: Duration::from_secs(100), leased: true, ends_ms: 0 };
        Self { agent, now, index: 0, done: Vec::new(), _dir: dir }
    }

    fn hear(&mut self, event: Event) -> String {
        let actions = self.agent.handle(event, &self.now);
        let told = actions.iter().map(tell).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        self.done.extend(actions);
        told
    }

    fn discover(&mut self, names: &[&str]) -> String {
        let found = names.iter().map(|name| {
            let found = crate::agent::offer::Found {
                definition: Some(Definition::exclusive()),
                fault: None,
                pulled_in: false,
                members: Vec::new(),
                assembly: None,
                rank: None,
            };
            (UnitName::from(*name), found)
        });
        self.hear(Event::Discovered(Discovery { found: found.collect(), ..Discovery::default() }))
    }

    fn open(&mut self, session: u64) -> String {
        self.hear(Event::Session(FromSession::Opened { session, detect: Duration::from_secs(2) }))
    }

    fn orders(&mut self, session: u64, index: u64, permits: Vec<PermitView>, stop: &[&str]) -> String {
        let units = self.agent.units.keys().cloned().collect();
        let stop = stop.iter().map(|name| UnitName::from(*name)).collect();
        let view = NodeView {
            index,
            permits,
            units,
            survey: 0,
            stop,
            stops_before: BTreeMap::new(),
            assembly: BTreeMap::new(),
            ranks: BTreeMap::new(),
        };
        let orders = Box::new(Orders { view, fences: Vec::new(), looks: Vec::new(), switch_on: Vec::new() });
        self.hear(Event::Session(FromSession::Orders { session, orders }))
    }

    /// The next state of the session.
    fn order(&mut self, permits: Vec<PermitView>) -> String {
        self.index += 1;
        self.orders(1, self.index, permits, &[])
    }

    /// Ends the operation that is under way on the unit.
    fn end(&mut self, unit: &str, end: End) -> String {
        let name = UnitName::from(unit);
        let op = self.agent.units.get(&name).and_then(|unit| unit.op).map(|op| op.id).expect("under way");
        self.hear(Event::Done { op, unit: name, end })
    }

    fn look(&mut self, unit: &str, state: State) -> String {
        self.end(unit, End::Looked(Box::new(look(unit, state))))
    }

    /// PID 1 says that the unit changed, and the look that follows shows this.
    fn changes(&mut self, unit: &str, state: State) -> String {
        let changed = Signal::UnitChanged { unit: unit.into(), active_state: None, sub_state: None };
        assert_eq!(self.hear(Event::Signal(changed)), format!("look {unit}"));
        self.look(unit, state)
    }

    fn job(&mut self, id: u32, unit: &str, kind: JobKind) {
        let at = self.now.mono;
        let signal = Signal::JobNew { id, unit: unit.into(), kind: Some(kind), ours: false, at };
        assert_eq!(self.hear(Event::Signal(signal)), "");
    }

    fn run(&self, unit: &str) -> &Run {
        &self.agent.units[&UnitName::from(unit)].run
    }

    /// Granted, started, reported: `db.service` runs under token 7.
    fn running(&mut self) {
        assert_eq!(self.order(vec![view("db.service", 7, Phase::Granted)]), "start db.service 7");
        let end = End::Started { job: "done".into(), look: Box::new(look("db.service", up())) };
        assert_eq!(self.end("db.service", end), "look db.service; send started db.service 7");
        assert_eq!(self.look("db.service", up()), "");
        assert_eq!(self.order(vec![view("db.service", 7, Phase::Active)]), "");
    }
}

/// An action in words.
fn tell(action: &Action) -> String {
    match action {
        Action::File { unit, permit } => format!("file {unit} {}", permit.token),
        Action::Start { unit, permit, gates, .. } => {
            let gates = if gates.is_empty() { String::new() } else { format!(" with {} gates", gates.len()) };
            format!("start {unit} {}{gates}", permit.token)
        }
        Action::Unfile { unit } => format!("unfile {unit}"),
        Action::Forget { .. } => String::new(),
        Action::SwitchOn(order) => format!("switch on {} by {}", order.call.node_name, order.call.device),
        Action::Spend { unit, permit } => format!("spend {unit} {}", permit.token),
        Action::Probe { unit, question, after, .. } => {
            format!("ask {unit} for its {question:?} after {} ms", after.as_millis())
        }
        Action::EndProbe { unit, question, .. } => format!("call off {question:?} of {unit}"),
        Action::Begin { unit, work: Work::Look { .. }, .. } => format!("look {unit}"),
        Action::Begin { unit, work: Work::Start { .. }, .. } => format!("start {unit}"),
        Action::Begin { unit, work: Work::Stop(stop), .. } => match stop.if_stuck {
            IfStuck::TakeDown => format!("stop {unit} or take down"),
            _ => format!("stop {unit}"),
        },
        Action::Begin { unit, work: Work::Freeze, .. } => format!("freeze {unit}"),
        Action::Begin { unit, work: Work::Thaw, .. } => format!("thaw {unit}"),
        Action::Send { fact, .. } => format!("send {}", fact_in_words(fact)),
        Action::GateAnswer { answer: Answer { granted: true, .. }, .. } => "gate granted".into(),
        Action::GateAnswer { answer, .. } => format!("gate refused: {}", answer.why),
        Action::GateLook { unit, .. } => format!("look {unit} for a gate"),
        Action::GateAsk { unit, wish, .. } => {
            format!(
                "ask for {unit}{}",
                wish.as_ref().map(|who| format!(", {who} wishes")).unwrap_or_default()
            )
        }
        Action::GateDrop { .. } => "withdraw".into(),
        Action::GateSettle { .. } => "settle".into(),
        Action::Withdraw { id, unit, by } => format!("take back {id} for {unit} by {by}"),
        Action::TakeDown { why, .. } => format!("take down: {why}"),
        Action::EndLease => "end lease".into(),
        Action::Reload => "reload".into(),
        Action::Mend { unit } => format!("mend {unit}"),
        Action::Unmend { unit } => format!("unmend {unit}"),
        Action::Exit(_) => "exit".into(),
        Action::Unspool { unit, .. } => format!("unspool {unit}"),
        Action::Fence(order) => format!("fence {}.{}", order.case, order.attempt),
        Action::Power(order) => format!("look at {}", order.call.node_name),
        Action::Tell(_) | Action::Discover | Action::KeepGated(_) | Action::Show(..) => String::new(),
    }
}

fn fact_in_words(fact: &Fact) -> String {
    match fact {
        Fact::InventoryReported { items, .. } => {
            let running = items.iter().filter(|item| item.running).map(|item| item.unit.0.as_str());
            format!("inventory running [{}]", running.collect::<Vec<_>>().join(" "))
        }
        Fact::UnitObserved { item, .. } => {
            format!("observed {} {}", item.unit, if item.running { "running" } else { "down" })
        }
        Fact::Started { unit, token, .. } => format!("started {unit} {token}"),
        Fact::Released { unit, token, because, .. } => format!("released {unit} {token} {because:?}"),
        Fact::NodeLeaving { .. } => "leaving".into(),
        Fact::Surveyed { index, .. } => format!("surveyed {index}"),
        other => format!("{other:?}"),
    }
}

fn ask(lab: &mut Lab, id: u64) -> oneshot::Receiver<Answer> {
    let (reply, answer) = oneshot::channel();
    let told = lab.hear(Event::GateAsked { id, unit: "db.service".into(), reply });
    assert!(
        matches!(told.as_str(), "look db.service for a gate" | "gate granted")
            || told.starts_with("gate refused")
    );
    answer
}

fn gate_look(lab: &mut Lab, id: u64, job: Option<u32>, manager: SystemState) -> String {
    let mut reading = reading("db.service", ActiveState::Inactive, "dead", "success");
    reading.job = job.map(|id| units::systemd::CurrentJob {
        id,
        kind: Some(JobKind::Start),
        activation_details: Some(Vec::new()),
    });
    let look = GateLook { reading, manager, upheld_by_active: Vec::new(), active_triggers: Vec::new() };
    lab.hear(Event::GateLooked { id, look: Ok(Box::new(look)) })
}

fn gone(unit: &str) -> End {
    End::Gone(Box::new(look(unit, down())))
}

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
    assert_eq!(lab.changes("db.service", (ActiveState::Activating, "auto-restart", "exit-code")), "");
    assert_eq!(lab.changes("db.service", up()), "");
}

#[test]
fn an_operators_stop_travels_inside_the_release() {
    let mut lab = lab();
    lab.running();
    lab.job(5, "db.service", JobKind::Stop);
    assert_eq!(lab.changes("db.service", (ActiveState::Deactivating, "stop-sigterm", "success")), "");
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
    lab.agent.floors = Floors::load(&path, "boot", true);
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
fn a_fenced_life_reboots_and_a_removed_node_ends_its_lease() {
    let mut lab = lab();
    lab.running();
    let fenced = FromSession::Denied(Denial::RebootNow { why: "n2 proved it off".into() });
    assert_eq!(
        lab.hear(Event::Session(fenced)),
        "take down: the cluster has fenced this incarnation: n2 proved it off"
    );
    let told = lab.hear(Event::Session(FromSession::Denied(Denial::Removed)));
    assert_eq!(told, "end lease; unfile db.service; unfile db.service; stop db.service or take down");
}

#[test]
fn a_restarted_daemon_without_a_lease_acts_at_once() {
    let mut lab = lab_with(&[]);
    let unit = lab.agent.units.entry("db.service".into()).or_default();
    unit.held = Some(permit(7));
    unit.filed = true;
    lab.now.leased = false;
    assert_eq!(lab.hear(Event::Tick), "unfile db.service; unfile db.service; stop db.service or take down");
}

#[test]
fn strays_are_reported_and_stopped_only_by_order() {
    let mut lab = lab();
    assert_eq!(lab.changes("db.service", up()), "send observed db.service running");
    assert_eq!(lab.order(Vec::new()), "");
    lab.index += 1;
    let index = lab.index;
    assert_eq!(lab.orders(1, index, Vec::new(), &["db.service"]), "unfile db.service; stop db.service");
    assert_eq!(lab.end("db.service", gone("db.service")), "look db.service; send observed db.service down");
}

#[test]
fn an_adopted_unit_gets_its_file_and_no_start() {
    let mut lab = lab();
    lab.changes("db.service", up());
    let mut adopted = view("db.service", 7, Phase::Active);
    adopted.adopted = true;
    assert_eq!(lab.order(vec![adopted]), "file db.service 7");
}

#[test]
fn an_ungated_unit_is_mended_once() {
    let mut lab = lab();
    let mut open = look("db.service", down());
    open.reading.asserts.clear();
    let changed = Signal::UnitChanged { unit: "db.service".into(), active_state: None, sub_state: None };
    lab.hear(Event::Signal(changed.clone()));
    let told = lab.end("db.service", End::Looked(Box::new(open.clone())));
    assert_eq!(told, "mend db.service; reload; send observed db.service down");
    assert_eq!(lab.hear(Event::Reloaded(Ok(()))), "");
    lab.hear(Event::Signal(changed));
    assert_eq!(lab.end("db.service", End::Looked(Box::new(open))), "", "never in a loop");
}

#[test]
fn a_new_cluster_unit_is_gated_by_one_reload() {
    let mut lab = lab();
    lab.index += 1;
    let units = ["db.service", "a.service", "b.service", "../x.service"];
    let view = NodeView {
        index: lab.index,
        permits: Vec::new(),
        units: units.iter().map(|name| UnitName::from(*name)).collect(),
        survey: 0,
        stop: BTreeSet::new(),
        stops_before: BTreeMap::new(),
        assembly: BTreeMap::new(),
        ranks: BTreeMap::new(),
    };
    let orders = |view: &NodeView| {
        let orders = Box::new(Orders {
            view: view.clone(),
            fences: Vec::new(),
            looks: Vec::new(),
            switch_on: Vec::new(),
        });
        Event::Session(FromSession::Orders { session: 1, orders })
    };
    let told = lab.hear(orders(&view));
    assert_eq!(told, "reload; look a.service; look b.service");
    assert_eq!(lab.hear(orders(&view)), "");
}

#[test]
fn stopping_the_daemon_releases_and_waits_for_the_answers() {
    let mut lab = lab();
    lab.running();
    let (done, _finished) = oneshot::channel();
    let stop = Event::Command(AgentCommand::Shutdown { kind: Shutdown::Stop, done });
    assert_eq!(lab.hear(stop), "unfile db.service; stop db.service; send leaving");
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 Shutdown"
    );
    let numbers: Vec<u64> = lab
        .done
        .iter()
        .filter_map(|action| match action {
            Action::Send { number, .. } => Some(*number),
            _ => None,
        })
        .collect();
    let mut last = String::new();
    for number in numbers {
        assert_eq!(last, "");
        last = lab.hear(Event::Session(FromSession::FactTaken { number, outcome: Ok(()) }));
    }
    assert_eq!(last, "exit");
}

#[test]
fn restarting_the_daemon_touches_nothing() {
    let mut lab = lab();
    lab.running();
    let (done, _finished) = oneshot::channel();
    let restart = Event::Command(AgentCommand::Shutdown { kind: Shutdown::Restart, done });
    assert_eq!(lab.hear(restart), "exit");
}

#[test]
fn without_a_quorum_the_daemon_does_not_wait_for_ever() {
    let mut lab = lab();
    lab.hear(Event::Session(FromSession::Closed));
    let (done, _finished) = oneshot::channel();
    assert_eq!(lab.hear(Event::Command(AgentCommand::Shutdown { kind: Shutdown::SystemDown, done })), "");
    lab.now.boot_ms += FAREWELL_MS;
    assert_eq!(lab.hear(Event::Tick), "exit");
}

#[test]
fn a_section_that_goes_is_told_in_the_units_log() {
    let mut lab = lab();
    let lines = |lab: &Lab| {
        let gone = "section is gone";
        let told = |action: &&Action| matches!(action, Action::Tell(line) if line.message.contains(gone));
        lab.done.iter().filter(told).count()
    };
    lab.discover(&["db.service"]);
    assert_eq!(lines(&lab), 0);
    lab.discover(&[]);
    lab.discover(&[]);
    assert_eq!(lines(&lab), 1);
}

#[test]
fn a_circle_of_stops_is_cut_and_everybody_stops() {
    let (mut a, mut b) = (permit(7), permit(8));
    a.stops_before = BTreeSet::from(["b.service".into()]);
    b.stops_before = BTreeSet::from(["a.service".into()]);
    let mut lab = lab_with(&[("a.service", a), ("b.service", b)]);
    lab.discover(&["a.service", "b.service"]);
    lab.look("a.service", up());
    lab.look("b.service", up());
    lab.now.leased = false;
    lab.hear(Event::Tick);
    lab.end("a.service", gone("a.service"));
    lab.end("b.service", gone("b.service"));
    assert!(lab.agent.units.values().all(|unit| unit.held.is_none()));
}

#[test]
fn an_errand_is_run_once_and_a_look_not_again_at_once() {
    let mut lab = lab();
    let call = crate::session::message::AgentCall {
        device: "bmc".into(),
        agent: "fence_ipmilan".into(),
        options: BTreeMap::new(),
        secrets: BTreeMap::new(),
        timeout_ms: 1_000,
        at_once: 1,
        configured: 1,
        node: NodeId(2),
        node_name: "n2".into(),
    };
    let fence = crate::session::message::FenceOrder {
        case: policy::CaseId(4),
        attempt: 1,
        calls: vec![call.clone()],
    };
    let mut look = crate::session::message::LookOrder { incarnation: "i".into(), call };
    let old = look.clone();
    let order = |lab: &mut Lab, look: &crate::session::message::LookOrder| {
        lab.index += 1;
        let view = NodeView {
            index: lab.index,
            permits: Vec::new(),
            units: BTreeSet::new(),
            survey: 0,
            stop: BTreeSet::new(),
            stops_before: BTreeMap::new(),
            assembly: BTreeMap::new(),
            ranks: BTreeMap::new(),
        };
        let orders = Box::new(Orders {
            view,
            fences: vec![fence.clone()],
            looks: vec![look.clone()],
            switch_on: Vec::new(),
        });
        lab.hear(Event::Session(FromSession::Orders { session: 1, orders }))
    };
    assert_eq!(order(&mut lab, &look), "fence 4.1; look at n2");
    assert_eq!(order(&mut lab, &look), "", "both are under way");
    let powered = Event::Powered { order: Box::new(look.clone()), power: Power::On };
    assert!(lab.hear(powered).starts_with("send PowerObserved"));
    let not_begun = Event::Fenced { order: Box::new(fence.clone()), outcome: None };
    lab.hear(not_begun);
    assert_eq!(
        order(&mut lab, &look),
        "fence 4.1",
        "what was not begun is begun again; the look was just taken"
    );
    lab.now.boot_ms += LOOK_PAUSE_MS;
    assert_eq!(order(&mut lab, &look), "look at n2");
    look.call.options.insert("ip".into(), "10.0.0.9".into());
    assert_eq!(order(&mut lab, &look), "look at n2", "the settings have changed");
    let powered = Event::Powered { order: Box::new(old), power: Power::On };
    assert_eq!(lab.hear(powered), "", "what was seen under the old settings counts no more");
}
