//! What must hold of a clustered service, judged by the data on the machines.

use policy::{NodeId, Reason, State, plan};

use super::super::machine::{Doing, Machine};
use super::{Checked, Data, Disk, Service, Violation, World, name};

fn broken(rule: &'static str, what: String) -> Checked {
    Err(Violation { rule, what })
}

impl World {
    /// Nobody else runs under a permit, nobody else writes, and nothing that a client was told is missing.
    pub(super) fn may_begin_alone(&self, service: &Service, at: usize, machine: &Machine) -> Checked {
        let called = &machine.name;
        if self.lied {
            return Ok(());
        }
        for group in service.groups.iter().filter(|group| !group.by_hand) {
            let others = self.writers(group);
            if !others.is_empty() {
                return broken("F16 two alone", format!("{called} begins alone beside {others:?}"));
            }
        }
        for (other, machine) in self.machines.iter().enumerate().filter(|(other, _)| *other != at) {
            let copy = machine.copies.get(&name()).filter(|copy| machine.power && copy.token.is_some());
            if copy.is_some_and(|copy| copy.doing != Doing::Restarting) {
                let what =
                    format!("{called} begins alone while a copy of {} is there ({other})", machine.name);
                return broken("F16 two alone", what);
            }
        }
        if machine.disk == Disk::Half {
            return broken("F16 unusable", format!("{called} begins with half a copy"));
        }
        let token = machine.copies.get(&name()).and_then(|copy| copy.token);
        let with_word = token.is_some_and(|token| service.with_word.contains(&token));
        if !with_word && !machine.disk.holds(&service.told) {
            let lacks: Vec<u64> =
                service.told.iter().copied().filter(|w| !machine.disk.holds(&[*w].into())).collect();
            return broken("F16 writes lost", format!("{called} begins without {lacks:?}"));
        }
        Ok(())
    }

    /// Those that came up together have everything that a client was told, and nobody else writes.
    pub(super) fn may_go_on(&self, service: &Service, at: usize, own: &Data, latest: &Data) -> Checked {
        if self.lied {
            return Ok(());
        }
        let live =
            service.groups.iter().filter(|group| !group.by_hand).any(|group| !self.writers(group).is_empty());
        if live {
            return broken(
                "F16 two alone",
                format!("{at} goes on with {:?}, beside another group", own.peers),
            );
        }
        let lacks: Vec<&u64> = service.told.difference(&latest.writes).collect();
        if !lacks.is_empty() {
            let what = format!("{at} goes on with {:?} without {lacks:?}", own.peers);
            return broken("F16 writes lost", what);
        }
        Ok(())
    }

    /// Whoever joins loses nothing.
    pub(super) fn may_join(&self, at: usize, own: &Disk, theirs: &Data) -> Checked {
        if self.lied || own.is_part_of(theirs) {
            return Ok(());
        }
        broken("F16 divergence", format!("{at} joins with {own:?} what has {theirs:?}"))
    }

    /// After every step: one lineage, and the last active set has the latest data.
    pub(crate) fn check_service(&self) -> Checked {
        let Some(service) = self.service.as_ref().filter(|_| !self.lied) else { return Ok(()) };
        let legal = service.groups.iter().filter(|group| !group.by_hand);
        let live: Vec<_> = legal.map(|group| self.writers(group)).filter(|live| !live.is_empty()).collect();
        if live.len() > 1 {
            return broken("F16 two alone", format!("two lineages write: {live:?}"));
        }
        let Some(unit) = self.state.units.get(&name()) else { return Ok(()) };
        for id in self.state.nodes.keys() {
            if unit.permits.values().filter(|permit| permit.node == *id).count() > 1 {
                return broken("S1 one permit", format!("{id} holds two permits"));
            }
        }
        let Some(boot_up) = &unit.boot_up else { return Ok(()) };
        let has = |machine: &&Machine| {
            boot_up.members.contains_key(&machine.id) && machine.disk.holds(&service.told)
        };
        if boot_up.formed && boot_up.epoch > 0 && !service.wiped && self.machines.iter().find(has).is_none() {
            let members: Vec<&NodeId> = boot_up.members.keys().collect();
            return broken("F16 last active set", format!("none of {members:?} has all that was told"));
        }
        Ok(())
    }

