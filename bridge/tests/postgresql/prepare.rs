//! How a copy is prepared for its start, and what only a start puts right.

use std::fs;

use super::machine::{Machine, text};
use super::stand_in::{judge, said};
use super::{Change, HISTORY, PRIMARY, ROLE, SYSTEM};

const OTHER: &str = "7700000000000000000";

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
