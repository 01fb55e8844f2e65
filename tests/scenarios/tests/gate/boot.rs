//! Boots of a node with cluster units in the way, and what else moves the whole system.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scenarios::{Cluster, UnitFile};

use super::site::{
    SOON, agrees, becomes, boot_log, exclusive, gone, open, permitted, put, service, shut, starts, state,
};

const BOOT: Duration = Duration::from_secs(60);
/// A boot without gates takes one or two seconds here; one gate that waits adds its minute.
const BOOT_US: u64 = 15_000_000;

/// Row 54.
pub(crate) fn isolate(c: &Cluster) -> Result<()> {
    let (unit, target) = ("row54.service", "row54.target");
    c.install(&exclusive(unit))?;
    put(
        c,
        target,
        "[Unit]\nAllowIsolate=yes\nRequires=basic.target dbus.service row54.service\nAfter=basic.target\n",
    )?;
    c.ok(1, "systemctl daemon-reload")?;
    shut(c)?;
    let before = c.process(1, "convoked.service")?;
    let out = c.node(1).run_for(&format!("systemctl isolate {target}"), SOON)?;
    let kept = c.still_runs(&before);
    c.ok(1, "systemctl isolate default.target")?;
    ensure!(!out.ok(), "`systemctl isolate` succeeds though {unit} is refused");
    kept?;
    ensure!(state(c, unit)? == "inactive", "{unit} is {}", state(c, unit)?);
    Ok(())
}

/// A cluster unit of each type that a boot starts: end of its name, what wants it, its text.
const TYPES: &[(&str, &str, &str)] = &[
    ("-s.service", "multi-user", ""),
    ("-k.socket", "sockets", "[Socket]\nListenStream=/run/row55.socket\n"),
    ("-t.timer", "timers", "[Timer]\nOnActiveSec=1h\n"),
    ("-p.path", "paths", "[Path]\nPathExists=/run/row55.wanted\n"),
    ("-g.target", "multi-user", "[Unit]\nDescription=A target of the cluster\n"),
];

/// Installs and enables them; the answer is their names.
fn enable_all(c: &Cluster, row: &str) -> Result<Vec<String>> {
    let mut units = Vec::new();
    for (end, target, text) in TYPES {
        let unit = format!("{row}{end}");
        let stem = unit.split('.').next().unwrap_or_default();
        let text = if text.is_empty() { service("") } else { (*text).to_owned() };
        if unit.ends_with(".socket") || unit.ends_with(".timer") || unit.ends_with(".path") {
            put(c, &format!("{stem}.service"), &service(""))?;
        }
        let wants = format!("/etc/systemd/system/{target}.target.wants");
        c.ok(1, &format!("mkdir -p {wants} && ln -sf /etc/systemd/system/{unit} {wants}/"))?;
        c.install(&UnitFile::new(&unit).fragment(&text).key("Replicas=1"))?;
        units.push(unit);
    }
    Ok(units)
}

/// Boots once more; the answer is the journal of the new boot.
fn boot(c: &Cluster) -> Result<String> {
    c.node(1).reboot()?;
    let state = c.node(1).wait_running(BOOT)?;
    let failed = c.ok(1, "systemctl --failed --plain --no-legend")?;
    ensure!(state == "running", "after the boot the node is {state}: {failed}");
    let log = boot_log(c)?;
    let cycle = log.lines().find(|l| l.contains("ordering cycle") || l.contains("deleted to break"));
    ensure!(cycle.is_none(), "{cycle:?}");
    let targets =
        "local-fs.target sockets.target timers.target paths.target multi-user.target convoked.service";
    let states = c.ok(1, &format!("systemctl is-active {targets}")).with_context(|| targets.to_owned())?;
    ensure!(states.lines().all(|l| l == "active"), "{targets}: {states}");
    Ok(log)
}

/// Row 55.
pub(crate) fn all_types(c: &Cluster) -> Result<()> {
    let units = enable_all(c, "row55")?;
    units.iter().try_for_each(|unit| c.run_unit(unit, 1))?;
    boot(c)?;
    for unit in &units {
        c.until(&format!("{unit} runs again"), BOOT, |now| now.runs_on(unit, "n1"))?;
        agrees(c, unit)?;
        ensure!(permitted(c, unit)?, "{unit} has no permit");
    }
    Ok(())
}

