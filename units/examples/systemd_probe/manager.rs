//! What else is asked of systemd, and what becomes of the connection.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use units::systemd::journal::{self, Kind, Line, Priority};
use units::systemd::{Link, Signal, Systemd};

use crate::probe::{LONG, Probe, run};

pub(crate) async fn facts(probe: &Probe) -> Result<String> {
    let systemd = &probe.systemd;
    let begun = Instant::now();
    for _ in 0..100 {
        systemd.read("dbus.service").await?;
    }
    let per_read = begun.elapsed() / 100;
    let begun = Instant::now();
    systemd.answers(Duration::from_secs(1)).await?;
    let ping = begun.elapsed();
    let dbus = systemd.read("dbus.service").await?;
    ensure!(dbus.main_pid.is_some() && !dbus.control_group.is_empty() && dbus.invocation_id.len() == 16);
    ensure!(dbus.times.active_enter.is_some() && dbus.timeout_stop.is_some());
    ensure!(dbus.relations.triggered_by.contains(&"dbus.socket".to_owned()));
    Ok(format!(
        "{} {:?}, soft reboots {}, {} unit dirs, a read takes {per_read:?}, a ping {ping:?}",
        systemd.version().await?,
        systemd.manager_state().await?,
        systemd.soft_reboots().await?,
        systemd.unit_path().await?.len(),
    ))
}

pub(crate) async fn freeze(probe: &Probe) -> Result<String> {
    probe.systemd.start("plain.service", LONG).await?;
    let frozen = probe.systemd.freeze("plain.service").await;
    let state = probe.systemd.read("plain.service").await?.freezer_state;
    probe.systemd.thaw("plain.service").await?;
    let after = probe.systemd.read("plain.service").await?.freezer_state;
    probe.systemd.stop("plain.service", LONG).await?;
    frozen?;
    Ok(format!("{state}, then {after}"))
}

pub(crate) async fn journal() -> Result<String> {
    journal::tell(&Line {
        unit: "plain.service".to_owned(),
        kind: Kind::StartRefused,
        priority: Priority::Notice,
        message: "start refused: n2 is not fenced yet".to_owned(),
        fields: vec![("CONVOKE_NODE".to_owned(), "n1".to_owned())],
    })?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let shown = run("systemctl status plain.service | tail -1; journalctl -o verbose -u plain.service -n 1")?;
    ensure!(shown.contains("n2 is not fenced yet"), "{shown}");
    ensure!(shown.contains(Kind::StartRefused.id()) && shown.contains("CONVOKE_NODE=n1"), "{shown}");
    Ok(shown.lines().next().unwrap_or_default().to_owned())
}

pub(crate) async fn reexec(mut probe: Probe) -> Result<String> {
    let systemd = probe.systemd.clone();
    let job = tokio::spawn(async move { systemd.start("slow.service", LONG).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    run("systemctl daemon-reexec")?;
    let begun = Instant::now();
    let ended = job.await?;
    ensure!(ended.is_err(), "the job's wait ended as {ended:?}");
    probe.settle(500).await;
    let last = probe.heard.iter().filter(|signal| **signal == Signal::Disconnected).count();
    ensure!(last == 1, "{last} disconnects told");
    ensure!(probe.systemd.read("slow.service").await.is_err(), "the old handle still answers");
    let (systemd, _signals) = Systemd::connect().await?;
    ensure!(systemd.link() == Link::Bus, "{:?}", systemd.link());
    systemd.start("short.target", LONG).await?;
    Ok(format!(
        "{} after {:?}; connected again",
        ended.err().map(|error| error.to_string()).unwrap_or_default(),
        begun.elapsed()
    ))
}

pub(crate) async fn many_watches() -> Result<String> {
    let mut probe = Probe::new(Link::Bus).await?;
    let begun = Instant::now();
    for number in 0..600 {
        probe.systemd.watch(&format!("nothing-{number}.service")).await?;
    }
    let took = begun.elapsed();
    probe.systemd.watch("plain.service").await?;
    probe.systemd.start("plain.service", LONG).await?;
    probe.systemd.stop("plain.service", LONG).await?;
    probe.settle(300).await;
    let changes = probe
        .heard
        .iter()
        .filter(|signal| matches!(signal, Signal::UnitChanged { unit, .. } if unit == "plain.service"))
        .count();
    ensure!(changes >= 2, "{changes} changes heard");
    Ok(format!("600 watches in {took:?}, {changes} changes"))
}

pub(crate) async fn no_bus() -> Result<String> {
    run("systemctl stop dbus.socket dbus.service")?;
    let begun = Instant::now();
    let connected = Systemd::connect().await;
    let took = begun.elapsed();
    let result = match &connected {
        Ok((systemd, _)) => {
            systemd.start("short.target", LONG).await?;
            ensure!(systemd.link() == Link::Private);
            systemd.watch("short.target").await?;
            Ok(format!("private socket after {took:?}"))
        }
        Err(error) => Err(anyhow::anyhow!("{error}")),
    };
    run("systemctl start dbus.socket dbus.service")?;
    result
}
