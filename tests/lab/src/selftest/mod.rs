//! Tries the lab itself: every promise that scenarios lean on, on real nodes of each Debian.

mod disk;
mod labs;
mod network;
mod power;
mod switches;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use lab::{Lab, Options, Suite};

pub(crate) use labs::hold;

/// Counts checks and prints a line for each.
#[derive(Default)]
struct Checks {
    passed: usize,
    failed: usize,
}

impl Checks {
    /// Does a check; its text is the answer's measured figures.
    fn check(&mut self, suite: Suite, what: &str, work: impl FnOnce() -> Result<String>) {
        let begin = Instant::now();
        match work() {
            Ok(note) => {
                self.passed += 1;
                println!("ok   {:<8} {what} ({} ms) {note}", suite.name(), begin.elapsed().as_millis());
            }
            Err(e) => {
                self.failed += 1;
                println!("FAIL {:<8} {what}: {e:#}", suite.name());
            }
        }
    }
}

pub(crate) fn run(suite: Option<Suite>, cycles: usize) -> Result<ExitCode> {
    let mut checks = Checks::default();
    for suite in suite.map_or_else(|| Suite::ALL.to_vec(), |s| vec![s]) {
        let name = format!("selftest-{}-{}", suite.name(), std::process::id());
        let before = labs::traces(&name)?;
        let mut options = Options::of(3, suite);
        options.array = true;
        let lab = Lab::new(&name, &options)?;
        power::power(&mut checks, suite, &lab);
        power::files(&mut checks, suite, &lab);
        network::network(&mut checks, suite, &lab);
        switches::switches(&mut checks, suite, &lab);
        switches::witness(&mut checks, suite, &lab);
        disk::disk(&mut checks, suite, &lab);
        power::many_cycles(&mut checks, suite, &lab, cycles);
        if checks.failed > 0 {
            println!("logs: {}", lab.save_logs()?.display());
        }
        lab.down()?;
        checks.check(suite, "nothing is left of the lab", || {
            let after = labs::traces(&name)?;
            ensure!(before == after, "left behind: {after:?}");
            Ok(String::new())
        });
    }
    labs::labs(&mut checks);
    println!("{} passed, {} failed", checks.passed, checks.failed);
    Ok(if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ms(since: Instant) -> u128 {
    since.elapsed().as_millis()
}
