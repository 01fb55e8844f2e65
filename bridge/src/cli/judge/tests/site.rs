//! Whether the whole site is off, or on again.

use super::*;

const VIP: &str = "vip.service";

/// Drained, with these units.
fn drained(units: Vec<UnitLine>) -> Overview {
    let nodes = picture().nodes.into_iter().map(|mut node| {
        node.units.clear();
        node
    });
    let nodes = nodes.collect();
    Overview { units, nodes, drained: Some("root".to_owned()), ..picture() }
}

#[test]
fn a_site_is_off_when_no_copy_is_left() {
    let stop = UnitLine {
        reason: Some("it is stopping on n1".to_owned()),
        ..unit(VIP, "stopping", vec![copy("n1", "stopping", 9)])
    };
    let db = unit(DB, "active", vec![copy("n1", "active", 4)]);
    let now = drained(vec![db.clone(), stop]);
    assert_eq!(off(&now), Pending("vip.service: it is stopping on n1".to_owned()));
    let now = drained(vec![unit(DB, "waiting", Vec::new()), unit(VIP, "waiting", Vec::new())]);
    assert!(matches!(off(&now), Done(text) if text.contains("switched off")));
    assert!(matches!(off(&Overview { drained: None, ..now }), Stuck(text, _) if text.contains("undrained")));
    // Only a person ends that.
    let now = drained(vec![UnitLine { maintenance: true, ..db.clone() }]);
    assert!(matches!(off(&now), Stalled(_, remedy) if remedy.contains("convoke unmaintain db.service")));
    // A node that is silent is not known to run nothing.
    let mut now = drained(vec![UnitLine { copies: vec![copy("n1", "unknown", 4)], ..db }]);
    now.nodes[0].state = "lost".to_owned();
    now.nodes[0].units = vec![DB.to_owned()];
    assert!(matches!(off(&now), Stalled(text, _) if text == "n1 is lost and may still run db.service"));
    // What goes down in order elsewhere is seen to its end first.
    now.units.push(UnitLine {
        reason: Some("it is stopping on n2".to_owned()),
        ..unit(VIP, "stopping", vec![copy("n2", "stopping", 9)])
    });
    assert_eq!(off(&now), Pending("vip.service: it is stopping on n2".to_owned()));
}

#[test]
fn a_site_is_on_when_all_that_is_to_run_does() {
    let undrained = |units| Overview { drained: None, ..drained(units) };
    let stopped = UnitLine { goal: "stopped".to_owned(), ..unit("job.service", "stopped", Vec::new()) };
    let active = unit(DB, "active", vec![copy("n1", "active", 4)]);
    let done = undrained(vec![active.clone(), stopped.clone()]);
    assert_eq!(on(&done), Done("all 1 units that are to run are active".to_owned()));
    let waiting = UnitLine {
        reason: Some("it requires db.service, which is not active".to_owned()),
        ..unit(VIP, "waiting", Vec::new())
    };
    // What is on its way is told before what waits for it.
    let now = undrained(vec![waiting.clone(), unit(DB, "starting", vec![copy("n2", "starting", 5)])]);
    assert_eq!(on(&now), Pending("db.service: starting".to_owned()));
    let now = undrained(vec![active, waiting]);
    assert!(matches!(on(&now), Pending(text) if text.contains("vip.service: it requires db.service")));
    // A node is away: nothing is on the way to give it its copy.
    let short = UnitLine {
        reason: Some("n3 is drained".to_owned()),
        ..unit(DB, "partial", vec![copy("n1", "active", 4)])
    };
    let now = undrained(vec![short]);
    assert_eq!(on(&now), Settled("db.service is active on n1 only (n3 is drained)".to_owned()));
    // A service that nobody ever formed waits for a person, and this command does not.
    let mut assembly = gathering();
    assembly.formed = false;
    let unformed = UnitLine {
        reason: Some("it was never formed".to_owned()),
        ..clustered("waiting", Vec::new(), assembly)
    };
    let now = undrained(vec![unformed]);
    assert_eq!(on(&now), Settled("mariadb.service runs nowhere (it was never formed)".to_owned()));
    assert!(matches!(on(&drained(vec![stopped])), Stuck(..)));
}

#[test]
fn each_step_is_told_once() {
    let both = || vec![copy("n1", "active", 4), copy("n2", "active", 5)];
    let vip = |copies| unit(VIP, "active", copies);
    let mut told = Progress::from(&drained(vec![unit(DB, "active", both()), vip(both())]), Way::Off);
    let now = drained(vec![unit(DB, "active", both()), vip(vec![copy("n2", "active", 5)])]);
    assert_eq!(told.news(&now), ["         vip.service is stopping, and still on n2"]);
    assert!(told.news(&now).is_empty());
    let now = drained(vec![unit(DB, "active", both()), unit(VIP, "waiting", Vec::new())]);
    assert_eq!(told.news(&now), ["    1/2  vip.service has stopped on n1, n2"]);
    let mut told = Progress::from(&now, Way::On);
    let now =
        drained(vec![unit(DB, "active", both()), unit(VIP, "starting", vec![copy("n1", "starting", 9)])]);
    assert!(told.news(&now).is_empty(), "db.service was there before");
    let now = drained(vec![unit(DB, "active", both()), vip(vec![copy("n1", "active", 9)])]);
    assert_eq!(told.news(&now), ["    1/1  vip.service is active on n1"]);
    let now = drained(vec![unit(DB, "active", both()), vip(both())]);
    assert_eq!(told.news(&now), ["         vip.service is active on n1, n2"], "it was counted");
}
