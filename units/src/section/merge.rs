//! Merges the `[X-Convoke]` sections of a unit's files and checks what they add up to.

use std::collections::BTreeMap;

use super::keys::{SUPPORTED, nearest};
use super::specifier;
use super::value::{Attribute, Failures, FromValue, Priority, Reset, UnitRef, Use, YesNo};
use super::{Fencing, NodeExpr, OnQuorumLoss, OnStopFailure, Preference, Replicas, Section, Stickiness};
use crate::diagnostic::{Code, Diagnostic, Span, has_errors};
use crate::name::UnitName;
use crate::text::{Assignment, SECTION, UnitText, Value};

/// How long a node with too many failures is avoided unless the file says otherwise.
const FAILURE_RESET_MS: u64 = 600_000;

/// The section that the texts of a unit, in order of application, add up to. There is none if anything
/// in them is an error; the caller keeps such a unit gated and does not start it.
pub fn parse<'a>(id: &str, texts: impl Iterator<Item = &'a UnitText>) -> (Option<Section>, Vec<Diagnostic>) {
    let (section, found) = read(id, texts);
    ((!has_errors(&found)).then_some(section), found)
}

/// The same with a section in any case, in which what is wrong has its default. Good for nothing but
/// looking for more that is wrong.
pub(crate) fn read<'a>(id: &str, texts: impl Iterator<Item = &'a UnitText>) -> (Section, Vec<Diagnostic>) {
    let mut merge =
        Merge { id, scalars: BTreeMap::new(), lists: BTreeMap::new(), claim: None, found: Vec::new() };
    for text in texts {
        if merge.claim.is_none() {
            merge.claim = text.claim().map(|h| h.span.clone());
        }
        for assignment in text.assignments.iter().filter(|a| a.section == SECTION) {
            merge.add(assignment);
        }
    }
    let section = merge.section();
    (section, merge.found)
}

pub(super) struct Merge<'a> {
    pub(super) id: &'a str,
    pub(super) scalars: BTreeMap<&'a str, &'a Value>,
    lists: BTreeMap<&'a str, Vec<(String, Span)>>,
    claim: Option<Span>,
    pub(super) found: Vec<Diagnostic>,
}

/// How many failures of a clustered service on a node are borne: systemd does not start it again by itself, so each
/// that it would have tried is counted here. As many as its own `StartLimitBurst=`.
const FAILURES_ASSEMBLED: u32 = 5;

/// Keys that gather words over all files; the others keep their last value.
const LISTS: &[&str] = &[
    "Requires",
    "Wants",
    "BindsTo",
    "PartOf",
    "After",
    "Before",
    "Conflicts",
    "Nodes",
    "Prefer",
    "Avoid",
    "Uses",
    "SameNodeAs",
    "OtherNodeThan",
    "StartAlone",
    "StartResync",
];

impl<'a> Merge<'a> {
    fn add(&mut self, assignment: &'a Assignment) {
        let key = assignment.key.as_str();
        let value = &assignment.value;
        if !SUPPORTED.contains(&key) {
            let message = format!("unknown key `{key}=` in `[{SECTION}]`");
            let unknown = Diagnostic::error(Code::UnknownKey, assignment.key_span.clone(), message);
            self.found.push(match nearest(key) {
                Some(known) => unknown.help(format!("did you mean `{known}=`?")),
                None => unknown.help(format!("the keys are {}", SUPPORTED.join(", "))),
            });
        } else if LISTS.contains(&key) {
            let words = self.lists.entry(key).or_default();
            if value.text.is_empty() {
                words.clear();
            }
            words.extend(value.words().map(|(word, span)| (word.to_owned(), span)));
        } else if value.text.is_empty() {
            self.scalars.remove(key);
        } else {
            self.scalars.insert(key, value);
        }
    }

