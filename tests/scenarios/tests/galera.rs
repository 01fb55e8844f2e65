//! MariaDB with Galera, from Debian's packages, by the recipe of the package: what was committed stays (F16).
//!
//! Clients write on all nodes and keep a ledger of what was acknowledged; at the end of a part every member has all of it,
//! once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::ExtraFile;
use scenarios::{Cluster, Dice, Ledger, Outage, Plan, Recipe, run, say, table};

const GALERA: Recipe = Recipe { name: "galera", unit: "mariadb.service" };
const ALL: [&str; 3] = ["n1", "n2", "n3"];
const UP: Duration = Duration::from_secs(120);
const CLIENT: &str = "/usr/local/bin/galera-client";
/// Long enough to be cut off in its midst on a link that is slowed down.
const BALLAST: &str = "CREATE TABLE IF NOT EXISTS ledger.ballast (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB); \
     INSERT INTO ledger.ballast (b) SELECT RANDOM_BYTES(1024) FROM ledger.seq_1_to_1000";

#[test]
fn galera_loses_nothing_that_was_committed() -> Result<()> {
    let mut plan = Plan::clustered();
    plan.extra.push(ExtraFile {
        path: CLIENT.into(),
        mode: 0o755,
        content: include_bytes!("galera/client").to_vec(),
    });
    run("galera", plan, |scenario| {
        scenario
            .part("the first formation is the operator's word, and no bootstrap by hand is taken", formed);
        scenario.part("all are stopped, and started again: who stopped last begins", stopped);
        scenario.part("all lose power while they write, ten times: they come back by themselves", blackout);
        scenario.part("a joiner that is killed in the midst of its copy is never first", half_copied);
        scenario.part("a member that was wiped is never first", wiped);
    })
}

fn ledger() -> Ledger {
    Ledger::new("galera-ledger", CLIENT)
}

/// Their configuration, as `docs/recipes/galera.md` asks for it.
fn configure(c: &Cluster) -> Result<()> {
    let nodes = c.nodes();
    let members: Vec<_> = nodes.iter().map(|node| node.address()).collect();
    for node in &nodes {
        let (name, address, members) = (node.name(), node.address(), members.join(","));
        let text = format!(
            "[galera]\nwsrep_on = ON\nwsrep_provider = /usr/lib/galera/libgalera_smm.so\nwsrep_cluster_name = lab\n\
             wsrep_cluster_address = gcomm://{members}\nwsrep_node_name = {name}\nwsrep_node_address = {address}\n\
             wsrep_sst_method = rsync\nbinlog_format = ROW\ninnodb_autoinc_lock_mode = 2\nbind-address = 0.0.0.0\n"
        );
        node.write("/etc/mysql/mariadb.conf.d/70-cluster.cnf", text)?;
    }
    Ok(())
}

/// Has all three up, whatever was before.
fn up(c: &Cluster) -> Result<()> {
    ledger().rest(c)?;
    if matches!(c.overview()?.state_of(GALERA.unit), "undefined" | "unknown to the cluster") {
        configure(c)?;
        GALERA.enable(c)?;
        GALERA.start(c)?;
        GALERA.assemble(c, "--from n1")?;
    } else {
        GALERA.start(c)?;
    }
    all_synced(c)?;
    sql(c, 1, "CREATE DATABASE IF NOT EXISTS ledger")?;
    sql(
        c,
        1,
        "CREATE TABLE IF NOT EXISTS ledger.writes (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL)",
    )
    .map(drop)
}

fn sql(c: &Cluster, i: usize, statement: &str) -> Result<String> {
    c.ok(i, &format!("mariadb --batch --skip-column-names --execute='{statement}'"))
}

