//! How a node is shown.

use policy::{AlarmKind, Class, Ended, FencePhase, Life, Node, NodeId, Power, Presence, Role};

use super::{View, seconds_until};
use crate::api::model::{DeviceLine, EndLine, NodeLine, WatchdogLine};
use crate::last_end;

impl View<'_> {
    pub(super) fn node_line(&self, id: NodeId) -> Option<NodeLine> {
        let node = self.state.nodes.get(&id)?;
        let (fencing, fencing_error) = self.fencing(id, node);
        let held = |unit: &policy::Unit| unit.permit_on(id).is_some();
        Some(NodeLine {
            name: node.name.clone(),
            id: id.0,
            role: match node.role {
                Role::Voter => "voter",
                Role::Member => "member",
                Role::Witness => "witness",
            }
            .to_owned(),
            state: self.node_state(id, node).to_owned(),
            drained: self.state.drained_by(id).map(str::to_owned),
            maintenance: self.state.node_maintenance(id).is_some(),
            fencing: fencing.to_owned(),
            device: self.state.fenced_by(id),
            fencing_error,
            devices: self.device_lines(id, node),
            drills: self.drill_lines(id),
            watchdog: node.life.as_ref().and_then(|life| self.watchdog_line(life)),
            addresses: node.addresses.clone(),
            units: self
                .state
                .units
                .iter()
                .filter(|(_, unit)| held(unit))
                .map(|(name, _)| name.0.clone())
                .collect(),
            quarantine_s: seconds_until(node.quarantined_until, self.now),
            losses: node.lately.losses.len(),
            left_off: self.state.alarms.contains_key(&AlarmKind::LeftOff(id)),
            held_back_s: self.state.held_back(id, self.now).and_then(|until| seconds_until(until, self.now)),
            last_end: self.state.last_end(id).map(|ended| self.end_line(ended)),
            incarnation: node.life.as_ref().map(|life| life.incarnation.0.clone()),
        })
    }

    pub(super) fn node_state(&self, id: NodeId, node: &Node) -> &'static str {
        let Some(life) = &node.life else { return "unknown" };
        if life.gone.is_some() {
            return "fenced";
        }
        match life.presence {
            Presence::Leaving => "leaving",
            Presence::InSession if life.inventory => "online",
            Presence::InSession => "joining",
            Presence::Lost { .. } if self.is_away(id, node) => "away",
            Presence::Lost { .. } => {
                let running = |case: &policy::FenceCase| matches!(case.phase, FencePhase::Running { .. });
                match self.state.open_case(id) {
                    Some((_, case)) if running(case) => "fencing",
                    _ if life.isolated.is_some() => "cut-off",
                    _ => "lost",
                }
            }
        }
    }

    /// Whether it went by an orderly shutdown, and nothing of it is left to worry about.
    pub(super) fn is_away(&self, id: NodeId, node: &Node) -> bool {
        let Some(life) = &node.life else { return false };
        let presence = |event: &&policy::Event| {
            use policy::EventKind::{NodeBooted, NodeLost, NodeReturned};
            event.node == Some(id) && matches!(event.kind, NodeBooted | NodeLost | NodeReturned)
        };
        // The policy calls a loss no trouble where the node had said that it goes.
        let orderly = |event: &policy::Event| {
            matches!(event.kind, policy::EventKind::NodeLost) && event.severity == policy::Severity::Info
        };
        matches!(life.presence, Presence::Lost { .. })
            && life.gone.is_none()
            && life.strays.is_empty()
            && life.isolated.is_none()
            && self.state.open_case(id).is_none()
            && !self.state.units.values().any(|unit| unit.permit_on(id).is_some())
            && self.state.history.iter().rev().find(presence).is_some_and(orderly)
    }

    /// Whether the node could be fenced if it were lost now, and what a device of its first level showed if not.
    pub(super) fn fencing(&self, id: NodeId, node: &Node) -> (&'static str, Option<String>) {
        let Some(first) = self.state.levels(id).first().copied() else { return ("none", None) };
        if !self.ready_levels(id).is_empty() {
            return ("ready", None);
        }
        let looks = self.state.level(id, first).map(|(device, _)| self.look(id, node, device));
        looks.into_iter().find(|(state, _)| *state != "ready").unwrap_or(("unknown", None))
    }

    /// What a device says of a node's power.
    fn look(&self, id: NodeId, node: &Node, device: &str) -> (&'static str, Option<String>) {
        // A look at an earlier life says nothing of this one: the plug may have been moved meanwhile.
        let life = node.life.as_ref().filter(|life| life.gone.is_none());
        let seen = life.and_then(|life| self.state.seen(device, id, &life.incarnation));
        match seen.map(|seen| &seen.power) {
            None => ("unknown", None),
            Some(Power::On)
                if self.state.devices.get(device).is_some_and(|one| self.state.has_lied(id, one.level)) =>
            {
                (
                    "unready",
                    Some("its level was found to say off while the node goes on; a drill that passes clears it".to_owned()),
                )
            }
            Some(Power::On) => match self.state.nobody_reaches(device, id) {
                Some((other, lacks)) => {
                    let who = self.state.node_name(other);
                    ("unready", Some(format!("nobody that is here can use it; {who} cannot: {lacks}")))
                }
                None => ("ready", None),
            },
            Some(Power::Off) if self.state.devices.get(device).is_some_and(|one| one.isolates.is_some()) => {
                ("unready", Some("it read that the node is cut off, while it was heard".to_owned()))
            }
            Some(Power::Off) => ("unready", Some("it read OFF while the node was running".to_owned())),
            Some(Power::Unknown(error) | Power::Unable(error)) => ("unready", Some(error.clone())),
        }
    }

    fn end_line(&self, ended: &Ended) -> EndLine {
        EndLine {
            how: match ended.class {
                Class::Off => "fenced",
                Class::Word => "declared-off",
                Class::Reborn => "rebooted",
                Class::Isolated => "cut-off",
                Class::Released | Class::Expired => "gone",
            }
            .to_owned(),
            wall_ms: ended.wall_ms,
            ago_s: self.now.saturating_sub(ended.at) / 1000,
            device: ended.device.clone(),
            executor: ended.executor.clone(),
            because: ended.because.as_ref().map(ToString::to_string),
            held: ended.held.iter().map(|unit| unit.0.clone()).collect(),
            text: last_end::sentence(ended),
        }
    }

    fn watchdog_line(&self, life: &Life) -> Option<WatchdogLine> {
        let armed = life.chain.armed.as_ref();
        (armed.is_some() || life.chain.why.is_some()).then(|| WatchdogLine {
            device: armed.map(|armed| armed.device.clone()),
            timeout_ms: armed.map(|armed| armed.timeout_ms),
            since_s: armed.map(|armed| self.now.saturating_sub(armed.since) / 1000),
            error: life.chain.why.clone(),
        })
    }

    fn device_lines(&self, id: NodeId, node: &Node) -> Vec<DeviceLine> {
        let all = self.state.levels(id).into_iter().flat_map(|level| self.state.level(id, level));
        all.map(|(name, device)| {
            let (state, error) = self.look(id, node, name);
            let seen = node.life.as_ref().and_then(|life| self.state.seen(name, id, &life.incarnation));
            DeviceLine {
                name: name.to_owned(),
                level: device.level,
                isolates: device.isolates.is_some(),
                state: state.to_owned(),
                error,
                asked_s: seen.map(|seen| self.now.saturating_sub(seen.at) / 1000),
                answered_by: seen.and_then(|seen| seen.answered).map(|by| self.state.node_name(by)),
                unable: self.unable_lines(name),
            }
        })
        .collect()
    }

    /// Who leaves a device's agent to others, and why.
    fn unable_lines(&self, device: &str) -> Vec<String> {
        let said = self.state.unable_of(device);
        said.map(|(id, lacks)| format!("{} cannot use it: {lacks}", self.state.node_name(id))).collect()
    }

    /// The levels by which a node could be fenced if it were lost now, or cut off.
    pub(super) fn ready_levels(&self, id: NodeId) -> Vec<u32> {
        let Some(node) = self.state.nodes.get(&id) else { return Vec::new() };
        let ready = |level: &u32| {
            self.state.level(id, *level).all(|(device, _)| self.look(id, node, device).0 == "ready")
        };
        self.state.levels(id).into_iter().filter(ready).collect()
    }
}
