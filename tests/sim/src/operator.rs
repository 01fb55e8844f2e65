//! The people: they form the cluster, ask for this and that while it is broken, and tidy up when it is mended.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bridge::session::Asker;
use bridge::session::message::{Reply, Request};
use policy::{Device, NodeId, Role, Settings, UnitName, Wanted, Wish, Word};
use tokio::time::sleep;

use crate::ledger::Ledger;
use crate::power::DEVICES;
use crate::store;

const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(300);
pub(crate) const BY: &str = "simulated operator";

/// Something that runs beside a daemon.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How far the forming is.
#[derive(Clone, Default)]
pub(crate) struct Formed(Arc<Mutex<(BTreeMap<usize, u64>, bool)>>);

impl Formed {
    fn lock(&self) -> MutexGuard<'_, (BTreeMap<usize, u64>, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Machines that were enrolled, and their ids.
    pub(crate) fn joined(&self) -> BTreeMap<usize, u64> {
        self.lock().0.clone()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.lock().1
    }

    /// This machine was enrolled.
    pub(crate) fn note(&self, machine: usize, node: NodeId) {
        self.lock().0.insert(machine, node.0);
    }

    /// Everything was asked for.
    pub(crate) fn end(&self) {
        self.lock().1 = true;
    }
}

/// What is to be formed.
pub(crate) struct Plan {
    /// Name and address of every other machine.
    pub(crate) machines: Vec<(String, String)>,
    /// The machine that is to be a witness.
    pub(crate) witness: Option<usize>,
    /// Whether there is a clustered service, whose first data somebody has to choose.
    pub(crate) clustered: bool,
    pub(crate) settings: Settings,
    /// Fence devices, each on a level of its own.
    pub(crate) levels: usize,
    pub(crate) units: Vec<UnitName>,
}

/// Enrols the other machines, configures the fence devices, and asks for every unit.
pub(crate) async fn form(asker: Asker, plan: Plan, formed: Formed) {
    let mut number = 0;
    for (at, machine) in (1..).zip(&plan.machines) {
        let role = if plan.witness == Some(at) { Role::Witness } else { Role::Voter };
        let node = enroll(&asker, &mut number, machine, role).await;
        formed.note(at, node);
    }
    let mut targets = BTreeMap::from([(NodeId(bridge::init::FIRST_NODE), plug(0))]);
    targets.extend(formed.joined().into_iter().map(|(at, node)| (NodeId(node), plug(at))));
    let devices = (1..).zip(DEVICES).take(plan.levels);
    let configure = Wish::Configure {
        settings: plan.settings,
        devices: devices.map(|(level, name)| (name.to_owned(), device(targets.clone(), level))).collect(),
        attributes: BTreeMap::new(),
        by: BY.to_owned(),
    };
    insist(&asker, "founder", &mut number, configure).await;
    for unit in plan.units {
        insist(&asker, "founder", &mut number, goal(&unit, Wanted::Started)).await;
    }
    if plan.clustered {
        assemble(&asker, &mut number).await;
    }
    formed.end();
}

/// Lets a machine, by its name and address, into the cluster.
pub(crate) async fn enroll(
    asker: &Asker,
    number: &mut u64,
    (name, address): &(String, String),
    role: Role,
) -> NodeId {
    let token = format!("token of {name}");
    let issue = Wish::IssueToken {
        id: token.clone(),
        secret_hash: "secret".to_owned(),
        valid_ms: 60_000,
        by: BY.to_owned(),
    };
    insist(asker, "founder", number, issue).await;
    let enroll = Wish::Enroll {
        token,
        secret_hash: "secret".to_owned(),
        name: name.clone(),
        addresses: vec![address.clone()],
        machine: format!("machine of {name}"),
        role: Some(role),
    };
    let request = Request::Enroll { attempt: format!("attempt of {name}"), wish: enroll };
    loop {
        match asker.ask(request.clone(), PATIENCE).await {
            Ok(Reply::Enrolled { node, .. }) => return node,
            _ => sleep(PAUSE).await,
        }
    }
}

/// A fence device of a level, which takes one attempt at a time.
pub(crate) fn device(targets: BTreeMap<NodeId, BTreeMap<String, String>>, level: u32) -> Device {
    Device {
        agent: "fence_sim".to_owned(),
        options: BTreeMap::new(),
        secrets: BTreeMap::new(),
        targets,
        timeout_ms: 3_000,
        timeouts: BTreeMap::new(),
        level,
        delay_ms: 0,
        retries: 0,
        at_once: 1,
        isolates: None,
    }
}

