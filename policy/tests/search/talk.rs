//! What agents and the leader say to each other.

use policy::{Command, Fact, Fencing, Refusal};

use super::Search;
use super::check::Breach;
use super::letter::{Letter, node_id, unit_name};
use super::machine::Doing;
use super::rules::Rule;
use super::world::{UNITS, World};

impl World {
    /// A nonce of this leader was echoed in its term (F3).
    pub(super) fn hello(&mut self, search: &Search, node: usize) {
        let broken = search.broken;
        let life = self.machines[node].life();
        let known = self.state().nodes.get(&node_id(node)).and_then(|node| node.life.as_ref());
        let gone = known.is_some_and(|known| known.gone.is_some() && known.incarnation == life.incarnation());
        if gone {
            let fact = Fact::ProofContradicted {
                node: node_id(node),
                incarnation: life.incarnation(),
                term: self.term(),
            };
            let _ = self.commit(broken, Command::Fact(fact));
        }
        self.session += 1;
        let session = self.session;
        let letter = Letter::Heard { life, session, term: self.term() };
        let Some(command) = letter.command() else { return };
        match self.commit(broken, command) {
            Ok(()) => {
                let inventory = self.machines[node].begin_session(session);
                if search.scene.fencing == Fencing::Watchdog {
                    let armed = self.machines[node].arm();
                    self.post(armed);
                }
                self.answered[node] = 0;
                self.dismissed[node] = false;
                self.post(inventory);
            }
            Err(Refusal::Fenced | Refusal::Isolated) => self.machines[node].must_reboot = true,
            Err(_) => {}
        }
    }

    pub(super) fn show(&mut self, view: super::view::View, broken: Option<Rule>) {
        let before = self.machines[view.node].clone();
        let said = self.machines[view.node].take_view(&view, broken);
        let after = &self.machines[view.node];
        let begun = |unit: usize| {
            after.copies[unit].doing != before.copies[unit].doing
                && after.copies[unit].doing == Doing::Running
        };
        if before.ended && (0..UNITS.len()).any(begun) {
            self.breach = self.breach.or(Some(Breach::Leaseless));
        }
        said.into_iter().for_each(|letter| self.post(letter));
    }

    pub(super) fn say_owed(&mut self, node: usize) {
        let owed = self.machines[node].owes();
        owed.into_iter().for_each(|letter| self.post(letter));
    }

    pub(super) fn deliver(&mut self, search: &Search, letter: Letter) {
        let broken = search.broken;
        let current = |life: super::letter::Life, session: u64| {
            let known = self.state().nodes.get(&node_id(life.node)).and_then(|node| node.life.as_ref());
            known.is_some_and(|known| known.session == session)
        };
        match letter {
            // What runs on a node is told in the order of its session.
            Letter::Inventory { life, session, running } if current(life, session) => {
                let known = |unit: &usize| {
                    let copy = self.machines[life.node].copies[*unit];
                    copy.offered || copy.gated
                };
                let units = (0..UNITS.len()).filter(known);
                let items =
                    units.map(|unit| self.item(search.scene, life.node, unit, running[unit])).collect();
                let fact = Fact::InventoryReported {
                    node: node_id(life.node),
                    incarnation: life.incarnation(),
                    items,
                    rests: std::collections::BTreeMap::new(),
                    highest_token: policy::Token(0),
                };
                let _ = self.commit(broken, Command::Fact(fact));
            }
            Letter::Surveyed { life, session, index, running } if current(life, session) => {
                let node = node_id(life.node);
                let known = self.state().nodes.get(&node).and_then(|node| node.life.as_ref());
                let strays = known.map(|life| life.strays.clone()).unwrap_or_default();
                for unit in
                    (0..UNITS.len()).filter(|unit| running[*unit] || strays.contains(&unit_name(*unit)))
                {
                    let item = self.item(search.scene, life.node, unit, running[unit]);
                    let fact = Fact::UnitObserved { node, incarnation: life.incarnation(), item };
                    let _ = self.commit(broken, Command::Fact(fact));
                }
                let fact = Fact::Surveyed { node, incarnation: life.incarnation(), index };
                let _ = self.commit(broken, Command::Fact(fact));
            }
            Letter::Inventory { .. } | Letter::Surveyed { .. } => {}
            other => {
                let command = other.command();
                command.into_iter().for_each(|command| drop(self.commit(broken, command)));
            }
        }
    }
}
