use super::*;
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::text::UnitText;

fn read(id: &str, files: &[&str]) -> (Option<Section>, Vec<Diagnostic>) {
    let texts: Vec<UnitText> =
        files.iter().enumerate().map(|(n, f)| UnitText::parse(&format!("/{n}"), f.as_bytes())).collect();
    parse(id, texts.iter())
}

fn one(body: &str) -> (Option<Section>, Vec<Diagnostic>) {
    read("db.service", &[&format!("[X-Convoke]\n{body}\n")])
}

fn good(body: &str) -> Section {
    let (section, found) = one(body);
    assert!(found.is_empty(), "{body}: {found:?}");
    section.unwrap()
}

#[test]
fn an_empty_section_is_exclusive_and_fenced() {
    let section = good("");
    assert!(section.exclusive());
    assert_eq!(
        section,
        Section {
            replicas: Replicas::One,
            fencing: Fencing::Required,
            on_quorum_loss: OnQuorumLoss::Stop,
            requires: vec![],
            wants: vec![],
            binds_to: vec![],
            part_of: vec![],
            after: vec![],
            before: vec![],
            conflicts: vec![],
            nodes: vec![],
            prefer: vec![],
            stickiness: Stickiness::Infinity,
            same_node_as: vec![],
            other_node_than: vec![],
            start_one_at_a_time: false,
            avoid: vec![],
            spread: None,
            uses: std::collections::BTreeMap::new(),
            priority: 0,
            on_stop_failure: OnStopFailure::Fence,
            failures_max: 1,
            failure_reset_ms: Some(600_000),
            assembly: None,
            rank: None,
            check: None,
            gone: None,
        }
    );
}

#[test]
fn replicas_change_the_defaults() {
    for (text, replicas) in [("2", Replicas::Count(2)), ("all", Replicas::All)] {
        let section = good(&format!("Replicas={text}"));
        assert_eq!(section.replicas, replicas);
        assert_eq!(
            (section.fencing, section.on_quorum_loss, section.on_stop_failure),
            (Fencing::None, OnQuorumLoss::Continue, OnStopFailure::Block)
        );
        assert!(!section.exclusive());
    }
}

#[test]
fn later_files_win_scalars_add_to_lists_and_empty_resets() {
    let files = [
        "[X-Convoke]\nReplicas=3\nNodes=a b\nAfter=x.service\nFailuresMax=9\n",
        "[X-Convoke]\nReplicas=2\nNodes=\nNodes=rack=a\nAfter=y.service\nFailuresMax=\n",
    ];
    let (section, found) = read("db.service", &files);
    assert!(found.is_empty(), "{found:?}");
    let section = section.unwrap();
    assert_eq!(section.replicas, Replicas::Count(2));
    assert_eq!(section.nodes, [NodeExpr::Attribute { key: "rack".into(), value: "a".into() }]);
    assert_eq!(section.after, ["x.service", "y.service"]);
    assert_eq!(section.failures_max, 1);
}

#[test]
fn every_key_has_its_value() {
    let section = good(
        "Fencing=lease\nReplicas=2\nOnQuorumLoss=reboot\nRequires=a.service b@x.service\nPrefer=n1:100 ssd=yes n2:7\n\
         Stickiness=50\nSameNodeAs=a.service\nOnStopFailure=fence\nFailuresMax=3\nFailureResetSec=1min 30s",
    );
    assert_eq!(section.fencing, Fencing::Lease);
    assert_eq!(section.on_quorum_loss, OnQuorumLoss::Reboot);
    assert_eq!(section.requires, ["a.service", "b@x.service"]);
    let prefer = |node, weight| Preference { node, weight };
    assert_eq!(
        section.prefer,
        [
            prefer(NodeExpr::Name("n1".into()), 100),
            prefer(NodeExpr::Attribute { key: "ssd".into(), value: "yes".into() }, 100),
            prefer(NodeExpr::Name("n2".into()), 7),
        ]
    );
    assert_eq!(section.stickiness, Stickiness::Weight(50));
    assert_eq!(section.same_node_as, ["a.service"]);
    assert_eq!((section.failures_max, section.failure_reset_ms), (3, Some(90_000)));
    assert_eq!(good("FailureResetSec=infinity").failure_reset_ms, None);
}

