//! What machines and leader tell each other, in any order; and time, which passes for all.

use policy::{Command, Fact, NodeId, Order, Presence, Refusal, UnitName, plan};

use super::machine::Doing;
use super::service::{Came, name};
use super::{Checked, Machine, Mutation, Violation, World};

impl World {
    /// Any message, in any order; some twice, some never. What a session carries keeps its order.
    pub(super) fn deliver_fact(&mut self) -> Checked {
        if !self.reports.is_empty() && self.rng.percent(50) {
            let of = |(node, session, _): &(NodeId, u64, Fact)| {
                self.machines.iter().find(|m| m.id == *node && m.connected && m.session == *session)
            };
            // A cut delays what a session carries; only the end of the session loses it.
            let Some(due) = self.reports.iter().position(|report| of(report).is_none_or(Machine::heard))
            else {
                return Ok(());
            };
            let open = self.reports.get(due).and_then(of).is_some();
            let (.., fact) = self.reports.remove(due);
            return if open { self.fact(fact) } else { Ok(()) };
        }
        if self.facts.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.facts.len());
        let fact = if !self.calm && self.rng.percent(20) {
            self.facts.get(at).cloned()
        } else {
            Some(self.facts.swap_remove(at))
        };
        match fact {
            Some(_) if !self.calm && self.rng.percent(10) => Ok(()),
            Some(fact) => self.fact(fact),
            None => Ok(()),
        }
    }

    pub(super) fn send_view(&mut self, at: usize) {
        let planned = plan(&self.state, self.now + self.skew);
        let Some(machine) = self.machines.get(at).filter(|machine| machine.connected) else { return };
        let mut view = self.state.view(machine.id);
        for order in &planned.orders {
            let Order::StopStray { node, unit } = order;
            if *node == machine.id {
                view.stop.insert(unit.clone());
            }
        }
        self.views.push((machine.id, machine.session, view));
        if self.views.len() > 12 {
            self.views.remove(0);
        }
    }

    pub(super) fn deliver_view(&mut self) {
        if self.views.is_empty() {
            return;
        }
        let at = if self.calm { 0 } else { self.rng.below(self.views.len()) };
        let (node, session, view) = if !self.calm && self.rng.percent(25) {
            let Some(view) = self.views.get(at).cloned() else { return };
            view
        } else {
            self.views.remove(at)
        };
        let (now, broken) = (self.now, self.broken);
        if let Some(machine) = self.machines.iter_mut().find(|machine| machine.id == node && machine.heard())
        {
            let said = machine.take_view(session, &view, now, broken);
            self.facts.extend(said);
        }
    }

    /// Units of one machine go on, and its agent tells again what was not confirmed.
    pub(super) fn progress(&mut self, at: usize) -> Checked {
        let (broken, calm) = (self.broken, self.calm);
        let Some(machine) = self.machines.get(at) else { return Ok(()) };
        let units: Vec<UnitName> = machine.copies.keys().cloned().collect();
        for unit in units {
            if !self.may_go_on_starting(at, &unit)? {
                continue;
            }
            let Some(machine) = self.machines.get_mut(at) else { return Ok(()) };
            let before = machine.copies.get(&unit).map(|copy| copy.doing);
            let said = machine.progress(&unit, &mut self.rng, broken, calm);
            self.facts.extend(said);
            let after = machine.copies.get(&unit).map(|copy| copy.doing);
            if before != after && before != Some(Doing::Running) {
                self.story
                    .push(format!("{} {} on {}: {before:?} -> {after:?}", self.now, unit, machine.name));
            }
        }
        self.tell(at);
        Ok(())
    }

    /// Of a clustered service it is the others that decide whether a start comes up.
    fn may_go_on_starting(&mut self, at: usize, unit: &UnitName) -> Result<bool, Violation> {
        let Some(machine) = self.machines.get(at).filter(|machine| machine.alive()) else { return Ok(true) };
        let starts = match machine.copies.get(unit).map(|copy| copy.doing) {
            Some(Doing::Starting) => true,
            Some(Doing::Restarting) => machine.may_restart(unit),
            _ => false,
        };
        if !starts || self.service.is_none() {
            return Ok(true);
        }
        let came = self.daemon_starts(at)?;
        let Some(machine) = self.machines.get_mut(at) else { return Ok(false) };
        let started = machine.starts.get(unit);
        self.story.push(format!("{} {unit} on {} starts, {started:?}: {came:?}", self.now, machine.name));
        if came == Came::Failed {
            machine.start_failed(unit);
        }
        Ok(came == Came::Up)
    }

    fn tell(&mut self, at: usize) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        if machine.connected && machine.heard() {
            let owed = machine.owes();
            let known: Vec<Fact> = owed.into_iter().filter(|fact| !self.facts.contains(fact)).collect();
            self.facts.extend(known);
            for fact in machine.news() {
                self.reports.push((machine.id, machine.session, fact));
            }
            let known = &self.state.units;
            let rests = machine.rest_told(|unit, token| {
                known.get(unit).and_then(|unit| unit.permits.get(&token)).map(|permit| permit.rest)
            });
            for fact in rests {
                if !self.reports.iter().any(|(.., sent)| about_one(sent, &fact)) {
                    self.reports.push((machine.id, machine.session, fact));
                }
            }
            if self.service.is_some() {
                self.facts.extend(machine.ready_changed(&name()));
            }
            let life = self.state.nodes.get(&machine.id).and_then(|node| node.life.as_ref());
            let unsaid =
                life.is_some_and(|life| !life.inventory && life.incarnation == machine.incarnation());
            if unsaid
                && !self
                    .reports
                    .iter()
                    .any(|(node, session, _)| *node == machine.id && *session == machine.session)
            {
                self.reports.push((machine.id, machine.session, machine.inventory()));
            }
        }
        if machine.leaving
            && machine.power
            && !machine.frozen
            && machine.copies.is_empty()
            && machine.owes().is_empty()
        {
            machine.power_off();
        }
    }

    pub(super) fn pass_time(&mut self) -> Checked {
        self.now += 100 + self.rng.below(700) as u64;
        if self.broken == Some(Mutation::TimeJumps) && self.rng.percent(20) {
            self.skew += 3_600_000;
        }
        let lease = self.state.settings.lease_ms();
        for machine in &mut self.machines {
            let life = self.state.nodes.get(&machine.id).and_then(|node| node.life.as_ref());
            let served = life.is_some_and(|life| {
                life.session == machine.session
                    && life.incarnation == machine.incarnation()
                    && !matches!(life.presence, Presence::Lost { .. })
            });
            if machine.connected && machine.heard() && served {
                if life.is_some_and(|life| life.gone.is_some()) {
                    // It speaks in its session after the proof: the leader cuts it off, and it says hello again.
                    machine.connected = false;
                } else {
                    machine.lease_until = self.now + lease;
                    self.answered.insert(machine.id, self.now);
                }
            }
            machine.tick(self.now);
        }
        let (due, rest) =
            std::mem::take(&mut self.strikes).into_iter().partition::<Vec<_>, _>(|(by, _)| *by <= self.now);
        self.strikes = rest;
        for (_, node) in due {
            self.switch_off(node, "a late command");
        }
        self.late_ports();
        Ok(())
    }

    pub(super) fn hello(&mut self, at: usize) -> Checked {
        let Some(machine) = self.machines.get_mut(at) else { return Ok(()) };
        if machine.must_reboot && machine.alive() {
            machine.boot();
        }
        if machine.connected || !machine.heard() || machine.must_reboot {
            return Ok(());
        }
        self.session += 1;
        let (node, incarnation, session, term) = (machine.id, machine.incarnation(), self.session, self.term);
        let name = machine.name.clone();
        let gone = self.state.nodes.get(&node).and_then(|node| node.life.as_ref());
        let gone = gone.is_some_and(|life| life.gone.is_some() && life.incarnation == incarnation);
        if gone {
            self.spoke_after_proof.insert((node, incarnation.clone()));
            if self.broken != Some(Mutation::NoContradiction) {
                self.fact(Fact::ProofContradicted { node, incarnation: incarnation.clone(), term })?;
            }
        }
        if self.broken == Some(Mutation::HelloIsProof) && self.rng.percent(30) {
            self.believe_any_hello(node, session)?;
            return Ok(());
        }
        let hello = Fact::NodeHeard {
            node,
            incarnation,
            session,
            machine: format!("machine-{name}"),
            addresses: Vec::new(),
            level: policy::FEATURE_LEVEL,
            term,
        };
        let outcome = self.try_apply(Command::Fact(hello), None)?;
        if let (Err(Refusal::Isolated), Some(machine)) = (&outcome, self.machines.get(at)) {
            let incarnation = machine.incarnation();
            self.fact(Fact::CutOffHeard { node, incarnation, term })?;
        }
        let (now, lease) = (self.now, self.state.settings.lease_ms());
        let Some(machine) = self.machines.get_mut(at) else { return Ok(()) };
        match outcome {
            Ok(()) => {
                machine.begin_session(session, now, lease);
                self.answered.insert(node, now);
                let inventory = machine.inventory();
                self.reports.push((node, session, inventory));
            }
            Err(Refusal::Fenced | Refusal::Isolated) => machine.must_reboot = true,
            Err(_) => {}
        }
        Ok(())
    }

    /// F3 left out: a hello of an earlier boot, long under way, is taken for a new life.
    pub(super) fn believe_any_hello(&mut self, node: NodeId, session: u64) -> Checked {
        let Some(known) = self.state.nodes.get_mut(&node) else { return Ok(()) };
        known.past.clear();
        if let Some(life) = known.life.as_mut() {
            life.presence = Presence::Lost { since: self.now };
        }
        let name = known.name.clone();
        let (incarnation, term) = (policy::Incarnation(format!("{name}-delayed-{session}")), self.term);
        let machine = format!("machine-{name}");
        self.fact(Fact::NodeHeard {
            node,
            incarnation: incarnation.clone(),
            session,
            machine,
            addresses: Vec::new(),
            level: policy::FEATURE_LEVEL,
            term,
        })?;
        self.fact(Fact::InventoryReported {
            node,
            incarnation,
            items: Vec::new(),
            rests: std::collections::BTreeMap::new(),
            highest_token: policy::Token(0),
        })
    }
}

/// Whether both say whether the same copy rests.
fn about_one(one: &Fact, other: &Fact) -> bool {
    let of = |fact: &Fact| match fact {
        Fact::RestReported { node, unit, token, .. } => Some((*node, unit.clone(), *token)),
        _ => None,
    };
    of(one).is_some_and(|one| of(other) == Some(one))
}
