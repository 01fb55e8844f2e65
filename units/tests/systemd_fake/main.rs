//! The driver against a manager on a socket pair that says what it likes, in the order it likes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;
mod jobs;
mod left;
mod manager;
