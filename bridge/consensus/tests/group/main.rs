//! Whole groups in one process, over connections that can be cut, and single nodes that are killed.
#![allow(clippy::unwrap_used)]

mod crashes;
mod elections;
mod fixture;
mod growth;
mod restarts;
mod rollback;
