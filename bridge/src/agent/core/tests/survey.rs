//! What the agent says of units that the cluster tells it of by name.

use super::*;

impl Lab {
    /// The cluster's word when it knows these units, the newest since `newest`.
    fn knows(&mut self, units: &[&str], newest: u64) -> String {
        self.index += 1;
        let view = NodeView {
            index: self.index,
            permits: Vec::new(),
            units: units.iter().map(|name| UnitName::from(*name)).collect(),
            survey: newest,
            stop: BTreeSet::new(),
            stops_before: BTreeMap::new(),
            assembly: BTreeMap::new(),
            ranks: BTreeMap::new(),
            ended: None,
        };
        let orders = Box::new(nothing_else(view));
        self.hear(Event::Session(FromSession::Orders { session: 1, orders }))
    }
}

/// Loaded without a gate, as an ordinary service is.
fn ungated(unit: &str, state: State) -> End {
    let mut look = look(unit, state);
    look.reading.asserts.clear();
    End::Looked(Box::new(look))
}

/// The list of cluster units is on disk.
fn kept(lab: &mut Lab) -> String {
    let text = lab.agent.gated.render();
    lab.hear(Event::GatedKept { text, ok: true })
}

fn reloaded(lab: &mut Lab) -> String {
    kept(lab);
    let first = lab.hear(Event::Reloaded(Ok(())));
    assert_eq!(first, "");
    lab.hear(Event::Signal(Signal::Reloading(false)))
}

#[test]
fn a_unit_told_by_name_is_looked_for_and_gated_before_the_survey_is_said() {
    let mut lab = lab();
    assert_eq!(lab.knows(&["db.service", "new.service"], 40), "reload; look new.service");
    // It is there, and nobody could stop anybody from starting it.
    assert_eq!(lab.end("new.service", ungated("new.service", down())), "mend new.service");
    assert_eq!(lab.hear(Event::Reloaded(Ok(()))), "reload");
    assert_eq!(reloaded(&mut lab), "look db.service; look new.service");
    assert_eq!(lab.look("db.service", down()), "");
    assert_eq!(lab.look("new.service", down()), "send surveyed 40");
    assert_eq!(lab.knows(&["db.service", "new.service"], 40), "", "once");
}

#[test]
fn a_copy_that_runs_is_told_before_the_survey() {
    let mut lab = lab();
    assert_eq!(lab.knows(&["db.service", "new.service"], 40), "reload; look new.service");
    assert_eq!(lab.look("new.service", up()), "send observed new.service running");
    assert_eq!(kept(&mut lab), "");
    assert_eq!(lab.hear(Event::Reloaded(Ok(()))), "send surveyed 40");
}

#[test]
fn a_unit_that_is_not_here_is_surveyed_without_a_line_of_its_own() {
    let mut lab = lab();
    lab.knows(&["db.service", "new.service"], 40);
    reloaded(&mut lab);
    lab.look("db.service", down());
    let mut absent = look("new.service", down());
    absent.reading.load_state = "not-found".into();
    absent.reading.asserts.clear();
    // The first look is under way still, and what came with the reload asks for a second.
    let told = lab.end("new.service", End::Looked(Box::new(absent.clone())));
    assert_eq!(told, "look new.service");
    assert_eq!(lab.end("new.service", End::Looked(Box::new(absent))), "send surveyed 40");
}

#[test]
fn a_list_that_is_not_on_disk_is_written_again_before_the_survey_is_said() {
    let mut lab = lab();
    lab.knows(&["db.service", "new.service"], 40);
    lab.look("new.service", up());
    let text = lab.agent.gated.render();
    assert_eq!(lab.hear(Event::GatedKept { text: "an earlier list".into(), ok: true }), "");
    assert_eq!(lab.hear(Event::GatedKept { text, ok: false }), "");
    assert_eq!(lab.hear(Event::Reloaded(Ok(()))), "", "a reboot would open the gate");
    lab.done.clear();
    lab.hear(Event::Tick);
    assert!(lab.done.iter().any(|action| matches!(action, Action::KeepGated(_))), "tried again");
    assert_eq!(kept(&mut lab), "send surveyed 40");
}

