//! Where everything of one lab is: its files, names and addresses, and the record that lets another process attach.
//!
//! Touches nothing but its own record. Two roots: `/run/convoke-lab/NAME` for what ends with the machine's boot, and
//! `CACHE/labs/NAME` for the disks of the nodes, which may be large.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::host::{Lock, Started, put};
use crate::image::Suite;

const RUN: &str = "/run/convoke-lab";
/// Each lab takes two of the 256 networks 10.78.x.0/24.
const SLOTS: u32 = 128;

/// Folder of images, layers and disks: `$CONVOKE_LAB_DIR`, else `/var/cache/convoke-lab`.
#[must_use]
pub fn cache_dir() -> PathBuf {
    std::env::var_os("CONVOKE_LAB_DIR").map_or_else(|| "/var/cache/convoke-lab".into(), PathBuf::from)
}

/// Removes all images, layers and disks. No lab may be up.
pub fn remove_cache() -> Result<()> {
    ensure!(Place::all().is_empty(), "labs are up: {}", Place::all().join(", "));
    crate::host::remove_tree(&cache_dir())
}

/// What is written down of a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) slot: u32,
    /// Per node: its Debian, and the lower folders of its disk, uppermost first.
    pub(crate) nodes: Vec<NodeRecord>,
    /// Whether a node that asks for a reboot gets one; else it stays off.
    pub(crate) reboots: bool,
    pub(crate) bmc: bool,
    /// Whether each node has a watchdog.
    pub(crate) watchdog: bool,
    /// Whether there is a storage array. One that was written down before there were any has none.
    #[serde(default)]
    pub(crate) array: bool,
    pub(crate) data: PathBuf,
    /// The `lab` program, run by the IPMI simulators and to keep the nodes.
    pub(crate) program: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) suite: Suite,
    pub(crate) lower: Vec<PathBuf>,
}

/// One lab's names.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) record: Record,
}

impl Place {
    pub(crate) fn run_of(name: &str) -> PathBuf {
        Path::new(RUN).join(name)
    }

    /// Lock of whoever owns the lab of this name. Outside of its folder, so that it survives the lab.
    pub(crate) fn owner_lock(name: &str) -> PathBuf {
        Path::new(RUN).join(format!(".{name}.owner"))
    }

    pub(crate) fn check_name(name: &str) -> Result<()> {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        ensure!(
            !name.is_empty() && name.len() <= 40 && name.chars().all(fine),
            "`{name}` is no name for a lab: letters, digits, - and _ only"
        );
        Ok(())
    }

    /// Names of all labs with a record.
    pub(crate) fn all() -> Vec<String> {
        let Ok(dir) = fs::read_dir(RUN) else { return Vec::new() };
        let mut names: Vec<String> = dir
            .flatten()
            .filter(|e| e.path().join("state.json").exists())
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn load(name: &str) -> Result<Place> {
        let path = Self::run_of(name).join("state.json");
        let text = fs::read_to_string(&path).with_context(|| format!("there is no lab `{name}`"))?;
        Ok(Place {
            record: serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?,
        })
    }

    /// Finds a free pair of networks for the record and writes it down.
    pub(crate) fn create(mut record: Record) -> Result<Place> {
        let _lock = Lock::wait(&Path::new(RUN).join(".slots"))?;
        let used: Vec<u32> =
            Self::all().iter().filter_map(|n| Self::load(n).ok()).map(|p| p.record.slot).collect();
        record.slot =
            (0..SLOTS).find(|s| !used.contains(s)).context("128 labs are up; purge some: `lab purge`")?;
        let place = Place { record };
        put(&place.run().join("state.json"), serde_json::to_string_pretty(&place.record)?)?;
        Ok(place)
    }

    pub(crate) fn run(&self) -> PathBuf {
        Self::run_of(&self.record.name)
    }

    pub(crate) fn count(&self) -> usize {
        self.record.nodes.len()
    }

    /// A background process of the lab.
    pub(crate) fn started(&self, what: &str) -> Started {
        Started::at(self.run().join("pid").join(what))
    }

    /// Serialises changes of power of a node.
    pub(crate) fn lock_node(&self, i: usize) -> Result<Lock> {
        Lock::wait(&self.run().join("lock").join(node_name(i)))
    }

    /// Whether the node's power switch is on: what was wished for, not what is.
    pub(crate) fn switched_on(&self, i: usize) -> bool {
        fs::read_to_string(self.run().join("switch").join(node_name(i))).is_ok_and(|t| t == "on")
    }

    pub(crate) fn switch(&self, i: usize, on: bool) -> Result<()> {
        put(&self.run().join("switch").join(node_name(i)), if on { "on" } else { "off" })
    }

    /// Folder with the disk of a node, its console log and its mounted root.
    pub(crate) fn disk(&self, i: usize) -> PathBuf {
        self.record.data.join(node_name(i))
    }

    pub(crate) fn root(&self, i: usize) -> PathBuf {
        self.disk(i).join("root")
    }

    pub(crate) fn console(&self, i: usize) -> PathBuf {
        self.disk(i).join("console.log")
    }

    pub(crate) fn shared(&self) -> PathBuf {
        self.record.data.join("shared")
    }

    pub(crate) fn witness(&self) -> PathBuf {
        self.record.data.join("witness")
    }

    /// Name of the container, its network namespace and the stem of its links: unique on this machine.
    pub(crate) fn machine(&self, i: usize) -> String {
        format!("cv{}n{i}", self.record.slot)
    }

    /// Host's end of a node's cable.
    pub(crate) fn link(&self, i: usize, net: Wire) -> String {
        format!("{}{}", self.machine(i), net.letter())
    }

    pub(crate) fn bridge(&self, net: Wire) -> String {
        format!("cv{}{}", self.record.slot, net.letter())
    }

    /// The nftables table of the lab.
    pub(crate) fn table(&self) -> String {
        format!("convoke_lab_{}", self.record.slot)
    }

    pub(crate) fn address(&self, net: Wire, host: usize) -> String {
        let third = self.record.slot * 2 + u32::from(net == Wire::Management);
        format!("10.78.{third}.{host}")
    }
}

/// The two networks of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// `host0` of the nodes: the cluster's own traffic and the service addresses.
    Data,
    /// `mgmt0` of the nodes: the power switches.
    Management,
}

impl Wire {
    pub(crate) fn letter(self) -> char {
        match self {
            Wire::Data => 'd',
            Wire::Management => 'm',
        }
    }
}

/// Last byte of the address of node `i` in both networks; its power switch is at [`BMC`]` + i`.
pub(crate) const NODE: usize = 10;
pub(crate) const BMC: usize = 100;
/// Power strip `k` is at this + `k`, in the management network.
pub(crate) const PDU: usize = 200;
/// The managed switch, in the management network.
pub(crate) const SWITCH: usize = 220;
/// The storage array, in the management network.
pub(crate) const ARRAY: usize = 221;
/// Addresses for services start here, in the data network.
pub(crate) const SERVICE: usize = 200;
pub(crate) const HOST: usize = 254;

pub(crate) fn node_name(i: usize) -> String {
    format!("n{i}")
}
