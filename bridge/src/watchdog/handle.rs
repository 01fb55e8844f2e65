//! What the rest of the daemon holds of the watchdog's thread.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::device::{Hardware, Linux};
use super::feeder::Feeder;
use super::judge::Judge;
use super::kept::Kept;
use super::notes::Notes;
use crate::paths::Paths;
use crate::session::Lease;

/// The thread needs no more.
const STACK: usize = 64 * 1024;
/// How long the thread may take for an answer: a device that hangs must not hang the agent.
const PATIENCE: Duration = Duration::from_millis(500);
/// Orders that may wait for the thread. With more, it hangs in the device, and whoever asks hears nothing.
const ORDERS: usize = 16;
/// Nothing rests on the device.
pub(super) const NOTHING: u64 = u64::MAX;

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
    pub(super) fn unarmed(why: impl Into<String>) -> Self {
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
pub(super) const NOT_NEEDED: &str = "nothing on this node rests on it";

/// The watchdog, as all tasks of the daemon see it.
#[derive(Clone, Debug)]
pub struct Watchdog {
    orders: SyncSender<Order>,
    /// The time to stop of what rests on the device.
    protects: Arc<AtomicU64>,
    standing: watch::Receiver<Option<Standing>>,
    left: bool,
}

/// The feeder, and what it is ordered to do, without a thread.
pub struct Feeding {
    feeder: Feeder,
    inbox: Receiver<Order>,
}

impl Feeding {
    /// Does what was ordered since; whether that was anything. The feeder wakes for it.
    pub fn obey(&mut self) -> bool {
        let orders: Vec<Order> = self.inbox.try_iter().collect();
        let woken = !orders.is_empty();
        orders.into_iter().for_each(|order| self.feeder.obey(order));
        woken
    }

    /// What the feeder does when it wakes, and for how long it then sleeps; none until it is ordered something.
    pub fn turn(&mut self) -> Option<Duration> {
        self.feeder.turn();
        self.feeder.period()
    }
}

#[derive(Debug)]
pub(super) enum Order {
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
        let (watchdog, feeding) = Self::by_hand(paths, boot, lease, protects, setting, Box::new(Linux))?;
        let Feeding { feeder, inbox } = feeding;
        thread::Builder::new()
            .name("watchdog".to_owned())
            .stack_size(STACK)
            .spawn(move || feeder.run(inbox))?;
        Ok(watchdog)
    }

    /// The same over other devices, and on a clock that no thread can wait for: whoever has the feeder does what its thread
    /// would do.
    ///
    /// # Errors
    /// When there is no thread to be had for what it has to say.
    pub fn by_hand(
        paths: &Paths,
        boot: &str,
        lease: Lease,
        protects: Option<u64>,
        setting: Option<&Setting>,
        hardware: Box<dyn Hardware>,
    ) -> io::Result<(Self, Feeding)> {
        let file = paths.watchdog_file();
        let kept = Kept::load(&file, boot);
        let left = kept.is_some();
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
            hardware,
            device: None,
            owner: None,
            notes: Notes::begin()?,
            told,
        };
        Ok((Self { orders, protects, standing, left }, Feeding { feeder, inbox }))
    }

    /// Has the device opened, set and fed from now on. How that went is told by [`standing`](Self::standing).
    pub fn arm(&self, setting: Setting) {
        // Without its thread the device is fed by nobody, and that is told already.
        drop(self.orders.try_send(Order::Arm(setting)));
    }

    /// Has the device disarmed, and waits for that. Returns whether the thread has said that it is done with it.
    pub async fn disarm(&self) -> bool {
        let (done, disarmed) = oneshot::channel();
        drop(self.orders.try_send(Order::Disarm(done)));
        matches!(tokio::time::timeout(PATIENCE, disarmed).await, Ok(Ok(())))
    }

    /// Whether an earlier daemon of this boot left the device armed, or was about to arm it.
    #[must_use]
    pub fn was_left(&self) -> bool {
        self.left
    }

    /// Whether anything rests on the device.
    #[must_use]
    pub fn protects(&self) -> bool {
        self.protects.load(Ordering::SeqCst) != NOTHING
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

    #[test]
    fn without_its_thread_the_feeder_does_what_it_is_woken_for() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.run_dir()).expect("directory");
        let linux = Box::new(Linux);
        let begun = Watchdog::by_hand(&paths, "boot", Lease::default(), None, None, linux);
        let (watchdog, mut feeding) = begun.expect("a thread for its notes");
        let mut standing = watchdog.standing();
        standing.mark_unchanged();
        assert!(!feeding.obey(), "nothing was ordered");
        watchdog.arm(Setting { device: dir.path().join("none"), timeout_s: 5 });
        assert!(!standing.has_changed().expect("alive"), "nobody has woken it");
        assert!(feeding.obey());
        assert!(standing.has_changed().expect("alive"));
        assert_eq!(feeding.turn(), None, "there is nothing to feed");
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
