//! The role goes to another node, or comes back: by a word, or as its server or its own program ends or hangs.

use anyhow::{Result, ensure};
use scenarios::{Cluster, Moment, say};

use super::{
    PRIMARY, SERVER, UP, all_follow, another, pause_after, primary, still_written, up, wall_ns, whole,
    written,
};

pub(crate) fn moved(c: &Cluster) -> Result<()> {
    up(c)?;
    for _ in 0..3 {
        written(c, 20)?;
        let (from, then, begin) = (primary(c)?, wall_ns(), Moment::now());
        let to = from % 3 + 1;
        c.ok(c.anybody()?, &format!("convoke move {} n{to}", PRIMARY.unit))?;
        let took = begin.elapsed();
        ensure!(all_follow(c)? == to, "it is not on n{to}");
        written(c, 20)?;
        say(&format!("    n{from} to n{to} in {took:.1?}, no write for {:.1?}", pause_after(c, then)?));
    }
    whole(c)
}

pub(crate) fn drained(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let (on, then) = (primary(c)?, wall_ns());
    c.ok(c.anybody()?, &format!("convoke drain n{on}"))?;
    let to = another(c, on)?;
    still_written(c, 20)?;
    say(&format!(
        "    n{on} was drained, the primary is on n{to}: no write for {:.1?}",
        pause_after(c, then)?
    ));
    c.ok(c.anybody()?, &format!("convoke undrain n{on}"))?;
    ensure!(all_follow(c)? == to, "the primary has moved again");
    whole(c)
}

/// A signal strikes the main process of a unit at the primary's node; the role comes back, wherever.
fn struck(c: &Cluster, unit: &str, signal: &str, how: &str) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let (then, index, on) = (wall_ns(), c.overview()?.index, primary(c)?);
    c.ok(on, &format!("systemctl kill --kill-who=main --signal={signal} {unit}"))?;
    c.until_event(index, "unit-released", UP)?;
    let to = all_follow(c)?;
    written(c, 20)?;
    say(&format!("    {how} on n{on}, the primary is on n{to}: no write for {:.1?}", pause_after(c, then)?));
    whole(c)
}

pub(crate) fn killed(c: &Cluster) -> Result<()> {
    struck(c, SERVER.unit, "KILL", "killed")
}

pub(crate) fn unheld(c: &Cluster) -> Result<()> {
    struck(c, PRIMARY.unit, "KILL", "its holder was killed")
}

pub(crate) fn hung(c: &Cluster) -> Result<()> {
    struck(c, SERVER.unit, "STOP", "hung")
}
