//! The boot-up of clustered services, as the operator reads it.

use super::STYLE;
use crate::api::model::{AssemblyLine, DataLine, ElectionLine, FormationLine, UnitLine, WordLine};
use crate::cli::render::samples::{clustered, copy, data, formed, gathering};
use crate::cli::render::unit;

fn three() -> Vec<crate::api::model::CopyLine> {
    vec![copy("n1", "active", 41), copy("n2", "active", 45), copy("n3", "active", 48)]
}

/// What stands below the unit's own lines.
fn shown(unit: &UnitLine) -> String {
    let text = super::super::unit(unit, STYLE);
    let at = text.find("  assembly").expect("a section");
    text[at..].to_owned()
}

#[test]
fn where_all_is_well_one_line_says_so() {
    let text = unit(&clustered("active", three(), formed()), STYLE);
    let expected = "\x20 UNIT             STATE   COPIES  ON
  mariadb.service  active  3/3     n1, n2, n3

  goal        started, by alice as root on n1 (convoke start)
  exclusive   no
  copy        active on n1, permit 41
  copy        active on n2, permit 45
  copy        active on n3, permit 48
  assembly    one-then-serial; came up in gathering 40, with data of 9d1f
";
    assert_eq!(text, expected);
}

#[test]
fn a_gathering_shows_what_was_heard_of_whose_data_and_who_is_waited_for() {
    let expected = "\x20 assembly    one-then-serial; gathering 120 for 3 min: all are asked how their
              data stands
  waits for   n3

  NODE  LIVE LAST  COPY     DATA
  n1    yes        -        rank 1742 of 9d1f
  n2    yes        -        rank 1740 of 9d1f
  n3    yes        may run  not heard: n3 is lost for 3 min
";
    assert_eq!(shown(&clustered("waiting", Vec::new(), gathering())), expected);
}

#[test]
fn an_election_says_who_begins_with_what_and_who_was_given_up() {
    let mut assembly = gathering();
    assembly.state = "elected".to_owned();
    assembly.awaited.clear();
    assembly.words.push(WordLine {
        word: "without".to_owned(),
        node: "n3".to_owned(),
        by: Some("alice as root on n1".to_owned()),
    });
    assembly.election = Some(ElectionLine {
        node: "n1".to_owned(),
        identity: Some("9d1f".to_owned()),
        rank: 1742,
        absent: vec!["n3".to_owned()],
        ground: "word".to_owned(),
        token: Some(130),
    });
    assembly.nodes[0] = DataLine { copy: "starting".to_owned(), void: true, ..data("n1", 1742) };
    assembly.nodes[2].copy = "ended".to_owned();
    assembly.nodes[2].node_state = "fenced".to_owned();
    let expected = "\x20 assembly    one-then-serial; gathering 120 for 3 min: who begins is decided
  word        without n3, by alice as root on n1
  elected     n1, to start alone with rank 1742 of 9d1f: by an operator's word,
              without n3

  NODE  LIVE LAST  COPY      DATA
  n1    yes        starting  was rank 1742 of 9d1f
  n2    yes        -         rank 1740 of 9d1f
  n3    yes        -         not heard: n3 is fenced for 3 min
";
    assert_eq!(shown(&clustered("starting", vec![copy("n1", "starting", 130)], assembly)), expected);
}

#[test]
fn a_copy_that_is_not_ready_says_what_it_lacks_and_each_word_of_position_reads_as_what_it_is() {
    let mut assembly = formed();
    assembly.nodes[1].copy = "not-ready".to_owned();
    assembly.nodes[1].lacks = Some("state Joining, not Synced".to_owned());
    let word = |node: &str, word: &str| DataLine {
        data: word.to_owned(),
        rank: None,
        identity: None,
        last: false,
        copy: "none".to_owned(),
        ..data(node, 0)
    };
    assembly.nodes.push(DataLine { error: Some("exit status 3".to_owned()), ..word("n4", "failed") });
    assembly.nodes.push(word("n5", "empty"));
    assembly.nodes.push(word("n6", "unusable"));
    assembly.nodes.push(DataLine { safe: true, last: false, ..data("n7", 12) });
    assembly.nodes.push(DataLine { void: true, ..data("n8", 12) });
    let expected = "\x20 assembly    one-then-serial; came up in gathering 40, with data of 9d1f

  NODE  LIVE LAST  COPY       DATA
  n1    yes        ready      was rank 17 of 9d1f
  n2    yes        not ready  was rank 17 of 9d1f
    not ready: state Joining, not Synced
  n3    yes        ready      was rank 17 of 9d1f
  n4    -          -          not known: Position= failed: exit status 3
  n5    -          -          empty
  n6    -          -          unusable: half copied or damaged
  n7    -          -          rank 12 of 9d1f, safe to begin with
  n8    yes        -          rank 12 of 9d1f; does not count: a copy ran there
                              since, or n8 came anew
";
    assert_eq!(shown(&clustered("partial", three(), assembly)), expected);
}

#[test]
fn a_service_that_never_came_up_says_so() {
    let fresh = AssemblyLine { state: "new".to_owned(), formed: false, formation: None, ..formed() };
    assert_eq!(
        shown(&clustered("stopped", Vec::new(), fresh)),
        "  assembly    one-then-serial; never came up\n"
    );
    let mut asked = gathering();
    asked.formed = false;
    asked.formation = None;
    asked.awaited.clear();
    let text = shown(&clustered("waiting", Vec::new(), asked));
    assert!(text.starts_with("  assembly    one-then-serial; never came up; gathering 120"), "{text}");
    let mut taken_over = formed();
    taken_over.formation = Some(FormationLine { epoch: 0, identity: None });
    let text = shown(&clustered("active", three(), taken_over));
    assert_eq!(text, "  assembly    one-then-serial; it was live before the cluster gathered anything\n");
}
