//! What an agent does for a clustered service: it looks at the data with no copy running, and at the copy.

use policy::{Cause, Duty, Fact, Found, NodeView, Token, UnitName};

use super::super::machine::{Doing, Machine};
use super::Disk;

impl Machine {
    /// Looks at the data, if no copy runs on it and none could start; or at the copy.
    pub(crate) fn do_duty(&self, unit: &UnitName, duty: Duty, view: &NodeView) -> Option<Fact> {
        let (node, incarnation, unit, seen) = (self.id, self.incarnation(), unit.clone(), view.index);
        let idle = !self.copies.contains_key(&unit) && !self.files.contains_key(&unit);
        if let Some(epoch) = duty.position.filter(|_| idle) {
            let found = if self.blind { Found::Failed("timeout".into()) } else { self.disk.found() };
            return Some(Fact::PositionReported { node, incarnation, unit, epoch, seen, found });
        }
        duty.ready?;
        let token = self.copies.get(&unit).filter(|copy| copy.doing == Doing::Running)?.token?;
        Some(self.looked(unit, token, seen))
    }

    /// The answer to the last look has changed: it is said without being asked for.
    pub(crate) fn ready_changed(&mut self, unit: &UnitName) -> Option<Fact> {
        let copy = self.copies.get(unit).filter(|copy| copy.doing == Doing::Running)?;
        let token = copy.token?;
        if self.said_ready.replace((token, self.synced)) == Some((token, self.synced)) {
            return None;
        }
        Some(self.looked(unit.clone(), token, self.seen_index))
    }

    /// What `Ready=` says of the copy.
    fn looked(&self, unit: UnitName, token: Token, seen: u64) -> Fact {
        let (node, incarnation) = (self.id, self.incarnation());
        let lacks = (!self.synced).then(|| "it is not in a group".to_owned());
        let identity = match &self.disk {
            Disk::Data(data) if self.synced && self.tells => Some(data.identity()),
            _ => None,
        };
        Fact::ReadyReported { node, incarnation, unit, token, seen, lacks, identity }
    }

    /// PID 1 would start it again: its permit file is there.
    pub(crate) fn may_restart(&self, unit: &UnitName) -> bool {
        self.files.contains_key(unit)
    }

    /// A start that did not come up.
    pub(crate) fn start_failed(&mut self, unit: &UnitName) {
        let token = self.copies.remove(unit).and_then(|copy| copy.token);
        self.changed.insert(unit.clone());
        if let Some(token) = token {
            self.released(unit, token, Cause::StartFailed("it met nobody".into()));
        }
    }
}
