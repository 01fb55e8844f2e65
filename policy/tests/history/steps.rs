//! What happens in the world, one thing at a time, and how it comes to rest.

use policy::Wish;

use super::{Checked, Mutation, World, check};

impl World {
    /// One random thing, and the checks.
    pub(crate) fn step(&mut self) -> Checked {
        let at = self.rng.below(self.machines.len());
        match self.rng.below(100) {
            0..=17 => {
                self.lead()?;
                for at in 0..self.machines.len() {
                    self.send_view(at);
                }
            }
            18..=37 => {
                for _ in 0..3 {
                    self.deliver_fact()?;
                }
            }
            38..=51 => {
                for _ in 0..3 {
                    self.deliver_view();
                }
            }
            52..=65 => self.progress(at)?,
            66..=76 => self.pass_time()?,
            77..=84 => self.hello(at)?,
            85..=89 => self.carry_out()?,
            90..=94 => self.fault(at)?,
            95..=98 if self.service.is_some() && self.rng.percent(40) => self.say(at)?,
            95..=98 if self.database.is_some() && self.rng.percent(self.hurry()) => self.say_of_role(at)?,
            95..=98 => self.operate(at)?,
            _ => self.rewrite(at),
        }
        if self.broken.is_none() && self.service.is_none() {
            self.maintain()?;
        }
        self.write();
        self.replicate()?;
        // What the planner proposes is dear to check, and only one left-out rule shows there.
        match self.broken {
            None | Some(Mutation::UntoldRelease) => self.check(),
            Some(_) => self.check_truth(),
        }
    }

    /// No more faults: machines come back, agents and devices work, nobody asks for anything.
    pub(crate) fn calm_down(&mut self) -> Checked {
        self.calm = true;
        self.end_all_maintenance()?;
        for at in 0..self.machines.len() {
            if let Some(machine) = self.machines.get_mut(at) {
                machine.cut = false;
                machine.frozen = false;
                if !machine.power || machine.leaving {
                    machine.boot();
                }
            }
        }
        // One machine may be dead for good: the others have to get over it.
        let dead =
            (self.rng.percent(50) || self.broken.is_some()).then(|| self.rng.below(self.machines.len()));
        for round in 0..90 {
            for (at, machine) in self.machines.iter_mut().enumerate() {
                match (Some(at) == dead, machine.power) {
                    (true, true) => machine.power_off(),
                    // Whoever lost power by a fence is switched on again.
                    (false, false) => machine.boot(),
                    _ => {}
                }
            }
            if round == 45 && self.broken.is_none() {
                self.vouch_for(dead)?;
            }
            self.service_calms_down(dead, round)?;
            self.role_calms_down(dead, round)?;
            for _ in 0..3 {
                self.pass_time()?;
            }
            for at in 0..self.machines.len() {
                self.hello(at)?;
            }
            self.lead()?;
            self.carry_out()?;
            for _ in 0..(self.reports.len() + self.facts.len()) {
                self.deliver_fact()?;
            }
            for at in 0..self.machines.len() {
                self.send_view(at);
            }
            while !self.views.is_empty() {
                self.deliver_view();
            }
            for at in 0..self.machines.len() {
                for _ in 0..3 {
                    self.progress(at)?;
                }
            }
            if self.broken.is_none() {
                self.check()?;
            }
        }
        match (&self.service, &self.database) {
            (Some(_), _) => self.service_converges(dead),
            (None, Some(_)) => self.role_converges(dead),
            (None, None) => check::converges(self),
        }
    }

    /// First nobody says anything; then an operator does what `why` asks for.
    fn service_calms_down(&mut self, dead: Option<usize>, round: usize) -> Checked {
        if self.service.is_none() {
            return Ok(());
        }
        if round.is_multiple_of(10) {
            self.mend_service()?;
        }
        if round == 40 {
            self.is_whole_or_says_why(dead)?;
        }
        if round > 45 && round % 3 == 2 {
            self.heed(dead)?;
        }
        self.write();
        self.check_service()
    }

    /// Where no device counts (it was never seen on in that life), an operator looks.
    pub(super) fn vouch_for(&mut self, dead: Option<usize>) -> Checked {
        let Some(machine) = dead.and_then(|dead| self.machines.get(dead)) else { return Ok(()) };
        let node = machine.id;
        let life = self.state.nodes.get(&node).and_then(|node| node.life.as_ref());
        match life.map(|life| life.incarnation.clone()) {
            Some(incarnation) => self.wish(Wish::VouchFenced { node, incarnation, by: "o".into() }),
            None => Ok(()),
        }
    }
}
