//! A machine as it really is, and its agent as the rules of the protocol want it (F1, F2, F8, F28).
//!
//! What runs here is the truth that the replicated state only hears of.

mod view;

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    Cause, Fact, Fencing, Incarnation, InventoryItem, NodeId, Offer, OnQuorumLoss, Rest, Start, Terms, Token,
    UnitName,
};

use super::Mutation;
use super::rng::Rng;
use super::service::{self, Disk};

/// The longest that a stop takes; every offer says so.
pub(crate) const STOP_BUDGET_MS: u64 = 3_000;

/// What a copy of a unit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Starting,
    Running,
    Stopping,
    /// It crashed, and PID 1 starts it again if its permit file is there.
    Restarting,
}

/// A copy of a unit on a machine.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) doing: Doing,
    /// `None` for a copy that ran before it was ever permitted.
    pub(crate) token: Option<Token>,
    pub(crate) terms: Option<Terms>,
    pub(super) cause: Option<Cause>,
    /// When a stop at the end of a lease is done at the latest.
    pub(super) stop_by: u64,
}

impl Instance {
    pub(crate) fn runs(&self) -> bool {
        self.doing != Doing::Restarting
    }
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) id: NodeId,
    pub(crate) power: bool,
    pub(crate) frozen: bool,
    pub(crate) cut: bool,
    pub(crate) boots: u32,
    pub(crate) connected: bool,
    pub(crate) session: u64,
    pub(crate) must_reboot: bool,
    pub(crate) leaving: bool,
    pub(crate) lease_until: u64,
    pub(crate) copies: BTreeMap<UnitName, Instance>,
    pub(crate) offers: BTreeMap<UnitName, Offer>,
    /// Cluster units that it was ever told of: it gates them, and looks for them (F12).
    gated: BTreeSet<UnitName>,
    /// Index up to which it has to say that it did so, and up to which it has in this session.
    survey: (u64, u64),
    /// Copies that are left alone, with their permits and terms: what the files say of them.
    pub(super) alone: BTreeMap<UnitName, (Token, Terms)>,
    /// Files under `/run/convoke/permits`.
    pub(super) files: BTreeMap<UnitName, Token>,
    /// Highest token released, by unit (F2).
    floor: BTreeMap<UnitName, Token>,
    pub(super) seen_index: u64,
    /// Units whose copies have ended since the agent last said what runs: it says so again, permit or not.
    pub(super) changed: BTreeSet<UnitName>,
    /// Releases that no view has confirmed yet.
    owed: BTreeMap<(UnitName, Token), Cause>,
    /// What its disk holds of the clustered service.
    pub(crate) disk: Disk,
    /// How the copies of clustered services are to be started.
    pub(crate) starts: BTreeMap<UnitName, Start>,
    /// Its copy of the clustered service writes with others.
    pub(crate) synced: bool,
    /// What it said of that last.
    pub(super) said_ready: Option<(Token, bool)>,
    /// Its `Ready=` says which history a copy has.
    pub(crate) tells: bool,
    /// The clustered service's network does not reach it; the cluster's own does.
    pub(crate) deaf: bool,
    /// Its `Position=` fails.
    pub(crate) blind: bool,
    /// Its port of the switch is open, or it is registered.
    pub(crate) open: bool,
    /// Each life has to be registered anew.
    pub(crate) registers: bool,
}

impl Machine {
    pub(crate) fn new(name: &str, id: NodeId) -> Self {
        Self {
            name: name.into(),
            id,
            power: true,
            frozen: false,
            cut: false,
            boots: 1,
            connected: false,
            session: 0,
            must_reboot: false,
            leaving: false,
            lease_until: 0,
            copies: BTreeMap::new(),
            offers: BTreeMap::new(),
            gated: BTreeSet::new(),
            survey: (0, 0),
            files: BTreeMap::new(),
            floor: BTreeMap::new(),
            alone: BTreeMap::new(),
            seen_index: 0,
            changed: BTreeSet::new(),
            owed: BTreeMap::new(),
            disk: Disk::Empty,
            starts: BTreeMap::new(),
            synced: false,
            said_ready: None,
            tells: false,
            deaf: false,
            blind: false,
            open: true,
            registers: false,
        }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation(format!("{}{}", self.name, self.boots))
    }

