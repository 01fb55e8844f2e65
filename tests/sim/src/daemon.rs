//! One daemon on one machine: the parts of convoked that do not touch the kernel, put together as `bridge/src/daemon.rs`
//! does it, in a tokio runtime of its own with a clock of its own. Dropping it is `kill -9`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bridge::agent::{Agent, Floors, Origin, PermitFile, Starts};
use bridge::doors::{self, Doors};
use bridge::leader;
use bridge::net::{AddressBook, Book, DialTiming, Dialer, Listener};
use bridge::paths::Paths;
use bridge::session::client::{self, Local};
use bridge::session::{Accord, Asker, Farewell, Lease, Pulse, QUEUE, Standing};
use bridge::watchdog::Watchdog;
use consensus::{Consensus, MemoryDisk};
use policy::{Fencing, Incarnation, NodeId, OnQuorumLoss, Settings, UnitName, Wish};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use units::generator::Gated;

use crate::clock;
use crate::dog::{self, Kennel};
use crate::flaw::Flaw;
use crate::ledger::Ledger;
use crate::machine::{Doing, Machine};
use crate::net::Net;
use crate::power::Switch;
use crate::shell::{Shared, Shell, lock};
use crate::store::Store;
use crate::tamper::Tamper;
use crate::wire::{CLUSTER, SimWire, accept, address};

/// At which indices voters compare their states: the multiples of it. A seed has some hundred entries.
const COMPARED_EVERY: u64 = 32;

/// Everything that a daemon finds when it starts.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) machine: usize,
    pub(crate) node: u64,
    pub(crate) votes: bool,
    pub(crate) paths: Paths,
    pub(crate) book: Book,
    pub(crate) disk: MemoryDisk,
    pub(crate) settings: Settings,
    pub(crate) shared: Shared,
    pub(crate) net: Net,
    pub(crate) ledger: Ledger,
    pub(crate) switch: Switch,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) tamper: Option<Tamper>,
    /// The clustered service, if there is one.
    pub(crate) store: Option<Store>,
    /// Whether the machine has a watchdog.
    pub(crate) watched: bool,
    pub(crate) found: Option<Wish>,
}

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) asker: Asker,
    runtime: Runtime,
    origin: tokio::time::Instant,
    /// The machine's monotonic clock when the daemon started.
    begun: Duration,
    passed_ms: u64,
    /// The processor's time that it took since this was set; `None` where nobody asks.
    pub(crate) spent: Option<Duration>,
}

impl Daemon {
    /// Starts it on a machine whose monotonic clock shows `begun`.
    pub(crate) fn start(place: Place, begun: Duration) -> Self {
        let runtime = clock::at(begun, || {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime")
        });
        let (to_session, requests) = mpsc::channel(QUEUE);
        let asker = Asker::new(to_session.clone());
        let origin = runtime.block_on(async { tokio::time::Instant::now() });
        let daemon = Self { asker: asker.clone(), runtime, origin, begun, passed_ms: 0, spent: None };
        daemon.inside(|| {
            daemon.runtime.spawn(run(place, asker, to_session, requests));
        });
        daemon
    }

    /// Runs a task beside the daemon, which dies with it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inside(|| drop(self.runtime.spawn(task)));
    }

    /// Lets so many milliseconds of its clock pass.
    pub(crate) fn step(&mut self, ms: u64, slept: Duration) {
        self.passed_ms += ms;
        let until = self.origin + Duration::from_millis(self.passed_ms);
        let before = self.spent.map(|_| clock::processor());
        clock::on_machine(self.origin, self.begun, slept, || {
            self.runtime.block_on(async { tokio::time::sleep_until(until).await });
        });
        if let (Some(spent), Some(before)) = (&mut self.spent, before) {
            *spent += clock::processor() - before;
        }
    }

    fn inside<T>(&self, body: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.enter();
        clock::on_machine(self.origin, self.begun, Duration::ZERO, body)
    }
}

/// Which life of the machine it is.
pub(crate) fn boot(machine: usize, boots: u32) -> String {
    format!("boot {boots} of n{}", machine + 1)
}

