//! Finds the cluster units of a node: all units that have an `[X-Convoke]` section anywhere.
//!
//! Decides which units these are, what applies to each, and whether it may be started; reads files below
//! a root directory and changes none. The name of a unit is systemd's `Id`: an alias leads to it. A unit
//! with an error has no [`Section`], so nothing can start it, and is still listed, so that it stays gated.

mod boot;
mod fstab;
mod graph;
mod hazards;
mod index;
mod members;
mod quadlet;
mod root;
mod triggers;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(crate) use boot::{Boot, is_protected};
pub(crate) use graph::{key, unkey};
pub(crate) use hazards::hides_permit;
pub(crate) use index::Index;
pub use index::SEARCH_PATH;
pub(crate) use view::View;

use crate::diagnostic::{Code, Diagnostic, has_errors};
use crate::gate::{Kind, gate_unit};
use crate::generator::{GATED_COPY, GATED_LIST, Gated};
use crate::name::UnitName;
use crate::section::{self, Section};
use boot::Held;
use graph::Graph;
use members::{Members, Owner};

/// A unit that has an `[X-Convoke]` section on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterUnit {
    /// Real name, as systemd's `Id`.
    pub id: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// Its rules; `None` if anything about it is an error: such a unit stays gated and is never started.
    pub section: Option<Section>,
    /// Everything found about it.
    pub diagnostics: Vec<Diagnostic>,
    /// The file that defines it; for Quadlet its source.
    pub fragment: Option<String>,
    /// Its drop-ins in order of application, the generator's own left out.
    pub dropins: Vec<String>,
    /// Whether a target or another unit pulls it in by a link, that is, whether it is enabled.
    pub enabled: bool,
    /// Units without a section of their own that are gated on its permit.
    pub members: Vec<String>,
    /// Whether it is a template: then its section is that of all its instances; ask [`unit()`] for one.
    pub template: bool,
    /// Whether it is masked on this node.
    pub masked: bool,
    /// Whether the generator writes a gate for it; not where the boot itself needs the unit.
    pub gated: bool,
}

impl ClusterUnit {
    /// Whether its rules make it exclusive. A unit with errors is treated as such, to be on the safe side.
    pub fn treated_as_exclusive(&self) -> bool {
        self.section.as_ref().is_none_or(Section::exclusive)
    }
}

/// All cluster units of a node, by name. Templates are listed, and those of their instances that are
/// enabled or have a file or drop-in of their own.
pub fn discover(root: &Path) -> Vec<ClusterUnit> {
    Catalog::read(root).units.into_values().collect()
}

/// One unit by any of its names, also an instance that [`discover`] does not list. `None` if it is no
/// cluster unit.
pub fn unit(root: &Path, name: &str) -> Option<ClusterUnit> {
    let index = Index::scan(root);
    let id = index.id(name);
    let extra = UnitName::parse(&id).filter(UnitName::is_instance).map(|n| n.full.to_owned());
    Catalog::build(index, extra).units.remove(&id)
}

/// The real name of a unit by any of its names, as systemd's `Id`; the name itself where no file says otherwise.
pub fn id(root: &Path, name: &str) -> String {
    Index::scan(root).id(name)
}

/// What of a unit's own files cannot be read, whether it is a cluster unit or not.
pub(crate) fn unread(root: &Path, name: &str) -> Vec<Diagnostic> {
    let index = Index::scan(root);
    View::of(&index, &index.id(name)).unread.iter().map(|fault| unreadable(fault)).collect()
}

/// The units that this node was ever told of (F12).
pub(crate) fn known(index: &Index) -> Gated {
    let mut known = Gated::default();
    for list in [GATED_LIST, GATED_COPY] {
        let text = index.root.read(list).unwrap_or_default();
        known.join(Gated::parse(&String::from_utf8_lossy(&text)));
    }
    known
}

/// All that one reading of a node's files says.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) index: Index,
    pub(crate) boot: Boot,
    pub(crate) views: BTreeMap<String, View>,
    pub(crate) units: BTreeMap<String, ClusterUnit>,
    /// Owner by member, by their names in the graph.
    pub(crate) gates: BTreeMap<String, String>,
    /// Findings that belong to no cluster unit.
    pub(crate) loose: Vec<Diagnostic>,
}

impl Catalog {
    pub(crate) fn read(root: &Path) -> Catalog {
        Catalog::build(Index::scan(root), None)
    }

