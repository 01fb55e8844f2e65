//! Many machines lose their power at one moment: how their fences go on side by side.

use std::collections::BTreeMap;

use crate::machine::Doing;
use crate::shape::unit_of;
use crate::shell::lock;
use crate::world::World;

/// Nobody waits longer for what a loss leaves to be done.
const LIMIT_MS: u64 = 180_000;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// What went wrong first, and when.
    pub broken: Option<String>,
    /// From the loss until every unit ran again, in milliseconds of the simulated world.
    pub recovered_ms: u64,
    /// How many attempts each fence device carried at a time, at the most.
    pub most_at_once: BTreeMap<String, usize>,
    /// Attempts that each lost machine took.
    pub attempts: Vec<usize>,
}

impl World {
    /// Forms the cluster, takes the power from all its members, and lets the voters take over what ran there.
    pub(crate) fn lose_members(mut self) -> Loss {
        self.form();
        let voters = self.shape.voters;
        let members = voters..self.shape.machines();
        if let Some(at) = members.clone().find(|at| !self.runs(*at, *at)) {
            self.fail(format!("{} does not run on its own node", unit_of(at)));
        }
        let lost_at = self.now;
        // A power cut takes a machine and not its outlet: the device goes on saying that it is on.
        for at in members.clone() {
            self.power_off(at);
            self.switch.set_plug(at, true);
        }
        let recovered =
            |world: &Self| members.clone().all(|at| (0..voters).any(|voter| world.runs(voter, at)));
        while self.broken.is_none() && !recovered(&self) {
            if self.now > lost_at + LIMIT_MS {
                let state = self.picture();
                self.fail(format!("not all units run again {LIMIT_MS} ms after the loss: {state}"));
            }
            self.step();
        }
        Loss {
            broken: self.broken,
            recovered_ms: self.now - lost_at,
            most_at_once: self.switch.most_at_once(),
            attempts: members.map(|at| self.switch.attempts(at)).collect(),
        }
    }

    /// Whether the unit of a machine runs on a machine.
    fn runs(&self, on: usize, of: usize) -> bool {
        let machine = lock(&self.sites[on].machine);
        machine.units.get(&unit_of(of)).is_some_and(|unit| unit.doing == Doing::Up)
    }
}
