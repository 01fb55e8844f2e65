//! Storage that all nodes share, each by a path that can be taken from it: a unit with `Fencing=isolated` writes a journal there, and a node
//! whose path is gone writes no more, whatever still runs on it.
//!
//! A copy that goes on after another one has begun would overwrite what that one wrote, as a database would, and be overwritten by it: so not
//! the disk says whether a write came after the proof, but what each write says of itself: when it was begun, and what became of it. The
//! network is whole but where a part says otherwise: who was cut off is heard, told to go, and comes back without a hand.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::ExtraFile;
use scenarios::{Cluster, Moment, Plan, UnitFile, run, say};

const UNIT: &str = "journal.service";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn a_node_whose_path_is_gone_writes_no_more() -> Result<()> {
    let mut plan = Plan::three();
    plan.array = true;
    plan.extra.push(ExtraFile::script("/usr/local/bin/journal", include_str!("storage/journal")));
    run("storage", plan, |scenario| {
        scenario.part("a frozen node that goes on where nobody can tell it", frozen);
        scenario.part("a node that is cut off, and still has to write when it stops", cut_off);
        scenario.part("a node without power", without_power);
        scenario.part("a node that thaws before its path is taken", back_meanwhile);
    })
}

/// Everybody's path can be taken; the unit writes on a node that does not lead.
fn writing(c: &Cluster) -> Result<usize> {
    let targets: Vec<String> =
        c.nodes().iter().map(|node| format!("{0} = {{ plug = \"{0}\" }}", node.name())).collect();
    c.configure(&format!(
        "quarantine = \"3s\"\n[fence.array]\nagent = \"fence_array\"\nisolates = \"after-cut\"\n\
         targets = {{ {} }}\noptions = {{ ip = \"{}\" }}\ntimeout = \"10s\"\n",
        targets.join(", "),
        c.lab.array().address()
    ))?;
    paths_are_open(c)?;
    c.install(
        &UnitFile::new(UNIT)
            .fragment(
                "[Unit]\nDescription=Journal on the shared disk\n[Service]\nTimeoutStopSec=5\n\
                 ExecStart=/usr/local/bin/journal\n",
            )
            .key("Replicas=1")
            .key("Fencing=isolated"),
    )?;
    let victim = c.follower(&[])?;
    writes_on(c, victim)?;
    Ok(victim)
}

fn paths_are_open(c: &Cluster) -> Result<()> {
    c.until("every path is seen open", LATE, |now| {
        let open = |node: &scenarios::NodeStatus| {
            node.devices.len() == 1 && node.devices.iter().all(|one| one.state == "ready")
        };
        now.fences.is_empty() && now.nodes.iter().all(open)
    })
    .map(drop)
}

fn writes_on(c: &Cluster, i: usize) -> Result<()> {
    c.run_unit(UNIT, i)?;
    let (name, before) = (c.node(i).name(), journal(c)?.len());
    c.wait_for(&format!("{name} writes"), S(5), || {
        let journal = journal(c)?;
        Ok((journal.len() > before && journal.last() == Some(&name)).then_some(()))
    })
}

/// Who wrote each record, in their order on the disk.
fn journal(c: &Cluster) -> Result<Vec<String>> {
    let text = String::from_utf8(c.lab.array().read()?)?;
    let records = text.trim_end_matches('\0').lines().enumerate();
    records
        .map(|(number, record)| -> Result<String> {
            let (name, count) = record.split_at_checked(4).context("a record is too short")?;
            ensure!(count.parse::<usize>() == Ok(number), "record {number} is `{record}`");
            Ok(name.trim().to_owned())
        })
        .collect()
}

/// When the writes of a node were begun that ended so (`written`, `EIO`), after a moment and in their order.
fn writes(c: &Cluster, name: &str, how: &str, then: Moment) -> Result<Vec<Moment>> {
    let text = fs::read_to_string(c.lab.shared().join("journal.log"))?;
    let its = |line: &str| {
        let mut words = line.split(' ');
        let at = Moment(words.next()?.parse().ok()?);
        (at > then && words.next() == Some(name) && words.next() == Some(how)).then_some(at)
    };
    Ok(text.lines().filter_map(its).collect())
}

/// Waits until another node writes, with the victim's path gone; the answer is when it began its first write, which is after the proof.
fn goes_on_elsewhere(c: &Cluster, victim: usize) -> Result<Moment> {
    let (name, then) = (c.node(victim).name(), Moment::now());
    let now = c.wait_for("another node writes", LATE, || {
        let journal = journal(c)?;
        Ok(journal.last().is_some_and(|last| *last != name).then_some(journal))
    })?;
    ensure!(!c.lab.array().is_open(victim), "it started while {name} had its path");
    let other = now.last().context("nobody writes")?;
    // What became of a write is told a moment after it is on the disk.
    c.wait_for("it tells of its first write", S(5), || {
        Ok(writes(c, other, "written", then)?.first().copied())
    })
}