    /// Whether every machine that can run a copy does, and all of them write together.
    pub(super) fn is_whole(&self, dead: Option<usize>) -> bool {
        let Some(service) = &self.service else { return true };
        let living = (0..self.machines.len()).filter(|at| Some(*at) != dead);
        let living: Vec<usize> = living.filter(|at| self.could_run(*at)).collect();
        let together = service.groups.iter().any(|group| {
            let writers = self.writers(group);
            !group.by_hand && living.iter().all(|at| writers.contains(at))
        });
        together && living.iter().all(|at| self.is_ready(*at))
    }

    /// No machine that is left has any data, and there was some: nobody may begin with nothing.
    fn is_all_lost(&self, dead: Option<usize>) -> bool {
        let boot_up = self.state.units.get(&name()).and_then(|unit| unit.boot_up.as_ref());
        let mut living = self.machines.iter().enumerate().filter(|(at, _)| Some(*at) != dead);
        boot_up.is_some_and(|boot_up| boot_up.formed)
            && living.all(|(_, machine)| !matches!(machine.disk, Disk::Data(_)))
    }

    pub(super) fn could_run(&self, at: usize) -> bool {
        let Some(machine) = self.machines.get(at) else { return false };
        let node = self.state.nodes.get(&machine.id);
        let (Some(node), Some(unit)) = (node, self.state.units.get(&name())) else { return false };
        let offer = node.offers.get(&name()).filter(|offer| offer.present && offer.gated);
        offer.is_some_and(|offer| offer.definition.as_ref() == unit.definition())
            && node.drained.is_none()
            && !unit.holds.contains_key(&machine.id)
    }

    pub(super) fn is_served(&self) -> bool {
        (0..self.machines.len()).any(|at| self.is_ready(at))
    }

    fn is_ready(&self, at: usize) -> bool {
        let Some(machine) = self.machines.get(at) else { return false };
        let mut active = self.state.known_active(&name());
        let boot_up = self.state.units.get(&name()).and_then(|unit| unit.boot_up.as_ref());
        let member = boot_up.and_then(|boot_up| boot_up.members.get(&machine.id));
        active.any(|(_, permit)| permit.node == machine.id)
            && member.is_some_and(|member| member.ready.is_some())
    }

    /// Before any word is given: it is whole, or the reasons name somebody who is really missing, or really different.
    pub(crate) fn is_whole_or_says_why(&self, dead: Option<usize>) -> Checked {
        if self.is_whole(dead) {
            return Ok(());
        }
        let reasons = reasons(&self.state, self.now);
        let absent = |node: &NodeId| self.is_missing(*node, dead);
        let word = |reason: &Reason| match reason {
            Reason::Position { node, .. } | Reason::Unproven(node) | Reason::Unheard(node) => absent(node),
            Reason::Held(_)
            | Reason::Diverged { .. }
            | Reason::NoElection(_)
            | Reason::FirstFormation
            | Reason::NotReady { .. } => true,
            _ => false,
        };
        if reasons.iter().any(word) {
            return Ok(());
        }
        broken("L2 why", format!("{} is not whole, and waits for nobody's word: {reasons:?}", name()))
    }

    /// Whether a machine is gone for good, or its data is.
    pub(super) fn is_missing(&self, node: NodeId, dead: Option<usize>) -> bool {
        let machine = self.machines.iter().enumerate().find(|(_, machine)| machine.id == node);
        machine.is_some_and(|(at, machine)| Some(at) == dead || !matches!(machine.disk, Disk::Data(_)))
    }

    /// In the end, with the words that the reasons asked for, it is whole.
    pub(crate) fn service_converges(&self, dead: Option<usize>) -> Checked {
        if self.service.is_none() || self.is_whole(dead) || self.is_all_lost(dead) {
            return Ok(());
        }
        let reasons = reasons(&self.state, self.now);
        let disks: Vec<String> = self
            .machines
            .iter()
            .map(|machine| {
                let disk = match &machine.disk {
                    Disk::Data(data) => format!("{} writes of h{}", data.writes.len(), data.history),
                    other => format!("{other:?}"),
                };
                format!("{} {:?}: {disk}", machine.name, machine.copies.get(&name()).map(|copy| copy.doing))
            })
            .collect();
        let unit = self.state.units.get(&name());
        broken(
            "L1 converge",
            format!("{reasons:?}\n{disks:?}\n{:?}\n{unit:#?}", self.service.as_ref().map(|s| &s.groups)),
        )
    }
}

pub(super) fn reasons(state: &State, now: u64) -> Vec<Reason> {
    plan(state, now).reasons.get(&name()).cloned().unwrap_or_default()
}
