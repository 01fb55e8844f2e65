//! A hundred of a hundred and five machines are lost at one moment: real sessions, a real leader, real agents, and devices with limits.
//!
//! `policy/tests/mass_loss.rs` judges what planner and `apply` decide; here it is judged what really happened to the machines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sim::{Action, Case, Loss};

/// They keep their power, run all agents, and take over what the others ran.
const VOTERS: usize = 5;
const MEMBERS: usize = 100;
/// The same loss in a smaller cluster, to compare what a case costs the leader.
const FEW: usize = 25;
/// Four times as many cases may make each so much dearer at the most: a leader that looks at all cases for the sake of each comes to four.
const DEARER: u32 = 3;
const SEED: u64 = 1;
/// From the end of a machine's fence until its unit is up elsewhere: the report, two entries, and a start of up to 400 ms.
const RECOVERY_MS: u64 = 700;
/// Entries of a case: lost, opened, begun, proven, granted, started, and what the looks at the device bring.
const ENTRIES: u64 = 12;

fn lose(members: usize) -> Loss {
    sim::lose_all_but_the_voters(VOTERS, members, SEED).unwrap_or_else(|broken| panic!("{broken}"))
}

/// The only attempt that there was at a machine: its end, and who ran it.
fn only(case: &Case) -> (&Action, usize) {
    let [(action, executor)] = case.actions.as_slice() else {
        panic!("it is not fenced exactly once: {case:?}");
    };
    (action, *executor)
}

fn ended(case: &Case) -> u64 {
    only(case).0.ended_ms.expect("its executor lives")
}

/// The most attempts that each device carried at a time.
fn most_at_a_time(loss: &Loss) -> BTreeMap<&str, usize> {
    let mut actions: BTreeMap<&str, Vec<&Action>> = BTreeMap::new();
    for (action, _) in loss.cases.iter().flat_map(|case| &case.actions) {
        actions.entry(&action.device).or_default().push(action);
    }
    let carried = |actions: &[&Action], at: u64| {
        actions
            .iter()
            .filter(|other| other.begun_ms <= at && other.ended_ms.is_none_or(|end| at < end))
            .count()
    };
    let most = |actions: &Vec<&Action>| actions.iter().map(|action| carried(actions, action.begun_ms)).max();
    actions.iter().map(|(device, actions)| (*device, most(actions).unwrap_or(0))).collect()
}

/// How long the fences behind devices of a kind took, in attempts one after the other.
fn rounds(loss: &Loss, kind: &str) -> f64 {
    let behind = || loss.cases.iter().filter(|case| case.device.starts_with(kind));
    let first = behind().map(|case| only(case).0.begun_ms).min().expect("some are behind it");
    let last = behind().map(ended).max().expect("some are behind it");
    (last - first) as f64 / loss.action_ms as f64
}

fn per_case(loss: &Loss) -> Duration {
    loss.leader / u32::try_from(loss.cases.len()).expect("a small number")
}

/// P20, P54, P150, S1, S2. That no unit runs on two machines, and none on one without a permit, is judged at each step besides.
#[test]
fn a_hundred_machines_that_are_lost_at_once_are_fenced_side_by_side() {
    let loss = lose(MEMBERS);
    assert_eq!(loss.cases.len(), MEMBERS);
    assert_eq!(most_at_a_time(&loss).len(), loss.limits.len(), "every device is used");
    for (device, most) in most_at_a_time(&loss) {
        assert_eq!(most, loss.limits[device], "{device} does as much as it may, and no more");
    }
    // Each controller has one machine, each chassis ten, two at a time.
    let (alone, together) = (rounds(&loss, "bmc"), rounds(&loss, "chassis"));
    eprintln!("rounds: {alone:.2} by controllers, {together:.2} of 5 by chassis");
    assert!(alone < 1.2, "{alone}");
    assert!(together < 5.0 * 1.2, "{together}");
    let began = loss.cases.iter().map(|case| only(case).0.begun_ms).min().expect("there are cases");
    let waited = began - loss.at_ms;
    eprintln!("first attempt after {waited} ms, held for {} ms", loss.held_ms);
    assert!(waited < loss.held_ms + 1_000, "{waited} ms");

    let mut shares: BTreeMap<usize, usize> = BTreeMap::new();
    for case in &loss.cases {
        *shares.entry(only(case).1).or_default() += 1;
    }
    eprintln!("agents by executor: {shares:?}");
    let executors: BTreeSet<usize> = shares.keys().copied().collect();
    assert_eq!(executors, (0..VOTERS).collect(), "who lives runs agents, and nobody else");
    assert!(shares.values().all(|share| *share <= 2 * MEMBERS / VOTERS), "{shares:?}");

    for case in &loss.cases {
        let end = ended(case);
        assert!(case.recovered_ms > end, "its unit runs elsewhere before it was fenced: {case:?}");
        assert!(case.recovered_ms - end < RECOVERY_MS, "{} ms: {case:?}", case.recovered_ms - end);
    }
    let (first, last) =
        (loss.cases.iter().map(|case| case.recovered_ms).min(), loss.cases.iter().map(ended).max());
    assert!(first < last, "nobody waits for the last fence");

    eprintln!("{} entries a case", loss.entries as f64 / MEMBERS as f64);
    assert!(loss.entries < ENTRIES * MEMBERS as u64, "{} entries", loss.entries);
    let (many, few) = (per_case(&loss), per_case(&lose(FEW)));
    eprintln!("the leader's time for a case: {many:?}; {few:?} where {FEW} are lost");
    assert!(many < few * DEARER, "{many:?} and {few:?}");
}
