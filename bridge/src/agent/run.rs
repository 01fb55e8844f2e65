//! The agent's loop: makes events, has them decided, and carries the decisions out.
//!
//! Permit files, floors and the order of facts are handled in the loop itself, one after the other; everything that
//! waits for somebody is a task.

mod asking;
mod files;
mod gating;
mod performing;
mod probing;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use policy::{Incarnation, NodeId, UnitName};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use units::generator::Gated;
use units::systemd::journal::Journal;
use units::systemd::{Signal, SystemState, Systemd};

use asking::{keep_pulse, reconnect};

use super::command::AgentCommand;
use super::core::{Agent, Origin};
use super::event::{Action, End, Event, Failure, Now, OpId, Work};
use super::executor::Executor;
use super::floors::Floors;
use super::gate::{self, GateId};
use super::prepare::Prepared;
use super::tasks::{self, Hands, Task};
use super::timer::BootTimer;
use super::wishes::Spool;
use crate::paths::Paths;
use crate::pki::ClusterId;
use crate::session::{Asker, Farewell, FromSession, Lease, Pulse, QUEUE, ToSession, boottime_ms};
use crate::watchdog::{Setting, Standing, Watchdog};

/// Between two looks at what could not be done at once.
const TICK: Duration = Duration::from_secs(1);
/// The same while nothing is known to wait.
const REST: Duration = Duration::from_secs(4);
/// After a gate has gone, its start job's end is told within this time.
const GATE_SETTLE: Duration = Duration::from_millis(300);
/// Attempts for a wish that is not on disk.
const WISH_ATTEMPTS: usize = 6;
/// What a cluster calls lost, before a session tells.
const DETECT: Duration = Duration::from_secs(2);
/// Looks at once. A start of the daemon looks at every cluster unit, and starts and stops must not queue behind that.
const LOOKS_AT_ONCE: usize = 32;
/// The unit that fence agents end with.
const DAEMON_UNIT: &str = "convoked.service";

/// What the agent needs of the rest of the daemon.
#[derive(Debug)]
pub struct AgentSetup {
    /// Who this node is.
    pub node: NodeId,
    /// Its name, for people and for `CONVOKE_NODE`.
    pub node_name: String,
    /// The cluster that it is in, as far as that can be read.
    pub cluster: Option<ClusterId>,
    /// Where its files are.
    pub paths: Paths,
    /// Which life it is in; from [`Prepared`].
    pub incarnation: Incarnation,
    /// Its lease.
    pub lease: Lease,
    /// Told whenever PID 1 has answered (F27).
    pub pulse: Pulse,
    /// Told whether this node goes down (F30).
    pub farewell: Farewell,
    /// Facts go here.
    pub to_session: mpsc::Sender<ToSession>,
    /// Orders come from here.
    pub from_session: mpsc::Receiver<FromSession>,
    /// For questions and wishes.
    pub asker: Asker,
    /// From the rest of the daemon.
    pub commands: mpsc::Receiver<AgentCommand>,
    /// Where unit files are looked for.
    pub root: PathBuf,
    /// The list of cluster units; none if it could not be read, and then it is not written either.
    pub gated: Option<Gated>,
    /// What resets this node.
    pub watchdog: Watchdog,
    /// Which device that is; none where the settings cannot be read, and then none is armed anew.
    pub device: Option<Setting>,
    /// Takes what is to be read in a unit's log.
    pub journal: Option<Journal>,
}

