mod site;

use super::*;
use crate::api::model::{FailedLine, FenceLine};
use crate::cli::render::samples::{clustered, copy, gathering, picture, unit};

const DB: &str = "db.service";

/// The cluster with this unit only.
fn with(unit: UnitLine) -> Overview {
    Overview { units: vec![unit], ..picture() }
}

fn stopping(copies: Vec<CopyLine>) -> UnitLine {
    UnitLine { goal: "stopped".to_owned(), ..unit(DB, "stopping", copies) }
}

#[test]
fn a_start_is_done_when_the_unit_is_active() {
    let active = with(unit(DB, "active", vec![copy("n1", "active", 4)]));
    assert_eq!(started(&active, DB, None), Done("db.service is active on n1".to_owned()));
    assert_eq!(started(&active, DB, Some("n1")), Done("db.service is active on n1".to_owned()));
    assert!(
        matches!(started(&active, DB, Some("n2")), Stuck(_, remedy) if remedy.contains("convoke move db.service n2"))
    );
    let starting = with(unit(DB, "starting", vec![copy("n1", "starting", 4)]));
    assert_eq!(started(&starting, DB, None), Pending("starting".to_owned()));
}

#[test]
fn a_start_that_waits_says_for_what() {
    let waiting = UnitLine { reason: Some("n3 is lost".to_owned()), ..unit(DB, "waiting", Vec::new()) };
    assert_eq!(started(&with(waiting), DB, None), Pending("n3 is lost".to_owned()));
}

#[test]
fn a_start_that_failed_everywhere_is_not_waited_for() {
    let failed =
        |node: &str, retry_s| FailedLine { node: node.to_owned(), why: "exit status 1".to_owned(), retry_s };
    let told = |failed| {
        let reason = Some("n1 is avoided".to_owned());
        started(&with(UnitLine { reason, failed, ..unit(DB, "waiting", Vec::new()) }), DB, None)
    };
    let Stalled(text, remedy) = told(vec![failed("n1", 590), failed("n2", 585)]) else { panic!("it waits") };
    assert_eq!(
        text,
        "db.service failed on every node that may take it (n1: exit status 1; n2: exit status 1)"
    );
    assert!(remedy.contains("`convoke start db.service`") && remedy.contains("in 585 s"), "{remedy}");
    assert_eq!(told(vec![failed("n1", 590), failed("n2", 4)]), Pending("n1 is avoided".to_owned()));
    assert_eq!(told(Vec::new()), Pending("n1 is avoided".to_owned()));
}

#[test]
fn a_start_of_what_was_never_formed_names_the_word_that_it_needs() {
    let mut assembly = gathering();
    assembly.formed = false;
    let name = "mariadb.service";
    let told = |assembly| started(&with(clustered("waiting", Vec::new(), assembly)), name, None);
    let Stalled(text, remedy) = told(assembly.clone()) else { panic!("it does not say so") };
    assert!(text.contains("never formed"), "{text}");
    assert_eq!(remedy, "convoke assemble mariadb.service --from NODE");
    assembly.formed = true;
    assert!(matches!(told(assembly), Pending(_)));
}

#[test]
fn somebody_elses_later_word_ends_the_wait() {
    assert!(
        matches!(started(&with(stopping(Vec::new())), DB, None), Stuck(text, _) if text.contains("alice"))
    );
    let active = with(unit(DB, "active", vec![copy("n1", "active", 4)]));
    assert!(matches!(stopped(&active, DB), Stuck(text, _) if text.contains("started meanwhile by alice")));
}

#[test]
fn a_stop_is_done_when_no_copy_is_left() {
    assert_eq!(stopped(&with(stopping(Vec::new())), DB), Done("db.service is stopped".to_owned()));
    let leaving = with(stopping(vec![copy("n1", "stopping", 4)]));
    assert!(matches!(stopped(&leaving, DB), Pending(_)));
}

