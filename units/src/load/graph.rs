//! Who pulls in, belongs to, or triggers whom, by name.
//!
//! A template stands in the graph under its open name (`db@%i.service`), so that `PartOf=app@%i.target` in
//! one template meets `app@.target` as its other end.

use std::collections::{BTreeMap, BTreeSet};

use super::index::Index;
use super::view::View;
use crate::diagnostic::Span;
use crate::name::{UnitName, mount_unit};

/// How one unit refers to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Requires,
    BindsTo,
    Wants,
    Upholds,
    After,
    PartOf,
    /// `WantedBy=` and the like in `[Install]`.
    Install,
    /// A socket, path or timer that starts the other.
    Triggers,
    /// `RequiresMountsFor=` reaches the mount.
    MountsFor,
}

/// One reference.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub(crate) via: Via,
    pub(crate) to: String,
    pub(crate) span: Span,
}

const SETTINGS: &[(&str, &str, Via)] = &[
    ("Unit", "Requires", Via::Requires),
    ("Unit", "BindsTo", Via::BindsTo),
    ("Unit", "Wants", Via::Wants),
    ("Unit", "Upholds", Via::Upholds),
    ("Unit", "After", Via::After),
    ("Unit", "PartOf", Via::PartOf),
    ("Install", "WantedBy", Via::Install),
    ("Install", "RequiredBy", Via::Install),
    ("Install", "UpheldBy", Via::Install),
];

/// The references of all units.
#[derive(Debug)]
pub(crate) struct Graph {
    edges: BTreeMap<String, Vec<Edge>>,
    /// Who refers to a name.
    sources: BTreeMap<String, BTreeSet<String>>,
}

/// The name of a unit in the graph: `db@%i.service` for `db@.service`.
pub(crate) fn key(id: &str) -> String {
    match UnitName::parse(id) {
        Some(name) if name.is_template() => format!("{}@%i.{}", name.prefix, name.kind),
        _ => id.to_owned(),
    }
}

/// The unit of a name in the graph.
pub(crate) fn unkey(key: &str) -> String {
    key.replacen("@%i.", "@.", 1)
}

/// Whether a name of the graph is open in its instance.
pub(crate) fn is_open(key: &str) -> bool {
    key.contains("%i")
}

impl Graph {
    pub(crate) fn of(index: &Index, views: &BTreeMap<String, View>) -> Graph {
        let mut edges: BTreeMap<String, Vec<Edge>> = BTreeMap::new();
        for (id, view) in views {
            edges.insert(key(id), edges_of(index, view, views));
        }
        for pull in index.all_pulls() {
            let by = key(&index.id(&pull.by));
            let via = if pull.required { Via::Requires } else { Via::Wants };
            let to = key(&pull.id);
            edges.entry(by).or_default().push(Edge { via, to, span: Span::file(pull.path.clone()) });
        }
        let mut sources: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, edges) in &edges {
            for edge in edges {
                sources.entry(edge.to.clone()).or_default().insert(from.clone());
            }
        }
        Graph { edges, sources }
    }

    /// What a unit refers to; an instance refers to what its template does.
    pub(crate) fn from(&self, unit: &str) -> Vec<Edge> {
        let mut out = self.edges.get(unit).cloned().unwrap_or_default();
        if let Some((template, instance)) = open(unit) {
            for edge in self.edges.get(&template).into_iter().flatten() {
                let to = edge.to.replace("%i", instance);
                if !out.iter().any(|e| e.via == edge.via && e.to == to) {
                    out.push(Edge { to, ..edge.clone() });
                }
            }
        }
        out
    }

    /// Who refers to a unit; to an instance also who refers to its template's open name.
    pub(crate) fn to(&self, unit: &str) -> Vec<(String, Edge)> {
        let mut out = Vec::new();
        self.refer(unit, None, &mut out);
        if let Some((template, instance)) = open(unit) {
            self.refer(&template, Some(instance), &mut out);
        }
        out
    }

    fn refer(&self, unit: &str, instance: Option<&str>, out: &mut Vec<(String, Edge)>) {
        for source in self.sources.get(unit).into_iter().flatten() {
            let from = match instance {
                None => source.clone(),
                Some(instance) if is_open(source) => source.replace("%i", instance),
                Some(_) => continue,
            };
            for edge in self.edges.get(source).into_iter().flatten().filter(|e| e.to == unit) {
                if !out.iter().any(|(f, e)| *f == from && e.via == edge.via) {
                    out.push((from.clone(), edge.clone()));
                }
            }
        }
    }
}

/// The open name of an instance's template, and the instance.
fn open(unit: &str) -> Option<(String, &str)> {
    let name = UnitName::parse(unit).filter(UnitName::is_instance)?;
    Some((key(&name.template()?), name.instance?))
}

fn edges_of(index: &Index, view: &View, views: &BTreeMap<String, View>) -> Vec<Edge> {
    let mut out = Vec::new();
    for (section, setting, via) in SETTINGS {
        for (name, span) in view.names(section, setting) {
            let to = if UnitName::parse(&name).is_some() { key(&index.id(&name)) } else { name };
            out.push(Edge { via: *via, to, span });
        }
    }
    for (path, span) in view.names("Unit", "RequiresMountsFor") {
        let mut path = path.as_str();
        while path.len() > 1 {
            let to = mount_unit(path);
            if views.get(&to).is_some_and(|v| v.fragment.is_some()) {
                out.push(Edge { via: Via::MountsFor, to, span: span.clone() });
            }
            path = path.rfind('/').map_or("", |slash| &path[..slash]);
        }
    }
    out.extend(triggered(index, view));
    out
}

/// What a socket, path or timer starts: the unit it names, or the service of its own name.
fn triggered(index: &Index, view: &View) -> Option<Edge> {
    let name = UnitName::parse(&view.id)?;
    let (section, setting) = match name.kind {
        "socket" => ("Socket", "Service"),
        "path" => ("Path", "Unit"),
        "timer" => ("Timer", "Unit"),
        "automount" => ("Automount", ""),
        _ => return None,
    };
    let fragment = view.fragment.as_ref();
    let whole = Span::file(fragment.map_or("", |f| f.file()));
    let named = view.names(section, setting).pop();
    let accepts =
        view.last("Socket", "Accept").is_some_and(|v| ["yes", "true", "1", "on"].contains(&v.text.as_str()));
    let (to, span) = match named {
        Some((to, span)) => (to, span),
        // Each connection starts an instance of its own.
        None if name.kind == "socket" && accepts => (format!("{}@.service", name.prefix), whole),
        None if name.kind == "automount" => (format!("{}.mount", name.stem()), whole),
        None => (format!("{}.service", name.stem()), whole),
    };
    let to = if UnitName::parse(&to).is_some() { index.id(&to) } else { to };
    Some(Edge { via: Via::Triggers, to: key(&to), span })
}
