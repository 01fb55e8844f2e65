//! Agents that cut a node off from its disks or its network, and leave it running.

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
