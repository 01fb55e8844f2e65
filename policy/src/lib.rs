//! Convoke's decisions, as pure functions.
//!
//! [`apply`] records facts and wishes in the replicated [`State`] and refuses every decision that would break
//! the promises S1 to S6. [`plan`] proposes decisions and says what each unit waits for. Neither knows a clock,
//! a socket, systemd or Raft: an [`Entry`] carries the time that its proposer stamped, and everything else is
//! in the state. The rules are numbered in `docs/policy.md`; F-numbers cite the protocol's safety rules.
//!
//! ```text
//! facts, wishes ──► apply ──► State ──► plan ──► decisions ──► apply ──► State, Events
//! ```
#![no_std]
#![forbid(unsafe_code)]
// `apply` is total: nothing in this crate may panic, whatever an entry holds.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::expect_used,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod apply;
mod assembly;
mod check;
mod command;
mod definition;
mod drain;
mod drill;
mod event;
mod evidence;
mod expiry;
mod feature;
mod fence;
mod gist;
mod held;
mod isolation;
mod lately;
mod level;
mod maintenance;
mod name;
mod node;
mod pending;
mod permit;
mod plan;
mod query;
mod reach;
mod refusal;
mod relations;
mod room;
mod standing;
mod state;
mod succession;
mod unit;
mod unsaid;
mod view;
mod watchdog;
mod whatif;

pub use apply::apply;
pub use assembly::{
    Assembly, AssemblyStyle, BootUp, Duty, Election, Forks, Formation, Found, GatherThen, Ground, Heard,
    Member, Start, Word, Words,
};
pub use check::{Finding, Flaw, Key, Link, VoteFlaw, check, check_votes};
pub use command::{
    AfterFence, AgentAction, Cause, Command, Decision, Device, Entry, Fact, FenceOutcome, InventoryItem,
    Origin, Reconnect, Settings, Wish,
};
pub use definition::{Definition, Fencing, NodeTerm, OnQuorumLoss, OnStopFailure, Preference, Replicas};
pub use drill::{Because, Drill, DrillResult, Drilled};
pub use event::{Event, EventKind, Severity, StopReason};
pub use evidence::{Class, Evidence};
pub use feature::FEATURE_LEVEL;
pub use fence::{FenceCase, Observation, Opening, Phase as FencePhase, Power, SwitchedOff};
pub use isolation::Isolation;
pub use lately::{Ended, Lately};
pub use maintenance::{Maintenance, Scope};
pub use name::{CaseId, Incarnation, Millis, NodeId, Token, UnitName};
pub use node::{Gone, Life, Node, Offer, Presence, Role};
pub use pending::Pending;
pub use permit::{Permit, Phase, Rest, Terms};
pub use plan::{KeptPlan, Observe, Order, Plan, Reason, SwitchOn, plan};
pub use query::Possibly;
pub use reach::{Access, Reach};
pub use refusal::Refusal;
pub use room::quantity_text;
pub use state::{Alarm, AlarmKind, State, Tenure};
pub use succession::{Heir, Mark, Succession};
pub use unit::{Adopted, Failures, Goal, Hold, MoveWish, Unit, Wanted};
pub use view::{NodeView, PermitView};
pub use watchdog::{Chain, Watchdog};
pub use whatif::{End, First, Forecast, Suppose, forecast};
