//! Wishes: start, stop, move, drain; and the wait until they have come true.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::args::Wait;
use super::bus::Bus;
use super::exit::{Code, Failure};
use super::judge::{self, Verdict};
use super::out;
use crate::api::model::{HistoryLine, NodeLine, Overview};
use crate::api::names;

/// One wait of the daemon for a change; between two of them the time limit is looked at.
const STEP: Duration = Duration::from_secs(10);
/// Between two questions while the cluster has no leader: an election takes about as long.
const NO_LEADER: Duration = Duration::from_millis(250);
/// What a picture shows that nothing is on the way to change: for so long it may still change.
const SETTLED: Duration = Duration::from_secs(2);
/// From a reload until all nodes have said what it brought. With many units and a busy PID 1 it was over a second.
const HEARD: Duration = Duration::from_secs(10);
/// For a node to be empty: as for a single unit's stop.
pub(super) const DRAINED: Duration = Duration::from_secs(90);
/// Enough of a unit's history to hold one move.
const LINES: u64 = 20;

pub(super) async fn start(bus: &Bus, units: &[String], on: Option<&str>, wait: &Wait) -> Result<(), Failure> {
    let until = Instant::now() + wait.timeout;
    let (mut asked, mut failures) = (Vec::new(), Failures::default());
    for unit in all(units)? {
        let ask = || answer(until, wait, bus.0.start(&unit, on.unwrap_or_default()));
        let answered = match ask().await {
            Err(failure) if failure.code == Code::NotFound && becomes_known(bus, until, &unit).await => {
                ask().await
            }
            answered => answered,
        };
        match answered {
            Ok(index) => asked.push((unit, index)),
            Err(failure) => failures.add(failure),
        }
    }
    for (unit, index) in asked {
        match follow(bus, wait, until, &unit, |picture| judge::started(picture, &unit, on)).await {
            Ok(text) => finish(bus, &unit, index, text, "unit-start-asked", "unit-started").await,
            Err(failure) => failures.add(failure),
        }
    }
    failures.end()
}

