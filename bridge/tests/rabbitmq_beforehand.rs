//! What RabbitMQ's nodes need to find each other is looked at before a start, and before the first formation.
//!
//! DNS, Erlang and RabbitMQ's tools are scripts here; the scenarios have the real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use machine::{Machine, text};

mod machine;

/// `answers/unresolved` has the names that do not resolve, `answers/takes` the servers that take this node's secret, `answers/up`
/// those that are up, by Erlang's word, and `answers/own` the exit status of RabbitMQ's own tool.
const STAND_IN: &str = r#"#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$ANSWERS/../calls"
case $name in
    uname) echo n1 ;;
    getent) ! grep -qxF "$2" "$ANSWERS/unresolved" ;;
    erl_call) grep -qxF "$2" "$ANSWERS/takes" ;;
    erl) cat "$ANSWERS/up" ;;
    rabbitmqctl) exit "$(cat "$ANSWERS/own")" ;;
esac
"#;

/// A node with a database, whose configuration lists three nodes; everything is well.
fn machine() -> Machine {
    let machine = Machine::with(
        &["uname", "getent", "erl", "erl_call", "rabbitmqctl", "systemd-cat", "systemctl"],
        STAND_IN,
    );
    machine.put("mnesia/rabbit@n1/schema.DAT", "x");
    let (base, config) = (machine.path("mnesia"), machine.path("rabbitmq"));
    machine.put(
        "rabbitmq-env.conf",
        &format!("MNESIA_BASE={}\nCONFIG_FILE={}\n", base.display(), config.display()),
    );
    machine.put(
        "rabbitmq.conf",
        "cluster_formation.peer_discovery_backend = classic_config\n\
         #cluster_formation.classic_config.nodes.9 = rabbit@n9\n\
         cluster_formation.classic_config.nodes.1 = rabbit@n1\n\
         cluster_formation.classic_config.nodes.2=rabbit@n2\n  \
         cluster_formation.classic_config.nodes.third = rabbit@n3 # in the cellar\n",
    );
    machine.put("answers/unresolved", "\n");
    machine.put("answers/takes", "rabbit@n2\nrabbit@n3\n");
    machine.put("answers/up", "");
    machine.put("answers/own", "69");
    machine
}

fn run(machine: &Machine, program: &str, environment: &[(&str, &str)]) -> Output {
    let settings = machine.path("rabbitmq-env.conf");
    let environment = environment.iter().copied();
    let mut command = machine.program(program);
    command.env("RABBITMQ_CONF_ENV_FILE", settings).envs(environment).output().expect("run")
}

fn calls(machine: &Machine) -> String {
    fs::read_to_string(machine.path("calls")).expect("calls")
}

