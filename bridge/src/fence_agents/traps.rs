//! Configurations that are known to lie or to fail, each with its reason.
//!
//! One table: what `convoke fence describe` tells of an agent, and what is refused or warned about when a device is
//! configured. No agent is asked for this. Numbers were measured with Debian 12's fence-agents 4.12.1, ipmitool 1.8.19
//! and net-snmp 5.9.3.

mod any;
mod cutters;
mod ipmi;
mod snmp;

use super::given::{Given, Remark, Spot};
use super::installed::OTHERS;
use super::metadata::Metadata;
use cutters::{disks_of_each, key_of_each};
use ipmi::{cipher, is_ipmi, lanplus};
use snmp::{reads_by_snmp, snmp_numbers};

pub(super) use cutters::{cuts_off, plain_key};
pub use cutters::{isolates, known_to_isolate, says_that_it_isolates};

/// A thing to know of some agents.
struct Trap {
    /// Whether it is about the agent of that name.
    about: fn(&str) -> bool,
    /// In words.
    note: &'static str,
    /// What of it can be seen in a configuration.
    check: Option<fn(&Given) -> Vec<Remark>>,
}

/// Agents whose word on a node's power is none, and why.
const PRETENDERS: &[(&str, &str)] = &[
    (
        "fence_crosslink",
        "its `off` and its `status` are a ping, so that a broken cable reads as a node that is off",
    ),
    ("fence_evacuate", "its `status` is what a scheduler has written down of the machine, and not its power"),
    ("fence_heuristics_ping", "it has no `status`, and pings others"),
    ("fence_kdump", "it has no `status`, and waits for a message of a crashed node"),
    (
        "fence_sbd",
        "it says off when a message was written to a disk, whatever the node does; what that rests on is a watchdog, and \
         `Fencing=watchdog` has that without a disk",
    ),
];

const TRAPS: &[Trap] = &[
    Trap {
        about: is_ipmi,
        note: "Give `lanplus = \"1\"` unless that is its default: without it the agent speaks IPMI 1.5, which most machines \
               refuse.",
        check: Some(lanplus),
    },
    Trap {
        about: is_ipmi,
        note: "Give `cipher = \"3\"` or `\"17\"`, whichever the machine's BMC allows: without it ipmitool first asks for the \
               suites, which costs 10 s a command where the BMC does not answer that.",
        check: Some(cipher),
    },
    Trap {
        about: is_ipmi,
        note: "A BMC that has lost its power together with its node is given up after 20 s; with `power_timeout = \"5\"` \
               after 5 s. A wrong password reads like a wrong address: `Unable to obtain correct plug status`.",
        check: None,
    },
    Trap {
        about: is_ipmi,
        note: "`off` takes 2.3 s, for `power_wait` is 2 by default; with `power_wait = \"0\"` it takes 0.2 s.",
        check: None,
    },
    Trap {
        about: |agent| agent == "fence_redfish",
        note: "Give each target its `systems_uri`: without it the last system behind the controller is switched off, \
               which may be another node's, and the agent reports success.",
        check: Some(systems_uri),
    },
    Trap {
        about: |agent| agent == "fence_redfish",
        note: "It waits for ever for a controller that does not answer; only the device's `timeout` ends it. A self-signed \
               certificate needs `ssl_insecure = \"1\"`. A wrong password reads like a wrong `systems_uri`: `Unable to get PowerState`.",
        check: None,
    },
    Trap {
        about: reads_by_snmp,
        note: "With SNMP 2c or 3 an outlet number that does not exist reads as off, and `off` of it succeeds at once. With \
               `snmp_version = \"1\"` it is an error; so is a wrong name, where the agent takes names of outlets.",
        check: Some(snmp_numbers),
    },
    Trap {
        about: reads_by_snmp,
        note: "A wrong community, or no device at the address, takes 6 s to fail.",
        check: None,
    },
    Trap {
        about: |agent| pretends(agent).is_some(),
        note: "It switches nothing off, whatever it says.",
        check: Some(no_proof),
    },
    Trap {
        about: |agent| OTHERS.contains(&agent),
        note: "It is named like an agent, and is none.",
        check: Some(|given| {
            let message = format!("{} is named like a fence agent, and is none", given.agent);
            let help = "`convoke fence agents` lists the agents; a person's word needs none: `convoke fence confirm NODE`";
            vec![Remark::refused(Spot::Agent, message, help)]
        }),
    },
    Trap {
        about: |agent| agent == "fence_dummy",
        note: "It is for tests: it writes a file, and switches nothing off.",
        check: Some(|_| {
            let message = "fence_dummy switches nothing off and says that it has: units will run twice";
            vec![Remark::warned(Spot::Agent, message, "never use it in production")]
        }),
    },
    Trap {
        about: |agent| matches!(agent, "fence_scsi" | "fence_mpath"),
        note: "It cuts a node off from disks with persistent reservations; the node lives on, and may still read them. Only \
               units with `Fencing=isolated` take that. Each node registers itself in each boot, before they start there.",
        check: Some(|given| vec![cuts_off(given)]),
    },
    Trap {
        about: |agent| matches!(agent, "fence_scsi" | "fence_mpath"),
        note: "Give each target a key of its own, with fence_scsi as `key`, with fence_mpath as `plug`: hexadecimal as the disk \
               lists it, in small letters without `0x` or zeros in front. Of one written otherwise `off` says success and does \
               nothing. Without any fence_scsi asks corosync, and fence_mpath has none.",
        check: Some(key_of_each),
    },
    Trap {
        about: |agent| matches!(agent, "fence_scsi" | "fence_mpath"),
        note: "Name in `devices` each disk as all nodes know it, by its WWID. `status` says on while the key is on one of them, \
               and off also where a disk has lost all keys: so the executor looks for its own key after each `off`.",
        check: Some(disks_of_each),
    },
    Trap {
        about: |agent| agent == "fence_mpath",
        note: "Each node has multipathd running, and `reservation_key 0xKEY` in /etc/multipath.conf, which is its own `plug`: \
               with another one it registers nothing, and without any it can fence nobody; the agent says no more than \
               `Failed to verify 1 device(s)`. Convoke registers no such node.",
        check: None,
    },
    Trap {
        about: |agent| matches!(agent, "fence_ifmib" | "fence_brocade" | "fence_cisco_mds" | "fence_sanbox2"),
        note: "It shuts a port of a switch; the node lives on behind it. Only units with `Fencing=isolated` take that. The port \
               is opened when the node has booted, is proven off, or is confirmed.",
        check: Some(|given| vec![cuts_off(given)]),
    },
    Trap {
        about: |agent| agent == "fence_powerman",
        note: "Without its daemon it hangs for more than 60 s; only the device's `timeout` ends it.",
        check: None,
    },
    Trap {
        about: |agent| matches!(agent, "fence_virt" | "fence_xvm"),
        note: "Every machine that has the key can switch off every guest.",
        check: None,
    },
];

