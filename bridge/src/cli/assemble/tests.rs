use super::*;
use crate::api::model::WordLine;
use crate::cli::render::samples::{clustered, data, formed, gathering, picture, unit};

const DB: &str = "mariadb.service";
const STYLE: Style = Style { width: 80, colour: false };

fn with(assembly: AssemblyLine) -> Overview {
    Overview {
        units: vec![clustered("waiting", Vec::new(), assembly), unit("web.service", "active", Vec::new())],
        ..picture()
    }
}

fn shown(picture: &Overview, word: Word, node: &str) -> String {
    Case::of(picture, DB, word, node).unwrap_or_else(|failure| panic!("{}", failure.text)).explanation(STYLE)
}

#[test]
fn giving_up_a_silent_member_shows_who_begins_and_what_is_lost() {
    let expected = "\
mariadb.service: gathering 120, for 3 min

  NODE  LIVE LAST  COPY     DATA
  n1    yes        -        rank 1742 of 9d1f
  n2    yes        -        rank 1740 of 9d1f
  n3    yes        may run  not heard: n3 is lost for 3 min

You are about to do without the data of n3.
  - What only n3 has is lost. If it is later than what the others begin with, n3
    does not join them before `convoke assemble mariadb.service --resync n3`
    throws it away.
  - n3 may run still, and nobody begins before it is proven off: it is fenced by
    bmc-n3.
  - n1 begins then, with rank 1742 of 9d1f: the latest that was heard of those
    that were live last.
  - If n3 can be brought back, do that instead: then nothing is lost.
";
    assert_eq!(shown(&with(gathering()), Word::Without, "n3"), expected);
}

#[test]
fn who_would_begin_is_said_only_as_far_as_it_is_known() {
    let says = |change: &dyn Fn(&mut AssemblyLine), words: &str| {
        let mut assembly = gathering();
        change(&mut assembly);
        let text = shown(&with(assembly), Word::Without, "n3").replace("\n    ", " ");
        assert!(text.contains(words), "{words}: {text}");
    };
    says(&|a| a.nodes[1].data = "unheard".to_owned(), "Nobody begins yet: n2 is waited for too.");
    says(&|a| a.nodes[1].void = true, "Nobody begins yet: n2 is waited for too.");
    says(&|a| a.nodes[1].rank = Some(1742), "n1 or n2 begins then, with rank 1742");
    says(&|a| (a.nodes[1].rank, a.nodes[1].safe) = (Some(1742), true), "n2 begins then, with rank 1742");
    says(&|a| a.nodes[1].identity = Some("77aa".to_owned()), "several histories. Choose with --from.");
    let empty = |a: &mut AssemblyLine| a.nodes.iter_mut().for_each(|node| node.data = "empty".to_owned());
    says(&empty, "no other node that was live last has usable data");
    says(&|a| a.nodes[1].branch = Some("why".to_owned()), "the data of n2 may have a branch of its own");
    // It had all the data, and has lost it: the cluster takes it for not heard.
    let wiped = |a: &mut AssemblyLine| {
        a.nodes[1].data = "empty".to_owned();
        a.awaited.push("n2".to_owned());
    };
    says(&wiped, "Nobody begins yet: n2 is waited for too.");
    // n1 was given up before, and does not begin.
    let word = || WordLine { word: "without".to_owned(), node: "n1".to_owned(), by: None };
    says(&|a| a.words.push(word()), "n2 begins then, with rank 1740");
    says(&|a| a.resync = false, "before it is emptied by hand: no StartResync= says how");
}

