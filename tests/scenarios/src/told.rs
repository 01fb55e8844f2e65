//! What people are told of a fence: in `status`, in `why`, and in the journal of the unit that waits for it.

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
        let error = error.split_whitespace().take(WORDS).collect::<Vec<_>>().join(" ");
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
        let events = self.events_after(index)?;
        for (at, wanted) in events.iter().enumerate().filter(|(_, event)| event.kind == "fence-wanted") {
            let Some((node, unit)) = wanted.node.as_ref().zip(waiting_unit(wanted)) else { continue };
            let steps = events.iter().skip(at + 1).filter(|event| event.node.as_ref() == Some(node));
            let lines = expected(node, steps)?;
            if lines.is_empty() {
                continue;
            }
            let since = wanted.wall_ms / 1000;
            let line = format!(
                "journalctl --sync; journalctl --boot --quiet --no-pager --output=cat --unit={unit} --since=@{since}"
            );
            self.wait_for(&format!("the journal of {unit} tells of the fence of {node}"), SOON, || {
                let mut told = String::new();
                for one in self.awake() {
                    told += &one.run_ok(&line)?;
                }
                let lacking: Vec<_> = lines.iter().filter(|line| !told.contains(line.as_str())).collect();
                ensure!(lacking.is_empty(), "nobody's tells {lacking:?}:\n{told}");
                Ok(Some(()))
            })?;
        }
        Ok(())
    }
}

/// The unit that a fence is wanted for.
fn waiting_unit(wanted: &Change) -> Option<&str> {
    wanted.text.split_once(" has to be fenced: ")?.1.strip_suffix(" waits for it")
}

/// What the journal has to say of one case: how each step begins that stood for a while, and how it ended.
fn expected<'a>(node: &str, steps: impl Iterator<Item = &'a Change>) -> Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    let mut steps = steps.peekable();
    while let Some(step) = steps.next() {
        let until = steps.peek().map_or(u64::MAX, |next| next.time_ms);
        let stood = until.saturating_sub(step.time_ms) >= STANDS_MS;
        let unreadable = || format!("unknown words: {}", step.text);
        match step.kind.as_str() {
            "fence-began" if stood => {
                let (executor, rest) = step.text.split_once(": began to fence ").with_context(unreadable)?;
                let device = rest.split_once(" by ").and_then(|(_, rest)| rest.split_once(" (attempt "));
                let (device, _) = device.with_context(unreadable)?;
                lines.push(format!("waits: {node} is being fenced by {device}, run on {executor}"));
            }
            "fence-failed" if stood && !step.text.ends_with("it was called off before it began") => {
                let device = step.text.split_once(" by ").and_then(|(_, rest)| rest.split_once(" failed "));
                let (device, rest) = device.with_context(unreadable)?;
                let (_, error) = rest.split_once(": ").with_context(unreadable)?;
                lines.push(format!("waits: fencing {node} by {device} failed ({error}"));
            }
            "fence-proven" => {
                if !lines.is_empty() && step.text.contains("is proven gone") {
                    lines.push(format!("{node} is proven "));
                }
                break;
            }
            "fence-cancelled" | "fence-isolated" | "fence-wanted" => break,
            _ => {}
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(time_ms: u64, kind: &str, text: &str) -> Change {
        let (kind, text) = (kind.to_owned(), text.to_owned());
        Change { index: 0, wall_ms: 0, time_ms, node: Some("n1".to_owned()), unit: None, kind, text }
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
            change(20_000, "fence-began", "n2: began to fence n1 by bmc-n1 (attempt 1)"),
        ];
        let lines = expected("n1", steps.iter()).expect("known words");
        assert_eq!(
            lines,
            [
                "waits: n1 is being fenced by bmc-n1, run on n2",
                "waits: n1 is being fenced by feed-a and feed-b, run on n3",
                "waits: fencing n1 by feed-a and feed-b failed (feed-a: busy",
                "n1 is proven ",
            ]
        );
        assert_eq!(
            waiting_unit(&change(0, "fence-wanted", "n1 has to be fenced: db.service waits for it")),
            Some("db.service")
        );
    }
}
