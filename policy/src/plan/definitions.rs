//! Which definition is in force (F13).

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::command::Decision;
use crate::definition::Definition;
use crate::name::UnitName;

use super::{Planner, Reason};

impl<'a> Planner<'a> {
    /// Adopts what most offering nodes hold. On a tie the adopted one stays.
    pub(super) fn definitions(&mut self) {
        for (name, unit) in self.index.units() {
            if unit.adopted.is_some() && self.offers(name).all(|offered| offered.agrees) {
                continue;
            }
            let offers = self.offers(name).filter_map(|offered| offered.offer.definition.as_ref());
            let mut counts: Vec<(usize, &Definition)> = Vec::new();
            for definition in offers {
                match counts.iter_mut().find(|(_, counted)| *counted == definition) {
                    Some((count, _)) => *count = count.saturating_add(1),
                    None => counts.push((1, definition)),
                }
            }
            let most = counts.iter().map(|(count, _)| *count).max().unwrap_or(0);
            let mut leaders =
                counts.iter().filter(|(count, _)| *count == most).map(|(_, definition)| *definition);
            let (first, tie) = (leaders.next(), leaders.next().is_some());
            match (unit.definition(), first) {
                (Some(current), Some(first)) if !tie && current != first => self.change(name, first),
                (None, Some(first)) if !tie => self.change(name, first),
                (None, _) => self.because(name, Reason::NoDefinition),
                _ => {}
            }
            self.settle(name);
        }
    }

    fn change(&mut self, name: &UnitName, to: &Definition) {
        // Whether it may rests on all other definitions.
        self.restless = true;
        let offers = self.offers(name).map(|offered| (offered.host.node, offered.offer));
        match self.state.may_adopt(name, to, offers, &self.changing) {
            Ok(()) => {
                self.entangled = true;
                self.changing.insert(name.clone(), to.clone());
                let decision = Decision::AdoptDefinition { unit: name.clone(), definition: to.clone() };
                self.plan.decisions.push(decision);
            }
            Err(refusal) => self.because(name, Reason::NotAdopted(refusal.to_string())),
        }
    }

    /// Takes back what was weighed with a definition that this plan changes, and would be refused under the new one: the entry
    /// that changes it comes first, and with it the next plan.
    pub(super) fn leave_to_the_next_plan(&mut self) {
        if self.changing.is_empty() {
            return;
        }
        let mut decisions = core::mem::take(&mut self.plan.decisions);
        decisions.retain(|decision| match decision {
            Decision::Grant { unit, node, .. } => !self.changing.iter().any(|(other, to)| {
                let there = self.index.running(other).iter().any(|(id, _)| id == node);
                there || to.conflicts.contains(unit)
            }),
            // What comes to need it stops first.
            Decision::Revoke { unit, .. } => !self.changing.values().any(|to| to.needs_unit(unit)),
            // Another fencing, and no time may end it.
            Decision::Expire { unit, .. } => !self.changing.contains_key(unit),
            _ => true,
        });
        self.plan.decisions = decisions;
    }
}
