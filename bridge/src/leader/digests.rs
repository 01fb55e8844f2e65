//! Whether the voters' states are the same (F20): what each said of which index, and who is in the minority.
//!
//! A voter says with its beats what its state was at the latest index at which all compare theirs. A majority of all voters is
//! right; whoever has another state at that index is told, and sets itself aside. Where no majority has one state, nobody
//! knows who is right: that is said, and nothing stops. Judged in memory: a leader that comes is told anew by the next beats.

use std::collections::{BTreeMap, BTreeSet};

use policy::{NodeId, State};
use tracing::error;

use super::core::Core;
use crate::session::message::Digest;

/// Indices of one voter that are remembered: one may be behind the others by as many.
const KEPT: usize = 8;

/// What the voters said.
#[derive(Debug, Default)]
pub(super) struct Digests {
    said: BTreeMap<NodeId, BTreeMap<u64, Made>>,
    /// Who has another state than most; why, in words, and who those are.
    parted: BTreeMap<NodeId, (String, BTreeSet<NodeId>)>,
    /// The latest index at which no majority had one state, that in words, and between whom.
    torn: Option<(u64, String, BTreeSet<NodeId>)>,
}

/// A state, and which program made it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    program: String,
    state: String,
}

/// Whose states are compared.
struct Voters {
    all: BTreeSet<u64>,
    /// Those that say theirs: in session, and not set aside.
    here: BTreeSet<u64>,
}

/// How the states at one index compare.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Too few have said theirs, and no two differ.
    Open,
    /// A majority has one state; the others have another.
    Most {
        /// Who has the one.
        most: BTreeSet<NodeId>,
        /// Who has another.
        others: BTreeSet<NodeId>,
    },
    /// Some differ, and no majority has one state, or will once all that are here have spoken.
    Torn {
        /// Who has one state each.
        camps: Vec<BTreeSet<NodeId>>,
    },
}

impl Digests {
    /// What a node is to be told: that its state is another one than that of most voters, if those are a quorum still.
    pub(super) fn parted(
        &self,
        node: NodeId,
        is_quorum: impl FnOnce(&BTreeSet<NodeId>) -> bool,
    ) -> Option<String> {
        self.parted.get(&node).filter(|(_, most)| is_quorum(most)).map(|(why, _)| why.clone())
    }

    /// What is wrong now, in words. Of a node that was taken out since nothing is.
    pub(super) fn lines(&self, is_member: impl Fn(&NodeId) -> bool) -> Vec<String> {
        let parted = self.parted.iter().filter(|(node, _)| is_member(node)).map(|(_, (why, _))| why.clone());
        let torn = self.torn.iter().filter(|(_, _, between)| between.iter().all(&is_member));
        parted.chain(torn.map(|(_, why, _)| why.clone())).collect()
    }

