//! A node that was live last does not come back: it is given up by word, and one of the others is forced.

use anyhow::Result;
use scenarios::Cluster;

use super::{ALL, RABBITMQ, UP, ledger, up, whole, written};

pub(crate) fn missing(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
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
    c.ok(1, "rabbitmqctl --quiet add_user late secret")?;
    c.node(3).boot()?;
    whole(c)
}
