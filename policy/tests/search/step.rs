//! What each action does.

use policy::{Command, Entry, Fact, Refusal, State, plan};

use super::Search;
use super::action::{Action, Twin};
use super::check::{self, Breach};
use super::letter::{Letter, Why, node_id};
use super::machine::Doing;
use super::memo;
use super::rules::{Rule, apply_without};
use super::tidy::{age, clean};
use super::world::{Fault, Held, NAMES, NOW, World};

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
            Action::Tick { slow } => self.pass_time(slow, None),
            Action::TickWithout(node) => self.pass_time(false, Some(node)),
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
            Action::Restart(node) => {
                self.spend(Fault::Restart);
                self.machines[node].restart_daemon(search.broken);
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

    pub(super) fn term(&self) -> u64 {
        self.state().tenure.map_or(0, |tenure| tenure.term)
    }

    fn pass_time(&mut self, slow: bool, still: Option<usize>) {
        if still.is_some() {
            self.spend(Fault::Still);
        }
        for node in 0..self.machines.len() {
            if still == Some(node) {
                self.machines[node].behind = true;
                self.answered[node] = 1;
            } else if self.serves(node) {
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
}
