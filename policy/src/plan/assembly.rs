//! How a clustered service is brought up: positions gathered, one elected, the others let join.
//!
//! Proposes only what `apply` takes, and says for each wait whose word would end it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::assembly::{Assembly, AssemblyStyle, BootUp, Election, Found, Start};
use crate::command::Decision;
use crate::definition::Definition;
use crate::event::StopReason;
use crate::name::{NodeId, Token, UnitName};
use crate::node::Node;
use crate::permit::{Permit, Phase};
use crate::refusal::Refusal;
use crate::state::State;
use crate::unit::Unit;

use super::index::Offered;
use super::moves::sent;
use super::{Planner, Reason};

/// One clustered service, with everything that its plan reads.
pub(super) struct Service<'a> {
    pub(super) name: &'a UnitName,
    pub(super) unit: &'a Unit,
    pub(super) definition: &'a Definition,
    pub(super) assembly: &'a Assembly,
    pub(super) boot_up: &'a BootUp,
    pub(super) revision: u64,
}

impl Planner<'_> {
    pub(super) fn assemble(
        &mut self,
        service: &Service<'_>,
        suitable: &BTreeMap<NodeId, i64>,
        wanted: usize,
    ) {
        let Service { name, unit, definition, assembly, boot_up, .. } = service;
        // Its members are heard, and missed, wherever they are.
        self.restless = true;
        self.shown_unready(service);
        if self.is_hindered(name, unit, definition, suitable) {
            return;
        }
        if let Some(why) = definition.contradiction() {
            for Offered { host, .. } in &self.index.known(name).offers {
                self.because(name, Reason::Unfit { node: host.id, why: why.to_string() });
            }
            return;
        }
        if self.state.is_live(name) {
            self.join(service, suitable, wanted);
            return;
        }
        let heard = unit.permits.iter().filter(|(_, permit)| !self.state.is_lost(permit));
        let heard: Vec<(Token, &Permit)> = heard.map(|(token, permit)| (*token, permit)).collect();
        let waits =
            |(token, _): &(Token, &Permit)| self.state.waits_together(assembly, boot_up, unit, *token);
        if self.joins_nobody(service, &heard) {
            return;
        }
        if !heard.iter().all(waits) {
            // One is on its way up or down: what it comes to decides what follows.
            return;
        }
        if self.begins_anew(service) || !boot_up.is_gathering() {
            return;
        }
        match &boot_up.election {
            Some(election) => self.begin_alone(service, election),
            None => self.bring_up(service, suitable, &heard),
        }
    }

    /// Stops those that were let join what has ended since: some daemons wait for it for ever. While one that is lost may
    /// be running still, they may be copying from it, and only its name is shown.
    fn joins_nobody(&mut self, service: &Service<'_>, heard: &[(Token, &Permit)]) -> bool {
        let Service { name, unit, boot_up, .. } = service;
        let joins = |(token, permit): &(Token, &Permit)| {
            let member = boot_up.members.get(&permit.node).filter(|member| member.token == *token);
            permit.phase == Phase::Granted && member.is_some_and(|it| it.start != Some(Start::Alone))
        };
        let waits = |(token, _): &(Token, &Permit)| boot_up.is_gathering() && token.index() > boot_up.epoch;
        let together = service.assembly.style == AssemblyStyle::AllTogether && heard.iter().all(waits);
        let alone = |(_, permit): &(Token, &Permit)| self.state.node_maintenance(permit.node).is_some();
        if heard.is_empty() || !heard.iter().all(joins) || together || heard.iter().any(alone) {
            return false;
        }
        let held = |id: &NodeId| heard.iter().any(|(_, permit)| permit.node == *id);
        let others = boot_up.members.keys().filter(|id| !held(id));
        let unproven: Vec<NodeId> =
            others.filter(|id| !self.state.has_ended(boot_up, unit, **id)).copied().collect();
        for id in &unproven {
            self.because(name, Reason::Unproven(*id));
        }
        if unproven.is_empty() {
            for (token, _) in heard {
                self.mark(name, *token, StopReason::OneAlone);
            }
        }
        true
    }

    /// What is active and not ready, with what it lacks.
    fn shown_unready(&mut self, service: &Service<'_>) {
        for (token, permit) in &service.unit.permits {
            let member = service.boot_up.members.get(&permit.node).filter(|member| member.token == *token);
            let unready = member.filter(|member| member.ready.is_none());
            if permit.phase == Phase::Active
                && !self.state.is_lost(permit)
                && let Some(member) = unready
            {
                let (node, lacks) = (permit.node, member.lacks.clone());
                self.because(service.name, Reason::NotReady { node, lacks });
            }
        }
    }

    /// Opens a gathering where the last one is over.
    fn begins_anew(&mut self, service: &Service<'_>) -> bool {
        let Service { name, unit, boot_up, .. } = service;
        let election = boot_up.election.as_ref().filter(|_| boot_up.is_gathering());
        let failed = election.is_some_and(|election| match election.token {
            Some(token) => unit.permits.get(&token).is_none_or(|permit| self.state.is_lost(permit)),
            None => unit.permit_on(election.node).is_none() && !self.can_begin(service, election),
        });
        if !failed && boot_up.is_gathering() {
            return false;
        }
        match self.state.may_gather(name) {
            Ok(()) => self.plan.decisions.push(Decision::OpenGather { unit: (*name).clone() }),
            Err(_) => self.shown_unheard(name),
        }
        true
    }

    /// Whether the node that was elected can be given its start.
    fn can_begin(&self, service: &Service<'_>, election: &Election) -> bool {
        let life = self.state.nodes.get(&election.node).and_then(Node::in_session);
        let same = life.is_some_and(|life| life.incarnation == election.incarnation);
        let (name, revision) = (service.name, service.revision);
        same && self.state.grant_terms(name, election.node, revision, false, self.now).is_ok()
            && self.state.may_start(name, election.node, &election.incarnation, Some(Start::Alone)).is_ok()
    }

    /// Whether a grant on a node would be refused whatever its data is, with what this plan brings there. What time alone ends
    /// is looked at again then.
    pub(super) fn fits(&mut self, service: &Service<'_>, id: NodeId) -> Result<(), Refusal> {
        let Some(node) = self.state.nodes.get(&id) else { return Err(Refusal::UnknownNode(id)) };
        let fits = self.state.grant_terms(service.name, id, service.revision, false, self.now);
        if fits.is_err() {
            self.wake(node.quarantined_until);
        }
        fits?;
        self.lacks_room(service, id, node).map_or(Ok(()), |why| Err(Refusal::Unsafe(why)))
    }

    /// What is on a node, or comes there with this plan, and leaves no place for a copy.
    fn lacks_room(&self, service: &Service<'_>, id: NodeId, node: &Node) -> Option<String> {
        let strangers: Vec<&UnitName> = self.state.strangers(service.name).collect();
        self.crowd(&strangers, id, node).or_else(|| self.room.lack(id, node, service.definition))
    }

    /// Whether nothing but what is on a node, or comes there with this plan, keeps a grant from it.
    pub(super) fn is_short(&self, service: &Service<'_>, id: NodeId) -> bool {
        let Service { name, unit, definition, revision, .. } = service;
        let (Some(adopted), Some(host)) = (&unit.adopted, self.index.host(id)) else { return false };
        let standing = self.index.standing(name, unit, adopted);
        let offered = self.index.known(name).offers.iter().find(|offered| offered.host.id == id);
        let candidate = offered.map(Offered::candidate);
        let takes = |it| self.state.offer_but_room(&standing, it, *revision, false).is_ok();
        candidate.as_ref().is_some_and(takes)
            && self.state.fencing_ground(id, definition).is_ok()
            && self.lacks_room(service, id, host.node).is_some()
    }

    /// Whether a node would be given a start by this plan, if it had room.
    pub(super) fn is_next_but_for_room(&mut self, service: &Service<'_>, id: NodeId, start: Start) -> bool {
        let Service { name, unit, .. } = service;
        let Some(life) = self.state.nodes.get(&id).and_then(Node::in_session) else { return false };
        unit.permit_on(id).is_none()
            && self.is_short(service, id)
            && self.shunned(service, id).is_none()
            && self.state.may_start(name, id, &life.incarnation, Some(start)).is_ok()
    }

    /// Members that have not said whether they run it, before its first start ever.
    fn shown_unheard(&mut self, name: &UnitName) {
        let Some(unit) = self.state.units.get(name) else { return };
        for id in self.index.unheard(name, unit) {
            self.because(name, Reason::Unheard(id));
            if self.state.nodes.get(&id).is_some_and(|node| node.lost_since().is_some()) {
                self.because(name, Reason::WaitsForFence { node: id });
                self.waits_for(id, name);
            }
        }
    }

    /// The one that was elected, and nobody else.
    fn begin_alone(&mut self, service: &Service<'_>, election: &Election) {
        let Service { name, .. } = service;
        let id = election.node;
        if election.token.is_some() {
            return;
        }
        let fits = self.fits(service, id);
        match fits.and_then(|()| self.state.may_start(name, id, &election.incarnation, Some(Start::Alone))) {
            Ok(()) => self.start(service, id, Start::Alone),
            Err(refusal) => self.because(name, Reason::CannotBegin { node: id, why: refusal.to_string() }),
        }
    }

    /// The others follow: one after another, or all at once.
    fn join(&mut self, service: &Service<'_>, suitable: &BTreeMap<NodeId, i64>, wanted: usize) {
        let Service { name, unit, definition, assembly, boot_up, .. } = service;
        let held = unit
            .permits
            .iter()
            .filter(|(token, permit)| !self.is_leaving(name, **token) && !self.state.is_lost(permit));
        let held: Vec<&Permit> = held.map(|(_, permit)| permit).collect();
        let wanted = self.less_kept(name, definition, wanted);
        if held.len() >= wanted {
            return;
        }
        let unready = |permit: &&&Permit| {
            let member = boot_up.members.get(&permit.node);
            member.is_none_or(|member| member.ready.is_none())
        };
        let coming = held.iter().find(unready).map(|permit| permit.node);
        let serial = assembly.style == AssemblyStyle::OneThenSerial;
        let empty = |id: &NodeId| self.state.position(boot_up, *id) == Some(&Found::Empty);
        let offering = self.index.known(name).offers.iter();
        let weighed = offering
            .map(|Offered { host, .. }| (host.id, suitable.get(&host.id).copied().unwrap_or(i64::MIN)));
        let mut candidates: Vec<(NodeId, i64)> = weighed.collect();
        candidates.retain(|(id, _)| unit.permit_on(*id).is_none());
        // Data that is there already costs no copy.
        candidates.sort_by_key(|(id, weight)| (sent(unit, *id), empty(id), Reverse(*weight), *id));
        let missing = wanted.saturating_sub(held.len());
        let (mut room, mut short) = (missing, Vec::new());
        let mut most = self.room(name, unit, definition, wanted);
        for (id, _) in candidates {
            if room == 0 {
                break;
            }
            let start = if boot_up.words.resync.contains(&id) { Start::Resync } else { Start::Join };
            if !self.may_take(service, id, start, true) {
                let after = coming.is_some() && (serial || empty(&id));
                let held_back = start == Start::Join && self.held_until(unit, id).is_some();
                if !after && !held_back && self.is_next_but_for_room(service, id, start) {
                    short.push(id);
                }
                continue;
            }
            if start == Start::Join && self.shown_held_back(name, unit, id) {
                continue;
            }
            if let Some(first) = coming.filter(|_| serial || empty(&id)) {
                self.because(name, Reason::JoinsAfter(first));
                break;
            }
            self.start(service, id, start);
            most = most.saturating_sub(1);
            room = if serial { 0 } else { room.saturating_sub(1).min(most) };
        }
        // Nobody makes room while another joins.
        if room == missing && coming.is_none() {
            self.make_room(name, definition, &short);
        }
    }

    /// Whether a node can be given a start now; says why not.
    pub(super) fn may_take(&mut self, service: &Service<'_>, id: NodeId, start: Start, live: bool) -> bool {
        let Service { name, boot_up, .. } = service;
        if let Err(refusal) = self.fits(service, id) {
            self.because(name, Reason::Unfit { node: id, why: refusal.to_string() });
            return false;
        }
        if let Some(until) = service.unit.avoided_until(id, self.now) {
            let why = service.unit.failures.get(&id).map(|failures| failures.why.clone()).unwrap_or_default();
            self.because(name, Reason::Avoided { node: id, why, until });
            self.wake(until);
            return false;
        }
        if self.shunned(service, id).is_some() {
            self.because(name, Reason::Observing(id));
            return false;
        }
        let Some(life) = self.state.nodes.get(&id).and_then(Node::in_session) else { return false };
        let Err(refusal) = self.state.may_start(name, id, &life.incarnation, Some(start)) else {
            return true;
        };
        if self.state.meets_nobody_else(name).is_err() {
            self.because(name, Reason::Unfit { node: id, why: refusal.to_string() });
            return false;
        }
        match self.state.position(boot_up, id) {
            None => self.shown_position(service, id, !live && boot_up.members.contains_key(&id)),
            Some(found) if live && self.state.divergence(boot_up, id, found).is_some() => {
                self.because(name, Reason::Diverged { node: id, why: refusal.to_string() });
            }
            Some(Found::Data { .. }) if !live && boot_up.members.contains_key(&id) => {
                self.because(name, Reason::NoElection(refusal.to_string()));
            }
            Some(_) => self.because(name, Reason::Unfit { node: id, why: refusal.to_string() }),
        }
        false
    }

    /// Why a node that may take it should not, now.
    pub(super) fn shunned(&mut self, service: &Service<'_>, id: NodeId) -> Option<String> {
        let host = self.index.host(id)?;
        if host.awaits_observation {
            return Some(format!("the fence device of {} was not looked at yet", host.node.name));
        }
        let until = service.unit.avoided_until(id, self.now)?;
        self.wake(until);
        let left = until.saturating_sub(self.now) / 1000;
        let why = service.unit.failures.get(&id).map(|failures| failures.why.clone()).unwrap_or_default();
        Some(format!("it is avoided for another {left} s after a failure: {why}"))
    }

    /// What is known of a node that has not said how its data stands.
    pub(super) fn shown_position(&mut self, service: &Service<'_>, id: NodeId, needed: bool) {
        let Some(node) = self.state.nodes.get(&id) else { return };
        let name = &node.name;
        let found = self.state.still_heard(service.boot_up, id).map(|heard| &heard.found);
        let why = match found {
            _ if node.in_session().is_none() => format!("{name} was live last, and is silent"),
            Some(found) if needed && found.is_told() => self.state.missing(service.boot_up, id),
            Some(Found::Failed(why)) => {
                format!("Position= failed on {name}, which says nothing of its data: {why}")
            }
            Some(Found::Live | Found::LiveWithoutQuorum | Found::Busy) => {
                format!("{name} says that a copy runs on its data")
            }
            _ => format!("{name} has not said how its data stands"),
        };
        self.because(service.name, Reason::Position { node: id, why, needed });
    }

    pub(super) fn start(&mut self, service: &Service<'_>, id: NodeId, start: Start) {
        let Some(life) = self.state.nodes.get(&id).and_then(Node::in_session) else { return };
        self.begins(service.name, id);
        self.room.grant(id, service.definition);
        self.because(service.name, Reason::Starting(id));
        self.plan.decisions.push(Decision::Grant {
            unit: service.name.clone(),
            node: id,
            incarnation: life.incarnation.clone(),
            revision: service.revision,
            adopt: false,
            start: Some(start),
        });
    }
}

/// Copies of a clustered service stop one after another, the latest first: whoever is left sees each of them leave,
/// and the last has all the data. The node of one that stops before this one.
pub(super) fn stops_before(
    state: &State,
    name: &UnitName,
    token: Token,
    leaving: &BTreeMap<Token, StopReason>,
) -> Option<NodeId> {
    let unit = state.units.get(name)?;
    unit.boot_up.as_ref()?;
    let live = |other: &Token| unit.permits.get(other).filter(|permit| !state.is_lost(permit));
    let stopping = leaving.keys().filter_map(live).find(|permit| permit.is_revoking());
    let later = leaving.keys().rev().find(|other| live(other).is_some()).filter(|other| **other != token);
    let first = stopping.or_else(|| later.and_then(live))?;
    Some(first.node)
}