fn all_synced(c: &Cluster) -> Result<()> {
    GALERA.runs_on(c, &ALL)?;
    for i in 1..=3 {
        c.wait_for(&format!("n{i} is one of three that are synced"), UP, || {
            let said = sql(
                c,
                i,
                "SHOW STATUS WHERE Variable_name IN (\"wsrep_cluster_size\", \"wsrep_local_state\", \
                \"wsrep_cluster_status\")",
            )?;
            let whole = ["wsrep_cluster_size\t3", "wsrep_local_state\t4", "wsrep_cluster_status\tPrimary"];
            ensure!(whole.iter().all(|line| said.contains(line)), "{said}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// Every member has everything that was acknowledged, and they have the same.
fn whole(c: &Cluster) -> Result<()> {
    all_synced(c)?;
    ledger().rest(c)?;
    let mut first = None;
    for i in 1..=3 {
        // A member waits for what the others have committed before it answers.
        let found = sql(c, i, "SET wsrep_sync_wait = 1; SELECT name FROM ledger.writes ORDER BY name")?;
        ledger().compare(c, &format!("n{i}"), &found)?;
        let before = first.get_or_insert_with(|| found.clone());
        ensure!(*before == found, "n{i} has other rows than n1");
    }
    Ok(())
}

/// Writes until so many more were acknowledged.
fn written(c: &Cluster, more: usize) -> Result<()> {
    let before = ledger().count(c);
    ledger().write(c)?;
    c.wait_for("the clients write", UP, || Ok((ledger().count(c) >= before + more).then_some(())))
}

fn formed(c: &Cluster) -> Result<()> {
    configure(c)?;
    GALERA.enable(c)?;
    // Nothing was started so far: a hand that takes the way of Galera's own manual is refused.
    let by_hand = c.run(2, "galera_new_cluster")?;
    ensure!(by_hand.code != 0 && c.node(2).show(GALERA.unit, "ActiveState")? != "active", "begun by hand");
    GALERA.start(c)?;
    GALERA.why(c, "never formed", "convoke assemble")?;
    let index = c.overview()?.index;
    GALERA.assemble(c, "--from n2")?;
    all_synced(c)?;
    let starts = GALERA.starts(c, index)?;
    ensure!(starts == ["n2 alone", "n1 join", "n3 join"], "{starts:?}");
    up(c)?;
    written(c, 20)?;
    // The same once it runs, and by PID 1's own environment.
    ledger().rest(c)?;
    c.ok(3, "systemctl set-environment _WSREP_NEW_CLUSTER=--wsrep-new-cluster")?;
    c.run(3, "systemctl restart mariadb.service")?;
    c.always("n3 begins no cluster of its own", Duration::from_secs(3), || {
        Ok(c.node(3).show(GALERA.unit, "ActiveState")? != "active")
    })?;
    c.ok(3, "systemctl unset-environment _WSREP_NEW_CLUSTER")?;
    GALERA.start(c)?;
    whole(c)
}

fn stopped(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let asked = c.anybody()?;
    c.ok(asked, &format!("convoke stop {}", GALERA.unit))?;
    let ranks: Vec<_> = (1..=3)
        .map(|i| c.ok(i, "sed -n 's/^seqno: *//p' /var/lib/mysql/grastate.dat"))
        .map(|text| Ok(text?.trim().parse::<i64>()?))
        .collect::<Result<_>>()?;
    let index = c.overview()?.index;
    GALERA.start(c)?;
    all_synced(c)?;
    let starts = GALERA.starts(c, index)?;
    let best = ranks.iter().max();
    let chosen = ALL.iter().zip(&ranks).find(|(node, _)| starts.first() == Some(&format!("{node} alone")));
    ensure!(starts.len() == 3 && chosen.map(|(_, rank)| rank) == best, "{starts:?} with {ranks:?}");
    whole(c)
}

fn blackout(c: &Cluster) -> Result<()> {
    up(c)?;
    let mut dice = Dice::new();
    let mut outages = Vec::new();
    for round in 1..=10 {
        written(c, 1)?;
        std::thread::sleep(Duration::from_millis(dice.roll(4_000)));
        let outage = Outage::of(c, &GALERA, || all_synced(c))
            .with_context(|| format!("round {round}, seed {}", dice.seed()))?;
        say(&format!("    round {round}: all are synced {:.1?} after the power", outage.all));
        outages.push(outage);
        whole(c).with_context(|| format!("round {round}, seed {}", dice.seed()))?;
    }
    say(&table(&outages));
    Ok(())
}

fn half_copied(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    for _ in 0..20 {
        sql(c, 1, BALLAST)?;
    }
    c.ok(3, &format!("systemctl stop {}", GALERA.unit))?;
    c.ok(3, "find /var/lib/mysql -mindepth 1 -delete")?;
    c.node(3).slow_link(Some(50_000))?;
    GALERA.start(c)?;
    c.wait_for("n3 copies", UP, || {
        Ok((c.run(3, "test -e /var/lib/mysql/sst_in_progress -a -e /var/lib/mysql/ibdata1")?.code == 0)
            .then_some(()))
    })?;
    c.lab.power_off_all()?;
    c.lab.boot_all()?;
    GALERA.runs_on(c, &ALL[..2])?;
    GALERA.why(c, "the data of n3 is unusable", "--resync n3")?;
    let index = c.overview()?.index;
    GALERA.assemble(c, "--resync n3")?;
    all_synced(c)?;
    let starts = GALERA.starts(c, index)?;
    ensure!(starts == ["n3 resync"], "{starts:?}");
    whole(c)
}

fn wiped(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let index = c.overview()?.index;
    c.lab.power_off_all()?;
    c.node(2).boot()?;
    c.ok(2, "find /var/lib/mysql -mindepth 1 -delete")?;
    c.lab.boot_all()?;
    // It was live last, and what only it had is gone: that is for a person to say.
    GALERA.why(c, "its data is gone", "--without n2")?;
    GALERA.assemble(c, "--without n2")?;
    all_synced(c)?;
    let starts = GALERA.starts(c, index)?;
    ensure!(!starts.iter().any(|line| line == "n2 alone"), "{starts:?}");
    whole(c)
}