#[test]
fn a_stop_on_a_silent_node_is_not_proven() {
    let mut silent = with(stopping(vec![copy("n1", "unknown", 4)]));
    let Stuck(text, remedy) = stopped(&silent, DB) else { panic!("it is not stopped") };
    assert!(text.contains("not proven stopped: n1 is silent"), "{text}");
    assert!(remedy.contains("convoke fence confirm n1"), "{remedy}");
    // A fence under way will tell.
    let mut fence = FenceLine {
        node: "n1".to_owned(),
        incarnation: "boot-n1".to_owned(),
        state: "running".to_owned(),
        device: Some("bmc-n1".to_owned()),
        attempts: 1,
        error: None,
        next_in_s: None,
        because: DB.to_owned(),
        drill: false,
        case: 7,
        text: String::new(),
    };
    silent.fences = vec![fence.clone()];
    assert!(matches!(stopped(&silent, DB), Pending(_)));
    fence.state = "failed".to_owned();
    silent.fences = vec![fence];
    assert!(matches!(stopped(&silent, DB), Stuck(..)));
}

#[test]
fn a_move_is_done_by_a_newer_permit_elsewhere() {
    let before = unit(DB, "active", vec![copy("n1", "active", 4)]);
    assert_eq!(place(&before, None), ("n1".to_owned(), 4));
    // The old copy is still there: nothing has happened yet, and the wish can be taken back.
    let pending = moved(&with(before), DB, ("n1", Some("n2")), 4);
    assert!(
        matches!(pending, Pending(text) if text.contains("`convoke start db.service` takes the move back"))
    );
    let after = with(unit(DB, "active", vec![copy("n2", "active", 9)]));
    assert_eq!(moved(&after, DB, ("n1", Some("n2")), 4), Done("db.service moved from n1 to n2".to_owned()));
    let back = with(unit(DB, "active", vec![copy("n1", "active", 9)]));
    assert_eq!(moved(&after, DB, ("n1", None), 4), Done("db.service moved from n1 to n2".to_owned()));
    let elsewhere = moved(&after, DB, ("n1", Some("n3")), 4);
    assert!(matches!(elsewhere, Stuck(text, _) if text.ends_with("to n2: it could not run on n3")));
    assert!(matches!(moved(&back, DB, ("n1", None), 4), Stuck(text, _) if text.contains("back on n1")));
}

#[test]
fn a_drain_is_done_when_what_ran_there_runs_elsewhere() {
    let before = vec![DB.to_owned(), "vip.service".to_owned()];
    let mut picture = picture();
    picture.nodes[0].drained = Some("root".to_owned());
    picture.units[0].reason = Some("no other node offers it".to_owned());
    let judge = |picture: &Overview| drained(picture, "n1", &before);
    assert_eq!(judge(&picture), Pending("db.service: no other node offers it".to_owned()));
    // A node that has just died: its fence may be decided on in the next moment, and is then waited for.
    picture.nodes[0].state = "lost".to_owned();
    assert!(matches!(judge(&picture), Stalled(_, remedy) if remedy.contains("convoke fence confirm n1")));
    picture.nodes[0].state = "fencing".to_owned();
    picture.fences.push(FenceLine {
        node: "n1".to_owned(),
        incarnation: "boot-n1".to_owned(),
        state: "running".to_owned(),
        device: Some("bmc-n1".to_owned()),
        attempts: 1,
        error: None,
        next_in_s: None,
        because: DB.to_owned(),
        drill: false,
        case: 7,
        text: "n1 is being fenced by bmc-n1, run on n2".to_owned(),
    });
    assert_eq!(judge(&picture), Pending("n1 is being fenced by bmc-n1, run on n2".to_owned()));
    picture.fences[0].state = "failed".to_owned();
    assert!(matches!(judge(&picture), Stalled(..)));
    picture.nodes[0].units.clear();
    picture.units[0] = unit(DB, "starting", vec![copy("n2", "starting", 50)]);
    picture.units[1] = unit("vip.service", "active", vec![copy("n2", "active", 51)]);
    assert_eq!(judge(&picture), Pending("db.service: starting".to_owned()));
    picture.units[0] = unit(DB, "waiting", Vec::new());
    picture.units[0].reason = Some("n2 does not offer it".to_owned());
    assert_eq!(
        judge(&picture),
        Settled(
            "n1 is drained and runs no cluster unit, but db.service runs nowhere now (n2 does not offer it)"
                .to_owned()
        )
    );
    // A unit that was stopped meanwhile is not waited for.
    picture.units[0].goal = "stopped".to_owned();
    assert_eq!(
        judge(&picture),
        Done("n1 is drained and runs no cluster unit; now active: vip.service on n2".to_owned())
    );
    picture.nodes[0].drained = None;
    assert!(matches!(judge(&picture), Stuck(..)));
}
