//! When this node's watchdog is armed and disarmed, and what the cluster is told of it (F17).
//!
//! Armed from when the node offers a unit that rests on it: the cluster grants such a unit only to a node that has said so,
//! and waits for as long as was said. Disarmed once the cluster has it in the log that it will be, and nothing rests on it.

use policy::{Fact, Fencing, OnQuorumLoss, Terms};

use super::Agent;
use crate::agent::event::{Action, Now};
use crate::watchdog::Standing;

/// Why it is disarmed.
const NOT_NEEDED: &str = "nothing on this node rests on it";
/// Between two attempts to arm what could not be armed.
const RETRY_MS: u64 = 15_000;

/// What is known of the watchdog, and who knows it.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// How it stands; none before its thread has spoken.
    standing: Option<Standing>,
    /// What the cluster was told last, and whether it has taken that.
    told: Option<(Standing, bool)>,
    /// Whether the log may say that it is armed: by what was told, or by what an earlier daemon of this life told.
    counted_on: bool,
    /// When it is tried to be armed at the earliest; none while that is under way.
    try_at_ms: Option<u64>,
    /// The time of the last word on it.
    said_ms: u64,
}

impl Chain {
    /// `left` is whether an earlier daemon left it armed.
    pub(super) fn new(left: bool) -> Self {
        Self { try_at_ms: Some(0), counted_on: left, ..Self::default() }
    }
}

impl Agent {
    /// What rests on the watchdog, if anything does: how long it may take to stop at the end of the lease all that must.
    #[must_use]
    pub fn protects(&self) -> Option<u64> {
        let held = || self.units.values().filter_map(|unit| unit.held.as_ref());
        if !held().any(|held| held.terms.fencing == Fencing::Watchdog) {
            return None;
        }
        // The sum of which the leader waits for one that is no smaller.
        let stops = held().filter(|held| held.terms.on_quorum_loss != OnQuorumLoss::Continue);
        Some(stops.fold(0, |sum: u64, held| sum.saturating_add(held.terms.stop_budget_ms)))
    }

    /// Whether something here rests on the watchdog, or may come to.
    fn wants_watchdog(&self) -> bool {
        if self.protects().is_some() {
            return true;
        }
        let offered = self.units.values().any(|unit| {
            let definition = unit.found.as_ref().and_then(|found| found.definition.as_ref());
            definition.is_some_and(|definition| definition.fencing == Fencing::Watchdog)
        });
        let rests = |terms: &Terms| terms.fencing == Fencing::Watchdog;
        let granted = self.view.iter().flat_map(|view| view.permits.values());
        let mut granted = granted.filter(|permit| permit.incarnation == self.incarnation);
        !self.is_ending()
            && (offered
                || granted
                    .any(|permit| rests(&permit.terms) || permit.next_terms.as_ref().is_some_and(rests)))
    }

    /// Whether a unit may come to rest on the watchdog on these terms.
    pub(in crate::agent) fn may_rest_on(&self, terms: &Terms) -> bool {
        let reset_ms = self.chain.standing.as_ref().and_then(Standing::reset_ms);
        terms.fencing != Fencing::Watchdog || reset_ms.is_some_and(|reset| reset <= terms.watchdog_ms)
    }

    /// Whether a device of an earlier daemon is still to be taken over.
    pub(in crate::agent) fn awaits_watchdog(&self, terms: &Terms) -> bool {
        terms.fencing == Fencing::Watchdog && self.chain.standing.is_none()
    }

    pub(super) fn watchdog_stands(&mut self, standing: Standing, now: &Now) {
        if self.chain.try_at_ms.is_none() {
            let pause_ms = if standing.reset_ms().is_some() { 0 } else { RETRY_MS };
            self.chain.try_at_ms = Some(now.boot_ms.saturating_add(pause_ms));
        }
        self.chain.standing = Some(standing);
        // Who waited for it.
        self.touch_all();
    }

    /// Arms, tells and disarms what follows from the state.
    pub(super) fn keep_chain(&mut self, now: &Now) {
        // What is offered here is not known yet: an earlier daemon's watchdog goes on as it is.
        if !self.discovered && !self.is_ending() {
            return;
        }
        let wanted = self.wants_watchdog();
        let Some(standing) = self.chain.standing.clone() else { return };
        let armed = standing.reset_ms().is_some();
        if wanted && !armed && self.chain.try_at_ms.is_some_and(|at| at <= now.boot_ms) {
            self.chain.try_at_ms = None;
            self.actions.push(Action::Arm);
        }
        let was_armed = self.chain.counted_on;
        let word = match standing {
            Standing::Armed { .. } if !wanted => Standing::Unarmed { why: NOT_NEEDED.to_owned() },
            // Nobody asks for it, and nobody counts on it.
            Standing::Unarmed { .. } if !wanted && !was_armed => return,
            // How the first attempt ends says more; but what was counted on is taken back at once.
            Standing::Unarmed { .. } if wanted && !was_armed && self.chain.try_at_ms.is_none() => return,
            standing => standing,
        };
        match &self.chain.told {
            Some((told, taken)) if *told == word => {
                if armed && !wanted && *taken {
                    self.chain.standing = Some(word);
                    self.actions.push(Action::Disarm);
                }
            }
            _ => self.tell_chain(word, now),
        }
    }

    fn tell_chain(&mut self, word: Standing, now: &Now) {
        let (node, incarnation) = (self.node, self.incarnation.clone());
        // Of two words in one millisecond the later counts as well.
        self.chain.said_ms = now.boot_ms.max(self.chain.said_ms.saturating_add(1));
        let said_ms = self.chain.said_ms;
        self.outbox.push(match &word {
            Standing::Armed { device, timeout_ms } => {
                let (device, timeout_ms) = (device.clone(), *timeout_ms);
                Fact::WatchdogArmed { node, incarnation, said_ms, device, timeout_ms }
            }
            Standing::Unarmed { why } => {
                Fact::WatchdogDisarmed { node, incarnation, said_ms, why: why.clone() }
            }
        });
        self.chain.counted_on |= word.reset_ms().is_some();
        self.chain.told = Some((word, false));
    }

    /// The cluster has answered to a word on the watchdog. What it refused is said again.
    pub(super) fn chain_told(&mut self, of_ms: u64, taken: bool) {
        if of_ms != self.chain.said_ms {
            return;
        }
        match &mut self.chain.told {
            Some((told, known)) if taken => {
                *known = true;
                self.chain.counted_on = told.reset_ms().is_some();
            }
            told => *told = None,
        }
    }

    /// At the very end of the daemon nothing rests on the watchdog any more, and nothing will: an end that cannot be told, for
    /// want of a quorum, disarms it all the same. The next daemon arms it anew before it acts on any permit.
    pub(super) fn part_with_watchdog(&mut self) {
        let armed = self.chain.standing.as_ref().is_some_and(|standing| standing.reset_ms().is_some());
        if armed && self.protects().is_none() {
            self.actions.push(Action::Disarm);
        }
    }
}
