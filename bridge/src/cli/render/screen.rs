//! The screen that an operator lives by: first whether the cluster decides, then what is wrong, then what is there.

use jiff::tz::TimeZone;

use super::{lists, old, past, tone};
use crate::api::model::{AlarmLine, MaintenanceLine, Overview};
use crate::cli::out::{Style, Tone};

/// The whole cluster.
pub(in crate::cli) fn status(picture: &Overview, style: Style) -> String {
    let mut sections = vec![headline(picture, style)];
    if !picture.maintenance.is_empty() {
        sections.push(maintenance(&picture.maintenance, style, &TimeZone::system()));
    }
    if let Some(by) = &picture.drained {
        sections.push(alarm(&drained(by), style));
    }
    if !picture.alarms.is_empty() {
        let alarms: String = picture.alarms.iter().map(|alarm| self::alarm(alarm, style)).collect();
        sections.push(alarms);
    }
    if let Some(memory) = &picture.memory {
        sections.push(old::here(memory, style));
    }
    sections.push(lists::nodes(&picture.nodes, lists::Age::of(picture), style));
    sections.push(lists::units(&picture.units, style));
    if !picture.fences.is_empty() {
        let mut text = format!("  {}\n", style.paint(Tone::Strong, "FENCES"));
        for fence in &picture.fences {
            text.push_str(&style.paragraph(
                "  ",
                "    ",
                &format!("{} ({} waits)", fence.text, fence.because),
            ));
        }
        sections.push(text);
    }
    if !picture.links.is_empty() {
        let mut text = format!("  {}\n", style.paint(Tone::Strong, "LINKS THAT ARE DOWN"));
        for link in &picture.links {
            text.push_str(&format!("  {} {} {}\n", link.from, style.paint(Tone::Bad, "-x-"), link.to));
        }
        sections.push(text);
    }
    sections.join("\n")
}

fn headline(picture: &Overview, style: Style) -> String {
    let quorum = if picture.quorum {
        let leader = picture.leader.as_deref().unwrap_or("nobody");
        format!("{}, led by {leader}", style.paint(Tone::Good, "quorum"))
    } else {
        style.paint(Tone::Bad, "NO QUORUM")
    };
    let online = picture.nodes.iter().filter(|node| node.state == "online").count();
    let active = picture.units.iter().filter(|unit| unit.state == "active").count();
    let started = picture.units.iter().filter(|unit| unit.goal == "started").count();
    let counts = if picture.quorum {
        format!(
            "{online} of {} nodes online, {active} of {started} started units active",
            picture.nodes.len()
        )
    } else {
        picture.memory.as_ref().map_or_else(|| "nobody confirms this".to_owned(), old::below)
    };
    format!("{}: {quorum}; {counts}\n", style.paint(Tone::Strong, &picture.cluster))
}

/// What is left alone, since when, by whom and what for: before everything else, for nothing else is what it seems.
pub(super) fn maintenance(lines: &[MaintenanceLine], style: Style, zone: &TimeZone) -> String {
    let line = |line: &MaintenanceLine| {
        let what = line.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let since = past::local(line.since_wall_ms, zone).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let text = format!("{}; since {since}, by {}{what}", line.text, line.by);
        let severity = "warning".to_owned();
        alarm(&AlarmLine { severity, text, remedy: line.remedy.clone() }, style)
    };
    lines.iter().map(line).collect()
}

/// That the whole site is off by somebody's word, for whoever comes after that person.
fn drained(by: &str) -> AlarmLine {
    AlarmLine {
        severity: "warning".to_owned(),
        text: format!("the whole cluster is drained, by {by}: what ran stops, and nothing starts"),
        remedy: "`convoke undrain --cluster` starts all of it again".to_owned(),
    }
}

fn alarm(alarm: &AlarmLine, style: Style) -> String {
    let mark = if alarm.severity == "alert" { "!!" } else { " !" };
    let first = format!("{} ", style.paint(tone(&alarm.severity), mark));
    let mut text = Style { width: style.width.saturating_sub(3), ..style }.paragraph("", "   ", &alarm.text);
    text.insert_str(0, &first);
    text.push_str(&style.paragraph("   -> ", "      ", &alarm.remedy));
    text
}