    fn section(&mut self) -> Section {
        let replicas = self.scalar("Replicas").unwrap_or(Replicas::One);
        let one = replicas == Replicas::One;
        let fencing = self.scalar("Fencing").unwrap_or(if one { Fencing::Required } else { Fencing::None });
        let on_quorum_loss = self.scalar("OnQuorumLoss").unwrap_or(if one {
            OnQuorumLoss::Stop
        } else {
            OnQuorumLoss::Continue
        });
        let on_stop_failure = self.scalar("OnStopFailure").unwrap_or(if one {
            OnStopFailure::Fence
        } else {
            OnStopFailure::Block
        });
        let assembly = self.assembly(replicas);
        let failures_max = if assembly.is_some() { FAILURES_ASSEMBLED } else { 1 };
        let section = Section {
            replicas,
            fencing,
            on_quorum_loss,
            requires: self.units("Requires"),
            wants: self.units("Wants"),
            binds_to: self.units("BindsTo"),
            part_of: self.units("PartOf"),
            after: self.units("After"),
            before: self.units("Before"),
            conflicts: self.units("Conflicts"),
            nodes: self.nodes(),
            prefer: self.preferences("Prefer"),
            avoid: self.preferences("Avoid"),
            spread: self.scalar("Spread").map(|attribute: Attribute| attribute.0),
            uses: self.uses(),
            priority: self.scalar("Priority").map_or(0, |priority: Priority| priority.0),
            stickiness: self.scalar("Stickiness").unwrap_or(Stickiness::Infinity),
            same_node_as: self.units("SameNodeAs"),
            other_node_than: self.units("OtherNodeThan"),
            start_one_at_a_time: self.scalar("StartOneAtATime").is_some_and(|yes: YesNo| yes.0),
            on_stop_failure,
            failures_max: self.scalar("FailuresMax").map_or(failures_max, |f: Failures| f.0),
            failure_reset_ms: self.scalar("FailureResetSec").map_or(Some(FAILURE_RESET_MS), |r: Reset| r.0),
            assembly,
            rank: self.scalar("Rank"),
            check: self.health(),
            gone: self.scalar("GoneExec"),
        };
        self.check(&section);
        self.role(&section);
        section
    }

    /// Rules of F7 about values that do not go together.
    fn check(&mut self, section: &Section) {
        let at = self.place("Fencing");
        let stops = matches!(section.on_quorum_loss, OnQuorumLoss::Stop | OnQuorumLoss::Reboot);
        let one = section.replicas == Replicas::One;
        match section.fencing {
            Fencing::Lease | Fencing::Watchdog if !stops => {
                let at = self.place("OnQuorumLoss").or(at.clone());
                let message = "`Fencing=lease` and `watchdog` need `OnQuorumLoss=stop` or `reboot`";
                let help = "a unit that goes on after its lease would run twice";
                self.found.push(Diagnostic::error(Code::NeedsStop, at, message).help(help));
            }
            Fencing::None if one => {
                let message = format!("`{}` is not exclusive: `Fencing=none` lets it run twice", self.id);
                let help = "say `Fencing=required` unless a second copy is harmless";
                self.found.push(Diagnostic::warning(Code::NotExclusive, at.clone(), message).help(help));
            }
            Fencing::Watchdog if one => {
                let message =
                    format!("`{}` is exclusive only where a lost node's watchdog resets it", self.id);
                let help = "a virtual machine that is paused escapes its watchdog; `Fencing=required` needs no such trust";
                self.found.push(Diagnostic::warning(Code::WatchdogExclusive, at.clone(), message).help(help));
            }
            Fencing::Lease if one => {
                let message = format!("`{}` is exclusive only while convoked lives on a lost node", self.id);
                let help = "`Fencing=required` needs no such trust";
                self.found.push(Diagnostic::warning(Code::LeaseExclusive, at.clone(), message).help(help));
            }
            _ => {}
        }
    }

    /// Where a key is set, or else where the section begins.
    pub(super) fn place(&self, key: &str) -> Option<Span> {
        let list = self.lists.get(key).and_then(|words| Some(words.last()?.1.clone()));
        self.scalars.get(key).map(|v| v.span()).or(list).or_else(|| self.claim.clone())
    }

