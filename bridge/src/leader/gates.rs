//! Gates: a unit is about to start on a node, and PID 1 waits for the answer (F9, F34).

use policy::{Decision, NodeId, Phase, Plan, Reason, UnitName, Wanted, Wish};

use super::connections::ConnectionId;
use super::core::Core;
use super::entry::Outcome;
use super::proposals::Ticket;
use crate::api::picture;
use crate::session::message::{Down, GateAnswer, Number, Reply, gate_client};

/// A gate that has no answer yet.
#[derive(Debug)]
pub(super) struct WaitingGate {
    pub(super) connection: ConnectionId,
    pub(super) number: Number,
    pub(super) node: NodeId,
    pub(super) unit: UnitName,
    /// Its wish is on the way into the log.
    pub(super) wishing: bool,
}

impl Core {
    /// A question never undoes a hold; a person's start is a wish, unless the unit may run elsewhere already.
    pub(super) fn ask_gate(
        &mut self,
        (connection, number): (ConnectionId, Number),
        node: NodeId,
        unit: UnitName,
        wish: Option<String>,
        gate: &str,
    ) {
        let Some(known) = self.state().units.get(&unit) else {
            let why = format!("{unit} is not known to the cluster yet");
            let remedy = "convoke status".to_owned();
            return self.reply_gate(connection, number, GateAnswer::Refused { why, remedy });
        };
        let elsewhere = self.state().possibly_running(&unit);
        let here = elsewhere.iter().any(|(at, _)| *at == node);
        let placed = here || (known.is_exclusive() && !elsewhere.is_empty());
        let asks = wish.filter(|_| !placed);
        let (wishing, by) = (asks.is_some(), asks.unwrap_or_default());
        let Some(reign) = &mut self.reign else { return };
        reign.gates.push(WaitingGate { connection, number, node, unit: unit.clone(), wishing });
        if wishing {
            let wish = Wish::SetGoal { unit, wanted: Wanted::Started, node: Some(node), seen: None, by };
            // The node asks again in another session: what was recorded once must not undo a stop that came after it
            // (F10). By the same name the wish is taken back, where this one made it.
            self.propose_wish(wish, gate_client(node, gate), 1, Ticket::Gate(connection, number));
        }
    }

    /// The wish is in the log: the gate now waits for the plan.
    pub(super) fn gate_wish_settled(&mut self, connection: ConnectionId, number: Number, outcome: Outcome) {
        let Some(reign) = &mut self.reign else { return };
        let gate = reign.gates.iter_mut().find(|gate| gate.connection == connection && gate.number == number);
        let Some(gate) = gate else { return };
        gate.wishing = false;
        if let Err(refusal) = outcome {
            let why = refusal.to_string();
            let remedy = format!("convoke why {}", gate.unit);
            reign.gates.retain(|gate| gate.connection != connection || gate.number != number);
            self.reply_gate(connection, number, GateAnswer::Refused { why, remedy });
        }
    }

    /// Whoever asked does not wait any more.
    pub(super) fn withdraw(&mut self, connection: ConnectionId, number: Number) {
        if let Some(reign) = &mut self.reign {
            reign.gates.retain(|gate| gate.connection != connection || gate.number != number);
            reign.rounds.keep_questions(|asked| asked.connection != connection || asked.number != number);
        }
    }

    /// Answers every gate that the state and the plan have decided.
    pub(super) fn answer_gates(&mut self) {
        let Some(reign) = &mut self.reign else { return };
        let mut open = Vec::new();
        let mut answers = Vec::new();
        for gate in std::mem::take(&mut reign.gates) {
            match decide(&self.replica.state, reign, self.replica.kept.plan(), &gate) {
                Some(answer) => answers.push((gate.connection, gate.number, answer)),
                None => open.push(gate),
            }
        }
        reign.gates = open;
        for (connection, number, answer) in answers {
            self.reply_gate(connection, number, answer);
        }
    }

    fn reply_gate(&mut self, connection: ConnectionId, number: Number, answer: GateAnswer) {
        self.connections.send(connection, Down::Answer { number, reply: Reply::Gate(answer) });
    }
}

