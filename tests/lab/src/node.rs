//! One node, as a test and a person see it: power, files, logs. Its commands are in `exec`.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::cgroup::Groups;
use crate::clock::wait_until;
use crate::machine;
use crate::net;
use crate::place::{NODE, Place, Wire, node_name};

/// A node of a lab. Cheap to clone; all clones are the same node.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) place: Arc<Place>,
    pub(crate) index: usize,
}

impl Node {
    /// Its number, from 1.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its host name: `n1`, …
    #[must_use]
    pub fn name(&self) -> String {
        node_name(self.index)
    }

    /// Its address in the data network.
    #[must_use]
    pub fn address(&self) -> String {
        self.place.address(Wire::Data, NODE + self.index)
    }

    /// Its address in the management network.
    #[must_use]
    pub fn management_address(&self) -> String {
        self.place.address(Wire::Management, NODE + self.index)
    }

    /// Powers on and waits until systemd has finished booting.
    pub fn boot(&self) -> Result<()> {
        self.power_on()?;
        self.wait_running(Duration::from_secs(60)).map(drop)
    }

    /// Powers on; comes back when PID 1 runs. On already: nothing happens.
    pub fn power_on(&self) -> Result<()> {
        machine::power_on(&self.place, self.index)
    }

    /// Takes the power away: the network is dead first, so that no peer gets a farewell, then all processes end at one
    /// instant. Files stay, as far as they were written by a system call.
    pub fn power_off(&self) -> Result<()> {
        machine::power_off(&self.place, self.index)
    }

    /// Off and on again, as the reset button does. Comes back when PID 1 runs.
    pub fn reset(&self) -> Result<()> {
        self.power_off()?;
        self.power_on()
    }

    /// Whether it has power.
    #[must_use]
    pub fn is_on(&self) -> bool {
        machine::is_on(&self.place, self.index)
    }

