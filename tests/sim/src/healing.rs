//! After the blows: everything works again, and from then on all goals are reached; and an orderly end of it all.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use policy::Replicas;

use crate::daemon::Daemon;
use crate::kinds::LATENCY_MS;
use crate::machine::Doing;
use crate::operator;
use crate::shell::lock;
use crate::store::Store;
use crate::world::World;

/// Until a mended cluster runs its units, in time of the world. The longest wait in the protocol is the quarantine after a
/// fence attempt that hung, and then come a few elections, leases and stops.
const MENDING_MS: u64 = 90_000;
/// What operators asked before the mending has been recorded or given up by then.
const LAST_WISHES_MS: u64 = 7_000;
/// Copies of a clustered service that wait for those that have gone do so for ever: an operator looks for so long.
const HAND_MS: u64 = 12_000;
/// How often nodes that fell silent since are forgiven.
const FORGIVE_MS: u64 = 20_000;
/// Until all has stopped in a drain, and until all is back after it.
const DRAIN_MS: u64 = 40_000;

impl World {
    /// Everything works again; from here on all goals must be reached.
    pub(crate) fn mend(&mut self) {
        self.say("everything is mended");
        self.net.mend();
        let (low, high) = LATENCY_MS;
        self.net.set_latency(low, high);
        self.switch.mend();
        for at in 0..self.sites.len() {
            self.sites[at].slow.store(0, Ordering::Relaxed);
            self.sites[at].cut_at = None;
            if lock(&self.sites[at].machine).paused_until > self.now {
                lock(&self.sites[at].machine).paused_until = self.now;
                self.sites[at].still_until = self.now;
            }
            if !lock(&self.sites[at].machine).powered {
                self.sites[at].power_at = Some(self.now + self.rng.between(100, 3_000));
            } else if self.sites[at].daemon.is_none() {
                self.sites[at].restart_at = Some(self.now + 100);
            }
        }
        let done = Arc::new(AtomicBool::new(false));
        let begun = self.now;
        let mut asked = None;
        let (mut stuck_since, mut forgiven) = (None, None);
        loop {
            for at in 0..self.sites.len() {
                // Whatever was fenced is switched on again by hand.
                let machine = lock(&self.sites[at].machine).powered;
                if !machine && self.sites[at].power_at.is_none() {
                    self.sites[at].power_at = Some(self.now + 1_000);
                }
            }
            // Asked by a daemon that lives; another asks again if that one is gone.
            let due = asked.map_or(begun + LAST_WISHES_MS, |at: u64| at + 8_000);
            if !done.load(Ordering::Relaxed) && self.now > due {
                let at = self.rng.below(self.sites.len() as u64) as usize;
                if let Some(daemon) = &self.sites[at].daemon {
                    let nodes = self.sites.iter().filter_map(|site| site.node).collect();
                    let units = self.units.keys().cloned().collect();
                    let ledger = self.ledger.clone();
                    let client = format!("mender {}", self.now);
                    daemon.spawn(operator::tidy(
                        daemon.asker.clone(),
                        client,
                        nodes,
                        units,
                        ledger,
                        done.clone(),
                    ));
                    asked = Some(self.now);
                }
            }
            if done.load(Ordering::Relaxed) {
                self.lend_a_hand(&mut stuck_since);
                if self.now - *forgiven.get_or_insert(self.now) >= FORGIVE_MS {
                    forgiven = None;
                    self.forgive();
                }
            }
            self.step();
            if self.broken.is_some() || done.load(Ordering::Relaxed) && self.is_well() {
                return;
            }
            if self.now > begun + MENDING_MS {
                let state = self.picture();
                return self.fail(format!(
                    "L1: not all goals are reached {MENDING_MS} ms after the mending: {state}"
                ));
            }
        }
    }

