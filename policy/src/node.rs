//! A machine of the cluster: who it is, which life it is in, and what it offers.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::definition::Definition;
use crate::evidence::Class;
use crate::isolation::Isolation;
use crate::lately::Lately;
use crate::maintenance::Maintenance;
use crate::name::{Incarnation, Millis, Token, UnitName};
use crate::room::quantity;
use crate::watchdog::Chain;

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Votes and runs units.
    Voter,
    /// Runs units.
    Member,
    /// Votes only.
    Witness,
}

impl Role {
    /// Whether it belongs to the Raft group.
    #[must_use]
    pub fn votes(self) -> bool {
        matches!(self, Self::Voter | Self::Witness)
    }

    /// Whether units may be placed on it.
    #[must_use]
    pub fn runs_units(self) -> bool {
        matches!(self, Self::Voter | Self::Member)
    }
}

/// Whether a life is heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It holds a session with the leader.
    InSession,
    /// It said that it is shutting down: nothing is granted to it any more (F30).
    Leaving,
    /// Its lease has ended. Says nothing about what runs there.
    Lost {
        /// Cluster time of the commit.
        since: Millis,
    },
}

/// A proof that a life has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// How it was proven.
    pub class: Class,
    /// When.
    pub at: Millis,
}

/// The present incarnation of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Its identity.
    pub incarnation: Incarnation,
    /// Number of its latest session; rises with each.
    pub session: u64,
    /// When it was first heard.
    pub since: Millis,
    /// Whether it is heard now.
    pub presence: Presence,
    /// Whether it has said, in this life, what runs on it (F11).
    pub inventory: bool,
    /// Whether it has said so since it was out of hearing last: by a silence, or under an earlier leader (S4).
    #[serde(default)]
    pub told: bool,
    /// Units it found active without a permit.
    pub strays: BTreeSet<UnitName>,
    /// Proven ended. If it speaks again, it is told to reboot.
    pub gone: Option<Gone>,
    /// When it spoke after it was proven ended (F18). It gets no session any more: only a new life does.
    pub contradicted: Option<Millis>,
    /// Cut off from what it shares with others, which it may still run without. It is lost, and gets no session any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolated: Option<Isolation>,
    /// The longest that it may take, once its lease is over, to stop all that it held when it was lost last (F7). Its units may
    /// have to stop one after another, and no chain of them is longer than their sum. A permit that ends by time meanwhile
    /// says nothing of what still stops there (F15).
    #[serde(default)]
    pub stop_budget_ms: Millis,
    /// What time has ended of it, with the longest stop of each: until the node says that it is gone, it may still stop there
    /// when the life is lost once more.
    #[serde(default)]
    pub lingering: BTreeMap<UnitName, Millis>,
    /// What it said of the watchdog that resets it (F17).
    #[serde(default = "Chain::unknown")]
    pub chain: Chain,
}

/// What a node says of a cluster unit's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The section, when it has no errors.
    pub definition: Option<Definition>,
    /// The first error of the section otherwise, or why the unit cannot be started here.
    pub fault: Option<String>,
    /// Whether PID 1 has the gate in force (F12).
    pub gated: bool,
    /// Whether it is enabled at boot.
    pub enabled: bool,
    /// The longest an orderly stop takes here, in milliseconds.
    pub stop_budget_ms: Millis,
    /// Whether the drop-in is there now. A withdrawn offer is remembered (F11).
    pub present: bool,
}

/// An enrolled machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where it is reached, `host:port`.
    pub addresses: Vec<String>,
    /// What it is for.
    pub role: Role,
    /// Operator's attributes for `Nodes=`, `Prefer=` and `Spread=`; those that are numbers are capacities for `Uses=`.
    pub attributes: BTreeMap<String, String>,
    /// The machine id it was enrolled with (F3).
    pub machine: String,
    /// Who drained it, if anybody did.
    pub drained: Option<String>,
    /// Its maintenance.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// Units of which copies ended here since that began, unless the cluster had them stopped.
    #[serde(default)]
    pub kept: BTreeSet<UnitName>,
    /// The highest feature level that its software knows, as it said last (F20). None before it was heard.
    #[serde(default)]
    pub feature_level: Option<u32>,
    /// Its present life, once it was heard.
    pub life: Option<Life>,
    /// Incarnations that were replaced. Kept for ever, refused for ever (F3).
    pub past: BTreeSet<Incarnation>,
    /// What it offers, or ever offered.
    pub offers: BTreeMap<UnitName, Offer>,
    /// Index up to which it has said of every new unit whether it runs there, and gates it (F11, F12).
    pub surveyed: u64,
    /// No grant before this time: a late power-off may still strike (quarantine).
    pub quarantined_until: Millis,
    /// How it fared lately.
    #[serde(default)]
    pub lately: Lately,
    /// Highest token it ever reported as released or held.
    pub highest_token: Token,
}

impl Offer {
    /// Whether a copy may be started by it: it is the definition in force, without a fault, and gated (F12).
    #[must_use]
    pub fn is_sound(&self, definition: &Definition) -> bool {
        self.is_usable() && self.definition.as_ref() == Some(definition)
    }

    /// The same, whatever the definition is.
    pub(crate) fn is_usable(&self) -> bool {
        self.present && self.fault.is_none() && self.gated
    }
}

impl Node {
    /// Its life, if it is in session now.
    #[must_use]
    pub fn in_session(&self) -> Option<&Life> {
        self.life.as_ref().filter(|life| life.presence == Presence::InSession && life.gone.is_none())
    }

    /// Units that it says anything of: those that it offers, ever offered, or found active without a permit.
    pub(crate) fn named(&self) -> impl Iterator<Item = &UnitName> {
        let strays = self.life.iter().flat_map(|life| &life.strays);
        self.offers.keys().chain(strays)
    }

    /// How much of something the node has to give: the attribute of that name, if it is a number.
    #[must_use]
    pub fn capacity(&self, of: &str) -> Option<u64> {
        quantity(self.attributes.get(of)?)
    }

    /// When its lease ended, whether or not it was proven gone since.
    #[must_use]
    pub fn lost_at(&self) -> Option<Millis> {
        match self.life.as_ref()?.presence {
            Presence::Lost { since } => Some(since),
            Presence::InSession | Presence::Leaving => None,
        }
    }

    /// Since when it is lost and not proven gone.
    #[must_use]
    pub fn lost_since(&self) -> Option<Millis> {
        match self.life.as_ref()? {
            Life { presence: Presence::Lost { since }, gone: None, .. } => Some(*since),
            _ => None,
        }
    }
}
