//! The fence devices of a document, held against what is known of fence agents.
//!
//! Reads the text for itself and passes over what [`super::read`] finds wrong, so that all mistakes are shown at once.
//! What needs no agent is part of [`super::parse`], wherever that runs; what an agent has to be asked for is checked on
//! the node where an operator gives the document, by the process that read it, before anything is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use units::Severity;

use super::Document;
use crate::config::Finding;
use crate::fence_agents::{self, AskError, Given, Look, Plug, Remark, Spot, Table};

/// What was found in the devices of a document.
#[derive(Debug, Default)]
pub struct Findings {
    /// What may not be applied.
    pub errors: Vec<Finding>,
    /// What is probably not meant.
    pub warnings: Vec<Finding>,
}

/// A device and where everything in it stands.
pub(super) struct Placed {
    pub(super) name: String,
    place: Range<usize>,
    given: Given,
    spans: BTreeMap<Spot, Range<usize>>,
}

impl Placed {
    /// Where a remark belongs; what is not there belongs to the device's heading.
    pub(super) fn span(&self, spot: &Spot) -> Range<usize> {
        self.spans.get(spot).unwrap_or(&self.place).clone()
    }
}

/// The agents that a document names.
#[must_use]
pub fn agents(text: &str) -> BTreeSet<String> {
    let Ok(table) = DeTable::parse(text) else { return BTreeSet::new() };
    devices(table.get_ref()).into_iter().map(|device| device.given.agent).collect()
}

/// The devices of a document against what their agents say, which is in `looks`, and against the programs and files below `root`.
///
/// A device that is `in_force` as it stands is warned of at the most: this node may have another version of its agent than
/// those that use it, and nobody shall be kept from changing something else.
#[must_use]
pub fn against_agents(
    text: &str,
    path: &Path,
    root: &Path,
    looks: &BTreeMap<String, Look>,
    in_force: &str,
) -> Findings {
    let mut found = Findings::default();
    let Ok(table) = DeTable::parse(text) else { return found };
    let present = DeTable::parse(in_force).map(|table| devices(table.get_ref())).unwrap_or_default();
    for device in devices(table.get_ref()) {
        let stands = present.iter().any(|known| known.name == device.name && known.given == device.given);
        let remarks = match looks.get(&device.given.agent) {
            Some(Ok(agent)) => {
                let mut remarks = fence_agents::check(&device.given, agent);
                remarks.extend(fence_agents::missing(root, &device.given, agent));
                remarks.extend(fence_agents::unprepared(root, &device.given));
                remarks
            }
            Some(Err(error)) => vec![unchecked(&device.given, error)],
            None => Vec::new(),
        };
        for remark in remarks {
            let finding = Finding::at(text, path, device.span(&remark.spot), &remark.message, &remark.help);
            match remark.severity {
                Severity::Error if !stands => found.errors.push(finding),
                Severity::Error | Severity::Warning | Severity::Hint => found.warnings.push(finding),
            }
        }
    }
    found
}

/// What a device said of its plugs when it was asked for one of its targets, or why it did not.
pub type Listed = Result<Vec<Plug>, String>;

/// The devices and targets that name a plug which the device can be asked for, and that are not `in_force` as they stand.
#[must_use]
pub fn listed_by(text: &str, looks: &BTreeMap<String, Look>, in_force: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let Ok(table) = DeTable::parse(text) else { return found };
    let present = DeTable::parse(in_force).map(|table| devices(table.get_ref())).unwrap_or_default();
    for device in devices(table.get_ref()) {
        let stands = present.iter().any(|known| known.name == device.name && known.given == device.given);
        let Some(Ok(agent)) = looks.get(&device.given.agent).filter(|_| !stands) else { continue };
        let nodes = device.given.targets.keys();
        let nodes = nodes.filter(|node| fence_agents::is_listed(&device.given, node, agent));
        found.extend(nodes.map(|node| (device.name.clone(), node.clone())));
    }
    found
}

/// The plugs of the targets against those that their devices list. A device that could not be asked is told of once.
#[must_use]
pub fn against_plugs(text: &str, path: &Path, lists: &BTreeMap<(String, String), Listed>) -> Findings {
    let mut found = Findings::default();
    let Ok(table) = DeTable::parse(text) else { return found };
    for device in devices(table.get_ref()) {
        let own = lists.iter().filter(|((name, _), _)| *name == device.name);
        let mut silent = false;
        for ((name, node), listed) in own {
            let (remark, place) = match listed {
                Ok(listed) => match fence_agents::missing_plug(&device.given, name, node, listed) {
                    Some(remark) => (remark, &mut found.errors),
                    None => continue,
                },
                Err(_) if std::mem::replace(&mut silent, true) => continue,
                Err(why) => (unlisted(name, why), &mut found.warnings),
            };
            let finding = Finding::at(text, path, device.span(&remark.spot), &remark.message, &remark.help);
            place.push(finding);
        }
    }
    found
}