    /// Most members of a clustered service died at once, and the rest waits for them: no clause promises that this ends by
    /// itself. Somebody stops and starts the service, and then it comes up from its data.
    fn lend_a_hand(&mut self, stuck_since: &mut Option<u64>) {
        let Some(store) = &self.store else { return };
        if !store.waits_for_ever() {
            *stuck_since = None;
            return;
        }
        if self.now < *stuck_since.get_or_insert(self.now) + HAND_MS {
            return;
        }
        *stuck_since = None;
        self.say("the copies of the clustered service wait for ever: somebody stops and starts it");
        let client = format!("hand {}", self.now);
        if let Some(daemon) = self.a_daemon() {
            daemon.spawn(operator::restart(daemon.asker.clone(), client));
        }
    }

    fn a_daemon(&self) -> Option<&Daemon> {
        self.sites.iter().find_map(|site| site.daemon.as_ref())
    }

    /// A fence that hung may strike after the tidying, and who is held back for that stays so for longer than a mending may
    /// take.
    fn forgive(&self) {
        let nodes = self.sites.iter().filter_map(|site| site.node).collect();
        let client = format!("forgiver {}", self.now);
        if let Some(daemon) = self.a_daemon() {
            daemon.spawn(operator::forgive(daemon.asker.clone(), client, nodes));
        }
    }

    /// The whole cluster is drained, and comes back. What needs another unit stops before it.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.set_drained(true);
        self.wait(DRAIN_MS, "a drained cluster still runs something", |world| {
            world.sites.iter().all(|site| lock(&site.machine).units.values().all(|unit| !unit.alive))
        });
        self.draining = false;
        self.set_drained(false);
        self.wait(DRAIN_MS, "L1: not all is back after a drain", Self::is_well);
    }

    fn set_drained(&mut self, drained: bool) {
        self.say(&format!("the cluster is to be drained: {drained}"));
        let client = format!("drainer {}", self.now);
        if let Some(daemon) = self.a_daemon() {
            daemon.spawn(operator::drain(daemon.asker.clone(), client, drained));
        }
    }

    fn wait(&mut self, limit_ms: u64, otherwise: &str, is_reached: impl Fn(&Self) -> bool) {
        let until = self.now + limit_ms;
        while self.broken.is_none() && !is_reached(self) {
            if self.now > until {
                let state = self.picture();
                return self.fail(format!("{otherwise}: {state}"));
            }
            self.step();
        }
    }

    /// The machines that run units.
    pub(crate) fn runners(&self) -> impl Iterator<Item = usize> {
        let witness = self.kinds.witness();
        (0..self.sites.len()).filter(move |at| Some(*at) != witness)
    }

    /// Whether every goal is reached: machines up, and every unit where and as often as it should be.
    pub(crate) fn is_well(&self) -> bool {
        if !self.formed.is_done() {
            return false;
        }
        let up = self.sites.iter().all(|site| {
            let machine = lock(&site.machine);
            machine.powered && machine.paused_until <= self.now && site.daemon.is_some()
        });
        let whole = |store: &Store| self.runners().all(|at| store.is_live(at));
        let up = up && self.store.as_ref().is_none_or(whole);
        up && self.units.iter().all(|(name, definition)| {
            let copies = self.sites.iter().filter(|site| {
                lock(&site.machine).units.get(name).is_some_and(|unit| unit.doing == Doing::Up)
            });
            match definition.replicas {
                Replicas::Count(count) => copies.count() == count as usize,
                Replicas::All => copies.count() == self.runners().count(),
            }
        })
    }

    /// What can be seen of it all, for a failure.
    pub(crate) fn picture(&self) -> String {
        let mut text = String::new();
        for (at, site) in self.sites.iter().enumerate() {
            let machine = lock(&site.machine);
            let power = if machine.powered { "on" } else { "off" };
            let _ = write!(text, "n{} {power} daemon={}", at + 1, site.daemon.is_some());
            for (name, unit) in &machine.units {
                let permit = machine.permits.get(name).map(|permit| permit.token.0);
                let _ = write!(text, " {name}={:?}/{permit:?}", unit.doing);
            }
            text.push_str("; ");
        }
        let ledger = self.ledger.lock();
        let _ = write!(text, "applied {:?}; {}", ledger.applied, ledger.reasons());
        text
    }
}