    pub(crate) fn alive(&self) -> bool {
        self.power && !self.frozen
    }

    pub(crate) fn heard(&self) -> bool {
        self.alive() && !self.cut
    }

    /// A permit of the unit was used here, and what it started may still go on.
    pub(crate) fn runs(&self, unit: &UnitName) -> Option<&Instance> {
        self.copies.get(unit).filter(|copy| self.power && copy.runs())
    }

    pub(crate) fn power_off(&mut self) {
        self.power = false;
        self.frozen = false;
        self.connected = false;
        self.copies.clear();
        self.files.clear();
        self.alone.clear();
        self.floor.clear();
        self.owed.clear();
        self.changed.clear();
        self.starts.clear();
        self.synced = false;
    }

    /// A new life: `/run` is empty, and the gate lets nothing start by itself.
    pub(crate) fn boot(&mut self) {
        self.power_off();
        self.power = true;
        self.boots += 1;
        self.must_reboot = false;
        self.leaving = false;
        self.lease_until = 0;
        self.open &= !self.registers;
    }

    pub(crate) fn begin_session(&mut self, session: u64, now: u64, lease: u64) {
        self.session = session;
        self.connected = true;
        self.seen_index = 0;
        self.survey = (0, 0);
        self.lease_until = now + lease;
    }

    pub(crate) fn stray(&mut self, unit: &UnitName) {
        let copy =
            Instance { doing: Doing::Running, token: None, terms: None, cause: None, stop_by: u64::MAX };
        self.copies.insert(unit.clone(), copy);
    }

    pub(crate) fn inventory(&self) -> Fact {
        let mut items: BTreeMap<UnitName, InventoryItem> = BTreeMap::new();
        // A copy of a unit that nobody told it of is a service like any other.
        for unit in self.offers.keys().chain(&self.gated) {
            items.insert(unit.clone(), self.item(unit));
        }
        let highest_token = self.floor.values().copied().max().unwrap_or(Token(0));
        let items = items.into_values().collect();
        let resting = self.copies.values().filter(|copy| copy.doing == Doing::Restarting);
        let rests = resting.filter_map(|copy| Some((copy.token?, Rest::Restarts))).collect();
        Fact::InventoryReported {
            node: self.id,
            incarnation: self.incarnation(),
            items,
            rests,
            highest_token,
        }
    }

    pub(crate) fn observed(&self, unit: &UnitName) -> Fact {
        Fact::UnitObserved { node: self.id, incarnation: self.incarnation(), item: self.item(unit) }
    }

    fn item(&self, unit: &UnitName) -> InventoryItem {
        let (offer, running) = (self.offers.get(unit).cloned(), self.copies.contains_key(unit));
        InventoryItem { unit: unit.clone(), offer, running }
    }

    fn started(&self, unit: &UnitName, token: Token) -> Fact {
        Fact::Started { node: self.id, incarnation: self.incarnation(), unit: unit.clone(), token }
    }

    /// The permit file goes first; then the stop begins (F1).
    fn stop(&mut self, unit: &UnitName, cause: Option<Cause>, stop_by: u64) {
        let file = self.files.remove(unit);
        self.alone.remove(unit);
        match self.copies.get_mut(unit) {
            Some(copy) if copy.doing == Doing::Restarting => {
                let token = copy.token;
                self.copies.remove(unit);
                self.changed.insert(unit.clone());
                if let (Some(token), Some(cause)) = (token, cause) {
                    self.released(unit, token, cause);
                }
            }
            Some(copy) if copy.doing != Doing::Stopping => {
                copy.doing = Doing::Stopping;
                copy.cause = cause;
                copy.stop_by = stop_by;
            }
            Some(copy) => copy.stop_by = copy.stop_by.min(stop_by),
            None => {
                if let (Some(token), Some(cause)) = (file, cause) {
                    self.released(unit, token, cause);
                }
            }
        }
    }

