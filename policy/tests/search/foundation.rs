//! The cluster before anybody was heard, and what its units are defined as.

use policy::{Command, Definition, Entry, Fact, Fencing, OnQuorumLoss, Wish, plan};

use super::Scene;
use super::letter::{node_id, unit_name};
use super::step::TICK_MS;
use super::world::{APP, DB, NAMES, NOW, World};

impl World {
    /// Found and enrolled, with devices, before anybody was heard.
    pub(crate) fn founded(scene: &Scene) -> policy::State {
        let mut state = policy::State::default();
        let wish = |wish: Wish, index: u64, state: &mut policy::State| {
            let entry = Entry { index, time: NOW, wall_ms: 0, origin: None, command: Command::Wish(wish) };
            policy::apply(state, &entry).expect("the foundation");
        };
        let found = Wish::Found {
            cluster: "c".into(),
            name: "search".into(),
            generation: 0,
            node: node_id(0),
            node_name: NAMES[0].into(),
            addresses: Vec::new(),
            machine: "machine-a".into(),
        };
        wish(found, 1, &mut state);
        let quarantine_ms = u64::from(super::letter::QUARANTINE_TICKS) * TICK_MS;
        let settings = policy::Settings { detect_ms: 1_000, quarantine_ms, ..policy::Settings::default() };
        let configure = |devices| Wish::Configure {
            settings: settings.clone(),
            devices,
            attributes: Default::default(),
            by: "o".into(),
        };
        // `detect` can be set only while the cluster has one node.
        wish(configure(Default::default()), 1, &mut state);
        let (token, hash) = ("t".to_string(), "h".to_string());
        let issue =
            Wish::IssueToken { id: token.clone(), secret_hash: hash.clone(), valid_ms: 1, by: "o".into() };
        wish(issue, 1, &mut state);
        for node in [1, 2] {
            let enroll = Wish::Enroll {
                token: token.clone(),
                secret_hash: hash.clone(),
                name: NAMES[node].into(),
                addresses: Vec::new(),
                machine: format!("machine-{}", NAMES[node]),
                role: None,
            };
            wish(enroll, node as u64 + 1, &mut state);
        }
        state.tokens.clear();
        let targets = (0..3).map(|node| (node_id(node), Default::default())).collect();
        let device = policy::Device {
            agent: "fence_test".into(),
            options: Default::default(),
            secrets: Default::default(),
            targets,
            timeout_ms: 1,
            timeouts: Default::default(),
            level: 1,
            delay_ms: 0,
            retries: 0,
            at_once: 1,
            isolates: scene.isolates.then_some(policy::Reconnect::AfterCut),
        };
        let feeds: &[&str] = if scene.feeds { &["pdu", SECOND] } else { &["pdu"] };
        let devices = feeds.iter().map(|name| ((*name).to_string(), device.clone()));
        wish(configure(devices.collect()), 4, &mut state);
        let began = Fact::TermBegan { term: 1, leader: node_id(1) };
        let entry = Entry { index: 5, time: NOW, wall_ms: 0, origin: None, command: Command::Fact(began) };
        policy::apply(&mut state, &entry).expect("a leader");
        state
    }

    /// The definitions that the planner finds are put in force.
    pub(crate) fn adopt(&mut self) {
        for decision in plan(self.state(), NOW).decisions {
            if matches!(decision, policy::Decision::AdoptDefinition { .. }) {
                self.commit(None, Command::Decision(decision)).expect("a definition");
            }
        }
    }
}

/// The device of the second feed, in scenes with two: on the same level.
pub(super) const SECOND: &str = "pdu-2";

/// What the files say, before or after they are changed.
pub(super) fn definition(scene: &Scene, unit: usize, rewritten: bool) -> Definition {
    let mut definition =
        Definition { fencing: scene.fencing, failure_reset_ms: 1_000, ..Definition::exclusive() };
    if scene.rewrites && !rewritten {
        definition.fencing = Fencing::Required;
        definition.on_quorum_loss = OnQuorumLoss::Continue;
    }
    if unit == APP {
        definition.requires.insert(unit_name(DB));
    }
    definition
}
