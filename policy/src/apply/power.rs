//! What devices show of the nodes' power, and what gives it back after a fence.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::AfterFence;
use crate::event::{EventKind, Severity};
use crate::evidence::Class;
use crate::fence::{Observation, Phase, Power, SwitchedOff};
use crate::name::{Incarnation, Millis, NodeId};
use crate::node::Node;
use crate::reach::{Access, Reach};
use crate::refusal::Refusal;
use crate::state::{Alarm, AlarmKind};

use super::{Step, stale};

/// Wait after the n-th failure to switch something on, in milliseconds. After the last it is left to a person: nothing
/// waits for it.
const SWITCH_ON_MS: [Millis; 4] = [5_000, 10_000, 20_000, 40_000];

impl Step<'_> {
    pub(super) fn power_observed(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        device: &str,
        power: &Power,
        by: Option<NodeId>,
    ) -> Result<(), Refusal> {
        // A look counts while the node lives: a plug that shows ON once its node is silent may be anybody's.
        self.heard(id, incarnation)?;
        let known = self.state.devices.get(device).filter(|device| device.targets.contains_key(&id));
        let isolates = known.is_some_and(|device| device.isolates.is_some());
        if known.is_none() {
            return Err(Refusal::Impossible(format!("no device {device} fences this node")));
        }
        if let Some(by) = by
            && self.says_only_what_it_lacks((device, id, by), power, incarnation)
        {
            return Ok(());
        }
        let key = (String::from(device), id);
        let last = self.state.observations.get(&key).filter(|seen| seen.incarnation == *incarnation);
        let before = last.map(|seen| seen.power.clone());
        let trusted = match power {
            Power::On => true,
            Power::Off => false,
            Power::Unknown(_) | Power::Unable(_) => last.is_some_and(|seen| seen.trusted),
        };
        let before_it = last.map_or(0, |seen| seen.misses);
        let misses = match power {
            Power::Unknown(_) => before_it.saturating_add(1),
            // The device was not asked: nothing is lost by trying again soon.
            Power::Unable(_) => before_it.max(1),
            Power::On | Power::Off => 0,
        };
        let answered = match power {
            Power::On | Power::Off => by,
            Power::Unknown(_) | Power::Unable(_) => {
                last.and_then(|seen| seen.answered).filter(|answered| Some(*answered) != by)
            }
        };
        // Who was asked to settle a doubt has no turn for that.
        let turn = last.filter(|seen| seen.doubted.is_some() && misses == 0).and_then(|seen| seen.by);
        let (incarnation, power, by) = (incarnation.clone(), power.clone(), turn.or(by));
        let off_since = match power {
            Power::Off if last.is_some_and(|seen| seen.trusted) => Some(self.time),
            Power::Off | Power::Unknown(_) | Power::Unable(_) => last.and_then(|seen| seen.off_since),
            Power::On => None,
        };
        let doubted = None;
        let seen = Observation {
            incarnation,
            power: power.clone(),
            at: self.time,
            trusted,
            off_since,
            misses,
            by,
            doubted,
            answered,
        };
        self.state.observations.insert(key, seen);
        let alarm = AlarmKind::WrongPlug(id, device.into());
        let why = match &power {
            Power::On => {
                self.state.alarms.remove(&alarm);
                return Ok(());
            }
            Power::Off if isolates && self.state.switched_off.contains_key(&(String::from(device), id)) => {
                "its way is not open yet".to_string()
            }
            Power::Off if self.state.switched_off.contains_key(&(String::from(device), id)) => {
                "it was switched off by a fence, and is not on again yet".to_string()
            }
            Power::Off if isolates => {
                "it says that the node, which is heard, is cut off: by hand, or is it the way of another?"
                    .to_string()
            }
            Power::Off => "it says that the node, which is heard, has no power: wrong plug?".to_string(),
            Power::Unknown(error) | Power::Unable(error) => error.clone(),
        };
        self.state.alarms.insert(alarm, Alarm { wall_ms: self.wall_ms, detail: why.clone() });
        if before.as_ref() != Some(&power) {
            let kind = EventKind::DeviceRefused { device: device.into(), why };
            self.record(Severity::Warning, Some(id), None, kind);
        }
        Ok(())
    }

    /// Keeps what a node found of a device. Where it lacks something that another may have, its look says nothing of the
    /// device, and that one looks at once (P152, P159). Of two that have no answer one after the other it is the device's.
    fn says_only_what_it_lacks(
        &mut self,
        (device, target, by): (&str, NodeId, NodeId),
        power: &Power,
        incarnation: &Incarnation,
    ) -> bool {
        let last = self.state.seen(device, target, incarnation);
        let doubted = last.and_then(|seen| seen.doubted);
        let (access, is_all) = match power {
            Power::On | Power::Off => (Access::Answered, false),
            Power::Unable(why) => {
                (Access::NoAgent(why.clone()), self.state.anybody_else_looks(device, [target, by]))
            }
            Power::Unknown(error) => {
                let good = last.filter(|seen| seen.misses == 0 && seen.doubted.is_none());
                let other = good
                    .and_then(|seen| self.state.answered_elsewhere(device, target, by, seen.answered))
                    .map(|other| self.state.node_name(other));
                match other {
                    Some(other) => {
                        (Access::NoWay(format!("it had no answer, where {other} had one: {error}")), true)
                    }
                    None => (Access::Unsaid, false),
                }
            }
        };
        let no_way = is_all && matches!(power, Power::Unknown(_));
        if is_all && let Some(seen) = self.state.observations.get_mut(&(device.into(), target)) {
            seen.by = Some(by);
            seen.doubted = seen.doubted.or(Some(by).filter(|_| no_way));
        }
        let before = self.state.reach(device, by).map(|reach| reach.access.clone());
        if let Some(why) = access.lacks().filter(|_| before.as_ref() != Some(&access)) {
            let kind = EventKind::AgentUnable { device: device.into(), why: why.into() };
            self.record(Severity::Warning, Some(by), None, kind);
        }
        let known = self.state.reach.entry(device.into()).or_default();
        // Nor has the one before it, if it is the device's.
        if access == Access::Unsaid
            && let Some(reach) = doubted.and_then(|first| known.get_mut(&first))
            && matches!(reach.access, Access::NoWay(_))
        {
            reach.access = Access::Unsaid;
        }
        if self.state.nodes.get(&by).and_then(Node::in_session).is_some() {
            known.insert(by, Reach { at: self.time, access });
        }
        is_all
    }

    /// A node that has fallen silent: what showed OFF at the time of its last life sign, and ON before, is its own plug.
    pub(super) fn seen_to_die(&mut self, id: NodeId) {
        let since = self.time.saturating_sub(self.state.settings.loss_ms());
        let devices: Vec<String> = self.state.devices_of(id).map(|(name, _)| name.into()).collect();
        for device in devices {
            let key = (device, id);
            let Some(seen) = self.state.observations.get_mut(&key) else { continue };
            if seen.off_since.take_if(|off| *off >= since).is_some() {
                seen.trusted = true;
                self.state.alarms.remove(&AlarmKind::WrongPlug(id, key.0));
            }
        }
    }

    /// It is heard again in the same life: what showed OFF has not seen it die, and counts only once it shows ON.
    pub(super) fn lives_on(&mut self, id: NodeId) {
        let devices: Vec<String> = self.state.devices_of(id).map(|(name, _)| name.into()).collect();
        for device in devices {
            if let Some(seen) = self.state.observations.get_mut(&(device, id)) {
                seen.trusted &= seen.power != Power::Off;
            }
        }
    }

    /// What is said to be mended is tried anew at once: a node's devices, of which some could not say how its power is (P153).
    pub(super) fn look_anew(&mut self, id: NodeId) {
        let devices: BTreeSet<String> = self.state.devices_of(id).map(|(name, _)| name.into()).collect();
        self.state.reach.retain(|device, _| !devices.contains(device));
        self.state.forget_reach(id);
        for ((_, node), seen) in &mut self.state.observations {
            if *node == id {
                seen.misses = 0;
            }
        }
    }

    /// Each device of the level may take power from the node from here on.
    pub(super) fn power_may_go(&mut self, node: NodeId, level: u32) {
        let devices: Vec<String> = self.state.level(node, level).map(|(name, _)| name.into()).collect();
        for device in devices {
            let debt = self.state.switched_off.entry((device, node)).or_default();
            // P123: an agent that may be opening a way is not forgotten.
            if debt.opening.is_none() {
                *debt = SwitchedOff::since(self.index);
            }
        }
    }

    /// The case has ended through this level, or without one: keeps what is to be switched on of all that it tried.
    ///
    /// Where fenced nodes stay off, these are the feeds of a level that proved nothing: the node would miss one of them
    /// for ever. After a person's word it is nothing: that person may have the hands in the machine.
    pub(super) fn power_comes_back(&mut self, node: NodeId, class: Class, level: u32) {
        let proved = if class == Class::Off { level } else { 0 };
        let looping = class == Class::Off && self.is_in_fence_loop(node);
        let all = self.state.settings.after_fence == AfterFence::On && !looping;
        let feeds = self.feeds(node, proved);
        let devices = &self.state.devices;
        // A way that was cut is opened whatever is wished: nothing that rests on it runs there before (P124).
        let is_way = |name: &String| devices.get(name).is_some_and(|device| device.isolates.is_some());
        self.state.switched_off.retain(|(name, target), _| {
            *target != node || is_way(name) || (class != Class::Word && (all || feeds.contains(name)))
        });
    }

    /// Fenced nodes are to stay off from now on: what is still to be switched on are feeds alone.
    pub(super) fn nodes_stay_off(&mut self) {
        // What holds for all is no alarm of one.
        self.state.alarms.retain(|kind, _| !matches!(kind, AlarmKind::LeftOff(_)));
        let nodes: Vec<NodeId> = self.state.nodes.keys().copied().collect();
        for node in nodes {
            // A drill gives back what it took.
            if self.state.is_off_for_drill(node) {
                continue;
            }
            let feeds = self.feeds(node, 0);
            let devices = &self.state.devices;
            let is_way = |name: &String| devices.get(name).is_some_and(|device| device.isolates.is_some());
            self.state
                .switched_off
                .retain(|(name, target), _| *target != node || is_way(name) || feeds.contains(name));
        }
    }

    /// The devices of a node that share a level, but for those of one level.
    fn feeds(&self, node: NodeId, but: u32) -> BTreeSet<String> {
        let levels = self.state.levels(node).into_iter().filter(|level| *level != but);
        let shared = levels.filter(|level| self.state.level(node, *level).nth(1).is_some());
        shared.flat_map(|level| self.state.level(node, level)).map(|(name, _)| name.into()).collect()
    }

    /// Whether a node that would be switched on again was fenced too often for that (P112). Then it stays off, with an alarm.
    fn is_in_fence_loop(&mut self, id: NodeId) -> bool {
        let time = self.time;
        let times = self.state.nodes.get_mut(&id).and_then(|node| node.lately.was_fenced(time));
        if let Some(times) = times.filter(|_| self.state.settings.after_fence == AfterFence::On) {
            let detail = format!("{times} times within half an hour");
            self.state.alarms.insert(AlarmKind::LeftOff(id), Alarm { wall_ms: self.wall_ms, detail });
            self.record(Severity::Alert, Some(id), None, EventKind::LeftOff { times });
        }
        times.is_some()
    }

    /// An operator's word: what was wrong with the node is mended. It is held back no more, and switched on if it was
    /// left off for being fenced too often.
    pub(super) fn forgive_node(&mut self, id: NodeId, by: &str) -> Result<(), Refusal> {
        let lately = &mut self.node_mut(id)?.lately;
        lately.losses.clear();
        lately.fences.clear();
        let left_off = self.state.alarms.remove(&AlarmKind::LeftOff(id)).is_some();
        if left_off && self.state.settings.after_fence == AfterFence::On {
            let proven = self.state.cases.values().find(|case| {
                case.node == id && matches!(case.phase, Phase::Proven { class: Class::Off, .. })
            });
            let last = proven.map_or(0, |case| case.level);
            for level in self.state.levels(id).into_iter().filter(|level| *level <= last) {
                self.power_may_go(id, level);
            }
        }
        self.look_anew(id);
        self.record(Severity::Info, Some(id), None, EventKind::NodeForgiven { by: by.into() });
        Ok(())
    }

    /// How switching on went. It proves nothing and nothing waits for it.
    pub(super) fn switched_on(
        &mut self,
        node: NodeId,
        device: &str,
        since: u64,
        power: &Power,
    ) -> Result<(), Refusal> {
        let key = (String::from(device), node);
        let Some(off) = self.state.switched_off.get_mut(&key).filter(|off| off.since == since) else {
            return Err(stale("nothing is to be switched on there"));
        };
        if self.state.devices.get(device).is_some_and(|device| device.isolates.is_some()) {
            return match off.opening {
                Some(_) => self.opened(node, device, power),
                None => Err(stale("nothing is being opened there")),
            };
        }
        let why = match power {
            Power::On => {
                self.state.switched_off.remove(&key);
                let kind = EventKind::SwitchedOn { device: device.into() };
                self.record(Severity::Info, Some(node), None, kind);
                return Ok(());
            }
            Power::Off => "it said on, and then its status said off".to_string(),
            Power::Unknown(error) | Power::Unable(error) => error.clone(),
        };
        let wait = SWITCH_ON_MS.get(off.failures as usize).copied();
        off.failures = off.failures.saturating_add(1);
        match wait {
            Some(wait) => off.next_at = self.time.saturating_add(wait),
            None => drop(self.state.switched_off.remove(&key)),
        }
        let kind = EventKind::NotSwitchedOn { device: device.into(), why, again: wait.is_some() };
        self.record(Severity::Warning, Some(node), None, kind);
        Ok(())
    }
}
