//! What can happen next, one thing at a time.

use policy::{FencePhase, Incarnation, Presence, Wanted};

use super::action::{Action, Twin};
use super::letter::{Outcome, node_id, unit_name};
use super::machine::Doing;
use super::rules::Rule;
use super::world::{Fault, NODES, UNITS, World};
use super::{Leader, Search};

impl World {
    pub(crate) fn actions(&self, search: &Search, actions: &mut Vec<Action>) {
        self.agents_act(actions);
        self.faults(actions);
        let commits =
            self.leads() || (search.broken == Some(Rule::Majority) && self.machines[self.leader].alive());
        if commits {
            for letter in &self.letters {
                actions.push(Action::Deliver { letter: *letter, again: false });
                if self.has(Fault::Again) {
                    actions.push(Action::Deliver { letter: *letter, again: true });
                }
            }
            self.leader_acts(search.broken, actions);
            match search.scene.leader {
                Leader::Planner => actions.push(Action::Lead),
                Leader::Any => self.accepted(search.broken, actions),
            }
            if self.has(Fault::Wish) {
                self.operator_asks(actions);
            }
        }
        if !self.machines.iter().any(super::machine::Machine::is_overdue) {
            actions.push(Action::Tick { slow: false });
            if self.has(Fault::Slow) {
                actions.push(Action::Tick { slow: true });
            }
            if self.has(Fault::Still) {
                let alone = (0..NODES).filter(|node| self.machines[*node].alive() && !self.serves(*node));
                actions.extend(alone.map(Action::TickWithout));
            }
        }
    }

    fn agents_act(&self, actions: &mut Vec<Action>) {
        for (node, machine) in self.machines.iter().enumerate() {
            if machine.alive() && machine.lease == 0 && !machine.ended {
                actions.push(Action::LeaseEnds(node));
            }
            for (unit, copy) in machine.copies.iter().enumerate().filter(|_| machine.power) {
                match copy.doing {
                    Doing::Running if self.has(Fault::Crash) && machine.alive() && copy.token > 0 => {
                        actions.extend([Action::Crashes(node, unit), Action::Fails(node, unit)]);
                    }
                    Doing::Down if machine.alive() => actions.push(Action::Restarts(node, unit)),
                    Doing::Stopping { .. } if machine.alive() => actions.push(Action::Stopped(node, unit)),
                    _ => {}
                }
            }
            for view in self.views.iter().filter(|view| view.node == node && machine.heard()) {
                actions.push(Action::LateView { view: *view, again: false });
                if self.has(Fault::Again) {
                    actions.push(Action::LateView { view: *view, again: true });
                }
            }
            if !self.talks(node) {
                continue;
            }
            if machine.connected {
                actions.push(Action::Tell(node));
                if self.has(Fault::Late) {
                    actions.push(Action::DelayView(node));
                }
            } else if !machine.must_reboot {
                actions.push(Action::Hello(node));
                if self.has(Fault::Late) {
                    actions.push(Action::LateHello(node));
                }
            }
        }
    }

    fn faults(&self, actions: &mut Vec<Action>) {
        for (node, machine) in self.machines.iter().enumerate() {
            let may = |fault: Fault| self.has(fault);
            if machine.cut {
                actions.push(Action::Heal(node));
            } else if may(Fault::Cut) && machine.power {
                actions.push(Action::Cut(node));
            }
            if machine.power && may(Fault::Power) {
                actions.push(Action::PowerOff(node));
            }
            if (!machine.power || machine.must_reboot) && may(Fault::Boot) {
                actions.push(Action::Boot(node));
            }
            if machine.hung {
                actions.push(Action::Wake(node));
                if machine.watchdog > 0 && may(Fault::Close) {
                    actions.push(Action::Close(node));
                }
            } else if machine.power && may(Fault::Hang) {
                actions.push(Action::Hang(node));
            }
            if machine.alive() && machine.connected && may(Fault::Drop) {
                actions.push(Action::Drop(node));
            }
            if machine.alive() && may(Fault::Restart) {
                actions.push(Action::Restart(node));
            }
            // A clone of a machine that is lost cannot be told from its next life: that is an operator's to prevent.
            let heard = self.present(node).is_some_and(|(life, _)| life.presence == Presence::InSession);
            if may(Fault::Twin) && self.leads() {
                let ghost = self.known_life(node).is_some_and(|life| life.boots > 1);
                actions.extend(heard.then_some(Action::Twin(node, Twin::Clone)));
                actions.push(Action::Twin(node, Twin::Stranger));
                actions.extend(ghost.then_some(Action::Twin(node, Twin::Ghost)));
            }
            let reached = self.machines.iter().filter(|machine| machine.heard()).count() > NODES / 2;
            if may(Fault::Elect) && machine.heard() && reached && node != self.leader {
                actions.push(Action::Elect { node, jump: false });
                if may(Fault::Jump) {
                    actions.push(Action::Elect { node, jump: true });
                }
            }
            if self.strikes[node] {
                actions.push(Action::Strike(node));
            }
        }
        self.fence_agents(actions);
        self.opening_agents(actions);
    }

