//! What is left of safety where a device lies, read from the log.
//!
//! Nobody can know of a lie before the node is heard again. From then on an alarm stands, the device is not used for that life
//! any more, and nothing more starts on what it said.

use std::collections::BTreeSet;

use policy::{AlarmKind, EventKind, NodeId, State, apply};

use crate::ledger::Inner;
use crate::power::DEVICES;

/// How many proofs the log contradicts.
///
/// # Errors
/// What was wrong after one of them.
pub(crate) fn contradictions(ledger: &Inner) -> Result<u64, String> {
    let mut state = State::default();
    // Nodes that spoke after the proof, until they boot.
    let mut heard: BTreeSet<NodeId> = BTreeSet::new();
    let mut count = 0;
    for (index, (_, bytes)) in &ledger.entries {
        let entry = bridge::leader::decode(*index, bytes).map_err(|error| format!("{index}: {error}"))?;
        let Ok(events) = apply(&mut state, &entry) else { continue };
        for event in events {
            let wrong = |what: &str| Err(format!("{what} at index {index}"));
            match (event.kind, event.node, event.unit) {
                (EventKind::ProofContradicted { .. }, Some(node), _) => {
                    count += 1;
                    heard.insert(node);
                    if !state.alarms.contains_key(&AlarmKind::ProofContradicted(node)) {
                        return wrong("F18: no alarm says that a proof was contradicted");
                    }
                }
                (EventKind::NodeBooted, Some(node), _) => {
                    heard.remove(&node);
                }
                (EventKind::FenceBegan { device, .. }, Some(node), _)
                    if device == DEVICES[0] && heard.contains(&node) =>
                {
                    return wrong("F18: a device that lied of a life is used for it again");
                }
                (EventKind::Granted { .. }, _, Some(unit)) => {
                    let known = state.units.get(&unit);
                    let mut permits = known.into_iter().flat_map(|unit| unit.permits.values());
                    if permits.any(|permit| permit.contradicted && permit.terms.exclusive) {
                        return wrong("F18: a unit is granted on a proof that was contradicted");
                    }
                }
                _ => {}
            }
        }
    }
    Ok(count)
}
