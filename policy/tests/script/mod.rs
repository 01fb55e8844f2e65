//! The language of the scripts: a cluster that is told what happens, one line at a time.
//!
//! The world knows what an agent knows (which permit it holds, what its files say), so that a line need only say what
//! differs from the usual.

mod assembly;
mod devices;
mod forecast;
mod lines;
mod offers;
mod raw;
mod state;
mod text;
mod watchdog;

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    Command, Decision, Definition, Entry, Fact, FencePhase, Incarnation, KeptPlan, NodeId, Offer, Order,
    Origin, Phase, State, Token, UnitName, Wish, apply, plan,
};

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) state: State,
    /// The plan that is kept beside the state.
    kept: KeptPlan,
    index: u64,
    pub(crate) time: u64,
    session: u64,
    term: u64,
    /// Boots of each node so far: incarnations are `a1`, `a2`.
    boots: BTreeMap<String, u32>,
    /// What the files on each node say.
    files: BTreeMap<(String, UnitName), Offer>,
    /// Names of tokens and cases in the order of their appearance, so that scripts survive an edit.
    tokens: BTreeMap<Token, usize>,
    cases: BTreeMap<u64, usize>,
    /// The latest case of each node and its latest attempt: its executor still knows them when the state does not.
    attempts: BTreeMap<NodeId, (policy::CaseId, u32)>,
    origin: Option<Origin>,
    /// Nodes that take their time to look for units that they are told of; all others do so at once.
    slow: BTreeSet<String>,
    /// What the software of nodes knows, where that is not this version's feature level.
    levels: BTreeMap<String, u32>,
}

type Lines = Result<Vec<String>, String>;

impl World {
    pub(crate) fn new() -> Self {
        Self {
            state: State::default(),
            kept: KeptPlan::default(),
            index: 0,
            time: 1_000,
            session: 0,
            term: 0,
            boots: BTreeMap::new(),
            files: BTreeMap::new(),
            tokens: BTreeMap::new(),
            cases: BTreeMap::new(),
            attempts: BTreeMap::new(),
            origin: None,
            slow: BTreeSet::new(),
            levels: BTreeMap::new(),
        }
    }

    /// Every node that may has looked for the units that the cluster knows (F11).
    fn survey(&mut self) {
        let index = self.state.units.values().map(|unit| unit.since).max().unwrap_or(0);
        let nodes = self.state.nodes.iter().filter(|(_, node)| !self.slow.contains(&node.name));
        let due: Vec<Fact> = nodes
            .filter_map(|(id, node)| {
                let life = node.in_session().filter(|life| life.inventory && node.surveyed < index)?;
                Some(Fact::Surveyed { node: *id, incarnation: life.incarnation.clone(), index })
            })
            .collect();
        for fact in due {
            self.fact(fact);
        }
    }

    /// Applies one command and says what came of it.
    fn apply(&mut self, command: Command) -> Vec<String> {
        self.index += 1;
        let entry = Entry {
            index: self.index,
            time: self.time,
            wall_ms: self.time,
            origin: self.origin.take(),
            command,
        };
        let before = self.state.clone();
        let outcome = apply(&mut self.state, &entry);
        self.kept.note(&self.state, &entry.command);
        self.name_numbers();
        match outcome {
            Ok(events) => events.iter().map(|event| self.event(event)).collect(),
            Err(refusal) => {
                self.assert_untouched(before, &entry);
                vec![format!("refused: {refusal}")]
            }
        }
    }

    fn fact(&mut self, fact: Fact) -> Vec<String> {
        self.apply(Command::Fact(fact))
    }

    fn wish(&mut self, wish: Wish) -> Vec<String> {
        self.apply(Command::Wish(wish))
    }

    fn decide(&mut self, decision: Decision) -> Vec<String> {
        self.apply(Command::Decision(decision))
    }

    /// A refusal leaves everything but index and time as it was; what a client is answered again is seen by asking.
    fn assert_untouched(&self, mut before: State, entry: &Entry) {
        if entry.origin.is_some() {
            return;
        }
        before.index = self.state.index;
        before.time = self.state.time;
        assert!(before == self.state, "the refusal of {entry:?} touched the state");
    }

    fn name_numbers(&mut self) {
        let tokens = self.state.units.values().flat_map(|unit| unit.permits.keys());
        for token in tokens {
            let next = self.tokens.len() + 1;
            self.tokens.entry(*token).or_insert(next);
        }
        for (id, case) in &self.state.cases {
            let next = self.cases.len() + 1;
            self.cases.entry(id.0).or_insert(next);
            self.attempts.insert(case.node, (*id, case.attempts));
        }
    }

    /// Names what appears in an event only: a forecast shows events whose permits and cases are over by its end.
    fn name_event(&mut self, event: &policy::Event) {
        use policy::EventKind::{Adopted, FenceWanted, Granted, GrantedAs};
        match &event.kind {
            Granted { token } | GrantedAs { token, .. } | Adopted { token } => {
                let next = self.tokens.len() + 1;
                self.tokens.entry(*token).or_insert(next);
            }
            FenceWanted { case, .. } => {
                let next = self.cases.len() + 1;
                self.cases.entry(case.0).or_insert(next);
            }
            _ => {}
        }
    }

