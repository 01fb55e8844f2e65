//! Nodes, units and fences as tables, and one of them alone.

use std::collections::BTreeSet;

use super::tone;
use crate::api::model::{CopyLine, DeviceLine, NodeLine, Overview, UnitLine, WatchdogLine};
use crate::cli::out::{Row, Style, Tone};

/// Whether somebody confirms what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Age {
    /// A majority does.
    Fresh,
    /// It is what a node remembers.
    Old,
}

impl Age {
    /// That of a picture.
    pub(in crate::cli) fn of(picture: &Overview) -> Self {
        if picture.quorum { Self::Fresh } else { Self::Old }
    }

    fn state(self) -> &'static str {
        match self {
            Self::Fresh => "STATE",
            Self::Old => "LAST STATE",
        }
    }
}

/// For how long the table tells how a node's last life ended: until somebody who was asleep has looked, and not for ever.
const LAST_END_SHOWN_S: u64 = 43_200;

fn is_back(node: &NodeLine) -> bool {
    matches!(node.state.as_str(), "online" | "joining")
}

/// All nodes.
pub(in crate::cli) fn nodes(nodes: &[NodeLine], age: Age, style: Style) -> String {
    let row = |node: &NodeLine| {
        let mut state = node.state.clone();
        state += if node.drained.is_some() { ", drained" } else { "" };
        state += if node.maintenance { ", in maintenance" } else { "" };
        let units = if node.units.is_empty() { "-".to_owned() } else { node.units.join(", ") };
        let mut notes = Vec::new();
        if let Some(seconds) = node.quarantine_s {
            notes.push(format!(
                "takes no units for another {seconds} s: a late power-off may still strike it"
            ));
        }
        if let Some(seconds) = node.held_back_s {
            notes.push(format!(
                "fell silent {} times of late: takes nothing that others can run for another {seconds} s, or until \
                 `convoke reset-failed {}`",
                node.losses, node.name
            ));
        }
        if let Some(end) = node.last_end.as_ref().filter(|end| is_back(node) && end.ago_s < LAST_END_SHOWN_S)
        {
            notes.push(format!("back since its last boot; before that it {}", end.text));
        }
        Row {
            cells: vec![
                (Tone::Strong, node.name.clone()),
                (Tone::Plain, node.role.clone()),
                (tone(&state), state),
                (
                    if node.fencing == "none" { Tone::Plain } else { tone(&node.fencing) },
                    node.fencing.clone(),
                ),
                (Tone::Plain, units),
            ],
            notes,
        }
    };
    style
        .table(&["NODE", "ROLE", age.state(), "FENCING", "UNITS"], &nodes.iter().map(row).collect::<Vec<_>>())
}

/// All units.
pub(in crate::cli) fn units(units: &[UnitLine], style: Style) -> String {
    if units.is_empty() {
        return "  no cluster units: a drop-in with an [X-Convoke] section makes one\n".to_owned();
    }
    let state = |unit: &UnitLine| match unit.maintenance {
        true => format!("{}, in maintenance", unit.state),
        false => unit.state.clone(),
    };
    let row = |unit: &UnitLine| Row {
        cells: vec![
            (Tone::Strong, unit.name.clone()),
            (tone(&state(unit)), state(unit)),
            (Tone::Plain, copies(unit)),
            (Tone::Plain, places(unit)),
        ],
        notes: unit.reason.iter().cloned().collect(),
    };
    style.table(&["UNIT", "STATE", "COPIES", "ON"], &units.iter().map(row).collect::<Vec<_>>())
}

fn copies(unit: &UnitLine) -> String {
    let active = unit.copies.iter().filter(|copy| copy.state == "active").count();
    match unit.wanted {
        _ if unit.goal != "started" && active == 0 => "-".to_owned(),
        _ if unit.goal == "unknown" => active.to_string(),
        Some(wanted) => format!("{active}/{wanted}"),
        None => format!("{active}/all"),
    }
}

fn places(unit: &UnitLine) -> String {
    copies_on(&unit.copies)
}

