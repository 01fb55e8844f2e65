//! Quadlet sources: `foo.container` becomes `foo.service`, and an `[X-Convoke]` section in it passes through.
//!
//! Read at the source, because generators run side by side: the unit that podman makes may not exist yet.
//! Knows nothing of containers.

use std::collections::BTreeMap;

use super::root::{Kind, Root};
use crate::name::UnitName;

/// podman's directories for the system, the highest first.
const DIRS: &[&str] =
    &["/run/containers/systemd", "/etc/containers/systemd", "/usr/share/containers/systemd"];

/// File types with what podman puts behind the name of the service, and the section that may rename it.
const TYPES: &[(&str, &str, &str)] = &[
    (".container", "", "Container"),
    (".kube", "", "Kube"),
    (".pod", "-pod", "Pod"),
    (".volume", "-volume", "Volume"),
    (".network", "-network", "Network"),
    (".image", "-image", "Image"),
    (".build", "-build", "Build"),
];

/// Bound on nested directories; podman has none, a loop of links must have one.
const DEPTH_MAX: usize = 8;

/// A service that podman makes.
pub(crate) struct Quadlet {
    pub(crate) service: String,
    pub(crate) source: String,
    pub(crate) dropins: Vec<String>,
}

/// All Quadlet sources below the root.
pub(crate) fn scan(root: &Root) -> Vec<Quadlet> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut dirs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for dir in DIRS {
        walk(root, dir, 0, &mut files, &mut dirs);
    }
    let mut out = Vec::new();
    for (name, source) in files {
        let Some((stem, suffix, section)) = typed(&name) else { continue };
        let mut dropins: BTreeMap<String, String> = BTreeMap::new();
        for dir in dirs.get(&name).into_iter().flatten() {
            for (file, kind) in root.list(dir) {
                if kind != Kind::Directory && file.ends_with(".conf") {
                    dropins.entry(file.clone()).or_insert(format!("{dir}/{file}"));
                }
            }
        }
        let dropins: Vec<String> = dropins.into_values().collect();
        let named = std::iter::once(&source).chain(&dropins).filter_map(|path| {
            let text = root.text(path)?;
            text.values(section, "ServiceName").last().map(|v| v.text.clone())
        });
        let service = match named.last().filter(|n| !n.is_empty()) {
            Some(name) => format!("{name}.service"),
            None => match stem.strip_suffix('@') {
                Some(prefix) => format!("{prefix}{suffix}@.service"),
                None => format!("{stem}{suffix}.service"),
            },
        };
        if UnitName::parse(&service).is_some() {
            out.push(Quadlet { service, source, dropins });
        }
    }
    out
}

fn typed(name: &str) -> Option<(&str, &'static str, &'static str)> {
    TYPES.iter().find_map(|(end, suffix, section)| Some((name.strip_suffix(end)?, *suffix, *section)))
}

fn walk(
    root: &Root,
    dir: &str,
    depth: usize,
    files: &mut BTreeMap<String, String>,
    dirs: &mut BTreeMap<String, Vec<String>>,
) {
    if depth > DEPTH_MAX {
        return;
    }
    for (name, kind) in root.list(dir) {
        let path = format!("{dir}/{name}");
        if let Some(base) = name.strip_suffix(".d").filter(|b| typed(b).is_some()) {
            dirs.entry(base.to_owned()).or_default().push(path);
        } else if typed(&name).is_some() && kind != Kind::Directory {
            files.entry(name).or_insert(path);
        } else if kind == Kind::Directory {
            walk(root, &path, depth + 1, files, dirs);
        }
    }
}
