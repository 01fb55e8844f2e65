//! Why `apply` left the state as it was.

use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::name::{NodeId, UnitName};

/// A command that was refused. The state is untouched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The client's later command was handled already.
    Outdated,
    /// No such node.
    UnknownNode(NodeId),
    /// No such unit.
    UnknownUnit(UnitName),
    /// The unit is known, but no definition of it is in force.
    NoDefinition(UnitName),
    /// The incarnation is not the node's present one, or was replaced (F3).
    WrongIncarnation,
    /// The incarnation was proven gone; the machine has to boot again (F18).
    Fenced,
    /// The incarnation was cut off from what it shares with others; the machine has to boot again.
    Isolated,
    /// The certificate is used by another machine than was enrolled (F3).
    OtherMachine {
        /// Enrolled machine id.
        enrolled: String,
        /// The one that showed.
        shown: String,
    },
    /// The node's software is older than what is in force (F20).
    OldSoftware {
        /// The highest feature level that it knows.
        level: u32,
        /// The one that entries are applied by.
        in_force: u32,
    },
    /// The node's earlier life has not been silent for a lease (F3).
    StillInSession,
    /// A newer session, term, attempt or permit makes the command stale.
    Stale(String),
    /// The node is in no session.
    NotInSession(NodeId),
    /// A decision needs a fact that is not there. The text names it.
    Unsafe(String),
    /// The wish cannot be carried out as asked; the text says why and what to do.
    Impossible(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outdated => f.write_str("a later command of the same client was handled already"),
            Self::UnknownNode(node) => write!(f, "no node {node} in this cluster"),
            Self::UnknownUnit(unit) => {
                write!(f, "{unit} is not a cluster unit: no node offers it with an [X-Convoke] section")
            }
            Self::NoDefinition(unit) => write!(f, "no definition of {unit} is in force yet"),
            Self::WrongIncarnation => f.write_str("this is not the node's present incarnation"),
            Self::Fenced => f.write_str("this incarnation was fenced; the machine has to boot again"),
            Self::Isolated => f.write_str(
                "this incarnation was cut off, and others have gone on; the machine has to boot again",
            ),
            Self::OtherMachine { enrolled, shown } => {
                write!(f, "machine {shown} uses the certificate of machine {enrolled}")
            }
            Self::OldSoftware { level, in_force } => write!(
                f,
                "its convoked is too old: it knows feature level {level}, and the cluster has gone on to {in_force}; install the \
                 version of the other nodes"
            ),
            Self::StillInSession => f.write_str("the node's earlier incarnation still holds a session"),
            Self::Stale(what) => write!(f, "stale: {what}"),
            Self::NotInSession(node) => write!(f, "node {node} is not in session"),
            Self::Unsafe(why) | Self::Impossible(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Refusal {}
