//! Definitions read from their other end: who names a unit.
//!
//! Follows from the definitions in force and from nothing else. Kept, because a revocation and a grant ask for it, and may
//! not look over all units for the answer.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::definition::Definition;
use crate::name::UnitName;
use crate::state::State;
use crate::unit::Unit;

/// For each unit, known or not, those that name it.
pub(crate) type Naming = BTreeMap<UnitName, BTreeSet<UnitName>>;

impl State {
    /// Keeps up with what `unit` names, before `definition` is put in force in place of its present one.
    pub(crate) fn relate(&mut self, unit: &UnitName, definition: Option<&Definition>) {
        let Self { units, opposed, parted, needed, .. } = self;
        let present = units.get(unit).and_then(Unit::definition);
        for (definition, change) in [(present, withdraw as fn(&mut Naming, _, _)), (definition, enter)] {
            let Some(definition) = definition else { continue };
            definition.conflicts.iter().for_each(|named| change(opposed, named, unit));
            definition.other_node_than.iter().for_each(|named| change(parted, named, unit));
            definition.needs().for_each(|named| change(needed, named, unit));
        }
    }

    /// What snapshots do not hold of it, made anew.
    pub(crate) fn find_needed(&mut self) {
        for (unit, definition) in
            self.units.iter().filter_map(|(name, unit)| Some((name, unit.definition()?)))
        {
            definition.needs().for_each(|named| enter(&mut self.needed, named, unit));
        }
    }
}

fn enter(naming: &mut Naming, named: &UnitName, by: &UnitName) {
    naming.entry(named.clone()).or_default().insert(by.clone());
}

fn withdraw(naming: &mut Naming, named: &UnitName, by: &UnitName) {
    if let Some(names) = naming.get_mut(named) {
        names.remove(by);
        if names.is_empty() {
            naming.remove(named);
        }
    }
}
