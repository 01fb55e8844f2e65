//! Devices whose targets are what they list themselves: `targets = "list"`.
//!
//! A device is asked once, on the node where an operator gives the document, and its answer stands in the document from then on: what
//! is read, checked and sent has a table in that place, so that nothing is asked for at run time, and what was applied can be read.
//! Pure: text and lists in, text and remarks out. Which plug is which node's is decided in [`fence_agents::owners()`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;

use super::{Document, Listed, write};
use crate::config::Finding;
use crate::fence_agents::{self, AskError, Look};

/// The word that stands for a table.
const LIST: &str = "list";
/// What a person writes where a list says nothing.
const TABLE: &str = "write the table: `targets = { n1 = { plug = \"3\" } }`";

/// Where a document leaves the targets to a device, by the device's name.
pub type Places = BTreeMap<String, Range<usize>>;

/// A document with the targets that its devices list.
#[derive(Debug)]
pub struct Written {
    /// Its text.
    pub text: String,
    /// What the devices said, a line for each thing to know.
    pub notes: Vec<String>,
}

/// Where the devices of a document are to list their targets.
#[must_use]
pub fn to_list(text: &str) -> Places {
    let Ok(table) = DeTable::parse(text) else { return Places::new() };
    let devices = table.get_ref().get("fence").and_then(|fence| fence.get_ref().as_table());
    let place = |device: &DeTable<'_>| {
        let targets = device.get("targets")?;
        (targets.get_ref().as_str() == Some(LIST)).then(|| targets.span())
    };
    let devices = devices.into_iter().flatten();
    let places = devices.filter_map(|(name, device)| {
        Some((name.get_ref().to_string(), place(device.get_ref().as_table()?)?))
    });
    places.collect()
}

/// The document without any targets in these places, in which all else has its place: it can be read.
#[must_use]
pub fn without_lists(text: &str, places: &Places) -> String {
    replaced(text, places, |_, place| format!("{{{}}}", " ".repeat(place.len().saturating_sub(2))))
}

