//! A clustered service as it really is (F16): the data on each machine, who writes with whom, and what clients were told.
//!
//! It does what the field notes saw of databases and brokers. Whoever starts alone begins with its own data, whatever
//! the others have. Whoever joins takes over the data of those that are live, and what it alone had is gone without a
//! word. A part that sees most of its last group goes on writing, whatever the cluster thinks of it.

mod agent;
mod check;
mod daemon;
mod people;

use std::collections::BTreeSet;

use policy::{
    Assembly, AssemblyStyle, Command, Decision, Definition, Entry, Fencing, Found, GatherThen, Ground,
    NodeId, Replicas, Start, Token, UnitName,
};

use super::check::{Checked, Violation};
use super::rng::Rng;
use super::{Mutation, World};

pub(crate) use daemon::Came;

/// What a machine's disk holds of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Empty,
    /// A copy was cut off in the middle: whatever number it shows says nothing.
    Half,
    Data(Data),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    /// Its identity. It stays the same when somebody begins alone, as Galera's does: two lineages may share it.
    pub(crate) history: u64,
    pub(crate) writes: BTreeSet<u64>,
    /// Of a replicated database, the history that all of its histories go back to: its identity.
    pub(crate) origin: u64,
    /// Machines that wrote with it last, by position: it waits for them when it starts together with others.
    pub(crate) peers: BTreeSet<usize>,
}

impl Data {
    /// Of a service that begins with nothing.
    fn new(history: u64, at: usize) -> Self {
        Self { history, writes: BTreeSet::new(), origin: history, peers: [at].into() }
    }

    /// As the programs of its recipe name its history.
    fn identity(&self) -> String {
        format!("h{}", self.history)
    }
}

impl Disk {
    /// What `Position=` says of it.
    pub(crate) fn found(&self) -> Found {
        match self {
            Self::Empty => Found::Empty,
            Self::Half => Found::Unusable,
            Self::Data(data) => {
                Found::Data { rank: data.writes.len() as i64, identity: data.identity(), safe: false }
            }
        }
    }

    /// Whether it has all of these.
    fn holds(&self, all: &BTreeSet<u64>) -> bool {
        match self {
            Self::Empty | Self::Half => all.is_empty(),
            Self::Data(data) => all.is_subset(&data.writes),
        }
    }

    /// Whether nothing is lost when it takes over that data.
    fn is_part_of(&self, other: &Data) -> bool {
        match self {
            Self::Empty => true,
            Self::Half => false,
            Self::Data(own) => own.history == other.history && own.writes.is_subset(&other.writes),
        }
    }
}

/// Machines, by position, that write together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    members: BTreeSet<usize>,
    /// Those that joined, and still lack what was written since.
    catching_up: BTreeSet<usize>,
    /// It began behind the gate: nobody may rely on what it says.
    by_hand: bool,
}

/// The service, over all machines.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) groups: Vec<Group>,
    /// Writes that a client was told are safe, and that no operator gave up.
    pub(crate) told: BTreeSet<u64>,
    next: u64,
    /// An operator, or `GatherThen=best`, gave somebody's data up at the last election.
    given_up: bool,
    /// Permits to start alone that came of such an election.
    with_word: BTreeSet<Token>,
    /// The present gathering, and whether it let somebody start alone already.
    epoch: u64,
    alone: bool,
    /// A disk that had data was replaced: what it held may be nowhere any more.
    wiped: bool,
    /// How often in a row an operator saw that all that run are not ready.
    unready: u32,
    /// Somebody starts copies by hand again and again, where the others are not seen.
    meddled: bool,
    /// How often somebody was elected; a search that elects nobody searches nothing.
    pub(crate) elections: u64,
}

pub(crate) fn name() -> UnitName {
    UnitName::from("cdb")
}

