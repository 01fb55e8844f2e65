//! The begin and the end of maintenance, and what is refused meanwhile.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use crate::event::{EventKind, Severity};
use crate::maintenance::{Maintenance, Scope};
use crate::name::{NodeId, UnitName};
use crate::permit::Permit;
use crate::refusal::Refusal;
use crate::state::State;
use crate::unit::{MoveWish, Wanted};

use super::Step;

impl Step<'_> {
    /// Whoever begins it once more may say anew what for; it goes on since when it began.
    pub(super) fn begin_maintenance(
        &mut self,
        scope: &Scope,
        reason: Option<&str>,
        by: &str,
    ) -> Result<(), Refusal> {
        let wall_ms = self.wall_ms;
        let place = self.maintenance_mut(scope)?;
        let since = match place {
            Some(_) if reason.is_none() => return Ok(()),
            Some(before) => before.wall_ms,
            None => wall_ms,
        };
        let reason = reason.map(String::from);
        *place = Some(Maintenance { by: by.into(), reason: reason.clone(), wall_ms: since });
        self.drop_moves(scope);
        let (node, unit) = parts(scope);
        let kind = EventKind::MaintenanceBegan { scope: scope.clone(), by: by.into(), reason };
        self.record(Severity::Warning, node, unit, kind);
        Ok(())
    }

    pub(super) fn end_maintenance(&mut self, scope: &Scope, by: &str) -> Result<(), Refusal> {
        if self.maintenance_mut(scope)?.take().is_none() {
            return Ok(());
        }
        if let Scope::Node(id) = scope {
            self.node_mut(*id)?.kept = BTreeSet::new();
        }
        self.forget_health(scope);
        self.forget_ranks(scope);
        let (node, unit) = parts(scope);
        let kind = EventKind::MaintenanceEnded { scope: scope.clone(), by: by.into() };
        self.record(Severity::Info, node, unit, kind);
        Ok(())
    }

    /// A move that was asked for and not begun would come true at the end, and surprise.
    fn drop_moves(&mut self, scope: &Scope) {
        for (name, unit) in &mut self.state.units {
            let permits = &unit.permits;
            let touched = |moving: &mut MoveWish| match scope {
                Scope::Cluster => true,
                Scope::Node(id) => {
                    let leaves = permits.get(&moving.from).is_some_and(|permit| permit.node == *id);
                    leaves || moving.to == Some(*id)
                }
                Scope::Unit(of) => name == of,
            };
            unit.moving.take_if(touched);
        }
    }

    /// What a check found before says nothing after: it is made anew.
    fn forget_health(&mut self, scope: &Scope) {
        for (name, unit) in &mut self.state.units {
            for permit in unit.permits.values_mut() {
                let touched = match scope {
                    Scope::Cluster => true,
                    Scope::Node(id) => permit.node == *id,
                    Scope::Unit(of) => name == of,
                };
                permit.unwell.take_if(|_| touched);
            }
        }
    }

    fn maintenance_mut(&mut self, scope: &Scope) -> Result<&mut Option<Maintenance>, Refusal> {
        Ok(match scope {
            Scope::Cluster => &mut self.state.maintenance,
            Scope::Node(id) => &mut self.node_mut(*id)?.maintenance,
            Scope::Unit(name) => {
                let unit = self.state.units.get_mut(name);
                &mut unit.ok_or_else(|| Refusal::UnknownUnit(name.clone()))?.maintenance
            }
        })
    }

    /// A copy has ended on a node in maintenance: it is missed when that is over, and nowhere else before. What the
    /// cluster had begun to stop there goes where it was to go.
    pub(super) fn keep_place(&mut self, unit: &UnitName, permit: &Permit) {
        if let Ok(node) = self.node_mut(permit.node)
            && node.maintenance.is_some()
            && !permit.is_revoking()
        {
            node.kept.insert(unit.clone());
        }
    }
}

fn parts(scope: &Scope) -> (Option<NodeId>, Option<&UnitName>) {
    match scope {
        Scope::Cluster => (None, None),
        Scope::Node(id) => (Some(*id), None),
        Scope::Unit(name) => (None, Some(name)),
    }
}

impl State {
    /// No decision touches a copy in maintenance (P61).
    pub(super) fn may_touch(&self, unit: &UnitName, id: NodeId) -> Result<(), Refusal> {
        match self.copy_maintenance(unit, id) {
            Some(scope) => Err(Refusal::Unsafe(self.maintenance_text(&scope))),
            None => Ok(()),
        }
    }

    /// The same of all that a decision says of a whole unit.
    pub(super) fn may_touch_unit(&self, unit: &UnitName) -> Result<(), Refusal> {
        match self.unit_maintenance(unit) {
            Some(scope) => Err(Refusal::Unsafe(self.maintenance_text(&scope))),
            None => Ok(()),
        }
    }

    /// No node in maintenance is fenced (P62).
    pub(super) fn may_touch_node(&self, id: NodeId) -> Result<(), Refusal> {
        match self.node_maintenance(id) {
            Some(scope) => Err(Refusal::Unsafe(self.maintenance_text(&scope))),
            None => Ok(()),
        }
    }

    /// What is asked of something in maintenance is refused, for nothing would follow before its end (P63).
    pub(super) fn may_be_asked(&self, scope: Option<Scope>) -> Result<(), Refusal> {
        let Some(scope) = scope else { return Ok(()) };
        let why = format!(
            "{}: the cluster leaves it alone until `{}`",
            self.maintenance_text(&scope),
            self.maintenance_release(&scope)
        );
        Err(Refusal::Impossible(why))
    }

    /// A goal: of the unit, of its copies if they are to stop, and of what a start would stop.
    pub(super) fn goal_may_be_set(
        &self,
        unit: &UnitName,
        wanted: Wanted,
        node: Option<NodeId>,
    ) -> Result<(), Refusal> {
        self.may_be_asked(match wanted {
            Wanted::Stopped => self.any_maintenance(unit),
            Wanted::Started => self.unit_maintenance(unit),
        })?;
        self.may_be_asked(node.and_then(|node| self.node_maintenance(node)))?;
        if wanted == Wanted::Stopped {
            return Ok(());
        }
        let to_stop = |other: &&UnitName| {
            self.units.get(*other).is_some_and(|other| other.goal.wanted == Wanted::Started)
        };
        self.opponents(unit)
            .filter(to_stop)
            .try_for_each(|other| self.may_be_asked(self.any_maintenance(other)))
    }
}
