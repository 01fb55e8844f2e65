//! When positions are gathered anew, and who may be elected by what was heard.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::definition::Definition;
use crate::name::{Millis, NodeId, Token, UnitName};
use crate::node::Node;
use crate::permit::Phase;
use crate::query::Possibly;
use crate::refusal::Refusal;
use crate::state::State;
use crate::unit::{Unit, Wanted};

use super::boot_up::{BootUp, Election, Found, Ground, Heard, Member, Start};
use super::definition::{Assembly, AssemblyStyle, GatherThen};

fn no<T>(why: String) -> Result<T, Refusal> {
    Err(Refusal::Unsafe(why))
}

impl State {
    /// The unit with what is remembered of its boot-up, if it is a clustered service.
    pub(crate) fn assembled(&self, name: &UnitName) -> Result<(&Unit, &Assembly, &BootUp), Refusal> {
        let unit = self.units.get(name).ok_or_else(|| Refusal::UnknownUnit(name.clone()))?;
        let assembly = unit.definition().and_then(|definition| definition.assembly.as_ref());
        match (assembly, unit.boot_up.as_ref()) {
            (Some(assembly), Some(boot_up)) => Ok((unit, assembly, boot_up)),
            _ => Err(Refusal::Impossible(format!("{name} has no Assembly=: each copy starts by itself"))),
        }
    }

