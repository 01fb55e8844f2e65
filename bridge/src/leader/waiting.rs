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
    fn news(&mut self, waits: &BTreeMap<NodeId, Wait>, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        self.more = false;
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < AGAIN;
        for (node, wait) in waits {
            let told = self.nodes.entry(*node).or_default();
            for unit in &wait.units {
                let before = told.get(unit).and_then(|steps| steps.get(&wait.step));
                if before.is_some_and(|at| is_fresh(*at)) {
                    continue;
                }
                if news.len() == LINES_MAX {
                    self.more = true;
                    break;
                }
                let steps = told.entry(unit.clone()).or_default();
                steps.retain(|_, at| is_fresh(*at));
                steps.insert(wait.step.clone(), now);
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
        for line in reign.waiting.news(&waits(state, plan, now), Instant::now()) {
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
            let open = reign.sessions.iter().filter(|(_, session)| session.connection != 0);
            for (node, _) in open {
                let offer = state.nodes.get(node).and_then(|node| node.offers.get(&unit));
                if offer.is_some_and(|offer| offer.present) {
                    let note = Note { unit: unit.clone(), severity, text: text.clone() };
                    notes.entry(*node).or_default().push(note);
                }
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
        [(N1, Wait { step: step.to_owned(), units })].into()
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
                let news = told.news(&waits(step, &["db.service"]), now);
                lines.extend(news.iter().map(|_| (minute, step)));
            }
        }
        let (begun, failed) = ("begun 1", "failed 1: no route");
        assert_eq!(lines, [0_u64, 10, 20].map(|minute| [(minute, begun), (minute, failed)]).concat());
    }

    #[test]
    fn what_changes_is_told_at_once_and_the_end_once() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert_eq!(told.news(&waits("failed 1: a", &["db.service"]), now), waiting(&["db.service"]));
        assert_eq!(told.news(&waits("failed 1: b", &["db.service"]), now), waiting(&["db.service"]));
        assert_eq!(told.news(&waits("failed 1: a", &["db.service"]), now), []);
        // Another one waits for the same node since.
        let both = ["db.service", "web.service"];
        assert_eq!(told.news(&waits("failed 1: a", &both), now), waiting(&["web.service"]));
        // It was stopped; the other waits on.
        assert_eq!(told.news(&waits("failed 1: a", &["web.service"]), now), over(&["db.service"]));
        assert_eq!(told.news(&BTreeMap::new(), now), over(&["web.service"]));
        assert_eq!(told.news(&BTreeMap::new(), now), []);
        assert_eq!(told.news(&waits("failed 1: a", &["db.service"]), now), waiting(&["db.service"]));
    }

    #[test]
    fn a_thousand_units_are_told_one_part_after_another() {
        let (mut told, now) = (Told::default(), Instant::now());
        let names: Vec<String> = (0..1_000).map(|i| format!("u{i}.service")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let all = waits("begun 1", &names);
        let mut counts = Vec::new();
        for _ in 0..5 {
            counts.push((told.news(&all, now).len(), told.more));
        }
        assert_eq!(counts, [(256, true), (256, true), (256, true), (232, false), (0, false)]);
        assert_eq!((told.news(&BTreeMap::new(), now).len(), told.more), (256, true));
    }
}
