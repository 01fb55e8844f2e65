//! What can go wrong between this process and PID 1.

use std::time::Duration;

/// A failed conversation with systemd.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither the system bus nor PID 1's own socket could be used.
    #[error("systemd cannot be reached: system bus: {bus}; own socket of PID 1: {private}")]
    Unreachable {
        /// Why the system bus did not serve.
        bus: Box<Error>,
        /// Why `/run/systemd/private` did not serve.
        private: Box<Error>,
    },
    /// The connection ended; the owner got `Signal::Disconnected` and connects again.
    #[error("the connection to systemd was lost")]
    Disconnected,
    /// PID 1 or the bus answered with an error.
    #[error("systemd refused {call}: {message} ({name})")]
    Refused {
        /// The method.
        call: &'static str,
        /// D-Bus error name.
        name: String,
        /// systemd's own words.
        message: String,
    },
    /// No answer within the limit of the call.
    #[error("systemd did not answer {call} within {} ms", waited.as_millis())]
    Silent {
        /// The method.
        call: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The message could not be sent or read.
    #[error("{call} failed on the wire")]
    Wire {
        /// The method.
        call: &'static str,
        /// The library's error.
        #[source]
        source: Box<zbus::Error>,
    },
    /// The job did not end within the time that the caller gave. It still exists.
    #[error("job {job} of {unit} did not end within {} ms", waited.as_millis())]
    Unfinished {
        /// The unit.
        unit: String,
        /// Its job, to be cancelled or waited for.
        job: u32,
        /// How long it was waited for.
        waited: Duration,
    },
    /// An answer had another shape than expected.
    #[error("{what} has an unexpected form: {value}")]
    Malformed {
        /// Property or answer.
        what: &'static str,
        /// What stood there.
        value: String,
    },
    /// A local file, pipe or process operation failed.
    #[error("{what}")]
    Local {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Sorts an error of the library into the cases above.
    pub(crate) fn of_call(call: &'static str, error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                Error::Refused { call, name: name.to_string(), message: message.unwrap_or_default() }
            }
            zbus::Error::FDO(fdo) => match *fdo {
                zbus::fdo::Error::ZBus(inner) => Error::of_call(call, inner),
                other => {
                    use zbus::DBusError as _;
                    Error::Refused {
                        call,
                        name: other.name().to_string(),
                        message: other.description().unwrap_or_default().to_owned(),
                    }
                }
            },
            zbus::Error::InputOutput(_) => Error::Disconnected,
            source => Error::Wire { call, source: Box::new(source) },
        }
    }

    /// Whether systemd answered with this D-Bus error name (the part after the last dot is enough).
    pub fn is_refusal(&self, short: &str) -> bool {
        matches!(self, Error::Refused { name, .. } if name.rsplit('.').next() == Some(short))
    }
}
