//! A model of the world around the state machine: machines, networks, devices, operators, all of them unreliable.

mod bans;
mod check;
mod definitions;
mod fabric;
mod faults;
mod laws;
mod lead;
mod machine;
mod maintenance;
mod messages;
mod mutation;
mod rng;
mod role;
mod service;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    AfterFence, CaseId, Cause, Command, Definition, Device, Entry, Fact, Incarnation, KeptPlan, NodeId,
    NodeView, Origin, Refusal, Settings, State, UnitName, Wanted, Wish, apply,
};

pub(crate) use check::{Checked, Violation};
use definitions::{definitions, offer};
pub(crate) use fabric::Fabric;
use machine::Machine;
pub(crate) use mutation::Mutation;
use rng::Rng;
pub(crate) use role::Database;
pub(crate) use service::Service;

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) log: Vec<Entry>,
    pub(crate) now: u64,
    pub(crate) machines: Vec<Machine>,
    /// It was believed that a machine is off which runs on: S1 rests on the honesty of devices.
    pub(crate) lied: bool,
    /// A machine was paused under a unit with `Fencing=lease`, which assumes that this never happens (F8).
    pub(crate) paused: bool,
    /// Units that a person stopped by hand, with the index of the release; until they are started.
    pub(crate) stopped_by_hand: BTreeMap<UnitName, u64>,
    /// Lives that spoke to the leader after they were proven gone.
    pub(crate) spoke_after_proof: BTreeSet<(NodeId, Incarnation)>,
    /// What happened, for people.
    pub(crate) story: Vec<String>,
    /// The clustered service, in worlds that have one.
    pub(crate) service: Option<Service>,
    /// The replicated database, in worlds that have one.
    pub(crate) database: Option<Database>,
    /// The switch, in worlds that have one.
    pub(crate) fabric: Option<Fabric>,
    /// The plan that is kept beside the state.
    pub(crate) kept: KeptPlan,
    /// How many plans it renewed, and how many of them in a part only.
    pub(crate) renewals: (u32, u32),
    rng: Rng,
    broken: Option<Mutation>,
    liar: bool,
    /// Which devices there are. Numbers of its own: histories of one device each stay as they were.
    topology: Rng,
    /// Maintenance, too.
    upkeep: Rng,
    /// Disks are replaced now and then.
    disks_fail: bool,
    /// No more faults, no more operators.
    calm: bool,
    /// How often it was checked.
    checked: u32,
    /// How often a node that is held back was passed over, of the states that were looked at.
    pub(crate) passed_over: usize,
    index: u64,
    session: u64,
    term: u64,
    term_began: u64,
    /// How far the stamped time runs ahead of the real one (F6).
    skew: u64,
    /// When the leader last answered each node.
    answered: BTreeMap<NodeId, u64>,
    facts: Vec<Fact>,
    reports: Vec<(NodeId, u64, Fact)>,
    views: Vec<(NodeId, u64, NodeView)>,
    attempts: Vec<Attempt>,
    /// Late commands of devices: a node loses power at some time before this.
    strikes: Vec<(u64, NodeId)>,
    /// Names that each definition may have; drawn once, so that nodes agree by chance.
    definitions: BTreeMap<UnitName, Vec<Definition>>,
}

struct Attempt {
    case: CaseId,
    number: u32,
    target: NodeId,
    executor: NodeId,
    executor_incarnation: Incarnation,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

impl World {
    pub(crate) fn new(seed: u64, broken: Option<Mutation>) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = 3 + rng.below(3);
        let lies = matches!(broken, Some(Mutation::NoContradiction | Mutation::ProofOfTheLiving));
        let liar = rng.percent(15) && broken.is_none() || lies;
        let machines = NAMES.iter().take(nodes).map(|name| Machine::new(name, NodeId(0))).collect();
        Self {
            state: State::default(),
            log: Vec::new(),
            now: 1_000,
            machines,
            lied: false,
            paused: false,
            stopped_by_hand: BTreeMap::new(),
            spoke_after_proof: BTreeSet::new(),
            story: Vec::new(),
            service: None,
            database: None,
            fabric: None,
            kept: KeptPlan::default(),
            renewals: (0, 0),
            rng,
            broken,
            liar,
            topology: Rng::new(seed ^ 0xfe_4ce5),
            upkeep: Rng::new(seed ^ 0x0b_e9e5),
            disks_fail: false,
            calm: false,
            checked: 0,
            passed_over: 0,
            index: 0,
            session: 0,
            term: 0,
            term_began: 0,
            skew: 0,
            answered: BTreeMap::new(),
            facts: Vec::new(),
            reports: Vec::new(),
            views: Vec::new(),
            attempts: Vec::new(),
            strikes: Vec::new(),
            definitions: definitions(),
        }
    }

