//! systemd's spans of time: `90`, `1min 30s`, `1.5h`, `infinity`.

/// A span of time as a unit file gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSpan {
    /// Microseconds.
    Micros(u64),
    /// `infinity`.
    Infinity,
}

const UNITS: &[(&str, u64)] = &[
    ("usec", 1),
    ("us", 1),
    ("µs", 1),
    ("msec", 1_000),
    ("ms", 1_000),
    ("seconds", 1_000_000),
    ("second", 1_000_000),
    ("sec", 1_000_000),
    ("s", 1_000_000),
    ("minutes", 60_000_000),
    ("minute", 60_000_000),
    ("min", 60_000_000),
    ("months", 2_629_800_000_000),
    ("month", 2_629_800_000_000),
    ("M", 2_629_800_000_000),
    ("m", 60_000_000),
    ("hours", 3_600_000_000),
    ("hour", 3_600_000_000),
    ("hr", 3_600_000_000),
    ("h", 3_600_000_000),
    ("days", 86_400_000_000),
    ("day", 86_400_000_000),
    ("d", 86_400_000_000),
    ("weeks", 604_800_000_000),
    ("week", 604_800_000_000),
    ("w", 604_800_000_000),
    ("years", 31_557_600_000_000),
    ("year", 31_557_600_000_000),
    ("y", 31_557_600_000_000),
];

/// Reads a span; a bare number is seconds. `None` if it is none, or too large to count.
pub fn parse(text: &str) -> Option<TimeSpan> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Some(TimeSpan::Infinity);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let whole: u64 = if digits == 0 { 0 } else { rest[..digits].parse().ok()? };
        rest = &rest[digits..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let len = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            fraction = &after[..len];
            rest = &after[len..];
        }
        if digits == 0 && fraction.is_empty() {
            return None;
        }
        rest = rest.trim_start();
        let word = &rest[..rest.len() - rest.trim_start_matches(|c: char| c.is_alphabetic()).len()];
        let scale = if word.is_empty() { 1_000_000 } else { UNITS.iter().find(|(u, _)| *u == word)?.1 };
        rest = rest[word.len()..].trim_start();
        total = total.checked_add(whole.checked_mul(scale)?)?;
        let mut part = scale;
        for digit in fraction.bytes() {
            part /= 10;
            total = total.checked_add(part * u64::from(digit - b'0'))?;
        }
    }
    Some(TimeSpan::Micros(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_systemd_reads_them() {
        let table = [
            ("90", Some(90_000_000)),
            ("1min 30s", Some(90_000_000)),
            ("1min30s", Some(90_000_000)),
            ("1.5h", Some(5_400_000_000)),
            (".5s", Some(500_000)),
            ("2 days", Some(172_800_000_000)),
            ("0", Some(0)),
            ("", None),
            ("x", None),
            ("5 parsecs", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("9999999999999999y", None),
            (".", None),
        ];
        for (text, micros) in table {
            assert_eq!(parse(text), micros.map(TimeSpan::Micros), "{text}");
        }
        assert_eq!(parse("infinity"), Some(TimeSpan::Infinity));
    }
}
