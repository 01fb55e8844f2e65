//! What the agent knows of one unit.

use std::collections::BTreeSet;
use std::time::Duration;

use policy::{Cause, InventoryItem, Offer, Rest, Terms, Token, UnitName};
use units::section::Program;
use units::systemd::{ActiveState, Reading, Remembered};

use super::core::{Checking, Probing};
use super::decide::Run;
use super::event::{Look, OpId};
use super::gate::GateId;
use super::offer::{self, Found};
use super::permit::Permit;

/// The operation under way; never more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) id: OpId,
    pub(super) kind: OpKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpKind {
    Look,
    Start,
    Stop,
    Freeze,
    Thaw,
}

impl OpKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
        }
    }
}

/// A release under way, or to be gone on with: once begun, it ends only by being verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    /// The permit; none for a copy that never had one.
    pub(super) token: Option<Token>,
    pub(super) terms: Option<Terms>,
    pub(super) because: Cause,
    /// Whether the cluster is told `Released`: not for permits that it does not know any more.
    pub(super) tell: bool,
    /// The lease has ended meanwhile, whatever the cause: a stop that hangs takes the node down (F8).
    pub(super) without_lease: bool,
}

impl Release {
    pub(super) fn of(token: Option<Token>, terms: Option<Terms>, because: Cause, tell: bool) -> Self {
        let without_lease = because == Cause::LeaseEnded;
        Self { token, terms, because, tell, without_lease }
    }
}

/// A start that was given up at its gate: a grant that may be its late answer is given back (F34).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GivenUp {
    pub(super) gate: GateId,
    /// No later than this, in boot milliseconds.
    pub(super) until_ms: u64,
    /// Where the log took the wish back: what was granted after that has another reason.
    pub(super) index: Option<u64>,
}

impl GivenUp {
    /// Whether a grant is taken for the late answer.
    pub(super) fn answers(&self, token: Token, boot_ms: u64) -> bool {
        // Tokens carry the log's index below their generation.
        let granted = token.0 & 0xffff_ffff_ffff;
        boot_ms < self.until_ms && self.index.is_none_or(|index| granted < index)
    }
}

/// One unit.
#[derive(Debug, Default)]
pub(super) struct Unit {
    pub(super) found: Option<Found>,
    pub(super) members_stop_ms: u64,
    /// Another of its names on this node, where the cluster knows a unit by that one too (F12).
    pub(super) namesake: Option<UnitName>,
    pub(super) run: Run,
    pub(super) reading: Option<Reading>,
    pub(super) remembered: Remembered,
    /// Last look that is needed for the cause of a stop.
    pub(super) look: Option<Look>,
    pub(super) watched: bool,
    pub(super) op: Option<Op>,
    /// Something was heard of it since the last look began.
    pub(super) stale: bool,
    /// A stop without a visible reason was looked at twice: its job may be told late.
    pub(super) settled: bool,
    pub(super) held: Option<Permit>,
    pub(super) filed: bool,
    /// New terms of which the file is being written: what is said of them waits for that.
    pub(super) filing: Option<(Token, u64)>,
    pub(super) release: Option<Release>,
    /// It is to be released when its turn comes.
    pub(super) due: Option<Cause>,
    pub(super) told: Option<InventoryItem>,
    pub(super) started_told: Option<Token>,
    /// Whether the copy of a permit is up, as the cluster was told, and when, in boot milliseconds.
    pub(super) rest_told: Option<(Token, Option<Rest>, u64)>,
    /// What was told is not so any more, and is said at a later tick.
    pub(super) rest_due: bool,
    pub(super) released_told: Option<Token>,
    pub(super) stuck: Option<String>,
    /// The start that was cancelled last at its gate.
    pub(super) given_up: Option<GivenUp>,
    /// Our own start was cancelled, and not by us; when that was noticed (CLOCK_MONOTONIC).
    pub(super) cut_off: Option<Duration>,
    /// It was down at the first look of this connection: what took it down was not heard.
    pub(super) missed: bool,
    /// It was down when the daemon started, and the file of this permit was still there: no release had begun.
    pub(super) left_filed: Option<Permit>,
    /// The release of this permit had begun before the daemon started.
    pub(super) left_releasing: Option<Token>,
    /// When its gate was last mended, in boot milliseconds.
    pub(super) mended_ms: Option<u64>,
    /// What the cluster asks of a clustered service's data, or of its copy.
    pub(super) probing: Probing,
    /// Whether its copy is well.
    pub(super) checking: Checking,
}

