//! What follows of devices that cut a node off instead of switching it off: a port of a switch, a key on a disk.
//!
//! They prove that one incarnation reaches no more what they guard, and nothing else: it may still run. So their proof ends
//! only permits whose own terms take it (`Fencing=isolated`), the incarnation gets nothing for ever, and the way is opened
//! again only once it is proven over. Clauses P120 to P126 of `docs/policy.md`; why it is so in
//! `docs/design/0022-isolation.md`.

use alloc::format;
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};

use crate::command::{AgentAction, Device, Reconnect};
use crate::definition::{Definition, Fencing};
use crate::fence::{Opening, Power, SwitchedOff};
use crate::name::{CaseId, Incarnation, Millis, NodeId};
use crate::node::{Life, Node};
use crate::permit::Permit;
use crate::state::State;
use crate::unit::Unit;

/// A proof that a life is cut off from what it shares with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The case that proved it.
    pub case: CaseId,
    /// Through which devices, in words.
    pub devices: String,
    /// When.
    pub at: Millis,
    /// When that life spoke last: a word that it is off is not taken for a while (F36).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Millis>,
}

impl State {
    /// Whether a level only cuts the node off: the proof of a level is that of its weakest device.
    #[must_use]
    pub fn level_isolates(&self, node: NodeId, level: u32) -> bool {
        self.level(node, level).any(|(_, device)| device.isolates.is_some())
    }

    /// The isolation of a node's present life, while that is not proven over.
    #[must_use]
    pub fn isolation(&self, node: NodeId) -> Option<&Isolation> {
        self.nodes.get(&node)?.life.as_ref().filter(|life| life.gone.is_none())?.isolated.as_ref()
    }

    /// Whether an isolation would end this permit.
    #[must_use]
    pub fn takes_isolation(&self, unit: &Unit, permit: &Permit) -> bool {
        unit.fencing_of(permit) == Fencing::Isolated
    }

    /// Whether cutting that life off would end anything: it is not cut off yet, and holds a permit that takes that.
    pub(crate) fn isolation_ends(&self, node: NodeId, life: &Incarnation) -> bool {
        let takes =
            |unit: &Unit, permit: &Permit| permit.incarnation == *life && self.takes_isolation(unit, permit);
        self.isolation(node).is_none() && self.held_on(node).any(|(_, _, unit, permit)| takes(unit, permit))
    }

    /// The device of a level through which the way of a node may be opened at this moment or a moment later: by an agent
    /// that is under way, or by one of which nobody knows how it ended. What such a device cuts may not stay cut.
    pub(crate) fn may_open(&self, node: NodeId, level: u32, now: Millis) -> Option<&str> {
        let mut devices = self.level(node, level).map(|(name, _)| name);
        devices.find(|name| {
            let key = ((*name).to_string(), node);
            let opening = self.switched_off.get(&key).is_some_and(|debt| debt.opening.is_some());
            opening || self.late_openings.get(&key).is_some_and(|until| *until > now)
        })
    }

    /// Why a node's way to what it shares is not open for its present life, as far as its isolating devices say; `None` if
    /// it is, or if there are no such devices.
    #[must_use]
    pub fn not_connected(&self, id: NodeId) -> Option<String> {
        let node = self.nodes.get(&id)?;
        let life = node.life.as_ref()?;
        // Alone it cannot be looked at, and nobody is there to go on elsewhere.
        let alone = !self.nodes.iter().any(|(other, node)| *other != id && node.in_session().is_some());
        for (name, device) in self.devices_of(id) {
            let Some(reconnect) = device.isolates else { continue };
            if let Some(debt) = self.switched_off.get(&(name.to_string(), id)) {
                let text = match reconnect {
                    Reconnect::AfterCut => format!("{name} has cut {} off, and is not on again", node.name),
                    Reconnect::AtBoot | Reconnect::ByNode => {
                        format!("{} is not registered with {name} yet", node.name)
                    }
                };
                return Some(match self.silent_opener(debt) {
                    Some(executor) => format!("{text}: {executor}, which was to do that, is silent"),
                    None => text,
                });
            }
            let on = |life: &Life| {
                self.seen(name, id, &life.incarnation)
                    .is_some_and(|seen| seen.trusted && seen.power == Power::On)
            };
            if !alone && !on(life) {
                return Some(format!("{name} has not shown yet that {} is not cut off", node.name));
            }
        }
        None
    }

