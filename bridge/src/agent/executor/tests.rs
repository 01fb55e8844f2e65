use std::sync::Mutex;

use policy::NodeId;

use super::*;

pub(super) fn call() -> AgentCall {
    AgentCall {
        device: "bmc".into(),
        agent: "fence_ipmilan".into(),
        options: BTreeMap::from([("ip".into(), "10.0.0.1".into()), ("password".into(), "hunter2".into())]),
        secrets: BTreeMap::new(),
        timeout_ms: 60_000,
        timeouts: BTreeMap::new(),
        at_once: 1,
        configured: 1,
        node: NodeId(2),
        node_name: "n2".into(),
    }
}

fn end(outcome: Outcome, stderr: &str) -> TransientEnd {
    TransientEnd {
        outcome,
        stdout: Vec::new(),
        stderr: stderr.as_bytes().to_vec(),
        took: Duration::ZERO,
        left: None,
    }
}

/// A call that is not made.
fn blank(call: &AgentCall) -> TransientSpec {
    TransientSpec {
        name: call.device.clone(),
        description: String::new(),
        program: String::new(),
        args: Vec::new(),
        stdin: Vec::new(),
        deadline: Duration::ZERO,
        output_cap: 0,
        environment: BTreeMap::new(),
        binds_to: None,
    }
}

/// The call with its secrets.
async fn prepared(call: &AgentCall) -> Prepared<'_> {
    Prepared::read(call, &Secrets::default()).await.expect("complete")
}

/// A call with a secret of its own, in a file of the directory.
fn call_with_secret(dir: &Path) -> AgentCall {
    let path = dir.join("secret");
    fs::write(&path, "s3cret\n").expect("secret");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    let secrets = BTreeMap::from([("snmp_priv_passwd".into(), path.to_string_lossy().into_owned())]);
    AgentCall { secrets, ..call() }
}

#[tokio::test]
async fn action_comes_first_and_only_from_us() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let call = call_with_secret(dir.path());
    let text = String::from_utf8(prepared(&call).await.stdin("off")).expect("text");
    assert_eq!(text, "action=off\nip=10.0.0.1\npassword=hunter2\nsnmp_priv_passwd=s3cret\n");
}

#[tokio::test]
async fn nothing_secret_is_left_in_what_an_agent_says() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let call = call_with_secret(dir.path());
    let prepared = prepared(&call).await;
    // What was told counts, whatever the file says by the time the agent has ended.
    fs::remove_file(dir.path().join("secret")).expect("removed");
    let said = words(&end(Outcome::Exited(1), "login hunter2/s3cret at 10.0.0.1 failed\n"), &prepared);
    assert_eq!(said, ": login ***/*** at 10.0.0.1 failed");
    let options = [("password".into(), "abc".into()), ("snmp_auth_passwd".into(), "abcdef".into())].into();
    let call = AgentCall { options, secrets: BTreeMap::new(), ..call.clone() };
    let said = words(&end(Outcome::Exited(1), "abcdef failed\n"), &self::prepared(&call).await);
    assert_eq!(said, ": *** failed");
}

