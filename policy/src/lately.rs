//! How a node fared lately: how often it fell silent, how often it was fenced, and how its last life ended.
//!
//! A node that falls silent again and again takes nothing, for a while that grows with each return, that another node
//! can run as well. That is a preference among nodes and no promise: the planner heeds it, `apply` never refuses for it,
//! and it ends by itself. Clauses P110 to P113 of `docs/policy.md`; why it is so in `docs/design/0019-flapping.md`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::drill::Because;
use crate::evidence::Class;
use crate::name::{Incarnation, Millis, NodeId, UnitName};
use crate::state::State;

/// How long a node is held back after its n-th return, in milliseconds: not after the first, for anything may fail once;
/// then for longer than a machine takes to crash anew under its first unit, and never for longer than a person who mends
/// it wants to wait for the proof.
const HOLD_MS: [Millis; 7] = [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000];
/// A node that stayed for so long after it was held back is steady: what was before counts no more. Ten minutes, twice the
/// longest hold, so that nobody becomes steady by being left alone.
const STEADY_MS: Millis = 600_000;
/// A node that was fenced so often within [`LOOP_MS`] is not switched on again: it would only be fenced once more.
const LOOP_FENCES: usize = 3;
/// See [`LOOP_FENCES`]: half an hour.
const LOOP_MS: Millis = 1_800_000;

/// How a node's last life ended, as it is told in its next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which life.
    pub incarnation: Incarnation,
    /// How that is known.
    pub class: Class,
    /// When that was known, in cluster time.
    pub at: Millis,
    /// The same by the wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// When it fell silent, by the same clock.
    pub silent_wall_ms: Option<u64>,
    /// Through which devices its power was switched off, in words.
    pub device: Option<String>,
    /// Who ran their agents: a name, for a node may be taken out.
    pub executor: Option<String>,
    /// Who gave the word, for an operator's.
    pub by: Option<String>,
    /// What waited for it.
    pub because: Option<Because>,
    /// Units that it held until then.
    pub held: Vec<UnitName>,
}

/// How a node fared lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lately {
    /// When it fell silent, one time soon after the other, oldest first. Not counted: what was asked for (a shutdown, a
    /// drill, a drain, maintenance) and what most nodes did at once.
    pub losses: Vec<Millis>,
    /// When it came back from the last of these.
    pub back_at: Millis,
    /// When its power was seen off by a fence, within the last half hour before the latest of them.
    pub fences: Vec<Millis>,
    /// When the present silence began, wall clock, unless it had said that it goes.
    pub silent_wall_ms: Option<u64>,
    /// How its last life ended, if not in order.
    pub ended: Option<Ended>,
}

impl Lately {
    /// Until when nothing is given to it that another node can run.
    #[must_use]
    pub fn held_until(&self) -> Millis {
        let times = self.losses.len().min(HOLD_MS.len());
        let hold = times.checked_sub(1).and_then(|nth| HOLD_MS.get(nth)).copied().unwrap_or(0);
        if hold == 0 { 0 } else { self.back_at.saturating_add(hold) }
    }

    /// It fell silent, and nobody had asked for that.
    pub(crate) fn fell_silent(&mut self, now: Millis) {
        if now >= self.held_until().max(self.back_at).saturating_add(STEADY_MS) {
            self.losses.clear();
        }
        if self.losses.len() >= HOLD_MS.len() {
            self.losses.remove(0);
        }
        self.losses.push(now);
    }

    /// It is heard again: held back from here on, if its silence counts.
    pub(crate) fn is_back(&mut self, now: Millis) {
        if self.losses.last().is_some_and(|at| *at > self.back_at) {
            self.back_at = now;
        }
        self.silent_wall_ms = None;
    }

    /// What was lost since then counts no more: it was not this node's fault.
    pub(crate) fn excuse(&mut self, since: Millis) {
        self.losses.retain(|at| *at < since);
    }

    /// Its power was seen off: whether that was once too often.
    pub(crate) fn was_fenced(&mut self, now: Millis) -> Option<u32> {
        self.fences.retain(|at| at.saturating_add(LOOP_MS) >= now);
        if self.fences.len() >= LOOP_FENCES {
            self.fences.remove(0);
        }
        self.fences.push(now);
        (self.fences.len() >= LOOP_FENCES).then(|| u32::try_from(self.fences.len()).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Ended {
    /// How it ended, and on whose account; not when.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.class, &self.by) {
            (Class::Off, _) => {
                write!(
                    f,
                    "its power was switched off by {}",
                    self.device.as_deref().unwrap_or("its fence device")
                )?;
                if let Some(executor) = &self.executor {
                    write!(f, ", run on {executor}")?;
                }
            }
            (Class::Word, Some(by)) => write!(f, "{by} gave the word that it was off")?,
            (Class::Word | Class::Released | Class::Expired, _) => f.write_str("it was taken for off")?,
            (Class::Isolated, _) => {
                let device = self.device.as_deref().unwrap_or("its device");
                write!(f, "it was cut off by {device}")?;
                if let Some(executor) = &self.executor {
                    write!(f, ", run on {executor}")?;
                }
            }
            (Class::Reborn, _) => f.write_str("it booted again before anybody had it proven off")?,
        }
        match &self.because {
            Some(Because::Unit(unit)) => write!(f, ", because {unit} waited for it"),
            Some(Because::Drill(drill)) => write!(f, ", in a drill asked for by {}", drill.by),
            None => Ok(()),
        }
    }
}

impl State {
    /// Until when a node that is heard is held back, if it is (P110).
    #[must_use]
    pub fn held_back(&self, node: NodeId, now: Millis) -> Option<Millis> {
        let node = self.nodes.get(&node).filter(|node| node.in_session().is_some())?;
        Some(node.lately.held_until()).filter(|until| *until > now)
    }

    /// How the life before the present one ended, if not in order (P113).
    #[must_use]
    pub fn last_end(&self, node: NodeId) -> Option<&Ended> {
        let node = self.nodes.get(&node)?;
        let life = node.life.as_ref()?;
        node.lately.ended.as_ref().filter(|ended| ended.incarnation != life.incarnation)
    }

    /// Whether most nodes fell silent within one lease before `now`. Then it was the network, the power or the leader, and
    /// says nothing of any one of them.
    pub(crate) fn most_fell_silent(&self, now: Millis) -> bool {
        let from = now.saturating_sub(self.settings.lease_ms());
        let silent = self.nodes.values().filter(|node| node.lost_at().is_some_and(|at| at >= from)).count();
        silent > self.nodes.len() / 2
    }
}
