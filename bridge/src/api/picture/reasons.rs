//! The reasons of the plan, in the order in which an operator should read them.

use policy::{Node, NodeId, Permit, Possibly, Reason, Rest, State, UnitName};

use super::View;
use crate::api::model::WhyLine;

impl View<'_> {
    /// What holds a unit, most important first: first what an operator decided, then what only an operator or a device
    /// can release, then what passes by itself, then what only narrows the choice of nodes.
    pub(super) fn reasons(&self, unit: &UnitName) -> Vec<(Option<&Reason>, WhyLine)> {
        let mut reasons: Vec<&Reason> = self.plan.reasons.get(unit).into_iter().flatten().collect();
        reasons.sort_by_key(|reason| rank(reason));
        let line = |reason: &Reason| WhyLine {
            rule: reason.rule().to_owned(),
            fact: reason.text(self.state, unit, self.now),
            release: remedy(self.state, unit, reason),
        };
        let left_behind =
            self.left_behind(unit).into_iter().chain(self.at_rest(unit)).map(|line| (None, line));
        reasons.into_iter().map(|reason| (Some(reason), line(reason))).chain(left_behind).collect()
    }

    /// Copies that their own systemd restarts or stops: no decision of the cluster hangs on them.
    fn at_rest(&self, name: &UnitName) -> Vec<WhyLine> {
        let permits = self.state.units.get(name).into_iter().flat_map(|unit| unit.permits.values());
        let line = |permit: &Permit| {
            let node = self.state.node_name(permit.node);
            let fact = match permit.rest.filter(|_| self.state.is_known_active(permit))? {
                Rest::Restarts => {
                    format!("it is not up on {node}: systemd there starts it again (Restart=, RestartSec=)")
                }
                Rest::Stops => format!("it is on its way down on {node}, by no order of the cluster"),
                Rest::Down => format!("it is down on {node}, which has yet to say what became of it"),
            };
            let release = format!("time; `systemctl status {name}` on {node}");
            Some(WhyLine { rule: "L1".to_owned(), fact, release })
        };
        permits.filter_map(line).collect()
    }

    /// Copies on nodes whose files do not make it a cluster unit any more. They run on, and nothing else shows it until
    /// they end and cannot come back there.
    fn left_behind(&self, name: &UnitName) -> Vec<WhyLine> {
        let Some(unit) = self.state.units.get(name) else { return Vec::new() };
        let gone = |node: &Node| node.offers.get(name).is_none_or(|offer| !offer.present);
        let nodes = self.state.nodes.iter().filter(|(id, node)| {
            node.in_session().is_some_and(|life| life.inventory)
                && gone(node)
                && unit.permit_on(**id).is_some()
        });
        let line = |(_, node): (&NodeId, &Node)| {
            let at = &node.name;
            WhyLine {
                rule: "F13".to_owned(),
                fact: format!("{at} runs it, and has no file with an [X-Convoke] section of it any more"),
                release: format!(
                    "put its drop-in back on {at}, then `systemctl daemon-reload` there; or `convoke move {name} --from \
                     {at}`, or `convoke stop {name}`"
                ),
            }
        };
        nodes.map(line).collect()
    }
}

/// What would release a unit from a reason, with the command where a node is drained or in maintenance.
#[must_use]
pub fn remedy(state: &State, unit: &UnitName, reason: &Reason) -> String {
    let drained = |id: &NodeId| {
        let maintained = || state.node_maintenance(*id).map(|scope| state.maintenance_release(&scope));
        state.undrain(*id).or_else(maintained)
    };
    match reason {
        Reason::Unfit { node, .. }
        | Reason::CannotBegin { node, .. }
        | Reason::CannotMove { to: Some(node), .. } => match drained(node) {
            Some(release) => release,
            None => reason.release(state, unit),
        },
        _ => reason.release(state, unit),
    }
}

fn rank(reason: &Reason) -> u8 {
    match reason {
        Reason::Stopped
        | Reason::ClusterDrained
        | Reason::PartStopped(_)
        | Reason::Maintenance { node: None, .. } => 0,
        Reason::NoDefinition | Reason::NotAdopted(_) => 1,
        Reason::Stopping { stuck: Some(_), .. } => 2,
        // The fence first: it says what happens about the copy that may still run.
        Reason::WaitsForFence { .. } => 3,
        Reason::PossiblyRunning { how: Possibly::Stray, .. }
        | Reason::Maintenance { node: Some(_), .. }
        | Reason::Kept(_) => 4,
        Reason::PossiblyRunning { .. } => 5,
        // Of a clustered service: what an operator has to say first, then whose word is waited for.
        Reason::FirstFormation
        | Reason::NoElection(_)
        | Reason::NoRank(_)
        | Reason::Diverged { .. }
        | Reason::CannotBegin { .. } => 5,
        Reason::Unproven(_) | Reason::Position { .. } | Reason::Rank { .. } => 6,
        Reason::Unheard(_) => 6,
        Reason::CannotMove { .. } | Reason::RestartPending { .. } => 7,
        Reason::Requires(_) | Reason::Conflicts { .. } => 8,
        Reason::StopsFirst { .. } | Reason::OneByOne(_) => 9,
        Reason::Stopping { .. } => 10,
        Reason::Starting(_) => 11,
        Reason::NotReady { .. } | Reason::JoinsAfter(_) => 12,
        Reason::After(_) | Reason::AfterStop(_) => 12,
        Reason::Observing(_) | Reason::TooManyStarts(_) => 13,
        Reason::NotOffered => 14,
        Reason::Held(_) => 15,
        Reason::Avoided { .. } | Reason::HeldBack { .. } => 16,
        Reason::Unfit { .. } => 17,
        Reason::Fault { .. } => 18,
        Reason::Differs(_) => 19,
    }
}
