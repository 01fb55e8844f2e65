//! How a node's last life ended, in words: for its own journal, and for `status` on every node.

use policy::Ended;

/// What is told of it, as one sentence after the node's name or `this machine`.
#[must_use]
pub(crate) fn sentence(ended: &Ended) -> String {
    let mut text = format!("{} at {}", what(ended), when(ended.wall_ms));
    if let Some(silent) = ended.silent_wall_ms {
        // Of two leaders' clocks the later one may show less.
        let after = ended.wall_ms.saturating_sub(silent);
        text.push_str(&format!(", {}.{} s after it was lost", after / 1000, after % 1000 / 100));
    }
    text.push_str(&format!(": {ended}; "));
    match ended.held.as_slice() {
        [] => text.push_str("it held no unit"),
        held => {
            let held: Vec<&str> = held.iter().map(policy::UnitName::as_str).collect();
            let until = match ended.class {
                policy::Class::Isolated => "until it went down, cut off at the end,",
                _ => "until then",
            };
            text.push_str(&format!("{until} it may have run {}", held.join(", ")));
        }
    }
    text
}

fn what(ended: &Ended) -> &'static str {
    match ended.class {
        policy::Class::Off => "was fenced",
        policy::Class::Word => "was declared off",
        policy::Class::Isolated => "was cut off",
        policy::Class::Reborn => "had gone down by itself, and was back",
        policy::Class::Released | policy::Class::Expired => "was taken for gone",
    }
}

/// Wall clock, as people compare it with other logs.
fn when(wall_ms: u64) -> String {
    let at = i64::try_from(wall_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "an unknown time".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use policy::{Because, Class};

    use super::*;

    fn fenced() -> Ended {
        Ended {
            incarnation: "boot-1".into(),
            class: Class::Off,
            at: 0,
            wall_ms: 1_764_300_000_000,
            silent_wall_ms: Some(1_764_299_997_550),
            device: Some("pdu-a and pdu-b".to_owned()),
            executor: Some("n2".to_owned()),
            by: None,
            because: Some(Because::Unit("db.service".into())),
            held: vec!["db.service".into(), "web.service".into()],
        }
    }

    #[test]
    fn it_says_when_why_by_which_devices_and_from_where() {
        assert_eq!(
            sentence(&fenced()),
            "was fenced at 2025-11-28 03:20:00 UTC, 2.4 s after it was lost: its power was switched off by pdu-a and \
             pdu-b, run on n2, because db.service waited for it; until then it may have run db.service, web.service"
        );
    }

    #[test]
    fn whose_word_it_was_is_said() {
        let ended = Ended {
            class: Class::Word,
            silent_wall_ms: None,
            device: None,
            executor: None,
            by: Some("ann".to_owned()),
            because: None,
            held: Vec::new(),
            ..fenced()
        };
        assert_eq!(
            sentence(&ended),
            "was declared off at 2025-11-28 03:20:00 UTC: ann gave the word that it was off; it held no unit"
        );
    }
}
