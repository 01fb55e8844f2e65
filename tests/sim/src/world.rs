//! One simulated cluster from its founding to its end: forms it, breaks it for a while, mends it, and judges all the time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bridge::net::{Book, BookEntry};
use bridge::session::Asker;
use policy::{Definition, Fencing, Replicas, Settings, UnitName, Wish};

use crate::clock;
use crate::daemon::{Daemon, Place};
use crate::flaw::Flaw;
use crate::ledger::Ledger;
use crate::machine::Doing;
use crate::net::Net;
use crate::operator::{self, Formed};
use crate::power::{Fences, Quirk, Switch};
use crate::rng::Rng;
use crate::shell::lock;
use crate::site::{BOOT_MS, Site, units};
use crate::wire::{CLUSTER, address};

/// One step of the world. Latencies are of this order, and shorter than every time that matters.
const STEP_MS: u64 = 5;
/// Until a new cluster runs its units, and until a mended one does, in time of the world. The longest wait in the protocol
/// is the quarantine after a fence attempt that hung, and then come a few elections, leases and stops.
const FORMING_MS: u64 = 60_000;
const MENDING_MS: u64 = 90_000;
/// What operators asked before the mending has been recorded or given up by then.
const LAST_WISHES_MS: u64 = 7_000;
/// A quarantine that fits into a simulation.
const QUARANTINE_MS: u64 = 12_000;