fn unlisted(device: &str, why: &str) -> Remark {
    Remark {
        severity: Severity::Warning,
        spot: Spot::Device,
        message: format!("{device} could not be asked for its plugs from here: {why}"),
        help: "check its address and login; `convoke fence` shows whether the other nodes reach it"
            .to_owned(),
    }
}

/// A document as its reader took it, with what was found beside that: each place is complained of once, in the order of
/// the text.
///
/// # Errors
/// All mistakes.
pub fn joined(parsed: Result<Document, Vec<Finding>>, found: Findings) -> Result<Document, Vec<Finding>> {
    let (document, mut errors) = match parsed {
        Ok(document) => (Some(document), Vec::new()),
        Err(errors) => (None, errors),
    };
    let place = |finding: &Finding| (finding.line, finding.column);
    let known: BTreeSet<_> = errors.iter().map(place).collect();
    errors.extend(found.errors.into_iter().filter(|error| !known.contains(&place(error))));
    errors.sort_by_key(place);
    match document {
        Some(mut document) if errors.is_empty() => {
            document.warnings.extend(found.warnings);
            document.warnings.sort_by_key(place);
            Ok(document)
        }
        _ => Err(errors),
    }
}

/// What is known to lie or to fail, whichever machine it is looked at on.
pub(super) fn traps(table: &DeTable<'_>) -> Vec<(Range<usize>, Remark)> {
    let of = |device: &Placed| {
        let remarks = fence_agents::traps(&device.given).into_iter();
        remarks.map(|remark| (device.span(&remark.spot), remark)).collect::<Vec<_>>()
    };
    devices(table).iter().flat_map(of).collect()
}

/// It may well be good: other nodes may have the agent.
fn unchecked(given: &Given, error: &AskError) -> Remark {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    let help = match error {
        AskError::NotInstalled => {
            "repeat this on a node that has it; on Debian it is in the package fence-agents".to_owned()
        }
        _ => format!("try it by hand: `echo action=metadata | {}`", given.agent),
    };
    Remark {
        severity: Severity::Warning,
        spot: Spot::Agent,
        message: format!("the options for {} could not be checked here: {why}", given.agent),
        help,
    }
}

pub(super) fn devices(table: &DeTable<'_>) -> Vec<Placed> {
    let tables = table.get("fence").and_then(|fence| fence.get_ref().as_table());
    let tables = tables.into_iter().flatten();
    tables.filter_map(|(name, value)| Some(placed(name, value.get_ref().as_table()?))).collect()
}

