//! Runs seeds, each in a process of its own: `SIM_SEED` one of them and tells its story, `SIM_FROM` and `SIM_COUNT` many,
//! `SIM_FLAW` with a fault put in on purpose, `SIM_LIAR` with a fence device that lies; `SIM_LOG` (as `RUST_LOG`) shows what the
//! product says in the story of one.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::process::{self, With};
use sim::{Flaw, Outcome};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One seed, in this process.
fn one(seed: u64, flaw: Option<Flaw>, liar: bool, verbose: bool) -> (Outcome, u64) {
    if !liar {
        return (sim::run(seed, flaw, verbose), 0);
    }
    let (broken, found_out) = match sim::run_with_a_liar(seed, verbose) {
        Ok(count) => (None, count),
        Err(broken) => (Some(broken), 0),
    };
    (Outcome { seed, broken, trace: 0, simulated_ms: 0 }, found_out)
}

fn main() -> ExitCode {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(std::io::stderr)
            .init();
    }
    let flaw = std::env::var("SIM_FLAW").ok();
    let put_in = flaw.as_deref().map(|name| Flaw::named(name).unwrap_or_else(|| panic!("no flaw {name}")));
    let liar = std::env::var_os("SIM_LIAR").is_some();
    let ended = |failed: bool| if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if let Some(seed) = number("SIM_SEED") {
        let terse = std::env::var_os(process::TERSE).is_some();
        let (outcome, found_out) = one(seed, put_in, liar, !terse);
        if terse {
            return ended(process::tell(&outcome, found_out).is_err());
        }
        eprintln!("trace {:016x}, {found_out} lies found out", outcome.trace);
        eprintln!("{}", sim::replay(&outcome, flaw.as_deref()));
        return ended(outcome.broken.is_some());
    }
    let with = match &flaw {
        Some(name) => With::Flaw(name),
        None if liar => With::Liar,
        None => With::Nothing,
    };
    let from = number("SIM_FROM").unwrap_or(0);
    let count = number("SIM_COUNT").unwrap_or(10_000);
    let begun = Instant::now();
    let (failures, simulated_ms) = (AtomicU64::new(0), AtomicU64::new(0));
    let soak = std::env::current_exe().expect("this program");
    process::each(from..from + count, |seed| {
        let (outcome, _) = process::run(&soak, seed, with);
        simulated_ms.fetch_add(outcome.simulated_ms, Ordering::Relaxed);
        if outcome.broken.is_some() {
            failures.fetch_add(1, Ordering::Relaxed);
            eprintln!("{}", sim::replay(&outcome, flaw.as_deref()));
        }
    });
    let (real, simulated) = (begun.elapsed().as_secs_f64(), simulated_ms.into_inner() / 1_000);
    let failures = failures.into_inner();
    eprintln!("{count} seeds, {failures} failures, {simulated} simulated seconds in {real:.1} s");
    ended(failures > 0)
}
