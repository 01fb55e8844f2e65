//! What happens to the gate's files: a generator that fails, drop-ins that mask or clear, `systemctl revert`.

use anyhow::{Result, ensure};
use scenarios::{Cluster, UnitFile};

use super::site::{
    SOON, WHILE, becomes, break_generator, exclusive, gone, granted, mend_generator, not_mended, open, pause,
    permitted, put, refused, resume, service, shut, start_waits, state, stays_gone, stopped,
};

/// Row 34: the administrator's own assert stands without the generator; without it, what has started is stopped.
pub(crate) fn no_generator(c: &Cluster) -> Result<()> {
    let (guarded, bare) = ("row34.service", "row34-bare.service");
    c.install(&exclusive(guarded))?;
    c.install(&exclusive(bare).unguarded())?;
    shut(c)?;
    break_generator(c)?;
    c.ok(1, "systemctl daemon-reload")?;
    refused(c, guarded)?;
    c.run(1, &format!("systemctl start {bare}"))?;
    becomes(c, bare, "inactive")?;
    stays_gone(c, bare, WHILE)?;
    c.wait_for("somebody is told", SOON, || {
        let log = c.ok(1, &format!("journalctl --sync; journalctl --boot --no-pager --unit={bare}"))?;
        let told = log.lines().any(|l| l.contains("could be started without the cluster"));
        Ok(told.then_some(()))
    })?;
    mend_generator(c)?;
    refused(c, bare)?;
    open(c)?;
    granted(c, guarded)?;
    granted(c, bare)
}

/// Row 35.
pub(crate) fn generator_fails_meanwhile(c: &Cluster) -> Result<()> {
    let unit = "row35.service";
    c.install(&exclusive(unit))?;
    pause(c)?;
    start_waits(c, unit)?;
    break_generator(c)?;
    c.ok(1, "systemctl daemon-reload")?;
    stays_gone(c, unit, WHILE)?;
    resume(c)?;
    mend_generator(c)?;
    c.until("the daemon goes on", SOON, |now| now.online("n1"))?;
    granted(c, unit)
}

/// Row 36.
pub(crate) fn masked(c: &Cluster) -> Result<()> {
    let unit = "row36.service";
    c.install(&exclusive(unit).unguarded())?;
    for file in ["~convoke-gate.conf", "50-convoke-gate.conf"] {
        c.ok(1, &format!("ln -s /dev/null '/etc/systemd/system/{unit}.d/{file}'"))?;
    }
    c.ok(1, "systemctl daemon-reload")?;
    shut(c)?;
    refused(c, unit)?;
    not_mended(c, unit)?;
    open(c)?;
    granted(c, unit)
}

/// Row 37: the gate's file sorts after any that an administrator would write.
pub(crate) fn cleared(c: &Cluster) -> Result<()> {
    let unit = "row37.service";
    c.install(&exclusive(unit).unguarded())?;
    for (file, key) in [
        (format!("{unit}.d/override.conf"), "AssertPathExists"),
        (format!("{unit}.d/zzzz.conf"), "AssertFileNotEmpty"),
        ("service.d/zzz-row37.conf".to_owned(), "AssertPathExists"),
    ] {
        put(c, &file, &format!("[Unit]\n{key}=\n"))?;
    }
    c.ok(1, "systemctl daemon-reload")?;
    shut(c)?;
    refused(c, unit)?;
    not_mended(c, unit)?;
    open(c)?;
    granted(c, unit)?;
    c.ok(1, "rm /etc/systemd/system/service.d/zzz-row37.conf").map(drop)
}

/// Row 43: what the cluster was told once is gated until it forgets.
pub(crate) fn reverted(c: &Cluster) -> Result<()> {
    let unit = "row43.service";
    c.node(1).write(&format!("/usr/lib/systemd/system/{unit}"), service(""))?;
    c.install(&UnitFile::new(unit).key("Replicas=1"))?;
    shut(c)?;
    refused(c, unit)?;
    c.ok(1, &format!("systemctl revert {unit}"))?;
    c.ok(1, "systemctl daemon-reload")?;
    let left = c.run(1, &format!("test -e /etc/systemd/system/{unit}.d"))?.ok();
    ensure!(!left, "`systemctl revert` left the drop-in, so this shows nothing");
    refused(c, unit)?;
    ensure!(!permitted(c, unit)?, "it has a permit");
    open(c)?;
    stays_gone(c, unit, WHILE)?;
    let now = c.overview()?;
    let line = now.unit(unit).map(|u| (u.state.clone(), u.reason.clone().unwrap_or_default()));
    ensure!(
        line.as_ref().is_some_and(|(state, why)| state == "waiting" && why.contains("does not offer")),
        "`convoke status` does not say what is wrong: {line:?}"
    );
    let log = c.ok(1, &format!("journalctl --sync; journalctl --boot --no-pager --unit={unit}"))?;
    ensure!(log.contains("[X-Convoke] section is gone"), "its own log does not say what is wrong:\n{log}");
    Ok(())
}

/// Row 68: the condition of a service with a root of its own cannot see the permit, and is left out.
pub(crate) fn root_directory(c: &Cluster) -> Result<()> {
    let unit = "row68.service";
    c.ok(1, "mkdir -p /srv/row68/usr && cd /srv/row68 && ln -sf usr/bin usr/lib usr/lib64 .")?;
    let fragment = "[Service]\nRootDirectory=/srv/row68\nMountAPIVFS=yes\nBindReadOnlyPaths=/usr\n\
                    ExecStart=/usr/bin/sleep infinity\n";
    c.install(&UnitFile::new(unit).fragment(fragment).key("Replicas=1"))?;
    let gate = c.ok(1, &format!("cat '/run/systemd/generator.early/{unit}.d/~convoke-gate.conf'"))?;
    ensure!(!gate.contains("\nExecCondition="), "{gate}");
    let said = c.run(1, &format!("convoke verify {unit}"))?;
    ensure!((said.stdout.clone() + &said.stderr).contains("U0043"), "`convoke verify` says {said:?}");
    shut(c)?;
    refused(c, unit)?;
    open(c)?;
    granted(c, unit)?;
    stopped(c, unit)?;
    ensure!(state(c, unit)? == "inactive", "{unit} is {}", state(c, unit)?);
    Ok(())
}

/// Row 73: systemd takes `EnvironmentFile=` for a pattern, in which a backslash is no part of the name.
pub(crate) fn backslash(c: &Cluster) -> Result<()> {
    let unit = r"row73-a\x2db.service";
    c.install(&exclusive(unit))?;
    granted(c, unit)?;
    let pid = c.node(1).show(unit, "MainPID")?;
    let environment = c.ok(1, &format!("tr '\\0' '\\n' </proc/{pid}/environ"))?;
    ensure!(environment.contains("CONVOKE_TOKEN="), "it has no token: {environment}");
    c.ok(1, &format!("convoke stop '{unit}'"))?;
    gone(c, unit)?;
    let left = c.ok(1, "ls /run/convoke/env")?;
    ensure!(!left.contains("row73"), "its environment is left: {left}");
    Ok(())
}
