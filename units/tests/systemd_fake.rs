//! The driver against a manager on a socket pair that says what it likes, in the order it likes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc::Receiver;
use units::systemd::{Cgroups, Error, JobKind, JobResult, Left, Link, Remembered, Signal, Systemd};
use zbus::message::Type;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, Message, MessageStream, connection};

const MANAGER: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
/// Longest wait of a test; nothing here waits for anything real.
const LONG: Duration = Duration::from_secs(10);

/// PID 1's side of the socket.
struct Fake {
    connection: Connection,
    calls: MessageStream,
}

impl Fake {
    /// The next call of that name, others being answered with an error as real ones could be.
    async fn call(&mut self, member: &str) -> Message {
        loop {
            let message = self.calls.next().await.unwrap().unwrap();
            let header = message.header();
            if header.message_type() != Type::MethodCall {
                continue;
            }
            if header.member().is_some_and(|name| name == member) {
                return message.clone();
            }
            self.refuse(&message).await;
        }
    }

    async fn refuse(&self, call: &Message) {
        let name = "org.freedesktop.DBus.Error.UnknownMethod";
        self.connection.reply_error(&call.header(), name, &"no").await.unwrap();
    }

    async fn reply<B: serde::Serialize + zbus::zvariant::DynamicType>(&self, call: &Message, body: &B) {
        self.connection.reply(&call.header(), body).await.unwrap();
    }

    async fn reply_job(&self, call: &Message, id: u32) {
        self.reply(call, &job_path(id)).await;
    }

    async fn signal<B: serde::Serialize + zbus::zvariant::DynamicType>(&self, member: &str, body: &B) {
        self.connection.emit_signal(None::<&str>, MANAGER, INTERFACE, member, body).await.unwrap();
    }

    async fn job_new(&self, id: u32, unit: &str) {
        self.signal("JobNew", &(id, job_path(id), unit)).await;
    }

    async fn job_removed(&self, id: u32, unit: &str, result: &str) {
        self.signal("JobRemoved", &(id, job_path(id), unit, result)).await;
    }

    /// Answers reads of units from a table until the other side is done.
    async fn serve(&mut self, units: &HashMap<&str, Unit>) {
        while let Some(Ok(message)) = self.calls.next().await {
            let header = message.header();
            if header.message_type() != Type::MethodCall {
                continue;
            }
            match header.member().map(|name| name.as_str()) {
                Some("LoadUnit") => {
                    let name: String = message.body().deserialize().unwrap();
                    self.reply(&message, &unit_path(&name)).await;
                }
                Some("GetAll") => {
                    let path = header.path().unwrap().to_string();
                    let name = path.rsplit('/').next().unwrap().replace("_2e", ".");
                    match units.get(name.as_str()) {
                        Some(unit) => self.reply(&message, &unit.properties(&name)).await,
                        // A job that has gone meanwhile.
                        None => self.refuse(&message).await,
                    }
                }
                _ => self.refuse(&message).await,
            }
        }
    }
}

#[derive(Default)]
struct Unit {
    active: &'static str,
    sub: &'static str,
    result: &'static str,
    job: u32,
    group: &'static str,
    consists_of: Vec<&'static str>,
    slice: &'static str,
}

impl Unit {
    fn properties(&self, name: &str) -> HashMap<&'static str, OwnedValue> {
        let mut all: HashMap<&'static str, Value<'_>> = HashMap::new();
        for (key, value) in [
            ("Id", name),
            ("LoadState", "loaded"),
            ("ActiveState", self.active),
            ("SubState", self.sub),
            ("Result", self.result),
            ("ControlGroup", self.group),
            ("Slice", self.slice),
        ] {
            all.insert(key, Value::from(value.to_owned()));
        }
        all.insert("Job", Value::from((self.job, job_path(self.job))));
        all.insert("ConsistsOf", Value::from(self.consists_of.clone()));
        all.into_iter().map(|(key, value)| (key, value.try_to_owned().unwrap())).collect()
    }
}

fn job_path(id: u32) -> OwnedObjectPath {
    OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{id}")).unwrap()
}

fn unit_path(name: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/unit/{}", name.replace('.', "_2e"))).unwrap()
}

/// Both sides, after the driver has subscribed.
async fn pair(cgroups: &Path) -> (Systemd, Receiver<Signal>, Fake) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guid = zbus::Guid::generate();
    let server = connection::Builder::unix_stream(theirs).server(guid).unwrap().p2p().build();
    let client = connection::Builder::unix_stream(ours).p2p().build();
    let (server, client) = tokio::join!(server, client);
    let (connection, client) = (server.unwrap(), client.unwrap());
    let mut fake = Fake { calls: MessageStream::from(&connection), connection };
    let attach = Systemd::attach(client, Link::Private, Cgroups::below(cgroups));
    let ((systemd, signals), ()) = tokio::join!(async { attach.await.unwrap() }, async {
        let call = fake.call("Subscribe").await;
        fake.reply(&call, &()).await;
    });
    (systemd, signals, fake)
}

fn nowhere() -> &'static Path {
    Path::new("/nonexistent")
}

/// Every test has an end.
async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("the test hangs")
}

