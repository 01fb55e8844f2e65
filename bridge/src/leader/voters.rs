//! Keeps Raft's voters in step with the nodes that are to vote: one change at a time, and only once a node is heard.
//!
//! Who votes no more goes first, as that needs nobody new; then each newcomer in turn. One that does not get the log is passed
//! over for a while, so that it keeps no other one from its vote.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use consensus::MembershipError;
use policy::{Node, NodeId};
use tracing::{info, warn};

use super::core::{Core, Event};

/// Pause after a change that did not work.
const RETRY: Duration = Duration::from_secs(1);
/// How long a newcomer that did not get the log is passed over. Each try holds up the others for half of that.
const AGAIN: Duration = Duration::from_secs(60);

/// The change under way.
#[derive(Debug, Default)]
pub(super) struct Voters {
    changing: bool,
    not_before: Option<Instant>,
    /// Newcomers that have not caught up: when they were last given up.
    behind: BTreeMap<u64, Instant>,
}

/// What a change of voters goes by.
#[derive(Debug)]
struct Group {
    /// Whom Raft counts.
    voters: BTreeSet<u64>,
    /// Whether a change is half done.
    joint: bool,
    /// Whom it is to count.
    wanted: BTreeSet<u64>,
    /// Those of them that are heard, and could acknowledge an entry.
    heard: BTreeSet<u64>,
}

/// The next change.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    /// Who is to get the log first.
    newcomer: Option<u64>,
    voters: BTreeSet<u64>,
}

impl Voters {
    /// Newcomers that have no vote because they do not get the log.
    pub(super) fn behind(&self) -> Vec<NodeId> {
        self.behind.keys().copied().map(NodeId).collect()
    }

    /// Whether one of them is to be tried again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.changing && self.behind.values().any(|at| *at + AGAIN <= now)
    }

    fn next(&mut self, group: &Group, now: Instant) -> Option<Change> {
        let newcomers: BTreeSet<u64> = group.heard.difference(&group.voters).copied().collect();
        self.behind.retain(|id, _| newcomers.contains(id));
        let rest: BTreeSet<u64> = group.voters.intersection(&group.wanted).copied().collect();
        // Of those that are left a majority has to take the change itself.
        let is_carried = rest.intersection(&group.heard).count() * 2 > rest.len();
        if rest != group.voters && is_carried {
            return Some(Change { newcomer: None, voters: rest });
        }
        let last_try = |id: &u64| self.behind.get(id).copied();
        let due = newcomers.iter().filter(|id| last_try(id).is_none_or(|at| at + AGAIN <= now));
        let newcomer = due.min_by_key(|id| (last_try(id), **id)).copied();
        let mut voters = group.voters.clone();
        voters.extend(newcomer);
        (newcomer.is_some() || group.joint).then_some(Change { newcomer, voters })
    }
}

impl Core {
    pub(super) fn keep_voters(&mut self) {
        let serving = self.reign.as_ref().is_some_and(|reign| reign.began.is_some());
        if !serving {
            // What another leader could not do, this one may.
            self.voters.behind.clear();
        }
        if !serving || self.voters.changing || self.state().nodes.is_empty() {
            return;
        }
        let now = Instant::now();
        if let Some(not_before) = self.voters.not_before.filter(|at| *at > now) {
            self.next_due = self.next_due.min(not_before);
            self.dirty = true;
            return;
        }
        let group = self.group();
        let Some(Change { newcomer, voters }) = self.voters.next(&group, now) else { return };
        self.voters.changing = true;
        let (consensus, events) = (self.consensus.clone(), self.events.clone());
        tokio::spawn(async move {
            let change = async {
                if let Some(newcomer) = newcomer {
                    consensus.add_learner(newcomer).await?;
                }
                consensus.set_voters(voters).await
            };
            let result = change.await;
            // The core may have gone first.
            let _ = events.send(Event::Voters { result }).await;
        });
    }

    fn group(&self) -> Group {
        let status = self.consensus.status();
        // What votes no more until it has joined anew would never catch up.
        let aside = |id: &NodeId| self.reign.as_ref().is_some_and(|reign| reign.is_aside(*id));
        // A voter that was never heard could not acknowledge anything, and would weigh against the quorum.
        let heard = |id: &NodeId, node: &Node| node.in_session().is_some() && !aside(id);
        let votes = || self.state().nodes.iter().filter(|(_, node)| node.role.votes());
        let mut wanted: BTreeSet<u64> = votes().map(|(id, _)| id.0).collect();
        wanted.insert(self.node.0);
        Group {
            voters: status.voters,
            joint: status.joint,
            wanted,
            heard: votes().filter(|(id, node)| heard(id, node)).map(|(id, _)| id.0).collect(),
        }
    }

