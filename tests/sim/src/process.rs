//! One seed in a process of its own.
//!
//! A number that tokio counts in each process decides its `select!`s as well: only a seed that is the first of its process tells
//! the same story each time, and only then does a failure come back when it is replayed.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::Outcome;

/// Set for a process that runs one seed and says in one line what came of it.
pub const TERSE: &str = "SIM_TERSE";

/// What a seed is run with.
#[derive(Clone, Copy, Debug)]
pub enum With<'a> {
    /// Nothing but what it draws.
    Nothing,
    /// A fault, by its name.
    Flaw(&'a str),
    /// A fence device that lies.
    Liar,
}

/// Runs a seed by another process of the program `soak`. The number beside the outcome is that of the lies that were found out.
///
/// # Panics
/// If there is no process to be had, or it says nothing that makes sense.
#[must_use]
pub fn run(soak: &Path, seed: u64, with: With<'_>) -> (Outcome, u64) {
    let mut command = Command::new(soak);
    command.env(TERSE, "1").env("SIM_SEED", seed.to_string());
    command.env_remove("SIM_FLAW").env_remove("SIM_LIAR").env_remove("SIM_LOG");
    let with = match with {
        With::Nothing => None,
        With::Flaw(name) => Some(("SIM_FLAW", name)),
        With::Liar => Some(("SIM_LIAR", "1")),
    };
    command.envs(with);
    let output = command.output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    read(seed, text.trim_end()).unwrap_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let broken = Some(format!("its process ended ({}): {text} {said}", output.status));
        (Outcome { seed, broken, trace: 0, simulated_ms: 0 }, 0)
    })
}

/// Says what came of a seed, for [`run`].
///
/// # Errors
/// If nobody reads it.
pub fn tell(outcome: &Outcome, found_out: u64) -> io::Result<()> {
    let Outcome { trace, simulated_ms, broken, .. } = outcome;
    // A panic may have several lines.
    let broken = broken.as_deref().unwrap_or_default().replace('\n', " ");
    writeln!(io::stdout(), "{trace} {simulated_ms} {found_out} {broken}")
}

fn read(seed: u64, line: &str) -> Option<(Outcome, u64)> {
    let mut words = line.splitn(4, ' ');
    let mut number = || words.next()?.parse::<u64>().ok();
    let (trace, simulated_ms, found_out) = (number()?, number()?, number()?);
    let broken = words.next().filter(|broken| !broken.is_empty()).map(str::to_owned);
    Some((Outcome { seed, broken, trace, simulated_ms }, found_out))
}

/// Does something for each of these seeds, for as many at a time as there are processors.
pub fn each(seeds: std::ops::Range<u64>, body: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    body(seed);
                }
            });
        }
    });
}

/// What is broken in any of these seeds, each with the line that replays it; and how many lies were found out.
#[must_use]
pub fn broken(soak: &Path, seeds: std::ops::Range<u64>, with: With<'_>) -> (String, u64) {
    let (lines, found_out) = (Mutex::new(Vec::new()), AtomicU64::new(0));
    each(seeds, |seed| {
        let (outcome, count) = run(soak, seed, with);
        found_out.fetch_add(count, Ordering::Relaxed);
        if outcome.broken.is_some() {
            let line = match with {
                With::Nothing => crate::replay(&outcome, None),
                With::Flaw(name) => crate::replay(&outcome, Some(name)),
                With::Liar => format!("{} (SIM_LIAR=1)", crate::replay(&outcome, None)),
            };
            lines.lock().expect("no thread has panicked").push((seed, line));
        }
    });
    let mut lines = lines.into_inner().expect("no thread has panicked");
    lines.sort();
    let text = lines.into_iter().map(|(_, line)| line + "\n").collect();
    (text, found_out.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_seed_is_read_back() {
        let read = |line: &str| read(7, line).map(|(outcome, count)| (outcome.broken, outcome.trace, count));
        assert_eq!(read("12 34000 1 "), Some((None, 12, 1)));
        assert_eq!(read("12 34000 0 3 s: S1: two"), Some((Some("3 s: S1: two".to_owned()), 12, 0)));
        assert_eq!(read("thread panicked"), None);
    }
}
