//! What Convoke must show on real nodes: a cluster in the lab, parts of a scenario, and what the witness saw.
//!
//! Everything goes through what an operator has: the package, `convoke`, `systemctl`, files and the journal. The
//! program's own types are not used, so that a renamed field of `--json` fails here as it would in a script.
//!
//! ```no_run
//! use std::time::Duration;
//! use scenarios::{Plan, run};
//!
//! # fn main() -> anyhow::Result<()> {
//! run("example", Plan::three(), |scenario| {
//!     scenario.part("a unit runs where it was moved to", |cluster| {
//!         cluster.run_unit("witness.service", 1)?;
//!         cluster.ok(1, "convoke move witness.service n2")?;
//!         cluster.until("it runs on n2", Duration::from_secs(5), |now| now.runs_on("witness.service", "n2"))?;
//!         cluster.never_twice("witness.service")
//!     });
//! })
//! # }
//! ```
//!
//! A scenario is one formed cluster and several parts. Each part begins with a whole cluster, whatever the one before
//! did; one that fails leaves its evidence in `target/lab-logs/SCENARIO/PART`, and the others still run.
//! `CONVOKE_PART=TEXT|TEXT` runs only the parts whose name contains one of the texts; `CONVOKE_LAB_KEEP=1` leaves the nodes up.

mod asked;
mod cluster;
mod dice;
mod form;
mod gauge;
mod hang;
mod identity;
mod ledger;
mod model;
mod outage;
mod package;
mod plan;
mod recipe;
mod scenario;
mod servers;
mod told;
mod unit;
mod wait;
mod watch;

pub use cluster::Cluster;
pub use dice::Dice;
pub use gauge::{Gauge, fast};
pub use identity::Process;
pub use ledger::Ledger;
pub use model::{
    Alarm, Change, Copy, End, Fence, Link, Maintenance, NodeStatus, Overview, UnitStatus, Why, WhyReason,
};
pub use outage::{Outage, Role, table};
pub use package::package;
pub use plan::Plan;
pub use recipe::{NodeData, Recipe};
pub use scenario::{Scenario, run};
pub use servers::{configure_galera, configure_rabbitmq};
pub use unit::UnitFile;
pub use watch::{Beat, Moment};

/// A text for people without its line breaks and columns: they depend on how wide the screen is.
#[must_use]
pub fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Says something to whoever watches the run.
pub fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}
