//! Tasks for other nodes: fences to carry out, looks at their power, and power to be switched on.
//!
//! Decides which begin; each attempt at the most once, each look not too often. What could not begin is tried again as
//! long as the cluster's latest word still asks for it: the leader says the same thing only once.

use policy::{Fact, Power};

use super::{Agent, LOOK_PAUSE_MS};
use crate::agent::event::{Action, Fenced, Now, Ordered, SwitchKey};
use crate::session::message::{FenceOrder, LookOrder, SwitchOnOrder};

impl Agent {
    pub(super) fn run_errands(&mut self, ordered: Ordered, now: &Now) {
        // The same node may be fenced again another day.
        let keys: Vec<_> = ordered.switch_on.iter().map(switch_key).collect();
        self.errands.switch_on.retain(|key| keys.contains(key));
        self.errands.ordered = ordered;
        self.repeat_errands(now);
    }

    /// The session has ended: whether its orders still stand is not known.
    pub(super) fn drop_errands(&mut self) {
        self.errands.ordered = Ordered::default();
    }

    /// Begins what is ordered and not under way.
    pub(super) fn repeat_errands(&mut self, now: &Now) {
        let Ordered { fences, looks, switch_on } = self.errands.ordered.clone();
        for order in fences {
            if self.errands.fences.insert((order.case, order.attempt)) {
                self.actions.push(Action::Fence(Box::new(order)));
            }
        }
        self.errands.looks.retain(|_, (_, not_before)| *not_before > now.boot_ms);
        for order in looks {
            let key = (order.call.device.clone(), order.call.node, order.incarnation.clone());
            // Through changed settings it is another look, and nobody asks for it a second time.
            if self.errands.looks.get(&key).is_none_or(|(call, _)| *call != order.call) {
                self.errands.looks.insert(key, (order.call.clone(), u64::MAX));
                self.actions.push(Action::Power(Box::new(order)));
            }
        }
        for order in switch_on {
            let key = switch_key(&order);
            // The order comes anew with another session, and may come late: a second run would open a way that the cluster
            // knows to be open, and may rely on shutting.
            if order.once && !self.errands.once.insert(key.clone()) {
                continue;
            }
            if self.errands.switch_on.insert(key) {
                self.actions.push(Action::SwitchOn(Box::new(order)));
            }
        }
    }

    /// Whether anything is ordered of this node.
    pub(in crate::agent) fn has_errands(&self) -> bool {
        let Ordered { fences, looks, switch_on } = &self.errands.ordered;
        !fences.is_empty() || !looks.is_empty() || !switch_on.is_empty()
    }

    pub(in crate::agent) fn fenced(&mut self, order: &FenceOrder, ended: Option<Fenced>) {
        let (case, attempt) = (order.case, order.attempt);
        match ended {
            Some(Fenced { outcome, again }) => {
                if again {
                    self.outbox.push(Fact::FenceRepeated { case, attempt });
                }
                self.outbox.push(Fact::FenceReported { case, attempt, outcome });
            }
            // It may begin at the next tick, if it is still ordered.
            None => drop(self.errands.fences.remove(&(order.case, order.attempt))),
        }
    }

    pub(in crate::agent) fn powered(&mut self, order: &LookOrder, power: Option<Power>, now: &Now) {
        let key = (order.call.device.clone(), order.call.node, order.incarnation.clone());
        match self.errands.looks.get_mut(&key) {
            // What the device showed under earlier settings says nothing of these.
            Some((call, _)) if *call != order.call => return,
            Some((_, not_before)) => *not_before = now.boot_ms + LOOK_PAUSE_MS,
            None => {}
        }
        // Nothing was seen: it is taken again, if it is still ordered.
        let Some(power) = power else { return };
        self.outbox.push(Fact::PowerObserved {
            node: order.call.node,
            incarnation: order.incarnation.clone(),
            device: order.call.device.clone(),
            configured: order.call.configured,
            power,
            by: Some(self.node),
        });
    }

    pub(in crate::agent) fn switched_on(&mut self, order: &SwitchOnOrder, power: Option<Power>) {
        match power {
            Some(power) => self.outbox.push(Fact::SwitchedOn {
                node: order.call.node,
                device: order.call.device.clone(),
                since: order.since,
                power,
            }),
            // As for a fence.
            None => {
                self.errands.switch_on.remove(&switch_key(order));
                self.errands.once.remove(&switch_key(order));
            }
        }
    }
}

fn switch_key(order: &SwitchOnOrder) -> SwitchKey {
    (order.call.device.clone(), order.call.node, order.since, order.failures, order.call.configured)
}
