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

/// A key has 64 bits.
const KEY_DIGITS: usize = 16;

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

/// A key as disks list it, and as these agents compare it, by its letters: `0x0C0DE` is `c0de`.
pub(in crate::fence_agents) fn plain_key(key: &str) -> String {
    let key = key.trim().to_ascii_lowercase();
    key.strip_prefix("0x").unwrap_or(&key).trim_start_matches('0').to_owned()
}

/// `fence_scsi` without `key` makes one of what `corosync-cmapctl` says of the cluster and of the node, and fails where there is no
/// corosync. `fence_mpath` makes none, and takes it as `plug`. Of one key for two nodes neither can be told apart, and one that no
/// disk lists that way reads as gone: seen with both agents, whose `off` then says `Already OFF`.
pub(super) fn key_of_each(given: &Given) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut before: BTreeMap<String, (&String, Spot)> = BTreeMap::new();
    for node in given.targets.keys() {
        let names = key_names(given);
        let Some((spot, value)) = names.iter().find_map(|name| given.value(node, name)) else {
            // One that is kept as a secret is not known here.
            if !names.iter().any(|name| given.has(node, name)) {
                remarks.push(no_key(given, node));
            }
            continue;
        };
        let known = before.get(&plain_key(value));
        if known.is_none_or(|(_, other)| *other != spot) {
            remarks.extend(unlike_the_disks(given, spot.clone(), value));
        }
        if let Some((other, _)) = known {
            let message = format!(
                "{other} and {node} have the same key: to fence one of them cuts off both, and each says `on` for the other"
            );
            let help = format!("give each target a `{}` of its own", key_name(given));
            remarks.push(Remark::refused(spot.clone(), message, help));
        }
        before.insert(plain_key(value), (node, spot));
    }
    remarks
}

/// Where an agent finds it first.
fn key_names(given: &Given) -> &'static [&'static str] {
    if given.agent == "fence_mpath" { &["key", "plug"] } else { &["key"] }
}

/// Where it is to stand: `key` is an old name with fence_mpath.
fn key_name(given: &Given) -> &'static str {
    if given.agent == "fence_mpath" { "plug" } else { "key" }
}

fn unlike_the_disks(given: &Given, spot: Spot, value: &str) -> Option<Remark> {
    let plain = plain_key(value);
    let is_key =
        (1..=KEY_DIGITS).contains(&plain.len()) && plain.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Of zeros in front fence_scsi takes care.
    let as_compared = if given.agent == "fence_scsi" { value.trim_start_matches('0') } else { value };
    if is_key && as_compared == plain {
        return None;
    }
    let form = format!(
        "hexadecimal in small letters, without `0x` or zeros in front, {KEY_DIGITS} digits at the most"
    );
    let (message, help) = match is_key {
        true => (
            format!(
                "disks list the key `{value}` as `{plain}`: {} takes it for gone, and for fenced",
                given.agent
            ),
            format!("write `{plain}`: {form}"),
        ),
        false => {
            (format!("`{value}` is no key of a reservation"), format!("write one as in `c0de0001`: {form}"))
        }
    };
    Some(Remark::refused(spot, message, help))
}

fn no_key(given: &Given, node: &str) -> Remark {
    let mpath = given.agent == "fence_mpath";
    let message = match mpath {
        true => format!("{} has no key for {node}, and knows none by itself", given.agent),
        false => format!(
            "{} without `key` asks corosync for the cluster's name and for {node}, and fails where there is none",
            given.agent
        ),
    };
    let help = format!(
        "write `{node} = {{ {} = \"c0de0001\" }}`: hexadecimal, not 0, and another one for each node{}",
        key_name(given),
        if mpath { "; the same stands in /etc/multipath.conf there" } else { "" }
    );
    Remark::warned(Spot::Target(node.to_owned()), message, help)
}

/// The disks whose keys an agent takes: which they are has to be the same on all nodes. On another one a key reads as gone.
pub(super) fn disks_of_each(given: &Given) -> Vec<Remark> {
    let mut remarks: Vec<Remark> = Vec::new();
    for node in given.targets.keys() {
        let found = match given.value(node, "devices").filter(|(_, disks)| !disks.trim().is_empty()) {
            Some((spot, disks)) => {
                let disks = disks.split([',', ' ']).filter(|disk| !disk.is_empty());
                disks.filter_map(|disk| unsteady(given, &spot, disk)).collect()
            }
            None if given.secrets.iter().any(|name| name == "devices") => Vec::new(),
            None => vec![no_disks(given)],
        };
        for remark in found {
            if !remarks.contains(&remark) {
                remarks.push(remark);
            }
        }
    }
    remarks
}

fn no_disks(given: &Given) -> Remark {
    let help =
        "name the disks in `options`: `devices = \"/dev/disk/by-id/wwn-0x600…\"`, the same on all nodes";
    if given.agent == "fence_mpath" {
        let message = "fence_mpath without `devices` does nothing, and fails";
        let help = "name the maps in `options`: `devices = \"/dev/mapper/3600…\"`, the same on all nodes";
        return Remark::refused(Spot::Device, message, help);
    }
    let message = "fence_scsi without `devices` looks for clustered volume groups (clvmd), and fails where there are none";
    Remark::warned(Spot::Device, message, help)
}

/// Names that the kernel gives in the order in which it finds disks, and multipath where nobody named them.
fn unsteady(given: &Given, spot: &Spot, disk: &str) -> Option<Remark> {
    let counted = |prefix: &str, of: fn(&u8) -> bool| {
        disk.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| of(&byte)))
    };
    let path = counted("/dev/sd", u8::is_ascii_lowercase);
    if path && given.agent == "fence_mpath" {
        let message = format!("{disk} is one path to a disk; fence_mpath takes the map over all its paths");
        let help = "write `devices = \"/dev/mapper/3600…\"`, as `multipath -ll` lists it";
        return Some(Remark::refused(spot.clone(), message, help));
    }
    let map = counted("/dev/dm-", u8::is_ascii_digit) || counted("/dev/mapper/mpath", u8::is_ascii_lowercase);
    (path || map).then(|| {
        let message = format!(
            "{disk} may be another disk on another node, or after a boot; there the key reads as gone, and the node as fenced"
        );
        let help = match map {
            true => "name it by its WWID, `/dev/mapper/3600…`, or give it an `alias` in /etc/multipath.conf of each node",
            false => "name it by its WWID: `/dev/disk/by-id/wwn-0x600…`",
        };
        Remark::warned(spot.clone(), message, help)
    })
}
