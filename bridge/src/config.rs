//! This node's own settings: `/etc/convoke/convoke.toml`.
//!
//! Everything has a default, so the file may be absent. What concerns the cluster is not here but in the replicated
//! state. A mistake is shown with its line and what to do; the daemon then does not start, rather than run with
//! half of what was asked for.

mod finding;

pub use finding::Finding;

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::identity::Role;
use crate::join::usable_name;
use crate::net::{DEFAULT_PORT, addresses};
use crate::paths::Paths;
use crate::watchdog::Setting;

/// The settings of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the node wants to be called.
    pub name: String,
    /// Where it listens; `[::]` stands for all addresses of both families.
    pub listen: SocketAddr,
    /// Where others reach it; empty: found out by itself.
    pub advertise: Vec<SocketAddr>,
    /// What it asks to do when it joins; none leaves it to the cluster.
    pub role: Option<Role>,
    /// How much it logs.
    pub log: LogLevel,
    /// What resets it where a unit says `Fencing=watchdog`.
    pub watchdog: Setting,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what happened.
    Info,
    /// And why.
    Debug,
    /// And every message.
    Trace,
}

impl LogLevel {
    const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word for it, which is also a filter of `tracing`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file has mistakes.
    #[error("{}", Listing(.0))]
    Mistakes(Vec<Finding>),
    /// The machine has no usable name and the file gives none.
    #[error("this machine is called `{hostname}`, which cannot name a node; set `name = \"…\"` in {}", path.display())]
    Hostname {
        /// The machine's name.
        hostname: String,
        /// The file.
        path: PathBuf,
    },
}

struct Listing<'a>(&'a [Finding]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<Spanned<String>>,
    listen: Option<Spanned<String>>,
    #[serde(default)]
    advertise: Vec<Spanned<String>>,
    role: Option<Spanned<String>>,
    log: Option<Spanned<String>>,
    watchdog: Option<WatchdogTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchdogTable {
    device: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
}

/// For every unknown key.
const KEYS: &str = "the keys of this file are `name`, `listen`, `advertise`, `role` and `log`, and below `[watchdog]` \
                    `device` and `timeout`; what concerns the whole cluster is shown and changed by `convoke config`";

/// The device that Linux gives the first watchdog.
const WATCHDOG: &str = "/dev/watchdog";
/// Long enough for a restart of the daemon on a busy machine, short enough to wait for twice.
const WATCHDOG_S: u32 = 5;
/// What a watchdog may be set to. Shorter, and a busy machine resets itself; longer, and nobody waits for it.
const WATCHDOG_RANGE_S: std::ops::RangeInclusive<u32> = 2..=600;

impl Config {
    /// Reads the settings of the node; an absent file is an empty one.
    pub fn load(paths: &Paths) -> Result<Self, ConfigError> {
        let path = paths.config_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self::parse(&text, &path, &hostname)
    }

    /// As [`Self::load`], for whoever has no time to wait for a disk: none where it does not answer within `limit`, or the file is
    /// wrong.
    pub fn load_within(paths: &Paths, limit: Duration) -> Option<Self> {
        let (paths, (done, loaded)) = (paths.clone(), mpsc::channel());
        // Whoever waited may have gone.
        thread::Builder::new().spawn(move || drop(done.send(Self::load(&paths)))).ok()?;
        loaded.recv_timeout(limit).ok()?.ok()
    }

