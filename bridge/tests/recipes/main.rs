//! The programs of the recipes, on data directories in every state that was seen on real servers.
//!
//! Each row is a directory, what the servers' own programs would answer, and what ours then say. The servers are scripts
//! here; the scenarios have the real ones.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use galera::{NONE, UUID, grastate, member};
use machine::{Machine, text};
use rabbitmq::node;

mod galera;
#[path = "../machine/mod.rs"]
mod machine;
mod rabbitmq;

/// The environment of a start.
type Start = &'static [(&'static str, &'static str)];

/// Stands for every program that ours call: `bin/NAME` answers with the text of `answers/NAME` and ends with the status in
/// `answers/NAME.status`; each call is a line of `calls`.
const STAND_IN: &str = r#"#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$ANSWERS/../calls"
case $name in
    systemctl)
        for last in "$@"; do :; done
        property=${2#--property=}
        cat "$ANSWERS/$last.$property" 2>/dev/null || { [ "$property" = LoadState ] && echo not-found || echo inactive; }
        exit 0 ;;
    uname) echo n1; exit 0 ;;
    # The server here is down.
    erl_call) [ "$2" != rabbit@n1 ] || exit 1 ;;
esac
cat "$ANSWERS/$name" 2>/dev/null
exit "$(cat "$ANSWERS/$name.status" 2>/dev/null || echo 0)"
"#;

impl Machine {
    fn new() -> Machine {
        let machine = Machine::with(
            &[
                "systemctl",
                "uname",
                "mariadb",
                "mariadbd",
                "my_print_defaults",
                "erl",
                "erl_call",
                "getent",
                "systemd-cat",
                "rabbitmqctl",
                "rabbitmq-diagnostics",
                "rabbitmq-queues",
            ],
            STAND_IN,
        );
        machine.put("answers/my_print_defaults", "--basedir=/usr\n");
        machine
    }

    /// `mariadbd` recovers this position, or fails with this error.
    fn recovers(&self, position: Result<&str, &str>) {
        match position {
            Ok(position) => self.put(
                "answers/mariadbd",
                &format!("2026-11-28 4:31:41 0 [Note] WSREP: Recovered position: {position}\n"),
            ),
            Err(error) => {
                self.put("answers/mariadbd", &format!("[Note] x\n[ERROR] {error}\n"));
                self.put("answers/mariadbd.status", "1");
            }
        }
    }

    fn run(&self, program: &str, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let settings = self.path("rabbitmq-env.conf");
        if !settings.exists() {
            let (base, config) = (self.path("mnesia"), self.path("rabbitmq"));
            let text = format!("MNESIA_BASE={}\nCONFIG_FILE={}\n", base.display(), config.display());
            self.put("rabbitmq-env.conf", &text);
        }
        self.program(program)
            .args(args)
            .env("RABBITMQ_CONF_ENV_FILE", settings)
            .envs(environment.iter().copied())
            .output()
            .expect("run")
    }

    /// What a position program says: its line, or why it failed.
    fn position(&self, program: &str) -> Result<String, String> {
        let data = self.path("data").display().to_string();
        let args: &[&str] = if program.starts_with("galera") { &[&data] } else { &[] };
        let out = self.run(program, args, &[]);
        let (said, why) = (text(&out.stdout), text(&out.stderr));
        if out.status.success() {
            assert_eq!(said.lines().count(), 1, "{said}");
            Ok(said.trim_end().to_owned())
        } else {
            assert_eq!(said, "", "a line of a program that failed");
            Err(why)
        }
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).expect("calls")
    }
}

/// The machine, what the program is to say, and whether InnoDB is to be asked for its number.
type Row = (&'static str, Machine, Result<String, &'static str>, bool);

fn is(state: &str) -> Result<String, &'static str> {
    Ok(format!("state={state}"))
}

fn judge(program: &str, rows: Vec<Row>) {
    for (name, machine, expected, recovers) in rows {
        let said = machine.position(program);
        match (&said, &expected) {
            (Ok(said), Ok(expected)) => assert_eq!(said, expected, "{name}"),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{name}: {why}"),
            _ => panic!("{name}: {said:?} instead of {expected:?}"),
        }
        assert_eq!(machine.calls().contains("mariadbd "), recovers, "{name}: {}", machine.calls());
    }
}

