//! Units that may have to do with each other, by the definitions in force.
//!
//! One that names another, in whatever way, is on its island. What is planned for a unit rests on units of its own island
//! only, and beside them on nodes; [`KeptPlan`](super::KeptPlan) says of what is shared how it is kept.

use alloc::vec;
use alloc::vec::Vec;

/// All islands, by the places of units in the list of names.
#[derive(Clone, Debug, Default)]
pub(super) struct Islands {
    /// The island of each unit.
    of: Vec<usize>,
    /// The units of each island.
    members: Vec<Vec<usize>>,
}

impl Islands {
    /// The islands of `count` units, of which these pairs belong together.
    pub(super) fn joined(count: usize, pairs: Vec<(usize, usize)>) -> Self {
        // Each unit points to an earlier one of its island, the first to itself.
        let mut earlier: Vec<usize> = (0..count).collect();
        for (one, other) in pairs {
            let (one, other) = (first(&mut earlier, one), first(&mut earlier, other));
            if let Some(later) = earlier.get_mut(one.max(other)) {
                *later = one.min(other);
            }
        }
        let mut of: Vec<usize> = vec![0; count];
        let mut members: Vec<Vec<usize>> = Vec::new();
        for unit in 0..count {
            let first = first(&mut earlier, unit);
            // The first of an island comes before all others and has its number by then.
            let island = if first == unit { members.len() } else { of.get(first).copied().unwrap_or(0) };
            match members.get_mut(island) {
                Some(members) => members.push(unit),
                None => members.push(vec![unit]),
            }
            of.get_mut(unit).into_iter().for_each(|of| *of = island);
        }
        Self { of, members }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// The island of a unit.
    pub(super) fn of(&self, unit: usize) -> Option<usize> {
        self.of.get(unit).copied()
    }

    /// The units of an island, in the order of names.
    pub(super) fn members(&self, island: usize) -> &[usize] {
        self.members.get(island).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The first unit of an island; the way there is made shorter for whoever comes next.
fn first(earlier: &mut [usize], mut unit: usize) -> usize {
    while let Some(next) = earlier.get(unit).copied().filter(|next| *next != unit) {
        let after = earlier.get(next).copied().unwrap_or(next);
        earlier.get_mut(unit).into_iter().for_each(|link| *link = after);
        unit = after;
    }
    unit
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::Islands;

    #[test]
    fn units_are_joined_through_others() {
        let islands = Islands::joined(6, vec![(4, 3), (0, 5), (5, 3), (2, 2)]);
        let of: Vec<_> = (0..6).map(|unit| islands.of(unit)).collect();
        assert_eq!(of, [0, 1, 2, 0, 0, 0].map(Some));
        assert_eq!(islands.members(0), [0, 3, 4, 5]);
        assert_eq!(islands.count(), 3);
    }
}