fn placed(name: &Spanned<impl AsRef<str>>, table: &DeTable<'_>) -> Placed {
    let (name, place) = (name.get_ref().as_ref().to_owned(), name.span());
    let mut device = Placed { name, place, given: Given::default(), spans: BTreeMap::new() };
    for (key, value) in table {
        let inner = value.get_ref().as_table();
        match (key.get_ref().as_ref(), inner) {
            ("agent", _) => {
                device.given.agent = text(value).unwrap_or_default();
                device.spans.insert(Spot::Agent, value.span());
            }
            ("isolates", _) => device.given.isolates = text(value),
            ("options", Some(inner)) => {
                device.given.options = options(&mut device.spans, &Table::Options, inner)
            }
            ("secrets", Some(inner)) => {
                // The values say where the secrets are, and nothing here needs to know that.
                let names = options(&mut device.spans, &Table::Secrets, inner);
                device.given.secrets = names.into_keys().collect();
            }
            ("targets", Some(inner)) => {
                for (node, value) in inner {
                    let name = node.get_ref().to_string();
                    device.spans.insert(Spot::Target(name.clone()), node.span());
                    let own = value.get_ref().as_table();
                    let own = own.map(|own| options(&mut device.spans, &Table::Target(name.clone()), own));
                    device.given.targets.insert(name, own.unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    device
}

fn options(
    spans: &mut BTreeMap<Spot, Range<usize>>,
    table: &Table,
    values: &DeTable<'_>,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, value) in values {
        let name = key.get_ref().to_string();
        spans.insert(Spot::Name(table.clone(), name.clone()), key.span());
        spans.insert(Spot::Value(table.clone(), name.clone()), value.span());
        if let Some(text) = text(value) {
            found.insert(name, text);
        }
    }
    found
}

/// An option's value as agents get it; `None` if it cannot be one.
pub(super) fn text(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        // Agents say 1 and 0.
        DeValue::Boolean(yes) => Some(u8::from(*yes).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence_agents::Metadata;

    const SWITCH: &str = include_str!("../../fence_agents/samples/fence_switch.xml");
    const WHOLE: &str = r#"[fence.a]
agent = "fence_switch"
targets = { n1 = { plug = 1 }, n2 = { plug = 2 } }
options = { ip = "a", username = "fence", lanplus = true }
secrets = { password = "/etc/convoke/secrets/a" }

[fence.b]
agent = "fence_x"
targets = { n3 = {} }
options = { whatever = "1" }
"#;

    fn looks() -> BTreeMap<String, Look> {
        let switch = Metadata::parse(SWITCH).expect("good metadata");
        [
            ("fence_switch".to_owned(), Ok(switch)),
            ("fence_x".to_owned(), Err(AskError::NotInstalled)),
            ("fence_hang".to_owned(), Err(AskError::TimedOut { limit: fence_agents::LIMIT })),
            ("fence_badxml".to_owned(), Err(Metadata::parse("usage").expect_err("no XML").into())),
        ]
        .into()
    }

    fn found(text: &str) -> (Vec<String>, Vec<String>) {
        let found = against_agents(text, "cluster.toml".as_ref(), "/".as_ref(), &looks(), "");
        let shown = |finding: &Finding| {
            format!("{}:{} {} | {}", finding.line, finding.column, finding.message, finding.help)
        };
        (found.errors.iter().map(shown).collect(), found.warnings.iter().map(shown).collect())
    }

    #[test]
    fn an_agent_that_cannot_be_asked_makes_no_error() {
        let (errors, warnings) = found(WHOLE);
        assert_eq!(errors, [""; 0]);
        let [warning] = &warnings[..] else { panic!("{warnings:#?}") };
        assert!(
            warning.starts_with("8:9 the options for fence_x could not be checked here: it is not"),
            "{warning}"
        );
        let (errors, warnings) = found(&WHOLE.replace("fence_x", "fence_hang"));
        assert_eq!(errors, [""; 0]);
        assert!(
            warnings[0].contains("within 10 s | try it by hand: `echo action=metadata | fence_hang`"),
            "{warnings:?}"
        );
        let (_, warnings) = found(&WHOLE.replace("fence_x", "fence_badxml"));
        assert!(
            warnings[0].contains("here: what it prints is not XML: unknown token at 1:1 |"),
            "{warnings:?}"
        );
        assert_eq!(agents(WHOLE), ["fence_switch", "fence_x"].map(str::to_owned).into());
    }

    #[test]
    fn each_finding_has_its_place() {
        for (old, new, errors, warnings) in [
            (
                "lanplus = true",
                "lanplsu = true",
                &["4:43 fence_switch has no option `lanplsu` | `lanplus` may be meant"][..],
                &[][..],
            ),
            ("lanplus = true", "lanplus = 7", &["4:53 `lanplus` is a yes or a no"], &[]),
            ("n2 = { plug = 2 }", "n2 = { plug = 2, ipport = \"x\" }", &["3:58 `ipport` is a number"], &[]),
            (
                "username = \"fence\", ",
                "",
                &["3:13 fence_switch wants `username`", "3:32 fence_switch wants `username`"],
                &[],
            ),
            (
                "password =",
                "passwort =",
                &[
                    "5:13 fence_switch has no option `passwort` | `password` may be meant",
                    "3:13 fence_switch wants `password`",
                    "3:32 fence_switch wants `password`",
                ],
                &[],
            ),
            ("ip = \"a\"", "ipaddr = \"a\"", &[], &["4:13 `ipaddr` is the old name of `ip` | write `ip`"]),
            (
                "plug = 1",
                "serial = 1",
                &[],
                &["3:13 fence_switch wants `plug` (Which outlet), and nothing gives it for n1"],
            ),
        ] {
            let text = WHOLE.replacen(old, new, 1);
            let found = found(&text);
            // The agent that is not installed is not what this is about.
            let own: Vec<_> = found.1.into_iter().filter(|warning| !warning.starts_with("8:9")).collect();
            for (found, wanted) in [(&found.0, errors), (&own, warnings)] {
                assert_eq!(found.len(), wanted.len(), "{new}: {found:#?}");
                for (found, wanted) in found.iter().zip(wanted) {
                    assert!(found.starts_with(wanted), "{new}: {found}");
                }
            }
        }
    }

    #[test]
    fn all_mistakes_are_shown_at_once_and_each_place_once() {
        let text = WHOLE
            .replace("lanplus = true", "lanplsu = true, plug = \"9\"")
            .replace("n2 = {", "n9 = {")
            .replace("whatever", "action");
        let nodes = ["n1", "n2", "n3"].into_iter().zip(1..);
        let nodes = nodes.map(|(name, id)| (name.to_owned(), policy::NodeId(id))).collect();
        let path = "cluster.toml".as_ref();
        let parsed = super::super::parse(&text, path, &nodes);
        let errors =
            joined(parsed, against_agents(&text, path, "/".as_ref(), &looks(), "")).expect_err("mistakes");
        let places: Vec<_> = errors.iter().map(|error| (error.line, error.column)).collect();
        assert_eq!(places, [(3, 32), (4, 43), (4, 59), (10, 13)], "{errors:#?}");

        let parsed = super::super::parse(WHOLE, path, &nodes);
        let document = joined(parsed, against_agents(WHOLE, path, "/".as_ref(), &looks(), "")).expect("good");
        assert_eq!(document.warnings.len(), 1);
        let parsed = super::super::parse(WHOLE, path, &nodes);
        let text = WHOLE.replace("lanplus = true", "lanplus = 7");
        assert!(joined(parsed, against_agents(&text, path, "/".as_ref(), &looks(), "")).is_err());
    }

    #[test]
    fn a_plug_that_is_none_has_its_place_and_a_device_that_cannot_be_asked_is_told_of_once() {
        let switch = Metadata::parse(
            &SWITCH.replace("<action name=\"status\"/>", "<action name=\"list\"/><action name=\"status\"/>"),
        )
        .expect("good metadata");
        let looks: BTreeMap<String, Look> = [("fence_switch".to_owned(), Ok(switch))].into();
        let key = |node: &str| ("a".to_owned(), node.to_owned());
        assert_eq!(listed_by(WHOLE, &looks, ""), [key("n1"), key("n2")].into());
        assert_eq!(listed_by(WHOLE, &looks, WHOLE), BTreeSet::new(), "what stays as it is, is not asked for");
        let plugs = vec![Plug { id: "1".to_owned(), name: "n1".to_owned() }];
        let lists = [(key("n1"), Ok(plugs.clone())), (key("n2"), Ok(plugs))].into();
        let found = against_plugs(WHOLE, "cluster.toml".as_ref(), &lists);
        let [error] = &found.errors[..] else { panic!("{found:#?}") };
        assert_eq!((error.line, error.column, error.message.as_str()), (3, 46, "a lists no plug `2`"));
        assert_eq!(error.help, "it lists 1 (n1)");
        let lists =
            [(key("n1"), Err("no answer".to_owned())), (key("n2"), Err("no answer".to_owned()))].into();
        let found = against_plugs(WHOLE, "cluster.toml".as_ref(), &lists);
        assert!(found.errors.is_empty() && found.warnings.len() == 1, "{found:#?}");
    }

    #[test]
    fn what_is_no_settings_document_is_left_to_its_reader() {
        for text in [
            "not toml",
            "fence = 3",
            "[fence]\na = 3",
            "[fence.a]\nagent = 3\noptions = 4\ntargets = { n1 = 5 }",
        ] {
            assert_eq!(found(text), (Vec::new(), Vec::new()), "{text}");
        }
    }

    #[test]
    fn a_device_that_stays_as_it_is_keeps_nobody_from_changing_another() {
        let wrong = WHOLE.replace("lanplus = true", "lanplsu = true");
        let found = |text: &str, in_force: &str| {
            let found = against_agents(text, "cluster.toml".as_ref(), "/".as_ref(), &looks(), in_force);
            (found.errors.len(), found.warnings.iter().any(|warning| warning.message.contains("`lanplsu`")))
        };
        assert_eq!(found(&wrong, WHOLE), (1, false));
        assert_eq!(found(&wrong, &wrong), (0, true));
        let level = wrong.replace("agent = \"fence_switch\"", "agent = \"fence_switch\"\nlevel = 2");
        assert_eq!(found(&level, &wrong), (0, true), "what the agent is told has not changed");
    }
}
