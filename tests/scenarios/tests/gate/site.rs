//! What the rows have in common: units whose names begin with `row`, a node that refuses, a daemon that pauses.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Output;
use scenarios::{Cluster, UnitFile};

/// For what has only to happen.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// For what must stay as it is: some times what the daemon needs for an answer.
pub(crate) const WHILE: Duration = Duration::from_millis(700);

/// A service that runs until it is stopped, and counts its starts in `/run/NAME.starts`.
pub(crate) fn service(more: &str) -> String {
    // Counted before it is started, so that the count is true once systemd says that it runs.
    format!(
        "[Service]\nExecStartPre=/bin/sh -c 'echo >>/run/%p.starts'\nExecStart=/bin/sleep infinity\n{more}\n"
    )
}

/// An exclusive service with the static guard.
pub(crate) fn exclusive(name: &str) -> UnitFile {
    UnitFile::new(name).fragment(&service("")).key("Replicas=1")
}

/// How often a service was started since the boot.
pub(crate) fn starts(c: &Cluster, name: &str) -> Result<usize> {
    let stem = name.trim_end_matches(".service");
    Ok(c.ok(1, &format!("cat /run/{stem}.starts 2>/dev/null | wc -l"))?.trim().parse()?)
}

/// Version of systemd.
pub(crate) fn systemd(c: &Cluster) -> Result<u32> {
    Ok(c.ok(1, "systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p'")?.parse()?)
}

/// Writes a unit's file into the node.
pub(crate) fn put(c: &Cluster, name: &str, text: &str) -> Result<()> {
    c.node(1).write(&format!("/etc/systemd/system/{name}"), text)
}

/// `ActiveState`.
pub(crate) fn state(c: &Cluster, unit: &str) -> Result<String> {
    c.node(1).show(unit, "ActiveState")
}

/// Waits until a unit is in a state.
pub(crate) fn becomes(c: &Cluster, unit: &str, wanted: &str) -> Result<()> {
    c.wait_for(&format!("{unit} is {wanted}"), SOON, || {
        let now = state(c, unit)?;
        ensure!(now == wanted, "it is {now}");
        Ok(Some(()))
    })
}

/// Whether a unit has its permit on the node.
pub(crate) fn permitted(c: &Cluster, unit: &str) -> Result<bool> {
    Ok(c.run(1, &format!("test -e '/run/convoke/permits/{unit}'"))?.ok())
}

/// The generated gate holds by itself: the daemon found nothing to mend.
pub(crate) fn not_mended(c: &Cluster, unit: &str) -> Result<()> {
    let mended = c.run(1, &format!("test -e '/run/systemd/system/{unit}.d/~convoke-mend.conf'"))?.ok();
    ensure!(!mended, "the gate of {unit} was not in force, the daemon wrote one of last resort");
    Ok(())
}

/// From now on the node refuses.
pub(crate) fn shut(c: &Cluster) -> Result<()> {
    c.ok(1, "convoke drain n1").map(drop)
}

/// From now on the node takes what is placed there.
pub(crate) fn open(c: &Cluster) -> Result<()> {
    c.ok(1, "convoke undrain n1").map(drop)
}

/// A start by hand is refused as it should be: exit status 1, and nothing runs nor failed.
pub(crate) fn refused(c: &Cluster, unit: &str) -> Result<Output> {
    let out = c.node(1).run_for(&format!("systemctl start '{unit}'"), SOON)?;
    ensure!(out.code == 1, "`systemctl start {unit}` exits {}: {}", out.code, out.stderr);
    let why = ["Assertion failed on job", "A dependency job for"];
    ensure!(why.iter().any(|why| out.stderr.contains(why)), "it says: {}", out.stderr);
    let now = state(c, unit)?;
    ensure!(now == "inactive", "the refused {unit} is {now}");
    Ok(out)
}

/// A start by hand is granted: exit status 0, and it runs with its permit.
pub(crate) fn granted(c: &Cluster, unit: &str) -> Result<()> {
    let out = c.node(1).run_for(&format!("systemctl start '{unit}'"), SOON)?;
    ensure!(out.ok(), "`systemctl start {unit}` exits {}: {}", out.code, out.stderr);
    becomes(c, unit, "active")?;
    ensure!(permitted(c, unit)?, "{unit} runs without a permit");
    Ok(())
}

