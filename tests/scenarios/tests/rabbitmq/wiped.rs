//! A node has lost its data, or half of it: it is let go of, gets all of it from the others, and is never first.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scenarios::Cluster;

use super::{CLIENT, RABBITMQ, UP, ledger, one_forced, replicas, up, whole, written};

const WIPE: &str = "find /var/lib/rabbitmq/mnesia -mindepth 1 -delete";
const OTHERS: [&str; 2] = ["n1", "n3"];
/// A durable classic queue on n2. Wiped, n2 crashes at each start while the others know of such a queue there.
const HOMELESS: &str = "lives-on-n2";

/// The others run on.
pub(crate) fn alone(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    c.ok(2, &format!("{CLIENT} --classic {HOMELESS}"))?;
    let there = c.ok(2, "rabbitmqctl --quiet list_queues --local name")?;
    ensure!(there.contains(HOMELESS), "n2 has {there}");
    RABBITMQ.stop_on(c, 2)?;
    let known = queues(c)?;
    ensure!(known.contains(HOMELESS), "n1 knows {known}");
    c.ok(2, WIPE)?;
    let (index, before) = (c.overview()?.index, let_go(c)?);
    RABBITMQ.start(c)?;
    replicas::ready_with_its_own(c, index)?;
    whole(c)?;
    let starts = RABBITMQ.starts(c, index)?;
    ensure!(starts == ["n2 join"], "{starts:?}");
    once_more(c, before)?;
    let known = queues(c)?;
    ensure!(!known.contains(HOMELESS), "n1 knows {known}");
    Ok(())
}

/// All are down when it happens, and n2 was live last: what only it had is gone, which is for a person to say.
pub(crate) fn among_all(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    let (index, before) = (c.overview()?.index, let_go(c)?);
    c.lab.power_off_all()?;
    c.node(2).boot()?;
    c.ok(2, WIPE)?;
    c.lab.boot_all()?;
    RABBITMQ.why(c, "n2 was live last, and its data is gone", "--without n2")?;
    RABBITMQ.assemble(c, "--without n2")?;
    RABBITMQ.runs_on(c, &OTHERS)?;
    replicas::ready_with_its_own(c, index)?;
    whole(c)?;
    one_forced(c, index, &OTHERS, "n2")?;
    once_more(c, before)
}

/// A part of the database is missing, and the rest is thrown away by word alone.
pub(crate) fn half(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    RABBITMQ.stop_on(c, 2)?;
    c.ok(2, "rm /var/lib/rabbitmq/mnesia/rabbit@n2/schema.DAT")?;
    // It was looked at when it stopped, and is again once the daemon begins anew.
    c.ok(2, "systemctl restart convoked")?;
    c.wait_for("n2 says that its data is unusable", UP, || {
        let all = RABBITMQ.data(c)?;
        let its = all.iter().find(|data| data.node == "n2").context("n2 has nothing of it")?;
        ensure!(its.said == "unusable" && !its.void, "{its:?}");
        Ok(Some(()))
    })?;
    let (index, before) = (c.overview()?.index, let_go(c)?);
    RABBITMQ.start(c)?;
    RABBITMQ.why(c, "the data of n2 is unusable", "--resync n2")?;
    c.always("n2 is held", Duration::from_secs(5), || Ok(c.overview()?.places(RABBITMQ.unit) == OTHERS))?;
    RABBITMQ.assemble(c, "--resync n2")?;
    replicas::ready_with_its_own(c, index)?;
    whole(c)?;
    let starts = RABBITMQ.starts(c, index)?;
    ensure!(starts == ["n2 resync"], "{starts:?}");
    once_more(c, before)
}

/// The queues that n1 knows, those of nodes that are down among them.
fn queues(c: &Cluster) -> Result<String> {
    c.ok(1, "rabbitmqctl --quiet list_queues name")
}

/// How often another node has let go of n2, as `rabbitmq-prepare` says it there.
fn let_go(c: &Cluster) -> Result<usize> {
    let log = "/var/log/rabbitmq/rabbitmq-server.log";
    let said = c.ok(2, &format!("grep -c 'has let go of rabbit@n2' {log} || test -e {log}"))?;
    said.trim().parse::<usize>().with_context(|| format!("{log} of n2: {said}"))
}

fn once_more(c: &Cluster, before: usize) -> Result<()> {
    let now = let_go(c)?;
    ensure!(now == before + 1, "n2 was let go of {now} times, and {before} times before");
    Ok(())
}
