//! Who may be the primary, and how one is made and ended.

use std::fs;

use super::machine::Machine;
use super::stand_in::{judge, said};
use super::{Change, HISTORY, PRIMARY, ROLE, SYSTEM};

/// A name, the recovery and the position of a server, what is other, and what is said of it.
type Row = (&'static str, &'static str, &'static str, Change, Result<&'static str, &'static str>);

#[test]
fn a_rank_is_timeline_and_position_and_said_when_all_is_replayed() {
    // 1 << 48 | 0x5000060 >> 3, and 2 << 48 | 0x5000140 >> 3.
    let one = "rank=281474987196428 identity=7713277685192856966";
    let two = "rank=562949963907112 identity=7713277685192856966";
    let nothing: Change = |_| {};
    let rows: [Row; 16] = [
        ("a standby without a primary", "t", "|1|0/5000060|", nothing, Ok(one)),
        ("the same one timeline later", "t", "|2|0/5000140|", nothing, Ok(two)),
        (
            "a standby that waits for more of a stream that has ended",
            "t",
            "|1|0/5000060|",
            |m| m.put("answers/server.doing", "RecoveryWalStream\n"),
            Ok(one),
        ),
        (
            "a connection that stands still",
            "t",
            "|1|0/5000060|",
            |m| m.put("answers/server.receives", "10.0.0.2\n"),
            Ok(one),
        ),
        (
            "it replays",
            "t",
            "|1|0/5000060|",
            |m| m.put("answers/server.doing", "WALRead\n"),
            Err("it replays what it has (WALRead)"),
        ),
        ("it computes", "t", "|1|0/5000060|", |m| m.put("answers/server.doing", ""), Err("(busy)")),
        ("the holder", "f", "|2|0/5000140|", |m| m.put(ROLE, "active"), Ok(two)),
        ("a primary of nobody's making", "f", "|2|0/5000140|", nothing, Err("the cluster did not make one")),
        (
            "it does not answer",
            "t",
            "|1|0/5000060|",
            |m| fs::remove_file(m.path("answers/server.recovering")).expect("removed"),
            Err("the server does not answer"),
        ),
        (
            "a primary that is silent",
            "t",
            "|1|0/5000060|",
            |m| m.primary(PRIMARY, HISTORY),
            Err("there is a primary at 10.0.0.1 that the cluster did not make"),
        ),
        (
            "two of them",
            "t",
            "|1|0/5000060|",
            |m| {
                m.primary(PRIMARY, HISTORY);
                m.put("answers/second.identity", PRIMARY);
            },
            Err("two primaries, or one stands in primary_conninfo twice: 10.0.0.1 10.0.0.2"),
        ),
        (
            "a host that refuses is no reason to wait",
            "t",
            "|1|0/5000060|",
            |m| m.put("answers/second.refuses", "no pg_hba.conf entry for host"),
            Ok(one),
        ),
        (
            "a record that came in part",
            "t",
            "|1|0/5000060|",
            |m| m.put("answers/server.replayed", "0/4F00060"),
            Ok(one),
        ),
        (
            "log that it cannot replay",
            "t",
            "|1|0/5000060|",
            |m| m.put("answers/server.replayed", "0/4F00058"),
            Err("it has log up to 0/5000060 that it cannot replay beyond 0/4F00058"),
        ),
        ("no position", "t", "", nothing, Err("of itself")),
        ("beyond the numbers", "t", "|40000|0/5000060|", nothing, Err("beyond what a rank can tell")),
    ];
    for (name, recovering, position, change, expected) in rows {
        let machine = Machine::new();
        machine.server(recovering, &format!("{SYSTEM}{position}\n"));
        machine.put("answers/server.replayed", "0/5000060");
        change(&machine);
        judge(name, &said(&machine.run("postgresql-rank", &[])), expected);
    }
}

#[test]
fn ranks_are_in_the_order_of_histories_and_then_of_positions() {
    let positions =
        ["|1|0/8", "|1|0/FFFFFFF8", "|1|1/0", "|1|FFFF/FFFFFFF8", "|2|0/8", "|3|0/8", "|32767|0/0"];
    let ranks = positions.map(|position| {
        let machine = Machine::new();
        machine.server("t", &format!("{SYSTEM}{position}|\n"));
        machine.put("answers/server.replayed", "FFFF/FFFFFFF8");
        let line = said(&machine.run("postgresql-rank", &[])).expect("a rank");
        line.split(['=', ' ']).nth(1).and_then(|number| number.parse::<i64>().ok()).expect("a number")
    });
    assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
}

#[test]
fn a_primary_is_made_and_ended_and_a_standby_left_alone() {
    let machine = Machine::new();
    machine.server("t", &format!("{SYSTEM}|1|0/5000060|\n"));
    machine.put("answers/server.promoted", "t\n");
    assert_eq!(said(&machine.run("postgresql-primary", &["promote"])), Ok(String::new()));
    assert!(machine.read("run/15-main.promoted").is_some());
    // Its configuration cannot be read any more; the server runs on by the one that it has.
    fs::remove_file(machine.path("etc/15/main/postgresql.conf")).expect("removed");
    assert_eq!(said(&machine.run("postgresql-primary", &["demote"])), Ok(String::new()));
    assert!(machine.calls().contains("--mode=fast") && machine.read("answers/running").is_none());

    judge("nothing runs", &said(&machine.run("postgresql-primary", &["gone"])), Ok(""));
    machine.put("etc/15/main/postgresql.conf", "");

    // Another server came up since: its unit has started it again, as a standby that may not be asked yet.
    for recovering in [Some("t"), None] {
        machine.server("t", "");
        machine.put("data/postmaster.pid", "4712\n/data\n1795887440\n5432\n");
        if recovering.is_none() {
            fs::remove_file(machine.path("answers/server.recovering")).expect("removed");
        }
        assert!(machine.run("postgresql-primary", &["demote"]).status.success());
        assert!(machine.read("answers/running").is_some(), "a standby was stopped");
        judge("a standby", &said(&machine.run("postgresql-primary", &["gone"])), Ok(""));
    }
    // It became a primary by other ways.
    machine.server("f", "");
    let left = Err("may still be a primary");
    judge("a primary", &said(&machine.run("postgresql-primary", &["gone"])), left);
    assert!(machine.run("postgresql-primary", &["demote"]).status.success());
    assert!(machine.read("answers/running").is_none(), "a primary was left");
    // Nothing is known of it, and it does not answer.
    fs::remove_file(machine.path("run/15-main.promoted")).expect("removed");
    machine.server("f", "");
    fs::remove_file(machine.path("answers/server.recovering")).expect("removed");
    judge("it does not answer", &said(&machine.run("postgresql-primary", &["gone"])), left);
    assert!(machine.run("postgresql-primary", &["demote"]).status.success());
    assert!(machine.read("answers/running").is_none(), "what may be a primary was left");
    // It does not end in order.
    machine.server("f", "");
    machine.put("answers/hangs", "");
    assert!(machine.run("postgresql-primary", &["demote"]).status.success());
    assert!(machine.calls().contains("--mode=immediate"), "{}", machine.calls());

    // It does not take the word.
    machine.server("t", "");
    fs::remove_file(machine.path("answers/server.promoted")).expect("removed");
    judge("no word", &said(&machine.run("postgresql-primary", &["promote"])), Err("does not take the word"));
}

#[test]
fn a_primary_is_not_gone_because_its_directory_is() {
    let machine = Machine::new();
    machine.server("t", &format!("{SYSTEM}|1|0/5000060|\n"));
    machine.put("answers/server.promoted", "t\n");
    assert_eq!(said(&machine.run("postgresql-primary", &["promote"])), Ok(String::new()));

    // The directory is moved away, and another comes in its place; the server runs on.
    let left = Err("may still be a primary");
    let moved = || {
        machine.put("answers/main", "4711\n");
        for file in ["answers/running", "data/postmaster.pid"] {
            let _ = fs::remove_file(machine.path(file));
        }
    };
    moved();
    judge("moved", &said(&machine.run("postgresql-primary", &["gone"])), left);
    // Also where it says, once more, that it is a standby: it was told to be none.
    machine.put("answers/server.recovering", "t");
    judge("told", &said(&machine.run("postgresql-primary", &["gone"])), left);
    assert!(machine.run("postgresql-primary", &["demote"]).status.success());
    assert!(machine.calls().contains("systemctl kill --signal=KILL"), "{}", machine.calls());
    judge("killed", &said(&machine.run("postgresql-primary", &["gone"])), Ok(""));

    // Its first process has ended, others have not: they may be about to acknowledge something.
    let other = machine.process("sleep", "run");
    machine.put("answers/group", "/server\n");
    machine.put("groups/server/cgroup.procs", &format!("{}\n", other.id()));
    judge("of another name", &said(&machine.run("postgresql-primary", &["gone"])), Ok(""));
    drop(other);
    let other = machine.process("postgres", "run");
    machine.put("groups/server/cgroup.procs", &format!("1\n{}\n", other.id()));
    judge("left over", &said(&machine.run("postgresql-primary", &["gone"])), left);
    machine.put("answers/postgresql@15-main.service.SubState", "start-pre\n");
    judge("before a start", &said(&machine.run("postgresql-primary", &["gone"])), Ok(""));
    drop(other);

    // Another server has no directory either, and nothing is known of it.
    fs::remove_file(machine.path("run/15-main.promoted")).expect("removed");
    moved();
    fs::remove_file(machine.path("answers/server.recovering")).expect("removed");
    judge("unknown", &said(&machine.run("postgresql-primary", &["gone"])), left);

    // One that is not the unit's is not promoted: its end could not be told.
    machine.server("t", "");
    machine.put("answers/main", "4799\n");
    judge(
        "by hand",
        &said(&machine.run("postgresql-primary", &["promote"])),
        Err("is not that of postgresql@15-main"),
    );
    assert!(machine.read("run/15-main.promoted").is_none());
}

#[test]
fn a_server_that_crashes_while_it_is_promoted_is_not_the_one_that_is_recorded() {
    let machine = Machine::new();
    machine.server("t", &format!("{SYSTEM}|1|0/5000060|\n"));
    machine.put("answers/server.promoted", "t\n");
    machine.put("answers/restarts", "");
    judge(
        "another",
        &said(&machine.run("postgresql-primary", &["promote"])),
        Err("another one is a primary"),
    );
}