/// Runs the agent until it is told to end, or the session's task has gone.
pub async fn run(setup: AgentSetup, prepared: Prepared) {
    let Prepared { boot, systemd, signals, held, releasing, left_filed, listener, .. } = prepared;
    let expected = setup.paths.lease_file().exists();
    let keeps_list = setup.gated.is_some();
    let agent = Agent::new(Origin {
        node: setup.node,
        node_name: setup.node_name,
        incarnation: setup.incarnation.clone(),
        floors: Floors::load(&setup.paths.floors_file(), &boot, setup.cluster, expected),
        held,
        releasing,
        left_filed,
        left_armed: setup.watchdog.was_left(),
        gated: setup.gated.unwrap_or_default(),
    });
    let (events, inbox) = mpsc::channel(QUEUE);
    tokio::spawn(gate::serve(listener, events.clone()));
    let (in_session, _) = watch::channel(false);
    let (beat, beats) = watch::channel((Some(systemd.clone()), DETECT));
    let (manager, managers) = watch::channel(SystemState::Other);
    tokio::spawn(keep_pulse(setup.pulse.clone(), manager, beats));
    let spool = Spool::at(setup.paths.wishes_dir());
    let client = format!("agent/{}/{}/{}", setup.node, setup.incarnation, boottime_ms());
    let executor =
        Executor::new(setup.asker.clone(), setup.lease.clone(), Some(DAEMON_UNIT.to_owned()), &setup.paths);
    let shell = Shell {
        agent,
        node: setup.node,
        paths: setup.paths,
        root: setup.root,
        lease: setup.lease,
        pulse: setup.pulse,
        farewell: setup.farewell,
        to_session: setup.to_session,
        asker: setup.asker,
        executor,
        journal: setup.journal,
        systemd: Some(systemd),
        events,
        pending: VecDeque::from([Event::Connected]),
        operations: BTreeMap::new(),
        probes: BTreeMap::new(),
        gates: BTreeMap::new(),
        in_session,
        beat,
        detect: DETECT,
        spool,
        client,
        looks: 0,
        looking: Arc::new(Semaphore::new(LOOKS_AT_ONCE)),
        watchdog: setup.watchdog,
        device: setup.device,
        discovering: Discovering::Idle,
        keeps_list,
        lists: 0,
        written: watch::Sender::new(0),
        blocked: false,
    };
    shell.run(setup.from_session, setup.commands, signals, inbox, managers).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Discovering {
    Idle,
    Running,
    Again,
}

struct Shell {
    agent: Agent,
    node: NodeId,
    paths: Paths,
    root: PathBuf,
    lease: Lease,
    pulse: Pulse,
    farewell: Farewell,
    to_session: mpsc::Sender<ToSession>,
    asker: Asker,
    executor: Executor,
    journal: Option<Journal>,
    systemd: Option<Systemd>,
    events: mpsc::Sender<Event>,
    /// What followed at once from an action; handled before anything else.
    pending: VecDeque<Event>,
    operations: BTreeMap<UnitName, JoinHandle<()>>,
    /// By the unit, and the word of the question.
    probes: BTreeMap<(UnitName, &'static str), JoinHandle<()>>,
    gates: BTreeMap<GateId, JoinHandle<()>>,
    in_session: watch::Sender<bool>,
    beat: watch::Sender<(Option<Systemd>, Duration)>,
    detect: Duration,
    spool: Spool,
    client: String,
    looks: u64,
    looking: Arc<Semaphore>,
    watchdog: Watchdog,
    device: Option<Setting>,
    discovering: Discovering,
    /// Whether it knows the list of cluster units whole.
    keeps_list: bool,
    /// How many lists of cluster units were made, and how many of these were written. A reload waits for the writing.
    lists: u64,
    written: watch::Sender<u64>,
    /// A fact could not be sent: nothing may overtake it.
    blocked: bool,
}

impl Shell {
    async fn run(
        mut self,
        mut from_session: mpsc::Receiver<FromSession>,
        mut commands: mpsc::Receiver<AgentCommand>,
        signals: mpsc::Receiver<Signal>,
        mut inbox: mpsc::Receiver<Event>,
        mut managers: watch::Receiver<SystemState>,
    ) {
        let mut signals = Some(signals);
        let (connected, mut connections) = mpsc::channel(1);
        let mut ticked = tokio::time::Instant::now();
        let mut standing = self.watchdog.standing();
        standing.mark_changed();
        let mut timer = BootTimer::new().inspect_err(|error| tracing::error!(%error, "no timer")).ok();
        self.resend_spooled();
        loop {
            // The end of the lease, or of what was left to stop after it.
            let wanted = self.lease.left().map(|_| self.lease.ends_ms()).or(self.agent.down_by_ms);
            if let Some(timer) = timer.as_mut()
                && let Some(at) = wanted.filter(|at| timer.armed().is_none_or(|armed| armed > *at))
                && let Err(error) = timer.arm(at)
            {
                tracing::error!(%error, "the lease's timer cannot be set; the tick stands in");
            }
            // Without its timer the end of a lease is found by the tick.
            let rests = timer.is_some() && !self.agent.is_restless();
            let tick = ticked + if rests { REST } else { TICK };
            let event = match self.pending.pop_front() {
                Some(event) => event,
                None => tokio::select! {
                    biased;
                    signal = hear(&mut signals) => Event::Signal(signal),
                    Some(event) = inbox.recv() => event,
                    session = from_session.recv() => match session {
                        Some(event) => Event::Session(event),
                        None => return,
                    },
                    Some(command) = commands.recv() => Event::Command(command),
                    Ok(()) = managers.changed() => Event::Manager(*managers.borrow_and_update()),
                    standing = stands(&mut standing) => Event::Watchdog(standing),
                    Some((systemd, heard)) = connections.recv() => {
                        self.systemd = Some(systemd);
                        signals = Some(heard);
                        Event::Connected
                    },
                    () = fired(timer.as_mut()) => Event::Tick,
                    () = tokio::time::sleep_until(tick) => {
                        ticked = tokio::time::Instant::now();
                        Event::Tick
                    }
                },
            };
            match &event {
                Event::Signal(Signal::Disconnected) => {
                    tracing::warn!("the connection to PID 1 is lost");
                    signals = None;
                    self.systemd = None;
                    tokio::spawn(reconnect(connected.clone()));
                }
                Event::Session(FromSession::Opened { detect, .. }) => {
                    self.detect = *detect;
                    self.in_session.send_replace(true);
                }
                Event::Session(FromSession::Closed) => drop(self.in_session.send_replace(false)),
                Event::Discovered(_) => self.discovery_ended(),
                _ => {}
            }
            let (ends_ms, leased) = (self.lease.ends_ms(), self.lease.left().is_some());
            let now = Now { boot_ms: boottime_ms(), mono: tasks::monotonic(), leased, ends_ms };
            self.blocked = false;
            tracing::trace!(leased, ?event, "heard");
            let actions = self.agent.handle(event, &now);
            // Before a permit file is written, and after a unit was seen gone.
            self.watchdog.protect(self.agent.protects());
            self.farewell.set(self.agent.is_leaving());
            for action in actions {
                if let Action::Exit(done) = action {
                    self.save_floors();
                    // The daemon may have gone already.
                    let _ = done.send(());
                    return;
                }
                tracing::trace!(?action, "does");
                self.perform(action).await;
            }
            if self.blocked {
                self.agent.unsend();
            }
            self.set_beat();
        }
    }

    /// Does something for another node; its end is an event.
    fn errand<Done>(&self, errand: impl FnOnce(Executor, Option<Systemd>) -> Done)
    where
        Done: Future<Output = Event> + Send + 'static,
    {
        let done = errand(self.executor.clone(), self.systemd.clone());
        let events = self.events.clone();
        tokio::spawn(async move { drop(events.send(done.await).await) });
    }

    /// Begins an operation once the one before it on the unit has ended for good.
    async fn begin(&mut self, op: OpId, unit: UnitName, work: Work) {
        let before = self.operations.remove(&unit);
        let Some(systemd) = self.systemd.clone() else {
            let end = End::Failed(Failure::Connection("PID 1 is not connected".to_owned()));
            self.pending.push_back(Event::Done { op, unit, end });
            return;
        };
        let events = self.events.clone();
        let hands = Hands {
            systemd,
            lease: self.lease.clone(),
            pulse: self.pulse.clone(),
            events: events.clone(),
            spool: self.spool.clone(),
            watchdog: self.watchdog.clone(),
            node_name: self.agent.node_name.clone(),
        };
        let task = Task { op, unit: unit.clone(), hands };
        let looking = self.looking.clone();
        let operation = async move {
            if let Some(before) = before {
                before.abort();
                // Nothing of it may come after what follows.
                drop(before.await);
            }
            let end = match &work {
                Work::Look { watch, after, gone } => {
                    let _slot = looking.acquire().await;
                    task.look(*watch, *after, gone.as_ref()).await
                }
                Work::Start { triggers, timeout } => task.start(triggers, *timeout).await,
                Work::Stop(stop) => task.stop(stop).await,
                Work::Freeze => task.freeze().await,
                Work::Thaw => task.thaw().await,
            };
            drop(events.send(Event::Done { op, unit: task.unit, end }).await);
        };
        self.operations.insert(unit, tokio::spawn(operation));
    }

    fn set_beat(&self) {
        // PID 1 may be silent for two and a half times as long before a beat is held back.
        let period = self.detect * 2;
        let connected = self.systemd.is_some();
        self.beat.send_if_modified(|(systemd, old)| {
            let changed =
                *old != period || systemd.is_some() != connected || (connected && !self.same(systemd));
            if changed {
                *old = period;
                systemd.clone_from(&self.systemd);
            }
            changed
        });
    }

    /// A new connection comes only after the old one was taken away, so presence is identity.
    fn same(&self, other: &Option<Systemd>) -> bool {
        other.is_some() == self.systemd.is_some()
    }
}

async fn hear(signals: &mut Option<mpsc::Receiver<Signal>>) -> Signal {
    match signals {
        Some(signals) => signals.recv().await.unwrap_or(Signal::Disconnected),
        None => std::future::pending().await,
    }
}

/// How the watchdog stands, once that is news.
async fn stands(standing: &mut watch::Receiver<Option<Standing>>) -> Standing {
    loop {
        if standing.changed().await.is_err() {
            return std::future::pending().await;
        }
        if let Some(standing) = standing.borrow_and_update().clone() {
            return standing;
        }
    }
}

async fn fired(timer: Option<&mut BootTimer>) {
    match timer {
        Some(timer) => timer.fired().await,
        None => std::future::pending().await,
    }
}
