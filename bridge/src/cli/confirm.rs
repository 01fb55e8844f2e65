//! `convoke fence confirm`: an operator's word that a node is off, for the incarnation that was shown (F36).

use std::io::{BufRead, IsTerminal};

use super::bus::Bus;
use super::exit::{Code, Failure};
use super::out::{self, Style};
use crate::api::model::{NodeLine, Overview};

pub(super) async fn confirm(bus: &Bus, name: &str, verified: bool) -> Result<(), Failure> {
    let picture = bus.confirmed().await?;
    let node = find(&picture, name)?;
    let incarnation = vouchable(node)?;
    if !verified {
        out::print(&explanation(node, &incarnation, &picture, Style::of_stdout()));
        ask(
            name,
            "confirm that it is off",
            "--yes-i-have-verified-it-is-off, once it has switched the power off itself",
        )?;
    }
    bus.0.fence_confirm(name, &incarnation).await?;
    out::say(&format!("{name} is taken for off on your word; what waited for it goes on"));
    Ok(())
}

pub(super) fn find<'a>(picture: &'a Overview, name: &str) -> Result<&'a NodeLine, Failure> {
    picture.nodes.iter().find(|node| node.name == name).ok_or_else(|| {
        Failure::new(Code::NotFound, format!("no node `{name}` in this cluster")).hint("convoke list-nodes")
    })
}

/// The life to vouch for. A node that is heard cannot be off.
fn vouchable(node: &NodeLine) -> Result<String, Failure> {
    let name = &node.name;
    match (node.state.as_str(), &node.incarnation) {
        ("lost" | "away" | "fencing" | "cut-off", Some(incarnation)) => Ok(incarnation.clone()),
        ("fenced", _) => Err(Failure::new(Code::Failed, format!("{name} is proven off already"))),
        ("unknown", _) | (_, None) => Err(Failure::new(
            Code::Failed,
            format!("{name} was never heard, so there is no life of it to vouch for"),
        )
        .hint(format!("start it, or take it out of the cluster: `convoke leave {name}`"))),
        (state, _) => Err(Failure::new(Code::Failed, format!("{name} is not off: it is heard ({state})"))
            .hint(format!("`convoke drain {name}` empties a node that lives"))),
    }
}

fn explanation(node: &NodeLine, incarnation: &str, picture: &Overview, style: Style) -> String {
    let name = &node.name;
    let mut out = format!("{name} is {}. You are about to give your word that it is off.\n\n", node.state);
    let mut say = |text: String| out.push_str(&style.paragraph("  ", "    ", &text));
    say(format!("incarnation {incarnation}"));
    for fence in picture.fences.iter().filter(|fence| fence.node == *name) {
        say(fence.text.clone());
    }
    if node.units.is_empty() {
        say("It holds no unit.".to_owned());
    } else {
        say(format!("It may still run: {}", node.units.join(", ")));
        say("What of this is to run starts elsewhere at once. If the node is not off, it runs twice, and data that only \
             one may write can be destroyed."
            .to_owned());
    }
    out.push('\n');
    out.push_str(&style.paragraph(
        "",
        "",
        "Look at the machine: pull its plug, or see that its power is off. That it does not answer proves nothing.",
    ));
    out
}

/// Has the node's name typed; `flag` is what a script gives instead.
pub(super) fn ask(name: &str, to: &str, flag: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Code::Usage,
            "there is no terminal to ask for your word on; nothing was changed",
        )
        .hint(format!("a script gives {flag}")));
    }
    out::print(&format!("\nType the node's name to {to}: "));
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_err() || typed.trim() != name {
        return Err(Failure::new(Code::Failed, "that is not the node's name; nothing was changed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::samples;

    #[test]
    fn only_a_silent_node_can_be_vouched_for() {
        let node = |state: &str| NodeLine { state: state.to_owned(), ..samples::node("n1") };
        assert_eq!(vouchable(&node("lost")).expect("lost"), "boot-n1");
        assert!(vouchable(&node("fencing")).is_ok());
        assert!(vouchable(&node("away")).is_ok());
        assert!(vouchable(&node("cut-off")).is_ok());
        for state in ["online", "joining", "leaving", "fenced", "unknown"] {
            let failure = vouchable(&node(state)).expect_err(state);
            assert_eq!(failure.code, Code::Failed, "{state}");
        }
    }

    #[test]
    fn the_question_names_what_is_at_stake() {
        let node = NodeLine {
            state: "lost".to_owned(),
            units: vec!["db.service".to_owned()],
            ..samples::node("n1")
        };
        let style = Style { width: 80, colour: false };
        let text = explanation(&node, "boot-n1", &samples::picture(), style);
        for part in ["n1 is lost", "boot-n1", "db.service", "twice", "proves nothing"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
