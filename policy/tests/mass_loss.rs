//! A hundred of a hundred and five machines lose their power within one instant: their fences go on side by side.
//!
//! The planner and `apply` alone, with a leader that proposes at once what it plans and agents that take their time: who fences
//! whom, when and through what is decided in this crate, and a hundred real sessions would add a hundred runtimes to that.
//! The clock jumps from one event to the next, so that 25 s of the cluster come to a few hundred plans, and those to seconds.
//! Everything is judged by the events of the log, which say it in the order in which it happened.

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    CaseId, Command, Decision, Definition, Device, Entry, Event, EventKind, Fact, FenceOutcome, Incarnation,
    InventoryItem, NodeId, NodeTerm, Observe, Offer, Phase, Power, Preference, Role, Settings, State, Token,
    UnitName, Wish, apply, plan,
};

/// They vote, keep their power, and take over what the others ran.
const VOTERS: usize = 5;
/// Each runs a unit of its own. Every other one is fenced by a controller of its own, the rest by the chassis that they are in.
const MEMBERS: usize = 100;
const PER_CHASSIS: usize = 10;
/// Attempts that a chassis takes at a time.
const AT_ONCE: usize = 2;
/// So many come one after the other in a chassis.
const ROUNDS: u64 = PER_CHASSIS.div_ceil(AT_ONCE) as u64;
/// Until an agent has switched a machine off and has read that it is.
const AGENT_MS: u64 = 3_000;
/// A case whose executor was lost with it is tried again after the first pause of a case (`BACK_OFF_MS` in `apply/fencing.rs`).
const BACK_OFF_MS: u64 = 5_000;
/// Nothing but agents takes time here: what is left is for another choice of the planner's.
const SLACK_MS: u64 = 1_000;
/// Whatever is not over by then never ends.
const PATIENCE_MS: u64 = 120_000;
const TERM: u64 = 1;

struct World {
    state: State,
    now: u64,
    events: Vec<Event>,
    members: Vec<NodeId>,
    /// Machines without power.
    dark: BTreeSet<NodeId>,
    /// Agents under way: when each ends, its case and the number of its attempt.
    agents: Vec<(u64, CaseId, u32)>,
    /// When time alone changes the plan.
    wake_at: Option<u64>,
}

/// An agent that is under way, by the events.
struct Attempt<'a> {
    device: &'a str,
    executor: NodeId,
}

/// What the events say of the loss and what followed.
#[derive(Default)]
struct Told<'a> {
    /// The most attempts that each device carried at a time.
    most: BTreeMap<&'a str, usize>,
    /// Attempts that began for each lost node.
    attempts: BTreeMap<NodeId, usize>,
    /// When each lost node was proven gone.
    proven: BTreeMap<NodeId, u64>,
    /// How many nodes each executor has proven gone.
    shares: BTreeMap<NodeId, usize>,
    /// Units that were granted anew.
    granted: BTreeSet<&'a UnitName>,
}

fn name(at: usize) -> String {
    format!("n{}", at + 1)
}

fn unit(member: usize) -> UnitName {
    UnitName(format!("of-{}.service", name(VOTERS + member)))
}

/// What fences a member, and how many attempts that takes at a time.
fn device(member: usize) -> (String, usize) {
    match member % 2 {
        0 => (format!("bmc-{member}"), 1),
        _ => (format!("chassis-{}", member / 2 / PER_CHASSIS), AT_ONCE),
    }
}

fn incarnation(node: NodeId) -> Incarnation {
    Incarnation(format!("boot-of-{node}"))
}

/// A unit that prefers its own member, and that every voter offers as well.
fn line(member: usize) -> InventoryItem {
    let home = Preference { term: NodeTerm::Name(name(VOTERS + member)), weight: 100 };
    let offer = Offer {
        definition: Some(Definition { prefer: vec![home], ..Definition::exclusive() }),
        fault: None,
        gated: true,
        enabled: true,
        stop_budget_ms: 1_000,
        present: true,
    };
    InventoryItem { unit: unit(member), offer: Some(offer), running: false }
}

