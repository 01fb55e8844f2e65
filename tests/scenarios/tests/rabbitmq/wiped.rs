//! A node has lost its data: it is let go of, and gets all of it from the others.

use anyhow::Result;
use scenarios::Cluster;

use super::{RABBITMQ, ledger, up, whole, written};

pub(crate) fn wiped(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    RABBITMQ.stop_on(c, 2)?;
    c.ok(2, "find /var/lib/rabbitmq/mnesia -mindepth 1 -delete")?;
    RABBITMQ.start(c)?;
    whole(c)
}
