//! `convoke fence why` and `convoke fence history`: what is said of one node's fences.

use serde::Serialize;

use super::bus::Bus;
use super::exit::{Code, Failure};
use super::out::{self, Style};
use super::{confirm, look, render};
use crate::api::model::{FenceLine, HistoryLine, NodeLine, Overview};

/// Why a node is, or is not, being fenced.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct FenceWhy {
    /// The node.
    pub(super) node: String,
    /// How it is.
    pub(super) state: String,
    /// Whether a case is open.
    pub(super) fencing: bool,
    /// Why, or why not.
    pub(super) text: String,
    /// What would end it, or what would begin it.
    pub(super) release: String,
    /// Whether it could be fenced now, and by what.
    pub(super) means: String,
    /// Its last drills.
    pub(super) drills: Vec<String>,
    /// Whether its devices only cut it off: a drill passes when the node falls silent, which it need not do then.
    pub(super) only_cut_off: bool,
}

pub(super) async fn why(bus: &Bus, name: &str, json: bool) -> Result<(), Failure> {
    let picture = bus.overview().await?;
    let why = explain(&picture, confirm::find(&picture, name)?);
    if json {
        out::json(&why);
    } else {
        look::aged(&picture, json, Style::of_stdout());
        out::print(&render::fence_why(&why, Style::of_stdout()));
    }
    look::confirmed(&picture)
}

fn explain(picture: &Overview, node: &NodeLine) -> FenceWhy {
    let name = &node.name;
    let open = picture.fences.iter().find(|fence| fence.node == *name);
    let (text, release) = match open {
        Some(fence) => during(picture, node, fence),
        None => otherwise(picture, node),
    };
    let means = match (node.fencing.as_str(), &node.device) {
        (_, None) => "nothing can fence it: it has no fence device".to_owned(),
        ("ready", Some(device)) if is_only_cut_off(node) => {
            format!("it can only be cut off, by {device}")
        }
        ("ready", Some(device)) => format!("it can be fenced by {device}"),
        (_, Some(device)) => match &node.fencing_error {
            Some(error) => format!("it could not be fenced now: {error} ({device})"),
            None => format!("{device} has not shown it with power on yet"),
        },
    };
    let drills = node.drills.iter().map(|drill| drill.text.clone()).collect();
    let only_cut_off = is_only_cut_off(node);
    FenceWhy {
        node: name.clone(),
        state: node.state.clone(),
        fencing: open.is_some(),
        text,
        release,
        means,
        drills,
        only_cut_off,
    }
}

fn is_only_cut_off(node: &NodeLine) -> bool {
    !node.devices.is_empty() && node.devices.iter().all(|device| device.isolates)
}

fn during(picture: &Overview, node: &NodeLine, fence: &FenceLine) -> (String, String) {
    let name = &node.name;
    if fence.drill {
        let release = match fence.state.as_str() {
            "running" => "the end of the attempt: an agent may be switching it off at this moment".to_owned(),
            _ => format!("its begin, or `convoke fence cancel {name}`"),
        };
        return (format!("{} ({})", fence.text, fence.because), release);
    }
    let release = match confirm::is_cut_off(picture, node) {
        // That life is over for the cluster: only its next one returns.
        true => format!("a fence by a power switch; or {}", confirm::end_of_cut(name)),
        false => format!(
            "a fence that succeeds, the return of {name}, or your word that it is off: `convoke fence confirm {name}`"
        ),
    };
    (format!("{}; {} waits for it", fence.text, fence.because), release)
}

fn otherwise(picture: &Overview, node: &NodeLine) -> (String, String) {
    let name = &node.name;
    match node.state.as_str() {
        "fenced" => {
            let closed = picture.fences_closed.iter().rev().find(|fence| fence.node == *name);
            let text = closed.map_or_else(|| format!("{name} is proven off"), |fence| fence.text.clone());
            (text, format!("the boot of {name}"))
        }
        "cut-off" => {
            let closed = picture.fences_closed.iter().rev().find(|fence| fence.node == *name);
            let text = closed.map_or_else(|| format!("{name} is cut off"), |fence| fence.text.clone());
            let runs = match node.units.is_empty() {
                true => String::new(),
                false => format!("; it may still run {}", node.units.join(", ")),
            };
            (text + &runs, confirm::end_of_cut(name))
        }
        "lost" if node.units.is_empty() => (
            format!("{name} is lost, and is not known to run anything: nothing waits for it"),
            "a unit that may run there, and that is to run elsewhere or to stop".to_owned(),
        ),
        "lost" => (
            format!("{name} is lost and may run {}, and nothing waits for any of it", node.units.join(", ")),
            "a unit of these that is to run elsewhere or to stop".to_owned(),
        ),
        "unknown" => {
            (format!("{name} was never heard, so there is no life of it to end"), format!("start {name}"))
        }
        "away" => (format!("{name} was shut down, and holds nothing"), format!("start {name}")),
        state if is_only_cut_off(node) => {
            (format!("{name} is heard ({state}): a node that lives is not cut off"), "its loss".to_owned())
        }
        state => (
            format!("{name} is heard ({state}): a node that lives is fenced for a drill alone"),
            format!("its loss, or a drill: `convoke fence test {name}`"),
        ),
    }
}

