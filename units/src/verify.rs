//! Everything that can be said of the cluster units in the files of a node, before any of them runs.

use std::path::Path;

use crate::diagnostic::{Code, Diagnostic};
use crate::load::Catalog;
use crate::name::UnitName;

/// All findings for the named units, or for all units and files if no name is given. A name may be an
/// alias or an instance. The worst come first; within that, in order of file and place.
pub fn verify(root: &Path, names: &[String]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if names.is_empty() {
        let catalog = Catalog::read(root);
        found.extend(catalog.units.into_values().flat_map(|u| u.diagnostics));
        found.extend(catalog.loose);
    }
    for name in names {
        match crate::load::unit(root, name) {
            Some(unit) => found.extend(unit.diagnostics),
            None if UnitName::parse(name).is_none() => {
                let message = format!("`{name}` is not the name of a unit");
                found.push(
                    Diagnostic::error(Code::BadUnitName, None, message)
                        .help("give the full name with its type"),
                );
            }
            None => {
                let unread = crate::load::unread(root, name);
                if !unread.is_empty() {
                    found.extend(unread);
                    continue;
                }
                let message =
                    format!("`{name}` is no cluster unit: it has no `[X-Convoke]` section on this node");
                let help = format!(
                    "a drop-in /etc/systemd/system/{name}.d/cluster.conf with the section makes it one"
                );
                found.push(Diagnostic::error(Code::NoUnitFile, None, message).help(help));
            }
        }
    }
    found.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| (&a.span, a.code).cmp(&(&b.span, b.code))));
    // A drop-in that applies to several units says the same of each.
    let mut told: Vec<Diagnostic> = Vec::new();
    for finding in found {
        if !told.contains(&finding) {
            told.push(finding);
        }
    }
    told
}
