//! The cluster's settings as one TOML document: `convoke config show | diff | apply`.
//!
//! The document is the whole: what it does not name is not there afterwards, so applying it twice changes nothing the
//! second time. Decides what may stand in it; every mistake is found at once, with its place. Knows no cluster beyond
//! the names of its nodes.

mod devices;
mod diff;
mod listed;
mod read;
mod secrets;
mod votes;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use policy::{Device, NodeId, Settings};

pub use devices::{Findings, Listed, against_agents, against_plugs, agents, joined, listed_by};
pub use diff::diff;
pub use listed::{Places, Written, list_actions, to_list, with_lists, without_lists};
pub use secrets::{Lacking, against_secrets, lacking};
pub use votes::against_votes;
pub use write::render;

use crate::config::Finding;

/// The settings in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Times.
    pub settings: Settings,
    /// Fence devices by name.
    pub devices: BTreeMap<String, Device>,
    /// Names and attributes of all nodes.
    pub nodes: BTreeMap<NodeId, (String, BTreeMap<String, String>)>,
}

impl Settled {
    /// The nodes by name.
    #[must_use]
    pub fn names(&self) -> BTreeMap<String, NodeId> {
        self.nodes.iter().map(|(id, (name, _))| (name.clone(), *id)).collect()
    }
}

/// A document that may be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Times.
    pub settings: Settings,
    /// Fence devices by name.
    pub devices: BTreeMap<String, Device>,
    /// Attributes of nodes; nodes without any are left out.
    pub attributes: BTreeMap<NodeId, BTreeMap<String, String>>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Finding>,
}

impl Document {
    /// What would be in force after this document.
    #[must_use]
    pub fn settle(&self, names: &BTreeMap<String, NodeId>) -> Settled {
        let attributes = |id| self.attributes.get(id).cloned().unwrap_or_default();
        Settled {
            settings: self.settings.clone(),
            devices: self.devices.clone(),
            nodes: names.iter().map(|(name, id)| (*id, (name.clone(), attributes(id)))).collect(),
        }
    }
}

/// Reads a document for a cluster of these nodes; `path` is for messages only.
///
/// # Errors
/// All mistakes, in the order of the text.
pub fn parse(text: &str, path: &Path, nodes: &BTreeMap<String, NodeId>) -> Result<Document, Vec<Finding>> {
    read::Reader::new(text, path, nodes).document()
}

/// Several mistakes as one text.
#[must_use]
pub fn listing(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

/// Something to mind as a text.
#[must_use]
pub fn warning(finding: &Finding) -> String {
    finding.to_string().replacen("error:", "warning:", 1)
}

#[cfg(test)]
mod tests;
