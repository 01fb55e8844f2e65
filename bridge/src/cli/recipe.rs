//! `convoke enable-recipe`: puts a ready-made cluster definition where systemd reads it.
//!
//! A recipe is a folder of drop-ins that mirrors `/etc/systemd/system`. They are copied and nothing else is done: what
//! follows is for a person to look at, so it is said. A file that somebody changed is never replaced.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::exit::{Code, Failure};
use super::out;
use crate::atomic;

/// Where the package has them.
const RECIPES: &str = "usr/share/convoke/recipes";
/// Where they come into force.
const UNITS: &str = "etc/systemd/system";

/// A ready-made definition.
#[derive(Debug, PartialEq, Eq)]
struct Recipe {
    name: String,
    /// First line of its first drop-in.
    about: String,
    drop_ins: Vec<DropIn>,
}

/// One of its files.
#[derive(Debug, PartialEq, Eq)]
struct DropIn {
    unit: String,
    /// `mariadb.service.d/50-convoke.conf`
    below: PathBuf,
    text: String,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    New(PathBuf),
    There(PathBuf),
}

/// Copies a recipe, or lists them if none is named.
pub(super) fn enable(root: &Path, name: Option<&str>) -> Result<(), Failure> {
    let recipes = recipes(root)
        .map_err(|error| Failure::new(Code::Failed, format!("cannot read /{RECIPES}: {error}")))?;
    let Some(name) = name else {
        for recipe in &recipes {
            out::say(&format!("{:<12}{}", recipe.name, recipe.about));
        }
        return Ok(());
    };
    let Some(recipe) = recipes.iter().find(|recipe| recipe.name == name) else {
        let names: Vec<_> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        return Err(Failure::new(Code::NotFound, format!("there is no recipe `{name}`"))
            .hint(format!("there are {}", names.join(", "))));
    };
    for written in copy(root, recipe)? {
        out::say(&match written {
            Written::New(path) => format!("wrote {}", path.display()),
            Written::There(path) => format!("{} is there already", path.display()),
        });
    }
    out::print(&next(recipe));
    Ok(())
}

/// All recipes, in order of their names.
fn recipes(root: &Path) -> io::Result<Vec<Recipe>> {
    let mut found = Vec::new();
    for folder in folders(&root.join(RECIPES))? {
        let mut drop_ins = Vec::new();
        for unit_folder in folders(&folder)? {
            let below = unit_folder.file_name().map(PathBuf::from).unwrap_or_default();
            let unit = below.to_string_lossy().trim_end_matches(".d").to_owned();
            for file in entries(&unit_folder)?.into_iter().filter(|path| path.is_file()) {
                let below = below.join(file.file_name().unwrap_or_default());
                drop_ins.push(DropIn { unit: unit.clone(), below, text: fs::read_to_string(file)? });
            }
        }
        let about = drop_ins.first().and_then(|first| first.text.lines().next()).unwrap_or_default();
        let about = about.trim_start_matches(['#', ' ']).to_owned();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push(Recipe { name, about, drop_ins });
    }
    Ok(found)
}

fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(entries(path)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<_> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    found.sort();
    Ok(found)
}

/// Looks at all places before it writes the first file: a recipe is there whole, or as it was.
fn copy(root: &Path, recipe: &Recipe) -> Result<Vec<Written>, Failure> {
    let mut there = Vec::new();
    for drop_in in &recipe.drop_ins {
        let path = root.join(UNITS).join(&drop_in.below);
        let old = match fs::read_to_string(&path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&path, &error)),
        };
        if let Some(old) = old.as_ref().filter(|old| **old != drop_in.text) {
            return Err(Failure::new(
                Code::Failed,
                format!(
                    "{} is there and differs (- is yours, + the recipe's):\n{}",
                    path.display(),
                    difference(old, &drop_in.text)
                ),
            )
            .hint(
                "nothing was changed: keep it as it is, or move it away first. Settings of your own had better stand in a \
                 drop-in of their own",
            ));
        }
        there.push((path, old.is_some()));
    }
    let mut written = Vec::new();
    for (drop_in, (path, is_there)) in recipe.drop_ins.iter().zip(there) {
        if is_there {
            written.push(Written::There(path));
            continue;
        }
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| atomic::write(&path, drop_in.text.as_bytes(), atomic::PUBLIC))
            .map_err(|error| failed(&path, &error))?;
        written.push(Written::New(path));
    }
    Ok(written)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(Code::Failed, format!("{}: {error}", path.display()));
    if error.kind() == io::ErrorKind::PermissionDenied {
        return failure.hint("try again with `sudo`");
    }
    failure
}

/// The lines between what both texts begin and end with.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| pairs.take_while(|(a, b)| a == b).count();
    let begin = same(&mut old.iter().zip(&new));
    let rest = old.len().min(new.len()) - begin;
    let end = same(&mut old.iter().rev().zip(new.iter().rev()).take(rest));
    let part = |lines: &[&str], sign: char| {
        let lines = lines.iter().take(lines.len() - end).skip(begin);
        lines.map(|line| format!("  {sign} {line}")).collect::<Vec<_>>()
    };
    let lines = [part(&old, '-'), part(&new, '+')].concat();
    // A last line break is a difference too.
    if lines.is_empty() { "  they differ in how they end".to_owned() } else { lines.join("\n") }
}

