//! What units are told, in their own journals, of the fences that they wait for.
//!
//! Decides what is news, and how much of it is told at a time; the nodes that offer a unit write it down. Nothing is decided by it
//! and nothing waits for it: a line that is lost is lost, and the next leader says once more how a fence stands.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use policy::{NodeId, Severity, UnitName};

use super::core::Core;
use super::orders::Changed;
use crate::api::picture::{Wait, wait_over, wait_text, waits};
use crate::session::message::Note;

/// After this time a unit is told again of what it was told before: a device that fails for ever does so every minute.
const AGAIN: Duration = Duration::from_secs(600);
/// How many steps a unit is told of within that time: an agent whose words differ each time says nothing new by that.
const STEPS_MAX: usize = 20;
/// Lines told at a time; the others follow with the next look. What a node is to do comes behind them, and a journald that hangs
/// leaves room for 1,024 lines.
const LINES_MAX: usize = 256;

/// What units were told in this term.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Of each node that they wait for: when which unit was told of which step.
    nodes: BTreeMap<NodeId, BTreeMap<UnitName, BTreeMap<String, Instant>>>,
    /// Something is left for the next look.
    more: bool,
}

/// One line to be told.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// A unit waits for the fence of a node, which stands otherwise than before.
    Waits(NodeId, UnitName),
    /// It does not wait for it any more.
    Over(NodeId, UnitName),
}

impl Told {
    /// What units are to be told that somebody hears of.
    fn news(
        &mut self,
        waits: &BTreeMap<NodeId, Wait>,
        is_heard: impl Fn(&UnitName) -> bool,
        now: Instant,
    ) -> Vec<News> {
        let mut news = Vec::new();
        self.more = false;
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < AGAIN;
        for (node, wait) in waits {
            let Some(step) = &wait.step else { continue };
            let told = self.nodes.entry(*node).or_default();
            for unit in &wait.units {
                let before = told.get(unit).into_iter().flatten().filter(|(_, at)| is_fresh(**at));
                let before: Vec<&String> = before.map(|(step, _)| step).collect();
                if before.contains(&step) || before.len() >= STEPS_MAX || !is_heard(unit) {
                    continue;
                }
                if news.len() == LINES_MAX {
                    self.more = true;
                    break;
                }
                let steps = told.entry(unit.clone()).or_default();
                steps.retain(|_, at| is_fresh(*at));
                steps.insert(step.clone(), now);
                news.push(News::Waits(*node, unit.clone()));
            }
        }
        for (node, told) in &mut self.nodes {
            let wait = waits.get(node);
            let waits_no_more = |unit: &&UnitName| wait.is_none_or(|wait| !wait.units.contains(*unit));
            let over: Vec<UnitName> = told.keys().filter(waits_no_more).cloned().collect();
            for unit in over {
                if news.len() == LINES_MAX {
                    self.more = true;
                    break;
                }
                told.remove(&unit);
                news.push(News::Over(*node, unit));
            }
        }
        self.nodes.retain(|_, told| !told.is_empty());
        news
    }
}

