//! Members that do not see each other, or have what others lack.

use std::time::Duration;

use anyhow::{Result, ensure};
use scenarios::{Cluster, say, unwrapped};

use super::{ALL, GALERA, UP, all_synced, ledger, sql, up, whole, written};

/// Written by hand on one member while the others are stopped: no client's, so that the ledger knows nothing of it.
const ONLY: &str = "INSERT INTO ledger.writes (name) VALUES (\"only-n3\")";
const COUNT_ONLY: &str = "SELECT COUNT(*) FROM ledger.writes WHERE name = \"only-n3\"";
/// A copy of a member's data, with a server that belongs to no cluster: how `docs/recipes/galera.md` has it looked at.
const LOOK: &str = "rm -rf /var/tmp/look && cp -a /var/lib/mysql /var/tmp/look && \
     systemd-run --quiet --unit=look --uid=mysql --property=Type=notify mariadbd --no-defaults --datadir=/var/tmp/look \
     --socket=/var/tmp/look/look.sock --skip-networking --wsrep-on=OFF --pid-file=/var/tmp/look/look.pid";

pub(crate) fn ahead(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    whole(c)?;
    // The others stop in order, so that n3 goes on as the cluster; and it is known that they have no part in what it does then.
    for i in [1, 2] {
        c.ok(i, &format!("systemctl stop {}", GALERA.unit))?;
    }
    c.wait_for("n3 alone is live last", UP, || {
        let last = GALERA.live_last(c)?;
        ensure!(last == ["n3"], "{last:?}");
        Ok(Some(()))
    })?;
    sql(c, 3, ONLY)?;
    c.lab.power_off_all()?;
    for i in [1, 2] {
        c.node(i).boot()?;
    }
    c.until("two are a majority", UP, |now| now.quorum)?;
    GALERA.start(c)?;
    GALERA.why(c, "n3 was live last", "--without n3")?;
    nobody(c, "nobody begins without n3", Duration::from_secs(5))?;
    loses(
        c,
        "--without n3",
        &["What only n3 has is lost", "no other node that was live last has usable data"],
    )?;
    GALERA.assemble(c, "--without n3")?;
    GALERA.why(
        c,
        "none of those that were live last has data that counts; that of n1 and n2 is older",
        "--from",
    )?;
    nobody(c, "nobody begins with older data", Duration::from_secs(2))?;
    loses(c, "--from n2", &["n3 was live last and was not heard: what only it has is lost"])?;
    let index = c.overview()?.index;
    GALERA.assemble(c, "--from n2")?;
    GALERA.runs_on(c, &ALL[..2])?;
    let starts = GALERA.starts(c, index)?;
    ensure!(starts == ["n2 alone", "n1 join"], "{starts:?}");
    c.node(3).boot()?;
    GALERA.why(c, "the data of n3 may have a branch of its own", "--resync n3")?;
    // The others write meanwhile.
    written(c, 20)?;
    c.always("n3 is held", Duration::from_secs(5), || Ok(c.overview()?.places(GALERA.unit) == ALL[..2]))?;
    loses(c, "--resync n3", &["What only n3 has (rank "])?;
    // What is to be lost can be looked at.
    c.ok(3, LOOK)?;
    let found = c.ok(3, &format!("mariadb --socket=/var/tmp/look/look.sock -BNe '{COUNT_ONLY}'"))?;
    ensure!(found.trim() == "1", "the copy has {found}");
    c.ok(3, "systemctl stop look && rm -rf /var/tmp/look")?;
    let index = c.overview()?.index;
    GALERA.assemble(c, "--resync n3")?;
    all_synced(c)?;
    let starts = GALERA.starts(c, index)?;
    ensure!(starts == ["n3 resync"], "{starts:?}");
    for i in 1..=3 {
        ensure!(sql(c, i, COUNT_ONLY)?.trim() == "0", "n{i} has what only n3 had");
    }
    whole(c)
}

/// Watches that no copy runs.
fn nobody(c: &Cluster, what: &str, span: Duration) -> Result<()> {
    c.always(what, span, || Ok(c.overview()?.places(GALERA.unit).is_empty()))
}

