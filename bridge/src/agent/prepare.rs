//! What must be done before systemd is told that the daemon is ready, and so before any cluster unit can start (F8).

use std::collections::BTreeMap;
use std::io;

use policy::{Incarnation, Token, UnitName};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use units::systemd::{ActiveState, Signal, Systemd};

use super::executor::PREFIX;
use super::incarnation::{self, IncarnationError};
use super::permit::{self, Permit, Starts};
use super::probe;
use super::{chain, gate};
use crate::paths::Paths;

/// Why the agent cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A directory or file below `/run/convoke` cannot be used.
    #[error("cannot use {what}")]
    Files {
        /// Which.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// PID 1 cannot be reached or asked.
    #[error("systemd cannot be asked")]
    Systemd(#[source] units::systemd::Error),
    /// This life of the machine has no name.
    #[error("this life of the machine cannot be told from others")]
    Incarnation(#[source] IncarnationError),
}

/// What the agent begins with.
#[derive(Debug)]
pub struct Prepared {
    /// Which life of the machine this is.
    pub incarnation: Incarnation,
    /// The kernel's id of this boot, which the lease file names.
    pub boot: String,
    pub(super) systemd: Systemd,
    pub(super) signals: mpsc::Receiver<Signal>,
    pub(super) held: BTreeMap<UnitName, Permit>,
    /// Permits whose release an earlier daemon had begun, or whose unit is stopping: nothing starts under them.
    pub(super) releasing: BTreeMap<UnitName, Permit>,
    /// Units that are down although the file of this permit was in place: they stopped while no daemon listened.
    pub(super) left_filed: BTreeMap<UnitName, Token>,
    pub(super) listener: UnixListener,
}

/// Connects to PID 1, removes every permit that nothing runs under, stops fence agents of an earlier daemon, and opens
/// the gates' socket.
///
/// # Errors
/// [`PrepareError`]; the daemon must not say that it is ready then.
pub async fn prepare(paths: &Paths) -> Result<Prepared, PrepareError> {
    let files = |what: String| move |source| PrepareError::Files { what, source };
    permit::prepare(paths).map_err(files("/run/convoke".to_owned()))?;
    let (systemd, signals) = Systemd::connect().await.map_err(PrepareError::Systemd)?;
    let boot = incarnation::boot_id(paths).map_err(PrepareError::Incarnation)?;
    let incarnation = incarnation::incarnation(paths, &systemd).await.map_err(PrepareError::Incarnation)?;
    let (mut held, mut releasing, mut left_filed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let aside = |unit: &UnitName| files(paths.releasing_dir().join(unit.as_str()).display().to_string());
    for (unit, found) in permit::load_releasing(paths).map_err(files("/run/convoke/releasing".to_owned()))? {
        match keeps(&systemd, &unit, found, &incarnation).await? {
            Kept::Runs(permit) | Kept::Stops(permit) => drop(releasing.insert(unit, permit)),
            Kept::Down(_) | Kept::Nothing => permit::forget(paths, &unit).map_err(aside(&unit))?,
        }
    }
    for (unit, found) in permit::load_spent(paths).map_err(files("/run/convoke/spent".to_owned()))? {
        match keeps(&systemd, &unit, found, &incarnation).await? {
            // One that is down is given back: there is no second start under it (F16).
            Kept::Runs(permit) | Kept::Down(permit) => drop(held.insert(unit, permit)),
            Kept::Stops(permit) => {
                permit::set_aside(paths, &unit).map_err(aside(&unit))?;
                releasing.insert(unit, permit);
            }
            Kept::Nothing => permit::forget(paths, &unit).map_err(aside(&unit))?,
        }
    }
    for (unit, found) in permit::load(paths).map_err(files("/run/convoke/permits".to_owned()))? {
        match keeps(&systemd, &unit, found, &incarnation).await? {
            Kept::Runs(permit) => {
                releasing.remove(&unit);
                held.insert(unit, permit);
            }
            Kept::Stops(permit) => {
                permit::set_aside(paths, &unit).map_err(aside(&unit))?;
                releasing.insert(unit, permit);
            }
            // Nobody knows whether its one start was made.
            Kept::Down(permit) if permit.starts == Starts::One => {
                let permit = Permit { starts: Starts::Made, ..permit };
                permit::spend(paths, &unit, &permit)
                    .map_err(files(paths.spent_dir().display().to_string()))?;
                held.insert(unit, permit);
            }
            not => {
                if let Kept::Down(permit) = not {
                    left_filed.insert(unit.clone(), permit.token);
                }
                tracing::info!(%unit, "removed a permit that nothing runs under");
                let path = paths.permit(unit.as_str());
                permit::remove(paths, &unit).map_err(files(path.display().to_string()))?;
                crate::atomic::remove(&path).map_err(files(path.display().to_string()))?;
            }
        }
    }
    for prefix in [PREFIX, probe::PREFIX] {
        match systemd.stop_leftover_transients(prefix).await {
            Ok(stopped) if stopped.is_empty() => {}
            Ok(stopped) => tracing::warn!(?stopped, "stopped programs that an earlier daemon left"),
            Err(error) => {
                tracing::error!(error = chain(&error), prefix, "programs of an earlier daemon may still run")
            }
        }
    }
    let socket = paths.socket();
    let listener = gate::open(&socket).map_err(files(socket.display().to_string()))?;
    Ok(Prepared { incarnation, boot, systemd, signals, held, releasing, left_filed, listener })
}

/// What a permit file that was found is worth.
enum Kept {
    Runs(Permit),
    /// What is left of its unit, which stops, runs on its terms until it is gone.
    Stops(Permit),
    /// Nothing, but that the unit was not being released.
    Down(Permit),
    Nothing,
}

/// A permit counts only for this life, and only while its unit runs, comes up or is about to restart.
async fn keeps(
    systemd: &Systemd,
    unit: &UnitName,
    found: Option<Permit>,
    incarnation: &Incarnation,
) -> Result<Kept, PrepareError> {
    let Some(permit) = found.filter(|permit| permit.incarnation == *incarnation && permit::usable(unit))
    else {
        return Ok(Kept::Nothing);
    };
    let reading = systemd.read(unit.as_str()).await.map_err(PrepareError::Systemd)?;
    let frozen = reading.freezer_state == "frozen";
    let runs = reading.active_state.is_up() || reading.active_state == ActiveState::Activating;
    Ok(match runs {
        _ if frozen => Kept::Nothing,
        true => Kept::Runs(permit),
        false if reading.active_state.is_down() => Kept::Down(permit),
        false => Kept::Stops(permit),
    })
}
