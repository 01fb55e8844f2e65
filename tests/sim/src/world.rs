//! One simulated cluster from its founding to its end: forms it, breaks it for a while, mends it, and judges all the time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bridge::net::{Book, BookEntry};
use bridge::paths::Paths;
use consensus::MemoryDisk;
use policy::{Definition, Fencing, Replicas, Settings, UnitName, Wish};

use crate::clock;
use crate::daemon::{Daemon, Place};
use crate::flaw::Flaw;
use crate::ledger::Ledger;
use crate::machine::{Doing, Machine};
use crate::net::Net;
use crate::operator::{self, Formed};
use crate::panics;
use crate::power::{Mood, Switch};
use crate::rng::Rng;
use crate::shell::{Shared, lock};
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
    settings: Settings,
    flaw: Option<Flaw>,
    broken: Option<String>,
    trace: u64,
    verbose: bool,
}

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
    /// Its clocks gain so many millionths.
    gain: i64,
    booted_at: u64,
    /// Time that it stood still since.
    lost_ms: u64,
    /// Part of it that CLOCK_BOOTTIME counts.
    slept_ms: u64,
    local: u64,
    /// When it could last have had a word of a quorum.
    quorum_at: u64,
    paths: Paths,
}

impl World {
    pub(crate) fn new(seed: u64, flaw: Option<Flaw>, root: &std::path::Path, verbose: bool) -> Self {
        let mut rng = Rng::new(seed);
        let machines = if rng.percent(70) { 3 } else { 5 };
        let ledger = Ledger::default();
        let switch = Switch::new(machines, flaw, rng.fork());
        let units = units(&mut rng);
        let sites = (0..machines).map(|at| Site::new(at, &mut rng, &units, flaw, root)).collect();
        let settings = Settings { quarantine_ms: QUARANTINE_MS, ..Settings::default() };
        Self {
            now: 0,
            net: Net::new(rng.fork()),
            switch,
            ledger,
            sites,
            units,
            formed: Formed::default(),
            settings,
            flaw,
            broken: None,
            trace: seed,
            verbose,
            rng,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self, seed: u64) -> Outcome {
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
        self.sites[0].node = Some(bridge::init::FIRST_NODE);
        self.power_on(0);
        let names = (1..self.sites.len()).map(|at| (format!("n{}", at + 1), address(at).to_string()));
        let plan = operator::Plan {
            machines: names.collect(),
            settings: self.settings.clone(),
            units: self.units.keys().cloned().collect(),
        };
        self.in_daemon(0, |asker| {
            let formed = Formed::default();
            (formed.clone(), Box::pin(operator::form(asker, plan, formed)))
        });
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

    fn in_daemon(
        &mut self,
        at: usize,
        task: impl FnOnce(bridge::session::Asker) -> (Formed, operator::Task),
    ) {
        let Some(daemon) = &self.sites[at].daemon else { return };
        let (formed, task) = task(daemon.asker.clone());
        daemon.spawn(task);
        self.formed = formed;
    }

    /// Everything works again; from here on all goals must be reached.
    fn mend(&mut self) {
        self.say("everything is mended");
        self.net.mend();
        self.net.set_latency(1, 4);
        self.switch.set_mood(Mood::Works);
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

    fn judge(&mut self) {
        let mut wrong = {
            let mut ledger = self.ledger.lock();
            ledger.compare();
            ledger.broken()
        };
        wrong =
            wrong.or_else(|| panics::take().map(|what| format!("a task of the product panicked: {what}")));
        self.note_quorum();
        let births: Vec<_> = (0..self.sites.len())
            .flat_map(|at| {
                let births = std::mem::take(&mut lock(&self.sites[at].machine).births);
                births.into_iter().map(move |birth| (at, birth))
            })
            .collect();
        for (at, birth) in births {
            self.note(self.now ^ (at as u64) << 40 ^ birth.token.map_or(0, |token| token.0) << 20);
            self.say(&format!("n{} starts {} under {:?}", at + 1, birth.unit, birth.token));
            wrong = wrong.or_else(|| self.judge_birth(at, &birth));
        }
        for (name, _) in self.units.iter().filter(|(_, definition)| definition.is_exclusive()) {
            let on: Vec<String> = (0..self.sites.len())
                .filter(|at| {
                    let machine = lock(&self.sites[*at].machine);
                    machine.powered && machine.units.get(name).is_some_and(|unit| unit.alive)
                })
                .map(|at| format!("n{}", at + 1))
                .collect();
            if on.len() > 1 {
                wrong = wrong.or_else(|| Some(format!("S1: {name} runs on {}", on.join(" and "))));
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    fn judge_birth(&self, at: usize, birth: &crate::machine::Birth) -> Option<String> {
        let (unit, me) = (&birth.unit, format!("n{}", at + 1));
        let Some(token) = birth.token else {
            return Some(format!("S3: {unit} starts on {me} without a permit"));
        };
        if birth.restart {
            return None;
        }
        // A lease, its faster clock, and a start under way.
        let reach = self.settings.lease_ms() + self.settings.lease_ms() / 50 + 50;
        let quorum_at = self.sites[at].quorum_at;
        if self.now > quorum_at + reach {
            let ago = self.now - quorum_at;
            return Some(format!(
                "S3: {unit} starts on {me}, which was cut off from every quorum {ago} ms ago"
            ));
        }
        // Tokens carry the log's index below their generation.
        if self.ledger.lock().forbids(unit, token.0 & 0xffff_ffff_ffff) {
            return Some(format!("S6: {unit} starts on {me} though an operator's stop is recorded"));
        }
        None
    }

    /// Which machines may have a word of a quorum now: those that reach a majority of the voters, over whatever relays.
    fn note_quorum(&mut self) {
        let alive: Vec<bool> = self
            .sites
            .iter()
            .map(|site| site.daemon.is_some() && lock(&site.machine).paused_until <= self.now)
            .collect();
        let voters = self.sites.iter().filter(|site| site.votes && site.node.is_some()).count();
        for at in 0..self.sites.len() {
            if lock(&self.sites[at].machine).paused_until > self.now {
                // What stands still counts no time: a paused machine is the one that no lease holds.
                self.sites[at].quorum_at = self.now;
                continue;
            }
            let mut reached = vec![at];
            let mut looked = 0;
            while looked < reached.len() {
                let from = reached[looked];
                looked += 1;
                for (to, alive) in alive.iter().enumerate() {
                    if *alive && !reached.contains(&to) && self.net.is_open(from, to) {
                        reached.push(to);
                    }
                }
            }
            let heard = reached.iter().filter(|at| self.sites[**at].votes && alive[**at]).count();
            if 2 * heard > voters {
                self.sites[at].quorum_at = self.now;
            }
        }
    }

    /// What can be seen of it all, for a failure.
    fn picture(&self) -> String {
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

    fn fail(&mut self, wrong: String) {
        let at = format!("{}.{:03} s: {wrong}", self.now / 1_000, self.now % 1_000);
        self.say(&at);
        self.broken.get_or_insert(at);
    }

    fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    pub(crate) fn say(&self, what: &str) {
        if self.verbose {
            eprintln!("{:>7} ms  {what}", self.now);
        }
    }
}

/// What a machine's clock shows when it boots.
const BOOT_MS: u64 = 10_000;

impl Site {
    fn new(
        at: usize,
        rng: &mut Rng,
        units: &BTreeMap<UnitName, Definition>,
        flaw: Option<Flaw>,
        root: &std::path::Path,
    ) -> Self {
        let mut machine = Machine::new(rng.fork());
        machine.gates_open = flaw == Some(Flaw::GateOpen);
        for (name, definition) in units {
            let restarts = rng.percent(50);
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
        if sleeps {
            self.slept_ms += ms;
        }
    }
}

/// Units of all the kinds that the protocol tells apart.
fn units(rng: &mut Rng) -> BTreeMap<UnitName, Definition> {
    let exclusive = Definition { stickiness: Some(1), ..Definition::exclusive() };
    let mut units = BTreeMap::from([
        ("db.service".into(), Definition::exclusive()),
        ("ip.service".into(), exclusive),
        ("web.service".into(), Definition::replicated(Replicas::Count(2))),
    ]);
    if rng.percent(50) {
        units.insert("job.service".into(), Definition { fencing: Fencing::Lease, ..Definition::exclusive() });
    }
    units
}
