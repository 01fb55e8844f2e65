//! The fence device: one switch with a plug for each machine, and its moods.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bridge::session::message::{AgentCall, FenceOrder, Reply, Request};
use bridge::session::{Asker, Lease};
use policy::{AgentAction, FenceOutcome, Power};
use tokio::time::sleep;

use crate::flaw::Flaw;
use crate::rng::Rng;

/// How long the confirmation may take, as in `bridge/src/agent/executor.rs`.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);

/// How the device takes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Works,
    /// It says no.
    Refuses,
    /// It does not answer in time, and does what it was told a while later or never.
    Hangs,
}

/// The device. Clones are the same.
#[derive(Clone)]
pub(crate) struct Switch(Arc<Mutex<Inner>>);

struct Inner {
    mood: Mood,
    plugs: Vec<bool>,
    /// Machines to be switched off by the world, and when.
    due: Vec<(u64, usize)>,
    now: u64,
    flaw: Option<Flaw>,
    rng: Rng,
}

impl Switch {
    pub(crate) fn new(machines: usize, flaw: Option<Flaw>, rng: Rng) -> Self {
        let inner =
            Inner { mood: Mood::Works, plugs: vec![false; machines], due: Vec::new(), now: 0, flaw, rng };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    pub(crate) fn set_plug(&self, machine: usize, on: bool) {
        self.lock().plugs[machine] = on;
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
        let (pause, mood, flaw) = {
            let mut inner = self.lock();
            (inner.rng.between(50, 400), inner.mood, inner.flaw)
        };
        sleep(Duration::from_millis(pause)).await;
        match mood {
            Mood::Works if flaw == Some(Flaw::DeviceLies) => return Some(FenceOutcome::Off),
            Mood::Works => {
                let mut inner = self.lock();
                let now = inner.now;
                inner.due.push((now, machine));
            }
            Mood::Refuses => return Some(FenceOutcome::Failed("the device says no".to_owned())),
            Mood::Hangs => {
                {
                    let mut inner = self.lock();
                    let at = inner.now + inner.rng.between(2_000, 9_000);
                    if inner.rng.percent(50) {
                        inner.due.push((at, machine));
                    }
                }
                sleep(Duration::from_millis(call.deadline_ms(AgentAction::Off))).await;
                return Some(FenceOutcome::TimedOut("the device does not answer".to_owned()));
            }
        }
        sleep(Duration::from_millis(pause)).await;
        Some(match self.lock().plugs[machine] {
            false => FenceOutcome::Off,
            true => FenceOutcome::Failed("status says on".to_owned()),
        })
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
            Mood::Works if self.lock().plugs[machine] => Power::On,
            Mood::Works => Power::Off,
            Mood::Refuses | Mood::Hangs => Power::Unknown("the device does not answer".to_owned()),
        }
    }
}

fn plug(call: &AgentCall) -> Option<usize> {
    call.options.get("plug").and_then(|plug| plug.parse().ok())
}
