//! Reads what the witness service wrote down: when and where it ran, how long it did not, and whether it ran twice.
//!
//! Believes the file and nothing else: neither the cluster nor systemd is asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Time between two beats of a witness.
pub const BEAT: Duration = Duration::from_millis(5);

/// One life of the service: from its first to its last beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where.
    pub node: String,
    /// Its pid there.
    pub pid: u32,
    /// First beat, monotonic ns.
    pub from_ns: u64,
    /// Last beat, monotonic ns.
    pub to_ns: u64,
    /// Beats in all.
    pub beats: usize,
}

/// A time without a beat of anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Last beat before.
    pub from_ns: u64,
    /// First beat after.
    pub to_ns: u64,
    /// Node of the last beat before.
    pub from_node: String,
    /// Node of the first beat after.
    pub to_node: String,
}

impl Gap {
    /// How long.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.to_ns - self.from_ns)
    }
}

/// Two lives at one time: what must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The one that began earlier.
    pub first: Run,
    /// The one that began before the first had ended.
    pub second: Run,
}

/// All lives of a witness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// By their begin.
    pub runs: Vec<Run>,
    /// Beats of all lives: time and index in `runs`.
    beats: Vec<(u64, usize)>,
}

impl Timeline {
    /// Reads a witness file. No file: it never ran.
    pub fn read(path: &Path) -> Result<Timeline> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Reads the lines `<ns> <node> <pid> <ns of its start>`. A last line that is not finished is left out.
    pub fn parse(text: &str) -> Result<Timeline> {
        let mut lives: BTreeMap<(u64, &str, u32), Vec<u64>> = BTreeMap::new();
        for line in text.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n')) {
            let words: Vec<&str> = line.split(' ').collect();
            let [at, node, pid, start] = words[..] else { anyhow::bail!("`{line}` is no line of a witness") };
            let what = || format!("`{line}` is no line of a witness");
            let key = (start.parse().with_context(what)?, node, pid.parse().with_context(what)?);
            lives.entry(key).or_default().push(at.parse().with_context(what)?);
        }
        let mut timeline = Self::default();
        // A run of beats of one life is in order, as one thread writes it; the lives are in order of their start.
        for ((_, node, pid), times) in lives {
            let (Some(from_ns), Some(to_ns)) = (times.iter().min().copied(), times.iter().max().copied())
            else {
                continue;
            };
            let index = timeline.runs.len();
            timeline.runs.push(Run { node: node.to_owned(), pid, from_ns, to_ns, beats: times.len() });
            timeline.beats.extend(times.into_iter().map(|t| (t, index)));
        }
        timeline.beats.sort_unstable();
        Ok(timeline)
    }

    /// Pairs of lives that share an instant. A frozen life counts until its last beat: it was there all along.
    #[must_use]
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut found = Vec::new();
        for (k, first) in self.runs.iter().enumerate() {
            for second in &self.runs[k + 1..] {
                if first.from_ns <= second.to_ns && second.from_ns <= first.to_ns {
                    found.push(Overlap { first: first.clone(), second: second.clone() });
                }
            }
        }
        found
    }

    /// Times longer than `least` without a beat, in order.
    #[must_use]
    pub fn gaps(&self, least: Duration) -> Vec<Gap> {
        self.pairs().filter(|g| g.length() > least).collect()
    }

    /// The longest time without a beat; none with fewer than two beats.
    #[must_use]
    pub fn longest_gap(&self) -> Option<Gap> {
        self.pairs().max_by_key(Gap::length)
    }

    /// The time without service that follows `at_ns`: from the last beat of whoever ran then to the first beat of the
    /// next life. None as long as no other life began after it.
    #[must_use]
    pub fn gap_after(&self, at_ns: u64) -> Option<Gap> {
        let next = self.runs.iter().find(|r| r.from_ns > at_ns)?;
        let before = self.runs.iter().filter(|r| r.from_ns < next.from_ns).max_by_key(|r| r.to_ns)?;
        Some(Gap {
            from_ns: before.to_ns.min(next.from_ns),
            to_ns: next.from_ns,
            from_node: before.node.clone(),
            to_node: next.node.clone(),
        })
    }

    /// The life with the last beat.
    #[must_use]
    pub fn last(&self) -> Option<&Run> {
        self.beats.last().map(|(_, index)| &self.runs[*index])
    }

    /// Whether a beat came within the last 100 ms.
    #[must_use]
    pub fn is_beating(&self) -> bool {
        self.last().is_some_and(|r| crate::now_ns().saturating_sub(r.to_ns) < 100_000_000)
    }

    fn pairs(&self) -> impl Iterator<Item = Gap> + '_ {
        self.beats.windows(2).map(|w| Gap {
            from_ns: w[0].0,
            to_ns: w[1].0,
            from_node: self.runs[w[0].1].node.clone(),
            to_node: self.runs[w[1].1].node.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn beats(node: &str, start: u64, times: impl Iterator<Item = u64>) -> String {
        times.map(|t| format!("{} {node} 7 {}\n", t * MS, start * MS)).collect()
    }

    #[test]
    fn a_move_is_a_gap_and_no_overlap() {
        let text = beats("n1", 0, (0..100).step_by(5)) + &beats("n2", 130, (130..200).step_by(5));
        let t = Timeline::parse(&text).unwrap();
        assert_eq!(t.runs.len(), 2);
        assert_eq!(t.overlaps(), []);
        let gap = t.gap_after(90 * MS).unwrap();
        assert_eq!((gap.from_ns, gap.to_ns), (95 * MS, 130 * MS));
        assert_eq!((gap.from_node.as_str(), gap.to_node.as_str()), ("n1", "n2"));
        assert_eq!(t.longest_gap(), Some(gap.clone()));
        assert_eq!(t.gaps(Duration::from_millis(20)), [gap]);
        assert_eq!(t.gap_after(150 * MS), None);
        assert_eq!(t.last().unwrap().node, "n2");
    }

    #[test]
    fn two_at_once_is_an_overlap_even_when_their_beats_do_not_mix() {
        // n1 is frozen from 50 to 300 while n2 runs.
        let text = beats("n1", 0, [0, 50, 300].into_iter()) + &beats("n2", 100, (100..200).step_by(5));
        let t = Timeline::parse(&text).unwrap();
        assert_eq!(t.overlaps().len(), 1);
        assert_eq!(t.overlaps()[0].second.node, "n2");
    }

    #[test]
    fn a_line_in_the_middle_of_its_write_is_left_out_and_garbage_is_an_error() {
        assert_eq!(Timeline::parse("5 n1 7 5\n10 n1").unwrap().runs[0].beats, 1);
        assert!(Timeline::parse("5 n1\n").is_err());
        assert_eq!(Timeline::parse("").unwrap(), Timeline::default());
    }
}
