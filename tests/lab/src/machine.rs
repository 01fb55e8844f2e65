//! The power of a node: one container, on, off or booting again.
//!
//! Each "on" is one background process, the *keeper* (`lab keep`), which starts the container, waits for its end, and
//! starts it again if the node asked for a reboot. Whoever switches off writes the wish down first, so that the keeper
//! does not, and then kills the node's group. A lock per node orders all that: tests, people, power switches.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::array;
use crate::cgroup::Groups;
use crate::clock::{now_ns, wait_until};
use crate::host::{Lock, call};
use crate::net;
use crate::place::{Place, node_name};
use crate::watchdog;

/// What systemd-nspawn exits with when the node wants to boot again.
const REBOOT: i32 = 133;
const TICK: Duration = Duration::from_millis(2);

/// Joins the groups named before `--` and becomes the container.
const JOIN: &str = r#"while [ "$1" != -- ]; do echo $$ >"$1" || exit 1; shift; done; shift; exec "$@""#;

/// Switches a node on and waits until its PID 1 runs. On already: nothing happens.
pub(crate) fn power_on(place: &Place, i: usize) -> Result<()> {
    // A node that was just shutting itself down counts as on until it is off; then a second push is needed.
    for _ in 0..2 {
        if push_on(place, i)? {
            return Ok(());
        }
    }
    let tail = |name: &str| fs::read_to_string(place.disk(i).join(name)).unwrap_or_default();
    bail!("{} does not boot\n{}\n{}", node_name(i), tail("keeper.log"), tail("console.log"))
}

/// One push on the power button: whether PID 1 runs.
fn push_on(place: &Place, i: usize) -> Result<bool> {
    let keeper = place.started(&format!("keeper-{}", node_name(i)));
    let lock = lock_without_old_keeper(place, i)?;
    if keeper.pid().is_none() {
        mount(place, i)?;
        place.switch(i, true)?;
        let program = place.record.program.display().to_string();
        let argv = [program.as_str(), "keep", &place.record.name, &node_name(i)];
        keeper.start(&place.disk(i).join("keeper.log"), &argv)?;
    }
    drop(lock);
    wait_until(Duration::from_secs(20), TICK, || leader(place, i).is_some() || keeper.pid().is_none());
    Ok(leader(place, i).is_some())
}

/// Takes a node's power away: its network is silent first, then every process of it ends at one instant; its files stay.
pub(crate) fn power_off(place: &Place, i: usize) -> Result<()> {
    let _lock = place.lock_node(i)?;
    place.switch(i, false)?;
    net::silence(place, i);
    Groups::of(place, i)?.kill()
}

/// Whether the node has power. One that is between two boots of a reboot has.
pub(crate) fn is_on(place: &Place, i: usize) -> bool {
    let lives = Groups::of(place, i).is_ok_and(|g| g.machine_lives());
    lives || place.switched_on(i) && place.started(&format!("keeper-{}", node_name(i))).pid().is_some()
}

/// Host's pid of the node's PID 1.
pub(crate) fn leader(place: &Place, i: usize) -> Option<u32> {
    let nspawn = fs::read_to_string(place.run().join("pid").join(format!("nspawn-{}", node_name(i)))).ok()?;
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children.split_whitespace().filter_map(|p| p.parse().ok()).find(|pid: &u32| {
        // Its pid in its own namespace is 1; in ours it is another.
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|t| {
            let ids = t.lines().find_map(|l| l.strip_prefix("NSpid:")).unwrap_or("");
            ids.split_whitespace().count() > 1 && ids.ends_with("\t1")
        })
    })
}

/// The keeper's life: from "on" to "off". Runs in a process of its own.
pub(crate) fn keep(place: &Place, i: usize) -> Result<()> {
    let groups = Groups::of(place, i)?;
    loop {
        let lock = place.lock_node(i)?;
        if !place.switched_on(i) {
            return Ok(());
        }
        tidy(place, i, &groups)?;
        let mut container = start(place, i, &groups)?;
        drop(lock);
        let status = container.wait()?;
        // The keeper's stderr is its log.
        eprintln!("{} {} ended: {status}", now_ns(), node_name(i));

        let _lock = place.lock_node(i)?;
        // Commands that a test ran inside go with the node; their outer halves get a moment to report.
        wait_until(Duration::from_millis(100), TICK, || !groups.lives());
        tidy(place, i, &groups)?;
        if !(status.code() == Some(REBOOT) && place.record.reboots && place.switched_on(i)) {
            return place.switch(i, false);
        }
    }
}

