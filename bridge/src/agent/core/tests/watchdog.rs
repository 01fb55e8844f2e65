//! When the watchdog is armed and disarmed, and what the cluster hears of it (F17).

use policy::Fencing;

use super::*;
use crate::watchdog::Standing;

fn watched(token: u64, phase: Phase) -> PermitView {
    let mut view = view("db.service", token, phase);
    (view.terms.fencing, view.terms.watchdog_ms) = (Fencing::Watchdog, 10_000);
    view
}

impl Lab {
    fn stands(&mut self, standing: Standing) -> String {
        self.hear(Event::Watchdog(standing))
    }

    /// The files have this unit, with `Fencing=watchdog`.
    fn offer(&mut self, watched: bool) -> String {
        let fencing = if watched { Fencing::Watchdog } else { Fencing::Required };
        let found = Found { definition: Some(Definition { fencing, ..Definition::exclusive() }), ..plain() };
        let found = BTreeMap::from([("db.service".into(), found)]);
        self.hear(Event::Discovered(Discovery { found, ..Discovery::default() }))
    }

    /// The cluster has taken the last fact that was sent.
    fn taken(&mut self) -> String {
        let numbers = self.done.iter().filter_map(|action| match action {
            Action::Send { number, .. } => Some(*number),
            _ => None,
        });
        let number = numbers.max().expect("something was sent");
        self.hear(Event::Session(FromSession::FactTaken { number, outcome: Ok(()) }))
    }
}

fn armed() -> Standing {
    Standing::Armed { device: "/dev/watchdog".to_owned(), timeout_ms: 5_000 }
}

fn unarmed(why: &str) -> Standing {
    Standing::Unarmed { why: why.to_owned() }
}

/// In session, on a node that offers the unit, with its watchdog armed and that told.
fn armed_lab() -> Lab {
    let mut lab = lab_with(&[]);
    assert_eq!(lab.stands(unarmed("nothing on this node rests on it")), "");
    assert_eq!(lab.offer(true), "look db.service; arm");
    lab.look("db.service", down());
    lab.open(1);
    assert_eq!(lab.stands(armed()), "send armed /dev/watchdog 5000");
    lab.taken();
    lab
}

/// Under token 7, as its node said and the cluster knows.
fn rests(lab: &mut Lab) {
    assert_eq!(lab.order(vec![watched(7, Phase::Granted)]), "start db.service 7");
    lab.end("db.service", End::Started { job: "done".into(), look: Box::new(look("db.service", up())) });
    lab.look("db.service", up());
    lab.taken();
    assert_eq!(lab.order(vec![watched(7, Phase::Active)]), "");
}

#[test]
fn it_is_armed_for_what_the_node_offers_and_nothing_else() {
    let mut lab = lab_with(&[]);
    lab.stands(unarmed("nothing on this node rests on it"));
    assert_eq!(lab.offer(false), "look db.service");
    assert_eq!(lab.offer(true), "arm");
    assert_eq!(lab.hear(Event::Tick), "", "once is enough");
    // What cannot be armed is told, and tried again later.
    lab.look("db.service", down());
    lab.open(1);
    assert_eq!(lab.stands(unarmed("no such file")), "send unarmed: no such file");
    assert_eq!(lab.hear(Event::Tick), "");
    lab.now.boot_ms += 15_000;
    assert_eq!(lab.hear(Event::Tick), "arm");
    assert_eq!(lab.stands(unarmed("no such file")), "", "that is known");
    lab.now.boot_ms += 15_000;
    assert_eq!(lab.hear(Event::Tick), "arm");
    assert_eq!(lab.stands(armed()), "send armed /dev/watchdog 5000");
}

#[test]
fn it_is_disarmed_once_the_cluster_has_taken_that_it_will_be() {
    let mut lab = armed_lab();
    let told = lab.offer(false);
    assert!(told.ends_with("send unarmed: nothing on this node rests on it"), "{told}");
    assert_eq!(lab.hear(Event::Tick), "", "that is not in the log yet");
    assert_eq!(lab.taken(), "disarm");
    assert_eq!(lab.stands(unarmed("nothing on this node rests on it")), "");
    assert!(lab.offer(true).starts_with("arm"));
}

