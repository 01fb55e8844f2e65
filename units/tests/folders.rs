//! Folder in, folder out: each directory of `tests/folders` is a case whose name is a sentence. `root` is
//! the node's file system; `units`, `verify`, `log` and `early/` are what must come of it. Set
//! `UPDATE_GOLDEN=1` to write these anew, and explain each difference in the commit.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/folders");
    let mut cases: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    cases
}

fn units(root: &Path) -> String {
    let mut out = String::new();
    for unit in units::discover(root) {
        let mut flags = Vec::new();
        for (set, name) in [
            (unit.section.is_none(), "faulty"),
            (unit.template, "template"),
            (unit.masked, "masked"),
            (unit.enabled, "enabled"),
            (!unit.gated, "UNGATED"),
        ] {
            if set {
                flags.push(name);
            }
        }
        let _ = writeln!(out, "{} [{}]", unit.id, flags.join(" "));
        for (name, values) in
            [("alias", &unit.aliases), ("drop-in", &unit.dropins), ("member", &unit.members)]
        {
            for value in values {
                let _ = writeln!(out, "  {name} {value}");
            }
        }
        if let Some(section) = &unit.section {
            let _ = writeln!(out, "  {}", serde_json::to_string(section).unwrap());
        }
        // One unit asked for by name must read the same as among all.
        assert_eq!(units::unit(root, &unit.id).as_ref(), Some(&unit));
        for alias in &unit.aliases {
            assert_eq!(units::unit(root, alias).as_ref(), Some(&unit));
            assert_eq!(units::id(root, alias), unit.id);
        }
    }
    out
}

/// Everything that comes of a root, by the file of the case that holds it.
fn outcome(root: &Path) -> BTreeMap<PathBuf, String> {
    let output = units::generator::render(root);
    let mut out: BTreeMap<PathBuf, String> =
        output.files.into_iter().map(|(path, text)| (Path::new("early").join(path), text)).collect();
    out.insert("log".into(), output.log.iter().map(|l| format!("{l}\n")).collect());
    out.insert("units".into(), units(root));
    let found = units::verify::verify(root, &[]);
    out.insert("verify".into(), found.iter().map(|d| d.render() + "\n").collect());
    out.retain(|_, text| !text.is_empty());
    out
}

fn expected(case: &Path) -> BTreeMap<PathBuf, String> {
    let mut out = BTreeMap::new();
    for name in ["log", "units", "verify"] {
        if let Ok(text) = fs::read_to_string(case.join(name)) {
            out.insert(name.into(), text);
        }
    }
    let early = units::write::read_back(&case.join("early")).unwrap();
    out.extend(early.into_iter().map(|(path, text)| (Path::new("early").join(path), text)));
    out
}

#[test]
fn every_folder_comes_out_as_written() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    for case in cases() {
        let got = outcome(&case.join("root"));
        let wanted = expected(&case);
        if got == wanted {
            continue;
        }
        if update {
            let _ = fs::remove_dir_all(case.join("early"));
            for name in ["log", "units", "verify"] {
                let _ = fs::remove_file(case.join(name));
            }
            units::write::files(&case, &got).unwrap();
            continue;
        }
        for path in got.keys().chain(wanted.keys()).collect::<std::collections::BTreeSet<_>>() {
            let (got, wanted) = (got.get(path), wanted.get(path));
            if got != wanted {
                let shown = |t: Option<&String>| t.map_or("(nothing)\n".to_owned(), Clone::clone);
                let _ = write!(
                    wrong,
                    "== {} {}\n-- wanted\n{}-- got\n{}",
                    case.file_name().unwrap().to_string_lossy(),
                    path.display(),
                    shown(wanted),
                    shown(got)
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Whatever else a root says, every unit that claims to be a cluster unit has its gate, or is said loudly
/// not to have one.
#[test]
fn no_claim_goes_without_a_gate_or_a_word() {
    let mut seen = 0;
    for case in cases() {
        let root = case.join("root");
        let output = units::generator::render(&root);
        for unit in units::discover(&root) {
            seen += 1;
            let own = |id: &str| {
                output.files.contains_key(&Path::new(&format!("{id}.d")).join("~convoke-gate.conf"))
            };
            let template = units::name::UnitName::parse(&unit.id).and_then(|n| n.template());
            let gated = own(&unit.id) || template.is_some_and(|t| own(&t));
            let told = output.log.iter().any(|l| l.starts_with(&format!("{} is NOT gated", unit.id)));
            assert_eq!(gated, unit.gated, "{}: {}", case.display(), unit.id);
            assert!(gated || (told && unit.section.is_none()), "{}: {}", case.display(), unit.id);
        }
    }
    assert!(seen > 30, "the cases are missing");
}
