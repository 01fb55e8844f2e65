//! Makes states meet that differ only in numbers which grow for ever.
//!
//! Indices (tokens, revisions, cases) and sessions are only compared, so their ranks do as well. Times are only
//! compared by their distance from now, so now stands still. History is for people.

use std::collections::BTreeMap;
use std::mem::take;

use policy::{CaseId, FencePhase, Presence, State, Terms, Token};

use super::letter::{Letter, node_id, unit_name};
use super::memo;
use super::world::{Held, NOW, World};

/// Nothing is measured over more than this, in milliseconds.
const LONG_AGO: u64 = NOW - 20_000;

/// What becomes of each number.
struct Numbers {
    index: Vec<u64>,
    session: Vec<u64>,
    renumber: bool,
}

impl Numbers {
    fn index(&mut self, number: &mut u64) {
        visit(&mut self.index, self.renumber, number);
    }

    fn session(&mut self, number: &mut u64) {
        visit(&mut self.session, self.renumber, number);
    }

    fn terms(&mut self, terms: &mut Terms) {
        self.index(&mut terms.revision);
    }
}

/// Zero means none, and stays.
fn visit(known: &mut Vec<u64>, renumber: bool, number: &mut u64) {
    if *number == 0 || *number == u64::MAX {
        return;
    }
    match known.binary_search(number) {
        Ok(rank) if renumber => *number = rank as u64 + 1,
        Err(at) if !renumber => known.insert(at, *number),
        _ => {}
    }
}

fn in_order(known: &[u64]) -> bool {
    known.iter().enumerate().all(|(rank, number)| *number == rank as u64 + 1)
}

impl World {
    /// Makes the numbers small again, and forgets what can make no difference any more.
    pub(crate) fn tidy(&mut self) {
        self.forget();
        let mut numbers = Numbers { index: Vec::new(), session: Vec::new(), renumber: false };
        self.held.state.read_numbers(&mut numbers);
        self.outside(&mut numbers);
        if in_order(&numbers.index) && in_order(&numbers.session) {
            return;
        }
        numbers.renumber = true;
        self.outside(&mut numbers);
        let key = memo::key(&self.held, (&numbers.index, &numbers.session));
        self.held = memo::renumbered(key, || {
            let mut state = self.held.state.clone();
            state.numbers(&mut numbers);
            Held::new(state)
        });
    }

    /// Views only grow newer, and tokens larger: what an agent remembers of older ones counts only while one of
    /// them is still under way, or still stands in the state.
    fn forget(&mut self) {
        for machine in &mut self.machines {
            let awaited = || self.views.iter().filter(|view| view.node == machine.node);
            if awaited().next().is_none() {
                machine.seen = 0;
            }
            for (unit, copy) in machine.copies.iter_mut().enumerate().filter(|(_, copy)| copy.floor > 0) {
                let known = self.held.state.units.get(&unit_name(unit));
                let standing = known.is_some_and(|unit| {
                    let own = unit.permits.iter().filter(|(_, permit)| permit.node == node_id(machine.node));
                    own.into_iter().any(|(token, _)| token.0 <= copy.floor)
                });
                if !standing && awaited().all(|view| view.permits[unit].is_none()) {
                    copy.floor = 0;
                    copy.owed = None;
                }
            }
        }
        for (node, since) in self.opened.iter_mut().enumerate() {
            let debt = self.held.state.switched_off.get(&("pdu".to_string(), node_id(node)));
            let known = debt.is_some_and(|debt| debt.opening.is_some() && debt.since == *since);
            // That it once was is remembered.
            *since = if known { *since } else { u64::from(*since > 0) * u64::MAX };
        }
        let cases = &self.held.state.cases;
        self.done.retain(|(case, _)| cases.get(&CaseId(*case)).is_some_and(policy::FenceCase::is_open));
    }

