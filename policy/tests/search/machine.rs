//! A machine as it really is, and its agent as the protocol wants it (F1, F2, F8), small enough to be hashed.
//!
//! What runs here is the truth that the replicated state only hears of. Time is counted in ticks of one lease.

use super::letter::{Letter, Life, Why};
use super::rules::Rule;
use super::view::{Shown, Step, View};

/// Ticks that a stop may take; every offer says so.
pub(crate) const STOP_TICKS: u8 = 2;

/// Ticks after which a watchdog resets its machine: long against the margins that the leader adds.
pub(crate) const WATCHDOG_TICKS: u8 = 8;

/// What a copy of a unit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    /// There is none.
    Nothing,
    Running,
    /// It crashed, and PID 1 starts it again if its permit file is there.
    Down,
    Stopping {
        why: Option<Why>,
        /// Ticks that are left of its stop budget at the end of a lease.
        left: Option<u8>,
    },
}

/// A unit on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Copy {
    pub(crate) doing: Doing,
    /// The permit it runs by; 0 for a copy that ran before it was ever permitted.
    pub(crate) token: u64,
    /// Whether its permit file is there.
    pub(crate) file: bool,
    /// Highest token released (F2).
    pub(crate) floor: u64,
    /// A release that no view has confirmed yet.
    pub(crate) owed: Option<(u64, Why)>,
    /// Whether the drop-in is there.
    pub(crate) offered: bool,
    /// Whether the machine was told that this is a cluster unit (F12).
    pub(crate) gated: bool,
    /// Whether the terms that its agent goes by let it run on without a quorum.
    pub(crate) goes_on: bool,
}

