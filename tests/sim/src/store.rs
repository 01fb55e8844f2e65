//! A clustered service as it really is: the data on each machine's disk, which copies write together, and what clients were
//! told is safe.
//!
//! It does what databases do that replicate among themselves. Whoever begins alone goes on with its own data, under the
//! identity that it had. Whoever joins takes over what is live. A part that sees most of its last group goes on writing,
//! whatever the cluster thinks of it, and the others wait until they see it again. Once most of a group are gone without
//! having left it, the rest waits for ever: no clause promises that this ends without a hand (`docs/recipes/galera.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::{Found, Start, UnitName};

use crate::machine::{Doing, Machine};
use crate::rng::Rng;

/// A joiner that finds nobody gives up after so long.
const JOIN_LIMIT_MS: u64 = 4_000;
/// In so many of a hundred steps somebody writes.
const WRITES_PERCENT: u64 = 20;
/// In so many of a hundred looks `Position=` fails.
const FAILS_PERCENT: u64 = 3;

/// The unit.
pub(crate) fn name() -> UnitName {
    "store.service".into()
}

/// The service on all machines. Clones are the same.
#[derive(Clone)]
pub(crate) struct Store(Arc<Mutex<Inner>>);

struct Inner {
    copies: Vec<Replica>,
    groups: Vec<Group>,
    /// Up to which rank of each branch clients were told that their writes are safe.
    told: BTreeMap<u64, i64>,
    branches: u64,
    wrong: Option<String>,
    rng: Rng,
}

/// One start of a copy: the machine's boot, and which one it is in it.
type Process = (u32, u8);

/// A machine's copy, and its disk.
#[derive(Default)]
struct Replica {
    data: Option<Data>,
    /// The process that was seen last, and when it was seen first.
    process: Option<(Process, u64)>,
    /// When it is done with coming up.
    done_at: u64,
}

/// What a disk holds: writes are numbered by ranks, and each start alone begins a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Data {
    /// Each branch with the rank after which it begins.
    branches: Vec<(u64, i64)>,
    rank: i64,
    /// It was the last to leave its group.
    safe: bool,
}

/// Those that wrote together last.
struct Group {
    members: BTreeMap<usize, Process>,
    /// Those that write now; none where they are not most of it.
    live: BTreeSet<usize>,
}

/// A machine as one step finds it.
pub(crate) struct Seen {
    /// The process, if there is one, on a machine with power.
    process: Option<Process>,
    doing: Doing,
    /// The machine stands still.
    still: bool,
    start: Start,
}

impl Seen {
    pub(crate) fn of(machine: &Machine, world: u64) -> Self {
        let unit = machine.units.get(&name()).filter(|_| machine.powered);
        let alive = unit.filter(|unit| unit.alive);
        Self {
            process: alive.map(|unit| (machine.boots, unit.runs)),
            doing: unit.map_or(Doing::Failed, |unit| unit.doing),
            still: machine.paused_until > world,
            start: machine.starts.get(&name()).copied().unwrap_or(Start::Join),
        }
    }
}

impl Data {
    /// Up to which rank it has what was written in a branch.
    fn reaches(&self, branch: u64) -> Option<i64> {
        let at = self.branches.iter().position(|(known, _)| *known == branch)?;
        Some(self.branches.get(at + 1).map_or(self.rank, |(_, begins)| *begins))
    }

    fn is_part_of(&self, other: &Self) -> bool {
        let last = self.branches.last().map_or(0, |(branch, _)| *branch);
        other.branches.starts_with(&self.branches)
            && other.reaches(last).is_some_and(|reached| self.rank <= reached)
    }
}

