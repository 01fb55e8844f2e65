//! People put their hands on units, nodes and the cluster, work there, and take them off again.

use policy::{Command, Decision, Entry, NodeId, PermitView, Scope, State, Terms, Token, UnitName, Wish};

use super::World;
use super::check::{Checked, Violation};
use super::machine::{Doing, Instance};

impl World {
    /// Begins, ends, or works in, a maintenance. Numbers of its own: histories without it stay as they were.
    pub(super) fn maintain(&mut self) -> Checked {
        if !self.upkeep.percent(8) {
            return Ok(());
        }
        let begun = scopes(&self.state);
        let at = self.upkeep.below(self.machines.len());
        let units: Vec<UnitName> = self.state.units.keys().cloned().collect();
        let which = self.upkeep.below(units.len().max(1));
        let (Some(node), by) = (self.machines.get(at).map(|machine| machine.id), "o".to_string()) else {
            return Ok(());
        };
        match self.upkeep.below(10) {
            0..=3 => {
                let ended = self.upkeep.below(begun.len().max(1));
                match begun.into_iter().nth(ended) {
                    Some(scope) => self.wish(Wish::EndMaintenance { scope, by }),
                    None => Ok(()),
                }
            }
            4..=6 => {
                let scope = match (self.upkeep.below(10), units.get(which)) {
                    (0, _) | (_, None) => Scope::Cluster,
                    (1..=5, _) => Scope::Node(node),
                    (_, Some(unit)) => Scope::Unit(unit.clone()),
                };
                self.wish(Wish::BeginMaintenance { scope, reason: None, by })
            }
            _ => {
                let Some(unit) = units.get(which) else { return Ok(()) };
                if let Some(machine) = self.machines.get_mut(at).filter(|machine| machine.alive()) {
                    let done = machine.work_by_hand(unit);
                    self.story.push(format!("{} {unit} by hand on {}: {done}", self.now, machine.name));
                }
                Ok(())
            }
        }
    }

    /// Everybody takes the hands off.
    pub(super) fn end_all_maintenance(&mut self) -> Checked {
        for scope in scopes(&self.state) {
            self.wish(Wish::EndMaintenance { scope, by: "o".into() })?;
        }
        Ok(())
    }
}

impl super::Machine {
    /// Writes down whether a copy is left alone, and says whether it was.
    pub(super) fn take_hands_off(&mut self, permit: &PermitView) -> bool {
        let (unit, token) = (&permit.unit, permit.token);
        let left = self.alone.get(unit).is_some_and(|(alone, _)| *alone == token);
        if !permit.hands_off {
            self.alone.remove(unit);
            return left;
        }
        if !left && !self.copies.contains_key(unit) {
            self.changed.insert(unit.clone());
        }
        self.files.insert(unit.clone(), token);
        self.alone.insert(unit.clone(), (token, permit.terms.clone()));
        left
    }

    fn begin_by_hand(&mut self, unit: &UnitName, token: Token, terms: Terms) {
        let (doing, stop_by) = (Doing::Running, u64::MAX);
        let copy = Instance { doing, token: Some(token), terms: Some(terms), cause: None, stop_by };
        self.copies.insert(unit.clone(), copy);
        self.changed.insert(unit.clone());
    }

    /// `systemctl stop`, or `start`, of a unit that is left alone here: its permit's file is there, and lets it.
    fn work_by_hand(&mut self, unit: &UnitName) -> &'static str {
        let Some((token, terms)) = self.alone.get(unit).cloned() else { return "no, it is not left alone" };
        let held = self.files.get(unit) == Some(&token);
        match self.copies.get(unit).map(|copy| copy.doing) {
            Some(Doing::Running) => {
                self.copies.remove(unit);
                self.changed.insert(unit.clone());
                "stopped"
            }
            None if held => {
                self.begin_by_hand(unit, token, terms);
                "started"
            }
            _ => "no",
        }
    }
}

fn scopes(state: &State) -> Vec<Scope> {
    let cluster = state.maintenance.iter().map(|_| Scope::Cluster);
    let nodes = state.nodes.iter().filter(|(_, node)| node.maintenance.is_some());
    let units = state.units.iter().filter(|(_, unit)| unit.maintenance.is_some());
    let nodes = nodes.map(|(id, _)| Scope::Node(*id));
    cluster.chain(nodes).chain(units.map(|(name, _)| Scope::Unit(name.clone()))).collect()
}

/// P61, P62: no decision touches a copy, a unit or a node in maintenance, nor takes the place of what ended there.
pub(super) fn hands_are_off(before: &State, entry: &Entry) -> Checked {
    let Command::Decision(decision) = &entry.command else { return Ok(()) };
    let of_unit = |name: &UnitName| before.units.get(name).is_some_and(|unit| unit.maintenance.is_some());
    let of_node = |id: &NodeId| before.nodes.get(id).is_some_and(|node| node.maintenance.is_some());
    let holder = |name: &UnitName, token| before.permit(name, token).map(|permit| permit.node);
    let copy = |name: &UnitName, id: Option<NodeId>| of_unit(name) || id.is_some_and(|id| of_node(&id));
    let touched = match decision {
        Decision::Grant { unit, node, .. } => {
            let exclusive = before.units.get(unit).is_some_and(policy::Unit::is_exclusive);
            let mut kept = before.nodes.values().filter(|node| node.maintenance.is_some());
            copy(unit, Some(*node)) || (exclusive && kept.any(|node| node.kept.contains(unit)))
        }
        Decision::Revoke { unit, token, .. }
        | Decision::Reterm { unit, token, .. }
        | Decision::Expire { unit, token } => copy(unit, holder(unit, *token)),
        Decision::OpenGather { unit } | Decision::PullIn { unit, .. } => of_unit(unit),
        Decision::Elect { unit, election, .. } => copy(unit, Some(election.node)),
        Decision::OpenCase { node, because, .. } => copy(because, Some(*node)),
        Decision::BeginAttempt { case, .. } => before.cases.get(case).is_some_and(|case| of_node(&case.node)),
        Decision::BeginOpening { node, .. } => of_node(node),
        Decision::AdoptDefinition { .. }
        | Decision::RaiseFeatureLevel { .. }
        | Decision::AbandonAttempt { .. }
        | Decision::CancelCase { .. }
        | Decision::AbandonOpening { .. } => {
            return Ok(());
        }
    };
    if touched || before.maintenance.is_some() {
        let what = format!("{decision:?} touches what is in maintenance");
        return Err(Violation { rule: "P61 hands off", what });
    }
    Ok(())
}
