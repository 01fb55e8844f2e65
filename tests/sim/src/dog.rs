//! A machine's watchdog: the device, which counts the time of the world whatever the machine does, and the product's feeder,
//! which a task wakes here in the place of its thread.

use std::io;
use std::path::Path;
use std::time::Duration;

use bridge::watchdog::{Device, DeviceError, Feeding, Hardware, Setting};
use tokio::time::{Instant, sleep};

use crate::machine::Machine;
use crate::shell::{Shared, lock};

/// What the nodes ask for. A reset that others wait for then fits into a simulation.
const TIMEOUT_S: u32 = 1;
/// As drivers begin before they are told another one.
const FIRST_TIMEOUT_MS: u64 = 60_000;
/// Between two looks whether the feeder was ordered something.
const POLL: Duration = Duration::from_millis(5);
/// For a feeder that has nothing to feed.
const REST: Duration = Duration::from_secs(3_600);
/// How much longer than it says one takes that a fault was put into.
const LATE: u64 = 30;

/// A watchdog that runs.
#[derive(Debug)]
pub(crate) struct Dog {
    timeout_ms: u64,
    fed_at: u64,
}

impl Dog {
    /// Whether it resets its machine now.
    pub(crate) fn bites(&self, now: u64, late: bool) -> bool {
        let timeout_ms = self.timeout_ms * if late { LATE } else { 1 };
        now >= self.fed_at + timeout_ms
    }
}

/// The device of each machine.
pub(crate) fn setting() -> Setting {
    Setting { device: "/dev/watchdog".into(), timeout_s: TIMEOUT_S }
}

/// The devices of one machine.
pub(crate) struct Kennel(pub(crate) Shared);

/// An open device. As the kernel does, its closing feeds it once more, whoever closes it.
struct Open {
    machine: Shared,
    disarmed: bool,
}

impl Open {
    fn with<T>(&self, body: impl FnOnce(&mut Dog) -> T) -> io::Result<T> {
        let mut machine = lock(&self.machine);
        machine.dog.as_mut().map(body).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn feed(machine: &mut Machine) {
    let now = machine.world;
    if let Some(dog) = &mut machine.dog {
        dog.fed_at = now;
    }
}

impl Hardware for Kennel {
    fn is_irrevocable(&self, _: &Path) -> bool {
        false
    }

    fn open(&self, _: &Path) -> Result<Box<dyn Device>, DeviceError> {
        let mut machine = lock(&self.0);
        let fed_at = machine.world;
        machine.dog.get_or_insert(Dog { timeout_ms: FIRST_TIMEOUT_MS, fed_at });
        feed(&mut machine);
        Ok(Box::new(Open { machine: self.0.clone(), disarmed: false }))
    }

    fn owner(&self) -> String {
        String::new()
    }
}

impl Device for Open {
    fn check(&self, _: &Path) -> Result<(), DeviceError> {
        Ok(())
    }

    fn set_timeout(&self, seconds: i32) -> io::Result<()> {
        self.with(|dog| dog.timeout_ms = u64::from(seconds.unsigned_abs()) * 1_000)
    }

    fn timeout_ms(&self) -> io::Result<u64> {
        self.with(|dog| dog.timeout_ms)
    }

    fn feed(&mut self) -> io::Result<()> {
        feed(&mut lock(&self.machine));
        Ok(())
    }

    fn disarm(mut self: Box<Self>) -> io::Result<()> {
        self.disarmed = true;
        lock(&self.machine).dog = None;
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.disarmed {
            feed(&mut lock(&self.machine));
        }
    }
}

/// Wakes the feeder when its thread would.
pub(crate) async fn keep(mut feeding: Feeding) {
    let mut due = Instant::now();
    loop {
        if feeding.obey() || Instant::now() >= due {
            due = Instant::now() + feeding.turn().unwrap_or(REST);
        }
        sleep(POLL).await;
    }
}
