//! How long the parts of the policy take, and how that grows with the cluster.
//!
//! `cargo run --release -p policy --example speed` prints one line for each size. `offers` is on how many nodes a unit may
//! run. Milliseconds: `scratch` is a plan of a cluster in which every unit is to start and none runs, `idle` one of the same
//! cluster with every unit active, both made of nothing; `event` is the kept plan renewed after a unit failed in it, `lost`
//! after a node was lost; `snapshot` and `restore` are as `convoked` does them; each is the median of five. `check` is a look at the whole set, `forecast` what the loss of a node would come to.
//! Microseconds: the mean of one entry; `capped` is a grant of a unit that takes a capacity, under caps on
//! starts, `loss` the loss of a node. `plan MB` is the most that the plan held, `MB` the size of a snapshot.
//!
//! `--example speed -- 5000x16x16` measures only that size; `-- pacemaker` plans the same clusters with Pacemaker's `crm_simulate` in turns, and prints both.

#![allow(clippy::disallowed_types, clippy::print_stdout, reason = "measures; the crate itself has no clock")]

mod pacemaker;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pacemaker::Case;
use policy::{Cause, Command, Decision, Entry, Fact, InventoryItem, Role, StopReason, Suppose, Wish};
use policy::{
    Definition, Incarnation, KeptPlan, NodeId, Offer, Settings, State, Token, UnitName, apply, check,
    forecast, plan,
};

/// Counts what is allocated, and the most that ever was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call on to the system's allocator as it came.
#[allow(unsafe_code, reason = "an allocator is unsafe by its nature")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Cluster time of every entry, in milliseconds.
const TIME: u64 = 1_000;

fn put(state: &mut State, command: Command) {
    let entry = Entry { index: state.index + 1, time: TIME, wall_ms: 0, origin: None, command };
    if let Err(refusal) = apply(state, &entry) {
        panic!("{refusal}: {:?}", entry.command);
    }
}

/// Units that were never started, each offered by `offers` of the nodes, all in session.
fn cluster(units: usize, nodes: usize, offers: usize, definition: &Definition) -> State {
    let mut state = State::default();
    let offer = Offer {
        definition: Some(definition.clone()),
        fault: None,
        gated: true,
        enabled: true,
        stop_budget_ms: 1_000,
        present: true,
    };
    let mut items: Vec<Vec<InventoryItem>> = vec![Vec::new(); nodes];
    for unit in 0..units {
        for offered in 0..offers {
            let node = (unit + offered * nodes.div_ceil(offers)) % nodes;
            let (unit, offer) = (UnitName(format!("unit-{unit}.service")), Some(offer.clone()));
            items[node].push(InventoryItem { unit, offer, running: false });
        }
    }
    for number in 1..=nodes {
        let (node_name, machine, addresses) = (format!("n{number}"), format!("m{number}"), Vec::new());
        if number == 1 {
            let (cluster, name, node) = ("c".into(), "speed".into(), NodeId(1));
            let found = Wish::Found { cluster, name, generation: 0, node, node_name, addresses, machine };
            put(&mut state, Command::Wish(found));
            continue;
        }
        let (id, hash, by) = (node_name.clone(), String::from("h"), "o".into());
        let token = Wish::IssueToken { id: id.clone(), secret_hash: hash.clone(), valid_ms: 10, by };
        put(&mut state, Command::Wish(token));
        let role = (number > 3).then_some(Role::Member);
        let enroll = Wish::Enroll { token: id, secret_hash: hash, name: node_name, addresses, machine, role };
        put(&mut state, Command::Wish(enroll));
    }
    put(&mut state, Command::Fact(Fact::TermBegan { term: 1, leader: NodeId(1) }));
    let ids: Vec<NodeId> = state.nodes.keys().copied().collect();
    for (at, (node, items)) in ids.iter().copied().zip(items).enumerate() {
        let (machine, incarnation) = (format!("m{}", at + 1), incarnation(node));
        let (session, addresses, level, term) = (state.index + 1, Vec::new(), policy::FEATURE_LEVEL, 1);
        let life = incarnation.clone();
        let heard = Fact::NodeHeard { node, incarnation: life, session, machine, addresses, level, term };
        put(&mut state, Command::Fact(heard));
        let (rests, highest_token) = (BTreeMap::new(), Token(0));
        put(
            &mut state,
            Command::Fact(Fact::InventoryReported { node, incarnation, items, rests, highest_token }),
        );
    }
    let index = state.index;
    for node in ids {
        let surveyed = Fact::Surveyed { node, incarnation: incarnation(node), index };
        put(&mut state, Command::Fact(surveyed));
    }
    for decision in plan(&state, TIME).decisions {
        put(&mut state, Command::Decision(decision));
    }
    state
}

