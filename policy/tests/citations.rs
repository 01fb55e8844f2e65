//! Whether clauses, scripts and code name each other: `docs/policy.md`, `policy/tests/scripts`, `apply` and `why`.
//!
//! Reads text alone. That a script shows what its clause says is for people to judge; that it is the script of that clause, and
//! that there is one, is found here.

#![allow(clippy::disallowed_methods, reason = "it reads documents and sources; the crate may not")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The last rule of the protocol.
const RULES: u32 = 38;
/// A name of a script is a sentence; shorter italics are words.
const WORDS_OF_A_NAME: usize = 3;
/// What stands where a name is missing that a state has. No history of commands makes such a state.
const NEVER_SHOWN: [&str; 2] = ["unknown", "somebody"];

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Each script by its name.
fn scripts() -> BTreeMap<String, String> {
    let folder = std::fs::read_dir(root().join("policy/tests/scripts")).expect("the folder of scripts");
    let paths = folder.map(|entry| entry.expect("an entry").path());
    let named = paths.map(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("a script"))
    });
    named.collect()
}

/// The rules and clauses with which a script begins: `# P6, F7: a lease that ...`.
fn head(script: &str) -> Vec<&str> {
    let first = script.strip_prefix("# ").and_then(|text| text.split_once(':'));
    let tags: Vec<&str> = first.map(|(tags, _)| tags.split(", ").collect()).unwrap_or_default();
    if tags.iter().all(|tag| is_rule(tag)) { tags } else { Vec::new() }
}

fn is_rule(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|letter| "PSLF".contains(letter)) && letters.as_str().parse::<u32>().is_ok()
}

/// Rules and clauses in a text.
fn rules(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| is_rule(word))
}

/// What stands in italics, with single spaces.
fn italics(text: &str) -> Vec<String> {
    let plain = text.replace("**", "");
    let words = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    plain.split('*').skip(1).step_by(2).map(words).collect()
}

