//! The one clock of the lab. Nodes are containers, so their CLOCK_MONOTONIC is the host's.

use std::time::{Duration, Instant};

/// CLOCK_MONOTONIC in nanoseconds: the same on the host and in every node.
#[must_use]
pub fn now_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The monotonic clock is never negative.
    t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
}

/// Asks `done` every `every` until it says yes or `timeout` is over. The answer is whether it said yes.
pub fn wait_until(timeout: Duration, every: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() >= timeout {
            return false;
        }
        std::thread::sleep(every);
    }
}
