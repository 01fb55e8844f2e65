//! How the cluster of a scenario is to be.

use lab::{ExtraFile, Suite};

/// The file with the power switches' password; root's only.
pub(crate) const SECRET: &str = "/etc/convoke/secrets/bmc";

/// What a scenario begins with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Debian of the nodes.
    pub suite: Suite,
    /// How many nodes the lab has.
    pub nodes: usize,
    /// Which of them become nodes of the cluster; the first makes it. Others stay bare machines.
    pub joined: usize,
    /// Nodes, from 1, that join without a vote.
    pub members: Vec<usize>,
    /// Whether each node gets its power switch as a fence device.
    pub fencing: bool,
    /// Agent of the fence devices.
    pub agent: &'static str,
    /// Deadline of one call of an agent, in seconds.
    pub agent_timeout_s: u32,
    /// `quarantine`, in seconds: short, so that one part's power cut does not hold up the next.
    pub quarantine_s: u32,
    /// More files for each node.
    pub extra: Vec<ExtraFile>,
}

impl Plan {
    /// Three voters on Debian 12, with power switches, and `witness.service` as an exclusive unit.
    #[must_use]
    pub fn three() -> Plan {
        Plan::of(3, Suite::Bookworm)
    }

    /// `nodes` voters.
    #[must_use]
    pub fn of(nodes: usize, suite: Suite) -> Plan {
        Plan {
            suite,
            nodes,
            joined: nodes,
            members: Vec::new(),
            fencing: true,
            agent: "fence_ipmilan",
            agent_timeout_s: 6,
            quarantine_s: 3,
            extra: Vec::new(),
        }
    }
}