/// By which action each of these devices lists its plugs.
///
/// # Errors
/// The devices whose agents are not known here, or have no such action.
pub fn list_actions(
    text: &str,
    path: &Path,
    places: &Places,
    document: &Document,
    looks: &BTreeMap<String, Look>,
) -> Result<BTreeMap<String, &'static str>, Vec<Finding>> {
    let mut found = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, place) in places {
        let Some(device) = document.devices.get(name) else { continue };
        let agent = &device.agent;
        let (message, help) = match looks.get(agent) {
            Some(Ok(metadata)) => match fence_agents::lists_by(metadata) {
                Some(action) => {
                    found.insert(name.clone(), action);
                    continue;
                }
                None => {
                    (format!("{agent} has no `list`: it cannot be asked which plug is which node's"), TABLE)
                }
            },
            Some(Err(AskError::NotInstalled)) | None => (
                format!("{agent} is not installed here, so that {name} cannot be asked for its plugs"),
                "repeat this on a node that has it, or write `targets = { n1 = { plug = \"3\" } }`",
            ),
            Some(Err(error)) => (format!("{agent} cannot be asked whether it has a `list`: {error}"), TABLE),
        };
        wrong.push(Finding::at(text, path, place.clone(), &message, help));
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

/// The document with the targets that the devices listed for the nodes of the cluster.
///
/// # Errors
/// The devices that could not be asked, and the lists that do not say one plug of one node.
pub fn with_lists(
    (text, path): (&str, &Path),
    places: &Places,
    (document, looks): (&Document, &BTreeMap<String, Look>),
    lists: &BTreeMap<String, Listed>,
    nodes: &BTreeSet<String>,
) -> Result<Written, Vec<Finding>> {
    let mut tables: BTreeMap<&str, String> = BTreeMap::new();
    let mut notes = Vec::new();
    let mut wrong = Vec::new();
    for (name, place) in places {
        let mut refuse = |message: &str, help: &str| {
            wrong.push(Finding::at(text, path, place.clone(), message, help));
        };
        let listed = match lists.get(name) {
            Some(Ok(listed)) => listed,
            Some(Err(why)) => {
                let help = "check its address and login, repeat this on a node that reaches it, or write \
                            `targets = { n1 = { plug = \"3\" } }`";
                refuse(&format!("{name} could not be asked for its plugs from here: {why}"), help);
                continue;
            }
            None => {
                refuse(&format!("{name} was not asked for its plugs"), TABLE);
                continue;
            }
        };
        let owners = match fence_agents::owners(name, listed, nodes) {
            Ok(owners) => owners,
            Err(messages) => {
                let help = "call each plug on the device as its node is called, or write \
                            `targets = { n1 = { plug = \"3\" } }`";
                messages.iter().for_each(|message| refuse(message, help));
                continue;
            }
        };
        let agent = document.devices.get(name).and_then(|device| looks.get(&device.agent)?.as_ref().ok());
        let option = agent.map_or("plug", fence_agents::plug_option);
        let said: Vec<String> = owners.plugs.iter().map(|(node, plug)| format!("{node} as {plug}")).collect();
        notes.push(format!("{name} lists {}", said.join(", ")));
        if !owners.unlisted.is_empty() {
            notes.push(format!(
                "{name} does not list {}: no fence goes through it",
                owners.unlisted.join(", ")
            ));
        }
        let own = |(node, plug): (String, String)| (node, BTreeMap::from([(option.to_owned(), plug)]));
        tables.insert(name, write::table_of(&owners.plugs.into_iter().map(own).collect()));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let text = replaced(text, places, |name, _| tables.get(name).cloned().unwrap_or_default());
    Ok(Written { text, notes })
}

/// The text with something else in these places.
fn replaced(text: &str, places: &Places, by: impl Fn(&str, &Range<usize>) -> String) -> String {
    let mut places: Vec<_> = places.iter().collect();
    // From the end, so that those before stay where they are.
    places.sort_by_key(|(_, place)| std::cmp::Reverse(place.start));
    let mut text = text.to_owned();
    for (name, place) in places {
        text.replace_range(place.clone(), &by(name, place));
    }
    text
}

#[cfg(test)]
mod tests {
    use policy::NodeId;

    use super::*;
    use crate::fence_agents::{Metadata, Plug};

    const TEXT: &str = r#"# The strip knows.
[fence.feed-a]
agent = "fence_strip"
targets = "list" # each node by its name
options = { ip = "a" }

[fence.feed-b]
targets = 'list'
agent = "fence_strip"
level = 2
options = { ip = "b" }

[fence.bmc]
agent = "fence_bmc"
targets = { n1 = { ip = "c" } }
level = 3
"#;

    fn names() -> BTreeMap<String, NodeId> {
        [("n1".to_owned(), NodeId(1)), ("n2".to_owned(), NodeId(2)), ("n3".to_owned(), NodeId(3))].into()
    }

    fn looks(action: &str) -> BTreeMap<String, Look> {
        let text = format!(
            "<resource-agent name=\"fence_strip\"><parameters/><actions><action name=\"off\"/><action name=\"{action}\"/>\
             </actions></resource-agent>"
        );
        [("fence_strip".to_owned(), Ok(Metadata::parse(&text).expect("good metadata")))].into()
    }

    fn read(text: &str) -> Document {
        super::super::parse(text, "cluster.toml".as_ref(), &names()).expect("a good document")
    }

    fn listed(line: &str) -> Listed {
        let plug = |word: &str| {
            let (id, name) = word.split_once('=').unwrap_or((word, ""));
            Plug { id: id.to_owned(), name: name.to_owned() }
        };
        Ok(line.split_whitespace().map(plug).collect())
    }

    fn written(a: Listed, b: Listed) -> Result<Written, Vec<Finding>> {
        let places = to_list(TEXT);
        let document = read(&without_lists(TEXT, &places));
        let lists = [("feed-a".to_owned(), a), ("feed-b".to_owned(), b)].into();
        let nodes = names().into_keys().collect();
        with_lists((TEXT, Path::new("cluster.toml")), &places, (&document, &looks("list")), &lists, &nodes)
    }

    #[test]
    fn a_list_becomes_the_table_that_a_person_would_have_written() {
        let places = to_list(TEXT);
        assert_eq!(places.keys().collect::<Vec<_>>(), ["feed-a", "feed-b"]);
        let blank = without_lists(TEXT, &places);
        assert_eq!(blank.len(), TEXT.len());
        assert!(read(&blank).devices["feed-a"].targets.is_empty());
        let written = written(listed("1=n1 2=n2 3=ups"), listed("7=n2 n3")).expect("two lists");
        let expected = TEXT
            .replace("\"list\"", r#"{ n1 = { plug = "1" }, n2 = { plug = "2" } }"#)
            .replace("'list'", r#"{ n2 = { plug = "7" }, n3 = { plug = "n3" } }"#);
        assert_eq!(written.text, expected);
        assert_eq!(
            written.notes,
            [
                "feed-a lists n1 as 1, n2 as 2",
                "feed-a does not list n3: no fence goes through it",
                "feed-b lists n2 as 7, n3 as n3",
                "feed-b does not list n1: no fence goes through it",
            ]
        );
        assert_eq!(read(&written.text).devices["feed-a"].targets[&NodeId(2)]["plug"], "2");
        assert!(to_list(&written.text).is_empty());
    }

    #[test]
    fn what_a_device_cannot_say_is_shown_in_its_place() {
        let findings = written(listed("1=n1 2=n1"), Err("it did not answer within 20 s".to_owned()));
        let findings = findings.expect_err("two mistakes");
        let shown: Vec<_> =
            findings.iter().map(|finding| (finding.line, finding.column, finding.message.as_str())).collect();
        assert_eq!(
            shown,
            [
                (4, 11, "feed-a lists several plugs for n1: 1, 2"),
                (8, 11, "feed-b could not be asked for its plugs from here: it did not answer within 20 s"),
            ]
        );
        assert!(findings.iter().all(|finding| finding.help.contains("write `targets = {")));
    }

    #[test]
    fn an_agent_without_a_list_or_that_is_not_here_is_refused_before_anything_is_asked() {
        let places = to_list(TEXT);
        let document = read(&without_lists(TEXT, &places));
        let actions = |looks: BTreeMap<String, Look>| {
            list_actions(TEXT, "cluster.toml".as_ref(), &places, &document, &looks)
        };
        for action in ["list", "list-status"] {
            let found = actions(looks(action)).expect("both can be asked");
            assert_eq!(found.into_values().collect::<Vec<_>>(), [action, action]);
        }
        let missing = [("fence_strip".to_owned(), Err(AskError::NotInstalled))].into();
        for (looks, message) in [
            (looks("status"), "fence_strip has no `list`"),
            (missing, "fence_strip is not installed here"),
            (BTreeMap::new(), "fence_strip is not installed here"),
        ] {
            let findings = actions(looks).expect_err(message);
            assert_eq!(findings.len(), 2);
            assert!(findings[0].message.starts_with(message), "{}", findings[0]);
            assert!(findings[0].help.contains("`targets = {"), "{}", findings[0]);
            assert_eq!((findings[0].line, findings[1].line), (4, 8));
        }
    }

    #[test]
    fn another_word_is_no_list() {
        let text = TEXT.replace("\"list\"", "\"lists\"").replace("'list'", "{}");
        assert!(to_list(&text).is_empty());
        let findings = super::super::parse(&text, "cluster.toml".as_ref(), &names()).expect_err("a word");
        assert!(findings[0].message.contains("which nodes the device fences"), "{}", findings[0]);
        assert_eq!((findings[0].line, findings[0].column), (4, 11));
    }
}
