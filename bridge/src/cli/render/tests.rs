mod assembly;
mod fences;
mod forecast;
mod maintenance;
mod returned;

use jiff::tz::TimeZone;

use super::samples::{copy, finding, node, picture, unit};
use super::*;
use crate::api::model::{
    AlarmLine, FenceLine, FindingLine, HereLine, HistoryLine, LinkLine, Memory, Overview, UnitWhy, WhyLine,
};
use crate::cli::out::Style;

const STYLE: Style = Style { width: 80, colour: false };

/// A bad night: a node lost, its device failing, a unit waiting, a link down.
fn trouble() -> Overview {
    let mut picture = picture();
    picture.nodes[2].state = "lost".to_owned();
    picture.nodes[2].fencing = "unready".to_owned();
    picture.nodes[2].fencing_error = Some("Connection timed out".to_owned());
    picture.nodes[2].units = vec!["web.service".to_owned()];
    picture.nodes[1].drained = Some("root on n1".to_owned());
    let mut web = unit("web.service", "unknown", vec![copy("n3", "unknown", 44)]);
    web.reason = Some("fencing n3 by bmc-n3 failed (Connection timed out); next attempt in 12 s".to_owned());
    picture.units.push(web);
    let mut all =
        unit("agent.service", "partial", vec![copy("n1", "active", 50), copy("n2", "starting", 51)]);
    all.wanted = None;
    picture.units.push(all);
    picture.fences.push(FenceLine {
        node: "n3".to_owned(),
        incarnation: "boot-n3".to_owned(),
        state: "failed".to_owned(),
        device: Some("bmc-n3".to_owned()),
        attempts: 2,
        error: Some("Connection timed out".to_owned()),
        next_in_s: Some(12),
        because: "web.service".to_owned(),
        drill: false,
        case: 7,
        text: "fencing n3 by bmc-n3 failed (Connection timed out); next attempt in 12 s".to_owned(),
    });
    picture.links.push(LinkLine { from: "n1".to_owned(), to: "n2".to_owned() });
    picture.alarms.push(AlarmLine {
        severity: "alert".to_owned(),
        text: "fencing n3 by bmc-n3 failed (Connection timed out); next attempt in 12 s; web.service waits for it"
            .to_owned(),
        remedy: "mend the device, or switch n3 off by hand and type `convoke fence confirm n3`".to_owned(),
    });
    picture.alarms.push(AlarmLine {
        severity: "warning".to_owned(),
        text: "n9 has no fence device".to_owned(),
        remedy: "add one".to_owned(),
    });
    picture
}

#[test]
fn all_is_well() {
    let expected = "\
harbour: quorum, led by n1; 3 of 3 nodes online, 2 of 2 started units active

  NODE  ROLE   STATE   FENCING  UNITS
  n1    voter  online  ready    db.service, vip.service
  n2    voter  online  ready    -
  n3    voter  online  ready    -

  UNIT         STATE   COPIES  ON
  db.service   active  1/1     n1
  vip.service  active  1/1     n1
";
    assert_eq!(status(&picture(), STYLE), expected);
}

