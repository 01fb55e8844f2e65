//! What each action does.

use policy::{Command, Definition, Entry, Fact, Fencing, Power, Refusal, State, Wish, plan};

use super::action::{Action, Twin};
use super::check::{self, Breach};
use super::letter::{Letter, Outcome, Why, node_id, unit_name};
use super::machine::Doing;
use super::memo;
use super::rules::{Rule, apply_without};
use super::tidy::{age, clean};
use super::world::{APP, DB, Fault, Held, NAMES, NOW, UNITS, World};
use super::{Scene, Search};

/// Length of a lease in milliseconds, and of a tick.
pub(crate) const TICK_MS: u64 = 850;
/// The longest stop in milliseconds.
pub(super) const STOP_MS: u64 = super::machine::STOP_TICKS as u64 * TICK_MS;
/// Rounds in which a plan has to settle.
const ROUNDS: usize = 6;

impl World {
    /// Applies one command, and judges it.
    pub(crate) fn commit(&mut self, broken: Option<Rule>, command: Command) -> Result<(), Refusal> {
        let bytes = rmp_serde::to_vec(&command).expect("a command as MessagePack");
        let key = memo::key(&self.held, (broken.map(|rule| rule as u8), bytes));
        let entry = Entry { index: self.state().index + 1, time: NOW, wall_ms: 0, origin: None, command };
        let (held, outcome) = memo::applied(key, || {
            let mut state = self.state().clone();
            let outcome = apply_without(broken, &mut state, &entry);
            if outcome.is_err() {
                state.index = self.state().index;
            }
            clean(&mut state);
            (Held::new(state), outcome)
        });
        match &outcome {
            Ok(()) => self.breach = self.breach.or_else(|| check::judge(self, self.state(), &entry)),
            Err(refusal) => self.said.0 = Some(refusal.clone()),
        }
        self.held = held;
        outcome
    }

    /// Changes the state without an entry.
    fn change(&mut self, what: impl std::hash::Hash, change: impl FnOnce(&mut State)) {
        let key = memo::key(&self.held, ("change", what));
        let changed = memo::applied(key, || {
            let mut state = self.state().clone();
            change(&mut state);
            (Held::new(state), Ok(()))
        });
        self.held = changed.0;
    }

    pub(crate) fn carry_out(&mut self, search: &Search, action: Action) {
        self.said.0 = None;
        let broken = search.broken;
        match action {
            Action::Tick { slow } => self.pass_time(slow),
            Action::Hello(node) => self.hello(search, node),
            Action::LateHello(node) => {
                self.spend(Fault::Late);
                self.session += 1;
                let letter = Letter::Heard {
                    life: self.machines[node].life(),
                    session: self.session,
                    term: self.term(),
                };
                self.post(letter);
            }
            Action::Tell(node) => {
                let view = self.view(node);
                self.show(view, broken);
            }
            Action::DelayView(node) => {
                self.spend(Fault::Late);
                let view = self.view(node);
                self.views.push(view);
            }
            Action::LateView { view, again } => {
                if again {
                    self.spend(Fault::Again);
                } else {
                    self.views.retain(|other| *other != view);
                }
                self.show(view, broken);
            }
            Action::Deliver { letter, again } => {
                if again {
                    self.spend(Fault::Again);
                } else {
                    self.letters.retain(|other| *other != letter);
                }
                self.deliver(search, letter);
            }
            Action::LeaseEnds(node) => self.machines[node].end_lease(),
            Action::Stopped(node, unit) => {
                let machine = &mut self.machines[node];
                let stray = machine.copies[unit].token == 0;
                machine.stopped(unit);
                if stray && machine.connected {
                    let (life, session, index) = (machine.life(), machine.session, machine.surveyed);
                    let running = machine.copies.map(|copy| copy.doing != Doing::Nothing);
                    self.post(Letter::Surveyed { life, session, index, running });
                }
                self.say_owed(node);
            }
            Action::Crashes(node, unit) => {
                self.spend(Fault::Crash);
                let machine = &mut self.machines[node];
                machine.copies[unit].doing = Doing::Down;
                let (life, token) = (machine.life(), machine.copies[unit].token);
                if broken == Some(Rule::FileFirst) {
                    self.post(Letter::Released { life, unit, token, why: Why::Failed });
                }
            }
            Action::Restarts(node, unit) => self.machines[node].restart(unit),
            Action::Fails(node, unit) => {
                self.spend(Fault::Crash);
                self.machines[node].fail(unit);
                self.say_owed(node);
            }
            Action::Elect { node, jump } => self.elect(broken, node, jump),
            Action::Lose(node) => {
                if let Some(letter) = self.loss(node) {
                    self.deliver(search, letter);
                }
            }
            Action::LateLoss(node) => {
                self.spend(Fault::Late);
                self.dismissed[node] = true;
                self.loss(node).into_iter().for_each(|letter| self.post(letter));
            }
            Action::Observe(node) => self.observe(search, node),
            Action::Fence(node, outcome) => self.fence(search.scene, node, outcome),
            Action::Open(node, outcome) => self.open(node, outcome),
            Action::OpenLate(node) => {
                self.opens_late[node] = 0;
                self.machines[node].shut = false;
            }
            Action::Lead => self.lead(broken),
            Action::Decide(choice) => {
                if let Some(decision) = self.decision(choice) {
                    let _ = self.commit(broken, Command::Decision(decision));
                }
            }
            Action::SetGoal(..) | Action::Move(_) => {
                self.spend(Fault::Wish);
                let wish = action.wish().map(Command::Wish);
                wish.into_iter().for_each(|wish| drop(self.commit(broken, wish)));
            }
            Action::StopByHand(node, unit) => {
                self.spend(Fault::Wish);
                self.machines[node].stop(unit, Some(Why::ByHand), None);
            }
            Action::Vouch(node) => {
                self.spend(Fault::Wish);
                let word = self.known_life(node).map(|life| Letter::Vouched { life });
                word.into_iter().for_each(|word| self.post(word));
            }
            _ => self.fault(search, action),
        }
        self.tidy();
    }

