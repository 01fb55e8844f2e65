//! What the daemon does as a whole: fenced, restarted, stopped; strays, gates, circles and errands.

use super::*;

#[test]
fn a_fenced_life_reboots_and_a_removed_node_ends_its_lease() {
    let mut lab = lab();
    lab.running();
    let fenced = FromSession::Denied(Denial::RebootNow { why: "n2 proved it off".into() });
    assert_eq!(
        lab.hear(Event::Session(fenced)),
        "take down: the cluster has fenced this incarnation: n2 proved it off"
    );
    let told = lab.hear(Event::Session(FromSession::Denied(Denial::Removed)));
    assert_eq!(told, "end lease; unfile db.service; unfile db.service; stop db.service or take down");
}

#[test]
fn a_restarted_daemon_without_a_lease_acts_at_once() {
    let mut lab = lab_with(&[]);
    let unit = lab.agent.units.entry("db.service".into()).or_default();
    unit.held = Some(permit(7));
    unit.filed = true;
    lab.now.leased = false;
    assert_eq!(lab.hear(Event::Tick), "unfile db.service; unfile db.service; stop db.service or take down");
}

#[test]
fn strays_are_reported_and_stopped_only_by_order() {
    let mut lab = lab();
    assert_eq!(lab.changes("db.service", up()), "send observed db.service running");
    assert_eq!(lab.order(Vec::new()), "");
    lab.index += 1;
    let index = lab.index;
    assert_eq!(lab.orders(1, index, Vec::new(), &["db.service"]), "unfile db.service; stop db.service");
    assert_eq!(lab.end("db.service", gone("db.service")), "look db.service; send observed db.service down");
}

#[test]
fn an_adopted_unit_gets_its_file_and_no_start() {
    let mut lab = lab();
    lab.changes("db.service", up());
    let mut adopted = view("db.service", 7, Phase::Active);
    adopted.adopted = true;
    assert_eq!(lab.order(vec![adopted]), "file db.service 7");
}

#[test]
fn what_was_taken_over_and_never_ran_was_stopped_by_nobody() {
    for (ran, because) in [(false, "Unused"), (true, "Failed(\"exited by itself\")")] {
        let mut lab = lab();
        let mut remains = look("db.service", down());
        remains.left = Some("its program says that the role is held".into());
        if ran {
            remains.reading.invocation_id = vec![1; 16];
        }
        let changed = Signal::UnitChanged { unit: "db.service".into(), active_state: None, sub_state: None };
        lab.hear(Event::Signal(changed));
        lab.end("db.service", End::Looked(Box::new(remains.clone())));
        let mut adopted = view("db.service", 7, Phase::Active);
        adopted.adopted = true;
        let ordered = lab.order(vec![adopted]);
        if ran {
            // Its job may be told a moment later than its end.
            assert!(ordered.contains("look"), "{ordered}");
            lab.end("db.service", End::Looked(Box::new(remains)));
        }
        let told = lab.end("db.service", gone("db.service"));
        assert!(told.contains(&format!("released db.service 7 {because}")), "{told}");
    }
}

#[test]
fn an_ungated_unit_is_mended_once() {
    let mut lab = lab();
    let mut open = look("db.service", down());
    open.reading.asserts.clear();
    let changed = Signal::UnitChanged { unit: "db.service".into(), active_state: None, sub_state: None };
    lab.hear(Event::Signal(changed.clone()));
    let told = lab.end("db.service", End::Looked(Box::new(open.clone())));
    assert_eq!(told, "mend db.service; reload; send observed db.service down");
    assert_eq!(lab.hear(Event::Reloaded(Ok(()))), "");
    lab.hear(Event::Signal(changed));
    assert_eq!(lab.end("db.service", End::Looked(Box::new(open))), "", "never in a loop");
}

