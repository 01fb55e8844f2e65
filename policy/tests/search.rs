//! Exhaustive searches: every order of messages, faults and decisions, to a stated depth.
//!
//! `docs/policy.md` says what is modelled, how deep, and what was found. A failure tells the shortest way to it.
//! `CONVOKE_DEPTH=n` searches n steps deeper, `CONVOKE_SCENE=name` only there, `CONVOKE_STORY=1` tells how each
//! rule that is left out breaks a promise.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the depth comes from the environment, and the search says how long it took; the crate may not look there"
)]

#[path = "search/mod.rs"]
mod model;

use std::time::Instant;

use model::{Action, LEASE, ORDER, PERMIT, PROOF, QUORUM, Rule, SCENES, Scene, Search, TWICE, WORD};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Steps that a scene is searched: its own, and as many more as asked for, or fewer.
fn depth(scene: &Scene) -> usize {
    let more = std::env::var("CONVOKE_DEPTH").ok().and_then(|depth| depth.parse().ok()).unwrap_or(0);
    scene.depth.saturating_add_signed(more)
}

fn is_asked_for(name: &str) -> bool {
    std::env::var("CONVOKE_SCENE").map_or(true, |wanted| name == wanted)
}

/// A broken promise, and a shortest way to it.
struct Found {
    promise: &'static str,
    actions: Vec<Action>,
    states: usize,
}

/// Searches one step deeper each time: within one depth the checker does not tell which way was the shortest.
/// Of `promise` alone, or of any.
fn shortest(search: Search, depth: usize, promise: Option<&'static str>) -> Result<Found, usize> {
    let mut states = 0;
    let until = match promise {
        Some(promise) => HasDiscoveries::AnyOf([promise].into()),
        None => HasDiscoveries::AnyFailures,
    };
    for depth in 1..=depth {
        let checker =
            search.checker().target_max_depth(depth + 2).finish_when(until.clone()).spawn_bfs().join();
        states = checker.unique_state_count();
        let mut found = checker.discoveries();
        for property in search.properties() {
            if property.expectation == Expectation::Always
                && promise.is_none_or(|promise| promise == property.name)
                && let Some(path) = found.remove(property.name)
            {
                return Ok(Found { promise: property.name, actions: path.into_actions(), states });
            }
        }
    }
    Err(states)
}

#[test]
fn what_is_promised_holds_in_every_order() {
    for scene in SCENES.iter().filter(|scene| is_asked_for(scene.name)) {
        let (begun, depth) = (Instant::now(), depth(scene));
        let search = Search { scene, broken: None };
        // The checker counts states on a path, and looks at none at the last of them.
        let checker = search.checker().target_max_depth(depth + 2).spawn_bfs().join();
        eprintln!(
            "{}: {depth} steps deep, {} states, {} transitions, {:.1} s",
            scene.name,
            checker.unique_state_count(),
            checker.state_count(),
            begun.elapsed().as_secs_f64()
        );
        let found = checker.discoveries();
        for property in search.properties() {
            match (property.expectation, found.contains_key(property.name)) {
                (Expectation::Always, true) => {
                    let Ok(found) = shortest(search, depth, None) else { continue };
                    let story = search.story(&found.actions);
                    panic!("{}: {} is broken:\n{story}", scene.name, found.promise)
                }
                (Expectation::Sometimes, false) if depth >= scene.depth => {
                    panic!("{}: never within {depth} steps: {}", scene.name, property.name)
                }
                _ => {}
            }
        }
    }
}