/// One style for most of a history, with the changes that its files may see.
pub(crate) fn definitions(rng: &mut Rng) -> Vec<Definition> {
    let styles = [AssemblyStyle::OneThenSerial, AssemblyStyle::AllTogether];
    let mut styles: Vec<AssemblyStyle> = styles.into();
    if rng.percent(35) {
        styles.reverse();
    }
    // Without proof a lost copy's permit ends by time; the rules of a boot-up ask for proof all the same.
    let fencing = if rng.percent(30) { Fencing::Required } else { Fencing::None };
    let best = rng.percent(25);
    let of = |style: AssemblyStyle, best: bool| {
        let mut definition = Definition::replicated(Replicas::All);
        definition.failure_reset_ms = 5_000;
        definition.fencing = fencing;
        let mut assembly = Assembly { resync: true, ..Assembly::of(style) };
        if best {
            (assembly.gather_wait_ms, assembly.gather_then) = (Some(20_000), GatherThen::Best);
        }
        definition.assembly = Some(assembly);
        definition
    };
    let mut definitions: Vec<Definition> = styles.iter().map(|style| of(*style, best)).collect();
    definitions.push(of(AssemblyStyle::OneThenSerial, !best));
    definitions
}

impl World {
    /// A world with one clustered service, and nothing else.
    pub(crate) fn with_service(seed: u64, broken: Option<Mutation>) -> Self {
        let mut world = Self::new(seed, broken);
        let definitions = definitions(&mut world.rng);
        world.definitions = [(name(), definitions)].into();
        world.disks_fail = world.rng.percent(40);
        world.liar = false;
        // Some programs say when a copy is ready which history it has. Numbers of its own: histories stay as they were.
        let tells = Rng::new(seed ^ 0x1d_e471).percent(50);
        world.machines.iter_mut().for_each(|machine| machine.tells = tells);
        let meddled = Rng::new(seed ^ 0x3e_dd1e).percent(30);
        world.service = Some(Service { meddled, ..Service::default() });
        world
    }

    /// In some worlds it ran before Convoke came, or has data from then.
    pub(super) fn found_service(&mut self) {
        let Some(mut service) = self.service.take() else { return };
        if self.rng.percent(30) {
            let runs = self.rng.percent(60);
            let writes: BTreeSet<u64> = (1..4).collect();
            let peers: BTreeSet<usize> = (0..self.machines.len()).filter(|_| self.rng.percent(70)).collect();
            for (at, machine) in self.machines.iter_mut().enumerate().filter(|(at, _)| peers.contains(at)) {
                let behind = if runs { 0 } else { at as u64 };
                let writes = writes.iter().copied().filter(|write| *write > behind).collect();
                machine.disk = Disk::Data(Data { history: 1, writes, origin: 1, peers: peers.clone() });
                if runs {
                    machine.stray(&name());
                }
            }
            if runs && !peers.is_empty() {
                let catching_up = BTreeSet::new();
                service.told.clone_from(&writes);
                service.groups.push(Group { members: peers, catching_up, by_hand: false });
            }
            service.next = 10;
        }
        self.service = Some(service);
    }

    /// What the log decides on the service, kept apart from what the state makes of it.
    pub(super) fn note_decision(&mut self, entry: &Entry) -> Checked {
        let boot_up = self.state.units.get(&name()).and_then(|unit| unit.boot_up.as_ref());
        let members: Vec<NodeId> =
            boot_up.map(|boot_up| boot_up.members.keys().copied().collect()).unwrap_or_default();
        let Some(service) = &mut self.service else { return Ok(()) };
        match &entry.command {
            Command::Decision(Decision::OpenGather { .. }) => {
                // Of copies that ran before, those that were not taken over in time are nobody's promise.
                if service.epoch == 0 {
                    let known = self.machines.iter().filter(|machine| members.contains(&machine.id));
                    let most = known.filter_map(|machine| match &machine.disk {
                        Disk::Data(data) => Some(&data.writes),
                        Disk::Empty | Disk::Half => None,
                    });
                    let most = most.max_by_key(|writes| writes.len()).cloned().unwrap_or_default();
                    service.told.retain(|write| most.contains(write));
                }
                (service.epoch, service.alone, service.given_up) = (entry.index, false, false);
            }
            Command::Decision(Decision::Elect { election, .. }) => {
                service.elections += 1;
                service.given_up = election.ground != Ground::AllHeard;
            }
            Command::Decision(Decision::Grant { start: Some(Start::Alone), node, .. }) if service.alone => {
                let what = format!("{node} is let start alone in {}, as another was", service.epoch);
                return Err(Violation { rule: "F16 one alone in an epoch", what });
            }
            Command::Decision(Decision::Grant { start: Some(Start::Alone), .. }) => {
                service.alone = true;
                service.with_word.extend(service.given_up.then_some(Token(entry.index)));
            }
            _ => {}
        }
        Ok(())
    }
}
