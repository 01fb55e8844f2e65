//! What can happen next, one thing at a time.

use policy::{Command, Decision, Entry, FencePhase, Incarnation, Presence, StopReason, Wanted, Wish};

use super::letter::{Letter, Life, Outcome, node_id, unit_name};
use super::machine::Doing;
use super::memo;
use super::rules::{Rule, apply_without};
use super::view::View;
use super::world::{Fault, NAMES, NODES, NOW, UNITS, World};
use super::{Leader, Search};

/// One step of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A lease's length passes; whoever is in touch renews its own.
    Tick {
        slow: bool,
    },
    Hello(usize),
    LateHello(usize),
    /// The leader shows a node its permits.
    Tell(usize),
    DelayView(usize),
    LateView {
        view: View,
        again: bool,
    },
    Deliver {
        letter: Letter,
        again: bool,
    },
    LeaseEnds(usize),
    Stopped(usize, usize),
    Crashes(usize, usize),
    Restarts(usize, usize),
    Fails(usize, usize),
    Cut(usize),
    Heal(usize),
    PowerOff(usize),
    Boot(usize),
    Hang(usize),
    Wake(usize),
    /// The daemon of a machine that hangs is killed, which closes its watchdog.
    Close(usize),
    Drop(usize),
    Twin(usize, Twin),
    Elect {
        node: usize,
        jump: bool,
    },
    Lose(usize),
    LateLoss(usize),
    Observe(usize),
    Fence(usize, Outcome),
    Strike(usize),
    /// An agent opens the way of a node that was cut off.
    Open(usize, Outcome),
    OpenLate(usize),
    /// The planner's whole plan is committed.
    Lead,
    /// Any one decision that `apply` takes.
    Decide(Choice),
    SetGoal(usize, bool),
    Move(usize),
    StopByHand(usize, usize),
    Vouch(usize),
}

/// Who else shows a node's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twin {
    /// A clone with the machine id and all.
    Clone,
    /// Another machine that has the certificate.
    Stranger,
    /// A life that was replaced: a snapshot that was resumed.
    Ghost,
}

/// A decision that no planner needs to have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Grant { unit: usize, life: Life, adopt: bool },
    Revoke { unit: usize, token: u64 },
    Expire { unit: usize, token: u64 },
    Open { life: Life },
    Begin { case: u64, executor: Life },
    Abandon { case: u64 },
    Cancel { case: u64 },
    BeginOpening { node: usize, executor: Life },
    AbandonOpening { node: usize },
}

impl World {
    fn present(&self, node: usize) -> Option<(&policy::Life, Life)> {
        let life = self.state().nodes.get(&node_id(node))?.life.as_ref()?;
        let boots = life.incarnation.as_str().trim_start_matches(char::is_alphabetic).parse().ok()?;
        Some((life, Life { node, boots }))
    }

    /// The present life of a node, as the state has it.
    pub(crate) fn known_life(&self, node: usize) -> Option<Life> {
        Some(self.present(node)?.1)
    }

    /// Whether the leader answers the node's beats.
    pub(crate) fn serves(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let Some((life, known)) = self.present(node) else { return false };
        self.talks(node)
            && machine.connected
            && !self.dismissed[node]
            && known == machine.life()
            && life.session == machine.session
            && life.gone.is_none()
            && !matches!(life.presence, Presence::Lost { .. })
    }

    pub(crate) fn decision(&self, choice: Choice) -> Option<Decision> {
        let revision = |unit: usize| {
            let known = self.state().units.get(&unit_name(unit));
            known.and_then(|unit| unit.adopted.as_ref()).map(|adopted| adopted.revision)
        };
        let attempt = |case: u64| self.state().cases.get(&policy::CaseId(case)).map(|case| case.attempts);
        Some(match choice {
            Choice::Grant { unit, life, adopt } => Decision::Grant {
                unit: unit_name(unit),
                node: node_id(life.node),
                incarnation: life.incarnation(),
                revision: revision(unit)?,
                adopt,
                start: None,
            },
            Choice::Revoke { unit, token } => Decision::Revoke {
                unit: unit_name(unit),
                token: policy::Token(token),
                reason: StopReason::Moved,
            },
            Choice::Expire { unit, token } => {
                Decision::Expire { unit: unit_name(unit), token: policy::Token(token) }
            }
            Choice::Open { life } => Decision::OpenCase {
                node: node_id(life.node),
                incarnation: life.incarnation(),
                because: unit_name(0),
            },
            Choice::Begin { case, executor } => Decision::BeginAttempt {
                case: policy::CaseId(case),
                attempt: attempt(case)? + 1,
                level: 1,
                executor: node_id(executor.node),
                executor_incarnation: executor.incarnation(),
            },
            Choice::Abandon { case } => {
                Decision::AbandonAttempt { case: policy::CaseId(case), attempt: attempt(case)? }
            }
            Choice::Cancel { case } => Decision::CancelCase { case: policy::CaseId(case) },
            Choice::BeginOpening { node, executor } => Decision::BeginOpening {
                node: node_id(node),
                device: "pdu".into(),
                executor: node_id(executor.node),
                executor_incarnation: executor.incarnation(),
            },
            Choice::AbandonOpening { node } => Decision::AbandonOpening {
                node: node_id(node),
                device: "pdu".into(),
                since: self.owed(node)?.since,
            },
        })
    }

