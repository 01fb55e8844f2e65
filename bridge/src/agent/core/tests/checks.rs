//! Health checks: when they run, and what is said of them.

use policy::Fact;
use units::section::{Check, Program};

use super::*;
use crate::agent::probe::{Finding, Health};

const UNIT: &str = "db.service";
const NEXT: &str = "ask db.service for its Check(2s) after 500 ms";

fn check() -> Check {
    Check {
        program: Program { path: "/bin/check".into(), args: Vec::new() },
        interval_ms: 500,
        timeout_ms: 2_000,
    }
}

/// `db.service` runs under token 7 and has a health check.
fn checked() -> Lab {
    let mut lab = lab();
    lab.running();
    let found = Found { check: Some(check()), ..plain() };
    let found = BTreeMap::from([(UnitName::from(UNIT), found)]);
    assert_eq!(lab.hear(Event::Discovered(Discovery { found, ..Discovery::default() })), NEXT);
    lab
}

impl Lab {
    /// The check that was begun last ends.
    fn is(&mut self, health: Option<Health>) -> String {
        let id = self.done.iter().rev().find_map(|action| match action {
            Action::Probe { id, .. } => Some(*id),
            _ => None,
        });
        let finding = health.map(Finding::Health);
        self.hear(Event::Probed { id: id.expect("asked"), unit: UNIT.into(), finding })
    }

    /// How many lines the unit's journal has got.
    fn lines(&self) -> usize {
        self.done.iter().filter(|action| matches!(action, Action::Tell(_))).count()
    }

    /// The facts that were sent since the last call.
    fn said(&mut self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for action in std::mem::take(&mut self.done) {
            match action {
                Action::Send { fact, .. } => facts.push(fact),
                other => self.done.push(other),
            }
        }
        facts
    }
}

fn active() -> Vec<PermitView> {
    vec![view(UNIT, 7, Phase::Active)]
}

#[test]
fn one_check_follows_the_other_until_one_fails() {
    let mut lab = checked();
    lab.said();
    assert_eq!(lab.is(Some(Health::Well)), NEXT);
    let lines = lab.lines();
    assert_eq!(lab.is(Some(Health::Unknown("no such file".into()))), NEXT);
    assert_eq!(lab.is(Some(Health::Unknown("no such file".into()))), NEXT);
    assert_eq!(lab.lines(), lines + 1, "the same is said once");
    assert_eq!(lab.said(), []);
    // What fails is told once, and not asked again.
    let mut lab = checked();
    lab.said();
    let told = lab.is(Some(Health::Unwell("no answer".into())));
    assert!(told.starts_with("send "), "{told}");
    let said = lab.said();
    assert!(
        matches!(said.as_slice(), [Fact::CheckFailed { token: Token(7), why, .. }] if why == "no answer"),
        "{said:?}"
    );
    assert_eq!(lab.order(active()), "");
    // A new session may lead to a cluster that has not heard of it.
    lab.hear(Event::Session(FromSession::Closed));
    lab.open(2);
    lab.index += 1;
    let told = lab.orders(2, lab.index, active(), &[]);
    assert!(told.ends_with(NEXT), "{told}");
}

#[test]
fn what_is_stopped_or_cut_off_is_not_checked() {
    let mut lab = checked();
    let told = lab.order(vec![view(UNIT, 7, Phase::Revoking(StopReason::Moved))]);
    assert!(told.contains("call off Check(2s) of db.service"), "{told}");
    lab.said();
    // It had ended already: what it says of a copy that is being stopped is void.
    assert_eq!(lab.is(Some(Health::Unwell("connection refused".into()))), "");
    assert_eq!(lab.said(), []);

    let mut lab = checked();
    lab.hear(Event::Session(FromSession::Closed));
    lab.said();
    assert_eq!(lab.is(Some(Health::Unwell("no answer".into()))), "", "nobody could be told");
    assert_eq!(lab.said(), []);
}

/// What was looked at first is not left out, though nobody looks at it again.
#[test]
fn all_are_checked_once_the_inventory_is_told() {
    let mut lab = lab_with(&[("db.service", permit(7)), ("web.service", permit(8))]);
    let found = ["db.service", "web.service"].map(|name| {
        let found = Found { check: Some(check()), ..plain() };
        (UnitName::from(name), found)
    });
    lab.hear(Event::Discovered(Discovery { found: found.into(), ..Discovery::default() }));
    lab.open(1);
    lab.order(vec![view("db.service", 7, Phase::Active), view("web.service", 8, Phase::Active)]);
    lab.look("db.service", up());
    let told = lab.look("web.service", up());
    for unit in ["db.service", "web.service"] {
        assert!(told.contains(&format!("ask {unit} for its Check(2s)")), "{told}");
    }
}

#[test]
fn in_maintenance_nothing_is_checked_and_afterwards_all_is_anew() {
    let mut lab = checked();
    lab.is(Some(Health::Unwell("no answer".into())));
    lab.said();
    let hands_off = PermitView { hands_off: true, ..view(UNIT, 7, Phase::Active) };
    let told = lab.order(vec![hands_off]);
    assert!(!told.contains("Check"), "{told}");
    let told = lab.order(active());
    assert!(told.ends_with(NEXT), "{told}");
}