/// Rows 57 and 58: nobody waits for a gate, and a refused one is no failure.
pub(crate) fn refused(c: &Cluster) -> Result<()> {
    let units = enable_all(c, "row57")?;
    shut(c)?;
    let log = boot(c)?;
    for unit in &units {
        ensure!(state(c, unit)? == "inactive", "{unit} is {}", state(c, unit)?);
        ensure!(!permitted(c, unit)?, "{unit} has a permit");
        // What PID 1 says before there is a journal is lost; the gate's own answer is not.
        let words = format!("{unit} may not start here: the system is starting");
        ensure!(log.contains(&words), "the gate of {unit} did not answer at once");
    }
    let times =
        c.ok(1, "systemctl show --property=UserspaceTimestampMonotonic --property=FinishTimestampMonotonic")?;
    let of = |name: &str| times.lines().find_map(|l| l.strip_prefix(name)?.parse::<u64>().ok()).unwrap_or(0);
    let (begun, over) = (of("UserspaceTimestampMonotonic="), of("FinishTimestampMonotonic="));
    ensure!(over > begun && over - begun < BOOT_US, "the boot took {} ms: {times}", (over - begun) / 1000);
    open(c)
}

/// Rows 59 and 60, and 61 beside them: a mount that may fail is gated.
pub(crate) fn fstab(c: &Cluster) -> Result<()> {
    let (plain, soft) = ("srv-row59.mount", "srv-row61.mount");
    c.ok(
        1,
        "printf 'tmpfs /srv/row59 tmpfs defaults 0 0\\ntmpfs /srv/row61 tmpfs nofail 0 0\\n' >>/etc/fstab; \
         mkdir -p /srv/row59 /srv/row61",
    )?;
    for unit in [plain, soft] {
        put(c, &format!("{unit}.d/convoke.conf"), "[X-Convoke]\nReplicas=1\n")?;
    }
    let said = c.run(1, &format!("convoke verify {plain}"))?;
    let text = said.stdout.clone() + &said.stderr;
    ensure!(
        !said.ok() && text.contains("U0041") && text.contains("/etc/fstab"),
        "`convoke verify`: {said:?}"
    );
    c.ok(1, "systemctl daemon-reload")?;
    let gated =
        |unit: &str| c.run(1, &format!("test -e '/run/systemd/generator.early/{unit}.d/~convoke-gate.conf'"));
    // convoked reloads as well once it has found the two, and a generator under way begins with what it knew before.
    c.wait_for("the generator has spoken", SOON, || {
        ensure!(!gated(plain)?.ok(), "{plain} is gated: a refusal would end the boot in emergency mode");
        ensure!(gated(soft)?.ok(), "{soft} is not gated");
        Ok(Some(()))
    })?;
    shut(c)?;
    boot(c)?;
    becomes(c, plain, "active")?;
    ensure!(state(c, soft)? == "inactive", "{soft} is {}", state(c, soft)?);
    open(c)
}

/// Row 65: `/run` and the boot id outlive a soft-reboot; permits must not.
pub(crate) fn soft_reboot(c: &Cluster) -> Result<()> {
    let unit = "row65.service";
    c.install(&exclusive(unit))?;
    c.ok(1, &format!("mkdir -p /etc/systemd/system/multi-user.target.wants && ln -sf /etc/systemd/system/{unit} /etc/systemd/system/multi-user.target.wants/ && systemctl daemon-reload"))?;
    c.run_unit(unit, 1)?;
    let permit = format!("/run/convoke/permits/{unit}");
    let (before, boot_id) = (c.ok(1, &format!("cat {permit}"))?, c.node(1).boot_id()?);
    // A question that PID 1 goes away under may never be answered.
    let count = || c.ok(1, "timeout 5 systemctl show --property=SoftRebootsCount --value");
    let earlier = count()?;
    // The soft-reboot kills who asked for it.
    let _ = c.node(1).run_for("systemctl --no-block soft-reboot", SOON);
    c.wait_for("the soft-reboot is over", BOOT, || {
        ensure!(count()? != earlier, "not begun");
        let state = c.run(1, "timeout 5 systemctl is-system-running")?.stdout;
        ensure!(state.trim() == "running", "{state}");
        Ok(Some(()))
    })?;
    ensure!(c.node(1).boot_id()? == boot_id, "that was no soft-reboot");
    c.until("it runs again", BOOT, |now| now.runs_on(unit, "n1"))?;
    agrees(c, unit)?;
    let after = c.ok(1, &format!("cat {permit}"))?;
    ensure!(after != before, "it runs on the permit of before: {after}");
    let times = starts(c, unit)?;
    ensure!(times == 2, "it was started {times} times: once from the old permit");
    // The node still refuses what it should.
    shut(c)?;
    gone(c, unit)?;
    super::site::refused(c, unit).map(drop)
}
