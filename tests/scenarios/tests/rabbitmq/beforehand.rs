//! What is wrong with a node's secret or names is said before it waits in vain.

use anyhow::{Result, ensure};
use scenarios::Cluster;

use super::{RABBITMQ, UP, up, whole};

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

pub(crate) fn beforehand(c: &Cluster) -> Result<()> {
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
