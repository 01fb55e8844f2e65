//! What is shown of a clustered service's boot-up.

use policy::{
    Assembly, AssemblyStyle, BootUp, Election, Formation, Found, GatherThen, Ground, Heard, Member, Start,
    Tenure, Word,
};

use super::*;
use crate::api::model::AssemblyLine;

/// What a node of the last active set left behind: it ended, or nobody knows.
fn member(id: u64, ended: Option<u64>) -> Member {
    Member {
        incarnation: incarnation(id),
        token: Token(id),
        start: Some(Start::Join),
        began: None,
        ready: Some(12),
        lacks: None,
        late: false,
        active: true,
        served: true,
        stranger: None,
        quiet: false,
        ended,
    }
}

fn heard(id: u64, found: Found) -> Heard {
    Heard { incarnation: incarnation(id), session: 1, found, void: false }
}

fn data(rank: i64) -> Found {
    Found::Data { rank, identity: "9d1f".to_owned(), safe: false }
}

/// Nothing runs. n1 and n2 have stopped and said how their data stands; n3 is lost.
fn gathering(change: impl FnOnce(&mut BootUp, &mut Assembly)) -> State {
    let mut state = state();
    let mut boot_up = BootUp::unknown();
    boot_up.formed = true;
    boot_up.epoch = 40;
    boot_up.opened_at = NOW - 3_000;
    boot_up.members =
        [(1, Some(30)), (2, Some(31)), (3, None)].map(|(id, ended)| (NodeId(id), member(id, ended))).into();
    boot_up.heard = [(NodeId(1), heard(1, data(1742))), (NodeId(2), heard(2, data(1740)))].into();
    boot_up.formation =
        Some(Formation { epoch: 20, identity: None, joined: BTreeSet::new(), doubted: false });
    let mut assembly = Assembly::of(AssemblyStyle::OneThenSerial);
    change(&mut boot_up, &mut assembly);
    let mut definition = Definition::replicated(Replicas::Count(3));
    definition.assembly = Some(assembly);
    for node in state.nodes.values_mut() {
        node.offers.insert(DB.into(), Offer { definition: Some(definition.clone()), ..offer() });
    }
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    unit.permits.clear();
    unit.adopted = Some(Adopted { revision: 1, definition });
    unit.boot_up = Some(boot_up);
    lose(&mut state, 3);
    state
}

fn shown(state: &State) -> AssemblyLine {
    unit_line(state).assembly.expect("a clustered service")
}

#[test]
fn a_gathering_names_whom_it_waits_for_and_what_was_heard() {
    let line = shown(&gathering(|_, _| {}));
    assert_eq!((line.state.as_str(), line.epoch, line.since_s), ("gathering", 40, Some(3)));
    assert_eq!(line.awaited, ["n3"]);
    let nodes: Vec<_> = line
        .nodes
        .iter()
        .map(|node| (node.node.as_str(), node.copy.as_str(), node.data.as_str(), node.rank, node.silent_s))
        .collect();
    assert_eq!(
        nodes,
        [
            ("n1", "ended", "stopped", Some(1742), None),
            ("n2", "ended", "stopped", Some(1740), None),
            ("n3", "unproven", "unheard", None, Some(5)),
        ]
    );
    assert!(line.nodes.iter().all(|node| node.last && !node.void));
    assert!(unit_line(&state()).assembly.is_none(), "any other unit");
}

#[test]
fn what_does_not_count_any_more_is_marked() {
    let state = gathering(|boot_up, _| {
        // Said in an earlier session; said before a copy ran; said before the node was lost.
        boot_up.heard.get_mut(&NodeId(1)).expect("n1").session = 0;
        boot_up.heard.get_mut(&NodeId(2)).expect("n2").void = true;
        boot_up.heard.insert(NodeId(3), heard(3, Found::Failed("exit status 3".to_owned())));
    });
    let line = shown(&state);
    assert!(line.nodes.iter().all(|node| node.void), "{:?}", line.nodes);
    assert_eq!(line.nodes[2].error.as_deref(), Some("exit status 3"));
}

#[test]
fn an_election_and_the_words_that_led_to_it_are_told() {
    let state = gathering(|boot_up, _| {
        boot_up.words.without.insert(NodeId(3), "alice".to_owned());
        boot_up.words.resync.insert(NodeId(2));
        boot_up.election = Some(Election {
            node: NodeId(1),
            incarnation: incarnation(1),
            identity: Some("9d1f".to_owned()),
            rank: 1742,
            absent: [NodeId(3)].into(),
            ground: Ground::Word,
            token: None,
        });
    });
    let line = shown(&state);
    assert_eq!(line.state, "elected");
    let words: Vec<_> =
        line.words.iter().map(|word| (word.word.as_str(), word.node.as_str(), word.by.as_deref())).collect();
    assert_eq!(words, [("without", "n3", Some("alice")), ("resync", "n2", None)]);
    let election = line.election.expect("an election");
    assert_eq!((election.node.as_str(), election.rank, election.ground.as_str()), ("n1", 1742, "word"));
    assert_eq!(election.absent, ["n3"]);
}

