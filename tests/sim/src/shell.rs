//! The agent's hands on a simulated machine: it carries out what the real agent decides, as `bridge/src/agent/run.rs` and
//! `tasks.rs` do with the real PID 1.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bridge::agent::{
    Action, Agent, Discovery, End, Environment, Event, Failure, Fenced, Found, IfStuck, Look, Now, OpId,
    PermitFile, Stop, Work,
};
use bridge::session::{Asker, FromSession, Lease, Pulse, ToSession, boottime_ms};
use policy::UnitName;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use units::systemd::{ActiveState, Signal, SystemState};

use crate::flaw::Flaw;
use crate::machine::Machine;
use crate::power::Switch;

const TICK: Duration = Duration::from_secs(1);
/// Between two looks at PID 1: it is stepped, and tells nobody.
const POLL: Duration = Duration::from_millis(5);
/// A call over D-Bus.
const CALL: Duration = Duration::from_millis(1);
const KILL_LIMIT: Duration = Duration::from_millis(200);
const STUCK_PAUSE: Duration = Duration::from_secs(1);

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
    pub(crate) to_session: mpsc::Sender<ToSession>,
    pub(crate) asker: Asker,
    pub(crate) switch: Switch,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) pending: VecDeque<Event>,
    pub(crate) operations: BTreeMap<UnitName, JoinHandle<()>>,
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
                    () = ends(left) => Event::Tick,
                    _ = tick.tick() => Event::Tick,
                },
            };
            let mono = Duration::from_millis(lock(&self.machine).now);
            let leased = self.is_leased();
            self.blocked = false;
            let now = Now { boot_ms: boottime_ms(), mono, leased, ends_ms: self.lease.ends_ms() };
            tracing::trace!(node = self.name, leased, ?event, "heard");
            for action in self.agent.handle(event, &now) {
                tracing::trace!(node = self.name, ?action, "does");
                self.perform(action);
            }
            if self.blocked {
                self.agent.unsend();
            }
        }
    }

    fn is_leased(&self) -> bool {
        self.lease.left().is_some() || self.flaw == Some(Flaw::LeaseUnended) && self.lease.ends_ms() > 0
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::File { unit, permit } => {
                if let Err(why) = self.file(&unit, permit, None) {
                    self.pending.push_back(Event::NotFiled { unit, why: format!("{why:?}") });
                }
            }
            Action::Start { op, unit, permit, environment, timeout, triggers, gates } => {
                drop(gates);
                match self.file(&unit, permit, Some(environment)) {
                    Ok(()) => self.begin(op, unit, Work::Start { triggers, timeout }),
                    Err(why) => self.pending.push_back(Event::Done { op, unit, end: End::Failed(why) }),
                }
            }
            Action::Unfile { unit } => {
                if self.flaw != Some(Flaw::PermitKept) {
                    let mut machine = lock(&self.machine);
                    if let Some(permit) = machine.permits.remove(&unit) {
                        machine.releasing.insert(unit, permit);
                    }
                }
            }
            Action::Forget { unit } => drop(lock(&self.machine).releasing.remove(&unit)),
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
                    drop(events.send(Event::Powered { order, power }));
                });
            }
            // The world starts its machines again by itself.
            Action::SwitchOn(order) => {
                drop(self.events.send(Event::SwitchedOn { order, power: Some(policy::Power::On) }))
            }
            Action::EndLease => self.lease.end(),
            Action::TakeDown { why, .. } => lock(&self.machine).must_reboot = Some(why),
            // No unit here is a clustered service, no gate asks, nobody reads a journal, and an operator's stop outlives
            // nothing but the daemon.
            Action::Tell(_)
            | Action::Spend { .. }
            | Action::Probe { .. }
            | Action::EndProbe { .. }
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
            | Action::Show(..)
            // These machines have no watchdogs, and no unit that rests on one.
            | Action::Arm
            | Action::Disarm => {}
        }
    }

    fn file(&self, unit: &UnitName, permit: PermitFile, _: Option<Environment>) -> Result<(), Failure> {
        if !self.is_leased() {
            return Err(Failure::NoLease);
        }
        let mut machine = lock(&self.machine);
        machine.permits.insert(unit.clone(), permit);
        machine.releasing.remove(unit);
        Ok(())
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
            assembly: None,
            rank: None,
            check: None,
            gone: None,
        };
        (name.clone(), found)
    });
    Discovery { found: found.collect(), members_stop_ms: BTreeMap::new() }
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
