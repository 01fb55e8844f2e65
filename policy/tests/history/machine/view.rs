//! What a machine does with the word of the cluster.

use policy::{Cause, Fact, NodeView, PermitView, Phase, Token, UnitName};

use super::{Doing, Instance, Machine};
use crate::history::{Mutation, service};

impl Machine {
    /// Acts on a view, if it is one of the present session and not older than the latest (F2).
    pub(crate) fn take_view(
        &mut self,
        session: u64,
        view: &NodeView,
        now: u64,
        broken: Option<Mutation>,
    ) -> Vec<Fact> {
        let skips = broken == Some(Mutation::NoFloor);
        if !self.alive()
            || (!skips && (session != self.session || !self.connected || view.index < self.seen_index))
        {
            return Vec::new();
        }
        self.seen_index = self.seen_index.max(view.index);
        let mut said = Vec::new();
        for unit in &view.units {
            if self.gated.insert(unit.clone()) && self.copies.contains_key(unit) {
                self.changed.insert(unit.clone());
            }
        }
        self.survey.0 = self.survey.0.max(view.survey);
        self.starts.extend(view.assembly.iter().filter_map(|(unit, duty)| Some((unit.clone(), duty.start?))));
        let own = self.incarnation();
        for permit in view.permits.iter().filter(|permit| permit.incarnation == own) {
            said.extend(self.take_permit(permit, now, skips));
        }
        let held =
            |unit: &UnitName, token: Token| view.permits.iter().any(|p| p.unit == *unit && p.token == token);
        self.owed.retain(|(unit, token), _| held(unit, *token));
        let ended: Vec<UnitName> = self
            .files
            .iter()
            .filter(|(unit, token)| !held(unit, **token))
            .map(|(unit, _)| unit.clone())
            .collect();
        for unit in ended {
            self.stop(&unit, None, u64::MAX);
        }
        for unit in &view.stop {
            if self.copies.get(unit).is_some_and(|copy| copy.token.is_none()) {
                self.stop(unit, None, u64::MAX);
            }
        }
        said.extend(view.assembly.iter().filter_map(|(unit, duty)| self.do_duty(unit, *duty, view)));
        said.extend(self.rank(view));
        said
    }

    fn take_permit(&mut self, permit: &PermitView, now: u64, skip_floor: bool) -> Vec<Fact> {
        let (unit, token) = (&permit.unit, permit.token);
        let mut said = Vec::new();
        if let Some(terms) = &permit.next_terms {
            let revision = terms.revision;
            said.push(Fact::TermsAcknowledged { node: self.id, unit: unit.clone(), token, revision });
        }
        let released = self.floor.get(unit).is_some_and(|floor| *floor >= token);
        if released && !skip_floor {
            // Whoever still holds it against this node is told again that it was released.
            if !self.copies.contains_key(unit) {
                self.owed.entry((unit.clone(), token)).or_insert(Cause::Ordered);
            }
            return said;
        }
        // What it has said that it runs under binds a copy that is still starting, too.
        let terms = permit.next_terms.as_ref().unwrap_or(&permit.terms);
        if let Some(copy) = self.copies.get_mut(unit).filter(|copy| copy.token == Some(token)) {
            copy.terms = Some(terms.clone());
        }
        let left = self.take_hands_off(permit);
        let started = self.started(unit, token);
        match (&permit.phase, self.copies.get_mut(unit)) {
            (Phase::Granted, None) if self.leaving => self.released(unit, token, Cause::Unused),
            (Phase::Granted, None) if now < self.lease_until || skip_floor => {
                self.files.insert(unit.clone(), token);
                let (token, terms) = (Some(token), Some(terms.clone()));
                let copy = Instance { doing: Doing::Starting, token, terms, cause: None, stop_by: u64::MAX };
                self.copies.insert(unit.clone(), copy);
            }
            (Phase::Granted, Some(copy)) if copy.doing == Doing::Running && copy.token == Some(token) => {
                said.push(started);
            }
            // A copy that ran before the cluster knew of it is taken over.
            (Phase::Granted, Some(copy))
                if copy.doing == Doing::Running && copy.token.is_none() && *unit != service::name() =>
            {
                copy.token = Some(token);
                copy.terms = Some(terms.clone());
                self.files.insert(unit.clone(), token);
                said.push(started);
            }
            (Phase::Active, Some(copy)) => {
                if copy.token.is_none() && copy.doing == Doing::Running {
                    copy.token = Some(token);
                    copy.terms = Some(terms.clone());
                    self.files.insert(unit.clone(), token);
                }
            }
            (Phase::Active, None) if permit.hands_off => {}
            (Phase::Active, None) if left => self.released(unit, token, Cause::DownInMaintenance),
            (Phase::Active, None) => self.released(unit, token, Cause::Failed("it is gone".into())),
            (Phase::Revoking(_), Some(copy)) => {
                if copy.token.is_none_or(|held| held == token) {
                    copy.token = Some(token);
                    self.stop(unit, Some(Cause::Ordered), u64::MAX);
                }
            }
            (Phase::Revoking(_), None) => self.released(unit, token, Cause::Ordered),
            // A copy is there that nobody let start: nothing is started beside it, and the cluster hears of it.
            (Phase::Granted, Some(copy)) if copy.token.is_none() && *unit == service::name() => {
                self.changed.insert(unit.clone());
                self.released(unit, token, Cause::Unused);
            }
            (Phase::Granted, _) => {}
        }
        said
    }
}