/// Stops a unit in the cluster, and waits until nothing of it is left.
pub(crate) fn stopped(c: &Cluster, unit: &str) -> Result<()> {
    c.ok(1, &format!("convoke stop {unit}"))?;
    gone(c, unit)
}

/// Waits until a unit neither runs nor has a permit.
pub(crate) fn gone(c: &Cluster, unit: &str) -> Result<()> {
    becomes(c, unit, "inactive")?;
    c.wait_for(&format!("{unit} has no permit"), SOON, || Ok((!permitted(c, unit)?).then_some(())))
}

/// Waits until a unit runs with its permit, or neither, and the cluster knows it.
pub(crate) fn agrees(c: &Cluster, unit: &str) -> Result<()> {
    c.wait_for(&format!("{unit} runs with a permit, or not and without"), SOON, || {
        let known = c.overview()?.runs_on(unit, "n1");
        let (now, permit) = (state(c, unit)?, permitted(c, unit)?);
        let fits = matches!((now.as_str(), permit), ("active", true) | ("inactive" | "failed", false));
        ensure!(fits && known == permit, "{now}, permit: {permit}, to the cluster it runs: {known}");
        Ok(Some(()))
    })
}

/// Watches that a unit neither runs nor gets a permit.
pub(crate) fn stays_gone(c: &Cluster, unit: &str, span: Duration) -> Result<()> {
    c.always(&format!("{unit} does not run, and has no permit"), span, || {
        Ok(matches!(state(c, unit)?.as_str(), "inactive" | "failed") && !permitted(c, unit)?)
    })
}

/// The daemon stands still: gates wait.
pub(crate) fn pause(c: &Cluster) -> Result<()> {
    c.ok(1, "systemctl kill --kill-who=main --signal=STOP convoked.service").map(drop)
}

/// The daemon goes on.
pub(crate) fn resume(c: &Cluster) -> Result<()> {
    c.ok(1, "systemctl kill --kill-who=main --signal=CONT convoked.service").map(drop)
}

/// Begins a start and waits until its gate waits for the paused daemon.
pub(crate) fn start_waits(c: &Cluster, unit: &str) -> Result<()> {
    c.ok(1, &format!("systemctl start --no-block '{unit}'"))?;
    becomes(c, &gate_of(unit), "activating")
}

/// The service that asks for a unit.
pub(crate) fn gate_of(unit: &str) -> String {
    format!("convoke-gate@{unit}.service")
}

/// The journal of this boot.
pub(crate) fn boot_log(c: &Cluster) -> Result<String> {
    c.ok(1, "journalctl --sync; journalctl --boot --no-pager --output=short-monotonic")
}

const GENERATOR: &str = "/usr/lib/systemd/system-generators/convoke-generator";

/// The generator fails from now on.
pub(crate) fn break_generator(c: &Cluster) -> Result<()> {
    c.ok(1, &format!("mv {GENERATOR} /root/generator && printf '#!/bin/sh\\nexit 1\\n' >{GENERATOR} && chmod 755 {GENERATOR}"))
        .map(drop)
}

/// Ends [`break_generator`].
pub(crate) fn mend_generator(c: &Cluster) -> Result<()> {
    c.ok(1, &format!("mv /root/generator {GENERATOR} && systemctl daemon-reload")).map(drop)
}

/// Takes all units of rows away. Also mends what a failed row left as it was.
pub(crate) fn tidy(c: &Cluster) -> Result<()> {
    resume(c)?;
    let names =
        "$(convoke list-units --json | grep -o '\"[^\"]*row[^\"]*\\.[a-z]*\"' | tr -d '\"' | sort -u)";
    c.ok(
        1,
        &format!(
            "[ -e /root/generator ] && mv /root/generator {GENERATOR}; \
             for u in {names}; do convoke stop --no-wait \"$u\" >/dev/null 2>&1; done; \
             systemctl stop 'row*' 'srv-row*' 2>/dev/null; systemctl reset-failed 'row*' 2>/dev/null; \
             sed -i /row/d /etc/fstab; \
             rm -rf /etc/systemd/system/*row* /etc/systemd/system/*.wants/*row* /usr/lib/systemd/system/*row* \
             /run/systemd/system/*row* /run/row* /srv/row*; \
             systemctl daemon-reload; \
             for u in {names}; do convoke forget \"$u\" >/dev/null 2>&1; done; true"
        ),
    )
    .map(drop)
}