fn incarnation(node: NodeId) -> Incarnation {
    Incarnation(format!("boot-of-{node}"))
}

/// Mean times of one entry, in microseconds.
struct Applied {
    grant: f64,
    started: f64,
    revoke: f64,
}

/// Applies one entry for each of the units, and says how long one takes.
fn mean(state: &mut State, commands: impl Iterator<Item = Command>) -> f64 {
    let commands: Vec<Command> = commands.collect();
    let (count, begun) = (commands.len(), Instant::now());
    for command in commands {
        put(state, command);
    }
    begun.elapsed().as_secs_f64() * 1_000_000.0 / count as f64
}

/// Carries out every grant of a plan, has each unit started, and revokes them all in a copy.
fn start(state: &mut State) -> Applied {
    let grant = {
        let decisions = plan(state, TIME).decisions;
        assert!(
            decisions.iter().all(|decision| matches!(decision, Decision::Grant { .. })),
            "nothing but grants"
        );
        mean(state, decisions.into_iter().map(Command::Decision))
    };
    let permits =
        state.units.iter().flat_map(|(name, unit)| unit.permits.iter().map(move |held| (name.clone(), held)));
    let permits: Vec<_> = permits.map(|(name, (token, permit))| (name, *token, permit.node)).collect();
    let started = permits.iter().cloned().map(|(unit, token, node)| {
        Command::Fact(Fact::Started { node, incarnation: incarnation(node), unit, token })
    });
    let started = mean(state, started);
    let reason = StopReason::GoalStopped;
    let revoke = permits
        .into_iter()
        .map(|(unit, token, _)| Command::Decision(Decision::Revoke { unit, token, reason: reason.clone() }));
    let revoke = mean(&mut state.clone(), revoke);
    Applied { grant, started, revoke }
}

/// The mean time of a grant, in microseconds, where each unit takes a capacity of its node and starts are capped. Each starts at
/// once, so that few starts are under way at a time.
fn capped(units: usize, nodes: usize, offers: usize) -> f64 {
    let uses = BTreeMap::from([("memory".to_owned(), 1)]);
    let mut state = cluster(units, nodes, offers, &Definition { uses, ..Definition::exclusive() });
    let room = BTreeMap::from([("memory".to_owned(), units.to_string())]);
    let attributes: BTreeMap<NodeId, _> = state.nodes.keys().map(|id| (*id, room.clone())).collect();
    let configure = |settings: Settings| {
        let (devices, attributes) = (BTreeMap::new(), attributes.clone());
        Command::Wish(Wish::Configure { settings, devices, attributes, by: "o".into() })
    };
    put(&mut state, configure(Settings::default()));
    // A plan under a cap has no more grants than that.
    let decisions = plan(&state, TIME).decisions;
    assert_eq!(decisions.len(), units, "each finds room");
    let most = Some(8);
    put(
        &mut state,
        configure(Settings { starts_per_node: most, starts_per_cluster: most, ..Settings::default() }),
    );
    let mut took = Duration::ZERO;
    for decision in decisions {
        let Decision::Grant { unit, node, .. } = &decision else { panic!("nothing but grants") };
        let (unit, node, token) = (unit.clone(), *node, Token(state.index + 1));
        let begun = Instant::now();
        put(&mut state, Command::Decision(decision));
        took += begun.elapsed();
        put(&mut state, Command::Fact(Fact::Started { node, incarnation: incarnation(node), unit, token }));
    }
    took.as_secs_f64() * 1_000_000.0 / units as f64
}

