//! What is in maintenance, so that it is never forgotten.

use policy::{Scope, State};

use super::View;
use crate::api::model::MaintenanceLine;

impl View<'_> {
    /// Everything that is, the widest first.
    pub(super) fn maintenance(&self) -> Vec<MaintenanceLine> {
        let nodes = self.state.nodes.keys().map(|id| Scope::Node(*id));
        let units = self.state.units.keys().map(|name| Scope::Unit(name.clone()));
        [Scope::Cluster].into_iter().chain(nodes).chain(units).filter_map(|scope| self.line(&scope)).collect()
    }

    fn line(&self, scope: &Scope) -> Option<MaintenanceLine> {
        let maintenance = self.state.maintenance_of(scope)?;
        let (kind, name) = match scope {
            Scope::Cluster => ("cluster", None),
            Scope::Node(_) => ("node", Some(self.state.scope_name(scope))),
            Scope::Unit(_) => ("unit", Some(self.state.scope_name(scope))),
        };
        Some(MaintenanceLine {
            kind: kind.to_owned(),
            name,
            by: maintenance.by.clone(),
            reason: maintenance.reason.clone(),
            since_wall_ms: maintenance.wall_ms,
            text: text(self.state, scope),
            remedy: format!("`{}` ends it", self.state.maintenance_release(scope)),
        })
    }
}

/// What it means, in one sentence.
fn text(state: &State, scope: &Scope) -> String {
    let what = match scope {
        Scope::Cluster => "no unit is started, stopped or moved, and no node is fenced",
        Scope::Node(_) => "what it runs is left alone, and it is not fenced",
        Scope::Unit(_) => "its copies are left alone, and nothing is fenced for it",
    };
    format!("{}: {what}", state.maintenance_text(scope))
}
