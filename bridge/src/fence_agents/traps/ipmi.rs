//! `fence_ipmilan` and its kin.

use super::super::given::{Given, Remark, Spot, yes};

/// `fence_ipmilan` under all its names, and whether it speaks IPMI 2.0 without being told to.
const IPMI: &[(&str, bool)] = &[
    ("fence_ipmilan", false),
    ("fence_idrac", false),
    ("fence_imm", false),
    ("fence_ilo3", true),
    ("fence_ilo4", true),
    ("fence_ilo5", true),
    ("fence_ipmilanplus", true),
];

pub(super) fn is_ipmi(agent: &str) -> bool {
    IPMI.iter().any(|(name, _)| *name == agent)
}

pub(super) fn lanplus(given: &Given) -> Vec<Remark> {
    let default = IPMI.contains(&(given.agent.as_str(), true));
    let old = |node: &String| !given.value(node, "lanplus").map_or(default, |(_, value)| yes(value));
    if !given.targets.keys().any(old) {
        return Vec::new();
    }
    let help = "add `lanplus = \"1\"` to `options`: IPMI 2.0, which nearly every machine wants";
    vec![Remark::warned(Spot::Device, format!("{} without `lanplus` speaks IPMI 1.5", given.agent), help)]
}

pub(super) fn cipher(given: &Given) -> Vec<Remark> {
    if given.targets.keys().all(|node| given.has(node, "cipher")) {
        return Vec::new();
    }
    let message =
        format!("{} without `cipher` depends on the version of ipmitool, and may be slow", given.agent);
    let help = "add `cipher = \"3\"` or `\"17\"` to `options`, whichever the machine's BMC allows";
    vec![Remark::warned(Spot::Device, message, help)]
}
