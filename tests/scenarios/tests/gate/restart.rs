//! Units that run already: taken over, crashed, or there while the daemon is not.

use std::time::Duration;

use anyhow::{Result, ensure};
use scenarios::{Cluster, UnitFile};

use super::site::{
    SOON, WHILE, agrees, becomes, exclusive, gate_of, gone, pause, permitted, put, resume, service, starts,
    state, stays_gone, systemd,
};

/// Row 14: no unit stands active without a permit, for its next restart would be an outage.
pub(crate) fn adopted(c: &Cluster) -> Result<()> {
    let unit = "row14.service";
    put(c, unit, &service(""))?;
    c.ok(1, &format!("systemctl daemon-reload && systemctl start {unit}"))?;
    let before = c.process(1, unit)?;
    c.install(&UnitFile::new(unit).key("Replicas=1"))?;
    // Nobody has to say anything: what runs is taken over.
    c.wait_for("it has a permit", SOON, || Ok(permitted(c, unit)?.then_some(())))?;
    c.still_runs(&before)?;
    c.ok(1, &format!("systemctl restart {unit}"))?;
    becomes(c, unit, "active")?;
    ensure!(permitted(c, unit)?, "it runs without a permit");
    ensure!(starts(c, unit)? == 2, "it was started {} times", starts(c, unit)?);
    Ok(())
}

/// Row 23: from systemd 254 on, asserts are not looked at on an automatic restart.
pub(crate) fn without_permit(c: &Cluster) -> Result<()> {
    let unit = "row23.service";
    for mode in ["normal", "direct"] {
        let direct = mode == "direct";
        if direct && systemd(c)? < 254 {
            continue;
        }
        let restart = format!("Restart=always\nRestartSec=50ms\nRestartMode={mode}");
        let restart = if direct { restart } else { restart.replace("\nRestartMode=normal", "") };
        c.install(&UnitFile::new(unit).fragment(&service(&restart)).key("Replicas=1"))?;
        c.run_unit(unit, 1)?;
        let before = starts(c, unit)?;
        // A gate that is masked refuses, and nobody puts the permit back.
        let gate = gate_of(unit);
        c.ok(1, &format!("systemctl mask --runtime {gate}"))?;
        pause(c)?;
        c.ok(1, &format!("rm /run/convoke/permits/{unit} && systemctl kill --signal=KILL {unit}"))?;
        let result = c.wait_for("the restart is over", SOON, || {
            let now =
                c.ok(1, &format!("systemctl show --property=ActiveState,SubState,Result,Job {unit}"))?;
            ensure!(now.contains("ActiveState=inactive") || now.contains("ActiveState=failed"), "{now}");
            Ok(Some(now))
        })?;
        ensure!(starts(c, unit)? == before, "it was started without a permit: {result}");
        stays_gone(c, unit, Duration::from_millis(300))?;
        c.ok(1, &format!("systemctl unmask --runtime {gate}"))?;
        resume(c)?;
        c.until("the daemon goes on", SOON, |now| now.online("n1"))?;
        // What comes next is the cluster's matter: a failure counts, and the node may be avoided.
        agrees(c, unit)?;
    }
    Ok(())
}

/// Row 24: a crash is answered by the goal.
pub(crate) fn no_wish(c: &Cluster) -> Result<()> {
    let unit = "row24.service";
    let fragment = service("Restart=always\nRestartSec=1s");
    c.install(&UnitFile::new(unit).fragment(&fragment).key("Replicas=1"))?;
    c.run_unit(unit, 1)?;
    let index = c.overview()?.index;
    // The permit goes while the restart waits, so that the gate is asked.
    pause(c)?;
    c.ok(1, &format!("rm /run/convoke/permits/{unit} && systemctl kill --signal=KILL {unit}"))?;
    becomes(c, &gate_of(unit), "activating")?;
    resume(c)?;
    c.until("the daemon goes on", SOON, |now| now.online("n1"))?;
    agrees(c, unit)?;
    let asked: Vec<_> = c.events_after(index)?.into_iter().filter(|e| e.kind == "unit-start-asked").collect();
    ensure!(asked.is_empty(), "a crash was taken for a wish: {asked:#?}");
    // The cluster's word comes while the restart waits: it is not started any more.
    c.run_unit(unit, 1)?;
    let index = c.overview()?.index;
    c.ok(1, &format!("systemctl kill --signal=KILL {unit}"))?;
    becomes(c, unit, "activating")?;
    let before = starts(c, unit)?;
    c.ok(1, &format!("convoke stop {unit}"))?;
    gone_or_failed(c, unit)?;
    stays_gone(c, unit, Duration::from_millis(1300))?;
    ensure!(starts(c, unit)? == before, "it was started after `convoke stop`");
    let asked: Vec<_> = c.events_after(index)?.into_iter().filter(|e| e.kind == "unit-start-asked").collect();
    ensure!(asked.is_empty(), "a crash was taken for a wish: {asked:#?}");
    Ok(())
}

fn gone_or_failed(c: &Cluster, unit: &str) -> Result<()> {
    c.wait_for("nothing of it is left", SOON, || {
        let now = state(c, unit)?;
        Ok((matches!(now.as_str(), "inactive" | "failed") && !permitted(c, unit)?).then_some(()))
    })
}

/// Row 52.
pub(crate) fn daemon_restart(c: &Cluster) -> Result<()> {
    let (one, every) = ("row52-one.service", "row52-every.service");
    c.install(&exclusive(one))?;
    c.install(&UnitFile::new(every).fragment(&service("")).key("Replicas=all"))?;
    c.run_unit(one, 1)?;
    c.ok(1, &format!("convoke start {every}"))?;
    c.until("both run", SOON, |now| now.runs_on(one, "n1") && now.runs_on(every, "n1"))?;
    let processes = [c.process(1, one)?, c.process(1, every)?];
    let permits = || c.ok(1, "cd /run/convoke/permits && grep -H '' row52*");
    let before = permits()?;
    c.ok(1, "systemctl restart convoked")?;
    ensure!(permits()? == before, "a restart of the daemon changed the permits: {before}\n{}", permits()?);
    c.until("the daemon is back", SOON, |now| now.online("n1"))?;
    processes.iter().try_for_each(|p| c.still_runs(p))?;
    // A stop gives back what only one node may run, and leaves the others as they are.
    c.ok(1, "systemctl stop convoked")?;
    gone(c, one)?;
    c.still_runs(&processes[1])?;
    ensure!(permitted(c, every)?, "a stop of the daemon removed the permit of {every}");
    c.ok(1, "systemctl start convoked")?;
    c.until("the daemon is back", SOON, |now| now.runs_on(every, "n1"))?;
    c.always("it goes on", WHILE, || c.still_runs(&processes[1]).map(|()| true))
}
