//! Carries out operations on units: the asynchronous half of what the agent decided.
//!
//! Each function is one operation and returns how it ended. Permit files are not touched here: they are written and
//! removed in the loop, in the order of its decisions.

use std::time::Duration;

use policy::UnitName;
use tokio::sync::mpsc;
use tokio::time::Instant;
use units::gate::GateFault;
use units::section::Program;
use units::systemd::stops::Bonds;
use units::systemd::{Cgroups, Error, JobKind, Left, Reading, Remembered, StillThere, SystemState, Systemd};

use super::chain;
use super::event::{End, Event, Failure, IfStuck, Look, OpId, Stop};
use super::looks::{look, still_answers};
use super::offer::gate_faults;
use super::reconcile::is_trigger;
use super::remains;
use super::takedown::take_down;
use super::wishes::Spool;
use crate::session::{Lease, Pulse};
use crate::watchdog::Watchdog;

/// How much longer than `TimeoutStartSec=` a start may take: it may wait for units that it is ordered after.
const START_SLACK: Duration = Duration::from_secs(600);
/// Stands for `TimeoutStartSec=infinity`: a start ends when PID 1 or the cluster ends it.
const START_ENDLESS: Duration = Duration::from_secs(7 * 86_400);
/// After a stop's job is over, nobody else will end what is left; it is given this long to go by itself.
const LEFTOVER: Duration = Duration::from_secs(5);
/// How long a killed group may take to be empty.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// The same, when the lease has ended.
const KILL_LIMIT_WITHOUT_LEASE: Duration = Duration::from_millis(200);
/// Between two looks at what is left, at first and at the most.
const VERIFY_PAUSE: Duration = Duration::from_millis(5);
const VERIFY_PAUSE_MAX: Duration = Duration::from_millis(200);
/// Between two attempts at a stuck stop.
const STUCK_PAUSE: Duration = Duration::from_secs(1);
/// For how long it is nobody's affair that a unit waits for what PID 1 stops before it, and when that is given up.
const OTHERS_QUIET: Duration = Duration::from_secs(90);
const OTHERS_LIMIT: Duration = Duration::from_secs(900);
/// From the first kill to the take-down, where `OnStopFailure=fence` asks for it.
const STUCK_LIMIT: Duration = Duration::from_secs(10);

/// What every operation needs.
#[derive(Clone, Debug)]
pub(super) struct Hands {
    pub(super) systemd: Systemd,
    pub(super) lease: Lease,
    pub(super) pulse: Pulse,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) spool: Spool,
    pub(super) watchdog: Watchdog,
    pub(super) node_name: String,
}

/// One operation on one unit.
pub(super) struct Task {
    pub(super) op: OpId,
    pub(super) unit: UnitName,
    pub(super) hands: Hands,
}

impl Task {
    fn name(&self) -> &str {
        self.unit.as_str()
    }

    /// Looks at the unit; of one that is down, also at why it may be, and at what is left of it.
    ///
    /// Of one that names a program for that, outside its processes too: a stop that failed may be of an earlier daemon.
    pub(super) async fn look(&self, watch: bool, after: Duration, gone: Option<&Program>) -> End {
        tokio::time::sleep(after).await;
        if watch && let Err(error) = self.hands.systemd.watch(self.name()).await {
            return failed(&error);
        }
        match look(&self.hands.systemd, self.name()).await {
            Ok(mut look) => {
                if let Some(program) =
                    gone.filter(|_| look.reading.active_state.is_down() && look.left.is_none())
                {
                    look.left = self.nothing_left(program, remains::LIMIT).await.err();
                    if look.left.is_some()
                        && let Err(error) = still_answers(&self.hands.systemd).await
                    {
                        return failed(&error);
                    }
                }
                self.hands.pulse.felt();
                End::Looked(Box::new(look))
            }
            Err(error) => failed(&error),
        }
    }