#[test]
fn a_service_that_is_up_shows_each_copy_and_what_it_lacks() {
    let mut state = gathering(|boot_up, _| {
        boot_up.formation.as_mut().expect("a formation").epoch = boot_up.epoch;
        boot_up.members.remove(&NodeId(3));
        let second = boot_up.members.get_mut(&NodeId(2)).expect("n2");
        (second.ready, second.lacks, second.ended) = (None, Some("Joining".to_owned()), None);
        boot_up.members.get_mut(&NodeId(1)).expect("n1").ended = None;
    });
    let unit = state.units.get_mut(&UnitName::from(DB)).expect("the unit");
    unit.permits = [(Token(1), permit(1, Phase::Active)), (Token(2), permit(2, Phase::Active))].into();
    let line = shown(&state);
    assert_eq!((line.state.as_str(), line.since_s), ("formed", None));
    let copies: Vec<_> = line.nodes.iter().map(|node| (node.copy.as_str(), node.lacks.as_deref())).collect();
    assert_eq!(copies, [("ready", None), ("not-ready", Some("Joining")), ("none", None)]);
}

#[test]
fn the_time_of_gather_then_best_is_counted_down() {
    let best = |tenure: Millis| {
        let mut state = gathering(|_, assembly| {
            assembly.gather_wait_ms = Some(60_000);
            assembly.gather_then = GatherThen::Best;
        });
        state.tenure = Some(Tenure { term: 3, leader: NodeId(2), since: tenure });
        shown(&state).best_in_s
    };
    assert_eq!(best(0), Some(57));
    assert_eq!(best(NOW), Some(60), "a new leader counts anew");
    assert_eq!(shown(&gathering(|_, _| {})).best_in_s, None);
}

#[test]
fn what_happens_in_a_boot_up_is_told_in_sentences() {
    let by = || "alice".to_owned();
    let elected = |absent: &[u64], ground| EventKind::Elected {
        epoch: 40,
        identity: Some("9d1f".to_owned()),
        rank: 1742,
        absent: absent.iter().map(|id| NodeId(*id)).collect(),
        ground,
    };
    let token = Token(9);
    for (kind, word, text) in [
        (
            EventKind::GatherOpened { epoch: 40 },
            "unit-gather-opened",
            "nothing of it is live; gathering 40 asks all how their data stands",
        ),
        (
            EventKind::AssemblyWord { word: Word::Without(NodeId(1)), by: by() },
            "unit-assembly-word",
            "it is to come up without the data of n1, by the word of alice",
        ),
        (
            EventKind::AssemblyWord { word: Word::From(NodeId(1)), by: by() },
            "unit-assembly-word",
            "it is to begin with the data of n1, by the word of alice",
        ),
        (
            EventKind::AssemblyWord { word: Word::Resync(NodeId(1)), by: by() },
            "unit-assembly-word",
            "the data of n1 may be thrown away, by the word of alice",
        ),
        (
            elected(&[], Ground::AllHeard),
            "unit-elected",
            "n1 is elected to start alone: its data has rank 1742 of 9d1f; all that were live last were heard",
        ),
        (
            elected(&[3], Ground::Word),
            "unit-elected",
            "n1 is elected to start alone: its data has rank 1742 of 9d1f; by an operator's word, without n3",
        ),
        (
            elected(&[2, 3], Ground::Best),
            "unit-elected",
            "n1 is elected to start alone: its data has rank 1742 of 9d1f; n2, n3 did not come in time \
             (GatherThen=best)",
        ),
        (
            EventKind::GrantedAs { token, start: Start::Alone },
            "unit-granted",
            "n1 may start it alone (permit 9)",
        ),
        (
            EventKind::GrantedAs { token, start: Start::Resync },
            "unit-granted",
            "n1 may start it and copy its data anew (permit 9)",
        ),
        (EventKind::Ready { token }, "unit-ready", "ready on n1 (permit 9)"),
        (
            EventKind::NotReady { token, lacks: "Donor".to_owned() },
            "unit-not-ready",
            "not ready any more on n1: Donor (permit 9)",
        ),
    ] {
        let mut state = state();
        state.history.push_back(event(1, Some(1), Some(DB), kind));
        let lines = history(&state, 1, None, None);
        assert_eq!(
            (lines[0].kind.as_str(), lines[0].text.as_str()),
            (word, format!("{DB}: {text}").as_str())
        );
    }
}