/// No write of the victim that was begun after the other node's first one has arrived: neither a record more, nor one over what the other
/// node wrote, nor one that it has written over since.
fn nothing_came(c: &Cluster, victim: usize, begun: Moment) -> Result<()> {
    let name = c.node(victim).name();
    let late = writes(c, &name, "written", begun)?;
    ensure!(late.is_empty(), "{} writes of {name} came after the proof", late.len());
    let mut turns = journal(c)?;
    turns.dedup();
    let others = turns.last().is_some_and(|last| *last != name);
    ensure!(others && turns.iter().rev().nth(1) == Some(&name), "two copies wrote by turns: {turns:?}");
    Ok(())
}

/// Waits until a node that nobody can ask has stopped its copy.
fn has_stopped(c: &Cluster, victim: usize) -> Result<()> {
    c.wait_for("it has stopped it", S(20), || {
        let state = c.node(victim).run(&format!("systemctl is-active {UNIT}"))?.stdout;
        Ok((state.trim() != "active" && state.trim() != "deactivating").then_some(()))
    })
}

/// Its next life is let in without a hand, is told of the last one, and writes again.
fn comes_back(c: &Cluster, victim: usize) -> Result<()> {
    let end = c.back(victim, LATE)?;
    ensure!(end.how == "cut-off" && end.device.as_deref() == Some("array"), "{end:?}");
    c.wait_for("its path is given back", LATE, || Ok(c.lab.array().is_open(victim).then_some(())))?;
    paths_are_open(c)?;
    let alarms = format!("{:?}", c.overview()?.alarms);
    ensure!(!alarms.contains("spoke after"), "{alarms}");
    writes_on(c, victim)
}

/// What it had open before is of no use when it thaws. Heard at last it is told to go.
fn frozen(c: &Cluster) -> Result<()> {
    let victim = writing(c)?;
    let name = c.node(victim).name();
    let boots = c.node(victim).boots().len();
    c.freeze(victim)?;
    let elsewhere = goes_on_elsewhere(c, victim)?;
    // The cable alone: nobody can ask the node.
    c.lab.cut(victim)?;
    let thawed = Moment::now();
    c.node(victim).thaw()?;
    let refused = || writes(c, &name, "EIO", thawed);
    c.wait_for("the thawed copy goes on", S(20), || Ok((refused()?.len() > 10).then_some(())))?;
    has_stopped(c, victim)?;
    nothing_came(c, victim, elsewhere)?;
    say(&format!("    {} writes of the thawed copy failed, and none arrived", refused()?.len()));
    ensure!(c.node(victim).boots().len() == boots, "it went down before it was told");
    c.heal(victim)?;
    c.node(victim).wait_boots(boots + 1, LATE)?;
    comes_back(c, victim)
}

/// It lives, and stops the unit at the end of its lease: what that still writes comes before the proof, or never.
fn cut_off(c: &Cluster) -> Result<()> {
    let victim = writing(c)?;
    let boots = c.node(victim).boots().len();
    c.cut(victim)?;
    let elsewhere = goes_on_elsewhere(c, victim)?;
    has_stopped(c, victim)?;
    nothing_came(c, victim, elsewhere)?;
    c.heal(victim)?;
    c.node(victim).wait_boots(boots + 1, LATE)?;
    comes_back(c, victim)
}

fn without_power(c: &Cluster) -> Result<()> {
    let victim = writing(c)?;
    c.node(victim).power_off()?;
    let elsewhere = goes_on_elsewhere(c, victim)?;
    nothing_came(c, victim, elsewhere)?;
    c.node(victim).boot()?;
    comes_back(c, victim)
}

/// The array thinks for a while, and the node is heard before it says off: that ends nothing, and the node gets its path back and lives on.
fn back_meanwhile(c: &Cluster) -> Result<()> {
    let victim = writing(c)?;
    let name = c.node(victim).name();
    let (boots, index) = (c.node(victim).boots().len(), c.overview()?.index);
    let begun = journal(c)?.len();
    c.lab.array().set_lag(4)?;
    c.freeze(victim)?;
    c.until_event(index, "fence-began", LATE)?;
    c.thaw(victim)?;
    let events = c.until_event(index, "fence-failed", LATE)?;
    c.lab.array().set_lag(0)?;
    let failed = events.iter().find(|event| event.kind == "fence-failed").context("nothing failed")?;
    ensure!(failed.text.contains("was heard again before it was seen cut off"), "{}", failed.text);
    c.until_event(index, "fence-opened", LATE)?;
    c.until("the case is closed", LATE, |now| now.fences.is_empty() && now.online(&name))?;
    paths_are_open(c)?;
    // It had stopped the unit at the end of its lease, and says so.
    let before = journal(c)?.len();
    c.wait_for("the journal goes on", LATE, || Ok((journal(c)?.len() > before).then_some(())))?;
    let mut turns = journal(c)?.split_off(begun);
    turns.dedup();
    ensure!(turns.len() <= 2, "two copies wrote by turns: {turns:?}");
    let events = c.events_after(index)?;
    ensure!(events.iter().all(|event| event.kind != "fence-isolated"), "it was cut off: {events:#?}");
    ensure!(c.lab.array().is_open(victim), "{name} has not got its path back");
    ensure!(c.node(victim).boots().len() == boots, "{name} went down");
    writes_on(c, victim)
}
