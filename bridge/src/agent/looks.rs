//! Looks at a unit through PID 1: what it does, and if it is down, what is left of it and what may have taken it down.

use std::path::Path;
use std::time::Duration;

use units::systemd::stops::Bonds;
use units::systemd::{Error, JobKind, Left, Reading, Systemd};

use super::bus;
use super::event::{GateLook, Look};

/// How often a look that found a job between two states is made again, and after how long.
const LOOKS_AGAIN: u32 = 5;
const AGAIN: Duration = Duration::from_millis(5);

/// One fresh look. A job that is over before it can be asked what it does leaves it open what is there: then another.
pub(super) async fn look(systemd: &Systemd, unit: &str) -> Result<Look, Error> {
    let mut again = LOOKS_AGAIN;
    loop {
        let (look, settled) = one_look(systemd, unit).await?;
        if settled || again == 0 {
            return Ok(look);
        }
        again -= 1;
        tokio::time::sleep(AGAIN).await;
    }
}

/// A look, and whether the unit's job could be asked for.
async fn one_look(systemd: &Systemd, unit: &str) -> Result<(Look, bool), Error> {
    let mut settled = true;
    let (reading, remembered) = systemd.remember(unit).await?;
    let mut look = Look {
        reading,
        remembered,
        left: None,
        manager: None,
        bonds: Bonds::default(),
        partners_gone: Vec::new(),
    };
    if look.reading.active_state.is_down() {
        look.manager = Some(systemd.manager_state().await?);
        look.bonds = bonds(systemd, &look.reading.relations.binds_to).await;
        if matches!(look.reading.result.as_str(), "" | "success") {
            look.partners_gone = partners_gone(systemd, &look.reading).await;
        }
        if let Err(still) = systemd.gone(unit, &look.remembered).await {
            if matches!(still.why, Left::Unknown(_)) {
                still_answers(systemd).await?;
                settled = false;
            }
            // A start that waits at its gate is no copy: without a permit the gate refuses it.
            let waits = matches!(&still.why, Left::Job(job) if job.kind == Some(JobKind::Start));
            settled &= !matches!(&still.why, Left::Job(job) if job.kind.is_none());
            look.left = (!waits || still.part != unit).then(|| still.to_string());
        }
    }
    Ok((look, settled))
}

/// Whether PID 1 still answers: what could not be read while its connection broke says nothing of a unit.
pub(super) async fn still_answers(systemd: &Systemd) -> Result<(), Error> {
    systemd.manager_state().await.map(drop)
}

async fn bonds(systemd: &Systemd, units: &[String]) -> Bonds {
    let mut bonds = Bonds::default();
    for (unit, read) in readings(systemd, units).await {
        bonds.left.extend(read.times.active_exit.map(|at| (unit.clone(), at)));
        bonds.down.extend((!read.active_state.is_up()).then_some(unit));
    }
    bonds
}

async fn partners_gone(systemd: &Systemd, reading: &Reading) -> Vec<String> {
    let relations = &reading.relations;
    let with =
        [&relations.requires, &relations.requisite, &relations.part_of, &relations.stop_propagated_from];
    // A slice stops with the last of its units, not before it.
    let with = with.into_iter().flatten().filter(|name| !name.ends_with(".slice"));
    let against = relations.conflicts.iter().chain(&relations.conflicted_by);
    let (with, against): (Vec<String>, Vec<String>) = (with.cloned().collect(), against.cloned().collect());
    let (mut gone, come) = tokio::join!(inactive(systemd, &with), active(systemd, &against));
    gone.extend(come);
    gone
}

/// A look at a unit whose start waits at its gate.
pub(super) async fn gate_look(systemd: &Systemd, unit: &str) -> Result<GateLook, Error> {
    let reading = systemd.read(unit).await?;
    let manager = systemd.manager_state().await?;
    let upheld_by_active = active(systemd, &reading.relations.upheld_by).await;
    let mut active_triggers = match reading.job.as_ref().and_then(|job| job.activation_details.as_ref()) {
        // Older systemd does not say what set a unit off.
        None => active(systemd, &reading.relations.triggered_by).await,
        Some(named) if !named.is_empty() => Vec::new(),
        // A timer or path would be named. A socket is not, and shows by its state that it has set its service off.
        Some(_) => silent_triggers(systemd, &reading.relations.triggered_by).await,
    };
    // Nothing tells a call on the bus from a person's.
    active_triggers.extend(bus::name_that_starts(Path::new("/"), &reading.names));
    Ok(GateLook { reading, manager, upheld_by_active, active_triggers })
}

/// A socket or automount that waits has not set anything off; once it has, it is `running`.
async fn silent_triggers(systemd: &Systemd, units: &[String]) -> Vec<String> {
    let sockets =
        units.iter().filter(|unit| [".socket", ".automount"].iter().any(|kind| unit.ends_with(kind)));
    let reads = sockets.map(|unit| async move { systemd.read(unit).await.ok() });
    let fired = futures_util::future::join_all(reads).await.into_iter().flatten();
    fired.filter(|reading| reading.sub_state == "running").map(|reading| reading.id).collect()
}

async fn states(systemd: &Systemd, units: &[String]) -> Vec<(String, bool)> {
    let read = readings(systemd, units).await.into_iter();
    read.map(|(unit, reading)| (unit, reading.active_state.is_up())).collect()
}

async fn readings(systemd: &Systemd, units: &[String]) -> Vec<(String, Reading)> {
    let reads = units
        .iter()
        .map(|unit| async move { systemd.read(unit).await.ok().map(|reading| (unit.clone(), reading)) });
    futures_util::future::join_all(reads).await.into_iter().flatten().collect()
}

async fn active(systemd: &Systemd, units: &[String]) -> Vec<String> {
    states(systemd, units).await.into_iter().filter(|(_, up)| *up).map(|(unit, _)| unit).collect()
}

async fn inactive(systemd: &Systemd, units: &[String]) -> Vec<String> {
    states(systemd, units).await.into_iter().filter(|(_, up)| !up).map(|(unit, _)| unit).collect()
}
