//! Whole clusters in one process: real consensus, leaders, sessions and agents on simulated machines, by one seed.
//!
//! What is real: the Raft group, the leader's core, the session's client, paths and relays, and the agent's core. What is
//! modelled: PID 1, fence device, disk, network, clocks, chance and people. `README.md` says more.

#![allow(clippy::expect_used, reason = "a simulator that cannot go on has to stop")]

mod chaos;
mod clock;
mod daemon;
mod dog;
mod flaw;
mod healing;
mod judge;
mod kinds;
mod ledger;
mod machine;
mod mass;
mod net;
mod operator;
mod order;
mod panics;
mod power;
pub mod process;
mod rng;
mod shell;
mod site;
mod store;
mod tally;
mod tamper;
mod trust;
mod wire;
mod world;

pub use flaw::Flaw;
pub use mass::{Case, Loss};
pub use tally::Action;
pub use world::Outcome;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::thread;

use kinds::Kinds;
use power::Fences;
use world::{Cast, World};

/// Runs one seed to its end. What is wrong with fence devices would only hide a fault that is put in, and so would whatever
/// it does not need.
#[must_use]
pub fn run(seed: u64, flaw: Option<Flaw>, verbose: bool) -> Outcome {
    let (fences, kinds) = match flaw {
        Some(flaw) if flaw.kinds().watched => (Fences::NONE, flaw.kinds()),
        Some(flaw) => (Fences::PLAIN, flaw.kinds()),
        None => {
            let kinds = Kinds::drawn(seed);
            (Fences::drawn(seed, kinds.watched), kinds)
        }
    };
    let cast = Cast { fences, kinds, flaw };
    let outcome = apart(seed, move |root| World::new(seed, cast, root, verbose).run(seed));
    outcome.unwrap_or_else(|panic| Outcome { seed, broken: Some(panic), trace: 0, simulated_ms: 0 })
}

/// Runs one seed with a fence device that lies, and an honest one behind it: how many of its lies were found out.
///
/// # Errors
/// What was broken of the promises that a lie leaves: all but that no unit runs twice.
pub fn run_with_a_liar(seed: u64, verbose: bool) -> Result<u64, String> {
    apart(seed, move |root| {
        let cast = Cast { fences: Fences::OF_A_LIAR, kinds: Kinds::PLAIN, flaw: None };
        let world = World::new(seed, cast, root, verbose);
        let ledger = world.ledger.clone();
        match world.run(seed).broken {
            Some(broken) => Err(broken),
            None => trust::contradictions(&ledger.lock()),
        }
    })?
}

/// Runs a cluster of which all but the voters are lost at one moment: half of these lose their power, the others freeze.
///
/// # Errors
/// What was broken of the promises, or what came to no end.
pub fn lose_all_but_the_voters(voters: usize, members: usize, seed: u64) -> Result<Loss, String> {
    apart(seed, move |root| mass::run(voters, members, seed, root))?
}

/// On a thread of its own: what the C library's stand-ins answer depends on the thread. A panic is its error.
fn apart<T: Send + 'static>(seed: u64, body: impl FnOnce(&Path) -> T + Send + 'static) -> Result<T, String> {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let root = scratch.path().to_owned();
    let running = thread::Builder::new().stack_size(8 << 20).spawn(move || {
        panics::keep();
        clock::begin(seed);
        std::panic::catch_unwind(AssertUnwindSafe(|| body(&root)))
            .map_err(|_| panics::take().unwrap_or_default())
    });
    running.expect("a thread").join().expect("its panics are caught")
}

/// The line that replays a failure.
#[must_use]
pub fn replay(outcome: &Outcome, flaw: Option<&str>) -> String {
    let flaw = flaw.map(|flaw| format!(" SIM_FLAW={flaw}")).unwrap_or_default();
    let broken = outcome.broken.as_deref().unwrap_or("nothing is broken");
    format!("seed {}: {broken}; replay: SIM_SEED={}{flaw} make soak", outcome.seed, outcome.seed)
}
