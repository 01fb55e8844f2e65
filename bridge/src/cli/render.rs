//! Models as text for people. Pure: a model and a style in, text out.

mod agents;
mod assembly;
mod check;
mod fences;
mod forecast;
mod lists;
mod old;
mod past;
mod reasons;
mod screen;

pub(super) use agents::{agent, agents};
pub(super) use assembly::{data, span, table as data_table};
pub(super) use check::findings;
pub(super) use fences::{attempts, fence_why};
pub(super) use forecast::forecast;
pub(super) use lists::{Age, fences, node, nodes, unit, units};
pub(super) use old::old;
pub(super) use past::history;
pub(super) use reasons::why;
pub(super) use screen::status;

use super::out::Tone;

/// What a state means to the reader.
fn tone(state: &str) -> Tone {
    match state {
        "active" | "online" | "ready" | "running" => Tone::Good,
        "stopped" | "member" | "away" => Tone::Plain,
        "lost" | "cut-off" | "unknown" | "fenced" | "fencing" | "unready" | "undefined" | "stray"
        | "failed" | "alert" => Tone::Bad,
        _ => Tone::Mind,
    }
}

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;
