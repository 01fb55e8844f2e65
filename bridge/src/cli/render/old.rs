//! What stands above everything that nobody confirms: that it is old, why, and how this node's own units are in truth.

use super::tone;
use crate::api::model::{HereLine, Memory};
use crate::cli::out::{Row, Style, Tone};

/// The first lines.
pub(in crate::cli) fn old(memory: &Memory, style: Style) -> String {
    let mut out = headline(memory, style);
    out.push_str(&style.paragraph("   ", "   ", &memory.why));
    out.push('\n');
    out
}

/// The first of them.
pub(super) fn headline(memory: &Memory, style: Style) -> String {
    format!("{}; {}\n", style.paint(Tone::Bad, "NO QUORUM"), below(memory))
}

/// What follows it.
pub(super) fn below(memory: &Memory) -> String {
    if memory.keeps_log {
        format!("below is what {} last knew, and may be long past", memory.node)
    } else {
        format!("{} keeps no log and knows only itself", memory.node)
    }
}

/// The node's own units as PID 1 shows them now.
pub(super) fn here(memory: &Memory, style: Style) -> String {
    let row = |line: &HereLine| Row {
        cells: vec![
            (Tone::Strong, line.unit.clone()),
            (tone(&line.state), line.state.clone()),
            (Tone::Plain, line.text.clone()),
        ],
        notes: Vec::new(),
    };
    let heading = format!("ON {} NOW", memory.node);
    if memory.here.is_empty() {
        return format!("  {}\n  no cluster unit runs here\n", style.paint(Tone::Strong, &heading));
    }
    style.table(&[&heading, "STATE", ""], &memory.here.iter().map(row).collect::<Vec<_>>())
}
