//! Control groups of a node: one in every hierarchy, so that nodes share nothing and end as one.
//!
//! `NODE/machine` has the container, `NODE/run` what a test runs in it. On a host with version 1 hierarchies the
//! empty version 2 one kills and freezes; systemd in the node sees version 2 only.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::clock::wait_until;
use crate::place::{Place, node_name};

/// The groups of one node.
pub(crate) struct Groups {
    /// In the version 2 hierarchy.
    v2: PathBuf,
    /// In version 1 hierarchies that a container would otherwise share with its neighbours.
    v1: Vec<PathBuf>,
}

impl Groups {
    pub(crate) fn of(place: &Place, i: usize) -> Result<Groups> {
        let (v2, v1) = hierarchies()?;
        let below = Path::new("convoke-lab").join(&place.record.name).join(node_name(i));
        Ok(Groups { v2: v2.join(&below), v1: v1.into_iter().map(|p| p.join(&below)).collect() })
    }

    /// Makes them; the answer is the files into which a shell writes its pid to become the node's container.
    pub(crate) fn create(&self) -> Result<Vec<String>> {
        fs::create_dir_all(self.v2.join("run"))?;
        let mut files = Vec::new();
        for group in self.v1.iter().chain([&self.v2]) {
            let machine = group.join("machine");
            fs::create_dir_all(&machine).with_context(|| format!("cannot make {}", machine.display()))?;
            files.push(machine.join("cgroup.procs").display().to_string());
        }
        Ok(files)
    }

    /// Where a process that a test runs in the node goes, so that it is frozen and killed with it.
    pub(crate) fn run_procs(&self) -> PathBuf {
        self.v2.join("run/cgroup.procs")
    }

    /// Whether the container has a process.
    pub(crate) fn machine_lives(&self) -> bool {
        populated(&self.v2.join("machine"))
    }

    pub(crate) fn lives(&self) -> bool {
        populated(&self.v2)
    }

    /// Ends every process at one instant and waits until they are gone.
    pub(crate) fn kill(&self) -> Result<()> {
        if !self.v2.exists() {
            return Ok(());
        }
        fs::write(self.v2.join("cgroup.kill"), "1").context("cgroup.kill")?;
        let gone = wait_until(Duration::from_secs(20), Duration::from_millis(1), || !self.lives());
        ensure!(gone, "processes in {} do not die", self.v2.display());
        Ok(())
    }

    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        fs::write(self.v2.join("cgroup.freeze"), if frozen { "1" } else { "0" }).context("cgroup.freeze")?;
        let word = format!("frozen {}", u8::from(frozen));
        let done = || fs::read_to_string(self.v2.join("cgroup.events")).is_ok_and(|t| t.contains(&word));
        ensure!(wait_until(Duration::from_secs(5), Duration::from_millis(1), done), "it does not freeze");
        Ok(())
    }

    /// Removes the groups with all below; they must be empty.
    pub(crate) fn remove(&self) {
        for group in self.v1.iter().chain([&self.v2]) {
            remove_below(group);
        }
    }

    /// Removes the lab's own groups, at its very end: while a neighbour boots they must stay.
    pub(crate) fn remove_parents(&self) {
        for group in self.v1.iter().chain([&self.v2]) {
            for parent in group.ancestors().skip(1).take(2) {
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

fn populated(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.events")).is_ok_and(|t| t.contains("populated 1"))
}

/// A dead process leaves its group a moment after it stopped to count, so a busy group is tried again.
fn remove_below(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for e in entries.flatten() {
        if e.file_type().is_ok_and(|t| t.is_dir()) {
            remove_below(&e.path());
        }
    }
    wait_until(Duration::from_millis(500), Duration::from_millis(2), || {
        fs::remove_dir(group).map_or_else(|e| e.kind() == std::io::ErrorKind::NotFound, |()| true)
    });
}

/// Mount points: of version 2, and of the version 1 hierarchies that need a group per node.
fn hierarchies() -> Result<(PathBuf, Vec<PathBuf>)> {
    let (mut v2, mut v1) = (None, Vec::new());
    for line in fs::read_to_string("/proc/self/mounts")?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, at, kind, options, ..] = fields[..] else { continue };
        match kind {
            "cgroup2" => v2 = v2.or(Some(PathBuf::from(at))),
            "cgroup" if options.split(',').any(|o| o == "name=systemd" || o == "pids") => v1.push(at.into()),
            _ => {}
        }
    }
    Ok((v2.context("no cgroup2 is mounted")?, v1))
}
