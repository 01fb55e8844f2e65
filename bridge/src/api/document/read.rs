//! Reads the document and finds everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use policy::{AfterFence, AgentAction, Device, Millis, NodeId, Settings};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use units::Severity;
use units::section::timespan::{self, TimeSpan};

use super::Document;
use crate::config::Finding;
use crate::fence_agents;
use crate::fence_agents::usable_name as usable_agent;
use crate::join::usable_name;

/// How a device that cuts nodes off lets them in again, in the document's words.
pub(super) const RECONNECT: [(&str, policy::Reconnect); 3] = [
    ("after-cut", policy::Reconnect::AfterCut),
    ("at-boot", policy::Reconnect::AtBoot),
    ("by-node", policy::Reconnect::ByNode),
];

/// Deadline of one call of an agent where none is given: `fence_ipmilan` gives up by itself after 20 s, twice.
const TIMEOUT_MS: Millis = 60_000;
const TIMEOUT_RANGE: std::ops::RangeInclusive<Millis> = 1_000..=600_000;
/// The same limits as the cluster's own.
const DETECT_RANGE: std::ops::RangeInclusive<Millis> = 500..=60_000;
const QUARANTINE_RANGE: std::ops::RangeInclusive<Millis> = 0..=3_600_000;

/// A cap that is never reached is left out of the document.
const STARTS_RANGE: std::ops::RangeInclusive<u32> = 1..=100_000;

/// Longer than a machine takes to write its memory away after a crash.
const DELAY_RANGE: std::ops::RangeInclusive<Millis> = 0..=600_000;
/// As many as anybody has seen, and as many as may fit on a page.
const LEVEL_RANGE: std::ops::RangeInclusive<u32> = 1..=9;
const RETRIES_RANGE: std::ops::RangeInclusive<u32> = 0..=9;
const AT_ONCE_RANGE: std::ops::RangeInclusive<u32> = 1..=1_000;

const TOP: &str = "the document has `detect`, `quarantine`, `starts_per_node`, `starts_per_cluster`, `after_fence`, \
                   `failure_domain`, tables `[fence.NAME]` and tables `[node.NAME]`";
const FENCE: &str = "a fence device has `agent`, `targets`, `options`, `secrets`, `timeout`, `timeouts`, `level`, `delay`, `retries`, \
                     `isolates` and `at_once`";

type Table<'t> = DeTable<'t>;
type Value<'t> = Spanned<DeValue<'t>>;