    /// Proposes everything planned, again and again, until nothing is left to decide.
    fn plan_to_fixpoint(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..50 {
            let planned = plan(&self.state, self.time);
            assert!(planned == plan(&self.state, self.time), "two plans of one state differ");
            assert!(planned == *self.kept.renew(&self.state, self.time), "the kept plan is another one");
            if planned.decisions.is_empty() {
                return lines;
            }
            for decision in planned.decisions {
                let text = self.decision(&decision);
                let outcome = self.decide(decision);
                let refused = outcome.first().is_some_and(|line| line.starts_with("refused"));
                assert!(!refused, "planned, but {outcome:?}: {text}");
                lines.push(self.with_names(text, &outcome));
            }
        }
        panic!("the plan does not settle: {lines:#?}");
    }

    /// What agents are asked to do outside the log, and why units are not where one would expect.
    fn waits(&self) -> Vec<String> {
        let planned = plan(&self.state, self.time);
        let mut lines = Vec::new();
        for order in &planned.orders {
            let Order::StopStray { node, unit } = order;
            lines.push(format!("have {unit} on {} stopped", self.name(*node)));
        }
        for (unit, reasons) in &planned.reasons {
            for reason in reasons {
                let text = reason.text(&self.state, unit, self.time);
                lines.push(format!("{unit} waits: {}", self.rename(&text)));
            }
        }
        lines
    }

    /// Plays every agent: what was granted starts, what was revoked is released, until nothing moves.
    fn settle(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..50 {
            lines.extend(self.plan_to_fixpoint());
            let mut due = Vec::new();
            for (name, unit) in &self.state.units {
                for (token, permit) in &unit.permits {
                    let node = self.state.nodes.get(&permit.node).and_then(|node| node.in_session());
                    if node.is_some_and(|life| life.incarnation == permit.incarnation) {
                        due.push((name.clone(), *token, permit.clone()));
                    }
                }
            }
            let mut moved = false;
            for (unit, token, permit) in due {
                let (node, incarnation) = (permit.node, permit.incarnation);
                let fact = match permit.phase {
                    Phase::Granted => Fact::Started { node, incarnation, unit, token },
                    Phase::Revoking(_) => {
                        let because = policy::Cause::Ordered;
                        Fact::Released { node, incarnation, unit, token, because }
                    }
                    Phase::Active => continue,
                };
                moved = true;
                lines.extend(self.fact(fact));
            }
            if !moved {
                lines.extend(self.waits());
                return lines;
            }
        }
        panic!("the cluster does not settle: {lines:#?}");
    }

    fn node(&self, name: &str) -> Result<NodeId, String> {
        self.state.node_named(name).ok_or_else(|| format!("no node {name}"))
    }

    fn name(&self, id: NodeId) -> String {
        self.state.node_name(id)
    }

    /// `db` is short for `db.service`.
    fn unit(name: &str) -> UnitName {
        if name.contains('.') { UnitName::from(name) } else { UnitName(format!("{name}.service")) }
    }

    fn incarnation(&self, name: &str) -> Incarnation {
        Incarnation(format!("{name}{}", self.boots.get(name).copied().unwrap_or(0)))
    }

    /// The permit of a unit on a node: the live one, or the latest that was ever granted.
    fn token(&self, unit: &UnitName, node: NodeId) -> Result<Token, String> {
        let known = self.state.units.get(unit).ok_or("no such unit")?;
        let live = known.permit_on(node).map(|(token, _)| token);
        live.or(known.last_token).ok_or_else(|| format!("{unit} has no permit"))
    }

    fn token_named(&self, name: &str) -> Result<Token, String> {
        let number: usize = name.trim_start_matches('t').parse().map_err(|_| format!("no token {name}"))?;
        let found = self.tokens.iter().find(|(_, named)| **named == number);
        found.map(|(token, _)| *token).ok_or_else(|| format!("no token {name}"))
    }

    /// The latest fence case of a node, with the number of its latest attempt.
    fn case(&self, node: NodeId) -> Result<(policy::CaseId, u32), String> {
        self.attempts.get(&node).copied().ok_or_else(|| "no fence case".into())
    }

    fn executor(&self, node: NodeId) -> Result<(NodeId, Incarnation), String> {
        let life = self.state.nodes.get(&node).and_then(|node| node.life.as_ref()).ok_or("never heard")?;
        Ok((node, life.incarnation.clone()))
    }

    fn is_running(&self, phase: &FencePhase) -> bool {
        matches!(phase, FencePhase::Running { .. })
    }

    fn offered(&self, node: &str, unit: &UnitName) -> Option<&Definition> {
        self.files.get(&(node.to_string(), unit.clone()))?.definition.as_ref()
    }
}
