//! The feeder with a device that does as it is told.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use super::*;

/// What a device was made to do, and what it does next.
#[derive(Clone, Debug, Default)]
struct Dog {
    timeout_ms: u64,
    /// It sets its timeout no shorter than this.
    least_ms: u64,
    opened: u32,
    fed: u32,
    disarmed: u32,
    busy: bool,
    lacks: bool,
    irrevocable: bool,
    looked_for_owner: u32,
}

#[derive(Clone, Debug, Default)]
struct Fake(Arc<Mutex<Dog>>);

impl Fake {
    /// As it is by now.
    fn dog(&self) -> Dog {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Dog> {
        self.0.lock().expect("no test has failed")
    }
}

impl Hardware for Fake {
    fn is_irrevocable(&self, _: &Path) -> bool {
        self.dog().irrevocable
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Device>, DeviceError> {
        if self.dog().busy {
            return Err(DeviceError::Open {
                path: path.to_owned(),
                source: io::ErrorKind::ResourceBusy.into(),
            });
        }
        self.lock().opened += 1;
        Ok(Box::new(self.clone()))
    }

    fn owner(&self) -> String {
        self.lock().looked_for_owner += 1;
        " (process 7 has it)".to_owned()
    }
}

impl Device for Fake {
    fn check(&self, path: &Path) -> Result<(), DeviceError> {
        let fault = || DeviceError::Lacks { path: path.to_owned(), what: "something" };
        if self.dog().lacks { Err(fault()) } else { Ok(()) }
    }

    fn set_timeout(&self, seconds: i32) -> io::Result<()> {
        let mut dog = self.lock();
        dog.timeout_ms = (seconds as u64 * 1_000).max(dog.least_ms);
        Ok(())
    }

    fn timeout_ms(&self) -> io::Result<u64> {
        Ok(self.dog().timeout_ms)
    }

    fn feed(&mut self) -> io::Result<()> {
        self.lock().fed += 1;
        Ok(())
    }

    fn disarm(self: Box<Self>) -> io::Result<()> {
        self.lock().disarmed += 1;
        Ok(())
    }
}

struct Lab {
    feeder: Feeder,
    fake: Fake,
    standing: watch::Receiver<Option<Standing>>,
    _dir: tempfile::TempDir,
}

const BUDGET_MS: u64 = 10_000;

impl Lab {
    /// `left_ms` is the timeout of a device that an earlier daemon left running.
    fn new(left_ms: Option<u64>, protects: Option<u64>) -> Self {
        let dir = tempfile::tempdir().expect("scratch directory");
        let fake = Fake::default();
        fake.lock().timeout_ms = left_ms.unwrap_or(60_000);
        let device = PathBuf::from("/dev/fake");
        let kept = left_ms.map(|timeout_ms| Kept { boot: "boot".to_owned(), device, timeout_ms });
        let (told, standing) = watch::channel(None);
        let feeder = Feeder {
            file: dir.path().join("watchdog"),
            boot: "boot".to_owned(),
            asked_s: None,
            lease: Lease::default(),
            protects: Arc::new(AtomicU64::new(protects.unwrap_or(NOTHING))),
            judge: Judge::default(),
            kept,
            hardware: Box::new(fake.clone()),
            device: None,
            owner: None,
            notes: Notes::begin().expect("a thread"),
            told,
        };
        Self { feeder, fake, standing, _dir: dir }
    }

    fn leased(self) -> Self {
        self.feeder.lease.extend(boottime_ms() + 60_000);
        self
    }

    fn arm(&mut self, timeout_s: u32) {
        self.feeder.obey(Order::Arm(Setting { device: "/dev/fake".into(), timeout_s }));
    }

    fn protect(&self, budget_ms: Option<u64>) {
        self.feeder.protects.store(budget_ms.unwrap_or(NOTHING), Ordering::SeqCst);
    }

    fn disarm(&mut self) {
        let (done, _) = tokio::sync::oneshot::channel();
        self.feeder.obey(Order::Disarm(done));
    }

    /// Its timeout, or why there is none.
    fn stands(&self) -> Result<u64, String> {
        match self.standing.borrow().clone() {
            Some(Standing::Armed { timeout_ms, .. }) => Ok(timeout_ms),
            Some(Standing::Unarmed { why }) => Err(why),
            None => Err("nothing is known".to_owned()),
        }
    }

