//! What must hold after every step, one function each.

use policy::{
    AlarmKind, Command, Decision, Entry, Fact, FenceOutcome, Fencing, Goal, Phase, State, UnitName, Wanted,
    Wish, apply, plan,
};

use super::{World, fabric};

/// A broken rule.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

pub(crate) type Checked = Result<(), Violation>;

fn broken(rule: &'static str, what: String) -> Checked {
    Err(Violation { rule, what })
}

/// S1: no exclusive unit really runs twice; and what a liar did is shown.
pub(crate) fn never_twice(world: &World) -> Checked {
    for name in world.state.units.keys() {
        let mut running: Vec<_> =
            world.machines.iter().filter_map(|machine| Some((machine, machine.runs(name)?))).collect();
        running.retain(|(machine, copy)| fabric::reaches(world, name, machine, copy));
        running.sort_by_key(|(_, copy)| copy.token);
        for pair in running.windows(2) {
            let [(here, earlier), (there, later)] = pair else { continue };
            // Copies that all ran before Convoke came are not its doing.
            let Some(begun) = &later.terms else { continue };
            // Whoever came first was promised to be alone, or was there before and should have been heard.
            let promised = earlier.terms.as_ref().map_or(begun.exclusive, |terms| terms.exclusive);
            let by_lease = earlier.terms.as_ref().is_some_and(|terms| terms.fencing == Fencing::Lease);
            if !promised || (by_lease && world.paused) || world.lied {
                continue;
            }
            let what = format!(
                "{name} runs on {} ({:?} {:?}) and {} ({:?} {:?})",
                here.name, earlier.doing, earlier.token, there.name, later.doing, later.token
            );
            return broken("S1 never twice", what);
        }
    }
    Ok(())
}

/// S1: at most one live permit of an exclusive unit, unless a proof was contradicted.
pub(crate) fn one_live_permit(state: &State) -> Checked {
    for (name, unit) in &state.units {
        let exclusive =
            unit.permits.values().filter(|permit| permit.terms.exclusive && !permit.contradicted).count();
        let contradicted = unit.permits.values().any(|permit| permit.contradicted);
        if exclusive > 1 && !contradicted {
            return broken("S1 one permit", format!("{name} has {exclusive} live permits"));
        }
    }
    Ok(())
}

/// F18: a proof that was contradicted is an alarm until the machine has a new life.
pub(crate) fn contradictions_alarm(world: &World) -> Checked {
    for machine in &world.machines {
        let life = world.state.nodes.get(&machine.id).and_then(|node| node.life.as_ref());
        let spoke = world.spoke_after_proof.contains(&(machine.id, machine.incarnation()));
        let same = life.is_some_and(|life| life.incarnation == machine.incarnation());
        if spoke && same && !world.state.alarms.contains_key(&AlarmKind::ProofContradicted(machine.id)) {
            return broken(
                "F18 alarm",
                format!("{} spoke after its proof, and nobody says so", machine.name),
            );
        }
    }
    Ok(())
}

/// Section 0: what voids a permit is a closed list.
pub(crate) fn permits_end_by_evidence(before: &State, after: &State, entry: &Entry) -> Checked {
    for (name, unit) in &before.units {
        for (token, permit) in &unit.permits {
            if after.units.get(name).is_some_and(|unit| unit.permits.contains_key(token)) {
                continue;
            }
            let evidence = match &entry.command {
                Command::Fact(Fact::Released { node, incarnation, token: released, .. }) => {
                    permit.node == *node && permit.incarnation == *incarnation && token == released
                }
                Command::Fact(Fact::NodeHeard { node, incarnation, .. }) => {
                    permit.node == *node && permit.incarnation != *incarnation
                }
                Command::Fact(Fact::FenceReported { case, outcome, .. }) => {
                    before.cases.get(case).is_some_and(|case| {
                        permit.node == case.node
                            // P93
                            && before.nodes.get(&case.node).is_some_and(|node| node.lost_since().is_some())
                            && permit.incarnation == case.incarnation
                            && *outcome == FenceOutcome::Off
                            && (!before.level_isolates(case.node, case.level)
                                || permit.terms.fencing == Fencing::Isolated)
                    })
                }
                // Its devices said off while it was heard still.
                Command::Fact(Fact::NodeLost { node, incarnation, .. }) => {
                    let open = before.open_case(*node).map(|(_, case)| case);
                    permit.node == *node
                        && permit.incarnation == *incarnation
                        && open.is_some_and(|case| case.off_at.is_some() && case.incarnation == *incarnation)
                }
                Command::Wish(Wish::VouchFenced { node, incarnation, .. }) => {
                    permit.node == *node && permit.incarnation == *incarnation
                }
                Command::Decision(Decision::Expire { token: expired, .. }) => {
                    token == expired && matches!(permit.terms.fencing, Fencing::Lease | Fencing::None)
                }
                _ => false,
            };
            if !evidence {
                return broken("section 0", format!("{name} {token} ended by {:?}", entry.command));
            }
        }
    }
    Ok(())
}

