//! What people do to a clustered service: words by guess while all is in flux, and what `why` asks for in the end.

use policy::{NodeId, Phase, Reason, Wanted, Wish, Word};

use super::super::machine::{Doing, Machine};
use super::check::reasons;
use super::{Checked, Data, Disk, World, name};

impl World {
    /// An operator who knows little: says something about some machine.
    pub(crate) fn say(&mut self, at: usize) -> Checked {
        let unit = name();
        let boot_up = self.state.units.get(&unit).and_then(|unit| unit.boot_up.as_ref());
        let (Some(boot_up), Some(machine)) = (boot_up, self.machines.get(at)) else { return Ok(()) };
        let (epoch, node) = (boot_up.epoch, machine.id);
        let word = match self.rng.below(8) {
            0..=2 if boot_up.formed => Word::Without(node),
            _ if !boot_up.formed => Word::From(node),
            3 => Word::From(node),
            _ => Word::Resync(node),
        };
        self.wish(Wish::Assemble { unit, epoch, word, by: "o".into() })
    }

    /// What goes wrong with the service alone.
    pub(crate) fn harm_service(&mut self, at: usize) -> Checked {
        let what = self.rng.below(10);
        let Some(machine) = self.machines.get_mut(at) else { return Ok(()) };
        self.story.push(format!("{} harm {what} to the service at {}", self.now, machine.name));
        match what {
            // Its network is cut, or whole again; the cluster's is not.
            0..=3 => machine.deaf = !machine.deaf,
            4..=6 if self.service.as_ref().is_some_and(|service| service.meddled) => {
                self.start_by_hand(at)?;
                self.part_from_those_that_run(at);
            }
            4..=6 => machine.blind = !machine.blind,
            7 if self.disks_fail && self.rng.percent(40) => self.wipe(at),
            8 | 9 => self.start_by_hand(at)?,
            _ => {}
        }
        Ok(())
    }

    /// The disk is replaced.
    fn wipe(&mut self, at: usize) {
        let (Some(service), Some(machine)) = (&mut self.service, self.machines.get_mut(at)) else { return };
        machine.power_off();
        service.wiped |= machine.disk != Disk::Empty;
        machine.disk = Disk::Empty;
        machine.boot();
    }

    /// Somebody starts it past the gate, and its clients write. Its agent sees that, and says so at once.
    ///
    /// Before it was formed or taken over, nobody could tell such a copy from those that ran before; and one that is
    /// begun while others are on their way is the person's own doing: they may meet it, whatever the cluster says.
    fn start_by_hand(&mut self, at: usize) -> Checked {
        let (Some(unit), Some(machine)) = (self.state.units.get(&name()), self.machines.get_mut(at)) else {
            return Ok(());
        };
        let starts = unit.permits.values().any(|permit| permit.phase == Phase::Granted);
        let formed = unit.boot_up.as_ref().is_some_and(|boot_up| boot_up.formed);
        let life = self.state.nodes.get(&machine.id).and_then(|node| node.in_session());
        let served = life.is_some_and(|life| life.session == machine.session && life.inventory);
        let clear = machine.heard() && machine.connected && !machine.copies.contains_key(&name());
        if !formed || !served || !clear || starts || unit.permit_on(machine.id).is_some() {
            return Ok(());
        }
        machine.stray(&name());
        let told = machine.observed(&name());
        let data = match machine.disk.clone() {
            Disk::Data(data) => Data { peers: [at].into(), ..data },
            Disk::Empty | Disk::Half => Data::new(self.now, at),
        };
        if let Some(mut service) = self.service.take() {
            self.comes_up(&mut service, at, data, true);
            self.service = Some(service);
        }
        self.fact(told)
    }

    /// The service's network is not what it was where somebody is at work: those that run are not seen, the new one is.
    fn part_from_those_that_run(&mut self, at: usize) {
        let runs = |machine: &Machine| {
            machine
                .copies
                .get(&name())
                .is_some_and(|copy| copy.token.is_some() && copy.doing == Doing::Running)
        };
        if self
            .machines
            .get(at)
            .is_some_and(|machine| machine.copies.get(&name()).is_some_and(|copy| copy.token.is_none()))
        {
            self.machines.iter_mut().filter(|machine| runs(machine)).for_each(|machine| machine.deaf = true);
        }
    }

