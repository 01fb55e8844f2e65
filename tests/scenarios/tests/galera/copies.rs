//! A member gets the data of another: all of it, what it lacks, half of it, or slowly.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use scenarios::{Cluster, Moment, say};

use super::{ALL, GALERA, UP, all_synced, ledger, sql, up, whole, written};

/// Long enough to be cut off in its midst on a link that is slowed down.
const BALLAST: &str = "CREATE TABLE IF NOT EXISTS ledger.ballast (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB); \
     INSERT INTO ledger.ballast (b) SELECT RANDOM_BYTES(1024) FROM ledger.seq_1_to_1000";

/// Makes a copy for n3 slow. However a part ends, the next has the whole link and the recipe's own bounds; what n3 has of its data
/// is left as it is.
struct Slowed<'c>(&'c Cluster);

impl Slowed<'_> {
    fn to(c: &Cluster, kbit: u32) -> Result<Slowed<'_>> {
        let slowed = Slowed(c);
        c.node(3).slow_link(Some(kbit))?;
        Ok(slowed)
    }
}

impl Drop for Slowed<'_> {
    fn drop(&mut self) {
        // A node that is down by now has lost the limit with its power, and keeps the bound.
        let _ = self.0.node(3).slow_link(None);
        let _ = self.0.run(3, &format!("rm -f {BOUNDED} && systemctl daemon-reload"));
    }
}

pub(crate) fn half_copied(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    for _ in 0..20 {
        sql(c, 1, BALLAST)?;
    }
    GALERA.stop_on(c, 3)?;
    c.ok(3, "find /var/lib/mysql -mindepth 1 -delete")?;
    let _slowed = Slowed::to(c, 50_000)?;
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

/// Takes n3 out, has the others write, and lets it back in; what its transfer script says of that.
fn rejoined(c: &Cluster, lose: &str) -> Result<String> {
    GALERA.stop_on(c, 3)?;
    c.ok(3, lose)?;
    written(c, 20)?;
    let since = c.ok(3, "date +%s")?;
    GALERA.start(c)?;
    all_synced(c)?;
    c.ok(
        3,
        &format!(
            "journalctl --no-pager --output=cat --unit={} --since=@{} --grep='on joiner|Receiving IST: '",
            GALERA.unit,
            since.trim()
        ),
    )
}

pub(crate) fn lacking_or_all(c: &Cluster) -> Result<()> {
    up(c)?;
    let (lacking, all) = ("rsync IST completed on joiner", "rsync SST completed on joiner");
    let log = rejoined(c, "true")?;
    ensure!(log.contains(lacking) && !log.contains(all), "{log}");
    let few = log.lines().find(|line| line.contains("Receiving IST: ")).unwrap_or_default();
    say(&format!("    {few}"));
    let log = rejoined(c, "find /var/lib/mysql -mindepth 1 -delete")?;
    ensure!(log.contains(all) && !log.contains(lacking), "{log}");
    whole(c)
}

/// A table without a key: whoever only applies a change of it looks for each row from the first on, which takes seconds.
const KEYLESS: &str = "CREATE OR REPLACE TABLE ledger.keyless (id INT, n INT); \
     INSERT INTO ledger.keyless SELECT seq, 0 FROM ledger.seq_1_to_6000";
const CHANGE: &str = "UPDATE ledger.keyless SET n = 1";
const CHANGED: &str = "SELECT COUNT(*) FROM ledger.keyless WHERE n = 1";

fn state(c: &Cluster, i: usize) -> Result<String> {
    let said = sql(c, i, "SHOW STATUS LIKE \"wsrep_local_state_comment\"")?;
    Ok(said.split_once('\t').map_or("", |(_, state)| state).to_owned())
}

pub(crate) fn behind(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    sql(c, 1, KEYLESS)?;
    GALERA.stop_on(c, 3)?;
    sql(c, 1, CHANGE)?;
    c.wait_for("n2 has applied it", UP, || Ok((sql(c, 2, CHANGED)? == "6000").then_some(())))?;
    let index = c.overview()?.index;
    GALERA.start(c)?;
    let mut before = BTreeSet::new();
    let then = c.wait_for("n3 counts as ready", UP, || {
        // The cluster's word is read first: what is Synced once stays so here.
        let ready = GALERA.events(c, index, "unit-ready")?;
        let ready = ready.iter().any(|event| event.node.as_deref() == Some("n3"));
        if c.node(3).show(GALERA.unit, "ActiveState")? != "active" {
            return Ok(None);
        }
        let state = state(c, 3)?;
        if !ready {
            before.insert(state.clone());
        }
        Ok(ready.then_some(state))
    })?;
    say(&format!("    active and not ready: {before:?}; ready: {then}"));
    ensure!(then == "Synced", "n3 counted as ready while it was {then}");
    ensure!(before.iter().any(|state| state != "Synced"), "it was Synced as soon as it was active");
    sql(c, 1, "DROP TABLE ledger.keyless")?;
    whole(c)
}

/// A bound as the packaged unit has one, and shorter, so that this is over in minutes.
const BOUND: Duration = Duration::from_secs(30);
const BOUNDED: &str = "/etc/systemd/system/mariadb.service.d/60-bound.conf";
/// Far beyond the bound.
const COPY: Duration = Duration::from_secs(110);

pub(crate) fn long_copy(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    let packaged = c.ok(3, "sed -n s/^TimeoutStartSec=//p /lib/systemd/system/mariadb.service")?;
    ensure!(
        packaged.trim() == "900" && c.node(3).show(GALERA.unit, "TimeoutStartUSec")? == "infinity",
        "{packaged}"
    );
    let bytes: u64 = c.ok(1, "du --bytes --summarize /var/lib/mysql | cut -f1")?.trim().parse()?;
    // The ring buffer of write sets stays where it is.
    let cache: u64 = c.ok(1, "stat --format=%s /var/lib/mysql/galera.cache")?.trim().parse()?;
    let kbit = u32::try_from((bytes - cache) * 8 / 1000 / COPY.as_secs())?;
    GALERA.stop_on(c, 3)?;
    c.ok(3, "find /var/lib/mysql -mindepth 1 -delete")?;
    let slowed = Slowed::to(c, kbit)?;
    say(&format!("    {} MB at {kbit} kbit/s", (bytes - cache) / 1_000_000));

    // With such a bound the start is ended in its midst; and the server then hears no SIGTERM.
    c.node(3)
        .write(BOUNDED, format!("[Service]\nTimeoutStartSec={}\nTimeoutStopSec=5\n", BOUND.as_secs()))?;
    c.ok(3, "systemctl daemon-reload")?;
    let index = c.overview()?.index;
    GALERA.start(c)?;
    c.wait_for("the start is killed", BOUND * 8, || {
        let ended = GALERA.events(c, index, "unit-released")?;
        Ok(ended.iter().any(|event| event.text.contains("timed out")).then_some(()))
    })?;

    // Without it, it takes what it takes. The half of a copy is not joined with: that it may go is a person's word.
    c.ok(3, &format!("rm {BOUNDED} && systemctl daemon-reload"))?;
    let begun = Moment::now();
    GALERA.assemble(c, "--resync n3")?;
    c.wait_for("n3 has it all", COPY * 3, || {
        Ok((c.node(3).show(GALERA.unit, "ActiveState")? == "active").then_some(()))
    })?;
    let took = begun.elapsed();
    say(&format!("    the copy took {took:.0?}"));
    ensure!(took > BOUND * 2, "a copy of {took:?} shows nothing");
    drop(slowed);
    whole(c)
}
