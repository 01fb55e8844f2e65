//! The last ready copy of a replicated service stays: none moves while another one is missing or starting (P32).

use std::collections::{BTreeMap, BTreeSet};

use policy::{Phase, Replicas, State};

use super::Violation;

/// Where the copies of one replicated service are.
#[derive(Default)]
struct Service {
    ready: BTreeSet<String>,
    starting: BTreeSet<String>,
}

/// Each replicated service.
pub(super) struct Copies(BTreeMap<String, Service>);

impl Copies {
    pub(super) fn of(state: &State) -> Self {
        let mut services = BTreeMap::new();
        for (name, unit) in &state.units {
            let replicas = unit.adopted.as_ref().map(|adopted| adopted.definition.replicas);
            if matches!(replicas, None | Some(Replicas::Count(1))) {
                continue;
            }
            let mut service = Service::default();
            for permit in unit.permits.values() {
                let node = state.node_name(permit.node);
                match permit.phase {
                    Phase::Active if state.is_known_active(permit) => service.ready.insert(node),
                    Phase::Granted => service.starting.insert(node),
                    Phase::Active | Phase::Revoking(_) => false,
                };
            }
            services.insert(name.to_string(), service);
        }
        Self(services)
    }

    /// Follows what was planned and done, line by line.
    pub(super) fn follow(&mut self, lines: &[String]) -> Result<(), Violation> {
        for line in lines {
            let (what, why) = line.split_once(": ").unwrap_or((line, ""));
            let (what, done) = (what.split(' ').collect::<Vec<_>>(), why.split(' ').collect::<Vec<_>>());
            match (what.as_slice(), done.as_slice()) {
                (["grant", unit, "on", node, ..], _) => {
                    if let Some(service) = self.0.get_mut(*unit) {
                        service.starting.insert((*node).into());
                    }
                }
                ([unit], [_, "started", "on", node, ..]) => {
                    if let Some(service) = self.0.get_mut(*unit) {
                        service.starting.remove(*node);
                        service.ready.insert((*node).into());
                    }
                }
                // How many are wanted may be another number from now on.
                (["adopt", "the", "definition", "of", unit], _) => drop(self.0.remove(*unit)),
                (["revoke", _, "of", unit, "on", node], _) => {
                    let Some(service) = self.0.get_mut(*unit) else { continue };
                    service.starting.remove(*node);
                    let last = service.ready.remove(*node) && service.ready.is_empty();
                    if last && is_a_move(why) {
                        return Err(Violation { law: "the last ready copy stays", what: line.clone() });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether it goes for a better place, or because it was asked to.
fn is_a_move(why: &str) -> bool {
    why.starts_with("another node suits it better") || why.starts_with("it moves")
}
