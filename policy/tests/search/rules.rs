//! Rules left out, one at a time, to see that the search finds what each protects from.
//!
//! A rule of `apply` is left out by showing it a state, or a command, in which the fact that it asks for is there;
//! everything else that it checks, and does, is the real thing.

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    Command, Decision, Entry, Fact, Fencing, Permit, Phase, Presence, Refusal, State, Token, Unit, UnitName,
    Wanted, Wish, apply,
};

use super::letter::node_id;
use super::world::{NODES, NOW};

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// F1, F2: a release counts for the token, node and life that it names.
    TokenOfRelease,
    /// Section 0: a loss voids nothing.
    LossVoidsNothing,
    /// F3: a new life is believed only after the old one was lost.
    SilenceBeforeNewLife,
    /// F3: a session is newer than the last.
    NewerSession,
    /// F32: a hello was heard in the present term.
    TermOfHello,
    /// S1, S2: an exclusive unit is gone everywhere else.
    GoneElsewhere,
    /// F11: what runs without a permit counts.
    StraysCount,
    /// F11: a silent life that offers the unit counts.
    InventoryFirst,
    /// F11: before the first grant every member was asked by name.
    SurveyFirst,
    /// S4: what it requires is known active.
    RequiredActive,
    /// S4: dependents stop first.
    DependentsStopFirst,
    /// S6: its goal is `started`.
    GoalStarted,
    /// F6, F7: a permit ends by time only when that has passed.
    DueTime,
    /// F7: and only a lost node's.
    LostBeforeExpiry,
    /// F4, F7: and only where its terms let time end it.
    TermsOfExpiry,
    /// F7: the wait covers the stop.
    StopBudget,
    /// F17: and the time of the watchdog.
    WatchdogTime,
    /// F17: which the death of its daemon feeds once more.
    FedByClosing,
    /// F6: the wait is counted within one leader's term.
    TermOfExpiry,
    /// F7, F11: an adopted copy is bound by a lease once its node knows.
    KnownAdoption,
    /// F13: new terms count once the node has acknowledged them.
    KnownTerms,
    /// F4: a proof counts for its case, attempt and life.
    ProofOfOneLife,
    /// S2: a device counts only once it has shown this life with power on.
    SeenOn,
    /// P53: and a level only once each of its devices has.
    EachSeenOn,
    /// P123: a way that was cut is opened only once that life is over.
    OpensForTheNext,
    /// F36: a word is for a life that is lost.
    WordForTheLost,
    /// F5: a loss names the session that fell silent.
    SessionOfLoss,
    /// F3: the certificate of another machine counts for nothing.
    MachineId,
    /// F31: a node that is being fenced gets nothing.
    NothingWhileFenced,
    /// F24: nor in quarantine.
    NothingInQuarantine,
    /// Section 0: nor while it is lost.
    NothingWhileLost,
    /// F3: a grant names the present life.
    LifeOfGrant,
    /// F3: a life that was replaced stays so.
    PastLives,
    // From here on: rules of agents and leaders.
    /// F2: what was released is not acted on again, nor views of any age.
    Floor,
    /// F1: the permit file goes before the release.
    FileFirst,
    /// F8: nothing starts without a lease.
    LeaseBeforeStart,
    /// F2: a daemon that starts again knows what was released.
    FloorKept,
    /// F8: and when its lease ends.
    LeaseKept,
    /// S3: only a majority commits.
    Majority,
}

/// Applies an entry, without a rule.
pub(crate) fn apply_without(rule: Option<Rule>, state: &mut State, entry: &Entry) -> Result<(), Refusal> {
    let Some(rule) = rule else { return apply(state, entry).map(|_| ()) };
    let mut entry = entry.clone();
    let mut lent = Lent::default();
    lend(rule, state, &mut entry, &mut lent);
    let before = state.clone();
    let outcome = apply(state, &entry).map(|_| ());
    lent.give_back(state);
    state.find_unsaid();
    after(rule, state, &before, &entry, &outcome);
    state.find_held();
    outcome
}

