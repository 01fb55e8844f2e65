//! Who starts first where nobody is live: all together, or the one whose data is the latest.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::assembly::{AssemblyStyle, Found, Start};
use crate::command::Decision;
use crate::definition::Replicas;
use crate::event::StopReason;
use crate::name::{NodeId, Token};
use crate::node::Node;
use crate::permit::Permit;
use crate::query::Possibly;

use super::assembly::Service;
use super::{Planner, Reason};

impl Planner<'_> {
    /// Nobody is elected yet: all start together, or one is to be elected, and what is missing for that is shown.
    pub(super) fn bring_up(
        &mut self,
        service: &Service<'_>,
        suitable: &BTreeMap<NodeId, i64>,
        waiting: &[(Token, &Permit)],
    ) {
        let Service { name, assembly, boot_up, .. } = service;
        let absent = self.state.absent(boot_up);
        let unproven = self.shown_unproven(service, &absent);
        for id in &absent {
            if !boot_up.words.without.contains_key(id) {
                self.shown_position(service, *id, true);
            }
        }
        if let Some(ends) = self.state.gather_ends(assembly, boot_up) {
            self.wake(ends);
        }
        if assembly.style == AssemblyStyle::AllTogether {
            let left = |(_, permit): &(Token, &Permit)| self.state.node_maintenance(permit.node).is_some();
            let alone = !unproven && !waiting.iter().any(left) && self.needs_one_alone(service, &absent);
            if alone && !waiting.is_empty() {
                for (token, _) in waiting {
                    self.mark(name, *token, StopReason::OneAlone);
                }
                return;
            }
            if !alone {
                self.start_together(service, suitable);
            }
            // They need nobody alone while all are there and one of them has data.
            let data = |id: &NodeId| matches!(self.state.position(boot_up, *id), Some(Found::Data { .. }));
            let comes = !waiting.is_empty() || boot_up.members.keys().any(data);
            if absent.is_empty() && boot_up.words.from.is_none() && boot_up.formed && comes {
                if !waiting.is_empty() {
                    let why =
                        "those that were started wait for each other, or for one that has no data any more";
                    self.because(name, Reason::NoElection(why.to_string()));
                }
                return;
            }
        }
        self.elect(service, suitable, &absent, unproven);
    }

    /// Whether those that come up together wait in vain, and one has to start alone: an operator chose one, or somebody
    /// who is not there was given up, and nobody else is missing. All that wait are stopped for it and say anew how
    /// their data stands: one of them may have found the others, and have written, since it said so.
    fn needs_one_alone(&self, service: &Service<'_>, absent: &BTreeSet<NodeId>) -> bool {
        let Service { assembly, boot_up, .. } = service;
        let words = &boot_up.words;
        if words.from.is_some() {
            return true;
        }
        // Whoever is in session and says nothing yet will: it was asked.
        let silent = |id: &&NodeId| {
            let failed = self.state.still_heard(boot_up, **id);
            self.state.nodes.get(*id).and_then(Node::in_session).is_none()
                || failed.is_some_and(|heard| !heard.found.is_told())
                || self.state.position(boot_up, **id).is_some()
        };
        let missing: Vec<&NodeId> = absent.iter().filter(silent).collect();
        if missing.iter().all(|id| words.without.contains_key(id)) {
            return absent.iter().any(|id| words.without.contains_key(id));
        }
        let over = self.state.gather_ends(assembly, boot_up).is_some_and(|ends| ends <= self.now);
        let last = || boot_up.members.iter().filter(|(_, member)| !member.late).map(|(id, _)| id);
        let there = last().filter(|id| !missing.contains(id)).count();
        let began = |id: &NodeId| boot_up.members.get(id).is_some_and(|it| it.start == Some(Start::Alone));
        let held = missing.iter().any(|id| began(id) && !words.without.contains_key(*id));
        over && !held && there.saturating_mul(2) > last().count()
    }

    /// The one whose data is the latest, once everybody that matters was heard; or what is missing for that.
    fn elect(
        &mut self,
        service: &Service<'_>,
        suitable: &BTreeMap<NodeId, i64>,
        absent: &BTreeSet<NodeId>,
        unproven: bool,
    ) {
        let Service { name, unit, assembly, boot_up, .. } = service;
        let ends = self.state.gather_ends(assembly, boot_up);
        let mut candidates: Vec<NodeId> = boot_up.heard.keys().copied().collect();
        candidates.sort_by_key(|id| {
            let (rank, safe) = match self.state.position(boot_up, *id) {
                Some(Found::Data { rank, safe, .. }) => (*rank, *safe),
                _ => (i64::MIN, false),
            };
            let preference = suitable.get(id).copied().unwrap_or(i64::MIN);
            (Reverse(rank), Reverse(safe), Reverse(boot_up.stops.get(id).copied()), Reverse(preference), *id)
        });
        let mut hindrance: Option<Reason> = None;
        let (mut short, mut soon) = (Vec::new(), false);
        for id in candidates {
            let election = match self.state.may_elect(name, id, self.now) {
                Ok(election) => election,
                Err(refusal) => {
                    hindrance.get_or_insert(Reason::NoElection(refusal.to_string()));
                    continue;
                }
            };
            let held = unit.permit_on(id).is_some();
            let fits = self.fits(service, id);
            let shunned = self.shunned(service, id);
            let why = match fits {
                _ if held => None,
                Err(refusal) => {
                    if shunned.is_none() && self.is_short(service, id) {
                        short.push(id);
                    }
                    Some(refusal.to_string())
                }
                Ok(()) => {
                    soon |= self.index.host(id).is_some_and(|host| host.awaits_observation);
                    shunned
                }
            };
            let Some(why) = why else {
                if !held {
                    self.keep_place(name, service.definition, id);
                }
                let (unit, epoch) = ((*name).clone(), boot_up.epoch);
                self.plan.decisions.push(Decision::Elect { unit, epoch, election });
                return;
            };
            if !matches!(hindrance, Some(Reason::CannotBegin { .. })) {
                hindrance = Some(Reason::CannotBegin { node: id, why });
            }
        }
        // Room is made for nobody but the one that would be elected.
        if !soon {
            self.make_room(name, service.definition, &short);
        }
        let given_up = absent.iter().all(|id| boot_up.words.without.contains_key(id));
        let settled = given_up || ends.is_some_and(|ends| ends <= self.now);
        match hindrance {
            _ if !boot_up.formed && boot_up.words.from.is_none() => {
                self.because(name, Reason::FirstFormation)
            }
            Some(hindrance @ Reason::CannotBegin { .. }) => self.because(name, hindrance),
            // Who is waited for was named above.
            Some(hindrance) if settled && !unproven => self.because(name, hindrance),
            _ => {}
        }
    }

    /// Members that may be running it still. They are fenced once nothing but the proof is waited for: as long as their
    /// data is wanted, it is their return that helps, and a machine that is just booting is left alone (F16, F22).
    fn shown_unproven(&mut self, service: &Service<'_>, absent: &BTreeSet<NodeId>) -> bool {
        let Service { name, unit, assembly, boot_up, .. } = service;
        let over = self.state.gather_ends(assembly, boot_up).is_some_and(|ends| ends <= self.now);
        let chosen = over || boot_up.words.from.is_some();
        let given_up = |id: &NodeId| chosen || boot_up.words.without.contains_key(id);
        let mut unproven: BTreeMap<NodeId, bool> = BTreeMap::new();
        for (id, member) in &boot_up.members {
            let held = unit.permits.get(&member.token).is_some_and(|permit| !self.state.is_lost(permit));
            if !held && !self.state.has_ended(boot_up, unit, *id) {
                unproven.insert(*id, given_up(id));
            }
        }
        for (id, how) in self.index.running(name).iter().copied() {
            if how == Possibly::Unheard
                || self.state.nodes.get(&id).is_some_and(|node| node.lost_since().is_some())
            {
                unproven.entry(id).or_insert_with(|| absent.iter().all(given_up));
            }
        }
        for (id, fence) in &unproven {
            self.because(name, Reason::Unproven(*id));
            if *fence && self.state.nodes.get(id).is_some_and(|node| node.lost_since().is_some()) {
                self.because(name, Reason::WaitsForFence { node: *id });
                self.waits_for(*id, name);
            }
        }
        !unproven.is_empty()
    }

    /// All that were live last start at once and find each other; then those that were not, as far as copies are wanted.
    fn start_together(&mut self, service: &Service<'_>, suitable: &BTreeMap<NodeId, i64>) {
        let mut room = match service.definition.replicas {
            Replicas::Count(count) => (count as usize).saturating_sub(service.unit.permits.len()),
            Replicas::All => usize::MAX,
        };
        for id in suitable.keys() {
            let takes =
                service.unit.permit_on(*id).is_none() && self.may_take(service, *id, Start::Join, false);
            if takes && room > 0 {
                self.start(service, *id, Start::Join);
                room = room.saturating_sub(1);
            } else if room > 0 && self.is_next_but_for_room(service, *id, Start::Join) {
                self.make_room(service.name, service.definition, &[*id]);
                room = room.saturating_sub(1);
            }
        }
    }
}
