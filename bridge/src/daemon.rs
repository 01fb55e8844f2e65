//! `convoked`: puts the parts together, starts them in order and ends them in order.
//!
//! Listener, then store, then agent, then READY=1: a node is ready when its store is open and it listens, not when
//! there is a quorum. Decides nothing about units; of a daemon that cannot start, or not in time, see `guard`.

mod aside;
mod guard;
mod notify;
mod open;
mod shutdown;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use consensus::Consensus;
use policy::{NodeId, Wish};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;
use units::systemd::journal::Journal;

use crate::agent::{self, AgentCommand, Prepared};
use crate::api::dbus;
use crate::config::Config;
use crate::doors;
use crate::identity::{Enrolled, Machine};
use crate::init::FIRST_NODE;
use crate::leader;
use crate::net::addresses;
use crate::paths::Paths;
use crate::session::client::{self, Local};
use crate::session::{Accord, Asker, Farewell, Lease, Pulse, QUEUE, Standing};
use crate::watchdog::Watchdog;
use open::{Opened, open};

/// How long the log may take to come to rest after the start before the daemon says READY without it. Short: every
/// cluster unit of the node is ordered after that, and a cluster without a quorum does not come to rest.
const RECOVERY: Duration = Duration::from_secs(2);
/// What a daemon can do without while a lease may end is waited for no longer than this.
pub const READ: Duration = Duration::from_millis(200);

/// Runs the daemon until it is told to stop. Returns an error where it cannot start, or cannot go on. What concerns a unit
/// is told to the `journal` too.
///
/// # Errors
/// With the whole chain of causes; each names what to do.
pub async fn run(paths: Paths, journal: Option<Journal>) -> anyhow::Result<()> {
    // First of all, whatever else fails: a watchdog that an earlier daemon left running is fed by this one from here on.
    let chain = Chain::begin(&paths)?;
    // On a thread of its own, as a disk may hold it up.
    let (runtime, opening) = (Handle::current(), open(paths.clone()));
    let mut opening = spawn_blocking(move || runtime.block_on(opening));
    let begin = async {
        let opened = guard::within_lease(&paths, &chain.lease, &mut opening).await?;
        let prepared = agent::prepare(&paths).await.context("cannot take charge of this node's units")?;
        anyhow::Ok((opened, prepared))
    };
    let (opened, prepared) = match begin.await {
        Ok(both) => both,
        Err(error) => {
            guard::keep_lease(&paths, &chain, journal, &error, &opening).await;
            return Err(error);
        }
    };
    let Running { consensus, core, agent, pulse, mark, accord, commands } =
        start(&paths, &chain, journal, opened, prepared);
    let ended = end(consensus.as_ref(), core, agent, &pulse, &accord).await;
    // Also where it ends for another reason in the same moment.
    if let Some(why) = accord.told() {
        aside::set(&paths, &mark, &why);
    }
    shutdown::run(ended, commands, consensus).await
}

/// This node's lease and what resets it, as an earlier daemon of this boot left them.
struct Chain {
    lease: Lease,
    watchdog: Watchdog,
}

impl Chain {
    fn begin(paths: &Paths) -> anyhow::Result<Self> {
        // Without the boot's id nobody knows whether the lease has ended: then it has.
        let boot = agent::boot_id(paths).unwrap_or_default();
        let lease = Lease::load(&paths.lease_file(), &boot);
        let setting = Config::load_within(paths, READ).map(|config| config.watchdog);
        let rests = agent::rests_on_watchdog(paths);
        let watchdog = Watchdog::begin(paths, &boot, lease.clone(), rests, setting.as_ref());
        Ok(Self { lease, watchdog: watchdog.context("no thread to feed a watchdog")? })
    }
}

/// What a started daemon consists of.
struct Running {
    consensus: Option<Consensus>,
    core: Option<JoinHandle<()>>,
    agent: JoinHandle<()>,
    pulse: Pulse,
    mark: String,
    accord: Accord,
    commands: mpsc::Sender<AgentCommand>,
}

