//! What is asked of PID 1: jobs, signals to processes, and facts about the manager.

use std::time::Duration;

use super::error::Error;
use super::handle::{CALL_LIMIT, JobEnd, RELOAD_LIMIT, Systemd, ignore_refusal};
use super::proxies::{MANAGER, MANAGER_INTERFACE, PID1};
use super::signal::{JobKind, SystemState};

/// A new job takes the place of a contrary one, as with `systemctl start`.
pub(super) const REPLACE: &str = "replace";

/// Which processes of a unit a signal goes to, in systemd's word.
const ALL_PROCESSES: &str = "all";

impl Systemd {
    /// Starts the unit and waits for the end of the job. How it ended is no proof that the unit runs.
    ///
    /// # Errors
    /// [`Error::Unfinished`] after `within`: the job still exists and may be cancelled.
    pub async fn start(&self, unit: &str, within: Duration) -> Result<JobEnd, Error> {
        let (manager, name) = (self.shared.manager.clone(), unit.to_owned());
        let call = async move { manager.start_unit(&name, REPLACE).await };
        self.job(unit, JobKind::Start, within, "StartUnit", call).await
    }

    /// Stops the unit and waits for the end of the job, which does not prove that it is gone: see
    /// [`gone`](Self::gone).
    ///
    /// # Errors
    /// [`Error::Unfinished`] after `within`: the job still exists.
    pub async fn stop(&self, unit: &str, within: Duration) -> Result<JobEnd, Error> {
        let (manager, name) = (self.shared.manager.clone(), unit.to_owned());
        let call = async move { manager.stop_unit(&name, REPLACE).await };
        self.job(unit, JobKind::Stop, within, "StopUnit", call).await
    }

    /// Cancels a job. A job that has ended meanwhile is no error.
    ///
    /// # Errors
    /// When PID 1 is silent or the connection lost.
    pub async fn cancel_job(&self, job: u32) -> Result<(), Error> {
        ignore_refusal(self.ask("CancelJob", CALL_LIMIT, self.shared.manager.cancel_job(job)).await)
    }

    /// Forgets the unit's failure and its start limit counter. A unit that is not loaded has none.
    ///
    /// # Errors
    /// When PID 1 refuses for another reason.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), Error> {
        match self.ask("ResetFailedUnit", CALL_LIMIT, self.shared.manager.reset_failed_unit(unit)).await {
            Err(error) if error.is_refusal("NoSuchUnit") => Ok(()),
            other => other,
        }
    }

    /// Sends a signal to all processes of the unit.
    ///
    /// # Errors
    /// When PID 1 refuses, for example because there is no process.
    pub async fn kill(&self, unit: &str, signal: i32) -> Result<(), Error> {
        let call = self.shared.manager.kill_unit(unit, ALL_PROCESSES, signal);
        self.ask("KillUnit", CALL_LIMIT, call).await
    }

    /// Has PID 1 read all unit files again. Never done per start or stop: it costs seconds.
    ///
    /// # Errors
    /// When PID 1 refuses, or takes longer than [`RELOAD_LIMIT`].
    pub async fn reload_daemon(&self) -> Result<(), Error> {
        self.ask("Reload", RELOAD_LIMIT, self.shared.manager.reload()).await
    }

    /// Freezes the unit's processes. systemd thaws them before any job: a pause, never a fence (rule F26).
    ///
    /// # Errors
    /// Where the unit or the kernel does not support it.
    pub async fn freeze(&self, unit: &str) -> Result<(), Error> {
        self.ask("FreezeUnit", CALL_LIMIT, self.shared.manager.freeze_unit(unit)).await
    }

    /// The reverse of [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// Where the unit or the kernel does not support it.
    pub async fn thaw(&self, unit: &str) -> Result<(), Error> {
        self.ask("ThawUnit", CALL_LIMIT, self.shared.manager.thaw_unit(unit)).await
    }

    /// Whether PID 1 answers at all, within this time (rule F27). It costs PID 1 next to nothing.
    ///
    /// # Errors
    /// [`Error::Silent`] when it does not, [`Error::Disconnected`] when nobody can tell.
    pub async fn answers(&self, within: Duration) -> Result<(), Error> {
        let peer = Some("org.freedesktop.DBus.Peer");
        let ping = self.shared.connection.call_method(Some(PID1), MANAGER, peer, "Ping", &());
        self.ask("Ping", within, async { ping.await.map(drop) }).await
    }

    /// State of the whole manager.
    ///
    /// # Errors
    /// When PID 1 cannot be asked.
    pub async fn manager_state(&self) -> Result<SystemState, Error> {
        self.manager_property::<String>("SystemState").await.map(|word| SystemState::parse(&word))
    }

    /// How long a watchdog waits at an orderly reboot, by `RebootWatchdogSec=`: PID 1 sets the device to it then; 0 where
    /// it leaves the device alone, or does not know of this.
    ///
    /// # Errors
    /// When PID 1 cannot be asked.
    pub async fn reboot_watchdog(&self) -> Result<Duration, Error> {
        match self.manager_property::<u64>("RebootWatchdogUSec").await {
            Err(Error::Refused { .. }) => Ok(Duration::ZERO),
            // systemd's word for no time at all.
            Ok(u64::MAX) => Ok(Duration::ZERO),
            other => other.map(Duration::from_micros),
        }
    }

    /// How often the user space was restarted since the kernel started (part of the incarnation, rule F35);
    /// 0 where systemd does not know soft reboots.
    ///
    /// # Errors
    /// When PID 1 cannot be asked, as while it executes itself anew: then nobody knows how often.
    pub async fn soft_reboots(&self) -> Result<u32, Error> {
        match self.manager_property("SoftRebootsCount").await {
            Err(error) if error.is_refusal("UnknownProperty") => Ok(0),
            other => other,
        }
    }

    /// systemd's version, as it writes it (`252.39-1~deb12u1`).
    ///
    /// # Errors
    /// When PID 1 cannot be asked.
    pub async fn version(&self) -> Result<String, Error> {
        self.manager_property("Version").await
    }

    /// The directories from which PID 1 loads units, strongest first.
    ///
    /// # Errors
    /// When PID 1 cannot be asked.
    pub async fn unit_path(&self) -> Result<Vec<String>, Error> {
        self.manager_property("UnitPath").await
    }

    async fn manager_property<T>(&self, name: &'static str) -> Result<T, Error>
    where
        T: TryFrom<zbus::zvariant::OwnedValue>,
    {
        let manager = self.properties(MANAGER).await?;
        let value = self.ask(name, CALL_LIMIT, manager.get(MANAGER_INTERFACE, name)).await?;
        let shown = format!("{value:?}");
        T::try_from(value).map_err(|_| Error::Malformed { what: name, value: shown })
    }
}
