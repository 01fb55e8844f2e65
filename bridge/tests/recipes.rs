//! The programs of the recipes, on data directories in every state that was seen on real servers.
//!
//! Each row is a directory, what the servers' own programs would answer, and what ours then say. The servers are scripts
//! here; the scenarios have the real ones.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use machine::{Machine, text};

mod machine;

const UUID: &str = "3adedb4a-eae4-11f1-9c2b-9eccf376dae0";
const OTHER: &str = "99999999-eae4-11f1-9c2b-9eccf376dae0";
const NONE: &str = "00000000-0000-0000-0000-000000000000";
const MADE: &str = "rabbit@n1/1795840162490440394/-576460752303423279/1";

// How a server ends that does not come up, after the line that says why.
const NO_INNODB: &str = "[ERROR] InnoDB: Plugin initialization aborted with error Generic error\n\
    [ERROR] Plugin 'InnoDB' registration as a STORAGE ENGINE failed.\n\
    [ERROR] Unknown/unsupported storage engine: InnoDB\n[ERROR] Aborting";
const NO_ARIA: &str = "[ERROR] Plugin 'Aria' registration as a STORAGE ENGINE failed.\n\
    [ERROR] Failed to initialize plugins.\n[ERROR] Aborting";
// Why, as real servers said it: of a log and of an Aria log of which half came; of data that another server has; and of a full
// disk, of a file of somebody else, and of a setting.
const HALF_A_LOG: &str = "InnoDB: Missing FILE_CHECKPOINT(22704208) at 22704208";
const HALF_OF_ARIA: &str = "mariadbd: Aria engine: log data error";
const LOCKED: &str = "InnoDB: Unable to lock ./ibdata1 error: 11";
const FULL: &str = "InnoDB: preallocating 12582912 bytes for file ./ibtmp1 failed with error 28";
const SHUT: &str = "InnoDB: Operating system error number 13 in a file operation.";
const SET: &str =
    "InnoDB: Data file './ibdata1' uses page size 16384, but the innodb_page_size start-up parameter is 8192";

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

fn grastate(uuid: &str, seqno: i64, safe: u8) -> String {
    format!(
        "# GALERA saved state\nversion: 2.1\nuuid:    {uuid}\nseqno:   {seqno}\nsafe_to_bootstrap: {safe}\n"
    )
}

/// A data directory of MariaDB with a `grastate.dat`.
fn member(state: Option<&str>) -> Machine {
    let machine = Machine::new();
    machine.put("data/ibdata1", "x");
    machine.put("data/mysql/db.frm", "x");
    if let Some(state) = state {
        machine.put("data/grastate.dat", state);
    }
    machine
}

fn stopped(rank: i64, safe: &str) -> Result<String, &'static str> {
    Ok(format!("state=stopped rank={rank} identity={UUID} safe={safe}"))
}

fn is(state: &str) -> Result<String, &'static str> {
    Ok(format!("state={state}"))
}

/// The machine, what the program is to say, and whether InnoDB is to be asked for its number.
type Row = (&'static str, Machine, Result<String, &'static str>, bool);