/// Says until it is done that the clustered service begins with what the first node has.
async fn assemble(asker: &Asker, number: &mut u64) {
    let from = NodeId(bridge::init::FIRST_NODE);
    loop {
        sleep(PAUSE).await;
        let Ok(Reply::Why(Ok(why))) = asker.ask(Request::Why { unit: store::name() }, PATIENCE).await else {
            continue;
        };
        let Some(shown) = &why.unit.assembly else { continue };
        if shown.formed {
            return;
        }
        if shown.state == "gathering" {
            *number += 1;
            let (unit, by) = (store::name(), BY.to_owned());
            let word = Wish::Assemble { unit, epoch: shown.epoch, word: Word::From(from), by };
            let request = Request::Wish { client: "founder".to_owned(), number: *number, wish: word };
            // It may not have said yet how its data stands: then it is asked again.
            drop(asker.ask(request, PATIENCE).await);
        }
    }
}

/// Stops the clustered service, and starts it once nothing of it is left.
pub(crate) async fn restart(asker: Asker, client: String) {
    let mut number = 0;
    insist(&asker, &client, &mut number, goal(&store::name(), Wanted::Stopped)).await;
    loop {
        sleep(PAUSE).await;
        let asked = asker.ask(Request::Why { unit: store::name() }, PATIENCE).await;
        if matches!(asked, Ok(Reply::Why(Ok(why))) if why.unit.copies.is_empty()) {
            break;
        }
    }
    insist(&asker, &client, &mut number, goal(&store::name(), Wanted::Started)).await;
}

/// Forgets that these nodes fell silent.
pub(crate) async fn forgive(asker: Asker, client: String, nodes: Vec<u64>) {
    let mut number = 0;
    for node in nodes {
        let forgive = Wish::ForgiveNode { node: NodeId(node), by: BY.to_owned() };
        insist(&asker, &client, &mut number, forgive).await;
    }
}

/// Drains the whole cluster, or ends that.
pub(crate) async fn drain(asker: Asker, client: String, drained: bool) {
    insist(&asker, &client, &mut 0, Wish::SetDrained { node: None, drained, by: BY.to_owned() }).await;
}

/// What a device is told of a machine.
pub(crate) fn plug(machine: usize) -> BTreeMap<String, String> {
    BTreeMap::from([("plug".to_owned(), machine.to_string())])
}

pub(crate) fn goal(unit: &UnitName, wanted: Wanted) -> Wish {
    Wish::SetGoal { unit: unit.clone(), wanted, node: None, seen: None, by: BY.to_owned() }
}

/// Asks until it is recorded; what is refused is asked anew, as what it needs may not be there yet.
pub(crate) async fn insist(asker: &Asker, client: &str, number: &mut u64, wish: Wish) -> u64 {
    loop {
        *number += 1;
        let request = Request::Wish { client: client.to_owned(), number: *number, wish: wish.clone() };
        match asker.ask(request, PATIENCE).await {
            Ok(Reply::Wish(Ok(index))) => return index,
            _ => sleep(PAUSE).await,
        }
    }
}

/// Asks once for a unit to be started or stopped, and takes note of the answer.
pub(crate) async fn wish_goal(asker: Asker, client: String, unit: UnitName, wanted: Wanted, ledger: Ledger) {
    let request = Request::Wish { client, number: 1, wish: goal(&unit, wanted) };
    // Without an answer it stays in doubt for ever: it may be recorded at any time.
    match asker.ask(request, PATIENCE).await {
        Ok(Reply::Wish(Ok(index))) => {
            let mut ledger = ledger.lock();
            ledger.acknowledge(&unit, index, wanted);
            ledger.settle(&unit);
        }
        Ok(Reply::Wish(Err(_))) => ledger.lock().settle(&unit),
        _ => {}
    }
}

/// Asks once for something that no invariant follows from.
pub(crate) async fn wish(asker: Asker, client: String, wish: Wish) {
    let request = Request::Wish { client, number: 1, wish };
    drop(asker.ask(request, PATIENCE).await);
}

/// After the mending: no node is drained or held back, no failure counts, and every unit is to run.
pub(crate) async fn tidy(
    asker: Asker,
    client: String,
    nodes: Vec<u64>,
    units: Vec<UnitName>,
    ledger: Ledger,
    done: Arc<AtomicBool>,
) {
    let mut number = 0;
    for node in nodes {
        let undrain = Wish::SetDrained { node: Some(NodeId(node)), drained: false, by: BY.to_owned() };
        insist(&asker, &client, &mut number, undrain).await;
        // It would be held back for longer than a mending may take.
        let forgive = Wish::ForgiveNode { node: NodeId(node), by: BY.to_owned() };
        insist(&asker, &client, &mut number, forgive).await;
    }
    for unit in units {
        let reset = Wish::ResetFailed { unit: unit.clone(), node: None };
        insist(&asker, &client, &mut number, reset).await;
        // It may be recorded long before it is told of. Where nobody tells, it stays in doubt for ever.
        ledger.lock().doubt(&unit);
        let index = insist(&asker, &client, &mut number, goal(&unit, Wanted::Started)).await;
        let mut ledger = ledger.lock();
        ledger.acknowledge(&unit, index, Wanted::Started);
        ledger.settle(&unit);
    }
    done.store(true, Ordering::Relaxed);
}
