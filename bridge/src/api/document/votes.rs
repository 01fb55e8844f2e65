//! Where the votes would be under a document, told before it is in force.
//!
//! Warnings only, also where `convoke check` then finds an error: that a witness is of little use where it is shall keep nobody
//! from giving a node its device.

use std::collections::BTreeMap;
use std::path::Path;

use policy::{NodeId, Role, VoteFlaw};
use toml::de::DeTable;

use super::{Document, Findings};
use crate::api::picture::vote_sentence;
use crate::config::Finding;

/// A document that was read from this text against the roles of the nodes, which are with their names.
#[must_use]
pub fn against_votes(
    text: &str,
    path: &Path,
    document: &Document,
    nodes: &BTreeMap<NodeId, (String, Role)>,
) -> Findings {
    let mut found = Findings::default();
    let Ok(table) = DeTable::parse(text) else { return found };
    let Some(setting) = table.get_ref().get("failure_domain") else { return found };
    let attribute = document.settings.failure_domain.as_deref().unwrap_or_default();
    let none = BTreeMap::new();
    let placed = nodes.iter().map(|(id, (_, role))| {
        let attributes = document.attributes.get(id).unwrap_or(&none);
        (*id, *role, attributes)
    });
    let name = |id: NodeId| nodes.get(&id).map_or_else(|| id.to_string(), |(name, _)| name.clone());
    for flaw in VoteFlaw::among(&document.settings, placed) {
        let sentence = vote_sentence(&flaw, attribute, name);
        found.warnings.push(Finding::at(text, path, setting.span(), &sentence.text, &sentence.remedy));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::document;

    fn nodes() -> BTreeMap<NodeId, (String, Role)> {
        let roles = [("n1", Role::Voter), ("n2", Role::Voter), ("w1", Role::Witness), ("n4", Role::Member)];
        (1..).map(NodeId).zip(roles.map(|(name, role)| (name.to_owned(), role))).collect()
    }

    fn told(text: &str) -> Vec<Finding> {
        let names = nodes().into_iter().map(|(id, (name, _))| (name, id)).collect();
        let document = document::parse(text, "cluster.toml".as_ref(), &names).expect("a good document");
        let found = against_votes(text, "cluster.toml".as_ref(), &document, &nodes());
        assert!(found.errors.is_empty(), "{:?}", found.errors);
        found.warnings
    }

    #[test]
    fn a_witness_beside_a_voter_is_told_at_the_setting() {
        let text = "detect = \"2s\"\nfailure_domain = \"room\"\n\
                    [node.n1]\nroom = \"r1\"\n[node.n2]\nroom = \"r2\"\n[node.w1]\nroom = \"r1\"\n";
        let found = told(text);
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((finding.line, finding.column), (2, 18), "{finding}");
        assert_eq!(
            finding.message,
            "w1 is a witness in the same `room` (r1) as n1: what takes that takes 2 of 3 votes, and leaves no quorum"
        );
        assert_eq!(told(&text.replace("[node.w1]\nroom = \"r1\"", "[node.w1]\nroom = \"r3\"")), []);
    }

    #[test]
    fn without_the_setting_nothing_is_known() {
        assert_eq!(told("[node.n1]\nroom = \"r1\"\n[node.w1]\nroom = \"r1\"\n"), []);
    }

    #[test]
    fn who_votes_and_has_no_such_attribute_is_told_and_a_member_is_not() {
        let found = told("failure_domain = \"room\"\n[node.n2]\nroom = \"r2\"\nrack = \"a\"\n");
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            finding.message,
            "n1 and w1 have no attribute `room`: nothing says what they fail together with"
        );
    }
}
