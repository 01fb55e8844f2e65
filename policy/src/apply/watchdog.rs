//! What nodes say of their watchdogs (F17).

use alloc::string::String;

use crate::event::{EventKind, Severity};
use crate::name::{Incarnation, Millis, NodeId};
use crate::refusal::Refusal;
use crate::watchdog::{Chain, Watchdog};

use super::{Step, stale};

impl Step<'_> {
    pub(super) fn watchdog_armed(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        said_ms: u64,
        device: &str,
        timeout_ms: Millis,
    ) -> Result<(), Refusal> {
        let since = self.time;
        let chain = self.chain(id, incarnation, said_ms)?;
        let before = chain.armed.take();
        let since = before.as_ref().map_or(since, |before| before.since);
        let armed = Watchdog { device: device.into(), timeout_ms, since };
        chain.armed = Some(armed.clone());
        chain.why = None;
        chain.longest_ms = chain.longest_ms.max(timeout_ms);
        if before.as_ref() != Some(&armed) {
            let kind = EventKind::WatchdogArmed { device: device.into(), timeout_ms };
            self.record(Severity::Info, Some(id), None, kind);
        }
        Ok(())
    }

    /// Time proves nothing of this life any more, whatever terms it holds permits on.
    pub(super) fn watchdog_disarmed(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        said_ms: u64,
        why: &str,
    ) -> Result<(), Refusal> {
        let rests = self.state.rests_on_watchdog(id);
        let chain = self.chain(id, incarnation, said_ms)?;
        let was_armed = chain.armed.take().is_some();
        let news = was_armed || chain.why.as_deref() != Some(why);
        chain.why = Some(String::from(why));
        if news {
            let severity = if was_armed && rests { Severity::Alert } else { Severity::Info };
            self.record(severity, Some(id), None, EventKind::WatchdogDisarmed { why: why.into() });
        }
        Ok(())
    }

    /// The chain of a life that is heard, if this is news of it.
    fn chain(&mut self, id: NodeId, incarnation: &Incarnation, said_ms: u64) -> Result<&mut Chain, Refusal> {
        self.heard(id, incarnation)?;
        let chain = &mut self.life_mut(id, incarnation)?.chain;
        if chain.said_ms >= said_ms {
            return Err(stale("it has said something later of its watchdog"));
        }
        chain.said_ms = said_ms;
        Ok(chain)
    }
}
