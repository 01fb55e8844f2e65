//! PostgreSQL with streaming replication, from Debian's packages, by the recipe of the package: what was committed stays.
//!
//! Clients write through the service address, which follows the primary, and keep a ledger of what was acknowledged; at the
//! end of a part every server has all of it, once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use lab::ExtraFile;
use scenarios::{Cluster, Ledger, Plan, Recipe, run};

mod loss;
mod moves;
mod site;

const SERVER: Recipe = Recipe { name: "postgresql", unit: "postgresql@15-main.service" };
const PRIMARY: Recipe = Recipe { name: "postgresql", unit: "postgresql-primary@15-main.service" };
const ADDRESS: &str = "db-address.service";
const ALL: [&str; 3] = ["n1", "n2", "n3"];
const UP: Duration = Duration::from_secs(120);
const CLIENT: &str = "/usr/local/bin/postgresql-client";

#[test]
fn postgresql_loses_nothing_that_was_committed() -> Result<()> {
    let mut plan = Plan::three();
    plan.extra.push(ExtraFile::script(CLIENT, include_str!("client")));
    run("postgresql", plan, |scenario| {
        scenario.part("the first primary is the operator's word, and the others copy from it", site::formed);
        scenario.part("the primary is moved while they write", moves::moved);
        scenario.part("the primary's node is drained", moves::drained);
        scenario.part("all are stopped, and started again", site::stopped);
        scenario.part("the server of the primary is killed", moves::killed);
        scenario.part("the program that holds the role is killed", moves::unheld);
        scenario.part("the server of the primary hangs", moves::hung);
        scenario
            .part("the primary loses power while they write, and comes back as a standby", loss::power_lost);
        scenario.part(
            "the primary loses power, and cannot be wound back: it copies anew, and what it had is kept",
            loss::copied_anew,
        );
        scenario.part("a standby that is behind does not become the primary", loss::behind);
        scenario.part("the primary is cut off", loss::cut_off);
        scenario
            .part("all lose power while they write, ten times: they come back by themselves", site::blackout);
        scenario.part("a standby that was wiped is given up by a word, and copies", site::wiped);
    })
}

fn ledger() -> Ledger {
    Ledger::new("postgresql-ledger", CLIENT)
}

fn address(c: &Cluster) -> String {
    c.lab.service_address(1)
}

/// Has all three up, whatever was before.
fn up(c: &Cluster) -> Result<()> {
    ledger().rest(c)?;
    if matches!(c.overview()?.state_of(PRIMARY.unit), "undefined" | "unknown to the cluster") {
        return site::formed(c);
    }
    for unit in [SERVER.unit, PRIMARY.unit, ADDRESS] {
        c.ok(c.anybody()?, &format!("convoke reset-failed {unit}; convoke start --no-wait {unit}"))?;
    }
    all_follow(c).map(drop)
}

fn sql(c: &Cluster, i: usize, statement: &str) -> Result<String> {
    c.ok(i, &format!("cd /; runuser -u postgres -- psql -XAtqc \"{statement}\""))
}

/// Waits until all servers run and two follow one primary, at whose node the address is; the answer is that node. No other node
/// has the address then, whatever it was before.
fn all_follow(c: &Cluster) -> Result<usize> {
    SERVER.runs_on(c, &ALL)?;
    let primary = c.wait_for("two follow one primary", UP, || {
        let now = c.overview()?;
        let places = now.places(PRIMARY.unit);
        ensure!(
            places.len() == 1 && now.places(ADDRESS) == places,
            "primary {places:?}, address {:?}",
            now.places(ADDRESS)
        );
        let primary = c.number(places[0]);
        let following =
            sql(c, primary, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")?;
        ensure!(following.trim() == "2", "{} follow n{primary}", following.trim());
        Ok(Some(primary))
    })?;
    let holders = holders(c)?;
    ensure!(holders == [primary], "the address is on {holders:?}, and the primary on n{primary}");
    Ok(primary)
}

/// Which nodes have the service's address, as their kernels say.
fn holders(c: &Cluster) -> Result<Vec<usize>> {
    let look = format!("ip -4 -o address show to {}", address(c));
    let mut found = Vec::new();
    for node in c.nodes() {
        if !node.run_ok(&look)?.is_empty() {
            found.push(node.index());
        }
    }
    Ok(found)
}

/// Every server has everything that was acknowledged, and they have the same.
fn whole(c: &Cluster) -> Result<()> {
    let primary = all_follow(c)?;
    ledger().rest(c)?;
    let all = "SELECT name FROM writes ORDER BY name";
    let there = sql(c, primary, all)?;
    ledger().compare(c, &format!("the primary n{primary}"), &there)?;
    for i in (1..=3).filter(|i| *i != primary) {
        c.wait_for(&format!("n{i} has the same rows"), UP, || Ok((sql(c, i, all)? == there).then_some(())))?;
    }
    Ok(())
}

/// Writes until so many more were acknowledged.
fn written(c: &Cluster, more: usize) -> Result<()> {
    ledger().write(c)?;
    still_written(c, more)
}

/// The same where clients run already, as far as their nodes do.
fn still_written(c: &Cluster, more: usize) -> Result<()> {
    let before = ledger().count(c);
    c.wait_for("the clients write", UP, || Ok((ledger().count(c) >= before + more).then_some(())))
}

/// Nanoseconds of the wall clock, of which the clients make their names.
fn wall_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// The longest time without a write that was begun and then acknowledged, after an instant.
fn pause_after(c: &Cluster, then: u128) -> Result<Duration> {
    let names = ledger().acknowledged(c)?;
    let begun = names.iter().filter_map(|name| name.rsplit_once('-')?.1.parse::<u128>().ok());
    let mut begun: Vec<u128> = begun.filter(|at| *at > then).chain([then]).collect();
    begun.sort_unstable();
    let longest =
        begun.windows(2).map(|pair| pair[1] - pair[0]).max().context("nothing was written since")?;
    Ok(Duration::from_nanos(u64::try_from(longest)?))
}

fn primary(c: &Cluster) -> Result<usize> {
    let now = c.overview()?;
    now.places(PRIMARY.unit).first().map(|node| c.number(node)).context("nobody is the primary")
}

/// Waits for a primary that is none of these.
fn another(c: &Cluster, but: usize) -> Result<usize> {
    c.wait_for("another is the primary", UP, || Ok(Some(primary(c)?).filter(|node| *node != but)))
}
