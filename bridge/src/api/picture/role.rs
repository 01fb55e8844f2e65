//! How the choice for a role is shown: whose rank was heard, and who is waited for. It has the form of a boot-up, so that
//! the same commands show it and speak of it.

use std::collections::BTreeSet;

use policy::{Found, NodeId, Phase, Succession, Unit, UnitName};

use super::assembly::{silent_since, told};
use super::{View, natural};
use crate::api::model::{AssemblyLine, DataLine};

impl View<'_> {
    pub(super) fn role_line(&self, name: &UnitName, unit: &Unit) -> Option<AssemblyLine> {
        unit.definition().filter(|definition| definition.rank)?;
        let succession = unit.succession.as_ref()?;
        let vacant = unit.permits.is_empty();
        Some(AssemblyLine {
            style: "by-rank".to_owned(),
            state: if vacant { "gathering" } else { "formed" }.to_owned(),
            formed: !succession.heirs.is_empty(),
            epoch: succession.epoch,
            since_s: vacant.then(|| self.now.saturating_sub(succession.opened_at) / 1000),
            best_in_s: None,
            resync: false,
            nodes: self.rank_lines(name, unit, succession),
            election: None,
            formation: None,
            words: self.word_lines(&succession.words),
            awaited: self.awaited(name, &succession.words),
        })
    }

    fn rank_lines(&self, name: &UnitName, unit: &Unit, succession: &Succession) -> Vec<DataLine> {
        let offering = self.state.nodes.iter().filter(|(_, node)| node.offers.contains_key(name));
        let mut ids: BTreeSet<NodeId> = offering.map(|(id, _)| *id).collect();
        ids.extend(succession.heirs.keys());
        let mut lines: Vec<DataLine> =
            ids.into_iter().map(|id| self.rank_line(unit, succession, id)).collect();
        lines.sort_by_key(|line| natural(&line.node));
        lines
    }

    fn rank_line(&self, unit: &Unit, succession: &Succession, id: NodeId) -> DataLine {
        let node = self.state.nodes.get(&id);
        let found = succession.heard.get(&id).map(|heard| &heard.found);
        let mark = succession.mark.as_ref().filter(|_| unit.permit_on(id).is_some());
        let (mut rank, mut identity) = (None, None);
        if let Some(Found::Data { rank: told, identity: history, .. }) = found {
            (rank, identity) = (Some(*told), Some(history.clone()));
        } else if let Some(mark) = mark {
            (rank, identity) = (Some(mark.rank), Some(mark.identity.clone()));
        }
        let copy = match unit.permit_on(id).map(|(_, permit)| permit) {
            Some(permit) if permit.contradicted || self.state.is_lost(permit) => "unknown",
            Some(permit) => match permit.phase {
                Phase::Granted => "starting",
                Phase::Revoking(_) => "stopping",
                Phase::Active => "ready",
            },
            None => "none",
        };
        let session = node.and_then(|node| node.in_session()).map(|life| life.session);
        let heard = succession.heard.get(&id);
        DataLine {
            node: self.state.node_name(id),
            last: succession.heirs.contains_key(&id),
            copy: copy.to_owned(),
            lacks: None,
            data: found.map_or("unheard", told).to_owned(),
            rank,
            identity,
            branch: None,
            safe: false,
            // Where people have their hands on the copy, what it said before counts no more.
            void: heard.is_some_and(|heard| {
                session != Some(heard.session)
                    || self.state.copy_maintenance(&succession.beside, id).is_some()
            }),
            error: match found {
                Some(Found::Failed(why)) => Some(why.clone()),
                _ => None,
            },
            node_state: node.map_or("unknown", |node| self.node_state(id, node)).to_owned(),
            silent_s: node.and_then(silent_since).map(|since| self.now.saturating_sub(since) / 1000),
        }
    }
}
