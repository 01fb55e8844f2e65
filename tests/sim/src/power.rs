//! The fence devices: a plug for each machine, their moods, and what is wrong with the first of them for good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bridge::session::message::{AgentCall, FenceOrder, Reply, Request};
use bridge::session::{Asker, Lease};
use policy::{AgentAction, FenceOutcome, Power};
use tokio::time::sleep;

use crate::flaw::Flaw;
use crate::rng::Rng;
use crate::tally::Tally;

/// How long the confirmation may take, as in `bridge/src/agent/executor.rs`.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);

/// The devices, by their levels from 1. All see the same plugs.
pub(crate) const DEVICES: [&str; 2] = ["switch", "feed"];
/// For so long the status of a device that lags still says on.
const LAG_MS: u64 = 2_500;
/// How long either half of an attempt takes, the command and the look behind it, in milliseconds.
const HALF_MS: (u64, u64) = (50, 400);
/// In so many of a hundred attempts an idle device does nothing.
const IDLE_PERCENT: u64 = 60;

/// How the devices take commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Works,
    /// It says no.
    Refuses,
    /// It does not answer in time, and does what it was told a while later or never.
    Hangs,
}

/// What is wrong with the first device, beside its moods and until everything is mended. Nothing but [`Quirk::Lies`] may
/// cost any of the cluster's promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// It never does what it is told, and says so.
    Refuses,
    /// It says that it did what it was told and now and then has not; its status tells the truth.
    Idle,
    /// Its status still says on for a while after a machine lost its power.
    Lags,
    /// It switches nobody, and says off of everybody: it never showed its machine on.
    ReadsOff,
    /// Its status tells the truth, and after an attempt it says off without having done anything.
    Lies,
}

/// Which fence devices a world has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fences {
    pub(crate) quirk: Option<Quirk>,
    /// As many devices, each on a level of its own.
    pub(crate) levels: usize,
}

impl Fences {
    /// One device with nothing wrong but its moods.
    pub(crate) const PLAIN: Self = Self { quirk: None, levels: 1 };
    /// None at all: nodes are known to be off by their boots, and by their watchdogs.
    pub(crate) const NONE: Self = Self { quirk: None, levels: 0 };
    /// One that lies, and an honest one behind it.
    pub(crate) const OF_A_LIAR: Self = Self { quirk: Some(Quirk::Lies), levels: 2 };

    /// What a seed has. Drawn from numbers of its own, so that the seeds with plain devices tell the story that they would
    /// tell without this. Where there are watchdogs they are all that there is in every other seed.
    pub(crate) fn drawn(seed: u64, watched: bool) -> Self {
        let mut chance = Rng::new(seed ^ 0x0ddf_e4ce);
        if watched && chance.percent(50) {
            return Self::NONE;
        }
        let (quirk, levels) = match chance.below(10) {
            0 => (Quirk::Refuses, 2),
            1 => (Quirk::Idle, 1 + chance.below(2) as usize),
            2 => (Quirk::Lags, 1 + chance.below(2) as usize),
            3 => (Quirk::ReadsOff, 1 + chance.below(2) as usize),
            _ => return Self::PLAIN,
        };
        Self { quirk: Some(quirk), levels }
    }
}

/// The devices. Clones are the same.
#[derive(Clone)]
pub(crate) struct Switch(Arc<Mutex<Inner>>);

struct Inner {
    mood: Mood,
    /// Of the first device.
    quirk: Option<Quirk>,
    plugs: Vec<bool>,
    /// Until when a status that lags still says on of each machine.
    lags_until: Vec<u64>,
    /// An attempt that must never have begun.
    wrong: Option<String>,
    /// Machines to be switched off by the world, and when.
    due: Vec<(u64, usize)>,
    now: u64,
    half_ms: (u64, u64),
    tally: Tally,
    flaw: Option<Flaw>,
    rng: Rng,
    /// For the quirk alone.
    whim: Rng,
}

