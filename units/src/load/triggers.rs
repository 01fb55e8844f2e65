//! What sockets, paths and timers can do for a cluster unit, and what they cannot.
//!
//! A start by one of them is a question at the gate and no wish (F9, P24): it never starts a cluster unit that nobody
//! else has started. And systemd knows one node only: what starts another unit has to be where that is. Pure.

use std::collections::BTreeMap;

use super::ClusterUnit;
use super::graph::{Graph, Via, is_open, key, unkey};
use super::hazards::is_yes;
use super::view::View;
use crate::diagnostic::{Code, Diagnostic};
use crate::name::UnitName;
use crate::section::{Replicas, Section};
use crate::text::Value;

/// How a service with a section of its own fares with what is to start it, and with an end by itself.
pub(crate) fn started(
    graph: &Graph,
    view: &View,
    unit: &ClusterUnit,
    is_own: impl Fn(&str) -> bool,
) -> Vec<Diagnostic> {
    let id = &unit.id;
    if !unit.gated || !id.ends_with(".service") {
        return Vec::new();
    }
    let ending = ends_by_itself(view);
    let mut found = Vec::new();
    for (from, edge) in graph.to(&key(id)) {
        let from = unkey(&from);
        // One without a section is a member of the service, and there while that runs: of use unless it ends.
        let idle = match from.rsplit_once('.') {
            Some((_, "timer")) => ending.is_some() || is_own(&from),
            Some((_, "path")) => ending.is_some(),
            _ => false,
        };
        if edge.via == Via::Triggers && idle {
            let message = format!(
                "`{from}` never starts `{id}`: with a section of its own, that starts when a person asks"
            );
            let help = format!(
                "take the section out, and let `{id}` and `{from}` belong to a target that has it: see TIMERS in \
                 convoke.unit(5)"
            );
            found.push(Diagnostic::warning(Code::NeverTriggered, edge.span, message).help(help));
        }
    }
    if let Some(oneshot) = ending.filter(|_| found.is_empty()) {
        let message =
            format!("`{id}` is over as soon as it has done its work: the cluster takes that for a failure");
        let help = "add `RemainAfterExit=yes` if it is to count as active from then on";
        found.push(Diagnostic::warning(Code::EndsByItself, oneshot.span(), message).help(help));
    }
    found
}

/// How a cluster unit fares with what it is to start.
pub(crate) fn starting(
    graph: &Graph,
    views: &BTreeMap<String, View>,
    unit: &ClusterUnit,
    sections: &BTreeMap<String, Section>,
    is_managed: impl Fn(&str) -> bool,
) -> Vec<Diagnostic> {
    let id = &unit.id;
    let mut found = Vec::new();
    for edge in graph.from(&key(id)).into_iter().filter(|edge| edge.via == Via::Triggers) {
        let to = unkey(&edge.to);
        let kind = UnitName::parse(id).map_or("", |name| name.kind);
        let ending = view_of(views, &to).and_then(ends_by_itself).is_some();
        if !is_managed(&to) {
            // With a section of its own it would not be started any more, nor an instance for each connection.
            let by_need = kind == "timer"
                || (kind == "path" && ending)
                || (kind == "socket" && is_open(&edge.to) && !unit.template);
            let help = match kind {
                _ if by_need => format!(
                    "by hand it starts on any node, and it goes on when `{id}` moves; where that matters, let both \
                     belong to a\ntarget that has the section, see TIMERS in convoke.unit(5)"
                ),
                "socket" | "path" => format!(
                    "by hand it starts on any node; give `{to}` the section instead:\nan enabled `{id}` belongs to it \
                     and starts with it"
                ),
                _ => format!("give `{to}` a section too; by hand it starts on any node"),
            };
            let message = format!("`{id}` is a cluster unit, but `{to}`, which it starts, is not");
            found.push(Diagnostic::hint(Code::TriggerOnly, edge.span, message).help(help));
            continue;
        }
        // Behind a timer, and behind a path with a service that ends, the two have to change altogether.
        let pair = unit.section.as_ref().zip(sections.get(&to));
        let apart = pair.is_some_and(|(own, other)| !are_together((id.as_str(), own), (to.as_str(), other)));
        if apart && (kind == "socket" || (kind == "path" && !ending)) {
            let message =
                format!("`{id}` can start `{to}` on its own node only, and may be placed on another");
            let help = format!(
                "take the section out of `{id}`: enabled, it belongs to `{to}` and starts with it; or add\n\
                 `SameNodeAs={id}` and `After={id}` to the section of `{to}`"
            );
            found.push(Diagnostic::warning(Code::TriggerApart, edge.span, message).help(help));
        }
    }
    found
}

/// Whether the cluster places two units on the same nodes: one beside the other, both beside a third, or both everywhere.
fn are_together(one: (&str, &Section), other: (&str, &Section)) -> bool {
    let is_beside = |section: &Section, name: &str| {
        section.same_node_as.iter().any(|beside| beside == name || *beside == key(name))
    };
    is_beside(one.1, other.0)
        || is_beside(other.1, one.0)
        || one.1.same_node_as.iter().any(|beside| other.1.same_node_as.contains(beside))
        || (one.1.replicas == Replicas::All && other.1.replicas == Replicas::All)
}

/// Where it says that it is over when its work is done.
fn ends_by_itself(view: &View) -> Option<&Value> {
    let oneshot = view.last("Service", "Type").filter(|value| value.text == "oneshot")?;
    let stays = view.last("Service", "RemainAfterExit").is_some_and(|value| is_yes(&value.text));
    (!stays).then_some(oneshot)
}

/// What is said of a unit; of an instance that no file names, what is said of its template.
fn view_of<'a>(views: &'a BTreeMap<String, View>, id: &str) -> Option<&'a View> {
    views.get(id).or_else(|| views.get(&UnitName::parse(id)?.template()?))
}
