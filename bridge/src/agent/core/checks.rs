//! Health checks of copies that run (`CheckExec=`, P68).
//!
//! Decides when the program runs: while the cluster can be told, the copy is active under its permit, and nothing is being
//! done to it. A check that failed is told once, and the cluster decides what follows; the check is at rest then. A
//! program that could not be run says nothing of the copy.

use std::time::Duration;

use policy::{Fact, Phase, Token, UnitName};
use units::section::Check;
use units::systemd::journal::{Kind, Priority};

use super::Agent;
use crate::agent::decide::Run;
use crate::agent::event::{Action, OpId};
use crate::agent::probe::{Finding, Health, Question};

/// The check that runs, or waits for its turn.
#[derive(Debug)]
struct UnderWay {
    id: OpId,
    token: Token,
    check: Check,
    /// It is being ended, and whatever it still says is void.
    ended: bool,
}

/// What is known of one unit's health.
#[derive(Debug, Default)]
pub(in crate::agent) struct Checking {
    under_way: Option<UnderWay>,
    /// The copy that was said to be unwell.
    told: Option<Token>,
    /// Why the last check could not be made: said once.
    unchecked: Option<String>,
}

impl Checking {
    /// A new session was opened: what was said in an earlier one may be unknown to the cluster.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }
}

fn question(check: &Check) -> Question {
    Question::Check(Duration::from_millis(check.timeout_ms))
}

impl Agent {
    /// Begins the next check, or calls one off.
    pub(super) fn keep_checking(&mut self, name: &UnitName) {
        let wanted = self.to_check(name);
        let next = self.last_op + 1;
        let hands_off = self.hands_off(name);
        let Some(unit) = self.units.get_mut(name) else { return };
        if hands_off {
            // After a maintenance it is checked anew.
            unit.checking.told = None;
        }
        match (&mut unit.checking.under_way, wanted) {
            (Some(now), Some((token, check))) if now.ended || (now.token == token && now.check == check) => {}
            (Some(now), _) if !now.ended => {
                now.ended = true;
                let (id, question) = (now.id, question(&now.check));
                self.actions.push(Action::EndProbe { id, unit: name.clone(), question });
            }
            (None, Some((token, check))) => {
                let (question, program) = (question(&check), Some(check.program.clone()));
                let after = Duration::from_millis(check.interval_ms);
                unit.checking.under_way = Some(UnderWay { id: next, token, check, ended: false });
                self.last_op = next;
                self.actions.push(Action::Probe { id: next, unit: name.clone(), question, program, after });
            }
            (Some(_) | None, _) => {}
        }
    }

    /// Whether people have their hands on it: what a check finds then is no news to them.
    fn hands_off(&self, name: &UnitName) -> bool {
        let permit = self.view.as_ref().and_then(|view| view.permits.get(name));
        permit.is_some_and(|permit| permit.hands_off)
    }

    /// The copy whose health is to be checked, and how.
    fn to_check(&self, name: &UnitName) -> Option<(Token, Check)> {
        let unit = self.units.get(name).filter(|unit| self.may_ask(unit) && unit.run == Run::Up)?;
        let check = unit.found.as_ref()?.check.clone()?;
        let view = self.view.as_ref()?;
        let permit = view.permits.get(name).filter(|permit| permit.phase == Phase::Active)?;
        let held = unit.held.as_ref().filter(|held| held.token == permit.token)?;
        (!permit.hands_off && unit.checking.told != Some(held.token)).then_some((held.token, check))
    }

    /// A check ended; `None` if it was called off.
    pub(super) fn checked(&mut self, id: OpId, name: &UnitName, finding: Option<Finding>) {
        let wanted = self.to_check(name).map(|(token, _)| token);
        let Some(unit) = self.units.get_mut(name) else { return };
        let Some(under_way) = unit.checking.under_way.take_if(|under_way| under_way.id == id) else { return };
        self.touched.insert(name.clone());
        // What it says of a copy that is being stopped, or of one of which nobody can be told, is void.
        let counts = !under_way.ended && wanted == Some(under_way.token);
        let (Some(Finding::Health(health)), true) = (finding, counts) else { return };
        let before = unit.checking.unchecked.take();
        match health {
            Health::Well => {}
            Health::Unwell(why) => {
                let (node, incarnation, token) = (self.node, self.incarnation.clone(), under_way.token);
                unit.checking.told = Some(token);
                self.tell(name, Kind::Notice, Priority::Warning, format!("its health check failed: {why}"));
                self.outbox.push(Fact::CheckFailed { node, incarnation, unit: name.clone(), token, why });
            }
            Health::Unknown(why) => {
                unit.checking.unchecked = Some(why.clone());
                if before.as_ref() != Some(&why) {
                    let message = format!("its health is not checked: {why}");
                    self.tell(name, Kind::Notice, Priority::Warning, message);
                }
            }
        }
    }
}