#[test]
fn a_new_cluster_unit_is_gated_by_one_reload() {
    let mut lab = lab();
    lab.index += 1;
    let units = ["db.service", "a.service", "b.service", "../x.service"];
    let view = NodeView {
        index: lab.index,
        permits: Vec::new(),
        units: units.iter().map(|name| UnitName::from(*name)).collect(),
        survey: 0,
        stop: BTreeSet::new(),
        stops_before: BTreeMap::new(),
        assembly: BTreeMap::new(),
        ranks: BTreeMap::new(),
        ended: None,
    };
    let orders = |view: &NodeView| {
        let orders = Box::new(nothing_else(view.clone()));
        Event::Session(FromSession::Orders { session: 1, orders })
    };
    let told = lab.hear(orders(&view));
    assert_eq!(told, "reload; look a.service; look b.service");
    assert_eq!(lab.hear(orders(&view)), "");
}

#[test]
fn stopping_the_daemon_releases_and_waits_for_the_answers() {
    let mut lab = lab();
    lab.running();
    let (done, _finished) = oneshot::channel();
    let stop = Event::Command(AgentCommand::Shutdown { kind: Shutdown::Stop, done });
    assert_eq!(lab.hear(stop), "unfile db.service; stop db.service; send leaving");
    assert_eq!(
        lab.end("db.service", gone("db.service")),
        "look db.service; send released db.service 7 Shutdown"
    );
    let numbers: Vec<u64> = lab
        .done
        .iter()
        .filter_map(|action| match action {
            Action::Send { number, .. } => Some(*number),
            _ => None,
        })
        .collect();
    let mut last = String::new();
    for number in numbers {
        assert_eq!(last, "");
        last = lab.hear(Event::Session(FromSession::FactTaken { number, outcome: Ok(()) }));
    }
    assert_eq!(last, "exit");
}

#[test]
fn a_shutdown_that_is_called_off_is_taken_back_by_another_session() {
    let mut lab = lab();
    lab.running();
    let manager = |lab: &mut Lab, state| lab.hear(Event::Manager(state));
    assert_eq!(manager(&mut lab, SystemState::Running), "");
    lab.job(5, "db.service", JobKind::Stop);
    lab.job(6, "shutdown.target", JobKind::Start);
    assert_eq!(lab.changes("db.service", down()), "unfile db.service; stop db.service; send leaving");
    lab.end("db.service", gone("db.service"));
    lab.look("db.service", down());
    assert_eq!(manager(&mut lab, SystemState::Degraded), "", "a look from before the shutdown");
    assert!(lab.agent.is_leaving());
    assert_eq!(manager(&mut lab, SystemState::Stopping), "");
    assert_eq!(manager(&mut lab, SystemState::Running), "renew");
    assert!(!lab.agent.is_leaving());
    // That it leaves was not answered, and is not said again.
    assert!(!lab.open(2).contains("leaving"));
    lab.index += 1;
    let granted = vec![view("db.service", 8, Phase::Granted)];
    assert_eq!(lab.orders(2, lab.index, granted, &[]), "start db.service 8");
}

#[test]
fn a_daemon_that_is_stopped_leaves_whatever_pid_1_says() {
    let mut lab = lab();
    let (done, _finished) = oneshot::channel();
    let stop = Event::Command(AgentCommand::Shutdown { kind: Shutdown::Stop, done });
    assert_eq!(lab.hear(stop), "send leaving");
    lab.hear(Event::Manager(SystemState::Stopping));
    assert_eq!(lab.hear(Event::Manager(SystemState::Running)), "");
    assert!(lab.agent.is_leaving());
}

#[test]
fn restarting_the_daemon_touches_nothing() {
    let mut lab = lab();
    lab.running();
    let (done, _finished) = oneshot::channel();
    let restart = Event::Command(AgentCommand::Shutdown { kind: Shutdown::Restart, done });
    assert_eq!(lab.hear(restart), "exit");
}

#[test]
fn without_a_quorum_the_daemon_does_not_wait_for_ever() {
    let mut lab = lab();
    lab.hear(Event::Session(FromSession::Closed));
    let (done, _finished) = oneshot::channel();
    assert_eq!(lab.hear(Event::Command(AgentCommand::Shutdown { kind: Shutdown::SystemDown, done })), "");
    lab.now.boot_ms += FAREWELL_MS;
    assert_eq!(lab.hear(Event::Tick), "exit");
}