    /// Times (monotonic ns) at which it was powered on or began to boot again, oldest first.
    #[must_use]
    pub fn boots(&self) -> Vec<u64> {
        let text =
            fs::read_to_string(self.place.run().join(format!("boots-{}", self.name()))).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).collect()
    }

    /// Stops every process of it where it stands; the kernel still answers pings.
    pub fn freeze(&self) -> Result<()> {
        Groups::of(&self.place, self.index)?.freeze(true)
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) -> Result<()> {
        Groups::of(&self.place, self.index)?.freeze(false)
    }

    /// Pushes the power button: an orderly shutdown, then power off. Comes back when it is off.
    pub fn shutdown_cleanly(&self) -> Result<()> {
        // The signal that means `systemctl poweroff` to PID 1.
        self.run("kill -s RTMIN+4 1")?;
        let off = wait_until(Duration::from_secs(120), Duration::from_millis(5), || !self.is_on());
        ensure!(off, "{} does not shut down", self.name());
        Ok(())
    }

    /// An orderly reboot; comes back when the next boot has finished.
    pub fn reboot(&self) -> Result<()> {
        let before = self.boots().len();
        self.run("systemctl --no-block reboot")?;
        self.wait_boots(before + 1, Duration::from_secs(120))?;
        self.wait_running(Duration::from_secs(60)).map(drop)
    }

    /// Waits until it has begun `count` boots in all.
    pub fn wait_boots(&self, count: usize, timeout: Duration) -> Result<()> {
        let done = || self.boots().len() >= count && machine::leader(&self.place, self.index).is_some();
        ensure!(wait_until(timeout, Duration::from_millis(5), done), "{} does not boot again", self.name());
        Ok(())
    }

    /// Waits until systemd says that it is up: `running`, or `degraded` when a unit failed. The answer is that word.
    pub fn wait_running(&self, timeout: Duration) -> Result<String> {
        let begin = Instant::now();
        loop {
            let left = timeout.saturating_sub(begin.elapsed());
            // Blocks until the boot is over; before the manager listens it fails at once.
            let state = self
                .run_for("systemctl is-system-running --wait", left)
                .map(|o| o.stdout.trim().to_owned())
                .unwrap_or_default();
            if state == "running" || state == "degraded" {
                return Ok(state);
            }
            ensure!(begin.elapsed() < timeout, "{} is not up after {timeout:?}: `{state}`", self.name());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A fresh disk: all that was written since the lab began is lost. The node must be off.
    pub fn wipe(&self) -> Result<()> {
        ensure!(!self.is_on(), "{} is on", self.name());
        // The keeper may still be tidying up.
        let keeper = self.place.started(&format!("keeper-{}", self.name()));
        wait_until(Duration::from_secs(10), Duration::from_millis(2), || keeper.pid().is_none());
        let _lock = self.place.lock_node(self.index)?;
        machine::unmount(&self.place, self.index)?;
        for part in ["upper", "work"] {
            crate::host::remove_tree(&self.place.disk(self.index).join(part))?;
        }
        crate::lab::install(&self.place, self.index)
    }

    /// Writes a file, also while the node is off (then only below its disk: nothing in `/run` or `/tmp` remains).
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let opened = match self.open(path, flags) {
            Err(rustix::io::Errno::NOENT) => {
                let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
                let below = parent.strip_prefix("/").unwrap_or(parent);
                fs::create_dir_all(self.tree().join(below))
                    .with_context(|| format!("cannot make {path}'s folder"))?;
                self.open(path, flags)
            }
            other => other,
        };
        let file = opened.with_context(|| format!("{}: cannot write {path}", self.name()))?;
        File::from(file)
            .write_all(text.as_ref())
            .with_context(|| format!("{}: cannot write {path}", self.name()))
    }

    /// Reads a file, also while the node is off.
    pub fn read(&self, path: &str) -> Result<String> {
        let file = self
            .open(path, OFlags::RDONLY)
            .with_context(|| format!("{}: cannot read {path}", self.name()))?;
        text_of_file(File::from(file)).with_context(|| format!("{}: cannot read {path}", self.name()))
    }

    /// Its files as the node sees them, or its disk while it is off.
    fn tree(&self) -> std::path::PathBuf {
        machine::leader(&self.place, self.index)
            .map_or_else(|| self.place.root(self.index), |pid| format!("/proc/{pid}/root").into())
    }

    /// Opens a path of the node; no link in it leads out of the node.
    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // With no trailing slash the link /proc/PID/root itself would be refused.
        let tree = self.tree().join("");
        let root =
            rustix::fs::open(&tree, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let below = path.trim_start_matches('/');
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
        rustix::fs::openat2(root, below, flags | OFlags::CLOEXEC, mode, ResolveFlags::IN_ROOT)
    }

    /// Main process of a service, by its pid in the node.
    pub fn pid_of(&self, unit: &str) -> Result<u32> {
        let text = self.show(unit, "MainPID")?;
        let pid = text.parse().with_context(|| format!("`{text}` is no pid"))?;
        ensure!(pid != 0, "{}: {unit} has no main process", self.name());
        Ok(pid)
    }

    /// One property of a unit, as `systemctl show` prints it.
    pub fn show(&self, unit: &str, property: &str) -> Result<String> {
        self.run_ok(&format!("systemctl show --property={property} --value -- '{unit}'"))
    }

    /// The id of its present boot.
    pub fn boot_id(&self) -> Result<String> {
        Ok(self.read("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
    }

    /// The journal of a unit over all boots, or all of the journal for an empty name; also while the node is off.
    pub fn journal(&self, unit: &str) -> Result<String> {
        let mut args = "--directory=/var/log/journal --no-pager --output=short-monotonic --quiet".to_owned();
        if !unit.is_empty() {
            args.push_str(&format!(" --unit='{unit}'"));
        }
        if machine::leader(&self.place, self.index).is_some() {
            return self.run_ok(&format!("journalctl --sync; journalctl {args}"));
        }
        let args = args.replacen(
            "--directory=",
            &format!("--directory={}", self.place.root(self.index).display()),
            1,
        );
        crate::host::call("sh", &["-c", &format!("journalctl {args}")])
    }

    /// All that it printed to its console, over all boots.
    #[must_use]
    pub fn console(&self) -> String {
        fs::read(self.place.console(self.index))
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    /// Limits its data cable in both directions, in kbit/s; it must be on, and a power cycle lifts the limit.
    pub fn slow_link(&self, kbit: Option<u32>) -> Result<()> {
        net::slow(&self.place, self.index, kbit)
    }
}

fn text_of_file(mut file: File) -> Result<String> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