#[test]
fn a_health_check_has_its_times() {
    let check = good("CheckExec=/usr/bin/check --host %i\nCheckIntervalSec=500ms\nCheckTimeoutSec=1min")
        .check
        .unwrap();
    assert_eq!((check.interval_ms, check.timeout_ms), (500, 60_000));
    assert_eq!((check.program.path.as_str(), check.program.args[0].as_str()), ("/usr/bin/check", "--host"));
    let check = good("CheckExec=/usr/bin/check").check.unwrap();
    assert_eq!((check.interval_ms, check.timeout_ms), (10_000, 20_000));
}

#[test]
fn bad_values_are_errors_with_place_and_help() {
    let table = [
        ("Replicas=0", Code::BadValue, 10),
        ("Replicas=-1", Code::BadValue, 10),
        ("Replicas=+2", Code::BadValue, 10),
        ("Replicas= two", Code::BadValue, 11),
        ("Fencing=Required", Code::BadValue, 9),
        ("OnQuorumLoss=die", Code::BadValue, 14),
        ("Stickiness=1000001", Code::BadValue, 12),
        ("Prefer=n1 n2:0", Code::BadValue, 11),
        ("Prefer=n1:x", Code::BadValue, 8),
        ("Nodes=a =b", Code::BadValue, 9),
        ("FailuresMax=0", Code::BadValue, 13),
        ("FailureResetSec=soon", Code::BadValue, 17),
        ("Requires=a.service b", Code::BadUnitName, 20),
        ("Requires=t@.service", Code::BadUnitName, 10),
        ("After=db.service", Code::SelfReference, 7),
        ("Nodes=a-%H", Code::BadSpecifier, 9),
        ("BindsTo=a.service b", Code::BadUnitName, 19),
        ("Conflicts=db.service", Code::SelfReference, 11),
        ("Spread=a b", Code::BadValue, 8),
        ("Uses=memory=4g", Code::BadValue, 6),
        ("Uses=memory=1 x=0", Code::BadValue, 15),
        ("Uses=memory=99999999T", Code::BadValue, 6),
        ("Priority=1000001", Code::BadValue, 10),
        ("Priority=--1", Code::BadValue, 10),
        ("Avoid=n1:-5", Code::BadValue, 7),
        ("OtherNodeThan=db.service", Code::SelfReference, 15),
        ("StartOneAtATime=maybe", Code::BadValue, 17),
        ("Rank=rank", Code::BadValue, 6),
        ("Rank=/bin/rank", Code::BadRole, 6),
        ("Assembly=serial", Code::BadValue, 10),
        ("CheckExec=bin/check", Code::BadValue, 11),
        ("GoneExec=./gone", Code::BadValue, 10),
        ("CheckIntervalSec=0\nCheckExec=/bin/check", Code::BadValue, 18),
        ("CheckTimeoutSec=infinity\nCheckExec=/bin/check", Code::BadValue, 17),
        ("CheckIntervalSec=1s", Code::NoCheck, 18),
        ("CheckTimeoutSec=1s", Code::NoCheck, 17),
        ("Replica=1", Code::UnknownKey, 1),
    ];
    for (body, code, column) in table {
        let (section, found) = one(body);
        assert_eq!(section, None, "{body}");
        let found = &found[0];
        assert_eq!((found.code, found.severity), (code, Severity::Error), "{body}");
        let span = found.span.as_ref().unwrap();
        assert_eq!((span.line, span.column), (2, column), "{body}");
    }
}

#[test]
fn a_misspelt_key_gets_the_right_one() {
    for (key, help) in [
        ("Replica", Some("did you mean `Replicas=`?")),
        ("fencing", Some("did you mean `Fencing=`?")),
        ("OnQuorumLost", Some("did you mean `OnQuorumLoss=`?")),
        ("CheckIntervallSec", Some("did you mean `CheckIntervalSec=`?")),
    ] {
        assert_eq!(one(&format!("{key}=1")).1[0].help.as_deref(), help, "{key}");
    }
    assert!(one("Zzzzzz=1").1[0].help.as_deref().unwrap().starts_with("the keys are"));
}

