//! A machine's place in the world: its clocks, its disk and its power, and the units that all machines offer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bridge::paths::Paths;
use consensus::MemoryDisk;
use policy::{Definition, UnitName};

use crate::daemon::Daemon;
use crate::flaw::Flaw;
use crate::machine::Machine;
use crate::rng::Rng;
use crate::shell::{Shared, lock};

/// A machine, its place, and what the world knows of both.
pub(crate) struct Site {
    pub(crate) machine: Shared,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) disk: MemoryDisk,
    pub(crate) slow: Arc<AtomicU64>,
    pub(crate) node: Option<u64>,
    pub(crate) votes: bool,
    pub(crate) restart_at: Option<u64>,
    pub(crate) power_at: Option<u64>,
    /// When it loses its power with all others.
    pub(crate) cut_at: Option<u64>,
    /// Until when it stood still last.
    pub(crate) still_until: u64,
    /// Its clocks gain so many millionths.
    pub(crate) gain: i64,
    pub(crate) booted_at: u64,
    /// Time that it stood still since.
    pub(crate) lost_ms: u64,
    /// Part of it that CLOCK_BOOTTIME counts.
    pub(crate) slept_ms: u64,
    pub(crate) local: u64,
    /// When it could last have had a word of a quorum.
    pub(crate) quorum_at: u64,
    pub(crate) paths: Paths,
}

/// What a machine's clock shows when it boots.
pub(crate) const BOOT_MS: u64 = 10_000;

impl Site {
    pub(crate) fn new(
        at: usize,
        rng: &mut Rng,
        units: &BTreeMap<UnitName, Definition>,
        flaw: Option<Flaw>,
        root: &Path,
    ) -> Self {
        let mut machine = Machine::new(rng.fork());
        machine.gates_open = flaw == Some(Flaw::GateOpen);
        for (name, definition) in units {
            // What is started once has to be shut behind itself, not to be lucky.
            let restarts = rng.percent(50) || definition.assembly.is_some();
            machine.offer(name.as_str(), definition.clone(), restarts);
        }
        let slow = Arc::new(AtomicU64::new(0));
        let disk = MemoryDisk::new({
            let (slow, mut rng) = (slow.clone(), rng.fork());
            Box::new(move || {
                let most = 3 + slow.load(Ordering::Relaxed);
                let half = |rng: &mut Rng| Duration::from_millis(rng.between(0, most));
                (half(&mut rng), half(&mut rng))
            })
        });
        if flaw == Some(Flaw::DiskLies) {
            disk.lie();
        }
        Self {
            machine: Arc::new(Mutex::new(machine)),
            daemon: None,
            disk,
            slow,
            node: None,
            votes: true,
            restart_at: None,
            power_at: None,
            cut_at: None,
            still_until: 0,
            gain: rng.between(0, 8_000) as i64 - 4_000,
            booted_at: 0,
            lost_ms: 0,
            slept_ms: 0,
            local: BOOT_MS,
            quorum_at: 0,
            paths: Paths::below(root.join(format!("n{}", at + 1))),
        }
    }

    /// It stands still until then. A machine that sleeps counts that time on one of its clocks, a paused one on none.
    pub(crate) fn pause(&mut self, now: u64, ms: u64, sleeps: bool) {
        lock(&self.machine).paused_until = now + ms;
        self.still_until = now + ms;
        if sleeps {
            self.slept_ms += ms;
        }
    }
}