    pub(super) fn voters_changed(&mut self, result: Result<(), MembershipError>) {
        self.voters.changing = false;
        self.voters.not_before = None;
        match result {
            Ok(()) => info!(voters = ?self.consensus.status().voters, "voters changed"),
            Err(MembershipError::Behind { node }) => {
                let name = self.state().node_name(NodeId(node));
                warn!(node = %name, "a node that is to vote does not get the log; trying again later");
                self.voters.behind.insert(node, Instant::now());
            }
            Err(error) => {
                warn!(%error, "the voters could not be changed; trying again");
                self.voters.not_before = Some(Instant::now() + RETRY);
            }
        }
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    fn group(voters: &[u64], wanted: &[u64], heard: &[u64]) -> Group {
        Group { voters: set(voters), joint: false, wanted: set(wanted), heard: set(heard) }
    }

    fn change(newcomer: Option<u64>, voters: &[u64]) -> Option<Change> {
        Some(Change { newcomer, voters: set(voters) })
    }

    #[test]
    fn who_leaves_goes_before_anybody_comes_and_newcomers_come_one_by_one() {
        let mut voters = Voters::default();
        let now = Instant::now();
        // Node 3 is dead and was taken out; 4 and 5 are new.
        let all = [1, 2, 4, 5];
        assert_eq!(voters.next(&group(&[1, 2, 3], &all, &all), now), change(None, &[1, 2]));
        assert_eq!(voters.next(&group(&[1, 2], &all, &all), now), change(Some(4), &[1, 2, 4]));
        assert_eq!(voters.next(&group(&[1, 2, 4], &all, &all), now), change(Some(5), &[1, 2, 4, 5]));
        assert_eq!(voters.next(&group(&all, &all, &all), now), None);
        assert_eq!(voters.next(&group(&[1, 2, 4], &all, &[1, 2, 4]), now), None, "5 was never heard");
        let half_done = Group { joint: true, ..group(&all, &all, &all) };
        assert_eq!(voters.next(&half_done, now), change(None, &all));
    }

    #[test]
    fn nobody_leaves_where_those_that_are_left_could_not_decide() {
        let mut voters = Voters::default();
        let now = Instant::now();
        // Node 3 is to go while 2 is down: 1 alone is half of what would be left.
        assert_eq!(voters.next(&group(&[1, 2, 3], &[1, 2], &[1]), now), None);
        // Somebody new comes first then.
        assert_eq!(voters.next(&group(&[1, 2, 3], &[1, 2, 4], &[1, 4]), now), change(Some(4), &[1, 2, 3, 4]));
        assert_eq!(voters.next(&group(&[1, 2, 3, 4], &[1, 2, 4], &[1, 4]), now), change(None, &[1, 2, 4]));
    }

    #[test]
    fn a_newcomer_that_does_not_catch_up_keeps_nobody_from_a_vote() {
        let mut voters = Voters::default();
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let all = [1, 2, 3, 4];
        voters.behind.insert(2, at(0));
        assert_eq!(voters.next(&group(&[1], &all, &all), at(1)), change(Some(3), &[1, 3]));
        voters.behind.insert(3, at(30));
        assert_eq!(voters.next(&group(&[1], &all, &all), at(70)), change(Some(4), &[1, 4]));
        // Tried again, the longest forgotten first; meanwhile they are shown to have no vote.
        assert_eq!(voters.next(&group(&[1, 4], &all, &all), at(59)), None);
        assert!(!voters.is_due(at(59)) && voters.is_due(at(60)));
        assert_eq!(voters.next(&group(&[1, 4], &all, &all), at(90)), change(Some(2), &[1, 2, 4]));
        assert_eq!(voters.behind(), [NodeId(2), NodeId(3)]);
        // One that is not heard, or votes, is none of them any more.
        assert_eq!(voters.next(&group(&[1, 2, 4], &all, &[1, 2, 4]), at(91)), None);
        assert_eq!(voters.behind(), []);
        assert!(!voters.is_due(at(1_000)));
    }
}