#[test]
fn choosing_older_data_names_all_that_is_lost() {
    let mut assembly = gathering();
    assembly.nodes.push(DataLine { identity: Some("77aa".to_owned()), ..data("n4", 5) });
    let mut picture = with(assembly);
    picture.nodes[2].device = None;
    let text = shown(&picture, Word::From, "n2");
    let expected = "\
You are about to begin with the data of n2.
  - n2 begins with rank 1740 of 9d1f, whatever the others have.
  - n1 has later data (rank 1742 of 9d1f): what it has beyond that of n2 is
    lost.
  - n3 was live last and was not heard: what only it has is lost.
  - n4 has data of another history (77aa): all of it is lost.
  - Whoever has such data does not join before `convoke assemble mariadb.service
    --resync NODE` throws it away.
  - n3 may run still, and nobody begins before it is proven off: it has no fence
    device, so give your word by `convoke fence confirm n3`.
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn what_a_choice_loses_is_named_where_ranks_say_nothing() {
    let says = |change: &dyn Fn(&mut AssemblyLine), words: &str| {
        let mut assembly = gathering();
        change(&mut assembly);
        let text = shown(&with(assembly), Word::From, "n1").replace("\n    ", " ");
        assert!(text.contains(words), "{words}: {text}");
    };
    says(&|a| a.nodes[0].branch = Some("why".to_owned()), "n2 and n1 may be on different branches");
    says(&|a| a.nodes[1].branch = Some("why".to_owned()), "what n2 has beyond their common part is lost");
    let wiped = |a: &mut AssemblyLine| {
        a.nodes[1].data = "empty".to_owned();
        a.awaited.push("n2".to_owned());
    };
    says(&wiped, "n2 was live last, and its data is empty: what only it had is lost.");
    // It is heard, and does not say that its copy has ended: no fence helps.
    let heard = |a: &mut AssemblyLine| (a.nodes[2].silent_s, a.nodes[2].data) = (None, "failed".to_owned());
    says(&heard, "mend Position= there, or reboot it");
}

#[test]
fn the_first_formation_says_that_it_is_the_first() {
    let mut assembly = gathering();
    assembly.formed = false;
    for node in &mut assembly.nodes {
        *node = DataLine {
            last: false,
            copy: "none".to_owned(),
            data: "empty".to_owned(),
            ..data(&node.node, 0)
        };
    }
    let text = shown(&with(assembly), Word::From, "n1");
    let expected = "\
You are about to begin with the data of n1.
  - n1 has no data of mariadb.service yet: whatever is there becomes its first,
    and what other such nodes have is replaced by it.
  - mariadb.service never came up: this is its first data.
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn throwing_data_away_says_that_it_is_for_good() {
    let mut assembly = formed();
    assembly.nodes[2] = DataLine { last: false, copy: "none".to_owned(), ..data("n3", 1750) };
    let text = shown(&with(assembly), Word::Resync, "n3");
    let expected = "\
You are about to throw the data of n3 away.
  - What only n3 has (rank 1750 of 9d1f) is lost for good. Copy it aside first
    if anybody may want it.
  - n3 then takes everything from a copy that is live and ready. This counts for
    one start.
";
    assert!(text.starts_with("mariadb.service: up since gathering 40\n"), "{text}");
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn what_would_be_refused_is_not_asked_for() {
    let refused = |picture: &Overview, unit: &str, word, node: &str| {
        let failure = Case::of(picture, unit, word, node).err().expect("refused");
        (failure.code, failure.text)
    };
    let waiting = with(gathering());
    assert_eq!(refused(&waiting, "db.service", Word::From, "n1").0, Code::NotFound);
    assert_eq!(refused(&waiting, DB, Word::From, "n9").0, Code::NotFound);
    let (code, text) = refused(&waiting, "web.service", Word::From, "n1");
    assert!(code == Code::Failed && text.contains("has no Assembly="), "{text}");
    let is_told = |assembly: AssemblyLine, word, node: &str, words: &str| {
        let (code, text) = refused(&with(assembly), DB, word, node);
        assert_eq!(code, Code::Failed);
        assert!(text.contains(words), "{words}: {text}");
    };
    let empty = |assembly: &mut AssemblyLine| assembly.nodes[1].data = "empty".to_owned();
    let mut formed_once = gathering();
    empty(&mut formed_once);
    let never_formed = AssemblyLine { formed: false, ..formed_once.clone() };
    is_told(formed_once, Word::From, "n2", "n2 is empty, and there was data once");
    is_told(never_formed, Word::From, "n2", "n2 is empty, and n1 has data");
    is_told(gathering(), Word::From, "n3", "n3 has not said how its data stands");
    is_told(formed(), Word::Without, "n3", "is not waiting to be assembled");
    is_told(formed(), Word::Resync, "n3", "a copy of mariadb.service runs on n3");
    is_told(AssemblyLine { resync: false, ..gathering() }, Word::Resync, "n1", "no StartResync=");
    let mut assembly = gathering();
    assembly.nodes[1].last = false;
    assembly.nodes[0].data = "unusable".to_owned();
    assembly.nodes.pop();
    is_told(assembly.clone(), Word::Without, "n2", "n2 was not live last");
    is_told(assembly.clone(), Word::From, "n1", "the data of n1 is unusable");
    is_told(assembly, Word::Without, "n3", "has nothing of mariadb.service");
}

#[test]
fn the_word_is_the_one_that_was_given() {
    let said = Said { without: None, from: Some("n1".to_owned()), resync: None };
    assert_eq!(word(&said).expect("a word"), (Word::From, "n1"));
    let none = Said { from: None, ..said };
    assert_eq!(word(&none).expect_err("none").code, Code::Usage);
}
