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
    /// Nodes, from 1, that join as witnesses: with a vote, and without units.
    pub witnesses: Vec<usize>,
    /// Whether each node gets its power switch as a fence device.
    pub fencing: bool,
    /// Whether each node has a watchdog.
    pub watchdog: bool,
    /// Whether there is a storage array.
    pub array: bool,
    /// Agent of the fence devices.
    pub agent: &'static str,
    /// Deadline of one call of an agent, in seconds.
    pub agent_timeout_s: u32,
    /// `quarantine`, in seconds: short, so that one part's power cut does not hold up the next.
    pub quarantine_s: u32,
    /// Debian's packages for each node, beyond the lab's own.
    pub packages: Vec<String>,
    /// More files for each node.
    pub extra: Vec<ExtraFile>,
}

/// What the recipes are for, clients of both, and a proxy. One image for all of them.
const CLUSTERED: [&str; 7] =
    ["mariadb-server", "galera-4", "rsync", "rabbitmq-server", "python3-pika", "haproxy", "python3-pymysql"];

impl Plan {
    /// Three voters that have the clustered servers of the recipes.
    #[must_use]
    pub fn clustered() -> Plan {
        let mut plan = Plan::three();
        plan.packages = CLUSTERED.map(str::to_owned).to_vec();
        plan
    }

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
            witnesses: Vec::new(),
            fencing: true,
            watchdog: false,
            array: false,
            agent: "fence_ipmilan",
            agent_timeout_s: 6,
            quarantine_s: 3,
            packages: Vec::new(),
            extra: Vec::new(),
        }
    }
}
