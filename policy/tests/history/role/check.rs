//! What must hold of a role, judged by the data on the machines.

use policy::{NodeId, Reason, State, Wanted, plan};

use super::super::check::{Checked, Violation, converges};
use super::super::machine::Machine;
use super::{Data, Database, Disk, World, role};

fn broken(rule: &'static str, what: String) -> Checked {
    Err(Violation { rule, what })
}

impl World {
    /// Whoever takes over has everything that a client was told.
    pub(super) fn lacks_nothing(
        &self,
        database: &Database,
        machine: &Machine,
        own: Option<&Data>,
    ) -> Checked {
        if self.lied || self.paused {
            return Ok(());
        }
        let Some(own) = own else {
            return broken("P83 writes lost", format!("{} takes over with {:?}", machine.name, machine.disk));
        };
        let lacks: Vec<&u64> = database.told.difference(&own.writes).collect();
        if lacks.is_empty() {
            return Ok(());
        }
        broken("P83 writes lost", format!("{} takes over without {lacks:?}", machine.name))
    }

    /// Before any word is given: somebody holds the role, or the reasons name one that is gone, or its data is.
    pub(super) fn is_held_or_says_why(&self, dead: Option<usize>) -> Checked {
        let reasons = reasons(&self.state, self.now);
        let word = |reason: &Reason| match reason {
            Reason::Rank { node, .. } | Reason::Unproven(node) | Reason::Unheard(node) => {
                self.has_no_data(*node, dead)
            }
            Reason::Held(_) | Reason::FirstFormation | Reason::NoRank(_) => true,
            _ => false,
        };
        if self.is_held() || reasons.iter().any(word) {
            return Ok(());
        }
        let unit = self.state.units.get(&role());
        broken("L2 why", format!("{} waits for nobody's word: {reasons:?}\n{unit:#?}", role()))
    }

    pub(super) fn is_held(&self) -> bool {
        let stopped = self.state.units.get(&role()).is_some_and(|unit| unit.goal.wanted == Wanted::Stopped);
        stopped || self.state.known_active(&role()).next().is_some()
    }

    /// A machine is gone for good, or its data is.
    pub(super) fn has_no_data(&self, node: NodeId, dead: Option<usize>) -> bool {
        let machine = self.machines.iter().enumerate().find(|(_, machine)| machine.id == node);
        machine.is_some_and(|(at, machine)| Some(at) == dead || !matches!(machine.disk, Disk::Data(_)))
    }

    /// In the end, with the words that the reasons asked for, somebody holds it.
    pub(crate) fn role_converges(&self, dead: Option<usize>) -> Checked {
        let mut living = self.machines.iter().filter(|machine| !self.has_no_data(machine.id, dead));
        if living.next().is_none() {
            return Ok(());
        }
        if self.is_held() {
            return converges(self);
        }
        let reasons = reasons(&self.state, self.now);
        let copies = plan(&self.state, self.now).reasons.remove(&super::copy());
        broken("L1 converge", format!("{reasons:?} {copies:?}\n{:#?}", self.state.units.get(&role())))
    }
}

pub(super) fn reasons(state: &State, now: u64) -> Vec<Reason> {
    plan(state, now).reasons.get(&role()).cloned().unwrap_or_default()
}
