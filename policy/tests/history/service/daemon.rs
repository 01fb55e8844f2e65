//! What the service's daemons do: write, come up, wait for each other, copy, and lose each other.

use std::collections::BTreeSet;

use policy::{AssemblyStyle, Start};

use super::super::machine::{Doing, Machine};
use super::{Data, Disk, Group, Service, Violation, World, name};

/// What became of a daemon that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Up,
    /// It waits for others, as long as nobody stops it.
    Waits,
    Failed,
}

impl World {
    fn runs_at(&self, at: usize) -> bool {
        self.machines.get(at).is_some_and(|machine| {
            machine.alive() && machine.copies.get(&name()).is_some_and(|copy| copy.doing == Doing::Running)
        })
    }

    fn is_apart(&self, at: usize) -> bool {
        self.machines.get(at).is_none_or(|machine| machine.cut || machine.deaf)
    }

    /// Members of one group that see each other and are most of it.
    pub(super) fn writers(&self, group: &Group) -> BTreeSet<usize> {
        let running = group.members.iter().copied().filter(|at| self.runs_at(*at));
        let (apart, together): (BTreeSet<usize>, BTreeSet<usize>) =
            running.partition(|at| self.is_apart(*at));
        let parts = std::iter::once(together).chain(apart.into_iter().map(|at| BTreeSet::from([at])));
        parts.into_iter().find(|part| part.len() * 2 > group.members.len()).unwrap_or_default()
    }

    /// Clients write; groups lose those that stopped or are not seen any more, and others catch up.
    pub(crate) fn write(&mut self) {
        let Some(mut service) = self.service.take() else { return };
        let writes = self.rng.percent(40);
        for group in &mut service.groups {
            let leaves = |at: &usize| {
                let copy = self.machines.get(*at).and_then(|machine| machine.copies.get(&name()));
                copy.is_some_and(|copy| copy.doing == Doing::Stopping)
            };
            group.members.retain(|at| !leaves(at));
            let live = self.writers(group);
            let Some(first) = live.first().copied() else { continue };
            group.members.clone_from(&live);
            let Some(Disk::Data(mut data)) = self.machines.get(first).map(|machine| machine.disk.clone())
            else {
                continue;
            };
            if writes {
                service.next += 1;
                data.writes.insert(service.next);
                if !group.by_hand {
                    service.told.insert(service.next);
                }
            }
            for at in group.catching_up.clone() {
                if !self.runs_at(at) || self.is_apart(at) {
                    group.catching_up.remove(&at);
                } else if !self.is_apart(first) && (self.calm || self.rng.percent(30)) {
                    group.catching_up.remove(&at);
                    group.members.insert(at);
                }
            }
            data.peers.clone_from(&group.members);
            for at in &group.members {
                if let Some(machine) = self.machines.get_mut(*at) {
                    machine.disk = Disk::Data(data.clone());
                }
            }
        }
        let held = |at: &usize| {
            let machine = self.machines.get(*at);
            machine.is_some_and(|machine| machine.power && machine.copies.contains_key(&name()))
        };
        service.groups.retain(|group| group.members.iter().any(held));
        self.rejoin(&mut service);
        let synced: BTreeSet<usize> = service.groups.iter().flat_map(|group| self.writers(group)).collect();
        for (at, machine) in self.machines.iter_mut().enumerate() {
            machine.synced = synced.contains(&at);
        }
        self.service = Some(service);
    }

    /// One that was thrown out while it ran finds the others again by itself, if it has nothing of its own.
    fn rejoin(&mut self, service: &mut Service) {
        for at in 0..self.machines.len() {
            let known = |group: &Group| group.members.contains(&at) || group.catching_up.contains(&at);
            if !self.runs_at(at) || self.is_apart(at) || service.groups.iter().any(known) {
                continue;
            }
            let Some(disk) = self.machines.get(at).map(|machine| machine.disk.clone()) else { continue };
            let fits = |group: &&mut Group| {
                let donor = self.writers(group).into_iter().find(|donor| !self.is_apart(*donor));
                let donor = donor.and_then(|donor| self.machines.get(donor)).map(|machine| &machine.disk);
                matches!(donor, Some(Disk::Data(data)) if disk.is_part_of(data))
            };
            if let Some(group) = service.groups.iter_mut().find(fits) {
                group.catching_up.insert(at);
            }
        }
    }

    /// The daemon starts, or goes on starting.
    pub(crate) fn daemon_starts(&mut self, at: usize) -> Result<Came, Violation> {
        let Some(mut service) = self.service.take() else { return Ok(Came::Up) };
        let start = self.machines.get(at).and_then(|machine| machine.starts.get(&name()).copied());
        let outcome = match start {
            Some(Start::Alone) => self.begins_alone(&mut service, at),
            start => self.joins(&mut service, at, start),
        };
        self.service = Some(service);
        outcome
    }