    /// A controller for each machine, and for some clusters two feeds of all machines behind them.
    fn devices(&mut self) -> BTreeMap<String, Device> {
        let device = |machines: &[Machine], level: u32, topology: &mut Rng| Device {
            agent: "fence_test".into(),
            options: BTreeMap::new(),
            secrets: BTreeMap::new(),
            targets: machines.iter().map(|machine| (machine.id, BTreeMap::new())).collect(),
            timeout_ms: 5_000,
            timeouts: BTreeMap::new(),
            level,
            delay_ms: if topology.percent(10) { 1_000 } else { 0 },
            retries: u32::from(topology.percent(30)),
            at_once: 1 + u32::from(topology.percent(30)),
            isolates: None,
        };
        let topology = &mut self.topology;
        let mut devices: BTreeMap<String, Device> = BTreeMap::new();
        for machine in &self.machines {
            let own = device(std::slice::from_ref(machine), 1, topology);
            devices.insert(format!("bmc-{}", machine.name), own);
        }
        if topology.percent(50) {
            let level = 1 + u32::from(topology.percent(80));
            for feed in ["feed-1", "feed-2"] {
                devices.insert(feed.into(), device(&self.machines, level, topology));
            }
        }
        if self.fabric.is_some() {
            // Its level has to be its own.
            devices.values_mut().for_each(|device| device.level += 1);
            let port = device(&self.machines, 1, &mut self.topology);
            devices.extend(self.port(port));
        }
        devices
    }

    /// Founds the cluster, enrols everybody, gives most of them a device, and puts the files in place.
    pub(crate) fn found(&mut self) -> Checked {
        let names: Vec<String> = self.machines.iter().map(|machine| machine.name.clone()).collect();
        for (position, name) in names.iter().enumerate() {
            let machine = format!("machine-{name}");
            if position == 0 {
                self.wish(Wish::Found {
                    cluster: "c".into(),
                    name: "test".into(),
                    generation: 0,
                    node: NodeId(1),
                    node_name: name.clone(),
                    addresses: Vec::new(),
                    machine,
                })?;
            } else {
                let (id, hash) = (format!("t{name}"), "h".to_string());
                self.wish(Wish::IssueToken {
                    id: id.clone(),
                    secret_hash: hash.clone(),
                    valid_ms: 100,
                    by: "o".into(),
                })?;
                self.wish(Wish::Enroll {
                    token: id,
                    secret_hash: hash,
                    name: name.clone(),
                    addresses: Vec::new(),
                    machine,
                    role: None,
                })?;
            }
            if let (Some(id), Some(machine)) = (self.state.node_named(name), self.machines.get_mut(position))
            {
                machine.id = id;
            }
        }
        let devices = self.devices();
        let after_fence = if self.topology.percent(30) { AfterFence::On } else { AfterFence::Off };
        let settings = Settings { quarantine_ms: 10_000, after_fence, ..Settings::default() };
        // One node has room for three, the others for one or two at a time, and there are two racks.
        let capacity = |(at, machine): (usize, &Machine)| {
            let rack = if at % 2 == 0 { "x" } else { "y" };
            let slots = ["3", "2", "1"].get(at % 3).copied().unwrap_or("1");
            let attributes = [("rack", rack), ("slots", slots)];
            (machine.id, attributes.map(|(key, value)| (key.to_string(), value.to_string())).into())
        };
        let attributes = self.machines.iter().enumerate().map(capacity).collect();
        self.wish(Wish::Configure { settings, devices, attributes, by: "o".into() })?;
        self.elect()?;
        let definitions = self.definitions.clone();
        for machine in &mut self.machines {
            for (unit, choices) in &definitions {
                // Some get the drop-in later, or never.
                if let Some(definition) = choices.first().filter(|_| self.rng.percent(92)) {
                    machine.offers.insert(unit.clone(), offer(definition.clone()));
                }
            }
        }
        // Some services ran before Convoke came; of exclusive ones a single copy.
        for unit in definitions.keys() {
            if self.service.is_none() && self.rng.percent(30) {
                let at = self.rng.below(self.machines.len());
                if let Some(machine) = self.machines.get_mut(at) {
                    machine.stray(unit);
                }
            }
        }
        self.found_service();
        self.found_database();
        Ok(())
    }

    fn elect(&mut self) -> Checked {
        self.term += 1;
        self.term_began = self.now;
        for machine in &mut self.machines {
            machine.connected = false;
        }
        let at = self.rng.below(self.machines.len());
        let leader = self.machines.get(at).map_or(NodeId(1), |machine| machine.id);
        let term = self.term;
        self.fact(Fact::TermBegan { term, leader })
    }

