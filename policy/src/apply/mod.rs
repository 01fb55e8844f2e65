//! The only place where the state changes.
//!
//! One arm per command, one call per arm. Facts and wishes are recorded; a decision is refused unless everything
//! it rests on is in the state. A refusal leaves the state as it was, but for the entry's index and time.

#![deny(clippy::wildcard_enum_match_arm)]

mod assembly;
mod contradiction;
mod decisions;
mod drain;
mod drill;
mod feature;
mod fencing;
mod isolation;
mod maintenance;
mod members;
mod nodes;
mod power;
mod reports;
mod silence;
mod succession;
mod void;
mod watchdog;
mod wishes;

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::command::{Command, Decision, Entry, Fact, Wish};
use crate::event::{Event, EventKind, Severity};
use crate::name::{Incarnation, Millis, NodeId, UnitName};
use crate::node::{Life, Node, Presence};
use crate::refusal::Refusal;
use crate::state::{HISTORY, Reply, State};

/// Applies one entry.
///
/// Returns the events that it caused, which are also appended to the state's history.
///
/// # Errors
/// A [`Refusal`] when the command is stale, impossible, or would break S1 to S6. A repeat of a client's last
/// command (same [`crate::Origin`]) is answered with the first outcome and changes nothing.
pub fn apply(state: &mut State, entry: &Entry) -> Result<Vec<Event>, Refusal> {
    state.index = state.index.max(entry.index);
    state.time = state.time.max(entry.time);
    if let Some(origin) = &entry.origin
        && let Some(reply) = state.replies.get(&origin.client)
    {
        match origin.number.cmp(&reply.number) {
            Ordering::Equal => return reply.outcome.clone().map(|()| Vec::new()),
            Ordering::Less => return Err(Refusal::Outdated),
            Ordering::Greater => {}
        }
    }
    let mut step = Step {
        index: entry.index,
        time: state.time,
        wall_ms: entry.wall_ms,
        events: Vec::new(),
        changed: Vec::new(),
        state,
    };
    let outcome = step.take(&entry.command);
    let Step { events, changed, state, .. } = step;
    state.note_unsaid(&changed);
    if let Some(origin) = &entry.origin {
        let (number, index, time) = (origin.number, entry.index, state.time);
        state.keep_reply(&origin.client, Reply { number, index, time, outcome: outcome.clone() });
    }
    outcome?;
    state.history.extend(events.iter().cloned());
    let surplus = state.history.len().saturating_sub(HISTORY);
    state.history.drain(..surplus);
    Ok(events)
}

/// One entry on its way into the state.
struct Step<'a> {
    state: &'a mut State,
    index: u64,
    time: Millis,
    wall_ms: u64,
    events: Vec<Event>,
    /// Nodes that it may have changed.
    changed: Vec<NodeId>,
}

