//! Which start a node may be given: to join, to begin alone, or to copy everything anew.

use alloc::format;
use alloc::string::{String, ToString};

use crate::name::{Incarnation, NodeId, Token, UnitName};
use crate::node::Node;
use crate::permit::Permit;
use crate::refusal::Refusal;
use crate::state::State;
use crate::unit::Unit;

use super::boot_up::{BootUp, Election, Found, Member, Start};
use super::definition::{Assembly, AssemblyStyle};

fn no<T>(why: String) -> Result<T, Refusal> {
    Err(Refusal::Unsafe(why))
}

impl State {
    /// Whether a copy that was found running without a permit may be kept.
    ///
    /// Of a service that ran before the cluster knew it, every one that its node tells of with its first word on it. Later
    /// only one whose permit merely ran out: any other was started behind the gate, and may have begun a history of its own.
    pub(crate) fn may_keep(&self, name: &UnitName, id: NodeId) -> Result<(), Refusal> {
        let Ok((_, _, boot_up)) = self.assembled(name) else { return Ok(()) };
        let life = self.nodes.get(&id).and_then(|node| node.life.as_ref());
        let member = boot_up.members.get(&id).filter(|member| member.ended.is_none() && !member.quiet);
        let same =
            member.is_some_and(|member| life.is_some_and(|life| life.incarnation == member.incarnation));
        let ran_before = boot_up.epoch == 0 && (!boot_up.formed || boot_up.ran_before.contains(&id));
        if ran_before || same {
            return Ok(());
        }
        no(format!(
            "it was started on {} behind the gate, and may have begun a history of its own",
            self.node_name(id)
        ))
    }

    /// Whether a copy runs somewhere that the cluster did not start, nor can keep.
    pub(crate) fn runs_strange(&self, name: &UnitName) -> bool {
        let runs = |node: &Node| node.life.as_ref().is_some_and(|life| life.strays.contains(name));
        self.nodes.iter().any(|(id, node)| runs(node) && self.may_keep(name, *id).is_err())
    }

    /// Who joins may find a copy that was started behind the gate instead, as long as that is there. Where it is about to be
    /// stopped that is over soon; a silent node, or one in maintenance, would hold all others up.
    pub(crate) fn meets_nobody_else(&self, name: &UnitName) -> Result<(), Refusal> {
        match self.found_running(name).find(|id| self.may_keep(name, *id).is_err()) {
            Some(id) => no(format!(
                "whoever joins may join the copy on {}, which is about to be stopped",
                self.node_name(id)
            )),
            None => Ok(()),
        }
    }

    /// Whether a grant may have a unit started in this way.
    pub(crate) fn may_start(
        &self,
        name: &UnitName,
        id: NodeId,
        incarnation: &Incarnation,
        start: Option<Start>,
    ) -> Result<(), Refusal> {
        let definition = self.units.get(name).and_then(Unit::definition);
        let clustered = definition.is_some_and(|definition| definition.assembly.is_some());
        let Some(start) = start else {
            return if clustered {
                no("a clustered service starts by joining, or alone".to_string())
            } else {
                Ok(())
            };
        };
        let (_, assembly, boot_up) = self.assembled(name)?;
        if start != Start::Alone {
            self.meets_nobody_else(name)?;
        }
        match start {
            Start::Alone => self.may_start_alone(name, boot_up, id, incarnation),
            Start::Join if self.is_live(name) => self.returns_well(boot_up, id),
            Start::Join => self.may_start_together(name, assembly, boot_up, id),
            Start::Resync => self.may_resync(name, assembly, boot_up, id),
        }
    }

    /// Whether a copy is known active and ready: what the others may join.
    pub(crate) fn is_live(&self, name: &UnitName) -> bool {
        let Some(boot_up) = self.units.get(name).and_then(|unit| unit.boot_up.as_ref()) else { return false };
        self.known_active(name).any(|(token, permit)| {
            let member = boot_up.members.get(&permit.node).filter(|member| member.token == token);
            member.is_some_and(|member| member.ready.is_some())
        })
    }

    /// Exactly what the present epoch decided, and once (F16).
    fn may_start_alone(
        &self,
        name: &UnitName,
        boot_up: &BootUp,
        id: NodeId,
        incarnation: &Incarnation,
    ) -> Result<(), Refusal> {
        let election = boot_up.election.as_ref().filter(|_| boot_up.is_gathering());
        match election {
            None => return no("nobody is elected to start alone".to_string()),
            Some(Election { node, .. }) if *node != id => {
                return no(format!("{} is elected to start alone", self.node_name(*node)));
            }
            Some(Election { token: Some(_), .. }) => {
                return no("it was let start alone in this epoch already".to_string());
            }
            Some(election) if election.incarnation != *incarnation => {
                return no("another life of it was elected".to_string());
            }
            Some(_) => {}
        }
        self.nobody_else_runs(name)
    }