    fn fact(&mut self, fact: Fact) -> Checked {
        self.apply(Command::Fact(fact), None)
    }

    fn wish(&mut self, wish: Wish) -> Checked {
        self.apply(Command::Wish(wish), None)
    }

    /// Applies one command to the replicated state, checks it, and lets the left-out rule have its effect.
    fn apply(&mut self, command: Command, origin: Option<Origin>) -> Checked {
        self.try_apply(command, origin).map(|_| ())
    }

    fn try_apply(
        &mut self,
        command: Command,
        origin: Option<Origin>,
    ) -> Result<Result<(), Refusal>, Violation> {
        let command = self.bent(command);
        self.index += 1;
        let entry =
            Entry { index: self.index, time: self.now + self.skew, wall_ms: self.now, origin, command };
        let before = self.state.clone();
        let outcome = apply(&mut self.state, &entry).map(|_| ());
        if !self.is_untold(&entry.command) {
            self.kept.note(&self.state, &entry.command);
        }
        let told = match &entry.command {
            Command::Fact(Fact::InventoryReported { incarnation, items, .. }) => {
                let running: Vec<_> =
                    items.iter().filter(|item| item.running).map(|item| item.unit.as_str()).collect();
                format!("inventory of {incarnation}: {running:?}")
            }
            Command::Fact(Fact::UnitObserved { incarnation, item, .. }) => {
                format!("{incarnation} says of {}: running {}", item.unit, item.running)
            }
            other => format!("{other:?}"),
        };
        self.story.push(format!("{} {told}: {outcome:?}", self.now));
        self.log.push(entry.clone());
        self.note_rank(&entry);
        match &outcome {
            Ok(()) => {
                check::permits_end_by_evidence(&before, &self.state, &entry)?;
                check::starts_after_what_it_requires(&before, &entry)?;
                check::opponents_never_meet(&before, &entry)?;
                check::nodes_are_not_overfull(&before, &entry)?;
                maintenance::hands_are_off(&before, &entry)?;
                check::dependents_follow_the_definitions(&self.state, &entry)?;
                self.note_words(&before, &entry);
                self.note_belief(&before);
                self.note_decision(&entry)?;
                self.note_choice(&entry);
            }
            Err(_) => check::refusals_change_nothing(&before, &self.state, &entry)?,
        }
        check::the_word_holds(self, &before, &entry)?;
        check::one_live_permit(&self.state)?;
        check::the_unsaid_follows_the_nodes(&self.state)?;
        check::the_held_follows_the_permits(&self.state)?;
        self.bend(&before, &entry, outcome.is_ok());
        Ok(outcome)
    }

    /// Remembers what people asked for, apart from what the state says of it.
    fn note_words(&mut self, before: &State, entry: &Entry) {
        match &entry.command {
            Command::Wish(Wish::SetGoal { unit, wanted: Wanted::Started, .. }) => {
                self.stopped_by_hand.remove(unit);
            }
            Command::Fact(Fact::Released { unit, because, token, .. }) => {
                let single = before.units.get(unit).is_some_and(policy::Unit::is_exclusive);
                let live = before.permit(unit, *token).is_some();
                let meant = matches!(because, Cause::Operator(_))
                    || (self.broken == Some(Mutation::HandStopForgotten)
                        && *because == Cause::Failed("by hand".into()));
                if meant && single && live {
                    self.stopped_by_hand.insert(unit.clone(), entry.index);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn check(&mut self) -> Checked {
        self.check_truth()?;
        if matches!(self.broken, None | Some(Mutation::UntoldRelease)) {
            check::the_kept_plan_is_the_plan(self)?;
        }
        check::plans_settle(self)?;
        // States change little from step to step, and each law costs many plans.
        self.checked += 1;
        match self.checked % 48 {
            0 => laws::names_decide_nothing(self),
            8 => laws::the_least_stranger_changes_nothing(self),
            16 => laws::a_stranger_moves_nobody(self),
            24 => laws::a_drained_cluster_starts_nothing(self),
            32 => bans::a_ban_only_removes_choices(self),
            40 => laws::a_forecast_comes_to_rest(self),
            at if at % 4 == 2 => {
                self.passed_over += laws::holding_back_keeps_no_unit_down(self)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_truth(&self) -> Checked {
        check::never_twice(self)?;
        self.check_service()?;
        if self.broken.is_none() {
            self.ports_are_heeded()?;
        }
        check::contradictions_alarm(self)
    }

    pub(crate) fn check_replay(&mut self) -> Checked {
        let cut = self.rng.below(self.log.len());
        check::replays_alike(self, cut)
    }
}
