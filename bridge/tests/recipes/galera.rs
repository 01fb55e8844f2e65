//! Of MariaDB with Galera: what its data is worth, when it is ready, and how it is prepared for a start.

use std::fs;

use super::machine::{Machine, text};
use super::{Row, Start, is, judge};

pub(crate) const UUID: &str = "3adedb4a-eae4-11f1-9c2b-9eccf376dae0";
const OTHER: &str = "99999999-eae4-11f1-9c2b-9eccf376dae0";
pub(crate) const NONE: &str = "00000000-0000-0000-0000-000000000000";

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

pub(crate) fn grastate(uuid: &str, seqno: i64, safe: u8) -> String {
    format!(
        "# GALERA saved state\nversion: 2.1\nuuid:    {uuid}\nseqno:   {seqno}\nsafe_to_bootstrap: {safe}\n"
    )
}

/// A data directory of MariaDB with a `grastate.dat`.
pub(crate) fn member(state: Option<&str>) -> Machine {
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
        assert_eq!(text(&out.stdout), "");
    }
    // What it serves is the data that `galera-position` would name.
    for (ready, said) in [("ON", format!("identity={UUID}")), ("OFF", String::new())] {
        let machine = member(Some(&grastate(UUID, -1, 0)));
        let answer = status("Primary", "4", "Synced", ready) + &format!("wsrep_local_state_uuid\t{UUID}\n");
        machine.put("answers/mariadb", &answer);
        let data = machine.path("data").display().to_string();
        assert_eq!(text(&machine.run("galera-ready", &[&data], &[]).stdout), said);
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