#[test]
fn a_grant_that_crosses_the_word_that_it_goes_keeps_it_armed() {
    let mut lab = armed_lab();
    lab.offer(false);
    assert_eq!(
        lab.order(vec![watched(7, Phase::Granted)]),
        "start db.service 7; send armed /dev/watchdog 5000"
    );
    assert_eq!(lab.taken(), "");
}

#[test]
fn what_rests_on_it_is_known_from_the_start_to_the_end_that_was_seen() {
    let mut lab = armed_lab();
    assert_eq!(lab.agent.protects(), None);
    assert_eq!(lab.order(vec![watched(7, Phase::Granted)]), "start db.service 7");
    assert_eq!(lab.agent.protects(), Some(5_000), "before the file is written");
    lab.end("db.service", End::Started { job: "done".into(), look: Box::new(look("db.service", up())) });
    lab.look("db.service", up());
    assert_eq!(
        lab.order(vec![watched(7, Phase::Revoking(StopReason::GoalStopped))]),
        "unfile db.service; stop db.service"
    );
    assert_eq!(lab.agent.protects(), Some(5_000), "while it stops");
    lab.end("db.service", gone("db.service"));
    assert_eq!(lab.agent.protects(), None);
}

#[test]
fn the_files_do_not_take_it_from_what_runs() {
    let mut lab = armed_lab();
    rests(&mut lab);
    assert_eq!(lab.offer(false), "send observed db.service running");
}

#[test]
fn a_chain_that_breaks_is_told_whatever_runs() {
    let mut lab = armed_lab();
    rests(&mut lab);
    assert_eq!(
        lab.stands(unarmed("/dev/watchdog cannot be fed")),
        "arm; send unarmed: /dev/watchdog cannot be fed"
    );
    lab.taken();
    assert_eq!(lab.stands(armed()), "send armed /dev/watchdog 5000");
}

#[test]
fn terms_that_rest_on_it_are_taken_once_it_is_armed_and_quick_enough() {
    let mut lab = armed_lab();
    assert_eq!(lab.order(vec![view("db.service", 7, Phase::Granted)]), "start db.service 7");
    lab.end("db.service", End::Started { job: "done".into(), look: Box::new(look("db.service", up())) });
    lab.look("db.service", up());
    let offered = |watchdog_ms: u64| {
        let mut view = view("db.service", 7, Phase::Active);
        let terms = Terms { fencing: Fencing::Watchdog, watchdog_ms, revision: 9, ..view.terms.clone() };
        view.next_terms = Some(terms);
        view
    };
    assert_eq!(lab.order(vec![offered(9_999)]), "", "others would wait for too short a time");
    assert_eq!(lab.order(vec![offered(10_000)]), "file db.service 7");
    assert_eq!(lab.agent.protects(), Some(5_000));
    // The last look at the device, before the file is written, finds it too slow.
    let why = "the watchdog resets this node in 20000 ms".to_owned();
    assert_eq!(lab.hear(Event::NotFiled { unit: "db.service".into(), why }), "");
    let again = lab.order(vec![offered(10_000)]);
    assert!(!again.contains("Acknowledged"), "{again}");
    let again = format!("{again}; {}", lab.hear(Event::Tick));
    assert!(again.contains("file db.service 7") && !again.contains("Acknowledged"), "{again}");
    let filed = |revision| Event::Filed { unit: "db.service".into(), token: Token(7), revision };
    lab.order(vec![offered(10_000)]);
    let told = lab.hear(filed(9));
    assert!(told.starts_with("send TermsAcknowledged"), "{told}");
    assert_eq!(lab.hear(filed(9)), "", "once is enough");
}