/// Starts the parts. The agent comes last.
fn start(
    paths: &Paths,
    chain: &Chain,
    journal: Option<Journal>,
    opened: Opened,
    prepared: Prepared,
) -> Running {
    let Opened { config, enrolled, machine, gated, tls, book, guests, listener, dialer, mark, accord, group } =
        opened;
    let node = NodeId(enrolled.identity.node);
    let name = enrolled.identity.node_name.clone();
    let advertised = advertised(&config, listener.local_addr());

    let (streams, accepted) = mpsc::channel(QUEUE);
    let (leader_now, leader) = watch::channel(None);
    let leads = leader.clone();
    let (applied_now, applied) = watch::channel(0);
    let (ask_memory, asked) = mpsc::channel(8);
    let consensus = group.as_ref().map(|group| group.consensus.clone());
    let core = group.map(|group| leader::Setup {
        node,
        consensus: group.consensus,
        replica: group.replica,
        found: (node.0 == FIRST_NODE).then(|| foundation(&machine, &enrolled, &advertised)),
        machine: group.machine,
        streams: accepted,
        book: book.clone(),
        guests: guests.clone(),
        leader: leader_now,
        applied: applied_now,
        asked,
    });
    let core = core.map(|setup| tokio::spawn(leader::run(setup)));

    let boot = prepared.boot.clone();
    let lease_file = paths.lease_file();
    let lease = chain.lease.clone();
    let pulse = Pulse::default();
    let farewell = Farewell::default();
    let standing = Standing::default();
    let (to_session, requests) = mpsc::channel(QUEUE);
    let (to_agent, from_session) = mpsc::channel(QUEUE);
    let asker = Asker::new(to_session.clone());
    let (own_end, own_streams) = mpsc::channel(4);
    tokio::spawn(doors::own(node, own_streams, streams.clone()));
    let session = client::Setup {
        node,
        incarnation: prepared.incarnation.clone(),
        machine: machine.text(),
        addresses: advertised.iter().map(ToString::to_string).collect(),
        last_session: Lease::kept_session(&lease_file, &boot),
        boot,
        lease_file,
        peers_file: paths.peers_file(),
        lease: lease.clone(),
        pulse: pulse.clone(),
        farewell: farewell.clone(),
        standing: standing.clone(),
        accord: accord.clone(),
        dialer: dialer.clone(),
        local: consensus.is_some().then(|| Local { leader, accept: own_end }),
        requests,
        agent: to_agent,
    };
    tokio::spawn(client::run(session));

    let doors = doors::Doors {
        wire: tls,
        cluster: enrolled.identity.cluster,
        book,
        consensus: consensus.clone(),
        guests,
        streams,
        authority: enrolled.authority.map(Arc::new),
        asker: asker.clone(),
    };
    tokio::spawn(doors::serve(listener, doors));
    let prober = dialer.clone();
    tokio::spawn(async move { prober.probe(|| leads.borrow().map(|leader| leader.0)).await });

    let (commands, agent_commands) = mpsc::channel(8);
    let setup = agent::AgentSetup {
        node,
        node_name: name.clone(),
        cluster: Some(enrolled.identity.cluster),
        paths: paths.clone(),
        incarnation: prepared.incarnation.clone(),
        lease: lease.clone(),
        pulse: pulse.clone(),
        farewell,
        to_session,
        from_session,
        asker: asker.clone(),
        commands: agent_commands,
        root: paths.root().to_owned(),
        gated: Some(gated),
        watchdog: chain.watchdog.clone(),
        device: Some(config.watchdog.clone()),
        journal,
    };
    let agent = tokio::spawn(agent::run(setup, prepared));
    tokio::spawn(dbus::serve(dbus::Api {
        asker,
        node_name: name,
        node,
        cluster: enrolled.identity.cluster_name.clone(),
        asked: consensus.is_some().then_some(ask_memory),
        applied: consensus.is_some().then_some(applied),
        agent: commands.clone(),
        dialer,
        lease,
        standing,
    }));

    Running { consensus, core, agent, pulse, mark, accord, commands }
}

/// Why the daemon ends.
#[derive(Debug)]
enum End {
    /// It was asked to.
    Asked,
    /// A part of it failed.
    Failed(String),
    /// This voter's state is another one than that of most voters (F20).
    Parted(String),
}

async fn end(
    consensus: Option<&Consensus>,
    core: Option<JoinHandle<()>>,
    agent: JoinHandle<()>,
    pulse: &Pulse,
    accord: &Accord,
) -> End {
    let fatal = async {
        match consensus {
            Some(consensus) => consensus.fatal().await,
            None => std::future::pending().await,
        }
    };
    let core = async {
        match core {
            Some(core) => core.await,
            None => std::future::pending().await,
        }
    };
    let parted = async {
        match consensus {
            Some(_) => accord.parted().await,
            None => std::future::pending().await,
        }
    };
    let alive = async {
        if let Some(consensus) = consensus
            && let Err(error) = consensus.wait_for_recovery(RECOVERY).await
        {
            warn!(%error, "the log has not come to rest yet");
        }
        notify::ready().await;
        notify::feed(pulse.clone()).await;
    };
    // A signal is heard, and a failure seen, from the first moment on.
    tokio::select! {
        asked = shutdown::asked() => match asked {
            Ok(()) => End::Asked,
            Err(error) => End::Failed(format!("cannot listen for signals: {error}")),
        },
        why = fatal => End::Failed(format!("this voter cannot go on: {why}")),
        why = parted => End::Parted(why),
        _ = core => End::Failed("the task that owns the state has ended".to_owned()),
        ended = agent => End::Failed(format!("the agent has ended: {ended:?}")),
        () = alive => End::Failed("the watchdog's task has ended".to_owned()),
    }
}

/// Where this node says that it is reached: what the file says, else every address of the machine.
fn advertised(config: &Config, local: SocketAddr) -> Vec<SocketAddr> {
    if !config.advertise.is_empty() {
        return config.advertise.clone();
    }
    if !local.ip().is_unspecified() {
        return vec![local];
    }
    addresses::local().into_iter().map(|address| SocketAddr::new(address, local.port())).collect()
}

fn foundation(machine: &Machine, enrolled: &Enrolled, addresses: &[SocketAddr]) -> Wish {
    Wish::Found {
        cluster: enrolled.identity.cluster.to_string(),
        name: enrolled.identity.cluster_name.clone(),
        generation: u16::try_from(enrolled.identity.generation).unwrap_or(u16::MAX),
        node: NodeId(enrolled.identity.node),
        node_name: enrolled.identity.node_name.clone(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        machine: machine.text(),
    }
}
