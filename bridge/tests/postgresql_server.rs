//! The programs of the PostgreSQL recipe with the real server, where Debian's is installed: what stand-ins cannot show is how
//! `pg_controldata`, `pg_waldump` and `pg_rewind` speak. Where it is not, the test says `skipped` and shows nothing.
//!
//! Two servers that reach each other through sockets in their own folders; no ports are taken.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Programs of the newest version that is installed.
fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).filter(|path| path.join("bin/postgres").exists());
    newest.max_by_key(number).filter(|path| number(path).is_some())
}

/// Runs a program as somebody who may run a server.
fn as_server(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
    command
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout == b"0\n"
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Stands for systemd, which has started the server and knows its first process.
const SYSTEMCTL: &str = r#"#!/bin/sh
main() { [ -d "/proc/$(cat "$CONVOKE_PGRUN/main")" ] && cat "$CONVOKE_PGRUN/main"; }
case $* in
    *LoadState*) echo not-found ;;
    *MainPID*) main || echo 0 ;;
    *ControlGroup*) ;;
    kill*) kill -KILL "$(main)" ;;
    *) echo "$ROLE" ;;
esac
"#;

struct Room {
    dir: tempfile::TempDir,
    bin: PathBuf,
    version: String,
}

impl Room {
    fn new(installed: &Path) -> Room {
        let version = installed.file_name().expect("a version").to_string_lossy().into_owned();
        // A socket's path has room for a hundred letters.
        let dir = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").expect("scratch directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open to all");
        let room = Room { dir, bin: installed.join("bin"), version };
        let systemctl = room.path("systemctl");
        fs::write(&systemctl, SYSTEMCTL).expect("written");
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).expect("executable");
        for node in ["1", "2"] {
            let at = room.path(node);
            let conf = at.join(&room.version).join("main");
            fs::create_dir_all(&conf).expect("made");
            fs::write(at.join("hba"), "local all all trust\nlocal replication all trust\n").expect("written");
            fs::write(at.join("ident"), "").expect("written");
            let (at, peers) =
                (at.display(), format!("{},{}", room.path("1").display(), room.path("2").display()));
            let settings = format!(
                "data_directory = '{at}/data'\nhba_file = '{at}/hba'\nident_file = '{at}/ident'\n\
                 unix_socket_directories = '{at}'\nlisten_addresses = ''\nport = 5432\nwal_log_hints = on\n\
                 wal_keep_size = '128MB'\nwal_retrieve_retry_interval = '200ms'\nshared_buffers = '16MB'\n\
                 primary_conninfo = 'host={peers} user=replicator target_session_attrs=primary'\n"
            );
            fs::write(conf.join("postgresql.conf"), settings).expect("written");
        }
        if is_root() {
            let given = Command::new("chown").args(["-R", "postgres:"]).arg(room.path("")).status();
            assert!(given.expect("chown").success());
        }
        room
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// One of our programs on a node whose role is in this state.
    fn run(&self, node: &str, line: &[&str], role: &str) -> Output {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/libexec").join(line[0]);
        Command::new(program)
            .args(&line[1..])
            .arg(format!("{}-main", self.version))
            .env("PATH", format!("{}:/usr/bin:/bin", self.dir.path().display()))
            .env("ROLE", role)
            .env("CONVOKE_PGCONFIG", self.path(node))
            .env("CONVOKE_PGRUN", self.path(node))
            .env("CONVOKE_SEEN", self.path("seen").join(node))
            .output()
            .expect("run")
    }

