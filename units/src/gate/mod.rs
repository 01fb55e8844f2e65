//! The gate: what systemd is told, so that a cluster unit starts only with a permit.
//!
//! Decides the exact texts for a unit and for its members, and judges whether PID 1 has them in force.
//! Pure; what was seen to work on systemd 252 and 257, and why, is in the gate's own table
//! (`docs/design/gate.md`). Knows neither sections nor clusters.

mod audit;
mod texts;

pub use audit::{AssertSeen, GateFault, LoadedUnit, audit};
pub use texts::{Kind, Needs, member, own};

/// Directory of the permits, one file per unit that may run, named by the unit's raw name.
pub const PERMITS: &str = "/run/convoke/permits";

/// Directory of the environment files of starts.
pub const ENVIRONMENTS: &str = "/run/convoke/env";

/// First part of the names of generated drop-ins. `~` sorts after every letter and digit, so that no
/// drop-in of an administrator resets the gate behind it (row 37).
pub const OUR_PREFIX: &str = "~convoke-";

/// Name of the drop-in that gates a cluster unit.
pub const GATE_FILE: &str = "~convoke-gate.conf";

/// Name of the drop-in that gates a member.
pub const MEMBER_FILE: &str = "~convoke-member.conf";

/// Path of a unit's permit.
pub fn permit_path(unit: &str) -> String {
    format!("{PERMITS}/{unit}")
}

/// Name of the service that asks the cluster for a unit.
pub fn gate_unit(unit: &str) -> String {
    format!("convoke-gate@{unit}.service")
}
