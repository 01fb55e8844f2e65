//! Settings outside `[X-Convoke]` that break a promise the cluster makes about the unit.

use super::ClusterUnit;
use super::boot::{Boot, Held};
use super::graph::{Graph, Via, key, unkey};
use super::index::Index;
use super::view::View;
use crate::diagnostic::{Code, Diagnostic, Span};
use crate::gate::{GATE_FILE, OUR_PREFIX, PERMITS};
use crate::name::UnitName;
use crate::section::timespan::{self, TimeSpan};
use crate::text::{SECTION, Value};

/// Rules of F1 and F7 about how an exclusive unit stops.
pub(crate) fn stopping(view: &View) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let id = &view.id;
    let section = view.type_section();
    let mut error = |code, value: &Value, message: String, help: &str| {
        found.push(Diagnostic::error(code, value.span(), message).help(help));
    };
    if let Some(v) = view.last(section, "KillMode").filter(|v| ["none", "process"].contains(&v.text.as_str()))
    {
        let message = format!("`KillMode={}` leaves processes of the exclusive unit `{id}` behind", v.text);
        error(Code::KillMode, v, message, "use `control-group` or `mixed`");
    }
    if let Some(v) = view.last(section, "SendSIGKILL").filter(|v| is_no(&v.text)) {
        let message = format!("`SendSIGKILL={}` lets the exclusive unit `{id}` outlive its stop", v.text);
        error(Code::NoSigkill, v, message, "remove it");
    }
    if let Some(v) = view.last("Mount", "LazyUnmount").filter(|v| is_yes(&v.text)) {
        let message = format!("`LazyUnmount=yes`: `{id}` would look gone while it is still written to");
        error(Code::LazyUnmount, v, message, "remove it");
    }
    // TimeoutSec= sets both; the last of the two in the files counts.
    let keys: &[&str] =
        if section == "Service" { &["TimeoutStopSec", "TimeoutSec"] } else { &["TimeoutSec"] };
    let last = view
        .texts()
        .flat_map(|t| t.assignments.iter())
        .filter(|a| a.section == section && keys.contains(&a.key.as_str()) && !a.value.text.is_empty())
        .last();
    // systemd takes 0 for no limit, too.
    let endless =
        |v: &Value| matches!(timespan::parse(&v.text), Some(TimeSpan::Infinity | TimeSpan::Micros(0)));
    if let Some(a) = last.filter(|a| endless(&a.value)) {
        let message =
            format!("`{}={}`: the stop of the exclusive unit `{id}` may last for ever", a.key, a.value.text);
        error(
            Code::EndlessStop,
            &a.value,
            message,
            "set a time; the cluster waits for it before it starts elsewhere",
        );
    }
    found
}

