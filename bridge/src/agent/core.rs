//! The agent's synchronous middle: an event in, actions out.
//!
//! Owns everything that is known of this node's units, permits and facts. Does nothing itself: no file, call or clock
//! is touched here, so every decision can be tested without a systemd. One operation per unit at the most; units never
//! wait for each other, but for ordered stops.

mod assembly;
mod checks;
mod ending;
mod errands;
mod orders;
mod survey;
mod watchdog;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::{Fact, Incarnation, NodeId, PermitView, UnitName};
use tokio::sync::oneshot;
use units::generator::Gated;
use units::systemd::journal::{Kind, Line, Priority};
use units::systemd::{JobLog, Signal};

use super::decide::Run;
use super::event::{Action, Discovery, Errands, Event, Now, OpId, Work};
use super::floors::Floors;
use super::gates::Gates;
use super::outbox::Outbox;
use super::permit::{self, Permit};
use super::unit::{Op, OpKind, Unit};
pub(in crate::agent) use assembly::Probing;
pub(in crate::agent) use checks::Checking;

/// A look at a node's power that is still asked for is not taken again before this time has passed.
const LOOK_PAUSE_MS: u64 = 5_000;
/// How long a daemon that ends waits for the cluster to take what it released (F30). The cluster's own rounds take
/// milliseconds; without a quorum it would take for ever.
const FAREWELL_MS: u64 = 5_000;

/// The cluster's latest word.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) permits: BTreeMap<UnitName, PermitView>,
    /// Every unit that the cluster knows.
    known: BTreeSet<UnitName>,
    pub(super) stop: BTreeSet<UnitName>,
    /// Index up to which the cluster asks what runs here.
    survey: u64,
    /// What this node owes to clustered services (F16).
    pub(super) assembly: BTreeMap<UnitName, policy::Duty>,
    /// Roles of which this node is to say its rank, by a look at this index or later.
    pub(super) ranks: BTreeMap<UnitName, u64>,
}

/// An end of the daemon that was asked for.
#[derive(Debug)]
struct Ending {
    done: oneshot::Sender<()>,
    /// Since when nothing is left but to wait for answers, in boot milliseconds.
    idle_since_ms: Option<u64>,
}

/// Who this node is, and what an earlier daemon left.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field is named after what it holds")]
pub struct Origin {
    pub node: NodeId,
    pub node_name: String,
    pub incarnation: Incarnation,
    pub floors: Floors,
    pub held: BTreeMap<UnitName, Permit>,
    pub releasing: BTreeMap<UnitName, Permit>,
    pub left_filed: BTreeMap<UnitName, Permit>,
    /// Whether an earlier daemon left this node's watchdog armed, or tried to arm it.
    pub left_armed: bool,
    pub gated: Gated,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    pub(super) node: NodeId,
    pub(super) node_name: String,
    pub(super) incarnation: Incarnation,
    pub(super) floors: Floors,
    pub(super) outbox: Outbox,
    pub(super) units: BTreeMap<UnitName, Unit>,
    pub(super) jobs: JobLog,
    pub(super) gates: Gates,
    /// `None` until the present session has spoken, and from the end of a lease on.
    pub(super) view: Option<View>,
    session: Option<u64>,
    /// Whether the open session has got an inventory: nothing goes before it.
    pub(super) inventory_told: bool,
    /// Index up to which it was told what runs here.
    surveyed: u64,
    pub(super) connected: bool,
    pub(super) discovered: bool,
    gated: Gated,
    kept: Kept,
    reload: Reload,
    lease_live: bool,
    /// When everything must be down that had to stop at the end of the lease, in boot milliseconds.
    pub(super) down_by_ms: Option<u64>,
    pub(super) leaving: bool,
    /// Whether PID 1 said last that it stops the system.
    stopping: bool,
    ending: Option<Ending>,
    errands: Errands,
    chain: watchdog::Chain,
    last_op: OpId,
    touched: BTreeSet<UnitName>,
    pub(super) actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reload {
    Idle,
    Running,
    /// Once more after the one that runs.
    Again,
}

/// Whether the list of cluster units is on disk as it is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Yes,
    /// It is being written.
    Writing,
    /// It could not be written.
    No,
}

