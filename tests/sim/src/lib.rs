//! Whole clusters in one process: real consensus, leaders, sessions and agents on simulated machines, by one seed.
//!
//! What is real: the Raft group, the leader's core, the session's client, paths and relays, and the agent's core. What is
//! modelled: PID 1, fence device, disk, network, clocks, chance and people. `README.md` says more.

#![allow(clippy::expect_used, reason = "a simulator that cannot go on has to stop")]

mod chaos;
mod clock;
mod daemon;
mod flaw;
mod judge;
mod ledger;
mod machine;
mod net;
mod operator;
mod panics;
mod power;
mod rng;
mod shell;
mod site;
mod wire;
mod world;

pub use flaw::Flaw;
pub use world::Outcome;

use std::panic::AssertUnwindSafe;
use std::thread;

/// Runs one seed to its end, on a thread of its own: what the C library's stand-ins answer depends on the thread.
#[must_use]
pub fn run(seed: u64, flaw: Option<Flaw>, verbose: bool) -> Outcome {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let root = scratch.path().to_owned();
    let running = thread::Builder::new().stack_size(8 << 20).spawn(move || {
        panics::keep();
        clock::begin(seed);
        let world = || world::World::new(seed, flaw, &root, verbose).run(seed);
        std::panic::catch_unwind(AssertUnwindSafe(world)).map_err(|_| panics::take().unwrap_or_default())
    });
    match running.expect("a thread").join().expect("its panics are caught") {
        Ok(outcome) => outcome,
        Err(panic) => Outcome { seed, broken: Some(panic), trace: 0, simulated_ms: 0 },
    }
}

/// The line that replays a failure.
#[must_use]
pub fn replay(outcome: &Outcome, flaw: Option<&str>) -> String {
    let flaw = flaw.map(|flaw| format!(" SIM_FLAW={flaw}")).unwrap_or_default();
    let broken = outcome.broken.as_deref().unwrap_or("nothing is broken");
    format!("seed {}: {broken}; replay: SIM_SEED={}{flaw} make soak", outcome.seed, outcome.seed)
}
