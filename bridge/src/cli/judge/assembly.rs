//! After `assemble`: whether the service came up, or what it waits for besides the word that was said.

use super::Verdict::{self, Done, Pending, Stalled, Stuck};
use super::{being_fenced, find, overtaken, waits_for};
use crate::api::model::{AssemblyLine, DataLine, Overview};
use crate::cli::assemble::Word;

/// After a word on the data of `node` in the gathering `epoch`.
pub(in crate::cli) fn assembled(
    picture: &Overview,
    name: &str,
    epoch: u64,
    word: Word,
    node: &str,
) -> Verdict {
    let why = || format!("convoke why {name}");
    let unit = find(picture, name);
    let Some((unit, assembly)) = unit.and_then(|unit| Some((unit, unit.assembly.as_ref()?))) else {
        return Stuck(format!("{name} is no clustered service any more"), why());
    };
    if unit.goal == "stopped" {
        return overtaken(unit, "stopped");
    }
    if word == Word::Resync && ready(assembly).contains(&node) {
        return Done(format!("{name} is ready on {node}, with the data of the others"));
    }
    if assembly.epoch != epoch {
        let new = assembly.epoch;
        return Stuck(
            format!("{name} is gathered anew ({new}): what you said counted in gathering {epoch} only"),
            why(),
        );
    }
    if word == Word::Resync {
        return Pending(waits_for(unit));
    }
    match (assembly.state.as_str(), &assembly.election) {
        ("formed", _) => {
            return Done(format!("{name} came up; it is ready on {}", ready(assembly).join(", ")));
        }
        (_, Some(election)) => return Pending(format!("{} is to start alone", election.node)),
        _ => {}
    }
    let concerned = |line: &&DataLine| word == Word::From || line.node == node;
    let unproven = |line: &&DataLine| matches!(line.copy.as_str(), "unproven" | "unknown");
    let silent = assembly.nodes.iter().filter(|line| line.silent_s.is_some());
    let silent: Vec<&DataLine> = silent.filter(concerned).filter(unproven).collect();
    if let Some(line) = silent.iter().find(|line| being_fenced(picture, &line.node).is_none()) {
        let node = &line.node;
        return Stalled(
            format!(
                "your word is recorded, but {node} may run still, and nobody begins before it is proven off"
            ),
            format!("start {node} again, or switch it off and type `convoke fence confirm {node}`"),
        );
    }
    if let Some(fence) = silent.iter().find_map(|line| being_fenced(picture, &line.node)) {
        return Pending(fence.text.clone());
    }
    let others: Vec<&str> =
        assembly.awaited.iter().map(String::as_str).filter(|other| *other != node).collect();
    let text = match others.as_slice() {
        [] => waits_for(unit),
        others => format!("{name} waits for {} too", others.join(", ")),
    };
    Stalled(format!("your word is recorded; {text}"), why())
}

fn ready(assembly: &AssemblyLine) -> Vec<&str> {
    assembly.nodes.iter().filter(|line| line.copy == "ready").map(|line| line.node.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::{ElectionLine, FenceLine, UnitLine};
    use crate::cli::render::samples::{clustered, copy, formed, gathering, picture};

    const DB: &str = "mariadb.service";

    fn with(unit: UnitLine) -> Overview {
        Overview { units: vec![unit], ..picture() }
    }

    fn without(picture: &Overview) -> Verdict {
        assembled(picture, DB, 120, Word::Without, "n3")
    }

    #[test]
    fn it_is_done_when_a_copy_is_ready_in_the_same_gathering() {
        let up = AssemblyLine { epoch: 120, ..formed() };
        let active = with(clustered("active", vec![copy("n1", "active", 130)], up));
        assert_eq!(without(&active), Done("mariadb.service came up; it is ready on n1, n2, n3".to_owned()));
        assert!(
            matches!(assembled(&active, DB, 90, Word::From, "n1"), Stuck(text, _) if text.contains("90 only"))
        );
        let stopped = UnitLine { goal: "stopped".to_owned(), ..active.units[0].clone() };
        assert!(matches!(without(&with(stopped)), Stuck(text, _) if text.contains("stopped meanwhile")));
        let mut elected = gathering();
        elected.election = Some(ElectionLine {
            node: "n1".to_owned(),
            identity: None,
            rank: 0,
            absent: Vec::new(),
            ground: "word".to_owned(),
            token: None,
        });
        let elected = with(clustered("waiting", Vec::new(), elected));
        assert_eq!(without(&elected), Pending("n1 is to start alone".to_owned()));
    }

    #[test]
    fn whoever_is_given_up_is_proven_off_first_and_a_fence_that_runs_is_waited_for() {
        let mut picture = with(clustered("waiting", Vec::new(), gathering()));
        let Stalled(text, remedy) = without(&picture) else { panic!("nothing is under way") };
        assert!(text.contains("n3 may run still"), "{text}");
        assert!(remedy.contains("convoke fence confirm n3"), "{remedy}");
        picture.fences.push(FenceLine {
            node: "n3".to_owned(),
            incarnation: "boot-n3".to_owned(),
            state: "running".to_owned(),
            device: Some("bmc-n3".to_owned()),
            attempts: 1,
            error: None,
            next_in_s: None,
            because: DB.to_owned(),
            drill: false,
            case: 7,
            text: "n3 is being fenced by bmc-n3, run on n1".to_owned(),
        });
        assert_eq!(without(&picture), Pending("n3 is being fenced by bmc-n3, run on n1".to_owned()));
    }

    #[test]
    fn who_else_is_waited_for_is_named_and_does_not_count_as_done() {
        let mut assembly = gathering();
        assembly.nodes[2].copy = "ended".to_owned();
        assembly.awaited = vec!["n2".to_owned()];
        let waits = with(clustered("waiting", Vec::new(), assembly));
        let Stalled(text, remedy) = without(&waits) else { panic!("n2 is waited for") };
        assert_eq!(text, "your word is recorded; mariadb.service waits for n2 too");
        assert_eq!(remedy, "convoke why mariadb.service");
    }

    #[test]
    fn a_resync_is_done_when_that_nodes_copy_is_ready() {
        let mut assembly = formed();
        let resync = |assembly: &AssemblyLine| {
            let unit = clustered("partial", Vec::new(), assembly.clone());
            assembled(&with(unit), DB, 40, Word::Resync, "n3")
        };
        assert!(matches!(resync(&assembly), Done(text) if text.contains("ready on n3")));
        assembly.nodes[2].copy = "starting".to_owned();
        assert_eq!(resync(&assembly), Pending("partial".to_owned()));
    }
}
