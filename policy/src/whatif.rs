//! What would happen: `plan` and `apply` on a copy of the state, with the world played as it should be.
//!
//! Pure: a state, a time and suppositions in; the steps, the state and the plan that they lead to out. It decides nothing
//! by itself: every decision is [`plan`]'s, every change [`apply`]'s, but for files that are supposed to say something else.
//! What it adds are the facts that nodes and devices would report if all goes well: each start and stop succeeds at once,
//! each fence works, nobody is lost but those that are supposed to be, and nobody returns. What nobody can know (how a
//! node's data stands, what runs on a node that has not said so) is not supposed, so a forecast may end with units that
//! wait for it. Clause P60 of `docs/policy.md`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::apply::apply;
use crate::command::{Cause, Command, Entry, Fact, FenceOutcome, InventoryItem, Wish};
use crate::definition::Definition;
use crate::event::Event;
use crate::fence::{Phase as FencePhase, Power};
use crate::name::{Millis, NodeId, UnitName};
use crate::node::{Node, Offer, Presence};
use crate::permit::Phase;
use crate::plan::{Order, Plan, plan};
use crate::refusal::Refusal;
use crate::state::State;

/// How far ahead is looked: beyond what a failure is held against a node by default, and within what a person plans.
const HORIZON_MS: Millis = 3_600_000;
/// Plans that are made at the most. Each step of a chain of starts takes one; a plan of a big cluster takes a tenth of a
/// second, and somebody waits for the answer.
const ROUNDS: usize = 200;

/// What is supposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "made, sent and taken one at a time: nothing holds many")]
pub enum Suppose {
    /// A node falls silent, and stays so.
    Lost(NodeId),
    /// An operator asks for something.
    Asked(Wish),
    /// The files of a unit say this on every node that offers it.
    Offered {
        /// Which unit.
        unit: UnitName,
        /// What its files say.
        definition: Definition,
        /// Who offers it where nobody does.
        first: First,
    },
}

/// The one node that offers what nobody else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct First {
    /// Which.
    pub node: NodeId,
    /// Whether the unit is enabled at boot there.
    pub enabled: bool,
    /// Whether it runs there.
    pub running: bool,
}

/// How a forecast ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing moves any more, nor does time alone change that within the hour.
    AtRest,
    /// Fewer than a majority of the voters are left: nothing is decided (S3).
    NoQuorum,
    /// It goes on for longer than was looked, or than there was time for.
    Unfinished,
}

/// What would happen.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// What would be recorded, in this order. Times are those of the cluster's own waits.
    pub steps: Vec<Event>,
    /// The state that it leads to.
    pub state: State,
    /// The plan of that state: what waits then, and why.
    pub plan: Plan,
    /// Cluster time of that state.
    pub now: Millis,
    /// How it ends.
    pub end: End,
}

/// Plays what follows from some suppositions at a cluster time. Before each plan `may_go_on` is asked: whoever waits for the
/// answer may have no time for more.
///
/// # Errors
/// The [`Refusal`] of a wish that would be refused now, or of what a node that is not heard would have to say.
pub fn forecast(
    state: State,
    now: Millis,
    supposed: &[Suppose],
    may_go_on: impl FnMut() -> bool,
) -> Result<Forecast, Refusal> {
    let mut play = Play { state, now: now.max(1), steps: Vec::new() };
    play.state.time = play.state.time.max(now);
    let lost: BTreeSet<NodeId> = supposed
        .iter()
        .filter_map(|one| match one {
            Suppose::Lost(node) => Some(*node),
            Suppose::Asked(_) | Suppose::Offered { .. } => None,
        })
        .collect();
    play.lose(&lost)?;
    for one in supposed {
        match one {
            Suppose::Lost(_) => {}
            Suppose::Asked(wish) => play.take(Command::Wish(wish.clone()))?,
            Suppose::Offered { unit, definition, first } => play.offer(unit, definition, *first)?,
        }
    }
    let end = if lost.is_empty() || has_quorum(&play.state) {
        play.settle(may_go_on)
    } else {
        // Nobody could record any of it.
        play.steps.clear();
        End::NoQuorum
    };
    let plan = plan(&play.state, play.now);
    let Play { state, now, steps } = play;
    Ok(Forecast { steps, state, plan, now, end })
}

/// Whether a majority of the voters is in session. One that never came does not vote yet.
fn has_quorum(state: &State) -> bool {
    let voters = state.nodes.values().filter(|node| node.role.votes() && node.life.is_some());
    let (heard, silent): (Vec<&Node>, Vec<&Node>) = voters.partition(|node| node.in_session().is_some());
    heard.len() > silent.len()
}

/// A copy of the cluster that is played on.
struct Play {
    state: State,
    now: Millis,
    steps: Vec<Event>,
}

