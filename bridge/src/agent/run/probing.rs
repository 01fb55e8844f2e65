//! Runs the programs that say how a unit is, beside the loop.

use std::time::Duration;

use policy::UnitName;
use units::section::Program;

use super::super::event::{Event, OpId};
use super::super::probe::{Probe, Question};
use super::{DAEMON_UNIT, Shell};

/// Before another attempt at what could not be killed.
const AGAIN: Duration = Duration::from_secs(1);

impl Shell {
    pub(super) fn probe_of(&self, unit: UnitName, question: Question, program: Option<Program>) -> Probe {
        let node_name = self.agent.node_name.clone();
        Probe { unit, node_name, question, program, binds_to: Some(DAEMON_UNIT.to_owned()) }
    }

    pub(super) fn probe(&mut self, id: OpId, probe: Probe, after: Duration) {
        let (systemd, events, key) = (self.systemd.clone(), self.events.clone(), probe.key());
        let task = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let finding = match &systemd {
                Some(systemd) => Some(probe.run(systemd).await),
                None => None,
            };
            drop(events.send(Event::Probed { id, unit: probe.unit, finding }).await);
        });
        self.probes.insert(key, task);
    }

    /// Ends the program for good before it says so: a start may wait for that.
    pub(super) fn end_probe(&mut self, id: OpId, probe: Probe) {
        let (systemd, events, task) =
            (self.systemd.clone(), self.events.clone(), self.probes.remove(&probe.key()));
        tokio::spawn(async move {
            match (task, &systemd) {
                (Some(task), Some(_)) => {
                    task.abort();
                    drop(task.await);
                }
                // It notices by itself that PID 1 has gone, and kills what it began.
                (Some(task), None) => drop(task.await),
                (None, _) => {}
            }
            if let Some(systemd) = &systemd {
                while let Err(error) = probe.end(systemd).await {
                    tracing::error!(unit = %probe.unit, error, "a program of it still runs");
                    if systemd.manager_state().await.is_err() {
                        break;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
            drop(events.send(Event::Probed { id, unit: probe.unit, finding: None }).await);
        });
    }
}
