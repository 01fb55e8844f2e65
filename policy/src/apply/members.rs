//! The last active set of a clustered service: it grows at the grant, and shrinks by evidence alone (F16).

use alloc::vec::Vec;

use crate::assembly::{BootUp, Member, Start};
use crate::evidence::Evidence;
use crate::name::{Incarnation, NodeId, Token, UnitName};
use crate::permit::Permit;
use crate::state::State;
use crate::unit::Unit;

use super::Step;

impl Step<'_> {
    /// A definition came into force: a clustered service is remembered from now on, with all that hold permits.
    pub(super) fn remember_boot_ups(&mut self, unit: &UnitName) {
        let Some(known) = self.state.units.get_mut(unit) else { return };
        if known.definition().is_none_or(|definition| definition.assembly.is_none()) {
            known.boot_up = None;
        } else if known.boot_up.is_none() {
            let mut boot_up = BootUp::unknown();
            for (token, permit) in &known.permits {
                boot_up.members.insert(permit.node, member(*token, &permit.incarnation, None));
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
        start: Option<Start>,
    ) {
        let index = self.index;
        let Ok(boot_up) = self.boot_up(unit) else { return };
        boot_up.members.insert(id, member(token, incarnation, start));
        match start {
            Some(Start::Alone) => {
                if let Some(election) = &mut boot_up.election {
                    election.token = Some(token);
                    let began = Some((election.identity.clone(), election.rank));
                    boot_up.members.entry(id).and_modify(|member| member.began = began);
                }
                boot_up.touch(id, index);
            }
            Some(Start::Resync) => {
                boot_up.words.resync.remove(&id);
                boot_up.touch(id, index);
            }
            // One that waits for others has not touched its data before it is active; an election may rest on it.
            Some(Start::Join) if boot_up.is_gathering() => {
                boot_up.touched.insert(id, index);
            }
            Some(Start::Join) | None => boot_up.touch(id, index),
        }
    }

    /// A copy ran, or may have run, on a node's data.
    pub(super) fn data_touched(&mut self, unit: &UnitName, id: NodeId) {
        let index = self.index;
        if let Ok(boot_up) = self.boot_up(unit) {
            boot_up.touch(id, index);
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
            member.ended = (evidence != Evidence::Expired).then_some(index);
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
            let held = unit.permits.iter().find(|(_, permit)| permit.contradicted && permit.node == node);
            let Some(boot_up) = &mut unit.boot_up else { continue };
            if let Some((token, permit)) = held {
                boot_up.members.entry(node).or_insert_with(|| member(*token, &permit.incarnation, None));
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
    /// A clustered service whose latest data a node may have.
    pub(crate) fn live_last(&self, id: NodeId) -> Option<&UnitName> {
        let has =
            |unit: &Unit| unit.boot_up.as_ref().is_some_and(|boot_up| boot_up.members.contains_key(&id));
        self.units.iter().find(|(_, unit)| has(unit)).map(|(name, _)| name)
    }
}

impl BootUp {
    /// A node was taken out of the cluster.
    pub(crate) fn forget_node(&mut self, id: NodeId) {
        self.stops.remove(&id);
        self.touched.remove(&id);
        self.heard.remove(&id);
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
        ended: None,
    }
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