    /// Starts the unit. Its sockets come first: systemd refuses them once the service runs.
    pub(super) async fn start(&self, triggers: &[String], timeout: Option<Duration>) -> End {
        let systemd = &self.hands.systemd;
        let within = timeout.map_or(START_ENDLESS, |limit| limit + START_SLACK);
        let (sockets, others): (Vec<_>, Vec<_>) = triggers.iter().partition(|name| name.ends_with(".socket"));
        for socket in sockets {
            self.start_member(socket).await;
        }
        // The last look before the start (F8).
        if self.hands.lease.left().is_none() {
            return End::Failed(Failure::NoLease);
        }
        // `StartLimitBurst=` counts systemd's own restarts; how often the cluster starts a unit is the cluster's matter
        // (`FailuresMax=`), and a few moves in a row are no failure. Sent ahead of the start, and not waited for.
        let (reset, started) =
            tokio::join!(systemd.reset_failed(self.name()), systemd.start(self.name(), within));
        if let Err(error) = reset {
            tracing::debug!(unit = %self.unit, %error, "failures were not reset");
        }
        let job = match started {
            Ok(end) => end.result.to_string(),
            Err(Error::Unfinished { job, .. }) => {
                tracing::warn!(unit = %self.unit, "the start does not end; it is cancelled");
                if let Err(error) = systemd.cancel_job(job).await {
                    return failed(&error);
                }
                format!("cancelled after {} s", within.as_secs())
            }
            // PID 1 takes no start any more once the machine is to go down.
            Err(Error::Refused { .. })
                if matches!(systemd.manager_state().await, Ok(SystemState::Stopping)) =>
            {
                return End::Failed(Failure::Leaving);
            }
            Err(error) => return failed(&error),
        };
        let look = match look(systemd, self.name()).await {
            Ok(look) => look,
            Err(error) => return failed(&error),
        };
        if look.reading.active_state.is_up() {
            let mut starting = tokio::task::JoinSet::new();
            for other in others {
                let (member, hands, unit, op) =
                    (other.clone(), self.hands.clone(), self.unit.clone(), self.op);
                starting.spawn(async move { Task { op, unit, hands }.start_member(&member).await });
            }
            // They go on by themselves: that the unit runs is told at once.
            starting.detach_all();
        }
        End::Started { job, look: Box::new(look) }
    }

