//! Seeds: each is a cluster that is broken in its own way, and must come out of it with every promise kept.

use std::fmt::Write as _;

use sim::Flaw;

/// Seeds of every `make test`; `make soak` goes on from there. One core takes just under two minutes for them.
const SEEDS: u64 = 500;
/// Each fault that is put in on purpose is found within so many seeds.
const SEARCH: u64 = 100;

#[test]
fn no_seed_breaks_a_promise() {
    let mut broken = String::new();
    for outcome in
        (0..SEEDS).map(|seed| sim::run(seed, None, false)).filter(|outcome| outcome.broken.is_some())
    {
        let _ = writeln!(broken, "{}", sim::replay(&outcome, None));
    }
    assert!(broken.is_empty(), "{broken}");
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in [3, 8] {
        assert_eq!(sim::run(seed, None, false), sim::run(seed, None, false));
    }
}

#[test]
fn every_fault_that_is_put_in_is_found() {
    let mut missed = Vec::new();
    for (name, flaw) in Flaw::ALL {
        if !(0..SEARCH).any(|seed| sim::run(seed, Some(flaw), false).broken.is_some()) {
            missed.push(name);
        }
    }
    assert!(missed.is_empty(), "not found within {SEARCH} seeds: {missed:?}");
}
