//! The agent's hands on a simulated machine: it carries out what the real agent decides, as `bridge/src/agent/run.rs` and
//! `tasks.rs` do with the real PID 1.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bridge::agent::{
    Action, Agent, Discovery, End, Environment, Event, Failure, Fenced, Finding, Found, IfStuck, Look, Now,
    OpId, PermitFile, Question, Starts, Stop, Work,
};
use bridge::session::{Asker, Farewell, FromSession, Lease, Pulse, ToSession, boottime_ms};
use bridge::watchdog::{Standing, Watchdog};
use policy::{Fencing, UnitName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use units::section;
use units::systemd::{ActiveState, Signal, SystemState};

use crate::dog;
use crate::flaw::Flaw;
use crate::machine::Machine;
use crate::power::Switch;
use crate::store::Store;

const TICK: Duration = Duration::from_secs(1);
/// Between two looks at PID 1: it is stepped, and tells nobody.
const POLL: Duration = Duration::from_millis(5);
/// A call over D-Bus.
const CALL: Duration = Duration::from_millis(1);
const KILL_LIMIT: Duration = Duration::from_millis(200);
const STUCK_PAUSE: Duration = Duration::from_secs(1);
/// A program that a unit names, from its start to its last word.
const PROGRAM: Duration = Duration::from_millis(40);

/// A machine, as its processes and the world share it.
pub(crate) type Shared = Arc<Mutex<Machine>>;

pub(crate) fn lock(machine: &Shared) -> MutexGuard<'_, Machine> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shell of one daemon.
pub(crate) struct Shell {
    pub(crate) name: String,
    pub(crate) agent: Agent,
    pub(crate) machine: Shared,
    pub(crate) lease: Lease,
    pub(crate) pulse: Pulse,
    pub(crate) farewell: Farewell,
    pub(crate) to_session: mpsc::Sender<ToSession>,
    pub(crate) asker: Asker,
    pub(crate) switch: Switch,
    pub(crate) flaw: Option<Flaw>,
    /// The clustered service.
    pub(crate) store: Option<Store>,
    /// Which machine it is, as the world counts them.
    pub(crate) at: usize,
    pub(crate) watchdog: Option<Watchdog>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) pending: VecDeque<Event>,
    pub(crate) operations: BTreeMap<UnitName, JoinHandle<()>>,
    pub(crate) probes: BTreeMap<UnitName, JoinHandle<()>>,
    pub(crate) blocked: bool,
}

impl Shell {
    pub(crate) async fn run(
        mut self,
        mut from_session: mpsc::Receiver<FromSession>,
        mut signals: mpsc::UnboundedReceiver<Signal>,
        mut inbox: mpsc::UnboundedReceiver<Event>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        let mut standing = self.watchdog.as_ref().map(Watchdog::standing);
        standing.iter_mut().for_each(watch::Receiver::mark_changed);
        self.pending.push_back(Event::Connected);
        loop {
            let left = self.lease.left();
            let event = match self.pending.pop_front() {
                Some(event) => event,
                None => tokio::select! {
                    biased;
                    Some(signal) = signals.recv() => Event::Signal(signal),
                    Some(event) = inbox.recv() => event,
                    session = from_session.recv() => match session {
                        Some(event) => Event::Session(event),
                        None => return,
                    },
                    standing = stands(&mut standing) => Event::Watchdog(standing),
                    () = ends(left) => Event::Tick,
                    _ = tick.tick() => Event::Tick,
                },
            };
            let mono = Duration::from_millis(lock(&self.machine).now);
            let leased = self.is_leased();
            self.blocked = false;
            let now = Now { boot_ms: boottime_ms(), mono, leased, ends_ms: self.lease.ends_ms() };
            tracing::trace!(node = self.name, leased, ?event, "heard");
            let actions = self.agent.handle(event, &now);
            // Before a permit's file is written, and after a unit was seen gone.
            if let Some(watchdog) = &self.watchdog {
                watchdog.protect(self.agent.protects());
            }
            self.farewell.set(self.agent.is_leaving());
            for action in actions {
                tracing::trace!(node = self.name, ?action, "does");
                self.perform(action).await;
            }
            if self.blocked {
                self.agent.unsend();
            }
        }
    }

