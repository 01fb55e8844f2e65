//! What `convoke` ends with: stable numbers, for scripts.

use std::process::ExitCode;

use crate::api::ApiError;

/// The table that `convoke help exit-codes` shows.
pub(super) const TABLE: &str = "\
The exit codes of convoke are stable:

  0  it is done, or the answer was yes
  1  refused or failed; the message says why and what to do
  2  wrong usage or bad input; nothing was changed
  3  no quorum, or convoked does not answer on this node
  4  no such unit, node or fence agent
  5  recorded by the cluster, but not done within --timeout, or not proven done
  6  `config diff` found differences

`convoke status`, `why`, `check`, `plan`, `events` and `list-*` end with 3 when they show what this node last knew instead of what a
majority confirms. `convoke check` and `verify` end with 1 if they find errors.
`convoke gate` ends with 0 if the unit may start here, else with 1.";

/// Why `convoke` did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Failed = 1,
    Usage = 2,
    NoQuorum = 3,
    NotFound = 4,
    NotDone = 5,
    Differs = 6,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A failure with its exit code, a sentence, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl Failure {
    pub(super) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error with all its causes.
    pub(super) fn of(code: Code, error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::new(code, text)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::NoQuorum(text) => Self::new(Code::NoQuorum, text),
            ApiError::Refused(text) | ApiError::Failed(text) => Self::new(Code::Failed, text),
            ApiError::Removed(text) => removed(text),
            ApiError::UnknownUnit(text) | ApiError::UnknownNode(text) => Self::new(Code::NotFound, text),
            ApiError::BadInput(text) => Self::new(Code::Usage, text),
            ApiError::ZBus(error) => Self::from(error),
        }
    }
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        let zbus::Error::MethodError(name, text, _) = &error else {
            return match &error {
                zbus::Error::InputOutput(_)
                | zbus::Error::Connection(..)
                | zbus::Error::Address(_)
                | zbus::Error::Handshake(_) => {
                    Self::new(Code::NoQuorum, format!("the system bus does not answer: {error}"))
                        .hint("see `systemctl status dbus`")
                }
                _ => Self::of(Code::Failed, &error),
            };
        };
        let text = text.clone().unwrap_or_else(|| name.to_string());
        let Some(kind) = name.strip_prefix("org.convoke1.Error.") else {
            return match name.rsplit('.').next() {
                Some("ServiceUnknown" | "NameHasNoOwner") => not_running(),
                Some("NoReply" | "Timeout" | "TimedOut" | "Disconnected") => {
                    Self::new(Code::NoQuorum, format!("convoked did not answer: {text}"))
                        .hint("see `journalctl -u convoked -e`")
                }
                Some("AccessDenied") => {
                    Self::new(Code::Failed, "only root may do this").hint("try again with `sudo`")
                }
                Some("UnknownMethod" | "UnknownObject" | "UnknownInterface") => Self::new(
                    Code::Failed,
                    "the running convoked is of another version and does not know this",
                )
                .hint("restart it, which stops no unit: `systemctl restart convoked`"),
                _ => Self::new(Code::Failed, text),
            };
        };
        if kind == "Removed" {
            return removed(text);
        }
        let code = match kind {
            "NoQuorum" => Code::NoQuorum,
            "UnknownUnit" | "UnknownNode" => Code::NotFound,
            "BadInput" => Code::Usage,
            _ => Code::Failed,
        };
        Self::new(code, text)
    }
}

/// The cluster has gone on without this node.
fn removed(text: String) -> Failure {
    Failure::new(Code::Failed, text).hint(
        "to use this machine again: `systemctl disable --now convoked`, `rm -r /var/lib/convoke`, then `convoke join TOKEN` \
         with a token from one of the cluster's nodes",
    )
}

/// Nobody has the name on the bus.
pub(super) fn not_running() -> Failure {
    let paths = crate::paths::Paths::default();
    let enrolled = paths.identity_file().exists() || paths.store_file().exists();
    let failure = Failure::new(Code::NoQuorum, "convoked is not running on this node");
    if enrolled || !rustix::process::geteuid().is_root() {
        failure.hint("`journalctl -u convoked` says why it ended, if it did; `systemctl enable --now convoked` starts it")
    } else {
        failure.hint(
            "this machine is in no cluster: `convoke init` makes one, `convoke join TOKEN` joins one that there is",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table() {
        for code in [Code::Failed, Code::Usage, Code::NoQuorum, Code::NotFound, Code::NotDone, Code::Differs]
        {
            assert!(TABLE.contains(&format!("\n  {}  ", code as u8)), "{code:?}");
        }
    }

    #[test]
    fn each_kind_of_error_has_its_code() {
        let text = || "x".to_owned();
        for (error, code) in [
            (ApiError::NoQuorum(text()), Code::NoQuorum),
            (ApiError::Refused(text()), Code::Failed),
            (ApiError::UnknownUnit(text()), Code::NotFound),
            (ApiError::UnknownNode(text()), Code::NotFound),
            (ApiError::Removed(text()), Code::Failed),
            (ApiError::BadInput(text()), Code::Usage),
            (ApiError::Failed(text()), Code::Failed),
        ] {
            assert_eq!(Failure::from(error).code, code);
        }
    }
}
