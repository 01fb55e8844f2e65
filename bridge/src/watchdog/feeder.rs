//! The thread that owns the device, and what the rest of the daemon holds of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::device::{Device, DeviceError};
use super::judge::{Judge, Sight};
use super::kept::Kept;
use crate::atomic;
use crate::paths::Paths;
use crate::session::{Lease, boottime_ms};

/// The thread needs no more.
const STACK: usize = 64 * 1024;
/// Feeds in one timeout: it survives three that come late.
const FEEDS: u32 = 4;
/// Between two looks while a device of an earlier daemon cannot be opened yet.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the thread may take for an answer: a device that hangs must not hang the agent.
const PATIENCE: Duration = Duration::from_millis(500);
/// Orders that may wait for the thread. With more, it hangs in the device, and whoever asks hears nothing.
const ORDERS: usize = 16;
/// Nothing rests on the device.
const NOTHING: u64 = u64::MAX;

/// Which device this node is to be reset by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path.
    pub device: PathBuf,
    /// Its timeout in seconds, as it is asked for.
    pub timeout_s: u32,
}

/// How the watchdog stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs and is fed as is right.
    Armed {
        /// The device.
        device: String,
        /// Its timeout, as read back.
        timeout_ms: u64,
    },
    /// It does not, or nobody can say.
    Unarmed {
        /// Why.
        why: String,
    },
}

impl Standing {
    fn unarmed(why: impl Into<String>) -> Self {
        Self::Unarmed { why: why.into() }
    }

    /// How long after it was last right to feed it the node is gone at the latest, in milliseconds; none if it is not armed.
    /// As [`policy::Chain::reset_ms`] says it.
    #[must_use]
    pub fn reset_ms(&self) -> Option<u64> {
        match self {
            Self::Armed { timeout_ms, .. } => Some(timeout_ms.saturating_mul(2)),
            Self::Unarmed { .. } => None,
        }
    }
}

/// Why nothing is armed before anything needs it.
const NOT_NEEDED: &str = "nothing on this node rests on it";

/// The watchdog, as all tasks of the daemon see it.
#[derive(Clone, Debug)]
pub struct Watchdog {
    orders: SyncSender<Order>,
    /// The time to stop of what rests on the device.
    protects: Arc<AtomicU64>,
    standing: watch::Receiver<Option<Standing>>,
}

#[derive(Debug)]
enum Order {
    Arm(Setting),
    Disarm(oneshot::Sender<()>),
    /// Reads the device back.
    Check(oneshot::Sender<Standing>),
}

impl Watchdog {
    /// Begins: takes over what an earlier daemon of this boot left running. `protects` is what the permits that it left
    /// say of what rests on it, as for [`protect`](Self::protect).
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn begin(
        paths: &Paths,
        boot: &str,
        lease: Lease,
        protects: Option<u64>,
        setting: Option<&Setting>,
    ) -> io::Result<Self> {
        let file = paths.watchdog_file();
        let kept = Kept::load(&file, boot);
        let first = kept.is_none().then(|| Standing::unarmed(NOT_NEEDED));
        let (told, standing) = watch::channel(first);
        let (orders, inbox) = sync_channel(ORDERS);
        let protects = Arc::new(AtomicU64::new(protects.unwrap_or(NOTHING)));
        let feeder = Feeder {
            file,
            boot: boot.to_owned(),
            asked_s: setting.map(|setting| setting.timeout_s),
            lease,
            protects: protects.clone(),
            judge: Judge::default(),
            kept,
            device: None,
            told,
        };
        thread::Builder::new()
            .name("watchdog".to_owned())
            .stack_size(STACK)
            .spawn(move || feeder.run(inbox))?;
        Ok(Self { orders, protects, standing })
    }

    /// Has the device opened, set and fed from now on. How that went is told by [`standing`](Self::standing).
    pub fn arm(&self, setting: Setting) {
        // Without its thread the device is fed by nobody, and that is told already.
        drop(self.orders.try_send(Order::Arm(setting)));
    }

    /// Has the device disarmed, and waits for that.
    pub async fn disarm(&self) {
        let (done, disarmed) = oneshot::channel();
        drop(self.orders.try_send(Order::Disarm(done)));
        drop(tokio::time::timeout(PATIENCE, disarmed).await);
    }

    /// Says what rests on the device: how long that may take to stop at the end of a lease, in milliseconds, or that nothing
    /// does. In force before this returns.
    pub fn protect(&self, budget_ms: Option<u64>) {
        self.protects.store(budget_ms.map_or(NOTHING, |budget| budget.min(NOTHING - 1)), Ordering::SeqCst);
    }

    /// Reads the device back: whether it is armed and resets the node in `reset_ms`, just before something comes to rest
    /// on it.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub async fn check(&self, reset_ms: u64) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        drop(self.orders.try_send(Order::Check(reply)));
        let standing = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(_)) | Err(_) => return Err("the watchdog does not answer".to_owned()),
        };
        match (standing.reset_ms(), standing) {
            (Some(found), _) if found <= reset_ms => Ok(()),
            (Some(found), _) => {
                Err(format!("the watchdog resets this node in {found} ms, and others wait for {reset_ms} ms"))
            }
            (None, Standing::Unarmed { why }) => Err(format!("this node's watchdog is not armed: {why}")),
            (None, Standing::Armed { .. }) => Err("this node's watchdog is not armed".to_owned()),
        }
    }

    /// How it stands, now and whenever that changes; none as long as an earlier daemon's device is not taken over.
    pub fn standing(&self) -> watch::Receiver<Option<Standing>> {
        self.standing.clone()
    }
}

