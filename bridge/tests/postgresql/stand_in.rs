//! A machine with a PostgreSQL server that is a script.

use std::fs;
use std::process::{Child, Command, Output};

use super::SYSTEM;
use super::machine::{Machine, text};

/// Stands for every program that ours call: each call is a line of `calls`, and its answer a file of `answers`.
const STAND_IN: &str = r#"#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$ANSWERS/../calls"
answer() { cat "$ANSWERS/$1" 2>/dev/null; }
case $name in
    systemctl)
        # `running` is what the directory tells; `main` the process that systemd has.
        case $* in
            "kill --signal=KILL"*) rm -f "$ANSWERS/running" "$ANSWERS/main"; exit 0 ;;
            *=MainPID*) answer main || { answer running >/dev/null && sed -n 1p "$ANSWERS/../data/postmaster.pid" || echo 0; }; exit 0 ;;
            *=ControlGroup*) answer group; exit 0 ;;
        esac
        for last in "$@"; do :; done
        property=${2#--property=}
        answer "$last.$property" || { [ "$property" = LoadState ] && echo not-found || echo inactive; }
        exit 0 ;;
    postgres) answer "set.$2"; exit 0 ;;
    psql)
        whom=server
        case $* in *target_session_attrs=primary*) whom=primary ;; esac
        # Hosts that are asked one by one: the first is the primary.
        case $* in *host=10.0.0.2\ dbname*) whom=second ;; esac
        case $* in
            *pg_last_wal_replay_lsn*)
                answer server.recovering >/dev/null || exit 1
                for what in recovering doing replayed receives; do answer "server.$what" | tr -d '\n'; echo; done | paste -s -d '|'
                exit ;;
            *pg_control_checkpoint*) answer checkpoints || { echo 2; exit; }
                sed -i 1d "$ANSWERS/checkpoints"; [ -s "$ANSWERS/checkpoints" ] || rm "$ANSWERS/checkpoints"; exit 0 ;;
            *IDENTIFY_SYSTEM*) what=identity ;;
            *TIMELINE_HISTORY*) what=history ;;
            *pg_is_in_recovery*) what=recovering ;;
            *wait_event*) what=doing ;;
            *pg_stat_wal_receiver*) what=receives ;;
            *pg_promote*)
                ! answer restarts >/dev/null || printf '4712\n/data\n1795887440\n' >"$ANSWERS/../data/postmaster.pid"
                answer server.promoted && echo f >"$ANSWERS/server.recovering"; exit 0 ;;
            *) exit 0 ;;
        esac
        answer "$whom.$what" || { answer "$whom.refuses" >&2; exit 2; }
        exit ;;
    pg_ctl)
        case $1 in
            status) answer running >/dev/null || exit 3 ;;
            stop)
                case $* in *--mode=fast*) ! answer hangs >/dev/null || exit 1 ;; esac
                rm -f "$ANSWERS/running" ;;
        esac
        exit 0 ;;
    pg_controldata) answer control ;;
    pg_rewind)
        [ -e "$ANSWERS/../data.unfinished" ] || exit 9
        # As the primary's control file has it, and no record of the other branch.
        answer rewinds_nothing >/dev/null || {
            rm -f "$ANSWERS/records" "$ANSWERS"/../data/pg_wal/00000003*
            answer rewound >"$ANSWERS/control.new"; mv "$ANSWERS/control.new" "$ANSWERS/control"
        } ;;
    pg_waldump)
        for word in "$@"; do case $word in --timeline=*) of=${word#*=} ;; --start=*) from=${word#*=} ;; esac; done
        answer records | grep -qxF "$of $from"; exit ;;
    pg_basebackup)
        new=${1#--pgdata=}
        mkdir "$new" && echo 15 >"$new/PG_VERSION" && printf copied >"$new/origin" ;;
esac
exit "$(answer "$name.status" || echo 0)"
"#;

impl Machine {
    /// With a server on timeline 1, shut down at 0/5000028, and no primary.
    pub(crate) fn new() -> Machine {
        let machine = Machine::with(
            &[
                "systemctl",
                "postgres",
                "psql",
                "pg_ctl",
                "pg_controldata",
                "pg_waldump",
                "pg_rewind",
                "pg_basebackup",
            ],
            STAND_IN,
        );
        machine.put("etc/15/main/postgresql.conf", "");
        machine.put("answers/set.data_directory", &machine.path("data").display().to_string());
        machine.put("answers/set.port", "5432\n");
        machine.put("answers/set.unix_socket_directories", "/run/postgresql\n");
        machine.put(
            "answers/set.primary_conninfo",
            "host=10.0.0.1,10.0.0.2 user=replicator target_session_attrs=primary\n",
        );
        machine.put("data/PG_VERSION", "15\n");
        machine.put("data/origin", "own");
        machine.put("data/pg_wal/000000010000000000000005", "");
        machine.control(SYSTEM, "0/5000098", 2, "0/5000140", 2);
        fs::rename(machine.path("answers/control"), machine.path("answers/rewound")).expect("renamed");
        machine.control(SYSTEM, "0/5000028", 1, "0/0", 0);
        fs::create_dir(machine.path("run")).expect("made");
        machine
    }

    pub(crate) fn read(&self, below: &str) -> Option<String> {
        fs::read_to_string(self.path(below)).ok()
    }

    /// What `pg_controldata` prints.
    pub(crate) fn control(&self, system: &str, checkpoint: &str, timeline: u32, reached: &str, of: u32) {
        let text = format!(
            "Database system identifier:           {system}\nLatest checkpoint location:           {checkpoint}\n\
             Latest checkpoint's REDO location:    0/1\nLatest checkpoint's TimeLineID:       {timeline}\n\
             Minimum recovery ending location:     {reached}\nMin recovery ending loc's timeline:   {of}\n"
        );
        self.put("answers/control", &text);
    }

    /// There is a primary.
    pub(crate) fn primary(&self, identity: &str, history: &str) {
        self.put("answers/primary.identity", identity);
        self.put("answers/primary.history", history);
    }

    /// The server runs and says this of itself.
    pub(crate) fn server(&self, recovering: &str, identity: &str) {
        self.put("answers/running", "");
        self.put("answers/server.recovering", recovering);
        self.put("answers/server.identity", identity);
        self.put("answers/server.doing", "RecoveryRetrieveRetryInterval\n");
        self.put("answers/server.receives", "");
        self.put("data/postmaster.pid", "4711\n/data\n1795887435\n5432\n");
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Output {
        self.program(program)
            .args(args)
            .arg("15-main")
            .env("CONVOKE_PGBIN", self.path("bin"))
            .env("CONVOKE_PGCONFIG", self.path("etc"))
            .env("CONVOKE_CGROUP", self.path("groups"))
            .env("CONVOKE_PGRUN", self.path("run"))
            .env("CONVOKE_PGTRIES", "2")
            .env("CONVOKE_PGPAUSE", "0.1")
            .output()
            .expect("run")
    }

    pub(crate) fn calls(&self) -> String {
        self.read("calls").expect("calls")
    }

    /// A process of a program of this name, in this directory.
    pub(crate) fn process(&self, name: &str, directory: &str) -> Process {
        // By a program of its own: one that another test starts meanwhile would keep a file of ours open for writing, and what
        // is open for that cannot be run.
        let copied = Command::new("cp").arg("/bin/sleep").arg(self.path(name)).status();
        assert!(copied.expect("cp").success());
        let started = Command::new(self.path(name))
            .arg("60")
            .current_dir(self.path(directory))
            .spawn()
            .expect("a process");
        Process(started)
    }
}

/// Lasts for as long as this value.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// What a program says: its line, or why it failed.
pub(crate) fn said(out: &Output) -> Result<String, String> {
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

/// Whether a program said what was expected.
pub(crate) fn judge(name: &str, found: &Result<String, String>, expected: Result<&str, &str>) {
    match (found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
        (Err(why), Err(expected)) => assert!(why.contains(expected), "{name}: {why}"),
        _ => panic!("{name}: {found:?} instead of {expected:?}"),
    }
}
