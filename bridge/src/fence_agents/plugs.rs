//! The plugs that a device lists, against those that the targets name.
//!
//! A power strip serves many nodes by their plugs, and a plug that is none, or was renamed, would be found out by the first
//! look; which plugs there are, the device knows best. Pure, but for [`list`], which asks it.

use std::path::Path;
use std::time::Duration;

use super::ask::{AskError, output};
use super::given::{Given, Remark};
use super::metadata::Metadata;

/// What says which plug it is, in present spelling.
const PLUG: &str = "plug";
/// So many of a device's plugs are shown where one is missing; the rest is counted.
const SHOWN: usize = 24;
/// What `list-status` says last of a plug, and some agents in `list`.
const STATES: [&str; 4] = ["on", "off", "unknown", "error"];

/// One plug of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    /// As the agent takes it.
    pub id: String,
    /// What it is called on the device; may be empty.
    pub name: String,
}

/// Whether the device can be asked for the plug that it has for a target.
#[must_use]
pub fn is_listed(given: &Given, node: &str, agent: &Metadata) -> bool {
    agent.action("list").is_some() && given.value(node, PLUG).is_some()
}

/// The action by which an agent lists the plugs of a device.
#[must_use]
pub fn lists_by(agent: &Metadata) -> Option<&'static str> {
    ["list", "list-status"].into_iter().find(|action| agent.action(action).is_some())
}

/// The option by which an agent is told a plug.
#[must_use]
pub fn plug_option(agent: &Metadata) -> &'static str {
    let old = agent.parameter(PLUG).is_none() && agent.parameter("port").is_some();
    if old { "port" } else { PLUG }
}

/// Asks a device for its plugs. `input` is complete, secrets included, which is why no word of the agent's is in the error.
///
/// # Errors
/// If it does not say within `limit`.
pub async fn list(
    program: &Path,
    input: &[u8],
    separator: &str,
    limit: Duration,
) -> Result<Vec<Plug>, AskError> {
    let stdout = output(program, input, limit).await.map_err(AskError::without_words)?;
    Ok(parse(&String::from_utf8_lossy(&stdout), separator))
}

/// `1,n1` or `1,n1,ON`: one line for each plug. Agents without any print `N/A`. What no terminal shows is no plug's.
fn parse(text: &str, separator: &str) -> Vec<Plug> {
    let is_state = |word: &str| STATES.iter().any(|state| word.trim().eq_ignore_ascii_case(state));
    let line = |line: &str| {
        let (id, name) = line.split_once(separator).unwrap_or((line, ""));
        let name = match name.rsplit_once(separator) {
            Some((name, state)) if is_state(state) => name,
            _ => name,
        };
        let (id, name) = (id.trim().to_owned(), name.trim().to_owned());
        let plain = !id.chars().chain(name.chars()).any(char::is_control);
        (plain && !id.is_empty() && id != "N/A").then_some(Plug { id, name })
    };
    text.lines().filter_map(line).collect()
}

/// A device's plugs in words.
pub(super) fn shown(listed: &[Plug]) -> String {
    let one = |plug: &Plug| match plug.name.as_str() {
        "" => plug.id.clone(),
        name if name == plug.id => plug.id.clone(),
        name => format!("{} ({name})", plug.id),
    };
    let mut all: Vec<String> = listed.iter().take(SHOWN).map(one).collect();
    if listed.len() > SHOWN {
        all.push(format!("and {} more", listed.len() - SHOWN));
    }
    all.join(", ")
}

