mod assembly;
mod fences;
mod findings;
mod forecast;
mod maintenance;
mod past;
mod present;
mod role;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    Adopted, Alarm, AlarmKind, CaseId, Cause, Class, Definition, Device, Event, EventKind, Evidence,
    FenceCase, FencePhase, Fencing, Gone, Hold, Incarnation, Isolation, Life, MoveWish, Node, Observation,
    Offer, Permit, Phase, Power, Presence, Reconnect, Replicas, Role, Severity, StopReason, SwitchedOff,
    Terms, Token, Unit, Wanted, plan,
};

use super::*;
use crate::api::model::{NodeLine, UnitLine};

const NOW: Millis = 100_000;
const DB: &str = "db.service";

fn incarnation(id: u64) -> Incarnation {
    Incarnation(format!("boot-{id}"))
}

fn offer() -> Offer {
    Offer {
        definition: Some(Definition::exclusive()),
        fault: None,
        gated: true,
        enabled: false,
        stop_budget_ms: 1_000,
        present: true,
    }
}

/// A voter in session that offers the unit.
fn node(id: u64) -> Node {
    Node {
        name: format!("n{id}"),
        addresses: vec![format!("10.0.0.{id}:7433")],
        role: Role::Voter,
        attributes: BTreeMap::new(),
        machine: format!("machine-{id}"),
        drained: None,
        maintenance: None,
        kept: BTreeSet::new(),
        feature_level: Some(1),
        life: Some(Life {
            incarnation: incarnation(id),
            session: 1,
            since: 0,
            presence: Presence::InSession,
            inventory: true,
            told: true,
            strays: BTreeSet::new(),
            gone: None,
            contradicted: None,
            isolated: None,
            stop_budget_ms: 0,
            lingering: BTreeMap::new(),
            chain: policy::Chain::unknown(),
        }),
        past: BTreeSet::new(),
        offers: [(UnitName::from(DB), offer())].into(),
        quarantined_until: 0,
        lately: policy::Lately::default(),
        highest_token: Token(0),
        surveyed: 0,
    }
}

fn permit(id: u64, phase: Phase) -> Permit {
    Permit {
        node: NodeId(id),
        incarnation: incarnation(id),
        phase,
        terms: Terms::of(&Definition::exclusive(), 1, 1_000, 0),
        next_terms: None,
        granted_at: 10,
        active_at: Some(20),
        adopted: false,
        contradicted: false,
        unwell: None,
        idle: false,
        rest: None,
        stuck: None,
        pending: None,
    }
}

/// Three nodes with a device each that was seen to work; db.service is started, and active on n1.
fn state() -> State {
    let mut state = State::default();
    state.name = "harbour".to_owned();
    state.cluster = "id".to_owned();
    state.index = 50;
    for id in 1..=3 {
        state.nodes.insert(NodeId(id), node(id));
        let device = Device {
            agent: "fence_ipmilan".to_owned(),
            options: BTreeMap::new(),
            secrets: BTreeMap::new(),
            targets: [(NodeId(id), BTreeMap::new())].into(),
            timeout_ms: 60_000,
            timeouts: BTreeMap::new(),
            level: 1,
            delay_ms: 0,
            retries: 0,
            at_once: 1,
            isolates: None,
        };
        state.devices.insert(format!("bmc-n{id}"), device);
        let seen = Observation {
            incarnation: incarnation(id),
            power: Power::On,
            at: NOW,
            trusted: true,
            misses: 0,
            by: None,
            off_since: None,
            doubted: None,
            answered: None,
        };
        state.observations.insert((format!("bmc-n{id}"), NodeId(id)), seen);
    }
    let mut unit = Unit::new(5, 0);
    unit.adopted = Some(Adopted { revision: 1, definition: Definition::exclusive() });
    unit.goal.wanted = Wanted::Started;
    unit.goal.by = Some("alice".to_owned());
    unit.permits.insert(Token(9), permit(1, Phase::Active));
    state.units.insert(DB.into(), unit);
    state.find_held();
    state
}

fn live() -> Live {
    Live { leader: Some(NodeId(2)), term: 3, quorum: true, ..Live::default() }
}

fn show(state: &State) -> Overview {
    overview(state, &plan(state, NOW), NOW, &live())
}

fn node_line(state: &State, name: &str) -> NodeLine {
    show(state).nodes.into_iter().find(|node| node.name == name).expect("the node")
}

fn unit_line(state: &State) -> UnitLine {
    show(state).units.into_iter().find(|unit| unit.name == DB).expect("the unit")
}

fn lose(state: &mut State, id: u64) {
    let life = state.nodes.get_mut(&NodeId(id)).and_then(|node| node.life.as_mut()).expect("a life");
    life.presence = Presence::Lost { since: NOW - 5_000 };
}

/// A switch's port has cut off what is lost.
fn cut(state: &mut State, id: u64) {
    let life = state.nodes.get_mut(&NodeId(id)).and_then(|node| node.life.as_mut()).expect("a life");
    life.isolated =
        Some(Isolation { case: CaseId(6), devices: "port".to_owned(), at: NOW - 4_000, heard_at: None });
}

fn case(id: u64, phase: FencePhase) -> FenceCase {
    FenceCase {
        node: NodeId(id),
        incarnation: incarnation(id),
        phase,
        attempts: 2,
        level: 1,
        off_at: None,
        retries_left: 0,
        rounds: 1,
        opened_at: NOW - 4_000,
        because: policy::Because::Unit(DB.into()),
        voided: Vec::new(),
    }
}

fn event(index: u64, node: Option<u64>, unit: Option<&str>, kind: EventKind) -> Event {
    Event {
        index,
        time: index * 10,
        wall_ms: index * 1_000,
        severity: Severity::Info,
        node: node.map(NodeId),
        unit: unit.map(UnitName::from),
        kind,
    }
}