/// Where copies are, with the state of those that are not simply active.
pub(super) fn copies_on(copies: &[CopyLine]) -> String {
    if copies.is_empty() {
        return "-".to_owned();
    }
    let place = |copy: &CopyLine| match copy.state.as_str() {
        "active" if copy.adopted => format!("{} (taken over)", copy.node),
        "active" => copy.node.clone(),
        state => format!("{} ({state})", copy.node),
    };
    copies.iter().map(place).collect::<Vec<_>>().join(", ")
}

/// One node.
pub(in crate::cli) fn node(node: &NodeLine, picture: &Overview, style: Style) -> String {
    let mut out = nodes(std::slice::from_ref(node), Age::of(picture), style);
    out.push('\n');
    let mut line = |name: &str, value: &str| {
        out.push_str(&style.paragraph(&format!("  {name:<12}"), &" ".repeat(14), value));
    };
    line("id", &node.id.to_string());
    line("addresses", &node.addresses.join(", "));
    if picture.leader.as_ref() == Some(&node.name) {
        line("leads", "yes");
    }
    if let Some(by) = &node.drained {
        line("drained by", by);
    }
    let fencing = match (&node.device, &node.fencing_error) {
        (None, _) if node.fencing == "unknown" => "not known here".to_owned(),
        (None, _) => "no device: if it is lost, its exclusive units wait for your word".to_owned(),
        (Some(device), None) => format!("{}, by {device}", node.fencing),
        (Some(device), Some(error)) => format!("{}, by {device}: {error}", node.fencing),
    };
    line("fencing", &fencing);
    if let Some(watchdog) = &node.watchdog {
        line("watchdog", &watchdog_text(watchdog));
    }
    if let Some(end) = &node.last_end {
        line("last life", &end.text);
    }
    if let Some(incarnation) = &node.incarnation {
        line("incarnation", incarnation);
    }
    for fence in picture.fences.iter().filter(|fence| fence.node == node.name) {
        line("fence", &format!("{} ({} waits)", fence.text, fence.because));
    }
    out
}

/// One unit.
pub(in crate::cli) fn unit(unit: &UnitLine, style: Style) -> String {
    let mut out = units(std::slice::from_ref(unit), style);
    if unit.goal == "unknown" {
        return out;
    }
    out.push('\n');
    let mut line = |name: &str, value: &str| {
        out.push_str(&style.paragraph(&format!("  {name:<12}"), &" ".repeat(14), value));
    };
    // `convoke events` says which unit it was.
    let undecided = match unit.goal.as_str() {
        "started" => "nobody: it was enabled or running, or a unit that was started requires or wants it",
        _ => "nobody yet: its enablement on the nodes decides, or a unit that requires or wants it",
    };
    line("goal", &format!("{}, by {}", unit.goal, unit.goal_by.as_deref().unwrap_or(undecided)));
    line("exclusive", if unit.exclusive { "yes: never more than one copy" } else { "no" });
    for copy in &unit.copies {
        let permit = copy.token.map_or_else(|| "no permit".to_owned(), |token| format!("permit {token}"));
        let adopted = if copy.adopted { ", taken over while it ran: it has no CONVOKE_TOKEN" } else { "" };
        line("copy", &format!("{} on {}, {permit}{adopted}", copy.state, copy.node));
    }
    if let Some(assembly) = &unit.assembly {
        out.push_str(&super::assembly::section(assembly, style));
    }
    out
}

/// Fence devices of the nodes, and open fences.
pub(in crate::cli) fn fences(picture: &Overview, style: Style) -> String {
    let mut out = style.table(
        &["NODE", Age::of(picture).state(), "FENCING", "DEVICE"],
        &picture.nodes.iter().flat_map(fence_rows).collect::<Vec<_>>(),
    );
    out.push('\n');
    for drill in picture.nodes.iter().flat_map(drills) {
        out.push_str(&style.paragraph("  ", "    ", &drill));
    }
    if picture.nodes.iter().any(|node| !node.devices.is_empty()) {
        out.push('\n');
    }
    if picture.fences.is_empty() {
        out.push_str("  no fence is open\n");
    }
    for fence in &picture.fences {
        let waits = if fence.drill { "" } else { " waits" };
        let text = format!("{} (attempts: {}; {}{waits})", fence.text, fence.attempts, fence.because);
        out.push_str(&style.paragraph("  ", "    ", &text));
    }
    if !picture.fences_closed.is_empty() {
        out.push_str(&format!("\n  {}\n", style.paint(Tone::Strong, "CLOSED")));
    }
    for fence in &picture.fences_closed {
        let text = format!("{} (attempts: {}; for {})", fence.text, fence.attempts, fence.because);
        out.push_str(&style.paragraph("  ", "    ", &text));
    }
    out
}

