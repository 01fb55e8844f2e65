//! `convoke enable-recipe`: puts a ready-made cluster definition where systemd reads it.
//!
//! A recipe is a folder of drop-ins, and of units of its own, that mirrors `/etc/systemd/system`. They are copied and nothing
//! else is done: what follows is for a person to look at, so it is said. A file that somebody changed is never replaced.
//!
//! Where the server's unit is a template, its files are copied for one instance, and the others are left as they are. The
//! folder's file `instances` says where instances are found: a path whose `*` name one, joined by dashes.

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
/// The file of a recipe for a template.
const INSTANCES: &str = "instances";

/// A ready-made definition.
#[derive(Debug, PartialEq, Eq)]
struct Recipe {
    name: String,
    /// First line of its first drop-in.
    about: String,
    /// Where the instances of its template are found.
    instances: Option<String>,
    files: Vec<UnitFile>,
}

/// One of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct UnitFile {
    unit: String,
    /// `mariadb.service.d/50-convoke.conf`, or `postgresql-primary@.service`: a unit of the recipe's own
    below: PathBuf,
    text: String,
}

impl UnitFile {
    fn is_drop_in(&self) -> bool {
        self.below.components().count() > 1
    }

    /// Whether it is formed by an operator's word.
    fn is_assembled(&self) -> bool {
        self.text.lines().any(|line| line.starts_with("Assembly=") || line.starts_with("Rank="))
    }

    /// The same file for one instance of its template.
    fn of_instance(&self, instance: &str) -> UnitFile {
        let named = |text: &str| text.replacen("@.", &format!("@{instance}."), 1);
        UnitFile {
            unit: named(&self.unit),
            below: named(&self.below.to_string_lossy()).into(),
            text: self.text.clone(),
        }
    }
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    New(PathBuf),
    There(PathBuf),
}

/// Copies a recipe, or lists them if none is named.
pub(super) fn enable(root: &Path, name: Option<&str>, instance: Option<&str>) -> Result<(), Failure> {
    let unreadable = |error| Failure::new(Code::Failed, format!("cannot read /{RECIPES}: {error}"));
    let recipes = recipes(root).map_err(unreadable)?;
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
    let instance = instance_of(root, recipe, instance)?;
    let files: Vec<UnitFile> = match &instance {
        Some(instance) => recipe.files.iter().map(|file| file.of_instance(instance)).collect(),
        None => recipe.files.clone(),
    };
    for written in copy(root, &files)? {
        out::say(&match written {
            Written::New(path) => format!("wrote {}", path.display()),
            Written::There(path) => format!("{} is there already", path.display()),
        });
    }
    let words =
        instance.map_or_else(|| recipe.name.clone(), |instance| format!("{} {instance}", recipe.name));
    out::print(&next(&recipe.name, &words, &files));
    Ok(())
}

/// The instance of a template for which a recipe is: the one that was named, or the only one that there is.
fn instance_of(root: &Path, recipe: &Recipe, named: Option<&str>) -> Result<Option<String>, Failure> {
    let name = &recipe.name;
    let Some(pattern) = &recipe.instances else {
        return match named {
            None => Ok(None),
            Some(_) => Err(Failure::new(Code::Usage, format!("the unit of `{name}` has no instances"))),
        };
    };
    let there = instances(root, pattern);
    let list = there.join(", ");
    match (named, there.as_slice()) {
        (Some(named), _) if there.iter().any(|one| one == named) => Ok(Some(named.to_owned())),
        (None, [only]) => Ok(Some(only.clone())),
        (_, []) => Err(Failure::new(Code::NotFound, format!("there is no {pattern}"))
            .hint("the server's package has to be installed first, and configured")),
        (Some(named), _) => Err(Failure::new(Code::NotFound, format!("there is no instance `{named}`"))
            .hint(format!("there are {list}"))),
        (None, _) => Err(Failure::new(Code::Usage, format!("which of {list}?"))
            .hint(format!("name one: `convoke enable-recipe {name} {}`", there[0]))),
    }
}

