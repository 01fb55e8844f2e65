//! The tables `[fence.NAME]`: what is wrong with one device, and with several together.
//!
//! What is known of agents is looked up; whether an agent has the options that it is given is not for here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use policy::{AgentAction, Device, Millis, NodeId};
use toml::Spanned;

use super::{Reader, Table, Value};
use crate::fence_agents;
use crate::fence_agents::usable_name as usable_agent;
use crate::join::usable_name;
use crate::secrets::Source;

/// How a device that cuts nodes off lets them in again, in the document's words.
pub(in crate::api::document) const RECONNECT: [(&str, policy::Reconnect); 3] = [
    ("after-cut", policy::Reconnect::AfterCut),
    ("at-boot", policy::Reconnect::AtBoot),
    ("by-node", policy::Reconnect::ByNode),
];

/// Deadline of one call of an agent where none is given: `fence_ipmilan` gives up by itself after 20 s, twice.
const TIMEOUT_MS: Millis = 60_000;
const TIMEOUT_RANGE: std::ops::RangeInclusive<Millis> = 1_000..=600_000;

/// Longer than a machine takes to write its memory away after a crash.
const DELAY_RANGE: std::ops::RangeInclusive<Millis> = 0..=600_000;
/// As many as anybody has seen, and as many as may fit on a page.
const LEVEL_RANGE: std::ops::RangeInclusive<u32> = 1..=9;
const RETRIES_RANGE: std::ops::RangeInclusive<u32> = 0..=9;
const AT_ONCE_RANGE: std::ops::RangeInclusive<u32> = 1..=1_000;

const FENCE: &str = "a fence device has `agent`, `targets`, `options`, `secrets`, `timeout`, `timeouts`, `level`, `delay`, `retries`, \
                     `isolates` and `at_once`";

