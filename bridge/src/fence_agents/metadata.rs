//! Reads what a fence agent says of itself: the XML that `action=metadata` prints.
//!
//! Pure: text in, [`Metadata`] out. The shape is that of `metadata.rng` of ClusterLabs' fence-agents; what is unknown in it
//! is passed over, and what Convoke rests on must be there.

use roxmltree::{Document, Node, ParsingOptions};
use serde::Serialize;

use crate::xml::{self, below, children, line, yes};

/// The agents of Debian 12 have less than 500 nodes; this bounds the memory that odd output may take.
const NODES_MAX: u32 = 20_000;

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Its own name, which is not always that of its file.
    pub name: String,
    /// What it is for, in one line; may be empty.
    pub short: String,
    /// Other names of the same program.
    pub symlinks: Vec<Symlink>,
    /// Its options, in its own order.
    pub parameters: Vec<Parameter>,
    /// What it can do.
    pub actions: Vec<Action>,
}

/// Another name of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Symlink {
    /// The name.
    pub name: String,
    /// What it is for under this name.
    pub short: String,
}

/// An option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its name on standard input.
    pub name: String,
    /// Whether no two devices may have the same value.
    pub unique: bool,
    /// Whether the agent does nothing without it.
    pub required: bool,
    /// Whether it is an old name.
    pub deprecated: bool,
    /// The old name that this one replaces.
    pub obsoletes: Option<String>,
    /// What values it takes.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its value if it is not given.
    pub default: Option<String>,
    /// What it is for; may be empty.
    pub short: String,
}

/// What values an option takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type", content = "options")]
pub enum Kind {
    /// Yes or no.
    Boolean,
    /// Any text; kinds that are not known here count as this.
    String,
    /// A number of seconds.
    Second,
    /// A number.
    Integer,
    /// One of these.
    Select(Vec<String>),
}

impl Kind {
    /// The word of the metadata.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Second => "second",
            Self::Integer => "integer",
            Self::Select(_) => "select",
        }
    }
}

/// Something that an agent can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// `off`, `status` and so on.
    pub name: String,
    /// Whether it has to run on the node that it is for.
    pub on_target: bool,
    /// Whether a node needs it before it may work again.
    pub automatic: bool,
}

impl Metadata {
    /// The parameter of that name. Agents take `-` and `_` for the same.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        let same = |one: &str| one.replace('-', "_") == name.replace('-', "_");
        let exact = self.parameters.iter().find(|parameter| parameter.name == name);
        exact.or_else(|| self.parameters.iter().find(|parameter| same(&parameter.name)))
    }

    /// The parameter that replaces the one of that name.
    #[must_use]
    pub fn successor(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.obsoletes.as_deref() == Some(name))
    }

    /// The action of that name.
    #[must_use]
    pub fn action(&self, name: &str) -> Option<&Action> {
        self.actions.iter().find(|action| action.name == name)
    }

    /// What Convoke needs and the agent does not have: only an `off` that a `status` confirms is evidence.
    #[must_use]
    pub fn lacks(&self) -> Vec<&'static str> {
        ["off", "status"].into_iter().filter(|name| self.action(name).is_none()).collect()
    }
}

/// Why a text is no agent's metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Nothing was printed.
    #[error("it prints nothing")]
    Empty,
    /// Not XML at all, or too much of it.
    #[error("what it prints is not XML")]
    Xml(#[source] roxmltree::Error),
    /// Other XML.
    #[error("what it prints is a `{0}`, not a `resource-agent`")]
    Root(String),
    /// An element without its `name`.
    #[error("a `{0}` in it has no name")]
    Nameless(&'static str),
    /// Without actions nobody knows what it can do.
    #[error("it names no action")]
    NoAction,
}

impl Metadata {
    /// Reads what an agent printed.
    ///
    /// # Errors
    /// If it is not the metadata of an agent.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(MetadataError::Empty);
        }
        // Entities of a document type of its own could grow without bound.
        let options =
            ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(MetadataError::Xml)?;
        let root = document.root_element();
        if !root.has_tag_name("resource-agent") {
            return Err(MetadataError::Root(root.tag_name().name().to_owned()));
        }
        let parameters = below(root, "parameters", "parameter").map(parameter).collect::<Result<_, _>>()?;
        let actions: Vec<_> = below(root, "actions", "action").map(action).collect::<Result<_, _>>()?;
        if actions.is_empty() {
            return Err(MetadataError::NoAction);
        }
        Ok(Self {
            name: name(root, "resource-agent")?,
            short: root.attribute("shortdesc").map(line).unwrap_or_default(),
            symlinks: children(root, "symlink").map(symlink).collect::<Result<_, _>>()?,
            parameters,
            actions,
        })
    }
}

