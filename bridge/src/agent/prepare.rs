//! What must be done before systemd is told that the daemon is ready, and so before any cluster unit can start (F8).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use policy::{Incarnation, UnitName};
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
    pub(super) left_filed: BTreeMap<UnitName, Permit>,
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
    // What is in sight of the gates comes last: it is the latest.
    for place in [Place::Releasing, Place::Spent, Place::Permits] {
        let dir = place.dir(paths).display().to_string();
        for (unit, found) in place.load(paths).map_err(files(dir.clone()))? {
            let file = || files(format!("{dir}/{unit}"));
            let (permit, standing) = match believed(&unit, found, &incarnation) {
                Some(permit) => {
                    let reading = systemd.read(unit.as_str()).await.map_err(PrepareError::Systemd)?;
                    let standing = Standing::of(reading.active_state, &reading.freezer_state);
                    let remains = standing == Standing::Down && any_up(&systemd, &permit.members).await?;
                    (Some(permit), if remains { Standing::Remains } else { standing })
                }
                None => (None, Standing::Void),
            };
            let starts = permit.as_ref().map_or(Starts::Any, |permit| permit.starts);
            let left = place != Place::Releasing && permit.as_ref().is_some_and(Permit::outlasts_the_lease);
            match (if left { Fate::Hold } else { fate(place, standing, starts) }, permit) {
                (Fate::Hold, Some(permit)) => {
                    releasing.remove(&unit);
                    held.insert(unit, permit);
                }
                (Fate::GiveBack, Some(permit)) => {
                    let permit = Permit { starts: Starts::Made, ..permit };
                    permit::spend(paths, &unit, &permit).map_err(file())?;
                    releasing.remove(&unit);
                    held.insert(unit, permit);
                }
                (Fate::Release, Some(permit)) => {
                    if place != Place::Releasing {
                        permit::set_aside(paths, &unit).map_err(file())?;
                    }
                    releasing.insert(unit, permit);
                }
                (fate, permit) => {
                    tracing::info!(%unit, "removed a permit that nothing runs under");
                    if place == Place::Permits {
                        permit::remove(paths, &unit).map_err(file())?;
                    }
                    crate::atomic::remove(&place.dir(paths).join(unit.as_str())).map_err(file())?;
                    if let (Fate::LeftFiled, Some(permit)) = (fate, permit) {
                        left_filed.insert(unit, permit);
                    }
                }
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

/// Where a permit file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the gate's sight.
    Permits,
    /// Its one start was begun.
    Spent,
    /// Its release was begun.
    Releasing,
}

impl Place {
    fn dir(self, paths: &Paths) -> PathBuf {
        match self {
            Self::Permits => paths.permits_dir(),
            Self::Spent => paths.spent_dir(),
            Self::Releasing => paths.releasing_dir(),
        }
    }

    fn load(self, paths: &Paths) -> io::Result<Vec<(UnitName, Option<Permit>)>> {
        match self {
            Self::Permits => permit::load(paths),
            Self::Spent => permit::load_spent(paths),
            Self::Releasing => permit::load_releasing(paths),
        }
    }
}

/// How the unit of a permit file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It runs, comes up or is about to restart.
    Runs,
    /// It stops.
    Stops,
    /// It is down, and something that was gated on its permit is not.
    Remains,
    /// Nothing of it runs.
    Down,
    /// The file says nothing: of another life, unreadable, or of a unit that is frozen.
    Void,
}

impl Standing {
    fn of(active: ActiveState, freezer: &str) -> Self {
        match active {
            _ if freezer == "frozen" => Self::Void,
            ActiveState::Activating => Self::Runs,
            active if active.is_up() => Self::Runs,
            active if active.is_down() => Self::Down,
            _ => Self::Stops,
        }
    }
}

/// What becomes of a permit file that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The unit runs on under it.
    Hold,
    /// Its one start was made, or may have been: it is given back, and nothing starts under it any more (F16).
    GiveBack,
    /// What is left of its unit runs on its terms until it is gone.
    Release,
    /// It is removed, and the unit is known to have stopped with no release begun.
    LeftFiled,
    /// It is removed.
    Drop,
}

