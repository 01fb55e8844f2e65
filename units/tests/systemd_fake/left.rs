//! What is still there of a unit, and what is killed of it.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use units::systemd::{Left, Remembered};

use crate::fake::{Unit, bounded, nowhere, pair};

/// A control group tree with one populated group.
fn tree(populated: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cgroup.controllers"), "").unwrap();
    let group = root.path().join(populated);
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("cgroup.events"), "populated 1\n").unwrap();
    fs::write(group.join("cgroup.procs"), "4000000000\n").unwrap();
    root
}

fn down() -> Unit {
    Unit { active: "inactive", sub: "dead", result: "success", slice: "system.slice", ..Unit::default() }
}

#[tokio::test]
async fn what_is_still_there_is_named() {
    let root = tree("odd/left.service");
    fs::create_dir_all(root.path().join("system.slice/usual.service")).unwrap();
    fs::write(root.path().join("system.slice/usual.service/cgroup.events"), "populated 1\n").unwrap();
    let units = HashMap::from([
        ("clean.service", down()),
        ("failed.service", Unit { active: "failed", sub: "failed", result: "timeout", ..down() }),
        ("up.service", Unit { active: "active", sub: "running", ..down() }),
        ("loop.service", Unit { active: "activating", sub: "auto-restart", result: "exit-code", ..down() }),
        ("queued.service", Unit { job: 3, ..down() }),
        ("left.service", Unit { active: "failed", sub: "failed", result: "timeout", ..down() }),
        ("usual.service", down()),
        ("a.target", Unit { consists_of: vec!["convoke-gate@a.target.service", "b.target"], ..down() }),
        ("b.target", Unit { consists_of: vec!["a.target", "up.service"], ..down() }),
        (
            "good.target",
            Unit { consists_of: vec!["clean.service", "convoke-gate@good.target.service"], ..down() },
        ),
    ]);
    let (systemd, _signals, mut fake) = pair(root.path()).await;
    tokio::spawn(async move { fake.serve(&units).await });
    let mut remembered = Remembered::default();
    remembered.groups.entry("left.service".into()).or_default().insert("/odd/left.service".into());

    let verdict = async |unit: &str| match bounded(systemd.gone(unit, &remembered)).await {
        Ok(gone) => format!("gone with {}, parts {:?}", gone.reading.result, gone.parts),
        Err(still) => still.to_string(),
    };
    assert_eq!(verdict("clean.service").await, "gone with success, parts []");
    assert_eq!(verdict("failed.service").await, "gone with timeout, parts []");
    assert_eq!(verdict("up.service").await, "it is active/running");
    assert_eq!(
        verdict("loop.service").await,
        "systemd is about to restart it (auto-restart); Result=exit-code"
    );
    assert_eq!(verdict("queued.service").await, "it has job 3");
    assert_eq!(
        verdict("left.service").await,
        "1 process left in /odd/left.service: pid 4000000000 (); Result=timeout"
    );
    assert_eq!(verdict("usual.service").await, "processes left in /system.slice/usual.service");
    assert_eq!(verdict("a.target").await, "up.service (part of a.target): it is active/running");
    assert_eq!(verdict("good.target").await, "gone with success, parts [\"clean.service\"]");
}

#[tokio::test]
async fn a_job_that_waits_hides_nothing_of_what_is_left() {
    let root = tree("system.slice/left.service");
    let units = HashMap::from([
        ("left.service", Unit { job: 3, ..down() }),
        ("a.target", Unit { job: 4, consists_of: vec!["up.service"], ..down() }),
        ("up.service", Unit { active: "active", sub: "running", ..down() }),
    ]);
    let (systemd, _signals, mut fake) = pair(root.path()).await;
    tokio::spawn(async move { fake.serve(&units).await });
    let verdict =
        async |unit: &str| bounded(systemd.gone(unit, &Remembered::default())).await.unwrap_err().to_string();
    assert_eq!(
        verdict("left.service").await,
        "1 process left in /system.slice/left.service: pid 4000000000 ()"
    );
    assert_eq!(verdict("a.target").await, "up.service (part of a.target): it is active/running");
}

#[tokio::test]
async fn what_a_unit_left_before_anybody_looked_is_killed_too() {
    let root = tree("system.slice/left.service");
    let units = HashMap::from([("left.service", down())]);
    let (systemd, _signals, mut fake) = pair(root.path()).await;
    tokio::spawn(async move { fake.serve(&units).await });
    let (_, remembered) = bounded(systemd.remember("left.service")).await.unwrap();
    // The tree is no kernel's: the group stays populated, but it was asked to end.
    assert!(!bounded(systemd.kill_group(&remembered, Duration::ZERO)).await.unwrap());
    let killed = root.path().join("system.slice/left.service/cgroup.kill");
    assert!(!killed.exists(), "no time, no kill");
    assert!(!bounded(systemd.kill_group(&remembered, Duration::from_millis(5))).await.unwrap());
    assert!(killed.exists());
}

#[tokio::test]
async fn what_cannot_be_read_is_not_gone() {
    let (systemd, _signals, mut fake) = pair(nowhere()).await;
    let units = HashMap::from([("clean.service", down())]);
    tokio::spawn(async move { fake.serve(&units).await });
    let still = bounded(systemd.gone("clean.service", &Remembered::default())).await.unwrap_err();
    assert!(matches!(still.why, Left::Unknown(_)), "no control groups can be seen here: {still}");
}