    fn fault(&mut self, search: &Search, action: Action) {
        match action {
            Action::Cut(node) => {
                self.spend(Fault::Cut);
                self.machines[node].cut = true;
            }
            Action::Heal(node) => self.machines[node].cut = false,
            Action::PowerOff(node) => {
                self.spend(Fault::Power);
                self.machines[node].power_off();
            }
            Action::Boot(node) => {
                self.spend(Fault::Boot);
                self.machines[node].boot();
            }
            Action::Hang(node) => {
                self.spend(Fault::Hang);
                self.machines[node].hung = true;
            }
            Action::Wake(node) => self.machines[node].hung = false,
            Action::Close(node) => {
                self.spend(Fault::Close);
                self.machines[node].watchdog = super::machine::WATCHDOG_TICKS;
            }
            Action::Drop(node) => {
                self.spend(Fault::Drop);
                self.machines[node].connected = false;
            }
            Action::Strike(node) => {
                self.strikes[node] = false;
                self.end_by_device(search.scene, node);
            }
            Action::Twin(node, who) => {
                self.spend(Fault::Twin);
                self.session += 1;
                let life = if who == Twin::Ghost { 1 } else { 99 };
                let machine = if who == Twin::Stranger { "x" } else { NAMES[node] };
                let fact = Fact::NodeHeard {
                    node: node_id(node),
                    incarnation: policy::Incarnation(format!("{}{life}", NAMES[node])),
                    session: self.session,
                    machine: format!("machine-{machine}"),
                    addresses: Vec::new(),
                    level: policy::FEATURE_LEVEL,
                    term: self.term(),
                };
                let _ = self.commit(search.broken, Command::Fact(fact));
            }
            _ => {}
        }
    }

    fn term(&self) -> u64 {
        self.state().tenure.map_or(0, |tenure| tenure.term)
    }

    fn pass_time(&mut self, slow: bool) {
        for node in 0..self.machines.len() {
            if self.serves(node) {
                self.machines[node].tick();
                self.machines[node].renew();
                self.answered[node] = 0;
            } else {
                self.machines[node].tick();
                self.answered[node] = 1;
            }
        }
        for left in &mut self.opens_late {
            *left = left.saturating_sub(1);
        }
        if slow {
            self.spend(Fault::Slow);
        } else {
            self.change("tick", |state| age(state, TICK_MS));
        }
    }

