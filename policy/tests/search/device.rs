//! What the fence device does, and what is reported of it.

use policy::{Command, Fact, Power};

use super::foundation::SECOND;
use super::letter::{Letter, Outcome, node_id};
use super::world::{Fault, World};
use super::{Scene, Search};

impl World {
    pub(super) fn observe(&mut self, search: &Search, node: usize) {
        let Some(life) = self.known_life(node) else { return };
        let machine = &self.machines[node];
        let shown = if search.scene.isolates { !machine.shut } else { machine.power };
        let devices: Vec<String> = self.state().devices.keys().cloned().collect();
        for device in devices {
            // Of two feeds it is the second one whose plug is wired to nothing.
            let wrong = search.scene.wrong_plug == Some(node) && (!search.scene.feeds || device == SECOND);
            let on = shown && !wrong;
            let fact = Fact::PowerObserved {
                configured: self.state().configured,
                node: node_id(node),
                incarnation: life.incarnation(),
                device,
                power: if on { Power::On } else { Power::Off },
                by: None,
            };
            let _ = self.commit(search.broken, Command::Fact(fact));
        }
    }

    pub(super) fn fence(&mut self, scene: &Scene, node: usize, outcome: Outcome) {
        let Some((id, case)) = self.state().open_case(node_id(node)) else { return };
        let (case, attempt) = (id.0, case.attempts);
        self.done.retain(|(known, _)| self.held.state.cases.contains_key(&policy::CaseId(*known)));
        self.done.push((case, attempt));
        match outcome {
            Outcome::Off if scene.wrong_plug == Some(node) => {}
            Outcome::Off => self.end_by_device(scene, node),
            Outcome::Failed => self.spend(Fault::Fence),
            Outcome::TimedOut => {
                self.spend(Fault::Fence);
                self.strikes[node] = true;
            }
        }
        self.post(Letter::Fenced { case, attempt, outcome });
    }

    pub(super) fn end_by_device(&mut self, scene: &Scene, node: usize) {
        if scene.isolates {
            self.machines[node].shut = true;
        } else {
            self.machines[node].power_off();
        }
    }

    pub(super) fn open(&mut self, node: usize, outcome: Outcome) {
        let debt = self.state().switched_off.get(&("pdu".to_string(), node_id(node)));
        let Some(since) = debt.map(|debt| debt.since) else { return };
        self.opened[node] = since;
        let on = outcome == Outcome::Off;
        if on {
            self.machines[node].shut = false;
        } else {
            self.spend(Fault::Fence);
            self.opens_late[node] = super::letter::QUARANTINE_TICKS;
        }
        self.post(Letter::Opened { node, since, on });
    }
}
