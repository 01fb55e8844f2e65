//! The thread that owns the device.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::device::{Device, DeviceError, Hardware};
use super::handle::{NOT_NEEDED, NOTHING, Order, Setting, Standing};
use super::judge::{Judge, Sight};
use super::kept::Kept;
use super::notes::{Note, Notes};
use crate::atomic;
use crate::session::{Lease, boottime_ms};

/// Feeds in one timeout: it survives three that come late.
const FEEDS: u32 = 4;
/// Between two looks while a device of an earlier daemon cannot be opened yet.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it counts who had the device: all processes are looked at for that.
const OWNER_KNOWN: Duration = Duration::from_secs(10);

pub(super) struct Feeder {
    pub(super) file: PathBuf,
    pub(super) boot: String,
    /// What `convoke.toml` asks for.
    pub(super) asked_s: Option<u32>,
    pub(super) lease: Lease,
    pub(super) protects: Arc<AtomicU64>,
    pub(super) judge: Judge,
    /// What runs, or ran when an earlier daemon ended.
    pub(super) kept: Option<Kept>,
    pub(super) hardware: Box<dyn Hardware>,
    pub(super) device: Option<Box<dyn Device>>,
    /// Who had a device that could not be opened, and when that was looked for.
    pub(super) owner: Option<(Instant, String)>,
    pub(super) notes: Notes,
    pub(super) told: watch::Sender<Option<Standing>>,
}