    fn begins_alone(&mut self, service: &mut Service, at: usize) -> Result<Came, Violation> {
        let Some(machine) = self.machines.get(at) else { return Ok(Came::Failed) };
        self.may_begin_alone(service, at, machine)?;
        let data = match machine.disk.clone() {
            Disk::Data(data) => Data { peers: [at].into(), ..data },
            Disk::Empty | Disk::Half => Data::new(self.now, at),
        };
        service.told.clone_from(&data.writes);
        self.comes_up(service, at, data, false);
        Ok(Came::Up)
    }

    /// A new group of one.
    pub(super) fn comes_up(&mut self, service: &mut Service, at: usize, data: Data, by_hand: bool) {
        let how = if by_hand { ", by hand" } else { "" };
        self.story.push(format!("{} {at} begins with {} writes{how}", self.now, data.writes.len()));
        for group in &mut service.groups {
            group.members.remove(&at);
            group.catching_up.remove(&at);
        }
        service.groups.push(Group { members: [at].into(), catching_up: BTreeSet::new(), by_hand });
        if let Some(machine) = self.machines.get_mut(at) {
            machine.disk = Disk::Data(data);
        }
    }

    fn joins(&mut self, service: &mut Service, at: usize, start: Option<Start>) -> Result<Came, Violation> {
        let seen = |at: usize| !self.is_apart(at);
        let mut open: Vec<(usize, usize, bool)> = Vec::new();
        for (position, group) in service.groups.iter().enumerate() {
            let donor = self.writers(group).into_iter().find(|donor| seen(*donor) && seen(at));
            open.extend(donor.map(|donor| (position, donor, group.by_hand)));
        }
        open.sort_by_key(|(_, _, by_hand)| *by_hand);
        let Some((group, donor, by_hand)) = open.first().copied() else {
            return self.finds_nobody(service, at);
        };
        let Some(Disk::Data(theirs)) = self.machines.get(donor).map(|machine| machine.disk.clone()) else {
            return Ok(Came::Failed);
        };
        let Some(own) = self.machines.get(at).map(|machine| machine.disk.clone()) else {
            return Ok(Came::Failed);
        };
        // What it takes over from one that began by hand is no part of the service; what it had, others have.
        if start != Some(Start::Resync) && !by_hand {
            self.may_join(at, &own, &theirs)?;
        }
        let cut_off = !self.calm && self.rng.percent(15);
        let whole = start == Some(Start::Resync) || !own.is_part_of(&theirs) || own == Disk::Empty;
        let Some(machine) = self.machines.get_mut(at) else { return Ok(Came::Failed) };
        if whole {
            machine.disk = if cut_off { Disk::Half } else { Disk::Data(theirs) };
        }
        if cut_off {
            return Ok(Came::Failed);
        }
        for other in &mut service.groups {
            other.members.remove(&at);
            other.catching_up.remove(&at);
        }
        if let Some(group) = service.groups.get_mut(group) {
            group.catching_up.insert(at);
        }
        Ok(Came::Up)
    }

    /// Nobody is live. One that comes up together with others goes on as soon as all that it wrote with last are there.
    fn finds_nobody(&mut self, service: &mut Service, at: usize) -> Result<Came, Violation> {
        let unit = self.state.units.get(&name());
        let assembly = unit.and_then(|unit| unit.definition()).and_then(|it| it.assembly.as_ref());
        let gathers = unit.and_then(|unit| unit.boot_up.as_ref()).filter(|boot_up| boot_up.is_gathering());
        let token = self.machines.get(at).and_then(|machine| machine.copies.get(&name())?.token);
        // One that was to join what is live does not begin by itself, whatever it believes of those it wrote with last.
        let asked = gathers.is_some_and(|boot_up| token.is_some_and(|token| token.0 > boot_up.epoch));
        let together = asked && assembly.is_some_and(|assembly| assembly.style == AssemblyStyle::AllTogether);
        let own = self.machines.get(at).map(|machine| machine.disk.clone());
        let Some(Disk::Data(own)) = own.filter(|_| together) else {
            return Ok(if self.rng.percent(30) { Came::Failed } else { Came::Waits });
        };
        let waits = |machine: &Machine| {
            let copy = machine.copies.get(&name()).filter(|_| machine.alive());
            copy.is_some_and(|copy| matches!(copy.doing, Doing::Starting | Doing::Running))
        };
        let there = own.peers.iter().all(|peer| {
            *peer == at
                || (self.machines.get(*peer).is_some_and(waits)
                    && !self.is_apart(*peer)
                    && !self.is_apart(at))
        });
        if !there {
            return Ok(if !self.calm && self.rng.percent(5) { Came::Failed } else { Came::Waits });
        }
        let disks = own.peers.iter().filter_map(|peer| match &self.machines.get(*peer)?.disk {
            Disk::Data(data) if data.history == own.history => Some(data.clone()),
            _ => None,
        });
        let Some(latest) = disks.max_by_key(|data| data.writes.len()) else { return Ok(Came::Failed) };
        self.may_go_on(service, at, &own, &latest)?;
        self.comes_up(service, at, Data { peers: [at].into(), ..latest }, false);
        Ok(Came::Up)
    }
}
