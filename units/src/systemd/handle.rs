//! The handle: connects, calls, watches. Every wait has a bound, and a lost connection ends each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use zbus::names::OwnedUniqueName;
use zbus::proxy::CacheProperties;
use zbus::zvariant::OwnedObjectPath;
use zbus::{Connection, MessageStream, connection};

use super::cgroup::Cgroups;
use super::ear::{Ear, Note};
use super::error::Error;
use super::peer::PeerSocket;
use super::proxies::{BusProxy, ManagerProxy, PID1, PropertiesProxy};
use super::signal::{JobKind, JobResult, Signal};

/// The system bus.
const BUS: &str = "unix:path=/run/dbus/system_bus_socket";
/// PID 1's own socket, for early boot and late shutdown when no bus is there. Root only.
const PRIVATE: &str = "/run/systemd/private";
/// Signals that wait for the owner inside the channel; more wait in the ear.
pub const SIGNALS_WAITING: usize = 1024;
/// Notes from handles to the ear; a handle waits when there are more.
const NOTES_WAITING: usize = 256;
/// Calls at once. The system bus answers LimitsExceeded from 128 open calls of one connection on, and the ear
/// needs some for itself.
const CALLS_AT_ONCE: usize = 64;
/// Matches for one unit each. dbus-daemon allows 512 matches per connection on the system bus unless its
/// configuration says otherwise; beyond this number one broad match is cheaper for it anyway.
const NARROW_MATCHES: usize = 400;
/// Longest wait for an answer: a daemon-reload of some thousand units blocks PID 1 for seconds.
pub const CALL_LIMIT: Duration = Duration::from_secs(25);
/// Longest wait for a daemon-reload: systemd gives generators 90 s.
pub const RELOAD_LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for a socket to accept and authenticate.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long PID 1 may be off the bus (it is, for some milliseconds, while it executes itself anew).
const NAME_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks whether it is back.
const NAME_PAUSE: Duration = Duration::from_millis(20);
/// Messages kept by the library for the ear, which never waits for anybody before it reads on.
const MESSAGES_QUEUED: usize = 1024;

/// By which way PID 1 is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The system bus.
    Bus,
    /// A socket with PID 1 alone at the other end: all signals come, and units cannot be referenced.
    Private,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// The job's number.
    pub job: u32,
    /// systemd's word. `Done` is not success: read the unit.
    pub result: JobResult,
}

/// A connection to PID 1. Clones share it; it ends with the last of them, or by `Signal::Disconnected`.
#[derive(Clone)]
pub struct Systemd {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) link: Link,
    pub(super) manager: ManagerProxy<'static>,
    pub(super) cgroups: Cgroups,
    bus: Option<BusProxy<'static>>,
    notes: mpsc::Sender<Note>,
    lost: watch::Receiver<bool>,
    slots: Arc<Semaphore>,
    calls: AtomicU64,
    /// Matches for single units that were ever asked for; from [`NARROW_MATCHES`] on one serves for all.
    matches: AtomicUsize,
}

impl std::fmt::Debug for Systemd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Systemd").field("link", &self.shared.link).finish_non_exhaustive()
    }
}

impl Systemd {
    /// Connects by the system bus, or by PID 1's own socket where no bus answers (rule F30).
    ///
    /// # Errors
    /// [`Error::Unreachable`] with both reasons.
    pub async fn connect() -> Result<(Systemd, mpsc::Receiver<Signal>), Error> {
        let bus = match Self::connect_by(Link::Bus).await {
            Ok(connected) => return Ok(connected),
            Err(error) => Box::new(error),
        };
        match Self::connect_by(Link::Private).await {
            Ok(connected) => {
                tracing::info!(reason = %bus, "the system bus does not serve; using PID 1's own socket");
                Ok(connected)
            }
            Err(error) => Err(Error::Unreachable { bus, private: Box::new(error) }),
        }
    }