    fn build(index: Index, extra: Option<String>) -> Catalog {
        let ids: BTreeSet<String> = index.ids().into_iter().chain(extra).collect();
        let views: BTreeMap<String, View> =
            ids.into_iter().map(|id| (id.clone(), View::of(&index, &id))).collect();
        let graph = Graph::of(&index, &views);
        let boot = Boot::read(&index);
        let mut units = BTreeMap::new();
        // What cannot be read may be what made it a cluster unit: where it was one, it still is, and says what is wrong.
        let doubtful = |view: &View| !view.unread.is_empty() && known(&index).units.contains(&view.id);
        for view in views.values().filter(|view| view.claim().is_some() || doubtful(view)) {
            units.insert(view.id.clone(), cluster_unit(&index, &boot, view));
        }
        let owners = units
            .iter()
            .filter(|(_, u)| u.gated)
            .map(|(id, u)| (id.clone(), Owner { exclusive: u.treated_as_exclusive() }))
            .collect();
        let Members { gates, found } = members::find(&index, &graph, &boot, &owners);
        for (owner, finding) in found {
            if let Some(unit) = units.get_mut(&owner) {
                unit.diagnostics.push(finding);
            }
        }
        for (member, owner) in &gates {
            if let Some(unit) = units.get_mut(&unkey(owner)) {
                unit.members.push(unkey(member));
            }
        }
        let managed: BTreeSet<String> = units.keys().cloned().chain(gates.keys().map(|k| unkey(k))).collect();
        let is_managed = |name: &str| {
            managed.contains(name)
                || UnitName::parse(name).and_then(|n| n.template()).is_some_and(|t| managed.contains(&t))
        };
        let is_single = |name: &str| owners.get(name).is_some_and(|owner: &Owner| owner.exclusive);
        let is_own = |name: &str| {
            owners.contains_key(name)
                || UnitName::parse(name).and_then(|n| n.template()).is_some_and(|t| owners.contains_key(&t))
        };
        let sections: BTreeMap<String, Section> =
            units.iter().filter_map(|(id, unit)| Some((id.clone(), unit.section.clone()?))).collect();
        for unit in units.values_mut() {
            let mut found = hazards::neighbours(&index, &graph, &boot, unit, is_managed);
            if let Some(view) = views.get(&unit.id) {
                found.extend(hazards::lonely(&graph, view, unit, is_single));
                found.extend(triggers::started(&graph, view, unit, is_own));
            }
            found.extend(triggers::starting(&graph, &views, unit, &sections, is_managed));
            unit.diagnostics.extend(found);
            if has_errors(&unit.diagnostics) {
                unit.section = None;
            }
        }
        let loose = loose(&index);
        Catalog { index, boot, views, units, gates, loose }
    }
}

fn cluster_unit(index: &Index, boot: &Boot, view: &View) -> ClusterUnit {
    let id = view.id.clone();
    let mut found: Vec<Diagnostic> = view.own_texts().flat_map(|t| t.diagnostics.clone()).collect();
    // What it says may be what matters.
    found.extend(view.unread.iter().map(|fault| unreadable(fault)));
    let (section, parsed) = section::read(&id, view.own_texts());
    found.extend(parsed);
    let exclusive = section.exclusive();
    let held = boot.held(index, &id);
    let gateable = Kind::of(&id).is_some();
    if let Some(held) = &held {
        found.push(hazards::held_back(&id, held, view.claim()));
    } else if !gateable {
        let message = format!("`{id}` is of a type that cannot be a cluster unit");
        found.push(Diagnostic::error(Code::UnitType, view.claim().cloned(), message));
    } else {
        found.extend(hazards::gating(view, exclusive, hides_permit(view)));
        let programs: Vec<_> = section.programs().map(|(key, program)| (key, program.path.clone())).collect();
        found.extend(hazards::programs(index, view, &programs));
    }
    if exclusive {
        found.extend(hazards::stopping(view));
    }
    found.extend(naming(index, boot, view));
    found.extend(type_wide(view));
    // Quadlet carries out `[Install]` itself.
    let quadlet = view.fragment.as_ref().is_some_and(|f| !f.file().ends_with(&id));
    let installed = quadlet
        && ["WantedBy", "RequiredBy", "UpheldBy"].iter().any(|k| !view.names("Install", k).is_empty())
        && UnitName::parse(&id).is_some_and(|n| n.instance.is_none());
    let enabled = !index.pulls(&id).is_empty() || installed;
    if enabled && exclusive && view.mask.is_none() && held.is_none() {
        let wanted = view.texts().flat_map(|t| &t.assignments).find(|a| {
            a.section == "Install" && ["WantedBy", "RequiredBy", "UpheldBy"].contains(&a.key.as_str())
        });
        let span = wanted.map(|a| a.key_span.clone()).or_else(|| view.claim().cloned());
        let message = format!("`{id}` may run on one node, but is also enabled at boot");
        let help = format!("run `systemctl disable {id}`; the cluster starts it");
        found.push(Diagnostic::hint(Code::EnabledAtBoot, span, message).help(help));
    }
    ClusterUnit {
        aliases: index.aliases(&id),
        section: (!has_errors(&found)).then_some(section),
        diagnostics: found,
        fragment: view.fragment.as_ref().map(|f| f.file().to_owned()),
        dropins: view.dropins.iter().map(|(d, _)| d.path.clone()).collect(),
        enabled,
        members: Vec::new(),
        template: UnitName::parse(&id).is_some_and(|n| n.is_template()),
        masked: view.mask.is_some(),
        gated: held.is_none() && gateable,
        id,
    }
}

