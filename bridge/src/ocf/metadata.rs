//! Reads what a resource agent says of itself: the XML that its action `meta-data` prints (`ra-api-1.dtd`).

use std::time::Duration;

use roxmltree::{Document, Node, ParsingOptions};
use serde::Serialize;
use units::section::timespan::{self, TimeSpan};

use crate::xml::{self, below, children, line, yes};

/// The largest of Debian 12 has some 700 nodes; this bounds the memory that odd output may take.
const NODES_MAX: u32 = 20_000;

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Its own name.
    pub name: String,
    /// What it is for, in one line; may be empty.
    pub short: String,
    /// Its parameters, in its own order.
    pub parameters: Vec<Parameter>,
    /// What it can do.
    pub actions: Vec<Action>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Whether the agent does nothing without it.
    pub required: bool,
    /// `string`, `integer`, `boolean`; agents write others too, which count as text.
    pub kind: String,
    /// Its value if it is not given.
    pub default: Option<String>,
    /// What it is for; may be empty.
    pub short: String,
    /// The same at length, of several lines; may be empty.
    #[serde(skip)]
    pub long: String,
}

/// Something that an agent can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// `start`, `stop`, `monitor` and so on.
    pub name: String,
    /// How long it may take, if the agent says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How often it is wanted, if the agent says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
}

/// Why a text is no agent's metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Not XML at all, or too much of it.
    #[error("what it prints as meta-data is not XML")]
    Xml(#[source] roxmltree::Error),
    /// Other XML.
    #[error("what it prints as meta-data is a `{0}`, not a `resource-agent`")]
    Root(String),
    /// An element without its `name`.
    #[error("a `{0}` in its meta-data has no name")]
    Nameless(String),
    /// It cannot be run as a unit.
    #[error("it has no action `{0}`")]
    Lacks(&'static str),
}

impl Metadata {
    /// Reads what an agent printed.
    ///
    /// # Errors
    /// If it is not the metadata of an agent with `start`, `stop` and `monitor`.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        // They name a document type; entities of one are expanded within the limit.
        let options = ParsingOptions { allow_dtd: true, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text.trim(), options).map_err(MetadataError::Xml)?;
        let root = document.root_element();
        if !root.has_tag_name("resource-agent") {
            return Err(MetadataError::Root(root.tag_name().name().to_owned()));
        }
        let metadata = Self {
            name: name(root)?,
            short: short(root),
            parameters: below(root, "parameters", "parameter").map(parameter).collect::<Result<_, _>>()?,
            actions: below(root, "actions", "action").map(action).collect::<Result<_, _>>()?,
        };
        let lacks = ["start", "stop", "monitor"].into_iter().find(|name| metadata.action(name).is_none());
        lacks.map_or(Ok(metadata), |name| Err(MetadataError::Lacks(name)))
    }

    /// The first action of that name.
    #[must_use]
    pub fn action(&self, name: &str) -> Option<&Action> {
        self.actions.iter().find(|action| action.name == name)
    }

    /// Whether its copies are promoted, one or more of them, by the cluster.
    #[must_use]
    pub fn promotable(&self) -> bool {
        self.action("promote").is_some()
    }
}

fn parameter(node: Node<'_, '_>) -> Result<Parameter, MetadataError> {
    let content = children(node, "content").next();
    let attribute = |name| content.and_then(|content| content.attribute(name)).map(str::to_owned);
    Ok(Parameter {
        name: name(node)?,
        required: yes(node, "required"),
        kind: attribute("type").unwrap_or_else(|| "string".to_owned()),
        default: attribute("default"),
        short: short(node),
        long: children(node, "longdesc").next().and_then(|long| long.text()).unwrap_or_default().to_owned(),
    })
}

fn action(node: Node<'_, '_>) -> Result<Action, MetadataError> {
    let of = |name| node.attribute(name).and_then(time);
    Ok(Action { name: name(node)?, timeout: of("timeout"), interval: of("interval") })
}

/// A time as agents write it, `20s`, `20` or `2m`: as systemd does. `None` if it is none, or 0.
fn time(text: &str) -> Option<Duration> {
    match timespan::parse(text)? {
        TimeSpan::Micros(us) => Some(Duration::from_micros(us)).filter(|time| !time.is_zero()),
        TimeSpan::Infinity => None,
    }
}

fn short(node: Node<'_, '_>) -> String {
    children(node, "shortdesc").next().and_then(|short| short.text()).map(line).unwrap_or_default()
}

fn name(node: Node<'_, '_>) -> Result<String, MetadataError> {
    xml::name(node).ok_or_else(|| MetadataError::Nameless(node.tag_name().name().to_owned()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Metadata of an agent that was never written.
    pub(in crate::ocf) const LAMP: &str = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="Lamp" version="1.0">
<version>1.0</version>
<shortdesc lang="en">Switches a
  lamp</shortdesc>
<parameters>
<parameter name="room" unique="1" required="1"><longdesc>Long</longdesc><shortdesc>Which room</shortdesc><content type="string"/></parameter>
<parameter name="watts"><content type="integer" default="60"/></parameter>
<parameter name="dim"><longdesc>Less light, or "night" for as little as it can</longdesc><content type="boolean" default="false"/></parameter>
<parameter name="bulb" required="1"><content type="select" default="led"/></parameter>
</parameters>
<actions>
<action name="start" timeout="40s"/>
<action name="stop" timeout="2m"/>
<action name="monitor" depth="0" timeout="20" interval="10s"/>
<action name="validate-all"/>
<action name="meta-data" timeout="5s"/>
</actions>
</resource-agent>"#;

    #[test]
    fn what_an_agent_says_of_itself_is_read() {
        let lamp = Metadata::parse(LAMP).expect("metadata");
        assert_eq!((lamp.name.as_str(), lamp.short.as_str()), ("Lamp", "Switches a lamp"));
        let names: Vec<_> =
            lamp.parameters.iter().map(|one| (one.name.as_str(), one.required, one.kind.as_str())).collect();
        let expected = [
            ("room", true, "string"),
            ("watts", false, "integer"),
            ("dim", false, "boolean"),
            ("bulb", true, "select"),
        ];
        assert_eq!(names, expected);
        let timeout = |name| lamp.action(name).and_then(|action| action.timeout);
        assert_eq!(timeout("start"), Some(Duration::from_secs(40)));
        assert_eq!(timeout("stop"), Some(Duration::from_secs(120)));
        assert_eq!(lamp.action("monitor").and_then(|it| it.interval), Some(Duration::from_secs(10)));
        assert_eq!(timeout("validate-all"), None);
        assert!(!lamp.promotable());
    }

    #[test]
    fn what_is_no_metadata_says_why() {
        let refused = |text: &str| Metadata::parse(text).expect_err("no metadata").to_string();
        assert!(refused("usage: Lamp {start|stop}").contains("not XML"));
        assert!(refused("<agent/>").contains("`agent`"));
        assert!(refused("<resource-agent/>").contains("no name"));
        let stop = LAMP.replace("name=\"stop\"", "name=\"halt\"");
        assert_eq!(refused(&stop), "it has no action `stop`");
        let bomb = r#"<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">
            <!ENTITY d "&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;">]><resource-agent name="x">&e;&e;&e;</resource-agent>"#;
        assert!(refused(bomb).contains("not XML"));
    }
}
