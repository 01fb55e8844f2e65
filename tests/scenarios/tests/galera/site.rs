//! The whole service: formed, stopped, without power, and begun again by whoever has the latest.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scenarios::{Cluster, Dice, Outage, configure_galera, say, table};

use super::{ALL, GALERA, all_synced, ledger, up, whole, written};

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

pub(crate) fn stopped(c: &Cluster) -> Result<()> {
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

pub(crate) fn blackout(c: &Cluster) -> Result<()> {
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
