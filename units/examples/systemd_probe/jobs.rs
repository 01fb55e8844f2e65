//! Whose job is whose, and what is heard of those that are short.

use std::time::Instant;

use anyhow::{Result, ensure};
use units::systemd::{Left, Signal};

use crate::probe::{LONG, Probe, run};

pub(crate) async fn start_stop(probe: &mut Probe) -> Result<String> {
    probe.systemd.watch("plain.service").await?;
    probe.settle(200).await;
    probe.heard.clear();
    let begun = Instant::now();
    let started = probe.systemd.start("plain.service", LONG).await?;
    let (reading, remembered) = probe.systemd.remember("plain.service").await?;
    ensure!(reading.active_state.is_up(), "not up: {:?}", reading.active_state);
    let still = probe.systemd.gone("plain.service", &remembered).await;
    ensure!(still.is_err_and(|still| matches!(still.why, Left::State(_))), "a running unit is not gone");
    let stopped = probe.systemd.stop("plain.service", LONG).await?;
    probe.systemd.gone("plain.service", &remembered).await?;
    let took = begun.elapsed();
    probe.settle(200).await;
    let mut kinds = Vec::new();
    let mut changes = 0;
    for signal in &probe.heard {
        match signal {
            Signal::JobNew { id, unit, kind, ours, .. } if unit == "plain.service" => {
                kinds.push(format!("{kind:?}/{ours}/{}", *id == started.job || *id == stopped.job));
            }
            Signal::JobRemoved { ours, unit, .. } if unit == "plain.service" => {
                ensure!(ours, "removed, not ours")
            }
            Signal::UnitChanged { unit, .. } if unit == "plain.service" => changes += 1,
            _ => {}
        }
    }
    ensure!(kinds == ["Some(Start)/true/true", "Some(Stop)/true/true"], "jobs: {kinds:?}");
    ensure!(changes >= 2, "{changes} changes heard");
    probe.systemd.unwatch("plain.service").await?;
    Ok(format!("{took:?}, {changes} changes"))
}

pub(crate) async fn short_jobs(probe: &mut Probe) -> Result<String> {
    probe.settle(100).await;
    probe.heard.clear();
    run("for i in 1 2 3 4 5 6 7 8 9 10; do systemctl start short.target; systemctl stop short.target; done")?;
    run(
        "for i in 1 2 3 4 5; do systemctl start plain.service; systemctl restart plain.service; systemctl stop plain.service; done",
    )?;
    probe.settle(500).await;
    let count = |name: &str, wanted: Option<bool>| {
        probe
            .heard
            .iter()
            .filter(|signal| match signal {
                Signal::JobNew { unit, kind, .. } => {
                    unit == name && wanted.is_none_or(|known| kind.is_some() == known)
                }
                _ => false,
            })
            .count()
    };
    ensure!(count("short.target", None) == 20, "{} of 20 jobs heard", count("short.target", None));
    ensure!(count("plain.service", None) == 15, "{} of 15 jobs heard", count("plain.service", None));
    ensure!(
        !probe.heard.iter().any(|signal| matches!(signal, Signal::JobNew { ours: true, .. })),
        "a foreign job is called ours"
    );
    Ok(format!(
        "kind known of {} of 20 target jobs, of {} of 15 service jobs",
        count("short.target", Some(true)),
        count("plain.service", Some(true))
    ))
}

/// Many jobs of ours beside foreign ones on the same units: none may be mistaken.
pub(crate) async fn ours(probe: &mut Probe) -> Result<String> {
    probe.settle(100).await;
    probe.heard.clear();
    let foreign = std::thread::spawn(|| {
        run("for i in $(seq 30); do systemctl start short.target; systemctl stop short.target; done")
    });
    let mut own = Vec::new();
    for _ in 0..60 {
        own.push(probe.systemd.start("base.service", LONG).await?.job);
        own.push(probe.systemd.stop("base.service", LONG).await?.job);
        probe.settle(1).await;
    }
    foreign.join().map_err(|_| anyhow::anyhow!("thread"))??;
    probe.settle(500).await;
    let (mut new, mut removed) = (0, 0);
    for signal in &probe.heard {
        match signal {
            Signal::JobNew { id, ours, unit, .. } => {
                ensure!(*ours == own.contains(id), "JobNew {id} of {unit}: ours {ours}");
                new += 1;
            }
            Signal::JobRemoved { id, ours, unit, .. } => {
                ensure!(*ours == own.contains(id), "JobRemoved {id} of {unit}: ours {ours}");
                removed += 1;
            }
            _ => {}
        }
    }
    ensure!(new == removed && new >= 180, "{new} new, {removed} removed");
    Ok(format!("{new} jobs, {} of them ours", own.len()))
}