    fn why(&self) -> String {
        self.stands().expect_err("not armed")
    }
}

#[test]
fn it_is_armed_fed_and_disarmed() {
    let mut lab = Lab::new(None, None);
    lab.fake.lock().least_ms = 3_000;
    lab.arm(2);
    assert_eq!(lab.stands(), Ok(3_000), "as read back");
    lab.feeder.turn();
    assert_eq!(lab.fake.dog().fed, 1);
    lab.protect(Some(BUDGET_MS));
    lab.feeder.turn();
    assert_eq!(lab.fake.dog().fed, 1, "there is no lease");
    lab.disarm();
    assert_eq!(lab.fake.dog().disarmed, 0, "something rests on it");
    assert_eq!(lab.stands(), Ok(3_000));
    lab.protect(None);
    lab.disarm();
    assert_eq!((lab.fake.dog().disarmed, lab.why().as_str()), (1, NOT_NEEDED));
    assert!(!lab.feeder.file.exists());
}

#[test]
fn what_cannot_be_counted_on_is_not_left_running() {
    let mut lab = Lab::new(None, None);
    lab.fake.lock().lacks = true;
    lab.arm(5);
    assert!(lab.why().contains("lacks something"));
    assert_eq!((lab.fake.dog().opened, lab.fake.dog().disarmed), (1, 1));
    lab.fake.lock().lacks = false;
    lab.fake.lock().irrevocable = true;
    lab.arm(5);
    assert!(lab.why().contains("nowayout"));
    assert_eq!(lab.fake.dog().opened, 1, "it could not be disarmed again");
    assert!(!lab.feeder.file.exists());
}

#[test]
fn with_its_time_over_a_device_is_not_taken_over() {
    let mut lab = Lab::new(Some(5_000), Some(BUDGET_MS));
    lab.feeder.turn();
    assert_eq!(lab.fake.dog().opened, 0, "opening it would feed it");
    lab.feeder.lease.extend(boottime_ms() + 60_000);
    lab.feeder.turn();
    assert_eq!((lab.fake.dog().opened, lab.stands()), (1, Ok(5_000)));
}

#[test]
fn a_device_that_lacks_something_is_not_disarmed_under_what_rests_on_it() {
    let mut lab = Lab::new(Some(5_000), Some(BUDGET_MS)).leased();
    lab.fake.lock().lacks = true;
    lab.feeder.turn();
    assert_eq!((lab.fake.dog().disarmed, lab.stands()), (0, Ok(5_000)));
}

#[test]
fn who_orders_it_armed_hears_also_that_it_is_being_taken_over() {
    let mut lab = Lab::new(Some(5_000), Some(BUDGET_MS)).leased();
    lab.fake.lock().busy = true;
    for _ in 0..3 {
        lab.feeder.turn();
    }
    assert!(lab.why().ends_with(" (process 7 has it)"), "{}", lab.why());
    assert_eq!(lab.fake.dog().looked_for_owner, 1, "not with each attempt");
    lab.standing.mark_unchanged();
    lab.arm(5);
    assert_eq!(lab.standing.has_changed().ok(), Some(true));
    lab.fake.lock().busy = false;
    lab.feeder.turn();
    assert_eq!(lab.stands(), Ok(5_000));
    lab.standing.mark_unchanged();
    lab.arm(9);
    assert_eq!(lab.standing.has_changed().ok(), Some(true), "and that it runs");
    assert_eq!(lab.stands(), Ok(5_000));
}

#[test]
fn a_timeout_that_somebody_made_longer_is_shortened_or_what_rests_on_it_given_up() {
    let mut lab = Lab::new(Some(5_000), Some(BUDGET_MS)).leased();
    lab.fake.lock().timeout_ms = 60_000;
    lab.feeder.turn();
    assert_eq!((lab.fake.dog().timeout_ms, lab.stands()), (5_000, Ok(5_000)));
    let mut lab = Lab::new(Some(5_000), Some(BUDGET_MS)).leased();
    lab.fake.lock().timeout_ms = 60_000;
    lab.fake.lock().least_ms = 60_000;
    for _ in 0..2 {
        lab.feeder.turn();
    }
    assert!(lab.why().contains("was changed to: 60000 ms"), "{}", lab.why());
    assert_eq!((lab.fake.dog().fed, lab.fake.dog().disarmed), (0, 0));
    // Once nothing rests on it, the node need not be reset, and it can be armed anew.
    lab.protect(None);
    lab.feeder.turn();
    assert_eq!((lab.fake.dog().disarmed, lab.why().as_str()), (1, NOT_NEEDED));
    lab.arm(60);
    lab.feeder.turn();
    assert_eq!((lab.fake.dog().fed, lab.stands()), (1, Ok(60_000)));
}

#[test]
fn who_stood_still_for_longer_than_a_lease_says_that_it_is_fed_no_more() {
    let mut lab = Lab::new(Some(1_000), Some(BUDGET_MS));
    lab.feeder.lease.extend(boottime_ms() + 20);
    lab.feeder.turn();
    assert_eq!(lab.stands(), Ok(1_000));
    // A quarter of the timeout, a lease, and some.
    thread::sleep(Duration::from_millis(350));
    lab.feeder.turn();
    assert!(lab.why().contains("stood still"), "{}", lab.why());
    assert_eq!(lab.fake.dog().fed, 0);
}

#[test]
fn a_look_says_what_the_device_is_set_to_by_then() {
    let mut lab = Lab::new(None, None);
    lab.arm(5);
    assert_eq!(lab.feeder.check().reset_ms(), Some(10_000));
    lab.fake.lock().timeout_ms = 20_000;
    assert_eq!(lab.feeder.check().reset_ms(), Some(40_000));
    lab.feeder.judge.give_up();
    assert_eq!(lab.feeder.check().reset_ms(), None);
}
