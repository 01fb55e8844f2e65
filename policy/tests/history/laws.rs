//! Laws that hold between plans of states that differ in one thing.

use policy::{
    Decision, Definition, End, First, Forecast, Goal, NodeTerm, Reason, Replicas, State, Suppose, Unit,
    UnitName, Wanted, Wish, check, forecast, plan,
};

use super::World;
use super::bans::choices;
use super::check::{Checked, Violation, one_live_permit};
use super::definitions::offer;

fn broken(what: String) -> Checked {
    Err(Violation { rule: "law", what })
}

/// Renaming the nodes renames the plan, with all that it says, and changes nothing else; nor what is wrong with the set of
/// units. Nor does it change anything that the state was written down and read again.
pub(crate) fn names_decide_nothing(world: &World) -> Checked {
    // Backwards, so that the order of names is another one.
    let renamed = |name: &str| format!("{}-{name}", 1_000 - name.bytes().map(u32::from).sum::<u32>());
    let term = |term: &mut NodeTerm| {
        if let NodeTerm::Name(name) = term {
            *name = renamed(name);
        }
    };
    let in_definition = |definition: &mut Definition| {
        definition.nodes.iter_mut().for_each(term);
        definition.prefer.iter_mut().for_each(|preference| term(&mut preference.term));
    };
    let mut other = world.state.clone();
    for node in other.nodes.values_mut() {
        node.name = renamed(&node.name);
        node.offers.values_mut().filter_map(|offer| offer.definition.as_mut()).for_each(in_definition);
    }
    other
        .units
        .values_mut()
        .filter_map(|unit| unit.adopted.as_mut())
        .for_each(|adopted| in_definition(&mut adopted.definition));
    let told = |state: &State| {
        let planned = plan(state, world.now);
        let words: Vec<(String, String)> = planned
            .reasons
            .iter()
            .flat_map(|(unit, reasons)| {
                let say =
                    |reason: &Reason| (reason.text(state, unit, world.now), reason.release(state, unit));
                reasons.iter().map(say).collect::<Vec<_>>()
            })
            .collect();
        format!("{planned:?} {words:?} {:?}", check(state))
    };
    let expected = told(&world.state);
    let mut found = told(&other);
    for node in world.state.nodes.values() {
        found = found.replace(&renamed(&node.name), &node.name);
    }
    if found != expected {
        return broken(format!("renamed, the plan is {found}, not {expected}"));
    }
    if plan(&reread(&world.state), world.now) != plan(&world.state, world.now) {
        return broken("of a state that was read again the plan is another one".into());
    }
    Ok(())
}

/// The state as a snapshot of it brings it back.
pub(super) fn reread(state: &State) -> State {
    let bytes = rmp_serde::to_vec_named(state).expect("the state as MessagePack");
    rmp_serde::from_slice(&bytes).expect("the state from MessagePack")
}

/// A unit that nobody names and that takes nothing stops nobody, however important it is.
pub(crate) fn a_stranger_moves_nobody(world: &World) -> Checked {
    let stops = |state: &State| -> Vec<Decision> {
        let decisions = plan(state, world.now).decisions;
        decisions.into_iter().filter(|decision| matches!(decision, Decision::Revoke { .. })).collect()
    };
    let expected = stops(&world.state);
    for name in ["aaa", "zzz"].map(UnitName::from) {
        for definition in strangers(100) {
            let found = stops(&beside(&world.state, &name, &definition));
            if found != expected {
                let what = format!("with {name} beside them the stops are {found:?}, not {expected:?}");
                return broken(what);
            }
        }
    }
    Ok(())
}

/// Of one that is less important than all others, and was never started, the plan says no other word of anybody else: it is
/// planned last (P140). Silent nodes are another matter: one may be fenced, or go on being fenced, for its sake alone (P9).
pub(crate) fn the_least_stranger_changes_nothing(world: &World) -> Checked {
    let mut expected = plan(&world.state, world.now);
    expected.decisions.retain(|decision| !fences(decision));
    for name in ["aaa", "zzz"].map(UnitName::from) {
        for definition in strangers(-100) {
            let mut found = plan(&beside(&world.state, &name, &definition), world.now);
            found.decisions.retain(|decision| !fences(decision) && !starts(decision, &name));
            found.reasons.remove(&name);
            if (&found.decisions, &found.reasons) != (&expected.decisions, &expected.reasons) {
                return broken(format!("with {name} beside them the plan is {found:?}, not {expected:?}"));
            }
        }
    }
    Ok(())
}

/// Units that nobody names.
fn strangers(priority: i64) -> [Definition; 3] {
    let several = Definition::replicated(Replicas::Count(2));
    let kinds = [Definition::exclusive(), Definition::replicated(Replicas::All), several];
    kinds.map(|definition| Definition { priority, ..definition })
}

/// The state with one unit more, that all nodes offer and that is to run.
fn beside(state: &State, name: &UnitName, definition: &Definition) -> State {
    let mut other = state.clone();
    for node in other.nodes.values_mut() {
        node.offers.insert(name.clone(), offer(definition.clone()));
    }
    let mut unit = Unit::new(1, 0);
    unit.adopted = Some(policy::Adopted { revision: 1, definition: definition.clone() });
    unit.goal = Goal { wanted: Wanted::Started, revision: 1, by: None, wall_ms: 0 };
    other.units.insert(name.clone(), unit);
    reread(&other)
}

fn starts(decision: &Decision, name: &UnitName) -> bool {
    match decision {
        Decision::Grant { unit, .. } | Decision::PullIn { unit, .. } => unit == name,
        _ => false,
    }
}