/// What the state is to get back once the rule has looked away.
#[derive(Default)]
struct Lent {
    permits: BTreeMap<UnitName, BTreeMap<Token, Permit>>,
    strays: BTreeMap<policy::NodeId, BTreeSet<UnitName>>,
    heard: BTreeMap<policy::NodeId, (bool, u64)>,
    requires: BTreeMap<UnitName, BTreeSet<UnitName>>,
    goal: Option<(UnitName, Wanted)>,
    longest: BTreeMap<policy::NodeId, u64>,
    budgets: BTreeMap<policy::NodeId, u64>,
    tenure: Option<policy::Tenure>,
    presence: BTreeMap<policy::NodeId, Presence>,
    isolated: BTreeMap<policy::NodeId, policy::Isolation>,
    quarantine: BTreeMap<policy::NodeId, u64>,
    cases: BTreeMap<policy::CaseId, policy::FenceCase>,
    fencing: BTreeMap<Token, Fencing>,
    defined: Option<(UnitName, Fencing)>,
}

impl Lent {
    fn give_back(self, state: &mut State) {
        for (name, permits) in self.permits {
            if let Some(unit) = state.units.get_mut(&name) {
                unit.permits.extend(permits);
            }
        }
        for (name, requires) in self.requires {
            let definition = state.units.get_mut(&name).and_then(|unit| unit.adopted.as_mut());
            definition.into_iter().for_each(|adopted| adopted.definition.requires.clone_from(&requires));
            for offer in state.nodes.values_mut().filter_map(|node| node.offers.get_mut(&name)) {
                offer.definition.iter_mut().for_each(|offered| offered.requires.clone_from(&requires));
            }
        }
        if let Some((name, wanted)) = self.goal
            && let Some(unit) = state.units.get_mut(&name)
        {
            unit.goal.wanted = wanted;
        }
        for (token, permit) in state.units.values_mut().flat_map(|unit| unit.permits.iter_mut()) {
            if let Some(fencing) = self.fencing.get(token) {
                permit.terms.fencing = *fencing;
            }
        }
        if let Some((name, fencing)) = self.defined
            && let Some(adopted) = state.units.get_mut(&name).and_then(|unit| unit.adopted.as_mut())
        {
            adopted.definition.fencing = fencing;
        }
        if self.tenure.is_some() {
            state.tenure = self.tenure;
        }
        for (id, node) in &mut state.nodes {
            if let Some(until) = self.quarantine.get(id) {
                node.quarantined_until = *until;
            }
            if let Some((_, surveyed)) = self.heard.get(id) {
                node.surveyed = *surveyed;
            }
            let Some(life) = &mut node.life else { continue };
            if let Some((inventory, _)) = self.heard.get(id) {
                life.inventory = *inventory;
            }
            if let Some(presence) = self.presence.get(id) {
                life.presence = presence.clone();
            }
            if let Some(isolated) = self.isolated.get(id) {
                life.isolated = Some(isolated.clone());
            }
            if let Some(longest) = self.longest.get(id) {
                life.chain.longest_ms = *longest;
            }
            if let Some(budget) = self.budgets.get(id) {
                life.stop_budget_ms = *budget;
            }
            life.strays.extend(self.strays.get(id).into_iter().flatten().cloned());
        }
        state.cases.extend(self.cases);
    }
}

