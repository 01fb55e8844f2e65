//! A unit that is watched until the machine goes down.

use std::fs;

use anyhow::{Result, bail};
use units::systemd::stops::{self, Bonds, StopBatch};
use units::systemd::{JobLog, Signal, Systemd};

use crate::probe::now;

/// Watches one unit until the machine goes down, as the daemon would.
pub(crate) async fn serve(unit: &str) -> Result<()> {
    let (systemd, mut signals) = Systemd::connect().await?;
    systemd.watch(unit).await?;
    let mut probe_log = JobLog::default();
    let (_, remembered) = systemd.remember(unit).await?;
    let mut was_up = true;
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        let signal = tokio::select! {
            signal = signals.recv() => signal,
            _ = term.recv() => {
                let gone = systemd.gone(unit, &remembered).await;
                append(&format!("told to end; by {:?}; gone: {}", systemd.link(), gone.map_or_else(|still| still.to_string(), |_| "yes".to_owned())))?;
                return Ok(());
            }
        };
        let Some(signal) = signal else { bail!("no signals") };
        probe_log.saw(&signal);
        if signal == Signal::Disconnected {
            append("disconnected")?;
            return Ok(());
        }
        if !matches!(&signal, Signal::UnitChanged { unit: changed, .. } if changed == unit) {
            continue;
        }
        let reading = systemd.read(unit).await?;
        if reading.active_state.is_up() {
            was_up = true;
        } else if reading.active_state.is_down() && std::mem::take(&mut was_up) {
            let manager = systemd.manager_state().await?;
            let batch = StopBatch::gather(&reading, &probe_log, manager, Bonds::default(), now());
            append(&format!("{:?} (manager {manager:?})", stops::classify(&batch)))?;
        }
    }
}

fn append(text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().create(true).append(true).open("/probe.log")?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    Ok(())
}
