//! A node that was live last does not come back: it is given up by word, and one of the others is forced.

use anyhow::{Result, ensure};
use scenarios::Cluster;

use super::{ALL, RABBITMQ, UP, ledger, one_forced, up, whole, written};

/// Both of the others have the same.
pub(crate) fn missing(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    let index = c.overview()?.index;
    c.lab.power_off_all()?;
    for i in [1, 2] {
        c.node(i).boot()?;
    }
    RABBITMQ.why(c, "n3", "--without n3")?;
    for i in [1, 2] {
        c.wait_for(&format!("n{i} waits for the tables of n3"), UP, || {
            let log = c.ok(i, "tac /var/log/rabbitmq/rabbit@*.log | grep -m 1 -e 'Waiting for Mnesia' -e 'Starting RabbitMQ'")?;
            Ok(log.contains("Waiting for Mnesia").then_some(()))
        })?;
    }
    RABBITMQ.assemble(c, "--without n3")?;
    RABBITMQ.runs_on(c, &ALL[..2])?;
    c.ok(1, "rabbitmqctl --quiet add_user meanwhile secret")?;
    c.node(3).boot()?;
    whole(c)?;
    known(c, &[1, 2, 3], "meanwhile")?;
    one_forced(c, index, &ALL[..2], "n3")
}

/// n1 was stopped before something was made that the others have. Its node is back, and forced it would lose that on all.
pub(crate) fn stopped_before(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    RABBITMQ.stop_on(c, 1)?;
    c.ok(2, "rabbitmqctl --quiet add_user late secret")?;
    c.wait_for("n2 and n3 were live last, by the cluster's own word", UP, || {
        let last = RABBITMQ.live_last(c)?;
        ensure!(last == ALL[1..], "{last:?}");
        Ok(Some(()))
    })?;
    for i in [2, 3] {
        let running = format!("/var/lib/rabbitmq/mnesia/rabbit@n{i}/nodes_running_at_shutdown");
        c.wait_for(&format!("n{i} has noted that n1 is gone"), UP, || {
            c.ok(i, &format!("test -s {running} && ! grep rabbit@n1 {running}")).map(Some)
        })?;
        // What Mnesia has logged is on its way to the disk for some seconds.
        c.ok(i, "rabbitmqctl --quiet eval 'ok = mnesia:sync_log().'")?;
    }
    let index = c.overview()?.index;
    c.lab.power_off_all()?;
    for i in [1, 2] {
        c.node(i).boot()?;
    }
    c.until("two are a majority", UP, |now| now.quorum)?;
    // What a hand stopped stays so: n1 may start again.
    RABBITMQ.start(c)?;
    RABBITMQ.why(c, "n3 was live last", "--without n3")?;
    RABBITMQ.why(c, "n1 was not live last", "")?;
    RABBITMQ.assemble(c, "--without n3")?;
    RABBITMQ.runs_on(c, &ALL[..2])?;
    known(c, &[1, 2], "late")?;
    c.node(3).boot()?;
    whole(c)?;
    known(c, &[1, 2, 3], "late")?;
    one_forced(c, index, &ALL[1..2], "n1")
}

/// Fails unless these nodes know a user.
fn known(c: &Cluster, nodes: &[usize], user: &str) -> Result<()> {
    for i in nodes {
        let users = c.ok(*i, "rabbitmqctl --quiet list_users")?;
        let mut names = users.lines().filter_map(|line| line.split_whitespace().next());
        ensure!(names.any(|name| name == user), "n{i} does not know {user}: {users}");
    }
    Ok(())
}