#[test]
fn alarms_come_first_and_nothing_is_wider_than_the_screen() {
    let expected = "\
harbour: quorum, led by n1; 2 of 3 nodes online, 2 of 4 started units active

!! fencing n3 by bmc-n3 failed (Connection timed out); next attempt in 12 s;
   web.service waits for it
   -> mend the device, or switch n3 off by hand and type `convoke fence confirm
      n3`
 ! n9 has no fence device
   -> add one

  NODE  ROLE   STATE            FENCING  UNITS
  n1    voter  online           ready    db.service, vip.service
  n2    voter  online, drained  ready    -
  n3    voter  lost             unready  web.service

  UNIT           STATE    COPIES  ON
  db.service     active   1/1     n1
  vip.service    active   1/1     n1
  web.service    unknown  0/1     n3 (unknown)
    fencing n3 by bmc-n3 failed (Connection timed out); next attempt in 12 s
  agent.service  partial  1/all   n1, n2 (starting)

  FENCES
  fencing n3 by bmc-n3 failed (Connection timed out); next attempt in 12 s
    (web.service waits)

  LINKS THAT ARE DOWN
  n1 -x- n2
";
    let text = status(&trouble(), STYLE);
    assert_eq!(text, expected);
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn findings_are_shown_as_alarms() {
    let expected = "\
!! app.service: it needs cache.service (Requires=), which no node offers
   -> give a node that runs units cache.service with an [X-Convoke] section, or
      take it out of Requires=
 ! web.service: it needs cache.service (Requires=), which no node offers; it
   is not to run now
   -> give a node that runs units cache.service with an [X-Convoke] section, or
      take it out of Requires=
";
    let mut stopped = finding("warning", "web.service");
    stopped.idle = vec!["web.service".to_owned()];
    assert_eq!(findings(&[finding("error", "app.service"), stopped], 7, STYLE), expected);
    let votes = FindingLine {
        text: "n1 has no attribute `room`".to_owned(),
        remedy: "write it".to_owned(),
        ..finding("warning", "")
    };
    assert_eq!(findings(&[votes], 7, STYLE), " ! n1 has no attribute `room`\n   -> write it\n");
    assert_eq!(findings(&[], 7, STYLE), "7 units checked, nothing found\n");
    assert_eq!(findings(&[], 1, STYLE), "1 unit checked, nothing found\n");
}

/// n1 alone, its lease long over.
fn alone() -> Memory {
    let here = |unit: &str, state: &str, text: &str| HereLine {
        unit: unit.to_owned(),
        state: state.to_owned(),
        token: Some(40),
        text: text.to_owned(),
    };
    Memory {
        node: "n1".to_owned(),
        why: "n1 does not reach n2, n3 and counts 1 of 3 voters, no majority; its lease ended 42 s ago"
            .to_owned(),
        unreached: vec!["n2".to_owned(), "n3".to_owned()],
        lease_ended_s: Some(42),
        keeps_log: true,
        here: vec![
            here("db.service", "stopped", "it is not running: without a lease nothing is started here"),
            here("web.service", "running", "it runs on without a lease, as its OnQuorumLoss= lets it"),
        ],
    }
}

#[test]
fn without_a_quorum_the_first_lines_say_so_and_the_own_units_are_shown_as_they_are() {
    let mut picture = picture();
    picture.quorum = false;
    picture.leader = None;
    picture.memory = Some(alone());
    picture.alarms.push(AlarmLine {
        severity: "alert".to_owned(),
        text: alone().why,
        remedy: "bring back a majority".to_owned(),
    });
    let expected = "\
harbour: NO QUORUM; below is what n1 last knew, and may be long past

!! n1 does not reach n2, n3 and counts 1 of 3 voters, no majority; its lease
   ended 42 s ago
   -> bring back a majority

  ON n1 NOW    STATE
  db.service   stopped  it is not running: without a lease nothing is started
                        here
  web.service  running  it runs on without a lease, as its OnQuorumLoss= lets it
";
    let text = status(&picture, STYLE);
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("  NODE  ROLE   LAST STATE  FENCING"), "{text}");
}

#[test]
fn an_answer_that_nobody_confirms_begins_with_why() {
    let unit = unit("db.service", "waiting", Vec::new());
    let why = UnitWhy {
        unit,
        quorum: false,
        reasons: vec![WhyLine {
            rule: "S3".to_owned(),
            fact: alone().why,
            release: "bring back a majority".to_owned(),
        }],
        history: Vec::new(),
        memory: Some(alone()),
        definition: None,
        offers: Vec::new(),
    };
    let text = super::why(&why, STYLE);
    assert!(text.starts_with("NO QUORUM; below is what n1 last knew"), "{text}");
    assert_eq!(text.matches("n1 does not reach n2, n3").count(), 1, "said once: {text}");
    let bare = unit_line_of_a_member();
    assert!(units(std::slice::from_ref(&bare), STYLE).contains("  web.service  stopped  -       -\n"));
    assert!(!super::unit(&bare, STYLE).contains("goal"), "a member does not know it");
}