#[test]
fn fencing_and_quorum_loss_must_go_together() {
    let table = [
        ("Fencing=lease\nOnQuorumLoss=continue", vec![(Code::NeedsStop, Severity::Error)]),
        ("Fencing=lease\nOnQuorumLoss=freeze", vec![(Code::NeedsStop, Severity::Error)]),
        ("Replicas=2\nFencing=lease", vec![(Code::NeedsStop, Severity::Error)]),
        ("Fencing=lease", vec![(Code::LeaseExclusive, Severity::Warning)]),
        ("Fencing=watchdog\nOnQuorumLoss=continue", vec![(Code::NeedsStop, Severity::Error)]),
        ("Replicas=2\nFencing=watchdog", vec![(Code::NeedsStop, Severity::Error)]),
        ("Fencing=watchdog", vec![(Code::WatchdogExclusive, Severity::Warning)]),
        ("Fencing=watchdog\nOnQuorumLoss=reboot", vec![(Code::WatchdogExclusive, Severity::Warning)]),
        ("Replicas=2\nFencing=watchdog\nOnQuorumLoss=stop", vec![]),
        ("Fencing=none", vec![(Code::NotExclusive, Severity::Warning)]),
        ("Replicas=2\nFencing=lease\nOnQuorumLoss=stop", vec![]),
        ("OnQuorumLoss=continue", vec![]),
    ];
    for (body, expected) in table {
        let found: Vec<_> = one(body).1.iter().map(|d| (d.code, d.severity)).collect();
        assert_eq!(found, expected, "{body}");
    }
    assert!(!one("Fencing=none").0.unwrap().exclusive());
}

#[test]
fn specifiers_follow_the_name() {
    let (section, found) = read(r"app-db@a.service", &["[X-Convoke]\nRequires=%p@%i.socket %j@%i.mount\n"]);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(section.unwrap().requires, ["app-db@a.socket", "db@a.mount"]);
}

#[test]
fn what_is_named_twice_is_said() {
    let (section, found) = one("Nodes=a a\nPrefer=a:1 a:2\nAfter=x.service x.service");
    assert_eq!(found.iter().filter(|d| d.code == Code::RepeatedItem).count(), 3);
    let section = section.unwrap();
    assert_eq!((section.nodes.len(), section.prefer[0].weight, section.after.len()), (1, 2, 1));
}

#[test]
fn a_section_survives_json() {
    let section = good("Replicas=3\nPrefer=n1:5 rack=a\nStickiness=7");
    let json = serde_json::to_string(&section).unwrap();
    assert_eq!(serde_json::from_str::<Section>(&json).unwrap(), section);
}

const GALERA: &str = "Replicas=all\nAssembly=one-then-serial\nPosition=/usr/libexec/position --of %n\n\
                      StartAlone=_WSREP_NEW_CLUSTER=--wsrep-new-cluster";

