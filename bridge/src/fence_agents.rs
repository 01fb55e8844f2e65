//! What the fence agents of this machine say of themselves, and whether a device is configured as they want it.
//!
//! An agent is asked for its metadata here, with nothing of the configuration in its input, and a device for its plugs, with
//! an input that was made elsewhere. Decides what is wrong with a device's options; switches nothing, reads no secret, and
//! knows no cluster. How an agent is run to fence is in `agent::executor`.

mod ask;
mod check;
mod given;
mod helpers;
mod installed;
mod metadata;
mod multipath;
mod owners;
mod plugs;
mod said;
mod traps;

pub use ask::{AskError, LIMIT, ask};
pub use check::check;
pub use given::{Given, Remark, Spot, Table};
pub use helpers::missing;
pub use installed::{DIRECTORY, Installed, Look, find, installed, look, usable_name};
pub use metadata::{Action, Kind, Metadata, MetadataError, Parameter, Symlink};
pub use multipath::{lacks, unprepared};
pub use owners::{Owners, owners};
pub use plugs::{Plug, is_listed, list, lists_by, missing_plug, plug_option};
pub use traps::{isolates, known_to_isolate, notes, proves_off, says_that_it_isolates, traps, useless};

pub(crate) use ask::run;
pub(crate) use given::{present, says_what_to_do};
pub(crate) use said::said;
