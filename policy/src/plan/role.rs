//! Who takes a role: what is missing before anybody may, in the words of `why`.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};

use crate::assembly::Found;
use crate::definition::Definition;
use crate::name::{NodeId, UnitName};
use crate::node::Node;
use crate::succession::Best;
use crate::unit::Wanted;

use super::{Planner, Reason};

impl Planner<'_> {
    /// The rank that decides, `None` if none is needed; or says what is missing to know it.
    pub(super) fn best_rank(&mut self, name: &UnitName, definition: &Definition) -> Result<Option<Best>, ()> {
        // That no node may take it on such terms is said of each of them.
        if definition.contradiction().is_some() {
            return Ok(None);
        }
        let refusal = match self.state.best_rank(name, self.now) {
            Ok(best) => return self.returning_holder(name).map_or(Ok(best), Err),
            Err(refusal) => refusal,
        };
        let Some((unit, succession, _)) = self.state.role(name) else { return Err(()) };
        if let Some(ends) = self.state.holder_wait_ends(succession) {
            self.wake(ends);
        }
        let first = succession.heirs.is_empty() && succession.words.from.is_none();
        let mut awaited = self.state.awaited_heirs(name, self.now);
        if let Some((from, _)) = &succession.words.from {
            awaited = [*from].into();
        }
        let asked =
            |id: &NodeId| self.state.rank_due(name, *id).is_some() && !succession.heard.contains_key(id);
        // Its ranks are on their way: what comes after it waits.
        if unit.permits.is_empty() && awaited.iter().any(asked) {
            self.coming.insert(name.clone());
        }
        if first {
            self.because(name, Reason::FirstFormation);
        } else if awaited.is_empty() {
            self.because(name, Reason::NoRank(refusal.to_string()));
        }
        for node in awaited {
            let why = self.silence(name, node);
            self.because(name, Reason::Rank { node, why });
        }
        Err(())
    }

    /// Nodes on which a copy is of more use than elsewhere: a role is held beside it, or waits for what it has.
    pub(super) fn awaited_copies(&self, name: &UnitName) -> BTreeSet<NodeId> {
        let mut nodes = BTreeSet::new();
        for role in self.state.dependents(name) {
            let known = self
                .state
                .role(role)
                .filter(|(unit, _, beside)| *beside == name && unit.goal.wanted == Wanted::Started);
            let Some((unit, succession, _)) = known else { continue };
            match &succession.words.from {
                _ if !unit.permits.is_empty() => {
                    nodes.extend(unit.permits.values().map(|permit| permit.node))
                }
                Some((from, _)) => nodes.extend([*from]),
                None => nodes.extend(self.state.awaited_heirs(role, self.now)),
            }
        }
        nodes
    }

    /// Says that the last holder, whose copy comes back with this plan, may have to be asked first.
    fn returning_holder(&mut self, name: &UnitName) -> Option<()> {
        let (_, succession, beside) = self.state.role(name)?;
        let holder = succession.holder.filter(|_| succession.words.from.is_none())?;
        let comes = self.granted.get(&holder).is_some_and(|units| units.contains(beside));
        let spared =
            succession.words.without.contains_key(&holder) || !succession.heirs.contains_key(&holder);
        if !comes || spared {
            return None;
        }
        let why = self.silence(name, holder);
        self.because(name, Reason::Rank { node: holder, why });
        Some(())
    }

    /// Why a node has not said its rank.
    fn silence(&self, name: &UnitName, id: NodeId) -> String {
        let node = self.state.node_name(id);
        let Some((_, succession, beside)) = self.state.role(name) else { return node };
        let session = self.state.nodes.get(&id).and_then(Node::in_session);
        let active = self.state.known_active(beside).any(|(_, permit)| permit.node == id);
        let maintenance = self.state.rank_maintenance(name, beside, id);
        let why = match succession.heard.get(&id).map(|heard| &heard.found) {
            _ if session.is_none() => "is silent".to_string(),
            _ if maintenance.is_some() => {
                let text = maintenance.map(|scope| self.state.maintenance_text(&scope));
                format!("is not asked: {}", text.unwrap_or_default())
            }
            _ if !active => format!("{beside} is not active there"),
            Some(Found::Failed(why)) => format!("Rank= failed there: {why}"),
            _ => "has not said its rank yet".to_string(),
        };
        format!("{node} may have the latest data, and {why}")
    }
}
