//! Fences of the past, and why a node is or is not being fenced, as text.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::tone;
use crate::cli::fence::{Attempt, FenceWhy};
use crate::cli::out::{Row, Style, Tone};

pub(in crate::cli) fn fence_why(why: &FenceWhy, style: Style) -> String {
    let mut out = String::new();
    let mut say = |heading: &str, text: &str| {
        out.push_str(&style.paragraph(&format!("{heading:>9}  "), &" ".repeat(11), text));
    };
    say("node", &format!("{} ({})", why.node, why.state));
    say(if why.fencing { "fencing" } else { "no fence" }, &why.text);
    say(if why.fencing { "ends by" } else { "next" }, &why.release);
    say("means", &why.means);
    for drill in &why.drills {
        say("drill", drill);
    }
    match why.drills.is_empty() {
        true if why.only_cut_off => say("drill", "none can be: what fences it only cuts it off"),
        true => say("drill", "never drilled"),
        false => {}
    }
    out
}

pub(in crate::cli) fn attempts(attempts: &[Attempt], style: Style) -> String {
    in_zone(attempts, style, &TimeZone::system())
}

fn in_zone(attempts: &[Attempt], style: Style, zone: &TimeZone) -> String {
    if attempts.is_empty() {
        return "no fence is remembered\n".to_owned();
    }
    let row = |attempt: &Attempt| {
        let at = i64::try_from(attempt.wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let at = at.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone());
        let took =
            attempt.took_ms.map_or("-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100));
        let text = |value: &Option<String>| (Tone::Plain, value.clone().unwrap_or_else(|| "-".to_owned()));
        let colour = if attempt.state == "failed" { tone("failed") } else { Tone::Plain };
        let cells = vec![
            (Tone::Plain, at.strftime("%Y-%m-%d %H:%M:%S").to_string()),
            (Tone::Strong, attempt.node.clone()),
            text(&attempt.device),
            text(&attempt.executor),
            (Tone::Plain, took),
            (colour, attempt.state.clone()),
        ];
        Row { cells, notes: attempt.result.iter().cloned().collect() }
    };
    style.table(
        &["BEGAN", "NODE", "DEVICE", "RUN ON", "TOOK", "END"],
        &attempts.iter().map(row).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_has_its_row() {
        let attempt = Attempt {
            wall_ms: 1_700_000_000_123,
            node: "n1".to_owned(),
            case: 5,
            attempt: Some(1),
            device: Some("bmc-n1".to_owned()),
            executor: Some("n2".to_owned()),
            took_ms: Some(2_449),
            state: "failed".to_owned(),
            result: Some("no route".to_owned()),
        };
        let text = in_zone(&[attempt], Style { width: 100, colour: false }, &TimeZone::UTC);
        for part in ["2023-11-14 22:13:20", "bmc-n1", "n2", "2.4 s", "failed", "no route"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
