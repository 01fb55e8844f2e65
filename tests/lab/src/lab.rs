//! A lab as a whole: brought up, attached to, taken down.
//!
//! An owned lab is the owner's for as long as the process lives: a lock says so, and what a killed owner leaves is
//! removed when its name is next used. A lab that is kept ([`Lab::keep`]) belongs to nobody and stays.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::array::{self, Array};
use crate::bmc::{self, Bmc};
use crate::cgroup::Groups;
use crate::hook::{self, PowerEvent};
use crate::host::{Lock, own_program, put, remove_tree, say};
use crate::image::{Image, Suite};
use crate::layer::{ExtraFile, Layer};
use crate::machine;
use crate::net;
use crate::node::Node;
use crate::pdu::Pdu;
use crate::place::{self, HOST, NodeRecord, Place, SERVICE, Wire, cache_dir, node_name};
use crate::redfish::{self, Redfish};
use crate::switch::Switch;
use crate::watchdog::{self, WatchdogEvent};
use crate::witness::Timeline;

/// How a lab is to be. Begin with `Options::default()`: three nodes with bookworm, power switches, nothing installed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Debian of each node; its length is the number of nodes, 89 at most.
    pub suites: Vec<Suite>,
    /// Package under test, installed in every node.
    pub deb: Option<PathBuf>,
    /// Debian's packages for every node, beyond those that each has anyway.
    pub packages: Vec<String>,
    /// More files for every node.
    pub extra: Vec<ExtraFile>,
    /// Whether a node that asks for a reboot gets one; else it stays off.
    pub reboots: bool,
    /// Whether each node has a power switch.
    pub bmc: bool,
    /// Whether each node has a watchdog, as `/dev/watchdog`.
    pub watchdog: bool,
    /// Whether there is a storage array, with a disk that all nodes have as `/dev/shared-disk`.
    pub array: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options::of(3, Suite::Bookworm)
    }
}

impl Options {
    /// `nodes` nodes with one Debian.
    #[must_use]
    pub fn of(nodes: usize, suite: Suite) -> Options {
        Options {
            suites: vec![suite; nodes],
            deb: None,
            packages: Vec::new(),
            extra: Vec::new(),
            reboots: true,
            bmc: true,
            watchdog: false,
            array: false,
        }
    }

    /// With a package installed.
    #[must_use]
    pub fn with_deb(mut self, deb: impl Into<PathBuf>) -> Options {
        self.deb = Some(deb.into());
        self
    }
}

/// Nodes, networks and power switches. Taken down when dropped, unless kept or only attached to.
pub struct Lab {
    pub(crate) place: Arc<Place>,
    owner: Option<Lock>,
}

impl Lab {
    /// Makes a lab, with all nodes still off. An earlier lab of this name is removed, if its owner is gone.
    pub fn new(name: &str, options: &Options) -> Result<Lab> {
        Place::check_name(name)?;
        ensure!(rustix::process::geteuid().is_root(), "the lab needs root");
        // Addresses from 101 on are those of the power switches.
        ensure!((1..90).contains(&options.suites.len()), "a lab has 1 to 89 nodes");
        let owner = Lock::take(&Place::owner_lock(name))?
            .with_context(|| format!("the lab `{name}` is in use by another process"))?;
        if let Ok(stale) = Place::load(name) {
            say(&format!("removing an earlier lab `{name}`"));
            take_down(&stale)?;
        }
        remove_tree(&Place::run_of(name))?;
        let mut layers: Vec<Layer> = Vec::new();
        let mut nodes = Vec::new();
        for &suite in &options.suites {
            if !layers.iter().any(|l| l.suite == suite) {
                let image = Image::of(suite, &options.packages)?;
                layers.push(Layer::of(&image, options.deb.as_deref(), &options.extra)?);
            }
            let lower = layers.iter().find(|l| l.suite == suite).map(|l| l.lower.clone()).unwrap_or_default();
            nodes.push(NodeRecord { suite, lower });
        }
        raise_limits();
        // A copy, as a build may replace the program while the lab is up.
        let program = Place::run_of(name).join("lab");
        fs::create_dir_all(Place::run_of(name))?;
        fs::copy(own_program("lab")?, &program).context("cannot copy the lab's program")?;
        let place = Arc::new(Place::create(place::Record {
            name: name.to_owned(),
            slot: 0,
            nodes,
            reboots: options.reboots,
            bmc: options.bmc,
            watchdog: options.watchdog,
            array: options.array,
            data: cache_dir().join("labs").join(name),
            program,
        })?);
        let lab = Lab { place, owner: Some(owner) };
        lab.build().inspect_err(|_| {
            let _ = take_down(&lab.place);
        })?;
        Ok(lab)
    }