    /// Connects by one way only.
    ///
    /// # Errors
    /// When that way does not lead to PID 1.
    pub async fn connect_by(link: Link) -> Result<(Systemd, mpsc::Receiver<Signal>), Error> {
        let wire = |source| Error::of_call("connect", source);
        let builder = match link {
            Link::Bus => connection::Builder::address(BUS).map_err(wire)?,
            Link::Private => {
                let stream = tokio::net::UnixStream::connect(PRIVATE).await.map_err(|source| {
                    Error::Local { what: format!("cannot connect to {PRIVATE}"), source }
                })?;
                connection::Builder::socket(PeerSocket(stream)).p2p()
            }
        };
        let building = builder.max_queued(MESSAGES_QUEUED).build();
        let connection = tokio::time::timeout(CONNECT_LIMIT, building)
            .await
            .map_err(|_| Error::Silent { call: "connect", waited: CONNECT_LIMIT })?
            .map_err(wire)?;
        Self::attach(connection, link, Cgroups::of_this_host()).await
    }

    /// Takes over a connection that is there already. Tests give one end of a socket pair.
    ///
    /// # Errors
    /// When PID 1 is not on the bus, or does not take the subscription.
    pub async fn attach(
        connection: Connection,
        link: Link,
        cgroups: Cgroups,
    ) -> Result<(Systemd, mpsc::Receiver<Signal>), Error> {
        let wire = |source| Error::of_call("connect", source);
        // Before anything is asked for, so that nothing can be said in between.
        let stream = MessageStream::from(&connection);
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(wire)?;
        let (bus, sender) = match link {
            Link::Bus => {
                let bus = BusProxy::builder(&connection)
                    .cache_properties(CacheProperties::No)
                    .build()
                    .await
                    .map_err(wire)?;
                let sender = tokio::time::timeout(CALL_LIMIT, match_manager(&bus))
                    .await
                    .map_err(|_| Error::Silent { call: "AddMatch", waited: CALL_LIMIT })??;
                (Some(bus), Some(sender))
            }
            Link::Private => (None, None),
        };
        let (notes, heard) = mpsc::channel(NOTES_WAITING);
        let (owner, signals) = mpsc::channel(SIGNALS_WAITING);
        let (lost_tx, lost) = watch::channel(false);
        tokio::spawn(Ear::new(connection.clone(), sender, heard, owner, lost_tx).run(stream));
        let systemd = Systemd {
            shared: Arc::new(Shared {
                connection,
                link,
                manager,
                cgroups,
                bus,
                notes,
                lost,
                slots: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
                calls: AtomicU64::new(0),
                matches: AtomicUsize::new(0),
            }),
        };
        match systemd.ask("Subscribe", CALL_LIMIT, systemd.shared.manager.subscribe()).await {
            Ok(()) => {}
            Err(error) if error.is_refusal("AlreadySubscribed") => {}
            // PID 1 tells its private peers everything anyway.
            Err(Error::Refused { .. }) if link == Link::Private => {}
            Err(error) => return Err(error),
        }
        Ok((systemd, signals))
    }

    /// By which way this handle reaches PID 1.
    pub fn link(&self) -> Link {
        self.shared.link
    }

    /// Loads the unit, keeps it loaded, and has its changes told as [`Signal::UnitChanged`].
    ///
    /// # Errors
    /// When PID 1 cannot name the unit. A unit without a file is no error.
    pub async fn watch(&self, unit: &str) -> Result<(), Error> {
        let path = self.load(unit).await?;
        self.tell_ear(Note::Watch { path: path.to_string(), unit: unit.to_owned() }).await?;
        if let Some(bus) = &self.shared.bus {
            let earlier = self.shared.matches.fetch_add(1, Ordering::Relaxed);
            match earlier.cmp(&NARROW_MATCHES) {
                std::cmp::Ordering::Less => {
                    self.ask("AddMatch", CALL_LIMIT, bus.add_match(&unit_rule(&path))).await?;
                }
                std::cmp::Ordering::Equal => {
                    tracing::info!(unit, "too many units for a match each; listening to all units");
                    self.ask("AddMatch", CALL_LIMIT, bus.add_match(&all_units_rule())).await?;
                }
                std::cmp::Ordering::Greater => {}
            }
        }
        match self.ask("RefUnit", CALL_LIMIT, self.shared.manager.ref_unit(unit)).await {
            // Without the reference PID 1 may forget a stopped unit's result; the reads still are right.
            Err(Error::Refused { message, .. }) => {
                tracing::debug!(unit, message, "the unit cannot be referenced")
            }
            other => other?,
        }
        Ok(())
    }