    /// Starts a socket, timer or path that is enabled: the gate has kept it from starting at boot.
    async fn start_member(&self, member: &str) {
        let systemd = &self.hands.systemd;
        let started = async {
            let reading = systemd.read(member).await?;
            if reading.active_state.is_down() && reading.unit_file_state.starts_with("enabled") {
                systemd.start(member, START_SLACK).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = started.await {
            tracing::warn!(unit = %self.unit, member, %error, "a unit that belongs to it was not started");
        }
    }

    pub(super) async fn freeze(&self) -> End {
        let frozen = async {
            self.hands.systemd.freeze(self.name()).await?;
            look(&self.hands.systemd, self.name()).await
        };
        End::Froze(frozen.await.map(Box::new).map_err(|error| error.to_string()))
    }

    pub(super) async fn thaw(&self) -> End {
        let thawed = async {
            self.hands.systemd.thaw(self.name()).await?;
            look(&self.hands.systemd, self.name()).await
        };
        End::Thawed(thawed.await.map(Box::new).map_err(|error| error.to_string()))
    }

    /// The second and third step of a release (F1): stops, and reads afresh that nothing is left. Does not give up.
    pub(super) async fn stop(&self, stop: &Stop) -> End {
        let begun = Instant::now();
        let spooling = stop.spool.clone().map(|spooled| {
            let spool = self.hands.spool.clone();
            tokio::task::spawn_blocking(move || spool.keep(&spooled))
        });
        if stop.frozen
            && let Err(error) = self.kill_frozen(stop).await
        {
            return failed(&error);
        }
        let mut killed: Option<Instant> = None;
        let mut deadline = begun + stop.budget;
        // What is down already needs no stop, which would only cancel somebody's next start.
        let mut early = match stop.down {
            true => self.verify(stop, deadline).await.ok(),
            false => None,
        };
        let gone = loop {
            let stopped = match early.take() {
                Some(look) => Ok(look),
                None => self.stop_until(stop, deadline).await,
            };
            match stopped {
                Ok(look) => break look,
                Err(Obstacle::Connection(error)) => return End::Failed(Failure::Connection(error)),
                Err(Obstacle::Still(what)) => {
                    if stop.if_stuck == IfStuck::TakeDown {
                        let last = self.kill(stop, KILL_LIMIT_WITHOUT_LEASE).await;
                        if last.is_ok()
                            && let Ok(look) =
                                self.verify(stop, Instant::now() + KILL_LIMIT_WITHOUT_LEASE).await
                        {
                            break look;
                        }
                        let why = format!(
                            "{} had to stop at the end of the lease and did not within {} ms: {what}",
                            self.unit,
                            stop.budget.as_millis()
                        );
                        take_down(Some(self.name()), why, self.hands.watchdog.protects()).await;
                    }
                    if killed.is_none() && begun.elapsed() < OTHERS_LIMIT && self.stops_after_others().await {
                        if begun.elapsed() >= OTHERS_QUIET {
                            let what =
                                format!("{what}; it waits for what stops before it (systemctl list-jobs)");
                            if let Err(end) =
                                self.tell(Event::Stuck { op: self.op, unit: self.unit.clone(), what }).await
                            {
                                return end;
                            }
                        }
                        tokio::time::sleep(STUCK_PAUSE).await;
                        deadline = Instant::now() + STUCK_PAUSE;
                        continue;
                    }
                    let first = *killed.get_or_insert_with(Instant::now);
                    if stop.if_stuck == IfStuck::TakeDownLater && first.elapsed() >= STUCK_LIMIT {
                        let why = format!("{} cannot be stopped (OnStopFailure=fence): {what}", self.unit);
                        take_down(Some(self.name()), why, self.hands.watchdog.protects()).await;
                    }
                    if let Err(error) = self.kill(stop, KILL_LIMIT).await {
                        tracing::warn!(unit = %self.unit, %error, "what is left cannot be killed");
                    }
                    if let Ok(look) = self.verify(stop, Instant::now() + remains::LIMIT).await {
                        break look;
                    }
                    if let Err(end) =
                        self.tell(Event::Stuck { op: self.op, unit: self.unit.clone(), what }).await
                    {
                        return end;
                    }
                    tokio::time::sleep(STUCK_PAUSE).await;
                    deadline = Instant::now() + STUCK_PAUSE;
                }
            }
        };
        if let Some(spooling) = spooling
            && let Ok(Err(error)) = spooling.await
        {
            let unspooled = Event::NotSpooled { unit: self.unit.clone(), why: error.to_string() };
            if let Err(end) = self.tell(unspooled).await {
                return end;
            }
        }
        End::Gone(Box::new(gone))
    }

    async fn tell(&self, event: Event) -> Result<(), End> {
        let sent = self.hands.events.send(event).await;
        sent.map_err(|_| End::Failed(Failure::Other("the agent has ended".to_owned())))
    }

    /// Whether its own stop has not begun: what depends on it stops first, each in the time that PID 1 gives it.
    async fn stops_after_others(&self) -> bool {
        let reading = self.hands.systemd.read(self.name()).await;
        reading.is_ok_and(|reading| {
            let stops = reading.job.as_ref().is_some_and(|job| job.kind == Some(JobKind::Stop));
            stops && reading.active_state.is_up()
        })
    }

    /// Has PID 1 stop everything, and verifies, until it is gone or the deadline has passed.
    async fn stop_until(&self, stop: &Stop, deadline: Instant) -> Result<Look, Obstacle> {
        let mut patience: Option<Instant> = None;
        loop {
            self.ask_stops(stop, deadline).await?;
            let mut pause = VERIFY_PAUSE;
            loop {
                let still = match self.verify(stop, deadline).await {
                    Ok(look) => return Ok(look),
                    Err(still) => still,
                };
                let now = Instant::now();
                let again = match still.why {
                    Left::Unknown(_) if self.hands.systemd.manager_state().await.is_err() => {
                        return Err(Obstacle::Connection(still.to_string()));
                    }
                    // Its own restart or somebody's start came first; without its file it gets no further.
                    Left::AutoRestart | Left::State(_) | Left::Job(_) => true,
                    _ => false,
                };
                let until =
                    if again { deadline } else { deadline.min(*patience.get_or_insert(now + LEFTOVER)) };
                if now >= until {
                    return Err(Obstacle::Still(still.to_string()));
                }
                // A program is not asked as often as a control group is read.
                let outside = matches!(still.why, Left::Outside(_));
                tokio::time::sleep(if outside {
                    STUCK_PAUSE.min(until.saturating_duration_since(now))
                } else {
                    pause
                })
                .await;
                if again {
                    break;
                }
                pause = (pause * 2).min(VERIFY_PAUSE_MAX);
            }
        }
    }

    /// What would start the unit again stops first, what it stands on last. One deadline for all of them: a socket
    /// that hangs takes its time from the unit, and not from the leader's patience. Each is asked for all the same.
    async fn ask_stops(&self, stop: &Stop, deadline: Instant) -> Result<(), Obstacle> {
        let systemd = &self.hands.systemd;
        let (first, last): (Vec<_>, Vec<_>) = stop.members.iter().partition(|name| is_trigger(name));
        for batch in [first, vec![&self.unit.0], last] {
            let within = deadline.saturating_duration_since(Instant::now());
            let stops = batch.into_iter().map(|name| systemd.stop(name, within));
            for end in futures_util::future::join_all(stops).await {
                match end {
                    Err(error) if is_connection(&error) => return Err(Obstacle::Connection(chain(&error))),
                    // A unit without a file cannot be stopped, and what does not end is seen below.
                    Err(error) => tracing::debug!(unit = %self.unit, %error, "PID 1 did not finish a stop"),
                    Ok(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is left of the unit and of what is gated on its permit; and, asked last, outside its processes.
    async fn verify(&self, stop: &Stop, deadline: Instant) -> Result<Look, Box<StillThere>> {
        let systemd = &self.hands.systemd;
        for member in &stop.members {
            systemd.gone(member, &stop.remembered).await.map_err(Box::new)?;
        }
        let reading = match systemd.gone(self.name(), &stop.remembered).await {
            Ok(gone) => gone.reading,
            Err(still) => match (&still.why, systemd.read(self.name()).await) {
                (Left::Job(_), Ok(reading)) if waits_at_gate(&reading, &stop.remembered) => reading,
                _ => return Err(Box::new(still)),
            },
        };
        if let Some(program) = &stop.gone {
            let limit = deadline.saturating_duration_since(Instant::now()).max(KILL_LIMIT_WITHOUT_LEASE);
            let asked = self.nothing_left(program, limit).await;
            let (unit, part, result) = (self.unit.0.clone(), self.unit.0.clone(), String::new());
            asked.map_err(|why| Box::new(StillThere { unit, part, result, why: Left::Outside(why) }))?;
        }
        Ok(Look {
            reading,
            remembered: stop.remembered.clone(),
            left: None,
            manager: None,
            bonds: Bonds::default(),
            partners_gone: Vec::new(),
        })
    }

    async fn nothing_left(&self, program: &Program, limit: Duration) -> Result<(), String> {
        remains::nothing_left(&self.hands.systemd, program, &self.unit, &self.hands.node_name, limit).await
    }

    async fn kill(&self, stop: &Stop, within: Duration) -> Result<bool, Error> {
        let groups = self.groups(stop).await?;
        self.hands.systemd.kill_group(&groups, within).await
    }

    /// Kills what is frozen, and nothing of it goes on before (F26).
    async fn kill_frozen(&self, stop: &Stop) -> Result<bool, Error> {
        let groups = self.groups(stop).await?;
        if let Err(error) = self.hands.systemd.thaw_halted(self.name(), &groups).await {
            tracing::info!(unit = %self.unit, %error, "killed without a thaw");
        }
        self.hands.systemd.kill_group(&groups, stop.budget).await
    }

    async fn groups(&self, stop: &Stop) -> Result<Remembered, Error> {
        let mut groups = stop.remembered.clone();
        for name in stop.members.iter().map(String::as_str).chain([self.name()]) {
            groups.add(&self.hands.systemd.read(name).await?);
        }
        Ok(groups)
    }
}

/// Whether a unit that is down has nothing but a start that waits. The permit's file was removed before this reading:
/// a start that had passed its assert would show as activating, and one that had not will not pass it any more.
fn waits_at_gate(reading: &Reading, remembered: &Remembered) -> bool {
    let relations = &reading.relations;
    let parts = [&relations.consists_of, &relations.bound_by, &relations.propagates_stop_to];
    let alone = parts.into_iter().flatten().all(|name| name.starts_with("convoke-gate@"));
    let starts = reading.job.as_ref().is_some_and(|job| job.kind == Some(JobKind::Start));
    let gated = reading.load_state == "loaded" && !gate_faults(reading).iter().any(GateFault::opens);
    let own = remembered.groups.get(&reading.id);
    let cgroups = Cgroups::of_this_host();
    let empty = own.is_some_and(|groups| {
        groups
            .iter()
            .chain(Some(&reading.control_group).filter(|group| !group.is_empty()))
            .all(|group| matches!(cgroups.is_populated(group), Ok(false)))
    });
    reading.unit_type() == "service" && reading.active_state.is_down() && starts && alone && gated && empty
}

enum Obstacle {
    Connection(String),
    Still(String),
}

pub(super) fn is_connection(error: &Error) -> bool {
    matches!(
        error,
        Error::Disconnected | Error::Silent { .. } | Error::Wire { .. } | Error::Unreachable { .. }
    )
}

fn failed(error: &Error) -> End {
    let text = chain(error);
    End::Failed(if is_connection(error) { Failure::Connection(text) } else { Failure::Other(text) })
}

/// CLOCK_MONOTONIC, the clock of systemd's signals.
pub(super) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
