//! `convoke plan`, as text.

use super::*;
use crate::api::model::{ChangeLine, Forecast, StepLine};

fn step(after_ms: u64, text: &str) -> StepLine {
    StepLine { after_ms, kind: "unit-granted".to_owned(), node: None, unit: None, text: text.to_owned() }
}

/// Losing n1: one unit follows its fence, another waits.
fn told() -> Forecast {
    let moved = ChangeLine {
        unit: "db.service".to_owned(),
        changes: true,
        state_now: "active".to_owned(),
        now: vec![copy("n1", "active", 40)],
        state_then: "active".to_owned(),
        then: vec![copy("n2", "active", 0)],
        reasons: Vec::new(),
    };
    let waits = ChangeLine {
        unit: "web.service".to_owned(),
        then: Vec::new(),
        state_then: "waiting".to_owned(),
        reasons: vec![WhyLine {
            rule: "L1".to_owned(),
            fact: "n2 has 0 of 2 `slots` free, and it takes 1".to_owned(),
            release: "a node that may take it".to_owned(),
        }],
        ..moved.clone()
    };
    Forecast {
        supposed: "n1 is lost".to_owned(),
        quorum: true,
        index: 100,
        end: "at-rest".to_owned(),
        steps: vec![
            step(0, "call n1 lost"),
            step(0, "fence n1 by bmc-n1, run on n2"),
            step(1_840, "start db.service on n2"),
            step(11_100, "start vip.service on n2"),
            step(3_600_000, "start db.service on n1"),
        ],
        units: vec![moved, waits],
        unchanged: 3,
        assumes: vec!["each start and each stop succeeds".to_owned(), "fencing works".to_owned()],
    }
}

#[test]
fn what_changes_comes_first_then_the_order_then_what_it_rests_on() {
    let expected = "\
If n1 is lost, 2 units would change.

  UNIT         NOW  THEN
  db.service   n1   n2
  web.service  n1   waiting
    n2 has 0 of 2 `slots` free, and it takes 1 [L1]
    -> a node that may take it
  3 other units stay as they are.

  IN THIS ORDER
   1. call n1 lost
   2. fence n1 by bmc-n1, run on n2
   3. start db.service on n2 (after 1.8 s)
   4. start vip.service on n2 (after 12 s)
   5. start db.service on n1 (after 60 min)

  A forecast; nothing was changed. It supposes that each start and each stop
  succeeds, that fencing works. Times are the cluster's own waits; starts, stops
  and fences take theirs.
";
    let text = forecast(&told(), STYLE);
    assert_eq!(text, expected);
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn nothing_to_do_and_nobody_to_do_it_are_said() {
    let nothing = Forecast {
        supposed: String::new(),
        steps: Vec::new(),
        units: Vec::new(),
        assumes: vec!["nothing else happens meanwhile".to_owned()],
        ..told()
    };
    let expected = "\
As it is, nothing would change.

  A forecast; nothing was changed. It supposes that nothing else happens
  meanwhile.
";
    assert_eq!(forecast(&nothing, STYLE), expected);
    // What was asked about is shown, though it stays.
    let mut asked = Forecast { supposed: "web.service is moved to n2".to_owned(), ..nothing.clone() };
    let waits = told().units.pop().expect("one that waits");
    asked.units = vec![ChangeLine { changes: false, then: waits.now.clone(), ..waits }];
    let text = forecast(&asked, STYLE);
    assert!(text.starts_with("If web.service is moved to n2, nothing would change.\n"), "{text}");
    assert!(text.contains("web.service  n1   n1\n    n2 has 0 of 2"), "{text}");
    let undecided = Forecast { end: "no-quorum".to_owned(), ..nothing.clone() };
    let first = "As it is, no majority of the voters would be left, and nothing would be decided.\n";
    assert!(forecast(&undecided, Style { width: 100, ..STYLE }).starts_with(first));
    let unfinished = Forecast { end: "unfinished".to_owned(), ..nothing };
    assert!(forecast(&unfinished, STYLE).contains("broken off"));
}