/// What is wrong with a target's plug, by the list of its device. A device that lists nothing says nothing.
#[must_use]
pub fn missing_plug(given: &Given, device: &str, node: &str, listed: &[Plug]) -> Option<Remark> {
    let (spot, plug) = given.value(node, PLUG)?;
    // Agents take either, some of them with a path before it (`/site/vm/web`, `2:7`), and ids in any letters.
    let tail = plug.rsplit(['/', ':']).next().unwrap_or(plug);
    let is = |one: &str| !one.is_empty() && [plug, tail].iter().any(|given| given.eq_ignore_ascii_case(one));
    let known = listed.iter().any(|one| is(&one.id) || is(&one.name));
    if listed.is_empty() || known {
        return None;
    }
    let message = format!("{device} lists no plug `{plug}`");
    Some(Remark::refused(spot, message, format!("it lists {}", shown(listed))))
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::agents;
    use super::super::given::tests::given;
    use super::*;

    fn plug(id: &str, name: &str) -> Plug {
        Plug { id: id.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_line_is_a_plug_and_its_name() {
        assert_eq!(
            parse("1,n1\n2,\n 3 , rack a \n\n", ","),
            [plug("1", "n1"), plug("2", ""), plug("3", "rack a")]
        );
        assert_eq!(parse("vm,one;0a1b\n", ";"), [plug("vm,one", "0a1b")]);
        assert_eq!(parse("n1\n", ","), [plug("n1", "")]);
        assert_eq!(parse("N/A\n", ","), []);
        assert_eq!(
            parse("1,n1,ON\n2,,unknown\n3,a,b\n4,on\n", ","),
            [plug("1", "n1"), plug("2", ""), plug("3", "a,b"), plug("4", "on")]
        );
        assert_eq!(parse("1,\u{1b}[2Jn1\n2,n2\n", ","), [plug("2", "n2")]);
    }

    #[test]
    fn an_agent_lists_by_the_action_that_it_has_and_takes_a_plug_by_the_name_that_it_knows() {
        let agent = |parameter: &str, action: &str| {
            let text = format!(
                "<resource-agent name=\"fence_x\"><parameters><parameter name=\"{parameter}\"><content type=\"string\"/>\
                 </parameter></parameters><actions><action name=\"off\"/><action name=\"{action}\"/></actions></resource-agent>"
            );
            Metadata::parse(&text).expect("good metadata")
        };
        for (action, by) in [("list", Some("list")), ("list-status", Some("list-status")), ("status", None)] {
            assert_eq!(lists_by(&agent("plug", action)), by);
        }
        assert_eq!(plug_option(&agent("plug", "list")), "plug");
        assert_eq!(plug_option(&agent("port", "list")), "port");
    }

    #[test]
    fn a_plug_that_the_device_does_not_list_is_refused_with_those_that_it_does() {
        let given = given("fence_x n1:plug=1 n2:port=n2 n3:plug=7 n4:ip=b n5:plug=/site/vm/Web n6:plug=2:3");
        let listed = [plug("1", "web"), plug("2", "n2"), plug("3", "")];
        let remark = |node| missing_plug(&given, "pdu", node, &listed).map(|it| (it.message, it.help));
        for node in ["n1", "n2", "n4", "n5", "n6"] {
            assert_eq!(remark(node), None, "{node}");
        }
        let (message, help) = remark("n3").expect("a remark");
        assert_eq!(message, "pdu lists no plug `7`");
        assert_eq!(help, "it lists 1 (web), 2 (n2), 3");
        assert_eq!(missing_plug(&given, "pdu", "n3", &[]), None);
        let many: Vec<Plug> = (10..60).map(|id| plug(&id.to_string(), "")).collect();
        let remark = missing_plug(&given, "pdu", "n3", &many).expect("a remark");
        assert!(remark.help.ends_with("33, and 26 more"), "{}", remark.help);
    }

    #[tokio::test]
    async fn a_device_is_asked_by_the_standard_input_and_says_nothing_of_secrets() {
        let dir = agents(&["fence_lister", "fence_broken"]);
        let limit = super::super::LIMIT;
        let input = b"action=list\npassword=hush\n";
        let listed = list(&dir.path().join("fence_lister"), input, ",", limit).await.expect("a list");
        assert_eq!(listed, [plug("1", "n1"), plug("2", "n2")]);
        let error = list(&dir.path().join("fence_broken"), input, ",", limit).await.expect_err("broken");
        assert_eq!(error.to_string(), "it ended with exit status: 1 instead of answering");
    }
}
