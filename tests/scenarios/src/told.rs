//! What people are told of a fence: in `status`, in `why`, and in the journal of the unit that waits for it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cluster::Cluster;
use crate::model::Change;
use crate::unwrapped;

/// What stands for a shorter time may be over before it is told.
const STANDS_MS: u64 = 1_000;
/// As much of an error as an operator has to read to know it again.
const WORDS: usize = 4;
const SOON: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_secs(40);

impl Cluster {
    /// What an operator reads while a unit waits for a fence that fails: the node, the device and the error, in `status` and in
    /// `why`, and there what would release it.
    pub fn says_why(&self, unit: &str, victim: usize, device: &str, error: &str) -> Result<()> {
        let name = self.node(victim).name();
        let asked = self.anybody()?;
        let error = words_of(error);
        for question in ["convoke status".to_owned(), format!("convoke why {unit}")] {
            let text = unwrapped(&self.run(asked, &question)?.stdout);
            for word in [&name, device, &error] {
                ensure!(text.contains(word), "`{question}` does not say `{word}`:\n{text}");
            }
        }
        let reasons = self.why(unit)?.reasons;
        let first = reasons.first().context("`why` gives no reason")?;
        ensure!(first.rule == "S2" && first.fact.contains(&name), "the first reason is {first:?}");
        ensure!(
            first.release.contains("convoke fence confirm"),
            "it does not say what would release it: {first:?}"
        );
        Ok(())
    }

    /// The same while the agent runs: which device, and on whom.
    pub fn says_that_it_is_fenced(&self, unit: &str, victim: usize, device: &str) -> Result<()> {
        let name = self.node(victim).name();
        self.until("the agent runs", LATE, |now| {
            now.fence(&name)
                .is_some_and(|fence| fence.text.contains(&format!("is being fenced by {device}, run on ")))
        })?;
        self.says_why(unit, victim, device, &format!("{name} is being fenced"))
    }

    /// Whether the journals of the units that waited for a fence since an index of the log tell of each of its steps that
    /// stood for a while, on some node that can be asked.
    pub(crate) fn journals_tell_of_fences(&self, index: u64) -> Result<()> {
        let events = self.events()?;
        for (at, wanted) in
            events.iter().enumerate().filter(|(_, it)| it.kind == "fence-wanted" && it.index > index)
        {
            let Some((before, after)) = events.split_at_checked(at + 1) else { continue };
            let Some((node, unit)) = wanted.node.as_ref().zip(waiting_unit(wanted)) else { continue };
            let lines =
                if waits(node, unit, index, before) { expected(node, unit, after)? } else { Vec::new() };
            if lines.is_empty() {
                continue;
            }
            let since = wanted.wall_ms / 1000;
            let line = format!(
                "journalctl --sync; journalctl --quiet --no-pager --output=cat --unit={unit} --since=@{since}"
            );
            self.wait_for(&format!("the journal of {unit} tells of the fence of {node}"), SOON, || {
                let mut told = String::new();
                for one in self.awake() {
                    told += &one.run_ok(&line)?;
                }
                // Where fencing is held for the loss of many, that is told instead of what had failed.
                let held = told.contains(&format!("waits: {node} is lost, with too many others at once"));
                let is_told = |line: &&String| {
                    told.contains(line.as_str()) || (held && line.starts_with("waits: fencing "))
                };
                let lacking: Vec<_> = lines.iter().filter(|line| !is_told(line)).collect();
                ensure!(lacking.is_empty(), "nobody's tells {lacking:?}:\n{told}");
                Ok(Some(()))
            })?;
        }
        Ok(())
    }
}

/// What tells an error from others.
pub(crate) fn words_of(error: &str) -> String {
    error.split_whitespace().take(WORDS).collect::<Vec<_>>().join(" ")
}

/// The unit that a fence is wanted for.
fn waiting_unit(wanted: &Change) -> Option<&str> {
    wanted.text.split_once(" has to be fenced: ")?.1.strip_suffix(" waits for it")
}

/// Whether the unit waits for what it may still run on that node itself, and was not told of that node's fence before in this
/// part: one that goes on is told of once.
fn waits(node: &str, unit: &str, index: u64, before: &[Change]) -> bool {
    let granted = |event: &&Change| {
        event.unit.as_deref() == Some(unit) && ["unit-granted", "unit-adopted"].contains(&event.kind.as_str())
    };
    let here = before.iter().rev().find(granted).is_some_and(|event| event.node.as_deref() == Some(node));
    let cases = before.iter().filter(|event| {
        event.index > index && event.kind == "fence-wanted" && event.node.as_deref() == Some(node)
    });
    // What was stopped waits for nothing; what conflicts with it does.
    let goal = before.iter().rev().find(|event| is_goal(unit, event));
    here && cases.count() == 1 && goal.is_none_or(|goal| goal.kind == "unit-start-asked")
}