/// Name of the unit that would mount something there.
fn mount_unit(path: &Path) -> String {
    let escape = Command::new("systemd-escape").args(["--path", "--suffix=mount"]).arg(path).output();
    text(&escape.expect("systemd-escape").stdout).trim().to_owned()
}

#[test]
fn a_directory_whose_disk_is_missing_is_not_taken_for_empty() {
    // systemd knows of a mount for it, or for a parent.
    for mounted in ["data", ""] {
        let machine = member(None);
        machine.recovers(Ok(&format!("{NONE}:-1")));
        let mount = mount_unit(&machine.path(mounted));
        machine.put(&format!("answers/{mount}.LoadState"), "loaded\n");
        machine.put(&format!("answers/{mount}.ActiveState"), "inactive\n");
        let why = machine.position("galera-position").expect_err("not mounted");
        assert!(why.contains("is not mounted"), "{why}");
        machine.put(&format!("answers/{mount}.ActiveState"), "active\n");
        assert_eq!(machine.position("galera-position"), Ok("state=empty".into()));
    }
    // It is a link to such a directory.
    for program in ["galera-position", "rabbitmq-position"] {
        let machine = member(None);
        node(&machine, "[rabbit@n1]");
        machine.recovers(Ok(&format!("{NONE}:-1")));
        fs::create_dir(machine.path("disk")).expect("made");
        for data in ["data", "mnesia"] {
            fs::remove_dir_all(machine.path(data)).expect("removed");
            std::os::unix::fs::symlink(machine.path("disk"), machine.path(data)).expect("a link");
        }
        let mount = mount_unit(&machine.path("disk"));
        machine.put(&format!("answers/{mount}.LoadState"), "loaded\n");
        machine.put(&format!("answers/{mount}.ActiveState"), "inactive\n");
        let why = machine.position(program).expect_err("not mounted");
        assert!(why.contains("is not mounted"), "{program}: {why}");
    }
    // Nobody knows of a mount; but the data was seen on another file system.
    for (program, unit) in
        [("galera-position", "mariadb.service"), ("rabbitmq-position", "rabbitmq-server.service")]
    {
        let machine = member(Some(&grastate(UUID, 7, 0)));
        node(&machine, "[rabbit@n1]");
        assert!(machine.position(program).expect("data").contains("stopped"));
        let seen = machine.path("seen").join(unit);
        let here = fs::read_to_string(&seen).expect("remembered");
        fs::write(&seen, "/srv/disk\n").expect("written");
        let why = machine.position(program).expect_err("elsewhere");
        assert!(why.contains("its data was on that of /srv/disk"), "{why}");
        fs::remove_dir_all(machine.path("data")).expect("removed");
        fs::remove_dir_all(machine.path("mnesia")).expect("removed");
        fs::create_dir(machine.path("data")).expect("made");
        fs::create_dir(machine.path("mnesia")).expect("made");
        assert!(machine.position(program).is_err(), "empty, and elsewhere");
        fs::write(&seen, here).expect("written");
        assert_eq!(machine.position(program), Ok("state=empty".into()));
    }
}

#[test]
fn a_server_that_runs_is_asked_and_its_data_left_alone() {
    let rows = [
        ("active", "wsrep_cluster_status\tPrimary\n", "live"),
        ("active", "wsrep_cluster_status\tnon-Primary\n", "live-without-quorum"),
        ("active", "wsrep_cluster_status\tDisconnected\n", "busy"),
        ("active", "", "busy"),
        ("activating", "", "busy"),
        ("deactivating", "", "busy"),
    ];
    for (state, status, said) in rows {
        let machine = member(Some(&grastate(UUID, -1, 0)));
        machine.put("answers/mariadb.service.ActiveState", state);
        machine.put("answers/mariadb", status);
        assert_eq!(machine.position("galera-position"), Ok(format!("state={said}")), "{state} {status}");
        assert!(!machine.calls().contains("mariadbd "), "recovery beside a server");
    }
    for (state, status, said) in
        [("active", "0", "live"), ("active", "69", "live-without-quorum"), ("activating", "69", "busy")]
    {
        let machine = Machine::new();
        machine.put("answers/rabbitmq-server.service.ActiveState", state);
        machine.put("answers/rabbitmq-diagnostics.status", status);
        assert_eq!(machine.position("rabbitmq-position"), Ok(format!("state={said}")), "{state} {status}");
    }
}
