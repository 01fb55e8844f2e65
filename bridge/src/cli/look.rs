//! Questions: status, lists, why, events.

use std::time::Duration;

use super::bus::Bus;
use super::exit::{Code, Failure};
use super::out::{self, Style};
use super::{act, render};
use crate::api::model::{HistoryLine, Overview};

/// How many lines are looked through for those of one kind.
pub(super) const ALL_LINES: u64 = 2_000;
/// One wait of the daemon for a change.
const STEP: Duration = Duration::from_secs(20);
/// Between two questions while the cluster has no leader.
const NO_LEADER: Duration = Duration::from_secs(1);

pub(super) async fn status(bus: &Bus, name: Option<&str>, json: bool) -> Result<(), Failure> {
    let picture = bus.overview().await?;
    let style = Style::of_stdout();
    match name {
        None if json => out::json(&picture),
        None => out::print(&render::status(&picture, style)),
        Some(name) => {
            aged(&picture, json, style);
            one(&picture, name, json, style)?;
        }
    }
    confirmed(&picture)
}

/// The first lines of what is old: that it is, and why.
pub(super) fn aged(picture: &Overview, json: bool, style: Style) {
    if let Some(memory) = picture.memory.as_ref().filter(|_| !json) {
        out::print(&render::old(memory, style));
    }
}

fn one(picture: &Overview, name: &str, json: bool, style: Style) -> Result<(), Failure> {
    if let Some(node) = picture.nodes.iter().find(|node| node.name == name) {
        if json {
            out::json(node);
        } else {
            out::print(&render::node(node, picture, style));
        }
        return Ok(());
    }
    let full = act::full(name).unwrap_or_else(|_| name.to_owned());
    let Some(unit) = picture.units.iter().find(|unit| unit.name == full) else {
        return Err(Failure::new(Code::NotFound, format!("`{name}` is neither a node nor a cluster unit"))
            .hint("`convoke status` shows all of both"));
    };
    if json {
        out::json(unit);
    } else {
        out::print(&render::unit(unit, style));
        if let Some(reason) = &unit.reason {
            out::print(&style.paragraph("  why         ", &" ".repeat(14), reason));
        }
    }
    Ok(())
}

pub(super) async fn units(bus: &Bus, json: bool) -> Result<(), Failure> {
    let picture = bus.overview().await?;
    if json {
        out::json(&picture.units);
    } else {
        aged(&picture, json, Style::of_stdout());
        out::print(&render::units(&picture.units, Style::of_stdout()));
    }
    confirmed(&picture)
}

pub(super) async fn nodes(bus: &Bus, json: bool) -> Result<(), Failure> {
    let picture = bus.overview().await?;
    if json {
        out::json(&picture.nodes);
    } else {
        aged(&picture, json, Style::of_stdout());
        out::print(&render::nodes(&picture.nodes, render::Age::of(&picture), Style::of_stdout()));
    }
    confirmed(&picture)
}

/// What was printed is true only with a quorum; scripts learn it from the exit code.
pub(super) fn confirmed(picture: &Overview) -> Result<(), Failure> {
    if picture.quorum {
        return Ok(());
    }
    Err(unconfirmed())
}

pub(super) fn unconfirmed() -> Failure {
    Failure::new(Code::NoQuorum, "no quorum: nobody confirms this now")
}

pub(super) async fn why(bus: &Bus, unit: &str, json: bool) -> Result<(), Failure> {
    let why = bus.why(&act::full(unit)?).await?;
    if json {
        out::json(&why);
    } else {
        out::print(&render::why(&why, Style::of_stdout()));
    }
    if why.quorum { Ok(()) } else { Err(unconfirmed()) }
}

pub(super) async fn fences(bus: &Bus, json: bool) -> Result<(), Failure> {
    let picture = bus.overview().await?;
    if json {
        let all: Vec<_> = picture.fences.iter().chain(&picture.fences_closed).collect();
        out::json(&all);
    } else {
        aged(&picture, json, Style::of_stdout());
        out::print(&render::fences(&picture, Style::of_stdout()));
    }
    confirmed(&picture)
}

