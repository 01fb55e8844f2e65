//! Fence agents: all of them in a line each, and one of them with its options.

use crate::cli::out::{Row, Style, Tone};
use crate::fence_agents::{Installed, Kind, Metadata, Parameter, isolates, known_to_isolate, useless};

/// All agents of the machine.
pub(in crate::cli) fn agents(installed: &[Installed], style: Style) -> String {
    let row = |agent: &Installed| {
        let (tone, text) = match &agent.look {
            Ok(metadata) => match useless(&agent.name, metadata) {
                None if isolates(&agent.name, metadata) => {
                    (Tone::Mind, format!("{}; it cuts off, for units with Fencing=isolated", metadata.short))
                }
                None => (Tone::Plain, metadata.short.clone()),
                Some(why) => (Tone::Mind, format!("{}; {why}", metadata.short)),
            },
            Err(error) => (Tone::Bad, error.to_string()),
        };
        Row { cells: vec![(Tone::Strong, agent.name.clone()), (tone, text)], notes: Vec::new() }
    };
    style.table(&["AGENT", "WHAT IT IS FOR"], &installed.iter().map(row).collect::<Vec<_>>())
}

/// One agent.
pub(in crate::cli) fn agent(name: &str, metadata: &Metadata, notes: &[&str], style: Style) -> String {
    let mut out = style.paragraph("", "    ", &format!("{name}: {}", metadata.short));
    let others: Vec<_> =
        metadata.symlinks.iter().map(|link| link.name.as_str()).filter(|other| *other != name).collect();
    if !others.is_empty() {
        out.push_str(&style.paragraph("also ", "    ", &others.join(", ")));
    }
    out.push('\n');
    let options: Vec<_> = metadata
        .parameters
        .iter()
        .filter(|parameter| !(parameter.deprecated && metadata.successor(&parameter.name).is_some()))
        .map(option)
        .collect();
    out.push_str(&style.table(&["OPTION", "TYPE", "DEFAULT", ""], &options));
    let actions: Vec<_> = metadata.actions.iter().map(|action| action.name.as_str()).collect();
    out.push('\n');
    out.push_str(&style.paragraph("  actions  ", &" ".repeat(11), &actions.join(", ")));
    let verdict = match useless(name, metadata) {
        None if isolates(name, metadata) => {
            "for units with Fencing=isolated: it cuts a node off, which may still run".to_owned()
        }
        None => "yes: its `off` can be confirmed by its `status`".to_owned(),
        Some(why) => format!("no: {why}"),
    };
    out.push_str(&style.paragraph("  usable   ", &" ".repeat(11), &verdict));
    // What is known to open only what a fence has cut has a note of its own.
    let after_cut = known_to_isolate(name) == Some(policy::Reconnect::AfterCut);
    if let Some(on) = metadata.action("on").filter(|on| on.automatic && !after_cut) {
        let how = if on.on_target { ", run on the node itself, lets" } else { " lets" };
        let text =
            format!("It cuts a node off and leaves it running. Its `on`{how} the node in, in each boot.");
        out.push_str(&style.paragraph("  note     ", &" ".repeat(11), &text));
    }
    for note in notes {
        out.push_str(&style.paragraph("  note     ", &" ".repeat(11), note));
    }
    out
}

fn option(parameter: &Parameter) -> Row {
    let mut words = Vec::new();
    match parameter.name.as_str() {
        "action" => words.push("set by the cluster".to_owned()),
        "delay" | "help" | "version" => words.push("refused by the cluster".to_owned()),
        _ => {
            if parameter.required {
                words.push("required".to_owned());
            }
            if parameter.deprecated {
                words.push("deprecated".to_owned());
            }
            if !parameter.short.is_empty() {
                words.push(parameter.short.trim_end_matches('.').to_owned());
            }
            if let Kind::Select(options) = &parameter.kind {
                words.push(format!("one of {}", options.join(", ")));
            }
            if let Some(old) = &parameter.obsoletes {
                words.push(format!("its old name is {old}"));
            }
        }
    }
    let default = parameter.default.as_deref().filter(|default| !default.is_empty()).unwrap_or("-");
    Row {
        cells: vec![
            (Tone::Strong, parameter.name.clone()),
            (Tone::Plain, parameter.kind.word().to_owned()),
            (Tone::Plain, default.to_owned()),
            (Tone::Plain, words.join("; ")),
        ],
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence_agents::AskError;

    const STYLE: Style = Style { width: 80, colour: false };
    const SWITCH: &str = include_str!("../../fence_agents/samples/fence_switch.xml");
    const FABRIC: &str = include_str!("../../fence_agents/samples/fence_fabric.xml");

    fn metadata(text: &str) -> Metadata {
        Metadata::parse(text).expect("good metadata")
    }

    #[test]
    fn each_agent_has_a_line_and_what_speaks_against_it() {
        let look = [
            ("fence_fabric", Ok(metadata(FABRIC))),
            ("fence_hang", Err(AskError::NotInstalled)),
            ("fence_switch", Ok(metadata(SWITCH))),
        ];
        let installed = look.map(|(name, look)| Installed { name: name.to_owned(), look });
        let expected = "  AGENT         WHAT IT IS FOR
  fence_fabric  A switch port for tests; it cannot prove a node off: it has no
                `status`
  fence_hang    it is not installed on this machine
  fence_switch  A power switch for tests
";
        assert_eq!(agents(&installed, STYLE), expected);
    }

    #[test]
    fn an_agent_is_described_by_its_present_names() {
        let text = agent("fence_switch", &metadata(SWITCH), &["Mind the gap."], STYLE);
        let expected = "\
fence_switch: A power switch for tests
also fence_old_switch

  OPTION           TYPE     DEFAULT
  action           string   reboot              set by the cluster
  ip               string   -                   required; Address of the switch;
                                                its old name is ipaddr
  ipport           integer  623                 Its port
";
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains("\n  ipaddr "), "{text}");
        assert!(text.contains("How to restart; one of onoff,"), "{text}");
        assert!(
            text.contains("\n  delay            second   0                   refused by the cluster\n"),
            "{text}"
        );
        let end = "
  actions  on, off, status, metadata
  usable   yes: its `off` can be confirmed by its `status`
  note     Mind the gap.
";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn an_agent_that_proves_nothing_is_called_useless() {
        let end = "
  actions  on, off, metadata
  usable   no: it cannot prove a node off: it has no `status`
  note     It cuts a node off and leaves it running. Its `on`, run on the node
           itself, lets the node in, in each boot.
";
        let text = agent("fence_fabric", &metadata(FABRIC), &[], STYLE);
        assert!(text.ends_with(end), "{text}");
    }
}