#[test]
fn a_clustered_service_says_how_it_comes_up() {
    let program = |path: &str, args: &[&str]| Program {
        path: path.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
    };
    let variable = |name: &str, value: &str| Variable { name: name.into(), value: value.into() };
    let least = Assembly {
        style: AssemblyStyle::OneThenSerial,
        position: program("/usr/libexec/position", &["--of", "db.service"]),
        ready: None,
        gather_wait_ms: None,
        gather_then: GatherThen::Refuse,
        alone: vec![variable("_WSREP_NEW_CLUSTER", "--wsrep-new-cluster")],
        resync: vec![],
    };
    assert_eq!(good(GALERA).assembly.as_ref(), Some(&least));
    let all = format!(
        "{GALERA}\nAssembly=all-together\nReady=/bin/ready\nGatherWaitSec=2min\nGatherThen=best\nStartAlone=B=\n\
         StartResync=R=1 S=2"
    );
    assert_eq!(
        good(&all).assembly,
        Some(Assembly {
            style: AssemblyStyle::AllTogether,
            ready: Some(program("/bin/ready", &[])),
            gather_wait_ms: Some(120_000),
            gather_then: GatherThen::Best,
            alone: [least.alone.clone(), vec![variable("B", "")]].concat(),
            resync: vec![variable("R", "1"), variable("S", "2")],
            ..least
        })
    );
    assert_eq!(good("Assembly=none").assembly, None);
    // systemd does not try again by itself: the cluster bears as many failures as it would have.
    assert_eq!((good(GALERA).failures_max, good("Assembly=none").failures_max), (5, 1));
    assert_eq!(good(&format!("{GALERA}\nFailuresMax=2")).failures_max, 2);
    assert_eq!(good(&format!("{GALERA}\nReplicas=3\nGatherWaitSec=infinity")).replicas, Replicas::Count(3));
}

#[test]
fn a_role_is_exclusive_and_runs_beside_one_unit() {
    let role = good("SameNodeAs=pg.service\nRank=/bin/rank a");
    assert_eq!(role.rank, Some(Program { path: "/bin/rank".to_owned(), args: vec!["a".to_owned()] }));
    assert_eq!(role.programs().map(|(key, _)| key).collect::<Vec<_>>(), ["Rank"]);
    let table = [
        "SameNodeAs=a.service b.service",
        "Replicas=2\nSameNodeAs=a.service",
        "Fencing=none\nSameNodeAs=a.service",
    ];
    for body in table {
        let (section, found) = one(&format!("Rank=/bin/rank\n{body}"));
        let errors: Vec<Code> =
            found.iter().filter(|f| f.severity == Severity::Error).map(|f| f.code).collect();
        assert_eq!((section, errors), (None, vec![Code::BadRole]), "{body}");
    }
}

#[test]
fn an_assembly_that_could_not_work_is_an_error() {
    let table = [
        ("Replicas=1", Code::BadAssembly, 3),
        ("Position=", Code::BadAssembly, 3),
        ("StartAlone=", Code::BadAssembly, 3),
        ("GatherThen=best", Code::BadAssembly, 3),
        ("CheckExec=/bin/check", Code::BadAssembly, 3),
        ("Assembly=", Code::NotAssembled, 4),
        ("Assembly=none", Code::NotAssembled, 4),
        ("Position=bin/x", Code::BadValue, 6),
        ("Position=/bin/sh -c 'echo'", Code::BadValue, 6),
        ("Ready=/bin/", Code::BadValue, 6),
        ("GatherWaitSec=soon", Code::BadValue, 6),
        ("GatherThen=worst", Code::BadValue, 6),
        ("StartAlone=CONVOKE_TOKEN=1", Code::BadValue, 6),
        ("StartAlone=1A=1", Code::BadValue, 6),
        ("StartResync=A", Code::BadValue, 6),
        ("StartResync=A=\"x\"", Code::BadValue, 6),
    ];
    for (line, code, at) in table {
        let (section, found) = one(&format!("{GALERA}\n{line}"));
        assert_eq!(section, None, "{line}");
        let errors: Vec<_> = found.iter().filter(|d| d.severity == Severity::Error).collect();
        assert!(errors.iter().all(|d| d.code == code), "{line}: {errors:?}");
        assert_eq!(errors[0].span.as_ref().map(|span| span.line), Some(at), "{line}");
    }
    let (section, found) = read("db.target", &[&format!("[X-Convoke]\n{GALERA}\n")]);
    assert_eq!((section, found[0].code), (None, Code::BadAssembly));
}

#[test]
fn every_key_stands_in_the_manual_and_in_the_reference() {
    for page in ["packaging/man/convoke.unit.5", "docs/reference.md"] {
        let path = format!("{}/../{page}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        for key in super::keys::SUPPORTED {
            assert!(text.contains(&format!("{key}=")), "{page} does not describe {key}=");
        }
    }
}