impl World {
    /// A cluster in which each member runs its unit, and every device was seen to switch the right machine.
    fn running() -> Self {
        let mut world = Self {
            state: State::default(),
            now: 1_000,
            events: Vec::new(),
            members: Vec::new(),
            dark: BTreeSet::new(),
            agents: Vec::new(),
            wake_at: None,
        };
        (0..VOTERS + MEMBERS).for_each(|at| world.join(at));
        // Ids rise with each that joins.
        let ids: Vec<NodeId> = world.state.nodes.keys().copied().collect();
        world.members = ids.iter().skip(VOTERS).copied().collect();
        let (devices, by) = (world.devices(), "o".to_owned());
        let settings = Settings::default();
        world.put(Command::Wish(Wish::Configure { settings, devices, attributes: BTreeMap::new(), by }));
        world.put(Command::Fact(Fact::TermBegan { term: TERM, leader: NodeId(1) }));
        for (at, node) in ids.iter().copied().enumerate() {
            world.boot(at, node);
        }
        let index = world.state.index;
        for node in ids {
            world.put(Command::Fact(Fact::Surveyed { node, incarnation: incarnation(node), index }));
        }
        world.lead();
        let at_home = |(member, node): (usize, &NodeId)| world.active_on(&unit(member)) == Some(*node);
        assert!(world.members.iter().enumerate().all(at_home), "each member runs its own unit");
        world
    }

    fn join(&mut self, at: usize) {
        let (node_name, machine, addresses) = (name(at), format!("m{}", at + 1), Vec::new());
        if at == 0 {
            let (cluster, name, node) = ("c".to_owned(), "test".to_owned(), NodeId(1));
            let found = Wish::Found { cluster, name, generation: 0, node, node_name, addresses, machine };
            return self.put(Command::Wish(found));
        }
        let (id, secret_hash, by) = (node_name.clone(), "h".to_owned(), "o".to_owned());
        let token = Wish::IssueToken { id: id.clone(), secret_hash: secret_hash.clone(), valid_ms: 10, by };
        self.put(Command::Wish(token));
        let role = Some(if at < VOTERS { Role::Voter } else { Role::Member });
        let enroll = Wish::Enroll { token: id, secret_hash, name: node_name, addresses, machine, role };
        self.put(Command::Wish(enroll));
    }

    fn devices(&self) -> BTreeMap<String, Device> {
        let mut devices: BTreeMap<String, Device> = BTreeMap::new();
        for (member, node) in self.members.iter().enumerate() {
            let (name, at_once) = device(member);
            let device = devices.entry(name).or_insert_with(|| Device {
                agent: "fence_test".to_owned(),
                options: BTreeMap::new(),
                secrets: BTreeMap::new(),
                targets: BTreeMap::new(),
                timeout_ms: 20_000,
                timeouts: BTreeMap::new(),
                level: 1,
                delay_ms: 0,
                retries: 0,
                at_once: u32::try_from(at_once).expect("a small number"),
                isolates: None,
            });
            let plug = BTreeMap::from([("plug".to_owned(), member.to_string())]);
            device.targets.insert(*node, plug);
        }
        devices
    }

    /// A node is heard, and says what it offers: voters every unit, a member its own.
    fn boot(&mut self, at: usize, node: NodeId) {
        let (machine, session) = (format!("m{}", at + 1), self.state.index + 1);
        let (incarnation, addresses) = (incarnation(node), Vec::new());
        let (life, level, term) = (incarnation.clone(), policy::FEATURE_LEVEL, TERM);
        let heard = Fact::NodeHeard { node, incarnation: life, session, machine, addresses, level, term };
        self.put(Command::Fact(heard));
        let items = match at.checked_sub(VOTERS) {
            Some(member) => vec![line(member)],
            None => (0..MEMBERS).map(line).collect(),
        };
        let highest_token = Token(0);
        self.put(Command::Fact(Fact::InventoryReported {
            node,
            incarnation,
            items,
            rests: BTreeMap::new(),
            highest_token,
        }));
    }

    fn put(&mut self, command: Command) {
        let (index, time) = (self.state.index + 1, self.now);
        let entry = Entry { index, time, wall_ms: time, origin: None, command };
        match apply(&mut self.state, &entry) {
            Ok(events) => self.events.extend(events),
            Err(refusal) => panic!("{refusal}: {:?}", entry.command),
        }
    }

