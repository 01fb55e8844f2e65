//! What a node says of its units.

use policy::{InventoryItem, Offer};

use super::Scene;
use super::foundation::definition;
use super::letter::unit_name;
use super::step::STOP_MS;
use super::world::{DB, World};

impl World {
    pub(super) fn item(&self, scene: &Scene, node: usize, unit: usize, running: bool) -> InventoryItem {
        let offered = self.machines[node].copies[unit].offered;
        InventoryItem {
            unit: unit_name(unit),
            offer: offered.then(|| Offer {
                definition: Some(definition(scene, unit, self.rewritten)),
                fault: None,
                gated: true,
                enabled: unit == DB || scene.app,
                stop_budget_ms: STOP_MS,
                present: true,
            }),
            running,
        }
    }
}
