//! Most of a cluster is lost at one moment: half of the lost machines have no power any more, the others freeze with their units alive.
//!
//! The machines are those of the seeds; what differs is how many there are and what fences them. A member offers one unit of its own,
//! which prefers it and which every voter offers too. Every other member has a controller of its own, the rest share chassis that
//! take a few attempts at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bridge::init::FIRST_NODE;
use bridge::session::Asker;
use policy::{
    CaseId, Definition, Device, EventKind, NodeId, NodeTerm, Preference, Role, Settings, State, UnitName,
    Wanted, Wish, apply,
};

use crate::ledger::Inner;
use crate::machine::Doing;
use crate::operator::{self, Formed};
use crate::power::Switch;
use crate::rng::Rng;
use crate::shell::lock;
use crate::site::Site;
use crate::tally::Action;
use crate::wire::address;
use crate::world::World;

/// Members in a chassis.
const PER_CHASSIS: usize = 10;
/// Attempts that a chassis takes at a time.
const AT_ONCE: usize = 2;
/// How long either half of an attempt takes: the command, and the look behind it.
const HALF_MS: u64 = 2_000;
/// Until each unit runs on its own member.
const SETTLING_MS: u64 = 60_000;
/// For so long the cluster is left alone before the loss.
const QUIET_MS: u64 = 2_000;
/// Whatever is not over by then never ends.
const PATIENCE_MS: u64 = 120_000;
/// A frozen machine is fenced long before.
const FROZEN_MS: u64 = 3_600_000;

/// What became of a lost machine.
#[derive(Clone, Debug)]
pub struct Case {
    /// Whether it stood still with its unit alive; the others had no power.
    pub froze: bool,
    /// What fences it.
    pub device: String,
    /// The attempts that really began, and the machine that each ran on.
    pub actions: Vec<(Action, usize)>,
    /// When its unit was up again, on whichever voter, in milliseconds of the world.
    pub recovered_ms: u64,
}

/// What became of a cluster that lost most of its machines.
#[derive(Clone, Debug)]
pub struct Loss {
    /// When they were lost, in milliseconds of the world.
    pub at_ms: u64,
    /// One for each lost machine.
    pub cases: Vec<Case>,
    /// How many attempts each device takes at a time.
    pub limits: BTreeMap<String, usize>,
    /// How long an attempt takes, in milliseconds.
    pub action_ms: u64,
    /// How long the cluster waits with fencing when so many are lost at once, after it has missed them: detection and a lease.
    pub held_ms: u64,
    /// Entries of the log from the loss on.
    pub entries: u64,
    /// The processor's time that the leader's daemon took from the loss on.
    pub leader: Duration,
}

/// A cluster of that many voters and members, and what became of it when all members were lost.
struct Mass {
    world: World,
    voters: usize,
    members: usize,
}

fn unit(member: usize, voters: usize) -> UnitName {
    format!("of-n{}.service", voters + member + 1).as_str().into()
}

/// What fences a member, and how many attempts that takes at a time.
fn device(member: usize) -> (String, usize) {
    match member % 2 {
        0 => (format!("bmc-{member}"), 1),
        _ => (format!("chassis-{}", member / 2 / PER_CHASSIS), AT_ONCE),
    }
}

/// As many have a device of either kind.
fn freezes(member: usize) -> bool {
    member % 4 < 2
}

pub(crate) fn run(voters: usize, members: usize, seed: u64, root: &Path) -> Result<Loss, String> {
    let mut mass = Mass::formed(voters, members, seed, root)?;
    mass.until(SETTLING_MS, "not every unit runs on its own member", |mass| {
        (0..members).all(|member| mass.is_up(member, voters + member))
    })?;
    mass.pass(QUIET_MS)?;
    let (at_ms, before) = (mass.world.now, mass.entries());
    mass.lose();
    let mut recovered = BTreeMap::new();
    mass.until(PATIENCE_MS, "not every unit runs again", |mass| {
        let now = mass.world.now;
        let up = (0..members).filter(|member| (0..voters).any(|at| mass.is_up(*member, at)));
        for member in up {
            recovered.entry(member).or_insert(now);
        }
        recovered.len() == members
    })?;
    mass.told(at_ms, before, &recovered)
}

impl Mass {
    fn formed(voters: usize, members: usize, seed: u64, root: &Path) -> Result<Self, String> {
        let (machines, mut rng) = (voters + members, Rng::new(seed));
        let whim = rng.fork();
        let switch = Switch::new(machines, None, None, rng.fork(), whim);
        switch.set_half(HALF_MS);
        let units: BTreeMap<UnitName, Definition> = (0..members)
            .map(|member| {
                let term = NodeTerm::Name(format!("n{}", voters + member + 1));
                let prefer = vec![Preference { term, weight: 100 }];
                let definition = Definition { prefer, stickiness: Some(0), ..Definition::exclusive() };
                (unit(member, voters), definition)
            })
            .collect();
        let sites = (0..machines).map(|at| {
            let own = |member: usize| {
                let name = unit(member, voters);
                units.get(&name).map(|definition| BTreeMap::from([(name, definition.clone())]))
            };
            let offered = at.checked_sub(voters).map(|member| own(member).unwrap_or_default());
            let mut site = Site::new(at, &mut rng, offered.as_ref().unwrap_or(&units), None, root);
            site.votes = at < voters;
            site
        });
        let sites = sites.collect();
        let mut world = World::of(rng, switch, units, sites);
        let settings = world.settings.clone();
        world.form_by(|asker, formed| Box::pin(form(asker, settings, voters, members, formed)));
        match world.broken() {
            Some(broken) => Err(broken.to_owned()),
            None => Ok(Self { world, voters, members }),
        }
    }

