//! What a seed has beside plain units on equal machines.

use std::collections::BTreeMap;

use policy::{Assembly, AssemblyStyle, Definition, Fencing, Replicas, UnitName};

use crate::rng::Rng;
use crate::store;

/// The latency of a network that is well, in milliseconds.
pub(crate) const LATENCY_MS: (u64, u64) = (1, 4);

/// Which kinds there are in a world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kinds {
    /// `web.service` requires `db.service`, `ip.service` is bound to it, and both come after it.
    pub(crate) ordered: bool,
    /// One unit is a clustered service.
    pub(crate) clustered: bool,
    /// Two machines run units, and the third one votes.
    pub(crate) witness: bool,
    /// One unit rests on watchdogs.
    pub(crate) watched: bool,
    /// For as long as there are blows a message takes more than 100 ms between any two machines.
    pub(crate) slow: bool,
}

impl Kinds {
    /// None of them.
    pub(crate) const PLAIN: Self =
        Self { ordered: false, clustered: false, witness: false, watched: false, slow: false };
    pub(crate) const ORDERED: Self = Self { ordered: true, ..Self::PLAIN };
    pub(crate) const CLUSTERED: Self = Self { clustered: true, ..Self::PLAIN };
    pub(crate) const WATCHED: Self = Self { watched: true, ..Self::PLAIN };
    pub(crate) const SLOW: Self = Self { slow: true, ..Self::PLAIN };

    /// What a seed has. Drawn from numbers of its own, as what is wrong with fence devices is.
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut chance = Rng::new(seed ^ 0x0dd5_0f7e);
        let company = chance.below(10);
        let (ordered, clustered) = (company < 4, (4..7).contains(&company));
        // Two copies of a clustered service are no quorum of their own when one is lost.
        let (witness, watched) = (chance.percent(20) && !clustered, chance.percent(20) && !clustered);
        Self { ordered, clustered, witness, watched, slow: chance.percent(10) }
    }

    /// The latency of the network while there are blows and none of them made it worse, in milliseconds.
    pub(crate) fn latency_ms(self) -> (u64, u64) {
        if self.slow { (100, 160) } else { LATENCY_MS }
    }

    /// How many machines there are, where none of this says otherwise.
    pub(crate) fn machines(self, drawn: usize) -> usize {
        if self.witness || self.clustered { 3 } else { drawn }
    }

    /// The machine that only votes: the last of three.
    pub(crate) fn witness(self) -> Option<usize> {
        self.witness.then_some(2)
    }

    /// What all machines offer.
    pub(crate) fn units(self, rng: &mut Rng) -> BTreeMap<UnitName, Definition> {
        let (db, ip): (UnitName, UnitName) = ("db.service".into(), "ip.service".into());
        let moves = Definition { stickiness: Some(1), ..Definition::exclusive() };
        let web = Definition::replicated(Replicas::Count(2));
        let mut units = BTreeMap::from([
            (db.clone(), Definition::exclusive()),
            (ip.clone(), moves.clone()),
            ("web.service".into(), web.clone()),
        ]);
        let job = |fencing| Definition { fencing, ..Definition::exclusive() };
        if rng.percent(50) {
            units.insert("job.service".into(), job(Fencing::Lease));
        }
        if self.watched {
            units.insert("job.service".into(), job(Fencing::Watchdog));
        }
        if self.ordered {
            let on = || [db.clone()].into();
            units.insert(ip.clone(), Definition { binds_to: on(), after: on(), ..moves });
            units.insert("web.service".into(), Definition { requires: on(), after: on(), ..web });
        }
        if self.clustered {
            // As many units as other seeds have.
            units.remove(&ip);
            let fencing = if rng.percent(30) { Fencing::Required } else { Fencing::None };
            let assembly = Some(Assembly::of(AssemblyStyle::OneThenSerial));
            let definition = Definition::replicated(Replicas::All);
            let definition = Definition { fencing, assembly, failure_reset_ms: 5_000, ..definition };
            units.insert(store::name(), definition);
        }
        units
    }
}