/// S4: a start only with everything required known active, and up.
pub(crate) fn starts_after_what_it_requires(before: &State, entry: &Entry) -> Checked {
    let Command::Decision(Decision::Grant { unit, .. }) = &entry.command else { return Ok(()) };
    let Some(definition) = before.units.get(unit).and_then(|unit| unit.definition()) else {
        return broken("section 0", format!("{unit} granted without a definition"));
    };
    for required in definition.needs() {
        if !before.is_up(required, None) {
            return broken("S4 order", format!("{unit} granted while {required} is not up"));
        }
    }
    Ok(())
}

/// Section 0: nothing is granted while what it conflicts with is possibly running.
pub(crate) fn opponents_never_meet(before: &State, entry: &Entry) -> Checked {
    let Command::Decision(Decision::Grant { unit, .. }) = &entry.command else { return Ok(()) };
    for (other, known) in &before.units {
        let names = |one: &UnitName, two: &UnitName| {
            let definition = before.units.get(one).and_then(|unit| unit.definition());
            definition.is_some_and(|definition| definition.conflicts.contains(two))
        };
        let possibly = !known.permits.is_empty() || !before.possibly_running(other).is_empty();
        if other != unit && possibly && (names(unit, other) || names(other, unit)) {
            return broken("section 0", format!("{unit} granted while {other} is possibly running"));
        }
    }
    Ok(())
}

/// Section 0: nothing is granted beside a unit that it must not share a node with, nor beyond what the node has to
/// give. Counted anew here, from permits, strays and what `Uses=` says.
pub(crate) fn nodes_are_not_overfull(before: &State, entry: &Entry) -> Checked {
    let Command::Decision(Decision::Grant { unit, node: id, adopt: false, .. }) = &entry.command else {
        return Ok(());
    };
    let definition = |name: &UnitName| before.units.get(name).and_then(|unit| unit.definition());
    let (Some(mine), Some(node)) = (definition(unit), before.nodes.get(id)) else { return Ok(()) };
    let mut taken = mine.uses.clone();
    for other in before.units.keys().filter(|other| *other != unit) {
        if before.possibly_running_on(other, *id, node).is_none() {
            continue;
        }
        let Some(theirs) = definition(other) else { continue };
        if mine.other_node_than.contains(other) || theirs.other_node_than.contains(unit) {
            return broken("section 0", format!("{unit} granted on {} beside {other}", node.name));
        }
        for (of, amount) in &theirs.uses {
            *taken.entry(of.clone()).or_default() += amount;
        }
    }
    for of in mine.uses.keys() {
        let (taken, capacity) = (taken.get(of).copied().unwrap_or(0), node.capacity(of).unwrap_or(0));
        if taken > capacity {
            return broken("section 0", format!("{} gives {taken} of {capacity} `{of}`", node.name));
        }
    }
    Ok(())
}

/// S6: what an operator stopped stays stopped until an operator starts it.
pub(crate) fn the_word_holds(world: &World, before: &State, entry: &Entry) -> Checked {
    for (name, unit) in &world.state.units {
        let stopped = |goal: &Goal| goal.wanted == Wanted::Stopped && goal.by.is_some();
        let was = before.units.get(name).is_some_and(|unit| stopped(&unit.goal));
        let started = matches!(&entry.command,
            Command::Wish(Wish::SetGoal { unit, wanted: Wanted::Started, .. }) if unit == name);
        if was && !stopped(&unit.goal) && !started {
            return broken("S6 word", format!("{name} is to run again by {:?}", entry.command));
        }
        let granted = unit.permits.keys().any(|token| token.0 > unit.goal.revision);
        if stopped(&unit.goal) && granted {
            return broken("S6 word", format!("{name} was granted though it is stopped"));
        }
        let last = unit.last_token.map_or(0, |token| token.0);
        if world.stopped_by_hand.get(name).is_some_and(|index| last > *index) {
            return broken("S6 word", format!("{name} was granted though it was stopped by hand"));
        }
    }
    Ok(())
}

/// A refusal leaves all but index, time and the memory of clients' commands as it was.
pub(crate) fn refusals_change_nothing(before: &State, after: &State, entry: &Entry) -> Checked {
    if entry.origin.is_some() {
        return Ok(());
    }
    let mut before = before.clone();
    (before.index, before.time) = (after.index, after.time);
    if before == *after {
        Ok(())
    } else {
        broken("style 4", format!("a refusal changed the state: {:?}", entry.command))
    }
}