impl Store {
    pub(crate) fn new(machines: usize, rng: Rng) -> Self {
        let inner = Inner {
            copies: (0..machines).map(|_| Replica::default()).collect(),
            groups: Vec::new(),
            told: BTreeMap::new(),
            branches: 0,
            wrong: None,
            rng,
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `Position=` says on a machine.
    pub(crate) fn position(&self, machine: usize) -> Found {
        let mut inner = self.lock();
        if inner.rng.percent(FAILS_PERCENT) {
            return Found::Failed("the data cannot be opened now".to_owned());
        }
        let copy = &inner.copies[machine];
        match &copy.data {
            _ if copy.process.is_some() => Found::Busy,
            None => Found::Empty,
            Some(Data { rank, safe, .. }) => {
                Found::Data { rank: *rank, identity: "sim".to_owned(), safe: *safe }
            }
        }
    }

    /// What a machine's copy lacks, as `Ready=` says it.
    pub(crate) fn lacks(&self, machine: usize) -> Option<String> {
        (!self.is_live(machine)).then(|| "it is in no primary component".to_owned())
    }

    /// Whether a machine's copy writes with the others.
    pub(crate) fn is_live(&self, machine: usize) -> bool {
        self.lock().groups.iter().any(|group| group.live.contains(&machine))
    }

    /// Whether nobody writes, and somebody waits to: most of the last group are gone.
    pub(crate) fn waits_for_ever(&self) -> bool {
        let inner = self.lock();
        let waits = inner.copies.iter().any(|copy| copy.process.is_some());
        waits && inner.groups.iter().all(|group| group.live.is_empty())
    }

    /// What was lost, or written twice.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.lock().wrong.clone()
    }

    /// One step; which copies have come up by it, or have given up to.
    pub(crate) fn step(
        &self,
        seen: &[Seen],
        now: u64,
        is_open: impl Fn(usize, usize) -> bool,
    ) -> Vec<(usize, bool)> {
        let mut inner = self.lock();
        let sees = |a: usize, b: usize| !seen[a].still && !seen[b].still && is_open(a, b);
        for (at, seen) in seen.iter().enumerate() {
            inner.leave(at, seen, now, &sees);
        }
        inner.regroup(sees);
        let live = inner.groups.iter().filter(|group| !group.live.is_empty()).count();
        if live > 1 {
            inner.broken("F16: two lineages are written at one time".to_owned());
        }
        inner.write();
        let mut came = Vec::new();
        for (at, seen) in seen.iter().enumerate().filter(|(_, seen)| !seen.still) {
            match seen.doing {
                Doing::Starting { .. } => came.extend(inner.come(at, seen.start, now, &is_open)),
                Doing::Up => inner.rejoin(at, &is_open),
                _ => {}
            }
        }
        came
    }
}

impl Inner {
    fn broken(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Takes note of who has gone, and how, and of who is new.
    fn leave(&mut self, at: usize, seen: &Seen, now: u64, sees: &impl Fn(usize, usize) -> bool) {
        let stops = matches!(seen.doing, Doing::Stopping { .. } | Doing::Down);
        let known = self.copies[at].process.map(|(process, _)| process);
        let process = seen.process.filter(|_| !stops);
        if let Some(gone) = known.filter(|_| stops) {
            for group in &mut self.groups {
                // One that stops is missed by nobody who hears of it.
                let told = group.members.keys().all(|other| sees(at, *other));
                if told && group.members.get(&at) == Some(&gone) {
                    group.members.remove(&at);
                    if let Some(data) = self.copies[at].data.as_mut().filter(|_| group.members.is_empty()) {
                        data.safe = true;
                    }
                }
            }
        }
        if known != process {
            let takes = self.rng.between(50, 400);
            let copy = &mut self.copies[at];
            copy.process = process.map(|process| (process, now));
            copy.done_at = now + takes;
        }
    }

    fn is_member(&self, group: &Group, at: usize) -> bool {
        let process = self.copies[at].process.map(|(process, _)| process);
        process.is_some() && group.members.get(&at).copied() == process
    }

    /// Each group goes on as those of it that see each other, if they are most of it.
    fn regroup(&mut self, sees: impl Fn(usize, usize) -> bool) {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            let there: Vec<usize> =
                group.members.keys().copied().filter(|at| self.is_member(group, *at)).collect();
            group.live = there
                .iter()
                .map(|first| {
                    let mut part = BTreeSet::new();
                    for at in [first].into_iter().chain(&there) {
                        if sees(*at, *at) && part.iter().all(|other| sees(*at, *other)) {
                            part.insert(*at);
                        }
                    }
                    part
                })
                .find(|part| 2 * part.len() > group.members.len())
                .unwrap_or_default();
            if !group.live.is_empty() {
                group.members.retain(|at, _| group.live.contains(at));
            }
        }
        groups.retain(|group| group.members.keys().any(|at| self.is_member(group, *at)));
        self.groups = groups;
    }