    fn is_leased(&self) -> bool {
        self.lease.left().is_some() || self.flaw == Some(Flaw::LeaseUnended) && self.lease.ends_ms() > 0
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::File { unit, permit } => {
                let (token, revision) = (permit.token, permit.terms.revision);
                self.pending.push_back(match self.file(&unit, permit, None).await {
                    Ok(()) => Event::Filed { unit, token, revision },
                    Err(why) => Event::NotFiled { unit, why: format!("{why:?}") },
                });
            }
            Action::Start { op, unit, permit, environment, timeout, triggers, gates } => {
                drop(gates);
                match self.file(&unit, permit, Some(environment)).await {
                    Ok(()) => self.begin(op, unit, Work::Start { triggers, timeout }),
                    Err(why) => self.pending.push_back(Event::Done { op, unit, end: End::Failed(why) }),
                }
            }
            Action::Unfile { unit } => {
                if self.flaw != Some(Flaw::PermitKept) {
                    let mut machine = lock(&self.machine);
                    let spent = machine.spent.remove(&unit);
                    if let Some(permit) = machine.permits.remove(&unit).or(spent) {
                        machine.releasing.insert(unit, permit);
                    }
                }
            }
            Action::Forget { unit } => {
                let mut machine = lock(&self.machine);
                machine.spent.remove(&unit);
                machine.releasing.remove(&unit);
            }
            Action::Spend { unit, permit } => {
                if self.flaw != Some(Flaw::StartsAgain) {
                    let mut machine = lock(&self.machine);
                    machine.permits.remove(&unit);
                    machine.spent.insert(unit, permit);
                }
            }
            Action::Probe { id, unit, question, after, .. } => {
                let (events, store, at) = (self.events.clone(), self.store.clone(), self.at);
                let name = unit.clone();
                let probe = tokio::spawn(async move {
                    sleep(after + PROGRAM).await;
                    let finding = match (question, store) {
                        (Question::Position, Some(store)) => Some(Finding::Position(store.position(at))),
                        (Question::Ready, Some(store)) => {
                            Some(Finding::Ready(store.lacks(at).map_or(Ok(None), Err)))
                        }
                        _ => None,
                    };
                    drop(events.send(Event::Probed { id, unit: name, finding }));
                });
                self.probes.insert(unit, probe);
            }
            Action::EndProbe { id, unit, .. } => {
                let (events, probe) = (self.events.clone(), self.probes.remove(&unit));
                tokio::spawn(async move {
                    if let Some(probe) = probe {
                        probe.abort();
                        drop(probe.await);
                    }
                    sleep(CALL).await;
                    drop(events.send(Event::Probed { id, unit, finding: None }));
                });
            }
            Action::Arm => match &self.watchdog {
                Some(watchdog) => watchdog.arm(dog::setting()),
                None => {
                    let why = "this machine has none".to_owned();
                    self.pending.push_back(Event::Watchdog(Standing::Unarmed { why }));
                }
            },
            Action::Disarm => {
                if let Some(watchdog) = &self.watchdog {
                    watchdog.disarm().await;
                }
            }
            Action::Begin { op, unit, work } => self.begin(op, unit, work),
            Action::Send { number, fact } => {
                let saved = !self.blocked && self.agent.save_floors().is_ok();
                let sent = saved && self.to_session.try_send(ToSession::Fact { number, fact }).is_ok();
                self.blocked |= !sent;
            }
            Action::KeepGated(text) => self.pending.push_back(Event::GatedKept { text, ok: true }),
            Action::Discover => {
                let (machine, events) = (self.machine.clone(), self.events.clone());
                tokio::spawn(async move {
                    sleep(CALL).await;
                    drop(events.send(Event::Discovered(discover(&machine))));
                });
            }
            Action::Reload => {
                let events = self.events.clone();
                tokio::spawn(async move {
                    sleep(20 * CALL).await;
                    drop(events.send(Event::Signal(Signal::Reloading(false))));
                    drop(events.send(Event::Reloaded(Ok(()))));
                });
            }
            Action::Fence(order) => {
                let (switch, lease, asker) = (self.switch.clone(), self.lease.clone(), self.asker.clone());
                let (machine, events) = (self.machine.clone(), self.events.clone());
                tokio::spawn(async move {
                    let attempt = (order.case, order.attempt);
                    let again = !lock(&machine).begun.insert(attempt);
                    let outcome = switch.fence(&order, &lease, &asker).await;
                    if outcome.is_none() && !again {
                        lock(&machine).begun.remove(&attempt);
                    }
                    let ended = outcome.map(|outcome| Fenced { outcome, again });
                    drop(events.send(Event::Fenced { order, ended }));
                });
            }
            Action::Power(order) => {
                let (switch, events) = (self.switch.clone(), self.events.clone());
                tokio::spawn(async move {
                    let power = switch.look(&order.call).await;
                    drop(events.send(Event::Powered { order, power: Some(power) }));
                });
            }
            // The world starts its machines again by itself.
            Action::SwitchOn(order) => {
                drop(self.events.send(Event::SwitchedOn { order, power: Some(policy::Power::On) }))
            }
            Action::EndLease => self.lease.end(),
            Action::Renew => drop(self.to_session.try_send(ToSession::Renew)),
            Action::TakeDown { why, .. } => lock(&self.machine).must_reboot = Some(why),
            // No gate asks, nobody reads a journal, and an operator's stop outlives nothing but the daemon.
            Action::Tell(_)
            | Action::Mend { .. }
            | Action::Unmend { .. }
            | Action::GateLook { .. }
            | Action::GateAsk { .. }
            | Action::GateAnswer { .. }
            | Action::GateDrop { .. }
            | Action::GateSettle { .. }
            | Action::Withdraw { .. }
            | Action::Unspool { .. }
            | Action::Exit(_)
            | Action::Show(..) => {}
        }
    }

    async fn file(
        &self,
        unit: &UnitName,
        permit: PermitFile,
        environment: Option<Environment>,
    ) -> Result<(), Failure> {
        if permit.terms.fencing == Fencing::Watchdog && !self.is_watched(unit, &permit) {
            let none = || Failure::Other("this machine has no watchdog".to_owned());
            let watchdog = self.watchdog.as_ref().ok_or_else(none)?;
            watchdog.check(permit.terms.watchdog_ms).await.map_err(Failure::Other)?;
        }
        if !self.is_leased() {
            return Err(Failure::NoLease);
        }
        let mut machine = lock(&self.machine);
        if let Some(environment) = environment {
            machine.starts.insert(unit.clone(), environment.start);
        }
        machine.releasing.remove(unit);
        machine.permits.remove(unit);
        machine.spent.remove(unit);
        let place = if permit.starts == Starts::Made { &mut machine.spent } else { &mut machine.permits };
        place.insert(unit.clone(), permit);
        Ok(())
    }

    /// Whether the permit's file is in place with these terms of the watchdog.
    fn is_watched(&self, unit: &UnitName, permit: &PermitFile) -> bool {
        let machine = lock(&self.machine);
        let there = machine.permits.get(unit).or_else(|| machine.spent.get(unit));
        there.is_some_and(|there| there.token == permit.token && there.terms.fencing == Fencing::Watchdog)
    }

    fn begin(&mut self, op: OpId, unit: UnitName, work: Work) {
        if let Some(before) = self.operations.remove(&unit) {
            before.abort();
        }
        let hands = Hands {
            machine: self.machine.clone(),
            lease: self.lease.clone(),
            pulse: self.pulse.clone(),
            events: self.events.clone(),
            flaw: self.flaw,
            unit: unit.clone(),
        };
        let events = self.events.clone();
        let name = unit.clone();
        let operation = tokio::spawn(async move {
            let end = match work {
                Work::Look { after, .. } => hands.look(after).await,
                Work::Start { .. } => hands.start().await,
                Work::Stop(stop) => hands.stop(op, &stop).await,
                Work::Freeze => End::Froze(Err("no unit here is frozen".to_owned())),
                Work::Thaw => End::Thawed(Err("no unit here is frozen".to_owned())),
            };
            drop(events.send(Event::Done { op, unit: name, end }));
        });
        self.operations.insert(unit, operation);
    }
}