/// Whether it is a step of a fence, or waits for one.
fn fences(decision: &Decision) -> bool {
    let opens = matches!(decision, Decision::BeginOpening { .. });
    opens
        || matches!(
            decision,
            Decision::OpenCase { .. } | Decision::BeginAttempt { .. } | Decision::CancelCase { .. }
        )
}

/// A node that is held back is passed over for others: what could be granted anywhere if nobody were held back is granted
/// somewhere, but for a moment in which another node is still looked at, or busy with starts (P111). Where room is short,
/// somebody has to wait whoever goes where. Says for how many units somebody was passed over.
pub(crate) fn holding_back_keeps_no_unit_down(world: &World) -> Result<usize, Violation> {
    let mut other = world.state.clone();
    for node in other.nodes.values_mut() {
        node.lately.losses.clear();
    }
    let planned = plan(&world.state, world.now);
    let granted = |decisions: &[Decision], name: &UnitName| {
        decisions.iter().any(|one| matches!(one, Decision::Grant { unit, .. } if unit == name))
    };
    let expected = plan(&other, world.now).decisions;
    for (name, unit) in &world.state.units {
        let definition = unit.definition();
        let short = definition.is_some_and(|it| !it.uses.is_empty())
            || world.state.strangers(name).next().is_some()
            || world.state.opponents(name).next().is_some();
        let runs = unit.permits.values().any(|permit| !permit.is_revoking());
        if short || runs || !granted(&expected, name) || granted(&planned.decisions, name) {
            continue;
        }
        let reasons = planned.reasons.get(name).into_iter().flatten();
        let soon = |reason: &Reason| {
            matches!(reason, Reason::Observing(_) | Reason::TooManyStarts(_) | Reason::AfterStop(_))
        };
        let reasons: Vec<_> = reasons.collect();
        if !reasons.iter().copied().any(soon) {
            let what = format!("{name} is down for the sake of a node that is held back: {reasons:?}");
            return Err(Violation { rule: "law", what });
        }
    }
    let over =
        |reasons: &&Vec<Reason>| reasons.iter().any(|reason| matches!(reason, Reason::HeldBack { .. }));
    Ok(planned.reasons.values().filter(over).count())
}

/// While the whole cluster is drained nothing may be granted.
pub(crate) fn a_drained_cluster_starts_nothing(world: &World) -> Checked {
    let mut state = world.state.clone();
    state.drained = Some("o".into());
    match choices(&state, world.now).first() {
        Some(choice) => broken(format!("{choice:?} may be granted though the cluster is drained")),
        None => Ok(()),
    }
}

/// Carrying plans out comes to rest, from wherever it begins, with one live permit at the most on the way's end; and where
/// it rests nothing follows.
pub(crate) fn a_forecast_comes_to_rest(world: &World) -> Checked {
    let losses = world.state.nodes.keys().map(|id| vec![Suppose::Lost(*id)]);
    for supposed in losses.chain(files(world)).chain(wishes(world)).chain([Vec::new()]) {
        let told = forecast(world.state.clone(), world.now, &supposed, || true);
        let asked = supposed.iter().any(|one| matches!(one, Suppose::Asked(_)));
        let Ok(Forecast { state, now, end, .. }) = told else {
            if asked {
                continue;
            }
            return broken(format!("{supposed:?} is refused: {told:?}"));
        };
        one_live_permit(&state)?;
        if end == End::Unfinished {
            return broken(format!("{supposed:?} does not come to rest"));
        }
        let after = forecast(state, now, &[], || true).map(|forecast| forecast.steps);
        if end == End::AtRest && after.as_ref().is_ok_and(|steps| !steps.is_empty()) {
            return broken(format!("after {supposed:?} it rests, and then {after:?}"));
        }
    }
    Ok(())
}

/// What a person may ask, of one unit and one node: of others at each look. Some of it is refused.
fn wishes(world: &World) -> impl Iterator<Item = Vec<Suppose>> {
    let look = (world.checked / 48) as usize;
    let unit = world.state.units.keys().nth(look % world.state.units.len().max(1)).cloned();
    let node = world.state.nodes.keys().nth(look / 3 % world.state.nodes.len().max(1)).copied();
    let by = || "o".to_string();
    let goal = |unit: &UnitName, wanted| Wish::SetGoal {
        unit: unit.clone(),
        wanted,
        node: None,
        seen: None,
        by: by(),
    };
    let wish = unit.map(|unit| match look % 4 {
        0 => Wish::SetDrained { node, drained: true, by: by() },
        1 => Wish::Move { unit, from: None, to: node, by: by() },
        2 => goal(&unit, Wanted::Stopped),
        _ => goal(&unit, Wanted::Started),
    });
    wish.into_iter().map(|wish| vec![Suppose::Asked(wish)])
}

/// Of each unit that anybody offers, one thing that all files may say: another one at each look.
fn files(world: &World) -> impl Iterator<Item = Vec<Suppose>> {
    let offered = |unit: &UnitName| {
        world.state.nodes.values().any(|node| node.offers.get(unit).is_some_and(|offer| offer.present))
    };
    let units = world.definitions.iter().filter(move |(unit, _)| offered(unit));
    units.filter_map(|(unit, choices)| {
        let definition = choices.get((world.checked / 48) as usize % choices.len())?.clone();
        // Somebody offers it: nobody is the first.
        let first = First { node: policy::NodeId(0), enabled: false, running: false };
        Some(vec![Suppose::Offered { unit: unit.clone(), definition, first }])
    })
}
