//! The last active set of a clustered service: it grows at the grant, and shrinks by evidence alone (F16).

use alloc::vec::Vec;

use crate::assembly::{BootUp, Member, Start};
use crate::evidence::Evidence;
use crate::name::{Incarnation, NodeId, Token, UnitName};
use crate::permit::Permit;
use crate::state::State;

use super::Step;

impl Step<'_> {
    /// A definition came into force: a clustered service is remembered from now on, with all that hold permits. Files
    /// that call it something else for a while change nothing of what its data is.
    pub(super) fn remember_boot_ups(&mut self, unit: &UnitName) {
        let Some(known) = self.state.units.get_mut(unit) else { return };
        let assembled = known.definition().is_some_and(|definition| definition.assembly.is_some());
        if assembled && known.boot_up.is_none() {
            let mut boot_up = BootUp::unknown();
            for (token, permit) in &known.permits {
                boot_up.members.insert(permit.node, held(*token, permit));
            }
            known.boot_up = Some(boot_up);
        }
    }

    /// The last active set grows at the grant (F16).
    pub(super) fn member_granted(
        &mut self,
        unit: &UnitName,
        id: NodeId,
        incarnation: &Incarnation,
        token: Token,
        adopt: bool,
        start: Option<Start>,
    ) {
        let index = self.index;
        let live = self.state.is_live(unit);
        let Ok(boot_up) = self.boot_up(unit) else { return };
        let known = boot_up.members.get(&id).filter(|member| member.incarnation == *incarnation);
        let now = match known.filter(|member| adopt && member.ended.is_none()) {
            // The copy is the one that it was before its permit ran out, and so is what it began with.
            Some(before) => {
                Member { token, ready: None, lacks: None, late: false, active: true, ..before.clone() }
            }
            None => {
                // While nobody is live its data is the one that it had, whatever becomes of this start (P46).
                let before = boot_up.members.get(&id).filter(|_| !live);
                let (had, served) = before.map_or((false, false), |before| (before.active, before.served));
                let late = start == Some(Start::Join) && !live && before.is_none_or(|before| before.late);
                Member { active: adopt || had, served, late, ..member(token, incarnation, start) }
            }
        };
        boot_up.members.insert(id, now);
        boot_up.ran_before.remove(&id);
        if !adopt && start.is_none() {
            boot_up.estranged.insert(id);
        }
        match start {
            Some(Start::Alone) => {
                if let Some(election) = &mut boot_up.election {
                    election.token = Some(token);
                    let (identity, rank) = (election.identity.clone(), election.rank);
                    if let Some(identity) = &identity {
                        boot_up.fork(id, identity, rank);
                    }
                    let began = Some((identity, rank));
                    boot_up.members.entry(id).and_modify(|member| member.began = began);
                }
                boot_up.touch(id, index);
            }
            Some(Start::Resync) => {
                boot_up.words.resync.remove(&id);
                boot_up.touch(id, index);
            }
            // From here on it may have what is live, and nothing else.
            Some(Start::Join) if live => {
                boot_up.joins(id);
                boot_up.touch(id, index);
            }
            // One that waits for others has not touched its data before it is active; an election may rest on it.
            Some(Start::Join) => {
                boot_up.touched.insert(id, index);
            }
            None => boot_up.touch(id, index),
        }
    }

    /// A copy ran, or may have run, on a node's data.
    pub(super) fn data_touched(&mut self, unit: &UnitName, id: NodeId) {
        let index = self.index;
        if let Ok(boot_up) = self.boot_up(unit) {
            boot_up.touch(id, index);
        }
    }

    /// A copy is active: it may have all the data, and write, before anybody hears that it is ready.
    pub(super) fn member_started(&mut self, unit: &UnitName, id: NodeId, token: Token) {
        self.data_touched(unit, id);
        let Ok(boot_up) = self.boot_up(unit) else { return };
        if let Some(member) = boot_up.members.get_mut(&id).filter(|member| member.token == token) {
            member.active = true;
            member.late = false;
        }
    }

    /// A node said whether a copy runs there without a permit. `first`: it had said nothing of the unit before.
    pub(super) fn stray_noted(&mut self, unit: &UnitName, id: NodeId, running: bool, first: bool) {
        if let Ok(boot_up) = self.boot_up(unit) {
            if !running {
                boot_up.ran_before.remove(&id);
            } else if first && boot_up.epoch == 0 {
                boot_up.ran_before.insert(id);
            }
        }
        let strange = running && self.state.may_keep(unit, id).is_err();
        let life = self.state.nodes.get(&id).and_then(|node| node.life.as_ref());
        let incarnation = life.map(|life| life.incarnation.clone());
        let Ok(boot_up) = self.boot_up(unit) else { return };
        if strange {
            boot_up.estrange(id);
        }
        let member =
            boot_up.members.get_mut(&id).filter(|member| Some(&member.incarnation) == incarnation.as_ref());
        if let Some(member) = member.filter(|_| !running) {
            member.quiet = true;
        }
    }

    /// A permit ended. Only a release or a proof says that its copy has.
    pub(super) fn member_ended(
        &mut self,
        unit: &UnitName,
        permit: &Permit,
        token: Token,
        evidence: Evidence,
    ) {
        let index = self.index;
        let Ok(boot_up) = self.boot_up(unit) else { return };
        boot_up.touch(permit.node, index);
        if evidence == Evidence::Released {
            boot_up.stops.insert(permit.node, index);
        }
        if let Some(member) = boot_up.members.get_mut(&permit.node).filter(|member| member.token == token) {
            member.ready = None;
            member.lacks = None;
            member.ended = evidence.proves_end().then_some(index);
        }
    }

    /// A life was proven over: what time alone had taken from it is proven as well.
    pub(super) fn members_gone(&mut self, node: NodeId, incarnation: &Incarnation) {
        let index = self.index;
        for member in members_of(self.state, node, incarnation) {
            member.ended.get_or_insert(index);
        }
    }

    /// The proof was no proof (F18): what that life may still write counts again. Names the units that it is about.
    pub(super) fn members_contradicted(&mut self, node: NodeId, incarnation: &Incarnation) -> Vec<UnitName> {
        let mut units = Vec::new();
        for (name, unit) in &mut self.state.units {
            let back = unit.permits.iter().find(|(_, permit)| permit.contradicted && permit.node == node);
            let Some(boot_up) = &mut unit.boot_up else { continue };
            if let Some((token, permit)) = back {
                boot_up.members.entry(node).or_insert_with(|| held(*token, permit));
            }
            if let Some(member) = boot_up.members.get_mut(&node).filter(|m| m.incarnation == *incarnation) {
                member.ended = None;
                units.push(name.clone());
            }
        }
        units
    }

    /// A release that came after time had ended the permit: the copy has ended all the same. Whether that was news.
    pub(super) fn late_release(
        &mut self,
        unit: &UnitName,
        id: NodeId,
        incarnation: &Incarnation,
        token: Token,
    ) -> bool {
        let index = self.index;
        let Ok(boot_up) = self.boot_up(unit) else { return false };
        let member = boot_up.members.get_mut(&id);
        let member =
            member.filter(|m| m.token == token && m.incarnation == *incarnation && m.ended.is_none());
        let Some(member) = member else { return false };
        member.ended = Some(index);
        boot_up.stops.insert(id, index);
        true
    }
}