#[tokio::test]
async fn a_secret_is_known_as_the_agent_prints_it() {
    for (secret, printed, shown) in [
        ("a'b", r#"login with 'a'"'"'b' failed"#, "login with '***' failed"),
        ("a'b", "login with a'b failed", "login with *** failed"),
        ("tab\tin it", "login with tab\tin it failed", "login with *** failed"),
        ("space ", "failed: space ", "failed: ***"),
        (" ERROR: x", "failed: y ERROR: x", "failed: y***"),
    ] {
        let options = BTreeMap::from([("password".into(), secret.into())]);
        let call = AgentCall { options, ..call() };
        let said = words(&end(Outcome::Exited(1), &format!("{printed}\n")), &prepared(&call).await);
        assert_eq!(said, format!(": {shown}"), "{secret:?}");
    }
}

#[tokio::test]
async fn the_arguments_of_a_program_that_is_missing_are_shown_to_nobody() {
    let call = call();
    let prepared = prepared(&call).await;
    let line = "2026-11-29 17:38:12,343 ERROR: Unable to run /usr/bin/ipmitool -I lanplus -H 10.0.0.1 -U admin -P 'x' -C 3\n";
    let ran = |outcome, action| called(&end(outcome, line), &prepared, action);
    let off = after_off(&call, ran(Outcome::Exited(1), AgentAction::Off));
    let failed = |text: &str| FenceOutcome::Failed(text.into());
    assert_eq!(off, Err(failed("bmc: off exited with status 1: Unable to run /usr/bin/ipmitool")));
    let status = verdict(&call, ran(Outcome::Exited(1), AgentAction::Status));
    let expected = "bmc said off, but status exited with status 1: Unable to run /usr/bin/ipmitool";
    assert_eq!(status, failed(expected));
    let Power::Unable(why) = power(ran(Outcome::Exited(1), AgentAction::Status)) else {
        panic!("it can run it")
    };
    assert!(why.contains("/usr/bin/ipmitool, which") && !why.contains("10.0.0.1"), "{why}");
    let Called::TimedOut(why) = ran(Outcome::TimedOut, AgentAction::Off) else { panic!("in time") };
    assert!(why.ends_with(": Unable to run /usr/bin/ipmitool"), "{why}");
}

#[tokio::test]
async fn nobodys_option_says_what_a_call_is_for_and_none_is_given_twice() {
    let secrets = Secrets::default();
    for name in ["action", "ACTION", "Option", "option", "ipaddr", "pass-word_script"] {
        let mut own = call();
        own.options.insert(name.into(), "off".into());
        let refused = Prepared::read(&own, &secrets).await.is_err();
        assert_eq!(refused, name != "pass-word_script", "{name}");
        let mut secret = call();
        secret.secrets.insert(name.into(), "/nonexistent".into());
        assert!(Prepared::read(&secret, &secrets).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn an_option_cannot_smuggle_another_line() {
    for (name, value) in [("ip", "x\naction=on"), ("ip\naction", "on"), ("", "x"), ("a=b", "x")] {
        let mut call = call();
        call.options.insert(name.into(), value.into());
        assert!(Prepared::read(&call, &Secrets::default()).await.is_err(), "{name}={value}");
    }
}

#[tokio::test]
async fn a_node_without_the_secret_says_so_and_runs_nothing() {
    let (sender, _session) = tokio::sync::mpsc::channel(1);
    let executor = Executor::new(Asker::new(sender), Lease::default(), None, &Paths::below("/nonexistent"));
    for source in ["/nonexistent/bmc", "credential:convoke.none"] {
        let secrets = BTreeMap::from([("passwd".into(), source.into())]);
        let call = AgentCall { options: BTreeMap::new(), secrets, ..call() };
        let why = executor.pair(&call, AgentAction::Off, "x").await.err().expect("it cannot run");
        assert!(why.contains(&machine()) && why.contains(source.trim_start_matches("credential:")), "{why}");
    }
}

#[test]
fn only_installed_agents_of_a_proper_name_are_run() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let path = dir.path().join("fence_ok");
    fs::write(&path, "#!/bin/sh\n").expect("agent");
    assert!(program(dir.path(), "fence_ok").expect_err("mode").contains("cannot be executed"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    assert_eq!(program(dir.path(), "fence_ok").expect("found"), path.to_string_lossy());
    assert!(program(dir.path(), "fence_missing").expect_err("missing").contains("is not installed"));
    for name in ["fence_", "sh", "fence_../sh", "fence_ok ", "fence_OK", "../fence_ok"] {
        assert!(program(dir.path(), name).expect_err(name).contains("is not the name"), "{name}");
    }
}

#[tokio::test]
async fn an_action_has_a_deadline_of_its_own_where_one_is_given() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let agent = dir.path().join("fence_ipmilan");
    fs::write(&agent, "#!/bin/sh\n").expect("agent");
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).expect("mode");
    let (sender, _session) = tokio::sync::mpsc::channel(1);
    let mut executor =
        Executor::new(Asker::new(sender), Lease::default(), None, &Paths::below("/nonexistent"));
    executor.agents = dir.path().to_owned();
    let timeouts = BTreeMap::from([(AgentAction::Off, 40_000), (AgentAction::Status, 5_000)]);
    let call = AgentCall { timeouts, ..call() };
    let prepared = prepared(&call).await;
    for (action, ms) in [(AgentAction::Off, 40_000), (AgentAction::On, 60_000), (AgentAction::Status, 5_000)]
    {
        let spec = executor.spec(&prepared, action, "x.service".into()).expect("a call");
        assert_eq!(spec.deadline, Duration::from_millis(ms), "{action:?}");
        let ended = called(&end(Outcome::TimedOut, ""), &prepared, action);
        assert_eq!(ended, Called::TimedOut(format!("the agent did not end within {ms} ms")));
    }
}

#[test]
fn a_node_does_not_register_itself_where_its_own_settings_would_not_keep_that() {
    let root = tempfile::tempdir().expect("scratch directory");
    fs::create_dir_all(root.path().join("etc")).expect("a folder");
    fs::create_dir_all(root.path().join("proc/7")).expect("a folder");
    fs::write(root.path().join("proc/7/comm"), "multipathd\n").expect("a process");
    let (sender, _session) = tokio::sync::mpsc::channel(1);
    let mut executor =
        Executor::new(Asker::new(sender), Lease::default(), None, &Paths::below("/nonexistent"));
    executor.root = root.path().to_owned();
    let options = BTreeMap::from([("plug".into(), "c0de0002".into())]);
    let mpath = AgentCall { agent: "fence_mpath".into(), options, ..call() };
    for (text, said) in [
        ("defaults {\n}\n", Some("there is no `reservation_key`")),
        ("defaults {\n reservation_key 0xbad\n}\n", Some("is 0xbad")),
        ("defaults {\n reservation_key 0xc0de0002\n}\n", None),
    ] {
        fs::write(root.path().join("etc/multipath.conf"), text).expect("settings");
        let why = executor.unprepared(&mpath);
        assert_eq!(why.is_some(), said.is_some(), "{text}: {why:?}");
        let why = why.unwrap_or_default();
        assert!(
            said.is_none_or(|said| why.starts_with("on was not run: on ") && why.contains(said)),
            "{text}: {why}"
        );
        assert_eq!(executor.unprepared(&call()), None);
    }
}

#[tokio::test]
async fn off_is_proven_only_by_a_status_that_says_off() {
    let call = call();
    let prepared = prepared(&call).await;
    let failed = |text: &str| FenceOutcome::Failed(text.into());
    let timed_out = |text: &str| FenceOutcome::TimedOut(text.into());
    let ran = |outcome, stderr| called(&end(outcome, stderr), &prepared, AgentAction::Off);
    // What `off` says, what `status` says, what is believed.
    let table = [
        (ran(Outcome::Exited(0), ""), Some(ran(Outcome::Exited(2), "")), FenceOutcome::Off),
        (
            ran(Outcome::Exited(0), ""),
            Some(ran(Outcome::Exited(0), "")),
            failed("bmc said off, status says on"),
        ),
        (
            ran(Outcome::Exited(0), ""),
            Some(ran(Outcome::Exited(1), "a\nlogin as x with hunter2 failed\n\n")),
            failed("bmc said off, but status exited with status 1: login as x with *** failed"),
        ),
        (
            ran(Outcome::Exited(0), ""),
            Some(ran(Outcome::TimedOut, "")),
            failed("bmc said off, but there is no status: the agent did not end within 60000 ms"),
        ),
        (
            ran(
                Outcome::Exited(1),
                "2026-11-29 17:38:12,343 ERROR: Failed: <HTTPSConnection object at 0x7fbe01662610>: Connection refused\n\n\
                 2026-11-29 17:38:12,351 ERROR: Please use '-h' for usage\n\n",
            ),
            None,
            failed("bmc: off exited with status 1: Failed: <HTTPSConnection object>: Connection refused"),
        ),
        (
            ran(Outcome::Exited(1), "Failed: unable to connect\n\nPlease use '-h' for usage\n"),
            None,
            failed("bmc: off exited with status 1: Failed: unable to connect"),
        ),
        (ran(Outcome::Exited(2), ""), None, failed("bmc: off exited with status 2")),
        (ran(Outcome::Exited(1), "no\u{7} route\n"), None, failed("bmc: off exited with status 1: no route")),
        (ran(Outcome::TimedOut, ""), None, timed_out("bmc: off: the agent did not end within 60000 ms")),
        (ran(Outcome::Signaled(15), ""), None, timed_out("bmc: off: the agent was killed by signal 15")),
        (
            ran(Outcome::Unknown("lost".into()), ""),
            None,
            timed_out("bmc: off: nobody knows how the agent ended: lost"),
        ),
        (ran(Outcome::NotStarted("no".into()), ""), None, failed("bmc: the agent was not started: no")),
    ];
    for (off, status, expected) in table {
        let shown = format!("{off:?} {status:?}");
        let outcome = match after_off(&call, off) {
            Err(outcome) => outcome,
            Ok(()) => verdict(&call, status.expect("a status is read")),
        };
        assert_eq!(outcome, expected, "{shown}");
    }
}

#[tokio::test]
async fn a_level_is_off_only_when_each_device_says_so_after_the_last_off() {
    let feeds = ["feed-1", "feed-2"].map(|device| AgentCall { device: device.into(), ..call() });
    let spec = |call: &AgentCall, action: &str| TransientSpec {
        name: format!("{} {action}", call.device),
        ..blank(call)
    };
    // The step that fails and how, what is run, what comes of it.
    let failed = |text: &str| FenceOutcome::Failed(text.into());
    let all = "feed-1 off, feed-2 off, feed-1 status, feed-2 status";
    for (step, ended, ran, expected) in [
        ("", Outcome::Exited(0), all, FenceOutcome::Off),
        ("feed-1 off", Outcome::Exited(1), "feed-1 off", failed("feed-1: off exited with status 1")),
        (
            "feed-1 off",
            Outcome::NotStarted("no".into()),
            "feed-1 off",
            FenceOutcome::Unable("feed-1: the agent was not started: no".into()),
        ),
        (
            "feed-2 off",
            Outcome::NotStarted("no".into()),
            "feed-1 off, feed-2 off",
            failed("feed-2: the agent was not started: no"),
        ),
        (
            "feed-2 off",
            Outcome::Exited(1),
            "feed-1 off, feed-2 off",
            failed("feed-2: off exited with status 1"),
        ),
        (
            "feed-1 status",
            Outcome::Exited(0),
            "feed-1 off, feed-2 off, feed-1 status",
            failed("feed-1 said off, status says on"),
        ),
        ("feed-2 status", Outcome::Exited(0), all, failed("feed-2 said off, status says on")),
    ] {
        let mut steps = Vec::new();
        for call in &feeds {
            steps.push((prepared(call).await, spec(call, "off"), spec(call, "status")));
        }
        let seen = Mutex::new(Vec::new());
        let run = |spec: TransientSpec| {
            let usual = Outcome::Exited(if spec.name.ends_with("status") { 2 } else { 0 });
            let outcome = if spec.name == step { ended.clone() } else { usual };
            seen.lock().expect("lock").push(spec.name);
            std::future::ready(end(outcome, ""))
        };
        let outcome = strike(steps, || std::future::ready(Some(true)), run).await;
        assert_eq!((seen.into_inner().expect("lock").join(", "), outcome), (ran.to_owned(), expected));
    }
}

#[tokio::test]
async fn a_registration_that_is_gone_proves_nothing_where_the_executors_own_is_gone_too() {
    let own = ["disk-1", "disk-2"].map(|device| AgentCall { device: device.into(), ..call() });
    let failed = |text: &str| FenceOutcome::Failed(text.into());
    for (first, second, ran, expected) in [
        (Outcome::Exited(0), Outcome::Exited(0), 2, FenceOutcome::Off),
        (
            Outcome::Exited(0),
            Outcome::Exited(2),
            2,
            failed(
                "disk-2 says off, but n2, which ran it, is not registered either, so that nothing says that anybody is refused",
            ),
        ),
        (
            Outcome::Exited(1),
            Outcome::Exited(0),
            1,
            failed("disk-1 says off, but for n2, which ran it, status exited with status 1: x"),
        ),
        (
            Outcome::NotStarted("no".into()),
            Outcome::Exited(0),
            1,
            failed(
                "disk-1 says off, but there is no status of n2, which ran it: the agent was not started: no",
            ),
        ),
    ] {
        let ends = Mutex::new(vec![second, first]);
        let run = |_| {
            let outcome = ends.lock().expect("lock").pop().expect("no more than two");
            std::future::ready(end(outcome, "x\n"))
        };
        let mut looks = Vec::new();
        for call in &own {
            looks.push((prepared(call).await, blank(call)));
        }
        let outcome = registered(looks, run).await;
        assert_eq!((2 - ends.lock().expect("lock").len(), outcome), (ran, expected));
    }
    let nobody = |_| std::future::ready(end(Outcome::Exited(2), ""));
    assert_eq!(registered(Vec::new(), nobody).await, FenceOutcome::Off, "power switches register nobody");
}

#[tokio::test]
async fn what_is_called_off_in_the_midst_switches_nothing_more_off() {
    let feeds = ["feed-1", "feed-2"].map(|device| AgentCall { device: device.into(), ..call() });
    let ran = Mutex::new(0);
    let run = |_| {
        *ran.lock().expect("lock") += 1;
        std::future::ready(end(Outcome::Exited(0), ""))
    };
    let mut steps = Vec::new();
    for call in &feeds {
        steps.push((prepared(call).await, blank(call), blank(call)));
    }
    let outcome = strike(steps, || std::future::ready(Some(false)), run).await;
    assert_eq!(outcome, FenceOutcome::TimedOut("nobody confirmed that the fence still stands, so feed-2 was not used; the devices before it were".into()));
    assert_eq!(*ran.lock().expect("lock"), 1);
    let outcome = strike(Vec::new(), || std::future::ready(Some(true)), run).await;
    assert!(matches!(outcome, FenceOutcome::Failed(_)), "nobody says so: {outcome:?}");
}

#[tokio::test]
async fn power_is_what_status_says_and_nothing_else() {
    let call = call();
    let prepared = prepared(&call).await;
    let ran = |outcome| power(called(&end(outcome, "x\n"), &prepared, AgentAction::Status));
    assert_eq!(ran(Outcome::Exited(0)), Power::On);
    assert_eq!(ran(Outcome::Exited(2)), Power::Off);
    assert_eq!(ran(Outcome::Exited(1)), Power::Unknown("status exited with status 1: x".into()));
    assert!(matches!(ran(Outcome::TimedOut), Power::Unknown(_)));
    assert!(matches!(ran(Outcome::NotStarted("no".into())), Power::Unable(_)));
}

#[tokio::test]
async fn without_a_lease_nothing_is_even_asked() {
    let (sender, mut session) = tokio::sync::mpsc::channel(1);
    let executor = Executor::new(Asker::new(sender), Lease::default(), None, &Paths::below("/nonexistent"));
    let order = FenceOrder { case: policy::CaseId(1), attempt: 1, calls: vec![call()], own: Vec::new() };
    assert_eq!(executor.confirm(&order).await, None);
    assert!(session.try_recv().is_err());
}

#[tokio::test]
async fn the_attempt_needs_a_fresh_word() {
    for word in [true, false] {
        let (sender, mut session) = tokio::sync::mpsc::channel(1);
        let lease = Lease::default();
        lease.extend(crate::session::boottime_ms() + 60_000);
        let executor = Executor::new(Asker::new(sender), lease, None, &Paths::below("/nonexistent"));
        let order = FenceOrder { case: policy::CaseId(1), attempt: 3, calls: vec![call()], own: Vec::new() };
        let asked = tokio::spawn(async move { executor.confirm(&order).await });
        let Some(crate::session::ToSession::Ask { request: Request::MayFence { attempt: 3, .. }, reply }) =
            session.recv().await
        else {
            panic!("asked")
        };
        reply.send(Reply::MayRun(word)).expect("answered");
        assert_eq!(asked.await.expect("ended"), Some(word));
    }
}
