//! What an operator is told while a fence takes its time: each wait of a part asks `status` and `why` as somebody would who
//! waits too.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Node;

use crate::cluster::Cluster;
use crate::model::{Change, Fence, Overview};
use crate::told::words_of;
use crate::unwrapped;
use crate::watch::Moment;

/// What is over by then is measured, and not disturbed.
const QUICK: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(700);
/// A node that does not answer holds up the wait by no more.
const PATIENCE: Duration = Duration::from_secs(5);
/// A step of a fence that stands for so long is asked about by every part.
const LONG_MS: u64 = 6_000;
const HELD: &str = "with too many others at once";

/// What was asked in the present part.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    last: Option<Moment>,
    steps: BTreeSet<Step>,
    untold: Vec<String>,
}

/// A node that is fenced, the number of the attempt, and whether it has failed.
type Step = (String, u32, bool);

impl Cluster {
    /// Asks about each step of a fence that was not asked about yet. For waits that began some time ago.
    pub(crate) fn ask_around(&self, begin: Moment) {
        let last = self.asked.borrow().last;
        if begin.elapsed() < QUICK || last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        self.asked.borrow_mut().last = Some(Moment::now());
        for node in self.awake() {
            let Ok(now) = look(&node) else { continue };
            if now.quorum {
                now.fences.iter().for_each(|fence| self.ask_about(&node, &now, fence));
                return;
            }
        }
    }

    fn ask_about(&self, asked: &Node, now: &Overview, fence: &Fence) {
        let Some(step) = step_of(fence).filter(|step| !self.asked.borrow().steps.contains(step)) else {
            return;
        };
        let told = tells(asked, now, fence);
        // What has changed meanwhile was told of one step or the other.
        let same = look(asked).is_ok_and(|after| {
            after.fence(&fence.node).is_some_and(|after| {
                step_of(after).as_ref() == Some(&step) && is_held(after) == is_held(fence)
            })
        });
        if same {
            let mut all = self.asked.borrow_mut();
            all.steps.insert(step);
            all.untold.extend(told.err().map(|error| format!("{error:#}")));
        }
    }

    /// Whether `status` and `why` told of each step of a fence that was asked about, and all that stood for long were.
    pub(crate) fn was_told_of_fences(&self, index: u64) -> Result<()> {
        let asked = self.asked.take();
        ensure!(asked.untold.is_empty(), "{}", asked.untold.join("\n"));
        for step in long_steps(&self.events_after(index)?)? {
            ensure!(
                asked.steps.contains(&step),
                "nobody was asked about {step:?}, but about {:?}",
                asked.steps
            );
        }
        Ok(())
    }
}

fn look(node: &Node) -> Result<Overview> {
    let out = node.run_for("convoke status --json", PATIENCE)?;
    serde_json::from_str(&out.stdout).context("no status")
}

fn step_of(fence: &Fence) -> Option<Step> {
    let fails = match fence.state.as_str() {
        "running" => false,
        "failed" => true,
        _ => return None,
    };
    Some((fence.node.clone(), fence.attempts, fails))
}

/// For the loss of many at once a fence waits, whatever had failed.
fn is_held(fence: &Fence) -> bool {
    fence.text.contains(HELD)
}

/// Whether one node tells of a fence in `status`, and in `why` of each unit that waits for what it may still run there.
fn tells(asked: &Node, now: &Overview, fence: &Fence) -> Result<()> {
    let held = now.node(&fence.node).map_or(&[][..], |node| &node.units);
    let waits = |name: &&String| {
        let exclusive = now.unit(name).is_some_and(|unit| unit.exclusive && unit.goal == "started");
        exclusive && now.places(name).is_empty()
    };
    let questions = held.iter().filter(waits).map(|unit| format!("convoke why {unit}"));
    let device = fence.device.as_deref().with_context(|| format!("no device: {fence:?}"))?;
    let is_held = is_held(fence);
    let said = match (fence.state.as_str(), fence.error.as_deref()) {
        _ if is_held => HELD.to_owned(),
        ("failed", Some(error)) => words_of(error),
        // By which device, and whether that cuts off or switches off.
        _ => fence.text.split(',').next().unwrap_or_default().to_owned(),
    };
    let words = [fence.node.as_str(), &said].into_iter().chain((!is_held).then_some(device));
    for question in questions.chain(["convoke status".to_owned()]) {
        let text = unwrapped(&asked.run_for(&question, PATIENCE)?.stdout);
        for word in words.clone() {
            ensure!(text.contains(word), "`{question}` does not say `{word}` while {fence:?}:\n{text}");
        }
    }
    Ok(())
}

/// The steps that stood for long, but for drills, whose command waits itself.
fn long_steps(events: &[Change]) -> Result<Vec<Step>> {
    let mut found = Vec::new();
    let nodes: BTreeSet<_> = events.iter().filter_map(|event| event.node.as_ref()).collect();
    for node in nodes {
        let ours = |event: &&Change| event.kind.starts_with("fence-") && event.node.as_ref() == Some(node);
        let mut drilled = false;
        let mut steps = events.iter().filter(ours).peekable();
        while let Some(step) = steps.next() {
            drilled = step.kind == "fence-drill-asked" || (drilled && step.kind != "fence-wanted");
            let fails = step.kind == "fence-failed";
            let long = steps.peek().is_some_and(|next| next.time_ms.saturating_sub(step.time_ms) >= LONG_MS);
            if long && !drilled && (fails || step.kind == "fence-began") {
                let attempt = step.text.split_once("(attempt ").and_then(|(_, rest)| rest.split_once(')'));
                let (attempt, _) = attempt.with_context(|| format!("unknown words: {}", step.text))?;
                found.push((node.clone(), attempt.parse()?, fails));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::told::tests::change;

    #[test]
    fn long_is_what_somebody_could_ask_about_and_a_drill_is_not() {
        let steps = [
            change(0, "fence-wanted", "n1 has to be fenced: db.service waits for it"),
            change(0, "fence-began", "n2: began to fence n1 by bmc-n1 (attempt 1)"),
            change(5_900, "fence-failed", "fence of n1 by bmc-n1 failed (attempt 1): bmc-n1: no route"),
            change(12_000, "fence-began", "n3: began to fence n1 by pdu (attempt 2)"),
            change(18_000, "fence-proven", "n1 is proven gone"),
            change(20_000, "fence-drill-asked", "n1 is to be switched off and on again"),
            change(20_000, "fence-began", "n2: began to fence n1 by bmc-n1 (attempt 1)"),
            change(40_000, "fence-drill-passed", "drill of n1 passed"),
        ];
        let long = long_steps(&steps).expect("known words");
        assert_eq!(long, [("n1".to_owned(), 1, true), ("n1".to_owned(), 2, false)]);
    }
}
