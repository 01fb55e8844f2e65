//! The screen that an operator lives by: first whether the cluster decides, then what is wrong, then what is there.

use super::{lists, old, tone};
use crate::api::model::{AlarmLine, Overview};
use crate::cli::out::{Style, Tone};

/// The whole cluster.
pub(in crate::cli) fn status(picture: &Overview, style: Style) -> String {
    let mut sections = vec![headline(picture, style)];
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

fn alarm(alarm: &AlarmLine, style: Style) -> String {
    let mark = if alarm.severity == "alert" { "!!" } else { " !" };
    let first = format!("{} ", style.paint(tone(&alarm.severity), mark));
    let mut text = Style { width: style.width.saturating_sub(3), ..style }.paragraph("", "   ", &alarm.text);
    text.insert_str(0, &first);
    text.push_str(&style.paragraph("   -> ", "      ", &alarm.remedy));
    text
}