/// How the watchdog stands, once that is news.
async fn stands(standing: &mut Option<watch::Receiver<Option<Standing>>>) -> Standing {
    let Some(standing) = standing else { return std::future::pending().await };
    loop {
        if standing.changed().await.is_err() {
            return std::future::pending().await;
        }
        if let Some(standing) = standing.borrow_and_update().clone() {
            return standing;
        }
    }
}

async fn ends(left: Option<Duration>) {
    match left {
        Some(left) => sleep(left).await,
        None => std::future::pending().await,
    }
}

fn discover(machine: &Shared) -> Discovery {
    let machine = lock(machine);
    let found = machine.units.iter().map(|(name, unit)| {
        let found = Found {
            definition: Some(unit.definition.clone()),
            fault: None,
            pulled_in: false,
            members: Vec::new(),
            assembly: unit.definition.assembly.as_ref().map(|_| programs()),
            rank: None,
            check: None,
            gone: None,
        };
        (name.clone(), found)
    });
    Discovery { found: found.collect(), members_stop_ms: BTreeMap::new() }
}

/// What a clustered service's files name. What comes of them is the model's (src/store.rs).
fn programs() -> section::Assembly {
    let program = |name: &str| section::Program { path: format!("/usr/lib/{name}"), args: Vec::new() };
    let variable = section::Variable { name: "ALONE".to_owned(), value: "yes".to_owned() };
    section::Assembly {
        style: section::AssemblyStyle::OneThenSerial,
        position: program("position"),
        ready: Some(program("ready")),
        gather_wait_ms: None,
        gather_then: section::GatherThen::Refuse,
        alone: vec![variable],
        resync: Vec::new(),
    }
}