/// Unmounts a node's disk; the node is off.
pub(crate) fn unmount(place: &Place, i: usize) -> Result<()> {
    let root = place.root(i);
    if is_mounted(place, i)? {
        call("umount", &[&root.display().to_string()])?;
    }
    Ok(())
}

/// Mounts a node's disk for as long as the lab is up, so that its files can be seen and changed while it is off.
pub(crate) fn mount(place: &Place, i: usize) -> Result<()> {
    if is_mounted(place, i)? {
        return Ok(());
    }
    let (disk, root) = (place.disk(i), place.root(i));
    for d in ["upper", "work", "root"] {
        fs::create_dir_all(disk.join(d))?;
    }
    let lower: Vec<String> =
        place.record.nodes[i - 1].lower.iter().map(|p| p.display().to_string()).collect();
    let d = disk.display();
    let options = format!("lowerdir={},upperdir={d}/upper,workdir={d}/work", lower.join(":"));
    call("mount", &["-t", "overlay", "overlay", "-o", &options, &root.display().to_string()]).map(drop)
}

fn is_mounted(place: &Place, i: usize) -> Result<bool> {
    let root = place.root(i).display().to_string();
    Ok(fs::read_to_string("/proc/self/mounts")?.lines().any(|l| l.split(' ').nth(1) == Some(root.as_str())))
}

/// The node's lock, taken when no keeper of a life that is over is left.
fn lock_without_old_keeper(place: &Place, i: usize) -> Result<Lock> {
    let keeper = place.started(&format!("keeper-{}", node_name(i)));
    let begin = Instant::now();
    loop {
        let lock = place.lock_node(i)?;
        if keeper.pid().is_none() || place.switched_on(i) {
            return Ok(lock);
        }
        // It needs the lock to tidy up.
        drop(lock);
        ensure!(begin.elapsed() < Duration::from_secs(30), "the last life of {} does not end", node_name(i));
        std::thread::sleep(TICK);
    }
}

/// Removes what a life leaves: processes, groups, cables.
fn tidy(place: &Place, i: usize, groups: &Groups) -> Result<()> {
    groups.kill()?;
    groups.remove();
    net::unplug(place, i);
    let _ = fs::remove_file(place.run().join("pid").join(format!("nspawn-{}", node_name(i))));
    Ok(())
}

fn start(place: &Place, i: usize, groups: &Groups) -> Result<Child> {
    let name = node_name(i);
    net::plug(place, i)?;
    let procs = groups.create()?;
    let console = OpenOptions::new().create(true).append(true).open(place.console(i))?;
    writeln!(&console, "\n=== {} {name} powered on", now_ns())?;
    let bind = |from: std::path::PathBuf, to: &str| format!("--bind={}:{to}", from.display());
    let container = Command::new("sh")
        .args(["-c", JOIN, "sh"])
        .args(&procs)
        .args(["--", "systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--boot"])
        .arg(format!("--directory={}", place.root(i).display()))
        .arg(format!("--machine={}", place.machine(i)))
        .arg(format!("--hostname={name}"))
        .arg(format!("--network-namespace-path=/run/netns/{}", place.machine(i)))
        .args(["--capability=all", "--kill-signal=SIGRTMIN+3", "--link-journal=no"])
        .args(["--resolv-conf=off", "--timezone=off"])
        .arg(bind(place.shared(), "/shared"))
        .arg(bind(place.witness(), "/witness"))
        .args(place.record.watchdog.then(|| bind(watchdog::device(place, i), "/dev/watchdog")))
        .args(place.record.array.then(|| bind(array::path(place, i), "/dev/shared-disk")))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        // Pure version 2 in the node, whatever the host has; and its own /proc/sys/net to write, as a machine has.
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console)
        .spawn()
        .context("cannot start the container")?;
    fs::write(place.run().join("pid").join(format!("nspawn-{name}")), container.id().to_string())?;
    // Only when it is in its group does a power off reach it; the lock is held until then.
    wait_until(Duration::from_secs(5), Duration::from_millis(1), || groups.machine_lives());
    let mut boots =
        OpenOptions::new().create(true).append(true).open(place.run().join(format!("boots-{name}")))?;
    writeln!(boots, "{}", now_ns())?;
    Ok(container)
}

/// How a process that ran in a node ended: its exit status, or 128 and the signal as a shell says it.
pub(crate) fn code_of(status: std::process::ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(-1)
}