    /// As [`new`](Self::new), and boots all nodes.
    pub fn booted(name: &str, options: &Options) -> Result<Lab> {
        let lab = Self::new(name, options)?;
        lab.boot_all()?;
        Ok(lab)
    }

    /// A lab that is up already; dropping this does nothing to it.
    pub fn attach(name: &str) -> Result<Lab> {
        Ok(Lab { place: Arc::new(Place::load(name)?), owner: None })
    }

    /// Names of all labs that are up, or were when their owner died.
    #[must_use]
    pub fn all() -> Vec<String> {
        Place::all()
    }

    fn build(&self) -> Result<()> {
        let place = &self.place;
        remove_tree(&place.record.data)?;
        for dir in [place.shared(), place.witness()] {
            fs::create_dir_all(&dir)?;
            // Services of any user write there.
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777))?;
        }
        net::down(place);
        net::up(place)?;
        if place.record.array {
            array::start(place)?;
        }
        for i in 1..=place.count() {
            install(place, i)?;
            if place.record.bmc {
                bmc::start(place, i)?;
            }
            if place.record.watchdog {
                watchdog::start(place, i)?;
            }
        }
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.place.record.name
    }

    /// Node `i`, from 1.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn node(&self, i: usize) -> Node {
        assert!((1..=self.place.count()).contains(&i), "this lab has no node {i}");
        Node { place: Arc::clone(&self.place), index: i }
    }

    /// A node by its name, as the cluster calls it.
    pub fn named(&self, name: &str) -> Result<Node> {
        self.nodes()
            .into_iter()
            .find(|n| n.name() == name)
            .with_context(|| format!("the lab `{}` has no node `{name}`", self.name()))
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        (1..=self.place.count()).map(|i| self.node(i)).collect()
    }

    /// The power switch of node `i`.
    #[must_use]
    pub fn bmc(&self, i: usize) -> Bmc {
        bmc::bmc(&self.place, self.node(i).index())
    }

    /// The Redfish service of node `i`'s controller. It is there once it is started.
    #[must_use]
    pub fn redfish(&self, i: usize) -> Redfish {
        Redfish::new(&self.place, self.node(i).index())
    }

    /// What happened to the watchdog of node `i`, oldest first.
    #[must_use]
    pub fn watchdog_events(&self, i: usize) -> Vec<WatchdogEvent> {
        watchdog::events(&self.place, self.node(i).index())
    }

    /// Power strip `feed`, from 1. It is there once it is started.
    #[must_use]
    pub fn pdu(&self, feed: usize) -> Pdu {
        Pdu::new(&self.place, feed)
    }

    /// The managed switch of the data network. It is there once it is started.
    #[must_use]
    pub fn switch(&self) -> Switch {
        Switch::new(&self.place)
    }

    /// The storage array, in a lab that has one.
    #[must_use]
    pub fn array(&self) -> Array {
        Array::new(&self.place)
    }

    /// All nodes have their paths to the shared disk again, and the array is quick.
    pub fn open_paths(&self) -> Result<()> {
        self.array().restore()
    }

    /// All ports of the managed switch are open again.
    pub fn open_ports(&self) -> Result<()> {
        self.switch().restore()
    }

    /// All outlets of all power strips have power and their own names again; nothing boots by it.
    pub fn restore_feeds(&self) {
        for feed in crate::pdu::feeds(&self.place) {
            self.pdu(feed).restore();
        }
    }

    /// Commands that reached the power switches, oldest first.
    #[must_use]
    pub fn power_events(&self) -> Vec<PowerEvent> {
        hook::events(&self.place)
    }

    /// Boots all nodes at once and waits until all have finished.
    pub fn boot_all(&self) -> Result<()> {
        self.each(Node::boot)
    }

    /// Takes the power of all nodes away at once.
    pub fn power_off_all(&self) -> Result<()> {
        self.each(Node::power_off)
    }

    /// Does something with all nodes at once; the first error, if any, when all are done.
    pub fn each(&self, work: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
        let nodes = self.nodes();
        std::thread::scope(|scope| {
            let threads: Vec<_> = nodes.iter().map(|n| scope.spawn(|| work(n))).collect();
            let results: Vec<Result<()>> = threads
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            results.into_iter().collect()
        })
    }

    /// A free address in the data network for a service, by number from 0 to 50. The prefix length is 24.
    #[must_use]
    pub fn service_address(&self, number: usize) -> String {
        assert!(number <= 50, "service addresses go from 0 to 50");
        self.place.address(Wire::Data, SERVICE + number)
    }

    /// The host's own address in the data network.
    #[must_use]
    pub fn host_address(&self) -> String {
        self.place.address(Wire::Data, HOST)
    }

    /// The folder on the host that all nodes see as `/shared`: their SAN.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        self.place.shared()
    }

    /// What the witness unit `unit` wrote (`witness` or `witness@NAME`).
    pub fn witness(&self, unit: &str) -> Result<Timeline> {
        Timeline::read(&self.place.witness().join(format!("{}.log", unit.trim_end_matches(".service"))))
    }

    /// Forgets what the witness units wrote. A running one goes on in a new file only after its restart, so stop it first.
    pub fn clear_witness(&self) -> Result<()> {
        for entry in fs::read_dir(self.place.witness())?.flatten() {
            fs::remove_file(entry.path())?;
        }
        Ok(())
    }

    /// Copies console logs and journals of all nodes to a folder; the answer is the folder.
    pub fn save_logs(&self) -> Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
        let dir = std::env::var_os("CONVOKE_LAB_LOGS")
            .map_or_else(|| target.join("lab-logs"), PathBuf::from)
            .join(self.name());
        remove_tree(&dir)?;
        for node in self.nodes() {
            put(&dir.join(format!("{}.console", node.name())), node.console())?;
            let journal = node.journal("").unwrap_or_else(|e| format!("no journal: {e:#}\n"));
            put(&dir.join(format!("{}.journal", node.name())), journal)?;
        }
        let _ = fs::copy(self.place.run().join("power.log"), dir.join("power.log"));
        Ok(dir.canonicalize()?)
    }

    /// Leaves the lab up for others to attach to.
    pub fn keep(mut self) {
        self.owner = None;
    }

    /// Takes a lab down that no living process owns; one of which nothing is left is fine.
    pub fn purge(name: &str) -> Result<()> {
        Place::check_name(name)?;
        let _owner = Lock::take(&Place::owner_lock(name))?
            .with_context(|| format!("the lab `{name}` is in use by another process"))?;
        match Place::load(name) {
            Ok(place) => take_down(&place)?,
            Err(_) => remove_tree(&Place::run_of(name))?,
        }
        forget_owner(name);
        Ok(())
    }

    /// Takes the lab down, owned or attached: nodes, network, power switches and disks.
    pub fn down(mut self) -> Result<()> {
        let _owner = match self.owner.take() {
            None => Lock::take(&Place::owner_lock(self.name()))?
                .with_context(|| format!("the lab `{}` is in use by another process", self.name()))?,
            Some(owner) => owner,
        };
        take_down(&self.place)?;
        forget_owner(self.name());
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owner.is_none() {
            return;
        }
        if std::thread::panicking() {
            match self.save_logs() {
                Ok(dir) => say(&format!("logs of the nodes: {}", dir.display())),
                Err(e) => say(&format!("cannot save the logs: {e:#}")),
            }
        }
        if std::env::var_os("CONVOKE_LAB_KEEP").is_some() {
            say(&format!("keeping the lab `{}`; end it with `lab purge {0}`", self.name()));
        } else if let Err(e) = take_down(&self.place) {
            say(&format!("cannot take the lab `{}` down: {e:#}", self.name()));
        } else {
            forget_owner(self.name());
        }
    }
}