    /// The leader plans until nothing is left to decide. Looks and starts take no time here.
    fn lead(&mut self) {
        loop {
            let planned = plan(&self.state, self.now);
            self.wake_at = planned.wake_at;
            if planned.decisions.is_empty() && planned.observe.is_empty() {
                return;
            }
            for look in planned.observe {
                self.look(look);
            }
            for decision in planned.decisions {
                self.decide(decision);
            }
            self.start_what_is_granted();
        }
    }

    fn look(&mut self, look: Observe) {
        let Observe { device, node, incarnation, executor } = look;
        let (configured, power, by) = (self.state.configured, Power::On, Some(executor));
        let seen = Fact::PowerObserved { node, incarnation, device, configured, power, by };
        self.put(Command::Fact(seen));
    }

    /// An agent runs where there is power; of any other its leader hears nothing.
    fn decide(&mut self, decision: Decision) {
        if let Decision::BeginAttempt { case, attempt, executor, .. } = &decision
            && !self.dark.contains(executor)
        {
            self.agents.push((self.now + AGENT_MS, *case, *attempt));
        }
        self.put(Command::Decision(decision));
    }

    fn start_what_is_granted(&mut self) {
        let mut started = Vec::new();
        for (unit, known) in &self.state.units {
            for (token, permit) in &known.permits {
                if permit.phase == Phase::Granted && !self.dark.contains(&permit.node) {
                    let (node, incarnation) = (permit.node, permit.incarnation.clone());
                    started.push(Fact::Started { node, incarnation, unit: unit.clone(), token: *token });
                }
            }
        }
        started.into_iter().for_each(|fact| self.put(Command::Fact(fact)));
    }

    /// The node that runs a unit, if one with power does.
    fn active_on(&self, unit: &UnitName) -> Option<NodeId> {
        let known = self.state.units.get(unit)?;
        let active = known.permits.values().filter(|permit| permit.phase == Phase::Active);
        active.map(|permit| permit.node).find(|node| !self.dark.contains(node))
    }

    /// The leader says that a node is lost, and does no more for the moment.
    fn lose(&mut self, node: NodeId) {
        let life = self.state.nodes.get(&node).and_then(|node| node.life.as_ref()).expect("it was heard");
        let (incarnation, session) = (life.incarnation.clone(), life.session);
        self.put(Command::Fact(Fact::NodeLost { node, incarnation, session, term: TERM }));
    }

    /// Lets time pass until every unit runs again.
    fn recover(&mut self) {
        let until = self.now + PATIENCE_MS;
        self.lead();
        while (0..MEMBERS).any(|member| self.active_on(&unit(member)).is_none()) {
            let next = self.agents.iter().map(|(ends, ..)| *ends).chain(self.wake_at).min();
            self.now = next.expect("something is under way, or waits for its time");
            assert!(self.now <= until, "not every unit runs again {PATIENCE_MS} ms after the loss");
            let now = self.now;
            let ended: Vec<_> = self.agents.extract_if(.., |(ends, ..)| *ends <= now).collect();
            for (_, case, attempt) in ended {
                let outcome = FenceOutcome::Off;
                self.put(Command::Fact(Fact::FenceReported { case, attempt, outcome }));
            }
            self.lead();
        }
    }
}

/// Goes through the events in their order. No device carries more than it takes at any of them, and no unit is granted before
/// its member was proven gone, nor twice.
fn told(events: &[Event]) -> Told<'_> {
    let mut told = Told::default();
    let limits: BTreeMap<String, usize> = (0..MEMBERS).map(device).collect();
    let mut running: BTreeMap<CaseId, Attempt<'_>> = BTreeMap::new();
    let mut homes: BTreeMap<&UnitName, NodeId> = BTreeMap::new();
    for event in events {
        match &event.kind {
            EventKind::FenceBegan { case, device, executor, .. } => {
                let node = event.node.expect("a fence is of a node");
                *told.attempts.entry(node).or_default() += 1;
                running.insert(*case, Attempt { device, executor: *executor });
                let carried = running.values().filter(|attempt| attempt.device == device).count();
                assert!(carried <= limits[device], "{device} carries {carried} attempts at a time");
                let most = told.most.entry(device).or_default();
                *most = carried.max(*most);
            }
            EventKind::FenceFailed { case, .. } => {
                running.remove(case);
            }
            EventKind::FenceProven { case, .. } => {
                let attempt = case.and_then(|case| running.remove(&case)).expect("an attempt proves it");
                *told.shares.entry(attempt.executor).or_default() += 1;
                told.proven.insert(event.node.expect("a proof is of a node"), event.time);
            }
            EventKind::Granted { .. } => {
                let unit = event.unit.as_ref().expect("a grant is of a unit");
                let node = event.node.expect("a grant is to a node");
                let Some(home) = homes.get(unit) else {
                    homes.insert(unit, node);
                    continue;
                };
                assert!(told.proven.contains_key(home), "{unit} is granted before its node is proven gone");
                assert!(told.granted.insert(unit), "{unit} is granted more than once");
            }
            _ => {}
        }
    }
    assert!(running.is_empty(), "agents are under way though every unit runs");
    told
}