/// Who depends on a unit is kept beside the definitions: it is what they say, and nothing else. One that no definition
/// names any more shows only in what a snapshot does not bring back.
pub(crate) fn dependents_follow_the_definitions(state: &State, entry: &Entry) -> Checked {
    for name in state.units.keys() {
        let needs = |unit: &policy::Unit| unit.definition().is_some_and(|it| it.needs_unit(name));
        let said: Vec<_> =
            state.units.iter().filter(|(_, unit)| needs(unit)).map(|(other, _)| other).collect();
        let kept: Vec<_> = state.dependents(name).collect();
        if said != kept {
            return broken("S4", format!("{said:?} need {name}, kept are {kept:?}"));
        }
    }
    let defines = matches!(
        entry.command,
        Command::Decision(Decision::AdoptDefinition { .. })
            | Command::Wish(Wish::AdoptFrom { .. } | Wish::Forget { .. })
    );
    if defines {
        let bytes = rmp_serde::to_vec_named(state).expect("the state as MessagePack");
        let restored: State = rmp_serde::from_slice(&bytes).expect("the state from MessagePack");
        if restored != *state {
            return broken("S4", "a restored state keeps other dependents".into());
        }
    }
    Ok(())
}

/// Which nodes are asked for a unit is kept beside the nodes: it is what they say, after refusals too.
pub(crate) fn the_unsaid_follows_the_nodes(state: &State) -> Checked {
    let mut found = state.clone();
    found.find_unsaid();
    if found == *state {
        Ok(())
    } else {
        broken("S1", "other nodes are asked than have left it unsaid".into())
    }
}

/// Where permits are found is kept beside the units: it is where they are.
pub(crate) fn the_held_follows_the_permits(state: &State) -> Checked {
    let mut found = state.clone();
    found.find_held();
    if found != *state {
        return broken("S1", "permits are looked for elsewhere than they are".into());
    }
    // What follows from it, counted over all units.
    let uses = || state.units.iter().filter_map(|(name, unit)| Some((name, &unit.definition()?.uses)));
    let aside = UnitName::from("nobody.service");
    for (id, node) in &state.nodes {
        for of in uses().flat_map(|(_, uses)| uses.keys()) {
            let there = uses().filter(|(name, _)| state.possibly_running_on(name, *id, node).is_some());
            let plain: u64 = there.filter_map(|(_, uses)| uses.get(of)).sum();
            let kept = state.taken(*id, node, of, &aside);
            if kept != plain {
                return broken("S1", format!("{kept} of `{of}` on {} is taken, plainly {plain}", node.name));
            }
        }
    }
    Ok(())
}

/// The plan that is kept and renewed by what was touched is the plan of the whole state.
pub(crate) fn the_kept_plan_is_the_plan(world: &mut World) -> Checked {
    let now = world.now + world.skew;
    let kept = world.kept.renew(&world.state, now);
    let whole = plan(&world.state, now);
    if *kept != whole {
        let units = world.state.units.keys();
        let odd = units.map(|unit| (unit, kept.reasons.get(unit), whole.reasons.get(unit)));
        let odd: Vec<_> = odd.filter(|(_, kept, whole)| kept != whole).collect();
        let (kept, whole) = ((&kept.decisions, kept.wake_at), (&whole.decisions, whole.wake_at));
        return broken("kept plan", format!("{kept:?} instead of {whole:?}, {odd:?}"));
    }
    world.renewals.0 += 1;
    world.renewals.1 += u32::from(world.kept.planned() < world.state.units.len());
    Ok(())
}

/// The planner proposes nothing that is refused, one plan of one state, nothing that was done already, and comes to an end.
pub(crate) fn plans_settle(world: &World) -> Checked {
    let mut state = world.state.clone();
    let mut said: Vec<Decision> = Vec::new();
    for _ in 0..20 {
        let planned = plan(&state, world.now);
        if planned != plan(&state, world.now) {
            return broken("plan", "planned twice, two plans".into());
        }
        if planned.decisions.is_empty() {
            return Ok(());
        }
        for decision in planned.decisions {
            if said.contains(&decision) {
                return broken("plan", format!("{decision:?} was carried out, and is planned again"));
            }
            let command = Command::Decision(decision.clone());
            let index = state.index + 1;
            let entry = Entry { index, time: world.now, wall_ms: 0, origin: None, command };
            if let Err(refusal) = apply(&mut state, &entry) {
                return broken("plan", format!("{decision:?} was planned, and refused: {refusal}"));
            }
            said.push(decision);
        }
    }
    broken("plan", format!("does not settle: {said:?}"))
}

