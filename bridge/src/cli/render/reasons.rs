//! `convoke why`: the facts, most important first, each with what to do.

use super::{history, lists};
use crate::api::model::UnitWhy;
use crate::cli::out::Style;

/// One unit, with its reasons and its past.
pub(in crate::cli) fn why(why: &UnitWhy, style: Style) -> String {
    let mut unit = why.unit.clone();
    // The reasons below say it better.
    unit.reason = None;
    // Why there is no quorum is the first of the reasons.
    let old = why.memory.as_ref().map(|memory| super::old::headline(memory, style) + "\n");
    let mut out = old.unwrap_or_default();
    out.push_str(&lists::unit(&unit, style));
    out.push('\n');
    if why.reasons.is_empty() {
        out.push_str("  nothing holds it: it is where it should be\n");
    }
    for (number, reason) in why.reasons.iter().enumerate() {
        let head = format!("  {}. ", number + 1);
        let pad = " ".repeat(head.len());
        out.push_str(&style.paragraph(&head, &pad, &format!("{} [{}]", reason.fact, reason.rule)));
        out.push_str(&style.paragraph(&format!("{pad}-> "), &format!("{pad}   "), &reason.release));
    }
    if !why.history.is_empty() {
        out.push_str("\n  lately:\n");
        out.push_str(&history(&why.history, style));
    }
    out
}
