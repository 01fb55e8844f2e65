//! Who may share a node: `Uses=` against its capacities, `OtherNodeThan=` against its other units.
//!
//! Both count what is possibly running (section 0). A capacity is a node's attribute that is a number; of one that a node
//! does not have it has nothing to give.

use alloc::format;
use alloc::string::{String, ToString};

use crate::definition::Definition;
use crate::name::{NodeId, UnitName};
use crate::node::Node;
use crate::permit::{Permit, Phase};
use crate::state::State;
use crate::unit::Unit;

/// A number with a suffix of systemd's, to the base 1024: `4G`, `512M`, `3`.
#[must_use]
pub(crate) fn quantity(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) if text.ends_with('G') => (digits, 30),
        Some(digits) => (digits, 40),
        None => (text, 0u32),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| digits.parse::<u64>().ok()).flatten()?;
    number.checked_mul(1u64.checked_shl(shift)?)
}

/// A number as the files write it: `4G`, not 4294967296.
#[must_use]
pub fn quantity_text(number: u64) -> String {
    let suffixes = [('T', 40u32), ('G', 30), ('M', 20), ('K', 10)];
    let whole = suffixes.into_iter().find(|(_, shift)| number > 0 && number.trailing_zeros() >= *shift);
    match whole {
        Some((suffix, shift)) => format!("{}{suffix}", number.checked_shr(shift).unwrap_or(0)),
        None => number.to_string(),
    }
}

/// What a node lacks for a unit, in words; `taken` says how much of a capacity is spoken for.
pub(crate) fn lack(node: &Node, definition: &Definition, taken: impl Fn(&str) -> u64) -> Option<String> {
    definition.uses.iter().find_map(|(of, amount)| {
        let name = &node.name;
        let Some(capacity) = node.capacity(of) else {
            return Some(format!("{name} has no `{of}` to give"));
        };
        let free = capacity.saturating_sub(taken(of));
        (*amount > free).then(|| {
            let [free, capacity, amount] = [free, capacity, *amount].map(quantity_text);
            format!("{name} has {free} of {capacity} `{of}` free, and it takes {amount}")
        })
    })
}

impl State {
    /// How much of a node's capacity is taken by what is possibly running there, `unit` itself aside.
    #[must_use]
    pub fn taken(&self, id: NodeId, node: &Node, of: &str, unit: &UnitName) -> u64 {
        let others = self.possibly_there(id, node).into_iter().filter(|other| *other != unit);
        let amounts = others.filter_map(|other| self.units.get(other)?.definition()?.uses.get(of));
        amounts.fold(0u64, |sum, amount| sum.saturating_add(*amount))
    }

    /// Whether a start of the unit may begin on a node, by `StartOneAtATime=` and the caps on those that are under way. Here,
    /// and not by the planner alone: a plan may be made before the grants of the last one are in the state.
    pub(crate) fn may_begin(&self, unit: &UnitName, id: NodeId) -> Result<(), String> {
        let starting = |permit: &&Permit| permit.phase == Phase::Granted && !self.is_lost(permit);
        if let Some(known) = self.units.get(unit)
            && known.definition().is_some_and(|definition| definition.start_one_at_a_time)
            && let Some(permit) = known.permits.values().find(starting)
        {
            return Err(format!("a copy is starting on {}", self.node_name(permit.node)));
        }
        let (per_node, in_all) = (self.settings.starts_per_node, self.settings.starts_per_cluster);
        if per_node.is_none() && in_all.is_none() {
            return Ok(());
        }
        let (mut here, mut all) = (0u32, 0u32);
        for permit in self.starting() {
            all = all.saturating_add(1);
            here = here.saturating_add(u32::from(permit.node == id));
        }
        if per_node.is_some_and(|most| here >= most) {
            return Err(format!("{} has as many starts under way as it may", self.node_name(id)));
        }
        if in_all.is_some_and(|most| all >= most) {
            return Err(String::from("the cluster has as many starts under way as it may"));
        }
        Ok(())
    }

    /// What is possibly running on a node and leaves no place for a copy there, in words.
    pub(crate) fn crowding(
        &self,
        unit: &UnitName,
        id: NodeId,
        node: &Node,
        definition: &Definition,
    ) -> Option<String> {
        let stranger = self.stranger_on(unit, id, node);
        let why = |other| format!("it must not share a node with {other}, which is on {}", node.name);
        stranger.map(why).or_else(|| lack(node, definition, |of| self.taken(id, node, of, unit)))
    }

    /// Units that must not share a node with `unit`: those that it names, and those that name it.
    pub fn strangers<'a>(&'a self, unit: &'a UnitName) -> impl Iterator<Item = &'a UnitName> + 'a {
        let definition = self.units.get(unit).and_then(Unit::definition);
        let named = definition.into_iter().flat_map(|definition| &definition.other_node_than);
        let naming = self.parted.get(unit).into_iter().flatten();
        named.chain(naming).filter(move |other| *other != unit)
    }

    /// A unit that is possibly running on the node and must not share it.
    pub(crate) fn stranger_on(&self, unit: &UnitName, id: NodeId, node: &Node) -> Option<&UnitName> {
        let units = self.units.get_key_value(unit).map(|(name, _)| name)?;
        self.strangers(units).find(|other| self.possibly_running_on(other, id, node).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::{quantity, quantity_text};

    #[test]
    fn quantities_are_systemds() {
        let table = [("3", Some(3)), ("2K", Some(2048)), ("4G", Some(4 << 30)), ("1T", Some(1 << 40))];
        for (text, expected) in table {
            assert_eq!(quantity(text), expected, "{text}");
        }
        for text in ["", "G", "-1", "+1", "4g", "1.5", "a", "99999999T", "4 G"] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    #[test]
    fn a_quantity_is_written_as_it_is_read() {
        let table = [
            (0, "0"),
            (3, "3"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1536"),
            (6 << 20, "6M"),
            (u64::MAX - 1023, "18014398509481983K"),
        ];
        for (number, text) in table {
            assert_eq!(quantity_text(number), text);
            assert_eq!(quantity(text), Some(number));
        }
    }
}