#[expect(clippy::too_many_lines, reason = "one arm per rule")]
fn lend(rule: Rule, state: &mut State, entry: &mut Entry, lent: &mut Lent) {
    match (rule, &mut entry.command) {
        (Rule::TokenOfRelease, Command::Fact(Fact::Released { unit, node, incarnation, token, .. })) => {
            let held = state.units.get(unit).and_then(|unit| unit.permits.first_key_value());
            if let Some((live, permit)) = held {
                (*token, *node, *incarnation) = (*live, permit.node, permit.incarnation.clone());
            }
        }
        (Rule::SilenceBeforeNewLife, Command::Fact(Fact::NodeHeard { node, incarnation, .. })) => {
            let life = state.nodes.get_mut(node).and_then(|node| node.life.as_mut());
            if let Some(life) = life.filter(|life| life.incarnation != *incarnation) {
                life.presence = Presence::Lost { since: NOW };
            }
        }
        (Rule::NewerSession, Command::Fact(Fact::NodeHeard { node, .. })) => {
            let life = state.nodes.get_mut(node).and_then(|node| node.life.as_mut());
            life.into_iter().for_each(|life| life.session = 0);
        }
        (Rule::PastLives, Command::Fact(Fact::NodeHeard { node, .. })) => {
            state.nodes.get_mut(node).into_iter().for_each(|node| node.past.clear());
        }
        (Rule::TermOfHello, Command::Fact(Fact::NodeHeard { term, .. })) => {
            *term = state.tenure.map_or(0, |tenure| tenure.term);
        }
        (Rule::MachineId, Command::Fact(Fact::NodeHeard { node, machine, .. })) => {
            if let Some(node) = state.nodes.get(node) {
                machine.clone_from(&node.machine);
            }
        }
        (Rule::SessionOfLoss, Command::Fact(Fact::NodeLost { node, session, term, .. })) => {
            let life = state.nodes.get(node).and_then(|node| node.life.as_ref());
            *session = life.map_or(0, |life| life.session);
            *term = state.tenure.map_or(0, |tenure| tenure.term);
        }
        (Rule::GoneElsewhere, Command::Decision(Decision::Grant { unit, .. })) => {
            if let Some(known) = state.units.get_mut(unit) {
                lent.permits.insert(unit.clone(), std::mem::take(&mut known.permits));
            }
            take_strays(state, lent);
            take_silence(state, lent);
        }
        (Rule::StraysCount, Command::Decision(Decision::Grant { adopt: false, .. })) => {
            take_strays(state, lent);
        }
        (Rule::InventoryFirst, Command::Decision(Decision::Grant { .. })) => take_silence(state, lent),
        (Rule::SurveyFirst, Command::Decision(Decision::Grant { .. })) => {
            for (id, node) in &mut state.nodes {
                let inventory = node.life.as_ref().is_some_and(|life| life.inventory);
                lent.heard.insert(*id, (inventory, node.surveyed));
                node.surveyed = u64::MAX;
            }
        }
        (Rule::RequiredActive, Command::Decision(Decision::Grant { unit, .. })) => {
            let unit = unit.clone();
            take_requires(state, lent, |name| *name == unit);
        }
        (Rule::DependentsStopFirst, Command::Decision(Decision::Revoke { .. })) => {
            take_requires(state, lent, |_| true);
        }
        (Rule::GoalStarted, Command::Decision(Decision::Grant { unit, .. })) => {
            if let Some(known) = state.units.get_mut(unit) {
                lent.goal = Some((unit.clone(), known.goal.wanted));
                known.goal.wanted = Wanted::Started;
            }
        }
        (Rule::DueTime, Command::Decision(Decision::Expire { .. })) => entry.time = NOW + 60_000,
        (Rule::LostBeforeExpiry, Command::Decision(Decision::Expire { unit, token })) => {
            let holder = state.permit(unit, *token).map(|permit| permit.node);
            let node = holder.and_then(|holder| state.nodes.get_mut(&holder));
            if let Some(life) = node.and_then(|node| node.life.as_mut()).filter(|life| life.gone.is_none())
                && let Some(holder) = holder
            {
                lent.presence.insert(holder, life.presence.clone());
                if !matches!(life.presence, Presence::Lost { .. }) {
                    life.presence = Presence::Lost { since: 0 };
                }
            }
        }
        (Rule::TermsOfExpiry, Command::Decision(Decision::Expire { unit, .. })) => {
            if let Some(known) = state.units.get_mut(unit) {
                if let Some(adopted) = &mut known.adopted {
                    lent.defined = Some((unit.clone(), adopted.definition.fencing));
                    adopted.definition.fencing = Fencing::Lease;
                }
                for (token, permit) in &mut known.permits {
                    lent.fencing.insert(*token, permit.terms.fencing);
                    permit.terms.fencing = Fencing::Lease;
                }
            }
        }
        (Rule::StopBudget, Command::Decision(Decision::Expire { .. })) => {
            for (id, node) in &mut state.nodes {
                let Some(life) = &mut node.life else { continue };
                lent.budgets.insert(*id, std::mem::take(&mut life.stop_budget_ms));
            }
        }
        (Rule::WatchdogTime | Rule::FedByClosing, Command::Decision(Decision::Expire { .. })) => {
            for (id, node) in &mut state.nodes {
                let Some(life) = &mut node.life else { continue };
                lent.longest.insert(*id, life.chain.longest_ms);
                life.chain.longest_ms =
                    if rule == Rule::FedByClosing { life.chain.longest_ms / 2 } else { 0 };
            }
        }
        (Rule::TermOfExpiry, Command::Decision(Decision::Expire { .. })) => {
            lent.tenure = state.tenure;
            state.tenure.iter_mut().for_each(|tenure| tenure.since = 0);
        }
        (Rule::SeenOn, Command::Decision(Decision::BeginAttempt { .. })) => {
            for seen in state.observations.values_mut() {
                seen.trusted = true;
            }
        }
        (Rule::EachSeenOn, Command::Decision(Decision::BeginAttempt { .. })) => {
            let seen = state.observations.iter().filter(|(_, seen)| seen.trusted);
            let seen: BTreeSet<policy::NodeId> = seen.map(|((_, node), _)| *node).collect();
            for ((_, node), other) in &mut state.observations {
                other.trusted |= seen.contains(node);
            }
        }
        (Rule::OpensForTheNext, Command::Decision(Decision::BeginOpening { node, .. })) => {
            let life = state.nodes.get_mut(node).and_then(|node| node.life.as_mut());
            lent.isolated.extend(life.and_then(|life| Some((*node, life.isolated.take()?))));
        }
        (Rule::WordForTheLost, Command::Wish(Wish::VouchFenced { node, incarnation, .. })) => {
            let life = state.nodes.get_mut(node).and_then(|node| node.life.as_mut());
            if let Some(life) = life {
                incarnation.clone_from(&life.incarnation);
                life.presence = Presence::Lost { since: 0 };
            }
        }
        (Rule::NothingWhileFenced, Command::Decision(Decision::Grant { .. })) => {
            lent.cases = std::mem::take(&mut state.cases);
        }
        (Rule::NothingInQuarantine, Command::Decision(Decision::Grant { .. })) => {
            for (id, node) in &mut state.nodes {
                lent.quarantine.insert(*id, node.quarantined_until);
                node.quarantined_until = 0;
            }
        }
        (Rule::NothingWhileLost, Command::Decision(Decision::Grant { node, .. })) => {
            let life = state.nodes.get_mut(node).and_then(|node| node.life.as_mut());
            if let Some(life) = life {
                lent.presence.insert(*node, life.presence.clone());
                life.presence = Presence::InSession;
            }
        }
        (Rule::LifeOfGrant, Command::Decision(Decision::Grant { node, incarnation, .. })) => {
            if let Some(life) = state.nodes.get(node).and_then(|node| node.life.as_ref()) {
                incarnation.clone_from(&life.incarnation);
            }
        }
        _ => {}
    }
}