impl Play {
    fn take(&mut self, command: Command) -> Result<(), Refusal> {
        let index = self.state.index.saturating_add(1);
        let entry = Entry { index, time: self.now, wall_ms: 0, origin: None, command };
        self.steps.extend(apply(&mut self.state, &entry)?);
        Ok(())
    }

    /// Whoever led is followed by the oldest voter that is left.
    fn lose(&mut self, lost: &BTreeSet<NodeId>) -> Result<(), Refusal> {
        if let Some(unknown) = lost.iter().find(|id| !self.state.nodes.contains_key(id)) {
            return Err(Refusal::UnknownNode(*unknown));
        }
        let mut term = self.state.tenure.map_or(0, |tenure| tenure.term);
        if !lost.is_empty() && self.state.tenure.is_none_or(|tenure| lost.contains(&tenure.leader)) {
            let able = |(id, node): &(&NodeId, &Node)| {
                node.role.votes() && node.in_session().is_some() && !lost.contains(id)
            };
            if let Some(leader) = self.state.nodes.iter().find(able).map(|(id, _)| *id) {
                term = term.saturating_add(1);
                self.take(Command::Fact(Fact::TermBegan { term, leader }))?;
            }
        }
        for id in lost {
            if let Some(lost) = self.loss_of(*id) {
                self.take(Command::Fact(lost))?;
            }
        }
        // Who is left says at once what it said before.
        self.state.nodes.values_mut().filter_map(|node| node.life.as_mut()).for_each(|life| life.told = true);
        Ok(())
    }

    /// The word that a node is lost, if it is not yet.
    fn loss_of(&self, node: NodeId) -> Option<Fact> {
        let life = self.state.nodes.get(&node)?.life.as_ref()?;
        let term = self.state.tenure.map_or(0, |tenure| tenure.term);
        let (incarnation, session) = (life.incarnation.clone(), life.session);
        // Who is lost already is not lost again.
        let lives = !matches!(life.presence, Presence::Lost { .. });
        lives.then_some(Fact::NodeLost { node, incarnation, session, term })
    }

    /// The files of a unit say something else, on all nodes that offer it. Those of a lost node are changed where they lie,
    /// which nobody could report; so this is no fact.
    fn offer(&mut self, unit: &UnitName, definition: &Definition, first: First) -> Result<(), Refusal> {
        let mut offered = false;
        let offers = self.state.nodes.values_mut().filter_map(|node| node.offers.get_mut(unit));
        for offer in offers.filter(|offer| offer.present) {
            // Where there was no definition, the fault was an error of the section; any other, as a mask, stays.
            let fault = offer.fault.take();
            offer.fault = fault.filter(|_| offer.definition.is_some());
            offer.definition = Some(definition.clone());
            offered = true;
        }
        if offered { Ok(()) } else { self.offer_first(unit, definition, first) }
    }

    /// A unit that nobody offers is found in the files of one node.
    fn offer_first(&mut self, unit: &UnitName, definition: &Definition, first: First) -> Result<(), Refusal> {
        let First { node: id, enabled, running } = first;
        let node = self.state.nodes.get(&id).ok_or(Refusal::UnknownNode(id))?;
        let life = node.in_session().ok_or(Refusal::NotInSession(id))?;
        let permit = self.state.units.get(unit).and_then(|known| known.permit_on(id));
        let known = life.strays.contains(unit) || permit.is_some_and(|(_, permit)| !permit.idle);
        let offer = Offer {
            definition: Some(definition.clone()),
            fault: None,
            // It is, once the files are read.
            gated: true,
            enabled,
            // Each stop succeeds at once.
            stop_budget_ms: 0,
            present: true,
        };
        let item = InventoryItem { unit: unit.clone(), offer: Some(offer), running: running || known };
        let incarnation = life.incarnation.clone();
        self.take(Command::Fact(Fact::UnitObserved { node: id, incarnation, item }))
    }

    /// Plans, carries out, and lets time pass, until nothing follows.
    fn settle(&mut self, mut may_go_on: impl FnMut() -> bool) -> End {
        let until = self.now.saturating_add(HORIZON_MS);
        // Looks at devices that work are taken again and again: they are of no interest here.
        for seen in self.state.observations.values_mut() {
            seen.at = until;
        }
        for _ in (0..ROUNDS).take_while(|_| may_go_on()) {
            let planned = plan(&self.state, self.now);
            let wake_at = planned.wake_at;
            let facts = self.reports(&planned);
            let mut moved = false;
            for decision in planned.decisions {
                // A refusal is the state machine's right; what it holds up is shown by the last plan.
                moved |= self.take(Command::Decision(decision)).is_ok();
            }
            for fact in facts {
                moved |= self.take(Command::Fact(fact)).is_ok();
            }
            if moved {
                continue;
            }
            match wake_at {
                Some(at) if at <= until => self.now = at,
                _ => return End::AtRest,
            }
        }
        End::Unfinished
    }

