//! The file of a resource, `/etc/convoke/ocf/NAME.conf`: which agent, with which parameters.
//!
//! Lines of `NAME=VALUE`, as systemd's environment files have them, and stricter: what is unknown or doubtful is an error. A
//! parameter stands there as `OCF_RESKEY_NAME`, which is how agents read it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use units::section::timespan::{self, TimeSpan};

use super::agent::Agent;
use super::metadata::{Metadata, Parameter};

/// Where the files are, below a root.
const DIRECTORY: &str = "etc/convoke/ocf";
/// How a parameter's name begins in the file and in an agent's environment.
const PARAMETER: &str = "OCF_RESKEY_";
/// What else may be set.
const SETTINGS: [&str; 6] =
    [AGENT, "OCF_CHECK_LEVEL", INTERVAL, "OCF_MONITOR_TIMEOUT", "OCF_START_TIMEOUT", "OCF_STOP_TIMEOUT"];
const AGENT: &str = "OCF_AGENT";
const INTERVAL: &str = "OCF_MONITOR_INTERVAL";
/// Where neither the file nor the agent says how often, and how long.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
const LIMIT_DEFAULT: Duration = Duration::from_secs(20);

/// A resource as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The instance of `convoke-ocf@.service`.
    pub instance: String,
    /// Its agent.
    pub agent: Agent,
    path: PathBuf,
    /// Each name with the line where it stands, and its value.
    lines: BTreeMap<String, (usize, String)>,
}

/// Something in the file that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, and the line if there is one.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n  help: {}", self.place, self.message, self.help)
    }
}

/// Why there is no resource.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The name is none that an instance may have.
    #[error(
        "`{0}` is no name of a resource: letters, digits, `-`, `_` and `.`, as in `convoke-ocf@NAME.service`"
    )]
    Name(String),
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Finding>),
}

