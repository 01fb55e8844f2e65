//! Units that systemd would start although it refuses the unit they belong to.

use anyhow::{Result, ensure};
use scenarios::{Cluster, UnitFile};

use super::site::{
    SOON, becomes, exclusive, gone, granted, open, put, refused, service, shut, starts, state, stopped,
};

/// Row 2.
pub(crate) fn target(c: &Cluster) -> Result<()> {
    let (target, members) = ("row2.target", ["row2-a.service", "row2-b.service"]);
    for member in members {
        put(c, member, &service(""))?;
    }
    let fragment = "[Unit]\nWants=row2-a.service\nRequires=row2-b.service\n";
    c.install(&UnitFile::new(target).fragment(fragment).key("Replicas=1"))?;
    shut(c)?;
    refused(c, target)?;
    for member in members {
        ensure!(state(c, member)? == "inactive", "{member} runs beside its refused target");
        refused(c, member)?;
        ensure!(starts(c, member)? == 0, "{member} was started");
    }
    open(c)?;
    granted(c, target)?;
    for member in members {
        becomes(c, member, "active")?;
    }
    stopped(c, target)?;
    members.iter().try_for_each(|member| becomes(c, member, "inactive"))
}

/// Row 3.
pub(crate) fn mount(c: &Cluster) -> Result<()> {
    let (unit, mount) = ("row3.service", "srv-row3.mount");
    put(c, mount, "[Mount]\nWhat=tmpfs\nWhere=/srv/row3\nType=tmpfs\n")?;
    c.install(&exclusive(unit).unit("Requires=srv-row3.mount").unit("After=srv-row3.mount"))?;
    shut(c)?;
    refused(c, unit)?;
    ensure!(state(c, mount)? == "inactive", "the refused {unit} left {mount} mounted");
    refused(c, mount)?;
    ensure!(!c.run(1, "mountpoint -q /srv/row3")?.ok(), "/srv/row3 is mounted");
    open(c)?;
    granted(c, unit)?;
    ensure!(c.run(1, "mountpoint -q /srv/row3")?.ok(), "/srv/row3 is not mounted");
    // What was mounted for it here must be gone before another node may mount it.
    stopped(c, unit)?;
    unmounted(c, unit)?;
    // So it must be where the files name neither any more, and a later daemon has read nothing else.
    granted(c, unit)?;
    c.ok(1, &format!("rm -r /etc/systemd/system/{unit}.d && systemctl daemon-reload"))?;
    c.kill_daemon(1)?;
    c.until("the next daemon answers", SOON, |now| now.quorum)?;
    ensure!(c.run(1, "mountpoint -q /srv/row3")?.ok(), "/srv/row3 is not mounted");
    stopped(c, unit)?;
    unmounted(c, unit)
}

fn unmounted(c: &Cluster, unit: &str) -> Result<()> {
    ensure!(!c.run(1, "mountpoint -q /srv/row3")?.ok(), "{unit} gave its permit back with /srv/row3 mounted");
    Ok(())
}

/// Rows 18 to 20: the trigger shares the service's gate, and the cluster starts and stops both.
fn trigger(c: &Cluster, stem: &str, kind: &str, text: &str, poke: &str) -> Result<()> {
    let (unit, trigger) = (format!("{stem}.service"), format!("{stem}.{kind}"));
    // The cluster starts the triggers that are enabled: their gate kept them from starting at boot.
    put(c, &trigger, &format!("{text}[Install]\nWantedBy=multi-user.target\n"))?;
    c.ok(1, &format!("systemctl enable {trigger}"))?;
    c.install(&exclusive(&unit))?;
    shut(c)?;
    refused(c, &trigger)?;
    for _ in 0..20 {
        c.run(1, poke)?;
    }
    refused(c, &unit)?;
    ensure!(state(c, &trigger)? == "inactive", "{trigger} is {}", state(c, &trigger)?);
    ensure!(starts(c, &unit)? == 0, "{unit} was started");
    open(c)?;
    granted(c, &unit)?;
    becomes(c, &trigger, "active")?;
    stopped(c, &unit)?;
    // An active trigger would start it again.
    becomes(c, &trigger, "inactive")?;
    c.run(1, poke)?;
    gone(c, &unit)?;
    ensure!(starts(c, &unit)? == 1, "{trigger} started {unit} again");
    c.wait_for("no job is left", SOON, || {
        let jobs = c.ok(1, "systemctl list-jobs --no-legend")?;
        ensure!(!jobs.contains(stem), "{jobs}");
        Ok(Some(()))
    })
}

/// Row 18.
pub(crate) fn socket(c: &Cluster) -> Result<()> {
    let text = "[Socket]\nListenStream=/run/row18.socket\n";
    let poke = "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => \"/run/row18.socket\")'";
    trigger(c, "row18", "socket", text, poke)
}

/// Row 19.
pub(crate) fn path(c: &Cluster) -> Result<()> {
    let text = "[Path]\nPathExists=/run/row19.wanted\n";
    trigger(c, "row19", "path", text, "touch /run/row19.wanted")
}

/// Row 20.
pub(crate) fn timer(c: &Cluster) -> Result<()> {
    let text =
        "[Timer]\nOnActiveSec=100ms\nOnUnitActiveSec=100ms\nOnUnitInactiveSec=100ms\nAccuracySec=1ms\n";
    trigger(c, "row20", "timer", text, "true")
}
