//! The keys of a clustered service's boot-up (section 6 of the design).
//!
//! Decides what each may hold and which go together. Which member's data is the latest, and who may start, is decided
//! elsewhere by what these programs print.

use serde::{Deserialize, Serialize};

use super::merge::Merge;
use super::timespan::{self, TimeSpan};
use super::value::FromValue;
use super::{Replicas, Section};
use crate::diagnostic::{Code, Diagnostic};
use crate::name::UnitName;

/// How a clustered service comes up where none of it is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembly {
    /// `Assembly=`.
    pub style: AssemblyStyle,
    /// `Position=`: prints how far this node's data is.
    pub position: Program,
    /// `Ready=`: says whether a started replica is ready for the next step; `None` if being active is enough.
    pub ready: Option<Program>,
    /// `GatherWaitSec=` in milliseconds; `None` is for ever.
    pub gather_wait_ms: Option<u64>,
    /// `GatherThen=`.
    pub gather_then: GatherThen,
    /// `StartAlone=`: what the elected node's start finds in its environment.
    pub alone: Vec<Variable>,
    /// `StartResync=`: the same of a start whose data is to be replaced.
    pub resync: Vec<Variable>,
}

/// `Assembly=` but for `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssemblyStyle {
    /// One starts alone, then the others one after another.
    OneThenSerial,
    /// All start at once and find each other.
    AllTogether,
}

/// `GatherThen=`: what follows when members that were live last are not heard in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatherThen {
    /// Nobody starts before they are heard or given up by an operator.
    Refuse,
    /// The best of those that were heard.
    Best,
}

/// A program with its arguments, run without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Absolute path.
    pub path: String,
    /// Arguments.
    pub args: Vec<String>,
}

/// One variable of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The keys that mean nothing without `Assembly=`.
const KEYS: &[&str] = &["Position", "Ready", "GatherWaitSec", "GatherThen", "StartAlone", "StartResync"];

/// `Assembly=` as it is written.
struct Style(Option<AssemblyStyle>);

/// `GatherWaitSec=`.
struct Wait(Option<u64>);

impl Merge<'_> {
    /// The boot-up of a clustered service, if the files ask for one that can work.
    pub(super) fn assembly(&mut self, replicas: Replicas) -> Option<Assembly> {
        let style = self.scalar("Assembly").and_then(|style: Style| style.0);
        let position: Option<Program> = self.scalar("Position");
        let ready = self.scalar("Ready");
        let wait: Option<Wait> = self.scalar("GatherWaitSec");
        let gather_then = self.scalar("GatherThen").unwrap_or(GatherThen::Refuse);
        let alone = self.variables("StartAlone");
        let resync = self.variables("StartResync");
        let Some(style) = style else {
            if !self.is_set("Assembly") || self.says_none() {
                self.stray_keys();
            }
            return None;
        };
        let gather_wait_ms = wait.and_then(|wait| wait.0);
        let service = UnitName::parse(self.id).is_some_and(|name| name.kind == "service");
        let rules = [
            (
                !service,
                "`Assembly=` is for services: others get no environment",
                "remove it, and the keys that go with it",
            ),
            (
                replicas == Replicas::One,
                "`Assembly=` with `Replicas=1`: there is nobody to assemble",
                "say `Replicas=all` or a number",
            ),
            (
                !self.is_set("Position"),
                "`Assembly=` without `Position=`: nobody could say whose data is the latest",
                "name the program that prints how far this node's data is",
            ),
            (
                !self.is_set("StartAlone"),
                "`Assembly=` without `StartAlone=`: nobody could ever start first",
                "say what the first node's start is to find in its environment, `NAME=value`",
            ),
            (
                self.is_set("CheckExec"),
                "`Assembly=` with `CheckExec=`: a member that gives its data to another would fail most checks, and be stopped",
                "remove `CheckExec=`; `Ready=` says when a member may be joined",
            ),
            (
                gather_then == GatherThen::Best && gather_wait_ms.is_none(),
                "`GatherThen=best` without `GatherWaitSec=`: it would never come to that",
                "say how long the members that were live last are waited for",
            ),
        ];
        for (_, message, help) in rules.into_iter().filter(|(broken, ..)| *broken) {
            let at = self.place("Assembly");
            self.found.push(Diagnostic::error(Code::BadAssembly, at, message).help(help));
        }
        Some(Assembly { style, position: position?, ready, gather_wait_ms, gather_then, alone, resync })
    }

    fn stray_keys(&mut self) {
        for key in KEYS {
            if !self.is_set(key) {
                continue;
            }
            let message = format!("`{key}=` without `Assembly=`: it would not be in force");
            let help = "say `Assembly=one-then-serial` or `all-together`, or remove it";
            let at = self.place(key);
            self.found.push(Diagnostic::error(Code::NotAssembled, at, message).help(help));
        }
    }

    fn says_none(&self) -> bool {
        self.scalars.get("Assembly").is_some_and(|value| value.text == "none")
    }

    fn variables(&mut self, key: &'static str) -> Vec<Variable> {
        let mut out: Vec<Variable> = Vec::new();
        for (variable, span) in self.words::<Variable>(key) {
            if let Some(before) = out.iter_mut().find(|before| before.name == variable.name) {
                self.repeated(key, &variable.name, span);
                before.value = variable.value;
            } else {
                out.push(variable);
            }
        }
        out
    }
}

