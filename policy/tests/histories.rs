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
/// The same with a clustered service: it takes many steps to come up, and to come up again.
const SERVICE_STEPS: usize = 1_200;

fn play(seed: u64, broken: Option<Mutation>) -> Result<World, Box<(Violation, World)>> {
    let mut world = World::new(seed, broken);
    match play_in(&mut world, broken, STEPS) {
        Ok(()) => Ok(world),
        Err(violation) => Err(Box::new((violation, world))),
    }
}

/// The same, in a world with a clustered service (F16).
fn play_service(seed: u64, broken: Option<Mutation>) -> Result<World, Box<(Violation, World)>> {
    let mut world = World::with_service(seed, broken);
    match play_in(&mut world, broken, SERVICE_STEPS) {
        Ok(()) => Ok(world),
        Err(violation) => Err(Box::new((violation, world))),
    }
}

/// The same, in a world with a replicated database and its role (P80 to P85).
fn play_database(seed: u64, broken: Option<Mutation>) -> Result<World, Box<(Violation, World)>> {
    let mut world = World::with_database(seed, broken);
    match play_in(&mut world, broken, SERVICE_STEPS) {
        Ok(()) => Ok(world),
        Err(violation) => Err(Box::new((violation, world))),
    }
}

/// The same, in a world with a switch (P120 to P126).
fn play_fabric(seed: u64, broken: Option<Mutation>) -> Result<World, Box<(Violation, World)>> {
    let mut world = World::with_fabric(seed, broken);
    match play_in(&mut world, broken, STEPS) {
        Ok(()) => Ok(world),
        Err(violation) => Err(Box::new((violation, world))),
    }
}

fn play_in(world: &mut World, broken: Option<Mutation>, steps: usize) -> Result<(), Violation> {
    let mut outcome = world.found();
    for _ in 0..steps {
        outcome = outcome.and_then(|()| world.step());
    }
    if broken.is_none() {
        outcome = outcome.and_then(|()| world.check_replay());
    }
    if matches!(broken, None | Some(Mutation::NeverFenced)) {
        outcome = outcome.and_then(|()| world.calm_down());
    }
    outcome
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
    let (mut plans, mut parts, mut passed_over) = (0, 0, 0);
    for seed in 0..seeds(60) {
        match play(seed, None) {
            Ok(world) => {
                (plans, parts) = (plans + world.renewals.0, parts + world.renewals.1);
                passed_over += world.passed_over;
            }
            Err(failure) => panic!("{}", tell(seed, &failure.0, &failure.1, 30)),
        }
    }
    eprintln!(
        "{parts} of {plans} plans were renewed in a part only; nodes were passed over {passed_over} times"
    );
    assert!(parts > plans / 4, "only {parts} of {plans} plans rest on an earlier one");
    assert!(passed_over > 5, "passed over {passed_over} times: nothing was tried");
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
        (Mutation::ProofOfTheLiving, "S1 never twice"),
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

/// The same in worlds with a switch whose ports cut machines off.
#[test]
fn random_histories_with_ports_break_nothing() {
    let only = std::env::var("CONVOKE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let (mut cuts, mut opened) = (0, 0);
    for seed in only.map_or(0..seeds(60), |seed| seed..seed + 1) {
        match play_fabric(seed, None) {
            Ok(world) => {
                let fabric = world.fabric.unwrap_or_default();
                (cuts, opened) = (cuts + fabric.cuts, opened + fabric.opened);
            }
            Err(failure) => {
                let lines = if only.is_some() { usize::MAX } else { 30 };
                panic!("{}", tell(seed, &failure.0, &failure.1, lines));
            }
        }
    }
    eprintln!("{cuts} cuts, {opened} ways opened");
    assert!(only.is_some() || (cuts > 5 && opened > 50), "{cuts} cuts, {opened} opened: nothing was tried");
}

#[test]
fn a_rule_of_isolation_left_out_is_found() {
    for rule in [Mutation::CutEndsAll, Mutation::CutIsForgotten] {
        let found = |seed: &u64| {
            play_fabric(*seed, Some(rule)).is_err_and(|failure| failure.0.rule == "S1 never twice")
        };
        let seed = (0..5_000).find(found);
        eprintln!("{rule:?}: seed {seed:?} breaks S1");
        assert!(seed.is_some(), "{rule:?} left out and not missed");
    }
}

/// A plan that is kept, and not told of all, is found to differ from one of the whole state.
#[test]
fn an_untold_release_is_found() {
    let found = |seed: &u64| {
        let failure = play(*seed, Some(Mutation::UntoldRelease)).err();
        failure.is_some_and(|failure| failure.0.rule == "kept plan")
    };
    let seed = (0..100).find(found).expect("left out and not missed");
    eprintln!("UntoldRelease: seed {seed} breaks the kept plan");
}

#[test]
fn random_histories_of_a_clustered_service_break_nothing() {
    let only = std::env::var("CONVOKE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let mut elections = 0;
    for seed in only.map_or(0..seeds(40), |seed| seed..seed + 1) {
        match play_service(seed, None) {
            Ok(world) => elections += world.service.map_or(0, |service| service.elections),
            Err(failure) => {
                let lines = if only.is_some() { usize::MAX } else { 30 };
                panic!("{}", tell(seed, &failure.0, &failure.1, lines));
            }
        }
    }
    eprintln!("{elections} elections");
    assert!(only.is_some() || elections > 40, "only {elections} elections: nothing was tried");
}

/// The same for the rules of a boot-up: each, left out, loses writes, or has two start alone, or diverge in silence.
#[test]
fn a_rule_of_the_boot_up_left_out_is_found() {
    let rules = [
        Mutation::LossShrinks,
        Mutation::TimeIsProof,
        Mutation::RestartAlone,
        Mutation::ReadyBefore,
        Mutation::StrangerCounts,
    ];
    let mut unfound = Vec::new();
    for rule in rules {
        let broken = |seed: &u64| play_service(*seed, Some(rule)).err().map(|failure| failure.0.rule);
        match (0..10_000).find_map(|seed| broken(&seed).map(|broken| (seed, broken))) {
            Some((seed, broken)) if broken.starts_with("F16") => {
                eprintln!("{rule:?}: seed {seed} breaks {broken}");
            }
            other => unfound.push((rule, other)),
        }
    }
    assert!(unfound.is_empty(), "left out and not missed: {unfound:?}");
}

#[test]
fn random_histories_of_a_role_break_nothing() {
    let only = std::env::var("CONVOKE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let mut choices = 0;
    for seed in only.map_or(0..seeds(40), |seed| seed..seed + 1) {
        match play_database(seed, None) {
            Ok(world) => choices += world.database.map_or(0, |database| database.choices),
            Err(failure) => {
                let lines = if only.is_some() { usize::MAX } else { 30 };
                panic!("{}", tell(seed, &failure.0, &failure.1, lines));
            }
        }
    }
    eprintln!("{choices} choices");
    assert!(only.is_some() || choices > 40, "only {choices} choices: nothing was tried");
}
