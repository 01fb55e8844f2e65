//! What holds at rest.
//!
//! Beside these: the plan comes to rest (`calm/mod.rs`), the last copies stay (`calm/copies.rs`), and what is planned is
//! accepted, which the runner of the scripts looks at.

use policy::{NodeId, Reason, Replicas, Unit, UnitName, Wanted};

use super::{History, Violation, service};

impl History {
    pub(super) fn check(&mut self) -> Result<(), Violation> {
        for name in self.units.clone() {
            let unit = service(name);
            let Some(known) = self.world.state.units.get(&unit) else { continue };
            if known.goal.wanted != Wanted::Started {
                continue;
            }
            let without = self.without(&unit);
            let reasons = self.reasons(&unit);
            self.check_reasons(&unit, &reasons)?;
            let (running, wanted) = (self.nodes.len() - without.len(), wanted(known, self.nodes.len()));
            if running >= wanted {
                continue;
            }
            // Of `Replicas=all` a node that may not have a copy lacks none, and only `apply` says which those are.
            if reasons.is_empty() && (running == 0 || !is_everywhere(known)) {
                let what = format!("{unit} has {running} copies of {wanted}");
                return Err(Violation { law: "what is missing has a reason", what });
            }
            self.missing += usize::from(!reasons.is_empty());
            self.check_nodes(&unit, &without, &reasons)?;
        }
        Ok(())
    }

    /// Nodes on which no copy is active.
    fn without(&self, unit: &UnitName) -> Vec<NodeId> {
        let nodes = self.world.state.nodes.keys().copied();
        let active = |node: &NodeId| self.world.state.known_active(unit).any(|(_, it)| it.node == *node);
        nodes.filter(|node| !active(node)).collect()
    }

    /// No reason says that something is under way where nothing is, or that something is down which is up.
    fn check_reasons(&self, unit: &UnitName, reasons: &[Reason]) -> Result<(), Violation> {
        let is_up = |other: &UnitName| self.world.state.known_active(other).next().is_some();
        for reason in reasons {
            let is_false = match reason {
                Reason::Requires(other) => is_up(other),
                Reason::Starting(_)
                | Reason::Stopping { .. }
                | Reason::StopsFirst { .. }
                | Reason::AfterStop(_)
                | Reason::TooManyStarts(_) => true,
                _ => false,
            };
            if is_false {
                let text = reason.text(&self.world.state, unit, self.world.time);
                let what = format!("{unit} at rest: {text}");
                return Err(Violation { law: "a reason is true", what });
            }
        }
        Ok(())
    }

    /// No node could take what is short of a copy.
    fn check_nodes(&self, unit: &UnitName, nodes: &[NodeId], reasons: &[Reason]) -> Result<(), Violation> {
        if reasons.iter().any(is_held_by_the_plan) {
            return Ok(());
        }
        for node in nodes {
            let name = self.world.state.node_name(*node);
            let mut supposed = self.world.clone();
            let outcome = supposed.command(&format!("apply grant {unit} on {name}")).unwrap_or_default();
            if !outcome.iter().any(|line| line.starts_with("refused")) {
                let texts: Vec<String> =
                    reasons.iter().map(|it| it.text(&self.world.state, unit, self.world.time)).collect();
                let what = format!("{unit} could start on {name}, but: {}", texts.join("; "));
                return Err(Violation { law: "what could start is granted", what });
            }
        }
        Ok(())
    }
}

fn is_everywhere(unit: &Unit) -> bool {
    unit.adopted.as_ref().is_some_and(|adopted| adopted.definition.replicas == Replicas::All)
}

/// How many copies are wanted at most.
fn wanted(unit: &Unit, nodes: usize) -> usize {
    match unit.adopted.as_ref().map(|adopted| adopted.definition.replicas) {
        Some(Replicas::Count(count)) => nodes.min(count as usize),
        Some(Replicas::All) => nodes,
        None => 1,
    }
}

/// What the plan holds back, and `apply` would let start: a part of what was stopped later waits for a wish (P36).
fn is_held_by_the_plan(reason: &Reason) -> bool {
    matches!(reason, Reason::PartStopped(_))
}
