//! Where the votes are, as sentences: what `convoke check` and `config apply` show, and `status` as long as it stands.

use policy::{NodeId, VoteFlaw, check_votes};

use super::View;
use super::alarms::warning;
use super::findings::and;
use crate::api::model::{AlarmLine, FindingLine};

/// What is wrong, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteSentence {
    /// A stable word for it (`votes-together`).
    pub kind: &'static str,
    /// The nodes that it is about, by name.
    pub nodes: Vec<String>,
    /// What it is.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// A flaw as a sentence; `attribute` is the one that says which nodes fail together.
#[must_use]
pub fn vote_sentence(flaw: &VoteFlaw, attribute: &str, name: impl Fn(NodeId) -> String) -> VoteSentence {
    let named = |ids: &[NodeId]| -> Vec<String> { ids.iter().map(|id| name(*id)).collect() };
    match flaw {
        VoteFlaw::Together { domain, voters, witnesses, votes } => {
            let (voters, witnesses) = (named(voters), named(witnesses));
            let place = format!("the same `{attribute}` ({domain})");
            let lost = voters.len() + witnesses.len();
            let loss = format!("what takes that takes {lost} of {votes} votes, and leaves no quorum");
            let (fact, remedy) = match (voters.as_slice(), witnesses.as_slice()) {
                ([_, ..], [_, ..]) => (
                    match witnesses.as_slice() {
                        [witness] => format!("{witness} is a witness in {place} as {}", and(&voters)),
                        several => format!("{} are witnesses in {place} as {}", and(several), and(&voters)),
                    },
                    format!(
                        "let a machine elsewhere be the witness: on {0} `systemctl disable --now convoked`, then `convoke leave {0}` and \
                         `convoke token` here, and `convoke join --role witness TOKEN` there",
                        witnesses.first().map(String::as_str).unwrap_or_default()
                    ),
                ),
                _ => (
                    format!("{} are in {place}", and(voters.iter().chain(&witnesses))),
                    format!(
                        "leave no `{attribute}` half of the votes: one of these joins anew with `--role member`, and a \
                         machine elsewhere with `--role witness`"
                    ),
                ),
            };
            VoteSentence {
                kind: "votes-together",
                text: format!("{fact}: {loss}"),
                remedy,
                nodes: voters.into_iter().chain(witnesses).collect(),
            }
        }
        VoteFlaw::Unplaced { nodes } => {
            let nodes = named(nodes);
            let (have, fails) = if nodes.len() == 1 { ("has", "it fails") } else { ("have", "they fail") };
            VoteSentence {
                kind: "votes-unplaced",
                text: format!(
                    "{} {have} no attribute `{attribute}`: nothing says what {fails} together with",
                    and(&nodes)
                ),
                remedy: format!(
                    "write it below `[node.{}]` in the document for `convoke config apply FILE`",
                    nodes.first().map(String::as_str).unwrap_or_default()
                ),
                nodes,
            }
        }
    }
}

impl View<'_> {
    fn votes(&self) -> impl Iterator<Item = (bool, VoteSentence)> {
        let attribute = self.state.settings.failure_domain.as_deref().unwrap_or_default();
        let sentence = move |flaw: VoteFlaw| {
            let name = |id| self.state.node_name(id);
            (flaw.is_error(), vote_sentence(&flaw, attribute, name))
        };
        check_votes(self.state).into_iter().map(sentence)
    }

    /// All of it, as findings that are about no unit.
    pub(super) fn vote_findings(&self) -> Vec<FindingLine> {
        let line = |(is_error, sentence): (bool, VoteSentence)| FindingLine {
            severity: if is_error { "error" } else { "warning" }.to_owned(),
            kind: sentence.kind.to_owned(),
            unit: String::new(),
            nodes: sentence.nodes,
            idle: Vec::new(),
            text: sentence.text,
            remedy: sentence.remedy,
        };
        self.votes().map(line).collect()
    }

    /// As alarms: warnings all, as nothing is wrong before something is lost. So it is with two voters.
    pub(super) fn exposed_votes(&self) -> Vec<AlarmLine> {
        self.votes().map(|(_, sentence)| warning(sentence.text, sentence.remedy)).collect()
    }
}