    /// A node takes no part any more, or says anew what its state is.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.said.remove(&node);
        self.parted.remove(&node);
    }

    /// Takes in what a node says; whether that is news.
    fn note(&mut self, node: NodeId, digest: &Digest) -> bool {
        let Digest { index, program, state } = digest.clone();
        let said = self.said.entry(node).or_default();
        let made = Made { program, state };
        if said.get(&index) == Some(&made) {
            return false;
        }
        said.insert(index, made);
        while said.len() > KEPT {
            said.pop_first();
        }
        // A voter that was given a snapshot since may be right again.
        self.parted.remove(&node);
        true
    }

    /// How the states at an index compare, by the voters as Raft counts them. What different programs made may be encoded
    /// otherwise and mean the same: it is not compared.
    fn judge(&self, index: u64, Voters { all: voters, here }: &Voters) -> Verdict {
        let mut camps: BTreeMap<&Made, BTreeSet<NodeId>> = BTreeMap::new();
        for (node, said) in &self.said {
            if let Some(made) = said.get(&index) {
                camps.entry(made).or_default().insert(*node);
            }
        }
        let votes = |nodes: &BTreeSet<NodeId>| nodes.iter().filter(|node| voters.contains(&node.0)).count();
        let most = camps.iter().find(|&(_, nodes)| votes(nodes) > voters.len() / 2);
        if let Some((right, most)) = most {
            let wrong = camps.iter().filter(|&(made, _)| made.program == right.program && made != right);
            let others = wrong.flat_map(|(_, nodes)| nodes.iter().copied()).collect();
            return Verdict::Most { most: most.clone(), others };
        }
        let programs: BTreeSet<&str> = camps.keys().map(|made| made.program.as_str()).collect();
        let spoke = |id: &&u64| camps.values().any(|nodes| nodes.contains(&NodeId(**id)));
        let silent = here.iter().filter(|id| voters.contains(id) && !spoke(id)).count();
        let may_win = camps.values().any(|nodes| votes(nodes) + silent > voters.len() / 2);
        if programs.len() == camps.len() || may_win {
            return Verdict::Open;
        }
        Verdict::Torn { camps: camps.into_values().collect() }
    }

    /// Judges an index of which something new was said; gives the lines that are new.
    fn take(&mut self, node: NodeId, digest: &Digest, voters: &Voters, state: &State) -> Vec<String> {
        let index = digest.index;
        if !self.note(node, digest) {
            return Vec::new();
        }
        let names = |nodes: &BTreeSet<NodeId>| {
            let names: Vec<String> = nodes.iter().map(|node| state.node_name(*node)).collect();
            names.join(", ")
        };
        match self.judge(index, voters) {
            Verdict::Open => Vec::new(),
            Verdict::Torn { .. } if self.torn.as_ref().is_some_and(|(known, ..)| *known >= index) => {
                Vec::new()
            }
            Verdict::Torn { camps } => {
                let between = camps.iter().flatten().copied().collect();
                let camps: Vec<String> = camps.iter().map(names).collect();
                let why = format!(
                    "the voters' states differ at index {index} ({}), and no majority of them has the same",
                    camps.join(" | ")
                );
                self.torn = Some((index, why.clone(), between));
                vec![why]
            }
            Verdict::Most { most, others } => {
                self.torn.take_if(|(known, ..)| *known <= index);
                let mut lines = Vec::new();
                for other in others {
                    let name = state.node_name(other);
                    let why = format!("at index {index} the state of {name} is not that of {}", names(&most));
                    if self.parted.insert(other, (why.clone(), most.clone())).is_none() {
                        lines.push(why);
                    }
                }
                lines
            }
        }
    }
}