/// What is known of an agent, in sentences.
#[must_use]
pub fn notes(agent: &str) -> Vec<&'static str> {
    TRAPS.iter().filter(|trap| (trap.about)(agent)).map(|trap| trap.note).collect()
}

/// What in a device is known to lie or to fail.
#[must_use]
pub fn traps(given: &Given) -> Vec<Remark> {
    let its = TRAPS.iter().filter(|trap| (trap.about)(&given.agent)).filter_map(|trap| trap.check);
    its.chain(any::ALWAYS.iter().copied()).flat_map(|check| check(given)).collect()
}

fn systems_uri(given: &Given) -> Vec<Remark> {
    let without = given
        .targets
        .keys()
        .filter(|node| given.value(node, "systems_uri").is_none_or(|(_, uri)| uri.trim().is_empty()));
    let remark = |node: &String| {
        let message = "fence_redfish without `systems_uri` may switch off another system, and report success";
        let help = format!(
            "write `{node} = {{ systems_uri = \"/redfish/v1/Systems/ID\" }}`; the controller lists them at /redfish/v1/Systems"
        );
        Remark::refused(Spot::Target(node.clone()), message, help)
    };
    without.map(remark).collect()
}

fn pretends(agent: &str) -> Option<&'static str> {
    PRETENDERS.iter().find(|(name, _)| *name == agent).map(|(_, why)| *why)
}

fn no_proof(given: &Given) -> Vec<Remark> {
    let why = pretends(&given.agent).unwrap_or("it has no `status`");
    let message = format!("{} never proves that a node is off: {why}", given.agent);
    vec![Remark::refused(Spot::Agent, message, "use a power switch; `convoke fence agents` lists the agents")]
}

/// Why no device may use an agent at all; in words that follow its name.
#[must_use]
pub fn useless(agent: &str, metadata: &Metadata) -> Option<String> {
    let lacks = metadata.lacks();
    if !lacks.is_empty() {
        return Some(format!("it cannot prove a node off: it has no `{}`", lacks.join("` and no `")));
    }
    pretends(agent).map(|why| format!("it cannot prove a node off: {why}"))
}

/// Whether an agent can prove that a node is off.
#[must_use]
pub fn proves_off(agent: &str, metadata: &Metadata) -> bool {
    useless(agent, metadata).is_none() && !isolates(agent, metadata)
}

#[cfg(test)]
mod tests;