/// Which events are asked for.
pub(super) struct Filter {
    pub(super) lines: u64,
    pub(super) unit: Option<String>,
    pub(super) node: Option<String>,
}

pub(super) async fn events(bus: &Bus, filter: &Filter, follow: bool, json: bool) -> Result<(), Failure> {
    let unit = filter.unit.as_deref().map(act::full).transpose()?.unwrap_or_default();
    let node = filter.node.as_deref().unwrap_or_default();
    // Whether it is confirmed, and which nodes there are.
    let picture = bus.overview().await?;
    let known_node = node.is_empty() || picture.nodes.iter().any(|known| known.name == node);
    let known_unit = unit.is_empty() || picture.units.iter().any(|known| known.name == unit);
    if !follow {
        let lines = bus.history(filter.lines, &unit, node).await?;
        // What was taken out has a past.
        if lines.is_empty() {
            known(known_node, known_unit, node, &unit)?;
        }
        aged(&picture, json, Style::of_stdout());
        show(&lines, json);
        return confirmed(&picture);
    }
    known(known_node, known_unit, node, &unit)?;
    // Before the lines are read: what happens in between is then shown by the first look after them.
    aged(&picture, json, Style::of_stdout());
    let mut last = picture.index;
    let lines = bus.history(filter.lines, &unit, node).await?;
    last = lines.last().map_or(last, |line| line.index.max(last));
    each(&lines, json);
    loop {
        let picture = bus.overview().await?;
        if !picture.quorum {
            tokio::time::sleep(NO_LEADER).await;
            continue;
        }
        match bus.history(ALL_LINES, &unit, node).await {
            Ok(lines) => each(&newer(lines, &mut last), json),
            Err(failure) if failure.code == Code::NoQuorum => continue,
            Err(failure) => return Err(failure),
        }
        bus.changed(picture.index, STEP).await?;
    }
}

fn known(node_is: bool, unit_is: bool, node: &str, unit: &str) -> Result<(), Failure> {
    let failure = match (node_is, unit_is) {
        (false, _) => Failure::new(Code::NotFound, format!("no node `{node}` in this cluster"))
            .hint("convoke list-nodes"),
        (true, false) => Failure::new(Code::NotFound, format!("no unit `{unit}` in this cluster"))
            .hint("convoke list-units"),
        (true, true) => return Ok(()),
    };
    Err(failure)
}

/// Those after the index `last`, which becomes the last of them.
fn newer(mut lines: Vec<HistoryLine>, last: &mut u64) -> Vec<HistoryLine> {
    let shown = std::mem::replace(last, lines.last().map_or(*last, |line| line.index.max(*last)));
    lines.retain(|line| line.index > shown);
    lines
}

fn each(lines: &[HistoryLine], json: bool) {
    if json {
        // One object a line: a follower cannot wait for the end of a list.
        for line in lines {
            out::json_line(line);
        }
    } else if !lines.is_empty() {
        out::print(&render::history(lines, Style::of_stdout()));
    }
}

fn show(lines: &[HistoryLine], json: bool) {
    if json {
        out::json(&lines);
    } else {
        out::print(&render::history(lines, Style::of_stdout()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_sees_each_line_once() {
        let line = |index| HistoryLine {
            index,
            wall_ms: 0,
            time_ms: 0,
            severity: String::new(),
            node: None,
            unit: None,
            kind: String::new(),
            text: String::new(),
            fence: None,
        };
        let mut last = 5;
        let indices = |lines: Vec<HistoryLine>| lines.iter().map(|line| line.index).collect::<Vec<_>>();
        assert_eq!(indices(newer(vec![line(4), line(5), line(7), line(7)], &mut last)), [7, 7]);
        assert_eq!(indices(newer(vec![line(7), line(8)], &mut last)), [8]);
        assert_eq!(indices(newer(Vec::new(), &mut last)), [0; 0]);
        assert_eq!(last, 8);
    }
}