/// A unit fails on its node, which is one event: it is to start elsewhere.
fn fail(state: &State) -> Command {
    let (unit, token, node) = {
        let (name, unit) = state.units.iter().next().expect("a unit");
        let (token, permit) = unit.permits.iter().next().expect("it runs");
        (name.clone(), *token, permit.node)
    };
    let because = Cause::Failed("exit-code".into());
    let incarnation = incarnation(node);
    Command::Fact(Fact::Released { node, incarnation, unit, token, because })
}

/// Nodes are not heard any more, one after the other.
fn losses(state: &State) -> impl Iterator<Item = Command> {
    state.nodes.iter().filter_map(|(node, known)| {
        let life = known.life.as_ref()?;
        let (node, incarnation, session) = (*node, life.incarnation.clone(), life.session);
        Some(Command::Fact(Fact::NodeLost { node, incarnation, session, term: 1 }))
    })
}

/// The plan that is kept, renewed after one entry, and how long that took; each time from the same plan on.
fn renew(state: &mut State, kept: &KeptPlan, command: Command) -> (KeptPlan, String) {
    put(state, command.clone());
    let mut copies: Vec<KeptPlan> = (0..5).map(|_| kept.clone()).collect();
    let (mut renewed, took) = timed(|| {
        let mut kept = copies.pop().expect("one for each time");
        kept.note(state, &command);
        kept.renew(state, TIME);
        kept
    });
    assert!(*renewed.renew(state, TIME) == plan(state, TIME), "it is the plan of the whole");
    (renewed, took)
}

/// Does it five times; its result, and the median of the times in milliseconds: other work on the machine takes single ones.
fn timed<T>(mut run: impl FnMut() -> T) -> (T, String) {
    let mut once = || {
        let begun = Instant::now();
        let result = run();
        (begun.elapsed(), result)
    };
    let (first, result) = once();
    let mut times = vec![first];
    times.extend((0..4).map(|_| once().0));
    times.sort();
    (result, format!("{:.1}", times[2].as_secs_f64() * 1_000.0))
}

/// Both planners, in turns, on clusters that both can plan in reasonable time; each time Convoke reads its snapshot first, as
/// the other reads its file. Medians of three; the ratio is to both together.
fn beside_pacemaker() {
    assert!(pacemaker::is_there(), "no crm_simulate: `apt-get install pacemaker-cli-utils`");
    println!(
        "{:>6} {:>6} {:>11} {:>8} {:>8} {:>15} {:>6}",
        "units", "nodes", "case", "read ms", "plan ms", "crm_simulate ms", "ratio"
    );
    for (units, nodes) in [(10, 3), (500, 3), (1_000, 3), (500, 16), (1_000, 16), (2_000, 16), (5_000, 16)] {
        let fresh = cluster(units, nodes, nodes, &Definition::exclusive());
        let mut failed = fresh.clone();
        start(&mut failed);
        let fails = fail(&failed);
        put(&mut failed, fails);
        let cases = [("scratch", fresh, Case::Scratch, units), ("one failed", failed, Case::OneFailed, 1)];
        for (name, state, case, to_start) in cases {
            let bytes = rmp_serde::to_vec_named(&state).expect("written");
            let mut runs: Vec<[f64; 3]> = Vec::new();
            for _ in 0..3 {
                let begun = Instant::now();
                let state: State = rmp_serde::from_slice(&bytes).expect("read");
                let read = begun.elapsed().as_secs_f64();
                assert_eq!(plan(&state, TIME).decisions.len(), to_start, "{name}");
                let both = begun.elapsed().as_secs_f64();
                let theirs = pacemaker::seconds(units, nodes, case).unwrap_or_else(|error| panic!("{error}"));
                runs.push([read, both - read, theirs].map(|seconds| seconds * 1_000.0));
            }
            let [read, planned, theirs] = [0, 1, 2].map(|at| {
                let mut times: Vec<f64> = runs.iter().map(|run| run[at]).collect();
                times.sort_by(f64::total_cmp);
                times[1]
            });
            let ratio = theirs / (read + planned);
            println!(
                "{units:>6} {nodes:>6} {name:>11} {read:>8.1} {planned:>8.1} {theirs:>15.0} {ratio:>6.0}"
            );
        }
    }
}

