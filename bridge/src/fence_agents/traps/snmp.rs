//! Agents that read outlets and ports by SNMP.

use super::super::given::{Given, Remark};

/// Agents that read an outlet's state by SNMP under its number, and take anything but the number for "on" as off.
struct Snmp {
    agent: &'static str,
    /// What it speaks if nothing is said; none: that depends on the rest, and is never 1.
    version: Option<&'static str>,
    /// Whether it looks an outlet's name up.
    takes_names: bool,
}

const SNMP: &[Snmp] = &[
    Snmp { agent: "fence_apc_snmp", version: Some("1"), takes_names: true },
    Snmp { agent: "fence_tripplite_snmp", version: Some("1"), takes_names: true },
    Snmp { agent: "fence_eaton_snmp", version: Some("1"), takes_names: true },
    Snmp { agent: "fence_ibmblade", version: Some("1"), takes_names: false },
    Snmp { agent: "fence_ifmib", version: Some("2c"), takes_names: true },
    Snmp { agent: "fence_ipdu", version: Some("3"), takes_names: true },
    Snmp { agent: "fence_emerson", version: None, takes_names: false },
    Snmp { agent: "fence_intelmodular", version: None, takes_names: false },
];

/// Whether an agent is one of these.
pub(super) fn reads_by_snmp(agent: &str) -> bool {
    snmp(agent).is_some()
}

fn snmp(agent: &str) -> Option<&'static Snmp> {
    SNMP.iter().find(|snmp| snmp.agent == agent)
}

pub(super) fn snmp_numbers(given: &Given) -> Vec<Remark> {
    let Some(snmp) = snmp(&given.agent) else { return Vec::new() };
    let mut remarks = Vec::new();
    for node in given.targets.keys() {
        let version = given.value(node, "snmp_version").map(|(_, version)| version).or(snmp.version);
        let Some((spot, plug)) = given.value(node, "plug").filter(|_| version != Some("1")) else { continue };
        // Several outlets of one feed: `2,3`.
        let number = |plug: &str| !plug.is_empty() && plug.bytes().all(|byte| byte.is_ascii_digit());
        if !plug.split(',').any(|plug| number(plug.trim())) {
            continue;
        }
        let message = format!(
            "with SNMP {}, {} reads a number that does not exist as off, and takes it for fenced",
            version.unwrap_or("2c or 3"),
            given.agent
        );
        let help = if snmp.takes_names {
            "give the name instead of its number, or `snmp_version = \"1\"`"
        } else {
            "give `snmp_version = \"1\"` if the device allows it, and switch the node off once by hand to see that the number is right"
        };
        remarks.push(Remark::warned(spot, message, help));
    }
    remarks
}
