//! What is told in a unit's own journal of the fence that it waits for.

use super::*;

/// n1 is lost with db.service, and its case stands like that.
fn fenced(phase: FencePhase) -> State {
    let mut state = state();
    lose(&mut state, 1);
    state.cases.insert(CaseId(7), case(1, phase));
    state
}

/// The step of the fence that db.service waits for, and what is told of it.
fn told(state: &State) -> Option<(String, String)> {
    let mut waits = waits(state, &plan(state, NOW), false, NOW);
    let wait = waits.remove(&NodeId(1))?;
    assert_eq!(wait.units, BTreeSet::from([UnitName::from(DB)]));
    Some((wait.step?, wait_text(state, NodeId(1), &DB.into(), NOW)))
}

fn failed(error: &str, next_at: Millis) -> FencePhase {
    FencePhase::Failed { error: error.to_owned(), next_at }
}

#[test]
fn each_step_of_a_fence_is_told_in_the_words_of_why() {
    let running =
        FencePhase::Running { executor: NodeId(2), executor_incarnation: incarnation(2), since: NOW };
    let mut dark = fenced(FencePhase::Wanted);
    dark.devices.remove("bmc-n1");
    for (state, text) in [
        (fenced(running), "waits: n1 is being fenced by bmc-n1, run on n2"),
        (
            fenced(failed("no route", NOW + 5_000)),
            "waits: fencing n1 by bmc-n1 failed (no route); next attempt in 5 s",
        ),
        (dark, "waits: n1 is lost and has no fence device"),
    ] {
        assert_eq!(told(&state).map(|(_, text)| text).as_deref(), Some(text));
    }
    assert_eq!(told(&fenced(FencePhase::Wanted)), None, "it is about to begin");
    assert_eq!(told(&state()), None);
}

#[test]
fn what_fails_in_other_words_is_news_and_when_it_is_tried_again_is_not() {
    let step = |error, next_at| told(&fenced(failed(error, next_at))).map(|(step, _)| step);
    assert_eq!(step("no route", NOW + 5_000), step("no route", NOW + 60_000));
    assert_ne!(step("no route", NOW + 5_000), step("wrong password", NOW + 5_000));
}

#[test]
fn that_the_wait_is_over_is_told_with_its_proof() {
    let case = Some(CaseId(7));
    let proven = |evidence, by| EventKind::FenceProven { case, evidence, by, after_ms: 800 };
    let failed = EventKind::FenceFailed {
        case: CaseId(7),
        attempt: 1,
        device: "bmc-n1".to_owned(),
        error: "no route".to_owned(),
    };
    for (kind, text) in [
        (
            proven(Evidence::Fenced(CaseId(7)), None),
            Some("n1 is proven off by bmc-n1; db.service may start elsewhere"),
        ),
        (
            proven(Evidence::Vouched, Some("ann".to_owned())),
            Some("n1 is off by the word of ann; db.service may start elsewhere"),
        ),
        (
            proven(Evidence::Reborn, None),
            Some(
                "n1 is proven gone after 800 ms: the machine has booted again; db.service may start elsewhere",
            ),
        ),
        (EventKind::FenceCancelled { case: CaseId(7) }, Some("n1 need not be fenced any more")),
        // Somebody stopped the unit meanwhile.
        (failed, None),
    ] {
        let mut state = fenced(FencePhase::Proven { class: Class::Off, at: NOW });
        state.history.push_back(event(1, Some(1), None, EventKind::NodeLost));
        state.history.push_back(event(2, Some(1), None, kind));
        state.history.push_back(event(3, Some(2), None, EventKind::NodeBooted));
        assert_eq!(wait_over(&state, NodeId(1), &DB.into()).as_deref(), text);
    }
}