    /// A client's write is on the disks of all that write together before it is told of.
    fn write(&mut self) {
        for group in &self.groups {
            if group.live.is_empty() || !self.rng.percent(WRITES_PERCENT) {
                continue;
            }
            for at in &group.live {
                if let Some(data) = &mut self.copies[*at].data {
                    data.rank += 1;
                    if let Some((branch, _)) = data.branches.last() {
                        self.told.insert(*branch, data.rank);
                    }
                }
            }
        }
    }

    /// A copy comes up: `true` once it has, `false` if it never will.
    fn come(
        &mut self,
        at: usize,
        start: Start,
        now: u64,
        is_open: &impl Fn(usize, usize) -> bool,
    ) -> Option<(usize, bool)> {
        let (process, since) = self.copies[at].process?;
        if now < self.copies[at].done_at {
            return None;
        }
        if start == Start::Alone {
            self.begin_alone(at, process);
            return Some((at, true));
        }
        let Some(group) = self.reachable(at, is_open) else {
            return (now > since + JOIN_LIMIT_MS).then_some((at, false));
        };
        let theirs = self.data_of(group);
        let own = self.copies[at].data.clone();
        if let (Some(own), Some(theirs)) = (own, &theirs)
            && !own.is_part_of(theirs)
        {
            self.broken(format!("P49: n{} joins, and loses what only it has: {own:?}, {theirs:?}", at + 1));
        }
        self.enter(at, process, group, theirs);
        Some((at, true))
    }

    /// One that was thrown out while it ran finds the others again by itself, unless it has something of its own.
    fn rejoin(&mut self, at: usize, is_open: &impl Fn(usize, usize) -> bool) {
        let Some((process, _)) = self.copies[at].process else { return };
        if self.groups.iter().any(|group| self.is_member(group, at)) {
            return;
        }
        let Some(group) = self.reachable(at, is_open) else { return };
        let theirs = self.data_of(group);
        let fits = |own: &Data| theirs.as_ref().is_some_and(|theirs| own.is_part_of(theirs));
        if self.copies[at].data.as_ref().is_none_or(fits) {
            self.enter(at, process, group, theirs);
        }
    }

    /// The group that writes, if all of it can be reached.
    fn reachable(&self, at: usize, is_open: &impl Fn(usize, usize) -> bool) -> Option<usize> {
        let all = |group: &Group| group.live.iter().all(|other| is_open(at, *other));
        self.groups.iter().position(|group| !group.live.is_empty() && all(group))
    }

    fn data_of(&self, group: usize) -> Option<Data> {
        let donor = self.groups[group].live.first()?;
        self.copies[*donor].data.clone().map(|data| Data { safe: false, ..data })
    }

    fn enter(&mut self, at: usize, process: Process, group: usize, data: Option<Data>) {
        self.copies[at].data = data;
        self.groups[group].members.insert(at, process);
        self.groups[group].live.insert(at);
    }

    fn begin_alone(&mut self, at: usize, process: Process) {
        let mut others = self.copies.iter().enumerate();
        if let Some((other, _)) = others.find(|(other, copy)| *other != at && copy.process.is_some()) {
            self.broken(format!("F16: n{} begins alone while a copy is there on n{}", at + 1, other + 1));
        }
        let own = self.copies[at].data.clone();
        let reaches = |branch: u64| own.as_ref().and_then(|data| data.reaches(branch));
        let lost = self.told.iter().find(|(branch, rank)| reaches(**branch).is_none_or(|it| it < **rank));
        if let Some((branch, rank)) = lost {
            let (me, has) = (at + 1, reaches(*branch));
            let lost =
                format!("F16: n{me} begins alone with {has:?} of branch {branch}, and {rank} was told of");
            self.broken(lost);
        }
        self.branches += 1;
        let mut data = own.unwrap_or(Data { branches: Vec::new(), rank: 0, safe: false });
        data.branches.push((self.branches, data.rank));
        data.safe = false;
        self.copies[at].data = Some(data);
        self.groups.push(Group { members: [(at, process)].into(), live: [at].into() });
    }
}