/// What holds however the losses came in: everything is proven and restarted, every device does what it may, and no voter does
/// more than twice its share.
fn judge(world: &World, told: &Told<'_>) {
    assert_eq!(told.proven.len(), MEMBERS, "every case is proven");
    assert_eq!(told.granted.len(), MEMBERS, "every unit is granted once more");
    for (device, at_once) in (0..MEMBERS).map(device) {
        assert_eq!(told.most.get(device.as_str()), Some(&at_once), "{device} does as much as it may");
    }
    let most = told.shares.values().max().expect("somebody ran agents");
    assert!(*most <= 2 * MEMBERS / VOTERS, "the fences are left to few: {:?}", told.shares);
    assert!(told.shares.keys().all(|executor| !world.dark.contains(executor)), "{:?}", told.shares);
}

/// When the last member behind devices of a kind was proven gone, in milliseconds after a moment.
fn last(world: &World, told: &Told<'_>, since: u64, kind: &str) -> u64 {
    let members = world.members.iter().enumerate();
    let behind = members.filter(|(member, _)| device(*member).0.starts_with(kind));
    let proven = behind.filter_map(|(_, node)| told.proven.get(node).copied());
    proven.max().expect("there are some of each kind") - since
}

/// P20, P54, P150: the leader hears of all before it plans. One after the other they would take five minutes, and one chassis
/// after the other 75 s.
#[test]
fn a_hundred_nodes_that_are_lost_at_once_are_fenced_side_by_side() {
    let mut world = World::running();
    let lost = world.now;
    world.dark = world.members.iter().copied().collect();
    world.members.clone().into_iter().for_each(|node| world.lose(node));
    world.recover();
    let told = told(&world.events);
    judge(&world, &told);
    assert!(told.attempts.values().all(|attempts| *attempts == 1), "{:?}", told.attempts);
    // More than a quarter at once: fencing waits for one more lease.
    let held = world.state.settings.lease_ms();
    let alone = last(&world, &told, lost, "bmc");
    assert!((held + AGENT_MS..=held + AGENT_MS + SLACK_MS).contains(&alone), "{alone} ms");
    let together = last(&world, &told, lost, "chassis");
    assert!(together <= held + ROUNDS * AGENT_MS + SLACK_MS, "{together} ms");
}

/// The same, when they fall silent over a beat and the leader plans after each: before it knows how many they are, it has some of
/// them fenced by others that are as dark. Those are tried again.
#[test]
fn a_hundred_nodes_that_are_lost_one_after_the_other_are_fenced_side_by_side() {
    let mut world = World::running();
    world.dark = world.members.iter().copied().collect();
    let beat = world.state.settings.beat_ms();
    for node in world.members.clone() {
        world.now += beat / MEMBERS as u64;
        world.lose(node);
        world.lead();
    }
    let lost = world.now;
    world.recover();
    let told = told(&world.events);
    judge(&world, &told);
    assert!(told.attempts.values().all(|attempts| *attempts <= 2), "{:?}", told.attempts);
    let waited = world.state.settings.lease_ms().max(BACK_OFF_MS);
    let alone = last(&world, &told, lost, "bmc");
    assert!(alone <= waited + AGENT_MS + SLACK_MS, "{alone} ms");
    let together = last(&world, &told, lost, "chassis");
    assert!(together <= waited + ROUNDS * AGENT_MS + SLACK_MS, "{together} ms");
}
