//! PostgreSQL with streaming replication, from Debian's packages, by the recipe of the package: what was committed stays.
//!
//! Clients write through the service address, which follows the primary, and keep a ledger of what was acknowledged; at the
//! end of a part every server has all of it, once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use lab::ExtraFile;
use scenarios::{Cluster, Ledger, Moment, Plan, Recipe, UnitFile, run, say};

const SERVER: Recipe = Recipe { name: "postgresql", unit: "postgresql@15-main.service" };
const PRIMARY: Recipe = Recipe { name: "postgresql", unit: "postgresql-primary@15-main.service" };
const ADDRESS: &str = "db-address.service";
const ALL: [&str; 3] = ["n1", "n2", "n3"];
const UP: Duration = Duration::from_secs(120);
const CLIENT: &str = "/usr/local/bin/postgresql-client";

#[test]
fn postgresql_loses_nothing_that_was_committed() -> Result<()> {
    let mut plan = Plan::three();
    plan.extra.push(ExtraFile {
        path: CLIENT.into(),
        mode: 0o755,
        content: include_bytes!("postgresql/client").to_vec(),
    });
    run("postgresql", plan, |scenario| {
        scenario.part("the first primary is the operator's word, and the others copy from it", formed);
        scenario.part("the primary is moved while they write", moved);
        scenario.part("the primary's node is drained", drained);
        scenario.part("all are stopped, and started again", stopped);
        scenario.part("the server of the primary is killed", killed);
        scenario.part("the program that holds the role is killed", unheld);
        scenario.part("the server of the primary hangs", hung);
        scenario.part("the primary loses power while they write, and comes back as a standby", power_lost);
        scenario.part("a standby that is behind does not become the primary", behind);
        scenario.part("the primary is cut off", cut_off);
        scenario.part("all lose power while they write: they come back by themselves", blackout);
        scenario.part("a standby that was wiped is given up by a word, and copies", wiped);
    })
}

fn ledger() -> Ledger {
    Ledger::new("postgresql-ledger", CLIENT)
}

/// Their configuration, as `docs/recipes/postgresql.md` asks for it; the database is on n1.
fn configure(c: &Cluster) -> Result<()> {
    let nodes = c.nodes();
    let hosts: Vec<_> = nodes.iter().map(|node| node.address()).collect();
    let network = format!("{}.0/24", hosts[0].rsplit_once('.').context("an address")?.0);
    let secret = "/etc/postgresql/15/main/replication.pass";
    let settings = format!(
        "listen_addresses = '*'\nwal_log_hints = on\nwal_keep_size = '256MB'\n\
         synchronous_standby_names = 'ANY 1 (\"15/main\")'\nwal_sender_timeout = '5s'\nwal_receiver_timeout = '5s'\n\
         wal_retrieve_retry_interval = '500ms'\nprimary_conninfo = 'host={} user=replicator passfile={secret} \
         tcp_user_timeout=3000 target_session_attrs=primary'\n",
        hosts.join(",")
    );
    let access = format!(
        "host replication replicator {network} scram-sha-256\nhost postgres replicator {network} scram-sha-256\n\
         host postgres client {network} trust\n"
    );
    c.everywhere("pg_createcluster 15 main")?;
    c.ok(1, "pg_ctlcluster --skip-systemctl-redirect 15-main start")?;
    for statement in [
        "CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'secret'",
        "GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), \
         pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO replicator",
        "CREATE ROLE client LOGIN",
        "CREATE TABLE writes (name text NOT NULL)",
        "GRANT INSERT ON writes TO client",
    ] {
        c.ok(1, &format!("cd /; runuser -u postgres -- psql -qc \"{statement}\""))?;
    }
    c.ok(1, "pg_ctlcluster --skip-systemctl-redirect 15-main stop")?;
    for node in &nodes {
        node.write("/etc/postgresql/15/main/conf.d/replication.conf", &settings)?;
        node.write("/root/access", &access)?;
        node.write(
            "/etc/postgresql-client",
            format!("host={} user=client dbname=postgres connect_timeout=2", address(c)),
        )?;
        node.run_ok("cat /root/access >>/etc/postgresql/15/main/pg_hba.conf")?;
        node.run_ok(&format!(
            "echo '*:*:*:replicator:secret' | install -o postgres -m 600 /dev/stdin {secret}"
        ))?;
        if node.index() != 1 {
            node.run_ok("mv /var/lib/postgresql/15/main /var/lib/postgresql/15/main.old")?;
        }
    }
    Ok(())
}

fn address(c: &Cluster) -> String {
    c.lab.service_address(1)
}

/// Has all three up, whatever was before.
fn up(c: &Cluster) -> Result<()> {
    ledger().rest(c)?;
    if matches!(c.overview()?.state_of(PRIMARY.unit), "undefined" | "unknown to the cluster") {
        return formed(c);
    }
    for unit in [SERVER.unit, PRIMARY.unit, ADDRESS] {
        c.ok(c.anybody()?, &format!("convoke reset-failed {unit}; convoke start --no-wait {unit}"))?;
    }
    all_follow(c).map(drop)
}