/// `None` while the answer is under way.
fn decide(
    state: &policy::State,
    reign: &super::reign::Reign,
    plan: &Plan,
    gate: &WaitingGate,
) -> Option<GateAnswer> {
    if gate.wishing {
        return None;
    }
    let unit = state.units.get(&gate.unit)?;
    if let Some((token, permit)) = unit.permit_on(gate.node) {
        // A revocation under way ends soon; what follows it is the answer.
        return (!permit.is_revoking()).then_some(GateAnswer::Granted { token });
    }
    let concerns = |decision: &Decision| match decision {
        Decision::Grant { unit, .. }
        | Decision::AdoptDefinition { unit, .. }
        | Decision::OpenGather { unit }
        | Decision::Elect { unit, .. } => *unit == gate.unit,
        _ => false,
    };
    if reign.deciding.iter().chain(&plan.decisions).any(concerns) {
        return None;
    }
    let reasons = plan.reasons.get(&gate.unit).map(Vec::as_slice).unwrap_or_default();
    let passes = |reason: &Reason| match reason {
        Reason::Observing(_) | Reason::After(_) | Reason::AfterStop(_) | Reason::TooManyStarts(_) => true,
        // The start has stopped it, and begins when that stop is over.
        Reason::Conflicts { unit, .. } => state.units.get(unit).is_some_and(|opponent| {
            opponent.goal.wanted == Wanted::Stopped
                && !opponent.permits.values().any(|permit| state.is_lost(permit))
        }),
        _ => false,
    };
    if reasons.iter().any(passes) {
        return None;
    }
    if unit.boot_up.is_some() && is_coming_up(state, unit, &gate.unit, reasons) {
        return None;
    }
    Some(refusal(state, reign, gate, unit, reasons))
}

/// Whether a clustered service is on its way, so that a copy more has to wait and need not be refused.
fn is_coming_up(state: &policy::State, unit: &policy::Unit, name: &UnitName, reasons: &[Reason]) -> bool {
    let moves = |permit: &policy::Permit| permit.phase != Phase::Active && !state.is_lost(permit);
    let waits = |reason: &Reason| matches!(reason, Reason::JoinsAfter(_) | Reason::NotReady { .. });
    state.is_being_read(name) || unit.permits.values().any(moves) || reasons.iter().any(waits)
}

fn refusal(
    state: &policy::State,
    reign: &super::reign::Reign,
    gate: &WaitingGate,
    unit: &policy::Unit,
    reasons: &[Reason],
) -> GateAnswer {
    let name = &gate.unit;
    let holder = unit.permits.values().find(|permit| permit.node != gate.node && !state.is_lost(permit));
    if let Some(permit) = holder.filter(|_| unit.is_single() && unit.goal.wanted == Wanted::Started) {
        let at = state.node_name(permit.node);
        let doing = match permit.phase {
            Phase::Active if permit.idle => "is down, by hand, on",
            Phase::Active => "is active on",
            Phase::Granted => "is starting on",
            Phase::Revoking(_) => "is stopping on",
        };
        let (why, remedy) =
            (format!("{name} {doing} {at}"), format!("convoke move {name} {}", state.node_name(gate.node)));
        return match state.copy_maintenance(name, permit.node) {
            Some(scope) => GateAnswer::Refused {
                why: format!("{why}, and {}", state.maintenance_text(&scope)),
                remedy: format!("{}, then {remedy}", state.maintenance_release(&scope)),
            },
            None => GateAnswer::Refused { why, remedy },
        };
    }
    let here = |reason: &&Reason| match reason {
        Reason::Unfit { node, .. }
        | Reason::Avoided { node, .. }
        | Reason::HeldBack { node, .. }
        | Reason::Differs(node)
        | Reason::Fault { node, .. }
        | Reason::Diverged { node, .. }
        | Reason::Position { node, needed: false, .. } => *node == gate.node,
        _ => true,
    };
    let now = reign.time(state.time);
    match reasons.iter().find(here) {
        Some(reason) => GateAnswer::Refused {
            why: reason.text(state, name, now),
            remedy: picture::remedy(state, name, reason),
        },
        None => GateAnswer::Refused {
            why: format!("the cluster has not placed {name} here"),
            remedy: format!("convoke why {name}"),
        },
    }
}