/// The text that follows each clause's number, in its section and in the list at the end.
fn clauses(document: &str) -> BTreeMap<String, String> {
    let mut clauses: BTreeMap<String, String> = BTreeMap::new();
    let mut open = None;
    for line in document.lines() {
        let item = line.strip_prefix("- ").map(|item| item.replace("**", ""));
        let number = item
            .as_deref()
            .and_then(|item| item.split([' ', ':']).next())
            .filter(|it| is_rule(it) && it.starts_with('P'));
        open = match number {
            Some(number) => Some(number.to_owned()),
            None if line.starts_with("  ") => open,
            None => None,
        };
        if let Some(number) = &open {
            let text = clauses.entry(number.clone()).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    clauses
}

/// The cells of the rows under this heading.
fn rows<'a>(document: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = document.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
    let lines = section.lines().take_while(|line| !line.starts_with("## "));
    let rows = lines.filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    rows.skip(1).map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

fn assert_none(what: &str, found: &BTreeSet<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.iter().cloned().collect::<Vec<_>>().join("\n"));
}

#[test]
fn no_number_is_given_to_two_clauses() {
    let document = read("docs/policy.md");
    let numbers = document.lines().filter_map(|line| line.strip_prefix("- **P")?.split("**").next());
    let mut seen = BTreeSet::new();
    let twice = numbers.filter(|number| !seen.insert(*number)).map(|number| format!("P{number}")).collect();
    assert_none("stand for two things", &twice);
}

#[test]
fn every_script_that_is_named_is_there() {
    let (document, scripts) = (read("docs/policy.md"), scripts());
    let named = document.split("\n\n").flat_map(italics);
    let named = named.filter(|name| name.split(' ').count() >= WORDS_OF_A_NAME);
    let checks = rows(&document, "## What each check of `apply` is there for");
    let failed = checks.iter().filter_map(|row| row.get(2)).map(|cell| {
        let name = cell.split_once(" (and").map_or(*cell, |(name, _)| name);
        name.to_owned()
    });
    let unknown = named.chain(failed).filter(|name| !scripts.contains_key(name)).collect();
    assert_none("named in docs/policy.md, and no script", &unknown);
}

#[test]
fn every_script_begins_with_its_clauses_and_they_name_it() {
    let clauses = clauses(&read("docs/policy.md"));
    let mut wrong = BTreeSet::new();
    let named: BTreeMap<&String, Vec<String>> =
        clauses.iter().map(|(number, text)| (number, italics(text))).collect();
    for (name, script) in &scripts() {
        let head = head(script);
        if !head.iter().any(|tag| tag.starts_with('P')) {
            wrong.insert(format!("{name}: begins with no clause"));
        }
        for tag in head.iter().filter(|tag| tag.starts_with('P')) {
            if !named.get(&(*tag).to_owned()).is_some_and(|names| names.contains(name)) {
                wrong.insert(format!("{name}: {tag} does not name it"));
            }
        }
        for (number, _) in named.iter().filter(|(_, names)| names.contains(name)) {
            if !head.contains(&number.as_str()) {
                wrong.insert(format!("{name}: {number} names it, and it does not begin with that"));
            }
        }
    }
    assert_none("scripts and clauses", &wrong);
}

#[test]
fn every_clause_has_a_script() {
    let scripts = scripts();
    let clauses = clauses(&read("docs/policy.md"));
    assert!(clauses.len() > 100, "clauses were not found");
    let has = |text: &str| italics(text).iter().any(|name| scripts.contains_key(name));
    let bare = clauses.iter().filter(|(_, text)| !has(text)).map(|(number, _)| number.clone()).collect();
    assert_none("clauses without a script", &bare);
}

#[test]
fn every_rule_of_the_protocol_has_a_place() {
    let document = read("docs/policy.md");
    let (mut placed, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for text in clauses(&document).values() {
        placed.extend(rules(text).map(str::to_owned));
    }
    for row in rows(&document, "## Where the other rules of the protocol are kept") {
        placed.extend(row.first().into_iter().flat_map(|cell| rules(cell)).map(str::to_owned));
        let quoted = row.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let paths = quoted.filter(|text| text.contains('/'));
        gone.extend(paths.filter(|path| !root().join(path).exists()).map(str::to_owned));
    }
    assert_none("places of rules that are not there", &gone);
    let missing = (1..=RULES).map(|number| format!("F{number}")).filter(|rule| !placed.contains(rule));
    assert_none("rules that docs/policy.md does not place", &missing.collect());
}

#[test]
fn every_arm_of_apply_cites_its_rule() {
    let source = read("policy/src/apply/mod.rs");
    let clauses = clauses(&read("docs/policy.md"));
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let arms = ["Fact::", "Wish::", "Decision::"];
    let mut wrong = BTreeSet::new();
    let mut found = 0;
    for pair in lines.windows(2) {
        let [before, line] = pair else { continue };
        if !arms.iter().any(|arm| line.starts_with(arm)) {
            continue;
        }
        found += 1;
        let cited: Vec<&str> = before.strip_prefix("// ").into_iter().flat_map(rules).collect();
        if cited.is_empty() {
            wrong.insert(format!("{line} cites nothing"));
        }
        for tag in cited.iter().filter(|tag| tag.starts_with('P') && !clauses.contains_key(**tag)) {
            wrong.insert(format!("{line} cites {tag}, which is no clause"));
        }
    }
    assert!(found > 40, "arms were not found");
    assert_none("arms of apply", &wrong);
}

/// The texts between quotes in a source, but for those in comments.
fn literals(source: &str) -> Vec<String> {
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some((_, text)) = rest.split_once('"') {
        let Some((literal, after)) = text.split_once('"') else { break };
        assert!(!literal.ends_with('\\'), "an escaped quote: {literal}");
        let mut lines = literal.split("\\\n");
        let first = lines.next().unwrap_or_default().to_owned();
        found.push(lines.fold(first, |all, line| all + line.trim_start()));
        rest = after;
    }
    found
}

/// Whether a line has all of a format's text, in its order.
fn says(line: &str, pieces: &[String]) -> bool {
    let mut rest = Some(line);
    for piece in pieces {
        rest = rest.and_then(|rest| rest.split_once(piece.as_str())).map(|(_, after)| after);
    }
    rest.is_some()
}

/// What a format says whatever is put into it.
fn pieces(format: &str) -> Vec<String> {
    let parts = format.split('{').enumerate().map(|(at, part)| match part.split_once('}') {
        Some((_, after)) if at > 0 => after,
        _ => part,
    });
    parts.filter(|part| !part.trim().is_empty()).map(str::to_owned).collect()
}

/// With it every reason, and everything that releases one: each has a sentence of its own there, or one for what it is told.
#[test]
fn every_sentence_of_why_is_in_a_script() {
    let scripts = scripts();
    let lines: Vec<&str> =
        scripts.values().flat_map(|script| script.lines()).filter(|line| !line.starts_with('#')).collect();
    let mut missing = BTreeSet::new();
    for source in ["policy/src/plan/reason.rs", "policy/src/plan/lost.rs", "policy/src/plan/release.rs"] {
        let literals = literals(&read(source));
        assert!(literals.len() > 15, "the sentences of {source} were not found");
        for literal in literals {
            let pieces = pieces(&literal);
            let shown = lines.iter().any(|line| says(line, &pieces));
            if !shown && !pieces.is_empty() && !NEVER_SHOWN.contains(&literal.as_str()) {
                missing.insert(format!("{source}: {literal}"));
            }
        }
    }
    assert_none("sentences that no script shows", &missing);
}