    fn ok(&self, node: &str, line: &[&str], role: &str) -> String {
        let out = self.run(node, line, role);
        assert!(out.status.success(), "{line:?} on {node}: {}", text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Prepares a server and starts it; the answer is what was said meanwhile.
    fn start(&self, node: &str) -> String {
        let said = self.ok(node, &["postgresql-prepare"], "inactive");
        let config = self.path(node).join(&self.version).join("main/postgresql.conf");
        let started = self
            .control(node, "start")
            .arg(format!("--log={}", self.path(node).join("log").display()))
            .arg(format!("--options=-c config_file={}", config.display()))
            .status();
        assert!(started.expect("pg_ctl").success(), "{said}");
        let known = fs::read_to_string(self.path(node).join("data/postmaster.pid")).expect("a server");
        fs::write(self.path(node).join("main"), known.lines().next().expect("a process")).expect("written");
        said
    }

    fn stop(&self, node: &str, mode: &str) {
        let stopped = self.control(node, "stop").arg(format!("--mode={mode}")).status();
        assert!(stopped.expect("pg_ctl").success());
    }

    fn control(&self, node: &str, word: &str) -> Command {
        let mut command = as_server(self.bin.join("pg_ctl"));
        command.args([word, "--silent", "--wait"]);
        command.arg(format!("--pgdata={}", self.path(node).join("data").display()));
        command
    }

    fn sql(&self, node: &str, statement: &str) -> String {
        let out = as_server(self.bin.join("psql"))
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--dbname=postgres"])
            .arg(format!("--host={}", self.path(node).display()))
            .arg(format!("--command={statement}"))
            .output()
            .expect("psql");
        assert!(out.status.success(), "{statement} on {node}: {}", text(&out));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// Asks until the answer is this one.
    fn until(&self, what: &str, mut ask: impl FnMut() -> bool) {
        for _ in 0..300 {
            if ask() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("not within 30 s: {what}; {}", fs::read_to_string(self.path("1/log")).unwrap_or_default());
    }

    /// Timeline and position of a copy that has said them.
    fn rank(&self, node: &str, role: &str) -> i64 {
        let mut found = None;
        self.until("a rank", || {
            let line = text(&self.run(node, &["postgresql-rank"], role));
            found = line.strip_prefix("rank=").and_then(|rest| rest.split(' ').next()?.parse().ok());
            found.is_some()
        });
        found.expect("a rank")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for node in ["1", "2"] {
            let _ = self.control(node, "stop").arg("--mode=immediate").output();
        }
    }
}

#[test]
fn a_primary_that_was_lost_is_wound_back_and_follows_the_other() {
    let Some(installed) = installed() else {
        // Of a test that passes, cargo would not show what `eprintln!` says.
        let said = "skipped: there is no /usr/lib/postgresql/VERSION/bin/postgres (Debian: postgresql)";
        return writeln!(std::io::stderr(), "{said}").expect("stderr");
    };
    let room = Room::new(&installed);
    let made = as_server(room.bin.join("initdb"))
        .args(["--no-sync", "--auth=trust", "--no-instructions"])
        .arg(format!("--pgdata={}", room.path("1/data").display()))
        .output()
        .expect("initdb");
    assert!(made.status.success(), "{}", text(&made));

    // A server of its own starts as a standby; the role makes it the primary.
    assert!(room.start("1").contains("there is no primary"));
    let before = room.rank("1", "inactive");
    room.ok("1", &["postgresql-primary", "promote"], "activating");
    assert!(room.rank("1", "active") > before, "a new history is above all of the one before");
    room.sql("1", "CREATE TABLE t (n int); CREATE ROLE replicator LOGIN REPLICATION");
    room.sql(
        "1",
        "GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), \
         pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO replicator",
    );

    // The other one has nothing, and copies.
    assert!(room.start("2").contains("pg_basebackup begins"));
    room.sql("1", "INSERT INTO t VALUES (1)");
    room.until("2 has the row", || room.sql("2", "SELECT n FROM t") == "1");
    room.ok("2", &["postgresql-check"], "inactive");
    // A primary that writes nothing is one all the same, and may write in a moment.
    let silent = text(&room.run("2", &["postgresql-rank"], "inactive"));
    assert!(silent.contains(&format!("there is a primary at {}", room.path("1").display())), "{silent}");
    assert!(text(&room.run("1", &["postgresql-check"], "inactive")).contains("does not hold"));

    // The first writes what nobody else has, and is lost; the other takes over.
    room.stop("2", "fast");
    room.sql("1", "INSERT INTO t VALUES (2)");
    room.stop("1", "immediate");
    room.start("2");
    let followed = room.rank("2", "inactive");
    room.ok("2", &["postgresql-primary", "promote"], "activating");
    room.sql("2", "CHECKPOINT; INSERT INTO t VALUES (3)");
    assert!(room.rank("2", "active") > followed);
    let began = std::time::Instant::now();
    let hangs = as_signal(&room, "2", "STOP");
    assert!(
        text(&room.run("2", &["postgresql-primary", "gone"], "inactive")).contains("may still be a primary")
    );
    as_signal(&room, "2", "CONT");
    assert!(hangs && began.elapsed().as_secs() < 5, "{:?}", began.elapsed());

    // A server that started before there was a primary again has its branch, and is found.
    fs::rename(room.path("2/.s.PGSQL.5432"), room.path("2/away")).expect("cut off");
    assert!(room.start("1").contains("there is no primary"));
    let lost = room.rank("1", "inactive");
    assert!(lost < next_history(followed), "what was lost is not above the new history");
    fs::rename(room.path("2/away"), room.path("2/.s.PGSQL.5432")).expect("healed");
    // It streams again and again for a moment, until it is told that it cannot.
    room.until("the branch is found", || {
        let found = room.run("1", &["postgresql-check"], "inactive");
        text(&found).contains("which the primary's history has left at")
    });

    // It is started anew, wound back, and follows.
    room.stop("1", "fast");
    let said = room.start("1");
    assert!(said.contains("pg_rewind begins") && !said.contains("pg_basebackup"), "{said}");
    room.until("1 follows 2", || room.sql("1", "SELECT n FROM t ORDER BY n") == "1\n3");
    room.ok("1", &["postgresql-check"], "inactive");

    // A primary that is demoted comes back as a standby with all it had.
    room.ok("2", &["postgresql-primary", "demote"], "deactivating");
    room.start("2");
    assert_eq!(room.rank("1", "inactive"), room.rank("2", "inactive"));

    // Its directory is moved away while it runs: that ends no server.
    room.ok("2", &["postgresql-primary", "promote"], "activating");
    fs::rename(room.path("2/data"), room.path("2/moved")).expect("moved");
    assert!(
        text(&room.run("2", &["postgresql-primary", "gone"], "inactive")).contains("may still be a primary")
    );
    room.ok("2", &["postgresql-primary", "demote"], "deactivating");
    room.ok("2", &["postgresql-primary", "gone"], "inactive");
    assert!(!as_signal(&room, "2", "0"), "the server runs");
}

/// Sends a signal to the first process of the server that was started last.
fn as_signal(room: &Room, node: &str, signal: &str) -> bool {
    let main = fs::read_to_string(room.path(node).join("main")).expect("a server was started");
    let sent =
        Command::new("kill").args(["-s", signal]).arg(main).stderr(std::process::Stdio::null()).status();
    sent.expect("kill").success()
}

/// The lowest rank of the history that follows.
fn next_history(rank: i64) -> i64 {
    ((rank >> 48) + 1) << 48
}
