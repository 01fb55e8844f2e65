//! A replicated database as it really is (P80 to P85): what is on each machine, who is its primary, and what clients were told.
//!
//! The primary runs where the role does, beside its copy. It tells a client that a write is safe when a standby has it,
//! and goes on writing in silence where none sees it. A standby whose data is another past's takes over the primary's.

mod check;
mod misfortune;
mod people;

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    Command, Decision, Definition, Entry, Fact, Fencing, Found, NodeView, Preference, Replicas, Token,
    UnitName,
};

use super::check::Checked;
use super::machine::{Doing, Machine};
use super::rng::Rng;
use super::service::{Data, Disk};
use super::{Mutation, World};

/// The database, over all machines.
#[derive(Default)]
pub(crate) struct Database {
    /// Writes that a client was told are safe, and that no operator gave up.
    told: BTreeSet<u64>,
    next: u64,
    /// Each history: the one that it began from, and what was written before it. Its number is the token of its primary.
    lines: BTreeMap<u64, (u64, BTreeSet<u64>)>,
    /// Grants that rest on an operator's word.
    with_word: BTreeSet<Token>,
    /// Standbys follow over lines of their own: who is cut off from the cluster may follow still.
    own_lines: bool,
    /// Once it was formed, nobody says a word of it before all faults are over.
    wordless: bool,
    misfortune: misfortune::Misfortune,
    /// Ranks that were told, and are told once more much later.
    late: Vec<Fact>,
    /// How often the role was granted; a search that chooses nobody searches nothing.
    pub(crate) choices: u64,
}

pub(crate) fn copy() -> UnitName {
    UnitName::from("pgd")
}

pub(crate) fn role() -> UnitName {
    UnitName::from("primary")
}

/// The history that the founder's data is of, and its identity.
const FIRST: u64 = 1;

/// Ranks that may be under way for long at once.
const LATE: usize = 8;

/// With the changes that the files may see.
fn definitions(rng: &mut Rng) -> BTreeMap<UnitName, Vec<Definition>> {
    let reset = |definition: Definition| Definition { failure_reset_ms: 5_000, ..definition };
    // Without proof a lost copy's permit ends by time; that it has ended is known by proof all the same.
    let fencing = if rng.percent(30) { Fencing::Required } else { Fencing::None };
    let copies = Definition { fencing, ..reset(Definition::replicated(Replicas::All)) };
    let serial = Definition { start_one_at_a_time: true, ..copies.clone() };
    let primary = Definition {
        rank: true,
        same_node_as: [copy()].into(),
        requires: [copy()].into(),
        ..reset(Definition::exclusive())
    };
    let lease = Definition { fencing: Fencing::Lease, ..primary.clone() };
    let prefer = vec![Preference { term: policy::NodeTerm::Name("b".into()), weight: 10 }];
    let preferred = Definition { prefer, ..primary.clone() };
    let mut roles = vec![primary, preferred, lease];
    if rng.percent(30) {
        roles.reverse();
    }
    [(copy(), vec![copies, serial]), (role(), roles)].into()
}

impl World {
    /// A world with one database, and nothing else.
    pub(crate) fn with_database(seed: u64, broken: Option<Mutation>) -> Self {
        let mut world = Self::new(seed, broken);
        world.definitions = definitions(&mut world.rng);
        world.disks_fail = world.rng.percent(40);
        world.liar = false;
        let own_lines = world.topology.percent(50);
        let wordless = world.topology.percent(60);
        world.database = Some(Database { own_lines, wordless, ..Database::default() });
        world
    }

    /// Somebody has the data that it begins with; others may have older data of it. Some ran before Convoke came.
    pub(super) fn found_database(&mut self) {
        let Some(database) = &mut self.database else { return };
        database.next = 10;
        database.lines.insert(FIRST, (FIRST, BTreeSet::new()));
        let runs = self.machines.iter().position(|machine| machine.copies.contains_key(&role()));
        for (at, machine) in self.machines.iter_mut().enumerate() {
            let writes: &[u64] = match (at == runs.unwrap_or(0), self.rng.percent(50)) {
                (true, _) => &[1, 2],
                (false, true) => &[1],
                (false, false) => continue,
            };
            let (writes, peers) = (writes.iter().copied().collect(), BTreeSet::new());
            machine.disk = Disk::Data(Data { history: FIRST, writes, origin: FIRST, peers });
        }
        if let Some(machine) = runs.and_then(|at| self.machines.get_mut(at)) {
            machine.stray(&copy());
        }
    }

    /// What the log decides on the role.
    pub(super) fn note_choice(&mut self, entry: &Entry) {
        let Command::Decision(Decision::Grant { unit, .. }) = &entry.command else { return };
        let succession = self.state.units.get(unit).and_then(|unit| unit.succession.as_ref());
        let (Some(succession), Some(database)) = (succession, &mut self.database) else { return };
        database.choices += 1;
        if succession.words.from.is_some() || !succession.words.without.is_empty() {
            database.with_word.insert(Token(entry.index));
        }
    }

    /// What an agent said of a rank may be under way for long, and come again.
    pub(super) fn note_rank(&mut self, entry: &Entry) {
        let Command::Fact(fact @ Fact::RankReported { .. }) = &entry.command else { return };
        let Some(database) = &mut self.database else { return };
        if database.late.len() < LATE && self.rng.percent(30) {
            database.late.push(fact.clone());
        }
    }

    fn tell_late(&mut self, database: &mut Database) {
        if self.calm || database.late.is_empty() || !self.rng.percent(3) {
            return;
        }
        let at = self.rng.below(database.late.len());
        self.facts.push(database.late.swap_remove(at));
    }

