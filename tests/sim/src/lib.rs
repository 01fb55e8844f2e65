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
mod loss;
mod machine;
mod net;
mod operator;
mod panics;
mod power;
mod rng;
mod shape;
mod shell;
mod site;
mod wire;
mod world;

pub use flaw::Flaw;
pub use loss::Loss;
pub use world::Outcome;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::thread;

use rng::Rng;
use shape::Shape;
use world::World;

/// Runs one seed to its end.
#[must_use]
pub fn run(seed: u64, flaw: Option<Flaw>, verbose: bool) -> Outcome {
    let outcome = apart(seed, move |root| {
        let mut rng = Rng::new(seed);
        let shape = Shape::drawn(&mut rng);
        World::new(seed, rng, shape, flaw, root, verbose).run(seed)
    });
    match outcome {
        Ok(outcome) => outcome,
        Err(panic) => Outcome { seed, broken: Some(panic), trace: 0, simulated_ms: 0 },
    }
}

/// So many machines without a vote lose their power at one moment, behind so many fence devices of which each takes
/// `at_once` of them at a time.
#[must_use]
pub fn lose(seed: u64, members: usize, devices: usize, at_once: u32) -> Loss {
    let loss = apart(seed, move |root| {
        let shape = Shape::wide(members, devices, at_once);
        World::new(seed, Rng::new(seed), shape, None, root, false).lose_members()
    });
    match loss {
        Ok(loss) => loss,
        Err(panic) => Loss { broken: Some(panic), ..Loss::default() },
    }
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
