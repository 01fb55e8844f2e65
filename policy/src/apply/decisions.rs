//! The planner's decisions, each checked against everything it rests on. This is where S1 to S4 are kept.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use crate::assembly::Start;
use crate::definition::{Definition, Fencing, Replicas};
use crate::event::{EventKind, Severity, StopReason};
use crate::evidence::Evidence;
use crate::name::{Incarnation, Millis, NodeId, Token, UnitName};
use crate::node::{Node, Offer};
use crate::permit::{Permit, Phase, Terms};
use crate::query::Possibly;
use crate::refusal::Refusal;
use crate::standing::{Candidate, Standing};
use crate::state::State;
use crate::unit::{Adopted, Goal, MoveWish, Wanted};

use super::{Step, stale};

impl Step<'_> {
    pub(super) fn adopt_definition(
        &mut self,
        unit: &UnitName,
        definition: &Definition,
    ) -> Result<(), Refusal> {
        let offers = self.state.nodes.values().filter_map(|node| Some((node, node.offers.get(unit)?)));
        self.state.may_adopt(unit, definition, offers, &BTreeMap::new())?;
        self.take_definition(unit, definition)
    }

    /// Puts a definition in force; live permits keep their own terms (F13).
    pub(super) fn take_definition(
        &mut self,
        unit: &UnitName,
        definition: &Definition,
    ) -> Result<(), Refusal> {
        self.state.free_of_cycles(unit, definition, &BTreeMap::new())?;
        let revision = self.index;
        self.state.relate(unit, Some(definition));
        if let Some(known) = self.state.units.get_mut(unit) {
            let adopted = Adopted { revision, definition: definition.clone() };
            let before = known.adopted.replace(adopted).map(|before| before.definition);
            self.state.keep_places(unit, before.as_ref());
        }
        self.remember_boot_ups(unit);
        self.remember_succession(unit);
        self.record(Severity::Info, None, Some(unit), EventKind::DefinitionAdopted);
        Ok(())
    }

    /// The closed list of what a grant needs (protocol, section 0).
    pub(super) fn grant(
        &mut self,
        unit: &UnitName,
        id: NodeId,
        incarnation: &Incarnation,
        revision: u64,
        adopt: bool,
        start: Option<Start>,
    ) -> Result<(), Refusal> {
        let terms = self.state.grant_terms(unit, id, revision, adopt, self.time)?;
        self.life(id, incarnation)?;
        if !adopt {
            self.state.may_start(unit, id, incarnation, start)?;
            // A clustered service has an order of its own.
            if start.is_none() {
                self.state.may_begin(unit, id).map_err(Refusal::Unsafe)?;
            }
            self.note_choice(unit, id)?;
        }
        let token = Token(self.state.number(self.index));
        // A node that runs a copy already does not know yet that its lease ends it: time alone proves nothing of it
        // before the node has acknowledged the terms.
        let unaware = adopt && matches!(terms.fencing, Fencing::Lease | Fencing::Watchdog);
        let (terms, next_terms) = if unaware {
            (Terms { fencing: Fencing::Required, ..terms.clone() }, Some(terms))
        } else {
            (terms, None)
        };
        let permit = Permit {
            node: id,
            incarnation: incarnation.clone(),
            phase: if adopt { Phase::Active } else { Phase::Granted },
            terms,
            next_terms,
            granted_at: self.time,
            active_at: adopt.then_some(self.time),
            adopted: adopt,
            contradicted: false,
            unwell: None,
            idle: false,
            rest: None,
            stuck: None,
            pending: None,
        };
        self.state.put_permit(unit, token, permit);
        let known = self.state.units.get_mut(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        known.last_token = Some(token);
        known.last_node = Some(id);
        known.asked_for = None;
        // A move is done once the permit that it was to end has ended; another replica's start is none of it.
        let done = |moving: &mut MoveWish| !known.permits.contains_key(&moving.from);
        known.moving.take_if(done);
        if adopt {
            self.life_mut(id, incarnation)?.strays.remove(unit);
            self.state.came_beside(unit, id);
        }
        self.member_granted(unit, id, incarnation, token, adopt, start);
        self.role_granted(unit, id);
        self.copy_granted(unit, id, token, incarnation);
        let kind = match start {
            _ if adopt => EventKind::Adopted { token },
            Some(start) => EventKind::GrantedAs { token, start },
            None => EventKind::Granted { token },
        };
        self.record(Severity::Info, Some(id), Some(unit), kind);
        Ok(())
    }

    /// What a started unit requires or wants is to run as well, unless somebody decided otherwise (F9).
    pub(super) fn pull_in(&mut self, unit: &UnitName, by: &UnitName) -> Result<(), Refusal> {
        self.state.may_touch_unit(unit)?;
        let puller = self.state.units.get(by).ok_or_else(|| Refusal::UnknownUnit(by.clone()))?;
        let named = puller.definition().is_some_and(|definition| definition.pulls_in().any(|it| it == unit));
        if !named || puller.goal.wanted != Wanted::Started {
            return Err(stale("it is not asked for by that unit"));
        }
        let (index, wall_ms) = (self.index, self.wall_ms);
        let known = self.state.units.get_mut(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        if known.goal.by.is_some() || known.goal.wanted == Wanted::Started {
            return Err(stale("somebody has decided on it"));
        }
        known.goal = Goal { wanted: Wanted::Started, revision: index, by: None, wall_ms };
        let kind = EventKind::GoalSet { wanted: Wanted::Started, by: Some(by.to_string()) };
        self.record(Severity::Info, None, Some(unit), kind);
        Ok(())
    }

    /// A stop waits for the stop of what depends on it (S4).
    pub(super) fn revoke(
        &mut self,
        unit: &UnitName,
        token: Token,
        reason: &StopReason,
    ) -> Result<(), Refusal> {
        if let Some((dependent, node)) = self.state.stops_first(unit, token) {
            let node = self.state.node_name(node);
            return Err(Refusal::Unsafe(format!("{dependent} on {node} stops before {unit}")));
        }
        let holder = self.live_permit(unit, token)?.node;
        self.state.may_touch(unit, holder)?;
        let permit = self.live_permit(unit, token)?;
        if permit.is_revoking() {
            return Err(stale("it is being revoked already"));
        }
        permit.phase = Phase::Revoking(reason.clone());
        let node = permit.node;
        self.state.start_ends(token);
        let kind = EventKind::Revoked { token, reason: reason.clone() };
        self.record(Severity::Info, Some(node), Some(unit), kind);
        Ok(())
    }

    /// New terms count once the node has acknowledged them (F13).
    pub(super) fn reterm(&mut self, unit: &UnitName, token: Token, revision: u64) -> Result<(), Refusal> {
        let known = self.state.units.get(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        let adopted = known.adopted.as_ref().ok_or_else(|| Refusal::NoDefinition(unit.clone()))?;
        if adopted.revision != revision {
            return Err(stale("another definition is in force"));
        }
        let definition = adopted.definition.clone();
        if let Some(why) = definition.contradiction() {
            return Err(Refusal::Unsafe(why.to_string()));
        }
        let live = known.permits.len();
        if definition.is_exclusive() && live > 1 {
            return Err(Refusal::Unsafe(format!("{live} copies are possibly running")));
        }
        let holder = self.live_permit(unit, token)?.node;
        self.state.may_touch(unit, holder)?;
        let chain = self.state.fencing_ground(holder, &definition).map_err(Refusal::Unsafe)?;
        let permit = self.live_permit(unit, token)?;
        let terms = Terms::of(&definition, revision, permit.terms.stop_budget_ms, chain);
        if permit.next_is_stricter_than(terms.fencing, terms.on_quorum_loss) {
            return Err(Refusal::Unsafe(
                "its node may have taken stricter terms over already: what it says of them comes first"
                    .to_string(),
            ));
        }
        permit.next_terms = Some(terms);
        Ok(())
    }

    /// A permit whose own terms say `none`, `lease` or `watchdog` ends by time (F6, F7, F17).
    pub(super) fn expire(&mut self, unit: &UnitName, token: Token) -> Result<(), Refusal> {
        let permit = self.state.permit(unit, token).ok_or_else(|| stale("no such permit"))?;
        self.state.may_touch(unit, permit.node)?;
        let due = self.state.expires_at(unit, permit).ok_or_else(|| {
            Refusal::Unsafe(
                "this permit ends by no time: its terms ask for proof, or its node is heard".to_string(),
            )
        })?;
        if due > self.time {
            return Err(Refusal::Unsafe(format!("it ends {} ms from now", due.saturating_sub(self.time))));
        }
        if let Some(permit) = self.void(unit, token, Evidence::Expired)
            && permit.must_stop()
            && let Ok(life) = self.life_mut(permit.node, &permit.incarnation)
        {
            // Nobody has seen it gone: the node may come back and be lost again while it still stops (F15).
            let stop = life.lingering.entry(unit.clone()).or_default();
            *stop = permit.terms.stop_budget_ms.max(*stop);
        }
        Ok(())
    }

    fn live_permit(&mut self, unit: &UnitName, token: Token) -> Result<&mut Permit, Refusal> {
        let known = self.state.units.get_mut(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        known.permits.get_mut(&token).ok_or_else(|| stale("no such permit"))
    }
}

impl State {
    /// Whether a definition may come into force by itself. A change of what safety rests on needs all reachable
    /// offering nodes to agree, a node whose section has an error among them; or an operator chooses (F13).
    /// `offers` are all nodes' offers of the unit; `planned` are definitions that are to come into force before it.
    pub(crate) fn may_adopt<'a>(
        &self,
        unit: &UnitName,
        definition: &Definition,
        offers: impl Iterator<Item = (&'a Node, &'a Offer)>,
        planned: &BTreeMap<UnitName, Definition>,
    ) -> Result<(), Refusal> {
        let known = self.units.get(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        if known.definition() == Some(definition) {
            return Err(stale("this definition is in force already"));
        }
        let mut offered = false;
        for (node, offer) in offers.filter(|(_, offer)| offer.present) {
            let agrees = offer.definition.as_ref() == Some(definition);
            offered |= agrees;
            let touches_safety =
                known.definition().is_some_and(|before| definition.differs_in_safety(before));
            if touches_safety && !agrees && node.in_session().is_some() {
                return Err(Refusal::Unsafe(format!("{} offers another definition", node.name)));
            }
        }
        if !offered {
            return Err(Refusal::Unsafe("no node offers this definition".to_string()));
        }
        self.free_of_cycles(unit, definition, planned)
    }

    fn free_of_cycles(
        &self,
        unit: &UnitName,
        definition: &Definition,
        planned: &BTreeMap<UnitName, Definition>,
    ) -> Result<(), Refusal> {
        match cycle(self, unit, definition, planned) {
            None => Ok(()),
            Some(through) => {
                let why = format!("{unit} would require, or run beside, itself by way of {through}");
                Err(Refusal::Impossible(why))
            }
        }
    }

    /// Everything that a grant needs, or the fact that is missing.
    pub(crate) fn grant_terms(
        &self,
        unit: &UnitName,
        id: NodeId,
        revision: u64,
        adopt: bool,
        now: Millis,
    ) -> Result<Terms, Refusal> {
        let standing = self.standing(unit)?;
        let node = self.nodes.get(&id).ok_or(Refusal::UnknownNode(id))?;
        let (offer, accepts) = (node.offers.get(unit), self.node_accepts(id, node, now));
        let sound = offer.is_some_and(|offer| offer.is_sound(&standing.adopted.definition));
        let candidate = Candidate { id, node, accepts: &accepts, offer, sound };
        let offer = self.offer_but_room(&standing, &candidate, revision, adopt)?;
        let definition = &standing.adopted.definition;
        // What was found running takes its room already; keeping it adds nothing.
        let crowding = if adopt { None } else { self.crowding(unit, id, node, definition) };
        if let Some(why) = crowding {
            return Err(Refusal::Unsafe(why));
        }
        let chain = self.fencing_ground(id, definition).map_err(Refusal::Unsafe)?;
        Ok(Terms::of(definition, revision, offer.stop_budget_ms, chain))
    }

    /// The same without what else is on the node: that the planner counts for itself, with what it is about to grant.
    /// It asks this of one node after another, so that it never proposes what would be refused. Gives the offer by which
    /// the unit is started.
    pub(crate) fn offer_but_room<'a>(
        &self,
        standing: &Standing<'_>,
        candidate: &Candidate<'a>,
        revision: u64,
        adopt: bool,
    ) -> Result<&'a Offer, Refusal> {
        let no = |why| Err(Refusal::Unsafe(why));
        let Candidate { id, node, .. } = *candidate;
        let Standing { name, unit: known, adopted, .. } = *standing;
        let definition = &adopted.definition;
        self.may_touch_unit(name)?;
        if adopted.revision != revision {
            return Err(stale("another definition is in force"));
        }
        // S6
        if known.goal.wanted != Wanted::Started {
            return no("the unit is stopped".to_string());
        }
        if let Some(hold) = known.holds.get(&id) {
            return no(format!("it is held on {} ({})", node.name, hold.by));
        }
        if let Some(why) = definition.contradiction() {
            return no(why.to_string());
        }
        candidate.accepts.as_ref().map_err(Refusal::clone)?;
        if !definition.allows(node) {
            return no(format!("Nodes= does not let it run on {}", node.name));
        }
        let offer = candidate.offered(definition).map_err(Refusal::Unsafe)?;
        // F17
        self.fencing_ground(id, definition).map_err(Refusal::Unsafe)?;
        self.elsewhere(standing, id, adopt)?;
        if let Some((other, at)) = &standing.opponent {
            let at = self.node_name(*at);
            return no(format!("it conflicts with {other}, which is possibly running on {at}"));
        }
        // S4
        if let Some(required) = standing.inactive {
            return no(format!("it requires {required}, which is not active"));
        }
        for beside in &definition.same_node_as {
            if !self.is_up(beside, Some(id)) {
                return no(format!("it runs beside {beside}, which is not active on {}", node.name));
            }
        }
        Ok(offer)
    }

    /// Whether a node may be given any permit now.
    pub(crate) fn node_accepts(&self, id: NodeId, node: &Node, now: Millis) -> Result<(), Refusal> {
        let no = |why| Err(Refusal::Unsafe(why));
        if !node.role.runs_units() {
            return no(format!("{} is a witness", node.name));
        }
        if let Some(fault) = self.presence_fault(node) {
            return no(format!("{} {fault}", node.name));
        }
        if node.life.as_ref().is_some_and(|life| !life.inventory) {
            return no(format!("{} has not said yet what runs on it", node.name));
        }
        if let Some(drained) = self.drained_text(id) {
            return no(drained);
        }
        self.may_touch_node(id)?;
        if self.open_case(id).is_some() {
            return no(format!("{} is being fenced", node.name));
        }
        if node.quarantined_until > now {
            return no(format!(
                "{} is in quarantine: a late fence may strike it, or its identity is in doubt",
                node.name
            ));
        }
        Ok(())
    }

    /// S1: an exclusive unit is gone everywhere; a replicated one is not on this node, and below its number.
    fn elsewhere(&self, standing: &Standing<'_>, id: NodeId, adopt: bool) -> Result<(), Refusal> {
        let no = |why| Err(Refusal::Unsafe(why));
        let Standing { name: unit, unit: known, adopted, running, unheard, kept, .. } = standing;
        let here = running.binary_search_by_key(&id, |(node, _)| *node).ok();
        let here = here.and_then(|at| running.get(at)).map(|(_, how)| *how);
        if here == Some(Possibly::Stray) && !adopt {
            return no("it runs there without a permit".to_string());
        }
        if matches!(here, Some(Possibly::Permit(_))) {
            return no("it holds a permit there already".to_string());
        }
        if adopt && here != Some(Possibly::Stray) {
            return no("it does not run there".to_string());
        }
        if adopt {
            self.may_keep(unit, id)?;
        }
        if known.is_exclusive() {
            if let Some(at) = kept.first() {
                return no(self.kept_text(*at));
            }
            if let Some((other, _)) = running.iter().find(|(node, _)| *node != id) {
                return no(format!("it is possibly running on {}", self.node_name(*other)));
            }
            // F11: before the first grant ever, every member has said whether it runs there already.
            if let Some(silent) = unheard.iter().find(|node| **node != id) {
                return no(format!("{} has not said yet whether it runs there", self.node_name(*silent)));
            }
        } else if let Replicas::Count(count) = adopted.definition.replicas {
            let counted = here.is_some_and(|how| how.counts(&adopted.definition));
            let copies = standing.copies.saturating_sub(usize::from(counted));
            if copies >= count as usize {
                return no(format!("{copies} of {count} copies are possibly running"));
            }
            if copies.saturating_add(kept.len()) >= count as usize
                && let Some(at) = kept.first()
            {
                return no(self.kept_text(*at));
            }
        }
        Ok(())
    }
}

/// The unit through which `definition` would make `unit` depend on itself.
fn cycle(
    state: &State,
    unit: &UnitName,
    definition: &Definition,
    planned: &BTreeMap<UnitName, Definition>,
) -> Option<UnitName> {
    let edges = |definition: &Definition| -> BTreeSet<UnitName> { definition.needs().cloned().collect() };
    let mut seen: BTreeMap<UnitName, UnitName> = BTreeMap::new();
    let mut open = vec![];
    for first in edges(definition) {
        if first == *unit {
            return Some(first);
        }
        open.push((first.clone(), first));
    }
    while let Some((name, through)) = open.pop() {
        if seen.insert(name.clone(), through.clone()).is_some() {
            continue;
        }
        let known = || state.units.get(&name).and_then(|other| other.definition());
        let Some(next) = planned.get(&name).or_else(known) else { continue };
        for edge in edges(next) {
            if edge == *unit {
                return Some(through);
            }
            open.push((edge, through.clone()));
        }
    }
    None
}
