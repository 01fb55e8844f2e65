//! The one task that hears PID 1: keeps its order, finds out whose job is whose, and loses no end of a job.
//!
//! It reads every message of the connection, so replies and signals are never reordered against each
//! other. It decides nothing about units. Who waits for a job is told here first, whatever the owner of the
//! connection does; what the owner is told waits in a queue until it takes it. If the owner falls behind by
//! [`BACKLOG`] signals, the connection is given up: reading everything again is honest, a lost signal is not.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use zbus::message::{Message, Type};
use zbus::names::OwnedUniqueName;
use zbus::zvariant::{ObjectPath, OwnedValue};
use zbus::{Connection, MessageStream};

use super::proxies::{JOB_INTERFACE, MANAGER, MANAGER_INTERFACE, PID1, PROPERTIES_INTERFACE, UNIT_INTERFACE};
use super::signal::{JobKind, JobResult, Signal, monotonic_now};

/// Signals kept for an owner that is slow. A boot of 10,000 units makes about 20,000 job signals.
const BACKLOG: usize = 65_536;
/// How many job types are asked for at once. The bus allows 128 open calls per connection.
const KINDS_AT_ONCE: usize = 32;
/// How long PID 1 may take to say a job's type; a daemon-reload blocks it for seconds.
const KIND_LIMIT: Duration = Duration::from_secs(10);

/// What the handles tell the ear.
pub(super) enum Note {
    /// A call that makes a job is about to be sent.
    Calling {
        /// Number of the call.
        call: u64,
        /// What the job will do, known without asking.
        kind: JobKind,
        /// Resolves to the job's id, or is dropped when there is none.
        replied: oneshot::Receiver<u32>,
        /// Gets the job's end.
        ended: oneshot::Sender<JobResult>,
    },
    /// Changes of the unit at `path` are told as `unit` from now on.
    Watch {
        /// Object path.
        path: String,
        /// Name under which the owner watches it.
        unit: String,
    },
    /// No longer.
    Unwatch {
        /// Name under which the owner watched it.
        unit: String,
    },
}

/// A signal on its way to the owner, perhaps still missing something.
struct Held {
    signal: Signal,
    asks_kind: bool,
    /// Calls in flight when a `JobNew` arrived: one of them may turn out to be its cause.
    unsure: BTreeSet<u64>,
}

impl Held {
    fn is_ready(&self) -> bool {
        !self.asks_kind && self.unsure.is_empty()
    }
}

pub(super) struct Ear {
    connection: Connection,
    /// PID 1's unique name. On a bus, anybody may send anybody a signal, so the sender is checked.
    sender: Option<OwnedUniqueName>,
    notes: mpsc::Receiver<Note>,
    owner: mpsc::Sender<Signal>,
    lost: watch::Sender<bool>,
    queue: VecDeque<Held>,
    calls: BTreeMap<u64, (JobKind, oneshot::Sender<JobResult>)>,
    replies: FuturesUnordered<BoxFuture<'static, (u64, Option<u32>)>>,
    kinds: FuturesUnordered<BoxFuture<'static, (u32, Option<JobKind>)>>,
    kind_slots: Arc<Semaphore>,
    own: BTreeMap<u32, JobKind>,
    waiting: BTreeMap<u32, oneshot::Sender<JobResult>>,
    /// Ends heard while a call was in flight: its reply may name this very job.
    early: BTreeMap<u32, JobResult>,
    watched: HashMap<String, BTreeSet<String>>,
}

impl Ear {
    pub(super) fn new(
        connection: Connection,
        sender: Option<OwnedUniqueName>,
        notes: mpsc::Receiver<Note>,
        owner: mpsc::Sender<Signal>,
        lost: watch::Sender<bool>,
    ) -> Self {
        Self {
            connection,
            sender,
            notes,
            owner,
            lost,
            queue: VecDeque::new(),
            calls: BTreeMap::new(),
            replies: FuturesUnordered::new(),
            kinds: FuturesUnordered::new(),
            kind_slots: Arc::new(Semaphore::new(KINDS_AT_ONCE)),
            own: BTreeMap::new(),
            waiting: BTreeMap::new(),
            early: BTreeMap::new(),
            watched: HashMap::new(),
        }
    }