#[test]
fn each_session_gets_its_survey() {
    let mut lab = lab();
    kept(&mut lab);
    assert_eq!(lab.knows(&["db.service"], 40), "send surveyed 40");
    lab.hear(Event::Session(FromSession::Closed));
    let told = lab.open(1);
    assert_eq!(told, "send inventory running []");
    assert_eq!(lab.knows(&["db.service"], 40), "send surveyed 40");
}

#[test]
fn a_forgotten_unit_loses_its_gate_once_nothing_here_speaks_of_it() {
    let mut lab = lab();
    lab.knows(&["db.service", "new.service"], 40);
    lab.look("new.service", up());
    assert!(lab.agent.gated.units.contains("new.service"));
    lab.hear(Event::Reloaded(Ok(())));
    assert_eq!(lab.knows(&["db.service"], 40), "", "it runs");
    // The cluster does not say it again: what happens here decides when.
    let told = lab.changes("new.service", down());
    assert_eq!(told, "unmend new.service; reload; send observed new.service down");
    assert!(!lab.agent.gated.units.contains("new.service"));
    lab.hear(Event::Reloaded(Ok(())));
    assert_eq!(lab.knows(&[], 40), "", "the files here speak of db.service");
}

#[test]
fn one_service_under_two_names_of_the_cluster_is_not_offered_and_not_stopped_as_a_stray() {
    let mut lab = lab_with(&[]);
    lab.discover(&["mariadb.service"]);
    let both = |look: &mut Look| {
        look.reading.id = "mariadb.service".into();
        look.reading.names = vec!["mariadb.service".into(), "mysql.service".into()];
    };
    let mut seen = look("mariadb.service", up());
    both(&mut seen);
    lab.end("mariadb.service", End::Looked(Box::new(seen.clone())));
    lab.open(1);
    let fault = |lab: &Lab| {
        let unit = &lab.agent.units[&UnitName::from("mariadb.service")];
        unit.told.as_ref().and_then(|item| item.offer.as_ref()).and_then(|offer| offer.fault.clone())
    };
    assert_eq!(fault(&lab), None, "one name of two is no trouble");
    // On other nodes it is called otherwise.
    let told = lab.knows(&["mariadb.service", "mysql.service"], 40);
    assert_eq!(told, "reload; look mysql.service; send observed mariadb.service running");
    assert!(fault(&lab).expect("two units for one service").contains("mysql.service is another name of it"));
    assert_eq!(lab.end("mysql.service", End::Looked(Box::new(seen))), "send observed mysql.service running");
    // Nobody takes mariadb.service down because it is called mysql.service as well.
    assert_eq!(lab.orders(1, 9, Vec::new(), &["mysql.service"]), "");
}

/// The look that found it running was out of date when it ended, and another followed at once.
#[test]
fn a_unit_that_runs_is_told_though_it_is_looked_at_again() {
    let mut lab = lab();
    lab.knows(&["db.service", "new.service"], 40);
    let changed = Signal::UnitChanged { unit: "new.service".into(), active_state: None, sub_state: None };
    lab.hear(Event::Signal(changed));
    let first = lab.end("new.service", ungated("new.service", up()));
    assert!(first.contains("look new.service"), "{first}");
    let second = lab.end("new.service", ungated("new.service", up()));
    let told = "send observed new.service running";
    assert!(first.contains(told) || second.contains(told), "nobody is told: {first}; {second}");
}

/// What could not be read while PID 1 went away would count as running, and its watch has ended as well.
#[test]
fn a_look_whose_connection_was_lost_says_nothing() {
    let mut lab = lab();
    let changed = Signal::UnitChanged { unit: "db.service".into(), active_state: None, sub_state: None };
    assert_eq!(lab.hear(Event::Signal(changed)), "look db.service");
    let name = UnitName::from("db.service");
    let op = lab.agent.units[&name].op.map(|op| op.id).expect("a look");
    lab.hear(Event::Signal(Signal::Disconnected));
    let mut seen = look("db.service", down());
    seen.left = Some("its state cannot be read".to_owned());
    let end = End::Looked(Box::new(seen));
    assert_eq!(lab.hear(Event::Done { op, unit: name, end }), "");
    assert_eq!(*lab.run("db.service"), Run::Unknown);
    assert_eq!(lab.hear(Event::Connected), "look db.service");
    let watches =
        |action: &Action| matches!(action, Action::Begin { work: Work::Look { watch, .. }, .. } if *watch);
    assert!(lab.done.last().is_some_and(watches), "{:?}", lab.done.last());
}
