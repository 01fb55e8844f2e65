//! Runs seeds one after the other: `SIM_SEED` one of them and tells its story, `SIM_FROM` and `SIM_COUNT` many, `SIM_FLAW`
//! with a fault put in on purpose, `SIM_LIAR` beside `SIM_SEED` with a fence device that lies; `SIM_LOG` (as `RUST_LOG`)
//! shows what the product says.

use std::process::ExitCode;
use std::time::Instant;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn with_a_liar(seed: u64) -> ExitCode {
    match sim::run_with_a_liar(seed, true) {
        Ok(count) => {
            eprintln!("seed {seed}: {count} lies were found out");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("seed {seed}: {broken}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(std::io::stderr)
            .init();
    }
    if std::env::var_os("SIM_LIAR").is_some()
        && let Some(seed) = number("SIM_SEED")
    {
        return with_a_liar(seed);
    }
    let flaw = std::env::var("SIM_FLAW").ok();
    let put_in =
        flaw.as_deref().map(|name| sim::Flaw::named(name).unwrap_or_else(|| panic!("no flaw {name}")));
    let one = number("SIM_SEED");
    let from = one.or_else(|| number("SIM_FROM")).unwrap_or(0);
    let count = if one.is_some() { 1 } else { number("SIM_COUNT").unwrap_or(10_000) };
    let begun = Instant::now();
    let mut failures = 0u64;
    let mut simulated_ms = 0;
    for seed in from..from + count {
        let outcome = sim::run(seed, put_in, one.is_some());
        simulated_ms += outcome.simulated_ms;
        if one.is_some() {
            eprintln!("trace {:016x}", outcome.trace);
        }
        if outcome.broken.is_some() {
            failures += 1;
            eprintln!("{}", sim::replay(&outcome, flaw.as_deref()));
        }
    }
    let (real, simulated) = (begun.elapsed().as_secs_f64(), simulated_ms / 1_000);
    eprintln!("{count} seeds, {failures} failures, {simulated} simulated seconds in {real:.1} s");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
