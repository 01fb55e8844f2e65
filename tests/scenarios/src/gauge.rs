//! Measured times against their goals.
//!
//! A shared machine stalls now and then, so a scenario fails only far beyond the goal; the benchmark is strict.

use std::time::Duration;

use anyhow::{Result, ensure};

/// How far beyond its goal a time fails a scenario.
const SLACK: u32 = 3;

/// Whether a run may be judged by the goals themselves: `CONVOKE_STRICT` is set.
#[must_use]
pub fn fast() -> bool {
    std::env::var_os("CONVOKE_STRICT").is_some()
}

/// Times of one kind.
#[derive(Clone, Debug)]
pub struct Gauge {
    what: String,
    goal: Duration,
    times: Vec<Duration>,
}

impl Gauge {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(what: &str, goal: Duration) -> Gauge {
        Gauge { what: what.into(), goal, times: Vec::new() }
    }

    /// One time.
    #[must_use]
    pub fn once(what: &str, goal: Duration, time: Duration) -> Gauge {
        Gauge { what: what.into(), goal, times: vec![time] }
    }

    /// Adds a time.
    pub fn add(&mut self, time: Duration) {
        self.times.push(time);
    }

    /// Times so far, shortest first.
    #[must_use]
    pub fn sorted(&self) -> Vec<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times
    }

    /// The one in the middle; nothing without any.
    #[must_use]
    pub fn median(&self) -> Duration {
        let times = self.sorted();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// The goal.
    #[must_use]
    pub fn goal(&self) -> Duration {
        self.goal
    }

    /// One line of a table.
    #[must_use]
    pub fn line(&self) -> String {
        let times = self.sorted();
        let (least, most) =
            (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
        let ms = |d: Duration| format!("{:.0}", d.as_secs_f64() * 1000.0);
        let verdict = if self.median() <= self.goal { "met" } else { "MISSED" };
        format!(
            "{:<58} n={:<3} median {:>6} ms  {:>6} … {:>6} ms  goal {:>6} ms  {verdict}",
            self.what,
            times.len(),
            ms(self.median()),
            ms(least),
            ms(most),
            ms(self.goal),
        )
    }

    /// Prints the line, and fails far beyond the goal.
    pub fn judge(&self) -> Result<()> {
        crate::say(&format!("    {}", self.line()));
        ensure!(!self.times.is_empty(), "{}: nothing was measured", self.what);
        let limit = if fast() { self.goal } else { self.goal * SLACK };
        ensure!(self.median() <= limit, "{}: {:?}, more than {limit:?}", self.what, self.median());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_judged() {
        let mut gauge = Gauge::new("x", Duration::from_millis(10));
        assert!(gauge.judge().is_err());
        for ms in [5, 500, 6] {
            gauge.add(Duration::from_millis(ms));
        }
        assert_eq!(gauge.median(), Duration::from_millis(6));
        assert!(gauge.judge().is_ok());
        assert!(Gauge::once("y", Duration::from_millis(10), Duration::from_millis(31)).judge().is_err());
    }
}
