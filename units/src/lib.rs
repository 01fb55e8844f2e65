//! Everything Convoke knows about unit files and systemd.
//!
//! The text half is synchronous and reads only below a given root directory: [`text`] reads one file as
//! systemd does, [`load`] finds the cluster units among all files, [`section`] types their `[X-Convoke]`
//! section, [`gate`] holds the texts that keep them shut, [`generator`] and [`verify`] put it together.
//! Only [`mod@write`] and the generator binary change files. What is wrong in a file becomes a
//! [`Diagnostic`], never an error that stops the reading. Nothing here knows nodes, permits or policy.
//!
//! ```no_run
//! for unit in units::load::discover("/".as_ref()) {
//!     println!("{} startable: {}", unit.id, unit.section.is_some());
//! }
//! ```
//!
//! The other half, [`systemd`], talks to PID 1 over D-Bus.

pub mod diagnostic;
pub mod gate;
pub mod generator;
pub mod load;
pub mod name;
pub mod read;
pub mod section;
pub mod systemd;
pub mod text;
pub mod verify;
pub mod write;

pub use diagnostic::{Code, Diagnostic, Severity, Span};
pub use load::{ClusterUnit, discover, id, unit};
pub use section::Section;
