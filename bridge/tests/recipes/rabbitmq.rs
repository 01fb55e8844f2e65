//! Of RabbitMQ: whom its database saw last, when it is ready, and how it is prepared for a start.

use std::fs;

use super::machine::{Machine, text};
use super::{Row, Start, is, judge};

const MADE: &str = "rabbit@n1/1795840162490440394/-576460752303423279/1";

/// A database of RabbitMQ whose node last saw these running.
pub(crate) fn node(machine: &Machine, running: &str) {
    machine.put("mnesia/rabbit@n1/schema.DAT", "x");
    machine.put(
        "mnesia/rabbit@n1/cluster_nodes.config",
        "{[rabbit@n1,rabbit@n2,rabbit@n3],[rabbit@n1,rabbit@n2,rabbit@n3]}.",
    );
    machine.put("mnesia/rabbit@n1/nodes_running_at_shutdown", running);
    machine.put("answers/erl", &format!("{MADE}\n"));
}

#[test]
fn rabbitmq_says_of_every_database_whom_it_saw_last() {
    let saw = |running: &str| {
        let machine = Machine::new();
        node(&machine, running);
        machine
    };
    let without = |file: &str| {
        let machine = saw("[rabbit@n1].");
        fs::remove_file(machine.path("mnesia/rabbit@n1").join(file)).expect("removed");
        machine
    };
    let virgin = Machine::new();
    fs::create_dir(virgin.path("mnesia")).expect("made");
    let wiped = Machine::new();
    fs::create_dir_all(wiped.path("mnesia/rabbit@n1")).expect("made");
    let renamed = saw("[rabbit@n1].");
    renamed.put(
        "rabbitmq-env.conf",
        &format!("MNESIA_BASE={}\nNODENAME=rabbit@m7\n", renamed.path("mnesia").display()),
    );
    let unread = saw("[rabbit@n1].");
    unread.put("answers/erl.status", "1");
    let data = |rank, safe| Ok(format!("state=stopped rank={rank} identity={MADE} safe={safe}"));
    let rows: Vec<Row> = vec![
        ("stopped last", saw("[rabbit@n1].\n"), data(0, "yes"), false),
        ("stopped second", saw("[rabbit@n1,rabbit@n3]."), data(-1, "no"), false),
        ("killed", saw("[rabbit@n1,rabbit@n2,\n rabbit@n3]."), data(-2, "no"), false),
        ("a name that others begin with", saw("[rabbit@n1,rabbit@n11]."), data(-1, "no"), false),
        ("stood by alone", saw("[rabbit@n2]."), data(-1, "no"), false),
        ("virgin", virgin, is("empty"), false),
        ("wiped", wiped, is("empty"), false),
        ("its schema lost", without("schema.DAT"), is("unusable"), false),
        ("its members lost", without("cluster_nodes.config"), is("unusable"), false),
        ("its running members lost", without("nodes_running_at_shutdown"), is("unusable"), false),
        ("saw nobody", saw(""), is("unusable"), false),
        ("no directory", Machine::new(), Err("there is no directory"), false),
        ("renamed", renamed, Err("was this machine renamed?"), false),
        ("its schema is not read", unread, Err("erl cannot read"), false),
    ];
    judge("rabbitmq-position", rows);
}

#[test]
fn rabbitmq_is_ready_when_it_is_booted() {
    let machine = Machine::new();
    fs::create_dir(machine.path("mnesia")).expect("made");
    let says = |machine: &Machine| text(&machine.run("rabbitmq-ready", &[], &[]).stderr);
    assert_eq!(says(&machine), "it is inactive");
    machine.put("answers/rabbitmq-server.service.ActiveState", "active\n");
    // A unit that tells systemd nothing of itself has to be asked.
    machine.put("answers/rabbitmq-server.service.Type", "simple\n");
    machine.put("answers/rabbitmq-server.service.StatusText", "\n");
    assert!(machine.run("rabbitmq-ready", &[], &[]).status.success());
    machine.put("answers/rabbitmq-diagnostics.status", "69");
    assert_eq!(says(&machine), "it is not booted: it does not answer");
    machine
        .put("answers/rabbitmq-diagnostics", "Asking node\nError: this command requires the node to be up\n");
    assert_eq!(says(&machine), "it is not booted: Error: this command requires the node to be up");
    // One that does is believed, and costs no Erlang machine.
    machine.put("calls", "");
    machine.put("answers/rabbitmq-server.service.Type", "notify\n");
    assert!(machine.run("rabbitmq-ready", &[], &[]).status.success());
    machine.put("answers/rabbitmq-server.service.StatusText", "Standing by\n");
    let out = machine.run("rabbitmq-ready", &[], &[]);
    assert_eq!((out.status.code(), text(&out.stderr).trim()), (Some(1), "it is not booted: Standing by"));
    assert!(!machine.calls().contains("rabbitmq-diagnostics"), "{}", machine.calls());
    assert!(!machine.calls().contains("rabbitmq-queues"), "{}", machine.calls());
    // It was let go of, and its replicas with it.
    machine.put("answers/rabbitmq-server.service.StatusText", "\n");
    machine.put("mnesia/convoke-anew", "");
    machine.put("answers/rabbitmq-queues.status", "69");
    machine.put("answers/rabbitmq-queues", "Error:\nno leader\n");
    let out = machine.run("rabbitmq-ready", &[], &[]);
    assert_eq!(text(&out.stderr).trim(), "quorum queues have no replica here yet: no leader");
    machine.put("answers/rabbitmq-queues.status", "0");
    assert!(machine.run("rabbitmq-ready", &[], &[]).status.success());
    assert!(!machine.path("mnesia/convoke-anew").exists());
    assert!(machine.calls().contains("rabbitmq-queues --quiet grow rabbit@n1 even\n"), "{}", machine.calls());
}