/// Findings about the unit's file and names.
fn naming(index: &Index, boot: &Boot, view: &View) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let id = &view.id;
    // systemd drops a `Wants=` that it cannot read: the unit would be shut, and nobody asked or told why.
    if UnitName::parse(&gate_unit(id)).is_none() {
        let message = format!("the name of `{id}` is too long for its gate");
        let help = "give the unit a name of 234 characters at the most";
        found.push(Diagnostic::error(Code::LongName, view.claim().cloned(), message).help(help));
    }
    if let Some(mask) = &view.mask {
        let message = format!("the cluster unit `{id}` is masked on this node by `{mask}`");
        let help = format!("nothing starts it here; `systemctl unmask {id}` if this node is to run it");
        found.push(Diagnostic::warning(Code::Masked, view.claim().cloned(), message).help(help));
    } else if view.fragment.is_none()
        && view.unread.is_empty()
        && !boot.fstab.contains_key(id)
        && !id.ends_with(".slice")
    {
        let message = format!("there is a section for `{id}`, but no such unit on this node");
        let help = "install the unit, or correct the name of the drop-in's directory";
        found.push(Diagnostic::error(Code::NoUnitFile, view.claim().cloned(), message).help(help));
    }
    let aliases = index.aliases(id);
    for (dropin, text) in &view.dropins {
        if let Some(header) = text.claim().filter(|_| aliases.contains(&dropin.base)) {
            let message =
                format!("`{}` is another name of `{id}`, which is the cluster's name of it", dropin.base);
            let help = format!("move the file to `{id}.d/`");
            found.push(Diagnostic::hint(Code::UnderAlias, header.span.clone(), message).help(help));
        }
    }
    found
}

/// Sections that were meant for this unit and all of its type.
fn type_wide(view: &View) -> Vec<Diagnostic> {
    let wide = view.dropins.iter().filter(|(d, _)| d.type_wide).filter_map(|(_, t)| t.claim());
    wide.map(|header| {
        let message = format!("`[X-Convoke]` for a whole type has no effect, not on `{}` either", view.id);
        Diagnostic::error(Code::TypeWide, header.span.clone(), message)
            .help("move the section to drop-ins of the units that are meant")
    })
    .collect()
}

fn unreadable(fault: &str) -> Diagnostic {
    let help = "look at what it is, at its permissions and at the disk; the gates of the last good run stay";
    Diagnostic::error(Code::Unreadable, None, format!("cannot read {fault}")).help(help)
}

/// Findings that belong to no single cluster unit.
fn loose(index: &Index) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for fault in index.root.faults() {
        found.push(unreadable(&fault));
    }
    for kind in crate::name::TYPES {
        for dropin in index.type_wide(kind) {
            let Some(text) = index.root.text(&dropin.path) else { continue };
            if let Some(header) = text.claim() {
                let message = format!("`[X-Convoke]` for every {kind} has no effect");
                let help = "move the section to drop-ins of the units that are meant";
                found.push(Diagnostic::error(Code::TypeWide, header.span.clone(), message).help(help));
            }
        }
    }
    for path in index.outranking() {
        let message = format!("`{path}` outranks the generated gate of the same name");
        let span = crate::diagnostic::Span::file(path);
        found.push(Diagnostic::error(Code::GateOutranked, span, message).help("remove it"));
    }
    for dir in ["/etc/systemd/user", "/usr/lib/systemd/user", "/usr/local/lib/systemd/user"] {
        for (name, _) in index.root.list(dir) {
            let path = format!("{dir}/{name}");
            let files: Vec<String> = if name.ends_with(".d") {
                index.root.list(&path).into_iter().map(|(f, _)| format!("{path}/{f}")).collect()
            } else {
                vec![path]
            };
            for file in &files {
                let claims = |f: &String| index.root.text(f)?.claim().map(|h| h.span.clone());
                if UnitName::parse(name.trim_end_matches(".d")).is_some()
                    && let Some(span) = claims(file)
                {
                    let message = format!("`{}` is a unit of user managers", name.trim_end_matches(".d"));
                    let help = "only units of the system manager can be cluster units";
                    found.push(Diagnostic::warning(Code::UserUnit, span, message).help(help));
                }
            }
        }
    }
    found
}

/// Why a unit that this node was told of must stay ungated after all.
pub(crate) fn stays_ungated(catalog: &Catalog, id: &str) -> Option<String> {
    match catalog.boot.held(&catalog.index, id)? {
        Held::Protected(by) => Some(format!("{by} needs it in order to start")),
        Held::AtBoot(at, target) => Some(format!("{target} needs it at boot, see {}", at.file)),
    }
}
