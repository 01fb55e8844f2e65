//! The node's agent: what the cluster permits is started, what it revokes is stopped, and what happens is reported.
//!
//! One task owns everything ([`core`](self)); it hears events from the session, from PID 1, from gates and from its own
//! operations, decides synchronously, and has tasks do the work. Level-triggered: what is owed follows from the state,
//! so a repeated order, a lost answer or a restart of the daemon repeats nothing that has been done. F-numbers cite the
//! protocol's safety rules.
//!
//! ```text
//! session ─┐                        ┌─ permit files, floors      (in the loop, in order)
//! PID 1 ───┼─► Event ─► handle ─► Action ─ starts, stops, looks    (tasks; their ends are events)
//! gates ───┘                        └─ facts, journal, fences
//! ```

mod bus;
mod cause;
mod command;
mod core;
mod decide;
mod discovery;
mod event;
pub(crate) mod executor;
mod floors;
mod gate;
mod gates;
mod incarnation;
mod looks;
mod offer;
mod outbox;
mod permit;
mod prepare;
mod probe;
mod reconcile;
mod remains;
mod run;
mod takedown;
mod tasks;
mod timer;
mod unit;
mod wishes;

pub use self::core::{Agent, Origin};
pub use command::{AgentCommand, Shutdown, Snapshot, UnitSnapshot};
pub use discovery::load_gated;
pub use event::{
    Action, Discovery, End, Event, Failure, Fenced, GateLook, IfStuck, Look, Now, OpId, Spooled, Stop, Work,
};
pub use floors::Floors;
pub use gate::{Answer as GateReply, GateId};
pub use incarnation::{IncarnationError, boot_id, incarnation};
pub use offer::Found;
pub(crate) use offer::definition;
pub use permit::{Environment, Permit as PermitFile, Starts, any_left, ends_with_lease, rests_on_watchdog};
pub use prepare::{PrepareError, Prepared, prepare};
pub use probe::{Finding, Question};
pub use run::{AgentSetup, run};

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