    fn opening_agents(&self, actions: &mut Vec<Action>) {
        for node in 0..NODES {
            if self.opens_late[node] > 0 {
                actions.push(Action::OpenLate(node));
            }
            let Some(debt) = self.owed(node).filter(|debt| debt.since != self.opened[node]) else { continue };
            let Some(opening) = &debt.opening else { continue };
            let able = self.machines.iter().any(|machine| {
                let own: Incarnation = machine.life().incarnation();
                node_id(machine.node) == opening.executor
                    && machine.heard()
                    && own == opening.executor_incarnation
            });
            // F24: as for a fence.
            if !able || !self.leads() {
                continue;
            }
            actions.push(Action::Open(node, Outcome::Off));
            if self.has(Fault::Fence) {
                actions.push(Action::Open(node, Outcome::TimedOut));
            }
        }
    }

    fn fence_agents(&self, actions: &mut Vec<Action>) {
        for (id, case) in &self.state().cases {
            let FencePhase::Running { executor, executor_incarnation, .. } = &case.phase else { continue };
            let able = self.machines.iter().any(|machine| {
                let own: Incarnation = machine.life().incarnation();
                node_id(machine.node) == *executor && machine.heard() && own == *executor_incarnation
            });
            // F24: just before the agent runs, the leader confirms that its attempt is under way.
            if !able || !self.leads() || self.done.contains(&(id.0, case.attempts)) {
                continue;
            }
            let target = case.node.0 as usize - 1;
            actions.push(Action::Fence(target, Outcome::Off));
            if self.has(Fault::Fence) {
                actions.push(Action::Fence(target, Outcome::Failed));
                actions.push(Action::Fence(target, Outcome::TimedOut));
            }
        }
    }

    fn leader_acts(&self, broken: Option<Rule>, actions: &mut Vec<Action>) {
        for (node, machine) in self.machines.iter().enumerate() {
            let Some((life, known)) = self.present(node) else { continue };
            // The leader waits for longer than the lease: whoever obeys its lease has acted on its end.
            let disobeys = machine.behind || broken == Some(Rule::LeaseKept);
            let obeyed = known != machine.life() || !machine.alive() || machine.ended || disobeys;
            let silent = self.answered[node] > 0 && obeyed && !self.serves(node);
            if silent && !matches!(life.presence, Presence::Lost { .. }) && !self.dismissed[node] {
                actions.push(Action::Lose(node));
                if self.has(Fault::Late) {
                    actions.push(Action::LateLoss(node));
                }
            }
            let unseen =
                |device: &String| !self.state().observations.contains_key(&(device.clone(), node_id(node)));
            let unseen = self.state().devices.keys().any(unseen);
            let other = (0..NODES).any(|other| other != node && self.serves(other));
            if life.presence == Presence::InSession && unseen && other {
                actions.push(Action::Observe(node));
            }
        }
    }

    fn operator_asks(&self, actions: &mut Vec<Action>) {
        for (unit, name) in (0..UNITS.len()).map(|unit| (unit, unit_name(unit))) {
            let Some(known) = self.state().units.get(&name) else { continue };
            let started = known.goal.wanted == Wanted::Started;
            actions.push(Action::SetGoal(unit, !started));
            if started && !known.permits.is_empty() {
                actions.push(Action::Move(unit));
            }
            for (node, machine) in self.machines.iter().enumerate() {
                let copy = machine.copies[unit];
                if machine.alive() && copy.doing == Doing::Running && copy.token > 0 {
                    actions.push(Action::StopByHand(node, unit));
                }
            }
        }
        for (node, machine) in self.machines.iter().enumerate() {
            // The operator looks first, and is right.
            let ended = self.known_life(node).is_some_and(|life| !machine.power || life != machine.life());
            if ended {
                actions.push(Action::Vouch(node));
            }
        }
    }
}
