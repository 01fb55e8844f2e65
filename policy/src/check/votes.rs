//! Which votes are lost together: those of one failure domain, which one cause takes.
//!
//! Pure: the attribute that names the domain and the nodes in, what is wrong out. Knows nothing of units: what is lost here is
//! the majority, without which nothing is decided for any of them. Clause P156 of `docs/policy.md`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::command::Settings;
use crate::name::NodeId;
use crate::node::Role;
use crate::state::State;

/// What is wrong with where the votes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoteFlaw {
    /// The loss of one failure domain leaves no majority.
    Together {
        /// What its nodes have for the attribute.
        domain: String,
        /// Those of them that vote and run units.
        voters: Vec<NodeId>,
        /// Those that only vote.
        witnesses: Vec<NodeId>,
        /// How many votes there are in the cluster.
        votes: usize,
    },
    /// These vote, and nothing says in which failure domain they are.
    Unplaced {
        /// Those nodes.
        nodes: Vec<NodeId>,
    },
}

impl VoteFlaw {
    /// What is wrong with these nodes under these settings, in the order of the domains' names; nothing where no attribute
    /// names them.
    #[must_use]
    pub fn among<'a>(
        settings: &Settings,
        nodes: impl IntoIterator<Item = (NodeId, Role, &'a BTreeMap<String, String>)>,
    ) -> Vec<Self> {
        let Some(attribute) = &settings.failure_domain else { return Vec::new() };
        let mut domains: BTreeMap<&str, (Vec<NodeId>, Vec<NodeId>)> = BTreeMap::new();
        let mut unplaced = Vec::new();
        let mut votes: usize = 0;
        for (id, role, attributes) in nodes.into_iter().filter(|(_, role, _)| role.votes()) {
            votes = votes.saturating_add(1);
            let Some(domain) = attributes.get(attribute).filter(|domain| !domain.is_empty()) else {
                unplaced.push(id);
                continue;
            };
            let (voters, witnesses) = domains.entry(domain).or_default();
            let those = if role.runs_units() { voters } else { witnesses };
            those.push(id);
        }
        let mut flaws = Vec::new();
        for (domain, (voters, witnesses)) in domains {
            let lost = voters.len().saturating_add(witnesses.len());
            // What the loss of a single vote means is no question of where the others are.
            if lost > 1 && votes.saturating_sub(lost) <= votes / 2 {
                flaws.push(Self::Together { domain: domain.into(), voters, witnesses, votes });
            }
        }
        if !unplaced.is_empty() {
            flaws.push(Self::Unplaced { nodes: unplaced });
        }
        flaws
    }

    /// Whether it is an error: a witness is there for the loss of another vote, and this takes it with that (F38). Voters have
    /// to be where units run, and with two domains one of them always has half of the votes.
    #[must_use]
    pub fn is_error(&self) -> bool {
        match self {
            Self::Together { voters, witnesses, .. } => !voters.is_empty() && !witnesses.is_empty(),
            Self::Unplaced { .. } => false,
        }
    }
}

/// What is wrong with where the cluster's votes are.
#[must_use]
pub fn check_votes(state: &State) -> Vec<VoteFlaw> {
    let nodes = state.nodes.iter().map(|(id, node)| (*id, node.role, &node.attributes));
    VoteFlaw::among(&state.settings, nodes)
}
