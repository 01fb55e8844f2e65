//! `convoke fence confirm`: an operator's word that a node is off, for the incarnation that was shown (F36).

use std::io::{BufRead, IsTerminal};

use super::bus::Bus;
use super::exit::{Code, Failure};
use super::out::{self, Style};
use crate::api::model::{FenceLine, NodeLine, Overview};

pub(super) async fn confirm(bus: &Bus, name: &str, verified: bool) -> Result<(), Failure> {
    let picture = bus.confirmed().await?;
    let node = find(&picture, name)?;
    let incarnation = vouchable(node)?;
    let cut = is_cut_off(&picture, node);
    if !verified {
        out::print(&explanation(node, &incarnation, &picture, Style::of_stdout()));
        ask(
            name,
            if cut { "confirm that it is off, or has booted since" } else { "confirm that it is off" },
            "--yes-i-have-verified-it-is-off, once it has switched the power off itself",
        )?;
    }
    bus.0.fence_confirm(name, &incarnation).await?;
    let opened = if cut { "its way is opened, and " } else { "" };
    out::say(&format!("{name} is taken for off on your word; {opened}what waited for it goes on"));
    Ok(())
}

/// Whether its present life was cut off, which it keeps to while more is tried against it.
pub(super) fn is_cut_off(picture: &Overview, node: &NodeLine) -> bool {
    node.state == "cut-off" || (node.state == "fencing" && cut_of(picture, node).is_some())
}

fn cut_of<'a>(picture: &'a Overview, node: &NodeLine) -> Option<&'a FenceLine> {
    let of_this_life = |fence: &&FenceLine| {
        fence.node == node.name
            && fence.state == "isolated"
            && node.incarnation.as_ref() == Some(&fence.incarnation)
    };
    picture.fences_closed.iter().rfind(of_this_life)
}

/// What ends a life that was cut off. A node whose way to the cluster is cut too boots unheard.
pub(super) fn end_of_cut(name: &str) -> String {
    format!(
        "a boot of {name} that is heard, which opens its way; where its way to the cluster is cut too: see that it is off or \
         has booted since, then `convoke fence confirm {name}`"
    )
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
    let cut = is_cut_off(picture, node);
    let word = if cut { "off, or has booted since" } else { "off" };
    let mut out = format!("{name} is {}. You are about to give your word that it is {word}.\n\n", node.state);
    let mut say = |text: String| out.push_str(&style.paragraph("  ", "    ", &text));
    say(format!("incarnation {incarnation}"));
    for fence in picture.fences.iter().filter(|fence| fence.node == *name) {
        say(fence.text.clone());
    }
    if let Some(fence) = cut_of(picture, node).filter(|_| cut) {
        say(fence.text.clone());
    }
    if node.units.is_empty() {
        say("It holds no unit.".to_owned());
    } else {
        say(format!("It may still run: {}", node.units.join(", ")));
        let unless = if cut { "neither is off nor has booted" } else { "is not off" };
        say(format!(
            "What of this is to run starts elsewhere at once. If the node {unless}, it runs twice, and data that only one may \
             write can be destroyed."
        ));
    }
    if cut {
        say("Its way is opened at your word. What it ran when it was cut off, and runs still, writes again from then on."
            .to_owned());
    }
    out.push('\n');
    let look = if cut {
        "Look at the machine: pull its plug, or see that its power is off, or that it has booted since it was cut off. That it \
         does not answer proves nothing."
    } else {
        "Look at the machine: pull its plug, or see that its power is off. That it does not answer proves nothing."
    };
    out.push_str(&style.paragraph("", "", look));
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
        assert!(!text.contains("booted"), "{text}");
    }

    #[test]
    fn of_a_node_that_is_cut_off_a_boot_is_as_good_as_its_power() {
        let mut picture = samples::picture();
        let mut node = NodeLine { state: "cut-off".to_owned(), ..samples::node("n1") };
        // Wide enough that no sentence is broken.
        let style = Style { width: 400, colour: false };
        let text = explanation(&node, "boot-n1", &picture, style);
        for part in
            ["word that it is off, or has booted since.", "Its way is opened", "booted since it was cut off"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        // While a power switch is tried it is called otherwise.
        node.state = "fencing".to_owned();
        assert!(!is_cut_off(&picture, &node));
        picture.fences_closed = vec![samples::cut("n1")];
        assert!(is_cut_off(&picture, &node));
        assert!(explanation(&node, "boot-n1", &picture, style).contains("n1 was cut off by port"));
        // Its next life is not.
        node.incarnation = Some("boot-later".to_owned());
        assert!(!is_cut_off(&picture, &node));
    }
}
