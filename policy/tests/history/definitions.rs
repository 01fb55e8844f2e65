//! What the files on the machines say.

use std::collections::BTreeMap;

use policy::{Definition, Fencing, Offer, Replicas, UnitName};

use super::machine;

pub(super) fn offer(definition: Definition) -> Offer {
    Offer {
        definition: Some(definition),
        fault: None,
        gated: true,
        enabled: true,
        stop_budget_ms: machine::STOP_BUDGET_MS,
        present: true,
    }
}

/// Units that need each other, or stand in each other's way, in every way, each with the changes that its files may see.
pub(super) fn definitions() -> BTreeMap<UnitName, Vec<Definition>> {
    let reset = |mut definition: Definition| {
        definition.failure_reset_ms = 20_000;
        definition
    };
    let pg = reset(Definition::exclusive());
    let preferred = Definition {
        prefer: vec![policy::Preference { term: policy::NodeTerm::Name("b".into()), weight: 10 }],
        stickiness: Some(5),
        ..pg.clone()
    };
    let loose = Definition { fencing: Fencing::None, ..pg.clone() };
    let two = Definition { replicas: Replicas::Count(2), ..pg.clone() };
    let ip = Definition { same_node_as: [UnitName::from("pg")].into(), ..pg.clone() };
    let app = Definition { fencing: Fencing::Lease, requires: [UnitName::from("pg")].into(), ..pg.clone() };
    let alone = Definition { fencing: Fencing::Lease, ..pg.clone() };
    let bound = Definition {
        binds_to: [UnitName::from("pg")].into(),
        after: [UnitName::from("web")].into(),
        ..pg.clone()
    };
    let part = Definition { part_of: [UnitName::from("pg")].into(), ..pg.clone() };
    let rival = Definition {
        conflicts: [UnitName::from("app")].into(),
        before: [UnitName::from("web")].into(),
        ..pg.clone()
    };
    let wanting = Definition { wants: [UnitName::from("ip")].into(), ..rival.clone() };
    let web = reset(Definition::replicated(Replicas::Count(2)));
    let all = reset(Definition::replicated(Replicas::All));
    let one_slot = BTreeMap::from([("slots".to_string(), 1)]);
    let small = Definition {
        uses: one_slot.clone(),
        spread: Some("rack".into()),
        start_one_at_a_time: true,
        ..reset(Definition::replicated(Replicas::Count(3)))
    };
    let big = Definition { uses: BTreeMap::from([("slots".to_string(), 2)]), priority: 10, ..pg.clone() };
    let apart = Definition { other_node_than: [UnitName::from("pg")].into(), uses: one_slot, ..pg.clone() };
    BTreeMap::from([
        (UnitName::from("pg"), vec![pg.clone(), preferred, loose, two]),
        (UnitName::from("ip"), vec![ip]),
        (UnitName::from("app"), vec![alone, app]),
        (UnitName::from("big"), vec![big, apart]),
        (UnitName::from("rival"), vec![rival, bound, part, wanting]),
        (UnitName::from("web"), vec![web, all, small]),
    ])
}