async fn next(signals: &mut Receiver<Signal>) -> Signal {
    bounded(signals.recv()).await.expect("no more signals")
}

/// A signal without its time.
fn shown(signal: &Signal) -> String {
    match signal {
        Signal::JobNew { id, kind, ours, .. } => format!("new {id} {kind:?} ours={ours}"),
        Signal::JobRemoved { id, result, ours, .. } => format!("removed {id} {result} ours={ours}"),
        Signal::UnitChanged { unit, active_state, sub_state } => {
            format!(
                "changed {unit} {} {}",
                active_state.as_deref().unwrap_or("-"),
                sub_state.as_deref().unwrap_or("-")
            )
        }
        other => format!("{other:?}"),
    }
}

/// Answers to the question for a job's type; `None` says that the job has gone.
async fn tell_kind(fake: &mut Fake, kind: Option<&str>) {
    let call = fake.call("Get").await;
    match kind {
        Some(kind) => fake.reply(&call, &Value::from(kind)).await,
        None => fake.refuse(&call).await,
    }
}

#[tokio::test]
async fn a_job_that_ends_before_its_reply_is_still_ours() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let (end, ()) = bounded(async {
        tokio::join!(systemd.start("a.service", LONG), async {
            let call = fake.call("StartUnit").await;
            fake.job_new(7, "a.service").await;
            fake.job_removed(7, "a.service", "done").await;
            fake.reply_job(&call, 7).await;
            tell_kind(&mut fake, None).await;
        })
    })
    .await;
    let end = end.unwrap();
    assert_eq!((end.job, end.result), (7, JobResult::Done));
    assert_eq!(shown(&next(&mut signals).await), "new 7 Some(Start) ours=true");
    assert_eq!(shown(&next(&mut signals).await), "removed 7 done ours=true");
}

#[tokio::test]
async fn foreign_jobs_beside_ours_stay_foreign_and_in_order() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let (end, ()) = bounded(async {
        tokio::join!(systemd.stop("a.service", LONG), async {
            let call = fake.call("StopUnit").await;
            fake.job_new(5, "a.service").await;
            fake.job_removed(5, "a.service", "canceled").await;
            fake.job_new(6, "a.service").await;
            fake.job_new(8, "b.service").await;
            fake.reply_job(&call, 6).await;
            fake.job_removed(8, "b.service", "failed").await;
            fake.job_removed(6, "a.service", "timeout").await;
            for kind in ["start", "stop", "restart"] {
                tell_kind(&mut fake, Some(kind)).await;
            }
        })
    })
    .await;
    assert_eq!(end.unwrap().result, JobResult::Timeout, "the end of another job was taken for ours");
    let mut heard = Vec::new();
    for _ in 0..6 {
        heard.push(shown(&next(&mut signals).await));
    }
    assert_eq!(heard[..2], ["new 5 Some(Start) ours=false", "removed 5 canceled ours=false"]);
    assert_eq!(heard[2..4], ["new 6 Some(Stop) ours=true", "new 8 Some(Restart) ours=false"]);
    assert_eq!(heard[4..], ["removed 8 failed ours=false", "removed 6 timeout ours=true"]);
}

#[tokio::test]
async fn a_wait_has_the_bound_of_its_caller() {
    let (systemd, _signals, mut fake) = pair(nowhere()).await;
    let (end, _call) = bounded(async {
        tokio::join!(systemd.start("a.service", Duration::from_millis(50)), async {
            let call = fake.call("StartUnit").await;
            fake.reply_job(&call, 7).await;
            call
        })
    })
    .await;
    assert!(matches!(end, Err(Error::Unfinished { job: 7, .. })), "{end:?}");
}

#[tokio::test]
async fn a_refused_start_says_why_and_holds_no_signal_back() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let (end, ()) = bounded(async {
        tokio::join!(systemd.start("a.service", LONG), async {
            let call = fake.call("StartUnit").await;
            fake.job_new(9, "b.service").await;
            let name = "org.freedesktop.systemd1.UnitMasked";
            fake.connection.reply_error(&call.header(), name, &"Unit a.service is masked.").await.unwrap();
            tell_kind(&mut fake, Some("start")).await;
        })
    })
    .await;
    let error = end.unwrap_err();
    assert!(error.is_refusal("UnitMasked"), "{error}");
    assert!(error.to_string().contains("a.service is masked"), "{error}");
    assert_eq!(shown(&next(&mut signals).await), "new 9 Some(Start) ours=false");
}

#[tokio::test]
async fn a_caller_that_gives_up_holds_no_signal_back() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let caller = tokio::spawn(async move {
        let _ = systemd.start("a.service", LONG).await;
    });
    let _call = bounded(fake.call("StartUnit")).await;
    fake.job_new(9, "b.service").await;
    bounded(tell_kind(&mut fake, Some("stop"))).await;
    let early = tokio::time::timeout(Duration::from_millis(50), signals.recv()).await;
    assert!(early.is_err(), "told before anybody knows whose job it is");
    // The handle goes with its task; the ear ends after it told what it had.
    caller.abort();
    let told = bounded(signals.recv()).await;
    assert!(told.is_none_or(|signal| shown(&signal) == "new 9 Some(Stop) ours=false"));
}