fn main() {
    let asked = std::env::args().nth(1);
    if asked.as_deref() == Some("pacemaker") {
        return beside_pacemaker();
    }
    println!(
        "{:>6} {:>6} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6}",
        "units",
        "nodes",
        "offers",
        "scratch",
        "plan MB",
        "idle",
        "event",
        "lost",
        "grant µs",
        "started µs",
        "revoke µs",
        "capped µs",
        "loss µs",
        "check",
        "forecast",
        "snapshot",
        "restore",
        "MB"
    );
    let sizes = [
        (1_250, 16, 16),
        (2_500, 16, 16),
        (5_000, 16, 16),
        (10_000, 16, 16),
        (1_250, 1_000, 8),
        (2_500, 1_000, 8),
        (5_000, 1_000, 8),
        (10_000, 1_000, 8),
        (20_000, 1_000, 8),
    ];
    let one = asked.map(|size| {
        let numbers: Vec<usize> = size.split('x').flat_map(str::parse).collect();
        let &[units, nodes, offers] = numbers.as_slice() else {
            panic!("`{size}` is not UNITSxNODESxOFFERS")
        };
        (units, nodes, offers)
    });
    for (units, nodes, offers) in one.map_or(sizes.to_vec(), |one| vec![one]) {
        let mut state = cluster(units, nodes, offers, &Definition::exclusive());
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        assert_eq!(plan(&state, TIME).decisions.len(), units, "every unit is to start");
        let plan_mb = (PEAK.load(Ordering::Relaxed) - before) / 1_000_000;
        let (_, scratch) = timed(|| plan(&state, TIME));
        let applied = start(&mut state);
        let (planned, idle) = timed(|| plan(&state, TIME));
        assert!(planned.decisions.is_empty(), "all run");
        let (findings, checked) = timed(|| check(&state));
        // Nothing has a fence device.
        assert_eq!(findings.len(), units, "a finding for each");
        let foretell = || forecast(state.clone(), TIME, &[Suppose::Lost(NodeId(1))], || true);
        let (told, foretold) = timed(foretell);
        drop(told.expect("nothing is refused"));
        let mut kept = KeptPlan::default();
        kept.renew(&state, TIME);
        let failed = fail(&state);
        let (kept, event) = renew(&mut state, &kept, failed);
        assert_eq!(kept.plan().decisions.len(), 1, "one moves");
        let silent = losses(&state).next().expect("a node");
        let (_, lost) = renew(&mut state, &kept, silent);
        let (bytes, snapshot) = timed(|| rmp_serde::to_vec_named(&state).expect("written"));
        let (restored, restore) = timed(|| rmp_serde::from_slice::<State>(&bytes).expect("read"));
        assert!(restored == state, "what is read is what was written");
        drop(restored);
        let (Applied { grant, started, revoke }, mb) = (applied, bytes.len() / 1_000_000);
        let some: Vec<Command> = losses(&state).skip(1).take(nodes / 8).collect();
        let loss = mean(&mut state, some.into_iter());
        let capped = capped(units, nodes, offers);
        println!(
            "{units:>6} {nodes:>6} {offers:>6} {scratch:>8} {plan_mb:>8} {idle:>8} {event:>8} {lost:>8} {grant:>9.1} {started:>10.1} \
             {revoke:>9.1} {capped:>9.1} {loss:>9.1} {checked:>9} {foretold:>9} {snapshot:>9} {restore:>9} {mb:>6}"
        );
    }
}