#[test]
fn a_section_that_goes_is_told_in_the_units_log() {
    let mut lab = lab();
    let lines = |lab: &Lab| {
        let gone = "section is gone";
        let told = |action: &&Action| matches!(action, Action::Tell(line) if line.message.contains(gone));
        lab.done.iter().filter(told).count()
    };
    lab.discover(&["db.service"]);
    assert_eq!(lines(&lab), 0);
    lab.discover(&[]);
    lab.discover(&[]);
    assert_eq!(lines(&lab), 1);
}

#[test]
fn a_circle_of_stops_is_cut_and_everybody_stops() {
    let (mut a, mut b) = (permit(7), permit(8));
    a.stops_before = BTreeSet::from(["b.service".into()]);
    b.stops_before = BTreeSet::from(["a.service".into()]);
    let mut lab = lab_with(&[("a.service", a), ("b.service", b)]);
    lab.discover(&["a.service", "b.service"]);
    lab.look("a.service", up());
    lab.look("b.service", up());
    lab.now.leased = false;
    lab.hear(Event::Tick);
    lab.end("a.service", gone("a.service"));
    lab.end("b.service", gone("b.service"));
    assert!(lab.agent.units.values().all(|unit| unit.held.is_none()));
}

fn agent_call(device: &str, agent: &str) -> crate::session::message::AgentCall {
    crate::session::message::AgentCall {
        device: device.into(),
        agent: agent.into(),
        options: BTreeMap::new(),
        secrets: BTreeMap::new(),
        timeout_ms: 1_000,
        timeouts: BTreeMap::new(),
        at_once: 1,
        configured: 1,
        node: NodeId(2),
        node_name: "n2".into(),
    }
}

/// The next view, of a node that holds nothing.
fn nothing_held(lab: &mut Lab) -> NodeView {
    lab.index += 1;
    NodeView {
        index: lab.index,
        permits: Vec::new(),
        units: BTreeSet::new(),
        survey: 0,
        stop: BTreeSet::new(),
        stops_before: BTreeMap::new(),
        assembly: BTreeMap::new(),
        ranks: BTreeMap::new(),
        ended: None,
    }
}

#[test]
fn an_errand_is_run_once_and_a_look_not_again_at_once() {
    let mut lab = lab();
    let call = agent_call("bmc", "fence_ipmilan");
    let fence = crate::session::message::FenceOrder {
        case: policy::CaseId(4),
        attempt: 1,
        calls: vec![call.clone()],
        own: Vec::new(),
    };
    let mut look = crate::session::message::LookOrder { incarnation: "i".into(), call };
    let old = look.clone();
    let order = |lab: &mut Lab, look: &crate::session::message::LookOrder| {
        let (fences, looks) = (vec![fence.clone()], vec![look.clone()]);
        let orders = Box::new(Orders { fences, looks, ..nothing_else(nothing_held(lab)) });
        lab.hear(Event::Session(FromSession::Orders { session: 1, orders }))
    };
    assert_eq!(order(&mut lab, &look), "fence 4.1; look at n2");
    assert_eq!(order(&mut lab, &look), "", "both are under way");
    let powered = Event::Powered { order: Box::new(look.clone()), power: Some(Power::On) };
    assert!(lab.hear(powered).starts_with("send PowerObserved"));
    let not_begun = Event::Fenced { order: Box::new(fence.clone()), ended: None };
    lab.hear(not_begun);
    assert_eq!(
        order(&mut lab, &look),
        "fence 4.1",
        "what was not begun is begun again; the look was just taken"
    );
    let ended = crate::agent::event::Fenced { outcome: policy::FenceOutcome::Off, again: true };
    let told = lab.hear(Event::Fenced { order: Box::new(fence.clone()), ended: Some(ended) });
    let at = |word| told.find(word).unwrap_or(usize::MAX);
    assert!(at("FenceRepeated") < at("FenceReported"), "said while the attempt is under way: {told}");
    lab.now.boot_ms += LOOK_PAUSE_MS;
    assert_eq!(order(&mut lab, &look), "look at n2");
    look.call.options.insert("ip".into(), "10.0.0.9".into());
    assert_eq!(order(&mut lab, &look), "look at n2", "the settings have changed");
    let powered = Event::Powered { order: Box::new(old), power: Some(Power::On) };
    assert_eq!(lab.hear(powered), "", "what was seen under the old settings counts no more");
    let given_up = Event::Powered { order: Box::new(look.clone()), power: None };
    assert_eq!(lab.hear(given_up), "", "nothing was seen");
    assert_eq!(order(&mut lab, &look), "", "not at once");
    lab.now.boot_ms += LOOK_PAUSE_MS;
    assert_eq!(order(&mut lab, &look), "look at n2", "it is still asked for");
}