impl Feeder {
    pub(super) fn run(mut self, inbox: Receiver<Order>) {
        loop {
            self.turn();
            let order = match self.period() {
                Some(period) => inbox.recv_timeout(period),
                // Nothing to feed: an idle node is not woken for this.
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match (order, self.period()) {
                (Ok(order), _) => self.obey(order),
                (Err(RecvTimeoutError::Timeout), _) => {}
                // The daemon is ending. The device is fed until its last moment, as the next one may need the time.
                (Err(RecvTimeoutError::Disconnected), Some(period)) => thread::sleep(period),
                (Err(RecvTimeoutError::Disconnected), None) => return,
            }
        }
    }

    /// Between two feeds, or two attempts to take a device over; none if there is neither.
    pub(super) fn period(&self) -> Option<Duration> {
        let kept = self.kept.as_ref()?;
        Some(self.device.as_ref().map_or(AGAIN, |_| Duration::from_millis(kept.timeout_ms) / FEEDS))
    }

    fn protects(&self) -> Option<u64> {
        Some(self.protects.load(Ordering::SeqCst)).filter(|budget| *budget != NOTHING)
    }

    fn may_feed(&mut self) -> bool {
        let sight = Sight {
            lease_ends_ms: self.lease.ends_ms(),
            lease_ms: self.lease.longest_ms(),
            period_ms: self
                .period()
                .map_or(0, |period| u64::try_from(period.as_millis()).unwrap_or(u64::MAX)),
            protects: self.protects(),
            // Last, so that nothing is judged by an older time.
            now_ms: boottime_ms(),
        };
        let before = self.judge.is_over();
        let may = self.judge.may_feed(&sight);
        if !before && self.judge.is_over() {
            self.tell(Standing::unarmed(
                "convoked stood still for longer than a lease, and feeds it no more",
            ));
        }
        may
    }

    /// Feeds, if there is a device and it may be. Opening one feeds it too.
    pub(super) fn turn(&mut self) {
        let Some(kept) = self.kept.clone() else { return self.judge.rest() };
        if !self.may_feed() {
            // What is never fed again need not reset a node that nothing rests on it any more.
            if self.judge.is_over() && self.protects().is_none() {
                self.disarm();
            }
            return;
        }
        match &mut self.device {
            Some(device) => match device.feed() {
                Ok(()) => self.tell_armed(&kept),
                Err(error) => {
                    self.tell(Standing::unarmed(format!("{} cannot be fed: {error}", kept.device.display())))
                }
            },
            None => self.take_over(kept),
        }
    }

    fn tell_armed(&self, kept: &Kept) {
        let (device, timeout_ms) = (kept.device.display().to_string(), kept.timeout_ms);
        self.tell(Standing::Armed { device, timeout_ms });
    }

    fn tell(&self, standing: Standing) {
        let news = self.told.send_if_modified(|before| {
            let news = before.as_ref() != Some(&standing);
            if news {
                *before = Some(standing.clone());
            }
            news
        });
        if news {
            self.notes.take(Note::Stands(standing));
        }
    }

    /// Why a device cannot be used, and who has it, if that is why.
    fn fault(&mut self, error: &DeviceError) -> String {
        if !error.is_busy() {
            return error.to_string();
        }
        let known = self.owner.take().filter(|(looked, _)| looked.elapsed() < OWNER_KNOWN);
        let (_, owner) = self.owner.insert(known.unwrap_or_else(|| (Instant::now(), self.hardware.owner())));
        format!("{error}{owner}")
    }

    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Arm(setting) => {
                // What runs, or is being taken over, is tried again and again anyway.
                if self.kept.is_none()
                    && let Err(why) = self.arm(&setting)
                {
                    self.tell(Standing::unarmed(why));
                }
                // Also where it says what it said before: whoever asked is to hear of it.
                self.told.send_modify(|_| ());
            }
            Order::Disarm(done) => {
                self.disarm();
                // Whoever asked may have lost patience.
                let _ = done.send(());
            }
            Order::Check(reply) => drop(reply.send(self.check())),
        }
    }

    fn arm(&mut self, setting: &Setting) -> Result<(), String> {
        if self.judge.is_over() {
            return Err(
                "this process stood still for longer than a lease, and feeds no watchdog any more".to_owned()
            );
        }
        let mut kept = Kept {
            boot: self.boot.clone(),
            device: setting.device.clone(),
            timeout_ms: u64::from(setting.timeout_s).saturating_mul(1_000),
        };
        let unkept = |error: io::Error| format!("{} cannot be written: {error}", self.file.display());
        kept.save(&self.file).map_err(unkept)?;
        let armed = self.start(setting, &mut kept);
        match armed {
            Ok(device) => {
                self.tell_armed(&kept);
                (self.device, self.kept) = (Some(device), Some(kept));
                Ok(())
            }
            Err(why) => {
                drop(atomic::remove(&self.file));
                Err(why)
            }
        }
    }

    /// Opens the device, which starts it, and sets it. What is not as it must be is disarmed again.
    fn start(&mut self, setting: &Setting, kept: &mut Kept) -> Result<Box<dyn Device>, String> {
        // It could not be disarmed again: it is not even opened.
        if self.hardware.is_irrevocable(&setting.device) {
            let device = setting.device.display();
            return Err(format!(
                "{device} cannot be disarmed once it runs (nowayout): load its driver without that"
            ));
        }
        let device = self.hardware.open(&setting.device).map_err(|error| self.fault(&error))?;
        let set = || {
            device.check(&setting.device).map_err(|error| error.to_string())?;
            let set = device.set_timeout(i32::try_from(setting.timeout_s).unwrap_or(i32::MAX));
            // W counts only if it is read back.
            set.and_then(|()| device.timeout_ms())
                .map_err(|error| format!("{} does not take a timeout: {error}", setting.device.display()))
        };
        let set = set().and_then(|timeout_ms| {
            kept.timeout_ms = timeout_ms;
            kept.save(&self.file)
                .map_err(|error| format!("{} cannot be written: {error}", self.file.display()))
        });
        match set {
            Ok(()) => Ok(device),
            Err(why) => {
                drop(device.disarm());
                Err(why)
            }
        }
    }

    /// An earlier daemon left the device running.
    fn take_over(&mut self, mut kept: Kept) {
        // Whatever is found, it runs on: something may rest on it.
        let device = match self.hardware.open(&kept.device) {
            Ok(device) => device,
            Err(error) => {
                let why = self.fault(&error);
                self.tell(Standing::unarmed(why));
                // No device that could still fire: there is nothing to take over.
                if error.is_missing() {
                    self.kept = None;
                }
                return;
            }
        };
        let mut read = device.timeout_ms();
        if read.as_ref().is_ok_and(|found| *found > kept.timeout_ms) {
            read = Self::shorten(&*device, &kept);
        }
        self.device = Some(device);
        match read {
            Ok(found) if found <= kept.timeout_ms => {
                kept.timeout_ms = found;
                self.tell_armed(&kept);
                if self.asked_s.is_some_and(|asked| u64::from(asked) * 1_000 != found) {
                    self.notes.take(Note::TimeoutLater(found));
                }
                self.kept = Some(kept);
            }
            found => {
                // Others were told of a shorter time: what rests on it must not live by a longer one.
                let found = found.map_or_else(|error| error.to_string(), |found| format!("{found} ms"));
                let why = format!("its timeout of {} ms was changed to: {found}", kept.timeout_ms);
                if self.protects().is_some() {
                    self.judge.give_up();
                } else {
                    self.disarm();
                }
                self.tell(Standing::unarmed(why));
            }
        }
    }

    fn shorten(device: &dyn Device, kept: &Kept) -> io::Result<u64> {
        device.set_timeout(i32::try_from(kept.timeout_ms / 1_000).unwrap_or(i32::MAX))?;
        device.timeout_ms()
    }

    fn disarm(&mut self) {
        // Whatever the agent thinks: with something that rests on it, only its reset ends it.
        if self.protects().is_some() {
            return;
        }
        // One that was not taken over runs as well. If somebody else has it, it is theirs.
        let kept = self.kept.take();
        let left = || kept.and_then(|kept| self.hardware.open(&kept.device).ok());
        if let Some(device) = self.device.take().or_else(left)
            && let Err(error) = device.disarm()
        {
            self.notes.take(Note::NotDisarmed(error));
        }
        if let Err(error) = atomic::remove(&self.file) {
            self.notes.take(Note::FileStays(error));
        }
        // What is armed later has not been given up.
        self.judge = Judge::default();
        self.tell(Standing::unarmed(NOT_NEEDED));
    }

    fn check(&mut self) -> Standing {
        let Some(device) = &self.device else {
            let standing = self.told.borrow().clone();
            return standing.unwrap_or_else(|| Standing::unarmed("it is being taken over"));
        };
        match (device.timeout_ms(), &self.kept, &*self.told.borrow()) {
            (Ok(timeout_ms), Some(kept), Some(Standing::Armed { .. })) if !self.judge.is_over() => {
                Standing::Armed { device: kept.device.display().to_string(), timeout_ms }
            }
            (Err(error), ..) => Standing::unarmed(format!("it cannot be read back: {error}")),
            (_, _, Some(unarmed @ Standing::Unarmed { .. })) => unarmed.clone(),
            _ => Standing::unarmed("it is not fed any more"),
        }
    }
}

#[cfg(test)]
mod tests;
