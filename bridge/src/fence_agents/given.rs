//! A fence device as somebody has configured it, and what is to be said of it.

use std::collections::{BTreeMap, BTreeSet};

use units::Severity;

/// A device of the settings document. Secrets are names only: their values are of no concern here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The agent.
    pub agent: String,
    /// Options for all targets.
    pub options: BTreeMap<String, String>,
    /// Options whose values each node has by itself.
    pub secrets: BTreeSet<String>,
    /// `isolates`: how what it cuts is connected again.
    pub isolates: Option<String>,
    /// Options of each target, by the name of its node.
    pub targets: BTreeMap<String, BTreeMap<String, String>>,
}

/// A table of options in a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `options`.
    Options,
    /// `secrets`.
    Secrets,
    /// `targets`, of this node.
    Target(String),
}

impl Table {
    /// Whether it holds for one node only.
    pub(super) fn is_target(&self) -> bool {
        matches!(self, Self::Target(_))
    }
}

/// What of a device a remark is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// The device as a whole.
    Device,
    /// Its `agent`.
    Agent,
    /// One of its `targets`.
    Target(String),
    /// The name of an option.
    Name(Table, String),
    /// The value of an option.
    Value(Table, String),
}

/// Something that is wrong, or to be minded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// An error, or a warning.
    pub severity: Severity,
    /// Where.
    pub spot: Spot,
    /// What is wrong, and why.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Remark {
    /// What may not be applied.
    pub(super) fn refused(spot: Spot, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Error, spot, message: message.into(), help: help.into() }
    }

    /// What may be applied, and is probably not meant.
    pub(super) fn warned(spot: Spot, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, spot, message: message.into(), help: help.into() }
    }
}

impl Given {
    /// Every option with its value, wherever it stands; secrets have none.
    pub(super) fn all(&self) -> impl Iterator<Item = (Table, &str, Option<&str>)> {
        fn values(values: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, Option<&str>)> {
            values.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())))
        }
        let options = values(&self.options).map(|(name, value)| (Table::Options, name, value));
        let secrets = self.secrets.iter().map(|name| (Table::Secrets, name.as_str(), None));
        let targets = self.targets.iter().flat_map(|(node, own)| {
            values(own).map(move |(name, value)| (Table::Target(node.clone()), name, value))
        });
        options.chain(secrets).chain(targets)
    }

    /// The options of one of these names, in present spelling.
    pub(super) fn named<'a>(
        &'a self,
        names: &'a [&str],
    ) -> impl Iterator<Item = (Table, &'a str, Option<&'a str>)> {
        self.all().filter(|(_, name, _)| names.contains(&present(name).as_str()))
    }

    /// Whether a target's call has an option of that name, under any spelling.
    pub(super) fn has(&self, node: &str, name: &str) -> bool {
        self.call(node).any(|(_, given, _)| present(given) == name)
    }

    /// The value that a target's call has for an option, under any spelling; `None` for secrets too. What stands with
    /// the target counts more than what stands for all; both beside a secret are refused.
    pub(super) fn value<'a>(&'a self, node: &'a str, name: &str) -> Option<(Spot, &'a str)> {
        let found = self.call(node).filter(|(_, given, _)| present(given) == name);
        let (table, given, value) = found.max_by_key(|(table, ..)| table.is_target())?;
        Some((Spot::Value(table, given.to_owned()), value?))
    }

    fn call<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (Table, &'a str, Option<&'a str>)> {
        self.all().filter(move |(table, ..)| !matches!(table, Table::Target(other) if other != node))
    }
}

/// The present spelling of an option's name, of those that all agents share.
pub(crate) fn present(name: &str) -> String {
    let name = name.replace('-', "_");
    match name.as_str() {
        "ipaddr" => "ip".to_owned(),
        "login" => "username".to_owned(),
        "passwd" => "password".to_owned(),
        "passwd_script" => "password_script".to_owned(),
        "port" => "plug".to_owned(),
        _ => name,
    }
}

/// Whether an option says what a call of an agent is for. fence_xvm takes `option` for `action`, both in any letters.
pub(crate) fn says_what_to_do(name: &str) -> bool {
    ["action", "option"].iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// Whether agents take this for a yes.
pub(super) fn yes(value: &str) -> bool {
    ["1", "yes", "on", "true"].contains(&value.to_ascii_lowercase().as_str())
}

/// Whether agents take this for a no.
pub(super) fn no(value: &str) -> bool {
    ["0", "no", "off", "false"].contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A device of one line: `fence_x a=1 secret:b=/f n1:plug=3`; `n1:` alone is a target without options.
    pub(in crate::fence_agents) fn given(line: &str) -> Given {
        let mut words = line.split_whitespace();
        let mut given = Given { agent: words.next().unwrap_or_default().to_owned(), ..Given::default() };
        for word in words {
            let (table, option) = word.split_once(':').unwrap_or(("", word));
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let (name, value) = (name.to_owned(), value.to_owned());
            match table {
                "" if name == "isolates" => given.isolates = Some(value),
                "" => drop(given.options.insert(name, value)),
                "secret" => drop(given.secrets.insert(name)),
                node => {
                    let own = given.targets.entry(node.to_owned()).or_default();
                    if !name.is_empty() {
                        own.insert(name, value);
                    }
                }
            }
        }
        given
    }

    #[test]
    fn a_targets_own_option_counts_more_and_spellings_do_not() {
        let given = given("fence_x snmp-version=1 port=1 secret:passwd n1:snmp_version=2c n2:");
        let value = |node, name| given.value(node, name).map(|(_, value)| value);
        assert_eq!((value("n1", "snmp_version"), value("n2", "snmp_version")), (Some("2c"), Some("1")));
        assert_eq!((value("n1", "plug"), value("n1", "password")), (Some("1"), None));
        assert!(given.has("n2", "password") && !given.has("n2", "ip"));
        let spot = given.value("n1", "snmp_version").map(|(spot, _)| spot);
        assert_eq!(spot, Some(Spot::Value(Table::Target("n1".to_owned()), "snmp_version".to_owned())));
    }
}
