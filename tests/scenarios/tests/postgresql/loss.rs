//! The primary's node is lost, and comes back with what the others have not; or a standby is behind when it is lost.

use anyhow::{Result, ensure};
use scenarios::{Cluster, Moment, say};

use super::{
    PRIMARY, SERVER, UP, all_follow, another, pause_after, primary, sql, still_written, up, wall_ns, whole,
    written,
};

/// Commits what no other server gets, and nobody is told of.
fn only_here(c: &Cluster, i: usize) -> Result<()> {
    c.ok(
        i,
        "nft 'add table inet mute; add chain inet mute out { type filter hook output priority 0; }; \
         add rule inet mute out oifname != lo tcp sport 5432 drop'",
    )?;
    sql(c, i, "SET synchronous_commit = local; CREATE TABLE branch AS SELECT generate_series(1, 1000)")
        .map(drop)
}

pub(crate) fn power_lost(c: &Cluster) -> Result<()> {
    up(c)?;
    for round in 1..=3 {
        written(c, 60)?;
        let (from, then, begin) = (primary(c)?, wall_ns(), Moment::now());
        let branch = round > 1;
        if branch {
            only_here(c, from)?;
        }
        c.node(from).power_off()?;
        c.mute(from);
        let to = another(c, from)?;
        let promoted = begin.elapsed();
        still_written(c, 20)?;
        say(&format!(
            "    n{from} lost power, n{to} was promoted after {promoted:.1?}: no write for {:.1?}",
            pause_after(c, then)?
        ));
        let booted = Moment::now();
        c.settle()?;
        ensure!(all_follow(c)? == to, "the primary has moved again");
        let journal = c.ok(from, &format!("journalctl --boot --unit={}", SERVER.unit))?;
        let wound_back = journal.contains("pg_rewind begins") && !journal.contains("pg_basebackup begins");
        ensure!(wound_back || !branch, "n{from} was not wound back: {journal}");
        ensure!(
            sql(c, from, "SELECT to_regclass('branch')")?.trim().is_empty(),
            "n{from} has its branch still"
        );
        let way = if wound_back { "wound back" } else { "as it was" };
        say(&format!("    n{from} follows n{to} {:.1?} after its boot, {way}", booted.elapsed()));
        whole(c)?;
    }
    Ok(())
}

pub(crate) fn behind(c: &Cluster) -> Result<()> {
    up(c)?;
    let from = primary(c)?;
    let (late, good) = (from % 3 + 1, (from + 1) % 3 + 1);
    c.ok(
        late,
        "nft 'add table inet late; add chain inet late out { type filter hook output priority 0; }; \
         add rule inet late out tcp dport 5432 drop'",
    )?;
    written(c, 60)?;
    // Asked for by name, and still not taken: it goes to one that has everything.
    c.run(c.anybody()?, &format!("convoke move --timeout 30s {} n{late}", PRIMARY.unit))?;
    let now = c.wait_for("somebody is the primary again", UP, || Ok(Some(primary(c)?)))?;
    ensure!(now != late, "n{late} is the primary, and has not what was acknowledged");
    written(c, 20)?;
    c.node(now).power_off()?;
    c.mute(now);
    let to = another(c, now)?;
    ensure!(to != late, "n{late} is the primary, and has not what was acknowledged");
    say(&format!(
        "    n{late} was behind: the move ended on n{now}, and after its loss n{to} took over, not n{late} (n{good})"
    ));
    c.ok(late, "nft delete table inet late")?;
    c.settle()?;
    whole(c)
}

pub(crate) fn cut_off(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 60)?;
    let (from, then) = (primary(c)?, wall_ns());
    c.cut(from)?;
    let to = another(c, from)?;
    still_written(c, 20)?;
    say(&format!("    n{from} was cut off, n{to} took over: no write for {:.1?}", pause_after(c, then)?));
    c.settle()?;
    whole(c)
}
