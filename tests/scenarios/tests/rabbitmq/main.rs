//! RabbitMQ, from Debian's packages, by the recipe of the package: what was confirmed stays (F16).
//!
//! Clients publish to a quorum queue on all nodes and keep a ledger of what was confirmed; at the end of a part all of it is
//! in the queue, once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::ExtraFile;
use scenarios::{Cluster, Dice, Ledger, Outage, Plan, Recipe, configure_rabbitmq, run, say, table};

const RABBITMQ: Recipe = Recipe { name: "rabbitmq", unit: "rabbitmq-server.service" };
const ALL: [&str; 3] = ["n1", "n2", "n3"];
const UP: Duration = Duration::from_secs(120);
const CLIENT: &str = "/usr/local/bin/rabbitmq-client";

#[test]
fn rabbitmq_loses_nothing_that_was_confirmed() -> Result<()> {
    let mut plan = Plan::clustered();
    plan.extra.push(ExtraFile {
        path: CLIENT.into(),
        mode: 0o755,
        content: include_bytes!("client").to_vec(),
    });
    run("rabbitmq", plan, |scenario| {
        scenario.part("the first formation is the operator's word; all are stopped, and started again", form);
        scenario.part(
            "all lose power while they publish, ten times: they come back by themselves, and none is forced",
            blackout,
        );
        scenario.part("one of three does not come back: one of the others begins by word", missing);
        scenario.part("a node that was wiped is let go of, and joins anew", wiped);
        scenario.part("all brokers are stopped in any order, and started again without force", orders);
        scenario.part("all brokers are killed at once, and come back by themselves", killed);
        scenario.part("another cookie or a name that no broker finds is said beforehand", beforehand);
    })
}

fn ledger() -> Ledger {
    Ledger::new("rabbitmq-ledger", CLIENT)
}

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
fn form(c: &Cluster) -> Result<()> {
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

/// Has all three up, whatever was before.
fn up(c: &Cluster) -> Result<()> {
    ledger().rest(c)?;
    if matches!(c.overview()?.state_of(RABBITMQ.unit), "undefined" | "unknown to the cluster") {
        return form(c);
    }
    RABBITMQ.start(c)?;
    RABBITMQ.runs_on(c, &ALL)
}

/// Publishes until so many more were confirmed.
fn written(c: &Cluster, more: usize) -> Result<()> {
    let before = ledger().count(c);
    ledger().write(c)?;
    c.wait_for("the clients publish", UP, || Ok((ledger().count(c) >= before + more).then_some(())))
}

/// The queue has everything that was confirmed, and every node knows all nodes and users.
fn whole(c: &Cluster) -> Result<()> {
    RABBITMQ.runs_on(c, &ALL)?;
    ledger().rest(c)?;
    let found =
        c.wait_for("the queue has a leader", UP, || c.ok(1, &format!("{CLIENT} --read")).map(Some))?;
    ledger().compare(c, "the queue", &found)?;
    let mut users = Vec::new();
    for i in 1..=3 {
        let known = c.ok(i, "rabbitmqctl --quiet eval 'lists:sort(rabbit_nodes:all_running()).'")?;
        ensure!(ALL.iter().all(|node| known.contains(&format!("rabbit@{node}"))), "n{i} sees {known}");
        users.push(c.ok(i, "rabbitmqctl --quiet list_users")?);
    }
    ensure!(users.iter().all(|list| *list == users[0]), "the nodes know different users: {users:?}");
    Ok(())
}

fn blackout(c: &Cluster) -> Result<()> {
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
        let starts = RABBITMQ.starts(c, index)?;
        ensure!(starts.len() == 3 && starts.iter().all(|start| start.ends_with("join")), "{starts:?}");
        whole(c).with_context(|| format!("round {round}, seed {}", dice.seed()))?;
    }
    say(&table(&outages));
    Ok(())
}

