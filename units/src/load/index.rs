//! What lies where in the unit search path: unit files, aliases, masks, drop-in directories, links of
//! enabled units.
//!
//! Decides which file a name means and which drop-ins apply to it, in systemd's order. Reads directories
//! and links; the text of files only where Quadlet makes it needful.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::quadlet;
use super::root::{Kind, Root};
use crate::gate::OUR_PREFIX;
use crate::name::{UnitName, instantiate};

/// systemd's search path for units of the system manager, the highest first.
pub const SEARCH_PATH: &[&str] = &[
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// Where the generator's output lies once PID 1 has run it.
pub(crate) const EARLY: &str = "/run/systemd/generator.early";

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Fragment(String),
    Alias(String),
    Masked(String),
}

/// A unit that a target or another unit pulls in by a link in `TARGET.wants/` or `TARGET.requires/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pull {
    pub(crate) by: String,
    /// Real name of the unit pulled in.
    pub(crate) id: String,
    pub(crate) required: bool,
    pub(crate) path: String,
}

/// A drop-in that applies to a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DropIn {
    pub(crate) path: String,
    /// The directory's name before `.d`.
    pub(crate) base: String,
    /// It applies to every unit of a type (`service.d`).
    pub(crate) type_wide: bool,
}

/// The unit files of one root.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) root: Root,
    entries: BTreeMap<String, Entry>,
    /// Drop-in directories by the name before `.d`, with their rank in the search path and their files.
    dropin_dirs: BTreeMap<String, Vec<(usize, String, Vec<String>)>>,
    /// By the real name of the unit pulled in.
    pulls: BTreeMap<String, Vec<Pull>>,
    aliases: BTreeMap<String, BTreeSet<String>>,
    /// Drop-ins of Quadlet sources; podman merges them into the unit it writes.
    source_dropins: BTreeMap<String, Vec<String>>,
}

impl Index {
    pub(crate) fn scan(root: &Path) -> Index {
        let mut index = Index {
            root: Root::new(root),
            entries: BTreeMap::new(),
            dropin_dirs: BTreeMap::new(),
            pulls: BTreeMap::new(),
            aliases: BTreeMap::new(),
            source_dropins: BTreeMap::new(),
        };
        // With a merged /usr two entries of the path are one directory.
        let mut dirs: Vec<(usize, String)> = Vec::new();
        for (rank, dir) in SEARCH_PATH.iter().enumerate() {
            if let Some(real) = index.root.resolve(dir)
                && !dirs.iter().any(|(_, d)| *d == real)
            {
                dirs.push((rank, real));
            }
        }
        let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
        let mut links: Vec<(String, String, bool, String)> = Vec::new();
        for (rank, dir) in &dirs {
            for (name, kind) in index.root.list(dir) {
                let path = format!("{dir}/{name}");
                if let Some(base) = name.strip_suffix(".d") {
                    let files = index.root.list(&path).into_iter();
                    let files = files.filter(|(f, k)| {
                        *k != Kind::Directory && !f.starts_with('.') && f.ends_with(".conf")
                    });
                    let files = files.map(|(f, _)| f).collect();
                    index.dropin_dirs.entry(base.to_owned()).or_default().push((*rank, path, files));
                } else if let Some((by, required)) = pulling(&name) {
                    for (unit, _) in index.root.list(&path) {
                        links.push((by.to_owned(), unit.clone(), required, format!("{path}/{unit}")));
                    }
                } else if UnitName::parse(&name).is_some()
                    && !index.entries.contains_key(&name)
                    && let Some(entry) = index.entry(&name, &path, &kind, &dirs)
                {
                    ranks.insert(name.clone(), *rank);
                    index.entries.insert(name, entry);
                }
            }
        }
        let generated = SEARCH_PATH.iter().position(|d| *d == "/run/systemd/generator").unwrap_or(0);
        for unit in quadlet::scan(&index.root) {
            // A unit file in a higher directory replaces what Quadlet makes; the made file is read at its source.
            if ranks.get(&unit.service).is_none_or(|rank| *rank >= generated) {
                index.entries.insert(unit.service.clone(), Entry::Fragment(unit.source));
                index.source_dropins.insert(unit.service, unit.dropins);
            }
        }
        let names: Vec<String> = index.entries.keys().cloned().collect();
        for name in names {
            let id = index.id(&name);
            if id != name {
                index.aliases.entry(id).or_default().insert(name);
            }
        }
        for (by, unit, required, path) in links {
            if UnitName::parse(&unit).is_some() {
                let id = index.id(&unit);
                index.pulls.entry(id.clone()).or_default().push(Pull { by, id, required, path });
            }
        }
        index
    }