    /// What is owed to a node by the device.
    fn owed(&self, node: usize) -> Option<&policy::SwitchedOff> {
        self.state().switched_off.get(&("pdu".to_string(), node_id(node)))
    }

    /// Every decision that could be proposed at all, sensible or not; late ones for an ended life among them.
    fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (unit, name) in (0..UNITS.len()).map(|unit| (unit, unit_name(unit))) {
            for node in 0..NODES {
                let Some((life, known)) = self.present(node) else { continue };
                let adopt = life.strays.contains(&name);
                choices.push(Choice::Grant { unit, life: known, adopt });
                if known.boots > 1 {
                    let before = Life { node, boots: known.boots - 1 };
                    choices.push(Choice::Grant { unit, life: before, adopt: false });
                }
            }
            for token in self.state().units.get(&name).into_iter().flat_map(|unit| unit.permits.keys()) {
                choices.push(Choice::Revoke { unit, token: token.0 });
                choices.push(Choice::Expire { unit, token: token.0 });
            }
        }
        for node in 0..NODES {
            choices.extend(self.known_life(node).map(|life| Choice::Open { life }));
        }
        for (id, case) in &self.state().cases {
            if !case.is_open() {
                continue;
            }
            // Which of the others runs the agent makes no difference that is looked for here.
            let executor =
                (0..NODES).find(|node| node_id(*node) != case.node && self.machines[*node].heard());
            let executor = executor.and_then(|node| self.known_life(node));
            choices.extend(executor.map(|executor| Choice::Begin { case: id.0, executor }));
            choices.push(Choice::Abandon { case: id.0 });
            choices.push(Choice::Cancel { case: id.0 });
        }
        let ways = self.state().devices.values().any(|device| device.isolates.is_some());
        for node in (0..NODES).filter(|node| ways && self.owed(*node).is_some()) {
            let executor = (0..NODES).find(|other| *other != node && self.machines[*other].heard());
            let executor = executor.and_then(|node| self.known_life(node));
            choices.extend(executor.map(|executor| Choice::BeginOpening { node, executor }));
            choices.push(Choice::AbandonOpening { node });
        }
        choices
    }

    /// The decisions that `apply` takes.
    fn accepted(&self, broken: Option<Rule>, actions: &mut Vec<Action>) {
        let heard = self.machines.each_ref().map(super::machine::Machine::heard);
        let key = memo::key(&self.held, (broken.map(|rule| rule as u8), heard));
        let taken = memo::accepted(key, || self.taken(broken));
        actions.extend(taken.iter().map(|choice| Action::Decide(*choice)));
    }

    fn taken(&self, broken: Option<Rule>) -> Vec<Choice> {
        let mut choices = self.choices();
        let mut scratch = self.state().clone();
        choices.retain(|choice| {
            let Some(decision) = self.decision(*choice) else { return false };
            let index = self.state().index + 1;
            let command = Command::Decision(decision);
            let entry = Entry { index, time: NOW, wall_ms: 0, origin: None, command };
            let taken = apply_without(broken, &mut scratch, &entry).is_ok();
            if taken || broken.is_some() {
                scratch = self.state().clone();
            }
            taken
        });
        choices
    }

    pub(crate) fn actions(&self, search: &Search, actions: &mut Vec<Action>) {
        self.agents_act(actions);
        self.faults(actions);
        let commits =
            self.leads() || (search.broken == Some(Rule::Majority) && self.machines[self.leader].alive());
        if commits {
            for letter in &self.letters {
                actions.push(Action::Deliver { letter: *letter, again: false });
                if self.has(Fault::Again) {
                    actions.push(Action::Deliver { letter: *letter, again: true });
                }
            }
            self.leader_acts(actions);
            match search.scene.leader {
                Leader::Planner => actions.push(Action::Lead),
                Leader::Any => self.accepted(search.broken, actions),
            }
            if self.has(Fault::Wish) {
                self.operator_asks(actions);
            }
        }
        if !self.machines.iter().any(super::machine::Machine::is_overdue) {
            actions.push(Action::Tick { slow: false });
            if self.has(Fault::Slow) {
                actions.push(Action::Tick { slow: true });
            }
        }
    }

    fn agents_act(&self, actions: &mut Vec<Action>) {
        for (node, machine) in self.machines.iter().enumerate() {
            if machine.alive() && machine.lease == 0 && !machine.ended {
                actions.push(Action::LeaseEnds(node));
            }
            for (unit, copy) in machine.copies.iter().enumerate().filter(|_| machine.power) {
                match copy.doing {
                    Doing::Running if self.has(Fault::Crash) && machine.alive() && copy.token > 0 => {
                        actions.extend([Action::Crashes(node, unit), Action::Fails(node, unit)]);
                    }
                    Doing::Down if machine.alive() => actions.push(Action::Restarts(node, unit)),
                    Doing::Stopping { .. } if machine.alive() => actions.push(Action::Stopped(node, unit)),
                    _ => {}
                }
            }
            for view in self.views.iter().filter(|view| view.node == node && machine.heard()) {
                actions.push(Action::LateView { view: *view, again: false });
                if self.has(Fault::Again) {
                    actions.push(Action::LateView { view: *view, again: true });
                }
            }
            if !self.talks(node) {
                continue;
            }
            if machine.connected {
                actions.push(Action::Tell(node));
                if self.has(Fault::Late) {
                    actions.push(Action::DelayView(node));
                }
            } else if !machine.must_reboot {
                actions.push(Action::Hello(node));
                if self.has(Fault::Late) {
                    actions.push(Action::LateHello(node));
                }
            }
        }
    }

    fn faults(&self, actions: &mut Vec<Action>) {
        for (node, machine) in self.machines.iter().enumerate() {
            let may = |fault: Fault| self.has(fault);
            if machine.cut {
                actions.push(Action::Heal(node));
            } else if may(Fault::Cut) && machine.power {
                actions.push(Action::Cut(node));
            }
            if machine.power && may(Fault::Power) {
                actions.push(Action::PowerOff(node));
            }
            if (!machine.power || machine.must_reboot) && may(Fault::Boot) {
                actions.push(Action::Boot(node));
            }
            if machine.hung {
                actions.push(Action::Wake(node));
                if machine.watchdog > 0 && may(Fault::Close) {
                    actions.push(Action::Close(node));
                }
            } else if machine.power && may(Fault::Hang) {
                actions.push(Action::Hang(node));
            }
            if machine.alive() && machine.connected && may(Fault::Drop) {
                actions.push(Action::Drop(node));
            }
            // A clone of a machine that is lost cannot be told from its next life: that is an operator's to prevent.
            let heard = self.present(node).is_some_and(|(life, _)| life.presence == Presence::InSession);
            if may(Fault::Twin) && self.leads() {
                let ghost = self.known_life(node).is_some_and(|life| life.boots > 1);
                actions.extend(heard.then_some(Action::Twin(node, Twin::Clone)));
                actions.push(Action::Twin(node, Twin::Stranger));
                actions.extend(ghost.then_some(Action::Twin(node, Twin::Ghost)));
            }
            let reached = self.machines.iter().filter(|machine| machine.heard()).count() > NODES / 2;
            if may(Fault::Elect) && machine.heard() && reached && node != self.leader {
                actions.push(Action::Elect { node, jump: false });
                if may(Fault::Jump) {
                    actions.push(Action::Elect { node, jump: true });
                }
            }
            if self.strikes[node] {
                actions.push(Action::Strike(node));
            }
        }
        self.fence_agents(actions);
        self.opening_agents(actions);
    }

    fn opening_agents(&self, actions: &mut Vec<Action>) {
        for node in 0..NODES {
            if self.opens_late[node] > 0 {
                actions.push(Action::OpenLate(node));
            }
            let Some(debt) = self.owed(node).filter(|debt| debt.since != self.opened[node]) else { continue };
            let Some(opening) = &debt.opening else { continue };
            let able = self.machines.iter().any(|machine| {
                let own: Incarnation = machine.life().incarnation();
                node_id(machine.node) == opening.executor
                    && machine.heard()
                    && own == opening.executor_incarnation
            });
            // F24: as for a fence.
            if !able || !self.leads() {
                continue;
            }
            actions.push(Action::Open(node, Outcome::Off));
            if self.has(Fault::Fence) {
                actions.push(Action::Open(node, Outcome::TimedOut));
            }
        }
    }

    fn fence_agents(&self, actions: &mut Vec<Action>) {
        for (id, case) in &self.state().cases {
            let FencePhase::Running { executor, executor_incarnation, .. } = &case.phase else { continue };
            let able = self.machines.iter().any(|machine| {
                let own: Incarnation = machine.life().incarnation();
                node_id(machine.node) == *executor && machine.heard() && own == *executor_incarnation
            });
            // F24: just before the agent runs, the leader confirms that its attempt is under way.
            if !able || !self.leads() || self.done.contains(&(id.0, case.attempts)) {
                continue;
            }
            let target = case.node.0 as usize - 1;
            actions.push(Action::Fence(target, Outcome::Off));
            if self.has(Fault::Fence) {
                actions.push(Action::Fence(target, Outcome::Failed));
                actions.push(Action::Fence(target, Outcome::TimedOut));
            }
        }
    }

    fn leader_acts(&self, actions: &mut Vec<Action>) {
        for (node, machine) in self.machines.iter().enumerate() {
            let Some((life, known)) = self.present(node) else { continue };
            // The leader waits for longer than the lease: whoever obeys its lease has acted on its end.
            let obeyed = known != machine.life() || !machine.alive() || machine.ended;
            let silent = self.answered[node] > 0 && obeyed && !self.serves(node);
            if silent && !matches!(life.presence, Presence::Lost { .. }) && !self.dismissed[node] {
                actions.push(Action::Lose(node));
                if self.has(Fault::Late) {
                    actions.push(Action::LateLoss(node));
                }
            }
            let seen = self.state().observations.get(&("pdu".to_string(), node_id(node)));
            let other = (0..NODES).any(|other| other != node && self.serves(other));
            if life.presence == Presence::InSession && seen.is_none() && other {
                actions.push(Action::Observe(node));
            }
        }
    }

    fn operator_asks(&self, actions: &mut Vec<Action>) {
        for (unit, name) in (0..UNITS.len()).map(|unit| (unit, unit_name(unit))) {
            let Some(known) = self.state().units.get(&name) else { continue };
            let started = known.goal.wanted == Wanted::Started;
            actions.push(Action::SetGoal(unit, !started));
            if started && !known.permits.is_empty() {
                actions.push(Action::Move(unit));
            }
            for (node, machine) in self.machines.iter().enumerate() {
                let copy = machine.copies[unit];
                if machine.alive() && copy.doing == Doing::Running && copy.token > 0 {
                    actions.push(Action::StopByHand(node, unit));
                }
            }
        }
        for (node, machine) in self.machines.iter().enumerate() {
            // The operator looks first, and is right.
            let ended = self.known_life(node).is_some_and(|life| !machine.power || life != machine.life());
            if ended {
                actions.push(Action::Vouch(node));
            }
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |node: &usize| NAMES[*node];
        match self {
            Self::Tick { slow: false } => f.write_str("a lease's length passes"),
            Self::Tick { slow: true } => {
                f.write_str("a lease's length passes, and the leader's clock stands")
            }
            Self::Hello(node) => write!(f, "{} says hello", name(node)),
            Self::LateHello(node) => {
                write!(f, "{}'s hello is heard, and hangs on its way to the log", name(node))
            }
            Self::Tell(node) => write!(f, "{} is shown its permits", name(node)),
            Self::DelayView(node) => write!(f, "a view for {} hangs on its way", name(node)),
            Self::LateView { view, again } => {
                write!(f, "{} gets the view of index {}{}", name(&view.node), view.index, once_more(*again))
            }
            Self::Deliver { letter, again } => write!(f, "committed: {letter}{}", once_more(*again)),
            Self::LeaseEnds(node) => write!(f, "{}'s lease ends", name(node)),
            Self::Stopped(node, unit) => write!(f, "{} has stopped on {}", UNITS[*unit], name(node)),
            Self::Crashes(node, unit) => write!(f, "{} crashes on {}", UNITS[*unit], name(node)),
            Self::Restarts(node, unit) => write!(f, "PID 1 of {} starts {} again", name(node), UNITS[*unit]),
            Self::Fails(node, unit) => write!(f, "{} fails on {} for good", UNITS[*unit], name(node)),
            Self::Cut(node) => write!(f, "{} is cut off", name(node)),
            Self::Heal(node) => write!(f, "{} is reached again", name(node)),
            Self::PowerOff(node) => write!(f, "{} loses power", name(node)),
            Self::Boot(node) => write!(f, "{} boots", name(node)),
            Self::Hang(node) => write!(f, "{} hangs, its units run on", name(node)),
            Self::Wake(node) => write!(f, "{} goes on", name(node)),
            Self::Close(node) => write!(f, "the death of {}'s daemon feeds its watchdog", name(node)),
            Self::Drop(node) => write!(f, "{}'s session breaks", name(node)),
            Self::Twin(node, Twin::Clone) => write!(f, "a clone of {} says hello", name(node)),
            Self::Twin(node, Twin::Stranger) => {
                write!(f, "another machine says hello with {}'s certificate", name(node))
            }
            Self::Twin(node, Twin::Ghost) => write!(f, "an earlier life of {} says hello", name(node)),
            Self::Elect { node, jump: false } => write!(f, "{} leads", name(node)),
            Self::Elect { node, jump: true } => {
                write!(f, "{} leads, and its clock is an hour ahead", name(node))
            }
            Self::Lose(node) => write!(f, "committed: {} is lost", name(node)),
            Self::LateLoss(node) => {
                write!(f, "the leader calls {} lost, and that hangs on its way", name(node))
            }
            Self::Observe(node) => write!(f, "the device looks at {}", name(node)),
            Self::Fence(node, outcome) => {
                write!(f, "the fence agent against {} ends: {outcome:?}", name(node))
            }
            Self::Strike(node) => write!(f, "a late command of the device strikes {}", name(node)),
            Self::Open(node, Outcome::TimedOut) => {
                write!(f, "the agent that opens the way of {} hangs", name(node))
            }
            Self::Open(node, _) => write!(f, "an agent opens the way of {}", name(node)),
            Self::OpenLate(node) => write!(f, "a late command of the device opens the way of {}", name(node)),
            Self::Lead => f.write_str("committed: the whole plan"),
            Self::Decide(choice) => match choice {
                Choice::Grant { unit, life, adopt } => {
                    let how = if *adopt { "adopted on" } else { "granted to" };
                    write!(f, "committed: {} {how} {life}", UNITS[*unit])
                }
                Choice::Revoke { unit, token } => write!(f, "committed: {} {token} revoked", UNITS[*unit]),
                Choice::Expire { unit, token } => write!(f, "committed: {} {token} expired", UNITS[*unit]),
                Choice::Open { life } => write!(f, "committed: {life} is to be fenced"),
                Choice::Begin { executor, .. } => write!(f, "committed: {executor} begins a fence attempt"),
                Choice::Abandon { .. } => f.write_str("committed: the fence attempt is given up"),
                Choice::Cancel { .. } => f.write_str("committed: the fence is cancelled"),
                Choice::BeginOpening { node, executor } => {
                    write!(f, "committed: {executor} begins to open the way of {}", name(node))
                }
                Choice::AbandonOpening { .. } => f.write_str("committed: the opening is given up"),
            },
            Self::SetGoal(unit, true) => write!(f, "an operator starts {}", UNITS[*unit]),
            Self::SetGoal(unit, false) => write!(f, "an operator stops {}", UNITS[*unit]),
            Self::Move(unit) => write!(f, "an operator moves {}", UNITS[*unit]),
            Self::StopByHand(node, unit) => {
                write!(f, "{} is stopped by hand on {}", UNITS[*unit], name(node))
            }
            Self::Vouch(node) => {
                write!(f, "an operator vouches for {}, and that hangs on its way", name(node))
            }
        }
    }
}

fn once_more(again: bool) -> &'static str {
    if again { ", and will again" } else { "" }
}

impl Action {
    /// The wish of an operator, as it is committed.
    pub(crate) fn wish(self) -> Option<Wish> {
        match self {
            Self::SetGoal(unit, started) => Some(Wish::SetGoal {
                unit: unit_name(unit),
                wanted: if started { Wanted::Started } else { Wanted::Stopped },
                node: None,
                seen: None,
                by: "o".into(),
            }),
            Self::Move(unit) => {
                Some(Wish::Move { unit: unit_name(unit), from: None, to: None, by: "o".into() })
            }
            _ => None,
        }
    }
}