fn fate(place: Place, standing: Standing, starts: Starts) -> Fate {
    match (place, standing) {
        (_, Standing::Void) => Fate::Drop,
        (Place::Releasing, Standing::Runs) | (_, Standing::Stops) => Fate::Release,
        (_, Standing::Runs) => Fate::Hold,
        (_, Standing::Down | Standing::Remains) if starts != Starts::Any => Fate::GiveBack,
        (Place::Releasing, Standing::Remains) => Fate::Release,
        (_, Standing::Remains) => Fate::Hold,
        (Place::Permits, Standing::Down) => Fate::LeftFiled,
        (_, Standing::Down) => Fate::Drop,
    }
}

async fn any_up(systemd: &Systemd, members: &BTreeSet<String>) -> Result<bool, PrepareError> {
    for member in members {
        let reading = systemd.read(member).await.map_err(PrepareError::Systemd)?;
        if !reading.active_state.is_down() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A permit counts only for this life.
fn believed(unit: &UnitName, found: Option<Permit>, incarnation: &Incarnation) -> Option<Permit> {
    found.filter(|permit| permit.incarnation == *incarnation && permit::usable(unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::permit::tests::permit;

    #[test]
    fn the_one_start_of_a_clustered_service_is_not_made_again_wherever_its_daemon_was_killed() {
        for place in [Place::Permits, Place::Spent, Place::Releasing] {
            for starts in [Starts::One, Starts::Made] {
                assert_eq!(fate(place, Standing::Down, starts), Fate::GiveBack, "{place:?} {starts:?}");
            }
        }
    }

    #[test]
    fn what_runs_is_held_and_what_was_being_released_goes_on_being_so() {
        let table = [
            (Place::Permits, Standing::Runs, Fate::Hold),
            (Place::Spent, Standing::Runs, Fate::Hold),
            (Place::Releasing, Standing::Runs, Fate::Release),
            (Place::Permits, Standing::Stops, Fate::Release),
            (Place::Spent, Standing::Stops, Fate::Release),
            (Place::Releasing, Standing::Stops, Fate::Release),
            (Place::Permits, Standing::Down, Fate::LeftFiled),
            (Place::Releasing, Standing::Down, Fate::Drop),
            (Place::Permits, Standing::Remains, Fate::Hold),
            (Place::Releasing, Standing::Remains, Fate::Release),
        ];
        for (place, standing, expected) in table {
            assert_eq!(fate(place, standing, Starts::Any), expected, "{place:?} {standing:?}");
            assert_eq!(fate(place, Standing::Void, Starts::Made), Fate::Drop);
        }
    }

    #[test]
    fn a_permit_of_another_life_says_nothing() {
        let (unit, life): (UnitName, Incarnation) = ("db.service".into(), permit(7).incarnation);
        assert_eq!(believed(&unit, Some(permit(7)), &life), Some(permit(7)));
        assert_eq!(believed(&unit, Some(permit(7)), &"boot/2/0".into()), None);
        assert_eq!(believed(&"../db.service".into(), Some(permit(7)), &life), None);
        assert_eq!(believed(&unit, None, &life), None);
    }

    #[test]
    fn what_is_frozen_is_trusted_as_little_as_what_cannot_be_read() {
        assert_eq!(Standing::of(ActiveState::Active, "frozen"), Standing::Void);
        assert_eq!(Standing::of(ActiveState::Activating, "running"), Standing::Runs);
        assert_eq!(Standing::of(ActiveState::Failed, "running"), Standing::Down);
        assert_eq!(Standing::of(ActiveState::Deactivating, "running"), Standing::Stops);
    }
}
