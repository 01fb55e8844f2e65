//! Waits that have a condition and a bound, and say what they saw last.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cluster::Cluster;
use crate::model::{Change, End, Overview};
use crate::watch::{Beat, Moment};

/// Between two looks at `convoke status`: each is a process on a machine that is being measured.
const LOOK: Duration = Duration::from_millis(60);
/// Between two looks at the witness' file.
const GLANCE: Duration = Duration::from_millis(2);

impl Cluster {
    /// Asks until there is an answer; an error of `ask` is shown if there is none in time.
    pub fn wait_for<T>(
        &self,
        what: &str,
        bound: Duration,
        mut ask: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let begin = Moment::now();
        let mut last = String::new();
        loop {
            match ask() {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(error) => last = format!("; the last look: {error:#}"),
            }
            if begin.elapsed() > bound {
                bail!("not within {bound:?}: {what}{last}");
            }
            self.ask_around(begin);
            std::thread::sleep(LOOK);
        }
    }

    /// Looks at the status that a majority confirms until it is as `fits` says.
    pub fn until(&self, what: &str, bound: Duration, fits: impl Fn(&Overview) -> bool) -> Result<Overview> {
        let mut last = None;
        let found = self.wait_for(what, bound, || {
            let now = self.overview()?;
            let fit = now.quorum && fits(&now);
            last = Some(now.clone());
            Ok(fit.then_some(now))
        });
        found.map_err(|error| match last {
            Some(now) => error.context(crate::cluster::summary(&now)),
            None => error,
        })
    }

    /// Waits until a node that was lost is online again; the answer is how its last life ended.
    pub fn back(&self, i: usize, bound: Duration) -> Result<End> {
        let name = self.node(i).name();
        let now = self.until(&format!("{name} is back"), bound, |now| now.online(&name))?;
        now.node(&name).and_then(|node| node.last_end.clone()).context("nothing of its end")
    }

    /// Waits until something of a kind has happened after an index of the log; the answer is all that happened.
    pub fn until_event(&self, index: u64, kind: &str, bound: Duration) -> Result<Vec<Change>> {
        self.wait_for(&format!("{kind} happens"), bound, || {
            let events = self.events_after(index)?;
            Ok(events.iter().any(|e| e.kind == kind).then_some(events))
        })
    }

    /// Waits until a witness begins a life after `then`. Asks nobody but its file.
    pub fn next_life(&self, unit: &str, then: Moment, bound: Duration) -> Result<Beat> {
        let begin = Moment::now();
        loop {
            if let Some(beat) = self.beat(unit).filter(|b| b.since > then) {
                return Ok(beat);
            }
            if begin.elapsed() > bound {
                let last = self.beat(unit);
                bail!("not within {bound:?}: {unit} runs anew; its last beat: {last:?}");
            }
            self.ask_around(begin);
            std::thread::sleep(GLANCE);
        }
    }

    /// Watches that a witness stays silent for a time.
    pub fn stays_silent(&self, unit: &str, span: Duration) -> Result<()> {
        let begin = Moment::now();
        while begin.elapsed() < span {
            if let Some(beat) = self.beat(unit).filter(|b| b.at > begin) {
                bail!("{unit} runs on {}, though it must not", beat.node);
            }
            self.ask_around(begin);
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Watches for a time that something is always so.
    pub fn always(&self, what: &str, span: Duration, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
        let begin = Moment::now();
        while begin.elapsed() < span {
            if !so()? {
                bail!("not any more after {:?}: {what}", begin.elapsed());
            }
            self.ask_around(begin);
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}
