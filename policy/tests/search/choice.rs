//! Decisions that no planner needs to have made, and which of them `apply` takes.

use policy::{Command, Decision, Entry, StopReason};

use super::action::Action;
use super::letter::{Life, node_id, unit_name};
use super::memo;
use super::rules::{Rule, apply_without};
use super::world::{NODES, NOW, UNITS, World};

/// A decision that no planner needs to have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Grant { unit: usize, life: Life, adopt: bool },
    Revoke { unit: usize, token: u64 },
    Expire { unit: usize, token: u64 },
    Reterm { unit: usize, token: u64 },
    Open { life: Life },
    Begin { case: u64, executor: Life },
    Abandon { case: u64 },
    Cancel { case: u64 },
    BeginOpening { node: usize, executor: Life },
    AbandonOpening { node: usize },
}

impl World {
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
            Choice::Reterm { unit, token } => Decision::Reterm {
                unit: unit_name(unit),
                token: policy::Token(token),
                revision: revision(unit)?,
            },
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
            let Some(known) = self.state().units.get(&name) else { continue };
            let revision = known.adopted.as_ref().map_or(0, |adopted| adopted.revision);
            for (token, permit) in &known.permits {
                choices.push(Choice::Revoke { unit, token: token.0 });
                choices.push(Choice::Expire { unit, token: token.0 });
                let offered = permit.next_terms.as_ref().unwrap_or(&permit.terms);
                if offered.revision != revision {
                    choices.push(Choice::Reterm { unit, token: token.0 });
                }
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
    pub(super) fn accepted(&self, broken: Option<Rule>, actions: &mut Vec<Action>) {
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
}
