//! Agents that cut a node off from its disks or its network, and leave it running.

use std::collections::BTreeMap;

use policy::Reconnect;

use super::super::given::{Given, Remark, Spot};
use super::super::metadata::Metadata;

/// Agents that cut a node off from its disks or its network, and how their nodes are let in again. Those of SCSI keys have each
/// node register itself (`on_target` in their metadata).
const CUTTERS: &[(&str, Reconnect)] = &[
    ("fence_brocade", Reconnect::AfterCut),
    ("fence_cisco_mds", Reconnect::AfterCut),
    ("fence_ifmib", Reconnect::AfterCut),
    ("fence_mpath", Reconnect::ByNode),
    ("fence_sanbox2", Reconnect::AfterCut),
    ("fence_scsi", Reconnect::ByNode),
];

/// A node without its disks or its network runs on, and may hold what needs neither, a service address for one (F4).
pub(in crate::fence_agents) fn cuts_off(given: &Given) -> Remark {
    let message = format!(
        "{} cuts a node off and leaves it running: only units with `Fencing=isolated` take that for a proof",
        given.agent
    );
    let help = "all that such a unit shares with others must lie behind what is cut; others need a power switch, on a level of \
                its own";
    Remark::warned(Spot::Agent, message, help)
}

/// How an agent that is known to cut nodes off only lets them in again.
#[must_use]
pub fn known_to_isolate(agent: &str) -> Option<Reconnect> {
    CUTTERS.iter().find(|(name, _)| *name == agent).map(|(_, how)| *how)
}

/// What its own metadata say of that: nodes need its `on` in each boot.
#[must_use]
pub fn says_that_it_isolates(metadata: &Metadata) -> Option<Reconnect> {
    let on = metadata.action("on")?;
    match (on.on_target, on.automatic) {
        (true, _) => Some(Reconnect::ByNode),
        (false, true) => Some(Reconnect::AtBoot),
        (false, false) => None,
    }
}

/// Whether an agent cuts nodes off, and switches no power.
#[must_use]
pub fn isolates(agent: &str, metadata: &Metadata) -> bool {
    known_to_isolate(agent).is_some() || says_that_it_isolates(metadata).is_some()
}

/// `fence_scsi` without `key` makes one of what `corosync-cmapctl` says of the cluster and of the node, and fails where there is no
/// corosync. `fence_mpath` makes none, and takes it as `plug` too. Of one key for two nodes neither can be told apart.
pub(super) fn key_of_each(given: &Given) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut before: BTreeMap<String, &String> = BTreeMap::new();
    for node in given.targets.keys() {
        let names = key_names(given);
        let Some((spot, value)) = names.iter().find_map(|name| given.value(node, name)) else {
            // One that is kept as a secret is not known here.
            if !names.iter().any(|name| given.has(node, name)) {
                remarks.push(no_key(given, node));
            }
            continue;
        };
        // The agents leave out zeros in front, and write in small letters.
        let plain = value.trim().trim_start_matches("0x").trim_start_matches('0').to_ascii_lowercase();
        if let Some(other) = before.insert(plain, node) {
            let message = format!(
                "{other} and {node} have the same key: to fence one of them cuts off both, and each says `on` for the other"
            );
            remarks.push(Remark::refused(
                spot,
                message,
                "give each target a `key` of its own: hexadecimal, not 0",
            ));
        }
    }
    remarks
}

fn key_names(given: &Given) -> &'static [&'static str] {
    if given.agent == "fence_mpath" { &["key", "plug"] } else { &["key"] }
}

fn no_key(given: &Given, node: &str) -> Remark {
    let message = match given.agent.as_str() {
        "fence_mpath" => format!("{} has no key for {node}, and knows none by itself", given.agent),
        _ => format!(
            "{} without `key` asks corosync for the cluster's name and for {node}, and fails where there is none",
            given.agent
        ),
    };
    let help = format!(
        "write `{node} = {{ key = \"c0de0001\" }}`: hexadecimal, not 0, and another one for each node{}",
        if given.agent == "fence_mpath" { "; the same stands in /etc/multipath.conf there" } else { "" }
    );
    Remark::warned(Spot::Target(node.to_owned()), message, help)
}
