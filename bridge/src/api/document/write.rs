//! Writes the settings in force as the document that makes them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy::{AfterFence, Device, Millis, NodeId};

use super::Settled;
use super::read::RECONNECT;
use crate::fence_agents;

/// The document, in one spelling: equal settings give equal texts.
#[must_use]
pub fn render(settled: &Settled) -> String {
    let mut out = String::new();
    let name = |id: &NodeId| settled.nodes.get(id).map_or_else(|| id.to_string(), |(name, _)| name.clone());
    let _ = writeln!(out, "detect = {}", quoted(&span(settled.settings.detect_ms)));
    let _ = writeln!(out, "quarantine = {}", quoted(&span(settled.settings.quarantine_ms)));
    for (key, most) in [
        ("starts_per_node", settled.settings.starts_per_node),
        ("starts_per_cluster", settled.settings.starts_per_cluster),
    ] {
        if let Some(most) = most {
            let _ = writeln!(out, "{key} = {most}");
        }
    }
    if settled.settings.after_fence == AfterFence::On {
        let _ = writeln!(out, "after_fence = \"on\"");
    }
    if let Some(attribute) = &settled.settings.failure_domain {
        let _ = writeln!(out, "failure_domain = {}", quoted(attribute));
    }
    for (device, found) in &settled.devices {
        let Device {
            agent,
            options,
            secrets,
            targets,
            timeout_ms,
            timeouts,
            level,
            delay_ms,
            retries,
            at_once,
            isolates,
        } = found;
        let _ = writeln!(out, "\n[fence.{}]", key(device));
        let _ = writeln!(out, "agent = {}", quoted(agent));
        let targets = targets.iter().map(|(node, options)| (name(node), options.clone())).collect();
        let _ = writeln!(out, "targets = {}", table_of(&targets));
        if !options.is_empty() {
            let _ = writeln!(out, "options = {}", inline(options));
        }
        if !secrets.is_empty() {
            let _ = writeln!(out, "secrets = {}", inline(secrets));
        }
        let _ = writeln!(out, "timeout = {}", quoted(&span(*timeout_ms)));
        if !timeouts.is_empty() {
            let own = timeouts.iter().map(|(action, ms)| (action.word().to_owned(), span(*ms)));
            let _ = writeln!(out, "timeouts = {}", inline(&own.collect()));
        }
        for (key, number, usual) in [("level", *level, 1), ("retries", *retries, 0), ("at_once", *at_once, 1)]
        {
            if number != usual {
                let _ = writeln!(out, "{key} = {number}");
            }
        }
        let isolates = isolates.filter(|how| fence_agents::known_to_isolate(agent) != Some(*how));
        if let Some((word, _)) = RECONNECT.iter().find(|(_, how)| isolates == Some(*how)) {
            let _ = writeln!(out, "isolates = {}", quoted(word));
        }
        if *delay_ms > 0 {
            let _ = writeln!(out, "delay = {}", quoted(&span(*delay_ms)));
        }
    }
    let mut nodes: Vec<_> = settled.nodes.values().filter(|(_, attributes)| !attributes.is_empty()).collect();
    nodes.sort();
    for (node, attributes) in nodes {
        let _ = writeln!(out, "\n[node.{}]", key(node));
        for (attribute, value) in attributes {
            let _ = writeln!(out, "{} = {}", key(attribute), quoted(value));
        }
    }
    out
}

/// `targets` in one line, by the names of the nodes.
pub(super) fn table_of(targets: &BTreeMap<String, BTreeMap<String, String>>) -> String {
    let one = |(node, options): (&String, &BTreeMap<String, String>)| {
        format!("{} = {}", key(node), inline(options))
    };
    format!("{{ {} }}", targets.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// A span of time in the largest unit that keeps it whole.
pub(super) fn span(ms: Millis) -> String {
    for (unit, factor) in [("h", 3_600_000), ("min", 60_000), ("s", 1_000)] {
        if ms >= factor
            && ms.is_multiple_of(factor)
            && (unit == "s" || ms / factor < 120)
            && (unit != "min" || ms > 120_000)
        {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

fn inline(values: &BTreeMap<String, String>) -> String {
    if values.is_empty() {
        return "{}".to_owned();
    }
    let parts: Vec<_> =
        values.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
    format!("{{ {} }}", parts.join(", "))
}

fn key(text: &str) -> String {
    let bare = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { text.to_owned() } else { quoted(text) }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