    /// What nodes and devices would report, as all is well with them.
    fn reports(&self, planned: &Plan) -> Vec<Fact> {
        let mut facts = Vec::new();
        self.report_copies(&mut facts);
        self.report_nodes(planned, &mut facts);
        for (id, case) in self.state.cases.iter() {
            if !matches!(case.phase, FencePhase::Running { .. }) {
                continue;
            }
            // Who was switched off while it was heard falls silent.
            if case.off_at.is_some() {
                facts.extend(self.loss_of(case.node));
            } else {
                let (case, attempt) = (*id, case.attempts);
                facts.push(Fact::FenceReported { case, attempt, outcome: FenceOutcome::Off });
            }
        }
        facts
    }

    /// What was granted starts and gets ready, what was revoked is released. A stop that hangs goes on hanging.
    fn report_copies(&self, facts: &mut Vec<Fact>) {
        for (name, unit) in &self.state.units {
            for (token, permit) in &unit.permits {
                let (node, incarnation) = (permit.node, permit.incarnation.clone());
                let life = self.state.nodes.get(&node).and_then(|node| node.life.as_ref());
                let heard = life.is_some_and(|life| {
                    life.incarnation == incarnation
                        && life.gone.is_none()
                        && !matches!(life.presence, Presence::Lost { .. })
                });
                if !heard {
                    continue;
                }
                let (unit, token) = (name.clone(), *token);
                if let Some(terms) = &permit.next_terms {
                    let (unit, revision) = (unit.clone(), terms.revision);
                    facts.push(Fact::TermsAcknowledged { node, unit, token, revision });
                }
                match permit.phase {
                    Phase::Granted => facts.push(Fact::Started { node, incarnation, unit, token }),
                    Phase::Revoking(_) if permit.stuck.is_none() => {
                        let because = Cause::Ordered;
                        facts.push(Fact::Released { node, incarnation, unit, token, because });
                    }
                    // What a person stopped in maintenance is told down at the end of it.
                    Phase::Active if permit.idle && self.state.copy_maintenance(name, node).is_none() => {
                        let because = Cause::DownInMaintenance;
                        facts.push(Fact::Released { node, incarnation, unit, token, because });
                    }
                    Phase::Active if self.state.duty(name, node).is_some_and(|duty| duty.ready.is_some()) => {
                        let (seen, lacks, identity) = (self.state.index, None, None);
                        facts.push(Fact::ReadyReported {
                            node,
                            incarnation,
                            unit,
                            token,
                            seen,
                            lacks,
                            identity,
                        });
                    }
                    Phase::Revoking(_) | Phase::Active => {}
                }
            }
        }
    }

    /// Nodes look for new units, stop what they are told to, and devices show who lives.
    fn report_nodes(&self, planned: &Plan, facts: &mut Vec<Fact>) {
        let index = self.state.units.values().map(|unit| unit.since).max().unwrap_or(0);
        let lives: BTreeMap<NodeId, (&Node, _)> = self
            .state
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, (node, node.in_session()?))))
            .collect();
        for (id, (node, life)) in &lives {
            if life.inventory && node.surveyed < index {
                facts.push(Fact::Surveyed { node: *id, incarnation: life.incarnation.clone(), index });
            }
        }
        for Order::StopStray { node: id, unit } in &planned.orders {
            let Some((node, life)) = lives.get(id) else { continue };
            let offer = node.offers.get(unit).filter(|offer| offer.present).cloned();
            let item = InventoryItem { unit: unit.clone(), offer, running: false };
            facts.push(Fact::UnitObserved { node: *id, incarnation: life.incarnation.clone(), item });
        }
        // Power that comes back is of no interest here; units wait for a way that opens.
        for on in &planned.switch_on {
            if self.state.devices.get(&on.device).is_some_and(|device| device.isolates.is_some()) {
                let (node, device, since) = (on.node, on.device.clone(), on.since);
                facts.push(Fact::SwitchedOn { node, device, since, power: Power::On });
            }
        }
        for look in &planned.observe {
            let seen = self.state.observations.get(&(look.device.clone(), look.node));
            if seen.is_none_or(|seen| seen.incarnation != look.incarnation) {
                let (node, incarnation, device) = (look.node, look.incarnation.clone(), look.device.clone());
                let (configured, by) = (self.state.configured, Some(look.executor));
                facts.push(Fact::PowerObserved {
                    node,
                    incarnation,
                    device,
                    configured,
                    power: Power::On,
                    by,
                });
            }
        }
    }
}
