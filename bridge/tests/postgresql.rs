//! The programs of the PostgreSQL recipe, on servers and data directories in every state that was seen on real ones.
//!
//! Each row is a state, and what the programs then say or do. The server is a script here; the scenarios have the real one.

use std::fs;

use machine::{Machine, text};
use postgresql::stand_in::{judge, said};

mod machine;

mod postgresql {
    pub(crate) mod stand_in;
}

const SYSTEM: &str = "7713277685192856966";
const OTHER: &str = "7700000000000000000";
/// `IDENTIFY_SYSTEM` of a primary on timeline 2.
const PRIMARY: &str = "7713277685192856966|2|0/5000140|";
/// Its history: it left timeline 1 at 0/5000060.
const HISTORY: &str = "00000002.history|1\t0/5000060\tno recovery target specified\n\n";

/// What is other than in a machine of its own.
type Change = fn(&Machine);
/// A name, the recovery and the position of a server, what is other, and what is said of it.
type Row = (&'static str, &'static str, &'static str, Change, Result<&'static str, &'static str>);

const ROLE: &str = "answers/postgresql-primary@15-main.service.ActiveState";

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
fn a_check_finds_what_only_a_start_puts_right() {
    let standby = |position: &str| {
        let machine = Machine::new();
        machine.server("t", &format!("{SYSTEM}{position}\n"));
        machine.primary(PRIMARY, HISTORY);
        machine
    };
    let streaming = standby("|1|0/5000070|");
    streaming.put("answers/server.receives", "10.0.0.1\n");
    let right = standby("|1|0/5000060|");
    right.put("answers/server.receives", "10.0.0.1\n");
    let wrong = standby("|1|0/5000060|");
    wrong.put("answers/server.receives", "10.0.0.2\n");
    let between = standby("|1|0/5000060|");
    between.put("answers/server.receives", "10.0.0.1\n");
    between.put("answers/second.identity", PRIMARY);
    let alone = standby("|1|0/5000070|");
    fs::remove_file(alone.path("answers/primary.identity")).expect("removed");
    let holder = Machine::new();
    holder.server("f", PRIMARY);
    holder.put(ROLE, "deactivating\n");
    let nobodys = Machine::new();
    nobodys.server("f", PRIMARY);
    let other = standby("|1|0/5000060|");
    other.primary(&PRIMARY.replace(SYSTEM, OTHER), HISTORY);
    let mute = Machine::new();
    mute.server("", "");
    fs::remove_file(mute.path("answers/server.recovering")).expect("removed");
    let rows = [
        ("it follows", right, Ok("")),
        ("it follows, with a branch", streaming, Err("has left at 0/5000060")),
        ("it follows another", wrong, Err("it receives from 10.0.0.2, and the primary is 10.0.0.1")),
        ("it follows one of two", between, Err("two primaries")),
        ("it is to follow still", standby("|1|0/5000060|"), Ok("")),
        ("it is on the primary's timeline", standby("|2|0/5000140|"), Ok("")),
        ("there is no primary", alone, Ok("")),
        ("it holds the role", holder, Ok("")),
        ("it has a record that the primary has not", standby("|1|0/5000068|"), Err("has left at 0/5000060")),
        ("it is ahead of the primary", standby("|2|0/5000148|"), Err("has left at 0/5000140")),
        ("it was promoted by hand", standby("|3|0/5000200|"), Err("timeline 3 is no part")),
        ("of another system", other, Err("another database system")),
        ("a primary without the role", nobodys, Err("does not hold postgresql-primary@15-main.service")),
        ("it does not answer", mute, Err("does not answer")),
    ];
    for (name, machine, expected) in rows {
        judge(name, &said(&machine.run("postgresql-check", &[])), expected);
    }
    // No start mends that, so it is not called a failure of the server.
    let unreadable = Machine::new();
    fs::remove_file(unreadable.path("etc/15/main/postgresql.conf")).expect("removed");
    assert_eq!(unreadable.run("postgresql-check", &[]).status.code(), Some(200));
}

/// What became of a directory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Became {
    AsItWas,
    Rewound,
    Copied,
    Refused(&'static str),
}

#[test]
fn a_server_starts_as_a_standby_of_whoever_is_the_primary() {
    use Became::{AsItWas, Copied, Refused, Rewound};
    let nothing: Change = |_| {};
    let record: Change = |m| m.put("answers/records", "1 0/5000060\n");
    let rows: [(&str, bool, Change, Became); 26] = [
        ("no primary", false, record, AsItWas),
        ("it ended where the primary went on", true, nothing, AsItWas),
        ("a record more in its log", true, record, Rewound),
        (
            "its number is another process's since the boot",
            true,
            |m| {
                m.put("answers/records", "1 0/5000060\n");
                m.put("data/postmaster.pid", "1\n/data\n");
            },
            Rewound,
        ),
        ("the same, without a primary", false, |m| m.put("data/postmaster.pid", "1\n/data\n"), AsItWas),
        ("a checkpoint more", true, |m| m.control(SYSTEM, "0/5000098", 1, "0/0", 0), Rewound),
        (
            "a standby that replayed more",
            true,
            |m| m.control(SYSTEM, "0/4000060", 1, "0/5000070", 1),
            Rewound,
        ),
        (
            "a standby on the new timeline",
            true,
            |m| m.control(SYSTEM, "0/4000060", 1, "0/5000138", 2),
            AsItWas,
        ),
        (
            "promoted too, and killed before its checkpoint",
            true,
            |m| m.put("data/pg_wal/000000030000000000000005", ""),
            Rewound,
        ),
        ("promoted too", true, |m| m.control(SYSTEM, "0/5000098", 3, "0/0", 0), Rewound),
        (
            "ahead of the primary on its own timeline",
            true,
            |m| {
                m.control(SYSTEM, "0/5000100", 2, "0/0", 0);
                m.put("data/pg_wal/000000020000000000000005", "");
                m.put("answers/records", "2 0/5000140\n");
            },
            Copied,
        ),
        (
            "pg_rewind cannot",
            true,
            |m| {
                m.put("answers/records", "1 0/5000060\n");
                m.put("answers/pg_rewind.status", "1\n");
            },
            Copied,
        ),
        (
            "pg_rewind finds nothing to do",
            true,
            |m| {
                m.put("answers/records", "1 0/5000060\n");
                m.put("answers/rewinds_nothing", "");
            },
            Copied,
        ),
        (
            "the primary's checkpoint is not made yet",
            true,
            |m| {
                m.put("answers/records", "1 0/5000060\n");
                m.put("answers/checkpoints", "1\n");
            },
            Rewound,
        ),
        (
            "the copy fails after pg_rewind",
            true,
            |m| {
                m.put("answers/records", "1 0/5000060\n");
                m.put("answers/pg_rewind.status", "1\n");
                m.put("answers/pg_basebackup.status", "1\n");
            },
            Refused("half changed by pg_rewind"),
        ),
        ("half changed", true, |m| m.put("data.unfinished", ""), Copied),
        (
            "two primaries",
            true,
            |m| m.put("answers/second.identity", PRIMARY),
            Refused("is not known: there are two primaries"),
        ),
        (
            "a host that may be the primary refuses",
            false,
            |m| m.put("answers/second.refuses", "FATAL:  no pg_hba.conf entry for 10.0.0.3\n"),
            AsItWas,
        ),
        (
            "a URI",
            false,
            |m| m.put("answers/set.primary_conninfo", "postgresql://10.0.0.1?target_session_attrs=primary\n"),
            Refused("is a URI"),
        ),
        (
            "empty",
            true,
            |m| {
                fs::remove_dir_all(m.path("data")).expect("removed");
                m.put("answers/set.synchronous_standby_names", "ANY 1 (*)\n");
            },
            Copied,
        ),
        (
            "the copy fails",
            true,
            |m| {
                m.control(SYSTEM, "0/5000200", 2, "0/0", 0);
                m.put("answers/pg_basebackup.status", "1\n");
            },
            Refused("pg_basebackup failed"),
        ),
        ("of another system", true, |m| m.control(OTHER, "0/5000028", 1, "0/0", 0), Refused("it is copied")),
        (
            "of another version",
            true,
            |m| m.put("data/PG_VERSION", "14\n"),
            Refused("no data of PostgreSQL 15"),
        ),
        ("damaged", true, |m| m.put("answers/pg_controldata.status", "1\n"), Refused("pg_controldata")),
        (
            "no primary is named",
            false,
            |m| m.put("answers/set.primary_conninfo", ""),
            Refused("nobody could be followed"),
        ),
        (
            "it could follow itself",
            false,
            |m| m.put("answers/set.primary_conninfo", "host=10.0.0.1,10.0.0.2\n"),
            Refused("target_session_attrs=primary"),
        ),
    ];
    for (name, primary, change, became) in rows {
        let machine = Machine::new();
        if primary {
            machine.primary(PRIMARY, HISTORY);
        }
        change(&machine);
        let whole = machine.read("data/origin").is_some();
        let out = machine.run("postgresql-prepare", &[]);
        let (said, calls) = (text(&out.stdout) + &text(&out.stderr), machine.calls());
        if let Refused(why) = became {
            assert!(!out.status.success() && said.contains(why), "{name}: {said}");
            assert!(machine.read("data/standby.signal").is_none(), "{name}");
            assert_eq!(machine.read("data/origin").as_deref(), Some("own"), "{name}: {said}");
            continue;
        }
        assert!(out.status.success(), "{name}: {said}");
        assert!(machine.read("data/standby.signal").is_some(), "{name}: it would start as a primary");
        assert!(machine.read("data.unfinished").is_none(), "{name}");
        let copied = machine.read("data/origin").as_deref() == Some("copied");
        assert_eq!(copied, became == Copied, "{name}: {said}");
        assert_eq!(
            said.contains("waiting for the primary's checkpoint"),
            name.contains("checkpoint is not"),
            "{said}"
        );
        // A copy acknowledges nothing.
        let copies: Vec<_> = calls.lines().filter(|line| line.starts_with("pg_basebackup")).collect();
        assert!(copies.iter().all(|line| line.contains("application_name=convoke")), "{copies:?}");
        assert_eq!(copies.iter().any(|line| line.ends_with("--no-slot")), name == "empty", "{copies:?}");
        assert_eq!(
            calls.contains("pg_rewind "),
            matches!(became, Rewound) || name.starts_with("pg_rewind "),
            "{name}: {said}"
        );
        assert!(machine.read("data/postmaster.pid").is_none(), "{name}: no server would start");
        // What was there before is there still.
        let aside: Vec<_> = fs::read_dir(machine.path(""))
            .expect("read")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("data.before-"))
            .collect();
        assert_eq!(aside.len(), usize::from(copied && whole), "{name}: {aside:?}");
        for entry in aside {
            assert_eq!(fs::read_to_string(entry.path().join("origin")).expect("kept"), "own", "{name}");
        }
    }
}

#[test]
fn no_server_starts_beside_what_is_left_of_another() {
    // A program, its directory, and whether it is of a server on the data. None has the number that was written down.
    for (program, at, left) in
        [("postgres", "data", true), ("postgres", "other", false), ("sleep", "data", false)]
    {
        let machine = Machine::new();
        fs::create_dir(machine.path("other")).expect("made");
        machine.put("data/postmaster.pid", "1\n/data\n");
        let process = machine.process(program, at);
        if left {
            let why = said(&machine.run("postgresql-prepare", &[])).expect_err("a server has the data");
            let remedy =
                format!("kill -INT {}, and then: convoke start postgresql@15-main.service", process.id());
            assert!(why.contains(&remedy) && why.contains(&*machine.path("data").to_string_lossy()), "{why}");
            assert_eq!(machine.read("data/postmaster.pid").as_deref(), Some("1\n/data\n"));
            assert!(machine.read("data/standby.signal").is_none());
            drop(process);
        }
        let out = machine.run("postgresql-prepare", &[]);
        assert!(out.status.success(), "{program} in {at}: {}", text(&out.stderr));
        assert!(machine.read("data/postmaster.pid").is_none(), "{program} in {at}");
    }
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