    /// Whether the files give it a value, right or wrong.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.scalars.contains_key(key) || self.lists.get(key).is_some_and(|words| !words.is_empty())
    }

    pub(super) fn scalar<T: FromValue>(&mut self, key: &'static str) -> Option<T> {
        let value = *self.scalars.get(key)?;
        self.read(key, &value.text, value.span())
    }

    pub(super) fn words<T: FromValue>(&mut self, key: &'static str) -> Vec<(T, Span)> {
        let words = self.lists.get(key).cloned().unwrap_or_default();
        words
            .into_iter()
            .filter_map(|(word, span)| Some((self.read(key, &word, span.clone())?, span)))
            .collect()
    }

    fn read<T: FromValue>(&mut self, key: &str, text: &str, span: Span) -> Option<T> {
        let expanded = match specifier::expand(text, self.id) {
            Ok(expanded) => expanded,
            Err(refused) => {
                let mut span = span;
                let before = text[..refused.at].chars().count() as u32;
                span.column += before;
                span.end = span.column + refused.specifier.chars().count() as u32;
                let message = format!("`{}` cannot be used in `[{SECTION}]`", refused.specifier);
                let help = "use %n, %N, %p, %i, %I or %j; what differs between nodes cannot be part of a \
                            definition that all nodes share; a percent sign is `%%`";
                self.found.push(Diagnostic::error(Code::BadSpecifier, span, message).help(help));
                return None;
            }
        };
        let value = T::from_value(&expanded);
        if value.is_none() {
            let code = if T::IS_UNIT { Code::BadUnitName } else { Code::BadValue };
            let message = format!("`{key}=` cannot be `{expanded}`");
            self.found.push(Diagnostic::error(code, span, message).help(format!("it takes {}", T::TAKES)));
        }
        value
    }

    fn units(&mut self, key: &'static str) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        // In a template an open instance makes the name of another template, which stands for its instances.
        let template = UnitName::parse(self.id).is_some_and(|n| n.is_template());
        for (UnitRef(name), span) in self.words(key) {
            if name == self.id {
                let message = format!("`{key}=` of `{}` names the unit itself", self.id);
                self.found.push(Diagnostic::error(Code::SelfReference, span, message));
            } else if UnitName::parse(&name).is_some_and(|n| n.is_template()) && !template {
                let message = format!("`{key}=` names the template `{name}`");
                let help = "name an instance of it";
                self.found.push(Diagnostic::error(Code::BadUnitName, span, message).help(help));
            } else if out.contains(&name) {
                self.repeated(key, &name, span);
            } else {
                out.push(name);
            }
        }
        out
    }

    fn nodes(&mut self) -> Vec<NodeExpr> {
        let mut out: Vec<NodeExpr> = Vec::new();
        for (node, span) in self.words("Nodes") {
            if out.contains(&node) {
                self.repeated("Nodes", &span_text(&span), span);
            } else {
                out.push(node);
            }
        }
        out
    }

    fn preferences(&mut self, key: &'static str) -> Vec<Preference> {
        let mut out: Vec<Preference> = Vec::new();
        for (preference, span) in self.words::<Preference>(key) {
            if let Some(before) = out.iter_mut().find(|p| p.node == preference.node) {
                before.weight = preference.weight;
                self.repeated(key, &span_text(&span), span);
            } else {
                out.push(preference);
            }
        }
        out
    }

    fn uses(&mut self) -> BTreeMap<String, u64> {
        let mut out = BTreeMap::new();
        for (Use { of, amount }, span) in self.words("Uses") {
            if out.insert(of.clone(), amount).is_some() {
                self.repeated("Uses", &of, span);
            }
        }
        out
    }

    pub(super) fn repeated(&mut self, key: &str, what: &str, span: Span) {
        let message = format!("`{key}=` names `{what}` twice");
        self.found.push(Diagnostic::warning(Code::RepeatedItem, span, message));
    }
}

fn span_text(span: &Span) -> String {
    let skip = span.column.saturating_sub(1) as usize;
    span.source.chars().skip(skip).take(span.end.saturating_sub(span.column) as usize).collect()
}
