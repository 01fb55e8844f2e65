//! One simulated cluster from its founding to its end: forms it, breaks it for a while, mends it, and judges all the time.

use std::collections::BTreeMap;
use std::time::Duration;

use bridge::net::{Book, BookEntry};
use bridge::session::Asker;
use policy::{Definition, Fencing, Settings, UnitName, Wish};

use crate::clock;
use crate::daemon::{Daemon, Place};
use crate::flaw::Flaw;
use crate::kinds::Kinds;
use crate::ledger::Ledger;
use crate::net::Net;
use crate::operator::{self, Formed};
use crate::order::Order;
use crate::power::{Fences, Quirk, Switch};
use crate::rng::Rng;
use crate::shell::lock;
use crate::site::{BOOT_MS, Site};
use crate::store::{self, Seen, Store};
use crate::tamper::Tamper;
use crate::wire::{CLUSTER, address};

/// One step of the world. Latencies are of this order, and shorter than every time that matters.
const STEP_MS: u64 = 5;
/// Until a new cluster runs its units, in time of the world.
const FORMING_MS: u64 = 60_000;
/// Until a machine that was reset asks its watchdog for nothing any more, and boots.
const RESET_MS: u64 = 1_500;
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

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast {
    pub(crate) fences: Fences,
    pub(crate) kinds: Kinds,
    pub(crate) flaw: Option<Flaw>,
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
    pub(crate) kinds: Kinds,
    /// The clustered service.
    pub(crate) store: Option<Store>,
    /// When what others need was up.
    pub(crate) order: Order,
    /// Everything is stopped in order: nothing may run without what it needs.
    pub(crate) draining: bool,
    fences: Fences,
    flaw: Option<Flaw>,
    tamper: Option<Tamper>,
    pub(crate) broken: Option<String>,
    trace: u64,
    verbose: bool,
}

impl World {
    pub(crate) fn new(seed: u64, cast: Cast, root: &std::path::Path, verbose: bool) -> Self {
        let Cast { fences, kinds, flaw } = cast;
        let mut rng = Rng::new(seed);
        let machines = kinds.machines(if rng.percent(70) { 3 } else { 5 });
        let whim = Rng::new(seed ^ 0x0ddf_a11e);
        let switch = Switch::new(machines, fences.quirk, flaw, rng.fork(), whim);
        let units = kinds.units(&mut rng);
        let sites = (0..machines).map(|at| Site::new(at, &mut rng, &units, flaw, root)).collect();
        let world = Self::of(rng, switch, units, sites);
        if flaw == Some(Flaw::GrantUncommitted) {
            world.ledger.keep_state();
        }
        let tamper = Tamper::new(flaw, &world.ledger);
        let store = kinds.clustered.then(|| Store::new(machines, Rng::new(seed ^ 0x0ddd_a7a5)));
        Self { fences, kinds, flaw, tamper, store, trace: seed, verbose, ..world }
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
            tamper: None,
            sites,
            store: None,
            order: Order::of(&units),
            draining: false,
            units,
            kinds: Kinds::PLAIN,
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
            let (low, high) = self.kinds.latency_ms();
            self.net.set_latency(low, high);
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
        if self.broken.is_none() && self.kinds.ordered {
            self.drain();
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
            witness: self.kinds.witness(),
            clustered: self.kinds.clustered,
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
        while self.broken.is_none() && !(self.is_well() && self.all_vote()) {
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
        self.ledger.lock().group = None;
    }

    /// Whether all that are to be voters of Raft are: until then fewer are a quorum than the judge counts.
    fn all_vote(&self) -> bool {
        let (ledger, voters) = (self.ledger.lock(), self.sites.iter().filter(|site| site.votes).count());
        ledger.group.as_ref().is_some_and(|group| group.status().voters.len() == voters)
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
            if self.sites[at].cut_at.is_some_and(|due| due <= self.now) {
                self.sites[at].cut_at = None;
                self.power_off(at);
                self.sites[at].power_at = Some(self.now + self.rng.between(500, 6_000));
            }
            if self.is_bitten(at) {
                self.say(&format!("n{} is reset by its watchdog", at + 1));
                self.power_off(at);
                self.sites[at].power_at = Some(self.now + RESET_MS);
            }
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
        self.step_store();
        self.judge();
    }

    /// Whether a machine's watchdog resets it now, whatever the machine does.
    fn is_bitten(&self, at: usize) -> bool {
        let (now, late) = (self.now, self.flaw == Some(Flaw::WatchdogLate));
        let mut machine = lock(&self.sites[at].machine);
        machine.world = now;
        machine.dog.as_ref().is_some_and(|dog| dog.bites(now, late))
    }

    fn step_store(&mut self) {
        let Some(store) = &self.store else { return };
        let seen: Vec<Seen> =
            self.sites.iter().map(|site| Seen::of(&lock(&site.machine), self.now)).collect();
        for (at, up) in store.step(&seen, self.now, |a, b| self.net.is_open(a, b)) {
            lock(&self.sites[at].machine).comes(&store::name(), up);
        }
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
            tamper: self.tamper.clone(),
            store: self.store.clone(),
            watched: self.kinds.watched,
            found: (node == bridge::init::FIRST_NODE).then_some(found),
        };
        let begun = Duration::from_millis(site.local);
        self.sites[at].daemon = Some(Daemon::start(place, begun));
    }

    /// What went wrong first, and when.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
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
