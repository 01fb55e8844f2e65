//! `convoke fence test`: a node is switched off and on again, to know that the cluster can.

use tokio::time::Instant;

use super::act;
use super::args::Wait;
use super::bus::Bus;
use super::confirm;
use super::exit::{Code, Failure};
use super::judge::Verdict;
use super::out::{self, Style};
use crate::api::model::{NodeLine, Overview};

pub(super) async fn test(
    bus: &Bus,
    name: &str,
    level: Option<u32>,
    yes: bool,
    wait: &Wait,
) -> Result<(), Failure> {
    let picture = bus.confirmed().await?;
    let node = confirm::find(&picture, name)?;
    if bus.0.node_name().await? == name {
        return Err(Failure::new(
            Code::Failed,
            format!("this is {name}: it could not tell how its own drill ends"),
        )
        .hint(format!("run `convoke fence test {name}` on another node")));
    }
    if !yes {
        out::print(&explanation(node, level, Style::of_stdout()));
        confirm::ask(name, "switch it off", "--yes")?;
    }
    let until = Instant::now() + wait.timeout;
    let case = act::answer(until, wait, bus.0.fence_test(name, level.unwrap_or(0))).await?;
    let more = format!("convoke fence why {name}");
    match act::follow_by(bus, wait, until, (name, &more), |picture| judge(picture, name, case)).await? {
        Some(text) if node.drained.is_some() => {
            out::say(&format!("{text}\n{name} is still drained: `convoke undrain {name}` lets it take units"))
        }
        Some(text) => out::say(&text),
        None => out::say(&format!("{name}: recorded; `convoke fence` shows how it goes")),
    }
    Ok(())
}

fn explanation(node: &NodeLine, level: Option<u32>, style: Style) -> String {
    let name = &node.name;
    let level = level.or_else(|| node.devices.iter().map(|device| device.level).min()).unwrap_or(1);
    let devices: Vec<_> = node
        .devices
        .iter()
        .filter(|device| device.level == level)
        .map(|device| device.name.as_str())
        .collect();
    let by = if devices.is_empty() { "no device".to_owned() } else { devices.join(" and ") };
    let mut out =
        format!("{name} is about to be switched off by {by} (level {level}), hard, and on again.\n\n");
    let mut say = |text: String| out.push_str(&style.paragraph("  ", "    ", &text));
    say("It is refused unless the node is drained, holds nothing, and the others keep the quorum.".to_owned());
    say("What runs there beside the cluster's units loses its power with it. If the device is set up wrongly, another \
         machine does."
        .to_owned());
    say("Should the others lose their quorum before it has its power back, a person has to switch it on."
        .to_owned());
    if let Some(last) = node.drills.iter().find(|drill| drill.level == level) {
        say(last.text.clone());
    }
    out
}

fn judge(picture: &Overview, name: &str, case: u64) -> Verdict {
    if let Some(open) = picture.fences.iter().find(|fence| fence.case == case && fence.drill) {
        return Verdict::Pending(open.text.clone());
    }
    let Some(node) = picture.nodes.iter().find(|node| node.name == name) else {
        return Verdict::Stuck(
            format!("{name} is not in the cluster any more"),
            "convoke list-nodes".to_owned(),
        );
    };
    let Some(drill) = node.drills.iter().find(|drill| drill.case == case) else {
        if picture.index < case {
            return Verdict::Pending("it is recorded".to_owned());
        }
        return Verdict::Stuck(
            format!("the drill of {name} was given up before it began"),
            format!("`convoke events --node {name}` says why"),
        );
    };
    match (&drill.error, drill.back_ms) {
        (Some(_), _) => Verdict::Stuck(
            format!("{name} {}", drill.text),
            format!("mend {}, and try again; `convoke fence history {name}`", drill.device),
        ),
        (None, Some(_)) if node.state == "online" => Verdict::Done(format!("{name} {}", drill.text)),
        (None, Some(_)) => Verdict::Pending("it is back, and says what runs on it".to_owned()),
        (None, None) => {
            Verdict::Pending("its power was seen off; it is to be switched on, and to boot".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::{DrillLine, FenceLine};
    use crate::cli::render::samples;

    fn drill(error: Option<&str>, back_ms: Option<u64>) -> DrillLine {
        DrillLine {
            level: 1,
            device: "bmc-n2".to_owned(),
            case: 9,
            by: "root on n1".to_owned(),
            wall_ms: 0,
            passed: error.is_none(),
            off_ms: error.is_none().then_some(2_400),
            back_ms,
            error: error.map(str::to_owned),
            lied: false,
            text: "drilled 0 s ago: TEXT".to_owned(),
        }
    }

    #[test]
    fn a_drill_is_done_when_the_node_is_back() {
        let mut picture = samples::picture();
        picture.index = 8;
        assert!(matches!(judge(&picture, "n2", 9), Verdict::Pending(_)));
        picture.index = 9;
        assert!(matches!(judge(&picture, "n2", 9), Verdict::Stuck(text, _) if text.contains("given up")));
        picture.fences.push(FenceLine {
            node: "n2".to_owned(),
            incarnation: "boot-n2".to_owned(),
            state: "running".to_owned(),
            device: Some("bmc-n2".to_owned()),
            attempts: 1,
            error: None,
            next_in_s: None,
            because: "a drill asked for by root".to_owned(),
            drill: true,
            case: 9,
            text: "n2 is being switched off".to_owned(),
        });
        assert_eq!(judge(&picture, "n2", 9), Verdict::Pending("n2 is being switched off".to_owned()));
        picture.fences.clear();
        let with = |picture: &Overview, one: DrillLine| {
            let mut picture = picture.clone();
            picture.nodes[1].drills = vec![one];
            picture
        };
        assert!(matches!(judge(&with(&picture, drill(None, None)), "n2", 9), Verdict::Pending(_)));
        assert!(matches!(judge(&with(&picture, drill(None, Some(41_000))), "n2", 9), Verdict::Done(_)));
        let failed = judge(&with(&picture, drill(Some("no route"), None)), "n2", 9);
        assert!(matches!(failed, Verdict::Stuck(_, hint) if hint.contains("mend bmc-n2")));
        // An older drill of the same level says nothing of this one.
        picture.index = 10;
        let older = with(&picture, drill(None, Some(41_000)));
        assert!(matches!(judge(&older, "n2", 10), Verdict::Stuck(..)));
    }

    #[test]
    fn the_question_says_what_is_about_to_happen() {
        let node = samples::node("n2");
        let text = explanation(&node, None, Style { width: 80, colour: false });
        for part in ["n2 is about to be switched off by bmc-n2 (level 1)", "drained", "quorum"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            explanation(&node, Some(3), Style { width: 80, colour: false }).contains("no device (level 3)")
        );
    }
}
