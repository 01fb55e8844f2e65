//! New terms of a permit: written first, acknowledged when they are in place (F13).

use policy::{Fact, Terms, Token, UnitName};

use crate::agent::core::Agent;
use crate::agent::event::Action;

impl Agent {
    pub(super) fn take_terms(&mut self, name: &UnitName, token: Token, terms: Terms) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let Some(held) = unit.held.as_mut() else { return };
        let revision = terms.revision;
        if held.terms != terms {
            held.terms = terms;
            let permit = held.clone();
            unit.filing = Some((token, revision));
            self.actions.push(Action::File { unit: name.clone(), permit });
        } else if unit.filing.is_none() && !self.outbox.acknowledges(name, token, revision) {
            // Also of terms that the file has already: a daemon may have died before it could say so.
            self.acknowledge(name, token, revision);
        }
    }

    fn acknowledge(&mut self, name: &UnitName, token: Token, revision: u64) {
        let node = self.node;
        self.outbox.push(Fact::TermsAcknowledged { node, unit: name.clone(), token, revision });
    }

    /// The file is in place. Only now are its terms acknowledged: it may have been refused, for want of a watchdog (F13, F17).
    pub(in crate::agent) fn filed(&mut self, name: &UnitName, token: Token, revision: u64) {
        let Some(unit) = self.units.get_mut(name) else { return };
        if unit.filing.take_if(|filing| *filing == (token, revision)).is_some() && unit.filed {
            self.acknowledge(name, token, revision);
        }
    }

    pub(in crate::agent) fn not_filed(&mut self, name: &UnitName, why: &str) {
        tracing::error!(unit = %name, why, "a permit file was not written");
        if let Some(unit) = self.units.get_mut(name) {
            (unit.filed, unit.filing) = (false, None);
        }
    }
}