    /// The reverse of [`watch`](Self::watch).
    ///
    /// # Errors
    /// When the connection is lost, which ends the watch as well.
    pub async fn unwatch(&self, unit: &str) -> Result<(), Error> {
        let path = self.load(unit).await?;
        self.tell_ear(Note::Unwatch { unit: unit.to_owned() }).await?;
        let forgotten = self.ask("UnrefUnit", CALL_LIMIT, self.shared.manager.unref_unit(unit)).await;
        ignore_refusal(forgotten)?;
        if let Some(bus) = &self.shared.bus {
            let removed = self.ask("RemoveMatch", CALL_LIMIT, bus.remove_match(&unit_rule(&path))).await;
            ignore_refusal(removed)?;
        }
        Ok(())
    }

    /// The unit's object path, loading it if need be.
    pub(super) async fn load(&self, unit: &str) -> Result<OwnedObjectPath, Error> {
        self.ask("LoadUnit", CALL_LIMIT, self.shared.manager.load_unit(unit)).await
    }

    pub(super) async fn properties<'a>(&self, path: &'a str) -> Result<PropertiesProxy<'a>, Error> {
        let wire = |source| Error::of_call("Properties", source);
        PropertiesProxy::builder(&self.shared.connection)
            .destination(PID1)
            .and_then(|builder| builder.path(path))
            .map_err(wire)?
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(wire)
    }

    /// One call, bounded in number, in time, and by the life of the connection.
    pub(super) async fn ask<T>(
        &self,
        call: &'static str,
        limit: Duration,
        answer: impl Future<Output = zbus::Result<T>>,
    ) -> Result<T, Error> {
        let with_slot = async {
            let _slot = self.shared.slots.acquire().await.map_err(|_| Error::Disconnected)?;
            answer.await.map_err(|error| Error::of_call(call, error))
        };
        self.unless_lost(call, limit, with_slot).await
    }

    /// Waits for an answer as long as the limit and the connection last.
    async fn unless_lost<T>(
        &self,
        call: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut lost = self.shared.lost.clone();
        tokio::select! {
            biased;
            _ = lost.wait_for(|lost| *lost) => Err(Error::Disconnected),
            answer = tokio::time::timeout(limit, answer) => {
                answer.map_err(|_| Error::Silent { call, waited: limit })?
            }
        }
    }

    /// Makes a job and waits for its end. The listening begins before the call is sent.
    pub(super) async fn job(
        &self,
        unit: &str,
        kind: JobKind,
        within: Duration,
        call: &'static str,
        answer: impl Future<Output = zbus::Result<OwnedObjectPath>> + Send + 'static,
    ) -> Result<JobEnd, Error> {
        let begun = Instant::now();
        let pending = self.begin(kind, call, answer).await?;
        let job = pending.job;
        match tokio::time::timeout(within.saturating_sub(begun.elapsed()), pending.ended).await {
            Ok(Ok(result)) => Ok(JobEnd { job, result }),
            Ok(Err(_)) => Err(Error::Disconnected),
            Err(_) => Err(Error::Unfinished { unit: unit.to_owned(), job, waited: within }),
        }
    }

    /// Makes a job; its end comes later.
    ///
    /// A task of its own sees the call through. Whoever asked may be gone before PID 1 replies, but the job is
    /// there, and only the reply tells that it is ours and no operator's (promise S6).
    pub(super) async fn begin(
        &self,
        kind: JobKind,
        call: &'static str,
        answer: impl Future<Output = zbus::Result<OwnedObjectPath>> + Send + 'static,
    ) -> Result<PendingJob, Error> {
        let (reply, replied) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (made, job) = oneshot::channel();
        let slots = self.shared.slots.clone();
        // Nothing is sent before the spawn: a caller that gives up until then has asked for nothing.
        let slot = self.unless_lost(call, CALL_LIMIT, async {
            slots.acquire_owned().await.map_err(|_| Error::Disconnected)
        });
        let slot = slot.await?;
        let number = self.shared.calls.fetch_add(1, Ordering::Relaxed);
        self.tell_ear(Note::Calling { call: number, kind, replied, ended: end }).await?;
        let mut lost = self.shared.lost.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let answer = tokio::select! {
                biased;
                _ = lost.wait_for(|lost| *lost) => Err(Error::Disconnected),
                path = answer => path.map_err(|error| Error::of_call(call, error)).and_then(job_number),
            };
            if let Ok(job) = answer {
                // Fails only when the ear has ended, and then `ended` says so.
                let _ = reply.send(job);
            }
            // Fails when whoever asked has given up.
            let _ = made.send(answer);
        });
        let job = self.unless_lost(call, CALL_LIMIT, async { job.await.unwrap_or(Err(Error::Disconnected)) });
        Ok(PendingJob { job: job.await?, ended })
    }

    async fn tell_ear(&self, note: Note) -> Result<(), Error> {
        self.shared.notes.send(note).await.map_err(|_| Error::Disconnected)
    }
}

