//! The end of this node's lease: files first, then stops in their order, and the time by which all must be down (F8).

use policy::{Cause, Fencing};

use crate::agent::core::Agent;
use crate::agent::decide::{AtLeaseEnd, Run, at_lease_end};
use crate::agent::event::{Action, Now, Work};
use crate::agent::unit::{OpKind, Unit};

/// What is killed at the very end of its time has this long to be seen gone before the node is taken down for it; less than
/// the margin that the leader adds to the same budget (half of `detect`, and at least 0.8 s).
const OVERDUE_SLACK_MS: u64 = 600;

impl Agent {
    /// The end of a lease (F8): first all files, then whatever starts, then the stops in their order.
    pub(in crate::agent) fn lease_ended(&mut self, now: &Now) {
        self.view = None;
        if self.holds_permits() {
            tracing::warn!(boot_ms = now.boot_ms, "the lease has ended: OnQuorumLoss= is applied");
        }
        let mut freeze = Vec::new();
        let mut budget_ms: u64 = 0;
        let mut from_ms = now.boot_ms;
        for (name, unit) in &mut self.units {
            let Some(held) = unit.held.as_ref() else { continue };
            let fate = at_lease_end(held);
            if fate == AtLeaseEnd::Leave {
                continue;
            }
            self.actions.push(Action::Unfile { unit: name.clone() });
            unit.filed = false;
            budget_ms = budget_ms.saturating_add(held.terms.stop_budget_ms);
            // Others count from the end of the lease (F7), which a daemon that was killed or halted hears of late. What
            // is fenced by its power has the time that an orderly stop takes.
            let by_time = matches!(held.terms.fencing, Fencing::Lease | Fencing::Watchdog);
            if by_time && now.ends_ms > 0 {
                from_ms = from_ms.min(now.ends_ms);
            }
            match fate {
                AtLeaseEnd::TakeDown => {
                    let why = format!("{name} must not run without a quorum (OnQuorumLoss=reboot)");
                    self.actions.push(Action::TakeDown { unit: Some(name.clone()), why });
                }
                // What stops already is not frozen in the midst of it, to be killed then.
                AtLeaseEnd::Freeze if unit.release.is_none() && can_freeze(unit) => freeze.push(name.clone()),
                AtLeaseEnd::Freeze | AtLeaseEnd::Stop => match unit.release.as_mut() {
                    // It stops already, for a reason that stands, but with more patience than is left.
                    Some(release) => {
                        release.without_lease = true;
                        unit.op = None;
                    }
                    // What stops because this daemon or the machine ends does so also if the lease comes back.
                    None if unit.due.is_none() => unit.due = Some(Cause::LeaseEnded),
                    None => {}
                },
                AtLeaseEnd::Leave => {}
            }
        }
        for name in freeze {
            self.begin(&name, OpKind::Freeze, Work::Freeze);
        }
        self.must_be_down_in(budget_ms, from_ms);
        self.touch_all();
    }

    /// Sets the time by which what stops without a lease is down.
    pub(super) fn must_be_down_in(&mut self, budget_ms: u64, from_ms: u64) {
        let by = from_ms.saturating_add(budget_ms).saturating_add(OVERDUE_SLACK_MS);
        self.down_by_ms = Some(self.down_by_ms.map_or(by, |before| before.max(by)));
    }

    /// Takes the node down once the units had the time that the leader gives all of them together (F7), whatever became
    /// of their stops: a PID 1 that answers nobody stops nothing, and none of them comes to its own end (F27).
    pub(in crate::agent) fn look_at_overdue(&mut self, now: &Now) {
        if self.down_by_ms.is_none_or(|by| now.boot_ms < by) {
            return;
        }
        self.down_by_ms = None;
        let overdue = self.units.iter().find(|(_, unit)| {
            let stops = unit.release.as_ref().is_some_and(|release| release.without_lease);
            let must = unit.held.as_ref().is_some_and(|held| at_lease_end(held) != AtLeaseEnd::Leave);
            must && (stops || (unit.due.is_some() && !now.leased))
        });
        if let Some((name, _)) = overdue {
            let why = format!("{name} had to stop at the end of the lease, and its time to do so is over");
            self.actions.push(Action::TakeDown { unit: Some(name.clone()), why });
        }
    }
}

fn can_freeze(unit: &Unit) -> bool {
    let reading = unit.reading.as_ref();
    unit.run == Run::Up
        && reading.is_some_and(|reading| reading.can_freeze && !reading.control_group.is_empty())
}