fn formed(c: &Cluster) -> Result<()> {
    configure(c)?;
    SERVER.enable(c)?;
    PRIMARY.enable(c)?;
    let address = address(c);
    c.install(
        &UnitFile::new(ADDRESS)
            .fragment(&format!(
                "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/ip address replace {address}/32 dev host0\n\
                 ExecStart=-/bin/sh -c 'arping -q -U -c 2 -I host0 {address} &'\n\
                 ExecStop=/usr/sbin/ip address delete {address}/32 dev host0\n"
            ))
            .key(&format!("SameNodeAs={}", PRIMARY.unit))
            .key(&format!("BindsTo={}", PRIMARY.unit))
            .key(&format!("After={}", PRIMARY.unit)),
    )?;
    SERVER.start(c)?;
    PRIMARY.start(c)?;
    // Nobody is a primary of its own accord, not the one that has a database either.
    SERVER.runs_on(c, &ALL[..1])?;
    PRIMARY.why(c, "", "convoke assemble")?;
    ensure!(sql(c, 1, "SELECT pg_is_in_recovery()")?.trim() == "t", "a primary before the word");
    PRIMARY.assemble(c, "--from n1")?;
    c.ok(c.anybody()?, &format!("convoke start {ADDRESS}"))?;
    let primary = all_follow(c)?;
    ensure!(primary == 1, "n{primary} is the primary");
    written(c, 20)?;
    whole(c)
}

fn sql(c: &Cluster, i: usize, statement: &str) -> Result<String> {
    c.ok(i, &format!("cd /; runuser -u postgres -- psql -XAtqc \"{statement}\""))
}

/// Waits until all servers run and two follow one primary, at whose node the address is; the answer is that node.
fn all_follow(c: &Cluster) -> Result<usize> {
    SERVER.runs_on(c, &ALL)?;
    c.wait_for("two follow one primary", UP, || {
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
    })
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

fn moved(c: &Cluster) -> Result<()> {
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

fn drained(c: &Cluster) -> Result<()> {
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

fn stopped(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    c.ok(c.anybody()?, &format!("convoke stop {ADDRESS} {} {}", PRIMARY.unit, SERVER.unit))?;
    for i in 1..=3 {
        // `failed`, if it was stopped in the midst of its restart as a standby.
        let state = c.node(i).show(SERVER.unit, "ActiveState")?;
        ensure!(["inactive", "failed"].contains(&state.as_str()), "n{i} is not stopped but {state}");
    }
    let begin = Moment::now();
    c.ok(c.anybody()?, &format!("convoke start {} {} {ADDRESS}", SERVER.unit, PRIMARY.unit))?;
    say(&format!("    started again in {:.1?}", begin.elapsed()));
    whole(c)
}

fn killed(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let (then, index) = (wall_ns(), c.overview()?.index);
    let on = primary(c)?;
    c.ok(on, &format!("systemctl kill --kill-who=main --signal=KILL {}", SERVER.unit))?;
    c.until_event(index, "unit-released", UP)?;
    written(c, 20)?;
    say(&format!(
        "    killed on n{on}, the primary is on n{}: no write for {:.1?}",
        all_follow(c)?,
        pause_after(c, then)?
    ));
    whole(c)
}

fn unheld(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let (then, index, on) = (wall_ns(), c.overview()?.index, primary(c)?);
    c.ok(on, &format!("systemctl kill --kill-who=main --signal=KILL {}", PRIMARY.unit))?;
    c.until_event(index, "unit-released", UP)?;
    let to = all_follow(c)?;
    written(c, 20)?;
    say(&format!("    killed on n{on}, the primary is on n{to}: no write for {:.1?}", pause_after(c, then)?));
    whole(c)
}

fn hung(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let (then, index, on) = (wall_ns(), c.overview()?.index, primary(c)?);
    c.ok(on, &format!("systemctl kill --kill-who=main --signal=STOP {}", SERVER.unit))?;
    c.until_event(index, "unit-released", UP)?;
    let to = all_follow(c)?;
    written(c, 20)?;
    say(&format!("    hung on n{on}, the primary is on n{to}: no write for {:.1?}", pause_after(c, then)?));
    whole(c)
}

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

fn power_lost(c: &Cluster) -> Result<()> {
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

fn behind(c: &Cluster) -> Result<()> {
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

fn cut_off(c: &Cluster) -> Result<()> {
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

fn blackout(c: &Cluster) -> Result<()> {
    up(c)?;
    for round in 1..=10 {
        written(c, 10 + 7 * round)?;
        c.lab.power_off_all()?;
        c.lab.boot_all()?;
        let booted = Moment::now();
        c.wait_for("there is a primary", UP, || primary(c).map(Some))?;
        let first = booted.elapsed();
        all_follow(c)?;
        say(&format!(
            "    round {round}: a primary {first:.1?} after the boot, all follow after {:.1?}",
            booted.elapsed()
        ));
        whole(c)?;
    }
    Ok(())
}

fn wiped(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let empty = primary(c)? % 3 + 1;
    c.lab.power_off_all()?;
    c.node(empty).boot()?;
    c.ok(empty, "mv /var/lib/postgresql/15/main /var/lib/postgresql/15/main.lost")?;
    c.lab.boot_all()?;
    // It may have acknowledged what no other one got; and there is no primary to copy from.
    PRIMARY.why(c, &format!("n{empty} may have the latest data"), &format!("--without n{empty}"))?;
    PRIMARY.assemble(c, &format!("--without n{empty}"))?;
    let to = all_follow(c)?;
    ensure!(to != empty, "n{to} is the primary, and was empty");
    whole(c)
}
