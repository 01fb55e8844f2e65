//! Who runs the agent, and cannot.

use anyhow::{Result, ensure};
use scenarios::{Cluster, Moment, Overview, unwrapped};

use crate::{LATE, UNIT, placed};

/// The first executor has no secret. The pause after a failure is for the device, which was asked for nothing.
pub(crate) fn unable(c: &Cluster) -> Result<()> {
    let (victim, _) = placed(c)?;
    let now = c.overview()?;
    let seen = now.node(&c.node(victim).name()).and_then(|node| node.devices.first()?.answered_by.clone());
    let first = c.number(&seen.ok_or_else(|| anyhow::anyhow!("nobody has looked at it"))?);
    c.ok(first, "mv /etc/convoke/secrets/bmc /etc/convoke/secrets/away")?;
    let (index, then) = (c.overview()?.index, Moment::now());
    c.node(victim).power_off()?;
    c.next_life(UNIT, then, LATE)?;
    c.ok(first, "mv /etc/convoke/secrets/away /etc/convoke/secrets/bmc")?;
    let events = c.events_after(index)?;
    let at = |kind: &str, last: bool| {
        let mut found = events.iter().filter(|event| event.kind == kind);
        let event = if last { found.next_back() } else { found.next() };
        event.ok_or_else(|| anyhow::anyhow!("no {kind} among {events:#?}"))
    };
    let begun = events.iter().position(|event| event.kind == "fence-began").unwrap_or_default();
    if events[..begun].iter().any(|event| event.kind == "fence-agent-unable") {
        // A look came between, and told of it before it was needed.
        let began = at("fence-began", false)?;
        let asked = began.text.starts_with(&format!("{}: ", c.node(first).name()));
        ensure!(!asked, "who was known to be unable was asked first: {began:?}");
        return c.never_twice(UNIT);
    }
    let (failed, began) = (at("fence-failed", false)?, at("fence-began", true)?);
    ensure!(failed.text.contains("cannot be read on"), "{failed:?}");
    ensure!(began.time_ms < failed.time_ms + 4_000, "it waited as for a device: {failed:?}, {began:?}");
    c.never_twice(UNIT)
}

/// The secret is taken from one node, and then from the other that could fence the first.
pub(crate) fn known_beforehand(c: &Cluster) -> Result<()> {
    let told = |i: usize, devices: &str| format!("n{i} cannot use {devices}: ");
    let shows = |now: &Overview, severity: &str, words: &str| {
        now.alarms.iter().any(|alarm| alarm.severity == severity && alarm.text.contains(words))
    };
    let index = c.overview()?.index;
    c.ok(3, "mv /etc/convoke/secrets/bmc /etc/convoke/secrets/away && convoke reset-failed n3")?;
    c.until("n3 is told of, and nobody is red", LATE, |now| {
        shows(now, "warning", &told(3, "bmc-n1, bmc-n2")) && now.nodes.iter().all(|n| n.fencing == "ready")
    })?;
    let shown = unwrapped(&c.ok(1, "convoke fence")?);
    ensure!(shown.contains("n3 cannot use it: ") && shown.contains("cannot be read on n3"), "{shown}");
    c.ok(2, "mv /etc/convoke/secrets/bmc /etc/convoke/secrets/away && convoke reset-failed n2")?;
    c.until("n1, which nobody else could fence, is red", LATE, |now| {
        let red = |name: &str| now.node(name).is_some_and(|node| node.fencing == "unready");
        shows(now, "alert", "bmc-n1 does not see n1") && red("n1") && !red("n2") && !red("n3")
    })?;
    for i in [2, 3] {
        c.ok(
            i,
            &format!("mv /etc/convoke/secrets/away /etc/convoke/secrets/bmc && convoke reset-failed n{i}"),
        )?;
    }
    c.until("nothing is told of any more", LATE, |now| {
        now.alarms.is_empty() && now.nodes.iter().all(|node| node.fencing == "ready")
    })?;
    ensure!(!c.events_after(index)?.iter().any(|event| event.kind == "fence-wanted"), "somebody was fenced");
    Ok(())
}