struct Hands {
    machine: Shared,
    lease: Lease,
    pulse: Pulse,
    events: mpsc::UnboundedSender<Event>,
    flaw: Option<Flaw>,
    unit: UnitName,
}

impl Hands {
    fn seen(&self) -> Look {
        lock(&self.machine).look(&self.unit)
    }

    async fn look(&self, after: Duration) -> End {
        sleep(after + CALL).await;
        self.pulse.felt();
        End::Looked(Box::new(self.seen()))
    }

    async fn start(&self) -> End {
        sleep(CALL).await;
        let leased = self.lease.left().is_some() || self.flaw == Some(Flaw::LeaseUnended);
        if !leased {
            return End::Failed(Failure::NoLease);
        }
        let id = lock(&self.machine).start(&self.unit, true);
        if self.flaw == Some(Flaw::StartedBeforeUp) {
            let mut look = self.seen();
            (look.reading.active_state, look.reading.sub_state) = (ActiveState::Active, "running".to_owned());
            return End::Started { job: "done".to_owned(), look: Box::new(look) };
        }
        while !lock(&self.machine).is_over(&self.unit, id) {
            sleep(POLL).await;
        }
        End::Started { job: "done".to_owned(), look: Box::new(self.seen()) }
    }

    fn gone(&self) -> Option<Look> {
        let look = self.seen();
        let down = look.reading.active_state.is_down() && look.left.is_none() && look.reading.job.is_none();
        down.then_some(look)
    }

    async fn stop(&self, op: OpId, stop: &Stop) -> End {
        let begun = Instant::now();
        let mut deadline = begun + stop.budget;
        sleep(CALL).await;
        if self.flaw == Some(Flaw::ReleaseBeforeStop) {
            lock(&self.machine).stop(&self.unit, true);
            let mut look = self.seen();
            (look.reading.active_state, look.reading.job) = (ActiveState::Inactive, None);
            (look.left, look.manager) = (None, Some(SystemState::Running));
            look.reading.sub_state = "dead".to_owned();
            return End::Gone(Box::new(look));
        }
        loop {
            loop {
                if let Some(look) = self.gone() {
                    return End::Gone(Box::new(look));
                }
                if Instant::now() >= deadline {
                    break;
                }
                lock(&self.machine).stop(&self.unit, true);
                sleep(POLL).await;
            }
            lock(&self.machine).kill(&self.unit);
            sleep(KILL_LIMIT).await;
            if let Some(look) = self.gone() {
                return End::Gone(Box::new(look));
            }
            if stop.if_stuck == IfStuck::TakeDown {
                lock(&self.machine).must_reboot = Some(format!("{} does not stop", self.unit));
            }
            let what = "it does not stop".to_owned();
            drop(self.events.send(Event::Stuck { op, unit: self.unit.clone(), what }));
            sleep(STUCK_PAUSE).await;
            deadline = Instant::now() + STUCK_PAUSE;
        }
    }
}