fn take_strays(state: &mut State, lent: &mut Lent) {
    for (id, node) in &mut state.nodes {
        if let Some(life) = &mut node.life {
            lent.strays.insert(*id, std::mem::take(&mut life.strays));
        }
    }
}

fn take_silence(state: &mut State, lent: &mut Lent) {
    for (id, node) in &mut state.nodes {
        if let Some(life) = &mut node.life {
            lent.heard.insert(*id, (life.inventory, node.surveyed));
            life.inventory = true;
            node.surveyed = u64::MAX;
        }
    }
}

fn take_requires(state: &mut State, lent: &mut Lent, of: impl Fn(&UnitName) -> bool) {
    for (name, unit) in state.units.iter_mut().filter(|(name, _)| of(name)) {
        if let Some(adopted) = &mut unit.adopted {
            lent.requires.insert(name.clone(), std::mem::take(&mut adopted.definition.requires));
        }
        for offer in state.nodes.values_mut().filter_map(|node| node.offers.get_mut(name)) {
            offer.definition.iter_mut().for_each(|offered| offered.requires.clear());
        }
    }
}

/// Rules whose absence adds something.
fn after(rule: Rule, state: &mut State, before: &State, entry: &Entry, outcome: &Result<(), Refusal>) {
    match (rule, &entry.command) {
        (Rule::LossVoidsNothing, Command::Fact(Fact::NodeLost { node, .. })) if outcome.is_ok() => {
            void_all(state, *node);
        }
        (Rule::ProofOfOneLife, Command::Fact(Fact::FenceReported { case, outcome: told, .. }))
            if outcome.is_err() && *told == policy::FenceOutcome::Off =>
        {
            let target = before.cases.get(case).map(|case| case.node);
            // The case of an ended life is forgotten; its target is told apart by its number alone.
            void_all(state, target.unwrap_or(node_id(0)));
        }
        (Rule::KnownAdoption, Command::Decision(Decision::Grant { unit, adopt: true, .. }))
        | (Rule::KnownTerms, Command::Decision(Decision::Reterm { unit, .. }))
            if outcome.is_ok() =>
        {
            let permits =
                state.units.get_mut(unit).into_iter().flat_map(|unit: &mut Unit| unit.permits.values_mut());
            for permit in permits.filter(|permit| permit.phase == Phase::Active) {
                permit.next_terms.take().into_iter().for_each(|terms| permit.terms = terms);
            }
        }
        _ => {}
    }
}

fn void_all(state: &mut State, node: policy::NodeId) {
    debug_assert!(node.0 <= NODES as u64);
    for unit in state.units.values_mut() {
        unit.permits.retain(|_, permit| permit.node != node);
    }
}
