//! The primary's node is lost, and comes back with what the others have not; or a standby is behind when it is lost.

use anyhow::{Context as _, Result, ensure};
use scenarios::{Cluster, Moment, say};

use super::{
    PRIMARY, SERVER, UP, all_follow, another, pause_after, primary, sql, still_written, up, wall_ns, whole,
    written,
};

const DATA: &str = "/var/lib/postgresql/15/main";

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

/// The node was seen off before the role was given to another.
fn fenced_first(c: &Cluster, index: u64, lost: usize) -> Result<()> {
    let name = c.node(lost).name();
    let events = c.events_after(index)?;
    let proven = events.iter().find(|e| e.kind == "fence-proven" && e.node.as_ref() == Some(&name));
    let proven = proven.with_context(|| format!("{name} was not fenced: {events:#?}"))?;
    ensure!(proven.text.contains("its power was seen off"), "{}", proven.text);
    let granted = events.iter().find(|e| e.kind == "unit-granted" && e.unit.as_deref() == Some(PRIMARY.unit));
    let granted = granted.with_context(|| format!("the role was not granted: {events:#?}"))?;
    ensure!(proven.index < granted.index, "{}, and only then {}", granted.text, proven.text);
    Ok(())
}

/// What the programs of the recipe said in this boot of a node.
fn journal(c: &Cluster, i: usize) -> Result<String> {
    c.ok(i, &format!("journalctl --boot --output=cat --unit={}", SERVER.unit))
}

fn has_no_branch(c: &Cluster, i: usize) -> Result<()> {
    let branch = sql(c, i, "SELECT to_regclass('branch')")?;
    ensure!(branch.is_empty(), "n{i} has its {branch} still");
    Ok(())
}

pub(crate) fn power_lost(c: &Cluster) -> Result<()> {
    up(c)?;
    for round in 1..=3 {
        written(c, 60)?;
        let index = c.overview()?.index;
        let (from, then, begin) = (primary(c)?, wall_ns(), Moment::now());
        let branch = round > 1;
        if branch {
            only_here(c, from)?;
        }
        c.node(from).power_off()?;
        c.mute(from);
        let to = another(c, from)?;
        let promoted = begin.elapsed();
        fenced_first(c, index, from)?;
        still_written(c, 20)?;
        say(&format!(
            "    n{from} lost power, n{to} was promoted after {promoted:.1?}: no write for {:.1?}",
            pause_after(c, then)?
        ));
        let booted = Moment::now();
        c.settle()?;
        ensure!(all_follow(c)? == to, "the primary has moved again");
        let journal = journal(c, from)?;
        let wound_back = journal.contains("pg_rewind begins") && !journal.contains("pg_basebackup begins");
        ensure!(wound_back || !branch, "n{from} was not wound back: {journal}");
        has_no_branch(c, from)?;
        let way = if wound_back { "wound back" } else { "as it was" };
        say(&format!("    n{from} follows n{to} {:.1?} after its boot, {way}", booted.elapsed()));
        whole(c)?;
    }
    Ok(())
}

/// Has a server lose all that it logged before its last checkpoint, the begin of its branch with it: `pg_rewind` finds no way back.
fn lose_log(c: &Cluster, i: usize) -> Result<()> {
    let branch = sql(c, i, "SELECT pg_walfile_name(pg_current_wal_lsn())")?;
    sql(c, i, "SELECT pg_switch_wal()")?;
    sql(c, i, "CHECKPOINT")?;
    let kept = sql(c, i, "SELECT redo_wal_file FROM pg_control_checkpoint()")?;
    let lost = c.ok(
        i,
        &format!(
            "cd {DATA}/pg_wal && ls | grep -xE '[0-9A-F]{{24}}' | awk '$0 < \"{kept}\"' | xargs -r rm -v"
        ),
    )?;
    ensure!(lost.contains(&branch), "{branch} is there still, with {kept}: {lost}");
    Ok(())
}

pub(crate) fn copied_anew(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 60)?;
    let (from, index) = (primary(c)?, c.overview()?.index);
    only_here(c, from)?;
    let file = sql(c, from, "SELECT pg_relation_filepath('branch')")?;
    lose_log(c, from)?;
    c.node(from).power_off()?;
    c.mute(from);
    let to = another(c, from)?;
    fenced_first(c, index, from)?;
    still_written(c, 20)?;
    let booted = Moment::now();
    c.settle()?;
    ensure!(all_follow(c)? == to, "the primary has moved again");
    say(&format!("    n{from} follows n{to} {:.1?} after its boot, copied anew", booted.elapsed()));
    let journal = journal(c, from)?;
    let (tried, copied) = (journal.find("pg_rewind begins"), journal.find("pg_basebackup begins"));
    ensure!(
        tried.is_some() && tried < copied,
        "n{from} was not copied as it could not be wound back: {journal}"
    );
    has_no_branch(c, from)?;
    // What only that one had can be looked at, and nothing is left half done.
    let moved = format!("what was in {DATA} is in ");
    let aside = journal.lines().find_map(|line| line.strip_prefix(moved.as_str())?.split(' ').next());
    let aside = aside.with_context(|| format!("n{from} does not say where its old data is: {journal}"))?;
    ensure!(aside.starts_with(&format!("{DATA}.before-")), "{aside}");
    c.ok(from, &format!("test -s {aside}/{file} && test ! -e {DATA}.unfinished"))?;
    whole(c)?;
    c.ok(from, &format!("rm -r {aside}")).map(drop)
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
    let index = c.overview()?.index;
    c.node(now).power_off()?;
    c.mute(now);
    let to = another(c, now)?;
    fenced_first(c, index, now)?;
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
    let index = c.overview()?.index;
    let (from, then) = (primary(c)?, wall_ns());
    c.cut(from)?;
    let to = another(c, from)?;
    fenced_first(c, index, from)?;
    still_written(c, 20)?;
    say(&format!("    n{from} was cut off, n{to} took over: no write for {:.1?}", pause_after(c, then)?));
    c.settle()?;
    whole(c)
}