/// What came of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What went wrong first, and when.
    pub broken: Option<String>,
    /// A sum over everything that happened: equal for equal runs.
    pub trace: u64,
    /// How long it took, in milliseconds of the simulated world.
    pub simulated_ms: u64,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) net: Net,
    pub(crate) switch: Switch,
    pub(crate) ledger: Ledger,
    pub(crate) sites: Vec<Site>,
    pub(crate) units: BTreeMap<UnitName, Definition>,
    pub(crate) formed: Formed,
    pub(crate) settings: Settings,
    fences: Fences,
    flaw: Option<Flaw>,
    broken: Option<String>,
    trace: u64,
    verbose: bool,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        fences: Fences,
        flaw: Option<Flaw>,
        root: &std::path::Path,
        verbose: bool,
    ) -> Self {
        let mut rng = Rng::new(seed);
        let machines = if rng.percent(70) { 3 } else { 5 };
        let whim = Rng::new(seed ^ 0x0ddf_a11e);
        let switch = Switch::new(machines, fences.quirk, flaw, rng.fork(), whim);
        let units = units(&mut rng);
        let sites = (0..machines).map(|at| Site::new(at, &mut rng, &units, flaw, root)).collect();
        let world = Self::of(rng, switch, units, sites);
        Self { fences, flaw, trace: seed, verbose, ..world }
    }

    /// These machines, none of which has power yet.
    pub(crate) fn of(
        mut rng: Rng,
        switch: Switch,
        units: BTreeMap<UnitName, Definition>,
        sites: Vec<Site>,
    ) -> Self {
        Self {
            now: 0,
            net: Net::new(rng.fork()),
            switch,
            ledger: Ledger::default(),
            sites,
            units,
            formed: Formed::default(),
            settings: Settings { quarantine_ms: QUARANTINE_MS, ..Settings::default() },
            fences: Fences::PLAIN,
            flaw: None,
            broken: None,
            trace: 0,
            verbose: false,
            rng,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self, seed: u64) -> Outcome {
        if let Fences { quirk: Some(quirk), levels } = self.fences {
            self.say(&format!("the first of {levels} fence devices: {quirk:?}"));
        }
        self.form();
        if self.broken.is_none() {
            let chaos = self.now + self.rng.between(15_000, 35_000);
            let mut next = self.now + 200;
            while self.now < chaos && self.broken.is_none() {
                if self.now >= next {
                    self.strike();
                    // Now and then it stays as bad as it is, for longer than any lease and stop.
                    let most = if self.rng.percent(8) { 9_000 } else { 1_800 };
                    next = self.now + self.rng.between(50, most);
                }
                self.step();
            }
        }
        if self.broken.is_none() {
            self.mend();
        }
        let applied = self.ledger.lock().applied.clone();
        for (machine, index) in applied {
            self.note(machine as u64 ^ index << 8);
        }
        Outcome { seed, broken: self.broken, trace: self.trace, simulated_ms: self.now }
    }

    fn form(&mut self) {
        let names = (1..self.sites.len()).map(|at| (format!("n{}", at + 1), address(at).to_string()));
        let plan = operator::Plan {
            machines: names.collect(),
            settings: self.settings.clone(),
            levels: self.fences.levels,
            units: self.units.keys().cloned().collect(),
        };
        self.form_by(|asker, formed| Box::pin(operator::form(asker, plan, formed)));
    }

    /// Forms the cluster as an operator at the first machine wants it.
    pub(crate) fn form_by(&mut self, task: impl FnOnce(Asker, Formed) -> operator::Task) {
        self.sites[0].node = Some(bridge::init::FIRST_NODE);
        self.power_on(0);
        if let Some(daemon) = &self.sites[0].daemon {
            daemon.spawn(task(daemon.asker.clone(), self.formed.clone()));
        }
        while self.broken.is_none() && !self.is_well() {
            let joined = self.formed.joined();
            for (at, node) in joined {
                if self.sites[at].node.is_none() {
                    self.sites[at].node = Some(node);
                    self.power_on(at);
                }
            }
            if self.now > FORMING_MS {
                let state = self.picture();
                self.fail(format!("the cluster does not form: {state}"));
            }
            self.step();
        }
    }

    /// Everything works again; from here on all goals must be reached.
    fn mend(&mut self) {
        self.say("everything is mended");
        self.net.mend();
        self.net.set_latency(1, 4);
        self.switch.mend();
        for at in 0..self.sites.len() {
            self.sites[at].slow.store(0, Ordering::Relaxed);
            lock(&self.sites[at].machine).paused_until = 0;
            if !lock(&self.sites[at].machine).powered {
                self.sites[at].power_at = Some(self.now + self.rng.between(100, 3_000));
            } else if self.sites[at].daemon.is_none() {
                self.sites[at].restart_at = Some(self.now + 100);
            }
        }
        let done = Arc::new(AtomicBool::new(false));
        let begun = self.now;
        let mut asked = None;
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

    /// Whether a device says off of machines that it has not switched off: then a unit may run twice.
    pub(crate) fn has_a_liar(&self) -> bool {
        self.fences.quirk == Some(Quirk::Lies)
    }

    /// Whether a unit rests on leases alone: then nobody may stop the daemon, or the clocks, for long (F8).
    pub(crate) fn rests_on_leases(&self) -> bool {
        self.units.values().any(|definition| definition.fencing == Fencing::Lease)
    }

    /// Lets one step pass.
    pub(crate) fn step(&mut self) {
        self.now += STEP_MS;
        clock::set_world(Duration::from_millis(self.now));
        for at in self.switch.step(self.now) {
            self.say(&format!("n{} is switched off by the device", at + 1));
            self.power_off(at);
        }
        for at in 0..self.sites.len() {
            if self.sites[at].power_at.is_some_and(|due| due <= self.now) {
                self.power_on(at);
            }
            if self.sites[at].restart_at.is_some_and(|due| due <= self.now) {
                self.start_daemon(at);
            }
            let ended = lock(&self.sites[at].machine).daemon_ended.take();
            if let Some(why) = ended.filter(|_| self.sites[at].daemon.is_some()) {
                self.say(&format!("the daemon of n{} ends: {why}", at + 1));
                self.kill_daemon(at);
                self.sites[at].restart_at = Some(self.now + 1_000);
            }
            let reboot = lock(&self.sites[at].machine).must_reboot.take();
            if let Some(why) = reboot {
                self.say(&format!("n{} takes itself down: {why}", at + 1));
                self.power_off(at);
                self.sites[at].power_at = Some(self.now + 1_500);
            }
        }
        self.net.step(self.now);
        for at in 0..self.sites.len() {
            self.run_machine(at);
        }
        self.judge();
    }

    fn run_machine(&mut self, at: usize) {
        let now = self.now;
        let site = &mut self.sites[at];
        {
            let machine = lock(&site.machine);
            if !machine.powered {
                return;
            }
            if machine.paused_until > now {
                site.lost_ms += STEP_MS;
                drop(machine);
                self.net.set_listening(at, false);
                return;
            }
        }
        self.net.set_listening(at, true);
        let up = (now - site.booted_at - site.lost_ms) as i64;
        let local = (up + up * site.gain / 1_000_000) as u64 + BOOT_MS;
        let passed = local - site.local;
        site.local = local;
        lock(&site.machine).step(local);
        if let Some(daemon) = &mut site.daemon {
            daemon.step(passed, Duration::from_millis(site.slept_ms));
        }
    }

    pub(crate) fn power_on(&mut self, at: usize) {
        self.sites[at].power_at = None;
        if lock(&self.sites[at].machine).powered {
            return;
        }
        self.say(&format!("n{} boots", at + 1));
        let site = &mut self.sites[at];
        {
            let mut machine = lock(&site.machine);
            machine.powered = true;
            machine.boots += 1;
            machine.paused_until = 0;
        }
        (site.booted_at, site.lost_ms, site.slept_ms, site.local) = (self.now, 0, 0, BOOT_MS);
        // /run is empty after a boot.
        drop(std::fs::remove_dir_all(site.paths.run_dir()));
        self.switch.set_plug(at, true);
        self.net.set_listening(at, true);
        self.start_daemon(at);
    }

    pub(crate) fn power_off(&mut self, at: usize) {
        // First its network: nothing of it says good-bye.
        self.net.forget(at);
        self.net.set_listening(at, false);
        self.switch.set_plug(at, false);
        let site = &mut self.sites[at];
        site.restart_at = None;
        site.daemon = None;
        site.disk.cut_power();
        lock(&site.machine).power_off();
    }

    pub(crate) fn kill_daemon(&mut self, at: usize) {
        self.sites[at].daemon = None;
    }

    fn start_daemon(&mut self, at: usize) {
        self.sites[at].restart_at = None;
        let Some(node) = self.sites[at].node else { return };
        if self.sites[at].daemon.is_some() || !lock(&self.sites[at].machine).powered {
            return;
        }
        let entries = self.sites.iter().enumerate().filter_map(|(other, site)| {
            let entry = BookEntry {
                name: format!("n{}", other + 1),
                addresses: vec![address(other)],
                voter: site.votes,
            };
            site.node.map(|node| (node, entry))
        });
        let site = &self.sites[at];
        drop(std::fs::create_dir_all(site.paths.run_dir()));
        drop(std::fs::create_dir_all(site.paths.state_dir()));
        if let Some(parent) = site.paths.peers_file().parent() {
            drop(std::fs::create_dir_all(parent));
        }
        let found = Wish::Found {
            cluster: CLUSTER.to_string(),
            name: "sim".to_owned(),
            generation: 0,
            node: policy::NodeId(node),
            node_name: format!("n{}", at + 1),
            addresses: vec![address(at).to_string()],
            machine: format!("machine of n{}", at + 1),
        };
        let place = Place {
            machine: at,
            node,
            votes: site.votes,
            paths: site.paths.clone(),
            book: Book::of(entries),
            disk: site.disk.clone(),
            settings: self.settings.clone(),
            shared: site.machine.clone(),
            net: self.net.clone(),
            ledger: self.ledger.clone(),
            switch: self.switch.clone(),
            flaw: self.flaw,
            found: (node == bridge::init::FIRST_NODE).then_some(found),
        };
        let begun = Duration::from_millis(site.local);
        self.sites[at].daemon = Some(Daemon::start(place, begun));
    }

    /// Whether every goal is reached: machines up, and every unit where and as often as it should be.
    fn is_well(&self) -> bool {
        if !self.formed.is_done() {
            return false;
        }
        let up = self.sites.iter().all(|site| {
            let machine = lock(&site.machine);
            machine.powered && machine.paused_until <= self.now && site.daemon.is_some()
        });
        up && self.units.iter().all(|(name, definition)| {
            let copies = self.sites.iter().filter(|site| {
                lock(&site.machine).units.get(name).is_some_and(|unit| unit.doing == Doing::Up)
            });
            match definition.replicas {
                Replicas::Count(count) => copies.count() == count as usize,
                Replicas::All => copies.count() == self.sites.len(),
            }
        })
    }

    /// What went wrong first, and when.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
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
        let _ = write!(text, "applied {:?}", self.ledger.lock().applied);
        text
    }

    pub(crate) fn fail(&mut self, wrong: String) {
        let at = format!("{}.{:03} s: {wrong}", self.now / 1_000, self.now % 1_000);
        self.say(&at);
        self.broken.get_or_insert(at);
    }

    pub(crate) fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    pub(crate) fn say(&self, what: &str) {
        if self.verbose {
            eprintln!("{:>7} ms  {what}", self.now);
        }
    }
}
