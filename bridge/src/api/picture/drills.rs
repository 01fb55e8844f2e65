//! The last drills of a node as lines.

use policy::{DrillResult, Drilled, NodeId};

use super::View;
use crate::api::model::DrillLine;

impl View<'_> {
    pub(super) fn drill_lines(&self, id: NodeId) -> Vec<DrillLine> {
        let drills = self.state.drills.get(&id).into_iter().flatten();
        drills.map(|(level, drilled)| self.drill_line(*level, drilled)).collect()
    }

    fn drill_line(&self, level: u32, drilled: &Drilled) -> DrillLine {
        let (off_ms, back_ms, error) = match &drilled.result {
            DrillResult::Passed { off_ms, back_ms } => (Some(*off_ms), *back_ms, None),
            DrillResult::Failed { why } => (None, None, Some(why.clone())),
        };
        let when = ago(self.now.saturating_sub(drilled.at) / 1000);
        let level_name = format!("level {level}, {}", drilled.devices);
        let text = match (off_ms, &error) {
            (Some(off), _) => {
                let back = match back_ms {
                    Some(back) => format!("back {} later", seconds(back)),
                    None => "not back yet".to_owned(),
                };
                format!("drilled {when}: passed ({level_name}, off in {}, {back})", seconds(off))
            }
            (None, Some(error)) if drilled.by.is_none() => {
                format!(
                    "fenced {when}, and not off ({level_name}): {error}; only a drill can tell whether it is mended"
                )
            }
            (None, Some(error)) => format!("drilled {when}: failed ({level_name}): {error}"),
            (None, None) => format!("drilled {when}"),
        };
        let text = match drilled.lied && error.is_some() {
            true => format!("{text}; this level does not count before a drill of it passes"),
            false => text,
        };
        DrillLine {
            level,
            device: drilled.devices.clone(),
            case: drilled.case.0,
            by: drilled.by.clone().unwrap_or_default(),
            wall_ms: drilled.wall_ms,
            passed: error.is_none(),
            off_ms,
            back_ms,
            error,
            lied: drilled.lied,
            text,
        }
    }
}

/// `2.4 s`: what a person compares.
fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_times_are_short() {
        assert_eq!(seconds(2_449), "2.4 s");
        assert_eq!(seconds(40), "0.0 s");
        for (given, shown) in
            [(119, "119 s ago"), (120, "2 min ago"), (7_200, "2 h ago"), (1_036_800, "12 d ago")]
        {
            assert_eq!(ago(given), shown);
        }
    }
}
