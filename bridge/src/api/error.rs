//! What goes wrong between an operator and the cluster, by the names that programs see on the bus.

use policy::Refusal;

use crate::session::AskError;

/// A failed call. Each text says what to do.
#[derive(Clone, Debug, zbus::DBusError)]
#[zbus(prefix = "org.convoke1.Error")]
pub enum ApiError {
    /// The bus itself.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// No leader with a majority answered.
    NoQuorum(String),
    /// The cluster, or a rule of it, said no.
    Refused(String),
    /// No cluster unit of that name.
    UnknownUnit(String),
    /// No node of that name.
    UnknownNode(String),
    /// This node was taken out of the cluster.
    Removed(String),
    /// The request itself is wrong.
    BadInput(String),
    /// Something that should have worked did not.
    Failed(String),
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoSession(_) | AskError::TimedOut(_) => Self::NoQuorum(format!(
                "{error}; `convoke status` shows which nodes are missing, and a majority of the voters is needed"
            )),
            AskError::Stopping => Self::Failed("convoked is stopping; ask again in a moment".to_owned()),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::UnknownNode(_) => Self::UnknownNode(format!("{refusal}; see `convoke list-nodes`")),
            Refusal::UnknownUnit(unit) => Self::UnknownUnit(format!(
                "{refusal}; `convoke verify {unit}` checks its files on this node, `convoke list-units` lists what \
                 the cluster knows"
            )),
            _ => Self::Refused(refusal.to_string()),
        }
    }
}
