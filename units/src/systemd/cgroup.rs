//! Whether processes are left in a control group, and the killing of them.
//!
//! Reads the kernel's file system, never PID 1's memory of it. A group that does not exist is empty.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::error::Error;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// Processes named in a message to people; the others are counted.
const NAMED: usize = 5;
/// Between two looks whether a killed group is empty. The kernel needs about a millisecond per process.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// A process found in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number as this process sees it; 0 if it lives outside of what can be seen.
    pub pid: u32,
    /// The kernel's short name of it, empty when it went meanwhile.
    pub name: String,
}

/// The hierarchies in which systemd keeps units.
#[derive(Debug, Clone)]
pub struct Cgroups {
    /// cgroup v2, where `cgroup.events` tells.
    unified: Option<PathBuf>,
    /// `name=systemd` of cgroup v1, where only the processes themselves tell.
    named: Option<PathBuf>,
}

impl Cgroups {
    /// Finds the hierarchies: v2, both in one (hybrid), or v1.
    pub fn of_this_host() -> Self {
        Self::below(Path::new(MOUNT))
    }

    /// The same below another directory. Tests give a tree of their own.
    pub fn below(mount: &Path) -> Self {
        if mount.join("cgroup.controllers").exists() {
            return Self { unified: Some(mount.to_owned()), named: None };
        }
        let existing = |name: &str| Some(mount.join(name)).filter(|dir| dir.join("cgroup.procs").exists());
        Self { unified: existing("unified"), named: existing("systemd") }
    }

    /// Whether any hierarchy was found. If none was, nothing can be said about processes at all.
    pub fn is_usable(&self) -> bool {
        self.unified.is_some() || self.named.is_some()
    }

