use super::*;
use crate::api::model::{EndLine, NodeLine};

fn returned(ago_s: u64) -> Overview {
    let text = "was fenced at 2026-11-28 03:12:07 UTC, 2.4 s after it was lost: its power was switched off by bmc-n3, run \
                on n2, because db.service waited for it; until then it may have run db.service";
    let mut picture = picture();
    picture.nodes[2] = NodeLine {
        losses: 3,
        held_back_s: Some(17),
        last_end: Some(EndLine {
            how: "fenced".to_owned(),
            wall_ms: 0,
            ago_s,
            device: Some("bmc-n3".to_owned()),
            executor: Some("n2".to_owned()),
            because: Some("db.service".to_owned()),
            held: vec!["db.service".to_owned()],
            text: text.to_owned(),
        }),
        ..picture.nodes[2].clone()
    };
    picture
}

#[test]
fn a_node_that_is_held_back_says_for_how_long_and_what_ends_it() {
    let shown = status(&returned(90), STYLE);
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains(
            "fell silent 3 times of late: takes nothing that others can run for another 17 s, or until"
        ),
        "{shown}"
    );
    assert!(words.contains("`convoke reset-failed n3`"), "{shown}");
}

#[test]
fn how_a_last_life_ended_is_told_for_half_a_day_in_the_table_and_longer_on_its_own() {
    let told = |shown: String| {
        shown.split_whitespace().collect::<Vec<_>>().join(" ").contains("was fenced at 2026-11-28")
    };
    assert!(told(status(&returned(90), STYLE)));
    let old = returned(50_000);
    assert!(!told(status(&old, STYLE)));
    assert!(told(super::super::node(&old.nodes[2], &old, STYLE)));
    // While it is away again, that is no news.
    let mut away = returned(90);
    away.nodes[2].state = "lost".to_owned();
    assert!(!told(status(&away, STYLE)));
}
