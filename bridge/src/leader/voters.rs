//! Keeps Raft's voters in step with the nodes that are to vote: one change at a time, and only once a node is heard.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use policy::{Node, NodeId};
use tracing::{info, warn};

use super::core::{Core, Event};

/// Pause after a change that did not work.
const RETRY: Duration = Duration::from_secs(1);

/// The change under way.
#[derive(Debug, Default)]
pub(super) struct Voters {
    changing: bool,
    not_before: Option<Instant>,
}

impl Core {
    pub(super) fn keep_voters(&mut self) {
        let serving = self.reign.as_ref().is_some_and(|reign| reign.began.is_some());
        if !serving || self.voters.changing || self.state().nodes.is_empty() {
            return;
        }
        if let Some(not_before) = self.voters.not_before.filter(|at| *at > Instant::now()) {
            self.next_due = self.next_due.min(not_before);
            self.dirty = true;
            return;
        }
        let status = self.consensus.status();
        let mut wanted: BTreeSet<u64> =
            status.voters.iter().copied().filter(|id| self.votes(*id) || *id == self.node.0).collect();
        // A voter that was never heard could not acknowledge anything, and would weigh against the quorum.
        let heard = |node: &Node| node.role.votes() && node.in_session().is_some();
        // What votes no more until it has joined anew would never catch up.
        let aside = |id: &NodeId| self.reign.as_ref().is_some_and(|reign| reign.is_aside(*id));
        let newcomer = self
            .state()
            .nodes
            .iter()
            .find(|(id, node)| heard(node) && !status.voters.contains(&id.0) && !aside(id));
        let newcomer = newcomer.map(|(id, _)| id.0);
        wanted.extend(newcomer);
        if wanted == status.voters && !status.joint {
            return;
        }
        self.voters.changing = true;
        let (consensus, events) = (self.consensus.clone(), self.events.clone());
        tokio::spawn(async move {
            let change = async {
                if let Some(newcomer) = newcomer {
                    consensus.add_learner(newcomer).await.map_err(|error| error.to_string())?;
                }
                consensus.set_voters(wanted).await.map_err(|error| error.to_string())
            };
            let result = change.await;
            // The core may have gone first.
            let _ = events.send(Event::Voters { result }).await;
        });
    }

    fn votes(&self, id: u64) -> bool {
        self.state().nodes.get(&policy::NodeId(id)).is_some_and(|node| node.role.votes())
    }

    pub(super) fn voters_changed(&mut self, result: Result<(), String>) {
        self.voters.changing = false;
        self.voters.not_before = None;
        match result {
            Ok(()) => info!(voters = ?self.consensus.status().voters, "voters changed"),
            Err(error) => {
                warn!(%error, "the voters could not be changed; trying again");
                self.voters.not_before = Some(Instant::now() + RETRY);
            }
        }
        self.dirty = true;
    }
}
