//! What is shown of the choice for a role.

use policy::{Found, Heard, Heir, Maintenance, Mark, Succession, Words};

use super::*;
use crate::api::model::AssemblyLine;

const PG: &str = "pg.service";

fn heard(id: u64, session: u64, found: Found) -> (NodeId, Heard) {
    (NodeId(id), Heard { incarnation: incarnation(id), session, found, void: false })
}

fn data(rank: i64) -> Found {
    Found::Data { rank, identity: "9d1f".to_owned(), safe: false }
}

fn heir(id: u64, ended: Option<u64>) -> (NodeId, Heir) {
    (NodeId(id), Heir { incarnation: incarnation(id), token: Token(id), ended })
}

/// db.service is a role beside pg.service, which runs on all three nodes. n1 held it last and is lost.
fn vacant(change: impl FnOnce(&mut Succession)) -> State {
    let mut state = state();
    let definition = Definition { rank: true, same_node_as: [PG.into()].into(), ..Definition::exclusive() };
    let mut succession = Succession {
        beside: PG.into(),
        epoch: 40,
        opened_at: NOW - 3_000,
        heard: [heard(2, 1, data(1740))].into(),
        words: Words::none(),
        heirs: [heir(1, None), heir(2, None), heir(3, None)].into(),
        adrift: BTreeMap::new(),
        holder: Some(NodeId(1)),
        mark: None,
    };
    change(&mut succession);
    for node in state.nodes.values_mut() {
        node.offers.insert(DB.into(), Offer { definition: Some(definition.clone()), ..offer() });
    }
    let role = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    role.permits.clear();
    role.adopted = Some(Adopted { revision: 1, definition });
    role.succession = Some(succession);
    let mut pg = Unit::new(5, 0);
    pg.adopted = Some(Adopted { revision: 1, definition: Definition::replicated(Replicas::All) });
    pg.goal.wanted = Wanted::Started;
    for id in 1..=3 {
        pg.permits.insert(Token(id), permit(id, Phase::Active));
    }
    state.units.insert(PG.into(), pg);
    lose(&mut state, 1);
    state
}

fn shown(state: &State) -> AssemblyLine {
    unit_line(state).assembly.expect("a role")
}

/// Node, copy of the role, what was heard, and whether that counts no more.
fn nodes(line: &AssemblyLine) -> Vec<(&str, &str, &str, Option<i64>, bool)> {
    let lines = line.nodes.iter();
    lines.map(|it| (it.node.as_str(), it.copy.as_str(), it.data.as_str(), it.rank, it.void)).collect()
}

#[test]
fn a_vacant_role_names_whom_it_waits_for_and_which_ranks_were_heard() {
    let state = vacant(|_| {});
    let line = shown(&state);
    assert_eq!((line.style.as_str(), line.state.as_str(), line.epoch), ("by-rank", "gathering", 40));
    assert_eq!((line.formed, line.since_s), (true, Some(3)));
    assert_eq!(line.awaited, ["n1", "n3"]);
    assert_eq!(
        nodes(&line),
        [
            ("n1", "none", "unheard", None, false),
            ("n2", "none", "stopped", Some(1740), false),
            ("n3", "none", "unheard", None, false),
        ]
    );
    assert_eq!(line.nodes[0].silent_s, Some(5));
    assert!(line.nodes.iter().all(|node| node.last));
    let formed = vacant(|succession| succession.heirs.clear());
    assert!(!shown(&formed).formed, "nobody ever held it");
}

#[test]
fn a_rank_that_counts_no_more_and_a_program_that_failed_are_marked() {
    let mut state = vacant(|succession| {
        succession.heard = [
            heard(1, 1, data(1750)),
            heard(2, 0, data(1740)),
            heard(3, 1, Found::Failed("it is in recovery".to_owned())),
        ]
        .into();
    });
    let line = shown(&state);
    assert_eq!(
        nodes(&line),
        [
            ("n1", "none", "stopped", Some(1750), true),
            ("n2", "none", "stopped", Some(1740), true),
            ("n3", "none", "failed", None, false),
        ]
    );
    assert_eq!(line.nodes[2].error.as_deref(), Some("it is in recovery"));
    // A maintenance of the copy: it may be another by now.
    let pg = UnitName::from(PG);
    let role = state.units.get_mut(&UnitName::from(DB)).and_then(|role| role.succession.as_mut());
    role.expect("a role").heard = [heard(2, 1, data(1740))].into();
    assert!(!shown(&state).nodes[1].void);
    state.units.get_mut(&pg).expect("pg").maintenance =
        Some(Maintenance { by: "alice".to_owned(), reason: None, wall_ms: 7 });
    assert!(shown(&state).nodes[1].void);
}

#[test]
fn a_holder_shows_how_far_it_was_when_it_was_asked_last() {
    let mark = Mark { rank: 1760, identity: "9d1f".to_owned(), seen: 45 };
    let mut state = vacant(|succession| {
        succession.holder = Some(NodeId(2));
        succession.heard.clear();
        succession.mark = Some(mark);
    });
    let role = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    role.permits.insert(Token(41), permit(2, Phase::Active));
    let line = shown(&state);
    assert_eq!((line.state.as_str(), line.since_s), ("formed", None));
    let holder = nodes(&line)[1];
    assert_eq!(holder, ("n2", "ready", "unheard", Some(1760), false));
    assert_eq!(nodes(&line)[2].3, None, "of the others nothing is known");
}

#[test]
fn words_are_shown_and_who_was_given_up_is_not_waited_for() {
    let line = shown(&vacant(|succession| {
        succession.words.without.insert(NodeId(1), "alice".to_owned());
    }));
    assert_eq!((line.words[0].word.as_str(), line.words[0].node.as_str()), ("without", "n1"));
    assert_eq!(line.awaited, ["n3"]);
    let line = shown(&vacant(|succession| succession.words.from = Some((NodeId(3), "alice".to_owned()))));
    assert_eq!(line.awaited, ["n3"], "who was chosen, and has not said its rank");
}
