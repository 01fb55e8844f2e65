//! Carries out what the agent decided.

use std::time::Duration;

use policy::{Fencing, UnitName};

use super::super::discovery;
use super::super::event::{Action, End, Event, Failure, Work};
use super::super::gate::Answer;
use super::super::permit::{self, Environment, Permit};
use super::super::takedown::take_down;
use super::Shell;
use crate::session::ToSession;
use crate::watchdog::Standing;

/// When it is looked again whether a watchdog was disarmed that did not say so in time.
const DISARM_AGAIN: Duration = Duration::from_secs(1);

impl Shell {
    pub(super) async fn perform(&mut self, action: Action) {
        match action {
            Action::File { unit, permit } => {
                let (token, revision) = (permit.token, permit.terms.revision);
                self.pending.push_back(match self.file(&unit, &permit, None).await {
                    Ok(()) => Event::Filed { unit, token, revision },
                    Err(why) => Event::NotFiled { unit, why: why.text() },
                });
            }
            Action::Start { op, unit, permit, environment, triggers, timeout, gates } => {
                match self.file(&unit, &permit, Some(&environment)).await {
                    Ok(()) => {
                        // A person's start waits for its gate, and ours joins its job: first the gate.
                        answer_all(gates, &Answer::granted());
                        self.begin(op, unit, Work::Start { triggers, timeout }).await;
                    }
                    Err(why) => {
                        let remedy = "look at the log of convoked".to_owned();
                        answer_all(gates, &Answer::refused(why.text(), remedy));
                        self.pending.push_back(Event::Done { op, unit, end: End::Failed(why) });
                    }
                }
            }
            Action::Unfile { unit } => {
                if let Err(error) = permit::set_aside(&self.paths, &unit) {
                    // With the file in place the unit can start at any moment, and nothing we say of it would hold.
                    let why = format!("the permit of {unit} cannot be removed: {error}");
                    take_down(Some(unit.as_str()), why, self.watchdog.protects()).await;
                }
            }
            Action::Forget { unit } => {
                // What was released is on disk before the file that knew of it goes: a daemon that is killed in between
                // would leave nobody who does (F2).
                if self.save_floors()
                    && let Err(error) = permit::forget(&self.paths, &unit)
                {
                    tracing::error!(%unit, %error, "a permit that was released stays in /run/convoke/releasing");
                }
            }
            Action::Spend { unit, permit } => {
                if let Err(error) = permit::spend(&self.paths, &unit, &permit) {
                    tracing::error!(%unit, %error, "what its permit says is not kept for the next daemon");
                }
            }
            Action::Probe { id, unit, question, program, after } => {
                self.probe(id, self.probe_of(unit, question, program), after);
            }
            Action::EndProbe { id, unit, question } => {
                self.end_probe(id, self.probe_of(unit, question, None));
            }
            Action::Begin { op, unit, work } => self.begin(op, unit, work).await,
            Action::Send { number, fact } => {
                // Persist, then send (F2).
                if self.blocked || !self.save_floors() {
                    self.blocked = true;
                } else if self.to_session.try_send(ToSession::Fact { number, fact }).is_err() {
                    tracing::warn!("the session's task does not keep up; facts are sent again");
                    self.blocked = true;
                }
            }
            Action::KeepGated(text) if self.keeps_list => self.keep_gated(text),
            Action::KeepGated(_) => {}
            Action::Discover => self.discover(),
            Action::Reload => self.reload(),
            Action::Mend { unit } => {
                if let Err(error) = discovery::mend(&self.root, &unit) {
                    tracing::error!(%unit, %error, "no gate of last resort could be written");
                }
            }
            Action::Unmend { unit } => {
                if let Err(error) = discovery::unmend(&self.root, &unit) {
                    tracing::error!(%unit, %error, "its gate of last resort stays");
                }
            }
            Action::Tell(line) => match &self.journal {
                Some(journal) => journal.tell(line),
                None => tracing::warn!(unit = line.unit, message = line.message, "for the unit's journal"),
            },
            Action::GateLook { id, unit } => self.gate_look(id, unit),
            Action::GateAsk { id, unit, wish } => self.gate_ask(id, unit, wish),
            // A gate that has gone meanwhile needs no answer.
            Action::GateAnswer { reply, answer } => drop(reply.send(answer)),
            Action::GateDrop { id } => {
                if let Some(asking) = self.gates.remove(&id) {
                    asking.abort();
                }
            }
            Action::GateSettle { id, unit, since } => self.gate_settle(id, unit, since),
            Action::Withdraw { id, unit, by } => self.withdraw(id, unit, by),
            Action::Unspool { unit, token } => {
                let spool = self.spool.clone();
                tokio::task::spawn_blocking(move || spool.forget(&unit, token));
            }
            Action::Fence(order) => self.errand(|executor, systemd| async move {
                let ended = match &systemd {
                    Some(systemd) => executor.fence(systemd, &order).await,
                    None => None,
                };
                Event::Fenced { order, ended }
            }),
            Action::Power(order) => {
                self.looks += 1;
                let number = self.looks;
                self.errand(|executor, systemd| async move {
                    let power = match &systemd {
                        Some(systemd) => executor.look(systemd, &order, number).await,
                        None => Some(policy::Power::Unable("systemd cannot be reached".to_owned())),
                    };
                    Event::Powered { order, power }
                });
            }
            Action::SwitchOn(order) => {
                self.looks += 1;
                let number = self.looks;
                self.errand(|executor, systemd| async move {
                    let power = match &systemd {
                        Some(systemd) => executor.switch_on(systemd, &order, number).await,
                        None => None,
                    };
                    Event::SwitchedOn { order, power }
                });
            }
            Action::Arm => match &self.device {
                Some(device) => {
                    self.watchdog.arm(device.clone());
                    self.look_at_reboots(device.timeout_s);
                }
                None => {
                    let why = "/etc/convoke/convoke.toml cannot be read".to_owned();
                    self.pending.push_back(Event::Watchdog(Standing::Unarmed { why }));
                }
            },
            Action::Disarm => {
                if !self.watchdog.disarm().await {
                    self.ask_watchdog_later();
                }
            }
            Action::EndLease => self.lease.end(),
            Action::Renew => {
                if self.to_session.try_send(ToSession::Renew).is_err() {
                    tracing::warn!("the session's task does not keep up; no other session is opened");
                }
            }
            Action::TakeDown { unit, why } => {
                take_down(unit.as_ref().map(UnitName::as_str), why, self.watchdog.protects()).await
            }
            Action::Show(reply, snapshot) => drop(reply.send(*snapshot)),
            // Handled by the loop.
            Action::Exit(_) => {}
        }
    }

