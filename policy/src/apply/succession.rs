//! Roles: who may have the latest data, and what was said of it.

use alloc::format;
use alloc::vec::Vec;

use crate::assembly::{Found, Heard, Word};
use crate::event::{EventKind, Severity};
use crate::evidence::Evidence;
use crate::maintenance::Scope;
use crate::name::{Incarnation, NodeId, Token, UnitName};
use crate::permit::{Permit, Phase};
use crate::refusal::Refusal;
use crate::succession::{Heir, Mark, Succession};

use super::{Step, stale};

impl Step<'_> {
    /// A definition came into force: a role is remembered from now on. Whoever runs a copy beside its holder may have its
    /// data. What was remembered of copies of another unit, or before ranks counted for nothing for a while, is void.
    pub(super) fn remember_succession(&mut self, unit: &UnitName) {
        let (index, time) = (self.index, self.time);
        let Some(known) = self.state.units.get_mut(unit) else { return };
        let ranked = known.definition().filter(|definition| definition.rank);
        let Some(beside) = ranked.and_then(|definition| definition.same_node_as.first()).cloned() else {
            known.succession = None;
            return;
        };
        if known.succession.as_ref().is_some_and(|succession| succession.beside == beside) {
            return;
        }
        let mut succession = Succession::unknown(beside.clone(), index, time);
        succession.holder = known.permits.values().next().map(|permit| permit.node);
        let held = succession.holder.is_some();
        known.succession = Some(succession);
        let copies = if held { self.copies_of(&beside) } else { Vec::new() };
        self.with_succession(unit, |succession| succession.heirs.extend(copies));
    }

    /// A role was granted: those that have a copy now are its heirs, beside those that may run one still.
    pub(super) fn role_granted(&mut self, unit: &UnitName, id: NodeId) {
        let Some((_, _, beside)) = self.state.role(unit) else { return };
        let copies = self.copies_of(&beside.clone());
        self.with_succession(unit, |succession| {
            succession.holder = Some(id);
            succession.mark = None;
            succession.heirs.append(&mut succession.adrift);
            succession.heirs.retain(|_, heir| heir.ended.is_none());
            succession.heirs.extend(copies);
            succession.heard.clear();
        });
    }

    /// A copy of a unit was granted. Where somebody holds a role beside it, it may have all data from now on.
    pub(super) fn copy_granted(
        &mut self,
        unit: &UnitName,
        id: NodeId,
        token: Token,
        incarnation: &Incarnation,
    ) {
        for role in self.roles_beside(unit) {
            let held = self.state.units.get(&role).is_some_and(|role| !role.permits.is_empty());
            self.with_succession(&role, |succession| {
                succession.adrift.remove(&id);
                let before = succession.heirs.get(&id);
                // While nobody holds the role there is nothing new to have: one that comes back is the heir that it was.
                let ended = match before {
                    _ if held => None,
                    Some(heir) => heir.ended,
                    None => return,
                };
                succession.heirs.insert(id, Heir { incarnation: incarnation.clone(), token, ended });
            });
        }
    }

    /// A permit ended: that of a role, which is vacant from now on; or that of a copy beside one. Only a release or a proof
    /// says that a copy has ended.
    pub(super) fn succession_ended(
        &mut self,
        unit: &UnitName,
        permit: &Permit,
        token: Token,
        evidence: Evidence,
    ) {
        let (index, time) = (self.index, self.time);
        let vacant = self.state.units.get(unit).is_some_and(|unit| unit.permits.is_empty());
        self.with_succession(unit, |succession| {
            if vacant {
                succession.open(index, time);
            }
        });
        for role in self.roles_beside(unit) {
            self.with_succession(&role, |succession| {
                succession.heard.remove(&permit.node);
                let heir = succession.heirs.get_mut(&permit.node).filter(|heir| heir.token == token);
                if evidence.proves_end() {
                    heir.into_iter().for_each(|heir| heir.ended = Some(index));
                } else if heir.is_none_or(|heir| heir.ended.is_some()) {
                    let heir = Heir { incarnation: permit.incarnation.clone(), token, ended: None };
                    succession.adrift.insert(permit.node, heir);
                }
            });
        }
    }

    /// A life was proven over: what time alone had taken from it is proven as well.
    pub(super) fn heirs_gone(&mut self, node: NodeId, incarnation: &Incarnation) {
        let index = self.index;
        self.heirs(node, incarnation, |heir| {
            heir.ended.get_or_insert(index);
        });
    }

    /// The proof was no proof (F18).
    pub(super) fn heirs_contradicted(&mut self, node: NodeId, incarnation: &Incarnation) {
        self.heirs(node, incarnation, |heir| heir.ended = None);
    }

    /// A release that came after time had ended the permit. Whether that was news.
    pub(super) fn heir_released_late(
        &mut self,
        unit: &UnitName,
        id: NodeId,
        incarnation: &Incarnation,
        token: Token,
    ) -> bool {
        let index = self.index;
        let same = |heir: &&mut Heir| heir.token == token && heir.incarnation == *incarnation;
        let mut news = false;
        for role in self.roles_beside(unit) {
            self.with_succession(&role, |succession| {
                let heir = succession.heirs.get_mut(&id).filter(same);
                if let Some(heir) = heir.filter(|heir| heir.ended.is_none()) {
                    heir.ended = Some(index);
                    news = true;
                }
                if succession.adrift.get_mut(&id).filter(same).is_some() {
                    succession.adrift.remove(&id);
                    news = true;
                }
            });
        }
        news
    }

    /// A rank counts for its life and session, by a look that began when the role was vacant, on a copy that runs since
    /// then. The holder's own is the mark.
    pub(super) fn rank_reported(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        unit: &UnitName,
        seen: u64,
        found: &Found,
    ) -> Result<(), Refusal> {
        let index = self.index;
        let session = self.heard(id, incarnation)?.session;
        if seen > index {
            return Err(stale("it looked at what is not known yet"));
        }
        let role = self.state.role(unit).ok_or_else(|| stale("it has no Rank="))?;
        let (known, succession, beside) = role;
        if let Some(scope) = self.state.rank_maintenance(unit, beside, id) {
            return Err(stale(&self.state.maintenance_text(&scope)));
        }
        if let Some((token, permit)) = known.permit_on(id) {
            let Found::Data { rank, identity, .. } = found else { return Ok(()) };
            let older = succession.mark.as_ref().is_some_and(|mark| seen <= mark.seen);
            if permit.phase != Phase::Active || permit.incarnation != *incarnation || older {
                return Err(stale("it does not hold the role, or a later look is known"));
            }
            if seen < token.index() {
                return Err(stale("it looked before it held the role"));
            }
            let mark = Mark { rank: *rank, identity: identity.clone(), seen };
            self.with_succession(unit, |succession| succession.mark = Some(mark));
            return Ok(());
        }
        if !known.permits.is_empty() || seen < succession.epoch {
            return Err(stale("the role was not vacant when it looked"));
        }
        let copy = self.state.known_active(beside).find(|(_, permit)| permit.node == id);
        if copy.is_none_or(|(token, _)| seen < token.index()) {
            return Err(stale("its copy is not active, or began since the look"));
        }
        let heard = Heard { incarnation: incarnation.clone(), session, found: found.clone(), void: false };
        self.with_succession(unit, |succession| succession.heard.insert(id, heard));
        Ok(())
    }

    /// What the grant of a role rests on, for whoever asks later why it went there.
    pub(super) fn note_choice(&mut self, unit: &UnitName, id: NodeId) -> Result<(), Refusal> {
        let Some(best) = self.state.best_rank(unit, self.time)? else { return Ok(()) };
        self.state.has_rank(unit, id, &best)?;
        let without: Vec<NodeId> = best.without.into_iter().collect();
        let severity = if without.is_empty() { Severity::Info } else { Severity::Warning };
        let kind = EventKind::RankChosen { identity: best.identity, rank: best.rank, without };
        self.record(severity, Some(id), Some(unit), kind);
        Ok(())
    }

    /// An operator's word on who holds a role next.
    pub(super) fn role_word(
        &mut self,
        unit: &UnitName,
        epoch: u64,
        word: Word,
        by: &str,
    ) -> Result<(), Refusal> {
        let impossible = |why| Err(Refusal::Impossible(why));
        let Some((known, succession, _)) = self.state.role(unit) else {
            return impossible(format!("{unit} has no Rank="));
        };
        if !known.permits.is_empty() {
            return impossible(format!("{unit} is held, or may be: nobody is chosen now"));
        }
        if succession.epoch != epoch {
            return impossible(format!(
                "{unit} was held since you were shown that; `convoke why {unit}` shows the present choice"
            ));
        }
        let node = match word {
            Word::Resync(_) => {
                return impossible(format!("{unit} is a role and has no data of its own"));
            }
            // One that was chosen and is gone is waited for until that is taken back.
            Word::Without(node)
                if !succession.heirs.contains_key(&node)
                    && succession.words.from.as_ref().is_none_or(|(from, _)| *from != node) =>
            {
                let name = self.state.node_name(node);
                return impossible(format!("nobody waits for the rank of {name}"));
            }
            Word::From(node) if self.state.rank_of(succession, node).is_none() => {
                let name = self.state.node_name(node);
                return impossible(format!("{name} has not said its rank"));
            }
            Word::Without(node) | Word::From(node) => node,
        };
        self.with_succession(unit, |succession| match word {
            Word::Without(_) => {
                succession.words.from.take_if(|(from, _)| *from == node);
                if succession.heirs.contains_key(&node) {
                    succession.words.without.insert(node, by.into());
                }
            }
            Word::From(_) => succession.words.from = Some((node, by.into())),
            Word::Resync(_) => {}
        });
        let kind = EventKind::AssemblyWord { word, by: by.into() };
        self.record(Severity::Warning, Some(node), Some(unit), kind);
        Ok(())
    }

    /// A maintenance is over, in which any copy may have been started anew or changed: of a vacant role all ranks are
    /// asked for again. How far the holder was, as it said before, stays true.
    pub(super) fn forget_ranks(&mut self, scope: &Scope) {
        let (index, time) = (self.index, self.time);
        for (name, unit) in &mut self.state.units {
            let vacant = unit.permits.is_empty();
            let Some(succession) = unit.succession.as_mut().filter(|_| vacant) else { continue };
            let touched = match scope {
                Scope::Cluster => true,
                Scope::Node(id) => succession.heard.contains_key(id),
                Scope::Unit(of) => name == of || succession.beside == *of,
            };
            if touched {
                succession.open(index, time);
            }
        }
    }

    /// Roles that run beside copies of a unit.
    fn roles_beside(&self, unit: &UnitName) -> Vec<UnitName> {
        let beside = |role: &&UnitName| self.state.role(role).is_some_and(|(_, _, beside)| beside == unit);
        self.state.dependents(unit).filter(beside).cloned().collect()
    }

    /// Copies of a unit that hold permits, as heirs.
    fn copies_of(&self, unit: &UnitName) -> Vec<(NodeId, Heir)> {
        let permits = self.state.units.get(unit).into_iter().flat_map(|unit| &unit.permits);
        let heir = |(token, permit): (&Token, &Permit)| {
            (permit.node, Heir { incarnation: permit.incarnation.clone(), token: *token, ended: None })
        };
        permits.map(heir).collect()
    }

    fn heirs(&mut self, node: NodeId, incarnation: &Incarnation, change: impl Fn(&mut Heir)) {
        let successions = self.state.units.values_mut().filter_map(|unit| unit.succession.as_mut());
        let heirs = successions
            .flat_map(|succession| [succession.heirs.get_mut(&node), succession.adrift.get_mut(&node)])
            .flatten();
        heirs.filter(|heir| heir.incarnation == *incarnation).for_each(change);
    }

    fn with_succession<T>(&mut self, unit: &UnitName, change: impl FnOnce(&mut Succession) -> T) {
        let known = self.state.units.get_mut(unit);
        if let Some(succession) = known.and_then(|known| known.succession.as_mut()) {
            change(succession);
        }
    }
}