/// P123: a way is opened once for each decision that says so, however often the order comes.
#[test]
fn an_opening_is_never_run_twice_for_one_decision() {
    let mut lab = lab();
    let call = agent_call("port", "fence_ifmib");
    let opening =
        |since, once| crate::session::message::SwitchOnOrder { since, failures: 0, once, call: call.clone() };
    let order = |lab: &mut Lab, switch_on: &[crate::session::message::SwitchOnOrder]| {
        let switch_on = switch_on.to_vec();
        let orders = Box::new(Orders { switch_on, ..nothing_else(nothing_held(lab)) });
        lab.hear(Event::Session(FromSession::Orders { session: 1, orders }))
    };
    let first = opening(7, true);
    assert_eq!(order(&mut lab, std::slice::from_ref(&first)), "switch on n2 by port");
    let done = Event::SwitchedOn { order: Box::new(first.clone()), power: Some(Power::On) };
    assert!(lab.hear(done).starts_with("send SwitchedOn"));
    order(&mut lab, &[]);
    assert_eq!(order(&mut lab, std::slice::from_ref(&first)), "", "a late order of what was done");
    let second = opening(9, true);
    assert_eq!(order(&mut lab, std::slice::from_ref(&second)), "switch on n2 by port");
    lab.hear(Event::SwitchedOn { order: Box::new(second.clone()), power: None });
    assert_eq!(order(&mut lab, std::slice::from_ref(&second)), "switch on n2 by port", "it was not begun");
    // Power is given back until it is there: its order may come anew.
    let power = opening(11, false);
    assert_eq!(order(&mut lab, std::slice::from_ref(&power)), "switch on n2 by port");
    order(&mut lab, &[]);
    assert_eq!(order(&mut lab, std::slice::from_ref(&power)), "switch on n2 by port");
}

/// Orders that come again bring no line again: the leader says each once.
#[test]
fn what_the_cluster_says_of_a_fence_goes_into_the_units_journal() {
    let mut lab = lab();
    let note = |unit: &str, severity, text: &str| crate::session::message::Note {
        unit: unit.into(),
        severity,
        text: text.to_owned(),
    };
    let (waits, over) = ("waits: n2 is being fenced by bmc, run on n3", "n2 is proven off by bmc");
    let notes = vec![
        note("db.service", policy::Severity::Warning, waits),
        note("db.service", policy::Severity::Info, over),
        note("../db.service", policy::Severity::Info, over),
    ];
    let orders = Box::new(Orders { notes, ..nothing_else(nothing_held(&mut lab)) });
    lab.done.clear();
    lab.hear(Event::Session(FromSession::Orders { session: 1, orders }));
    let orders = Box::new(nothing_else(nothing_held(&mut lab)));
    lab.hear(Event::Session(FromSession::Orders { session: 1, orders }));
    let lines = lab.done.iter().filter_map(|action| match action {
        Action::Tell(line) => Some(line),
        _ => None,
    });
    let lines: Vec<_> = lines.map(|line| (line.unit.as_str(), line.kind, line.message.as_str())).collect();
    let kind = Kind::WaitsForFence;
    assert_eq!(lines, [("db.service", kind, waits), ("db.service", kind, over)]);
}