impl Resource {
    /// Reads the file of an instance.
    ///
    /// # Errors
    /// If it is not there, or something in it is wrong by itself: all that is wrong is named.
    pub fn read(root: &Path, instance: &str) -> Result<Self, ResourceError> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if instance.is_empty() || instance.starts_with('.') || !instance.chars().all(good) {
            return Err(ResourceError::Name(instance.to_owned()));
        }
        let path = root.join(DIRECTORY).join(format!("{instance}.conf"));
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ResourceError::Unreadable { path: path.clone(), source })?;
        Self::parse(root, instance, path, &text)
    }

    fn parse(root: &Path, instance: &str, path: PathBuf, text: &str) -> Result<Self, ResourceError> {
        let mut found = Vec::new();
        let mut lines: BTreeMap<String, (usize, String)> = BTreeMap::new();
        let mut wrong = |number: usize, message: String, help: String| {
            found.push(Finding { place: format!("{}:{number}", path.display()), message, help });
        };
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                wrong(
                    number,
                    // Not the line itself: it may be a secret.
                    "this is no `NAME=VALUE`".to_owned(),
                    "write one, or remove the line".to_owned(),
                );
                continue;
            };
            let name = name.trim_end();
            let value = match unquoted(value.trim()) {
                Ok(value) => value,
                Err(why) => {
                    wrong(number, format!("the value of `{name}` {why}"), VALUE_HELP.to_owned());
                    continue;
                }
            };
            if !name.starts_with(PARAMETER) && !SETTINGS.contains(&name) {
                let help = match nearest(name, &SETTINGS) {
                    Some(other) => format!("`{other}` was probably meant"),
                    None => format!("a parameter `{name}` of the agent is written `{PARAMETER}{name}`"),
                };
                wrong(number, format!("`{name}` is not known"), help);
            } else if let Some((first, _)) = lines.insert(name.to_owned(), (number, value)) {
                let message = format!("`{name}` stands in line {first} already");
                wrong(number, message, "remove one of them".to_owned());
            }
        }
        for name in SETTINGS.into_iter().filter(|name| ![AGENT, "OCF_CHECK_LEVEL"].contains(name)) {
            if let Some((number, value)) = lines.get(name)
                && time(value).is_none()
            {
                let help = "write a time, as `10s` or `1min`".to_owned();
                wrong(*number, format!("`{value}` is no time for `{name}`"), help);
            }
        }
        let agent = match lines.get(AGENT) {
            None => {
                let help =
                    format!("write `{AGENT}=ocf:PROVIDER:TYPE`; `convoke ocf list` shows what there is");
                wrong(1, format!("there is no `{AGENT}=`"), help);
                None
            }
            Some((number, name)) => {
                let agent = Agent::named(root, name);
                if agent.is_none() {
                    let help = "write `ocf:PROVIDER:TYPE`, as `ocf:heartbeat:IPaddr2`".to_owned();
                    wrong(*number, format!("`{name}` is no name of an agent"), help);
                }
                agent
            }
        };
        match agent {
            Some(agent) if found.is_empty() => Ok(Self { instance: instance.to_owned(), agent, path, lines }),
            _ => Err(ResourceError::Wrong(found)),
        }
    }

    /// What the agent would say of it: parameters that it does not have, that it lacks, or whose values it cannot take.
    #[must_use]
    pub fn check(&self, metadata: &Metadata) -> Vec<Finding> {
        let mut found = Vec::new();
        let known: Vec<&str> = metadata.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        for (name, (number, value)) in &self.lines {
            let Some(name) = name.strip_prefix(PARAMETER) else { continue };
            let place = format!("{}:{number}", self.path.display());
            let parameter = metadata.parameters.iter().find(|parameter| parameter.name == name);
            let wrong = match parameter {
                None => Some((
                    format!("{} has no parameter `{name}`", self.agent.name()),
                    match nearest(name, &known) {
                        Some(other) => format!("`{PARAMETER}{other}` was probably meant"),
                        None => format!("`convoke ocf describe {}` lists them", self.agent.name()),
                    },
                )),
                Some(parameter) => takes(parameter, value).map(|takes| {
                    (format!("`{name}` takes {takes}, not `{value}`"), "mend the value".to_owned())
                }),
            };
            found.extend(wrong.map(|(message, help)| Finding { place, message, help }));
        }
        for parameter in &metadata.parameters {
            let given = self.lines.contains_key(&format!("{PARAMETER}{}", parameter.name));
            if parameter.required && parameter.default.as_deref().unwrap_or_default().is_empty() && !given {
                let what = if parameter.short.is_empty() { "" } else { ": " };
                found.push(Finding {
                    place: self.path.display().to_string(),
                    message: format!(
                        "{} needs `{}`{what}{}",
                        self.agent.name(),
                        parameter.name,
                        parameter.short
                    ),
                    help: format!("write `{PARAMETER}{}=VALUE`", parameter.name),
                });
            }
        }
        found
    }

    /// What an agent finds in its environment.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let passed = |name: &str| name.starts_with(PARAMETER) || name == "OCF_CHECK_LEVEL";
        let lines = self.lines.iter().filter(|(name, _)| passed(name));
        lines.map(|(name, (_, value))| (name.clone(), value.clone())).collect()
    }

    /// How long an action may take: the file's word, the agent's, 20 s.
    #[must_use]
    pub fn limit(&self, metadata: &Metadata, action: &str) -> Duration {
        let own = self.setting(&format!("OCF_{}_TIMEOUT", action.to_uppercase()));
        own.or(metadata.action(action).and_then(|action| action.timeout)).unwrap_or(LIMIT_DEFAULT)
    }

    /// How long after the end of a look the next one begins.
    #[must_use]
    pub fn interval(&self, metadata: &Metadata) -> Duration {
        let monitor = metadata.action("monitor").and_then(|action| action.interval);
        self.setting(INTERVAL).or(monitor).unwrap_or(INTERVAL_DEFAULT)
    }

    fn setting(&self, name: &str) -> Option<Duration> {
        self.lines.get(name).and_then(|(_, value)| time(value))
    }
}

const VALUE_HELP: &str =
    "write it plainly, or in '...' as it is, or in \"...\" with \\\" and \\\\ for these two";

