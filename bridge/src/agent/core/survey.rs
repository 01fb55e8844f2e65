//! Tells the cluster what this node knows of its units: the inventory at the begin of a session, then what changes, and
//! that a unit which the cluster just heard of was looked for here (F11, F12).
//!
//! Decides when the word is complete. A unit that is told of by name may run here as an ordinary service, without any
//! section: it is told before the survey is, and nothing starts it elsewhere meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use policy::{Fact, InventoryItem, Rest, Token, UnitName};
use units::gate::GateFault;
use units::systemd::Reading;

use super::{Agent, Kept, Reload};
use crate::agent::decide::Run;
use crate::agent::event::{Action, Now};
use crate::agent::offer;
use crate::agent::unit::Unit;

impl Agent {
    /// The whole inventory opens a session; then only what has changed is told, unit by unit.
    pub(super) fn tell_inventory(&mut self, changed: &BTreeSet<UnitName>, now: &Now) {
        if self.session.is_none() || !self.discovered {
            return;
        }
        if self.inventory_told {
            self.note_namesakes(changed.iter());
            for name in changed {
                let news = self.units.get_mut(name).and_then(|unit| news(name, unit));
                if let Some(item) = news {
                    self.observe(item);
                }
            }
            self.tell_survey();
            return;
        }
        let ready = self.units.values().all(|unit| unit.run != Run::Unknown);
        if !self.connected || !ready {
            return;
        }
        self.inventory_told = true;
        let all: Vec<UnitName> = self.units.keys().cloned().collect();
        self.note_namesakes(all.iter());
        let (mut items, mut rests) = (Vec::new(), BTreeMap::new());
        for (name, unit) in &mut self.units {
            let item = unit.item(name);
            if says_something(&item) {
                items.push(item.clone());
            }
            unit.told = Some(item);
            let rest = unit.held.as_ref().zip(unit.run.rest()).map(|(held, rest)| (held.token, rest));
            rests.extend(rest);
            unit.rest_told = rest.map(|(token, rest)| (token, Some(rest), now.boot_ms));
        }
        let held = self.units.values().filter_map(|unit| unit.held.as_ref().map(|held| held.token)).max();
        self.outbox.push_first(Fact::InventoryReported {
            node: self.node,
            incarnation: self.incarnation.clone(),
            items,
            rests,
            highest_token: self.floors.highest().max(held.unwrap_or(Token(0))),
        });
        self.tell_survey();
    }