    fn entry(&self, name: &str, path: &str, kind: &Kind, dirs: &[(usize, String)]) -> Option<Entry> {
        match kind {
            Kind::Directory => None,
            Kind::EmptyFile => Some(Entry::Masked(path.to_owned())),
            Kind::File => Some(Entry::Fragment(path.to_owned())),
            Kind::Link => {
                let target = self.root.target(path)?;
                if target == "/dev/null" || self.root.resolve(path)? == "/dev/null" {
                    return Some(Entry::Masked(path.to_owned()));
                }
                let (dir, base) = target.rsplit_once('/')?;
                let own = UnitName::parse(name)?;
                let other = UnitName::parse(base).filter(|b| b.kind == own.kind && b.full != own.full);
                // A link out of the search path links a unit in, whatever it is called there; an instance
                // that links to its own template is no other name of it.
                let alias = dirs.iter().any(|(_, d)| d == dir)
                    && other.is_some_and(|other| own.template().as_deref() != Some(other.full));
                if alias {
                    Some(Entry::Alias(base.to_owned()))
                } else {
                    let real = self.root.resolve(path)?;
                    // What cannot be read is told by the name that the unit has here.
                    let known = if self.root.is_file(&real) { real } else { path.to_owned() };
                    Some(Entry::Fragment(known))
                }
            }
        }
    }

    /// The links that pull in the unit of this real name.
    pub(crate) fn pulls(&self, id: &str) -> &[Pull] {
        self.pulls.get(id).map_or(&[], Vec::as_slice)
    }

    /// All links that pull in units.
    pub(crate) fn all_pulls(&self) -> impl Iterator<Item = &Pull> {
        self.pulls.values().flatten()
    }

    /// What a name, or the template it is an instance of, stands for.
    fn lookup(&self, name: &str) -> Option<Entry> {
        if let Some(entry) = self.entries.get(name) {
            return Some(entry.clone());
        }
        let template = UnitName::parse(name)?.template()?;
        match self.entries.get(&template)? {
            Entry::Alias(target) => {
                Some(Entry::Alias(instantiate(target, name).unwrap_or_else(|| target.clone())))
            }
            other => Some(other.clone()),
        }
    }

    /// The real name of a unit, as systemd's `Id` property would have it.
    pub(crate) fn id(&self, name: &str) -> String {
        let mut id = name.to_owned();
        // More links in a row than this is a loop.
        for _ in 0..16 {
            match self.lookup(&id) {
                Some(Entry::Alias(target)) => {
                    id = if UnitName::parse(&target).is_some_and(|t| t.is_template()) {
                        instantiate(&target, &id).unwrap_or(target)
                    } else {
                        target
                    };
                }
                _ => break,
            }
        }
        id
    }

    /// All other names of a unit, given its real name.
    pub(crate) fn aliases(&self, id: &str) -> Vec<String> {
        let mut names: BTreeSet<String> = self.aliases.get(id).cloned().unwrap_or_default();
        if let Some(template) = UnitName::parse(id).and_then(|n| n.template()) {
            let of_template = self.aliases.get(&template).into_iter().flatten();
            names.extend(of_template.filter_map(|alias| instantiate(alias, id)));
        }
        names.into_iter().collect()
    }

    /// The file that defines a unit, given its real name.
    pub(crate) fn fragment(&self, id: &str) -> Option<String> {
        match self.lookup(id)? {
            Entry::Fragment(path) => Some(path),
            _ => None,
        }
    }

    /// The file or link that masks a unit, given its real name.
    pub(crate) fn mask(&self, id: &str) -> Option<String> {
        match self.lookup(id)? {
            Entry::Masked(path) => Some(path),
            _ => None,
        }
    }