impl State {
    /// A clustered service whose latest data a node may have, and its part in that.
    pub(crate) fn live_last(&self, id: NodeId) -> Option<(&UnitName, &Member)> {
        self.units.iter().find_map(|(name, unit)| Some((name, unit.boot_up.as_ref()?.members.get(&id)?)))
    }
}

impl BootUp {
    /// A node was taken out of the cluster.
    pub(crate) fn forget_node(&mut self, id: NodeId) {
        self.stops.remove(&id);
        self.touched.remove(&id);
        self.heard.remove(&id);
        self.ran_before.remove(&id);
        self.estranged.remove(&id);
        self.forks.values_mut().for_each(|forks| {
            forks.since.remove(&id);
        });
        self.words.without.remove(&id);
        self.words.resync.remove(&id);
        if let Some(formation) = &mut self.formation {
            formation.joined.remove(&id);
        }
    }
}

fn member(token: Token, incarnation: &Incarnation, start: Option<Start>) -> Member {
    Member {
        incarnation: incarnation.clone(),
        token,
        start,
        began: None,
        ready: None,
        lacks: None,
        late: false,
        active: false,
        served: false,
        stranger: None,
        quiet: false,
        ended: None,
    }
}

/// One that holds a permit already: what is active may have written.
fn held(token: Token, permit: &Permit) -> Member {
    Member { active: permit.active_at.is_some(), ..member(token, &permit.incarnation, None) }
}

fn members_of<'a>(
    state: &'a mut State,
    node: NodeId,
    incarnation: &'a Incarnation,
) -> impl Iterator<Item = &'a mut Member> {
    let boot_ups = state.units.values_mut().filter_map(|unit| unit.boot_up.as_mut());
    let members = boot_ups.filter_map(move |boot_up| boot_up.members.get_mut(&node));
    members.filter(move |member| member.incarnation == *incarnation)
}