#[test]
fn rabbitmq_is_prepared_for_the_start_that_was_given_and_for_no_other() {
    const PEERS: (&str, &str) = ("CONVOKE_PEERS", "n2 n3");
    let forget = "rabbitmqctl --node rabbit@n2 forget_cluster_node rabbit@n1";
    let force = "rabbitmqctl --quiet force_boot";
    // Start, whether there is a database, and what is called; `None` for a start that is refused.
    let rows: [(Start, bool, Option<&str>); 8] = [
        (&[("CONVOKE_START", "alone")], true, Some(force)),
        (&[("CONVOKE_START", "alone")], false, Some("")),
        (&[("CONVOKE_START", "join"), PEERS], true, Some("")),
        (&[("CONVOKE_START", "join"), PEERS], false, Some(forget)),
        (&[("CONVOKE_START", "resync"), PEERS], true, Some(forget)),
        // Nobody could be asked: an empty node would begin a cluster of its own.
        (&[("CONVOKE_START", "join")], false, None),
        (&[("CONVOKE_START", "resync")], true, None),
        (&[], true, None),
    ];
    for (environment, full, calls) in rows {
        let machine = Machine::new();
        if full {
            node(&machine, "[rabbit@n1].");
        } else {
            fs::create_dir(machine.path("mnesia")).expect("made");
        }
        let out = machine.run("rabbitmq-prepare", &[], environment);
        assert_eq!(out.status.success(), calls.is_some(), "{environment:?}: {}", text(&out.stderr));
        let called = machine.calls();
        let called: Vec<_> = called.lines().filter(|line| line.starts_with("rabbitmqctl")).collect();
        assert_eq!(called.join("\n"), calls.unwrap_or_default(), "{environment:?}");
        let kept = full && !(calls.is_some() && environment.contains(&("CONVOKE_START", "resync")));
        assert_eq!(machine.path("mnesia/rabbit@n1/schema.DAT").exists(), kept, "{environment:?}");
        let anew = machine.path("mnesia/convoke-anew").exists();
        assert_eq!(anew, calls == Some(forget), "{environment:?}");
    }
    // A part of a database is replaced by a word alone.
    let machine = Machine::new();
    node(&machine, "[rabbit@n1].");
    fs::remove_file(machine.path("mnesia/rabbit@n1/schema.DAT")).expect("removed");
    let out = machine.run("rabbitmq-prepare", &[], &[("CONVOKE_START", "join"), PEERS]);
    assert!(!out.status.success() && text(&out.stderr).contains("a part of the database"), "{out:?}");
    assert!(!machine.calls().contains("forget_cluster_node"), "it is still a member");
    // A node that the others never knew.
    let machine = Machine::new();
    fs::create_dir(machine.path("mnesia")).expect("made");
    machine.put("answers/rabbitmqctl.status", "70");
    machine.put(
        "answers/rabbitmqctl",
        "Error:\n{:not_a_cluster_node, ~c\"The node selected is not in the cluster.\"}\n",
    );
    assert!(machine.run("rabbitmq-prepare", &[], &[("CONVOKE_START", "join"), PEERS]).status.success());
    machine.put("answers/rabbitmqctl", "Error: unable to perform an operation on node 'rabbit@n2'\n");
    assert!(!machine.run("rabbitmq-prepare", &[], &[("CONVOKE_START", "join"), PEERS]).status.success());
}