    /// The last of the four steps: the floor is written, then the release is owed until a view confirms it.
    pub(super) fn released(&mut self, unit: &UnitName, token: Token, cause: Cause) {
        self.files.remove(unit);
        let floor = self.floor.entry(unit.clone()).or_insert(token);
        *floor = (*floor).max(token);
        self.owed.insert((unit.clone(), token), cause);
    }

    /// A person stops a unit here.
    pub(crate) fn stop_by_hand(&mut self, unit: &UnitName) -> bool {
        // What is left alone is stopped otherwise.
        if self.alone.contains_key(unit) {
            return false;
        }
        let runs =
            self.copies.get(unit).is_some_and(|copy| copy.doing == Doing::Running && copy.token.is_some());
        if runs && self.alive() {
            self.stop(unit, Some(Cause::Operator("root".into())), u64::MAX);
        }
        runs && self.alive()
    }

    /// One unit goes one step on.
    pub(crate) fn progress(
        &mut self,
        unit: &UnitName,
        rng: &mut Rng,
        broken: Option<Mutation>,
        calm: bool,
    ) -> Vec<Fact> {
        let Some(copy) = self.copies.get_mut(unit).filter(|_| self.power && !self.frozen) else {
            return Vec::new();
        };
        let token = copy.token;
        // No copy of a clustered service is started again where it crashed, nor one that was taken over (F16).
        let once = *unit == service::name() && broken != Some(Mutation::RestartAlone);
        match copy.doing {
            Doing::Starting if !calm && rng.percent(10) => {
                self.copies.remove(unit);
                self.changed.insert(unit.clone());
                if let Some(token) = token {
                    self.released(unit, token, Cause::StartFailed("exit-code".into()));
                }
            }
            Doing::Starting => {
                copy.doing = Doing::Running;
                return token.map(|token| self.started(unit, token)).into_iter().collect();
            }
            Doing::Running if calm || rng.percent(80) => {}
            Doing::Running if rng.percent(20) => {
                return token.map(|token| self.unwell(unit, token)).into_iter().collect();
            }
            // A crash: PID 1 starts it again, or has given up.
            Doing::Running if rng.percent(50) && !once => {
                copy.doing = Doing::Restarting;
                if let (Some(Mutation::ReleaseFirst), Some(token)) = (broken, token) {
                    self.owed.insert((unit.clone(), token), Cause::Failed("inactive".into()));
                }
            }
            Doing::Running => self.ended(unit),
            Doing::Restarting => {
                if token.is_none() || self.files.contains_key(unit) {
                    copy.doing = Doing::Running;
                } else {
                    self.copies.remove(unit);
                    self.changed.insert(unit.clone());
                }
            }
            Doing::Stopping if !calm && rng.percent(50) => {}
            Doing::Stopping => self.stopped(unit),
        }
        Vec::new()
    }

    fn unwell(&self, unit: &UnitName, token: Token) -> Fact {
        let (node, incarnation, why) = (self.id, self.incarnation(), "no answer".into());
        Fact::CheckFailed { node, incarnation, unit: unit.clone(), token, why }
    }

    /// What the cluster does not know of whether its copies rest. It is told in the order in which it happens, and anew in
    /// each session.
    pub(crate) fn rest_told(&self, known: impl Fn(&UnitName, Token) -> Option<Option<Rest>>) -> Vec<Fact> {
        let news = self.copies.iter().filter_map(|(unit, copy)| {
            let (token, rest) = (copy.token?, (copy.doing == Doing::Restarting).then_some(Rest::Restarts));
            let up = matches!(copy.doing, Doing::Running | Doing::Restarting);
            (up && known(unit, token).is_some_and(|known| known != rest))
                .then(|| self.rests(unit, token, rest))
        });
        news.collect()
    }

