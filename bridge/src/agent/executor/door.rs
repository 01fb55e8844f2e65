//! How many calls of agents go through a fence device at a time.
//!
//! A device has one door, whatever its settings said at one time or another: who is inside when they change is counted on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::session::message::AgentCall;

/// How long a fence waits for a look that is under way: devices whose sessions are few mind one that is broken off more than one
/// that ends, and one that works has answered by then.
pub(super) const COURTESY: Duration = Duration::from_secs(3);

/// The doors of all devices, by their names. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Doors(Arc<Mutex<BTreeMap<String, Arc<Door>>>>);

impl Doors {
    /// The door of the call's device, as wide as the newest settings say that were heard of.
    pub(super) fn of(&self, call: &AgentCall) -> Arc<Door> {
        // Nothing panics while the map is locked.
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let door = doors.entry(call.device.clone()).or_default().clone();
        door.resize(call.configured, call.at_once);
        door
    }
}

/// The door of one device.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// For all that can wait: of them one at a time comes before a fence, and no queue.
    pub(super) patient: tokio::sync::Mutex<()>,
    /// Whoever holds it is the next to enter.
    line: tokio::sync::Mutex<()>,
    /// A fence has waited long enough for whoever only looks.
    hurry: Notify,
    room: watch::Sender<Room>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Room {
    /// Index of the settings that say how many it takes.
    configured: u64,
    at_once: u32,
    inside: u32,
}

/// One use of a device, until it is dropped.
#[derive(Debug)]
pub(super) struct Inside(Arc<Door>);

impl Door {
    fn resize(&self, configured: u64, at_once: u32) {
        self.room.send_if_modified(|room| {
            // An order may have been written under settings that are past.
            let newer = room.at_once == 0 || configured > room.configured;
            if newer {
                (room.configured, room.at_once) = (configured, at_once.max(1));
            }
            newer
        });
    }

    /// Waits until the device takes one more, in the order of the calls. May be dropped while it waits.
    pub(super) async fn enter(self: &Arc<Self>) -> Inside {
        let _next = self.line.lock().await;
        let mut changes = self.room.subscribe();
        loop {
            if let Some(inside) = self.try_enter() {
                return inside;
            }
            // The sender is this door's own.
            let _ = changes.changed().await;
        }
    }

    /// The same for a fence: a look that hangs is broken off for it.
    pub(super) async fn enter_to_fence(self: &Arc<Self>, courtesy: Duration) -> Inside {
        let mut entered = std::pin::pin!(self.enter());
        loop {
            match tokio::time::timeout(courtesy, entered.as_mut()).await {
                Ok(inside) => return inside,
                Err(_) => self.hurry.notify_waiters(),
            }
        }
    }

    /// Does something that can be given up; `None` if a fence came between.
    pub(super) async fn unless_hurried<T>(&self, body: impl Future<Output = T>) -> Option<T> {
        let mut hurried = std::pin::pin!(self.hurry.notified());
        hurried.as_mut().enable();
        tokio::select! {
            done = body => Some(done),
            () = hurried => None,
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Inside> {
        let entered = self.room.send_if_modified(|room| {
            let free = room.inside < room.at_once;
            room.inside += u32::from(free);
            free
        });
        entered.then(|| Inside(self.clone()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.room.send_modify(|room| room.inside -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn call(at_once: u32, configured: u64) -> AgentCall {
        AgentCall { at_once, configured, ..super::super::tests::call() }
    }

    #[test]
    fn a_device_takes_so_many_at_a_time_and_a_fence_waits_for_one_look_at_the_most() {
        let doors = Doors::default();
        let one = doors.of(&call(1, 1));
        let look = (one.patient.try_lock().expect("free"), one.enter().now_or_never().expect("free"));
        let waiting = doors.of(&call(1, 1));
        assert!(waiting.patient.try_lock().is_err(), "a second look does not even queue for the device");
        assert!(waiting.enter().now_or_never().is_none(), "it takes one at a time");
        drop(look);
        assert!(waiting.enter().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_broken_off_for_a_fence_and_one_that_ends_is_not() {
        let doors = Doors::default();
        let one = doors.of(&call(1, 1));
        // Each has begun when it is told of.
        let begins = |body: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let (door, (told, begun)) = (one.clone(), tokio::sync::oneshot::channel());
            let look = async move {
                let _inside = door.enter().await;
                told.send(()).expect("awaited");
                door.unless_hurried(body).await
            };
            (tokio::spawn(look), begun)
        };
        let (hangs, begun) = begins(Box::pin(std::future::pending()));
        begun.await.expect("begun");
        drop(one.enter_to_fence(Duration::ZERO).await);
        assert_eq!(hangs.await.expect("ended"), None);
        let (ends, begun) = begins(Box::pin(tokio::task::yield_now()));
        begun.await.expect("begun");
        drop(one.enter_to_fence(Duration::from_secs(3_600)).await);
        assert_eq!(ends.await.expect("ended"), Some(()));
    }

    #[test]
    fn calls_that_run_while_a_device_is_set_to_take_fewer_or_more_count() {
        let doors = Doors::default();
        let mut inside: Vec<Inside> =
            (0..2).map(|_| doors.of(&call(2, 1)).enter().now_or_never().expect("two at a time")).collect();
        let door = doors.of(&call(1, 2));
        let mut next = std::pin::pin!(door.enter());
        for _ in 0..2 {
            assert!(next.as_mut().now_or_never().is_none(), "one at a time, and there is one");
            inside.pop();
        }
        inside.push(next.now_or_never().expect("nobody is inside"));
        // What was ordered before that does not widen it again.
        let stale = doors.of(&call(2, 1));
        let mut third = std::pin::pin!(stale.enter());
        assert!(third.as_mut().now_or_never().is_none());
        doors.of(&call(3, 3));
        inside.push(third.now_or_never().expect("three at a time"));
        inside.push(door.enter().now_or_never().expect("three at a time"));
        assert!(door.enter().now_or_never().is_none(), "those who came before count");
    }

    #[test]
    fn whoever_gives_up_waiting_holds_up_nobody() {
        let door = Doors::default().of(&call(1, 1));
        let first = door.enter().now_or_never().expect("free");
        {
            let mut gone = std::pin::pin!(door.enter());
            assert!(gone.as_mut().now_or_never().is_none());
        }
        let mut next = std::pin::pin!(door.enter());
        assert!(next.as_mut().now_or_never().is_none());
        drop(first);
        assert!(next.now_or_never().is_some());
    }
}