/// A value without its quotes.
fn unquoted(value: &str) -> Result<String, &'static str> {
    let inner = |quote: char| {
        let rest = value.strip_prefix(quote)?;
        Some(rest.strip_suffix(quote).ok_or("has no closing quote at its end"))
    };
    if value.ends_with('\\') {
        return Err("goes on in the next line");
    }
    if let Some(inner) = inner('\'') {
        return match inner? {
            inner if inner.contains('\'') => Err("has a quote in its midst"),
            inner => Ok(inner.to_owned()),
        };
    }
    let Some(inner) = inner('"') else {
        return match value.contains(['"', '\'', '\\']) {
            true => Err("has a quote or backslash in its midst"),
            false => Ok(value.to_owned()),
        };
    };
    let mut text = String::new();
    let mut rest = inner?.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => return Err("has a quote in its midst"),
            '\\' => text.push(rest.next().filter(|c| "\"\\".contains(*c)).ok_or("has a lone backslash")?),
            c => text.push(c),
        }
    }
    Ok(text)
}

/// What a parameter takes, if the value is none of it.
fn takes(parameter: &Parameter, value: &str) -> Option<&'static str> {
    let booleans = ["true", "false", "yes", "no", "1", "0", "on", "off"];
    match parameter.kind.as_str() {
        "integer" if value.parse::<i64>().is_err() => Some("a whole number"),
        "boolean"
            if !booleans.contains(&value.to_ascii_lowercase().as_str()) && !names(&parameter.long, value) =>
        {
            Some("`true` or `false`")
        }
        _ => None,
    }
}

/// Whether a description names a value: agents call a parameter a boolean that takes a third word, as `force_unmount` of
/// Filesystem takes `safe`.
fn names(description: &str, value: &str) -> bool {
    let of_a_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    description.split(|c: char| !of_a_word(c)).any(|word| word == value)
}

fn time(value: &str) -> Option<Duration> {
    match timespan::parse(value)? {
        TimeSpan::Infinity => None,
        TimeSpan::Micros(us) => {
            Some(Duration::from_micros(us)).filter(|time| *time >= Duration::from_millis(100))
        }
    }
}

