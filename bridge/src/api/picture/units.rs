//! How a unit is shown.

use policy::{Definition, Node, NodeId, Permit, Phase, Reason, Replicas, Rest, Unit, UnitName, Wanted};

use super::View;
use crate::api::model::{CopyLine, FailedLine, UnitLine};

impl View<'_> {
    pub(super) fn unit_line(&self, name: &UnitName) -> Option<UnitLine> {
        let unit = self.state.units.get(name)?;
        let copies = self.copies(name, unit);
        let state = self.unit_state(name, unit, &copies);
        let started = unit.goal.wanted == Wanted::Started;
        // A stopped unit that was asked to stop is where one expects it: `Stopped` explains, and hinders nothing.
        let expected = (started && state == "active") || (!started && state == "stopped");
        let reason = self.reasons(name).into_iter().find(|(reason, line)| {
            // A move that was asked for and cannot be done is done later, unasked: so it is always shown.
            let told = !matches!(line.rule.as_str(), "S6" | "L1");
            !expected || told || matches!(reason, Some(Reason::CannotMove { .. }))
        });
        let failed = if copies.is_empty() && started { self.failed(name) } else { Vec::new() };
        Some(UnitLine {
            name: name.0.clone(),
            goal: if started { "started" } else { "stopped" }.to_owned(),
            goal_by: unit.goal.by.clone(),
            state: state.to_owned(),
            copies,
            wanted: match unit.definition().map(|definition| definition.replicas) {
                Some(Replicas::Count(count)) => Some(count),
                Some(Replicas::All) => None,
                None => Some(1),
            },
            exclusive: unit.is_exclusive(),
            maintenance: self.state.unit_maintenance(name).is_some(),
            reason: spent(&failed).or(reason.map(|(_, line)| line.fact)),
            failed,
            assembly: self.assembly_line(name, unit),
        })
    }

    /// Where it failed, if nothing else holds it: none while another node is left to try.
    fn failed(&self, name: &UnitName) -> Vec<FailedLine> {
        let line = |reason: &Reason| match reason {
            Reason::Avoided { node, why, until } => Some(FailedLine {
                node: self.state.node_name(*node),
                why: why.clone(),
                retry_s: until.saturating_sub(self.now).div_ceil(1_000),
            }),
            _ => None,
        };
        let reasons = self.plan.reasons.get(name).into_iter().flatten();
        reasons.map(line).collect::<Option<_>>().unwrap_or_default()
    }

    fn copies(&self, name: &UnitName, unit: &Unit) -> Vec<CopyLine> {
        let permits = unit.permits.iter().map(|(token, permit)| CopyLine {
            node: self.state.node_name(permit.node),
            state: self.copy_state(permit).to_owned(),
            token: Some(token.0),
            adopted: permit.adopted,
        });
        let strays = self.state.nodes.iter().filter(|(id, node)| {
            unit.permit_on(**id).is_none()
                && node.life.as_ref().is_some_and(|life| life.gone.is_none() && life.strays.contains(name))
        });
        let strays = strays.map(|(_, node)| CopyLine {
            node: node.name.clone(),
            state: "stray".to_owned(),
            token: None,
            adopted: false,
        });
        let mut copies: Vec<CopyLine> = permits.chain(strays).collect();
        copies.sort_by_key(|copy| super::natural(&copy.node));
        copies
    }

    fn copy_state(&self, permit: &Permit) -> &'static str {
        if permit.contradicted || self.state.is_lost(permit) {
            return "unknown";
        }
        match permit.phase {
            Phase::Granted => "starting",
            Phase::Active if permit.idle => "down",
            Phase::Active => match permit.rest {
                None => "active",
                Some(Rest::Restarts) => "restarting",
                Some(Rest::Stops) => "stopping",
                Some(Rest::Down) => "down",
            },
            Phase::Revoking(_) => "stopping",
        }
    }

    fn unit_state(&self, name: &UnitName, unit: &Unit, copies: &[CopyLine]) -> &'static str {
        let count = |state: &str| copies.iter().filter(|copy| copy.state == state).count();
        if unit.goal.wanted == Wanted::Stopped {
            return match copies {
                [] => "stopped",
                _ if count("unknown") == copies.len() => "unknown",
                _ => "stopping",
            };
        }
        let Some(definition) = unit.definition() else {
            return if copies.is_empty() { "undefined" } else { "partial" };
        };
        let active = count("active");
        if active > 0 {
            return if active >= self.wanted(name, unit, definition) { "active" } else { "partial" };
        }
        ["starting", "restarting", "stopping", "unknown", "down"]
            .into_iter()
            .find(|state| count(state) > 0)
            .unwrap_or("waiting")
    }

    /// How many copies there would be if nothing stood in the way. A node that is away is not waited for by a unit
    /// that runs on all: its copy comes back with it.
    fn wanted(&self, name: &UnitName, unit: &Unit, definition: &Definition) -> usize {
        let may = |id: &NodeId, node: &Node| {
            node.role.runs_units()
                && node.in_session().is_some()
                && self.state.drained_by(*id).is_none()
                && self.state.node_maintenance(*id).is_none()
                && !unit.holds.contains_key(id)
                && node.offers.get(name).is_some_and(|offer| offer.present)
                && definition.allows(node)
        };
        match definition.replicas {
            Replicas::Count(count) => count as usize,
            Replicas::All => self.state.nodes.iter().filter(|(id, node)| may(id, node)).count(),
        }
    }
}

/// One sentence of all nodes on which it failed: the first reason alone reads as if others were left to try.
fn spent(failed: &[FailedLine]) -> Option<String> {
    let retry = failed.iter().map(|failed| failed.retry_s).min().filter(|_| failed.len() > 1)?;
    let ends: Vec<String> = failed.iter().map(|failed| format!("{}: {}", failed.node, failed.why)).collect();
    Some(format!(
        "it failed on every node that may take it ({}) and is tried again in {retry} s",
        ends.join("; ")
    ))
}