fn unit_line_of_a_member() -> crate::api::model::UnitLine {
    let mut web = unit("web.service", "stopped", Vec::new());
    web.goal = "unknown".to_owned();
    web.wanted = None;
    web
}

#[test]
fn many_nodes_and_long_names_stay_on_the_screen() {
    let mut picture = picture();
    let copies: Vec<_> = (1..=12).map(|n| copy(&format!("node-{n}"), "active", n)).collect();
    let name = format!("{}.service", "a".repeat(60));
    picture.units.push(unit(&name, "active", copies));
    picture.nodes[0].units = (1..=12).map(|n| format!("unit-{n}.service")).collect();
    let text = status(&picture, STYLE);
    for line in text.lines().filter(|line| !line.contains(&name)) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    // Names stay whole: they are copied into the next command.
    assert!(text.contains(&name));
}

#[test]
fn colours_change_no_letter() {
    let coloured = status(&trouble(), Style { colour: true, ..STYLE });
    assert!(coloured.contains("\x1b[1;31mlost\x1b[0m"), "{coloured}");
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once('m').expect("a whole sequence").1;
    }
    plain.push_str(rest);
    assert_eq!(plain, status(&trouble(), STYLE));
}

#[test]
fn reasons_are_numbered_with_what_to_do() {
    let mut db = unit("db.service", "waiting", Vec::new());
    db.reason = Some("shown below".to_owned());
    let reason = |rule: &str, fact: &str, release: &str| WhyLine {
        rule: rule.to_owned(),
        fact: fact.to_owned(),
        release: release.to_owned(),
    };
    let text = why(
        &UnitWhy {
            unit: db,
            quorum: true,
            reasons: vec![
                reason("S2", "n3 is lost and has no fence device", "`convoke fence confirm n3`"),
                reason("L1", "n2 is drained", "a node that may take it"),
            ],
            history: Vec::new(),
            memory: None,
            definition: None,
            offers: Vec::new(),
        },
        STYLE,
    );
    let expected = "\x20 UNIT        STATE    COPIES  ON
  db.service  waiting  0/1     -

  goal        started, by alice as root on n1 (convoke start)
  exclusive   yes: never more than one copy

  1. n3 is lost and has no fence device [S2]
     -> `convoke fence confirm n3`
  2. n2 is drained [L1]
     -> a node that may take it
";
    assert_eq!(text, expected);
}

#[test]
fn history_hangs_below_its_time() {
    let line = HistoryLine {
        index: 7,
        wall_ms: 1_700_000_000_123,
        time_ms: 5,
        severity: "alert".to_owned(),
        node: Some("n1".to_owned()),
        unit: None,
        kind: "fence-failed".to_owned(),
        text: "fence of n1 by bmc-n1 failed (attempt 2): Connection timed out after 20 s".to_owned(),
        fence: None,
    };
    let expected = "\
2023-11-14 22:13:20.123 !! fence of n1 by bmc-n1 failed (attempt 2): Connection
                           timed out after 20 s
";
    assert_eq!(past::in_zone(&[line], STYLE, &TimeZone::UTC), expected);
}

#[test]
fn one_node_alone_shows_what_the_table_leaves_out() {
    let mut picture = trouble();
    picture.nodes[2].incarnation = Some("boot-n3".to_owned());
    let text = super::node(&picture.nodes[2], &picture, STYLE);
    assert!(text.contains("  fencing     unready, by bmc-n3: Connection timed out\n"), "{text}");
    assert!(text.contains("  incarnation boot-n3\n"), "{text}");
    assert!(super::node(&node("n1"), &picture, STYLE).contains("  leads       yes\n"));
}

#[test]
fn a_stopped_unit_wants_no_copies() {
    let mut db = unit("db.service", "stopped", Vec::new());
    db.goal = "stopped".to_owned();
    assert!(units(&[db], STYLE).contains("  db.service  stopped  -       -\n"));
}
