//! How the boot-up of a clustered service is shown: what was heard of whose data, who begins, and who is waited for.

use std::collections::BTreeSet;

use policy::{
    Assembly, AssemblyStyle, BootUp, Election, Found, Ground, Millis, Node, NodeId, Permit, Phase, Reason,
    Unit, UnitName, Words,
};

use super::{View, natural, seconds_until};
use crate::api::model::{AssemblyLine, DataLine, ElectionLine, FormationLine, WordLine};

impl View<'_> {
    pub(super) fn assembly_line(&self, name: &UnitName, unit: &Unit) -> Option<AssemblyLine> {
        if let Some(line) = self.role_line(name, unit) {
            return Some(line);
        }
        let assembly = unit.definition()?.assembly.as_ref()?;
        let boot_up = unit.boot_up.as_ref()?;
        let gathering = boot_up.is_gathering();
        let election = boot_up.election.as_ref().filter(|_| gathering);
        Some(AssemblyLine {
            style: style(assembly.style).to_owned(),
            state: match (gathering, election) {
                (true, Some(_)) => "elected",
                (true, None) => "gathering",
                (false, _) if boot_up.formed => "formed",
                (false, _) => "new",
            }
            .to_owned(),
            formed: boot_up.formed,
            epoch: boot_up.epoch,
            since_s: gathering.then(|| self.now.saturating_sub(boot_up.opened_at) / 1000),
            best_in_s: self.best_in(assembly, boot_up),
            resync: assembly.resync,
            nodes: self.data_lines(name, unit, boot_up),
            election: election.map(|election| self.election_line(election)),
            formation: boot_up.formation.as_ref().map(|formation| FormationLine {
                epoch: formation.epoch,
                identity: formation.identity.clone(),
            }),
            words: self.word_lines(&boot_up.words),
            awaited: self.awaited(name, &boot_up.words),
        })
    }

    fn best_in(&self, assembly: &Assembly, boot_up: &BootUp) -> Option<u64> {
        let waits = boot_up.is_gathering() && boot_up.election.is_none();
        let ends = self.state.gather_ends(assembly, boot_up).filter(|_| waits)?;
        seconds_until(ends, self.now)
    }

    fn data_lines(&self, name: &UnitName, unit: &Unit, boot_up: &BootUp) -> Vec<DataLine> {
        let offering = self.state.nodes.iter().filter(|(_, node)| node.offers.contains_key(name));
        let mut ids: BTreeSet<NodeId> = offering.map(|(id, _)| *id).collect();
        ids.extend(boot_up.members.keys());
        ids.extend(boot_up.heard.keys());
        let mut lines: Vec<DataLine> = ids.into_iter().map(|id| self.data_line(unit, boot_up, id)).collect();
        lines.sort_by_key(|line| natural(&line.node));
        lines
    }

    fn data_line(&self, unit: &Unit, boot_up: &BootUp, id: NodeId) -> DataLine {
        let member = boot_up.members.get(&id);
        let permit = unit.permit_on(id).map(|(_, permit)| permit);
        let heard = boot_up.heard.get(&id);
        let found = heard.map(|heard| &heard.found);
        let (mut rank, mut identity, mut branch, mut safe) = (None, None, None, false);
        if let Some(Found::Data { rank: told, identity: history, safe: sure }) = found {
            (rank, identity, safe) = (Some(*told), Some(history.clone()), *sure);
            branch = boot_up.branch(id, history, *told);
        }
        let node = self.state.nodes.get(&id);
        let error = match found {
            Some(Found::Failed(why)) => Some(why.clone()),
            _ => None,
        };
        DataLine {
            node: self.state.node_name(id),
            last: member.is_some(),
            copy: match (permit, member) {
                (Some(permit), _) => {
                    self.copy_of(permit, member.is_some_and(|member| member.ready.is_some()))
                }
                (None, Some(member)) if member.ended.is_none() => "unproven",
                (None, Some(_)) => "ended",
                (None, None) => "none",
            }
            .to_owned(),
            lacks: permit.and(member).filter(|member| member.ready.is_none()).and_then(|m| m.lacks.clone()),
            data: found.map_or("unheard", told).to_owned(),
            rank,
            identity,
            branch,
            safe,
            void: heard.is_some() && self.state.still_heard(boot_up, id).is_none(),
            error,
            node_state: node.map_or("unknown", |node| self.node_state(id, node)).to_owned(),
            silent_s: node.and_then(silent_since).map(|since| self.now.saturating_sub(since) / 1000),
        }
    }

    fn copy_of(&self, permit: &Permit, ready: bool) -> &'static str {
        match permit.phase {
            _ if permit.contradicted || self.state.is_lost(permit) => "unknown",
            Phase::Granted => "starting",
            Phase::Revoking(_) => "stopping",
            Phase::Active if ready => "ready",
            Phase::Active => "not-ready",
        }
    }

    fn election_line(&self, election: &Election) -> ElectionLine {
        ElectionLine {
            node: self.state.node_name(election.node),
            identity: election.identity.clone(),
            rank: election.rank,
            absent: self.names(election.absent.iter().copied()),
            ground: match election.ground {
                Ground::AllHeard => "all-heard",
                Ground::Word => "word",
                Ground::Best => "best",
            }
            .to_owned(),
            token: election.token.map(|token| token.0),
        }
    }

    pub(super) fn word_lines(&self, words: &Words) -> Vec<WordLine> {
        let line = |word: &str, id: NodeId, by: Option<&String>| WordLine {
            word: word.to_owned(),
            node: self.state.node_name(id),
            by: by.cloned(),
        };
        let without = words.without.iter().map(|(id, by)| line("without", *id, Some(by)));
        let from = words.from.iter().map(|(id, by)| line("from", *id, Some(by)));
        let resync = words.resync.iter().map(|id| line("resync", *id, None));
        without.chain(from).chain(resync).collect()
    }

    /// Whose return or word ends the wait, by the plan's own reasons.
    pub(super) fn awaited(&self, name: &UnitName, words: &Words) -> Vec<String> {
        // Once an operator chose whose data it is, nobody else's is asked for.
        let chosen = words.from.is_some();
        let reasons = self.plan.reasons.get(name).into_iter().flatten();
        let waits = reasons.filter_map(|reason| match reason {
            Reason::Position { node, needed: true, .. } if !chosen => Some(*node),
            Reason::Rank { node, .. } => Some(*node),
            Reason::Unproven(node) | Reason::Unheard(node) => Some(*node),
            _ => None,
        });
        let ids: BTreeSet<NodeId> = waits.collect();
        self.names(ids.into_iter())
    }

    fn names(&self, ids: impl Iterator<Item = NodeId>) -> Vec<String> {
        let mut names: Vec<String> = ids.map(|id| self.state.node_name(id)).collect();
        names.sort_by_key(|name| natural(name));
        names
    }
}

/// Since when nothing is heard of it: lost, or proven gone.
pub(super) fn silent_since(node: &Node) -> Option<Millis> {
    node.lost_since().or_else(|| node.life.as_ref()?.gone.as_ref().map(|gone| gone.at))
}

pub(super) fn style(style: AssemblyStyle) -> &'static str {
    match style {
        AssemblyStyle::OneThenSerial => "one-then-serial",
        AssemblyStyle::AllTogether => "all-together",
    }
}

/// As `Position=` prints it.
pub(super) fn told(found: &Found) -> &'static str {
    match found {
        Found::Data { .. } => "stopped",
        Found::Live => "live",
        Found::LiveWithoutQuorum => "live-without-quorum",
        Found::Busy => "busy",
        Found::Unusable => "unusable",
        Found::Empty => "empty",
        Found::Failed(_) => "failed",
    }
}