    /// Whether a member's unit is up on a machine with power.
    fn is_up(&self, member: usize, at: usize) -> bool {
        let machine = lock(&self.world.sites[at].machine);
        let unit = machine.units.get(&unit(member, self.voters));
        machine.powered && unit.is_some_and(|unit| unit.doing == Doing::Up)
    }

    fn entries(&self) -> u64 {
        self.world.ledger.lock().entries.keys().next_back().copied().unwrap_or(0)
    }

    fn step(&mut self) -> Result<(), String> {
        self.world.step();
        self.world.broken().map_or(Ok(()), |broken| Err(broken.to_owned()))
    }

    fn pass(&mut self, ms: u64) -> Result<(), String> {
        let until = self.world.now + ms;
        while self.world.now < until {
            self.step()?;
        }
        Ok(())
    }

    fn until(
        &mut self,
        limit_ms: u64,
        else_what: &str,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<(), String> {
        let until = self.world.now + limit_ms;
        while !is_so(self) {
            if self.world.now > until {
                return Err(format!("{else_what} after {limit_ms} ms: {}", self.world.picture()));
            }
            self.step()?;
        }
        Ok(())
    }

    /// All members at this moment, and from here on it is counted what the voters' daemons cost.
    fn lose(&mut self) {
        let world = &mut self.world;
        for member in 0..self.members {
            let at = self.voters + member;
            match freezes(member) {
                true => world.sites[at].pause(world.now, FROZEN_MS, false),
                false => world.power_off(at),
            }
        }
        for site in &mut world.sites {
            if let Some(daemon) = &mut site.daemon {
                daemon.spent = Some(Duration::ZERO);
            }
        }
    }

    fn told(&self, at_ms: u64, before: u64, recovered: &BTreeMap<usize, u64>) -> Result<Loss, String> {
        let log = Log::read(&self.world.ledger.lock())?;
        let machine_of = |node: NodeId| self.world.sites.iter().position(|site| site.node == Some(node.0));
        let mut actions: BTreeMap<usize, Vec<(Action, usize)>> = BTreeMap::new();
        for action in self.world.switch.tally().all() {
            let executor = log.executors.get(&(action.case, action.attempt)).copied();
            let Some(executor) = executor.and_then(machine_of) else {
                return Err(format!("no entry of the log is behind {action:?}"));
            };
            actions.entry(action.machine).or_default().push((action, executor));
        }
        let case = |member: usize| Case {
            froze: freezes(member),
            device: device(member).0,
            actions: actions.get(&(self.voters + member)).cloned().unwrap_or_default(),
            recovered_ms: recovered.get(&member).copied().unwrap_or(u64::MAX),
        };
        let leader = log.leader.and_then(machine_of).and_then(|at| self.world.sites[at].daemon.as_ref());
        let settings = &self.world.settings;
        Ok(Loss {
            at_ms,
            cases: (0..self.members).map(case).collect(),
            limits: (0..self.members).map(device).collect(),
            action_ms: 2 * HALF_MS,
            held_ms: settings.detect_ms + settings.lease_ms(),
            entries: self.entries() - before,
            leader: leader.and_then(|daemon| daemon.spent).ok_or("nobody leads at the end")?,
        })
    }
}

/// What the log says.
#[derive(Default)]
struct Log {
    /// Who runs each attempt of each case.
    executors: BTreeMap<(CaseId, u32), NodeId>,
    leader: Option<NodeId>,
}

impl Log {
    fn read(ledger: &Inner) -> Result<Self, String> {
        let (mut state, mut log) = (State::default(), Self::default());
        for (index, (_, bytes)) in &ledger.entries {
            let entry = bridge::leader::decode(*index, bytes).map_err(|error| format!("{index}: {error}"))?;
            for event in apply(&mut state, &entry).unwrap_or_default() {
                if let EventKind::FenceBegan { case, attempt, executor, .. } = event.kind {
                    log.executors.insert((case, attempt), executor);
                }
            }
        }
        log.leader = state.tenure.map(|tenure| tenure.leader);
        Ok(log)
    }
}

/// Enrols the machines, configures what fences the members, and asks for every unit.
async fn form(asker: Asker, settings: Settings, voters: usize, members: usize, formed: Formed) {
    let mut number = 0;
    for at in 1..voters + members {
        let machine = (format!("n{}", at + 1), address(at).to_string());
        let role = if at < voters { Role::Voter } else { Role::Member };
        formed.note(at, operator::enroll(&asker, &mut number, &machine, role).await);
    }
    let joined = formed.joined();
    let mut devices: BTreeMap<String, Device> = BTreeMap::new();
    for member in 0..members {
        let at = voters + member;
        let node = joined.get(&at).map_or(NodeId(FIRST_NODE), |node| NodeId(*node));
        let (name, limit) = device(member);
        let device = devices.entry(name).or_insert_with(|| operator::device(BTreeMap::new(), 1));
        device.at_once = limit as u32;
        device.timeout_ms = 3 * HALF_MS;
        device.targets.insert(node, operator::plug(at));
    }
    let by = operator::BY.to_owned();
    let configure = Wish::Configure { settings, devices, attributes: BTreeMap::new(), by };
    operator::insist(&asker, "founder", &mut number, configure).await;
    let units: BTreeSet<UnitName> = (0..members).map(|member| unit(member, voters)).collect();
    for unit in units {
        operator::insist(&asker, "founder", &mut number, operator::goal(&unit, Wanted::Started)).await;
    }
    formed.end();
}