    fn rests(&self, unit: &UnitName, token: Token, rest: Option<Rest>) -> Fact {
        let (node, incarnation) = (self.id, self.incarnation());
        Fact::RestReported { node, incarnation, unit: unit.clone(), token, rest }
    }

    /// A copy is gone, by no order of the cluster.
    pub(super) fn ended(&mut self, unit: &UnitName) {
        let token = self.copies.remove(unit).and_then(|copy| copy.token);
        self.changed.insert(unit.clone());
        if let Some(token) = token.filter(|_| !self.alone.contains_key(unit)) {
            self.released(unit, token, Cause::Failed("exit-code".into()));
        }
    }

    fn stopped(&mut self, unit: &UnitName) {
        let Some(copy) = self.copies.remove(unit) else { return };
        self.changed.insert(unit.clone());
        match (copy.token, copy.cause) {
            (Some(token), Some(cause)) => self.released(unit, token, cause),
            (Some(token), None) => {
                let floor = self.floor.entry(unit.clone()).or_insert(token);
                *floor = (*floor).max(token);
            }
            (None, _) => {}
        }
    }

    /// What ended, or was found, since it was last said; then that it has looked for everything.
    pub(crate) fn news(&mut self) -> Vec<Fact> {
        let mut news: Vec<Fact> =
            std::mem::take(&mut self.changed).iter().map(|unit| self.observed(unit)).collect();
        let (due, said) = self.survey;
        if due > said {
            self.survey.1 = due;
            news.push(Fact::Surveyed { node: self.id, incarnation: self.incarnation(), index: due });
        }
        news
    }

    /// Time passes: the lease may end (F7, F8). Nothing but its end decides.
    pub(crate) fn tick(&mut self, now: u64) {
        if !self.alive() {
            return;
        }
        if now >= self.lease_until {
            self.connected = false;
            let ends = |unit: &UnitName, copy: &Instance| {
                let left = self.alone.contains_key(unit);
                copy.terms.as_ref().is_some_and(|terms| {
                    terms.on_quorum_loss != OnQuorumLoss::Continue
                        && (!left || terms.fencing != Fencing::Required)
                })
            };
            let due: Vec<UnitName> = self
                .copies
                .iter()
                .filter(|(unit, copy)| ends(unit, copy))
                .map(|(unit, _)| unit.clone())
                .collect();
            for unit in due {
                self.stop(&unit, Some(Cause::LeaseEnded), now + STOP_BUDGET_MS);
            }
        }
        let late: Vec<UnitName> = self
            .copies
            .iter()
            .filter(|(_, copy)| copy.stop_by <= now)
            .map(|(unit, _)| unit.clone())
            .collect();
        for unit in late {
            self.stopped(&unit);
        }
    }

    /// A shutdown stops and releases everything.
    pub(crate) fn shut_down(&mut self) -> Fact {
        self.leaving = true;
        let units: BTreeSet<UnitName> = self.copies.keys().chain(self.alone.keys()).cloned().collect();
        for unit in units {
            self.stop(&unit, Some(Cause::Shutdown), u64::MAX);
        }
        Fact::NodeLeaving { node: self.id, incarnation: self.incarnation() }
    }

    pub(crate) fn owes(&self) -> Vec<Fact> {
        let owed = self.owed.iter();
        owed.map(|((unit, token), because)| Fact::Released {
            node: self.id,
            incarnation: self.incarnation(),
            unit: unit.clone(),
            token: *token,
            because: because.clone(),
        })
        .collect()
    }

    /// Whether a pause would break what `Fencing=lease` assumes (F8).
    pub(crate) fn rests_on_a_lease(&self) -> bool {
        self.copies
            .values()
            .any(|copy| copy.terms.as_ref().is_some_and(|terms| terms.fencing == Fencing::Lease))
    }
}