fn missing(c: &Cluster) -> Result<()> {
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

fn wiped(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    RABBITMQ.stop_on(c, 2)?;
    c.ok(2, "find /var/lib/rabbitmq/mnesia -mindepth 1 -delete")?;
    RABBITMQ.start(c)?;
    whole(c)?;
    let members = c.ok(1, "rabbitmq-queues --quiet quorum_status ledger")?;
    ensure!(
        ALL.iter().all(|node| members.contains(&format!("rabbit@{node}"))),
        "replicas are missing: {members}"
    );
    Ok(())
}

/// They were let start as those that join, and none as one that is forced.
fn unforced(c: &Cluster, index: u64) -> Result<()> {
    let starts = RABBITMQ.starts(c, index)?;
    ensure!(starts.len() == 3 && starts.iter().all(|start| start.ends_with("join")), "{starts:?}");
    Ok(())
}

fn orders(c: &Cluster) -> Result<()> {
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

fn killed(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let index = c.overview()?.index;
    c.everywhere(&format!("systemctl kill --signal=KILL {}", RABBITMQ.unit))?;
    c.wait_for("each has begun anew", UP, || Ok((RABBITMQ.starts(c, index)?.len() >= 3).then_some(())))?;
    whole(c)?;
    unforced(c, index)
}

/// What an operator runs on every node before the first formation.
fn checked(c: &Cluster, i: usize) -> Result<String> {
    let out = c.run(i, "/usr/libexec/convoke/rabbitmq-check")?;
    Ok(if out.code == 0 { out.stdout } else { out.stderr })
}

/// n2 is stopped and spoilt, its next start fails with the sentence in its journal, and once it is mended it comes back.
fn spoilt(c: &Cluster, spoil: &str, sentence: &str, mend: &str) -> Result<()> {
    RABBITMQ.stop_on(c, 2)?;
    c.ok(2, spoil)?;
    let since = c.ok(2, "date +%s")?;
    let index = c.overview()?.index;
    RABBITMQ.start(c)?;
    c.wait_for(&format!("the journal of n2 says `{sentence}`"), UP, || {
        let journal = format!(
            "journalctl --no-pager --output=cat --identifier=rabbitmq-prepare --since=@{}",
            since.trim()
        );
        Ok(c.ok(2, &journal)?.contains(sentence).then_some(()))
    })?;
    c.wait_for("the cluster says that a start failed", UP, || {
        let ended = RABBITMQ.events(c, index, "unit-released")?;
        Ok(ended.iter().any(|event| event.text.contains("ExecStartPre=")).then_some(()))
    })?;
    c.ok(2, mend)?;
    RABBITMQ.start(c)?;
    whole(c)
}

fn beforehand(c: &Cluster) -> Result<()> {
    up(c)?;
    let said = checked(c, 1)?;
    ensure!(said.contains("nodes=rabbit@n1,rabbit@n2,rabbit@n3"), "{said}");
    ensure!(checked(c, 2)? == said && checked(c, 3)? == said, "they differ");

    let cookie = "install -o rabbitmq -g rabbitmq -m 0400 /dev/stdin /var/lib/rabbitmq/.erlang.cookie";
    spoilt(
        c,
        &format!("printf ANOTHER | {cookie}"),
        "is up, and refuses this node",
        &format!("printf THESAME | {cookie}"),
    )?;
    spoilt(
        c,
        "cp /etc/hosts /root/hosts && sed '/[[:blank:]]n3$/d' /root/hosts >/etc/hosts && ! getent ahosts n3",
        "the name n3 does not resolve on this machine",
        "cat /root/hosts >/etc/hosts",
    )?;
    c.ok(2, &format!("printf ANOTHER | {cookie}"))?;
    let other = checked(c, 2)?;
    c.ok(2, &format!("printf THESAME | {cookie}"))?;
    ensure!(other.starts_with("cookie=") && other != said, "{other}");
    Ok(())
}
