//! What goes wrong, and what people do.

use policy::{Command, Origin, UnitName, Wanted, Wish};

use super::definitions::offer;
use super::{Checked, World};

impl World {
    pub(super) fn fault(&mut self, at: usize) -> Checked {
        if self.rng.percent(8) {
            return self.elect();
        }
        if self.service.is_some() && self.rng.percent(45) {
            if self.rng.percent(30) {
                self.site_failure();
                return Ok(());
            }
            return self.harm_service(at);
        }
        if self.fabric.is_some() && self.rng.percent(40) && self.silence_a_holder() {
            return Ok(());
        }
        if self.database.is_some() && self.rng.percent(60) {
            if self.rng.percent(20) {
                self.site_failure();
                return Ok(());
            }
            return self.harm_database(at);
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

    pub(super) fn operate(&mut self, at: usize) -> Checked {
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
            8 => {
                let node = (!self.rng.percent(20)).then_some(node);
                Wish::SetDrained { node, drained: true, by }
            }
            // Of the whole cluster whenever it is drained: nothing else would happen any more.
            9..=11 => {
                let node = self.state.drained.is_none().then_some(node);
                Wish::SetDrained { node, drained: false, by }
            }
            12 if self.upkeep.percent(50) => Wish::ForgiveNode { node, by },
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
    pub(super) fn rewrite(&mut self, at: usize) {
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
