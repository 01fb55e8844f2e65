//! Behaviour as scripts: commands, `---`, and what they must bring about, as golden text.
//!
//! `UPDATE_SCRIPTS=1 cargo test -p policy --test scripts` writes what happens now into the files; whoever does so
//! explains the difference in the commit. After every entry the runner also checks what holds in every script: a
//! refusal leaves the state as it was, planning twice gives one plan, and what is planned is accepted.

#![allow(clippy::disallowed_methods, reason = "the runner reads and writes the scripts; the crate may not")]

mod script;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use script::World;

/// One step: its comment, its commands, what is expected.
struct Step {
    comment: Vec<String>,
    commands: Vec<String>,
    expected: Vec<String>,
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in text.split("\n\n") {
        let mut step = Step { comment: Vec::new(), commands: Vec::new(), expected: Vec::new() };
        let mut output = false;
        for line in block.lines() {
            match line {
                "---" => output = true,
                line if output => step.expected.push(line.into()),
                line if line.starts_with('#') => step.comment.push(line.into()),
                "" => {}
                line => step.commands.push(line.into()),
            }
        }
        steps.push(step);
    }
    steps
}

fn render(steps: &[Step]) -> String {
    let mut text = String::new();
    for (position, step) in steps.iter().enumerate() {
        if position > 0 {
            text.push('\n');
        }
        for line in step.comment.iter().chain(&step.commands) {
            let _ = writeln!(text, "{line}");
        }
        if !step.commands.is_empty() {
            let _ = writeln!(text, "---");
        }
        for line in &step.expected {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

fn run(path: &Path) -> Result<(), String> {
    let before = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut steps = parse(before.trim_end());
    let mut world = World::new();
    for step in &mut steps {
        let mut output = Vec::new();
        for command in &step.commands {
            output.extend(world.command(command).map_err(|error| format!("`{command}`: {error}"))?);
        }
        step.expected = output;
    }
    let after = render(&steps);
    if after == before {
        return Ok(());
    }
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        return std::fs::write(path, after).map_err(|error| error.to_string());
    }
    let mut report = String::from("differs (- expected, + happened):\n");
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    for line in old.iter().skip(same.saturating_sub(6)).take(6.min(same)) {
        let _ = writeln!(report, "  {line}");
    }
    for (sign, lines) in [('-', &old), ('+', &new)] {
        for line in lines.iter().skip(same).take(8) {
            let _ = writeln!(report, "{sign} {line}");
        }
    }
    Err(report)
}

#[test]
fn every_script_happens_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scripts");
    let mut failures = String::new();
    for path in &paths {
        let outcome =
            std::panic::catch_unwind(|| run(path)).unwrap_or_else(|_| Err("panicked, see above".into()));
        if let Err(error) = outcome {
            let _ = writeln!(failures, "{}: {error}", path.file_stem().unwrap_or_default().to_string_lossy());
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