    /// What the unit's `Fencing=` needs of a node before it may rest on that there, and for a watchdog, within what time that
    /// resets the node; 0 for others.
    ///
    /// # Errors
    /// What the node lacks for such a unit, in words.
    pub(crate) fn fencing_ground(&self, id: NodeId, definition: &Definition) -> Result<Millis, String> {
        match definition.fencing {
            Fencing::Isolated => match self.not_connected(id) {
                Some(why) => Err(format!("{why} (Fencing=isolated)")),
                None => Ok(0),
            },
            Fencing::Watchdog => self.reset_ms(id),
            Fencing::None | Fencing::Lease | Fencing::Required => Ok(0),
        }
    }

    /// Whether a life is known that must not reach what its node shares: it was cut off, or spoke after it was proven gone.
    pub(crate) fn life_stays_cut(&self, id: NodeId) -> Option<String> {
        let node = self.nodes.get(&id)?;
        let name = &node.name;
        if self.isolation(id).is_some() {
            return Some(format!("{name} is cut off, and nobody has proven that this life of it is over"));
        }
        let spoke = node.life.as_ref().is_some_and(|life| life.contradicted.is_some() && life.gone.is_none());
        spoke.then(|| {
            format!(
                "{name} spoke after it was proven gone, and nobody has proven since that this life is over"
            )
        })
    }

    /// Why a node's way may not be opened again through a device, by that executor (P123).
    pub(crate) fn stays_cut(
        &self,
        id: NodeId,
        device: &Device,
        executor: NodeId,
        now: Millis,
    ) -> Option<String> {
        let node = self.nodes.get(&id)?;
        let name = &node.name;
        let reconnect = device.isolates?;
        if let Some(why) = self.life_stays_cut(id) {
            return Some(why);
        }
        if self.open_case(id).is_some() {
            return Some(format!("{name} is being fenced"));
        }
        if node.quarantined_until > now {
            return Some(format!("a late command may still cut {name} off"));
        }
        // Whoever is cut off from the cluster too can be heard only after this; its next life owes it once more.
        let over = node.life.as_ref().is_none_or(|life| life.gone.is_some());
        let waits = match reconnect {
            Reconnect::AfterCut => false,
            Reconnect::AtBoot => !over,
            Reconnect::ByNode => true,
        };
        if waits && node.in_session().is_none() {
            return Some(format!("{name} is not heard"));
        }
        if (reconnect == Reconnect::ByNode) != (executor == id) {
            return Some(match reconnect {
                Reconnect::ByNode => format!("{name} registers itself"),
                Reconnect::AfterCut | Reconnect::AtBoot => format!("{name} does not connect itself"),
            });
        }
        None
    }

    /// Who was to open a way, and is silent: nobody else does before it is heard or proven over.
    #[must_use]
    pub fn silent_opener(&self, debt: &SwitchedOff) -> Option<String> {
        let opening = debt.opening.as_ref().filter(|opening| !self.opener_is_over(opening))?;
        let node = self.nodes.get(&opening.executor)?;
        node.in_session().is_none().then(|| node.name.clone())
    }

    /// What ends a life that was cut off, as people bring it about. Where its way to the cluster is cut too, it boots unheard.
    pub(crate) fn end_of_cut(&self, id: NodeId) -> String {
        let name = self.node_name(id);
        format!(
            "a boot of {name} that is heard, or your word that it is off or has booted since: `convoke fence confirm {name}`"
        )
    }

    /// Whether the agent of an opening has died with the life that ran it.
    pub(crate) fn opener_is_over(&self, opening: &Opening) -> bool {
        let life = self.nodes.get(&opening.executor).and_then(|node| node.life.as_ref());
        life.is_none_or(|life| life.incarnation != opening.executor_incarnation || life.gone.is_some())
    }

    /// When an opening whose end nobody told counts as over: when the life that ran it is, or long past the deadlines of its
    /// calls, when its executor is heard. One that is paused may run its agent at any later moment (F24).
    pub(crate) fn opening_ends(&self, device: &Device, opening: &Opening) -> Option<Millis> {
        if self.opener_is_over(opening) {
            return Some(opening.since);
        }
        self.nodes.get(&opening.executor).and_then(Node::in_session)?;
        let calls = device.verified_ms(AgentAction::On);
        Some(opening.since.saturating_add(calls).saturating_add(self.settings.quarantine_ms))
    }
}