/// The log makes one state: straight, and through a snapshot in either encoding.
pub(crate) fn replays_alike(world: &World, cut: usize) -> Checked {
    let replay = |mut state: State, entries: &[Entry]| {
        for entry in entries {
            let _ = apply(&mut state, entry);
        }
        state
    };
    let (first, rest) = world.log.split_at(cut.min(world.log.len()));
    let half = replay(State::default(), first);
    let bytes = rmp_serde::to_vec_named(&half).expect("the state as MessagePack");
    let packed: State = rmp_serde::from_slice(&bytes).expect("the state from MessagePack");
    let text = serde_json::to_string(&half).expect("the state as JSON");
    let written: State = serde_json::from_str(&text).expect("the state from JSON");
    // What voters compare is the encoded state.
    let encoded = |state: &State| rmp_serde::to_vec_named(&state.gist()).expect("the state as MessagePack");
    for (how, start) in [("straight", half), ("MessagePack", packed), ("JSON", written)] {
        let replayed = replay(start, rest);
        if replayed != world.state {
            return broken("F20 replay", format!("another state, {how}, cut at {cut}"));
        }
        if encoded(&replayed) != encoded(&world.state) {
            return broken("F20 replay", format!("the same state, encoded otherwise, {how}, cut at {cut}"));
        }
    }
    let entries = rmp_serde::to_vec_named(&world.log).expect("the log as MessagePack");
    let log: Vec<Entry> = rmp_serde::from_slice(&entries).expect("the log from MessagePack");
    if log == world.log { Ok(()) } else { broken("F20 replay", "the log reads back otherwise".into()) }
}

/// L1: when faults are over, everything started that some node can take is active.
pub(crate) fn converges(world: &World) -> Checked {
    let state = &world.state;
    for (name, unit) in &state.units {
        if unit.goal.wanted == Wanted::Stopped {
            if let Some(permit) = unit.permits.values().next() {
                return broken("L1 converge", format!("{name} is stopped, and still held: {permit:?}"));
            }
            continue;
        }
        let Some(definition) = unit.definition() else { continue };
        // Before its first start ever, every member is heard: a machine that died unheard is the operator's to remove.
        if unit.last_token.is_none() && state.unheard_members(name).next().is_some() {
            continue;
        }
        let met = definition.needs().all(|need| state.known_active(need).next().is_some());
        // On a shortage somebody has to wait.
        let short = !definition.uses.is_empty() || state.strangers(name).next().is_some();
        let able = state.nodes.iter().any(|(id, node)| {
            let offer = node.offers.get(name).filter(|offer| offer.present && offer.gated);
            offer.is_some_and(|offer| offer.definition.as_ref() == Some(definition))
                && node.in_session().is_some()
                && state.drained_by(*id).is_none()
                && !unit.holds.contains_key(id)
                && definition.allows(node)
                && definition
                    .same_node_as
                    .iter()
                    .all(|beside| state.known_active(beside).any(|(_, permit)| permit.node == *id))
        });
        // A copy found running where the files differ, or the gate is not in force, is neither adopted nor stopped: an operator has to mend them.
        let shown = state.nodes.values().any(|node| {
            let stray = node.in_session().is_some_and(|life| life.strays.contains(name));
            let offer = node.offers.get(name).filter(|offer| offer.gated);
            stray && offer.and_then(|offer| offer.definition.as_ref()) != Some(definition)
        });
        // The word that came last counts, and of two that conflict one is enough.
        let stopped_with =
            definition.part_of.iter().filter_map(|whole| state.units.get(whole)).any(|whole| {
                whole.goal.wanted == Wanted::Stopped && whole.goal.revision > unit.goal.revision
            });
        let opposed = state.opponents(name).any(|other| !state.possibly_running(other).is_empty());
        if met
            && !stopped_with
            && !opposed
            && !short
            && able
            && !shown
            && definition.contradiction().is_none()
            && state.known_active(name).next().is_none()
        {
            let reasons = plan(state, world.now).reasons;
            let really =
                world.machines.iter().filter_map(|machine| Some((&machine.name, machine.copies.get(name)?)));
            let really: Vec<_> = really.collect();
            return broken(
                "L1 converge",
                format!("{name} is not active: {:?}; it is on {really:?}", reasons.get(name)),
            );
        }
        if unit.permits.values().any(|permit| matches!(permit.phase, Phase::Revoking(_) | Phase::Granted)) {
            return broken("L1 converge", format!("{name} is still on its way: {:?}", unit.permits));
        }
    }
    Ok(())
}
