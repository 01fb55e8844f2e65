use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;

/// A machine whose systemd-creds does what the encrypted file says.
fn machine_with(files: &[(&str, &str, u32)]) -> (TempDir, Secrets) {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(root.path().join("usr/bin")).expect("a directory");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/src/secrets/samples/systemd-creds");
    symlink(program, root.path().join(PROGRAM)).expect("a link");
    for (path, text, mode) in files {
        put(root.path(), path, text, *mode);
    }
    let secrets = Secrets { root: root.path().to_owned(), limit: LIMIT };
    (root, secrets)
}

fn put(root: &Path, path: &str, text: &str, mode: u32) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn a_secret_is_an_absolute_path_or_the_name_of_a_credential() {
    let long = "a".repeat(NAME_MAX);
    for name in ["bmc", "convoke.bmc", "convoke.bmc-n1_2", "1", &long] {
        assert_eq!(Source::parse(&format!("credential:{name}")), Ok(Source::Credential(name)));
    }
    assert_eq!(Source::parse("/a/b:c"), Ok(Source::File(Path::new("/a/b:c"))));
    for text in ["", "bmc", "hunter2", "a/b", "Credential:bmc", "credential", " /a"] {
        assert_eq!(Source::parse(text), Err(SourceError::Neither), "{text}");
    }
    let longer = format!("{long}a");
    for name in ["", ".", "..", ".bmc", "-bmc", "a/b", "/etc/passwd", "a b", "a;b", "a:b", "ä", &longer] {
        assert_eq!(Source::parse(&format!("credential:{name}")), Err(SourceError::Name), "{name}");
    }
}

#[tokio::test]
async fn a_file_that_others_can_read_is_refused() {
    let (root, secrets) = machine_with(&[]);
    let path = root.path().join("secret");
    let source = path.to_string_lossy();
    for mode in [0o640, 0o604, 0o660] {
        put(root.path(), "secret", "s3cret\n", mode);
        let refused = secrets.read(&source).await.expect_err("refused").to_string();
        let expected = format!(
            "the secret's file {source} on {} can be read by others than root; run `chmod 600 {source}` there",
            machine()
        );
        assert_eq!(refused, expected, "{mode:o}");
    }
    put(root.path(), "secret", "s3cret\n", 0o400);
    assert_eq!(secrets.read(&source).await.expect("read"), "s3cret");
    assert!(secrets.read("secret").await.is_err(), "relative");
    // The alarm stands on every node, and the file is missing on one.
    let missing = secrets.read("/nonexistent").await.expect_err("there is none");
    assert!(missing.what.contains(&format!("cannot be read on {}: ", machine())), "{missing}");
}

#[tokio::test]
async fn a_secret_is_one_line_of_text() {
    let (root, secrets) = machine_with(&[]);
    let source = root.path().join("secret").to_string_lossy().into_owned();
    for (text, found) in [("a\n", Ok("a")), ("a b\r\n", Ok("a b")), ("\n", Err("is empty"))] {
        put(root.path(), "secret", text, 0o600);
        match (secrets.read(&source).await, found) {
            (Ok(secret), Ok(expected)) => assert_eq!(secret, expected),
            (Err(error), Err(expected)) => assert!(error.what.ends_with(expected), "{error}"),
            (read, _) => panic!("{text:?}: {read:?}"),
        }
    }
    for (kind, expected) in
        [("lines", "has more than one line"), ("bytes", "holds no text"), ("none", "is empty")]
    {
        put(root.path(), "etc/credstore.encrypted/c", kind, 0o600);
        let error = secrets.read("credential:c").await.expect_err(kind);
        assert!(error.what.ends_with(&format!("{} {expected}", machine())), "{error}");
        assert!(error.remedy.contains("--name=c - "), "{error}");
    }
}

