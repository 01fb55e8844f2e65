//! The table of all that one unit's next step depends on, written as the cluster's word, what is held, what is seen.

use policy::{Definition, OnStopFailure, Replicas, StopReason, UnitName};

use super::*;
use crate::agent::permit::tests::permit;

const TOKEN: u64 = 7;

fn view(phase: Phase) -> PermitView {
    PermitView {
        hands_off: false,
        unit: UnitName::from("db.service"),
        token: Token(TOKEN),
        incarnation: "boot/1/0".into(),
        phase,
        terms: permit(TOKEN).terms,
        next_terms: None,
        adopted: false,
        peers: Vec::new(),
    }
}

fn granted() -> PermitView {
    view(Phase::Granted)
}

fn active() -> PermitView {
    view(Phase::Active)
}

fn revoking() -> PermitView {
    view(Phase::Revoking(StopReason::Moved))
}

/// A case with a lease, and nothing else.
struct Given {
    word: Option<Option<PermitView>>,
    stop: bool,
    floor: u64,
    held: Option<Permit>,
    filed: bool,
    run: Run,
    leased: bool,
    leaving: bool,
    unwanted: bool,
}

fn given(word: Option<Option<PermitView>>, held: Option<u64>, run: Run) -> Given {
    Given {
        word,
        stop: false,
        floor: 0,
        held: held.map(permit),
        filed: held.is_some(),
        run,
        leased: true,
        leaving: false,
        unwanted: false,
    }
}

