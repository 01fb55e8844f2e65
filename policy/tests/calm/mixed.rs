//! Units with random keys.

use super::rng::Rng;
use super::steps::pick;

pub(super) const UNITS: [&str; 5] = ["u1", "u2", "u3", "u4", "u5"];
const NODES: [&str; 4] = ["a", "b", "c", "d"];

/// What a unit's files say. It needs only units before it, so that requirements make no circle; an order may.
pub(super) fn keys(rng: &mut Rng, name: &str, units: &[&str]) -> String {
    let mut keys: Vec<String> = Vec::new();
    let replicas = ["", "", "", "", "", "", "replicas=2", "replicas=2", "replicas=all", "replicas=3"];
    let replicas = pick(rng, &replicas);
    if !replicas.is_empty() {
        keys.push(replicas.into());
        for (percent, key) in [(30, "fencing=required"), (30, "oneatatime"), (30, "spread=rack")] {
            keys.extend(rng.percent(percent).then(|| key.into()));
        }
    }
    placement(rng, &mut keys);
    let others: Vec<&str> = units.iter().copied().filter(|other| *other != name).collect();
    let earlier: Vec<&str> = others.iter().copied().filter(|other| *other < name).collect();
    needs(rng, &earlier, &mut keys);
    let beside = keys.iter().any(|key| key.starts_with("beside"));
    for (percent, key) in [(25, "after"), (8, "before"), (8, "conflicts"), (15, "apart")] {
        if !others.is_empty() && rng.percent(percent) && (key != "apart" || !beside) {
            keys.push(format!("{key}={}", pick(rng, &others)));
        }
    }
    keys.join(" ")
}

/// Where it may run, and would rather.
fn placement(rng: &mut Rng, keys: &mut Vec<String>) {
    if rng.percent(40) {
        keys.push(format!("uses=mem:{}", 1 + rng.below(4)));
    }
    if rng.percent(40) {
        keys.push(format!("priority={}", rng.below(4)));
    }
    if rng.percent(30) {
        keys.push(format!("prefer={}:10", pick(rng, &NODES)));
        keys.extend(rng.percent(60).then(|| "stickiness=5".into()));
    }
    if rng.percent(15) {
        keys.push(format!("nodes={},{}", pick(rng, &NODES), pick(rng, &NODES)));
    }
    keys.extend(rng.percent(20).then(|| "failures=2".into()));
}

/// What it needs, and what it is a part of.
fn needs(rng: &mut Rng, earlier: &[&str], keys: &mut Vec<String>) {
    if earlier.is_empty() {
        return;
    }
    if rng.percent(30) {
        keys.push(format!("requires={}", pick(rng, earlier)));
    } else if rng.percent(20) {
        keys.push(format!("binds={}", pick(rng, earlier)));
    }
    for (percent, key) in [(30, "beside"), (20, "part"), (15, "wants")] {
        if rng.percent(percent) {
            keys.push(format!("{key}={}", pick(rng, earlier)));
        }
    }
}

/// What the nodes have, and how much may start at once.
pub(super) fn settings(rng: &mut Rng, nodes: &[&str]) -> String {
    let mut line = String::from("configure");
    for node in nodes {
        if rng.percent(70) {
            line += &format!(" {node}.mem={}", 2 + rng.below(6));
        }
        if rng.percent(70) {
            line += &format!(" {node}.rack={}", rng.below(2));
        }
    }
    for key in ["starts-per-node", "starts-per-cluster"] {
        if rng.percent(20) {
            line += &format!(" {key}={}", 1 + rng.below(2));
        }
    }
    line
}