#[test]
fn galera_says_of_every_directory_what_its_data_is_worth() {
    let none = format!("{NONE}:-1");
    let with = |state: Option<String>, position: &str| {
        let machine = member(state.as_deref());
        machine.recovers(Ok(position));
        machine
    };
    let running = || Some(grastate(UUID, -1, 0));
    let half = with(Some(String::new()), &format!("{UUID}:14720"));
    half.put("data/sst_in_progress", "");
    let copied = with(running(), &format!("{UUID}:14720"));
    fs::create_dir(copied.path("data/.sst")).expect("made");
    let gone = with(Some(grastate(UUID, 60, 1)), &none);
    fs::remove_file(gone.path("data/ibdata1")).expect("removed");
    let broken = |state: Option<String>, why: &str, end: &str| {
        let machine = member(state.as_deref());
        machine.recovers(Err(&format!("{why}\n{end}")));
        machine
    };
    let mute = with(running(), &none);
    mute.put("answers/mariadbd", "[Note] skipping position recovery\n");
    let fresh = Machine::new();
    fs::create_dir_all(fresh.path("data/lost+found")).expect("made");
    let strange = Machine::new();
    strange.put("data/photo.jpg", "x");
    let elsewhere = with(Some(grastate(UUID, 60, 1)), &none);
    fs::rename(elsewhere.path("data/ibdata1"), elsewhere.path("ibdata1")).expect("moved");
    elsewhere.put(
        "answers/my_print_defaults",
        &format!("--innodb-data-home-dir={}\n", elsewhere.path("").display()),
    );

    let rows: Vec<Row> = vec![
        ("virgin", with(None, &none), is("empty"), true),
        ("began and met nobody", with(Some(String::new()), &none), is("empty"), true),
        ("stopped last", with(Some(grastate(UUID, 60, 1)), &none), stopped(60, "yes"), false),
        ("stopped with the others", with(Some(grastate(UUID, 9, 0)), &none), stopped(9, "no"), false),
        ("formed and never written to", with(Some(grastate(UUID, 0, 1)), &none), stopped(0, "yes"), false),
        ("killed", with(running(), &format!("{UUID}:17762")), stopped(17762, "no"), true),
        ("killed alone", with(Some(grastate(UUID, -1, 1)), &format!("{UUID}:7")), stopped(7, "yes"), true),
        (
            "killed, with positions of two kinds",
            with(running(), &format!("{UUID}:17762,0-1-99")),
            stopped(17762, "no"),
            true,
        ),
        ("killed in the midst of a transfer", half, is("unusable"), false),
        ("killed long after a transfer by mariabackup", copied, stopped(14720, "no"), true),
        (
            "found inconsistent",
            with(Some(grastate(NONE, -1, 1)), &format!("{UUID}:58")),
            is("unusable"),
            false,
        ),
        ("asked for all data", with(Some(String::new()), &format!("{UUID}:58")), is("unusable"), true),
        ("its word removed", with(None, &format!("{UUID}:58")), is("unusable"), true),
        ("of two clusters", with(running(), &format!("{OTHER}:58")), is("unusable"), true),
        ("InnoDB knows no cluster", with(running(), &none), is("unusable"), true),
        ("its data removed, its word left", gone, is("unusable"), false),
        ("its data elsewhere", elsewhere, stopped(60, "yes"), false),
        ("wiped", fresh, is("empty"), false),
        ("no directory", Machine::new(), Err("there is no directory"), false),
        ("files of somebody else", strange, Err("no ibdata1"), false),
        ("its copy was ended by force", broken(None, HALF_A_LOG, NO_INNODB), is("unusable"), true),
        ("the same, of Aria", broken(None, HALF_OF_ARIA, NO_ARIA), is("unusable"), true),
        (
            "asked for all data, half came",
            broken(Some(String::new()), HALF_A_LOG, NO_INNODB),
            is("unusable"),
            true,
        ),
        ("broken, with a history", broken(running(), HALF_A_LOG, NO_INNODB), Err(HALF_A_LOG), true),
        ("Aria broken, with a history", broken(running(), HALF_OF_ARIA, NO_ARIA), Err(HALF_OF_ARIA), true),
        ("another server has it", broken(running(), LOCKED, NO_INNODB), Err(LOCKED), true),
        ("another server has it, and no word", broken(None, LOCKED, NO_INNODB), Err(LOCKED), true),
        ("no room, and no word", broken(None, FULL, NO_INNODB), Err(FULL), true),
        ("not its own, and no word", broken(None, SHUT, NO_INNODB), Err(SHUT), true),
        ("a bad setting, and no word", broken(None, SET, NO_INNODB), Err(SET), true),
        (
            "something else, and no word",
            broken(None, "unknown variable", "[ERROR] Aborting"),
            Err("unknown variable"),
            true,
        ),
        ("Galera is not configured", mute, Err("wsrep_on"), true),
        ("no number", with(Some(format!("uuid: {UUID}\nseqno: many\n")), &none), Err("seqno in"), false),
    ];
    judge("galera-position", rows);
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

/// A database of RabbitMQ whose node last saw these running.
fn node(machine: &Machine, running: &str) {
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
fn galera_is_ready_when_it_is_synced_and_says_what_is_lacking() {
    let status = |component: &str, state: &str, comment: &str, ready: &str| {
        format!(
            "wsrep_local_state\t{state}\nwsrep_local_state_comment\t{comment}\n\
             wsrep_cluster_status\t{component}\nwsrep_ready\t{ready}\n"
        )
    };
    let rows = [
        (status("Primary", "4", "Synced", "ON"), ""),
        (status("Primary", "3", "Joined", "ON"), "it is not Synced (it is Joined)"),
        (status("Primary", "2", "Donor/Desynced", "ON"), "it is not Synced (it is Donor/Desynced)"),
        (status("non-Primary", "4", "Synced", "ON"), "it is in no primary component (non-Primary)"),
        (status("Primary", "4", "Synced", "OFF"), "it takes no statements (wsrep_ready is OFF)"),
        (String::new(), "it is in no primary component (wsrep is off)"),
    ];
    for (answer, lacks) in rows {
        let machine = member(Some(&grastate(UUID, -1, 0)));
        machine.put("answers/mariadb", &answer);
        let data = machine.path("data").display().to_string();
        let out = machine.run("galera-ready", &[&data], &[]);
        assert_eq!((out.status.success(), text(&out.stderr).trim()), (lacks.is_empty(), lacks));
    }
    let machine = member(None);
    let data = machine.path("data").display().to_string();
    machine.put("answers/mariadb.status", "1");
    machine.put("answers/mariadb", "ERROR 2002 (HY000): no socket\n");
    let lacks = || text(&machine.run("galera-ready", &[&data], &[]).stderr).trim().to_owned();
    assert_eq!(lacks(), "the server does not answer: ERROR 2002 (HY000): no socket");
    machine.put("data/sst_in_progress", "");
    assert_eq!(lacks(), "the state transfer is not over");
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
fn galera_is_prepared_for_the_start_that_was_given_and_for_no_other() {
    const BY_HAND: (&str, &str) = ("_WSREP_NEW_CLUSTER", "--wsrep-new-cluster");
    let rows: [(Start, bool, Option<u8>); 7] = [
        (&[("CONVOKE_START", "alone"), BY_HAND], true, Some(1)),
        (&[("CONVOKE_START", "join")], true, Some(0)),
        (&[("CONVOKE_START", "resync")], true, None),
        // A bootstrap by hand, which `galera_new_cluster` or a sticky variable of PID 1 would make of a join.
        (&[("CONVOKE_START", "join"), BY_HAND], false, Some(0)),
        (&[("CONVOKE_START", "resync"), BY_HAND], false, Some(0)),
        (&[BY_HAND], false, Some(0)),
        (&[], false, Some(0)),
    ];
    for (environment, starts, safe) in rows {
        let machine = member(Some(&grastate(UUID, 7, 0)));
        machine.put("data/gvwstate.dat", "a view\n");
        let data = machine.path("data").display().to_string();
        let out = machine.run("galera-prepare", &[&data], environment);
        assert_eq!(out.status.success(), starts, "{environment:?}: {}", text(&out.stderr));
        let left = fs::read_to_string(machine.path("data/grastate.dat")).ok();
        assert_eq!(left, safe.map(|safe| grastate(UUID, 7, safe)), "{environment:?}");
        assert_eq!(machine.path("data/gvwstate.dat").exists(), !starts, "{environment:?}");
    }
}

#[test]
fn galera_removes_what_no_server_starts_on_by_the_word_for_a_resync_and_nothing_else() {
    const ALL: [&str; 5] = [".hidden", "grastate.dat", "ibdata1", "lost+found", "mysql"];
    // Without `grastate.dat`, and with nothing.
    let (anew, nothing) = ([ALL[0], ALL[2], ALL[3], ALL[4]], ["lost+found"]);
    let removed = |why: &str| {
        format!("is removed, to be copied anew, for the server does not start on it: [ERROR] {why}")
    };
    let kept = |why: &str| format!("its data is left as it is: [ERROR] {why}");
    /// Which start, how recovery fails, what is left, what is said.
    type Row<'a> = (&'a str, Option<(&'a str, &'a str)>, &'a [&'a str], String);
    let rows: [Row<'_>; 9] = [
        ("resync", None, &anew, String::new()),
        ("resync", Some((HALF_A_LOG, NO_INNODB)), &nothing, removed(HALF_A_LOG)),
        ("resync", Some((HALF_OF_ARIA, NO_ARIA)), &nothing, removed(HALF_OF_ARIA)),
        ("resync", Some((LOCKED, NO_INNODB)), &ALL, "another server has the data open".into()),
        ("resync", Some((FULL, NO_INNODB)), &ALL, kept(FULL)),
        ("resync", Some((SHUT, NO_INNODB)), &ALL, kept(SHUT)),
        ("resync", Some((SET, NO_INNODB)), &ALL, kept(SET)),
        ("resync", Some(("unknown variable", "[ERROR] Aborting")), &ALL, kept("unknown variable")),
        // Nobody has given that word.
        ("join", Some((HALF_A_LOG, NO_INNODB)), &ALL, String::new()),
    ];
    for (start, fails, left, says) in rows {
        let machine = member(Some(&grastate(UUID, 7, 0)));
        machine.put("data/.hidden", "x");
        fs::create_dir(machine.path("data/lost+found")).expect("made");
        // The directory by a name of its own, and another beside it.
        std::os::unix::fs::symlink(machine.path("data"), machine.path("link")).expect("a link");
        machine.put("beside", "x");
        if let Some((why, end)) = fails {
            machine.recovers(Err(&format!("{why}\n{end}")));
        }
        let link = machine.path("link").display().to_string();
        let out = machine.run("galera-prepare", &[&link], &[("CONVOKE_START", start)]);
        let (said, row) = (text(&out.stderr), format!("{start} {fails:?}"));
        assert!(said.contains(&says) && said.is_empty() == says.is_empty(), "{row}: {said}");
        assert!(said.lines().count() <= 1, "{row}: {said}");
        assert_eq!(out.status.success(), start == "join" || left != ALL, "{row}: {said}");
        let entries = fs::read_dir(machine.path("data")).expect("the directory");
        let mut found: Vec<_> =
            entries.map(|entry| entry.expect("read").file_name().into_string().expect("a name")).collect();
        found.sort_unstable();
        assert_eq!(found, left, "{row}");
        assert!(machine.path("link").exists() && machine.path("beside").exists(), "{row}");
        assert_eq!(machine.calls().contains("mariadbd "), start == "resync", "{row}");
    }
    // A member that was wiped has nothing to open.
    let machine = Machine::new();
    fs::create_dir_all(machine.path("data/lost+found")).expect("made");
    let data = machine.path("data").display().to_string();
    assert!(machine.run("galera-prepare", &[&data], &[("CONVOKE_START", "resync")]).status.success());
    assert_eq!(machine.calls(), "");
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