    /// Looks whether two units of the cluster are one unit here: renamed since, or called otherwise on other nodes. Each
    /// would be exclusive for itself, and the one service run twice (F12).
    fn note_namesakes<'a>(&mut self, names: impl Iterator<Item = &'a UnitName>) {
        for name in names {
            let reading = self.units.get(name).and_then(|unit| unit.reading.as_ref());
            let others = reading.into_iter().flat_map(|reading| &reading.names);
            // Before the cluster speaks, what it said before counts.
            let known = |other: &UnitName| self.view.as_ref().is_none_or(|view| view.known.contains(other));
            let namesake = others
                .map(|other| UnitName(other.clone()))
                .find(|other| other != name && self.units.contains_key(other) && known(other));
            if let Some(unit) = self.units.get_mut(name) {
                unit.namesake = namesake;
            }
        }
    }

    /// Whether PID 1 knows it by another name, by which it is a unit of the cluster: a stop of it would be a stop of
    /// that one, which has permits of its own.
    pub(in crate::agent) fn is_other_name(&self, name: &UnitName) -> bool {
        let reading = self.units.get(name).and_then(|unit| unit.reading.as_ref());
        let real = reading.map(|reading| UnitName(reading.id.clone())).filter(|real| real != name);
        real.is_some_and(|real| self.units.get(&real).is_some_and(|unit| unit.found.is_some()))
    }

    /// Reports one line of the inventory.
    pub(in crate::agent) fn observe(&mut self, item: InventoryItem) {
        self.outbox.push(Fact::UnitObserved { node: self.node, incarnation: self.incarnation.clone(), item });
    }

    /// Says that every unit of the cluster was looked for here: those that run were told, and all are gated.
    fn tell_survey(&mut self) {
        let due = self.view.as_ref().map_or(0, |view| view.survey);
        // A gate that a reboot would lose is no gate: the list has to be on disk.
        if due <= self.surveyed || self.reload != Reload::Idle || self.kept != Kept::Yes {
            return;
        }
        if let Some((unit, _)) = self.units.iter().find(|(_, unit)| !is_surveyed(unit)) {
            tracing::trace!(%unit, "the survey waits");
            return;
        }
        self.surveyed = due;
        let (node, incarnation) = (self.node, self.incarnation.clone());
        self.outbox.push(Fact::Surveyed { node, incarnation, index: due });
    }

    /// Opens the gates of those of these units that the cluster has forgotten and that nothing here speaks of any more
    /// (F12).
    pub(super) fn drop_forgotten(&mut self, changed: &BTreeSet<UnitName>) {
        let Some(view) = self.view.as_ref().filter(|_| self.discovered && self.inventory_told) else {
            return;
        };
        let is_over = |unit: &Unit| unit.found.is_none() && unit.is_idle() && unit.run == Run::Down;
        let forgotten: Vec<UnitName> = changed
            .iter()
            .filter(|name| !view.known.contains(*name) && self.units.get(*name).is_some_and(is_over))
            .cloned()
            .collect();
        if forgotten.is_empty() {
            return;
        }
        for name in forgotten {
            tracing::info!(unit = %name, "forgotten by the cluster: its gate is taken away");
            self.units.remove(&name);
            self.gated.units.remove(name.as_str());
            self.gated.members.retain(|_, owner| owner != name.as_str());
            self.actions.push(Action::Unmend { unit: name });
        }
        self.keep_gated();
        self.want_reload();
    }
}

/// Whether an inventory without this line would say the same.
fn says_something(item: &InventoryItem) -> bool {
    item.offer.is_some() || item.running
}

/// What the cluster does not know of a unit: its files, or that it runs (or not) without a permit or in maintenance.
fn news(name: &UnitName, unit: &mut Unit) -> Option<InventoryItem> {
    if unit.run == Run::Unknown {
        return None;
    }
    let item = unit.item(name);
    let told = unit.told.as_ref();
    let files = told.map_or(item.offer.is_some(), |told| told.offer != item.offer);
    let maintained = unit.held.as_ref().is_some_and(|held| held.hands_off) && unit.release.is_none();
    // The first half of a restart is no end of it.
    let returns = !item.running && unit.reading.as_ref().is_some_and(|reading| reading.job.is_some());
    let tells = unit.is_idle() || (maintained && !returns);
    let runs = tells && told.map_or(item.running, |told| told.running != item.running);
    if !files && !runs {
        // That it is neither here nor running is said by the survey. That it runs is not: what is being looked at once more is
        // told after that, and until then the survey waits (F11).
        if !item.running {
            unit.told.get_or_insert(item);
        }
        return None;
    }
    if !item.running {
        // Down says more than not up; in maintenance it is nobody's business.
        let held = unit.held.as_ref().filter(|_| !maintained);
        unit.rest_told = held.map(|held| (held.token, Some(Rest::Down), 0));
    }
    unit.told = Some(item.clone());
    Some(item)
}

/// Whether the cluster knows if this unit runs here, and nobody can start it here behind the cluster's back.
fn is_surveyed(unit: &Unit) -> bool {
    // Whatever happens to it now, the cluster takes it for running.
    if unit.held.is_some() || unit.told.as_ref().is_some_and(|told| told.running) {
        return true;
    }
    let open = |reading: &Reading| offer::gate_faults(reading).iter().any(GateFault::opens);
    unit.told.is_some()
        && unit.is_idle()
        && !unit.stale
        && unit.run == Run::Down
        && unit.reading.as_ref().is_some_and(|reading| !open(reading))
}
