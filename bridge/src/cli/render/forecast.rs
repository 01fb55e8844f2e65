//! `convoke plan`: what changes for which unit, the order of it, and what the forecast rests on.

use super::{lists, tone};
use crate::api::model::{ChangeLine, Forecast, StepLine, WhyLine};
use crate::cli::out::{Row, Style, Tone};

/// One forecast.
pub(in crate::cli) fn forecast(forecast: &Forecast, style: Style) -> String {
    let mut sections = vec![headline(forecast, style)];
    if !forecast.units.is_empty() {
        sections.push(changes(forecast, style));
    }
    if !forecast.steps.is_empty() {
        let mut text = format!("  {}\n", style.paint(Tone::Strong, "IN THIS ORDER"));
        for (number, step) in forecast.steps.iter().enumerate() {
            let head = format!("  {:>2}. ", number.saturating_add(1));
            let pad = " ".repeat(head.len());
            text.push_str(&style.paragraph(&head, &pad, &format!("{}{}", step.text, after(step))));
        }
        sections.push(text);
    }
    sections.push(style.paragraph("  ", "  ", &footing(forecast)));
    sections.join("\n")
}

fn headline(forecast: &Forecast, style: Style) -> String {
    let supposed = match forecast.supposed.as_str() {
        "" => "As it is".to_owned(),
        clause => format!("If {clause}"),
    };
    let changing = forecast.units.iter().filter(|unit| unit.changes).count();
    let outcome = match (forecast.end.as_str(), changing) {
        ("no-quorum", _) => {
            "no majority of the voters would be left, and nothing would be decided".to_owned()
        }
        (_, 0) if forecast.steps.is_empty() => "nothing would change".to_owned(),
        (_, 0) => "every unit would end where it is now".to_owned(),
        (_, 1) => "1 unit would change".to_owned(),
        (_, count) => format!("{count} units would change"),
    };
    style.paragraph("", "  ", &format!("{supposed}, {outcome}."))
}

fn changes(forecast: &Forecast, style: Style) -> String {
    let row = |change: &ChangeLine| {
        let first = change.reasons.first();
        let note = |reason: &WhyLine| {
            vec![format!("{} [{}]", reason.fact, reason.rule), format!("-> {}", reason.release)]
        };
        let notes = first.map(note).unwrap_or_default();
        Row {
            cells: vec![
                (Tone::Strong, change.unit.clone()),
                (Tone::Plain, place(&change.now, &change.state_now)),
                (tone(&change.state_then), place(&change.then, &change.state_then)),
            ],
            notes,
        }
    };
    let rows: Vec<Row> = forecast.units.iter().map(row).collect();
    let mut text = style.table(&["UNIT", "NOW", "THEN"], &rows);
    match forecast.unchanged {
        0 => {}
        1 => text.push_str("  1 other unit stays as it is.\n"),
        count => text.push_str(&format!("  {count} other units stay as they are.\n")),
    }
    text
}

/// Where its copies are, or its state where there is none.
fn place(copies: &[crate::api::model::CopyLine], state: &str) -> String {
    if copies.is_empty() { state.to_owned() } else { lists::copies_on(copies) }
}

/// When, if the cluster itself has to wait until then.
fn after(step: &StepLine) -> String {
    match step.after_ms {
        0 => String::new(),
        ms @ 1..10_000 => format!(" (after {}.{} s)", ms / 1_000, ms % 1_000 / 100),
        ms if ms < 600_000 => format!(" (after {} s)", ms.div_ceil(1_000)),
        ms => format!(" (after {} min)", ms.div_ceil(60_000)),
    }
}

fn footing(forecast: &Forecast) -> String {
    let mut text =
        format!("A forecast; nothing was changed. It supposes that {}.", forecast.assumes.join(", that "));
    if forecast.steps.iter().any(|step| step.after_ms > 0) {
        text.push_str(" Times are the cluster's own waits; starts, stops and fences take theirs.");
    }
    if forecast.end == "unfinished" {
        text.push_str(" It was broken off: more would follow than was looked at.");
    }
    text
}
