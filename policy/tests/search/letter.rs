//! What is under way to the log: late, lost, said twice, in any order.

use policy::{CaseId, Cause, Command, Fact, FenceOutcome, Incarnation, NodeId, Power, Token, UnitName, Wish};

use super::machine::WATCHDOG_TICKS;
use super::step::TICK_MS;
use super::world::{NAMES, UNITS};

/// Ticks after which no late command of a device strikes.
pub(crate) const QUARANTINE_TICKS: u8 = 2;

/// One life of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Life {
    pub(crate) node: usize,
    pub(crate) boots: u8,
}

impl Life {
    pub(crate) fn incarnation(self) -> Incarnation {
        Incarnation(self.to_string())
    }
}

impl std::fmt::Display for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", NAMES[self.node], self.boots)
    }
}

pub(crate) fn node_id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

pub(crate) fn unit_name(unit: usize) -> UnitName {
    UnitName::from(UNITS[unit])
}

/// Why a unit is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Why {
    Ordered,
    Failed,
    ByHand,
    LeaseEnded,
}

/// How a fence attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    Off,
    Failed,
    TimedOut,
}

/// A fact, or a word of an operator, on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Letter {
    Heard { life: Life, session: u64, term: u64 },
    Inventory { life: Life, session: u64, running: [bool; 2] },
    Surveyed { life: Life, session: u64, index: u64, running: [bool; 2] },
    Started { life: Life, unit: usize, token: u64 },
    Acknowledged { life: Life, unit: usize, token: u64, revision: u64 },
    Released { life: Life, unit: usize, token: u64, why: Why },
    Lost { life: Life, session: u64, term: u64 },
    Fenced { case: u64, attempt: u32, outcome: Outcome },
    Vouched { life: Life },
    Opened { node: usize, since: u64, on: bool },
    Armed { life: Life },
}

impl Letter {
    /// The command that it becomes; inventories need the offers of the machine and are made there.
    pub(crate) fn command(self) -> Option<Command> {
        let fact = match self {
            Self::Heard { life, session, term } => Fact::NodeHeard {
                node: node_id(life.node),
                incarnation: life.incarnation(),
                session,
                machine: format!("machine-{}", NAMES[life.node]),
                addresses: Vec::new(),
                level: policy::FEATURE_LEVEL,
                term,
            },
            Self::Inventory { .. } | Self::Surveyed { .. } => return None,
            Self::Started { life, unit, token } => Fact::Started {
                node: node_id(life.node),
                incarnation: life.incarnation(),
                unit: unit_name(unit),
                token: Token(token),
            },
            Self::Acknowledged { life, unit, token, revision } => Fact::TermsAcknowledged {
                node: node_id(life.node),
                unit: unit_name(unit),
                token: Token(token),
                revision,
            },
            Self::Released { life, unit, token, why } => Fact::Released {
                node: node_id(life.node),
                incarnation: life.incarnation(),
                unit: unit_name(unit),
                token: Token(token),
                because: match why {
                    Why::Ordered => Cause::Ordered,
                    Why::Failed => Cause::Failed("exit-code".into()),
                    Why::ByHand => Cause::Operator("root".into()),
                    Why::LeaseEnded => Cause::LeaseEnded,
                },
            },
            Self::Lost { life, session, term } => {
                Fact::NodeLost { node: node_id(life.node), incarnation: life.incarnation(), session, term }
            }
            Self::Fenced { case, attempt, outcome } => Fact::FenceReported {
                case: CaseId(case),
                attempt,
                outcome: match outcome {
                    Outcome::Off => FenceOutcome::Off,
                    Outcome::Failed => FenceOutcome::Failed("refused".into()),
                    Outcome::TimedOut => FenceOutcome::TimedOut("no answer".into()),
                },
            },
            Self::Armed { life } => Fact::WatchdogArmed {
                node: node_id(life.node),
                incarnation: life.incarnation(),
                said_ms: 1,
                device: "dog".into(),
                timeout_ms: u64::from(WATCHDOG_TICKS) * TICK_MS,
            },
            Self::Opened { node, since, on } => Fact::SwitchedOn {
                node: node_id(node),
                device: "pdu".into(),
                since,
                power: if on { Power::On } else { Power::Unknown("no answer".into()) },
            },
            Self::Vouched { life } => {
                return Some(Command::Wish(Wish::VouchFenced {
                    node: node_id(life.node),
                    incarnation: life.incarnation(),
                    by: "o".into(),
                }));
            }
        };
        Some(Command::Fact(fact))
    }
}

impl std::fmt::Display for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Heard { life, session, .. } => write!(f, "hello of {life} (session {session})"),
            Self::Inventory { life, running, .. } => {
                write!(f, "inventory of {life}: {}", running_text(running))
            }
            Self::Surveyed { life, index, running, .. } => {
                write!(f, "{life} has looked up to {index}: {}", running_text(running))
            }
            Self::Started { life, unit, token } => write!(f, "{life} started {} by {token}", UNITS[unit]),
            Self::Acknowledged { life, unit, token, .. } => {
                write!(f, "{life} acknowledges terms of {} {token}", UNITS[unit])
            }
            Self::Released { life, unit, token, why } => {
                write!(f, "{life} released {} {token} ({why:?})", UNITS[unit])
            }
            Self::Lost { life, session, .. } => write!(f, "loss of {life} (session {session})"),
            Self::Fenced { case, attempt, outcome } => {
                write!(f, "fence of case {case}, attempt {attempt}: {outcome:?}")
            }
            Self::Armed { life } => write!(f, "{life} has armed its watchdog"),
            Self::Opened { node, on, .. } => {
                let how = if on { "is open" } else { "may be open" };
                write!(f, "the way of {} {how}", NAMES[node])
            }
            Self::Vouched { life } => write!(f, "an operator's word that {life} is off"),
        }
    }
}

fn running_text(running: [bool; 2]) -> String {
    let names: Vec<&str> =
        UNITS.iter().zip(running).filter(|(_, running)| *running).map(|(name, _)| *name).collect();
    if names.is_empty() { "nothing runs".into() } else { format!("{} runs", names.join(", ")) }
}
