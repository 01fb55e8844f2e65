//! `CheckExec=`: a health check beside systemd's own.

use serde::{Deserialize, Serialize};

use super::assembly::Program;
use super::merge::Merge;
use super::timespan::{self, TimeSpan};
use super::value::FromValue;
use crate::diagnostic::{Code, Diagnostic};

/// What is asked again and again while a copy runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `CheckExec=`: exits with 0 if all is well.
    pub program: Program,
    /// `CheckIntervalSec=` in milliseconds: from the start, and from the end of a check, to the next.
    pub interval_ms: u64,
    /// `CheckTimeoutSec=` in milliseconds: a check that takes longer has failed.
    pub timeout_ms: u64,
}

/// How often, and how long, unless the file says otherwise.
const INTERVAL_MS: u64 = 10_000;
const TIMEOUT_MS: u64 = 20_000;
/// Shortest and longest of both: the first loads a machine, the second says nothing any more.
const LIMITS_MS: (u64, u64) = (100, 86_400_000);

/// `CheckIntervalSec=` and `CheckTimeoutSec=`.
struct Time(u64);

impl Merge<'_> {
    /// The health check, if the files ask for one.
    pub(super) fn health(&mut self) -> Option<Check> {
        let program: Option<Program> = self.scalar("CheckExec");
        let interval: Option<Time> = self.scalar("CheckIntervalSec");
        let timeout: Option<Time> = self.scalar("CheckTimeoutSec");
        for key in ["CheckIntervalSec", "CheckTimeoutSec"] {
            if self.is_set(key) && !self.is_set("CheckExec") {
                let message = format!("`{key}=` without `CheckExec=`: there is no check to time");
                let at = self.place(key);
                let help = "name the program in `CheckExec=`, or remove it";
                self.found.push(Diagnostic::error(Code::NoCheck, at, message).help(help));
            }
        }
        Some(Check {
            program: program?,
            interval_ms: interval.map_or(INTERVAL_MS, |time| time.0),
            timeout_ms: timeout.map_or(TIMEOUT_MS, |time| time.0),
        })
    }
}

impl FromValue for Time {
    const TAKES: &'static str = "a time from `100ms` to `1d`";
    fn from_value(text: &str) -> Option<Time> {
        match timespan::parse(text)? {
            TimeSpan::Infinity => None,
            TimeSpan::Micros(us) => {
                Some(us / 1_000).filter(|ms| (LIMITS_MS.0..=LIMITS_MS.1).contains(ms)).map(Time)
            }
        }
    }
}
