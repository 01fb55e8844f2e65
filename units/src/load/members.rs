//! Which units share the gate of a cluster unit, though they have no section of their own.
//!
//! Members of a cluster target, mounts and swaps that an exclusive unit pulls in, and sockets, paths and
//! timers that would start any of these: systemd starts them although it refuses the unit they belong to
//! (rows 2, 3 and 18 to 20 of the gate's table), so each gets a gate on that unit's permit. A unit that
//! belongs to two cluster units gets none, because then both permits would be asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::boot::{Boot, Held};
use super::graph::{Graph, Via, is_open, key, unkey};
use super::index::Index;
use crate::diagnostic::{Code, Diagnostic, Span};

/// A cluster unit as far as members care.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// A copy of what it pulls in would do harm elsewhere. True as well where the section has errors.
    pub(crate) exclusive: bool,
}

/// Members found, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Owner by member, both by their names in the graph.
    pub(crate) gates: BTreeMap<String, String>,
    /// Findings by the owner's real name.
    pub(crate) found: Vec<(String, Diagnostic)>,
}

/// Finds the members of all owners, given by real name.
pub(crate) fn find(index: &Index, graph: &Graph, boot: &Boot, owners: &BTreeMap<String, Owner>) -> Members {
    let mut claims: BTreeMap<String, BTreeMap<String, Span>> = BTreeMap::new();
    for (id, owner) in owners {
        let own = key(id);
        let mut seen = BTreeSet::from([own.clone()]);
        let mut todo = vec![own.clone()];
        while let Some(unit) = todo.pop() {
            for (member, span) in direct(index, graph, boot, &unit, owner.exclusive) {
                let real = unkey(&member);
                let managed = owners.contains_key(&real)
                    || crate::name::UnitName::parse(&real)
                        .and_then(|n| n.template())
                        .is_some_and(|t| owners.contains_key(&t));
                if !managed && seen.insert(member.clone()) {
                    claims.entry(member.clone()).or_default().insert(own.clone(), span);
                    todo.push(member);
                }
            }
        }
    }
    let mut members = Members::default();
    for (member, by) in claims {
        members.judge(index, boot, &member, &by);
    }
    members
}

impl Members {
    fn judge(&mut self, index: &Index, boot: &Boot, member: &str, by: &BTreeMap<String, Span>) {
        let real = unkey(member);
        let disk = member.ends_with(".mount") || member.ends_with(".swap");
        let held = boot.held(index, &real);
        for (owner, span) in by {
            let own = unkey(owner);
            let finding = match &held {
                // What the whole system needs is pulled in by many and never meant to be gated.
                Some(Held::Protected(_)) => continue,
                Some(Held::AtBoot(at, target)) => {
                    let message = format!(
                        "`{own}` pulls in `{real}`, which is not gated because `{target}` needs it at boot"
                    );
                    let help = if disk {
                        "a refused start still mounts it on this node; if no other node may mount it at the \
                         same time, give its fstab line `noauto` or `nofail`"
                    } else {
                        "a refused start still starts it; take it out of that target"
                    };
                    Diagnostic::warning(Code::NeededAtBoot, at.clone(), message).help(help)
                }
                None if by.len() > 1 => {
                    let others: Vec<String> =
                        by.keys().filter(|o| *o != owner).map(|o| format!("`{}`", unkey(o))).collect();
                    let message = format!(
                        "`{real}` belongs to `{own}` and to {}, so it is not gated",
                        others.join(", ")
                    );
                    let help = format!("give `{real}` an `[X-Convoke]` section of its own");
                    let finding = if disk { Diagnostic::error } else { Diagnostic::warning };
                    finding(Code::SharedMember, span.clone(), message).help(help)
                }
                None if is_open(owner) && !is_open(member) => {
                    let message =
                        format!("`{real}` belongs to every instance of `{own}`, so it is not gated");
                    let help = format!("give `{real}` an `[X-Convoke]` section of its own");
                    let finding = if disk { Diagnostic::error } else { Diagnostic::warning };
                    finding(Code::TemplateMember, span.clone(), message).help(help)
                }
                None => {
                    self.gates.insert(member.to_owned(), owner.clone());
                    continue;
                }
            };
            self.found.push((own, finding));
        }
    }
}

/// The units that would start by themselves beside a refused `unit`.
fn direct(index: &Index, graph: &Graph, boot: &Boot, unit: &str, exclusive: bool) -> Vec<(String, Span)> {
    let mut out = Vec::new();
    let target = unit.ends_with(".target");
    for edge in graph.from(unit) {
        let disk = edge.to.ends_with(".mount") || edge.to.ends_with(".swap");
        let belongs = match edge.via {
            Via::Requires | Via::BindsTo | Via::Wants | Via::Upholds => target || (disk && exclusive),
            // A file system that is mounted anyway is nobody's own.
            Via::MountsFor => exclusive && !boot.mounted_at_boot(index, &edge.to),
            Via::After | Via::PartOf | Via::Install | Via::Triggers => false,
        };
        if belongs {
            out.push((edge.to, edge.span));
        }
    }
    for (from, edge) in graph.to(unit) {
        let belongs = match edge.via {
            Via::PartOf | Via::Install => target,
            Via::Triggers => !from.ends_with(".automount"),
            _ => false,
        };
        if belongs {
            out.push((from, edge.span));
        }
    }
    let gateable = |name: &str| {
        let real = unkey(name);
        crate::gate::Kind::of(&real).is_some() && !real.ends_with(".slice")
    };
    out.retain(|(name, _)| gateable(name));
    out
}