/// Each rule left out, the same model must break a promise: otherwise it would not have found a real gap.
#[test]
fn a_rule_left_out_is_found() {
    let rules = [
        (Rule::TokenOfRelease, "messages", PERMIT),
        (Rule::Floor, "messages", PERMIT),
        (Rule::FileFirst, "messages", TWICE),
        (Rule::GoneElsewhere, "messages", TWICE),
        (Rule::LeaseBeforeStart, "late view", LEASE),
        (Rule::Majority, "loss", QUORUM),
        (Rule::LossVoidsNothing, "loss", TWICE),
        (Rule::TermsOfExpiry, "loss", PERMIT),
        (Rule::SeenOn, "wrong plug", PERMIT),
        (Rule::EachSeenOn, "feeds", PERMIT),
        (Rule::FloorKept, "restart", PERMIT),
        (Rule::LeaseKept, "restart alone", PERMIT),
        (Rule::TermsOfExpiry, "clock stands", PERMIT),
        (Rule::KnownTerms, "terms", PERMIT),
        (Rule::OpensForTheNext, "isolation", TWICE),
        (Rule::SilenceBeforeNewLife, "lives", PERMIT),
        (Rule::NewerSession, "lives", PERMIT),
        (Rule::TermOfHello, "lives", PERMIT),
        (Rule::MachineId, "lives", PERMIT),
        (Rule::PastLives, "lives", PERMIT),
        (Rule::ProofOfOneLife, "lives", TWICE),
        (Rule::WordForTheLost, "lives", TWICE),
        (Rule::DueTime, "lease", TWICE),
        (Rule::LostBeforeExpiry, "late loss", TWICE),
        (Rule::StopBudget, "lease", TWICE),
        (Rule::WatchdogTime, "watchdog", TWICE),
        (Rule::FedByClosing, "watchdog", TWICE),
        (Rule::TermOfExpiry, "lease", TWICE),
        (Rule::SessionOfLoss, "late loss", PERMIT),
        (Rule::KnownAdoption, "adoption", PROOF),
        (Rule::StraysCount, "boot", TWICE),
        (Rule::InventoryFirst, "boot", TWICE),
        (Rule::SurveyFirst, "boot", PROOF),
        (Rule::RequiredActive, "order", ORDER),
        (Rule::DependentsStopFirst, "order", ORDER),
        (Rule::GoalStarted, "order", WORD),
    ];
    let mut unfound = Vec::new();
    for (rule, name, promise) in rules.into_iter().filter(|(_, name, _)| is_asked_for(name)) {
        let begun = Instant::now();
        let scene = SCENES.iter().find(|scene| scene.name == name).expect("a scene of that name");
        let search = Search { scene, broken: Some(rule) };
        match shortest(search, depth(scene), Some(promise)) {
            Ok(found) => {
                let (steps, seconds) = (found.actions.len(), begun.elapsed().as_secs_f64());
                eprintln!(
                    "{rule:?} in {name}: {steps} steps, {}, {} states, {seconds:.1} s",
                    found.promise, found.states
                );
                if std::env::var("CONVOKE_STORY").is_ok() {
                    eprintln!("{}", search.story(&found.actions));
                }
            }
            Err(states) => {
                eprintln!("{rule:?} in {name}: not found in {states} states");
                unfound.push(rule);
            }
        }
    }
    assert!(unfound.is_empty(), "left out and not missed: {unfound:?}");
}

/// Rules that nothing here breaks without: another rule covers what they protect from, or they keep work from being
/// done twice. Whoever makes the model find one moves it to the list above.
#[test]
fn a_rule_that_another_covers_is_not_missed() {
    let rules = [
        (Rule::NothingWhileLost, "lease"),
        (Rule::NothingWhileFenced, "recovery"),
        (Rule::NothingInQuarantine, "recovery"),
        (Rule::LifeOfGrant, "lives"),
    ];
    for (rule, name) in rules.into_iter().filter(|(_, name)| is_asked_for(name)) {
        let scene = SCENES.iter().find(|scene| scene.name == name).expect("a scene of that name");
        let search = Search { scene, broken: Some(rule) };
        match shortest(search, depth(scene).saturating_sub(2), None) {
            Ok(found) => panic!("{rule:?} breaks {}:\n{}", found.promise, search.story(&found.actions)),
            Err(states) => eprintln!("{rule:?} in {name}: not missed in {states} states"),
        }
    }
}
