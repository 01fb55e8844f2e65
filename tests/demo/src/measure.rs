//! Where the time of a gap went: the units' own stopping and starting by systemd's clock, the rest by difference.
//!
//! All nodes share the host's monotonic clock, so the times that systemd keeps of a unit on two nodes compare exactly.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use lab::Node;

use crate::cluster::{ADDRESS, DATABASE};

/// From and to, in monotonic ns.
pub(crate) type Span = (u64, u64);

/// When a unit last went down and last came up on a node.
struct Turns {
    down: Span,
    up: Span,
}

fn turns(node: &Node, unit: &str) -> Result<Turns> {
    const KEYS: [&str; 4] =
        ["ActiveExitTimestamp", "InactiveEnterTimestamp", "InactiveExitTimestamp", "ActiveEnterTimestamp"];
    let properties: Vec<String> = KEYS.iter().map(|k| format!("--property={k}Monotonic")).collect();
    let text = node.run_ok(&format!("systemctl show {} -- {unit}", properties.join(" ")))?;
    let read = |key: &str| -> Result<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("{key}Monotonic=")));
        let us: u64 = line.context("systemd does not say when")?.parse()?;
        Ok(us * 1000)
    };
    Ok(Turns {
        down: (read("ActiveExitTimestamp")?, read("InactiveEnterTimestamp")?),
        up: (read("InactiveExitTimestamp")?, read("ActiveEnterTimestamp")?),
    })
}

/// When both units last went down on a node: the first moment, and the time each took.
pub(crate) fn downs(node: &Node) -> Result<Vec<Span>> {
    [DATABASE, ADDRESS].iter().map(|u| Ok(turns(node, u)?.down)).collect()
}

/// When both units last came up on a node.
pub(crate) fn ups(node: &Node) -> Result<Vec<Span>> {
    [DATABASE, ADDRESS].iter().map(|u| Ok(turns(node, u)?.up)).collect()
}

/// How much of `whole` the spans cover, in ns; where they overlap it counts once.
pub(crate) fn covered(whole: Span, spans: &[Span]) -> u64 {
    let mut sorted: Vec<Span> = spans.to_vec();
    sorted.sort_unstable();
    let (mut sum, mut reached) = (0, whole.0);
    for (from, to) in sorted {
        let (from, to) = (from.max(reached), to.min(whole.1));
        if to > from {
            sum += to - from;
            reached = to;
        }
    }
    sum
}

/// What a gap was made of, in ns.
pub(crate) struct Parts {
    /// Between two acknowledged commits.
    pub(crate) gap: u64,
    /// From the power cut to the decision that the node is lost.
    pub(crate) detection: u64,
    /// The fence agent's own time.
    pub(crate) fence: u64,
    /// The units' own stopping and starting.
    pub(crate) units: u64,
    /// All else until the address was up again.
    pub(crate) convoke: u64,
}

impl Parts {
    /// `event` goes from what happened to the address being up; the spans cover parts of it.
    pub(crate) fn of(
        gap: Span,
        event: Span,
        detection: &[Span],
        fence: &[Span],
        units: &[Span],
    ) -> Result<Parts> {
        ensure!(event.1 > event.0, "the address came up before anything happened: {event:?}");
        let known: Vec<Span> = [detection, fence, units].concat();
        let (d, f) = (covered(event, detection), covered(event, fence));
        Ok(Parts {
            gap: gap.1 - gap.0,
            detection: d,
            fence: f,
            units: covered(event, &known) - covered(event, &[detection, fence].concat()),
            convoke: event.1 - event.0 - covered(event, &known),
        })
    }

    /// In one line.
    pub(crate) fn text(&self) -> String {
        let ms = |ns: u64| ns / 1_000_000;
        let mut parts = Vec::new();
        for (name, ns) in [("detection", self.detection), ("fence agent", self.fence)] {
            if ns > 0 {
                parts.push(format!("{name} {}", ms(ns)));
            }
        }
        parts.push(format!("units {}", ms(self.units)));
        parts.push(format!("Convoke {}", ms(self.convoke)));
        let known = self.detection + self.fence + self.units + self.convoke;
        parts.push(format!("client {}", ms(self.gap.saturating_sub(known))));
        format!("no commit for {} ms: {}", ms(self.gap), parts.join(" + "))
    }
}

/// Wall time in ms since 1970 as monotonic ns. Exact to a millisecond or two.
pub(crate) fn monotonic(wall_ms: u64) -> Result<u64> {
    let (mono, wall) = (lab::now_ns(), SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos());
    let ago = u64::try_from(wall)?.saturating_sub(wall_ms * 1_000_000);
    Ok(mono.saturating_sub(ago))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_count_once_and_what_is_outside_not_at_all() {
        assert_eq!(covered((10, 20), &[(0, 12), (11, 13), (19, 30)]), 4);
        assert_eq!(covered((10, 20), &[]), 0);
        assert_eq!(covered((10, 20), &[(0, 40), (12, 13)]), 10);
    }

    #[test]
    fn the_parts_add_up() {
        let p = Parts::of((95, 210), (100, 200), &[(100, 120)], &[(130, 150)], &[(160, 170), (165, 180)]);
        let p = p.expect("a sound event");
        assert_eq!((p.gap, p.detection, p.fence, p.units, p.convoke), (115, 20, 20, 20, 40));
    }
}
