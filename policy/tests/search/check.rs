//! What must hold, and what must happen: told apart from what the code under test says of itself.

use policy::{Class, Command, Decision, Entry, Fact, FencePhase, Fencing, Phase, State, Wanted};

use super::letter::{node_id, unit_name};
use super::machine::Machine;
use super::world::{APP, DB, UNITS, World};

/// A promise that a step has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Breach {
    /// S2: granted while another machine could still run it.
    Unproven,
    /// S3: committed without a majority.
    Minority,
    /// S3: started without a lease.
    Leaseless,
    /// S4: granted before, or revoked under, what it is ordered with.
    Order,
    /// S6: granted though it was stopped.
    Word,
    /// The planner proposed what `apply` refuses.
    Plan,
}

pub(crate) const TWICE: &str = "S1 never twice";
pub(crate) const PERMIT: &str = "S1 nothing runs without a permit";
pub(crate) const PROOF: &str = "S2 nothing is granted before the proof";
pub(crate) const QUORUM: &str = "S3 no decision without a quorum";
pub(crate) const LEASE: &str = "S3 no start without a lease";
pub(crate) const ORDER: &str = "S4 order";
pub(crate) const WORD: &str = "S6 the operator's word holds";
pub(crate) const PLANS: &str = "nothing is planned that is refused";

/// S1, of the machines and not of the state: no unit has processes on two of them that reach what it shares.
pub(crate) fn never_twice(world: &World) -> bool {
    (0..UNITS.len()).all(|unit| {
        let running = |machine: &&Machine| machine.reaches() && machine.copies[unit].runs();
        world.machines.iter().filter(running).count() < 2
    })
}

/// S1: whatever may run by a permit, runs by one that is live in the state, or reaches nothing.
pub(crate) fn nothing_without_a_permit(world: &World) -> bool {
    world.machines.iter().filter(|machine| machine.reaches()).all(|machine| {
        machine.copies.iter().enumerate().all(|(unit, copy)| {
            if copy.token == 0 || !copy.may_run() {
                return true;
            }
            let permit = world.state().permit(&unit_name(unit), policy::Token(copy.token));
            permit.is_some_and(|permit| {
                permit.node == node_id(machine.node) && permit.incarnation == machine.life().incarnation()
            })
        })
    })
}

/// What an accepted entry breaks, by the machines as they are and the state as it was.
pub(crate) fn judge(world: &World, before: &State, entry: &Entry) -> Option<Breach> {
    if !world.leads() && !matches!(entry.command, Command::Fact(Fact::TermBegan { .. })) {
        return Some(Breach::Minority);
    }
    match &entry.command {
        Command::Decision(Decision::Grant { unit: name, node, .. }) => {
            let unit = usize::from(name.as_str() == UNITS[APP]);
            let known = before.units.get(name)?;
            if known.goal.wanted == Wanted::Stopped || known.holds.contains_key(node) {
                return Some(Breach::Word);
            }
            let elsewhere = |machine: &&Machine| {
                machine.reaches() && node_id(machine.node) != *node && machine.copies[unit].may_run()
            };
            if world.machines.iter().any(|machine| elsewhere(&machine)) {
                return Some(Breach::Unproven);
            }
            (unit == APP && !is_active(before)).then_some(Breach::Order)
        }
        // Copies of lost nodes hear nothing of it; those that are heard have stopped before.
        Command::Decision(Decision::Revoke { unit, .. }) if unit.as_str() == UNITS[DB] => {
            let app = before.units.get(&unit_name(APP))?;
            (!app.permits.is_empty()).then_some(Breach::Order)
        }
        _ => None,
    }
}

/// The database is active on a node that is in session.
fn is_active(state: &State) -> bool {
    let Some(db) = state.units.get(&unit_name(DB)) else { return false };
    db.permits.values().any(|permit| {
        let life = state.nodes.get(&permit.node).and_then(|node| node.life.as_ref());
        let heard = life.is_some_and(|life| {
            life.presence == policy::Presence::InSession && life.incarnation == permit.incarnation
        });
        permit.phase == Phase::Active && heard
    })
}

/// Where the database runs by an active permit.
fn served_by(world: &World) -> Option<usize> {
    let db = world.state().units.get(&unit_name(DB))?;
    world.machines.iter().position(|machine| {
        let copy = machine.copies[DB];
        let permit = db.permits.get(&policy::Token(copy.token));
        machine.power && copy.runs() && permit.is_some_and(|permit| permit.phase == Phase::Active)
    })
}

pub(crate) const STARTS: &str = "the database starts";
pub(crate) const DEPENDENT: &str = "what requires it starts";
pub(crate) const MOVES: &str = "it runs on another node";
pub(crate) const FENCES: &str = "a node is proven off";
pub(crate) const RECOVERS: &str = "it runs elsewhere after a fence";
pub(crate) const RETURNS: &str = "a fenced node is back";
pub(crate) const EXPIRES: &str = "it runs elsewhere while a lost node is up";
pub(crate) const OPENS: &str = "the way of a node that was cut off is opened";
pub(crate) const ADOPTS: &str = "a copy that ran before is adopted";

pub(crate) const RETERMS: &str = "a copy goes by new terms, and its node has said so";

/// All terms in force are those of the files, as they were changed.
pub(crate) fn reterms(world: &World) -> bool {
    let db = world.state().units.get(&unit_name(DB));
    let revision = db.and_then(|db| db.adopted.as_ref()).map(|adopted| adopted.revision);
    let mut here = db.into_iter().flat_map(|db| db.permits.values());
    here.any(|permit| {
        let known = permit.next_terms.is_none() && Some(permit.terms.revision) == revision;
        permit.node == node_id(0) && known
    })
}

pub(crate) fn starts(world: &World) -> bool {
    served_by(world).is_some()
}

pub(crate) fn dependent_starts(world: &World) -> bool {
    world.machines.iter().any(|machine| machine.copies[APP].runs())
}

pub(crate) fn moves(world: &World) -> bool {
    served_by(world).is_some_and(|node| node != 0)
}

fn proven_off(world: &World) -> bool {
    let off = |phase: &FencePhase| matches!(phase, FencePhase::Proven { class: Class::Off, .. });
    world.state().cases.values().any(|case| off(&case.phase))
}

pub(crate) fn fences(world: &World) -> bool {
    proven_off(world)
}

pub(crate) fn recovers(world: &World) -> bool {
    proven_off(world) && moves(world)
}

pub(crate) fn returns(world: &World) -> bool {
    let node = world.state().nodes.get(&node_id(0));
    let back = node.is_some_and(|node| node.in_session().is_some() && !node.past.is_empty());
    back && world.machines[0].boots > 1
}

pub(crate) fn expires(world: &World) -> bool {
    let node = world.state().nodes.get(&node_id(0));
    let lost = node.is_some_and(|node| node.lost_since().is_some()) && world.machines[0].power;
    lost && world.machines[1..].iter().any(|machine| machine.copies[DB].runs())
}

pub(crate) fn opens(world: &World) -> bool {
    world.opened[0] > 0 && !world.machines[0].shut
}

pub(crate) fn adopts(world: &World) -> bool {
    let db = world.state().units.get(&unit_name(DB));
    db.is_some_and(|db| {
        db.permits.values().any(|permit| permit.adopted && permit.terms.fencing != Fencing::None)
    })
}