    /// Real names of all units that have a file, a drop-in directory of their own, or a link that pulls
    /// them in. A directory for a family (`foo-.service.d`) is no unit.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        let named = self.dropin_dirs.keys().filter(|base| {
            UnitName::parse(base).is_some_and(|n| !n.prefix.ends_with('-') || n.prefix == "-")
        });
        let pulled = self.pulls.keys();
        self.entries.keys().chain(named).chain(pulled).map(|name| self.id(name)).collect()
    }

    /// The drop-ins of a unit in the order in which systemd applies them, given its real name.
    pub(crate) fn dropins(&self, id: &str) -> Vec<DropIn> {
        let kind = UnitName::parse(id).map_or("", |n| n.kind);
        let mut names = vec![id.to_owned()];
        names.extend(self.aliases(id));
        // The first directory that has a file name wins it, and the more special directories come first.
        let mut chosen: BTreeMap<String, DropIn> = BTreeMap::new();
        for name in names {
            for rank in 0..SEARCH_PATH.len() {
                for base in family(&name) {
                    self.choose(&base, rank, false, &mut chosen);
                }
            }
        }
        for rank in 0..SEARCH_PATH.len() {
            self.choose(kind, rank, true, &mut chosen);
        }
        let source = self.source_dropins.get(id).into_iter().flatten().cloned();
        let source = source.map(|path| DropIn { path, base: id.to_owned(), type_wide: false });
        let mut out: Vec<DropIn> = source.chain(chosen.into_values()).collect();
        out.retain(|d| self.root.resolve(&d.path).is_some_and(|real| real != "/dev/null"));
        out
    }

    /// The drop-ins for all units of a type, in the order of their names.
    pub(crate) fn type_wide(&self, kind: &str) -> Vec<DropIn> {
        let mut chosen = BTreeMap::new();
        for rank in 0..SEARCH_PATH.len() {
            self.choose(kind, rank, true, &mut chosen);
        }
        chosen.into_values().collect()
    }

    fn choose(&self, base: &str, rank: usize, type_wide: bool, chosen: &mut BTreeMap<String, DropIn>) {
        let dirs = self.dropin_dirs.get(base).into_iter().flatten();
        for (_, dir, files) in dirs.filter(|(r, ..)| *r == rank) {
            for file in files {
                // The generator's own drop-ins, and whatever they outrank by name, do not count.
                if rank >= early_rank() && file.starts_with(OUR_PREFIX) {
                    continue;
                }
                chosen.entry(file.clone()).or_insert_with(|| DropIn {
                    path: format!("{dir}/{file}"),
                    base: base.to_owned(),
                    type_wide,
                });
            }
        }
    }

    /// Drop-ins with a generated one's name in a directory that outranks the generator's.
    pub(crate) fn outranking(&self) -> Vec<String> {
        let early = early_rank();
        let dirs = self.dropin_dirs.values().flatten().filter(|(rank, ..)| *rank < early);
        dirs.flat_map(|(_, dir, files)| {
            files.iter().filter(|f| f.starts_with(OUR_PREFIX)).map(move |f| format!("{dir}/{f}"))
        })
        .collect()
    }
}

/// The names whose drop-in directories apply to a unit, in systemd's order: the name itself, its
/// template, and each with its prefix cut at dashes.
fn family(name: &str) -> Vec<String> {
    let mut out = vec![name.to_owned()];
    let Some(parsed) = UnitName::parse(name) else { return out };
    if let Some(template) = parsed.template() {
        out.extend(family(&template));
    }
    if let Some(shorter) = parsed.chopped() {
        out.extend(family(&shorter));
    }
    out
}

/// Rank of the generator's early directory in the search path.
fn early_rank() -> usize {
    SEARCH_PATH.iter().position(|d| *d == EARLY).unwrap_or(0)
}

fn pulling(name: &str) -> Option<(&str, bool)> {
    let (by, required) = match name.rsplit_once('.')? {
        (by, "wants" | "upholds") => (by, false),
        (by, "requires") => (by, true),
        _ => return None,
    };
    UnitName::parse(by).map(|_| (by, required))
}