/// Instances of a template, by the files that match a pattern. What cannot be read holds none.
fn instances(root: &Path, pattern: &str) -> Vec<String> {
    let mut found = vec![(root.to_path_buf(), Vec::new())];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next: Vec<(PathBuf, Vec<String>)> = Vec::new();
        for (path, names) in found {
            if part != "*" {
                next.push((path.join(part), names));
                continue;
            }
            for folder in folders(&path).unwrap_or_default() {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                next.push((folder, names.iter().cloned().chain([name]).collect()));
            }
        }
        found = next;
    }
    found.into_iter().filter(|(path, _)| path.is_file()).map(|(_, names)| names.join("-")).collect()
}

/// All recipes, in order of their names.
fn recipes(root: &Path) -> io::Result<Vec<Recipe>> {
    let mut found = Vec::new();
    for folder in folders(&root.join(RECIPES))? {
        let mut files = Vec::new();
        for unit_folder in folders(&folder)? {
            let below = unit_folder.file_name().map(PathBuf::from).unwrap_or_default();
            let unit = below.to_string_lossy().trim_end_matches(".d").to_owned();
            for file in entries(&unit_folder)?.into_iter().filter(|path| path.is_file()) {
                let below = below.join(file.file_name().unwrap_or_default());
                files.push(UnitFile { unit: unit.clone(), below, text: fs::read_to_string(file)? });
            }
        }
        let mut instances = None;
        for file in entries(&folder)?.into_iter().filter(|path| path.is_file()) {
            let text = fs::read_to_string(&file)?;
            let unit = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if unit == INSTANCES {
                instances = Some(text.trim().to_owned());
            } else {
                files.push(UnitFile { below: unit.clone().into(), unit, text });
            }
        }
        let about = files.first().and_then(|first| first.text.lines().next()).unwrap_or_default();
        let about = about.trim_start_matches(['#', ' ']).to_owned();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push(Recipe { name, about, instances, files });
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
fn copy(root: &Path, files: &[UnitFile]) -> Result<Vec<Written>, Failure> {
    let mut there = Vec::new();
    for file in files {
        let path = root.join(UNITS).join(&file.below);
        let old = match units::read::text(&path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&path, &error)),
        };
        if let Some(old) = old.as_ref().filter(|old| **old != file.text) {
            return Err(Failure::new(
                Code::Failed,
                format!(
                    "{} is there and differs (- is yours, + the recipe's):\n{}",
                    path.display(),
                    difference(old, &file.text)
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
    for (file, (path, is_there)) in files.iter().zip(there) {
        if is_there {
            written.push(Written::There(path));
            continue;
        }
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| atomic::write(&path, file.text.as_bytes(), atomic::PUBLIC))
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

fn next(name: &str, words: &str, files: &[UnitFile]) -> String {
    let units = |which: &dyn Fn(&UnitFile) -> bool| {
        let mut units: Vec<_> =
            files.iter().filter(|file| which(file)).map(|file| file.unit.as_str()).collect();
        units.dedup();
        units.join(" ")
    };
    let (all, there) = (units(&|_| true), units(&UnitFile::is_drop_in));
    let assembled = units(&UnitFile::is_assembled);
    // A role is given to a copy that holds none: a primary that runs is stopped first.
    let taken_over = match files.iter().any(|file| file.text.lines().any(|line| line.starts_with("Rank="))) {
        true => "the cluster starts it",
        false => "the cluster starts it. One cluster already? Then without --now, and no `assemble`",
    };
    format!(
        "\
next, on every node that is to run it, once the server's own configuration is in place:
  convoke enable-recipe {words}
  systemctl disable --now {there}    # {taken_over}
  systemctl daemon-reload
  convoke verify {all}
then, once, on any of them:
  convoke start --no-wait {all}
  convoke assemble {assembled} --from NODE    # whose data it begins with; again, if NODE has not said how that stands
/usr/share/doc/convoke/recipes/{name}.md says what is asked of the configuration, and what follows after a failure
"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A root with the recipes of this package.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("scratch directory");
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/recipes");
        for recipe in folders(&packaging).expect("recipes") {
            let units = folders(&recipe).expect("units");
            for folder in units.iter().chain([&recipe]) {
                let to = root.path().join(RECIPES).join(folder.strip_prefix(&packaging).expect("below"));
                fs::create_dir_all(&to).expect("made");
                for file in entries(folder).expect("files").into_iter().filter(|path| path.is_file()) {
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
            ["galera", "postgresql", "rabbitmq"]
        );
        let mut units: Vec<String> = Vec::new();
        for recipe in &found {
            assert!(recipe.about.len() > 20 && recipe.about.ends_with('.'), "{}", recipe.about);
            let files: Vec<_> = recipe.files.iter().map(|file| file.of_instance("15-main")).collect();
            for file in files.iter().filter(|file| file.is_drop_in()) {
                let fragment = root.path().join("usr/lib/systemd/system").join(&file.unit);
                fs::create_dir_all(fragment.parent().expect("a folder")).expect("made");
                fs::write(fragment, "[Service]\nType=notify\nExecStart=/usr/sbin/x\n").expect("written");
            }
            copy(root.path(), &files).expect("copied");
            assert!(files.iter().any(UnitFile::is_assembled), "{}", recipe.name);
            // The programs that it names are those of the package.
            let texts = recipe.files.iter().flat_map(|file| file.text.lines());
            let programs =
                texts.filter_map(|line| line.split_once("=/usr/libexec/convoke/")).map(|(_, it)| it);
            let programs: BTreeSet<_> = programs.filter_map(|line| line.split(' ').next()).collect();
            assert!(programs.len() > 2, "{programs:?}");
            fs::create_dir_all(root.path().join("usr/libexec/convoke")).expect("made");
            for program in programs {
                let from = format!("{}/../packaging/libexec/{program}", env!("CARGO_MANIFEST_DIR"));
                fs::copy(from, root.path().join("usr/libexec/convoke").join(program)).expect("copied");
            }
            units.extend(files.into_iter().map(|file| file.unit));
        }
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
        assert_eq!(copy(root.path(), &found[0].files).expect("copied"), [Written::New(path.clone())]);
        assert_eq!(copy(root.path(), &found[0].files).expect("there"), [Written::There(path.clone())]);
        let changed = found[0].files[0].text.replace("GatherWaitSec=infinity", "GatherWaitSec=2min");
        fs::write(&path, &changed).expect("changed");
        let refused = copy(root.path(), &found[0].files).expect_err("changed").text;
        assert!(refused.contains("  - GatherWaitSec=2min\n  + GatherWaitSec=infinity"), "{refused}");
        assert_eq!(fs::read_to_string(&path).expect("read"), changed);
    }

    #[test]
    fn a_recipe_for_a_template_is_copied_for_one_instance() {
        let root = root();
        let place = |below: &str| root.path().join(UNITS).join(below);
        let asked = |instance| enable(root.path(), Some("postgresql"), instance);
        assert_eq!(asked(None).expect_err("not installed").code, Code::NotFound);
        for instance in ["15/main", "15/shop", "16"] {
            fs::create_dir_all(root.path().join("etc/postgresql").join(instance)).expect("made");
        }
        let configured = root.path().join("etc/postgresql/15/main/postgresql.conf");
        fs::write(&configured, "").expect("written");
        asked(None).expect("the only one");
        let unit = place("postgresql-primary@15-main.service");
        assert!(unit.exists() && place("postgresql@15-main.service.d/50-convoke.conf").exists());
        fs::copy(&configured, root.path().join("etc/postgresql/15/shop/postgresql.conf")).expect("copied");
        let unsaid = asked(None).expect_err("two");
        assert_eq!((unsaid.code, unsaid.text.as_str()), (Code::Usage, "which of 15-main, 15-shop?"));
        assert_eq!(asked(Some("15-other")).expect_err("no such").code, Code::NotFound);
        assert!(!place("postgresql-primary@15-shop.service").exists());
        asked(Some("15-shop")).expect("named");
        assert!(place("postgresql-primary@15-shop.service").exists());
        let without = enable(root.path(), Some("galera"), Some("15-main")).expect_err("no template");
        assert_eq!(without.code, Code::Usage);
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
        let failure = enable(root.path(), Some("../galera"), None).expect_err("unknown");
        assert_eq!(
            (failure.code, failure.hint.as_deref()),
            (Code::NotFound, Some("there are galera, postgresql, rabbitmq"))
        );
    }
}
