//! What an agent is shown of the replicated state, cut down to what it acts on.

use policy::{NodeView, OnQuorumLoss, Phase, UnitName};

use super::letter::{Life, node_id, unit_name};
use super::world::World;

/// How far a permit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    Granted,
    Active,
    Revoking,
}

/// One permit of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shown {
    pub(crate) token: u64,
    pub(crate) life: Life,
    pub(crate) step: Step,
    /// Revision of the terms to be acknowledged.
    pub(crate) asked: Option<u64>,
    /// Whether the terms that the agent is to go by let the copy run on without a quorum.
    pub(crate) goes_on: bool,
}

/// A view on its way to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct View {
    pub(crate) node: usize,
    pub(crate) session: u64,
    pub(crate) index: u64,
    pub(crate) survey: u64,
    pub(crate) permits: [Option<Shown>; 2],
    pub(crate) units: [bool; 2],
    pub(crate) stop: [bool; 2],
}

impl World {
    /// The real view of a node, with the planner's orders.
    pub(crate) fn view(&self, node: usize) -> View {
        let id = node_id(node);
        let view = self.state().view(id);
        let life = self.state().nodes.get(&id).and_then(|node| node.life.as_ref());
        let strays = life.is_some_and(|life| !life.strays.is_empty());
        let orders = if strays { policy::plan(self.state(), super::world::NOW).orders } else { Vec::new() };
        let told = |unit: &UnitName| {
            orders.iter().any(|order| {
                let policy::Order::StopStray { node, unit: other } = order;
                *node == id && other == unit
            })
        };
        let session = life.map_or(0, |life| life.session);
        let units = [unit_name(0), unit_name(1)];
        View {
            node,
            session,
            index: view.index,
            survey: view.survey,
            permits: units.each_ref().map(|unit| shown(&view, unit, node)),
            units: units.each_ref().map(|unit| view.units.contains(unit)),
            stop: units.each_ref().map(told),
        }
    }
}

fn shown(view: &NodeView, unit: &UnitName, node: usize) -> Option<Shown> {
    let permit =
        view.permits.iter().filter(|permit| permit.unit == *unit).max_by_key(|permit| permit.token)?;
    let boots = permit.incarnation.as_str().trim_start_matches(char::is_alphabetic).parse().ok()?;
    Some(Shown {
        token: permit.token.0,
        life: Life { node, boots },
        step: match permit.phase {
            Phase::Granted => Step::Granted,
            Phase::Active => Step::Active,
            Phase::Revoking(_) => Step::Revoking,
        },
        asked: permit.next_terms.as_ref().map(|terms| terms.revision),
        goes_on: permit.next_terms.as_ref().unwrap_or(&permit.terms).on_quorum_loss == OnQuorumLoss::Continue,
    })
}
