//! What the generator writes: a gate for every cluster unit and every member of one.
//!
//! Decides the whole output for a root directory; writes nothing. Gates are made for the union of the
//! sections found and of the units this node was ever told of (F12), also for sections with errors: a
//! mistake in a file must never open a gate.

mod gated;

pub use gated::Gated;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::diagnostic::{Code, Severity};
use crate::gate::{self, GATE_FILE, Kind, MEMBER_FILE, Needs};
use crate::load::{Catalog, hides_permit, is_protected, key, known, stays_ungated, unkey};
use crate::name::UnitName;
use crate::section::assembly;
use crate::text::SECTION;

/// Where the list of known cluster units is kept.
pub const GATED_LIST: &str = "/var/lib/convoke/gated";

/// Its copy on the file system of the root: at boot, generators run before another one is mounted at /var.
pub const GATED_COPY: &str = "/etc/convoke/gated";

/// The generator's last complete output, for a run that fails. In /run, because systemd runs generators
/// with the rest of the system read-only.
pub const LAST_GOOD: &str = "/run/convoke/generator-last-good";

/// convoked's copy of [`LAST_GOOD`], which outlives a reboot.
pub const LAST_GOOD_KEPT: &str = "/var/lib/convoke/generator-last-good";

/// What to write, and what to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Texts by path below the generator's early directory.
    pub files: BTreeMap<PathBuf, String>,
    /// Lines for the kernel's log.
    pub log: Vec<String>,
    /// Units that must not have a gate, whatever was written before.
    pub left_out: BTreeSet<String>,
    /// Whether everything could be read. If not, gates of the last good run must stay beside these.
    pub complete: bool,
}

impl Output {
    fn add(&mut self, unit: &str, file: &str, text: String) {
        self.files.insert(PathBuf::from(format!("{unit}.d")).join(file), text);
    }

    fn leave_out(&mut self, unit: &str, why: &str) {
        self.log.push(format!("{unit} is NOT gated: {why}"));
        self.left_out.insert(unit.to_owned());
    }

    /// The files to write: these, and after an incomplete reading those of `fallback` beside them.
    pub fn with_fallback(&self, fallback: &BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
        let mut files = self.files.clone();
        if !self.complete {
            for (path, text) in fallback {
                let dir = path.parent().and_then(Path::to_str).and_then(|d| d.strip_suffix(".d"));
                if dir.is_some_and(|unit| !self.left_out.contains(unit)) {
                    files.entry(path.clone()).or_insert_with(|| text.clone());
                }
            }
        }
        files
    }
}

/// The complete output for a root directory.
pub fn render(root: &Path) -> Output {
    let catalog = Catalog::read(root);
    let known = known(&catalog.index);
    let mut output = Output { complete: true, ..Output::default() };
    let mut owns: BTreeMap<String, String> = BTreeMap::new();
    for name in catalog.units.keys().chain(&known.units) {
        let id = catalog.index.id(name);
        if let Some(why) = stays_ungated(&catalog, &id) {
            output.leave_out(&id, &why);
            continue;
        }
        let Some(kind) = Kind::of(&id) else {
            output.leave_out(&id, "its type cannot be a cluster unit");
            continue;
        };
        owns.insert(id.clone(), gate::own(kind, needs(&catalog, &id)));
    }
    for (id, text) in &owns {
        // An instance has its template's gate, and needs its own only where they differ.
        let template = UnitName::parse(id).and_then(|n| n.template());
        if template.and_then(|t| owns.get(&t)) != Some(text) {
            output.add(id, GATE_FILE, text.clone());
        }
    }
    let mut members = catalog.gates.clone();
    for (member, owner) in &known.members {
        // What the files say now counts more than what was remembered.
        members.entry(key(&catalog.index.id(member))).or_insert_with(|| key(owner));
    }
    for (member, owner) in &members {
        let real = unkey(member);
        let managed = |id: &str| {
            owns.contains_key(id)
                || UnitName::parse(id).and_then(|n| n.template()).is_some_and(|t| owns.contains_key(&t))
        };
        // The template's member gate says the same of all its instances.
        let instance = UnitName::parse(&real).filter(UnitName::is_instance);
        let general = instance.and_then(|n| Some((n.instance?, members.get(&key(&n.template()?))?)));
        let covered = general.is_some_and(|(i, by)| by.replace("%i", i) == *owner)
            && !catalog.views.contains_key(&real);
        if managed(&real) || covered {
            continue;
        }
        if let Some(why) = stays_ungated(&catalog, &real) {
            output.leave_out(&real, &why);
        } else if let Some(kind) = Kind::of(&real) {
            output.add(&real, MEMBER_FILE, gate::member(kind, owner, hidden(&catalog, &real)));
        }
    }
    for diagnostic in catalog.units.values().flat_map(|u| &u.diagnostics).chain(&catalog.loose) {
        // What cannot be read is told below.
        if diagnostic.severity == Severity::Error && diagnostic.code != Code::Unreadable {
            output.log.push(format!("{}: {}", diagnostic.code, diagnostic.message));
        }
    }
    for fault in catalog.index.root.faults() {
        output.complete = false;
        output.log.push(format!("cannot read {fault}: the gates of the last good run stay"));
    }
    output.log.dedup();
    output
}

/// Gates for the known units from nothing but the list of their names: the least that must stand if all
/// else fails. `ExecCondition=` is left out, since it is not known which unit it would shut for good.
pub fn render_known(list: &str) -> BTreeMap<PathBuf, String> {
    let known = Gated::parse(list);
    let mut output = Output::default();
    for unit in known.units.iter().filter(|u| !is_protected(u)) {
        if let Some(kind) = Kind::of(unit) {
            output.add(unit, GATE_FILE, gate::own(kind, Needs { hidden: true, ..Needs::default() }));
        }
    }
    for (member, owner) in known.members.iter().filter(|(m, _)| !is_protected(m)) {
        if let Some(kind) = Kind::of(member) {
            output.add(member, MEMBER_FILE, gate::member(kind, &key(owner), true));
        }
    }
    output.files
}

fn needs(catalog: &Catalog, id: &str) -> Needs {
    let assembly = catalog.views.get(id).and_then(|view| view.last(SECTION, "Assembly"));
    let assembled = assembly.is_some_and(|value| assembly::is_asked_for(&value.text));
    Needs { hidden: hidden(catalog, id), assembled }
}

fn hidden(catalog: &Catalog, id: &str) -> bool {
    catalog.views.get(id).is_some_and(|view| hides_permit(view).is_some())
}

#[cfg(test)]
mod tests;