    /// A nonce of this leader was echoed in its term (F3).
    fn hello(&mut self, search: &Search, node: usize) {
        let broken = search.broken;
        let life = self.machines[node].life();
        let known = self.state().nodes.get(&node_id(node)).and_then(|node| node.life.as_ref());
        let gone = known.is_some_and(|known| known.gone.is_some() && known.incarnation == life.incarnation());
        if gone {
            let fact = Fact::ProofContradicted {
                node: node_id(node),
                incarnation: life.incarnation(),
                term: self.term(),
            };
            let _ = self.commit(broken, Command::Fact(fact));
        }
        self.session += 1;
        let session = self.session;
        let letter = Letter::Heard { life, session, term: self.term() };
        let Some(command) = letter.command() else { return };
        match self.commit(broken, command) {
            Ok(()) => {
                let inventory = self.machines[node].begin_session(session);
                if search.scene.fencing == Fencing::Watchdog {
                    let armed = self.machines[node].arm();
                    self.post(armed);
                }
                self.answered[node] = 0;
                self.dismissed[node] = false;
                self.post(inventory);
            }
            Err(Refusal::Fenced | Refusal::Isolated) => self.machines[node].must_reboot = true,
            Err(_) => {}
        }
    }

    fn show(&mut self, view: super::view::View, broken: Option<Rule>) {
        let before = self.machines[view.node].clone();
        let said = self.machines[view.node].take_view(&view, broken);
        let after = &self.machines[view.node];
        let begun = |unit: usize| {
            after.copies[unit].doing != before.copies[unit].doing
                && after.copies[unit].doing == Doing::Running
        };
        if before.ended && (0..UNITS.len()).any(begun) {
            self.breach = self.breach.or(Some(Breach::Leaseless));
        }
        said.into_iter().for_each(|letter| self.post(letter));
    }

    fn say_owed(&mut self, node: usize) {
        let owed = self.machines[node].owes();
        owed.into_iter().for_each(|letter| self.post(letter));
    }

    fn deliver(&mut self, search: &Search, letter: Letter) {
        let broken = search.broken;
        let current = |life: super::letter::Life, session: u64| {
            let known = self.state().nodes.get(&node_id(life.node)).and_then(|node| node.life.as_ref());
            known.is_some_and(|known| known.session == session)
        };
        match letter {
            // What runs on a node is told in the order of its session.
            Letter::Inventory { life, session, running } if current(life, session) => {
                let known = |unit: &usize| {
                    let copy = self.machines[life.node].copies[*unit];
                    copy.offered || copy.gated
                };
                let units = (0..UNITS.len()).filter(known);
                let items =
                    units.map(|unit| self.item(search.scene, life.node, unit, running[unit])).collect();
                let fact = Fact::InventoryReported {
                    node: node_id(life.node),
                    incarnation: life.incarnation(),
                    items,
                    highest_token: policy::Token(0),
                };
                let _ = self.commit(broken, Command::Fact(fact));
            }
            Letter::Surveyed { life, session, index, running } if current(life, session) => {
                let node = node_id(life.node);
                let known = self.state().nodes.get(&node).and_then(|node| node.life.as_ref());
                let strays = known.map(|life| life.strays.clone()).unwrap_or_default();
                for unit in
                    (0..UNITS.len()).filter(|unit| running[*unit] || strays.contains(&unit_name(*unit)))
                {
                    let item = self.item(search.scene, life.node, unit, running[unit]);
                    let fact = Fact::UnitObserved { node, incarnation: life.incarnation(), item };
                    let _ = self.commit(broken, Command::Fact(fact));
                }
                let fact = Fact::Surveyed { node, incarnation: life.incarnation(), index };
                let _ = self.commit(broken, Command::Fact(fact));
            }
            Letter::Inventory { .. } | Letter::Surveyed { .. } => {}
            other => {
                let command = other.command();
                command.into_iter().for_each(|command| drop(self.commit(broken, command)));
            }
        }
    }

    /// Another node leads. It knows of sessions what was committed, and waits a full lease from here (F5).
    fn elect(&mut self, broken: Option<Rule>, node: usize, jump: bool) {
        self.spend(Fault::Elect);
        if jump {
            self.spend(Fault::Jump);
            self.change("jump", |state| age(state, 3_600_000));
        }
        self.leader = node;
        let fact = Fact::TermBegan { term: self.term() + 1, leader: node_id(node) };
        let _ = self.commit(broken, Command::Fact(fact));
        let lives = self.state().nodes.values().filter_map(|node| node.life.as_ref());
        self.session = lives.map(|life| life.session).max().unwrap_or(0);
        for machine in &mut self.machines {
            machine.connected = false;
        }
        self.answered = [0; 3];
        self.dismissed = [false; 3];
    }