    /// Of a service that comes up together, those that were live last and have data, once it was formed; and with them those
    /// that stopped before, as soon as all the others wait.
    fn may_start_together(
        &self,
        name: &UnitName,
        assembly: &Assembly,
        boot_up: &BootUp,
        id: NodeId,
    ) -> Result<(), Refusal> {
        if assembly.style == AssemblyStyle::OneThenSerial || !boot_up.is_gathering() {
            return no(format!("no copy of {name} is live and ready to be joined"));
        }
        if !boot_up.formed {
            return no("it was never formed: an operator says whose data it begins with".to_string());
        }
        if boot_up.election.is_some() {
            return no("one is elected to start alone: the others wait until it is ready".to_string());
        }
        let node = self.node_name(id);
        let is_member = boot_up.members.contains_key(&id);
        if !is_member && !self.all_wait(name, assembly, boot_up) {
            return no(format!("{node} was not live last: it joins those that were"));
        }
        let Some(found) = self.position(boot_up, id) else {
            return no(format!("{node} has not said how its data stands"));
        };
        let Found::Data { identity: own, rank, safe } = found else {
            return no(format!("{node} has no data: it joins those that have"));
        };
        // It says itself that others went on without it: its server waits for them, whoever else is up.
        if !is_member && (*safe || !boot_up.is_behind(*rank)) {
            return no(format!("{node} was not live last, and does not know it: it joins those that were"));
        }
        if let Some(why) = boot_up.branch(id, own, *rank) {
            return no(format!("the data of {node} may have a branch of its own: {why}"));
        }
        for other in boot_up.members.keys() {
            let found = boot_up.heard.get(other).map(|heard| &heard.found);
            if let Some(Found::Data { identity, .. }) = found
                && identity != own
            {
                let other = self.node_name(*other);
                return no(format!("the data of {node} and {other} has two histories ({own}, {identity})"));
            }
        }
        Ok(())
    }

    /// Whether all that were live last were started in this gathering, and wait for each other.
    fn all_wait(&self, name: &UnitName, assembly: &Assembly, boot_up: &BootUp) -> bool {
        let Some(unit) = self.units.get(name) else { return false };
        let waits = |(token, permit): (&Token, &Permit)| {
            boot_up.members.contains_key(&permit.node) && self.waits_together(assembly, boot_up, unit, *token)
        };
        let holds = |(id, member): (&NodeId, &Member)| member.late || unit.permit_on(*id).is_some();
        boot_up.members.iter().all(holds) && unit.permits.iter().all(waits)
    }

    /// The return check: a node's own data is a part of what is live, or it has none.
    pub(crate) fn returns_well(&self, boot_up: &BootUp, id: NodeId) -> Result<(), Refusal> {
        let node = self.node_name(id);
        let Some(found) = self.position(boot_up, id) else {
            return no(format!("{node} has not said how its data stands"));
        };
        match self.divergence(boot_up, id, found) {
            Some(why) => no(why),
            None => Ok(()),
        }
    }

    /// Why a node's data is not a part of what is live.
    pub(crate) fn divergence(&self, boot_up: &BootUp, id: NodeId, found: &Found) -> Option<String> {
        let node = self.node_name(id);
        let Found::Data { rank, identity, .. } = found else {
            return (*found != Found::Empty).then(|| format!("the data of {node} is unusable"));
        };
        let formation = boot_up.formation.as_ref()?;
        match &formation.identity {
            Some(one) if one != identity => {
                return Some(format!(
                    "the data of {node} has another history ({identity}) than what is live ({one})"
                ));
            }
            None if !formation.joined.contains(&id) => {
                return Some(format!(
                    "{node} has data of its own ({identity}), and what is live began without any"
                ));
            }
            None if formation.doubted => {
                return Some(format!(
                    "nobody has said which history is live, and {node} may have joined a copy that was started behind the \
                     gate ({identity})"
                ));
            }
            _ => {}
        }
        let why = boot_up.branch(id, identity, *rank)?;
        Some(format!("the data of {node} may have a branch of its own: {why}"))
    }

    /// An operator said that the node's data may go, and there is something to take it from.
    fn may_resync(
        &self,
        name: &UnitName,
        assembly: &Assembly,
        boot_up: &BootUp,
        id: NodeId,
    ) -> Result<(), Refusal> {
        let node = self.node_name(id);
        if !boot_up.words.resync.contains(&id) {
            return no(format!("nobody said that the data of {node} may be thrown away"));
        }
        if !assembly.resync {
            return no("no StartResync= says how its data is replaced".to_string());
        }
        if !self.is_live(name) {
            return no(format!("no copy of {name} is live and ready to be copied"));
        }
        // Data that nobody can read is what an operator gives up first; but no copy may run on it.
        match self.still_heard(boot_up, id).map(|heard| &heard.found) {
            Some(Found::Failed(_)) => Ok(()),
            Some(found) if found.is_told() => Ok(()),
            Some(_) => no(format!("{node} says that a copy runs on its data")),
            None => no(format!("{node} has not said how its data stands")),
        }
    }
}