    /// All lose power at once; most are up again at once.
    pub(crate) fn site_failure(&mut self) {
        self.story.push(format!("{} all lose power", self.now));
        for machine in &mut self.machines {
            machine.power_off();
            machine.cut = false;
            if self.rng.percent(80) {
                machine.boot();
            }
        }
    }

    /// Files, drains and holds are mended; nobody says anything of the data.
    pub(crate) fn mend_service(&mut self) -> Checked {
        let definition = self.state.units.get(&name()).and_then(|unit| unit.definition()).cloned();
        for at in 0..self.machines.len() {
            let Some(machine) = self.machines.get_mut(at) else { continue };
            (machine.deaf, machine.blind) = (false, false);
            let node = machine.id;
            if let Some(definition) = &definition {
                machine.offers.insert(name(), super::super::offer(definition.clone()));
                if machine.connected {
                    self.reports.push((node, machine.session, machine.observed(&name())));
                }
            }
            if self.state.drained.is_some() {
                self.wish(Wish::SetDrained { node: None, drained: false, by: "o".into() })?;
            }
            if self.state.nodes.get(&node).is_some_and(|node| node.drained.is_some()) {
                self.wish(Wish::SetDrained { node: Some(node), drained: false, by: "o".into() })?;
            }
            // Otherwise it may be waited for longer than this history goes on.
            if self.state.held_back(node, self.now).is_some() {
                self.wish(Wish::ForgiveNode { node, by: "o".into() })?;
            }
        }
        let unit = self.state.units.get(&name());
        let held = unit.is_some_and(|unit| !unit.holds.is_empty() || unit.goal.wanted == Wanted::Stopped);
        if held { self.set_goal(Wanted::Started) } else { Ok(()) }
    }

    fn set_goal(&mut self, wanted: Wanted) -> Checked {
        self.wish(Wish::SetGoal { unit: name(), wanted, node: None, seen: None, by: "o".into() })
    }

    /// An operator does what `why` asks for, and nothing else.
    pub(crate) fn heed(&mut self, dead: Option<usize>) -> Checked {
        let Some(boot_up) = self.state.units.get(&name()).and_then(|unit| unit.boot_up.as_ref()) else {
            return Ok(());
        };
        let epoch = boot_up.epoch;
        let unit = self.state.units.get(&name());
        if unit.is_some_and(|unit| unit.goal.wanted == Wanted::Stopped && unit.permits.is_empty()) {
            return self.set_goal(Wanted::Started);
        }
        let gone = dead.and_then(|dead| self.machines.get(dead)).map(|machine| machine.id);
        let (mut unready, mut other) = (false, false);
        for reason in reasons(&self.state, self.now) {
            let word = match reason {
                Reason::Position { node, needed: true, .. } if self.is_missing(node, dead) => {
                    Word::Without(node)
                }
                Reason::Diverged { node, .. } => Word::Resync(node),
                Reason::NoElection(_) | Reason::FirstFormation => match self.most_written(gone) {
                    Some(node) => Word::From(node),
                    None => continue,
                },
                Reason::NotReady { .. } => {
                    unready = true;
                    continue;
                }
                Reason::Starting(_) | Reason::Stopping { .. } | Reason::JoinsAfter(_) => {
                    other = true;
                    continue;
                }
                _ => continue,
            };
            self.wish(Wish::Assemble { unit: name(), epoch, word, by: "o".into() })?;
        }
        // All that are left run, and lost each other for good: nothing but a restart of all helps.
        let stays = unready && !other && !self.is_served();
        let Some(service) = &mut self.service else { return Ok(()) };
        service.unready = if stays { service.unready + 1 } else { 0 };
        if service.unready < 4 {
            return Ok(());
        }
        service.unready = 0;
        self.set_goal(Wanted::Stopped)
    }

    fn most_written(&self, gone: Option<NodeId>) -> Option<NodeId> {
        let living = self.machines.iter().filter(|machine| Some(machine.id) != gone);
        let most = living.max_by_key(|machine| match &machine.disk {
            Disk::Data(data) => data.writes.len() + 1,
            Disk::Empty | Disk::Half => 0,
        });
        most.map(|machine| machine.id)
    }
}