/// The known name that a misspelt one was probably meant to be.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &str| strsim::levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let best = known.iter().min_by_key(|other| distance(other))?;
    (distance(best) <= (name.chars().count() / 3).max(1)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::super::metadata::tests::LAMP;
    use super::*;

    fn resource(text: &str) -> Result<Resource, ResourceError> {
        Resource::parse(Path::new("/"), "lamp", "/etc/convoke/ocf/lamp.conf".into(), text)
    }

    fn good(text: &str) -> Resource {
        resource(&format!("OCF_AGENT=ocf:test:Lamp\n{text}")).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_file_names_agent_parameters_and_times() {
        let metadata = Metadata::parse(LAMP).expect("metadata");
        let lamp = good(
            "# of the hall\nOCF_RESKEY_room = hall\nOCF_RESKEY_watts='40'\nOCF_CHECK_LEVEL=10\n\
                         OCF_RESKEY_note=\"a \\\"b\\\" \\\\ 'c'\"\nOCF_START_TIMEOUT=1min\n",
        );
        let variables = lamp.variables();
        let expected = [
            ("OCF_CHECK_LEVEL", "10"),
            ("OCF_RESKEY_note", "a \"b\" \\ 'c'"),
            ("OCF_RESKEY_room", "hall"),
            ("OCF_RESKEY_watts", "40"),
        ];
        assert!(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
        assert_eq!(lamp.limit(&metadata, "start").as_secs(), 60, "the file's word");
        assert_eq!(lamp.limit(&metadata, "stop").as_secs(), 120, "the agent's");
        assert_eq!(lamp.limit(&metadata, "validate-all").as_secs(), 20);
        assert_eq!(lamp.interval(&metadata).as_secs(), 10);
        assert_eq!(good("OCF_MONITOR_INTERVAL=500ms").interval(&metadata).as_millis(), 500);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_a_remedy() {
        let cases = [
            ("OCF_AGENT=a:b\nroom=hall", "lamp.conf:2: `room` is not known", "OCF_RESKEY_room"),
            ("OCF_AGNT=a:b", "lamp.conf:1: `OCF_AGNT` is not known", "`OCF_AGENT` was probably meant"),
            ("OCF_AGENT=a:b\n\nhall", "lamp.conf:3: this is no `NAME=VALUE`", "remove the line"),
            ("OCF_AGENT=a:b\nOCF_AGENT=a:c", "lamp.conf:2: `OCF_AGENT` stands in line 1", "remove one"),
            ("OCF_AGENT=IPaddr2", "lamp.conf:1: `IPaddr2` is no name", "ocf:heartbeat:IPaddr2"),
            ("", "lamp.conf:1: there is no `OCF_AGENT=`", "convoke ocf list"),
            ("OCF_AGENT=a:b\nOCF_STOP_TIMEOUT=soon", "lamp.conf:2: `soon` is no time", "10s"),
            ("OCF_AGENT=a:b\nOCF_STOP_TIMEOUT=0", "lamp.conf:2: `0` is no time", "10s"),
            (
                "OCF_AGENT=a:b\nOCF_RESKEY_x=\"a",
                "lamp.conf:2: the value of `OCF_RESKEY_x` has no closing",
                "'...'",
            ),
            ("OCF_AGENT=a:b\nOCF_RESKEY_x=a\\", "goes on in the next line", "'...'"),
            ("OCF_AGENT=a:b\nOCF_RESKEY_x=a\"b", "has a quote or backslash", "'...'"),
            ("OCF_AGENT=a:b\nOCF_RESKEY_x=\"a\"b\"", "has a quote in its midst", "'...'"),
        ];
        for (text, message, help) in cases {
            let said = resource(text).expect_err(text).to_string();
            assert!(said.contains(message) && said.contains(help), "{text}: {said}");
        }
    }

    #[test]
    fn parameters_are_held_against_the_agent() {
        let metadata = Metadata::parse(LAMP).expect("metadata");
        let said = |text: &str| {
            good(text).check(&metadata).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(said("OCF_RESKEY_room=hall\nOCF_RESKEY_dim=on"), "");
        assert!(said("").contains("lamp.conf: ocf:test:Lamp needs `room`: Which room"), "{}", said(""));
        let near = said("OCF_RESKEY_romm=hall\nOCF_RESKEY_room=hall");
        assert!(near.contains("lamp.conf:2: ocf:test:Lamp has no parameter `romm`"), "{near}");
        assert!(near.contains("`OCF_RESKEY_room` was probably meant"), "{near}");
        let wild = said("OCF_RESKEY_room=hall\nOCF_RESKEY_colour_of_it=red");
        assert!(wild.contains("`convoke ocf describe ocf:test:Lamp` lists them"), "{wild}");
        let kinds = said("OCF_RESKEY_room=hall\nOCF_RESKEY_watts=4x\nOCF_RESKEY_dim=perhaps");
        assert!(kinds.contains(":3: `watts` takes a whole number, not `4x`"), "{kinds}");
        assert!(kinds.contains(":4: `dim` takes `true` or `false`, not `perhaps`"), "{kinds}");
        assert_eq!(said("OCF_RESKEY_room=hall\nOCF_RESKEY_dim=night"), "");
        // A part of a word that the agent names is no word of it.
        let part = said("OCF_RESKEY_room=hall\nOCF_RESKEY_dim=nigh");
        assert!(part.contains(":3: `dim` takes `true` or `false`, not `nigh`"), "{part}");
    }

    #[test]
    fn an_instance_is_a_plain_name() {
        for name in ["", "../x", "a/b", ".x", r"a\x2d"] {
            assert!(matches!(Resource::read(Path::new("/"), name), Err(ResourceError::Name(_))), "{name}");
        }
        let none = Resource::read(Path::new("/no/such"), "ip").expect_err("no file").to_string();
        assert!(none.starts_with("/no/such/etc/convoke/ocf/ip.conf cannot be read: "), "{none}");
    }
}
