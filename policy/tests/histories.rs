//! Random histories of whole clusters, with every rule checked after each step.
//!
//! A failure prints the seed; `CONVOKE_SEED=n cargo test -p policy --test histories one_history` plays it again and
//! tells its story. `CONVOKE_SEEDS=n` searches longer.

#![allow(
    clippy::disallowed_methods,
    reason = "the seed comes from the environment; the crate may not look there"
)]

mod history;

use history::{Mutation, Violation, World};

/// Steps of one history before its faults end.
const STEPS: usize = 400;

fn play(seed: u64, broken: Option<Mutation>) -> Result<(), Box<(Violation, World)>> {
    let mut world = World::new(seed, broken);
    let mut outcome = world.found();
    for _ in 0..STEPS {
        outcome = outcome.and_then(|()| world.step());
    }
    if broken.is_none() {
        outcome = outcome.and_then(|()| world.check_replay());
    }
    if matches!(broken, None | Some(Mutation::NeverFenced)) {
        outcome = outcome.and_then(|()| world.calm_down());
    }
    outcome.map_err(|violation| Box::new((violation, world)))
}

fn seeds(default: u64) -> u64 {
    std::env::var("CONVOKE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

fn tell(seed: u64, violation: &Violation, world: &World, lines: usize) -> String {
    let skip = world.story.len().saturating_sub(lines);
    let story = world.story.get(skip..).unwrap_or_default().join("\n");
    format!(
        "{story}\nseed {seed} breaks {}: {}\nreplay: CONVOKE_SEED={seed} cargo test -p policy --test histories one_history -- --nocapture",
        violation.rule, violation.what
    )
}

#[test]
fn random_histories_break_nothing() {
    for seed in 0..seeds(60) {
        if let Err(failure) = play(seed, None) {
            panic!("{}", tell(seed, &failure.0, &failure.1, 30));
        }
    }
}

/// The one history that `CONVOKE_SEED` names, with its whole story; the first one otherwise.
#[test]
fn one_history() {
    let seed = std::env::var("CONVOKE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    if let Err(failure) = play(seed, None) {
        panic!("{}", tell(seed, &failure.0, &failure.1, usize::MAX));
    }
}

/// Each rule left out, the search must find what it protects from: otherwise it would not have found a real gap.
#[test]
fn a_rule_left_out_is_found() {
    let rules = [
        (Mutation::ReleaseFirst, "S1 never twice"),
        (Mutation::NoFloor, "S1 never twice"),
        (Mutation::ReleaseOfAny, "S1 never twice"),
        (Mutation::HelloIsProof, "S1 never twice"),
        (Mutation::ProofOfAnyLife, "S1 never twice"),
        (Mutation::TimeJumps, "S1 never twice"),
        (Mutation::NoStopBudget, "S1 never twice"),
        (Mutation::HandStopForgotten, "S6 word"),
        (Mutation::SilenceIsAbsence, "S1 never twice"),
        (Mutation::UnaskedIsAbsence, "S1 never twice"),
        (Mutation::TermsAtOnce, "S1 never twice"),
        (Mutation::NoContradiction, "F18 alarm"),
        (Mutation::NeverFenced, "L1 converge"),
        (Mutation::LossVoids, "S1 never twice"),
    ];
    let mut unfound = Vec::new();
    for (rule, broken) in rules {
        let found =
            (0..1_000).find(|seed| play(*seed, Some(rule)).is_err_and(|failure| failure.0.rule == broken));
        match found {
            Some(seed) => eprintln!("{rule:?}: seed {seed} breaks {broken}"),
            None => unfound.push(rule),
        }
    }
    assert!(unfound.is_empty(), "left out and not missed: {unfound:?}");
}