#[test]
fn a_node_that_cannot_find_itself_or_the_others_does_not_start() {
    // Kind of start, the name that does not resolve, and whether it starts all the same.
    let rows = [
        ("join", "", true),
        ("join", "n1", false),
        ("join", "n3", false),
        ("join", "n9", true),
        ("resync", "n2", false),
        ("alone", "n1", false),
        // Whom an operator's word has gone without may have lost its name too.
        ("alone", "n3", true),
    ];
    for (start, unresolved, starts) in rows {
        let machine = machine();
        machine.put("answers/unresolved", &format!("{unresolved}\n"));
        machine.put("answers/own", "0");
        let environment = [("CONVOKE_START", start), ("CONVOKE_PEERS", "n2 n3")];
        let out = run(&machine, "rabbitmq-prepare", &environment);
        let said = text(&out.stderr);
        assert_eq!(out.status.success(), starts, "{start}, without {unresolved}: {said}");
        let sentence = format!("the name {unresolved} does not resolve on this machine");
        assert_eq!(said.contains(&sentence), !starts, "{said}");
        // The journal has it too: what the packaged unit prints goes to a file.
        assert_eq!(calls(&machine).contains(&sentence), !starts, "{}", calls(&machine));
        assert!(starts || !calls(&machine).contains("rabbitmqctl"), "{}", calls(&machine));
    }
    // Whoever joins has the others let go of its life before, unless that is its life now.
    let others = "rabbit@n2\nrabbit@n3\n";
    for (start, takes, expected) in [
        ("join", others, 2),
        ("resync", others, 2),
        ("alone", others, 0),
        ("join", "rabbit@n1\nrabbit@n2\n", 0),
    ] {
        let machine = machine();
        machine.put("answers/own", "0");
        machine.put("answers/takes", takes);
        let out = run(&machine, "rabbitmq-prepare", &[("CONVOKE_START", start), ("CONVOKE_PEERS", "n2 n3")]);
        let told = calls(&machine).matches("-a erlang disconnect_node ['rabbit@n1']").count();
        assert_eq!(told, expected, "{start}: {}", calls(&machine));
        let said = text(&out.stderr);
        assert_eq!(said.contains("runs as rabbit@n1"), takes != others, "{said}");
    }
    // Arguments of the server's own file are not lost in silence.
    for (own, unit, starts) in [
        ("", "-kernel net_ticktime 10", true),
        ("-proto_dist inet_tls", "-kernel net_ticktime 10", false),
        ("-proto_dist inet_tls", "-kernel net_ticktime 10 -proto_dist inet_tls", true),
        ("-proto_dist inet_tls", "", true),
    ] {
        let machine = machine();
        let settings = machine.path("rabbitmq-env.conf");
        let before = fs::read_to_string(&settings).expect("settings");
        machine.put("rabbitmq-env.conf", &format!("{before}SERVER_ADDITIONAL_ERL_ARGS='{own}'\n"));
        let environment = [("CONVOKE_START", "join"), ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", unit)];
        let out = run(&machine, "rabbitmq-prepare", &environment);
        let said = text(&out.stderr);
        assert_eq!(out.status.success(), starts, "{own} {unit}: {said}");
        let remedy = format!("net_ticktime 10 {own}\"");
        assert_eq!(said.contains(&remedy), !starts, "{said}");
    }
    // A machine that was taken out of the cluster keeps nobody from starting.
    let machine = machine();
    machine.put("answers/unresolved", "n3\n");
    machine.put("answers/own", "0");
    let out = run(&machine, "rabbitmq-prepare", &[("CONVOKE_START", "join"), ("CONVOKE_PEERS", "n2")]);
    assert!(out.status.success(), "{}", text(&out.stderr));
}

#[test]
fn a_node_whose_secret_is_refused_does_not_start() {
    // Who takes it, who is up by Erlang's word, whether RabbitMQ's own tool gets through, and whether it starts.
    let rows = [
        ("rabbit@n2\n", "", 69, true),
        ("rabbit@n3\n", "n2\n", 69, true),
        ("", "", 69, true),
        ("", "n3\n", 69, false),
        ("", "n2\nn3\n", 69, false),
        // Connections by TLS, of which erl_call knows nothing.
        ("", "n2\nn3\n", 0, true),
    ];
    for (takes, up, own, starts) in rows {
        let machine = machine();
        machine.put("answers/takes", takes);
        machine.put("answers/up", up);
        machine.put("answers/own", &own.to_string());
        let out = run(&machine, "rabbitmq-prepare", &[("CONVOKE_START", "join"), ("CONVOKE_PEERS", "n2 n3")]);
        let said = text(&out.stderr);
        assert_eq!(out.status.success(), starts, "{takes:?}, {up:?}, {own}: {said}");
        assert!(starts || said.contains("is up, and refuses this node"), "{said}");
        // Where one takes it, no Erlang machine is started.
        assert_eq!(calls(&machine).contains("erl -noinput"), takes.is_empty(), "{}", calls(&machine));
    }
}

#[test]
fn a_machine_is_checked_before_there_is_a_cluster() {
    let ready = || {
        let machine = machine();
        machine.put("cookie", "SECRET\n");
        let cookie = machine.path("cookie");
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).expect("set");
        machine
    };
    let check = |machine: &Machine| {
        let cookie = machine.path("cookie").display().to_string();
        let out = run(machine, "rabbitmq-check", &[("RABBITMQ_COOKIE_FILE", &cookie)]);
        assert_ne!(out.status.success(), out.stdout.is_empty(), "a line, or a sentence");
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    };
    // `printf SECRET | sha256sum`
    let said = "cookie=0917b13a9091915d54b6336f45909539cce452b3661b21f386418a257883b30a nodes=rabbit@n1,rabbit@n2,rabbit@n3";
    assert_eq!(check(&ready()), Ok(said.to_owned()));
    // What is wrong, how it comes to be, and the sentence.
    type Row = (&'static str, fn(&Machine), &'static str);
    let rows: [Row; 5] = [
        ("a name", |m| m.put("answers/unresolved", "n3\n"), "the name n3 does not resolve"),
        ("no list", |m| m.put("rabbitmq.conf", "\n"), "lists no nodes"),
        (
            "another list",
            |m| m.put("rabbitmq.conf", "cluster_formation.classic_config.nodes.1 = rabbit@n2\n"),
            "this node is rabbit@n1, and",
        ),
        ("no secret", |m| fs::remove_file(m.path("cookie")).expect("removed"), "there is no secret in"),
        (
            "an open secret",
            |m| fs::set_permissions(m.path("cookie"), fs::Permissions::from_mode(0o440)).expect("set"),
            "can be read by others",
        ),
    ];
    for (name, spoil, sentence) in rows {
        let machine = ready();
        spoil(&machine);
        let why = check(&machine).expect_err(name);
        assert!(why.contains(sentence), "{name}: {why}");
    }
}
