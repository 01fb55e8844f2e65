//! The driver of systemd: PID 1 over D-Bus.
//!
//! [`Systemd`] calls, one task hears ([`Signal`]), and nothing is ever answered from a cache. It says what is
//! and does what it is told; what a unit may do is decided by whoever uses it.
//!
//! - [`Systemd::read`], [`Systemd::gone`]: a fresh look, and the proof of a stop (rule F1).
//! - [`Systemd::start`], [`Systemd::stop`]: jobs, matched by their number, bounded in time.
//! - [`Systemd::run_transient`]: a program in a unit of its own, with a deadline that holds.
//! - [`JobLog`], [`stops`], [`starts`]: who wanted a stop or a start (rules F9, F10). Pure.
//! - [`journal`]: the reason, in the unit's own log.

mod cgroup;
mod ear;
mod error;
mod gone;
mod handle;
mod joblog;
pub mod journal;
mod ops;
mod peer;
mod proxies;
mod reading;
mod signal;
pub mod starts;
pub mod stops;
mod transient;

pub use cgroup::{Cgroups, Process};
pub use error::Error;
pub use gone::{Gone, Left, Remembered, StillThere};
pub use handle::{CALL_LIMIT, JobEnd, Link, RELOAD_LIMIT, SIGNALS_WAITING, Systemd};
pub use joblog::{BATCH_WINDOW, JobLog, SeenJob};
pub use reading::{ActiveState, Assert, CurrentJob, Reading, Relations, Times};
pub use signal::{JobKind, JobResult, Signal, SystemState};
pub use transient::{Outcome, TransientEnd, TransientSpec, sealed_input};