struct Feeder {
    file: PathBuf,
    boot: String,
    /// What `convoke.toml` asks for.
    asked_s: Option<u32>,
    lease: Lease,
    protects: Arc<AtomicU64>,
    judge: Judge,
    /// What runs, or ran when an earlier daemon ended.
    kept: Option<Kept>,
    device: Option<Device>,
    told: watch::Sender<Option<Standing>>,
}

impl Feeder {
    fn run(mut self, inbox: Receiver<Order>) {
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
    fn period(&self) -> Option<Duration> {
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
            tracing::error!("this process stood still for longer than a lease: the watchdog is fed no more");
        }
        may
    }

    /// Feeds, if there is a device and it may be. Opening one feeds it too.
    fn turn(&mut self) {
        let Some(kept) = self.kept.clone() else { return self.judge.rest() };
        if !self.may_feed() {
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
        self.told.send_if_modified(|before| {
            let news = before.as_ref() != Some(&standing);
            if news {
                match &standing {
                    Standing::Armed { device, timeout_ms } => {
                        tracing::info!(device, timeout_ms, "the watchdog is armed");
                    }
                    Standing::Unarmed { why } if why == NOT_NEEDED => {
                        tracing::info!("the watchdog is disarmed")
                    }
                    Standing::Unarmed { why } => tracing::warn!(why, "no watchdog is armed"),
                }
                *before = Some(standing);
            }
            news
        });
    }

    fn obey(&mut self, order: Order) {
        match order {
            // What is being taken over is tried again and again anyway.
            Order::Arm(_) if self.kept.is_some() => {}
            Order::Arm(setting) => {
                if let Err(why) = self.arm(&setting) {
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
        let armed = Device::open(&setting.device).map_err(|error| error.to_string()).and_then(|device| {
            let mut set = || {
                device.set_timeout(i32::try_from(setting.timeout_s).unwrap_or(i32::MAX))?;
                // W counts only if it is read back.
                kept.timeout_ms = device.timeout_ms()?;
                kept.save(&self.file)
            };
            match set() {
                Ok(()) => Ok(device),
                Err(error) => {
                    drop(device.disarm());
                    Err(format!("{} does not take a timeout: {error}", setting.device.display()))
                }
            }
        });
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

    /// An earlier daemon left the device running.
    fn take_over(&mut self, mut kept: Kept) {
        let device = match Device::open(&kept.device) {
            Ok(device) => device,
            Err(error) => {
                self.tell(Standing::unarmed(error.to_string()));
                // No device that could still fire: there is nothing to take over.
                if let DeviceError::Open { source, .. } = &error
                    && source.kind() == io::ErrorKind::NotFound
                {
                    self.kept = None;
                }
                return;
            }
        };
        let mut read = device.timeout_ms();
        if read.as_ref().is_ok_and(|found| *found > kept.timeout_ms) {
            read = Self::shorten(&device, &kept);
        }
        self.device = Some(device);
        match read {
            Ok(found) if found <= kept.timeout_ms => {
                kept.timeout_ms = found;
                self.tell_armed(&kept);
                if self.asked_s.is_some_and(|asked| u64::from(asked) * 1_000 != found) {
                    tracing::info!(
                        timeout_ms = found,
                        "the watchdog's new timeout counts once it was disarmed"
                    );
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

    fn shorten(device: &Device, kept: &Kept) -> io::Result<u64> {
        device.set_timeout(i32::try_from(kept.timeout_ms / 1_000).unwrap_or(i32::MAX))?;
        device.timeout_ms()
    }

    fn disarm(&mut self) {
        // Whatever the agent thinks: with something that rests on it, only its reset ends it.
        if self.protects().is_some() {
            return;
        }
        if let Some(device) = self.device.take()
            && let Err(error) = device.disarm()
        {
            tracing::error!(%error, "the watchdog cannot be disarmed, and resets this node");
        }
        if let Err(error) = atomic::remove(&self.file) {
            tracing::error!(%error, "the next daemon takes a watchdog for running that is disarmed");
        }
        self.kept = None;
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
mod tests {
    use super::*;

    fn begin(dir: &tempfile::TempDir) -> Watchdog {
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.run_dir()).expect("directory");
        Watchdog::begin(&paths, "boot", Lease::default(), None, None).expect("a thread")
    }

    #[tokio::test]
    async fn what_cannot_be_armed_is_told_and_nothing_may_rest_on_it() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let watchdog = begin(&dir);
        let mut standing = watchdog.standing();
        assert_eq!(*standing.borrow_and_update(), Some(Standing::unarmed(NOT_NEEDED)));
        for _ in 0..2 {
            watchdog.arm(Setting { device: dir.path().join("none"), timeout_s: 5 });
            tokio::time::timeout(Duration::from_secs(10), standing.changed())
                .await
                .expect("told")
                .expect("alive");
            let told = standing.borrow_and_update().clone();
            let Some(Standing::Unarmed { why }) = told else { panic!("{told:?}") };
            assert!(why.contains("none cannot be opened: No such file"), "{why}");
        }
        let why = watchdog.check(10_000).await.expect_err("not armed");
        assert!(why.contains("none cannot be opened"), "{why}");
        assert!(!Paths::below(dir.path()).watchdog_file().exists(), "no later daemon takes it over");
    }

    #[tokio::test]
    async fn a_device_of_an_earlier_daemon_that_is_not_there_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.run_dir()).expect("directory");
        let kept = Kept { boot: "boot".to_owned(), device: dir.path().join("gone"), timeout_ms: 5_000 };
        kept.save(&paths.watchdog_file()).expect("written");
        let mut standing = begin(&dir).standing();
        let told = tokio::time::timeout(Duration::from_secs(10), standing.wait_for(Option::is_some)).await;
        let told = told.expect("told").expect("alive").clone();
        assert!(matches!(&told, Some(Standing::Unarmed { why }) if why.contains("gone")), "{told:?}");
    }
}