impl Core {
    /// What is new for units that wait for a fence, by the nodes that offer them.
    pub(super) fn notes(&mut self, changed: Changed) -> BTreeMap<NodeId, Vec<Note>> {
        let mut notes: BTreeMap<NodeId, Vec<Note>> = BTreeMap::new();
        let (state, plan) = (&self.replica.state, self.replica.kept.plan());
        let Some(reign) = self.reign.as_mut().filter(|reign| reign.began.is_some()) else { return notes };
        if changed == Changed::Nothing && !reign.waiting.more {
            return notes;
        }
        let now = reign.time(state.time);
        let open = reign.sessions.iter().filter(|(_, session)| session.connection != 0);
        let open: Vec<NodeId> = open.map(|(node, _)| *node).collect();
        let offers = |node: &NodeId, unit: &UnitName| {
            let offer = state.nodes.get(node).and_then(|node| node.offers.get(unit));
            offer.is_some_and(|offer| offer.present)
        };
        let is_heard = |unit: &UnitName| open.iter().any(|node| offers(node, unit));
        let waits = waits(state, plan, !reign.waiting.nodes.is_empty(), now);
        for line in reign.waiting.news(&waits, is_heard, Instant::now()) {
            let (unit, severity, text) = match line {
                News::Waits(node, unit) => {
                    let text = wait_text(state, node, &unit, now);
                    (unit, Severity::Warning, text)
                }
                News::Over(node, unit) => match wait_over(state, node, &unit) {
                    Some(text) => (unit, Severity::Info, text),
                    None => continue,
                },
            };
            for node in open.iter().filter(|node| offers(node, &unit)) {
                let note = Note { unit: unit.clone(), severity, text: text.clone() };
                notes.entry(*node).or_default().push(note);
            }
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N1: NodeId = NodeId(1);

    fn waits(step: &str, units: &[&str]) -> BTreeMap<NodeId, Wait> {
        let units = units.iter().map(|unit| UnitName::from(*unit)).collect();
        [(N1, Wait { step: Some(step.to_owned()), units })].into()
    }

    fn waiting(units: &[&str]) -> Vec<News> {
        units.iter().map(|unit| News::Waits(N1, UnitName::from(*unit))).collect()
    }

    fn over(units: &[&str]) -> Vec<News> {
        units.iter().map(|unit| News::Over(N1, UnitName::from(*unit))).collect()
    }

    #[test]
    fn a_device_that_fails_for_ever_is_told_of_at_first_and_every_ten_minutes() {
        let (mut told, begun) = (Told::default(), Instant::now());
        let mut lines = Vec::new();
        for minute in 0..21 {
            let now = begun + Duration::from_secs(60 * minute);
            for step in ["begun 1", "failed 1: no route"] {
                let news = told.news(&waits(step, &["db.service"]), |_| true, now);
                lines.extend(news.iter().map(|_| (minute, step)));
            }
        }
        let (begun, failed) = ("begun 1", "failed 1: no route");
        assert_eq!(lines, [0_u64, 10, 20].map(|minute| [(minute, begun), (minute, failed)]).concat());
    }

    #[test]
    fn what_changes_is_told_at_once_and_the_end_once() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert_eq!(
            told.news(&waits("failed 1: a", &["db.service"]), |_| true, now),
            waiting(&["db.service"])
        );
        assert_eq!(
            told.news(&waits("failed 1: b", &["db.service"]), |_| true, now),
            waiting(&["db.service"])
        );
        assert_eq!(told.news(&waits("failed 1: a", &["db.service"]), |_| true, now), []);
        // Another one waits for the same node since.
        let both = ["db.service", "web.service"];
        assert_eq!(told.news(&waits("failed 1: a", &both), |_| true, now), waiting(&["web.service"]));
        // It was stopped; the other waits on.
        assert_eq!(told.news(&waits("failed 1: a", &["web.service"]), |_| true, now), over(&["db.service"]));
        assert_eq!(told.news(&BTreeMap::new(), |_| true, now), over(&["web.service"]));
        assert_eq!(told.news(&BTreeMap::new(), |_| true, now), []);
        assert_eq!(
            told.news(&waits("failed 1: a", &["db.service"]), |_| true, now),
            waiting(&["db.service"])
        );
    }

    #[test]
    fn a_wait_goes_on_while_no_step_of_it_is_known() {
        let (mut told, now) = (Told::default(), Instant::now());
        let mut between = waits("", &["db.service", "web.service"]);
        between.values_mut().for_each(|wait| wait.step = None);
        assert_eq!(told.news(&between, |_| true, now), []);
        let db = waiting(&["db.service"]);
        assert_eq!(told.news(&waits("begun 1", &["db.service"]), |_| true, now), db);
        // The first case has ended, and the next one is about to be opened.
        assert_eq!(told.news(&between, |_| true, now), []);
        assert_eq!(told.news(&BTreeMap::new(), |_| true, now), over(&["db.service"]));
    }

    #[test]
    fn words_that_differ_each_time_are_told_a_few_times() {
        let (mut told, begun) = (Told::default(), Instant::now());
        let mut lines = Vec::new();
        for attempt in 0..90 {
            let now = begun + Duration::from_secs(20 * attempt);
            let step = format!("failed 1: process {attempt} was killed");
            lines.extend(told.news(&waits(&step, &["db.service"]), |_| true, now).iter().map(|_| attempt));
        }
        let expected: Vec<u64> = (0..90).filter(|attempt| attempt % 30 < 20).collect();
        assert_eq!(lines, expected, "20 in ten minutes");
    }

    #[test]
    fn what_nobody_heard_was_not_told() {
        let (mut told, now) = (Told::default(), Instant::now());
        let all = waits("no device", &["db.service"]);
        assert_eq!(told.news(&all, |_| false, now), []);
        assert_eq!(told.news(&all, |_| true, now), waiting(&["db.service"]));
    }

    #[test]
    fn a_thousand_units_are_told_one_part_after_another() {
        let (mut told, now) = (Told::default(), Instant::now());
        let names: Vec<String> = (0..1_000).map(|i| format!("u{i}.service")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let all = waits("begun 1", &names);
        let mut counts = Vec::new();
        for _ in 0..5 {
            counts.push((told.news(&all, |_| true, now).len(), told.more));
        }
        assert_eq!(counts, [(256, true), (256, true), (256, true), (232, false), (0, false)]);
        assert_eq!((told.news(&BTreeMap::new(), |_| true, now).len(), told.more), (256, true));
    }
}
