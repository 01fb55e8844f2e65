//! How a node is shown.

use policy::{FencePhase, Node, NodeId, Power, Presence, Role};

use super::{View, seconds_until};
use crate::api::model::NodeLine;

impl View<'_> {
    pub(super) fn node_line(&self, id: NodeId) -> Option<NodeLine> {
        let node = self.state.nodes.get(&id)?;
        let (fencing, fencing_error) = self.fencing(id, node);
        let held = |unit: &policy::Unit| unit.permit_on(id).is_some();
        Some(NodeLine {
            name: node.name.clone(),
            id: id.0,
            role: match node.role {
                Role::Voter => "voter",
                Role::Member => "member",
                Role::Witness => "witness",
            }
            .to_owned(),
            state: self.node_state(id, node).to_owned(),
            drained: node.drained.clone(),
            fencing: fencing.to_owned(),
            device: self.state.device_of(id).map(|(device, _)| device.to_owned()),
            fencing_error,
            addresses: node.addresses.clone(),
            units: self
                .state
                .units
                .iter()
                .filter(|(_, unit)| held(unit))
                .map(|(name, _)| name.0.clone())
                .collect(),
            quarantine_s: seconds_until(node.quarantined_until, self.now),
            incarnation: node.life.as_ref().map(|life| life.incarnation.0.clone()),
        })
    }

    pub(super) fn node_state(&self, id: NodeId, node: &Node) -> &'static str {
        let Some(life) = &node.life else { return "unknown" };
        if life.gone.is_some() {
            return "fenced";
        }
        match life.presence {
            Presence::Leaving => "leaving",
            Presence::InSession if life.inventory => "online",
            Presence::InSession => "joining",
            Presence::Lost { .. } if self.is_away(id, node) => "away",
            Presence::Lost { .. } => {
                let running = |case: &policy::FenceCase| matches!(case.phase, FencePhase::Running { .. });
                match self.state.open_case(id) {
                    Some((_, case)) if running(case) => "fencing",
                    _ => "lost",
                }
            }
        }
    }

    /// Whether it went by an orderly shutdown, and nothing of it is left to worry about.
    pub(super) fn is_away(&self, id: NodeId, node: &Node) -> bool {
        let Some(life) = &node.life else { return false };
        let presence = |event: &&policy::Event| {
            use policy::EventKind::{NodeBooted, NodeLost, NodeReturned};
            event.node == Some(id) && matches!(event.kind, NodeBooted | NodeLost | NodeReturned)
        };
        // The policy calls a loss no trouble where the node had said that it goes.
        let orderly = |event: &policy::Event| {
            matches!(event.kind, policy::EventKind::NodeLost) && event.severity == policy::Severity::Info
        };
        matches!(life.presence, Presence::Lost { .. })
            && life.gone.is_none()
            && life.strays.is_empty()
            && self.state.open_case(id).is_none()
            && !self.state.units.values().any(|unit| unit.permit_on(id).is_some())
            && self.state.history.iter().rev().find(presence).is_some_and(orderly)
    }

    /// Whether the node could be fenced if it were lost now, and what its device showed if not.
    pub(super) fn fencing(&self, id: NodeId, node: &Node) -> (&'static str, Option<String>) {
        let Some((device, _)) = self.state.device_of(id) else { return ("none", None) };
        let seen = self.state.observations.get(&(device.to_owned(), id));
        // A look at an earlier life says nothing of this one: the plug may have been moved meanwhile.
        let seen = seen.filter(|seen| {
            node.life.as_ref().is_some_and(|life| life.incarnation == seen.incarnation && life.gone.is_none())
        });
        match seen.map(|seen| &seen.power) {
            None => ("unknown", None),
            Some(Power::On) => ("ready", None),
            Some(Power::Off) => ("unready", Some("it read OFF while the node was running".to_owned())),
            Some(Power::Unknown(error)) => ("unready", Some(error.clone())),
        }
    }
}
