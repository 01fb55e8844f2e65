//! The whole service: formed, stopped in any order, killed, without power, and back without force.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scenarios::{Cluster, Dice, Outage, configure_rabbitmq, say, table};

use super::{ALL, RABBITMQ, UP, up, whole, written};

fn configure(c: &Cluster) -> Result<()> {
    // One that waits for tables does not hear SIGTERM: not the packaged 90 s here, as a start alone comes after such a stop.
    let patience = "/etc/systemd/system/rabbitmq-server.service.d/60-patience.conf";
    for node in c.nodes() {
        node.write(patience, "[Service]\nTimeoutStopSec=15\n")?;
    }
    configure_rabbitmq(c)
}

/// The first formation, with a queue that is on disk: RabbitMQ 3.10 forgets one that was declared some seconds before all
/// nodes were killed, with all its messages, unless it was stopped in order since.
pub(crate) fn form(c: &Cluster) -> Result<()> {
    configure(c)?;
    RABBITMQ.enable(c)?;
    RABBITMQ.start(c)?;
    RABBITMQ.why(c, "never formed", "convoke assemble")?;
    RABBITMQ.assemble(c, "--from n1")?;
    RABBITMQ.runs_on(c, &ALL)?;
    written(c, 20)?;
    whole(c)?;
    c.ok(1, &format!("convoke stop {}", RABBITMQ.unit))?;
    RABBITMQ.start(c)?;
    whole(c)
}

/// They were let start as those that join, and none as one that is forced.
fn unforced(c: &Cluster, index: u64) -> Result<()> {
    let starts = RABBITMQ.starts(c, index)?;
    ensure!(starts.len() == 3 && starts.iter().all(|start| start.ends_with("join")), "{starts:?}");
    Ok(())
}

pub(crate) fn blackout(c: &Cluster) -> Result<()> {
    up(c)?;
    let mut dice = Dice::new();
    let mut outages = Vec::new();
    for round in 1..=10 {
        let index = c.overview()?.index;
        written(c, 1)?;
        std::thread::sleep(Duration::from_millis(dice.roll(4_000)));
        let outage = Outage::of(c, &RABBITMQ, || RABBITMQ.runs_on(c, &ALL))
            .with_context(|| format!("round {round}, seed {}", dice.seed()))?;
        say(&format!("    round {round}: all are up {:.1?} after the power", outage.all));
        outages.push(outage);
        unforced(c, index)?;
        whole(c).with_context(|| format!("round {round}, seed {}", dice.seed()))?;
    }
    say(&table(&outages));
    Ok(())
}

pub(crate) fn orders(c: &Cluster) -> Result<()> {
    up(c)?;
    let stop = format!("systemctl stop {}", RABBITMQ.unit);
    for order in [&[1, 2, 3][..], &[3, 2, 1], &[2, 3, 1], &[]] {
        written(c, 20)?;
        for i in order {
            c.ok(*i, &stop)?;
        }
        if order.is_empty() {
            c.everywhere(&stop)?;
        }
        let index = c.overview()?.index;
        RABBITMQ.start(c)?;
        whole(c).with_context(|| format!("after a stop in the order {order:?}"))?;
        unforced(c, index)?;
    }
    Ok(())
}

pub(crate) fn killed(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let index = c.overview()?.index;
    c.everywhere(&format!("systemctl kill --signal=KILL {}", RABBITMQ.unit))?;
    c.wait_for("each has begun anew", UP, || Ok((RABBITMQ.starts(c, index)?.len() >= 3).then_some(())))?;
    whole(c)?;
    unforced(c, index)
}
