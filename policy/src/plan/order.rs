//! What units do to each other: who starts and stops with whom, before whom, and never beside whom.
//!
//! The words are systemd's, with systemd's meaning; `docs/design/0009-order-over-the-cluster.md` says where a cluster
//! makes them mean something of its own. What a start rests on is checked again in `apply`; the rest is order, which
//! costs time when it is wrong and no promise.

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::command::Decision;
use crate::definition::Definition;
use crate::event::StopReason;
use crate::name::{NodeId, Token, UnitName};
use crate::permit::Permit;
use crate::unit::{Unit, Wanted};

use super::assembly::stops_before;
use super::{Planner, Reason};

impl Planner<'_> {
    /// Has what a started unit requires or wants started too, where nobody decided on it (F9).
    pub(super) fn pull_in(&mut self, name: &UnitName, definition: &Definition) {
        for other in definition.pulls_in() {
            let undecided = self.state.units.get(other).is_some_and(|unit| {
                unit.goal.wanted == Wanted::Stopped && unit.goal.by.is_none() && !self.pulled.contains(other)
            });
            let undecided = undecided && self.state.unit_maintenance(other).is_none();
            if undecided {
                self.restless = true;
                self.pulled.insert(other.clone());
                // It starts with the next plan: what comes after it waits for that, as in systemd's one transaction.
                self.coming.insert(other.clone());
                self.plan.decisions.push(Decision::PullIn { unit: other.clone(), by: name.clone() });
            }
        }
    }

    /// Whether what it needs, or is ordered with, has to start or stop first.
    pub(super) fn is_out_of_order(&mut self, name: &UnitName, unit: &Unit, definition: &Definition) -> bool {
        let (reasons, comes) = self.order_reasons(name, unit, definition);
        let hindered = !reasons.is_empty();
        for reason in reasons {
            self.because(name, reason);
        }
        if hindered && comes {
            self.coming.insert(name.clone());
        }
        hindered
    }

    /// What has to start or stop first, and whether all of it is about to.
    pub(super) fn order_reasons(
        &self,
        name: &UnitName,
        unit: &Unit,
        definition: &Definition,
    ) -> (Vec<Reason>, bool) {
        let mut reasons: Vec<Reason> = Vec::new();
        let mut comes = true;
        for needed in definition.needs() {
            // A copy that runs is enough for S4; those that are on their way are waited for, except by a neighbour,
            // which minds its own node only.
            let coming = self.coming.contains(needed);
            if coming && !definition.same_node_as.contains(needed) {
                reasons.push(Reason::After(needed.clone()));
            } else if self.is_wanted_down(needed)
                || !self.stays_active(needed, None)
                || !self.state.is_up(needed, None)
            {
                comes &= coming;
                reasons.push(if coming {
                    Reason::After(needed.clone())
                } else {
                    Reason::Requires(needed.clone())
                });
            }
        }
        for earlier in self.sequence.before(name) {
            // Nor does a neighbour of several copies wait for those on other nodes, once one of them runs.
            let neighbour = definition.same_node_as.contains(earlier) && self.stays_active(earlier, None);
            if self.coming.contains(earlier) && !neighbour {
                reasons.push(Reason::After(earlier.clone()));
            }
        }
        // As in systemd, a stop goes before a start wherever the two are ordered, whichever way.
        let ordered = self.sequence.before(name).chain(self.sequence.after(name));
        let stopping: Vec<&UnitName> =
            ordered.chain(&definition.part_of).filter(|other| self.is_stopping(other)).collect();
        for other in stopping {
            comes = false;
            reasons.push(Reason::AfterStop(other.clone()));
        }
        for whole in definition.part_of.iter().filter(|whole| self.stopped_with(whole, unit)) {
            comes = false;
            reasons.push(Reason::PartStopped(whole.clone()));
        }
        (reasons, comes)
    }

    /// A unit that runs there beside a copy which is gone: it stops before another copy starts, so that a role is demoted
    /// before its server comes back as a standby.
    pub(super) fn left_beside(&self, name: &UnitName, id: NodeId) -> Option<UnitName> {
        let left = |other: &&UnitName| {
            let unit = self.state.units.get(*other);
            let beside = unit.and_then(Unit::definition).is_some_and(|it| it.same_node_as.contains(name));
            let held = unit.and_then(|unit| unit.permit_on(id));
            let held = held.is_some_and(|(_, permit)| !permit.waits_beside(name));
            beside && held && self.state.copy_maintenance(other, id).is_none()
        };
        self.state.dependents(name).find(left).cloned()
    }

    /// Whether a unit that it conflicts with may run. Wants a lost node fenced if that is where.
    pub(super) fn is_opposed(&mut self, name: &UnitName) -> bool {
        let state = self.state;
        let mut opposed = false;
        for other in state.opponents(name) {
            for (node, _) in self.index.running(other) {
                self.because(name, Reason::Conflicts { unit: other.clone(), node: Some(*node) });
                self.waits_for(*node, name);
                opposed = true;
            }
            if !opposed && self.begun.contains(other) {
                self.because(name, Reason::Conflicts { unit: other.clone(), node: None });
                opposed = true;
            }
        }
        opposed
    }

    /// The opponent that a running unit has to make room for.
    pub(super) fn overruled_by(&self, name: &UnitName, unit: &Unit) -> Option<UnitName> {
        let mine = self.precedence(name, unit.permits.keys().next());
        let mut opponents = self.state.opponents(name);
        let overrules = |other: &&UnitName| {
            let known = self.state.units.get(*other);
            known.is_some_and(|known| {
                known.goal.wanted == Wanted::Started
                    && !known.permits.is_empty()
                    && self.precedence(other, known.permits.keys().next()) < mine
            })
        };
        opponents.find(overrules).cloned()
    }

    /// The unit that this permit's node must not have beside it, where that one is to stay.
    pub(super) fn shares_with(&self, name: &UnitName, permit: &Permit) -> Vec<UnitName> {
        let known = self.state.units.get_key_value(name);
        let Some((name, (token, _))) =
            known.and_then(|(name, unit)| Some((name, unit.permit_on(permit.node)?)))
        else {
            return Vec::new();
        };
        let stays = |other: &&UnitName| {
            let held = self.state.units.get(*other).and_then(|unit| unit.permit_on(permit.node));
            held.is_some_and(|(held, _)| {
                !self.is_leaving(other, held)
                    && self.precedence(other, Some(&held)) < self.precedence(name, Some(&token))
            })
        };
        self.state.strangers(name).filter(stays).cloned().collect()
    }

    /// Of two that cannot both stay, the smaller one does: the higher priority, then who has run for longer.
    fn precedence<'b>(
        &self,
        name: &'b UnitName,
        oldest: Option<&Token>,
    ) -> (Reverse<i64>, Token, &'b UnitName) {
        (Reverse(self.sequence.priority(name)), oldest.copied().unwrap_or(Token(u64::MAX)), name)
    }

    /// The stop of another unit that takes this one along.
    pub(super) fn taken_along(&self, unit: &Unit, definition: &Definition) -> Option<StopReason> {
        for required in &definition.requires {
            // An explicit stop takes its dependents along, a failure does not; nor does a stop that cannot follow.
            if (self.is_wanted_down(required) || self.is_stopping(required)) && !self.goes_on(required) {
                return Some(StopReason::RequirementStops(required.clone()));
            }
        }
        for bound in &definition.binds_to {
            if !self.stays_active(bound, None) {
                return Some(StopReason::BoundEnds(bound.clone()));
            }
        }
        for whole in &definition.part_of {
            if self.stopped_with(whole, unit) || self.is_stopping(whole) {
                return Some(StopReason::PartStops(whole.clone()));
            }
        }
        None
    }

    fn is_wanted_down(&self, name: &UnitName) -> bool {
        self.state.units.get(name).is_some_and(|unit| unit.goal.wanted == Wanted::Stopped)
    }

    /// Whether a copy that is heard stays as it is, whatever was asked of the unit.
    fn goes_on(&self, name: &UnitName) -> bool {
        let stays = |(token, permit): (&Token, &Permit)| {
            !self.is_leaving(name, *token) && !self.state.is_lost(permit)
        };
        self.state.units.get(name).is_some_and(|unit| unit.permits.iter().any(stays))
    }

    /// Whether somebody stopped the whole after the part was last asked to run: whichever was said last counts.
    fn stopped_with(&self, whole: &UnitName, part: &Unit) -> bool {
        let whole = self.state.units.get(whole).map(|unit| &unit.goal);
        whole.is_some_and(|goal| {
            goal.wanted == Wanted::Stopped && goal.by.is_some() && goal.revision > part.goal.revision
        })
    }

    /// Whether a unit is known active, there or anywhere, and not about to stop.
    pub(super) fn stays_active(&self, name: &UnitName, there: Option<NodeId>) -> bool {
        let mut active = self.state.known_active(name);
        active.any(|(token, permit)| {
            there.is_none_or(|there| permit.node == there) && !self.is_leaving(name, token)
        })
    }

    /// Whether the cluster stops all of a unit, for good or to start it elsewhere. A copy on a lost node hears of no
    /// stop and counts as stopping along with the others.
    fn is_stopping(&self, name: &UnitName) -> bool {
        let Some(unit) = self.state.units.get(name) else { return false };
        if unit.goal.wanted == Wanted::Stopped && !unit.permits.is_empty() {
            return true;
        }
        let leaves = |token: &Token| self.is_leaving(name, *token);
        unit.permits.keys().any(leaves)
            && unit.permits.iter().all(|(token, permit)| leaves(token) || self.state.is_lost(permit))
    }

    /// Whether somebody stopped a unit, or the cluster stops all of it: what needs it is not left running without a permit.
    pub(super) fn is_told_to_stop(&self, name: &UnitName) -> bool {
        let goal = self.state.units.get(name).map(|unit| &unit.goal);
        goal.is_some_and(|goal| goal.wanted == Wanted::Stopped && goal.by.is_some()) || self.is_stopping(name)
    }

    /// Proposes revocations, in the reverse of the order of starts (S4).
    pub(super) fn revoke_leaving(&mut self) {
        let state = self.state;
        // Parts first: once the whole has stopped, nothing in the state says that they were to be restarted with it.
        let is_part = |name: &&UnitName| {
            state.units.get(*name).and_then(Unit::definition).is_some_and(|it| !it.part_of.is_empty())
        };
        let (parts, others): (Vec<_>, Vec<_>) = self.units.iter().copied().rev().partition(is_part);
        for name in parts.into_iter().chain(others) {
            let Some(tokens) = self.leaving.get(name).cloned() else { continue };
            for (token, reason) in &tokens {
                let (token, reason) = (*token, reason.clone());
                if state.permit(name, token).is_none_or(Permit::is_revoking) {
                    continue;
                }
                let stays = |other| !tokens.contains_key(&other);
                let blocker =
                    state.stops_first_of(name, token, stays).or_else(|| self.stops_later_than(name));
                if let Some((unit, node)) = blocker {
                    self.because(name, Reason::StopsFirst { unit, node });
                    if state.drained.is_none() {
                        self.waits_for(node, name);
                    }
                    continue;
                }
                if let Some(node) = stops_before(state, name, token, &tokens) {
                    self.because(name, Reason::OneByOne(node));
                    continue;
                }
                self.plan.decisions.push(Decision::Revoke { unit: name.clone(), token, reason });
            }
        }
    }

    /// A unit that is ordered after `name` and is also to stop: it goes first.
    fn stops_later_than(&self, name: &UnitName) -> Option<(UnitName, NodeId)> {
        self.sequence.after(name).find_map(|other| {
            let token = self.leaving.get(other)?.keys().next()?;
            Some((other.clone(), self.state.permit(other, *token)?.node))
        })
    }
}
