//! Starts whose gate waits, and starts that come in numbers.

use std::time::Duration;

use anyhow::{Result, ensure};
use scenarios::{Cluster, Moment};

use super::site::{
    SOON, WHILE, agrees, becomes, boot_log, exclusive, gate_of, granted, open, pause, refused, resume, shut,
    start_waits, state, stays_gone,
};

/// For a gate to end with the start that it asks for: well before a paused daemon is killed, which would end it too.
const QUICK: Duration = Duration::from_secs(4);

/// Row 17: the gate has no start limit of its own that would answer in place of the cluster.
pub(crate) fn many(c: &Cluster) -> Result<()> {
    let unit = "row17.service";
    c.install(&exclusive(unit))?;
    shut(c)?;
    for _ in 0..12 {
        refused(c, unit)?;
    }
    let log = boot_log(c)?;
    let limited = log.lines().find(|l| l.contains("row17") && l.contains("too quickly"));
    ensure!(limited.is_none(), "the gate was not asked: {limited:?}");
    let status = c.run(1, &format!("systemctl status --no-pager --lines=20 {unit}"))?.stdout;
    ensure!(status.contains("drained"), "`systemctl status` does not say why it is refused:\n{status}");
    open(c)?;
    granted(c, unit)
}

/// Row 27.
pub(crate) fn stopped(c: &Cluster) -> Result<()> {
    let unit = "row27.service";
    c.install(&exclusive(unit))?;
    pause(c)?;
    start_waits(c, unit)?;
    let then = Moment::now();
    c.ok(1, &format!("systemctl stop {unit}"))?;
    becomes(c, &gate_of(unit), "inactive")?;
    ensure!(then.elapsed() < QUICK, "the gate went on for {:?} after the stop", then.elapsed());
    ensure!(state(c, unit)? == "inactive", "{unit} is {}", state(c, unit)?);
    resume(c)?;
    c.until("the daemon goes on", SOON, |now| now.online("n1"))?;
    stays_gone(c, unit, WHILE)?;
    // Who took it back may change their mind.
    granted(c, unit)
}

/// Row 28.
pub(crate) fn timed_out(c: &Cluster) -> Result<()> {
    let unit = "row28.service";
    c.install(&exclusive(unit).unit("JobTimeoutSec=1"))?;
    pause(c)?;
    let out = c.node(1).run_for(&format!("systemctl start {unit}"), SOON)?;
    ensure!(out.code == 1, "a start that has no answer exits {}: {}", out.code, out.stderr);
    resume(c)?;
    c.until("the daemon goes on", SOON, |now| now.online("n1"))?;
    agrees(c, unit)?;
    c.always("its permit is used or gone", WHILE, || agrees(c, unit).map(|()| true))
}
