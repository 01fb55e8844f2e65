//! What happens in the world, one thing at a time.

use policy::{
    Command, Decision, Fact, FenceOutcome, FencePhase, NodeId, Order, Origin, Power, Presence, Refusal,
    UnitName, Wanted, Wish, plan,
};

use super::machine::Doing;
use super::{Attempt, Checked, Mutation, World, check, offer};

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
            52..=65 => self.progress(at),
            66..=76 => self.pass_time()?,
            77..=84 => self.hello(at)?,
            85..=89 => self.carry_out()?,
            90..=94 => self.fault(at)?,
            95..=98 => self.operate(at)?,
            _ => self.rewrite(at),
        }
        // What the planner proposes is dear to check, and no left-out rule shows there.
        if self.broken.is_some() { self.check_truth() } else { self.check() }
    }

    /// No more faults: machines come back, agents and devices work, nobody asks for anything.
    pub(crate) fn calm_down(&mut self) -> Checked {
        self.calm = true;
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
                    self.progress(at);
                }
            }
            if self.broken.is_none() {
                self.check()?;
            }
        }
        check::converges(self)
    }

    /// Where no device counts (it was never seen on in that life), an operator looks.
    fn vouch_for(&mut self, dead: Option<usize>) -> Checked {
        let Some(machine) = dead.and_then(|dead| self.machines.get(dead)) else { return Ok(()) };
        let node = machine.id;
        let life = self.state.nodes.get(&node).and_then(|node| node.life.as_ref());
        match life.map(|life| life.incarnation.clone()) {
            Some(incarnation) => self.wish(Wish::VouchFenced { node, incarnation, by: "o".into() }),
            None => Ok(()),
        }
    }

    /// The leader calls silent nodes lost, and proposes what it plans; or dies half way.
    fn lead(&mut self) -> Checked {
        self.find_lost()?;
        let planned = plan(&self.state, self.now + self.skew);
        for look in &planned.observe {
            let executor = self.machines.iter().any(|machine| machine.id == look.executor && machine.heard());
            let target = self.machines.iter().find(|machine| machine.id == look.node);
            if let (true, Some(target)) = (executor, target) {
                let power = if target.power { Power::On } else { Power::Off };
                let (node, incarnation, device) = (look.node, look.incarnation.clone(), look.device.clone());
                let fact = Fact::PowerObserved { node, incarnation, device, power };
                if !self.facts.contains(&fact) {
                    self.facts.push(fact);
                }
            }
        }
        let half = !self.calm && self.rng.percent(10);
        for decision in planned.decisions {
            if half && self.rng.percent(50) {
                return self.elect();
            }
            if self.broken == Some(Mutation::NeverFenced) && matches!(decision, Decision::OpenCase { .. }) {
                continue;
            }
            let begun = match &decision {
                Decision::BeginAttempt { case, attempt, executor, executor_incarnation, .. } => {
                    let target = self.state.cases.get(case).map(|case| case.node);
                    target.map(|target| Attempt {
                        case: *case,
                        number: *attempt,
                        target,
                        executor: *executor,
                        executor_incarnation: executor_incarnation.clone(),
                    })
                }
                _ => None,
            };
            let outcome = self.try_apply(Command::Decision(decision), None)?;
            if let (Ok(()), Some(attempt)) = (outcome, begun) {
                self.attempts.push(attempt);
            }
        }
        Ok(())
    }

    fn find_lost(&mut self) -> Checked {
        let loss = self.state.settings.loss_ms();
        let mut lost = Vec::new();
        for (id, node) in &self.state.nodes {
            let Some(life) = &node.life else { continue };
            let since = self.answered.get(id).copied().unwrap_or(0).max(self.term_began);
            if !matches!(life.presence, Presence::Lost { .. }) && self.now >= since + loss {
                lost.push((*id, life.incarnation.clone(), life.session));
            }
        }
        for (node, incarnation, session) in lost {
            let term = self.term;
            self.fact(Fact::NodeLost { node, incarnation, session, term })?;
            for machine in self.machines.iter_mut().filter(|machine| machine.id == node) {
                machine.connected = machine.connected && machine.session != session;
            }
        }
        Ok(())
    }

    /// Any message, in any order; some twice, some never. What a session carries keeps its order.
    fn deliver_fact(&mut self) -> Checked {
        if !self.reports.is_empty() && self.rng.percent(50) {
            let (node, session, fact) = self.reports.remove(0);
            let open = self
                .machines
                .iter()
                .any(|m| m.id == node && m.connected && m.session == session && m.heard());
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

    fn send_view(&mut self, at: usize) {
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

    fn deliver_view(&mut self) {
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
    fn progress(&mut self, at: usize) {
        let (broken, calm) = (self.broken, self.calm);
        let Some(machine) = self.machines.get_mut(at) else { return };
        let units: Vec<UnitName> = machine.copies.keys().cloned().collect();
        for unit in units {
            let before = machine.copies.get(&unit).map(|copy| copy.doing);
            let said = machine.progress(&unit, &mut self.rng, broken, calm);
            self.facts.extend(said);
            let after = machine.copies.get(&unit).map(|copy| copy.doing);
            if before != after && before != Some(Doing::Running) {
                self.story
                    .push(format!("{} {} on {}: {before:?} -> {after:?}", self.now, unit, machine.name));
            }
        }
        if machine.connected && machine.heard() {
            let owed = machine.owes();
            let known: Vec<Fact> = owed.into_iter().filter(|fact| !self.facts.contains(fact)).collect();
            self.facts.extend(known);
            for fact in machine.news() {
                self.reports.push((machine.id, machine.session, fact));
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

    fn pass_time(&mut self) -> Checked {
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
        Ok(())
    }

    fn hello(&mut self, at: usize) -> Checked {
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
            term,
        };
        let outcome = self.try_apply(Command::Fact(hello), None)?;
        let (now, lease) = (self.now, self.state.settings.lease_ms());
        let Some(machine) = self.machines.get_mut(at) else { return Ok(()) };
        match outcome {
            Ok(()) => {
                machine.begin_session(session, now, lease);
                self.answered.insert(node, now);
                let inventory = machine.inventory();
                self.reports.push((node, session, inventory));
            }
            Err(Refusal::Fenced) => machine.must_reboot = true,
            Err(_) => {}
        }
        Ok(())
    }

    /// F3 left out: a hello of an earlier boot, long under way, is taken for a new life.
    fn believe_any_hello(&mut self, node: NodeId, session: u64) -> Checked {
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
            term,
        })?;
        self.fact(Fact::InventoryReported {
            node,
            incarnation,
            items: Vec::new(),
            highest_token: policy::Token(0),
        })
    }

    /// Fence agents do their work, or not.
    fn carry_out(&mut self) -> Checked {
        if self.attempts.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.attempts.len());
        let attempt = self.attempts.swap_remove(at);
        let able = self.machines.iter().any(|machine| {
            machine.id == attempt.executor
                && machine.heard()
                && machine.incarnation() == attempt.executor_incarnation
        });
        let case = self.state.cases.get(&attempt.case);
        // F24: just before the agent runs, its case and attempt are still under way.
        let under_way = case.is_some_and(|case| {
            case.attempts == attempt.number && matches!(case.phase, FencePhase::Running { .. })
        });
        if !able || !under_way {
            return Ok(());
        }
        let outcome = match self.rng.below(10) {
            _ if self.calm => FenceOutcome::Off,
            0..=5 => FenceOutcome::Off,
            6 | 7 => FenceOutcome::Failed("refused".into()),
            _ => FenceOutcome::TimedOut("no answer".into()),
        };
        match &outcome {
            FenceOutcome::Off if self.liar && self.rng.percent(60) && !self.calm => {
                self.note_lie(attempt.target)
            }
            FenceOutcome::Off => self.switch_off(attempt.target, "a fence"),
            FenceOutcome::TimedOut(_) if self.rng.percent(50) => {
                let by = self.now + self.rng.below(9_000) as u64;
                self.strikes.push((by, attempt.target));
            }
            FenceOutcome::Failed(_) | FenceOutcome::TimedOut(_) => {}
        }
        let (case, number) = (attempt.case, attempt.number);
        self.facts.push(Fact::FenceReported { case, attempt: number, outcome });
        if self.broken == Some(Mutation::ProofOfAnyLife) {
            // Its word is sent again much later.
            self.attempts.insert(0, attempt);
            self.facts.push(Fact::FenceReported { case, attempt: number, outcome: FenceOutcome::Off });
        }
        Ok(())
    }

    fn note_lie(&mut self, target: NodeId) {
        if self.machines.iter().any(|machine| machine.id == target && machine.power) {
            self.lied = true;
            self.story.push(format!("{} the device of {target} lies", self.now));
        }
    }

    fn switch_off(&mut self, node: NodeId, by: &str) {
        if let Some(machine) = self.machines.iter_mut().find(|machine| machine.id == node) {
            self.story.push(format!("{} {} loses power by {by}", self.now, machine.name));
            machine.power_off();
        }
    }

    fn fault(&mut self, at: usize) -> Checked {
        if self.rng.percent(8) {
            return self.elect();
        }
        let Some(machine) = self.machines.get_mut(at) else { return Ok(()) };
        let what = self.rng.below(10);
        self.story.push(format!("{} fault {what} at {}", self.now, machine.name));
        match what {
            0..=4 if !machine.power => machine.boot(),
            0..=4 if machine.frozen => machine.frozen = false,
            0..=4 if machine.cut => machine.cut = false,
            0 => machine.power_off(),
            1 | 2 if machine.power => {
                self.paused |= machine.rests_on_a_lease();
                machine.frozen = true;
            }
            3..=7 => machine.cut = !machine.cut,
            8 if machine.heard() && machine.connected => {
                let fact = machine.shut_down();
                self.reports.push((machine.id, machine.session, fact));
            }
            _ => machine.frozen = false,
        }
        Ok(())
    }

    fn operate(&mut self, at: usize) -> Checked {
        let units: Vec<UnitName> = self.definitions.keys().cloned().collect();
        let which = self.rng.below(units.len());
        let (Some(unit), Some(machine)) = (units.get(which).cloned(), self.machines.get_mut(at)) else {
            return Ok(());
        };
        let (node, by) = (machine.id, "o".to_string());
        let wish = match self.rng.below(16) {
            0..=3 => {
                let node = self.rng.percent(20).then_some(node);
                Wish::SetGoal { unit, wanted: Wanted::Started, node, seen: None, by }
            }
            4 => Wish::SetGoal { unit, wanted: Wanted::Stopped, node: None, seen: None, by },
            5..=7 => Wish::Move { unit, from: None, to: self.rng.percent(50).then_some(node), by },
            8 => Wish::SetDrained { node, drained: true, by },
            9..=11 => Wish::SetDrained { node, drained: false, by },
            12 => Wish::ResetFailed { unit, node: None },
            13 | 14 => {
                if machine.stop_by_hand(&unit) {
                    self.story.push(format!("{} {unit} stopped by hand on {}", self.now, machine.name));
                }
                return Ok(());
            }
            // The operator looks first, and is right.
            _ => {
                let life = self.state.nodes.get(&node).and_then(|node| node.life.as_ref());
                let shown = life.map(|life| life.incarnation.clone());
                match shown.filter(|shown| !machine.power || machine.incarnation() != *shown) {
                    Some(incarnation) => Wish::VouchFenced { node, incarnation, by },
                    None => return Ok(()),
                }
            }
        };
        // A client that got no answer sends its command again.
        let origin = Some(Origin { client: "cli".into(), number: self.index });
        if self.rng.percent(20) {
            self.apply(Command::Wish(wish.clone()), origin.clone())?;
        }
        self.apply(Command::Wish(wish), origin)
    }

    /// Files on a node change; everywhere at once now and then.
    fn rewrite(&mut self, at: usize) {
        let units: Vec<UnitName> = self.definitions.keys().cloned().collect();
        let which = self.rng.below(units.len());
        let Some(unit) = units.get(which) else { return };
        let Some(choices) = self.definitions.get(unit) else { return };
        let choice = self.rng.below(choices.len());
        let Some(definition) = choices.get(choice).cloned() else { return };
        let everywhere = self.rng.percent(60);
        let mut offer = offer(definition);
        offer.gated = everywhere || self.rng.percent(80);
        for (position, machine) in self.machines.iter_mut().enumerate() {
            if everywhere || position == at {
                machine.offers.insert(unit.clone(), offer.clone());
                if machine.connected {
                    self.reports.push((machine.id, machine.session, machine.observed(unit)));
                }
            }
        }
    }
}
