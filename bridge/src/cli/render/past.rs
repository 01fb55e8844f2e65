//! The history as lines.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::tone;
use crate::api::model::HistoryLine;
use crate::cli::out::{Style, Tone};

/// Lines of history, in local time.
pub(in crate::cli) fn history(lines: &[HistoryLine], style: Style) -> String {
    in_zone(lines, style, &TimeZone::system())
}

/// A wall clock's milliseconds since 1970 as a local time.
pub(super) fn local(wall_ms: u64, zone: &TimeZone) -> Zoned {
    let at = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone())
}

pub(super) fn in_zone(lines: &[HistoryLine], style: Style, zone: &TimeZone) -> String {
    let mut out = String::new();
    for line in lines {
        let at = local(line.wall_ms, zone);
        let mark = match line.severity.as_str() {
            "alert" => "!!",
            "warning" => " !",
            _ => "  ",
        };
        let painted = style.paint(if mark == "  " { Tone::Plain } else { tone(&line.severity) }, mark);
        let first = format!("{} {painted} ", at.strftime("%Y-%m-%d %H:%M:%S%.3f"));
        // The marks of colour take no room.
        let pad = " ".repeat(23 + 4);
        let text = style.paragraph(&pad, &pad, &line.text);
        out.push_str(&first);
        out.push_str(text.get(pad.len()..).unwrap_or_default());
    }
    out
}