impl Copy {
    /// Whether a process of it may be there.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.doing, Doing::Running | Doing::Stopping { .. })
    }

    /// Whether it runs or may still start by itself.
    pub(crate) fn may_run(&self) -> bool {
        self.file || self.doing != Doing::Nothing
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Machine {
    pub(crate) node: usize,
    pub(crate) power: bool,
    /// Nothing but the units' own processes goes on.
    pub(crate) hung: bool,
    pub(crate) cut: bool,
    /// Its way to what it shares with others is shut, by a device that only cuts off.
    pub(crate) shut: bool,
    pub(crate) boots: u8,
    pub(crate) connected: bool,
    /// Its present session, or its last.
    pub(crate) session: u64,
    /// Ticks of its lease that are left.
    pub(crate) lease: u8,
    /// Whether it has acted on the end of its lease. Until then it may start units.
    pub(crate) ended: bool,
    pub(crate) must_reboot: bool,
    /// Its clock stood still since its lease was renewed last.
    pub(crate) behind: bool,
    /// Ticks until its watchdog resets it; 0 if none is armed.
    pub(crate) watchdog: u8,
    /// With a watchdog: ticks since its lease ended.
    pub(crate) over: u8,
    /// The highest index seen in a view (F2).
    pub(crate) seen: u64,
    /// Up to which index it said which units run here.
    pub(crate) surveyed: u64,
    pub(crate) copies: [Copy; 2],
}

impl Machine {
    pub(crate) fn new(node: usize) -> Self {
        let copy = Copy {
            doing: Doing::Nothing,
            token: 0,
            file: false,
            floor: 0,
            owed: None,
            offered: true,
            gated: true,
            goes_on: false,
        };
        Self {
            node,
            power: true,
            hung: false,
            cut: false,
            shut: false,
            boots: 1,
            connected: false,
            session: 0,
            lease: 0,
            ended: true,
            must_reboot: false,
            behind: false,
            watchdog: 0,
            over: 0,
            seen: 0,
            surveyed: 0,
            copies: [copy; 2],
        }
    }

    pub(crate) fn life(&self) -> Life {
        Life { node: self.node, boots: self.boots }
    }

    pub(crate) fn alive(&self) -> bool {
        self.power && !self.hung
    }

    pub(crate) fn heard(&self) -> bool {
        self.alive() && !self.cut
    }

    /// Whether its processes reach what they share with others (P120).
    pub(crate) fn reaches(&self) -> bool {
        self.power && !self.shut
    }

    pub(crate) fn power_off(&mut self) {
        let before = self.clone();
        let (cut, shut, boots) = (before.cut, before.shut, before.boots);
        *self = Self { cut, shut, boots, power: false, ..Self::new(self.node) };
        for (copy, before) in self.copies.iter_mut().zip(before.copies) {
            // What it was told of is kept on disk; /run is not.
            (copy.offered, copy.gated) = (before.offered, before.gated);
        }
    }

    /// A new life: `/run` is empty, and the gate lets nothing start by itself.
    pub(crate) fn boot(&mut self) {
        self.power_off();
        self.power = true;
        self.boots += 1;
    }

    pub(crate) fn begin_session(&mut self, session: u64) -> Letter {
        self.session = session;
        self.connected = true;
        self.seen = 0;
        self.surveyed = 0;
        self.renew();
        self.inventory()
    }

    /// All that runs here, as it is said in the present session.
    pub(crate) fn inventory(&self) -> Letter {
        Letter::Inventory { life: self.life(), session: self.session, running: self.running() }
    }

    pub(crate) fn renew(&mut self) {
        self.lease = 1;
        self.ended = false;
        self.behind = false;
        self.over = 0;
    }

    /// Its daemon is killed, and another goes by what is kept in /run: permit files, floors, and the end of the lease (F2, F8).
    pub(crate) fn restart_daemon(&mut self, broken: Option<Rule>) {
        self.connected = false;
        self.seen = 0;
        for copy in &mut self.copies {
            copy.owed = None;
            if broken == Some(Rule::FloorKept) {
                copy.floor = 0;
            }
        }
        if broken == Some(Rule::LeaseKept) {
            self.renew();
        }
    }

    /// Arms its watchdog, and says so.
    pub(crate) fn arm(&mut self) -> Letter {
        self.watchdog = WATCHDOG_TICKS;
        Letter::Armed { life: self.life() }
    }

    /// Whether the daemon feeds the watchdog until the end of this tick (F17).
    fn is_fed(&self) -> bool {
        let rests = self.copies.iter().any(|copy| copy.token > 0 && copy.may_run());
        self.alive() && (!rests || self.lease > 0 || self.over < STOP_TICKS)
    }

    fn running(&self) -> [bool; 2] {
        self.copies.map(|copy| copy.doing != Doing::Nothing)
    }

    /// Acts on a view, if it is one of the present session and not older than the latest (F2).
    pub(crate) fn take_view(&mut self, view: &View, broken: Option<Rule>) -> Vec<Letter> {
        let careless = broken == Some(Rule::Floor);
        let connected = self.connected || broken == Some(Rule::LeaseBeforeStart);
        let current = connected && view.session == self.session && view.index >= self.seen;
        if !self.alive() || !(careless || current) {
            return Vec::new();
        }
        self.seen = self.seen.max(view.index);
        let mut said = Vec::new();
        for unit in 0..self.copies.len() {
            if let Some(permit) = view.permits[unit].filter(|permit| permit.life == self.life()) {
                self.take_permit(unit, permit, broken, &mut said);
            }
            let held = view.permits[unit].map(|permit| permit.token);
            let copy = &mut self.copies[unit];
            copy.gated |= view.units[unit];
            copy.owed = copy.owed.filter(|(token, _)| Some(*token) == held);
            if copy.file && Some(copy.token) != held {
                self.stop(unit, None, None);
            }
            if view.stop[unit] && self.copies[unit].token == 0 {
                self.stop(unit, None, None);
            }
        }
        if view.survey > self.surveyed {
            self.surveyed = view.survey;
            let running = self.running();
            said.push(Letter::Surveyed {
                life: self.life(),
                session: self.session,
                index: view.survey,
                running,
            });
        }
        said.extend(self.owes());
        said
    }

    fn take_permit(&mut self, unit: usize, permit: Shown, broken: Option<Rule>, said: &mut Vec<Letter>) {
        let (life, token) = (self.life(), permit.token);
        let valid = !self.ended || broken == Some(Rule::LeaseBeforeStart);
        let careless = broken == Some(Rule::Floor);
        if let Some(revision) = permit.asked {
            said.push(Letter::Acknowledged { life, unit, token, revision });
        }
        let copy = &mut self.copies[unit];
        if copy.token == token || copy.doing == Doing::Nothing {
            copy.goes_on = permit.goes_on;
        }
        if copy.floor >= token && !careless {
            // Whoever still holds it against this node is told again that it was released.
            if copy.doing == Doing::Nothing {
                copy.owed.get_or_insert((token, Why::Ordered));
            }
            return;
        }
        match (permit.step, copy.doing) {
            (Step::Granted, Doing::Nothing) if valid => {
                (copy.doing, copy.token, copy.file) = (Doing::Running, token, true);
                said.push(Letter::Started { life, unit, token });
            }
            (Step::Granted, Doing::Running) if copy.token == token => {
                said.push(Letter::Started { life, unit, token });
            }
            (Step::Active, Doing::Running) if copy.token == 0 => (copy.token, copy.file) = (token, true),
            (Step::Active, Doing::Nothing) => self.released(unit, token, Why::Failed),
            (Step::Revoking, Doing::Nothing) => self.released(unit, token, Why::Ordered),
            (Step::Revoking, _) if copy.token == 0 || copy.token == token => {
                copy.token = token;
                self.stop(unit, Some(Why::Ordered), None);
            }
            (Step::Granted | Step::Active | Step::Revoking, _) => {}
        }
    }

    /// The permit file goes first; then the stop begins (F1).
    pub(crate) fn stop(&mut self, unit: usize, why: Option<Why>, left: Option<u8>) {
        let copy = &mut self.copies[unit];
        copy.file = false;
        match &mut copy.doing {
            Doing::Running => copy.doing = Doing::Stopping { why, left },
            Doing::Stopping { left: before, .. } => *before = before.or(left),
            Doing::Down => {
                copy.doing = Doing::Stopping { why, left };
                self.stopped(unit);
            }
            Doing::Nothing => {}
        }
    }

    /// A stop has come to its end, and was seen to (F1).
    pub(crate) fn stopped(&mut self, unit: usize) {
        let copy = &mut self.copies[unit];
        let Doing::Stopping { why, .. } = copy.doing else { return };
        copy.doing = Doing::Nothing;
        let token = std::mem::take(&mut copy.token);
        match why {
            Some(why) if token > 0 => self.released(unit, token, why),
            _ => copy.floor = copy.floor.max(token),
        }
    }

    /// The last of the four steps: the floor is written, then the release is owed until a view confirms it.
    pub(crate) fn released(&mut self, unit: usize, token: u64, why: Why) {
        let copy = &mut self.copies[unit];
        copy.file = false;
        copy.floor = copy.floor.max(token);
        copy.owed = Some((token, why));
    }

    /// It fails for good, and is released.
    pub(crate) fn fail(&mut self, unit: usize) {
        self.stop(unit, Some(Why::Failed), None);
        self.stopped(unit);
    }

    /// PID 1 starts a crashed copy again, if it may.
    pub(crate) fn restart(&mut self, unit: usize) {
        let copy = &mut self.copies[unit];
        copy.doing = if copy.file || copy.token == 0 { Doing::Running } else { Doing::Nothing };
    }

    /// The end of its lease: all files go first, then everything stops (F8).
    pub(crate) fn end_lease(&mut self) {
        self.connected = false;
        self.ended = true;
        for unit in 0..self.copies.len() {
            if self.copies[unit].token > 0 && !self.copies[unit].goes_on {
                self.stop(unit, Some(Why::LeaseEnded), Some(STOP_TICKS));
            }
        }
    }

    /// Whether something here is due before any more time may pass.
    pub(crate) fn is_overdue(&self) -> bool {
        let late = |copy: &Copy| matches!(copy.doing, Doing::Stopping { left: Some(0), .. });
        self.alive() && ((self.lease == 0 && !self.ended) || self.copies.iter().any(late))
    }

    pub(crate) fn tick(&mut self) {
        if self.watchdog > 0 {
            self.watchdog = if self.is_fed() { WATCHDOG_TICKS } else { self.watchdog - 1 };
            if self.watchdog == 0 {
                return self.power_off();
            }
            if self.lease == 0 {
                self.over = self.over.saturating_add(1).min(STOP_TICKS);
            }
        }
        self.lease = self.lease.saturating_sub(1);
        for copy in &mut self.copies {
            if let Doing::Stopping { left: Some(left), .. } = &mut copy.doing {
                *left = left.saturating_sub(1);
            }
        }
    }

    /// Releases to be said again, while there is a session to say them in.
    pub(crate) fn owes(&self) -> Vec<Letter> {
        let life = self.life();
        let owed = self.copies.iter().enumerate().filter(|_| self.connected && self.heard());
        owed.filter_map(|(unit, copy)| {
            let (token, why) = copy.owed?;
            Some(Letter::Released { life, unit, token, why })
        })
        .collect()
    }
}
