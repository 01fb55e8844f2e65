//! Reads the document and finds everything that is wrong with it.

mod fence;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use policy::{AfterFence, Millis, NodeId, Settings};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use units::Severity;
use units::section::timespan::{self, TimeSpan};

use super::Document;
use crate::config::Finding;
pub(super) use fence::RECONNECT;

/// The same limits as the cluster's own.
const DETECT_RANGE: std::ops::RangeInclusive<Millis> = 500..=60_000;
const QUARANTINE_RANGE: std::ops::RangeInclusive<Millis> = 0..=3_600_000;

/// A cap that is never reached is left out of the document.
const STARTS_RANGE: std::ops::RangeInclusive<u32> = 1..=100_000;

/// Below this a command that came late may strike a node that has units again (field notes on fencing).
const LATE_STRIKE_MS: Millis = 15_000;
const TOP: &str = "the document has `detect`, `quarantine`, `starts_per_node`, `starts_per_cluster`, `after_fence`, \
                   `failure_domain`, tables `[fence.NAME]` and tables `[node.NAME]`";

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
                        if ms < LATE_STRIKE_MS {
                            self.mind(
                                value.span(),
                                "a power-off that a slow controller still had in its queue was seen to strike 12 s late: it \
                                 may strike a node that was given units again",
                                "leave `quarantine` at 15s or more",
                            );
                        }
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
}

/// A span in systemd's words, `500ms` or `1min 30s`; `infinity` is none here.
fn finite(text: &str) -> Option<Millis> {
    match timespan::parse(text)? {
        TimeSpan::Micros(us) => Some(us / 1_000),
        TimeSpan::Infinity => None,
    }
}
