//! The boot-up of clustered services: who was live last, who may start alone, and how the others follow.
//!
//! Databases and brokers that replicate among themselves cannot tell after a site failure which of them has the latest
//! data, and most of them destroy data when the wrong one starts first. So nobody starts alone before everybody who was
//! live last was heard, is proven gone, or was given up by an operator; and who starts alone is committed before it
//! starts. Knows nothing of what the data is: its position is a rank, which compares only under one identity.
//! Clauses P42 to P52 and P158 of `docs/policy.md`; protocol rule F16.

mod boot_up;
mod definition;
mod duty;
mod election;
mod start;

pub use boot_up::{BootUp, Election, Forks, Formation, Found, Ground, Heard, Member, Start, Word, Words};
pub use definition::{Assembly, AssemblyStyle, GatherThen};
pub use duty::Duty;
