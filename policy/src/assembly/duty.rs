//! What one node's agent owes to a clustered service.

use serde::{Deserialize, Serialize};

use crate::name::{NodeId, UnitName};
use crate::node::Node;
use crate::state::State;
use crate::unit::Wanted;

use super::boot_up::Start;

/// What a node has to say, or to heed, of one clustered service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    /// How to start the copy that it holds a permit for. Every such start is made once: the permit file and the
    /// environment go as soon as PID 1 has dispatched it, and the agent remembers that before it asks for it.
    pub start: Option<Start>,
    /// The epoch for which to read the position of its data, with no copy running on it.
    pub position: Option<u64>,
    /// Say whether the copy is ready, by a look that began with a view of this index or later.
    pub ready: Option<u64>,
}

impl State {
    /// Whether a node that was asked how its data stands has not answered yet: what follows is decided by its answer.
    #[must_use]
    pub fn is_being_read(&self, name: &UnitName) -> bool {
        let Some(boot_up) = self.units.get(name).and_then(|unit| unit.boot_up.as_ref()) else { return false };
        let asked = |id: &NodeId| self.duty(name, *id).is_some_and(|duty| duty.position.is_some());
        self.nodes.keys().any(|id| asked(id) && self.still_heard(boot_up, *id).is_none())
    }

    /// What a node owes to a unit, if the unit is assembled and the node has anything to do with it.
    #[must_use]
    pub fn duty(&self, name: &UnitName, id: NodeId) -> Option<Duty> {
        let (unit, _, boot_up) = self.assembled(name).ok()?;
        let life = self.nodes.get(&id).and_then(Node::in_session)?;
        let member = boot_up.members.get(&id);
        if let Some((token, permit)) = unit.permit_on(id) {
            let member = member.filter(|member| member.token == token)?;
            // Whoever ended since is forgotten once somebody is found ready after that. One that was silent while positions
            // were gathered says it anew.
            let ended = boot_up.members.values().filter_map(|member| member.ended);
            let latest = ended.max().unwrap_or(0).max(boot_up.epoch);
            let due = member.ready.is_none_or(|ready| ready < latest);
            let active = permit.active_at.is_some() && !permit.is_revoking();
            let ready = (active && due).then_some(latest);
            // A copy that was taken over runs already: it is not started.
            let start = member.start.filter(|_| !permit.adopted);
            return Some(Duty { start, position: None, ready });
        }
        let wanted = unit.goal.wanted == Wanted::Started && !life.strays.contains(name);
        let offered = self.nodes.get(&id).is_some_and(|node| node.offers.contains_key(name));
        // To read it may take a program that opens the data: not while people have their hands on it.
        let asked = wanted
            && self.copy_maintenance(name, id).is_none()
            && (offered || member.is_some())
            && self.position(boot_up, id).is_none();
        asked.then_some(Duty { start: None, position: Some(boot_up.epoch), ready: None })
    }
}