impl Unit {
    /// Whether something of it could not be read, written or sent, and nothing is under way.
    pub(super) fn is_odd(&self) -> bool {
        self.op.is_none()
            && (self.release.is_some() || self.stale || self.rest_due || self.held.is_some() != self.filed)
    }

    /// Takes over a look.
    pub(super) fn saw(&mut self, look: Look) {
        self.run = run_of(&look);
        if look.reading.active_state.is_up() {
            self.settled = false;
            self.cut_off = None;
        }
        self.missed &= look.reading.active_state.is_down();
        if look.reading.active_state.is_down() {
            // PID 1 forgets the group of a unit that is down; what was seen before still counts.
            for (unit, groups) in &look.remembered.groups {
                self.remembered.groups.entry(unit.clone()).or_default().extend(groups.iter().cloned());
            }
        } else {
            self.remembered = look.remembered.clone();
        }
        self.reading = Some(look.reading.clone());
        self.look = Some(look);
    }

    /// Its line of the inventory.
    pub(super) fn item(&self, name: &UnitName) -> InventoryItem {
        let reading = self.reading.as_ref();
        let offer = self.found.as_ref().zip(reading);
        let offer = offer.map(|(found, reading)| offer::offer(found, reading, self.members_stop_ms));
        let twice = self.namesake.as_ref().map(|other| {
            format!(
                "{other} is another name of it on this node, and the cluster knows a unit by that name too: stop both, \
                 and forget the one that is none (`convoke forget`)"
            )
        });
        InventoryItem {
            unit: name.clone(),
            offer: offer.map(|offer| Offer { fault: offer.fault.or(twice), ..offer }),
            running: self.run.may_run(),
        }
    }

    /// Whether it is, or may be, running without a permit of ours.
    pub(super) fn is_idle(&self) -> bool {
        self.op.is_none() && self.release.is_none() && self.held.is_none()
    }

    /// The program that says whether anything is left of it: what its files name, else what they named when it got its permit.
    pub(super) fn asks_when_gone(&self) -> Option<Program> {
        let named = self.found.as_ref().and_then(|found| found.gone.as_ref());
        named.or(self.last_permit().and_then(|permit| permit.gone.as_ref())).cloned()
    }

    /// Units gated on its permit: those that its files name, and those that they named when it got that.
    pub(super) fn members(&self) -> BTreeSet<String> {
        let found = self.found.iter().flat_map(|found| &found.members);
        let before = self.last_permit().into_iter().flat_map(|permit| &permit.members);
        found.chain(before).cloned().collect()
    }

    /// The permit that it holds, or had when it was down at the start of the daemon.
    fn last_permit(&self) -> Option<&Permit> {
        self.held.as_ref().or(self.left_filed.as_ref())
    }
}

fn run_of(look: &Look) -> Run {
    let reading = &look.reading;
    if is_frozen(reading.active_state, &reading.freezer_state) {
        return Run::Frozen;
    }
    if reading.is_auto_restart() {
        return Run::Restarting;
    }
    match reading.active_state {
        ActiveState::Active | ActiveState::Reloading | ActiveState::Refreshing => Run::Up,
        ActiveState::Activating => Run::Starting,
        ActiveState::Deactivating | ActiveState::Maintenance | ActiveState::Other => Run::Stopping,
        ActiveState::Inactive | ActiveState::Failed => match &look.left {
            None => Run::Down,
            Some(left) => Run::Left(left.clone()),
        },
    }
}

/// PID 1 goes on calling a unit frozen that was killed while it was.
fn is_frozen(active: ActiveState, freezer: &str) -> bool {
    !active.is_down() && matches!(freezer, "frozen" | "freezing" | "frozen-by-parent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_killed_while_frozen_is_down() {
        assert!(is_frozen(ActiveState::Active, "frozen"));
        assert!(is_frozen(ActiveState::Deactivating, "freezing"));
        assert!(!is_frozen(ActiveState::Active, "running"));
        assert!(!is_frozen(ActiveState::Failed, "frozen"));
        assert!(!is_frozen(ActiveState::Inactive, "frozen"));
    }
}