    /// Writes the files, after a look at the watchdog, if it rests on that and did not before (F17), and at the lease (F8).
    async fn file(
        &self,
        unit: &UnitName,
        permit: &Permit,
        environment: Option<&Environment>,
    ) -> Result<(), Failure> {
        let rests = permit.terms.fencing == Fencing::Watchdog;
        if rests && !permit::is_watched(&self.paths, unit, permit) {
            self.watchdog.check(permit.terms.watchdog_ms).await.map_err(Failure::Other)?;
        }
        if self.lease.left().is_none() {
            return Err(Failure::NoLease);
        }
        let written = permit::write(&self.paths, unit, permit, environment);
        written.map_err(|error| Failure::Other(format!("the permit's file cannot be written: {error}")))
    }

    pub(super) fn save_floors(&mut self) -> bool {
        let saved = self.agent.save_floors();
        if let Err(error) = &saved {
            tracing::error!(%error, "the floors cannot be written; nothing is reported until they can");
        }
        saved.is_ok()
    }

    /// At an orderly reboot PID 1 opens what convoked left running, and sets it to a time of its own.
    fn look_at_reboots(&self, timeout_s: u32) {
        let Some(systemd) = self.systemd.clone() else { return };
        tokio::spawn(async move {
            let found = systemd.reboot_watchdog().await.unwrap_or_default();
            if found > Duration::from_secs(timeout_s.into()) {
                tracing::warn!(
                    reboot_watchdog_s = found.as_secs(),
                    timeout_s,
                    "a reboot that hangs may make the watchdog slower than others wait for: set RebootWatchdogSec=0 in \
                     /etc/systemd/system.conf and run `systemctl daemon-reexec`"
                );
            }
        });
    }

    /// The order to disarm was lost, or comes late: the agent hears how the watchdog stands by then.
    fn ask_watchdog_later(&self) {
        let (standing, events) = (self.watchdog.standing(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(DISARM_AGAIN).await;
            let standing = standing.borrow().clone();
            if let Some(standing) = standing {
                drop(events.send(Event::Watchdog(standing)).await);
            }
        });
    }
}

fn answer_all(gates: Vec<tokio::sync::oneshot::Sender<Answer>>, answer: &Answer) {
    for gate in gates {
        drop(gate.send(answer.clone()));
    }
}