impl Core {
    /// Compares what a voter says of its state with what the others said.
    pub(super) fn compare(&mut self, node: NodeId, digest: &Digest) {
        let Some(reign) = &mut self.reign else { return };
        let all = self.consensus.status().voters;
        let here = all.iter().copied().filter(|id| reign.is_here(NodeId(*id))).collect();
        let voters = Voters { all, here };
        for line in reign.digests.take(node, digest, &voters, &self.replica.state) {
            error!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: [u64; 5] = [1, 2, 3, 4, 5];

    fn digest(index: u64, state: &str) -> Digest {
        Digest { index, program: "this one".to_owned(), state: state.to_owned() }
    }

    /// Who is told, after these were said in that order by voters of so many.
    fn told(voters: &[u64], said: &[(u64, Digest)]) -> Vec<u64> {
        let (digests, _) = judged(voters, said);
        digests.parted.keys().map(|node| node.0).collect()
    }

    fn judged(voters: &[u64], said: &[(u64, Digest)]) -> (Digests, Vec<String>) {
        among(voters, voters, said)
    }

    /// The same where some of the voters are away.
    fn among(voters: &[u64], here: &[u64], said: &[(u64, Digest)]) -> (Digests, Vec<String>) {
        let mut digests = Digests::default();
        let all = |ids: &[u64]| ids.iter().copied().collect();
        let voters = Voters { all: all(voters), here: all(here) };
        let state = State::default();
        let lines =
            said.iter().flat_map(|(node, digest)| digests.take(NodeId(*node), digest, &voters, &state));
        let lines = lines.collect();
        (digests, lines)
    }

    #[test]
    fn equal_states_stop_nobody() {
        let said = [(1, digest(4, "a")), (2, digest(4, "a")), (3, digest(4, "a"))];
        assert_eq!(told(&FIVE[..3], &said), [0; 0]);
        let said = [(1, digest(4, "a")), (2, digest(8, "b")), (3, digest(4, "a")), (2, digest(4, "a"))];
        assert_eq!(told(&FIVE[..3], &said), [0; 0], "one voter is ahead of the others");
    }

    #[test]
    fn the_minority_is_told_whoever_of_it_spoke_first() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let said = order.map(|node| (node, digest(4, if node == 3 { "b" } else { "a" })));
            assert_eq!(told(&FIVE[..3], &said), [3]);
            let digests = judged(&FIVE[..3], &said).0;
            assert_eq!(
                digests.lines(|_| true),
                ["at index 4 the state of node 3 is not that of node 1, node 2"]
            );
            assert_eq!(digests.lines(|node| *node != NodeId(3)), [""; 0], "it was taken out since");
        }
        let each = [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "a")];
        let said = each.map(|(node, state)| (node, digest(4, state)));
        assert_eq!(told(&FIVE, &said), [2, 4]);
    }

    #[test]
    fn a_majority_is_one_of_all_voters() {
        let each = [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")];
        let said = each.map(|(node, state)| (node, digest(4, state)));
        let (digests, lines) = judged(&FIVE, &said[..4]);
        assert!(
            digests.parted.is_empty() && lines.is_empty(),
            "two of five are none, and the fifth may decide"
        );
        let (digests, lines) = judged(&FIVE, &said);
        assert!(digests.parted.is_empty());
        let torn = "the voters' states differ at index 4 (node 1, node 2 | node 3, node 4 | node 5), and no majority of them \
                    has the same";
        assert_eq!((lines, digests.lines(|_| true)), (vec![torn.to_owned()], vec![torn.to_owned()]));
        assert_eq!(digests.lines(|node| *node != NodeId(5)), [""; 0], "it was taken out since");
        // Nodes without a vote count for nobody, and are told all the same.
        let said = [(1, digest(4, "a")), (7, digest(4, "b")), (8, digest(4, "b"))];
        assert_eq!(told(&FIVE[..1], &said), [7, 8]);
    }

    #[test]
    fn two_that_differ_are_told_of_where_the_third_is_away() {
        let said = [(1, digest(4, "a")), (2, digest(4, "b"))];
        assert_eq!(judged(&FIVE[..3], &said).1, [""; 0], "the third decides");
        let (digests, lines) = among(&FIVE[..3], &[1, 2], &said);
        assert!(digests.parted.is_empty());
        assert_eq!(lines.len(), 1);
        // It is over once a majority has one state at a later index.
        let later = [1, 2].map(|node| (node, digest(8, "c")));
        let said: Vec<_> = said.into_iter().chain(later).collect();
        assert_eq!(among(&FIVE[..3], &[1, 2], &said).0.lines(|_| true), [""; 0]);
    }

    #[test]
    fn a_tie_stops_nobody_and_is_said_once() {
        let said = [(1, digest(4, "a")), (2, digest(4, "b")), (1, digest(4, "a")), (2, digest(4, "b"))];
        let (digests, lines) = judged(&FIVE[..2], &said);
        assert!(digests.parted.is_empty());
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn what_is_said_late_is_judged_all_the_same() {
        let said = [
            (1, digest(4, "a")),
            (2, digest(4, "a")),
            (1, digest(8, "c")),
            (2, digest(8, "c")),
            (3, digest(4, "b")),
        ];
        let (digests, lines) = judged(&FIVE[..3], &said);
        assert_eq!(digests.parted.keys().copied().collect::<Vec<_>>(), [NodeId(3)]);
        assert_eq!(lines, ["at index 4 the state of node 3 is not that of node 1, node 2"]);
        let forgotten = (0..9).map(|at| (1, digest(4 + 4 * at, "a")));
        let said: Vec<_> = forgotten.chain([(2, digest(4, "b"))]).collect();
        assert_eq!(told(&FIVE[..1], &said), [0; 0], "too late");
    }

    #[test]
    fn who_was_given_a_snapshot_may_be_right_again() {
        let mut said = vec![(1, digest(4, "a")), (2, digest(4, "a")), (3, digest(4, "b"))];
        assert_eq!(told(&FIVE[..3], &said), [3]);
        said.extend([(1, digest(8, "c")), (2, digest(8, "c")), (3, digest(8, "c"))]);
        assert_eq!(told(&FIVE[..3], &said), [0; 0]);
    }

    #[test]
    fn another_program_is_not_compared() {
        let newer = Digest { program: "a newer one".to_owned(), ..digest(4, "b") };
        let said = [(1, digest(4, "a")), (2, digest(4, "a")), (3, newer.clone())];
        assert_eq!(judged(&FIVE[..3], &said).1, [""; 0]);
        let said = [(1, digest(4, "a")), (3, newer)];
        assert_eq!(judged(&FIVE[..3], &said).1, [""; 0]);
    }

    #[test]
    fn who_takes_no_part_any_more_is_told_nothing() {
        let said = [(1, digest(4, "a")), (2, digest(4, "a")), (3, digest(4, "b"))];
        let (mut digests, _) = judged(&FIVE[..3], &said);
        assert!(digests.parted(NodeId(3), |_| true).is_some());
        digests.forget(NodeId(3));
        assert_eq!(digests.parted(NodeId(3), |_| true), None);
    }
}
