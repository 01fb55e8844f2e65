//! Random clusters that come to rest: units with random keys, wishes and faults, then calm.
//!
//! The planner may refuse, and has to say why; it may neither go on for ever nor forget what was asked. The laws are in
//! `calm/laws.rs`. A failure prints the history as a script: put into `policy/tests/scripts`, it is played again.
//! `CONVOKE_SEED=n` plays that one history, `CONVOKE_SEEDS=n` searches longer.

#![allow(
    clippy::disallowed_methods,
    reason = "the seed comes from the environment; the crate may not look there"
)]

#[path = "calm/mod.rs"]
mod model;
mod script;

use std::fmt::Write as _;

use model::{History, Kind};

/// Failures that are named, beside the one whose script is shown.
const NAMED: usize = 40;

/// The histories that the environment asks for, or else this many.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    match number("CONVOKE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CONVOKE_SEEDS").unwrap_or(default),
    }
}

/// Plays these histories; the shortest one that breaks a law is told as a script.
fn play(kind: Kind, default: u64) {
    let seeds = seeds(default);
    let (mut moves, mut missing) = (0, 0);
    let mut failed: Vec<History> = Vec::new();
    for seed in seeds.clone() {
        let history = History::play(seed, kind);
        (moves, missing) = (moves + history.moves, missing + history.missing);
        if history.violation.is_some() {
            failed.push(history);
        }
    }
    let count = failed.len();
    let mut report = String::new();
    for history in failed.iter().take(NAMED) {
        let _ = writeln!(report, "{}", history.title());
    }
    if let Some(shortest) = failed.iter().min_by_key(|history| history.lines()) {
        let _ = writeln!(report, "\n{}", shortest.script());
        let _ = writeln!(report, "replay: CONVOKE_SEED={} cargo test -p policy --test calm", shortest.seed);
    }
    assert!(count == 0, "{count} of these histories break a law:\n{report}");
    eprintln!("{kind:?}: {moves} copies granted or revoked, {missing} units wait at rest");
    let least = default as usize / 20;
    let tried = moves > 100 * least && missing > least;
    assert!(seeds.end - seeds.start < default || tried, "{moves} moves, {missing} waits: nothing was tried");
}

#[test]
fn clusters_of_mixed_units_come_to_rest() {
    play(Kind::Mixed, 2_000);
}

#[test]
fn clusters_with_a_role_come_to_rest() {
    play(Kind::Role, 500);
}
