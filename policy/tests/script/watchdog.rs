//! What nodes say of their watchdogs, in the words of the scripts.

use policy::Fact;

use super::{Lines, World};

impl World {
    /// `armed a 5`: with a timeout in seconds. A late word was said before all others.
    pub(super) fn armed(&mut self, name: &str, seconds: &str, late: bool) -> Lines {
        let (node, incarnation) = (self.node(name)?, self.incarnation(name));
        let timeout_ms = seconds.parse::<u64>().map_err(|_| "no number")? * 1_000;
        let said_ms = if late { 1 } else { self.index + 1 };
        let device = "/dev/watchdog".into();
        Ok(self.fact(Fact::WatchdogArmed { node, incarnation, said_ms, device, timeout_ms }))
    }

    /// `disarmed a WHY`.
    pub(super) fn disarmed(&mut self, name: &str, why: String) -> Lines {
        let (node, incarnation) = (self.node(name)?, self.incarnation(name));
        let said_ms = self.index + 1;
        Ok(self.fact(Fact::WatchdogDisarmed { node, incarnation, said_ms, why }))
    }
}
