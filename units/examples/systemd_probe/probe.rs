//! A connection with what it heard, and how what was tried is told.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::mpsc::Receiver;
use units::systemd::stops::{self, Bonds, StopBatch};
use units::systemd::{JobLog, JobResult, Link, Signal, Systemd};

pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

pub(crate) fn run(command: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", command]).output()?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// A connection with what it heard.
pub(crate) struct Probe {
    pub(crate) systemd: Systemd,
    signals: Receiver<Signal>,
    pub(crate) heard: Vec<Signal>,
    pub(crate) log: JobLog,
}

impl Probe {
    pub(crate) async fn new(link: Link) -> Result<Self> {
        let (systemd, signals) = Systemd::connect_by(link).await?;
        Ok(Self { systemd, signals, heard: Vec::new(), log: JobLog::default() })
    }

    /// Hears for a while.
    pub(crate) async fn settle(&mut self, ms: u64) {
        let end = tokio::time::Instant::now() + Duration::from_millis(ms);
        while let Ok(Some(signal)) = tokio::time::timeout_at(end, self.signals.recv()).await {
            self.log.saw(&signal);
            self.heard.push(signal);
        }
    }

    pub(crate) async fn until_down(&mut self, unit: &str) -> Result<()> {
        let end = Instant::now() + LONG;
        while !self.systemd.read(unit).await?.active_state.is_down() {
            ensure!(Instant::now() < end, "{unit} does not go down");
            self.settle(20).await;
        }
        self.settle(100).await;
        Ok(())
    }

    pub(crate) async fn up(&mut self, unit: &str) -> Result<()> {
        let end = self.systemd.start(unit, LONG).await?;
        ensure!(end.result == JobResult::Done, "start of {unit}: {}", end.result);
        self.settle(400).await;
        Ok(())
    }

    pub(crate) async fn cause(&mut self, unit: &str) -> Result<stops::StopCause> {
        let reading = self.systemd.read(unit).await?;
        let manager = self.systemd.manager_state().await?;
        let mut bonds = Bonds::default();
        for bond in &reading.relations.binds_to {
            let read = self.systemd.read(bond).await?;
            bonds.left.extend(read.times.active_exit.map(|at| (bond.clone(), at)));
            bonds.down.extend((!read.active_state.is_up()).then(|| bond.clone()));
        }
        let batch = StopBatch::gather(&reading, &self.log, manager, bonds, now());
        Ok(stops::classify(&batch))
    }

    /// Whole story of one stop: up, something happens, down, and who did it.
    pub(crate) async fn story(&mut self, units: &[&str], subject: &str, deed: &str) -> Result<String> {
        for unit in units {
            self.up(unit).await?;
        }
        run(deed)?;
        self.until_down(subject).await?;
        let cause = format!("{:?}", self.cause(subject).await?);
        for unit in units {
            self.systemd.stop(unit, LONG).await?;
            self.systemd.reset_failed(unit).await?;
        }
        self.settle(400).await;
        Ok(cause)
    }
}

pub(crate) fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

pub(crate) struct Score {
    pub(crate) failed: usize,
}

impl Score {
    pub(crate) fn note(&mut self, what: &str, result: Result<String>) {
        match result {
            Ok(detail) => say(&format!("ok    {what}: {detail}")),
            Err(error) => {
                self.failed += 1;
                say(&format!("FAIL  {what}: {error:#}"));
            }
        }
    }

    pub(crate) fn expect(&mut self, what: &str, got: Result<String>, wanted: &str) {
        let result = got.and_then(|got| {
            ensure!(got == wanted, "{got}, but wanted {wanted}");
            Ok(got)
        });
        self.note(what, result);
    }
}
