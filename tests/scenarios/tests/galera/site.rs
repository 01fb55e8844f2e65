//! The whole service: formed, stopped, without power, and begun again by whoever has the latest.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scenarios::{Cluster, Dice, Gauge, Outage, configure_galera, say, table};

use super::{ALL, GALERA, UP, all_synced, ledger, sql, up, whole, written};

/// What a step of a boot-up may take beyond the server's own start.
const STEP: Duration = Duration::from_millis(200);

pub(crate) fn formed(c: &Cluster) -> Result<()> {
    configure_galera(c)?;
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
    GALERA.one_by_one(c, index)?;
    up(c)?;
    written(c, 20)?;
    whole(c)
}

/// Whether the server of a node serves as the only member of a cluster.
fn is_alone(c: &Cluster, i: usize) -> Result<bool> {
    let names = "\"wsrep_cluster_size\", \"wsrep_cluster_status\"";
    let Ok(said) = sql(c, i, &format!("SHOW STATUS WHERE Variable_name IN ({names})")) else {
        return Ok(false);
    };
    let alone = ["wsrep_cluster_size\t1", "wsrep_cluster_status\tPrimary"];
    Ok(alone.iter().all(|line| said.lines().any(|one| one == *line)))
}

/// A command that would begin a cluster on n3, beside the one that it is a member of, fails, and the journal says why.
fn is_refused(c: &Cluster, command: &str) -> Result<()> {
    let since = c.ok(3, "date +%s.%N")?;
    let out = c.run(3, command)?;
    ensure!(out.code != 0, "`{command}` was taken: {}{}", out.stdout, out.stderr);
    let why = format!(
        "journalctl --boot --no-pager --quiet --unit={} --since=@{} \
         --grep='_WSREP_NEW_CLUSTER would begin a second cluster: unset it'",
        GALERA.unit,
        since.trim()
    );
    c.wait_for("the journal says why", UP, || c.ok(3, &why).map(Some))?;
    c.always("n3 is no cluster of its own", Duration::from_secs(3), || Ok(!is_alone(c, 3)?))
}

/// With what PID 1 was told to give to all that it starts, n3 stays down.
fn stays_down(c: &Cluster) -> Result<()> {
    is_refused(c, &format!("systemctl restart {}", GALERA.unit))?;
    let state = || c.node(3).show(GALERA.unit, "ActiveState");
    c.always("n3 does not come up", Duration::from_secs(3), || Ok(state()? != "active"))?;
    c.wait_for("n3 is down", UP, || {
        let now = state()?;
        ensure!(matches!(now.as_str(), "failed" | "inactive"), "it is {now}");
        Ok(Some(()))
    })
}

pub(crate) fn by_hand(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    let index = c.overview()?.index;
    c.ok(3, "systemctl set-environment _WSREP_NEW_CLUSTER=--wsrep-new-cluster")?;
    let down = stays_down(c);
    c.ok(3, "systemctl unset-environment _WSREP_NEW_CLUSTER")?;
    down?;
    GALERA.start(c)?;
    whole(c)?;
    // Galera's own command restarts the live member, with the same variable for this start alone.
    is_refused(c, "galera_new_cluster")?;
    GALERA.start(c)?;
    whole(c)?;
    let starts = GALERA.starts(c, index)?;
    ensure!(starts.iter().all(|start| start == "n3 join"), "{starts:?}");
    Ok(())
}

/// How far a stopped server wrote that its data is, and whether it takes itself for safe to begin with.
fn saved(c: &Cluster, i: usize) -> Result<(i64, String)> {
    let field = |name: &str| c.ok(i, &format!("sed -n 's/^{name}: *//p' /var/lib/mysql/grastate.dat"));
    let (rank, safe) = (field("seqno")?, field("safe_to_bootstrap")?);
    Ok((rank.trim().parse()?, safe.trim().to_owned()))
}

/// How the copies were begun after an index of the log: one alone, and two that joined it one after another.
fn begun(c: &Cluster, index: u64) -> Result<Vec<String>> {
    let starts = GALERA.starts(c, index)?;
    let how: Vec<&str> =
        starts.iter().filter_map(|start| start.split_once(' ')).map(|(_, how)| how).collect();
    ensure!(how == ["alone", "join", "join"], "{starts:?}");
    GALERA.one_by_one(c, index)?;
    Ok(starts)
}

/// Starts what was stopped in order, and one whose data is the latest begins.
fn begins_with_the_latest(c: &Cluster) -> Result<()> {
    let saved = (1..=3).map(|i| saved(c, i)).collect::<Result<Vec<_>>>()?;
    say(&format!("    seqno and safe_to_bootstrap: {saved:?}"));
    ensure!(saved.iter().all(|(rank, _)| *rank > 0), "a server did not stop in order");
    let index = c.overview()?.index;
    GALERA.start(c)?;
    all_synced(c)?;
    let starts = begun(c, index)?;
    let best = saved.iter().map(|(rank, _)| *rank).max();
    let first = ALL.iter().zip(&saved).find(|(node, _)| starts.first() == Some(&format!("{node} alone")));
    ensure!(first.map(|(_, (rank, _))| *rank) == best, "{starts:?} with {saved:?}");
    whole(c)
}

pub(crate) fn stopped(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    c.ok(c.anybody()?, &format!("convoke stop {}", GALERA.unit))?;
    begins_with_the_latest(c)
}

/// None of them saw all others leave, and Galera may call none of them safe to begin with.
pub(crate) fn stopped_at_once(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    c.everywhere(&format!("systemctl stop {}", GALERA.unit))?;
    c.until("the cluster knows of all stops", UP, |now| {
        now.unit(GALERA.unit).is_some_and(|unit| unit.copies.is_empty())
    })?;
    begins_with_the_latest(c)
}

pub(crate) fn blackout(c: &Cluster) -> Result<()> {
    up(c)?;
    let mut dice = Dice::new();
    let seed = dice.seed();
    let mut outages = Vec::new();
    let mut own = ["first", "second", "third"]
        .map(|nth| Gauge::new(&format!("beyond the own start of the {nth} copy"), STEP));
    for round in 1..=10 {
        let at = || format!("round {round}, seed {seed}");
        let index = c.overview()?.index;
        written(c, 1)?;
        std::thread::sleep(Duration::from_millis(dice.roll(4_000)));
        let outage = Outage::of(c, &GALERA, || all_synced(c)).with_context(at)?;
        say(&format!("    round {round}: all are synced {:.1?} after the power", outage.all));
        begun(c, index).with_context(at)?;
        for (gauge, step) in own.iter_mut().zip(&outage.steps) {
            gauge.add(*step);
        }
        outages.push(outage);
        whole(c).with_context(at)?;
    }
    say(&table(&outages));
    own.iter().try_for_each(Gauge::judge)
}

pub(crate) fn wiped(c: &Cluster) -> Result<()> {
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