/// Whether somebody has asked for the unit's start or stop.
fn is_goal(unit: &str, event: &Change) -> bool {
    ["unit-start-asked", "unit-stop-asked"].contains(&event.kind.as_str())
        && event.unit.as_deref() == Some(unit)
}

/// What the journal has to say of one case: by what it was tried, what failed, and how it ended. The steps of a level that
/// is tried again are told once, and another leader may have none to tell.
fn expected(node: &str, unit: &str, events: &[Change]) -> Result<Vec<String>> {
    let mut lines: BTreeSet<String> = BTreeSet::new();
    let ours = |event: &&Change| {
        event.node.as_deref() == Some(node) || event.kind == "leader-changed" || is_goal(unit, event)
    };
    let mut steps = events.iter().filter(ours).peekable();
    while let Some(step) = steps.next() {
        let until = steps.peek().map_or(u64::MAX, |next| next.time_ms);
        let stood = until.saturating_sub(step.time_ms) >= STANDS_MS;
        let unreadable = || format!("unknown words: {}", step.text);
        match step.kind.as_str() {
            "fence-began" if stood => {
                let device = step.text.split_once(" by ").and_then(|(_, rest)| rest.split_once(" (attempt "));
                let (device, _) = device.with_context(unreadable)?;
                lines.insert(format!(" by {device}, run on "));
            }
            "fence-failed" if stood && !step.text.ends_with("it was called off before it began") => {
                let device = step.text.split_once(" by ").and_then(|(_, rest)| rest.split_once(" failed "));
                let (device, rest) = device.with_context(unreadable)?;
                let (_, error) = rest.split_once(": ").with_context(unreadable)?;
                lines.insert(format!("waits: fencing {node} by {device} failed ({error}"));
            }
            "fence-proven" if step.text.contains("is proven gone") && !lines.is_empty() => {
                lines.insert(format!("{node} is proven "));
                break;
            }
            "fence-proven" | "fence-cancelled" | "fence-isolated" | "leader-changed" | "node-returned"
            | "unit-start-asked" | "unit-stop-asked" => break,
            _ => {}
        }
    }
    Ok(lines.into_iter().collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Something that happened to n1.
    pub(crate) fn change(time_ms: u64, kind: &str, text: &str) -> Change {
        let (kind, text) = (kind.to_owned(), text.to_owned());
        Change { index: time_ms, wall_ms: 0, time_ms, node: Some("n1".to_owned()), unit: None, kind, text }
    }

    #[test]
    fn each_step_that_stood_for_a_while_is_expected_in_the_journal() {
        let steps = [
            change(0, "fence-began", "n2: began to fence n1 by bmc-n1 (attempt 1)"),
            change(4_000, "fence-failed", "fence of n1 by bmc-n1 failed (attempt 1): bmc-n1: no route"),
            change(4_020, "fence-began", "n3: began to fence n1 by feed-a and feed-b (attempt 2)"),
            change(
                9_020,
                "fence-failed",
                "fence of n1 by feed-a and feed-b failed (attempt 2): feed-a: busy",
            ),
            change(14_020, "fence-began", "n2: began to fence n1 by bmc-n1 (attempt 3)"),
            change(14_420, "fence-proven", "n1 is proven gone after 20000 ms: it was fenced"),
            change(20_000, "fence-began", "n2: began to fence n1 by pdu (attempt 1)"),
        ];
        assert_eq!(
            expected("n1", "db.service", &steps).expect("known words"),
            [
                " by bmc-n1, run on ",
                " by feed-a and feed-b, run on ",
                "n1 is proven ",
                "waits: fencing n1 by feed-a and feed-b failed (feed-a: busy",
            ]
        );
    }

    #[test]
    fn only_a_unit_that_may_still_run_there_is_told_and_of_one_case_at_a_time() {
        let wanted = change(9, "fence-wanted", "n1 has to be fenced: db.service waits for it");
        assert_eq!(waiting_unit(&wanted), Some("db.service"));
        let granted = Change { unit: Some("db.service".to_owned()), ..change(5, "unit-granted", "") };
        assert!(waits("n1", "db.service", 7, &[granted.clone(), wanted.clone()]));
        assert!(!waits("n1", "other.service", 7, &[granted.clone(), wanted.clone()]));
        assert!(!waits("n1", "db.service", 7, &[granted, wanted.clone(), wanted]));
    }
}