impl Step<'_> {
    fn take(&mut self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::Fact(fact) => {
                self.fact(fact)?;
                if let Some(node) = fact.speaker() {
                    self.node_spoke(node);
                }
                Ok(())
            }
            Command::Wish(wish) => self.wish(wish),
            Command::Decision(decision) => self.decision(decision),
        }
    }

    fn fact(&mut self, fact: &Fact) -> Result<(), Refusal> {
        match fact {
            // F5, F32
            Fact::TermBegan { term, leader } => self.term_began(*term, *leader),
            // F3, F18, F20
            Fact::NodeHeard { .. } => self.node_heard(fact),
            // F3
            Fact::IdentityShared { node, machine } => self.identity_shared(*node, machine),
            // F11
            Fact::InventoryReported { node, incarnation, items, rests, highest_token } => {
                self.inventory_reported(*node, incarnation, items, rests, *highest_token)
            }
            // F11, F12
            Fact::UnitObserved { node, incarnation, item } => self.unit_observed(*node, incarnation, item),
            // F11, F12
            Fact::Surveyed { node, incarnation, index } => self.surveyed(*node, incarnation, *index),
            // L1
            Fact::Started { node, incarnation, unit, token } => {
                self.started(*node, incarnation, unit, *token)
            }
            // F16
            Fact::PositionReported { node, incarnation, unit, epoch, seen, found } => {
                self.position_reported(*node, incarnation, unit, *epoch, *seen, found)
            }
            // F16
            Fact::ReadyReported { node, incarnation, unit, token, seen, lacks, identity } => {
                let look = lacks.as_deref().map_or(Ok(identity.as_deref()), Err);
                self.ready_reported(*node, incarnation, unit, *token, *seen, look)
            }
            // F16, P82
            Fact::RankReported { node, incarnation, unit, seen, found } => {
                self.rank_reported(*node, incarnation, unit, *seen, found)
            }
            // P68
            Fact::CheckFailed { node, incarnation, unit, token, why } => {
                self.check_failed(*node, incarnation, unit, *token, why)
            }
            // F13
            Fact::TermsAcknowledged { node, unit, token, revision } => {
                self.terms_acknowledged(*node, unit, *token, *revision)
            }
            // F1, F2, F10
            Fact::Released { node, incarnation, unit, token, because } => {
                self.released(*node, incarnation, unit, *token, because)
            }
            // S4, P114
            Fact::RestReported { node, incarnation, unit, token, rest } => {
                self.rest_reported(*node, incarnation, unit, *token, *rest)
            }
            // F1, P137
            Fact::StopStuck { node, incarnation, unit, token, what } => {
                self.stop_stuck(*node, incarnation, unit, *token, what)
            }
            // F30
            Fact::NodeLeaving { node, incarnation } => self.node_leaving(*node, incarnation),
            // S2, F5, F32
            Fact::NodeLost { node, incarnation, session, term } => {
                self.node_lost(*node, incarnation, *session, *term)
            }
            // S2, P16
            Fact::PowerObserved { node, incarnation, device, configured, power, by } => {
                if *configured != self.state.configured {
                    return Err(stale("the device was configured anew"));
                }
                self.power_observed(*node, incarnation, device, power, *by)
            }
            // F17
            Fact::WatchdogArmed { node, incarnation, said_ms, device, timeout_ms } => {
                self.watchdog_armed(*node, incarnation, *said_ms, device, *timeout_ms)
            }
            // F17
            Fact::WatchdogDisarmed { node, incarnation, said_ms, why } => {
                self.watchdog_disarmed(*node, incarnation, *said_ms, why)
            }
            // P55, P123
            Fact::SwitchedOn { node, device, since, power } => self.switched_on(*node, device, *since, power),
            // F4
            Fact::FenceReported { case, attempt, outcome } => self.fence_reported(*case, *attempt, outcome),
            // P19
            Fact::FenceRepeated { case, attempt } => self.fence_repeated(*case, *attempt),
            // F36, P22
            Fact::CutOffHeard { node, incarnation, term } => self.cut_off_heard(*node, incarnation, *term),
            // F18
            Fact::ProofContradicted { node, incarnation, term } => {
                self.proof_contradicted(*node, incarnation, *term)
            }
        }
    }

    fn wish(&mut self, wish: &Wish) -> Result<(), Refusal> {
        match wish {
            // F14, P130
            Wish::Found { .. } => self.found(wish),
            // P130
            Wish::IssueToken { id, secret_hash, valid_ms, by: _ } => {
                self.issue_token(id, secret_hash, *valid_ms)
            }
            // F3, F14
            Wish::Enroll { token, secret_hash, name, addresses, machine, role } => {
                self.enroll(token, secret_hash, name, addresses, machine, *role)
            }
            // F19
            Wish::RemoveNode { node, by } => self.remove_node(*node, by),
            // S6, F9, F10
            Wish::SetGoal { unit, wanted, node, seen, by } => self.set_goal(unit, *wanted, *node, *seen, by),
            // F10
            Wish::StoppedByHand { unit, node, token, by } => self.stopped_by_hand(unit, *node, *token, by),
            // F34, P25
            Wish::WithdrawStart { unit, node, gate, by } => self.withdraw_start(unit, *node, gate, by),
            // P27, P141
            Wish::Move { unit, from, to, by } => self.move_unit(unit, *from, *to, by),
            // P28, P98
            Wish::SetDrained { node, drained, by } => self.set_drained(*node, *drained, by),
            // S6, P61
            Wish::BeginMaintenance { scope, reason, by } => {
                self.begin_maintenance(scope, reason.as_deref(), by)
            }
            // S6, P64
            Wish::EndMaintenance { scope, by } => self.end_maintenance(scope, by),
            // P33
            Wish::ResetFailed { unit, node } => self.reset_failed(unit, *node),
            // P111, P112
            Wish::ForgiveNode { node, by } => self.forgive_node(*node, by),
            // F36
            Wish::VouchFenced { node, incarnation, by } => self.vouch_fenced(*node, incarnation, by),
            // P90
            Wish::TestFence { node, level, by } => self.test_fence(*node, *level, by),
            // P95
            Wish::CancelFence { node, by } => self.cancel_fence(*node, by),
            // F15, F19, P14
            Wish::Configure { settings, devices, attributes, by } => {
                self.configure(settings, devices, attributes, by)
            }
            // F13
            Wish::AdoptFrom { unit, node, by } => self.adopt_from(unit, *node, by),
            // F16
            Wish::Assemble { unit, epoch, word, by } => self.assemble(unit, *epoch, *word, by),
            // F9, F12
            Wish::Forget { unit, by } => self.forget(unit, by),
        }
    }

    fn decision(&mut self, decision: &Decision) -> Result<(), Refusal> {
        match decision {
            // F13
            Decision::AdoptDefinition { unit, definition } => self.adopt_definition(unit, definition),
            // S1, S2, S4, S6, F11, F16
            Decision::Grant { unit, node, incarnation, revision, adopt, start } => {
                self.grant(unit, *node, incarnation, *revision, *adopt, *start)
            }
            // F9
            Decision::PullIn { unit, by } => self.pull_in(unit, by),
            // F16
            Decision::OpenGather { unit } => self.open_gather(unit),
            // F16
            Decision::Elect { unit, epoch, election } => self.elect(unit, *epoch, election),
            // S4
            Decision::Revoke { unit, token, reason } => self.revoke(unit, *token, reason),
            // F13
            Decision::Reterm { unit, token, revision } => self.reterm(unit, *token, *revision),
            // F6, F7
            Decision::Expire { unit, token } => self.expire(unit, *token),
            // F22
            Decision::OpenCase { node, incarnation, because } => self.open_case(*node, incarnation, because),
            // S2, F24
            Decision::BeginAttempt { case, attempt, level, executor, executor_incarnation } => {
                self.begin_attempt(*case, *attempt, *level, *executor, executor_incarnation)
            }
            // F24
            Decision::AbandonAttempt { case, attempt } => self.abandon_attempt(*case, *attempt),
            // F31
            Decision::CancelCase { case } => self.cancel_case(*case),
            // P123
            Decision::BeginOpening { node, device, executor, executor_incarnation } => {
                self.begin_opening(*node, device, *executor, executor_incarnation)
            }
            // F20
            Decision::RaiseFeatureLevel { level } => self.raise_feature_level(*level),
            // P123, F24
            Decision::AbandonOpening { node, device, since } => self.abandon_opening(*node, device, *since),
        }
    }

    /// Appends to the history.
    fn record(&mut self, severity: Severity, node: Option<NodeId>, unit: Option<&UnitName>, kind: EventKind) {
        self.events.push(Event {
            index: self.index,
            time: self.time,
            wall_ms: self.wall_ms,
            severity,
            node,
            unit: unit.cloned(),
            kind,
        });
    }

    fn node(&self, id: NodeId) -> Result<&Node, Refusal> {
        self.state.nodes.get(&id).ok_or(Refusal::UnknownNode(id))
    }

    /// Remembers that a node may be another one, or gone, after this entry.
    fn changes(&mut self, id: NodeId) {
        if self.changed.last() != Some(&id) {
            self.changed.push(id);
        }
    }

    /// The node, to be changed. What it says of what runs there is changed by this way only: who is asked for a unit follows
    /// from it.
    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Refusal> {
        self.changes(id);
        self.state.nodes.get_mut(&id).ok_or(Refusal::UnknownNode(id))
    }

    /// The node's present life, if it is this incarnation.
    fn life(&self, id: NodeId, incarnation: &Incarnation) -> Result<&Life, Refusal> {
        let life = self.node(id)?.life.as_ref().ok_or(Refusal::WrongIncarnation)?;
        if life.incarnation == *incarnation { Ok(life) } else { Err(Refusal::WrongIncarnation) }
    }

    fn life_mut(&mut self, id: NodeId, incarnation: &Incarnation) -> Result<&mut Life, Refusal> {
        let life = self.node_mut(id)?.life.as_mut().ok_or(Refusal::WrongIncarnation)?;
        if life.incarnation == *incarnation { Ok(life) } else { Err(Refusal::WrongIncarnation) }
    }

    /// The node's present life, if it is this incarnation and in session or leaving. What a lost or fenced life
    /// still sends says nothing of what runs there now (F18).
    fn heard(&self, id: NodeId, incarnation: &Incarnation) -> Result<&Life, Refusal> {
        let life = self.life(id, incarnation)?;
        if life.gone.is_some() || life.contradicted.is_some() {
            return Err(Refusal::Fenced);
        }
        match life.presence {
            Presence::InSession | Presence::Leaving => Ok(life),
            Presence::Lost { .. } => Err(Refusal::NotInSession(id)),
        }
    }

    /// Refuses what another leader proposed before the present one began (F32).
    fn same_term(&self, term: u64) -> Result<(), Refusal> {
        match self.state.tenure {
            Some(tenure) if tenure.term == term => Ok(()),
            _ => Err(stale("proposed in an earlier term")),
        }
    }
}

fn stale(what: &str) -> Refusal {
    Refusal::Stale(String::from(what))
}