    /// Whether the group or one below it has a process.
    ///
    /// # Errors
    /// When the kernel's files cannot be read; then nobody knows.
    pub fn is_populated(&self, group: &str) -> io::Result<bool> {
        if !self.is_usable() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no control group hierarchy is mounted"));
        }
        if let Some(dir) = directory(self.unified.as_deref(), group)
            && let Some(events) = read_if_there(&dir.join("cgroup.events"))?
        {
            match events.lines().find_map(|line| line.strip_prefix("populated ")) {
                Some("0") => {}
                Some(_) => return Ok(true),
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "cgroup.events without `populated`",
                    ));
                }
            }
        }
        match directory(self.named.as_deref(), group) {
            Some(dir) => Ok(!pids_below(&dir)?.is_empty()),
            None => Ok(false),
        }
    }

    /// The processes in the group and below it.
    ///
    /// # Errors
    /// When the kernel's files cannot be read.
    pub fn processes(&self, group: &str) -> io::Result<Vec<Process>> {
        let mut pids = Vec::new();
        for root in [&self.unified, &self.named] {
            if let Some(dir) = directory(root.as_deref(), group) {
                pids.extend(pids_below(&dir)?);
            }
        }
        pids.sort_unstable();
        pids.dedup();
        let name =
            |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned();
        Ok(pids.into_iter().map(|pid| Process { pid, name: name(pid) }).collect())
    }

    /// Sends SIGKILL to everything in the group, at once where the kernel can (5.14), else one by one.
    ///
    /// # Errors
    /// When the group cannot be read. A process that went meanwhile is no error.
    pub fn kill(&self, group: &str) -> io::Result<()> {
        if let Some(dir) = directory(self.unified.as_deref(), group)
            && fs::write(dir.join("cgroup.kill"), "1").is_ok()
        {
            return Ok(());
        }
        self.signal(group, Signal::KILL)
    }

    /// Stops every process of the group where it stands (SIGSTOP). Of a frozen group none can be missed, for none can
    /// fork, and none goes on when the group is thawed.
    ///
    /// # Errors
    /// When the group cannot be read, or a process of it cannot be stopped.
    pub fn halt(&self, group: &str) -> io::Result<()> {
        self.signal(group, Signal::STOP)
    }

    /// One by one. A process that went meanwhile is no error.
    fn signal(&self, group: &str, signal: Signal) -> io::Result<()> {
        for process in self.processes(group)? {
            let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid
                && let Err(error) = kill_process(pid, signal)
                && error != rustix::io::Errno::SRCH
            {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Kills until the group is empty; false when something is left after `within` (a process in an
    /// uninterruptible wait survives every signal).
    ///
    /// # Errors
    /// When the group cannot be read.
    pub async fn kill_and_wait(&self, group: &str, within: Duration) -> Result<bool, Error> {
        let failed = |source| Error::Local { what: format!("cannot kill the control group {group}"), source };
        let end = Instant::now() + within;
        loop {
            if !self.is_populated(group).map_err(failed)? {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            self.kill(group).map_err(failed)?;
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// For people: how many processes are left, and who the first ones are.
    pub fn describe(&self, group: &str) -> String {
        match self.processes(group) {
            Err(error) => format!("processes left in {group} (they cannot be listed: {error})"),
            Ok(found) if found.is_empty() => format!("processes left in {group}"),
            Ok(found) => {
                let names: Vec<_> = found
                    .iter()
                    .take(NAMED)
                    .map(|process| format!("pid {} ({})", process.pid, process.name))
                    .collect();
                let more = if found.len() > NAMED { ", …" } else { "" };
                let noun = if found.len() == 1 { "process" } else { "processes" };
                format!("{} {noun} left in {group}: {}{more}", found.len(), names.join(", "))
            }
        }
    }
}

/// The group's directory. The root group is nobody's own, so it is never looked at, nor killed.
fn directory(root: Option<&Path>, group: &str) -> Option<PathBuf> {
    let relative = group.trim_matches('/');
    let climbs = relative.split('/').any(|part| part == "..");
    root.filter(|_| !relative.is_empty() && !climbs).map(|root| root.join(relative))
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A group may vanish between two looks: before the open (ENOENT), or between open and read (ENODEV).
fn is_absence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

fn pids_below(dir: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        match fs::read_to_string(dir.join("cgroup.procs")) {
            Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
            // A threaded group names its processes only in the group above it.
            Err(error) if is_absence(&error) || error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(error),
        }
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if is_absence(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => pending.push(entry.path()),
                Ok(_) => {}
                Err(error) if is_absence(&error) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, path: &str, populated: Option<u8>, pids: &str) {
        let dir = root.join(path);
        fs::create_dir_all(&dir).unwrap();
        if let Some(populated) = populated {
            fs::write(dir.join("cgroup.events"), format!("populated {populated}\nfrozen 0\n")).unwrap();
        }
        fs::write(dir.join("cgroup.procs"), pids).unwrap();
    }

    #[test]
    fn unified_groups_tell_by_their_events() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        group(root.path(), "system.slice/db.service", Some(1), "");
        group(root.path(), "system.slice/web.service", Some(0), "");
        let cgroups = Cgroups::below(root.path());
        assert!(cgroups.is_populated("/system.slice/db.service").unwrap());
        assert!(!cgroups.is_populated("/system.slice/web.service").unwrap());
        assert!(!cgroups.is_populated("/system.slice/gone.service").unwrap());
    }

    #[test]
    fn named_groups_tell_by_processes_at_any_depth() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "systemd", None, "");
        group(root.path(), "systemd/system.slice/db.service", None, "");
        group(root.path(), "systemd/system.slice/db.service/a/b", None, "4000000000\n4000000001\n");
        let cgroups = Cgroups::below(root.path());
        assert!(cgroups.is_populated("/system.slice/db.service").unwrap());
        assert!(!cgroups.is_populated("/system.slice/web.service").unwrap());
        assert_eq!(
            cgroups.describe("/system.slice/db.service"),
            "2 processes left in /system.slice/db.service: pid 4000000000 (), pid 4000000001 ()"
        );
    }

    #[test]
    fn hybrid_hosts_count_what_either_hierarchy_shows() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "systemd", None, "");
        group(root.path(), "unified", Some(1), "");
        group(root.path(), "unified/a.service", Some(0), "");
        group(root.path(), "systemd/a.service", None, "77\n");
        assert!(Cgroups::below(root.path()).is_populated("/a.service").unwrap());
    }

    #[test]
    fn what_is_halted_stands_still() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        group(root.path(), "a.service", Some(1), &format!("{}\n", child.id()));
        Cgroups::below(root.path()).halt("/a.service").unwrap();
        let state = || fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let begun = std::time::Instant::now();
        while !state().contains(") T ") && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(state().contains(") T "), "{}", state());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn without_a_hierarchy_nothing_is_called_empty() {
        let root = tempfile::tempdir().unwrap();
        assert!(Cgroups::below(root.path()).is_populated("/a.service").is_err());
    }

    #[test]
    fn the_root_group_is_never_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        let cgroups = Cgroups::below(root.path());
        cgroups.kill("/").unwrap();
        cgroups.kill("").unwrap();
        cgroups.kill("/../x").unwrap();
        assert!(!root.path().join("cgroup.kill").exists());
    }
}
