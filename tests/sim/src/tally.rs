//! What was really done through the fence devices: attempts as the devices saw them, whatever the cluster says of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge::session::message::FenceOrder;
use policy::CaseId;

/// An attempt to switch a machine off that was begun. Times are the world's, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Through which device.
    pub device: String,
    /// Which machine, counted from 0.
    pub machine: usize,
    /// For which case.
    pub case: CaseId,
    /// Its number among the attempts of the case.
    pub attempt: u32,
    /// Since when it is under way.
    pub begun_ms: u64,
    /// When it was over; `None` if it is under way, or its executor died of it.
    pub ended_ms: Option<u64>,
}

/// The attempts, in the order in which they began. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<Vec<Action>>>);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Vec<Action>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt begins; its place in the list.
    pub(crate) fn begin(&self, order: &FenceOrder, device: &str, machine: usize, now: u64) -> usize {
        let mut actions = self.lock();
        actions.push(Action {
            device: device.to_owned(),
            machine,
            case: order.case,
            attempt: order.attempt,
            begun_ms: now,
            ended_ms: None,
        });
        actions.len() - 1
    }

    /// The attempt at that place is over.
    pub(crate) fn end(&self, place: usize, now: u64) {
        if let Some(action) = self.lock().get_mut(place) {
            action.ended_ms = Some(now);
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Action> {
        self.lock().clone()
    }
}