/// Whether the cluster hears of a unit in a moment: this node has its section, and may have been reloaded just now.
async fn becomes_known(bus: &Bus, until: Instant, unit: &str) -> bool {
    if units::unit(Path::new("/"), unit).is_none() {
        return false;
    }
    let until = until.min(Instant::now() + HEARD);
    loop {
        let Ok(picture) = bus.overview().await else { return false };
        // Without a leader there is no change to wait for.
        if !picture.quorum {
            return false;
        }
        if judge::find(&picture, unit).is_some() {
            return true;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || bus.changed(picture.index, left).await.is_err() {
            return false;
        }
    }
}

pub(super) async fn stop(bus: &Bus, units: &[String], wait: &Wait) -> Result<(), Failure> {
    let until = Instant::now() + wait.timeout;
    let (mut asked, mut failures) = (Vec::new(), Failures::default());
    for unit in all(units)? {
        match answer(until, wait, bus.0.stop(&unit)).await {
            Ok(index) => asked.push((unit, index)),
            Err(failure) => failures.add(failure),
        }
    }
    for (unit, index) in asked {
        match follow(bus, wait, until, &unit, |picture| judge::stopped(picture, &unit)).await {
            Ok(text) => finish(bus, &unit, index, text, "unit-stop-asked", "unit-released").await,
            Err(failure) => failures.add(failure),
        }
    }
    failures.end()
}

/// Each a node by its name, else a unit.
pub(super) async fn reset_failed(bus: &Bus, names: &[String], on: Option<&str>) -> Result<(), Failure> {
    let before = bus.confirmed().await?;
    let meant = |name: &String| {
        let node = before.nodes.iter().find(|node| node.name == *name).filter(|_| on.is_none());
        match node {
            Some(node) => Ok((name.clone(), forgiven(node))),
            None => full(name).map(|unit| (unit.clone(), format!("the failures of {unit} are forgotten"))),
        }
    };
    let named = names.iter().map(meant).collect::<Result<Vec<_>, Failure>>()?;
    let mut failures = Failures::default();
    for (name, text) in named {
        match bus.0.reset_failed(&name, on.unwrap_or_default()).await {
            Ok(_) => out::say(&text),
            Err(error) => failures.add(error.into()),
        }
    }
    failures.end()
}

/// One that is still offered leaves the others to be forgotten.
pub(super) async fn forget(bus: &Bus, units: &[String]) -> Result<(), Failure> {
    let mut failures = Failures::default();
    for unit in all(units)? {
        match bus.0.forget(&unit).await {
            Ok(_) => out::say(&format!("{unit} is forgotten")),
            Err(error) => failures.add(error.into()),
        }
    }
    failures.end()
}

fn forgiven(node: &NodeLine) -> String {
    let name = &node.name;
    if node.left_off {
        return format!("{name} is switched on again; that it was fenced before is forgotten");
    }
    match node.losses {
        0 => format!("nothing was held against {name}"),
        _ => format!("{name} takes units like any other node; that it fell silent is forgotten"),
    }
}

/// What became of several wishes: one that failed leaves the others to be asked, followed and told all the same.
#[derive(Default)]
struct Failures(Option<Failure>);

impl Failures {
    /// Keeps the first, whose code the command ends with, and tells the others at once.
    fn add(&mut self, failure: Failure) {
        match &self.0 {
            Some(_) => super::tell(&failure),
            None => self.0 = Some(failure),
        }
    }

    fn end(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}

/// The units' whole names. With a mistake in one of them nothing is asked.
fn all(units: &[String]) -> Result<Vec<String>, Failure> {
    units.iter().map(|unit| full(unit)).collect()
}

pub(super) async fn move_unit(
    bus: &Bus,
    unit: &str,
    from: Option<&str>,
    to: Option<&str>,
    wait: &Wait,
) -> Result<(), Failure> {
    let until = Instant::now() + wait.timeout;
    let unit = full(unit)?;
    let picture = bus.confirmed().await?;
    let before = judge::find(&picture, &unit).map(|unit| judge::place(unit, from));
    let call = bus.0.move_unit(&unit, from.unwrap_or_default(), to.unwrap_or_default());
    let index = answer(until, wait, call).await?;
    let (from, token) = before.unwrap_or_default();
    let moved = |picture: &Overview| judge::moved(picture, &unit, (&from, to), token);
    let text = follow(bus, wait, until, &unit, moved).await?;
    finish(bus, &unit, index, text, "unit-move-asked", "unit-started").await;
    Ok(())
}

pub(super) async fn drain(bus: &Bus, node: &str, wait: &Wait) -> Result<(), Failure> {
    let until = Instant::now() + wait.timeout;
    let picture = bus.confirmed().await?;
    let line = picture.nodes.iter().find(|line| line.name == node);
    let before = line.map(|line| line.units.clone()).unwrap_or_default();
    answer(until, wait, bus.0.drain(node)).await?;
    let more = format!("convoke status {node}");
    let drained = |picture: &Overview| judge::drained(picture, node, &before);
    match follow_by(bus, wait, until, (node, &more), drained).await? {
        Some(text) => out::say(&text),
        None => out::say(&format!("{node}: recorded")),
    }
    Ok(())
}

/// Nothing follows at once; and nothing at all while the whole cluster is drained.
pub(super) async fn undrain(bus: &Bus, node: &str) -> Result<(), Failure> {
    bus.0.undrain(node).await?;
    let text = match bus.overview().await?.drained {
        None => format!("{node} takes units again"),
        Some(by) => format!(
            "{node} is not drained by itself any more; the whole cluster is, by {by}, until `convoke undrain --cluster`"
        ),
    };
    out::say(&text);
    Ok(())
}

/// The daemon's answer to a wish, within the time that the operator gives it.
pub(super) async fn answer<T>(
    until: Instant,
    wait: &Wait,
    call: impl Future<Output = zbus::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(until, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::new(
            Code::NoQuorum,
            format!(
                "the cluster did not answer within {} s; it is not known whether the request was recorded",
                wait.timeout.as_secs_f64()
            ),
        )
        .hint("`convoke status` shows whether there is a quorum")),
    }
}

/// The unit's real name, as the daemon will understand it: `mysql` may be another name of `mariadb.service` here.
pub(super) fn full(unit: &str) -> Result<String, Failure> {
    Ok(units::id(Path::new("/"), &names::unit(unit)?.0))
}

/// Waits until the judge is content of a unit; `None` if it was not to be waited for.
pub(super) async fn follow(
    bus: &Bus,
    wait: &Wait,
    until: Instant,
    unit: &str,
    judge: impl Fn(&Overview) -> Verdict,
) -> Result<Option<String>, Failure> {
    follow_by(bus, wait, until, (unit, &format!("convoke why {unit}")), judge).await
}

/// The same of anything, with the command that says more of it.
pub(super) async fn follow_by(
    bus: &Bus,
    wait: &Wait,
    until: Instant,
    (what, more): (&str, &str),
    judge: impl Fn(&Overview) -> Verdict,
) -> Result<Option<String>, Failure> {
    if wait.no_wait {
        return Ok(None);
    }
    // What passes in a moment is told to those who look on, and not kept in logs.
    let at_once = std::io::stderr().is_terminal();
    let mut shown = String::new();
    let (mut settled, mut waiting) = (None, None);
    loop {
        let picture = bus.overview().await?;
        let mut step = STEP;
        let pending = if picture.quorum {
            match judge(&picture) {
                Verdict::Settled(text) => {
                    let left = rest(&mut settled, &text);
                    if left.is_zero() {
                        return Ok(Some(text));
                    }
                    step = left;
                    String::new()
                }
                Verdict::Stalled(text, remedy) => {
                    let left = rest(&mut settled, &text);
                    if left.is_zero() {
                        return Err(Failure::new(Code::NotDone, text).hint(remedy));
                    }
                    step = left;
                    text
                }
                Verdict::Done(text) => return Ok(Some(text)),
                Verdict::Stuck(text, remedy) => return Err(Failure::new(Code::NotDone, text).hint(remedy)),
                Verdict::Pending(reason) => reason,
            }
        } else {
            "no quorum".to_owned()
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let code = if picture.quorum { Code::NotDone } else { Code::NoQuorum };
            let text =
                format!("{what}: recorded, but not done after {} s: {pending}", wait.timeout.as_secs_f64());
            return Err(Failure::new(code, text).hint(format!("`{more}`; it goes on without this command")));
        }
        if pending != shown && !pending.is_empty() {
            let quiet = if at_once { Duration::ZERO } else { rest(&mut waiting, &pending) };
            if quiet.is_zero() {
                out::note(&format!("{what}: {pending}"));
                shown = pending;
            } else {
                step = step.min(quiet);
            }
        }
        if picture.quorum {
            bus.changed(picture.index, left.min(step)).await?;
        } else {
            tokio::time::sleep(left.min(NO_LEADER)).await;
        }
    }
}

/// For how long what is said may still change.
fn rest(settled: &mut Option<(String, Instant)>, text: &str) -> Duration {
    let since = match settled {
        Some((known, since)) if known == text => *since,
        _ => Instant::now(),
    };
    *settled = Some((text.to_owned(), since));
    SETTLED.saturating_sub(since.elapsed())
}

/// One line on what happened, with the time that it took by the cluster's clock.
pub(super) async fn finish(bus: &Bus, unit: &str, index: u64, text: Option<String>, asked: &str, done: &str) {
    // Not waited for.
    let Some(text) = text else {
        out::say(&format!("{unit}: recorded"));
        return;
    };
    // The figure is a courtesy: without it the deed is done all the same.
    let lines = bus.history(LINES, unit, "").await.unwrap_or_default();
    match took(&lines, index, asked, done) {
        Some(ms) => out::say(&format!("{text} ({})", span(ms))),
        None => out::say(&text),
    }
}

fn took(lines: &[HistoryLine], index: u64, asked: &str, done: &str) -> Option<u64> {
    let asked = lines.iter().find(|line| line.index == index && line.kind == asked)?;
    let done = lines.iter().rev().find(|line| line.index > index && line.kind == done)?;
    done.time_ms.checked_sub(asked.time_ms)
}

fn span(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(index: u64, time_ms: u64, kind: &str) -> HistoryLine {
        HistoryLine {
            index,
            wall_ms: 0,
            time_ms,
            severity: "info".to_owned(),
            node: None,
            unit: None,
            kind: kind.to_owned(),
            text: String::new(),
            fence: None,
        }
    }

    #[test]
    fn what_a_word_for_a_node_does_is_said() {
        let node =
            |losses, left_off| NodeLine { losses, left_off, ..super::super::render::samples::node("n3") };
        for (node, said) in [
            (node(0, false), "nothing was held against n3"),
            (node(2, false), "n3 takes units like any other node; that it fell silent is forgotten"),
            (node(3, true), "n3 is switched on again; that it was fenced before is forgotten"),
        ] {
            assert_eq!(forgiven(&node), said);
        }
    }

    #[tokio::test]
    async fn an_answer_is_waited_for_no_longer_than_the_operator_says() {
        let wait = Wait { no_wait: false, timeout: Duration::from_millis(40) };
        let began = Instant::now();
        let never = std::future::pending::<zbus::Result<u64>>();
        let failure = answer(began + wait.timeout, &wait, never).await.expect_err("no answer");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(failure.code, Code::NoQuorum);
        assert!(failure.text.contains("within 0.04 s"), "{}", failure.text);
    }

    #[test]
    fn the_first_failure_of_several_decides_the_exit_code() {
        let mut failures = Failures::default();
        failures.add(Failure::new(Code::NotDone, "a"));
        failures.add(Failure::new(Code::NotFound, "b"));
        assert_eq!(failures.end().expect_err("both failed").code, Code::NotDone);
        assert!(Failures::default().end().is_ok());
    }

    #[test]
    fn no_unit_is_asked_for_when_one_has_no_name() {
        let units = ["db".to_owned(), "a/b".to_owned()];
        assert_eq!(all(&units).expect_err("no name of a unit").code, Code::Usage);
        assert_eq!(all(&units[..1]).expect("a name"), ["db.service"]);
    }

    #[test]
    fn the_time_is_that_of_this_wish() {
        let lines = [
            line(3, 10, "unit-move-asked"),
            line(5, 30, "unit-started"),
            line(9, 100, "unit-move-asked"),
            line(10, 120, "unit-released"),
            line(12, 142, "unit-started"),
        ];
        assert_eq!(took(&lines, 9, "unit-move-asked", "unit-started"), Some(42));
        assert_eq!(took(&lines, 11, "unit-move-asked", "unit-started"), None);
        // Nothing had to be done.
        assert_eq!(took(&lines[..3], 9, "unit-move-asked", "unit-started"), None);
        assert_eq!(span(42), "42 ms");
        assert_eq!(span(61_250), "61.2 s");
    }
}
