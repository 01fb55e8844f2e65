//! What is still there of a unit after its stop, and when it is gone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use units::systemd::{Left, Remembered};

use crate::probe::{LONG, Probe};

pub(crate) async fn leftovers(probe: &Probe) -> Result<String> {
    let systemd = &probe.systemd;
    systemd.start("left.service", LONG).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (_, remembered) = systemd.remember("left.service").await?;
    let end = systemd.stop("left.service", LONG).await?;
    let still = systemd.gone("left.service", &remembered).await.err().context("gone with processes left")?;
    ensure!(matches!(still.why, Left::Processes(_)), "{still}");
    let never_seen = systemd.gone("left.service", &Remembered::default()).await;
    ensure!(never_seen.is_err(), "without a memory the usual group must tell");
    ensure!(systemd.kill_group(&remembered, LONG).await?, "survived");
    systemd.gone("left.service", &remembered).await?;
    systemd.reset_failed("left.service").await?;
    Ok(format!("stop said `{}`; {still}", end.result))
}

pub(crate) async fn stubborn(probe: &Probe) -> Result<String> {
    let systemd = &probe.systemd;
    systemd.start("stubborn.service", LONG).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (_, remembered) = systemd.remember("stubborn.service").await?;
    let early = systemd.stop("stubborn.service", Duration::from_millis(100)).await;
    ensure!(early.is_err(), "the wait has no bound");
    let end = systemd.stop("stubborn.service", LONG).await?;
    let still =
        systemd.gone("stubborn.service", &remembered).await.err().context("gone with processes left")?;
    ensure!(systemd.kill_group(&remembered, LONG).await?, "survived");
    let gone = systemd.gone("stubborn.service", &remembered).await?;
    systemd.reset_failed("stubborn.service").await?;
    Ok(format!(
        "{}; stop said `{}`; {still}; then gone with {}",
        early.err().map(|error| error.to_string()).unwrap_or_default(),
        end.result,
        gone.reading.result
    ))
}

pub(crate) async fn auto_restart(probe: &Probe) -> Result<String> {
    let systemd = &probe.systemd;
    systemd.start("loop.service", LONG).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (reading, remembered) = systemd.remember("loop.service").await?;
    let still = systemd.gone("loop.service", &remembered).await.err().context("gone in auto-restart")?;
    ensure!(still.why == Left::AutoRestart, "{still}");
    systemd.stop("loop.service", LONG).await?;
    systemd.gone("loop.service", &remembered).await?;
    Ok(format!("{:?}/{}: {still}", reading.active_state, reading.sub_state))
}

pub(crate) async fn mount(probe: &Probe) -> Result<String> {
    let systemd = &probe.systemd;
    systemd.start("mnt-x.mount", LONG).await?;
    let (reading, remembered) = systemd.remember("mnt-x.mount").await?;
    ensure!(reading.where_ == "/mnt/x" && reading.what == "tmpfs", "{} {}", reading.what, reading.where_);
    systemd.stop("mnt-x.mount", LONG).await?;
    systemd.gone("mnt-x.mount", &remembered).await?;
    Ok("gone".to_owned())
}

pub(crate) async fn parts(probe: &Probe, target: &str, part: &str) -> Result<String> {
    let systemd = &probe.systemd;
    systemd.start(target, LONG).await?;
    systemd.start(part, LONG).await?;
    let (_, remembered) = systemd.remember(target).await?;
    ensure!(remembered.groups.contains_key(part), "the part's group is not remembered: {remembered:?}");
    systemd.stop(target, LONG).await?;
    let at_once = systemd.gone(target, &remembered).await;
    let end = Instant::now() + LONG;
    while systemd.gone(target, &remembered).await.is_err() {
        ensure!(Instant::now() < end, "never gone");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let parts = systemd.gone(target, &remembered).await?.parts;
    ensure!(parts == [part], "{parts:?}");
    Ok(match at_once {
        Ok(_) => "gone at once".to_owned(),
        Err(still) => format!("at first {still}"),
    })
}

pub(crate) async fn escaped(probe: &mut Probe) -> Result<String> {
    let unit = "a\\x20b.service";
    probe.systemd.start(unit, LONG).await?;
    let (_, remembered) = probe.systemd.remember(unit).await?;
    probe.systemd.stop(unit, LONG).await?;
    probe.systemd.gone(unit, &remembered).await?;
    Ok(format!("{:?}", remembered.groups))
}
