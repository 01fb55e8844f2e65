//! Runs the programs of clustered services beside the loop.

use std::time::Duration;

use policy::UnitName;
use units::section::Program;

use super::super::event::{Event, OpId};
use super::super::probe::{Probe, Question};
use super::{DAEMON_UNIT, Shell};

impl Shell {
    pub(super) fn probe_of(&self, unit: UnitName, question: Question, program: Option<Program>) -> Probe {
        let node_name = self.agent.node_name.clone();
        Probe { unit, node_name, question, program, binds_to: Some(DAEMON_UNIT.to_owned()) }
    }

    pub(super) fn probe(&mut self, id: OpId, probe: Probe, after: Duration) {
        let (systemd, events, unit) = (self.systemd.clone(), self.events.clone(), probe.unit.clone());
        let task = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let finding = match &systemd {
                Some(systemd) => Some(probe.run(systemd).await),
                None => None,
            };
            drop(events.send(Event::Probed { id, unit: probe.unit, finding }).await);
        });
        self.probes.insert(unit, task);
    }

    /// Ends the program for good before it says so: a start may wait for that.
    pub(super) fn end_probe(&mut self, id: OpId, probe: Probe) {
        let (systemd, events, task) =
            (self.systemd.clone(), self.events.clone(), self.probes.remove(&probe.unit));
        tokio::spawn(async move {
            if let Some(task) = task {
                task.abort();
                drop(task.await);
            }
            if let Some(systemd) = &systemd
                && let Err(error) = probe.end(systemd).await
            {
                tracing::error!(unit = %probe.unit, error, "a program of it may still run");
            }
            drop(events.send(Event::Probed { id, unit: probe.unit, finding: None }).await);
        });
    }
}
