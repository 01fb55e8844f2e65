//! Starts that no person asked for and that systemd gives no name: a connection to a socket, a call on the bus.

use anyhow::{Result, ensure};
use scenarios::{Cluster, UnitFile};

use super::site::{WHILE, becomes, exclusive, granted, starts, stopped};

/// A socket that is a cluster unit of its own is not stopped with its service.
pub(crate) fn socket(c: &Cluster) -> Result<()> {
    let (unit, socket) = ("call1.service", "call1.socket");
    c.install(
        &UnitFile::new(socket).fragment("[Socket]\nListenStream=/run/call1.socket\n").key("Replicas=1"),
    )?;
    c.install(&exclusive(unit))?;
    c.ok(1, &format!("convoke start {socket} {unit}"))?;
    becomes(c, socket, "active")?;
    stays_stopped(
        c,
        unit,
        "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => \"/run/call1.socket\") or die'",
    )?;
    // The connection is still there, and systemd gives a socket up that fires in vain again and again.
    c.ok(1, &format!("convoke stop {socket}; systemctl reset-failed {socket}; true"))?;
    becomes(c, socket, "inactive")?;
    granted(c, unit)?;
    stopped(c, unit)
}

/// The bus asks systemd for the unit that a name's file has.
pub(crate) fn bus(c: &Cluster) -> Result<()> {
    let unit = "call2.service";
    let file = "/usr/share/dbus-1/system-services/org.example.call2.service";
    let text = format!(
        "[D-BUS Service]\nName=org.example.call2\nExec=/bin/false\nUser=root\nSystemdService={unit}\n"
    );
    c.node(1).write(file, text)?;
    c.ok(1, "busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig")?;
    c.install(&exclusive(unit))?;
    c.ok(1, &format!("convoke start {unit}"))?;
    let done = stays_stopped(c, unit, "timeout 1 busctl call org.example.call2 / org.example X; true");
    c.ok(1, &format!("rm {file}"))?;
    done
}

/// Stopped in the cluster, it is not started by this line, however often.
fn stays_stopped(c: &Cluster, unit: &str, line: &str) -> Result<()> {
    becomes(c, unit, "active")?;
    let before = starts(c, unit)?;
    c.ok(1, &format!("convoke stop {unit}"))?;
    for _ in 0..3 {
        c.run(1, line)?;
    }
    c.always("it stays stopped", WHILE, || Ok(starts(c, unit)? == before))?;
    let why = c.why(unit)?;
    let now = c.overview()?;
    ensure!(now.unit(unit).is_some_and(|unit| unit.goal == "stopped"), "{why:?}");
    Ok(())
}
