//! Asks whether anything of a unit is left on this node outside its processes (`GoneExec=`): an address, a mount, a lock.
//!
//! In a transient unit of its own, so that a program that hangs in the kernel holds up neither the daemon nor its next start; and one
//! that systemd starts while it shuts the machine down too. What is not said in time counts as left.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::UnitName;
use units::section::Program;
use units::systemd::{Outcome, Systemd, TransientSpec};

use super::chain;
use super::probe;

/// The longest that it may take; part of the unit's stop budget.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Kept of its output.
const OUTPUT_CAP: usize = 16 * 1024;

/// What is left; `Ok` if the program says, within `limit` and [`LIMIT`], that nothing is.
///
/// # Errors
/// What is left, or why nobody knows, in words: the same ones each time, for they are told once.
pub(super) async fn nothing_left(
    systemd: &Systemd,
    program: &Program,
    unit: &UnitName,
    node_name: &str,
    limit: Duration,
) -> Result<(), String> {
    let name = probe::transient(unit, "gone");
    let ended = systemd.end_transient(&name).await;
    ended
        .map_err(|error| format!("an earlier run of {} cannot be ended: {}", program.path, chain(&error)))?;
    let spec = TransientSpec {
        name,
        description: format!("what is left of {unit}"),
        program: program.path.clone(),
        args: program.args.clone(),
        stdin: Vec::new(),
        deadline: limit.min(LIMIT),
        output_cap: OUTPUT_CAP,
        environment: BTreeMap::from([
            ("CONVOKE_UNIT".to_owned(), unit.0.clone()),
            ("CONVOKE_NODE".to_owned(), node_name.to_owned()),
        ]),
        binds_to: None,
    };
    let end = systemd.run_transient(spec).await;
    match end.outcome {
        Outcome::TimedOut => Err(format!("{} does not end", program.path)),
        _ => probe::verdict(&end).map_err(|why| format!("{}: {why}", program.path)),
    }
}