/// From the last place to the first, each more important than the one before it; and nothing is remembered.
#[tokio::test]
async fn a_credential_is_looked_for_anew_at_each_use_where_systemd_looks() {
    let (root, secrets) = machine_with(&[]);
    for (path, text, secret) in [
        ("run/credentials/convoked.service/c", "given at the start", "given at the start"),
        ("run/credstore/c", "of this boot\n", "of this boot"),
        ("etc/credstore/c", "clear\n", "clear"),
        ("run/credstore.encrypted/c", "good", "secret of c"),
        ("etc/credstore.encrypted/c", "lines", "two lines"),
    ] {
        put(root.path(), path, text, 0o600);
        let read = secrets.read("credential:c").await;
        match secret {
            "two lines" => {
                assert!(read.is_err_and(|error| error.what.contains("/etc/credstore.encrypted/c")))
            }
            _ => assert_eq!(read.as_deref(), Ok(secret), "{path}"),
        }
    }
    put(root.path(), "etc/credstore.encrypted/c", "good", 0o644);
    assert_eq!(secrets.read("credential:c").await.as_deref(), Ok("secret of c"));
}

#[tokio::test]
async fn a_credential_that_is_not_there_is_told_with_its_places_and_the_remedy() {
    let (root, secrets) = machine_with(&[("etc/credstore/other", "x", 0o600)]);
    let error = secrets.read("credential:convoke.bmc").await.expect_err("there is none");
    let root = root.path().display();
    let what = format!(
        "there is no credential convoke.bmc on {}, in none of {root}/etc/credstore.encrypted, {root}/run/credstore.encrypted, \
         {root}/etc/credstore, {root}/run/credstore, {root}/run/credentials/convoked.service",
        machine()
    );
    let run = format!(
        "systemd-ask-password -n | systemd-creds encrypt --name=convoke.bmc - {root}/etc/credstore.encrypted/convoke.bmc` there"
    );
    let make = format!("run `mkdir -m 700 {root}/etc/credstore.encrypted && {run}");
    assert_eq!(error, Unreadable { what: what.clone(), remedy: make });
    fs::create_dir(secrets.root.join(ENCRYPTED)).expect("a store");
    let error = secrets.read("credential:convoke.bmc").await.expect_err("there is none");
    assert_eq!(error, Unreadable { what, remedy: format!("run `{run}") });
}

#[tokio::test]
async fn who_else_can_read_a_clear_credential_or_write_an_encrypted_one_is_told() {
    for (path, text, mode, refused) in [
        ("etc/credstore/c", "x", 0o644, Some("chmod 600")),
        ("run/credstore/c", "x", 0o640, Some("chmod 600")),
        ("run/credentials/convoked.service/c", "x", 0o400, None),
        ("etc/credstore.encrypted/c", "good", 0o644, None),
        ("etc/credstore.encrypted/c", "good", 0o664, Some("chmod go-w")),
        ("run/credstore.encrypted/c", "good", 0o602, Some("chmod go-w")),
    ] {
        let (root, secrets) = machine_with(&[(path, text, mode)]);
        let read = secrets.read("credential:c").await;
        let remedy = refused.map(|run| format!("run `{run} {}` there", root.path().join(path).display()));
        assert_eq!(read.map_err(|error| error.remedy).err(), remedy, "{path} {mode:o}");
    }
}

#[tokio::test]
async fn what_cannot_be_decrypted_is_told_without_what_was_printed() {
    let path = "etc/credstore.encrypted/c";
    let (root, mut secrets) = machine_with(&[(path, "foreign", 0o600)]);
    let shown = root.path().join(path).display().to_string();
    let begins = format!("the credential {shown} cannot be decrypted on {}: ", machine());
    let foreign = secrets.read("credential:c").await.expect_err("another machine's");
    assert_eq!(foreign.what, format!("{begins}Decryption failed (incorrect key?)"));
    assert!(
        foreign.remedy.starts_with("only the machine that encrypted it can decrypt it: run `"),
        "{foreign}"
    );
    put(root.path(), path, "mute", 0o600);
    let mute = secrets.read("credential:c").await.expect_err("it failed");
    assert_eq!(mute.what, format!("{begins}exit status: 1"));
    put(root.path(), path, "slow", 0o600);
    secrets.limit = Duration::from_millis(300);
    let slow = secrets.read("credential:c").await.expect_err("it hangs");
    assert_eq!(slow.what, format!("{begins}systemd-creds: it did not answer within 0.3 s"));
    assert_eq!(slow.remedy, format!("try `systemd-creds --name=c decrypt {shown} - >/dev/null` there"));
    fs::remove_file(root.path().join(PROGRAM)).expect("removed");
    let absent = secrets.read("credential:c").await.expect_err("no program");
    assert!(
        absent.what.contains("usr/bin/systemd-creds") && absent.remedy.contains("systemd 250"),
        "{absent}"
    );
}