fn parameter(node: Node<'_, '_>) -> Result<Parameter, MetadataError> {
    let content = children(node, "content").next();
    let kind = match content.and_then(|content| content.attribute("type")) {
        Some("boolean") => Kind::Boolean,
        Some("second") => Kind::Second,
        Some("integer") => Kind::Integer,
        Some("select") => Kind::Select(
            content
                .into_iter()
                .flat_map(|content| children(content, "option"))
                .filter_map(|option| option.attribute("value").map(str::to_owned))
                .collect(),
        ),
        _ => Kind::String,
    };
    Ok(Parameter {
        name: name(node, "parameter")?,
        unique: yes(node, "unique"),
        required: yes(node, "required"),
        deprecated: yes(node, "deprecated"),
        obsoletes: node.attribute("obsoletes").map(str::to_owned),
        kind,
        default: content.and_then(|content| content.attribute("default")).map(str::to_owned),
        short: children(node, "shortdesc")
            .next()
            .and_then(|short| short.text())
            .map(line)
            .unwrap_or_default(),
    })
}

fn action(node: Node<'_, '_>) -> Result<Action, MetadataError> {
    Ok(Action {
        name: name(node, "action")?,
        on_target: yes(node, "on_target"),
        automatic: yes(node, "automatic"),
    })
}

fn symlink(node: Node<'_, '_>) -> Result<Symlink, MetadataError> {
    Ok(Symlink {
        name: name(node, "symlink")?,
        short: node.attribute("shortdesc").map(line).unwrap_or_default(),
    })
}

fn name(node: Node<'_, '_>, what: &'static str) -> Result<String, MetadataError> {
    xml::name(node).ok_or(MetadataError::Nameless(what))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Metadata of an agent that was never written: all that Convoke reads is in it.
    pub(in crate::fence_agents) const SWITCH: &str = include_str!("samples/fence_switch.xml");
    /// An agent that cuts a node off instead of switching it off.
    pub(in crate::fence_agents) const FABRIC: &str = include_str!("samples/fence_fabric.xml");

    #[test]
    fn all_of_an_agents_words_are_read() {
        let agent = Metadata::parse(SWITCH).expect("good metadata");
        assert_eq!((agent.name.as_str(), agent.short.as_str()), ("fence_switch", "A power switch for tests"));
        let symlink = Symlink { name: "fence_old_switch".to_owned(), short: "Its first model".to_owned() };
        assert_eq!(agent.symlinks, [symlink]);
        let ip = agent.parameter("ip").expect("there");
        assert_eq!((ip.required, ip.deprecated, ip.obsoletes.as_deref()), (true, false, Some("ipaddr")));
        assert_eq!(ip.short, "Address of the switch");
        assert!(agent.parameter("ipaddr").is_some_and(|old| old.deprecated && old.required));
        assert_eq!(agent.successor("ipaddr").map(|new| new.name.as_str()), Some("ip"));
        let kind = |name: &str| agent.parameter(name).map(|parameter| parameter.kind.clone());
        assert_eq!(kind("lanplus"), Some(Kind::Boolean));
        assert_eq!(kind("login-timeout"), Some(Kind::Second));
        assert_eq!(kind("ipport"), Some(Kind::Integer));
        assert_eq!(kind("ip"), Some(Kind::String));
        assert_eq!(kind("colour"), Some(Kind::String), "a kind of tomorrow");
        let methods = Kind::Select(vec!["onoff".to_owned(), "cycle".to_owned()]);
        assert_eq!(kind("method"), Some(methods));
        assert_eq!(agent.parameter("ipport").and_then(|port| port.default.as_deref()), Some("623"));
        assert!(agent.parameter("serial").is_some_and(|serial| serial.unique));
        assert_eq!(agent.lacks(), [""; 0]);
        assert!(agent.action("on").is_some_and(|on| !on.automatic && !on.on_target));
    }

    #[test]
    fn what_an_agent_cannot_do_is_seen() {
        let fabric = Metadata::parse(FABRIC).expect("good metadata");
        assert_eq!(fabric.lacks(), ["status"]);
        assert!(fabric.action("on").is_some_and(|on| on.automatic && on.on_target));
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        let agent = |inner: &str| format!("<resource-agent name=\"fence_x\">{inner}</resource-agent>");
        let deep = "<a>".repeat(100_000);
        let wide = format!("<resource-agent name=\"fence_x\">{}</resource-agent>", "<a/>".repeat(100_000));
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\">]><resource-agent name=\"&a;\"/>".to_owned();
        for (text, message) in [
            (" \n".to_owned(), "it prints nothing"),
            ("usage: <not & xml".to_owned(), "not XML"),
            (SWITCH[..SWITCH.len() / 2].to_owned(), "not XML"),
            ("<html/>".to_owned(), "a `html`"),
            (agent(""), "names no action"),
            (agent("<actions><action/></actions>"), "a `action` in it has no name"),
            (agent("<parameters><parameter name=\" \"/></parameters>"), "a `parameter` in it has no name"),
            (
                "<resource-agent><actions><action name=\"off\"/></actions></resource-agent>".to_owned(),
                "has no name",
            ),
            (deep, "not XML"),
            (wide, "not XML"),
            (bomb, "not XML"),
        ] {
            let error = Metadata::parse(&text).expect_err(message);
            assert!(error.to_string().contains(message), "{message}: {error}");
        }
    }
}