/// A job that was made and is awaited.
pub(super) struct PendingJob {
    pub(super) job: u32,
    pub(super) ended: oneshot::Receiver<JobResult>,
}

fn job_number(path: OwnedObjectPath) -> Result<u32, Error> {
    let number = path.rsplit('/').next().and_then(|id| id.parse().ok());
    number.ok_or_else(|| Error::Malformed { what: "job path", value: path.to_string() })
}

/// What PID 1 does not want to undo is undone already.
pub(super) fn ignore_refusal(answer: Result<(), Error>) -> Result<(), Error> {
    match answer {
        Err(Error::Refused { .. }) => Ok(()),
        other => other,
    }
}

/// The bus cannot filter by "the interface is Unit" in another way than by the signal's first argument.
fn unit_rule(path: &str) -> String {
    format!(
        "type='signal',sender='{PID1}',path='{path}',interface='org.freedesktop.DBus.Properties',\
         member='PropertiesChanged',arg0='org.freedesktop.systemd1.Unit'"
    )
}

fn all_units_rule() -> String {
    format!(
        "type='signal',sender='{PID1}',path_namespace='/org/freedesktop/systemd1/unit',\
         interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',\
         arg0='org.freedesktop.systemd1.Unit'"
    )
}

/// Registers the manager's signals and finds out who PID 1 is on this bus.
async fn match_manager(bus: &BusProxy<'_>) -> Result<OwnedUniqueName, Error> {
    let failed = |error| Error::of_call("AddMatch", error);
    let owner_rule = format!(
        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
         member='NameOwnerChanged',arg0='{PID1}'"
    );
    bus.add_match(&owner_rule).await.map_err(failed)?;
    for member in ["JobNew", "JobRemoved", "Reloading"] {
        let rule = format!(
            "type='signal',sender='{PID1}',path='/org/freedesktop/systemd1',\
             interface='org.freedesktop.systemd1.Manager',member='{member}'"
        );
        bus.add_match(&rule).await.map_err(failed)?;
    }
    let patience = Instant::now() + NAME_LIMIT;
    loop {
        match bus.get_name_owner(PID1).await.map_err(|error| Error::of_call("GetNameOwner", error)) {
            Ok(name) => {
                return OwnedUniqueName::try_from(name.as_str())
                    .map_err(|_| Error::Malformed { what: "name of PID 1 on the bus", value: name });
            }
            Err(error) if error.is_refusal("NameHasNoOwner") && Instant::now() < patience => {
                tokio::time::sleep(NAME_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}
