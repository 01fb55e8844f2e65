//! Facts about whole nodes: heard, lost, leaving.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::command::{AgentAction, Fact};
use crate::event::{EventKind, Severity};
use crate::evidence::{Class, Evidence};
use crate::fence::Phase;
use crate::lately::Ended;
use crate::name::{Incarnation, Millis, NodeId, UnitName};
use crate::node::{Life, Presence};
use crate::refusal::Refusal;
use crate::state::{Alarm, AlarmKind, Tenure};
use crate::watchdog::Chain;

use super::{Step, stale};

impl Step<'_> {
    pub(super) fn term_began(&mut self, term: u64, leader: NodeId) -> Result<(), Refusal> {
        if self.state.tenure.is_some_and(|tenure| tenure.term >= term) {
            return Err(stale("a later term has begun"));
        }
        self.state.tenure = Some(Tenure { term, leader, since: self.time });
        // Nobody has said anything to this leader yet.
        self.state
            .nodes
            .values_mut()
            .filter_map(|node| node.life.as_mut())
            .for_each(|life| life.told = false);
        self.record(Severity::Info, Some(leader), None, EventKind::LeaderChanged { term });
        Ok(())
    }

    /// Opens a session. A new incarnation ends the old one, but only after that was lost (F3).
    pub(super) fn node_heard(&mut self, heard: &Fact) -> Result<(), Refusal> {
        let Fact::NodeHeard { node: id, incarnation, session, machine, addresses, level, term } = heard
        else {
            return Err(stale("not a hello"));
        };
        let (id, session) = (*id, *session);
        self.same_term(*term)?;
        let node = self.node(id)?;
        if node.past.contains(incarnation) {
            return Err(Refusal::WrongIncarnation);
        }
        if node.machine != *machine {
            let enrolled = node.machine.clone();
            return Err(Refusal::OtherMachine { enrolled, shown: machine.clone() });
        }
        match &node.life {
            Some(life) if life.session >= session => return Err(stale("a later session was opened")),
            Some(life)
                if life.incarnation == *incarnation
                    && (life.gone.is_some() || life.contradicted.is_some()) =>
            {
                return Err(Refusal::Fenced);
            }
            // P122: it is no contradiction that it speaks, and it is to end.
            Some(life) if life.incarnation == *incarnation && life.isolated.is_some() => {
                return Err(Refusal::Isolated);
            }
            Some(Life {
                incarnation: other,
                presence: Presence::InSession | Presence::Leaving,
                gone: None,
                ..
            }) if other != incarnation => {
                return Err(Refusal::StillInSession);
            }
            _ => self.knows_the_level(*level)?,
        }
        match &self.node(id)?.life {
            Some(life) if life.incarnation == *incarnation => {
                let returned = matches!(life.presence, Presence::Lost { .. });
                self.return_to_session(id, incarnation, session, addresses, returned)?;
            }
            Some(_) => self.reborn(id, incarnation, session, addresses)?,
            None => self.first_heard(id, incarnation, session, addresses)?,
        }
        self.node_mut(id)?.feature_level = Some(*level);
        self.state.alarms.remove(&AlarmKind::OtherMachine(id));
        if !self.state.nodes.values().any(|node| node.lost_since().is_some()) {
            self.state.alarms.remove(&AlarmKind::ManyLost);
        }
        Ok(())
    }

    /// Two machines show one identity: cloned, restored elsewhere, or the certificate was carried over (F3).
    ///
    /// With the enrolled machine id the two cannot be told apart, and the one in session gets nothing new for a
    /// quarantine. With another id the enrolled machine goes on: a stolen certificate must not take it out of service.
    pub(super) fn identity_shared(&mut self, id: NodeId, machine: &str) -> Result<(), Refusal> {
        if self.node(id)?.machine == machine {
            self.quarantine(id);
        }
        let alarm = Alarm { wall_ms: self.wall_ms, detail: format!("machine {machine}") };
        if self.state.alarms.insert(AlarmKind::OtherMachine(id), alarm).is_none() {
            self.record(Severity::Alert, Some(id), None, EventKind::OtherMachine { machine: machine.into() });
        }
        Ok(())
    }

    fn return_to_session(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        session: u64,
        addresses: &[String],
        returned: bool,
    ) -> Result<(), Refusal> {
        self.node_mut(id)?.addresses = addresses.to_vec();
        self.off_is_doubtful(id);
        let life = self.life_mut(id, incarnation)?;
        life.session = session;
        life.presence = Presence::InSession;
        life.told = false;
        if returned {
            self.is_back(id);
            self.lives_on(id);
            self.record(Severity::Info, Some(id), None, EventKind::NodeReturned);
        }
        Ok(())
    }

    /// The machine runs another incarnation: the lost one has ended, and with it everything that it held.
    fn reborn(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        session: u64,
        addresses: &[String],
    ) -> Result<(), Refusal> {
        let ended = self.node(id)?.life.as_ref().map(|life| life.incarnation.clone());
        let voided = ended.as_ref().map(|ended| self.void_all(id, ended, Evidence::Reborn));
        let held = voided.into_iter().flatten().map(|(unit, _, _)| unit).collect();
        if let Some((case, open)) = self.state.open_case(id) {
            // An agent that is still under way may strike the new incarnation (F24, F31).
            let strikes = matches!(open.phase, Phase::Running { .. });
            self.prove(case, Class::Reborn, Evidence::Reborn, None);
            if strikes {
                self.quarantine_strike(id);
            }
        }
        if let Some(ended) = ended {
            self.booted_after(id, ended, held);
        }
        self.drill_is_over(id);
        self.state.alarms.remove(&AlarmKind::ProofContradicted(id));
        if let Some(life) = self.node_mut(id)?.life.take() {
            self.node_mut(id)?.past.insert(life.incarnation);
        }
        self.first_heard(id, incarnation, session, addresses)
    }

    fn first_heard(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        session: u64,
        addresses: &[String],
    ) -> Result<(), Refusal> {
        let life = Life {
            incarnation: incarnation.clone(),
            session,
            since: self.time,
            presence: Presence::InSession,
            inventory: false,
            told: false,
            strays: BTreeSet::new(),
            gone: None,
            contradicted: None,
            isolated: None,
            stop_budget_ms: 0,
            lingering: BTreeMap::new(),
            chain: Chain::unknown(),
        };
        let node = self.node_mut(id)?;
        node.addresses = addresses.to_vec();
        node.life = Some(life);
        self.is_back(id);
        self.state.alarms.remove(&AlarmKind::LeftOff(id));
        self.state.observations.retain(|(_, node), _| *node != id);
        self.state.forget_reach(id);
        self.is_to_register(id);
        self.state.alarms.retain(|kind, _| !matches!(kind, AlarmKind::WrongPlug(node, _) if *node == id));
        self.state.cases.retain(|_, case| case.node != id || case.is_open());
        self.record(Severity::Info, Some(id), None, EventKind::NodeBooted);
        Ok(())
    }

    pub(super) fn node_leaving(&mut self, id: NodeId, incarnation: &Incarnation) -> Result<(), Refusal> {
        let life = self.life_mut(id, incarnation)?;
        if life.presence != Presence::InSession {
            return Err(stale("the node is not in session"));
        }
        life.presence = Presence::Leaving;
        self.record(Severity::Info, Some(id), None, EventKind::NodeLeaving);
        Ok(())
    }

    /// The end of a lease. Voids nothing.
    pub(super) fn node_lost(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        session: u64,
        term: u64,
    ) -> Result<(), Refusal> {
        self.same_term(term)?;
        let since: Millis = self.time;
        let stop_budget_ms = self.state.stop_budget(id);
        let life = self.life_mut(id, incarnation)?;
        if life.session != session {
            return Err(stale("the node has a later session"));
        }
        if matches!(life.presence, Presence::Lost { .. }) {
            return Err(stale("the node is lost already"));
        }
        let orderly = life.presence == Presence::Leaving;
        life.presence = Presence::Lost { since };
        life.stop_budget_ms = stop_budget_ms;
        self.state.forget_reach(id);
        if !orderly {
            self.fell_silent(id);
        }
        let severity = if orderly { Severity::Info } else { Severity::Warning };
        self.record(severity, Some(id), None, EventKind::NodeLost);
        self.off_node_fell_silent(id);
        self.seen_to_die(id);
        // It was lost at this moment, so what is held is held from now on.
        if self.state.fencing_held_until().is_some() {
            let detail = String::from("most likely the leader was slow: fencing waits for one more lease");
            self.state.alarms.insert(AlarmKind::ManyLost, Alarm { wall_ms: self.wall_ms, detail });
        }
        Ok(())
    }

    /// What is asked for says nothing of a node, nor what most of them do at once (P110).
    fn fell_silent(&mut self, id: NodeId) {
        let (time, wall_ms) = (self.time, self.wall_ms);
        let drill = self.state.open_case(id).is_some_and(|(_, case)| case.drill().is_some());
        let hands = drill || self.state.node_maintenance(id).is_some() || self.state.drained_by(id).is_some();
        if let Some(node) = self.state.nodes.get_mut(&id) {
            node.lately.silent_wall_ms = Some(wall_ms);
            if !hands {
                node.lately.fell_silent(time);
            }
        }
        if self.state.most_fell_silent(time) {
            let since = time.saturating_sub(self.state.settings.lease_ms());
            self.state.nodes.values_mut().for_each(|node| node.lately.excuse(since));
        }
    }

    fn is_back(&mut self, id: NodeId) {
        if let Some(node) = self.state.nodes.get_mut(&id) {
            node.lately.is_back(self.time);
        }
    }

    /// What the new life is told of the one before: how that was proven gone, or that it ended by itself; nothing of one
    /// that ended in order.
    fn booted_after(&mut self, id: NodeId, ended: Incarnation, held: Vec<UnitName>) {
        let (at, wall_ms) = (self.time, self.wall_ms);
        let Some(node) = self.state.nodes.get_mut(&id) else { return };
        let lately = &mut node.lately;
        match &mut lately.ended {
            Some(told) if told.incarnation == ended => told.held.extend(held),
            told => {
                *told = lately.silent_wall_ms.map(|silent| Ended {
                    incarnation: ended,
                    class: Class::Reborn,
                    at,
                    wall_ms,
                    silent_wall_ms: Some(silent),
                    device: None,
                    executor: None,
                    by: None,
                    because: None,
                    held,
                });
            }
        }
    }

    /// As [`quarantine`](Self::quarantine), for an agent that nobody can call back: it may run until its deadline.
    pub(super) fn quarantine_strike(&mut self, id: NodeId) {
        self.quarantine(id);
        let devices = self.state.devices_of(id);
        let call = devices.map(|(_, device)| device.deadline_ms(AgentAction::Off)).max().unwrap_or(0);
        let until = self.time.saturating_add(call).saturating_add(self.state.settings.quarantine_ms);
        if let Some(node) = self.state.nodes.get_mut(&id) {
            node.quarantined_until = node.quarantined_until.max(until);
        }
    }

    /// No grant to this node until a late command of its device can no longer strike.
    pub(super) fn quarantine(&mut self, id: NodeId) {
        let until = self.time.saturating_add(self.state.settings.quarantine_ms);
        if let Some(node) = self.state.nodes.get_mut(&id) {
            node.quarantined_until = node.quarantined_until.max(until);
        }
    }
}
