//! How large a world is, and what is in it.

use std::collections::BTreeMap;

use policy::{Definition, Fencing, NodeTerm, Preference, Replicas, UnitName};

use crate::rng::Rng;

/// What is drawn, or laid down, before a world begins.
pub(crate) struct Shape {
    /// They vote, and offer every unit.
    pub(crate) voters: usize,
    /// Machines without a vote, which come after the voters. They offer the unit of their name, where there is one.
    pub(crate) members: usize,
    pub(crate) units: BTreeMap<UnitName, Definition>,
    /// Fence devices: the machines are dealt out to them in turn.
    pub(crate) devices: usize,
    /// How many nodes each of them may be fencing at a time.
    pub(crate) at_once: u32,
}

impl Shape {
    /// A small cluster with units of all the kinds that the protocol tells apart, behind one device.
    pub(crate) fn drawn(rng: &mut Rng) -> Self {
        let voters = if rng.percent(70) { 3 } else { 5 };
        let exclusive = Definition { stickiness: Some(1), ..Definition::exclusive() };
        let mut units = BTreeMap::from([
            ("db.service".into(), Definition::exclusive()),
            ("ip.service".into(), exclusive),
            ("web.service".into(), Definition::replicated(Replicas::Count(2))),
        ]);
        if rng.percent(50) {
            let lease = Definition { fencing: Fencing::Lease, ..Definition::exclusive() };
            units.insert("job.service".into(), lease);
        }
        Self { voters, members: 0, units, devices: 1, at_once: 1 }
    }

    /// Five voters, and members that each run a unit of their own as long as they are there.
    pub(crate) fn wide(members: usize, devices: usize, at_once: u32) -> Self {
        let voters = 5;
        let unit = |at: usize| {
            let home = Preference { term: NodeTerm::Name(machine_name(at)), weight: 100 };
            (unit_of(at), Definition { prefer: vec![home], ..Definition::exclusive() })
        };
        let units = (voters..voters + members).map(unit).collect();
        Self { voters, members, units, devices, at_once }
    }

    pub(crate) fn machines(&self) -> usize {
        self.voters + self.members
    }

    /// Whether a machine offers a unit.
    pub(crate) fn offers(&self, at: usize, unit: &UnitName) -> bool {
        at < self.voters || *unit == unit_of(at)
    }

    /// The machines behind each fence device.
    pub(crate) fn devices(&self) -> BTreeMap<String, Vec<usize>> {
        let mut devices: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for at in 0..self.machines() {
            devices.entry(format!("switch{}", at % self.devices)).or_default().push(at);
        }
        devices
    }
}

pub(crate) fn machine_name(at: usize) -> String {
    format!("n{}", at + 1)
}

pub(crate) fn unit_of(at: usize) -> UnitName {
    UnitName(format!("of-{}.service", machine_name(at)))
}
