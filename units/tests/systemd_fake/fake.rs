//! PID 1's side of a socket pair, played by the test.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc::Receiver;
use units::systemd::{Cgroups, Link, Signal, Systemd};
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, Message, MessageStream, connection};

pub(crate) const MANAGER: &str = "/org/freedesktop/systemd1";
pub(crate) const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
/// Longest wait of a test; nothing here waits for anything real.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// PID 1's side of the socket.
pub(crate) struct Fake {
    pub(crate) connection: Connection,
    pub(crate) calls: MessageStream,
}

impl Fake {
    /// The next call of that name, others being answered with an error as real ones could be.
    pub(crate) async fn call(&mut self, member: &str) -> Message {
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

    pub(crate) async fn refuse(&self, call: &Message) {
        let name = "org.freedesktop.DBus.Error.UnknownMethod";
        self.connection.reply_error(&call.header(), name, &"no").await.unwrap();
    }

    pub(crate) async fn reply<B: serde::Serialize + zbus::zvariant::DynamicType>(
        &self,
        call: &Message,
        body: &B,
    ) {
        self.connection.reply(&call.header(), body).await.unwrap();
    }

    pub(crate) async fn reply_job(&self, call: &Message, id: u32) {
        self.reply(call, &job_path(id)).await;
    }

    pub(crate) async fn signal<B: serde::Serialize + zbus::zvariant::DynamicType>(
        &self,
        member: &str,
        body: &B,
    ) {
        self.connection.emit_signal(None::<&str>, MANAGER, INTERFACE, member, body).await.unwrap();
    }

    pub(crate) async fn job_new(&self, id: u32, unit: &str) {
        self.signal("JobNew", &(id, job_path(id), unit)).await;
    }

    pub(crate) async fn job_removed(&self, id: u32, unit: &str, result: &str) {
        self.signal("JobRemoved", &(id, job_path(id), unit, result)).await;
    }

    /// Answers reads of units from a table until the other side is done.
    pub(crate) async fn serve(&mut self, units: &HashMap<&str, Unit>) {
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
pub(crate) struct Unit {
    pub(crate) active: &'static str,
    pub(crate) sub: &'static str,
    pub(crate) result: &'static str,
    pub(crate) job: u32,
    pub(crate) group: &'static str,
    pub(crate) consists_of: Vec<&'static str>,
    pub(crate) slice: &'static str,
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

pub(crate) fn job_path(id: u32) -> OwnedObjectPath {
    OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{id}")).unwrap()
}

pub(crate) fn unit_path(name: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/unit/{}", name.replace('.', "_2e"))).unwrap()
}

/// Both sides, after the driver has subscribed.
pub(crate) async fn pair(cgroups: &Path) -> (Systemd, Receiver<Signal>, Fake) {
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

pub(crate) fn nowhere() -> &'static Path {
    Path::new("/nonexistent")
}

/// Every test has an end.
pub(crate) async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("the test hangs")
}

pub(crate) async fn next(signals: &mut Receiver<Signal>) -> Signal {
    bounded(signals.recv()).await.expect("no more signals")
}

/// A signal without its time.
pub(crate) fn shown(signal: &Signal) -> String {
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
pub(crate) async fn tell_kind(fake: &mut Fake, kind: Option<&str>) {
    let call = fake.call("Get").await;
    match kind {
        Some(kind) => fake.reply(&call, &Value::from(kind)).await,
        None => fake.refuse(&call).await,
    }
}
