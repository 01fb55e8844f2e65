//! The devices of a node, level by level.
//!
//! All devices of a level prove a node off together: two feeds of one machine, say. A level counts while each of its
//! devices has shown this very life of the node with power on.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::Device;
use crate::fence::{FenceCase, Observation, Phase};
use crate::name::{Incarnation, Millis, NodeId};
use crate::state::State;

impl State {
    /// The devices that fence a node, by name.
    pub fn devices_of(&self, node: NodeId) -> impl Iterator<Item = (&str, &Device)> {
        let fences = self.devices.iter().filter(move |(_, device)| device.targets.contains_key(&node));
        fences.map(|(name, device)| (name.as_str(), device))
    }

    /// The devices of one level of a node.
    pub fn level(&self, node: NodeId, level: u32) -> impl Iterator<Item = (&str, &Device)> {
        self.devices_of(node).filter(move |(_, device)| device.level == level)
    }

    /// The levels of a node, lowest first.
    #[must_use]
    pub fn levels(&self, node: NodeId) -> BTreeSet<u32> {
        self.devices_of(node).map(|(_, device)| device.level).collect()
    }

    /// The names of a level's devices, as in "pdu-a and pdu-b".
    #[must_use]
    pub fn level_name(&self, node: NodeId, level: u32) -> String {
        let names: Vec<&str> = self.level(node, level).map(|(name, _)| name).collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_string(),
            Some((last, before)) => alloc::format!("{} and {last}", before.join(", ")),
            None => alloc::format!("level {level}"),
        }
    }

    /// All devices of a node in words: "bmc-a, then pdu-a and pdu-b".
    #[must_use]
    pub fn fenced_by(&self, node: NodeId) -> Option<String> {
        let levels: Vec<String> =
            self.levels(node).into_iter().map(|level| self.level_name(node, level)).collect();
        (!levels.is_empty()).then(|| levels.join(", then "))
    }

    /// The last look at a life of a node through a device.
    #[must_use]
    pub fn seen(&self, device: &str, node: NodeId, life: &Incarnation) -> Option<&Observation> {
        let seen = self.observations.get(&(device.to_string(), node));
        seen.filter(|seen| seen.incarnation == *life)
    }

    /// Whether a level can prove that life off: each of its devices was seen ON for it, and nothing has contradicted
    /// that since; nor was one of them found to say off while the node went on.
    #[must_use]
    pub fn level_counts(&self, node: NodeId, level: u32, life: &Incarnation) -> bool {
        self.level_was_on(node, level, life) && !self.has_lied(node, level)
    }

    /// The same, whatever drills found: only a drill can clear a level of that.
    pub(crate) fn level_was_on(&self, node: NodeId, level: u32, life: &Incarnation) -> bool {
        let trusted = |name: &str| self.seen(name, node, life).is_some_and(|seen| seen.trusted);
        let mut devices = self.level(node, level).peekable();
        devices.peek().is_some() && devices.all(|(name, _)| trusted(name))
    }

    /// The first level that can prove that life off.
    #[must_use]
    pub fn first_level(&self, node: NodeId, life: &Incarnation) -> Option<u32> {
        self.levels(node).into_iter().find(|level| self.level_counts(node, *level, life))
    }

    /// When an attempt through a level may begin, or `None` while one is under way or the case is closed.
    ///
    /// A level behind the last one is tried at once; the last one again, or one before it, after a pause. No device
    /// is used before its delay is over.
    #[must_use]
    pub fn attempt_due(&self, case: &FenceCase, level: u32) -> Option<Millis> {
        let due = match &case.phase {
            Phase::Wanted => 0,
            Phase::Failed { .. } if level > case.level => 0,
            Phase::Failed { next_at, .. } => *next_at,
            Phase::Running { .. }
            | Phase::Proven { .. }
            | Phase::Cancelled { .. }
            | Phase::Contradicted { .. } => return None,
        };
        let delay = self.level(case.node, level).map(|(_, device)| device.delay_ms).max().unwrap_or(0);
        Some(due.max(case.opened_at.saturating_add(delay)))
    }

    /// Through which level the next attempt goes: the last one as long as it is retried, then the one behind it, and
    /// after the last the first again. Levels that cannot count are passed over. A drill has only its own.
    #[must_use]
    pub fn next_level(&self, case: &FenceCase, now: Millis) -> Option<u32> {
        if let Some(drill) = case.drill() {
            return Some(drill.level);
        }
        let counts = |level: &u32| self.level_helps(case.node, *level, &case.incarnation, now);
        if case.retries_left > 0 && counts(&case.level) {
            return Some(case.level);
        }
        let behind = self.levels(case.node).into_iter().filter(|level| *level > case.level).find(counts);
        behind.or_else(|| self.levels(case.node).into_iter().find(counts))
    }

    /// Whether a level counts and would end something now: one that only cuts the node off may not, and proves nothing
    /// while something may open what it cuts.
    #[must_use]
    pub fn level_helps(&self, node: NodeId, level: u32, life: &Incarnation, now: Millis) -> bool {
        self.level_counts(node, level, life)
            && (!self.level_isolates(node, level)
                || (self.isolation_ends(node, life) && self.may_open(node, level, now).is_none()))
    }

    /// Whether a device carries as many attempts as it takes at once.
    #[must_use]
    pub fn is_busy(&self, device: &Device) -> bool {
        let running = self.cases.values().filter(|case| matches!(case.phase, Phase::Running { .. }));
        let users =
            running.filter(|case| case.level == device.level && device.targets.contains_key(&case.node));
        users.count() >= device.at_once as usize
    }

    /// Whether one of a level's devices does.
    #[must_use]
    pub fn level_is_busy(&self, node: NodeId, level: u32) -> bool {
        self.level(node, level).any(|(_, device)| self.is_busy(device))
    }

    /// How often the devices of a level are tried again before the next level is.
    #[must_use]
    pub fn retries(&self, node: NodeId, level: u32) -> u32 {
        self.level(node, level).map(|(_, device)| device.retries).max().unwrap_or(0)
    }
}