pub(super) struct Reader<'a> {
    text: &'a str,
    path: &'a Path,
    nodes: &'a BTreeMap<String, NodeId>,
    errors: Vec<(usize, Finding)>,
    warnings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, path: &'a Path, nodes: &'a BTreeMap<String, NodeId>) -> Self {
        Self { text, path, nodes, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn document(mut self) -> Result<Document, Vec<Finding>> {
        let table = match DeTable::parse(self.text) {
            Ok(table) => table,
            Err(error) => {
                let help = "this is TOML: `key = \"value\"`, texts in quotes, tables like `[fence.bmc-n1]`";
                self.wrong(error.span().unwrap_or(0..0), error.message(), help);
                return Err(self.findings());
            }
        };
        let mut settings = Settings::default();
        let mut devices = BTreeMap::new();
        let mut attributes = BTreeMap::new();
        for (key, value) in table.get_ref() {
            match key.get_ref().as_ref() {
                "detect" => {
                    if let Some(ms) = self.span(value, DETECT_RANGE) {
                        settings.detect_ms = ms;
                    }
                }
                "quarantine" => {
                    if let Some(ms) = self.span(value, QUARANTINE_RANGE) {
                        settings.quarantine_ms = ms;
                    }
                }
                "starts_per_node" => settings.starts_per_node = self.count(value, STARTS_RANGE),
                "starts_per_cluster" => settings.starts_per_cluster = self.count(value, STARTS_RANGE),
                "after_fence" => settings.after_fence = self.after_fence(value),
                "failure_domain" => settings.failure_domain = self.failure_domain(value),
                "fence" => devices = self.devices(value),
                "node" => attributes = self.attributes(value),
                other => self.wrong(key.span(), &format!("unknown key `{other}`"), TOP),
            }
        }
        for (span, remark) in super::devices::traps(table.get_ref()) {
            match remark.severity {
                Severity::Error => self.wrong(span, &remark.message, &remark.help),
                Severity::Warning | Severity::Hint => self.mind(span, &remark.message, &remark.help),
            }
        }
        self.levels(&devices, &table);
        self.one_target_each(&devices, &table);
        if self.errors.is_empty() {
            Ok(Document { settings, devices, attributes, warnings: self.warnings })
        } else {
            Err(self.findings())
        }
    }

    fn findings(mut self) -> Vec<Finding> {
        self.errors.sort_by_key(|(at, _)| *at);
        self.errors.into_iter().map(|(_, finding)| finding).collect()
    }

    fn wrong(&mut self, span: Range<usize>, message: &str, help: &str) {
        self.errors.push((span.start, Finding::at(self.text, self.path, span, message, help)));
    }

    fn mind(&mut self, span: Range<usize>, message: &str, help: &str) {
        self.warnings.push(Finding::at(self.text, self.path, span, message, help));
    }

    fn table<'v, 't>(&mut self, value: &'v Value<'t>, what: &str) -> Option<&'v Table<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong(value.span(), &format!("{what} is a table"), "write `{ key = \"value\" }`");
        }
        table
    }

    fn string(&mut self, value: &Value<'_>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(value.span(), "this is not a text", "put it in quotes");
        }
        text
    }

    fn span(&mut self, value: &Value<'_>, range: std::ops::RangeInclusive<Millis>) -> Option<Millis> {
        let ms = value.get_ref().as_str().and_then(finite);
        let Some(ms) = ms else {
            self.wrong(
                value.span(),
                "this is not a span of time",
                "write `\"500ms\"`, `\"2s\"` or `\"1min\"`",
            );
            return None;
        };
        if !range.contains(&ms) {
            let help = format!(
                "it may be from {} to {}",
                super::write::span(*range.start()),
                super::write::span(*range.end())
            );
            self.wrong(value.span(), "this span of time is out of range", &help);
            return None;
        }
        Some(ms)
    }

    fn count(&mut self, value: &Value<'_>, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let number = value.get_ref().as_integer().and_then(|number| number.to_string().parse::<u32>().ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let help = format!("write a number from {} to {}", range.start(), range.end());
            self.wrong(value.span(), "this is not a number that is possible here", &help);
        }
        number
    }

    fn after_fence(&mut self, value: &Value<'_>) -> AfterFence {
        match value.get_ref().as_str() {
            Some("on") => AfterFence::On,
            Some("off") => AfterFence::Off,
            _ => {
                let help = "write `\"off\"`: a fenced node stays off until a person looked at it; or `\"on\"`: it is \
                            switched on again";
                self.wrong(value.span(), "this does not say what becomes of a fenced node", help);
                AfterFence::Off
            }
        }
    }

    /// Any attribute may be given to nodes, so any may be named here.
    fn failure_domain(&mut self, value: &Value<'_>) -> Option<String> {
        let text = self.string(value)?;
        if text.is_empty() || text.contains(char::is_control) {
            let help = "write one that the nodes have below `[node.NAME]`, like `\"room\"`";
            self.wrong(value.span(), "this is not the name of an attribute", help);
        }
        Some(text)
    }

    fn attributes(&mut self, value: &Value<'_>) -> BTreeMap<NodeId, BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let Some(table) = self.table(value, "`node`") else { return found };
        for (name, value) in table {
            let id = self.node(name);
            let Some(table) = self.table(value, "what is said of a node") else { continue };
            let attributes = self.strings(table);
            if let (Some(id), false) = (id, attributes.is_empty()) {
                found.insert(id, attributes);
            }
        }
        found
    }

    fn node(&mut self, name: &Spanned<impl AsRef<str>>) -> Option<NodeId> {
        let known = self.nodes.get(name.get_ref().as_ref()).copied();
        if known.is_none() {
            let names: Vec<_> = self.nodes.keys().map(String::as_str).collect();
            let help = format!("its nodes are {}", names.join(", "));
            self.wrong(name.span(), &format!("no node `{}` in this cluster", name.get_ref().as_ref()), &help);
        }
        known
    }

    fn devices(&mut self, value: &Value<'_>) -> BTreeMap<String, Device> {
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
                    "write `secrets = {{ {name} = \"/etc/convoke/secrets/FILE\" }}`, a file that only root reads"
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
            if value.get_ref().as_str().is_some_and(|path| !path.starts_with('/')) {
                let help = "write the file's whole path; it has to be on every node that may run the agent";
                self.wrong(value.span(), "this is not the path of a file", help);
            }
        }
        self.strings(table)
    }

    fn strings(&mut self, table: &Table<'_>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for (key, value) in table {
            let Some(text) = super::devices::text(value) else {
                self.wrong(value.span(), "this is not a text", "put it in quotes");
                continue;
            };
            if text.contains(['\n', '\r', '\0']) {
                self.wrong(value.span(), "this has more than one line", "agents take one line per option");
            }
            found.insert(key.get_ref().to_string(), text);
        }
        found
    }

    /// Two devices without a word on their levels: that both have to say off is not what everybody expects.
    fn levels(&mut self, devices: &BTreeMap<String, Device>, table: &Spanned<Table<'_>>) {
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
    fn one_target_each(&mut self, devices: &BTreeMap<String, Device>, table: &Spanned<Table<'_>>) {
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

/// A span in systemd's words, `500ms` or `1min 30s`; `infinity` is none here.
fn finite(text: &str) -> Option<Millis> {
    match timespan::parse(text)? {
        TimeSpan::Micros(us) => Some(us / 1_000),
        TimeSpan::Infinity => None,
    }
}
