//! The watchdog that this node is reset by, owned and fed by the daemon itself (F17).
//!
//! A thread of its own feeds the device, and does nothing else: it looks at CLOCK_BOOTTIME after each waking, and feeds
//! only while the lease is valid, or what has to stop at its end still has the time to, or nothing here rests on the
//! device. Whatever happens to the daemon, it is fed no longer than that. Why a device of its own, and what was measured:
//! `docs/design/0015-watchdog.md`. Knows nothing of units: the agent says what rests on it.

mod device;
mod feeder;
mod handle;
mod judge;
mod kept;
mod notes;

pub use device::{Device, DeviceError, Hardware};
pub use handle::{Feeding, Setting, Standing, Watchdog};