    /// Runs until the connection ends, the owner goes, or every handle is dropped.
    ///
    /// Notes come first: a note is in the channel before its call is on the wire, so it is always known when
    /// the job's first signal is looked at.
    pub(super) async fn run(mut self, mut stream: MessageStream) {
        let owner = self.owner.clone();
        loop {
            tokio::select! {
                biased;
                note = self.notes.recv() => match note {
                    Some(note) => self.note(note),
                    None => return,
                },
                Some((call, job)) = self.replies.next(), if !self.replies.is_empty() => self.replied(call, job),
                Some((id, kind)) = self.kinds.next(), if !self.kinds.is_empty() => self.learned(id, kind),
                permit = owner.reserve(), if self.queue.front().is_some_and(Held::is_ready) => {
                    let Ok(permit) = permit else { return };
                    if let Some(held) = self.queue.pop_front() {
                        permit.send(with_ours(held.signal, &mut self.own));
                    }
                },
                message = stream.next() => {
                    let Some(Ok(message)) = message else { break };
                    if !self.hear(&message) || self.queue.len() > BACKLOG {
                        break;
                    }
                },
            }
        }
        self.end().await;
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Calling { call, kind, replied, ended } => {
                self.calls.insert(call, (kind, ended));
                self.replies.push(Box::pin(async move { (call, replied.await.ok()) }));
            }
            Note::Watch { path, unit } => {
                self.watched.entry(path).or_default().insert(unit);
            }
            Note::Unwatch { unit } => {
                self.watched.retain(|_, names| {
                    names.remove(&unit);
                    !names.is_empty()
                });
            }
        }
    }

    fn replied(&mut self, call: u64, job: Option<u32>) {
        if let (Some((kind, ended)), Some(id)) = (self.calls.remove(&call), job) {
            self.own.insert(id, kind);
            match self.early.remove(&id) {
                // The caller may have given up; then nobody needs the end.
                Some(result) => {
                    let _ = ended.send(result);
                }
                None => drop(self.waiting.insert(id, ended)),
            }
        }
        if self.calls.is_empty() {
            self.early.clear();
        }
        for held in &mut self.queue {
            held.unsure.remove(&call);
        }
    }

    fn learned(&mut self, job: u32, learned: Option<JobKind>) {
        for held in &mut self.queue {
            if let Signal::JobNew { id, kind, .. } = &mut held.signal
                && *id == job
            {
                *kind = learned;
                held.asks_kind = false;
            }
        }
    }

    /// Takes one message; false when it says that this PID 1 is no longer on the other side.
    fn hear(&mut self, message: &Message) -> bool {
        let header = message.header();
        if header.message_type() != Type::Signal {
            return true;
        }
        let (Some(interface), Some(member), Some(path)) =
            (header.interface(), header.member(), header.path())
        else {
            return true;
        };
        if self.sender.is_some() && header.sender().is_some_and(|name| name == "org.freedesktop.DBus") {
            return !(member == "NameOwnerChanged" && self.lost_its_name(message));
        }
        if self.sender.as_ref().is_some_and(|pid1| header.sender() != Some(&**pid1)) {
            return true;
        }
        let body = message.body();
        match (interface.as_str(), member.as_str()) {
            (MANAGER_INTERFACE, "JobNew") if path == MANAGER => {
                if let Ok((id, job, unit)) = body.deserialize::<(u32, ObjectPath<'_>, String)>() {
                    self.job_new(id, job.to_string(), unit);
                }
            }
            (MANAGER_INTERFACE, "JobRemoved") if path == MANAGER => {
                if let Ok((id, _, unit, word)) = body.deserialize::<(u32, ObjectPath<'_>, String, String)>() {
                    self.job_removed(id, unit, JobResult::parse(&word));
                }
            }
            (MANAGER_INTERFACE, "Reloading") if path == MANAGER => {
                if let Ok(active) = body.deserialize::<bool>() {
                    self.hold(Signal::Reloading(active));
                }
            }
            (PROPERTIES_INTERFACE, "PropertiesChanged") => {
                let Some(names) = self.watched.get(path.as_str()) else { return true };
                if let Ok((interface, changed, _)) =
                    body.deserialize::<(String, HashMap<String, OwnedValue>, Vec<String>)>()
                    && interface == UNIT_INTERFACE
                {
                    let text = |key| changed.get(key).and_then(|value| String::try_from(value.clone()).ok());
                    let (active_state, sub_state) = (text("ActiveState"), text("SubState"));
                    for unit in names.clone() {
                        let (active_state, sub_state) = (active_state.clone(), sub_state.clone());
                        self.hold(Signal::UnitChanged { unit, active_state, sub_state });
                    }
                }
            }
            _ => {}
        }
        true
    }

    fn lost_its_name(&self, message: &Message) -> bool {
        message.body().deserialize::<(String, String, String)>().is_ok_and(|(name, _, new)| {
            name == PID1 && self.sender.as_ref().is_some_and(|pid1| pid1.as_str() != new)
        })
    }

    fn job_new(&mut self, id: u32, path: String, unit: String) {
        let known = self.own.get(&id).copied();
        let unsure = match known {
            Some(_) => BTreeSet::new(),
            None => self.calls.keys().copied().collect(),
        };
        if known.is_none() {
            let (connection, slots) = (self.connection.clone(), self.kind_slots.clone());
            self.kinds.push(Box::pin(async move { (id, ask_kind(&connection, &slots, path).await) }));
        }
        let signal = Signal::JobNew { id, unit, kind: known, ours: false, at: monotonic_now() };
        self.queue.push_back(Held { signal, asks_kind: known.is_none(), unsure });
    }

    fn job_removed(&mut self, id: u32, unit: String, result: JobResult) {
        match self.waiting.remove(&id) {
            Some(ended) => {
                let _ = ended.send(result.clone());
            }
            None if !self.calls.is_empty() => drop(self.early.insert(id, result.clone())),
            None => {}
        }
        let unsure = self.calls.keys().copied().collect();
        let signal = Signal::JobRemoved { id, unit, result, ours: false, at: monotonic_now() };
        self.queue.push_back(Held { signal, asks_kind: false, unsure });
    }

    fn hold(&mut self, signal: Signal) {
        self.queue.push_back(Held { signal, asks_kind: false, unsure: BTreeSet::new() });
    }

    /// Ends every wait first, then tells the owner what was heard, and that it was the last.
    async fn end(mut self) {
        self.lost.send_replace(true);
        self.waiting.clear();
        self.calls.clear();
        self.notes.close();
        for held in std::mem::take(&mut self.queue) {
            if self.owner.send(with_ours(held.signal, &mut self.own)).await.is_err() {
                return;
            }
        }
        // A closed channel means that the owner has gone: nobody is left to be told.
        drop(self.owner.send(Signal::Disconnected).await);
    }
}

/// Says at the last moment whose job it is; an own job's kind is known even when PID 1 could not be asked.
fn with_ours(mut signal: Signal, own: &mut BTreeMap<u32, JobKind>) -> Signal {
    match &mut signal {
        Signal::JobNew { id, kind, ours, .. } => {
            if let Some(own_kind) = own.get(id) {
                *ours = true;
                *kind = kind.or(Some(*own_kind));
            }
        }
        Signal::JobRemoved { id, ours, .. } => *ours = own.remove(id).is_some(),
        Signal::UnitChanged { .. } | Signal::Reloading(_) | Signal::Disconnected => {}
    }
    signal
}

async fn ask_kind(connection: &Connection, slots: &Semaphore, path: String) -> Option<JobKind> {
    let _slot = slots.acquire().await.ok()?;
    let body = (JOB_INTERFACE, "JobType");
    let call = connection.call_method(Some(PID1), path.as_str(), Some(PROPERTIES_INTERFACE), "Get", &body);
    let reply = tokio::time::timeout(KIND_LIMIT, call).await.ok()?.ok()?;
    let value: OwnedValue = reply.body().deserialize().ok()?;
    JobKind::parse(&String::try_from(value).ok()?)
}