async fn run(
    place: Place,
    asker: Asker,
    to_session: mpsc::Sender<bridge::session::ToSession>,
    requests: mpsc::Receiver<bridge::session::ToSession>,
) {
    let id = NodeId(place.node);
    let name = format!("n{}", place.machine + 1);
    let boots = lock(&place.shared).boots;
    let boot = boot(place.machine, boots);
    let lease = Lease::load(&place.paths.lease_file(), &boot);
    place.ledger.lock().leases.insert(place.machine, lease.clone());
    let watchdog = place.watched.then(|| begin_watchdog(&place, &boot, lease.clone()));
    let from_answers = (place.flaw == Some(Flaw::LeaseFromAnswer)).then(|| lease.clone());
    let wire =
        Arc::new(SimWire { net: place.net.clone(), machine: place.machine, node: place.node, from_answers });
    let book = AddressBook::new(place.book.clone());
    let dialer = Dialer::new(wire.clone(), book.clone(), DialTiming::default());
    let door = place.net.listen(place.machine);
    let listener = Listener::fed(address(place.machine), accept(place.node, door, place.tamper.clone()));
    let (streams, accepted) = mpsc::channel(16);
    let (leader_now, leader) = watch::channel(None);
    let leads = leader.clone();
    let (to_agent, from_session) = mpsc::channel(QUEUE);
    let guests: Arc<ArcSwap<doors::Guests>> = Arc::default();
    let mut consensus = None;
    let accord = Accord::default();
    place.ledger.lock().hear(place.machine, accord.clone());
    if place.votes {
        let opened = open(&place, dialer.clone(), accord.clone()).await;
        consensus = Some(opened.consensus.clone());
        if place.found.is_some() && boots == 1 {
            place.ledger.lock().group = Some(opened.consensus.clone());
        }
        let (fatal, shared) = (opened.consensus.fatal(), place.shared.clone());
        tokio::spawn(async move { lock(&shared).daemon_ended = Some(fatal.await) });
        tokio::spawn(leader::run(leader::Setup {
            node: id,
            consensus: opened.consensus,
            replica: opened.replica,
            found: place.found.clone(),
            machine: opened.machine,
            streams: accepted,
            book: book.clone(),
            guests: guests.clone(),
            leader: leader_now,
            applied: watch::channel(0).0,
            asked: mpsc::channel(1).1,
        }));
    }
    let (own_end, mut own_streams) = mpsc::channel(4);
    if let Some(tamper) = place.tamper.clone() {
        let (changed, streams) = mpsc::channel(4);
        let mut ends = std::mem::replace(&mut own_streams, streams);
        tokio::spawn(async move {
            while let Some(stream) = ends.recv().await {
                drop(changed.send(tamper.at_leader(id, stream)).await);
            }
        });
    }
    tokio::spawn(doors::own(id, own_streams, streams.clone()));
    tokio::spawn(doors::serve(
        listener,
        Doors {
            wire,
            cluster: CLUSTER,
            book,
            consensus: consensus.clone(),
            guests,
            streams,
            authority: None,
            asker: asker.clone(),
        },
    ));
    let prober = dialer.clone();
    tokio::spawn(async move { prober.probe(|| leads.borrow().map(|leader| leader.0)).await });

    let incarnation = Incarnation(boot.clone());
    let expected = place.paths.lease_file().exists();
    let floors = Floors::load(&place.paths.floors_file(), &boot, Some(CLUSTER), expected);
    let last_session = Lease::kept_session(&place.paths.lease_file(), &boot);
    let pulse = Pulse::default();
    pulse.felt();
    let farewell = Farewell::default();
    tokio::spawn({
        let pulse = pulse.clone();
        async move {
            loop {
                pulse.felt();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    let (held, releasing, left_filed) = prepare(&place.shared);
    let (events, inbox) = mpsc::unbounded_channel();
    let signals = lock(&place.shared).subscribe();
    let agent = Agent::new(Origin {
        node: id,
        node_name: name.clone(),
        incarnation: incarnation.clone(),
        floors,
        held,
        releasing,
        left_filed,
        left_armed: watchdog.as_ref().is_some_and(Watchdog::was_left),
        gated: Gated::default(),
    });
    tokio::spawn(client::run(client::Setup {
        node: id,
        incarnation,
        machine: format!("machine of {name}"),
        addresses: vec![address(place.machine).to_string()],
        last_session,
        boot,
        lease_file: place.paths.lease_file(),
        peers_file: place.paths.peers_file(),
        lease: lease.clone(),
        pulse: pulse.clone(),
        farewell: farewell.clone(),
        standing: Standing::default(),
        accord,
        dialer,
        local: consensus.is_some().then(|| Local { leader, accept: own_end }),
        requests,
        agent: to_agent,
    }));
    let shell = Shell {
        name,
        agent,
        machine: place.shared,
        lease,
        pulse,
        farewell,
        to_session,
        asker,
        switch: place.switch,
        flaw: place.flaw,
        store: place.store,
        at: place.machine,
        watchdog,
        events,
        pending: VecDeque::new(),
        operations: BTreeMap::new(),
        probes: BTreeMap::new(),
        blocked: false,
    };
    shell.run(from_session, signals, inbox).await;
}

async fn open(place: &Place, dialer: Dialer, accord: Accord) -> leader::Opened {
    let (requests, machine) = place.ledger.between(place.machine, place.flaw);
    let (opened, wait) = oneshot::channel();
    let program = Some("convoked".to_owned());
    let comparison = leader::Comparison { every: COMPARED_EVERY, program, accord };
    let replay = tokio::spawn(leader::replay(machine, wait, leader::Replica::new(comparison)));
    let settings = leader::raft(place.node, CLUSTER.to_string(), &place.settings);
    let path = leader::path(dialer);
    let consensus =
        Consensus::open_simulated(place.disk.clone(), settings, requests, path).await.expect("a store");
    // The other end waits for exactly this.
    let _ = opened.send(());
    let (replica, machine) = replay.await.expect("a replay");
    if place.found.is_some() && consensus.start_count() == 1 {
        consensus.initialize().await.expect("a new log");
    }
    leader::Opened { consensus, replica, machine }
}

/// As `bridge/src/daemon.rs` begins it, before anything else that takes time.
fn begin_watchdog(place: &Place, boot: &str, lease: Lease) -> Watchdog {
    let rests = rests_on_watchdog(&lock(&place.shared));
    let (setting, kennel) = (dog::setting(), Box::new(Kennel(place.shared.clone())));
    let begun = Watchdog::by_hand(&place.paths, boot, lease, rests, Some(&setting), kennel);
    let (watchdog, feeding) = begun.expect("a thread for its notes");
    tokio::spawn(dog::keep(feeding));
    watchdog
}

/// As `bridge/src/agent/permit.rs` reads it of the files.
fn rests_on_watchdog(machine: &Machine) -> Option<u64> {
    let left = || machine.permits.values().chain(machine.spent.values()).chain(machine.releasing.values());
    let stops = left().filter(|permit| permit.terms.on_quorum_loss != OnQuorumLoss::Continue);
    let rests = left().any(|permit| permit.terms.fencing == Fencing::Watchdog);
    rests.then(|| stops.map(|permit| permit.terms.stop_budget_ms).sum())
}

/// What an earlier daemon left: permits in force, those being released, and those whose unit went down unheard.
type Left = (BTreeMap<UnitName, PermitFile>, BTreeMap<UnitName, PermitFile>, BTreeMap<UnitName, PermitFile>);

/// Where a permit's file lies, in the order in which they are looked at: what the gates see is the latest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lies {
    Releasing,
    Spent,
    Permits,
}

/// As `bridge/src/agent/prepare.rs`: a permit counts only while its unit runs, comes up or is about to restart; one whose
/// unit stops, or was to stop, is held until it is gone; and one whose only start was made, or may have been, is given back.
fn prepare(machine: &Shared) -> Left {
    let mut machine = lock(machine);
    let (mut held, mut releasing, mut left_filed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let found = [
        (Lies::Releasing, std::mem::take(&mut machine.releasing)),
        (Lies::Spent, std::mem::take(&mut machine.spent)),
        (Lies::Permits, std::mem::take(&mut machine.permits)),
    ];
    for (lies, permits) in found {
        for (name, permit) in permits {
            let doing = machine.units.get(&name).map(|unit| unit.doing);
            match (lies, doing) {
                (_, None) => {}
                (Lies::Releasing, Some(Doing::Up | Doing::Starting { .. } | Doing::Restarting { .. }))
                | (_, Some(Doing::Stopping { .. })) => drop(releasing.insert(name, permit)),
                (_, Some(Doing::Up | Doing::Starting { .. } | Doing::Restarting { .. })) => {
                    let place = if lies == Lies::Spent { &mut machine.spent } else { &mut machine.permits };
                    place.insert(name.clone(), permit.clone());
                    releasing.remove(&name);
                    held.insert(name, permit);
                }
                (_, Some(Doing::Down | Doing::Failed)) if permit.starts != Starts::Any => {
                    let permit = PermitFile { starts: Starts::Made, ..permit };
                    machine.spent.insert(name.clone(), permit.clone());
                    releasing.remove(&name);
                    held.insert(name, permit);
                }
                (Lies::Permits, Some(Doing::Down | Doing::Failed)) => {
                    left_filed.insert(name, permit);
                }
                (_, Some(Doing::Down | Doing::Failed)) => {}
            }
        }
    }
    machine.releasing.clone_from(&releasing);
    (held, releasing, left_filed)
}