impl Agent {
    /// An agent that has seen and heard nothing yet.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        let mut units: BTreeMap<UnitName, Unit> = BTreeMap::new();
        for name in origin.gated.units.iter().map(|name| UnitName(name.clone())) {
            if permit::usable(&name) {
                units.entry(name).or_default();
            }
        }
        for (name, held) in origin.held {
            let unit = units.entry(name).or_default();
            unit.held = Some(held);
            unit.filed = true;
        }
        for (name, released) in origin.releasing {
            // It may have been over when that daemon was killed.
            if released.token > origin.floors.of(&name) {
                let unit = units.entry(name).or_default();
                unit.left_releasing = Some(released.token);
                unit.held = Some(released);
            }
        }
        for (name, permit) in origin.left_filed {
            units.entry(name).or_default().left_filed = Some(permit);
        }
        Self {
            node: origin.node,
            node_name: origin.node_name,
            incarnation: origin.incarnation,
            floors: origin.floors,
            outbox: Outbox::default(),
            units,
            jobs: JobLog::default(),
            gates: Gates::default(),
            view: None,
            session: None,
            inventory_told: false,
            surveyed: 0,
            connected: false,
            discovered: false,
            gated: origin.gated,
            kept: Kept::Yes,
            reload: Reload::Idle,
            lease_live: true,
            down_by_ms: None,
            leaving: false,
            stopping: false,
            ending: None,
            errands: Errands::default(),
            chain: watchdog::Chain::new(origin.left_armed),
            last_op: 0,
            touched: BTreeSet::new(),
            actions: Vec::new(),
        }
    }

    /// Decides what follows from an event.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: &Now) -> Vec<Action> {
        // Whatever woke us: the lease may have ended meanwhile (F8), and the time to stop without one be over.
        self.look_at_lease(now);
        self.look_at_overdue(now);
        match event {
            Event::Session(event) => self.hear_session(event, now),
            Event::Signal(signal) => self.hear_signal(&signal),
            Event::Connected => self.connected(),
            Event::Manager(state) => self.manager_is(state),
            Event::Discovered(discovery) => self.discovered(discovery),
            Event::Reloaded(result) => self.reloaded(&result),
            Event::GatedKept { text, ok } => self.gated_kept(&text, ok),
            Event::Done { op, unit, end } => self.done(op, &unit, end, now),
            Event::Stuck { op, unit, what } => self.stuck(op, &unit, what),
            Event::NotSpooled { unit, why } => self.not_spooled(&unit, &why),
            Event::Filed { unit, token, revision } => self.filed(&unit, token, revision),
            Event::NotFiled { unit, why } => self.not_filed(&unit, &why),
            Event::GateAsked { id, unit, reply } => self.gate_asked(id, unit, reply, now),
            Event::GateLooked { id, look } => self.gate_looked(id, look, now),
            Event::GateAnswered { id, answer } => self.gate_answered(id, answer, now),
            Event::GateClosed { id } => self.gate_closed(id, now),
            Event::GateSettled { id, unit, since, look } => self.gate_settled(id, &unit, since, look, now),
            Event::Withdrawn { id, unit, index } => self.withdrawn(id, &unit, index),
            Event::Fenced { order, ended } => self.fenced(&order, ended),
            Event::Powered { order, power } => self.powered(&order, power, now),
            Event::SwitchedOn { order, power } => self.switched_on(&order, power),
            Event::Probed { id, unit, finding } => self.probed(id, &unit, finding),
            Event::Watchdog(standing) => self.watchdog_stands(standing, now),
            Event::Command(command) => self.command(command, now),
            Event::Tick => self.tick(now),
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// Everything that follows from the state, whatever the event was.
    fn settle(&mut self, now: &Now) {
        let mut changed = BTreeSet::new();
        while let Some(unit) = self.touched.pop_first() {
            self.reconcile(&unit, now);
            changed.insert(unit);
        }
        let told = self.inventory_told;
        self.tell_inventory(&changed, now);
        if self.inventory_told && !told {
            // Programs are run once the cluster can be told what they say: of every unit, whichever was looked at last.
            changed.extend(self.units.keys().cloned());
        }
        self.drop_forgotten(&changed);
        self.keep_chain(now);
        self.send();
        for unit in &changed {
            self.keep_starts(unit);
            self.keep_asking(unit);
            self.keep_checking(unit);
        }
        self.end(now);
    }

    /// Has the unit reconciled before this event is over.
    pub(super) fn touch(&mut self, unit: &UnitName) {
        self.touched.insert(unit.clone());
    }

    /// Leaves the unit alone until the next tick, so that what fails at once is not repeated at once.
    pub(super) fn untouch(&mut self, unit: &UnitName) {
        self.touched.remove(unit);
    }

    pub(super) fn is_in_session(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn touch_all(&mut self) {
        self.touched.extend(self.units.keys().cloned());
    }

    /// Begins an operation, in place of what is under way on the unit.
    pub(super) fn begin(&mut self, name: &UnitName, kind: OpKind, work: Work) {
        let op = self.next_op(name, kind);
        self.actions.push(Action::Begin { op, unit: name.clone(), work });
    }

    pub(super) fn next_op(&mut self, name: &UnitName, kind: OpKind) -> OpId {
        self.last_op += 1;
        if let Some(unit) = self.units.get_mut(name) {
            unit.op = Some(Op { id: self.last_op, kind });
        }
        self.last_op
    }

    pub(super) fn tell(&mut self, unit: &UnitName, kind: Kind, priority: Priority, message: String) {
        let fields = vec![("CONVOKE_NODE".to_owned(), self.node_name.clone())];
        self.actions.push(Action::Tell(Line { unit: unit.0.clone(), kind, priority, message, fields }));
    }

    fn keep_gated(&mut self) {
        self.kept = Kept::Writing;
        self.actions.push(Action::KeepGated(self.gated.render()));
    }

    fn gated_kept(&mut self, text: &str, ok: bool) {
        // A later list is on its way otherwise.
        if text == self.gated.render() {
            self.kept = if ok { Kept::Yes } else { Kept::No };
        }
    }

    pub(super) fn want_reload(&mut self) {
        match self.reload {
            Reload::Idle => {
                self.reload = Reload::Running;
                self.actions.push(Action::Reload);
            }
            Reload::Running | Reload::Again => self.reload = Reload::Again,
        }
    }

    fn reloaded(&mut self, result: &Result<(), String>) {
        if let Err(error) = result {
            tracing::error!(error, "daemon-reload failed");
        }
        let again = self.reload == Reload::Again;
        self.reload = Reload::Idle;
        if again {
            self.want_reload();
        }
    }

    fn hear_signal(&mut self, signal: &Signal) {
        self.jobs.saw(signal);
        match signal {
            Signal::UnitChanged { unit, .. } | Signal::JobRemoved { unit, .. } => {
                let name = UnitName(unit.clone());
                if let Signal::UnitChanged { sub_state: Some(sub_state), .. } = signal {
                    self.note_dispatch(&name, sub_state);
                }
                if let Some(unit) = self.units.get_mut(&name) {
                    unit.stale = true;
                    self.touch(&name);
                }
            }
            Signal::Reloading(false) => {
                self.actions.push(Action::Discover);
                self.look_at_all();
            }
            Signal::Disconnected => {
                self.connected = false;
                for unit in self.units.values_mut() {
                    unit.watched = false;
                    unit.run = super::decide::Run::Unknown;
                    // What a look over that connection still shows says nothing, and its watch has ended with it.
                    unit.op.take_if(|op| op.kind == OpKind::Look);
                }
            }
            _ => {}
        }
    }

    fn look_at_all(&mut self) {
        for unit in self.units.values_mut() {
            unit.stale = true;
        }
        self.touch_all();
    }

    fn connected(&mut self) {
        self.connected = true;
        self.actions.push(Action::Discover);
        self.look_at_all();
    }

    fn discovered(&mut self, discovery: Discovery) {
        let Discovery { mut found, members_stop_ms } = discovery;
        let mut list = self.gated.clone();
        for (name, unit) in &found {
            list.units.insert(name.0.clone());
            for member in &unit.members {
                list.members.insert(member.clone(), name.0.clone());
            }
            self.units.entry(name.clone()).or_default();
        }
        // What has a section of its own now, or belongs to another unit, is stopped by that one's permit.
        let is_others = |member: &String, owner: &UnitName| {
            let by = found.iter().find(|(_, unit)| unit.members.contains(member)).map(|(name, _)| name);
            found.contains_key(&UnitName(member.clone())) || by.is_some_and(|by| by != owner)
        };
        for (name, unit) in &mut self.units {
            for permit in unit.held.iter_mut().chain(&mut unit.left_filed) {
                permit.members.retain(|member| !is_others(member, name));
            }
        }
        let (mut lost, mut unasked) = (Vec::new(), Vec::new());
        for (name, unit) in &mut self.units {
            let asked = unit.asks_when_gone();
            let before = std::mem::replace(&mut unit.found, found.remove(name));
            if unit.asks_when_gone() != asked && (unit.run.is_down() || unit.run == Run::Unknown) {
                unasked.push(name.clone());
            }
            if before.is_some() && unit.found.is_none() {
                lost.push(name.clone());
            }
            unit.members_stop_ms = members_stop_ms.get(name).copied().unwrap_or(0);
        }
        for name in lost {
            // Also where it is meant: `systemctl revert` takes the section away without a word (gate, row 43).
            let message = format!(
                "its [X-Convoke] section is gone from this node, so the cluster does not start it here; it stays \
                 gated until no node offers it and it is forgotten (convoke forget {name})"
            );
            self.tell(&name, Kind::Notice, Priority::Warning, message);
        }
        for name in unasked {
            self.look_anew(&name);
        }
        self.discovered = true;
        if list != self.gated {
            self.gated = list;
            self.keep_gated();
        }
        self.touch_all();
    }

    fn look_at_lease(&mut self, now: &Now) {
        if now.leased {
            if !self.lease_live {
                self.lease_live = true;
                // Over a slow network orders come before the lease does: what waited for it is looked at again.
                self.touch_all();
            }
        } else if self.lease_live {
            self.lease_live = false;
            self.lease_ended(now);
        }
    }

    fn end_lease(&mut self, now: &Now) {
        self.actions.push(Action::EndLease);
        self.lease_live = false;
        self.lease_ended(now);
    }

    /// Says that the node goes down, before any release says so by its cause (F30).
    pub(super) fn leave(&mut self) {
        if !self.leaving {
            self.leaving = true;
            let (node, incarnation) = (self.node, self.incarnation.clone());
            self.outbox.push(Fact::NodeLeaving { node, incarnation });
        }
    }

    fn send(&mut self) {
        if self.session.is_none() || !self.inventory_told {
            return;
        }
        while let Some(waiting) = self.outbox.next() {
            waiting.sent = true;
            self.actions.push(Action::Send { number: waiting.number, fact: waiting.fact.clone() });
        }
    }

    fn tick(&mut self, now: &Now) {
        if self.kept == Kept::No {
            self.keep_gated();
        }
        self.repeat_errands(now);
        self.refuse_parked(now);
        // What could not be read, written or sent is tried again.
        let odd: Vec<UnitName> =
            self.units.iter().filter(|(_, unit)| unit.is_odd()).map(|(name, _)| name.clone()).collect();
        self.touched.extend(odd);
    }

    /// Whether something waits for the next tick.
    pub(super) fn is_restless(&self) -> bool {
        let retried = self.kept == Kept::No || self.has_errands() || self.units.values().any(Unit::is_odd);
        let untold = self.outbox.has_unsent();
        retried || untold || !self.lease_live || self.down_by_ms.is_some() || self.gates.has_open()
    }

    /// Whether anything would have to stop at the end of a lease.
    pub(super) fn holds_permits(&self) -> bool {
        self.units.values().any(|unit| unit.held.is_some())
    }

    /// Writes the floors. Nothing that rests on them may be sent before (F2).
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save_floors(&mut self) -> std::io::Result<()> {
        self.floors.save()
    }

    /// What the shell could not send is sent again at the next tick.
    pub fn unsend(&mut self) {
        self.outbox.unsend();
    }
}

/// The pause before a stop without a visible reason is looked at again.
pub(super) const SETTLE: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests;