    /// Numbers outside the replicated state.
    fn outside(&mut self, numbers: &mut Numbers) {
        numbers.session(&mut self.session);
        for machine in &mut self.machines {
            numbers.session(&mut machine.session);
            numbers.index(&mut machine.seen);
            numbers.index(&mut machine.surveyed);
            for copy in &mut machine.copies {
                numbers.index(&mut copy.token);
                numbers.index(&mut copy.floor);
                if let Some((token, _)) = &mut copy.owed {
                    numbers.index(token);
                }
            }
        }
        for letter in &mut self.letters {
            match letter {
                Letter::Heard { session, .. }
                | Letter::Inventory { session, .. }
                | Letter::Lost { session, .. } => numbers.session(session),
                Letter::Surveyed { session, index, .. } => {
                    numbers.session(session);
                    numbers.index(index);
                }
                Letter::Started { token, .. } | Letter::Released { token, .. } => numbers.index(token),
                Letter::Acknowledged { token, revision, .. } => {
                    numbers.index(token);
                    numbers.index(revision);
                }
                Letter::Fenced { case, .. } => numbers.index(case),
                Letter::Opened { since, .. } => numbers.index(since),
                Letter::Vouched { .. } | Letter::Armed { .. } => {}
            }
        }
        self.letters.sort_unstable();
        for view in &mut self.views {
            numbers.session(&mut view.session);
            numbers.index(&mut view.index);
            numbers.index(&mut view.survey);
            for permit in view.permits.iter_mut().flatten() {
                numbers.index(&mut permit.token);
                if let Some(revision) = &mut permit.asked {
                    numbers.index(revision);
                }
            }
        }
        self.views.sort_unstable();
        for (case, _) in &mut self.done {
            numbers.index(case);
        }
        self.opened.iter_mut().for_each(|since| numbers.index(since));
    }
}

/// The numbers of a replicated state.
trait Numbered {
    fn numbers(&mut self, numbers: &mut Numbers);
    /// The same, where nothing is to change.
    fn read_numbers(&self, numbers: &mut Numbers);
}

impl Numbered for State {
    fn numbers(&mut self, numbers: &mut Numbers) {
        numbers.index(&mut self.index);
        for node in self.nodes.values_mut() {
            numbers.index(&mut node.surveyed);
            numbers.index(&mut node.highest_token.0);
            if let Some(life) = &mut node.life {
                numbers.session(&mut life.session);
            }
        }
        for unit in self.units.values_mut() {
            numbers.index(&mut unit.since);
            numbers.index(&mut unit.goal.revision);
            if let Some(adopted) = &mut unit.adopted {
                numbers.index(&mut adopted.revision);
            }
            if let Some(token) = &mut unit.last_token {
                numbers.index(&mut token.0);
            }
            if let Some(moving) = &mut unit.moving {
                numbers.index(&mut moving.from.0);
            }
            for permit in unit.permits.values_mut() {
                numbers.terms(&mut permit.terms);
                permit.next_terms.iter_mut().for_each(|terms| numbers.terms(terms));
            }
            keys(&mut unit.permits, |token: &mut Token| numbers.index(&mut token.0));
        }
        for case in self.cases.values_mut() {
            for (_, token, permit) in &mut case.voided {
                numbers.index(&mut token.0);
                numbers.terms(&mut permit.terms);
                permit.next_terms.iter_mut().for_each(|terms| numbers.terms(terms));
            }
        }
        keys(&mut self.cases, |case: &mut CaseId| numbers.index(&mut case.0));
        for life in self.nodes.values_mut().filter_map(|node| node.life.as_mut()) {
            life.isolated.iter_mut().for_each(|isolated| numbers.index(&mut isolated.case.0));
        }
        for debt in self.switched_off.values_mut().filter(|debt| debt.opening.is_some()) {
            numbers.index(&mut debt.since);
        }
        self.find_unsaid();
        self.find_held();
    }