#[tokio::test]
async fn a_manager_that_hangs_is_noticed_within_the_bound() {
    let (systemd, _signals, mut fake) = pair(nowhere()).await;
    let (answer, _call) =
        bounded(async { tokio::join!(systemd.answers(Duration::from_millis(50)), fake.call("Ping")) }).await;
    assert!(matches!(answer, Err(Error::Silent { .. })), "{answer:?}");
    let (answer, ()) = bounded(async {
        tokio::join!(systemd.answers(LONG), async {
            let call = fake.call("Ping").await;
            fake.reply(&call, &()).await;
        })
    })
    .await;
    answer.unwrap();
}

#[tokio::test]
async fn a_lost_connection_ends_every_wait_and_is_told_once_and_last() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let job = tokio::spawn({
        let systemd = systemd.clone();
        async move { systemd.start("a.service", LONG).await }
    });
    let call = bounded(fake.call("StartUnit")).await;
    fake.reply_job(&call, 7).await;
    let question = tokio::spawn({
        let systemd = systemd.clone();
        async move { systemd.read("b.service").await }
    });
    bounded(fake.call("LoadUnit")).await;
    fake.job_new(7, "a.service").await;
    fake.signal("Reloading", &true).await;
    fake.connection.close().await.unwrap();
    drop(fake.calls);
    assert!(matches!(bounded(job).await.unwrap(), Err(Error::Disconnected)));
    assert!(matches!(bounded(question).await.unwrap(), Err(Error::Disconnected)));
    let mut heard = Vec::new();
    while let Some(signal) = bounded(signals.recv()).await {
        heard.push(shown(&signal));
    }
    assert_eq!(heard.last().map(String::as_str), Some("Disconnected"));
    assert_eq!(heard.iter().filter(|text| *text == "Disconnected").count(), 1);
    assert!(heard.contains(&"Reloading(true)".to_owned()), "what was heard before is told: {heard:?}");
    assert!(
        matches!(systemd.start("a.service", LONG).await, Err(Error::Disconnected)),
        "the old handle lives"
    );
}

#[tokio::test]
async fn an_owner_that_does_not_listen_loses_nothing_and_delays_nobody() {
    const FLOOD: u32 = 5_000;
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    let (end, ()) = bounded(async {
        tokio::join!(systemd.start("a.service", LONG), async {
            for id in 100..100 + FLOOD {
                fake.job_removed(id, "b.service", "done").await;
            }
            let call = fake.call("StartUnit").await;
            fake.reply_job(&call, 7).await;
            fake.job_removed(7, "a.service", "done").await;
        })
    })
    .await;
    assert_eq!(end.unwrap().job, 7, "the owner must not be needed for a job to end");
    for id in 100..100 + FLOOD {
        assert_eq!(shown(&next(&mut signals).await), format!("removed {id} done ours=false"));
    }
    assert_eq!(shown(&next(&mut signals).await), "removed 7 done ours=true");
}

#[tokio::test]
async fn only_watched_units_tell_their_changes() {
    let (systemd, mut signals, mut fake) = pair(nowhere()).await;
    bounded(async {
        tokio::join!(async { systemd.watch("a.service").await.unwrap() }, async {
            let call = fake.call("LoadUnit").await;
            fake.reply(&call, &unit_path("a.service")).await;
            let call = fake.call("RefUnit").await;
            let name = "org.freedesktop.DBus.Error.NotSupported";
            fake.connection.reply_error(&call.header(), name, &"no references here").await.unwrap();
        })
    })
    .await;
    let changed =
        HashMap::from([("ActiveState", Value::from("active")), ("SubState", Value::from("running"))]);
    let nothing: Vec<String> = Vec::new();
    for (unit, interface) in [("b.service", "Unit"), ("a.service", "Service"), ("a.service", "Unit")] {
        let body = (format!("org.freedesktop.systemd1.{interface}"), &changed, &nothing);
        let path: ObjectPath<'_> = unit_path(unit).into();
        let properties = "org.freedesktop.DBus.Properties";
        fake.connection
            .emit_signal(None::<&str>, path, properties, "PropertiesChanged", &body)
            .await
            .unwrap();
    }
    fake.signal("Reloading", &false).await;
    assert_eq!(shown(&next(&mut signals).await), "changed a.service active running");
    assert_eq!(shown(&next(&mut signals).await), "Reloading(false)");
}

#[tokio::test]
async fn kinds_are_read_and_unknown_ones_are_none() {
    let (_systemd, mut signals, mut fake) = pair(nowhere()).await;
    for (id, kind, wanted) in [
        (1, Some("stop"), Some(JobKind::Stop)),
        (2, Some("try-restart"), Some(JobKind::Restart)),
        (3, Some("levitate"), None),
        (4, None, None),
    ] {
        fake.job_new(id, "a.service").await;
        bounded(tell_kind(&mut fake, kind)).await;
        let signal = next(&mut signals).await;
        assert_eq!(shown(&signal), format!("new {id} {wanted:?} ours=false"));
    }
}

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