impl Switch {
    pub(crate) fn new(
        machines: usize,
        quirk: Option<Quirk>,
        flaw: Option<Flaw>,
        rng: Rng,
        whim: Rng,
    ) -> Self {
        let inner = Inner {
            mood: Mood::Works,
            quirk,
            plugs: vec![false; machines],
            lags_until: vec![0; machines],
            wrong: None,
            due: Vec::new(),
            now: 0,
            half_ms: HALF_MS,
            tally: Tally::default(),
            flaw,
            rng,
            whim,
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Either half of an attempt takes so many milliseconds from now on.
    pub(crate) fn set_half(&self, ms: u64) {
        self.lock().half_ms = (ms, ms);
    }

    /// What was done through the devices.
    pub(crate) fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    /// The devices work from now on, and nothing is wrong with any of them.
    pub(crate) fn mend(&self) {
        let mut inner = self.lock();
        (inner.mood, inner.quirk) = (Mood::Works, None);
    }

    /// An attempt that must never have begun.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.lock().wrong.clone()
    }

    pub(crate) fn set_plug(&self, machine: usize, on: bool) {
        let mut inner = self.lock();
        if inner.plugs[machine] && !on {
            inner.lags_until[machine] = inner.now + LAG_MS;
        }
        inner.plugs[machine] = on;
    }

    /// The machines that lose their power now.
    pub(crate) fn step(&self, now: u64) -> Vec<usize> {
        let mut inner = self.lock();
        inner.now = now;
        let (due, later) = inner.due.drain(..).partition(|(at, _)| *at <= now);
        inner.due = later;
        let due: Vec<(u64, usize)> = due;
        due.into_iter().map(|(_, machine)| machine).collect()
    }

    /// One attempt, in the steps of the real executor; `None` if it was not begun.
    pub(crate) async fn fence(
        &self,
        order: &FenceOrder,
        lease: &Lease,
        asker: &Asker,
    ) -> Option<FenceOutcome> {
        lease.left()?;
        let request = Request::MayFence { case: order.case, attempt: order.attempt };
        match asker.ask(request, CONFIRM_LIMIT).await {
            Ok(Reply::MayRun(true)) => lease.left().map(drop)?,
            _ => return None,
        }
        let call = order.calls.first()?;
        let machine = plug(call)?;
        let number = {
            let inner = self.lock();
            inner.tally.begin(order, &call.device, machine, inner.now)
        };
        let outcome = self.strike(call, machine).await;
        let inner = self.lock();
        inner.tally.end(number, inner.now);
        Some(outcome)
    }

    /// What a device does with a command to switch off, and says of it.
    async fn strike(&self, call: &AgentCall, machine: usize) -> FenceOutcome {
        let (pause, mood, flaw, quirk) = {
            let mut inner = self.lock();
            let (low, high) = inner.half_ms;
            (inner.rng.between(low, high), inner.mood, inner.flaw, inner.quirk_of(call))
        };
        if quirk == Some(Quirk::ReadsOff) {
            let device = &call.device;
            let wrong = format!("S2: an attempt begins through {device}, which never showed its machine on");
            self.lock().wrong.get_or_insert(wrong);
        }
        sleep(Duration::from_millis(pause)).await;
        match mood {
            Mood::Works if flaw == Some(Flaw::DeviceLies) => return FenceOutcome::Off,
            Mood::Works if matches!(quirk, Some(Quirk::Lies | Quirk::ReadsOff)) => {
                return FenceOutcome::Off;
            }
            Mood::Works if quirk != Some(Quirk::Refuses) => {
                let mut inner = self.lock();
                let idles = quirk == Some(Quirk::Idle) && inner.whim.percent(IDLE_PERCENT);
                if !idles {
                    let now = inner.now;
                    inner.due.push((now, machine));
                }
            }
            Mood::Works | Mood::Refuses => {
                return FenceOutcome::Failed("the device says no".to_owned());
            }
            Mood::Hangs => {
                {
                    let mut inner = self.lock();
                    let at = inner.now + inner.rng.between(2_000, 9_000);
                    if inner.rng.percent(50) {
                        inner.due.push((at, machine));
                    }
                }
                sleep(Duration::from_millis(call.deadline_ms(AgentAction::Off))).await;
                return FenceOutcome::TimedOut("the device does not answer".to_owned());
            }
        }
        sleep(Duration::from_millis(pause)).await;
        match self.lock().shows_on(call, machine) {
            false => FenceOutcome::Off,
            true => FenceOutcome::Failed("status says on".to_owned()),
        }
    }

    /// A look at a plug.
    pub(crate) async fn look(&self, call: &AgentCall) -> Power {
        let Some(machine) = plug(call) else { return Power::Unknown("no such plug".to_owned()) };
        let (pause, mood) = {
            let mut inner = self.lock();
            (inner.rng.between(20, 200), inner.mood)
        };
        sleep(Duration::from_millis(pause)).await;
        match mood {
            Mood::Works if self.lock().shows_on(call, machine) => Power::On,
            Mood::Works => Power::Off,
            Mood::Refuses | Mood::Hangs => Power::Unknown("the device does not answer".to_owned()),
        }
    }
}

impl Inner {
    /// What is wrong with the device that a call is of.
    fn quirk_of(&self, call: &AgentCall) -> Option<Quirk> {
        self.quirk.filter(|_| call.device == DEVICES[0])
    }

    /// What the status of that device says.
    fn shows_on(&self, call: &AgentCall, machine: usize) -> bool {
        match self.quirk_of(call) {
            Some(Quirk::ReadsOff) => false,
            Some(Quirk::Lags) => self.plugs[machine] || self.now < self.lags_until[machine],
            None | Some(Quirk::Refuses | Quirk::Idle | Quirk::Lies) => self.plugs[machine],
        }
    }
}

fn plug(call: &AgentCall) -> Option<usize> {
    call.options.get("plug").and_then(|plug| plug.parse().ok())
}
