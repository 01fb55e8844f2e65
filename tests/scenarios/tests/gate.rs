//! The gate on real nodes: what systemd does to a start that the cluster has to allow, row by row.
//!
//! Each part is a row of the table of cases that went wrong with a plain gate; the part's name says what holds now. From 71 on
//! they were found later.
//! All rows run on Debian 12 and on Debian 13: the two versions of systemd treat asserts differently (row 23).
//! `CONVOKE_SUITE=bookworm` or `trixie` runs one of them.

use anyhow::{Result, bail};
use lab::Suite;
use scenarios::{Cluster, Plan, run, say};

/// Helpers and rows by what they are about.
mod gate {
    pub(crate) mod boot;
    pub(crate) mod callers;
    pub(crate) mod files;
    pub(crate) mod members;
    pub(crate) mod restart;
    pub(crate) mod site;
    pub(crate) mod waiting;
}

use gate::{boot, callers, files, members, restart, site, waiting};

/// Rows that do not hold yet, and why.
const NOT_YET: &[(u32, &str)] = &[];

type Work = fn(&Cluster) -> Result<()>;

/// Row, what holds, how it is shown.
const ROWS: &[(u32, &str, Work)] = &[
    (2, "a refused target starts none of its members", members::target),
    (3, "a refused service leaves its mount alone", members::mount),
    (14, "a running unit is adopted, and then restarts", restart::adopted),
    (17, "twelve refusals in a row are all answered, the next start is granted", waiting::many),
    (18, "the socket of a refused service is refused, not failed", members::socket),
    (19, "the path of a refused service is refused, not failed", members::path),
    (20, "the timer of a refused service is refused", members::timer),
    (23, "an automatic restart without a permit does not start", restart::without_permit),
    (24, "an automatic restart is no wish", restart::no_wish),
    (27, "a stop while the gate waits leaves no permit", waiting::stopped),
    (28, "a job that ran out of time leaves no unused permit", waiting::timed_out),
    (34, "without the generator an exclusive unit stays shut", files::no_generator),
    (35, "a generator that fails while a start waits opens nothing", files::generator_fails_meanwhile),
    (36, "a drop-in of the same name in /etc masks nothing", files::masked),
    (37, "an empty assert in another drop-in clears nothing", files::cleared),
    (43, "systemctl revert opens nothing", files::reverted),
    (52, "a stop of the daemon leaves the permits' directory", restart::daemon_restart),
    (54, "systemctl isolate leaves the daemon alone", boot::isolate),
    (55, "cluster units of all types boot without an ordering cycle", boot::all_types),
    (57, "gates are answered at once during boot; 58: none of them fails", boot::refused),
    (59, "a mount that the boot needs is told and left out; 60: no emergency mode", boot::fstab),
    (65, "a soft-reboot voids the permits", boot::soft_reboot),
    (68, "a service with RootDirectory= starts, and is refused", files::root_directory),
    (71, "a connection to a socket undoes no stop", callers::socket),
    (72, "a call on the bus undoes no stop", callers::bus),
    (73, "a unit with a backslash in its name finds its token", files::backslash),
];

#[test]
fn the_gate_holds_row_by_row() -> Result<()> {
    let only = std::env::var("CONVOKE_SUITE").ok();
    let mut failed = Vec::new();
    for suite in [Suite::Bookworm, Suite::Trixie] {
        if only.as_deref().is_none_or(|only| only == suite.name())
            && let Err(error) = rows(suite)
        {
            failed.push(format!("{}: {error:#}", suite.name()));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

fn rows(suite: Suite) -> Result<()> {
    let mut plan = Plan::of(1, suite);
    // One node that is the whole cluster: a refusal is a drained node, and nobody is there to be fenced.
    plan.fencing = false;
    run(&format!("gate-{}", suite.name()), plan, |scenario| {
        for (row, what, work) in ROWS {
            if *row == 65 && suite == Suite::Bookworm {
                say("  --      row 65: systemd 252 has no soft-reboot");
                continue;
            }
            if let Some((_, why)) = NOT_YET.iter().find(|(not, _)| not == row) {
                say(&format!("  NOT YET row {row}: {what}: {why}"));
                continue;
            }
            scenario.part(&format!("row {row}: {what}"), |cluster| {
                // Before and not after: what a failed row left behind is its evidence.
                site::tidy(cluster)?;
                work(cluster)
            });
        }
    })
}
