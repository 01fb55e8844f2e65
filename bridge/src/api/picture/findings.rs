//! What is wrong with the set of units, as sentences: what `convoke check` shows, and `status` where it matters now.

use std::collections::BTreeMap;

use policy::{Finding, Flaw, Key, Link, NodeId, NodeTerm, Reason, Unit, UnitName, Wanted, quantity_text};

use super::View;
use crate::api::model::{AlarmLine, FindingLine};

/// How many of them `status` tells: one file that is missing may be needed by a thousand units.
const SHOWN: usize = 10;

impl View<'_> {
    /// All of it, errors first; what is wrong with single files among it, as those may be the whole reason, and where the votes
    /// are.
    pub(super) fn findings(&self, flaws: &[Finding]) -> Vec<FindingLine> {
        let mut found: Vec<FindingLine> = flaws.iter().map(|finding| self.finding(finding)).collect();
        found.extend(self.files());
        found.extend(self.vote_findings());
        found.sort_by(|one, other| {
            (one.severity != "error", !one.idle.is_empty(), &one.unit).cmp(&(
                other.severity != "error",
                !other.idle.is_empty(),
                &other.unit,
            ))
        });
        found
    }

    /// Those of the set that matter now. What is stopped hinders nobody, and a node without a fence device has an alarm
    /// of its own, whatever the number of units that it concerns.
    pub(super) fn pressing_flaws(&self, flaws: &[Finding]) -> Vec<AlarmLine> {
        let pressing = flaws.iter().filter(|finding| {
            finding.is_pressing(self.state)
                && !matches!(finding.flaw, Flaw::Unfenced { .. } | Flaw::OnlyCutOff { .. })
        });
        let line = |finding: &Finding| {
            let severity = if finding.flaw.prevents() { "alert" } else { "warning" };
            let FindingLine { unit, text, remedy, .. } = self.finding(finding);
            AlarmLine { severity: severity.to_owned(), text: format!("{unit}: {text}"), remedy }
        };
        let mut lines: Vec<AlarmLine> = pressing.map(line).collect();
        // Errors first, so that no warning takes the place of one.
        lines.sort_by_key(|line| line.severity != "alert");
        let more = lines.len().saturating_sub(SHOWN);
        if more > 0 {
            let worst = lines.get(SHOWN).map(|line| line.severity.clone()).unwrap_or_default();
            lines.truncate(SHOWN);
            lines.push(AlarmLine {
                severity: worst,
                text: match more {
                    1 => "1 more thing is wrong with the units".to_owned(),
                    more => format!("{more} more things are wrong with the units"),
                },
                remedy: "convoke check".to_owned(),
            });
        }
        lines
    }

    /// Definitions that are not in force, or not everywhere: the plan's own words, as `status` shows them.
    fn files(&self) -> Vec<FindingLine> {
        let mut found = Vec::new();
        for (name, reasons) in &self.plan.reasons {
            let unit = self.state.units.get(name);
            let is_idle = unit.is_none_or(|unit| unit.goal.wanted == Wanted::Stopped);
            for reason in reasons {
                // Where a definition is in force, it runs by that one, and on other nodes.
                let severity = if unit.and_then(Unit::definition).is_some() { "warning" } else { "error" };
                let kind = match reason {
                    // What is left of a unit that is stopped and whose files are gone is wrong with nothing.
                    Reason::NoDefinition if is_idle && !self.state.is_offered(name) => continue,
                    Reason::NoDefinition => "no-definition",
                    Reason::NotAdopted(_) => "not-adopted",
                    Reason::Fault { .. } => "fault",
                    Reason::Differs(_) => "differs",
                    _ => continue,
                };
                found.push(FindingLine {
                    severity: severity.to_owned(),
                    kind: kind.to_owned(),
                    unit: name.0.clone(),
                    nodes: Vec::new(),
                    idle: if is_idle { vec![name.0.clone()] } else { Vec::new() },
                    text: reason.text(self.state, name, self.now),
                    remedy: reason.release(self.state, name),
                });
            }
        }
        found
    }

    fn finding(&self, finding: &Finding) -> FindingLine {
        let (kind, text, remedy) = self.flaw(&finding.unit, &finding.flaw);
        FindingLine {
            severity: if finding.flaw.prevents() { "error" } else { "warning" }.to_owned(),
            kind: kind.to_owned(),
            unit: finding.unit.0.clone(),
            nodes: Vec::new(),
            idle: finding.idle(self.state).map(|name| name.0.clone()).collect(),
            text,
            remedy,
        }
    }

    fn nodes_of(&self, nodes: &[NodeId]) -> String {
        and(nodes.iter().map(|id| self.state.node_name(*id)))
    }

    /// A word for it, the fact, and what to do.
    fn flaw(&self, unit: &UnitName, flaw: &Flaw) -> (&'static str, String, String) {
        match flaw {
            Flaw::Circle(links) => {
                let chain: Vec<String> = links.iter().map(link).collect();
                (
                    "circle",
                    format!(
                        "it comes after itself: {}; one of these orders is ignored, at start and at stop",
                        chain.join(", ")
                    ),
                    "take one After= or Before= of them out of the files".to_owned(),
                )
            }
            Flaw::Lacks { key, other } => (
                "not-offered",
                format!("it needs {other} ({}), which no node offers", key.text()),
                format!(
                    "give a node that runs units {other} with an [X-Convoke] section, or take it out of {}",
                    key.text()
                ),
            ),
            Flaw::NotOffered => (
                "not-offered",
                "it is to run, and no node that runs units offers it".to_owned(),
                format!(
                    "put its drop-in back on a node, then `systemctl daemon-reload`; or `convoke stop {unit}`"
                ),
            ),
            Flaw::NotAllowed { offering, unmatched } => {
                let offering = self.nodes_of(offering);
                let unmatched = match unmatched.as_slice() {
                    [] => String::new(),
                    terms => format!("; no node of the cluster is {}", or(terms.iter().map(term))),
                };
                (
                    "not-allowed",
                    format!("Nodes= allows none of the nodes that offer it ({offering}){unmatched}"),
                    "change Nodes=, give a node the attribute that it asks for (`convoke config apply`), or put the \
                     drop-in on a node that it allows"
                        .to_owned(),
                )
            }
            Flaw::TooLarge { takes, short, with } => {
                let who = match with.as_slice() {
                    [] => "it takes".to_owned(),
                    others => format!("it and {}, which have to run on one node with it, take", and(others)),
                };
                let short = match short {
                    Some((of, Some((node, most)))) => {
                        let (node, most) = (self.state.node_name(*node), quantity_text(*most));
                        format!("{node}, which has most `{of}`, has {most}")
                    }
                    Some((of, None)) => format!("none of its nodes has any `{of}`"),
                    None => "none of its nodes has all of that".to_owned(),
                };
                (
                    "too-large",
                    format!("{who} {}, and {short}", amounts(takes)),
                    "lower Uses=, or say what the nodes have with `convoke config apply`".to_owned(),
                )
            }
            Flaw::NoCommonNode { with } => (
                "no-common-node",
                format!(
                    "it has to run on one node with {} (SameNodeAs=), and no node may run all of them",
                    and(with)
                ),
                "let one node run them all: by Nodes=, by its drop-ins, or by what it has for Uses="
                    .to_owned(),
            ),
            Flaw::Torn(link) if link.key == Key::OtherNodeThan => (
                "torn",
                format!(
                    "it must not share a node with {}, and has to run on one node with it because of SameNodeAs=",
                    link.other
                ),
                "take OtherNodeThan= out, or the SameNodeAs= that ties them".to_owned(),
            ),
            Flaw::Torn(link) => {
                let fact = if *unit == link.unit {
                    format!("it needs {0}, by way of others perhaps, and conflicts with {0}", link.other)
                } else if *unit == link.other {
                    format!("it needs {0}, by way of others perhaps, and {0} conflicts with it", link.unit)
                } else {
                    format!("it needs both {} and {}, which conflict", link.unit, link.other)
                };
                ("torn", fact, "take that Conflicts= out, or one of the needs".to_owned())
            }
            Flaw::TooFewNodes { wanted, nodes } => (
                "too-few-nodes",
                format!("Replicas={wanted}, and only {} may run it", self.nodes_of(nodes)),
                "lower Replicas=, or let more nodes run it".to_owned(),
            ),
            Flaw::Crowded { with, wanted, nodes } => (
                "crowded",
                format!(
                    "it and {} must not share a node (OtherNodeThan=) and want {wanted} nodes together; only {} may run \
                     any of them",
                    and(with),
                    self.nodes_of(nodes)
                ),
                "let more nodes run them, or let two of them share one".to_owned(),
            ),
            Flaw::Unfenced { nodes } => {
                let nodes = self.nodes_of(nodes);
                (
                    "unfenced",
                    format!(
                        "it has Fencing=required, and nothing can fence {nodes}: lost there, it waits for a person"
                    ),
                    format!("add a device for {nodes} with `convoke config apply FILE`"),
                )
            }
            Flaw::OnlyCutOff { nodes } => {
                let nodes = self.nodes_of(nodes);
                (
                    "only-cut-off",
                    format!(
                        "it has Fencing=required, and all that fences {nodes} only cuts off: lost there, it waits for a person"
                    ),
                    format!(
                        "add a power switch for {nodes} with `convoke config apply FILE`; or say Fencing=isolated, if all that \
                         the unit shares with others lies behind what those devices cut"
                    ),
                )
            }
            Flaw::Unwatched { nodes } => {
                let nodes = self.nodes_of(nodes);
                (
                    "unwatched",
                    format!(
                        "it has Fencing=watchdog, and no watchdog is armed on {nodes}: it is not started there"
                    ),
                    "`convoke status NODE` says why; see [watchdog] in convoke.toml(5)".to_owned(),
                )
            }
        }
    }
}

fn link(link: &Link) -> String {
    format!("{} has {}{}", link.unit, link.key.text(), link.other)
}

fn term(term: &NodeTerm) -> String {
    match term {
        NodeTerm::Name(name) => format!("`{name}`"),
        NodeTerm::Attribute(key, value) => format!("`{key}={value}`"),
    }
}

fn amounts(takes: &BTreeMap<String, u64>) -> String {
    and(takes.iter().map(|(of, amount)| format!("{} `{of}`", quantity_text(*amount))))
}

pub(super) fn and(words: impl IntoIterator<Item = impl ToString>) -> String {
    list(words, "and")
}

fn or(words: impl IntoIterator<Item = impl ToString>) -> String {
    list(words, "or")
}

/// `a`, `a and b`, `a, b and c`.
fn list(words: impl IntoIterator<Item = impl ToString>, last: &str) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}