/// Without `--yes` the command says what is lost, and nobody is there to agree.
fn loses(c: &Cluster, word: &str, sentences: &[&str]) -> Result<()> {
    let out = c.run(c.anybody()?, &format!("convoke assemble {} {word}", GALERA.unit))?;
    let said = unwrapped(&(out.stdout + &out.stderr));
    ensure!(out.code != 0 && sentences.iter().all(|sentence| said.contains(*sentence)), "{said}");
    Ok(())
}

/// Acknowledged writes of the clients of some nodes.
fn count_of(c: &Cluster, nodes: &[&str]) -> Result<usize> {
    let names = ledger().acknowledged(c)?;
    let of = |name: &String| nodes.iter().any(|node| name.starts_with(&format!("{node}-")));
    Ok(names.iter().filter(|name| of(name)).count())
}

fn component(c: &Cluster, i: usize) -> Result<String> {
    Ok(sql(c, i, "SHOW STATUS LIKE \"wsrep_cluster_status\"")?.split_whitespace().last().unwrap_or("").into())
}

fn refused(c: &Cluster, i: usize) -> Result<()> {
    let out = c.run(i, "mariadb -e 'INSERT INTO ledger.writes (name) VALUES (\"refused\")'")?;
    ensure!(out.code != 0 && out.stderr.contains("1047"), "n{i} took it: {}{}", out.stdout, out.stderr);
    Ok(())
}

pub(crate) fn minority(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let boot = c.node(3).boot_id()?;
    let index = c.overview()?.index;
    c.cut(3)?;
    c.wait_for("n3 knows that it is alone", UP, || Ok((component(c, 3)? == "non-Primary").then_some(())))?;
    refused(c, 3)?;
    let (theirs, its) = (count_of(c, &ALL[..2])?, count_of(c, &ALL[2..])?);
    c.wait_for("the others go on", UP, || Ok((count_of(c, &ALL[..2])? >= theirs + 50).then_some(())))?;
    ensure!(count_of(c, &ALL[2..])? == its, "n3 acknowledged writes in the minority");
    refused(c, 3)?;
    c.heal(3)?;
    all_synced(c)?;
    c.wait_for("n3 takes writes again", UP, || Ok((count_of(c, &ALL[2..])? > its).then_some(())))?;
    say(&format!(
        "    n3 was {}; starts {:?}",
        if c.node(3).boot_id()? == boot { "not fenced" } else { "fenced" },
        GALERA.starts(c, index)?
    ));
    whole(c)
}

/// Kills two servers at the same moment, and waits until the third knows.
fn two_killed(c: &Cluster) -> Result<()> {
    c.lab.each(|node| match node.index() {
        1 | 2 => node.run_ok(&format!("systemctl kill --signal=KILL {}", GALERA.unit)).map(drop),
        _ => Ok(()),
    })?;
    c.wait_for("n3 has no quorum", UP, || Ok((component(c, 3)? == "non-Primary").then_some(())))
}

pub(crate) fn quorum_lost(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    two_killed(c)?;
    refused(c, 3)?;
    // What returns does not bring it back, and n3 cannot know that nobody else serves: that is for a person to say.
    GALERA.why(c, "it is in no primary component", "")?;
    refused(c, 3)?;
    // Galera drops this word without an error in the moment in which a member comes or goes.
    c.wait_for("n3 is the cluster", UP, || {
        sql(c, 3, "SET GLOBAL wsrep_provider_options=\"pc.bootstrap=YES\"")?;
        Ok((component(c, 3)? == "Primary").then_some(()))
    })?;
    whole(c)?;
    // The other way: everybody's position is compared.
    written(c, 20)?;
    two_killed(c)?;
    let index = c.overview()?.index;
    c.ok(c.anybody()?, &format!("convoke stop {}", GALERA.unit))?;
    GALERA.start(c)?;
    whole(c)?;
    let starts = GALERA.starts(c, index)?;
    say(&format!("    {starts:?}"));
    ensure!(starts.iter().any(|start| start.ends_with("alone")), "{starts:?}");
    Ok(())
}
