//! Laws that hold between plans of states that differ in one thing.

use std::collections::BTreeMap;

use policy::{
    Command, Decision, Definition, End, Entry, First, Forecast, Goal, NodeTerm, Reason, Start, State,
    Suppose, Unit, UnitName, Wanted, apply, check, forecast, plan,
};

use super::World;
use super::check::{Checked, Violation, one_live_permit};
use super::definitions::offer;

fn broken(what: String) -> Checked {
    Err(Violation { rule: "law", what })
}

/// Renaming the nodes renames the plan, and changes nothing else; nor what is wrong with the set of units.
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
    let mut expected = plan(&world.state, world.now).decisions;
    for decision in &mut expected {
        if let Decision::AdoptDefinition { definition, .. } = decision {
            in_definition(definition);
        }
    }
    let found = plan(&other, world.now).decisions;
    if found != expected {
        return broken(format!("renamed, the plan is {found:?}, not {expected:?}"));
    }
    let (expected, found) = (check(&world.state), check(&other));
    if found == expected {
        Ok(())
    } else {
        broken(format!("renamed, what is wrong is {found:?}, not {expected:?}"))
    }
}

/// A unit that nobody names and that takes nothing stops nobody.
pub(crate) fn a_stranger_moves_nobody(world: &World) -> Checked {
    let stops = |state: &State| -> Vec<Decision> {
        let decisions = plan(state, world.now).decisions;
        decisions.into_iter().filter(|decision| matches!(decision, Decision::Revoke { .. })).collect()
    };
    let expected = stops(&world.state);
    for name in ["aaa", "zzz"] {
        let mut other = world.state.clone();
        let name = UnitName::from(name);
        let definition = Definition::exclusive();
        for node in other.nodes.values_mut() {
            node.offers.insert(name.clone(), offer(definition.clone()));
        }
        let mut unit = Unit::new(1, 0);
        unit.adopted = Some(policy::Adopted { revision: 1, definition });
        unit.goal = Goal { wanted: Wanted::Started, revision: 1, by: None, wall_ms: 0 };
        other.units.insert(name.clone(), unit);
        let found = stops(&other);
        if found != expected {
            return broken(format!("with {name} beside them the stops are {found:?}, not {expected:?}"));
        }
    }
    Ok(())
}

/// What may be granted while a node is drained may be granted while it is not.
pub(crate) fn a_ban_only_removes_choices(world: &World) -> Checked {
    for banned in world.state.nodes.keys() {
        let drained = |by: Option<String>| {
            let mut state = world.state.clone();
            state.nodes.get_mut(banned).into_iter().for_each(|node| node.drained.clone_from(&by));
            choices(&state, world.now)
        };
        let (with, without) = (drained(Some("o".into())), drained(None));
        for (choice, _) in with.into_iter().filter(|(_, free)| *free) {
            if !without.get(&choice).copied().unwrap_or(false) {
                return broken(format!("{choice:?} may be granted only because {banned} is drained"));
            }
            if choice.1 == *banned {
                return broken(format!("{choice:?} may be granted though {banned} is drained"));
            }
        }
    }
    Ok(())
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
    match choices(&state, world.now).into_iter().find(|(_, free)| *free) {
        Some((choice, _)) => broken(format!("{choice:?} may be granted though the cluster is drained")),
        None => Ok(()),
    }
}

/// Carrying plans out comes to rest, from wherever it begins, with one live permit at the most on the way's end; and where
/// it rests nothing follows.
pub(crate) fn a_forecast_comes_to_rest(world: &World) -> Checked {
    let losses = world.state.nodes.keys().map(|id| vec![Suppose::Lost(*id)]);
    for supposed in losses.chain(files(world)).chain([Vec::new()]) {
        let told = forecast(world.state.clone(), world.now, &supposed, || true);
        let Ok(Forecast { state, now, end, .. }) = told else {
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

/// Whether each unit may be granted to each node now, as `apply` says.
fn choices(state: &State, now: u64) -> BTreeMap<(UnitName, policy::NodeId), bool> {
    let mut choices = BTreeMap::new();
    for (name, unit) in &state.units {
        for (id, node) in &state.nodes {
            let (Some(adopted), Some(life)) = (&unit.adopted, &node.life) else { continue };
            let free = [None, Some(Start::Join), Some(Start::Alone), Some(Start::Resync)].map(|start| {
                let decision = Decision::Grant {
                    unit: name.clone(),
                    node: *id,
                    incarnation: life.incarnation.clone(),
                    revision: adopted.revision,
                    adopt: false,
                    start,
                };
                let command = Command::Decision(decision);
                let entry = Entry { index: state.index + 1, time: now, wall_ms: 0, origin: None, command };
                apply(&mut state.clone(), &entry).is_ok()
            });
            choices.insert((name.clone(), *id), free.contains(&true));
        }
    }
    choices
}