    fn read_numbers(&self, numbers: &mut Numbers) {
        for life in self.nodes.values().filter_map(|node| node.life.as_ref()) {
            numbers.session(&mut life.session.clone());
        }
        let mut read = |number: u64| numbers.index(&mut number.clone());
        read(self.index);
        for node in self.nodes.values() {
            read(node.surveyed);
            read(node.highest_token.0);
        }
        for unit in self.units.values() {
            read(unit.since);
            read(unit.goal.revision);
            unit.adopted.iter().for_each(|adopted| read(adopted.revision));
            unit.last_token.iter().for_each(|token| read(token.0));
            unit.moving.iter().for_each(|moving| read(moving.from.0));
            for (token, permit) in &unit.permits {
                read(token.0);
                read(permit.terms.revision);
                permit.next_terms.iter().for_each(|terms| read(terms.revision));
            }
        }
        for (id, case) in &self.cases {
            read(id.0);
            for (_, token, permit) in &case.voided {
                read(token.0);
                read(permit.terms.revision);
                permit.next_terms.iter().for_each(|terms| read(terms.revision));
            }
        }
        let isolated = self.nodes.values().filter_map(|node| node.life.as_ref()?.isolated.as_ref());
        isolated.for_each(|isolated| read(isolated.case.0));
        let opening = self.switched_off.values().filter(|debt| debt.opening.is_some());
        opening.for_each(|debt| read(debt.since));
    }
}

fn keys<K: Copy + Ord, V>(map: &mut BTreeMap<K, V>, mut change: impl FnMut(&mut K)) {
    let before: Vec<K> = map.keys().copied().collect();
    let mut after = before.clone();
    after.iter_mut().for_each(&mut change);
    if before != after {
        *map = take(map).into_values().zip(after).map(|(value, key)| (key, value)).collect();
    }
}

/// What only people read.
pub(crate) fn clean(state: &mut State) {
    state.time = NOW;
    state.history.clear();
    for node in state.nodes.values_mut() {
        node.highest_token = Token(0);
        // What the planner prefers for a while; `apply` asks nobody for it.
        node.lately = policy::Lately::default();
    }
    for life in state.nodes.values_mut().filter_map(|node| node.life.as_mut()) {
        life.since = NOW;
        life.chain.armed.iter_mut().for_each(|armed| armed.since = NOW);
        life.gone.iter_mut().for_each(|gone| gone.at = NOW);
        life.isolated.iter_mut().for_each(|isolated| isolated.at = NOW);
    }
    for unit in state.units.values_mut() {
        unit.last_node = None;
        for permit in unit.permits.values_mut() {
            permit.granted_at = NOW;
            permit.active_at.iter_mut().for_each(|at| *at = NOW);
        }
    }
    for case in state.cases.values_mut() {
        case.opened_at = NOW;
        if let FencePhase::Proven { at, .. }
        | FencePhase::Cancelled { at }
        | FencePhase::Contradicted { at } = &mut case.phase
        {
            *at = NOW;
        }
    }
    for seen in state.observations.values_mut() {
        seen.at = NOW;
    }
    // What is owed is told apart by its number only while an agent is at it.
    let ways = state.devices.values().any(|device| device.isolates.is_some());
    for debt in state.switched_off.values_mut().filter(|debt| ways && debt.opening.is_none()) {
        debt.since = 0;
    }
}

/// Time goes on: everything lies further back.
pub(crate) fn age(state: &mut State, ms: u64) {
    let back = |at: &mut u64| *at = at.saturating_sub(ms).max(LONG_AGO);
    state.tenure.iter_mut().for_each(|tenure| back(&mut tenure.since));
    for node in state.nodes.values_mut() {
        back(&mut node.quarantined_until);
        if let Some(life) = &mut node.life {
            life.contradicted.iter_mut().for_each(back);
            if let Presence::Lost { since } = &mut life.presence {
                back(since);
            }
        }
    }
    for unit in state.units.values_mut() {
        unit.failures.values_mut().for_each(|failures| back(&mut failures.last));
    }
    let ways = state.devices.values().any(|device| device.isolates.is_some());
    for debt in state.switched_off.values_mut().filter(|_| ways) {
        back(&mut debt.next_at);
        debt.opening.iter_mut().for_each(|opening| back(&mut opening.since));
    }
    state.late_openings.values_mut().for_each(back);
    state.late_openings.retain(|_, until| *until > NOW);
    for case in state.cases.values_mut() {
        match &mut case.phase {
            FencePhase::Running { since, .. } => back(since),
            FencePhase::Failed { next_at, .. } => back(next_at),
            FencePhase::Wanted
            | FencePhase::Proven { .. }
            | FencePhase::Cancelled { .. }
            | FencePhase::Contradicted { .. } => {}
        }
    }
}