    /// Reads the settings from a text; `path` is for messages only.
    pub fn parse(text: &str, path: &Path, hostname: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let help = if error.message().starts_with("unknown field") {
                KEYS
            } else {
                "this file is TOML: `key = \"value\"`, texts in quotes, lists in brackets"
            };
            let span = error.span().unwrap_or(0..0);
            ConfigError::Mistakes(vec![Finding::at(text, path, span, error.message(), help)])
        })?;
        let mut reader = Reader { text, path, findings: Vec::new() };
        let name = file.name.as_ref().map(|name| reader.name(name));
        let listen = file.listen.as_ref().and_then(|listen| reader.address(listen, Use::Listen));
        let advertise: Vec<_> =
            file.advertise.iter().filter_map(|address| reader.address(address, Use::Advertise)).collect();
        let role = file.role.as_ref().and_then(|role| reader.role(role));
        let log = file.log.as_ref().and_then(|log| reader.log(log));
        let watchdog = reader.watchdog(&file.watchdog.unwrap_or_default());
        if !reader.findings.is_empty() {
            return Err(ConfigError::Mistakes(reader.findings));
        }
        let name = match name {
            Some(name) => name,
            None if usable_name(hostname) => hostname.to_owned(),
            None => {
                return Err(ConfigError::Hostname { hostname: hostname.to_owned(), path: path.to_owned() });
            }
        };
        let listen = listen.unwrap_or((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into());
        Ok(Self { name, listen, advertise, role, log: log.unwrap_or(LogLevel::Info), watchdog })
    }
}

/// What an address is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Listen,
    Advertise,
}

struct Reader<'a> {
    text: &'a str,
    path: &'a Path,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn wrong(&mut self, value: &Spanned<String>, message: String, help: &str) {
        self.findings.push(Finding::at(self.text, self.path, value.span(), &message, help));
    }

    fn name(&mut self, value: &Spanned<String>) -> String {
        let name = value.get_ref();
        if !usable_name(name) {
            self.wrong(
                value,
                format!("`{name}` cannot name a node"),
                "a name has 1 to 253 letters, digits, `-`, `_` or `.`",
            );
        }
        name.clone()
    }

    fn address(&mut self, value: &Spanned<String>, what: Use) -> Option<SocketAddr> {
        let text = value.get_ref();
        let Some(address) = addresses::parse(text) else {
            self.wrong(
                value,
                format!("`{text}` is not an address"),
                "write `10.0.0.1`, `10.0.0.1:7433`, `fd00::1` or `[fd00::1]:7433`; host names are not looked up, as the \
                 cluster must work without DNS",
            );
            return None;
        };
        if what == Use::Advertise && (address.ip().is_unspecified() || address.port() == 0) {
            self.wrong(
                value,
                format!("nobody can reach `{text}`"),
                "give the address under which the other nodes reach this one; without `advertise` it is found out",
            );
            return None;
        }
        Some(address)
    }

    fn role(&mut self, value: &Spanned<String>) -> Option<Role> {
        let roles = [Role::Voter, Role::Member, Role::Witness];
        let role = roles.into_iter().find(|role| role.word() == value.get_ref());
        if role.is_none() {
            self.wrong(
                value,
                format!("`{}` is not a role", value.get_ref()),
                "a node is a `voter`, a `member` (no vote) or a `witness` (a vote and no units); without `role` the \
                 cluster decides",
            );
        }
        role
    }

    fn log(&mut self, value: &Spanned<String>) -> Option<LogLevel> {
        let level = LogLevel::ALL.into_iter().find(|level| level.word() == value.get_ref());
        if level.is_none() {
            self.wrong(
                value,
                format!("`{}` is not a log level", value.get_ref()),
                "the levels are `error`, `warn`, `info`, `debug` and `trace`",
            );
        }
        level
    }

    fn watchdog(&mut self, table: &WatchdogTable) -> Setting {
        let device = table.device.as_ref().map_or(WATCHDOG, |device| device.get_ref());
        if let Some(value) = table.device.as_ref().filter(|value| !value.get_ref().starts_with('/')) {
            self.wrong(
                value,
                format!("`{device}` is no path"),
                "give the whole path, such as `/dev/watchdog1`",
            );
        }
        let mut timeout_s = WATCHDOG_S;
        if let Some(value) = &table.timeout {
            let text = value.get_ref();
            let seconds = text.strip_suffix('s').and_then(|number| number.trim().parse().ok());
            match seconds.filter(|seconds| WATCHDOG_RANGE_S.contains(seconds)) {
                Some(seconds) => timeout_s = seconds,
                None => self.wrong(
                    value,
                    format!("`{text}` is no timeout of a watchdog"),
                    "whole seconds from `2s` to `600s`; others wait for twice as long before they take this node for reset",
                ),
            }
        }
        Setting { device: PathBuf::from(device), timeout_s }
    }
}

#[cfg(test)]
mod tests;
