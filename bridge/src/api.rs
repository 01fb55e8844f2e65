//! What operators and programs see of the cluster.
//!
//! `picture` makes lines of the state, `dbus` carries them and the operators' wishes, `document` is the cluster's
//! settings as people write them.

mod caller;
pub mod dbus;
pub mod document;
mod error;
mod files;
mod memory;
pub mod model;
pub mod names;
pub mod picture;
mod recall;
mod together;

pub use dbus::{Api, serve};
pub use error::ApiError;
pub(crate) use files::Files;