/// Whether the texts of a unit ask for an assembly at all, right or wrong: PID 1 must not restart it by itself.
pub(crate) fn is_asked_for(value: &str) -> bool {
    !matches!(value.trim(), "" | "none")
}

impl Section {
    /// The programs that the cluster runs for it on this node, by their keys.
    pub fn programs(&self) -> impl Iterator<Item = (&'static str, &Program)> {
        let check = self.check.iter().map(|check| ("CheckExec", &check.program));
        let gone = self.gone.iter().map(|program| ("GoneExec", program));
        let assembly = self.assembly.iter();
        assembly
            .flat_map(|assembly| {
                let ready = assembly.ready.as_ref().map(|program| ("Ready", program));
                std::iter::once(("Position", &assembly.position)).chain(ready)
            })
            .chain(self.rank.as_ref().map(|program| ("Rank", program)))
            .chain(check)
            .chain(gone)
    }
}

impl FromValue for Style {
    const TAKES: &'static str = "`one-then-serial`, `all-together` or `none`";
    fn from_value(text: &str) -> Option<Style> {
        Some(Style(match text {
            "none" => None,
            "one-then-serial" => Some(AssemblyStyle::OneThenSerial),
            "all-together" => Some(AssemblyStyle::AllTogether),
            _ => return None,
        }))
    }
}

impl FromValue for GatherThen {
    const TAKES: &'static str = "`refuse` or `best`";
    fn from_value(text: &str) -> Option<GatherThen> {
        match text {
            "refuse" => Some(GatherThen::Refuse),
            "best" => Some(GatherThen::Best),
            _ => None,
        }
    }
}

impl FromValue for Wait {
    const TAKES: &'static str = "a time such as `2min`, or `infinity`";
    fn from_value(text: &str) -> Option<Wait> {
        match timespan::parse(text)? {
            TimeSpan::Infinity => Some(Wait(None)),
            TimeSpan::Micros(us) => Some(Wait(Some(us / 1_000))),
        }
    }
}

impl FromValue for Program {
    const TAKES: &'static str =
        "the absolute path of a program and its arguments, without quotes; there is no shell";
    fn from_value(text: &str) -> Option<Program> {
        if text.contains(['"', '\'', '\\']) {
            return None;
        }
        let mut words = text.split_whitespace().map(str::to_owned);
        let path = words.next().filter(|path| path.starts_with('/') && !path.ends_with('/'))?;
        Some(Program { path, args: words.collect() })
    }
}

impl FromValue for Variable {
    const TAKES: &'static str =
        "`NAME=value` without blanks or quotes; names that begin with `CONVOKE_` are the cluster's own";
    fn from_value(text: &str) -> Option<Variable> {
        let (name, value) = text.split_once('=')?;
        let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let begins = name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        let plain = !value.chars().any(|c| c.is_control() || "\"'\\$`".contains(c));
        let ours = name.starts_with("CONVOKE_");
        (letters && begins && plain && !ours)
            .then(|| Variable { name: name.to_owned(), value: value.to_owned() })
    }
}
