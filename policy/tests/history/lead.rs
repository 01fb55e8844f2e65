//! What the leader does: it calls silent nodes lost, carries out what it plans, and has nodes fenced.

use policy::{
    CaseId, Class, Command, Decision, Fact, FenceCase, FenceOutcome, FencePhase, NodeId, Power, Presence,
    State, plan,
};

use super::{Attempt, Checked, Mutation, World, fabric};

impl World {
    /// The leader calls silent nodes lost, and proposes what it plans; or dies half way.
    pub(super) fn lead(&mut self) -> Checked {
        self.find_lost()?;
        let planned = plan(&self.state, self.now + self.skew);
        for look in &planned.observe {
            let executor = self.machines.iter().any(|machine| machine.id == look.executor && machine.heard());
            let target = self.machines.iter().find(|machine| machine.id == look.node);
            if let (true, Some(target)) = (executor, target) {
                let on = if look.device == fabric::PORT { target.open } else { target.power };
                let power = if on { Power::On } else { Power::Off };
                let (node, incarnation, device) = (look.node, look.incarnation.clone(), look.device.clone());
                let (configured, by) = (self.state.configured, Some(look.executor));
                let fact = Fact::PowerObserved { node, incarnation, device, configured, power, by };
                if !self.facts.contains(&fact) {
                    self.facts.push(fact);
                }
            }
        }
        for on in &planned.switch_on {
            if on.device == fabric::PORT {
                self.order_opening(on);
                continue;
            }
            let fact = Fact::SwitchedOn {
                node: on.node,
                device: on.device.clone(),
                since: on.since,
                power: if self.calm || on.failures > 0 {
                    Power::On
                } else {
                    Power::Unknown("no answer".into())
                },
            };
            if !self.facts.contains(&fact) {
                self.facts.push(fact);
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
            let outcome = self.try_apply(Command::Decision(decision.clone()), None)?;
            if outcome.is_ok() {
                self.adopt_behind_port(&decision);
            }
            if let (Ok(()), Some(attempt)) = (outcome, begun) {
                self.attempts.push(attempt);
            }
        }
        Ok(())
    }

    pub(super) fn find_lost(&mut self) -> Checked {
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

    /// Fence agents do their work, or not.
    pub(super) fn carry_out(&mut self) -> Checked {
        self.open_ports()?;
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
            6 => FenceOutcome::Failed("refused".into()),
            7 => FenceOutcome::Unable("no agent".into()),
            _ => FenceOutcome::TimedOut("no answer".into()),
        };
        let cuts = case.is_some_and(|case| self.state.level_isolates(case.node, case.level));
        match &outcome {
            FenceOutcome::Off if cuts => self.cut_off(attempt.target),
            FenceOutcome::TimedOut(_) if cuts => {
                let by = self.now + self.rng.below(9_000) as u64;
                self.cut_late(attempt.target, by);
            }
            FenceOutcome::Off if self.liar && self.rng.percent(60) && !self.calm => {
                self.note_lie(attempt.target)
            }
            FenceOutcome::Off => self.switch_off(attempt.target, "a fence"),
            FenceOutcome::TimedOut(_) | FenceOutcome::Failed(_) if self.rng.percent(50) => {
                let by = self.now + self.rng.below(9_000) as u64;
                self.strikes.push((by, attempt.target));
            }
            _ => {}
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
            self.story.push(format!("{} the device of {target} lies", self.now));
        }
    }

    /// Nothing is promised of what rests on a lie that was believed. One about a node that is heard is not to be (P93).
    pub(super) fn note_belief(&mut self, before: &State) {
        let off = |case: &FenceCase| matches!(case.phase, FencePhase::Proven { class: Class::Off, .. });
        let new = |(id, case): &(&CaseId, &FenceCase)| off(case) && !before.cases.get(id).is_some_and(off);
        self.lied |= self.state.cases.iter().filter(new).any(|(_, case)| {
            self.machines.iter().any(|machine| {
                machine.id == case.node && machine.power && machine.incarnation() == case.incarnation
            })
        });
    }

    pub(super) fn switch_off(&mut self, node: NodeId, by: &str) {
        if let Some(machine) = self.machines.iter_mut().find(|machine| machine.id == node) {
            self.story.push(format!("{} {} loses power by {by}", self.now, machine.name));
            machine.power_off();
        }
    }
}
