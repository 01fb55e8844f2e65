//! The agent driven by events alone: no systemd, no socket, no clock.

mod assembly;
mod checks;
mod daemon;
mod gates;
mod lease_end;
mod maintenance;
mod members;
mod releases;
mod stops;
mod survey;
mod watchdog;

use policy::{Cause, Definition, NodeView, OnQuorumLoss, Phase, Power, StopReason, Terms, Token};
use units::systemd::stops::Bonds;
use units::systemd::{ActiveState, JobKind, JobResult, Reading, Relations, SystemState, Times};

use super::*;
use crate::agent::command::{AgentCommand, Shutdown};
use crate::agent::decide::Run;
use crate::agent::event::{End, Failure, GateLook, IfStuck, Look};
use crate::agent::gate::Answer;
use crate::agent::offer::Found;
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

/// What the files say of an exclusive unit and nothing else.
fn plain() -> Found {
    Found {
        definition: Some(Definition::exclusive()),
        fault: None,
        pulled_in: false,
        members: Vec::new(),
        assembly: None,
        rank: None,
        check: None,
        gone: None,
    }
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
    Look { reading, remembered, left: None, manager, bonds: Bonds::default(), partners_gone: Vec::new() }
}

fn view(unit: &str, token: u64, phase: Phase) -> PermitView {
    let Permit { incarnation, terms, .. } = permit(token);
    PermitView {
        hands_off: false,
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

/// Orders without errands and notes.
fn nothing_else(view: NodeView) -> Orders {
    Orders { view, fences: Vec::new(), looks: Vec::new(), switch_on: Vec::new(), notes: Vec::new() }
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
            floors: Floors::load(&dir.path().join("floors"), "boot", None, false),
            held: named(held),
            releasing: named(releasing),
            left_filed: BTreeMap::new(),
            left_armed: false,
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
            let found = plain();
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
            ended: None,
        };
        let orders = Box::new(nothing_else(view));
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
        Action::Arm => "arm".into(),
        Action::Disarm => "disarm".into(),
        Action::EndLease => "end lease".into(),
        Action::Renew => "renew".into(),
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
        Fact::InventoryReported { items, rests, .. } => {
            let running = items.iter().filter(|item| item.running).map(|item| item.unit.0.as_str());
            let rests = rests.iter().map(|(token, rest)| format!(" {token} {rest:?}")).collect::<String>();
            format!("inventory running [{}]{rests}", running.collect::<Vec<_>>().join(" "))
        }
        Fact::UnitObserved { item, .. } => {
            format!("observed {} {}", item.unit, if item.running { "running" } else { "down" })
        }
        Fact::Started { unit, token, .. } => format!("started {unit} {token}"),
        Fact::Released { unit, token, because, .. } => format!("released {unit} {token} {because:?}"),
        Fact::RestReported { unit, token, rest, .. } => format!("rests {unit} {token} {rest:?}"),
        Fact::NodeLeaving { .. } => "leaving".into(),
        Fact::WatchdogArmed { device, timeout_ms, .. } => format!("armed {device} {timeout_ms}"),
        Fact::WatchdogDisarmed { why, .. } => format!("unarmed: {why}"),
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
