//! What is gated on a unit's permit ends with it, whatever the files say by then, and whether they were read.

use super::*;

const DISK: &str = "srv-db.mount";

fn with_disk(token: u64) -> Permit {
    Permit { members: BTreeSet::from([DISK.to_owned()]), ..permit(token) }
}

fn files(units: &[(&str, &[&str])]) -> Event {
    let found = units.iter().map(|(unit, members)| {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        (UnitName::from(*unit), Found { members, ..plain() })
    });
    Event::Discovered(Discovery { found: found.collect(), ..Discovery::default() })
}

/// What the last stop stops besides.
fn stopped_with(lab: &Lab) -> Vec<String> {
    let stop = lab.done.iter().rev().find_map(|action| match action {
        Action::Begin { work: Work::Stop(stop), .. } => Some(stop),
        _ => None,
    });
    stop.expect("a stop").members.iter().cloned().collect()
}

fn filed(lab: &Lab) -> Vec<String> {
    let permit = lab.done.iter().rev().find_map(|action| match action {
        Action::File { permit, .. } | Action::Start { permit, .. } => Some(permit),
        _ => None,
    });
    permit.expect("a file").members.iter().cloned().collect()
}

fn revoked() -> PermitView {
    view("db.service", 7, Phase::Revoking(policy::StopReason::Moved))
}

#[test]
fn a_restarted_daemon_without_a_lease_stops_them_before_it_has_read_any_file() {
    let mut lab = Lab::new(&[("db.service", with_disk(7))], &[]);
    lab.now.leased = false;
    assert_eq!(
        lab.hear(Event::Connected),
        "unfile db.service; unfile db.service; stop db.service or take down"
    );
    assert_eq!(stopped_with(&lab), [DISK]);
}

/// Another copy may run by now: it does not wait for a disk that answers late.
#[test]
fn what_the_cluster_knows_no_more_stops_with_them_before_it_has_read_any_file() {
    let mut lab = lab_with(&[("db.service", with_disk(7))]);
    lab.look("db.service", up());
    lab.open(1);
    assert!(lab.order(Vec::new()).ends_with("unfile db.service; stop db.service"));
    assert_eq!(stopped_with(&lab), [DISK]);
}

#[test]
fn they_stop_although_the_section_is_gone() {
    let mut lab = lab_with(&[("db.service", with_disk(7))]);
    lab.hear(files(&[]));
    lab.look("db.service", up());
    lab.open(1);
    assert!(lab.order(vec![revoked()]).ends_with("unfile db.service; stop db.service"));
    assert_eq!(stopped_with(&lab), [DISK]);
}

#[test]
fn what_the_files_name_later_is_written_down() {
    let mut lab = lab();
    lab.running();
    assert_eq!(filed(&lab), [""; 0]);
    assert_eq!(lab.hear(files(&[("db.service", &[DISK])])), "file db.service 7");
    assert_eq!(filed(&lab), [DISK]);
    assert_eq!(lab.hear(files(&[("db.service", &[DISK])])), "");
    lab.hear(files(&[("db.service", &[])]));
    lab.order(vec![revoked()]);
    assert_eq!(stopped_with(&lab), [DISK], "it came up with the unit");
}

#[test]
fn what_belongs_to_another_unit_now_stops_with_that() {
    for now in [[("db.service", &[][..]), (DISK, &[])], [("db.service", &[]), ("web.service", &[DISK])]] {
        let mut lab = lab_with(&[("db.service", with_disk(7))]);
        lab.hear(files(&now));
        lab.look("db.service", up());
        lab.open(1);
        lab.order(vec![revoked()]);
        assert_eq!(stopped_with(&lab), [""; 0], "{now:?}");
    }
}

/// Its variables, its sockets and what has to be gone with it stand in the files alone.
#[test]
fn nothing_is_started_or_given_back_before_the_files_are_read() {
    let mut lab = lab_with(&[]);
    lab.agent.units.entry("db.service".into()).or_default();
    lab.agent.touch(&"db.service".into());
    lab.hear(Event::Tick);
    let unit = lab.agent.units.get_mut(&UnitName::from("db.service")).expect("known");
    unit.saw(look("db.service", down()));
    (unit.op, unit.stale) = (None, false);
    lab.open(1);
    assert!(!lab.order(vec![view("db.service", 7, Phase::Granted)]).contains("start"));
    assert!(lab.hear(files(&[("db.service", &[DISK])])).contains("start db.service 7"));
    assert_eq!(filed(&lab), [DISK]);
}

/// It went down while no daemon listened, and the disk that came up with it did not.
#[test]
fn what_was_found_down_is_given_back_with_what_its_permit_named() {
    let mut lab = Lab::new(&[], &[]);
    lab.agent.units.entry("db.service".into()).or_default().left_filed = Some(with_disk(7));
    lab.hear(Event::Connected);
    lab.look("db.service", down());
    lab.open(1);
    assert!(!lab.order(vec![view("db.service", 7, Phase::Active)]).contains("stop"));
    lab.hear(files(&[]));
    lab.look("db.service", down());
    lab.hear(Event::Tick);
    assert_eq!(stopped_with(&lab), [DISK]);
}