impl Given {
    fn step(&self) -> Step {
        let word = match &self.word {
            None => Word::None,
            Some(None) => Word::Without { stop: self.stop },
            Some(Some(permit)) => Word::Permit(permit),
        };
        decide(&Case {
            incarnation: &"boot/1/0".into(),
            word,
            floor: Token(self.floor),
            held: self.held.as_ref(),
            filed: self.filed,
            run: &self.run,
            leased: self.leased,
            leaving: self.leaving,
            unwanted: self.unwanted,
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

fn release(why: Why) -> Step {
    Step::Release(Token(TOKEN), why)
}

fn left() -> Run {
    Run::Left("2 processes left".into())
}

/// Active, in maintenance by the cluster's word.
fn maintained() -> PermitView {
    PermitView { hands_off: true, ..active() }
}

/// The same by the file that this node acts under.
fn left_alone(given: &mut Given) {
    given.held.as_mut().expect("held").hands_off = true;
}

#[test]
fn what_is_in_maintenance_is_left_whatever_it_does() {
    let ours = Some(TOKEN);
    for run in [Run::Up, Run::Starting, Run::Restarting, Run::Stopping, Run::Down, left(), Run::Frozen] {
        let alone = given(Some(Some(maintained())), ours, run.clone()).with(left_alone);
        assert_eq!(alone.step(), Step::Wait, "{run:?}");
        let before = given(None, ours, run.clone()).with(left_alone);
        assert_eq!(before.step(), Step::Wait, "without a word yet, {run:?}");
        // What ended before it was told, ended as it did: a stop by hand is a stop by hand.
        let (expected, unleased) = match run {
            Run::Frozen => (Step::Thaw, Step::Wait),
            Run::Stopping => (Step::Wait, Step::Wait),
            Run::Down | Run::Left(_) => (release(Why::WentDown), release(Why::WentDown)),
            _ => (Step::Adopt, Step::Wait),
        };
        let told = given(Some(Some(maintained())), ours, run.clone());
        assert_eq!(told.step(), expected, "it is told, {run:?}");
        let told = given(Some(Some(maintained())), ours, run.clone()).with(|given| given.leased = false);
        assert_eq!(told.step(), unleased, "no file is written without a lease, {run:?}");
    }
    let fileless = given(Some(Some(maintained())), None, Run::Down);
    assert_eq!(fileless.step(), Step::Adopt, "people can start it: its file is put back");
}

#[test]
fn at_the_end_of_maintenance_what_runs_goes_on_and_what_is_down_is_given_back() {
    let ours = Some(TOKEN);
    let table = [
        (Run::Up, Step::Adopt),
        (Run::Restarting, Step::Adopt),
        (Run::Stopping, Step::Wait),
        (Run::Down, release(Why::Maintained)),
        (left(), release(Why::Maintained)),
    ];
    for (run, expected) in table {
        let over = given(Some(Some(active())), ours, run.clone()).with(left_alone);
        assert_eq!(over.step(), expected, "{run:?}");
    }
    // What the cluster had begun before, it brings to its end; and a permit that it does not know counts nothing.
    let revoked = given(Some(Some(revoking())), ours, Run::Up).with(left_alone);
    assert_eq!(revoked.step(), release(Why::Ordered));
    assert_eq!(given(Some(None), ours, Run::Up).with(left_alone).step(), release(Why::Dead));
}

#[test]
fn a_grant_is_started_once_and_reported() {
    let ours = Some(TOKEN);
    let table = [
        (given(Some(Some(granted())), None, Run::Down), Step::Start),
        (given(Some(Some(granted())), None, left()), Step::Start),
        (given(Some(Some(granted())), Some(3), Run::Down), Step::Start),
        (given(Some(Some(granted())), ours, Run::Up), Step::ReportStarted(Token(TOKEN))),
        (given(Some(Some(granted())), ours, Run::Starting), Step::Wait),
        (given(Some(Some(granted())), ours, Run::Restarting), Step::Wait),
        (given(Some(Some(granted())), ours, Run::Stopping), Step::Wait),
        // The start is over and nothing runs.
        (given(Some(Some(granted())), ours, Run::Down), release(Why::WentDown)),
        // It came up by another way than ours.
        (given(Some(Some(granted())), None, Run::Up), Step::Adopt),
        (given(Some(Some(granted())), None, Run::Unknown), Step::Look),
    ];
    for (given, expected) in table {
        assert_eq!(given.step(), expected, "{:?} {:?}", given.run, given.held.map(|held| held.token));
    }
}

#[test]
fn nothing_begins_without_a_lease() {
    for run in [Run::Down, left(), Run::Up, Run::Starting, Run::Restarting, Run::Frozen, Run::Stopping] {
        for word in [granted(), active()] {
            let given = given(Some(Some(word)), None, run.clone()).with(|given| given.leased = false);
            let step = given.step();
            let harmless = matches!(step, Step::Wait | Step::Release(_, Why::WentDown));
            assert!(harmless, "{run:?}: {step:?}");
        }
    }
}

#[test]
fn a_grant_that_is_not_wanted_any_more_is_given_back() {
    let down = || given(Some(Some(granted())), None, Run::Down);
    assert_eq!(down().with(|given| given.unwanted = true).step(), release(Why::Unused));
    assert_eq!(down().with(|given| given.leaving = true).step(), release(Why::Shutdown));
    // What runs already was started in between, by a person or by us.
    let up = given(Some(Some(granted())), Some(TOKEN), Run::Up).with(|given| given.unwanted = true);
    assert_eq!(up.step(), Step::ReportStarted(Token(TOKEN)));
}

#[test]
fn an_active_unit_is_left_alone_until_it_goes_down() {
    let ours = Some(TOKEN);
    for run in [Run::Up, Run::Starting, Run::Restarting, Run::Stopping] {
        assert_eq!(given(Some(Some(active())), ours, run.clone()).step(), Step::Wait, "{run:?}");
    }
    for run in [Run::Down, left()] {
        assert_eq!(given(Some(Some(active())), ours, run.clone()).step(), release(Why::WentDown), "{run:?}");
        // Its file was removed while no daemon ran.
        assert_eq!(given(Some(Some(active())), None, run).step(), release(Why::WentDown));
    }
    // Adoption, and files that are not (any more) what the cluster says.
    for (held, filed) in [(None, false), (Some(3), true), (ours, false)] {
        for run in [Run::Up, Run::Starting, Run::Restarting] {
            let given = given(Some(Some(active())), held, run).with(|given| given.filed = filed);
            assert_eq!(given.step(), Step::Adopt, "{held:?} {filed}");
        }
    }
}

#[test]
fn a_revoked_permit_is_released_whatever_runs() {
    for run in [Run::Down, left(), Run::Up, Run::Starting, Run::Restarting, Run::Stopping, Run::Frozen] {
        for held in [None, Some(TOKEN)] {
            let given = given(Some(Some(revoking())), held, run.clone());
            assert_eq!(given.step(), release(Why::Ordered), "{run:?}");
        }
    }
}

#[test]
fn what_was_released_is_never_acted_on_again() {
    for word in [granted(), active(), revoking()] {
        for run in [Run::Up, Run::Starting, Run::Restarting, left(), Run::Frozen] {
            let given = given(Some(Some(word.clone())), None, run.clone()).with(|given| given.floor = TOKEN);
            assert_eq!(given.step(), release(Why::Again), "{run:?}: it is stopped before it is said again");
        }
        let lost = given(Some(Some(word)), None, Run::Down).with(|given| given.floor = TOKEN + 1);
        assert_eq!(lost.step(), Step::ReportReleased(Token(TOKEN)));
    }
}

#[test]
fn a_permit_of_another_life_is_none() {
    let other = |run| {
        let mut word = granted();
        word.incarnation = "boot/1/1".into();
        given(Some(Some(word)), None, run).step()
    };
    assert_eq!(other(Run::Down), Step::Wait);
    assert_eq!(other(Run::Up), Step::Wait);
}

#[test]
fn without_a_permit_an_exclusive_unit_is_stopped_at_once() {
    for run in [Run::Up, Run::Starting, Run::Restarting, Run::Frozen, Run::Down, left()] {
        assert_eq!(given(Some(None), Some(TOKEN), run.clone()).step(), release(Why::Dead), "{run:?}");
    }
}

#[test]
fn without_a_permit_a_replica_is_left_to_the_cluster() {
    let replica = |run: Run| {
        given(Some(None), Some(TOKEN), run).with(|given| {
            if let Some(held) = given.held.as_mut() {
                held.terms = Terms::of(&Definition::replicated(Replicas::All), 1, 1_000, 0);
                assert_eq!(held.terms.on_stop_failure, OnStopFailure::Block);
            }
        })
    };
    assert_eq!(replica(Run::Up).step(), Step::Withdraw);
    assert_eq!(replica(Run::Down).step(), release(Why::Dead));
}

#[test]
fn a_stray_is_stopped_only_when_the_cluster_says_so() {
    let stray = |run: Run, stop: bool| given(Some(None), None, run).with(|given| given.stop = stop).step();
    assert_eq!(stray(Run::Up, false), Step::Wait);
    assert_eq!(stray(Run::Up, true), Step::StopStray);
    assert_eq!(stray(left(), true), Step::StopStray);
    assert_eq!(stray(Run::Down, true), Step::Wait);
    // Frozen under a permit that is gone: it may never thaw (F26).
    assert_eq!(stray(Run::Frozen, false), Step::StopStray);
}

#[test]
fn before_the_cluster_speaks_only_what_went_down_is_given_back() {
    for run in [Run::Up, Run::Starting, Run::Restarting, Run::Stopping, Run::Frozen] {
        assert_eq!(given(None, Some(TOKEN), run.clone()).step(), Step::Wait, "{run:?}");
        assert_eq!(given(None, None, run).step(), Step::Wait);
    }
    assert_eq!(given(None, Some(TOKEN), Run::Down).step(), release(Why::WentDown));
    assert_eq!(given(None, None, Run::Down).step(), Step::Wait);
}

#[test]
fn a_frozen_unit_thaws_only_under_its_own_living_permit() {
    assert_eq!(given(Some(Some(active())), Some(TOKEN), Run::Frozen).step(), Step::Thaw);
    let without_lease =
        given(Some(Some(active())), Some(TOKEN), Run::Frozen).with(|given| given.leased = false);
    assert_eq!(without_lease.step(), Step::Wait);
    assert_eq!(given(Some(None), Some(TOKEN), Run::Frozen).step(), release(Why::Dead));
    assert_eq!(given(Some(Some(revoking())), Some(TOKEN), Run::Frozen).step(), release(Why::Ordered));
}

#[test]
fn new_terms_are_taken_under_a_permit_that_is_in_force() {
    let mut word = active();
    let terms = Terms { revision: 9, ..word.terms.clone() };
    word.next_terms = Some(terms.clone());
    let in_force = given(Some(Some(word.clone())), Some(TOKEN), Run::Up);
    assert_eq!(in_force.step(), Step::TakeTerms(Token(TOKEN), terms));
    assert_eq!(given(Some(Some(word)), None, Run::Up).step(), Step::Adopt);
}