fn next(recipe: &Recipe) -> String {
    let mut units: Vec<_> = recipe.drop_ins.iter().map(|drop_in| drop_in.unit.as_str()).collect();
    units.dedup();
    let units = units.join(" ");
    let name = &recipe.name;
    format!(
        "\
next, on every node that is to run it, once the server's own configuration is in place:
  convoke enable-recipe {name}
  systemctl disable --now {units}    # the cluster starts it. One cluster already? Then without --now, and no `assemble`
  systemctl daemon-reload
  convoke verify {units}
then, once, on any of them:
  convoke start --no-wait {units}
  convoke assemble {units} --from NODE    # whose data it begins with; again, if NODE has not said how that stands
/usr/share/doc/convoke/recipes/{name}.md says what is asked of the configuration, and what follows after a failure
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with the recipes of this package.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("scratch directory");
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/recipes");
        for recipe in folders(&packaging).expect("recipes") {
            for unit in folders(&recipe).expect("units") {
                let to = root.path().join(RECIPES).join(unit.strip_prefix(&packaging).expect("below"));
                fs::create_dir_all(&to).expect("made");
                for file in entries(&unit).expect("files") {
                    fs::copy(&file, to.join(file.file_name().expect("named"))).expect("copied");
                }
            }
        }
        root
    }

    #[test]
    fn each_recipe_says_what_it_is_and_is_free_of_errors() {
        let root = root();
        let found = recipes(root.path()).expect("recipes");
        assert_eq!(
            found.iter().map(|recipe| recipe.name.as_str()).collect::<Vec<_>>(),
            ["galera", "rabbitmq"]
        );
        for recipe in &found {
            assert!(recipe.about.len() > 20 && recipe.about.ends_with('.'), "{}", recipe.about);
            for drop_in in &recipe.drop_ins {
                let fragment = root.path().join("usr/lib/systemd/system").join(&drop_in.unit);
                fs::create_dir_all(fragment.parent().expect("a folder")).expect("made");
                fs::write(fragment, "[Service]\nType=notify\nExecStart=/usr/sbin/x\n").expect("written");
            }
            copy(root.path(), recipe).expect("copied");
            // The programs that it names are those of the package.
            for program in ["position", "ready", "prepare"] {
                let name = format!("usr/libexec/convoke/{}-{program}", recipe.name);
                let from =
                    format!("{}/../packaging/libexec/{}-{program}", env!("CARGO_MANIFEST_DIR"), recipe.name);
                assert!(recipe.drop_ins.iter().any(|drop_in| drop_in.text.contains(&format!("=/{name}\n"))));
                fs::create_dir_all(root.path().join("usr/libexec/convoke")).expect("made");
                fs::copy(from, root.path().join(name)).expect("copied");
            }
        }
        let units: Vec<String> =
            found.iter().flat_map(|recipe| &recipe.drop_ins).map(|drop_in| drop_in.unit.clone()).collect();
        let findings = units::verify::verify(root.path(), &units);
        let errors: Vec<_> =
            findings.iter().filter(|f| f.severity == units::Severity::Error).map(|f| f.render()).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    #[test]
    fn a_copy_is_made_once_and_never_over_what_somebody_changed() {
        let root = root();
        let found = recipes(root.path()).expect("recipes");
        let path = root.path().join(UNITS).join("mariadb.service.d/50-convoke.conf");
        assert_eq!(copy(root.path(), &found[0]).expect("copied"), [Written::New(path.clone())]);
        assert_eq!(copy(root.path(), &found[0]).expect("there"), [Written::There(path.clone())]);
        let changed = found[0].drop_ins[0].text.replace("GatherWaitSec=infinity", "GatherWaitSec=2min");
        fs::write(&path, &changed).expect("changed");
        let refused = copy(root.path(), &found[0]).expect_err("changed").text;
        assert!(refused.contains("  - GatherWaitSec=2min\n  + GatherWaitSec=infinity"), "{refused}");
        assert_eq!(fs::read_to_string(&path).expect("read"), changed);
    }

    #[test]
    fn a_difference_is_what_lies_between() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\ny\nc\n"), "  - b\n  + x\n  + y");
        assert_eq!(difference("a\na\n", "a\n"), "  - a");
        assert_eq!(difference("a", "a\n"), "  they differ in how they end");
        assert_eq!(difference("", "a\n"), "  + a");
    }

    #[test]
    fn an_unknown_recipe_is_answered_with_those_that_there_are() {
        let root = root();
        let failure = enable(root.path(), Some("../galera")).expect_err("unknown");
        assert_eq!(
            (failure.code, failure.hint.as_deref()),
            (Code::NotFound, Some("there are galera, rabbitmq"))
        );
    }
}