/// What is known of each level of a node by its last drill.
fn drills(node: &NodeLine) -> Vec<String> {
    let levels: BTreeSet<u32> = node.devices.iter().map(|device| device.level).collect();
    let cuts = |level: u32| node.devices.iter().any(|device| device.level == level && device.isolates);
    let line = |level: &u32| match node.drills.iter().find(|drill| drill.level == *level) {
        Some(drill) => format!("{}: {}", node.name, drill.text),
        None if cuts(*level) && levels.len() > 1 => {
            format!("{}: level {level} only cuts off, which no drill can try", node.name)
        }
        None if cuts(*level) => format!("{}: only cut off, which no drill can try", node.name),
        None if levels.len() > 1 => format!("{}: level {level} was never drilled", node.name),
        None => format!("{}: never drilled", node.name),
    };
    levels.iter().map(line).collect()
}

fn watchdog_text(watchdog: &WatchdogLine) -> String {
    let error = watchdog.error.as_deref().unwrap_or("unknown");
    match (&watchdog.device, watchdog.timeout_ms, watchdog.since_s) {
        (Some(device), Some(timeout_ms), Some(since_s)) => format!(
            "armed for {since_s} s: {device}, fed by convoked, resets it {} s after the last feed",
            timeout_ms / 1000
        ),
        _ => format!("not armed: {error}"),
    }
}

/// A row for each device of a node and for its watchdog; the node itself stands in the first.
fn fence_rows(node: &NodeLine) -> Vec<Row> {
    let mut rows = device_rows(node);
    rows.extend(node.watchdog.as_ref().map(|watchdog| {
        let state = if watchdog.device.is_some() { "ready" } else { "unready" };
        let blank = [(Tone::Plain, String::new()), (Tone::Plain, String::new())];
        let cells = [(tone(state), state.to_owned()), (Tone::Plain, "its own watchdog".to_owned())];
        Row { cells: blank.into_iter().chain(cells).collect(), notes: vec![watchdog_text(watchdog)] }
    }));
    rows
}

fn device_rows(node: &NodeLine) -> Vec<Row> {
    let whose = [(Tone::Strong, node.name.clone()), (tone(&node.state), node.state.clone())];
    if node.devices.is_empty() {
        let tone = if node.fencing == "none" { Tone::Plain } else { tone(&node.fencing) };
        let device = [(tone, node.fencing.clone()), (Tone::Plain, "-".to_owned())];
        return vec![Row { cells: whose.into_iter().chain(device).collect(), notes: Vec::new() }];
    }
    let several = node.devices.len() > 1;
    let blank = || [(Tone::Plain, String::new()), (Tone::Plain, String::new())];
    let whose = std::iter::once(whose).chain(std::iter::repeat_with(blank));
    let row = |(whose, device): ([(Tone, String); 2], &DeviceLine)| {
        let name = match several {
            true => format!("{} (level {})", device.name, device.level),
            false => device.name.clone(),
        };
        let name = if device.isolates { format!("{name}, only cuts off") } else { name };
        let cells = [(tone(&device.state), device.state.clone()), (Tone::Plain, name)];
        // What all of them lack is told once.
        let told = |said: &&String| device.error.as_ref().is_some_and(|error| said.ends_with(error.as_str()));
        let unable = device.unable.iter().filter(|said| !told(said));
        let notes = device.error.iter().chain(unable).cloned().collect();
        Row { cells: whose.into_iter().chain(cells).collect(), notes }
    };
    whose.zip(&node.devices).map(row).collect()
}