impl Reader<'_> {
    pub(super) fn devices(&mut self, value: &Value<'_>) -> BTreeMap<String, Device> {
        let mut found = BTreeMap::new();
        let Some(table) = self.table(value, "`fence`") else { return found };
        for (name, value) in table {
            let text = name.get_ref().as_ref();
            if !usable_name(text) {
                self.wrong(name.span(), "this cannot name a device", "use letters, digits, `-`, `_` and `.`");
            }
            let Some(table) = self.table(value, "a fence device") else { continue };
            if let Some(device) = self.device(name.span(), table) {
                found.insert(text.to_owned(), device);
            }
        }
        found
    }

    fn device(&mut self, place: Range<usize>, table: &Table<'_>) -> Option<Device> {
        let mut agent = None;
        let mut device = Device {
            agent: String::new(),
            options: BTreeMap::new(),
            secrets: BTreeMap::new(),
            targets: BTreeMap::new(),
            timeout_ms: TIMEOUT_MS,
            timeouts: BTreeMap::new(),
            level: *LEVEL_RANGE.start(),
            delay_ms: 0,
            retries: 0,
            at_once: 1,
            isolates: None,
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "agent" => agent = self.agent(value),
                "timeout" => device.timeout_ms = self.span(value, TIMEOUT_RANGE).unwrap_or(TIMEOUT_MS),
                "timeouts" => device.timeouts = self.timeouts(value),
                "level" => device.level = self.count(value, LEVEL_RANGE).unwrap_or(device.level),
                "delay" => device.delay_ms = self.span(value, DELAY_RANGE).unwrap_or(0),
                "retries" => device.retries = self.count(value, RETRIES_RANGE).unwrap_or(0),
                "isolates" => device.isolates = self.isolates(value),
                "at_once" => device.at_once = self.count(value, AT_ONCE_RANGE).unwrap_or(1),
                "options" => {
                    if let Some(table) = self.table(value, "`options`") {
                        device.options = self.options(table, false);
                    }
                }
                "secrets" => {
                    if let Some(table) = self.table(value, "`secrets`") {
                        device.secrets = self.secrets(table);
                    }
                }
                "targets" if value.get_ref().as_str().is_some() => {
                    let help = "write `{ n1 = { plug = \"3\" } }`, or in a file for `convoke config apply` `\"list\"`: it asks the \
                                device which plug is which node's";
                    self.wrong(value.span(), "this does not say which nodes the device fences", help);
                }
                "targets" => {
                    for (name, value) in self.table(value, "`targets`").into_iter().flatten() {
                        let node = self.node(name);
                        let Some(table) = self.table(value, "a target") else { continue };
                        let options = self.options(table, true);
                        if let Some(node) = node {
                            device.targets.insert(node, options);
                        }
                    }
                }
                other => self.wrong(key.span(), &format!("unknown key `{other}`"), FENCE),
            }
        }
        if !table.contains_key("agent") {
            self.wrong(place.clone(), "this device has no `agent`", "write `agent = \"fence_ipmilan\"`");
        }
        if !table.contains_key("targets") {
            let help = "write `targets = { n1 = { ip = \"10.0.0.1\" } }`; without targets it fences nobody";
            self.wrong(place.clone(), "this device has no `targets`", help);
        }
        device.agent = agent?;
        device.isolates = device.isolates.or_else(|| fence_agents::known_to_isolate(&device.agent));
        Some(device)
    }

    /// Deadlines of the calls for one action.
    fn timeouts(&mut self, value: &Value<'_>) -> BTreeMap<AgentAction, Millis> {
        let mut found = BTreeMap::new();
        for (key, value) in self.table(value, "`timeouts`").into_iter().flatten() {
            let word: &str = key.get_ref().as_ref();
            let Some(action) = AgentAction::ALL.into_iter().find(|action| action.word() == word) else {
                let help = "agents are called for `off`, `on`, `status` and `list`; an `off` is verified by a `status`, and \
                            that counts as one";
                self.wrong(key.span(), &format!("no agent is called for `{word}`"), help);
                continue;
            };
            if let Some(ms) = self.span(value, TIMEOUT_RANGE) {
                found.insert(action, ms);
            }
        }
        found
    }

    /// That a device only cuts its targets off, and how they are let in again.
    fn isolates(&mut self, value: &Value<'_>) -> Option<policy::Reconnect> {
        let text = self.string(value)?;
        let known = RECONNECT.iter().find(|(word, _)| *word == text).map(|(_, how)| *how);
        if known.is_none() {
            let help = "it is `after-cut` (what a fence has cut is switched on again), `at-boot` (each boot of a node is let in \
                        by another one) or `by-node` (each boot registers itself)";
            self.wrong(value.span(), "this does not say how a node is let in again", help);
        }
        known
    }

    fn agent(&mut self, value: &Value<'_>) -> Option<String> {
        let agent = self.string(value)?;
        // As the executor takes it: what it would refuse must not be found out in the first look.
        if !usable_agent(&agent) {
            let help = "give the name of a program of the package fence-agents, like `fence_ipmilan`, without a path";
            self.wrong(value.span(), &format!("`{agent}` is not the name of a fence agent"), help);
            return None;
        }
        Some(agent)
    }

    /// Options are handed to the agent as lines on its standard input: what would change the meaning of the call, or
    /// put a password into the log of the cluster, is refused.
    fn options(&mut self, table: &Table<'_>, of_target: bool) -> BTreeMap<String, String> {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            let lower = name.to_ascii_lowercase();
            if self.names_an_option(key)
                && matches!(lower.as_str(), "port" | "plug" | "nodename")
                && !of_target
            {
                let help = "write it into `targets`, as in `targets = { n1 = { plug = \"3\" } }`";
                self.wrong(key.span(), &format!("`{name}` says which node is switched off"), help);
            } else if lower.contains("passw") {
                let help = format!(
                    "write `secrets = {{ {name} = \"/etc/convoke/secrets/FILE\" }}`, a file that only root reads, or \
                     `\"credential:NAME\"`"
                );
                self.wrong(key.span(), "a password here would be readable in the log of the cluster", &help);
            }
        }
        self.strings(table)
    }

    /// Whether this is an option that a person may give: `action`, in whatever letters, and `option`, which some agents
    /// take for it, say what the call is for.
    fn names_an_option(&mut self, key: &Spanned<impl AsRef<str>>) -> bool {
        let name = key.get_ref().as_ref();
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') || name.is_empty() {
            let help = "see the agent's manual page for its options";
            self.wrong(key.span(), "this cannot name an option", help);
            return false;
        }
        if fence_agents::says_what_to_do(name) {
            self.wrong(key.span(), &format!("`{name}` is set by the cluster"), "leave it out");
            return false;
        }
        true
    }

    fn secrets(&mut self, table: &Table<'_>) -> BTreeMap<String, String> {
        for key in table.keys().filter(|key| self.names_an_option(key)).collect::<Vec<_>>() {
            let name = key.get_ref().as_ref();
            if matches!(fence_agents::present(name).as_str(), "plug" | "nodename" | "method") {
                let message =
                    format!("`{name}` is no secret: what is switched, and how, has to be seen and checked");
                self.wrong(key.span(), &message, "write it into `targets`, or into `options`");
            }
        }
        for value in table.values() {
            if let Some(Err(error)) = value.get_ref().as_str().map(Source::parse) {
                self.wrong(value.span(), &error.to_string(), error.help());
            }
        }
        self.strings(table)
    }

    /// Two devices without a word on their levels: that both have to say off is not what everybody expects.
    pub(super) fn levels(&mut self, devices: &BTreeMap<String, Device>, table: &Spanned<Table<'_>>) {
        let says = |device: &str| {
            let devices = table.get_ref().get("fence").and_then(|value| value.get_ref().as_table());
            let device = devices.and_then(|devices| devices.get(device)?.get_ref().as_table());
            device.is_some_and(|device| device.contains_key("level"))
        };
        let mut first: BTreeMap<(NodeId, u32), &str> = BTreeMap::new();
        let mut told = BTreeSet::new();
        for (name, device) in devices {
            for node in device.targets.keys() {
                let other = *first.entry((*node, device.level)).or_insert(name);
                let cuts = |name: &str| devices.get(name).is_some_and(|device| device.isolates.is_some());
                if cuts(other) != cuts(name) && told.insert(name) {
                    let place = place_of(table.get_ref(), name).unwrap_or(0..0);
                    let message = format!(
                        "`{other}` and `{name}` are of one level, and one of them only cuts nodes off"
                    );
                    let help = "give each a `level` of its own: together they prove no more than the cut, and the power switch is \
                                worth more alone";
                    self.wrong(place, &message, help);
                    continue;
                }
                // Once for each device: the other nodes read the same.
                if other == name || says(other) || says(name) || !told.insert(name) {
                    continue;
                }
                let place = place_of(table.get_ref(), name).unwrap_or(0..0);
                let whose = self.nodes.iter().find(|(_, id)| *id == node).map_or("a node", |(name, _)| name);
                let message = format!("{whose} is off only when both `{other}` and `{name}` say so");
                let help = format!(
                    "right for two feeds of one machine: say so by `level = {0}` in both; else give `{name}` a `level = \
                     {1}`, to be tried when `{other}` fails",
                    device.level,
                    device.level + 1
                );
                self.mind(place, &message, &help);
            }
        }
    }

    /// Two nodes by one call: the fence of either would switch off what the other hangs on, be proven by its status, and
    /// start the units of a node that lives.
    pub(super) fn one_target_each(&mut self, devices: &BTreeMap<String, Device>, table: &Spanned<Table<'_>>) {
        let mut calls: BTreeMap<Switched, (NodeId, &str)> = BTreeMap::new();
        for (name, device) in devices {
            for (node, own) in &device.targets {
                let call = (device.agent.clone(), switched(&device.options, own));
                let Some((other, before)) = calls.insert(call, (*node, name)) else { continue };
                let place = place_of(table.get_ref(), name).unwrap_or(0..0);
                if other == *node {
                    let help = "name another plug or address; one switch proves no more by being asked twice";
                    self.wrong(place, &format!("`{name}` switches the same as `{before}`"), help);
                    continue;
                }
                let called = |id| {
                    self.nodes.iter().find(|(_, known)| **known == id).map_or("a node", |(name, _)| name)
                };
                let message = format!(
                    "`{name}` would switch off the same for {} and for {}",
                    called(other),
                    called(*node)
                );
                let help = "say in each of the `targets` which one it is, as in `n1 = { plug = \"3\" }`, or with an `ip` \
                            where each has a device of its own";
                self.wrong(place, &message, help);
            }
        }
    }
}

/// An agent, and the options that say what it switches.
type Switched = (String, BTreeMap<String, String>);

/// What tells one call from another: all options but those that only say who asks, under their present names.
fn switched(options: &BTreeMap<String, String>, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let all = options.iter().chain(own).map(|(name, value)| (fence_agents::present(name), value.clone()));
    all.filter(|(name, _)| name != "username").collect()
}

fn place_of(table: &Table<'_>, device: &str) -> Option<Range<usize>> {
    let devices = table.get("fence")?.get_ref().as_table()?;
    devices.keys().find(|key| key.get_ref().as_ref() == device).map(Spanned::span)
}