#[test]
fn nothing_is_disarmed_or_started_before_it_is_known_what_an_earlier_daemon_left() {
    let mut held = permit(7);
    (held.terms.fencing, held.terms.watchdog_ms) = (Fencing::Watchdog, 10_000);
    let mut lab = lab_with(&[("db.service", held)]);
    assert_eq!(lab.agent.protects(), Some(5_000));
    assert_eq!(lab.stands(armed()), "", "the files were not read yet");
    lab.offer(true);
    lab.look("db.service", up());
    let told = lab.open(2);
    assert!(told.contains("send armed /dev/watchdog 5000"), "{told}");
    // On another node it is not known yet.
    let mut lab = lab_with(&[]);
    lab.offer(true);
    lab.look("db.service", down());
    lab.open(1);
    assert_eq!(lab.order(vec![watched(7, Phase::Granted)]), "");
    assert_eq!(lab.stands(armed()), "start db.service 7; send armed /dev/watchdog 5000");
}

#[test]
fn what_an_earlier_daemon_said_is_taken_back_at_once() {
    let mut held = permit(7);
    (held.terms.fencing, held.terms.watchdog_ms) = (Fencing::Watchdog, 10_000);
    let mut lab = lab_with(&[("db.service", held)]);
    lab.agent.chain = crate::agent::core::watchdog::Chain::new(true);
    lab.offer(true);
    lab.look("db.service", up());
    lab.open(2);
    // Somebody else has opened it in between.
    let told = lab.stands(unarmed("/dev/watchdog cannot be opened"));
    assert_eq!(told, "arm; send unarmed: /dev/watchdog cannot be opened");
    // It is the answer to that order as well, and told once.
    assert_eq!(lab.stands(unarmed("/dev/watchdog cannot be opened")), "");
    lab.taken();
    assert_eq!(lab.stands(armed()), "send armed /dev/watchdog 5000");
}

#[test]
fn the_end_of_the_daemon_stops_what_rests_on_it_and_disarms_it() {
    let mut lab = armed_lab();
    rests(&mut lab);
    let (done, _ended) = oneshot::channel();
    let kind = Shutdown::Stop;
    let told = lab.hear(Event::Command(AgentCommand::Shutdown { kind, done }));
    assert_eq!(told, "unfile db.service; stop db.service; send leaving");
    let told = lab.end("db.service", gone("db.service"));
    assert!(told.contains("released db.service 7 Shutdown"), "{told}");
    assert!(told.contains("send unarmed: nothing on this node rests on it"), "{told}");
    for _ in 0..3 {
        assert!(!lab.done.iter().any(|action| matches!(action, Action::Disarm | Action::Exit(_))));
        let numbers: Vec<u64> = lab
            .done
            .iter()
            .filter_map(|action| match action {
                Action::Send { number, .. } => Some(*number),
                _ => None,
            })
            .collect();
        for number in numbers {
            lab.hear(Event::Session(FromSession::FactTaken { number, outcome: Ok(()) }));
        }
        if lab.done.iter().any(|action| matches!(action, Action::Exit(_))) {
            break;
        }
        lab.look("db.service", down());
    }
    let place = |wanted: fn(&Action) -> bool| lab.done.iter().position(wanted);
    let disarmed = place(|action| matches!(action, Action::Disarm)).expect("disarmed");
    let ended = place(|action| matches!(action, Action::Exit(_))).expect("ended");
    assert!(disarmed < ended);
}

#[test]
fn without_a_quorum_the_end_of_the_daemon_disarms_what_nothing_rests_on() {
    let mut lab = armed_lab();
    lab.hear(Event::Session(FromSession::Closed));
    lab.now.leased = false;
    let (done, _ended) = oneshot::channel();
    let told = lab.hear(Event::Command(AgentCommand::Shutdown { kind: Shutdown::Stop, done }));
    assert!(told.ends_with("disarm; exit"), "{told}");
}

#[test]
fn a_restart_of_the_daemon_leaves_it_armed() {
    let mut lab = armed_lab();
    let (done, _ended) = oneshot::channel();
    let kind = Shutdown::Restart;
    assert_eq!(lab.hear(Event::Command(AgentCommand::Shutdown { kind, done })), "exit");
}