/// Programs of a clustered service that this node does not have.
pub(crate) fn programs(index: &Index, view: &View, programs: &[(&'static str, String)]) -> Vec<Diagnostic> {
    let missing = programs.iter().filter(|(_, path)| !index.root.is_program(path));
    let found = missing.map(|(key, path)| {
        let message = format!("`{path}` is not there, or cannot be executed");
        let span = view.last(SECTION, key).map(Value::span);
        let help = format!("install the program that `{key}=` of `{}` names on this node", view.id);
        Diagnostic::warning(Code::NoProgram, span, message).help(help)
    });
    found.collect()
}

/// Whether and how the gate is in force.
pub(crate) fn gating(view: &View, exclusive: bool, rootless: Option<&Value>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let id = &view.id;
    if exclusive && !has_static_assert(view) {
        let message = format!("`{id}` is exclusive, but nothing keeps it shut without the generator");
        let help = format!("add to a drop-in of the unit in /etc:\n[Unit]\nAssertPathExists={PERMITS}/%n");
        found.push(Diagnostic::warning(Code::NoStaticAssert, view.claim().cloned(), message).help(help));
    }
    if let Some(value) = rootless {
        let message = format!("the gate of `{id}` has no `ExecCondition=`, which could not see the permit");
        found.push(
            Diagnostic::warning(Code::NoCondition, value.span(), message)
                .help("on systemd 254 and later an automatic restart is guarded by convoked's audit only"),
        );
    }
    for (dropin, text) in &view.dropins {
        let file = dropin.path.rsplit('/').next().unwrap_or("");
        if file.starts_with(OUR_PREFIX) {
            let message = format!("`{}` outranks the generated gate of `{id}`", dropin.path);
            let span = Span::file(dropin.path.clone());
            found.push(Diagnostic::error(Code::GateOutranked, span, message).help("remove it"));
            continue;
        }
        let resets = text
            .assignments
            .iter()
            .find(|a| a.section == "Unit" && a.key.starts_with("Assert") && a.value.text.is_empty());
        if let Some(reset) = resets.filter(|_| file > GATE_FILE) {
            let message = format!("`{}=` clears the gate of `{id}`", reset.key);
            let help = format!("rename the file so that it sorts before `{GATE_FILE}`");
            found.push(Diagnostic::error(Code::GateOutranked, reset.key_span.clone(), message).help(help));
        }
    }
    found
}

/// Whether a plain, untriggered assert on the permit stands in the files and is not cleared again.
fn has_static_assert(view: &View) -> bool {
    let mut standing = false;
    let expanded = format!("{PERMITS}/{}", view.id);
    for assignment in view.texts().flat_map(|t| t.assignments.iter()) {
        if assignment.section != "Unit" || !assignment.key.starts_with("Assert") {
            continue;
        }
        let text = assignment.value.text.as_str();
        if text.is_empty() {
            standing = false;
        } else if assignment.key == "AssertPathExists" {
            standing |= text == expanded || text == format!("{PERMITS}/%n");
        }
    }
    standing
}

/// How other local units refer to this one, and it to them.
pub(crate) fn neighbours(
    index: &Index,
    graph: &Graph,
    boot: &Boot,
    unit: &ClusterUnit,
    is_managed: impl Fn(&str) -> bool,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let id = &unit.id;
    let own = key(id);
    for (from, edge) in graph.to(&own) {
        let from = unkey(&from);
        match edge.via {
            Via::Upholds => found.push(
                Diagnostic::warning(
                    Code::Upheld,
                    edge.span,
                    format!("`{from}` upholds the cluster unit `{id}`"),
                )
                .help("systemd repeats a refused start at once; use `Wants=`"),
            ),
            Via::Requires | Via::BindsTo if !from.ends_with(".target") && !is_managed(&from) => {
                let ordered = graph.from(&key(&from)).iter().any(|e| e.via == Via::After && e.to == own);
                if !ordered {
                    let message = format!("`{from}` requires `{id}`, but does not wait for it");
                    let help = format!("add `After={id}`, or it starts although `{id}` is refused");
                    found.push(Diagnostic::warning(Code::RequiredUnordered, edge.span, message).help(help));
                }
            }
            Via::Triggers if from.ends_with(".automount") => {
                let message = format!("`{from}` mounts the cluster unit `{id}` at each access");
                found.push(
                    Diagnostic::warning(Code::Automounted, edge.span, message).help("remove the automount"),
                );
            }
            _ => {}
        }
    }
    let exclusive = unit.treated_as_exclusive();
    for edge in graph.from(&own) {
        let to = unkey(&edge.to);
        match edge.via {
            Via::Requires | Via::BindsTo
                if exclusive
                    && to.ends_with(".service")
                    && !id.ends_with(".target")
                    && !is_managed(&to)
                    && !matches!(boot.held(index, &to), Some(Held::Protected(_))) =>
            {
                let message = format!("a refused start of `{id}` still starts `{to}`");
                let help = format!("give `{to}` a section too if it must not run on the wrong node");
                found.push(Diagnostic::warning(Code::PulledInUngated, edge.span, message).help(help));
            }
            _ => {}
        }
    }
    found
}

/// Needs of systemd's own that only one node can meet, where the unit may be placed on others.
pub(crate) fn lonely(
    graph: &Graph,
    view: &View,
    unit: &ClusterUnit,
    is_single: impl Fn(&str) -> bool,
) -> Vec<Diagnostic> {
    let Some(section) = &unit.section else { return Vec::new() };
    let edges = graph.from(&key(&unit.id)).into_iter();
    let needs = edges.filter(|edge| matches!(edge.via, Via::Requires | Via::BindsTo));
    let slice = view.last(view.type_section(), "Slice").map(|value| (value.text.clone(), value.span()));
    let named = needs.map(|edge| (unkey(&edge.to), edge.span)).chain(slice);
    let lonely =
        named.filter(|(to, _)| is_single(to) && *to != unit.id && !section.same_node_as.contains(to));
    lonely
        .map(|(to, span)| {
            let message =
                format!("`{}` needs `{to}` on its own node, and one node at a time runs that", unit.id);
            let help = format!("add `SameNodeAs={to}` and `After={to}` to its [X-Convoke] section");
            Diagnostic::warning(Code::NeedsNeighbour, span, message).help(help)
        })
        .collect()
}

/// The setting that hides the permit from `ExecCondition=`, which is run inside it even with `+`.
pub(crate) fn hides_permit(view: &View) -> Option<&Value> {
    if UnitName::parse(&view.id)?.kind != "service" {
        return None;
    }
    let root = view.last("Service", "RootDirectory").filter(|v| v.text != "/");
    root.or_else(|| view.last("Service", "RootImage")).or_else(|| covers_permits(view))
}

/// A setting that lays something over the folder of the permits. One that is taken back later counts all the same: rather a
/// part of the gate less than a unit that never starts.
fn covers_permits(view: &View) -> Option<&Value> {
    let mut covering = None;
    for assignment in view.texts().flat_map(|text| &text.assignments).filter(|a| a.section == "Service") {
        let target = match assignment.key.as_str() {
            "TemporaryFileSystem" | "InaccessiblePaths" => 0,
            "BindPaths" | "BindReadOnlyPaths" => 1,
            _ => continue,
        };
        let above = |word: &str| {
            let word = word.trim_start_matches(['-', '+']);
            let mut parts = word.split(':');
            let path = if target == 0 { parts.next() } else { parts.nth(1) };
            path.is_some_and(|path| std::path::Path::new(PERMITS).starts_with(path))
        };
        if assignment.value.words().any(|(word, _)| above(word)) {
            covering = Some(&assignment.value);
        }
    }
    covering
}

/// Findings for a unit that must stay ungated.
pub(crate) fn held_back(id: &str, held: &Held, claim: Option<&Span>) -> Diagnostic {
    match held {
        Held::Protected(by) => {
            let message = format!("`{id}` cannot be a cluster unit: {by} needs it in order to start");
            Diagnostic::error(Code::Protected, claim.cloned(), message)
                .help("remove the section; the unit is not gated")
        }
        Held::AtBoot(at, target) => {
            let message = format!("`{id}` is needed by `{target}`: a refused start would end the boot there");
            let help = if id.ends_with(".mount") {
                "add `nofail`, `noauto` or `_netdev` to the line; it is NOT gated until then"
            } else {
                "take it out of that target; it is NOT gated until then"
            };
            Diagnostic::error(Code::NeededAtBoot, at.clone(), message).help(help)
        }
    }
}

pub(crate) fn is_yes(text: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].iter().any(|y| text.eq_ignore_ascii_case(y))
}

fn is_no(text: &str) -> bool {
    ["0", "no", "n", "false", "f", "off"].iter().any(|n| text.eq_ignore_ascii_case(n))
}
