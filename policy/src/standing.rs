//! What a grant rests on: gathered once for a unit and once for a node, whoever of the two meets whom.
//!
//! `apply` gathers it of the state for the one grant that it is to judge, the planner of its index for every node that it
//! asks. Both then ask [`State::offer_but_room`].

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::definition::Definition;
use crate::name::{NodeId, UnitName};
use crate::node::{Node, Offer};
use crate::query::{Possibly, held, is_unheard, said_to_run};
use crate::refusal::Refusal;
use crate::state::State;
use crate::unit::{Adopted, Unit};

/// A unit, whichever node is to take it.
pub(crate) struct Standing<'a> {
    /// Its name.
    pub(crate) name: &'a UnitName,
    /// The unit.
    pub(crate) unit: &'a Unit,
    /// Its definition in force.
    pub(crate) adopted: &'a Adopted,
    /// Where it is possibly running, in the order of nodes.
    pub(crate) running: Vec<(NodeId, Possibly)>,
    /// Before the first grant ever of an exclusive unit: members that have not said whether it runs there (F11).
    pub(crate) unheard: Vec<NodeId>,
    /// Nodes in maintenance on which copies of it ended meanwhile.
    pub(crate) kept: Vec<NodeId>,
    /// An opponent that is possibly running, and where.
    pub(crate) opponent: Option<(UnitName, NodeId)>,
    /// How many of those that are possibly running count as copies.
    pub(crate) copies: usize,
    /// The first of the units that it needs that is not up (S4).
    pub(crate) inactive: Option<&'a UnitName>,
}

/// A node, and what it says of the unit that it may take.
pub(crate) struct Candidate<'a> {
    /// Who it is.
    pub(crate) id: NodeId,
    /// The node.
    pub(crate) node: &'a Node,
    /// Why it takes no unit at all, if so.
    pub(crate) accepts: &'a Result<(), Refusal>,
    /// What it says of the unit's files.
    pub(crate) offer: Option<&'a Offer>,
    /// Whether that is sound by the definition in force.
    pub(crate) sound: bool,
}

impl<'a> Standing<'a> {
    /// What follows from where the unit is, and from those that it needs.
    pub(crate) fn of(
        state: &State,
        (name, unit, adopted): (&'a UnitName, &'a Unit, &'a Adopted),
        running: Vec<(NodeId, Possibly)>,
        (unheard, kept): (Vec<NodeId>, Vec<NodeId>),
        opponent: Option<(UnitName, NodeId)>,
    ) -> Self {
        let definition = &adopted.definition;
        let copies = running.iter().filter(|(_, how)| how.counts(definition)).count();
        let inactive = definition.needs().find(|needed| !state.is_up(needed, None));
        Self { name, unit, adopted, running, unheard, kept, opponent, copies, inactive }
    }
}

impl<'a> Candidate<'a> {
    /// Its offer, if that is sound; or what is wrong with it.
    pub(crate) fn offered(&self, definition: &Definition) -> Result<&'a Offer, String> {
        let name = &self.node.name;
        let wrong = match self.offer {
            Some(offer) if self.sound => return Ok(offer),
            Some(Offer { present: true, fault: Some(fault), .. }) => format!("{name}: {fault}"),
            Some(offer) if offer.present && offer.definition.as_ref() != Some(definition) => {
                format!("{name} offers another definition than the one in force")
            }
            // F12
            Some(offer) if offer.present => format!("its gate is not in force on {name}"),
            Some(_) | None => format!("{name} does not offer it"),
        };
        Err(wrong)
    }
}

impl State {
    /// A unit as a grant finds it.
    pub(crate) fn standing<'a>(&'a self, name: &'a UnitName) -> Result<Standing<'a>, Refusal> {
        let unit = self.units.get(name).ok_or_else(|| Refusal::UnknownUnit(name.clone()))?;
        let adopted = unit.adopted.as_ref().ok_or_else(|| Refusal::NoDefinition(name.clone()))?;
        let first = unit.is_exclusive() && unit.last_token.is_none();
        let held = held(unit);
        let (mut running, mut unheard, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        // Of every other node it is known that the unit is gone there, and that it has said so.
        let mut asked: BTreeSet<NodeId> = self.unsaid.open().chain(held.keys().copied()).collect();
        if first {
            asked.extend(self.unsaid.unasked(unit.since));
        }
        for (id, node) in asked.iter().filter_map(|id| self.nodes.get_key_value(id)) {
            let how = held.get(id).copied().or_else(|| said_to_run(name, node));
            running.extend(how.map(|how| (*id, how)));
            if first && is_unheard(name, unit.since, node) {
                unheard.push(*id);
            }
            if node.kept.contains(name) {
                kept.push(*id);
            }
        }
        let opponent = self.opponent_running(name);
        Ok(Standing::of(self, (name, unit, adopted), running, (unheard, kept), opponent))
    }
}
