//! Whether what needs another unit starts after it and stops before it, by what the machines show.
//!
//! A grant rests on the last word on a copy of what it needs. That word must be of a copy that was really up, and no later
//! one may say that it is gone. For how long an old word may count is not judged: while its node is silent nobody knows more.

use std::collections::BTreeMap;

use policy::{Definition, Token, UnitName};

use crate::ledger::Granted;
use crate::machine::{Doing, Machine};
use crate::shell::lock;
use crate::world::World;

/// When the units that others need were up.
#[derive(Default)]
pub(crate) struct Order {
    /// Of each such unit, under which permits, and since when.
    ups: BTreeMap<UnitName, BTreeMap<Token, u64>>,
}

impl Order {
    /// Of the units that others need.
    pub(crate) fn of(units: &BTreeMap<UnitName, Definition>) -> Self {
        let needed = units.values().flat_map(Definition::needs).cloned();
        Self { ups: needed.map(|name| (name, BTreeMap::new())).collect() }
    }
}

/// The permit that a unit runs under, wherever its file lies.
fn permit_of(machine: &Machine, name: &UnitName) -> Option<Token> {
    let places = [&machine.permits, &machine.spent, &machine.releasing];
    places.into_iter().find_map(|place| place.get(name)).map(|permit| permit.token)
}

impl World {
    /// Takes note of what is up now.
    pub(crate) fn note_order(&mut self) {
        let now = self.now;
        for (name, ups) in &mut self.order.ups {
            for site in &self.sites {
                let machine = lock(&site.machine);
                let up = machine.units.get(name).is_some_and(|unit| unit.doing == Doing::Up);
                if let Some(token) = permit_of(&machine, name).filter(|_| up && machine.powered) {
                    ups.entry(token).or_insert(now);
                }
            }
        }
    }

    /// What a unit needs and did not have when it was granted.
    pub(crate) fn needs_more(&self, definition: &Definition, granted: &Granted) -> Option<String> {
        definition.needs().find_map(|needed| {
            let Some(token) = self.ledger.lock().runs_under(needed, granted.index) else {
                return Some(format!("by the log no copy of {needed} runs"));
            };
            // A copy that was taken over ran before its permit.
            let adopted = self.ledger.lock().is_adopted(token);
            let up = self.order.ups.get(needed).and_then(|ups| ups.get(&token));
            let was_up = adopted || up.is_some_and(|since| *since <= granted.at);
            (!was_up).then(|| format!("{needed} was not up by then under {token:?}, as its node had said"))
        })
    }

    /// Whether something runs without what it needs: in an orderly drain each stops before that does.
    pub(crate) fn out_of_order(&self) -> Option<String> {
        let alive = |name: &UnitName, up: bool| {
            self.sites.iter().any(|site| {
                let machine = lock(&site.machine);
                let unit = machine.units.get(name).filter(|_| machine.powered);
                unit.is_some_and(|unit| unit.alive && (!up || unit.doing == Doing::Up))
            })
        };
        self.units.iter().filter(|(name, _)| alive(name, false)).find_map(|(name, definition)| {
            let needed = definition.needs().find(|needed| !alive(needed, true))?;
            Some(format!("S4: {needed} stops in a drain while {name} runs"))
        })
    }
}