    /// What a node said of its data, if it said so in its present session and nothing touched the data since.
    pub(crate) fn position<'a>(&self, boot_up: &'a BootUp, id: NodeId) -> Option<&'a Found> {
        self.still_heard(boot_up, id).map(|heard| &heard.found).filter(|found| found.is_told())
    }

    /// The latest word of a node on its data that counts, failed looks among them.
    #[must_use]
    pub fn still_heard<'a>(&self, boot_up: &'a BootUp, id: NodeId) -> Option<&'a Heard> {
        let life = self.nodes.get(&id).and_then(Node::in_session)?;
        let heard = boot_up.heard.get(&id)?;
        let same = heard.incarnation == life.incarnation && heard.session == life.session;
        (same && !heard.void).then_some(heard)
    }

    /// Whether a copy waits for others to come: all of them were started in this epoch, and none was active yet.
    pub(crate) fn waits_together(
        &self,
        assembly: &Assembly,
        boot_up: &BootUp,
        unit: &Unit,
        token: Token,
    ) -> bool {
        let Some(permit) = unit.permits.get(&token) else { return false };
        let life = self.nodes.get(&permit.node).and_then(Node::in_session);
        assembly.style == AssemblyStyle::AllTogether
            && permit.phase == Phase::Granted
            && !permit.contradicted
            && token.index() > boot_up.epoch
            && life.is_some_and(|life| life.incarnation == permit.incarnation)
    }

    /// Whether a member's copy has ended by a release or a proof: no permit of it is left, and time alone, or a
    /// loss, did not end it.
    pub(crate) fn has_ended(&self, boot_up: &BootUp, unit: &Unit, id: NodeId) -> bool {
        unit.permit_on(id).is_none() && boot_up.members.get(&id).is_none_or(|member| member.ended.is_some())
    }

    /// Whether a new gathering may begin: nothing is live, and the one before has come to its end (F16).
    pub(crate) fn may_gather(&self, name: &UnitName) -> Result<(), Refusal> {
        let (unit, _, boot_up) = self.assembled(name)?;
        if unit.goal.wanted != Wanted::Started {
            return no("the unit is stopped".to_string());
        }
        if let Some(why) = unit.definition().and_then(Definition::contradiction) {
            return no(why.to_string());
        }
        let held = unit.permits.values().find(|permit| !self.is_lost(permit));
        if let Some(permit) = held {
            return no(format!("{} holds a permit", self.node_name(permit.node)));
        }
        for (id, how) in self.possibly_running(name) {
            if how == Possibly::Stray && self.may_keep(name, id).is_ok() {
                return no(format!("it runs on {} already", self.node_name(id)));
            }
        }
        self.first_is_asked_of_all(name, boot_up)?;
        if !boot_up.is_gathering() {
            return Ok(());
        }
        match &boot_up.election {
            None => Err(Refusal::Stale("positions are being gathered already".to_string())),
            // Whoever was elected and got no permit did nothing; one that got it has ended, for nobody holds one now.
            Some(_) => Ok(()),
        }
    }

    /// Before the first gathering ever, every member has said whether it runs there (F11), also where some copies that ran
    /// before were taken over: another may be running on a node that was not heard yet.
    fn first_is_asked_of_all(&self, name: &UnitName, boot_up: &BootUp) -> Result<(), Refusal> {
        if boot_up.epoch > 0 {
            return Ok(());
        }
        match self.unheard_members(name).next() {
            Some((_, node)) => no(format!("{} has not said yet whether it runs there", node.name)),
            None => Ok(()),
        }
    }

    /// Nobody may be running it: every copy has ended by a release or a proof, whatever `Fencing=` says. One that was
    /// seen to wait for others may have found them since, and serve (F16).
    pub(crate) fn nobody_else_runs(&self, name: &UnitName) -> Result<(), Refusal> {
        let (unit, _, boot_up) = self.assembled(name)?;
        if let Some((id, _)) = self.possibly_running(name).first() {
            return no(format!("it is possibly running on {}", self.node_name(*id)));
        }
        for id in boot_up.members.keys() {
            if !self.has_ended(boot_up, unit, *id) {
                let name = self.node_name(*id);
                return no(format!(
                    "{name} ran it last, and was not proven gone since: no release, no proof"
                ));
            }
        }
        Ok(())
    }

    /// From when on the best of those heard may be taken: counted within one leader's term (F6). `None` for never.
    #[must_use]
    pub fn gather_ends(&self, assembly: &Assembly, boot_up: &BootUp) -> Option<Millis> {
        let wait = assembly.gather_wait_ms.filter(|_| assembly.gather_then == GatherThen::Best)?;
        Some(boot_up.opened_at.max(self.tenure?.since).saturating_add(wait))
    }

    /// Members of the last active set whose data is missing: they have not said how it stands, or had all of it and lost
    /// it, so that nobody knows what was in it.
    pub(crate) fn absent(&self, boot_up: &BootUp) -> BTreeSet<NodeId> {
        let missing = |(id, member): &(&NodeId, &Member)| match self.position(boot_up, **id) {
            None => true,
            Some(Found::Data { .. }) => false,
            Some(Found::Empty) => member.active,
            // Of one that was never ready it is the copy of the others' data that was cut off.
            Some(_) => member.served,
        };
        boot_up.members.iter().filter(missing).map(|(id, _)| *id).collect()
    }

    /// Why a member's data is missing.
    pub(crate) fn missing(&self, boot_up: &BootUp, id: NodeId) -> String {
        let name = self.node_name(id);
        match self.position(boot_up, id) {
            Some(Found::Empty) => format!("{name} was live last, and its data is gone: it is empty now"),
            Some(_) => format!("{name} was live last, and its data is unusable now"),
            None => format!("{name} was live last, and has not said how its data stands"),
        }
    }

    /// Whom the present epoch elects if it elects this node, or the fact that is missing.
    pub(crate) fn may_elect(&self, name: &UnitName, id: NodeId, now: Millis) -> Result<Election, Refusal> {
        let (unit, assembly, boot_up) = self.assembled(name)?;
        if unit.goal.wanted != Wanted::Started {
            return no("the unit is stopped".to_string());
        }
        if !boot_up.is_gathering() || boot_up.election.is_some() {
            return Err(Refusal::Stale("this epoch elects nobody any more".to_string()));
        }
        self.nobody_else_runs(name)?;
        let absent = self.absent(boot_up);
        let (ground, (identity, rank)) = match &boot_up.words.from {
            Some((from, _)) if *from != id => {
                return no(format!("an operator chose {}", self.node_name(*from)));
            }
            Some(_) => (Ground::Word, self.chosen(boot_up, id)?),
            None => {
                let ground = self.enough_heard(assembly, boot_up, &absent, now)?;
                (ground, self.best(boot_up, id)?)
            }
        };
        let life = self.nodes.get(&id).and_then(Node::in_session).ok_or(Refusal::NotInSession(id))?;
        let incarnation = life.incarnation.clone();
        Ok(Election { node: id, incarnation, identity, rank, absent, ground, token: None })
    }

    /// Whether those that are absent may be done without.
    fn enough_heard(
        &self,
        assembly: &Assembly,
        boot_up: &BootUp,
        absent: &BTreeSet<NodeId>,
        now: Millis,
    ) -> Result<Ground, Refusal> {
        if !boot_up.formed {
            return no("it was never formed: an operator says whose data it begins with".to_string());
        }
        let words = &boot_up.words.without;
        let missing: Vec<NodeId> = absent.iter().copied().filter(|id| !words.contains_key(id)).collect();
        let Some(first) = missing.first() else {
            return Ok(if words.is_empty() { Ground::AllHeard } else { Ground::Word });
        };
        // Its data is not read now, and it would be passed over as one that is silent.
        let kept_from = missing.iter().find_map(|id| {
            self.nodes.get(id)?.in_session()?;
            self.node_maintenance(*id)
        });
        if let Some(scope) = kept_from {
            return no(format!("{}, and how its data stands was not asked", self.maintenance_text(&scope)));
        }
        let name = self.node_name(*first);
        let Some(ends) = self.gather_ends(assembly, boot_up) else {
            return no(self.missing(boot_up, *first));
        };
        if ends > now {
            let left = ends.saturating_sub(now);
            return no(format!("{name} was live last, and is waited for another {left} ms"));
        }
        let last = || boot_up.members.iter().filter(|(_, member)| !member.late);
        let members = last().count();
        let heard = last().filter(|(id, _)| !absent.contains(*id)).count();
        if heard.saturating_mul(2) <= members {
            return no(format!("only {heard} of the {members} that were live last were heard"));
        }
        // What one wrote that started alone, nobody else has before somebody was ready after it.
        let alone = |id: &&NodeId| boot_up.members.get(*id).is_some_and(|m| m.start == Some(Start::Alone));
        match missing.iter().find(alone) {
            Some(id) => {
                no(format!("{} was the last to start alone: only a word gives it up", self.node_name(*id)))
            }
            None => Ok(Ground::Best),
        }
    }

    /// The data of the node that an operator chose. It may be behind, but not nothing where there is something.
    pub(crate) fn chosen(&self, boot_up: &BootUp, id: NodeId) -> Result<(Option<String>, i64), Refusal> {
        let name = self.node_name(id);
        match self.position(boot_up, id) {
            Some(Found::Data { rank, identity, .. }) => Ok((Some(identity.clone()), *rank)),
            Some(Found::Empty) => {
                let data = boot_up.heard.keys().find(|other| {
                    let found = self.position(boot_up, **other);
                    matches!(found, Some(Found::Data { .. } | Found::Unusable))
                });
                if let Some(other) = data {
                    return no(format!("{name} is empty, and {} has data", self.node_name(*other)));
                }
                if boot_up.formed {
                    return no(format!("{name} is empty, and there was data once"));
                }
                let words = &boot_up.words.without;
                match self.absent(boot_up).into_iter().find(|other| !words.contains_key(other)) {
                    Some(other) => {
                        no(format!("{name} is empty, and {} may have data", self.node_name(other)))
                    }
                    None => Ok((None, 0)),
                }
            }
            Some(_) => no(format!("the data of {name} is unusable")),
            None => no(format!("{name} has not said how its data stands")),
        }
    }

    /// Why there is nobody to elect, where none of those that were live last has data that counts.
    fn nothing_counts(&self, boot_up: &BootUp) -> String {
        let older = |id: &&NodeId| {
            let has = matches!(self.position(boot_up, **id), Some(Found::Data { .. }));
            has && boot_up.members.get(*id).is_none_or(|member| member.late)
        };
        let older: Vec<String> = boot_up.heard.keys().filter(older).map(|id| self.node_name(*id)).collect();
        if older.is_empty() {
            return "all that were heard are empty or unusable, and there was data once".to_string();
        }
        let names = older.join(" and ");
        format!("none of those that were live last has data that counts; that of {names} is older")
    }

    /// The node's data, if nobody's of those that count is later and all are of one history.
    fn best(&self, boot_up: &BootUp, id: NodeId) -> Result<(Option<String>, i64), Refusal> {
        let mut histories: Vec<(NodeId, &str, i64)> = Vec::new();
        for member in boot_up.members.keys().filter(|member| !boot_up.words.without.contains_key(member)) {
            if let Some(Found::Data { rank, identity, .. }) = self.position(boot_up, *member) {
                if let Some(why) = boot_up.branch(*member, identity, *rank) {
                    let member = self.node_name(*member);
                    return no(format!("the data of {member} may have a branch of its own: {why}"));
                }
                histories.push((*member, identity, *rank));
            }
        }
        // Of who started along it is known that it was behind. It may be later by now, and then that is no election's choice.
        let late = |id: &NodeId| boot_up.members.get(id).is_some_and(|member| member.late);
        let counts = histories.iter().any(|(member, _, _)| !late(member));
        let Some((first, one, _)) = histories.first().filter(|_| counts) else {
            return no(self.nothing_counts(boot_up));
        };
        if let Some((other, another, _)) = histories.iter().find(|(_, identity, _)| identity != one) {
            let (a, b) = (self.node_name(*first), self.node_name(*other));
            return no(format!(
                "the data of {a} and {b} has two histories ({one}, {another}): ranks say nothing"
            ));
        }
        let own = histories.iter().find(|(member, _, _)| *member == id);
        let Some((_, identity, rank)) = own else {
            return no(format!("{} has no data that counts", self.node_name(id)));
        };
        if late(&id) {
            let name = self.node_name(id);
            return no(format!(
                "{name} was not live last, and may have found those that were: it begins by an operator's word alone"
            ));
        }
        match histories.iter().find(|(_, _, other)| other > rank) {
            Some((other, _, later)) => {
                let (here, there) = (self.node_name(id), self.node_name(*other));
                no(format!("the data of {there} is later than that of {here} ({later} > {rank})"))
            }
            None => Ok((Some((*identity).to_string()), *rank)),
        }
    }
}