/// One attempt, or a case that ended without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Attempt {
    /// When it began, wall clock in milliseconds since 1970.
    pub(super) wall_ms: u64,
    /// Which node was to be fenced.
    pub(super) node: String,
    /// Log index at which the case was opened.
    pub(super) case: u64,
    /// Its number.
    pub(super) attempt: Option<u32>,
    /// Devices, in words.
    pub(super) device: Option<String>,
    /// Who ran the agent.
    pub(super) executor: Option<String>,
    /// How long it took, in milliseconds.
    pub(super) took_ms: Option<u64>,
    /// `running`, `off`, `failed`, `proven` (otherwise than by a device) or `cancelled`.
    pub(super) state: String,
    /// The evidence, or what went wrong.
    pub(super) result: Option<String>,
}

pub(super) async fn history(
    bus: &Bus,
    node: Option<&str>,
    device: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let picture = bus.overview().await?;
    let mut lines = bus.history(look::ALL_LINES, "", node.unwrap_or_default()).await?;
    lines.retain(|line| line.kind.starts_with("fence-"));
    let mut attempts = attempts(&lines);
    // A node that was taken out has a past.
    if let Some(node) = node
        && attempts.is_empty()
    {
        confirm::find(&picture, node)?;
    }
    if let Some(device) = device {
        attempts.retain(|attempt| uses(attempt, device));
        let known = picture.nodes.iter().flat_map(|node| &node.devices).any(|known| known.name == device);
        if attempts.is_empty() && !known {
            return Err(Failure::new(Code::NotFound, format!("no fence device `{device}` in this cluster"))
                .hint("convoke fence"));
        }
        lines.retain(|line| {
            attempts.iter().any(|attempt| line.fence.as_ref().is_some_and(|step| step.case == attempt.case))
        });
    }
    if json {
        out::json(&lines);
    } else {
        look::aged(&picture, json, Style::of_stdout());
        out::print(&render::attempts(&attempts, Style::of_stdout()));
    }
    look::confirmed(&picture)
}

/// Whether it went through this device, alone or with others of its level.
fn uses(attempt: &Attempt, device: &str) -> bool {
    let names = attempt.device.as_deref().unwrap_or_default();
    names.split(", ").flat_map(|part| part.split(" and ")).any(|name| name == device)
}