    /// Where the role runs, its copy is the primary: it takes over, clients write, and standbys follow.
    pub(crate) fn replicate(&mut self) -> Checked {
        let Some(mut database) = self.database.take() else { return Ok(()) };
        self.tell_late(&mut database);
        let mut outcome = Ok(());
        for at in 0..self.machines.len() {
            self.machines.get_mut(at).into_iter().for_each(Machine::bind_role);
            if outcome.is_ok() && self.is_primary(at) {
                outcome = self.take_over(&mut database, at).map(|()| self.write_as(&mut database, at));
            }
        }
        self.database = Some(database);
        outcome
    }

    fn is_primary(&self, at: usize) -> bool {
        let runs = |machine: &Machine, unit: &UnitName| {
            machine.copies.get(unit).is_some_and(|copy| copy.doing == Doing::Running)
        };
        let machine = self.machines.get(at).filter(|machine| machine.alive());
        machine.is_some_and(|machine| runs(machine, &role()) && runs(machine, &copy()))
    }

    /// The start of the role: what it has is the past from now on.
    fn take_over(&mut self, database: &mut Database, at: usize) -> Checked {
        let Some(machine) = self.machines.get(at) else { return Ok(()) };
        let Some(token) = machine.copies.get(&role()).and_then(|copy| copy.token) else { return Ok(()) };
        let own = match &machine.disk {
            Disk::Data(data) if data.history == token.0 => return Ok(()),
            Disk::Data(data) => Some(data.clone()),
            Disk::Empty | Disk::Half => None,
        };
        let with_word = database.with_word.contains(&token);
        if !with_word {
            self.lacks_nothing(database, machine, own.as_ref())?;
        }
        let own = own.unwrap_or(Data {
            history: FIRST,
            writes: BTreeSet::new(),
            origin: FIRST,
            peers: BTreeSet::new(),
        });
        if with_word {
            database.told.retain(|write| own.writes.contains(write));
        }
        self.story.push(format!("{} {at} takes over with {} writes, {token}", self.now, own.writes.len()));
        database.lines.insert(token.0, (own.history, own.writes.clone()));
        if let Some(machine) = self.machines.get_mut(at) {
            machine.disk = Disk::Data(Data { history: token.0, ..own });
        }
        Ok(())
    }

    /// A client writes; whoever is seen follows, and only then the client is told.
    fn write_as(&mut self, database: &mut Database, at: usize) {
        let writes = self.rng.percent(40);
        let Some(primary) = self.machines.get_mut(at) else { return };
        let seen = !primary.deaf && (database.own_lines || !primary.cut);
        let Disk::Data(data) = &mut primary.disk else { return };
        if writes {
            database.next += 1;
            data.writes.insert(database.next);
        }
        let data = data.clone();
        for standby in 0..self.machines.len() {
            if standby == at || !seen || self.is_primary(standby) {
                continue;
            }
            let (follows, calm) = (self.calm || self.rng.percent(40), self.calm);
            let cut_off = !calm && self.rng.percent(10);
            let all = calm || self.rng.percent(50);
            let reached = |machine: &&mut Machine| machine.follows(database.own_lines);
            let Some(machine) = self.machines.get_mut(standby).filter(reached) else { continue };
            if !follows {
                continue;
            }
            machine.disk = match &machine.disk {
                Disk::Data(own) if own.writes.is_subset(&data.writes) => {
                    let next = data.writes.difference(&own.writes).next().copied();
                    let end = if all { u64::MAX } else { next.unwrap_or(u64::MAX) };
                    Disk::Data(database.part(&data, end))
                }
                _ if cut_off => Disk::Half,
                _ => Disk::Data(data.clone()),
            };
            if let Disk::Data(own) = &machine.disk {
                database.told.extend(&own.writes);
            }
        }
    }
}

impl Database {
    /// What there is of this data up to a write, and of which history that is.
    fn part(&self, data: &Data, end: u64) -> Data {
        let writes: BTreeSet<u64> = data.writes.iter().copied().filter(|write| *write <= end).collect();
        let mut history = data.history;
        while let Some((before, base)) = self.lines.get(&history)
            && history != FIRST
            && !base.is_subset(&writes)
        {
            history = *before;
        }
        Data { history, writes, origin: data.origin, peers: BTreeSet::new() }
    }
}

impl Machine {
    /// Whether its copy can take what a primary sends.
    fn follows(&self, own_lines: bool) -> bool {
        let copy = self.copies.get(&copy()).filter(|copy| copy.doing == Doing::Running);
        self.alive() && !self.deaf && (own_lines || !self.cut) && copy.is_some()
    }

    /// PID 1 ends the role with the copy beside which it runs.
    fn bind_role(&mut self) {
        let copy = self.copies.get(&copy()).is_some_and(|copy| copy.doing == Doing::Running);
        if !copy && self.alive() && self.copies.contains_key(&role()) {
            self.ended(&role());
        }
    }

    /// Looks how far its copy is.
    pub(super) fn rank(&self, view: &NodeView) -> impl Iterator<Item = Fact> {
        let asked = view.ranks.keys();
        asked.filter(|unit| **unit == role()).map(|unit| {
            let runs = self.copies.get(&copy()).is_some_and(|copy| copy.doing == Doing::Running);
            let found = match &self.disk {
                Disk::Data(data) if runs && !self.blind => Found::Data {
                    rank: (data.history * 1_000_000 + data.writes.len() as u64) as i64,
                    identity: format!("h{}", data.origin),
                    safe: false,
                },
                _ => Found::Failed("it cannot tell".into()),
            };
            let (node, incarnation) = (self.id, self.incarnation());
            Fact::RankReported { node, incarnation, unit: unit.clone(), seen: view.index, found }
        })
    }
}