    fn loss(&self, node: usize) -> Option<Letter> {
        let life = self.known_life(node)?;
        let session = self.state().nodes.get(&node_id(node))?.life.as_ref()?.session;
        Some(Letter::Lost { life, session, term: self.term() })
    }

    fn observe(&mut self, search: &Search, node: usize) {
        let Some(life) = self.known_life(node) else { return };
        let machine = &self.machines[node];
        let shown = if search.scene.isolates { !machine.shut } else { machine.power };
        let on = shown && search.scene.wrong_plug != Some(node);
        let fact = Fact::PowerObserved {
            configured: self.state().configured,
            node: node_id(node),
            incarnation: life.incarnation(),
            device: "pdu".into(),
            power: if on { Power::On } else { Power::Off },
            by: None,
        };
        let _ = self.commit(search.broken, Command::Fact(fact));
    }

    fn fence(&mut self, scene: &Scene, node: usize, outcome: Outcome) {
        let Some((id, case)) = self.state().open_case(node_id(node)) else { return };
        let (case, attempt) = (id.0, case.attempts);
        self.done.retain(|(known, _)| self.held.state.cases.contains_key(&policy::CaseId(*known)));
        self.done.push((case, attempt));
        match outcome {
            Outcome::Off if scene.wrong_plug == Some(node) => {}
            Outcome::Off => self.end_by_device(scene, node),
            Outcome::Failed => self.spend(Fault::Fence),
            Outcome::TimedOut => {
                self.spend(Fault::Fence);
                self.strikes[node] = true;
            }
        }
        self.post(Letter::Fenced { case, attempt, outcome });
    }

    fn end_by_device(&mut self, scene: &Scene, node: usize) {
        if scene.isolates {
            self.machines[node].shut = true;
        } else {
            self.machines[node].power_off();
        }
    }

    fn open(&mut self, node: usize, outcome: Outcome) {
        let debt = self.state().switched_off.get(&("pdu".to_string(), node_id(node)));
        let Some(since) = debt.map(|debt| debt.since) else { return };
        self.opened[node] = since;
        let on = outcome == Outcome::Off;
        if on {
            self.machines[node].shut = false;
        } else {
            self.spend(Fault::Fence);
            self.opens_late[node] = super::letter::QUARANTINE_TICKS;
        }
        self.post(Letter::Opened { node, since, on });
    }

    /// What the planner proposes is committed until nothing more is to do.
    fn lead(&mut self, broken: Option<Rule>) {
        for round in 0..=ROUNDS {
            let decisions = plan(self.state(), NOW).decisions;
            if decisions.is_empty() {
                break;
            }
            for decision in decisions {
                let refused = self.commit(broken, Command::Decision(decision)).is_err();
                if broken.is_none() && (refused || round == ROUNDS) {
                    self.breach = self.breach.or(Some(Breach::Plan));
                }
            }
        }
    }

    /// The definitions that the planner finds are put in force.
    pub(crate) fn adopt(&mut self) {
        for decision in plan(self.state(), NOW).decisions {
            if matches!(decision, policy::Decision::AdoptDefinition { .. }) {
                self.commit(None, Command::Decision(decision)).expect("a definition");
            }
        }
    }

    /// Found and enrolled, with devices, before anybody was heard.
    pub(crate) fn founded(isolates: bool) -> policy::State {
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
            isolates: isolates.then_some(policy::Reconnect::AfterCut),
        };
        wish(configure([("pdu".to_string(), device)].into()), 4, &mut state);
        let began = Fact::TermBegan { term: 1, leader: node_id(1) };
        let entry = Entry { index: 5, time: NOW, wall_ms: 0, origin: None, command: Command::Fact(began) };
        policy::apply(&mut state, &entry).expect("a leader");
        state
    }
}

pub(super) fn definition(fencing: Fencing, unit: usize) -> Definition {
    let mut definition = Definition { fencing, failure_reset_ms: 1_000, ..Definition::exclusive() };
    if unit == APP {
        definition.requires.insert(unit_name(DB));
    }
    definition
}