/// Gives a node its disk, with the names and identities that are its own.
pub(crate) fn install(place: &Place, i: usize) -> Result<()> {
    machine::mount(place, i)?;
    let root = place.root(i);
    let name = node_name(i);
    let id = crate::host::digest(&[place.record.name.as_bytes(), name.as_bytes()])?;
    put(&root.join("etc/hostname"), format!("{name}\n"))?;
    put(&root.join("etc/machine-id"), format!("{id}{id}\n"))?;
    let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    hosts.push_str(&format!("{} lab-host\n", place.address(Wire::Data, HOST)));
    for k in 1..=place.count() {
        let n = node_name(k);
        hosts.push_str(&format!("{} {n}\n", place.address(Wire::Data, place::NODE + k)));
        hosts.push_str(&format!("{} {n}-mgmt\n", place.address(Wire::Management, place::NODE + k)));
        hosts.push_str(&format!("{} {n}-bmc\n", place.address(Wire::Management, place::BMC + k)));
    }
    put(&root.join("etc/hosts"), hosts)
}

/// Removes all of a lab. Goes on after an error, so that one stuck thing does not leave the rest behind.
fn take_down(place: &Place) -> Result<()> {
    let mut first: Result<()> = Ok(());
    let mut done = |r: Result<()>| {
        if first.is_ok() {
            first = r;
        }
    };
    done(crate::pdu::end_all(place));
    done(crate::switch::end(place));
    for i in 1..=place.count() {
        // The switches and watchdogs first, so that none of them powers a node on again.
        done(watchdog::end(place, i));
        done(place.started(&format!("bmc-{}", node_name(i))).end());
        done(redfish::end(place, i));
        done(place.started(&format!("late-off-{}", node_name(i))).end());
    }
    for i in 1..=place.count() {
        done(machine::power_off(place, i));
    }
    for i in 1..=place.count() {
        let keeper = place.started(&format!("keeper-{}", node_name(i)));
        // It ends by itself when it has tidied up.
        crate::clock::wait_until(
            std::time::Duration::from_secs(10),
            std::time::Duration::from_millis(2),
            || keeper.pid().is_none(),
        );
        done(keeper.end());
        if let Ok(groups) = Groups::of(place, i) {
            groups.remove();
            groups.remove_parents();
        }
        done(machine::unmount(place, i));
    }
    // With no node left that has it.
    done(array::end(place));
    net::down(place);
    // With a disk still mounted its removal would reach into the shared folders of others.
    first?;
    remove_tree(&place.record.data)?;
    remove_tree(&place.run())
}

/// Removes the lock of a lab that is gone. The caller has it.
fn forget_owner(name: &str) {
    let _ = fs::remove_file(Place::owner_lock(name));
}

/// Each systemd needs some inotify instances, and a host's default is for one.
fn raise_limits() {
    const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
    let now = fs::read_to_string(LIMIT).ok().and_then(|t| t.trim().parse::<u32>().ok());
    if now.is_some_and(|n| n < 8192) && fs::write(LIMIT, "8192").is_ok() {
        say("raised the host's fs.inotify.max_user_instances to 8192");
    }
}