/// The events of fence cases as attempts, oldest first.
fn attempts(lines: &[HistoryLine]) -> Vec<Attempt> {
    let mut found: Vec<(Attempt, u64)> = Vec::new();
    for line in lines {
        let Some(step) = &line.fence else { continue };
        if line.kind == "fence-began" {
            let attempt = Attempt {
                wall_ms: line.wall_ms,
                node: line.node.clone().unwrap_or_default(),
                case: step.case,
                attempt: step.attempt,
                device: step.device.clone(),
                executor: step.executor.clone(),
                took_ms: None,
                state: "running".to_owned(),
                result: None,
            };
            found.push((attempt, line.time_ms));
            continue;
        }
        let state = match line.kind.as_str() {
            "fence-failed" | "fence-drill-failed" => "failed",
            "fence-drill-passed" => "off",
            "fence-proven" => "proven",
            "fence-isolated" => "cut off",
            "fence-cancelled" | "fence-drill-cancelled" => "cancelled",
            _ => continue,
        };
        let last = found.iter_mut().rev().find(|(attempt, _)| attempt.case == step.case);
        match last {
            Some((attempt, began)) if attempt.state == "running" => {
                attempt.took_ms = Some(line.time_ms.saturating_sub(*began));
                let by_device = step.result.as_deref() == Some("its power was seen off");
                attempt.state = if state == "proven" && by_device { "off" } else { state }.to_owned();
                attempt.result.clone_from(&step.result);
            }
            // The drill's own line says again what its attempt did.
            Some(_) if state != "proven" => {}
            _ => {
                let attempt = Attempt {
                    wall_ms: line.wall_ms,
                    node: line.node.clone().unwrap_or_default(),
                    case: step.case,
                    attempt: None,
                    device: None,
                    executor: None,
                    took_ms: None,
                    state: state.to_owned(),
                    result: step.result.clone(),
                };
                found.push((attempt, line.time_ms));
            }
        }
    }
    found.into_iter().map(|(attempt, _)| attempt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::FenceStep;
    use crate::cli::render::samples;

    fn line(time_ms: u64, kind: &str, case: u64, result: Option<&str>) -> HistoryLine {
        let began = kind == "fence-began";
        HistoryLine {
            index: time_ms,
            wall_ms: time_ms,
            time_ms,
            severity: "info".to_owned(),
            node: Some("n1".to_owned()),
            unit: None,
            kind: kind.to_owned(),
            text: String::new(),
            fence: Some(FenceStep {
                case,
                attempt: began.then_some(1),
                device: began.then(|| "feed-a and feed-b".to_owned()),
                executor: began.then(|| "n2".to_owned()),
                result: result.map(str::to_owned),
            }),
        }
    }

    #[test]
    fn an_attempt_is_told_with_its_end() {
        let told = attempts(&[
            line(100, "fence-wanted", 5, None),
            line(101, "fence-began", 5, None),
            line(2_601, "fence-failed", 5, Some("no route")),
            line(2_602, "fence-began", 5, None),
            line(4_602, "fence-proven", 5, Some("its power was seen off")),
            line(5_000, "fence-began", 6, None),
            line(6_000, "fence-failed", 6, Some("refused")),
            line(6_000, "fence-drill-failed", 6, Some("refused")),
            line(7_000, "fence-drill-cancelled", 7, Some("n1 is not drained")),
            line(8_000, "fence-began", 8, None),
        ]);
        let shown: Vec<_> = told.iter().map(|it| (it.case, it.state.as_str(), it.took_ms)).collect();
        let expected = [
            (5, "failed", Some(2_500)),
            (5, "off", Some(2_000)),
            (6, "failed", Some(1_000)),
            (7, "cancelled", None),
            (8, "running", None),
        ];
        assert_eq!(shown, expected);
        assert!(uses(&told[0], "feed-a") && uses(&told[0], "feed-b") && !uses(&told[0], "feed"));
        assert!(!uses(&told[3], "feed-a"));
    }

    #[test]
    fn why_says_what_would_end_it() {
        let mut picture = samples::picture();
        let online = explain(&picture, &picture.nodes[0]);
        assert!(
            online.text.contains("is heard (online)") && online.means.contains("can be fenced by bmc-n1"),
            "{online:?}"
        );
        let mut fence = FenceLine {
            node: "n1".to_owned(),
            incarnation: "boot-n1".to_owned(),
            state: "wanted".to_owned(),
            device: Some("bmc-n1".to_owned()),
            attempts: 0,
            error: None,
            next_in_s: None,
            because: "db.service".to_owned(),
            drill: false,
            case: 7,
            text: "n1 is lost".to_owned(),
        };
        picture.fences = vec![fence.clone()];
        let real = explain(&picture, &picture.nodes[0]);
        assert!(
            real.fencing
                && real.text.contains("db.service waits")
                && real.release.contains("fence confirm n1")
        );
        fence.drill = true;
        picture.fences = vec![fence.clone()];
        assert!(explain(&picture, &picture.nodes[0]).release.contains("convoke fence cancel n1"));
        fence.state = "running".to_owned();
        picture.fences = vec![fence];
        assert!(explain(&picture, &picture.nodes[0]).release.contains("end of the attempt"));
        picture.fences.clear();
        picture.nodes[0].state = "lost".to_owned();
        assert!(explain(&picture, &picture.nodes[0]).text.contains("nothing waits for any of it"));
    }

    #[test]
    fn why_offers_no_return_of_a_life_that_was_cut_off() {
        let mut picture = samples::picture();
        picture.nodes[0].state = "cut-off".to_owned();
        picture.fences_closed = vec![samples::cut("n1")];
        let cut = explain(&picture, &picture.nodes[0]);
        assert!(cut.text.starts_with("n1 was cut off by port") && cut.text.contains("db.service"), "{cut:?}");
        assert!(cut.release.starts_with("a boot of n1 that is heard"), "{cut:?}");
        assert!(cut.release.contains("`convoke fence confirm n1`"), "{cut:?}");
        let fence = FenceLine { state: "wanted".to_owned(), ..samples::cut("n1") };
        picture.fences = vec![FenceLine { case: 7, text: "n1 is cut off".to_owned(), ..fence }];
        for state in ["cut-off", "fencing"] {
            picture.nodes[0].state = state.to_owned();
            let release = explain(&picture, &picture.nodes[0]).release;
            assert!(release.contains("a boot of n1 that is heard"), "{state}: {release}");
            assert!(!release.contains("the return of n1"), "{state}: {release}");
        }
        picture.nodes[0].state = "lost".to_owned();
        assert!(explain(&picture, &picture.nodes[0]).release.contains("the return of n1"));
    }

    #[test]
    fn what_only_cuts_is_not_called_a_fence() {
        let mut picture = samples::picture();
        picture.nodes[0].devices[0].isolates = true;
        let why = explain(&picture, &picture.nodes[0]);
        assert_eq!(why.means, "it can only be cut off, by bmc-n1");
        assert!(why.only_cut_off && why.release == "its loss", "{why:?}");
    }
}
