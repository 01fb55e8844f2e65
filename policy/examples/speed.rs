//! How long one plan takes from scratch, one check of the set, and a forecast of a node's loss: every unit is started and
//! none runs, so that the forecast starts them all.
//!
//! `cargo run -p policy --example speed` prints a table of units × nodes. Optimise it (`--release`) before believing it.

#![allow(clippy::disallowed_types, clippy::print_stdout, reason = "measures; the crate itself has no clock")]

use std::time::Instant;

use policy::{
    Adopted, Definition, Fact, Goal, InventoryItem, NodeId, Offer, State, Unit, UnitName, Wanted, Wish,
};
use policy::{Command, Entry, Suppose, apply, check, forecast, plan};

fn put(state: &mut State, command: Command) {
    let entry = Entry { index: state.index + 1, time: 1_000, wall_ms: 0, origin: None, command };
    apply(state, &entry).expect("accepted");
}

fn cluster(units: usize, nodes: usize) -> State {
    let mut state = State::default();
    let names: Vec<String> = (1..=nodes).map(|number| format!("n{number}")).collect();
    for name in &names {
        let machine = format!("machine-{name}");
        let (node_name, addresses) = (name.clone(), Vec::new());
        if state.cluster.is_empty() {
            let (cluster, name) = ("c".into(), "speed".into());
            let found =
                Wish::Found { cluster, name, generation: 0, node: NodeId(1), node_name, addresses, machine };
            put(&mut state, Command::Wish(found));
        } else {
            let (id, secret_hash, by) = (name.clone(), String::from("h"), "o".into());
            let token =
                Wish::IssueToken { id: id.clone(), secret_hash: secret_hash.clone(), valid_ms: 10, by };
            put(&mut state, Command::Wish(token));
            let enroll =
                Wish::Enroll { token: id, secret_hash, name: node_name, addresses, machine, role: None };
            put(&mut state, Command::Wish(enroll));
        }
    }
    put(&mut state, Command::Fact(Fact::TermBegan { term: 1, leader: NodeId(1) }));
    let definition = Definition::exclusive();
    let offer = Offer {
        definition: Some(definition.clone()),
        fault: None,
        gated: true,
        enabled: true,
        stop_budget_ms: 1_000,
        present: true,
    };
    let unit_names: Vec<UnitName> =
        (0..units).map(|number| UnitName(format!("unit-{number}.service"))).collect();
    for name in &names {
        let node = state.node_named(name).expect("enrolled");
        let (machine, incarnation) = (format!("machine-{name}"), policy::Incarnation(format!("{name}-1")));
        let (session, addresses, term) = (state.index + 1, Vec::new(), 1);
        let heard =
            Fact::NodeHeard { node, incarnation: incarnation.clone(), session, machine, addresses, term };
        put(&mut state, Command::Fact(heard));
        let item = |unit: &UnitName| InventoryItem {
            unit: unit.clone(),
            offer: Some(offer.clone()),
            running: false,
        };
        let (items, highest_token) = (unit_names.iter().map(item).collect(), policy::Token(0));
        put(&mut state, Command::Fact(Fact::InventoryReported { node, incarnation, items, highest_token }));
    }
    let revision = state.index;
    for unit in state.units.values_mut() {
        let goal = Goal { wanted: Wanted::Started, revision, by: None, wall_ms: 0 };
        let adopted = Some(Adopted { revision, definition: definition.clone() });
        *unit = Unit { adopted, goal, ..Unit::new(revision, 0) };
    }
    state
}

fn main() {
    let headings = ["units", "nodes", "grants", "ms", "check ms", "forecast ms"];
    println!("{}", headings.map(|heading| format!("{heading:>11}")).join(" "));
    for (units, nodes) in [(500, 16), (1_000, 16), (2_000, 16), (5_000, 16), (1_000, 64)] {
        let state = cluster(units, nodes);
        let begun = Instant::now();
        let planned = plan(&state, 1_000);
        let ms = begun.elapsed().as_micros() / 1_000;
        let begun = Instant::now();
        let findings = check(&state).len();
        let check_ms = begun.elapsed().as_micros() / 1_000;
        // Nothing has a fence device.
        assert_eq!(findings, units, "a finding for each");
        let begun = Instant::now();
        let told = forecast(state.clone(), 1_000, &[Suppose::Lost(NodeId(1))]).expect("nothing is refused");
        let forecast_ms = begun.elapsed().as_micros() / 1_000;
        assert!(told.steps.len() > units, "all but those of the lost node start");
        let grants = planned.decisions.len();
        let row = [units as u128, nodes as u128, grants as u128, ms, check_ms, forecast_ms];
        println!("{}", row.map(|number| format!("{number:>11}")).join(" "));
    }
}
