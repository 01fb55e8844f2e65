//! One fresh look at a unit, as PID 1 holds it at that moment.
//!
//! All properties come by a single `GetAll` over all interfaces, so they belong together; nothing is cached.
//! What the facts mean is decided elsewhere ([`gone`](super::gone), [`stops`](super::stops)).

use std::collections::HashMap;
use std::time::Duration;

use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use super::error::Error;
use super::handle::{CALL_LIMIT, Systemd};
use super::proxies::JOB_INTERFACE;
use super::signal::JobKind;

/// `ActiveState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "these are systemd's own words")]
pub enum ActiveState {
    Active,
    Reloading,
    Refreshing,
    Inactive,
    Failed,
    Activating,
    Deactivating,
    Maintenance,
    /// A word this version does not know; it counts as running.
    Other,
}

impl ActiveState {
    /// Reads systemd's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "active" => ActiveState::Active,
            "reloading" => ActiveState::Reloading,
            "refreshing" => ActiveState::Refreshing,
            "inactive" => ActiveState::Inactive,
            "failed" => ActiveState::Failed,
            "activating" => ActiveState::Activating,
            "deactivating" => ActiveState::Deactivating,
            "maintenance" => ActiveState::Maintenance,
            _ => ActiveState::Other,
        }
    }

    /// Inactive or failed: the first of the conditions under which a unit is gone.
    pub fn is_down(self) -> bool {
        matches!(self, ActiveState::Inactive | ActiveState::Failed)
    }

    /// Active in systemd's sense: dependents may run.
    pub fn is_up(self) -> bool {
        matches!(self, ActiveState::Active | ActiveState::Reloading | ActiveState::Refreshing)
    }
}

/// The unit's current job. The last two are `None` when it was over before it could be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentJob {
    /// Its number.
    pub id: u32,
    /// What it does.
    pub kind: Option<JobKind>,
    /// What set the job off: a timer or path. Empty for everything else, sockets among it. The unit's own property of this
    /// name is about its last activation, not about the one that waits at the gate. Unknown before 252.
    pub activation_details: Option<Vec<(String, String)>>,
}

/// One `Assert…=` line and how it was judged last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assert {
    /// `AssertPathExists` and so on.
    pub name: String,
    /// Written with `|`: only one of these must hold.
    pub trigger: bool,
    /// Written with `!`.
    pub negate: bool,
    /// The argument.
    pub parameter: String,
    /// 1 held, -1 did not, 0 not looked at yet.
    pub state: i32,
}

/// Other units this one stands in a relation to, by systemd's property names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "these are systemd's own names")]
pub struct Relations {
    pub requires: Vec<String>,
    pub requisite: Vec<String>,
    pub wants: Vec<String>,
    pub binds_to: Vec<String>,
    pub part_of: Vec<String>,
    pub upholds: Vec<String>,
    pub required_by: Vec<String>,
    pub requisite_of: Vec<String>,
    pub wanted_by: Vec<String>,
    pub bound_by: Vec<String>,
    pub consists_of: Vec<String>,
    pub upheld_by: Vec<String>,
    pub conflicts: Vec<String>,
    pub conflicted_by: Vec<String>,
    pub before: Vec<String>,
    pub after: Vec<String>,
    pub triggers: Vec<String>,
    pub triggered_by: Vec<String>,
    pub propagates_stop_to: Vec<String>,
    pub stop_propagated_from: Vec<String>,
    pub on_failure_of: Vec<String>,
    pub on_success_of: Vec<String>,
}

/// Times of the last changes of state, on CLOCK_MONOTONIC; `None` if it never happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "these are systemd's own names")]
pub struct Times {
    pub state_change: Option<Duration>,
    pub inactive_exit: Option<Duration>,
    pub active_enter: Option<Duration>,
    pub active_exit: Option<Duration>,
    pub inactive_enter: Option<Duration>,
}

/// Everything that is used of a unit. What a type of unit does not have is empty or `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields named like the systemd property need no second explanation")]
pub struct Reading {
    /// The unit's name after aliases were followed: its name in the cluster (rule F12).
    pub id: String,
    /// All its names.
    pub names: Vec<String>,
    pub load_state: String,
    pub active_state: ActiveState,
    pub sub_state: String,
    pub job: Option<CurrentJob>,
    pub fragment_path: String,
    pub drop_in_paths: Vec<String>,
    pub unit_file_state: String,
    pub need_daemon_reload: bool,
    /// Empty while the unit has never been active.
    pub invocation_id: Vec<u8>,
    pub asserts: Vec<Assert>,
    /// Whether the `Condition…=` lines held when they were looked at last; false before that, as of the asserts.
    pub condition_result: bool,
    pub assert_result: bool,
    pub relations: Relations,
    pub times: Times,
    pub can_freeze: bool,
    pub freezer_state: String,
    pub stop_when_unneeded: bool,

    /// Result of the last run, `success` or systemd's word for the failure; empty for targets and slices.
    pub result: String,
    pub slice: String,
    /// Empty while the unit has no group.
    pub control_group: String,
    pub main_pid: Option<u32>,
    pub n_restarts: u32,
    /// `CLD_EXITED` 1, `CLD_KILLED` 2, `CLD_DUMPED` 3; 0 when there was no main process.
    pub exec_main_code: i32,
    /// Exit status or number of the signal, by `exec_main_code`.
    pub exec_main_status: i32,
    pub restart: String,
    pub kill_mode: String,
    pub send_sigkill: bool,
    /// `None` is `infinity`.
    pub timeout_stop: Option<Duration>,
    pub timeout_start: Option<Duration>,
    /// Of mounts and swaps.
    pub what: String,
    /// Of mounts.
    pub where_: String,
    pub lazy_unmount: bool,
}

impl Reading {
    /// Whether systemd waits for `RestartSec=` to pass and will start the unit again by itself.
    pub fn is_auto_restart(&self) -> bool {
        self.sub_state.starts_with("auto-restart")
    }

    /// The part of the name that says the type: `service`, `mount`…
    pub fn unit_type(&self) -> &str {
        self.id.rsplit_once('.').map_or("", |(_, suffix)| suffix)
    }
}

impl Systemd {
    /// Reads the unit afresh from PID 1, loading it if need be.
    ///
    /// # Errors
    /// When PID 1 cannot be asked, or an essential property is missing.
    pub async fn read(&self, unit: &str) -> Result<Reading, Error> {
        let path = self.load(unit).await?;
        let object = self.properties(path.as_str()).await?;
        let all = self.ask("GetAll", CALL_LIMIT, object.get_all("")).await?;
        let mut bag = Bag(all);
        let job: Option<(u32, OwnedObjectPath)> = bag.maybe("Job");
        let mut reading = bag.reading(unit)?;
        if let Some((id, path)) = job.filter(|(id, _)| *id != 0) {
            let object = self.properties(path.as_str()).await?;
            let all = match self.ask("GetAll", CALL_LIMIT, object.get_all(JOB_INTERFACE)).await {
                // It was over; that there *was* a job at the reading still counts.
                Err(Error::Refused { .. }) => HashMap::new(),
                all => all?,
            };
            let mut bag = Bag(all);
            let kind = bag.maybe::<String>("JobType").and_then(|word| JobKind::parse(&word));
            reading.job = Some(CurrentJob { id, kind, activation_details: bag.maybe("ActivationDetails") });
        }
        Ok(reading)
    }
}

/// Properties on their way into a [`Reading`].
struct Bag(HashMap<String, OwnedValue>);

impl Bag {
    fn maybe<T: TryFrom<OwnedValue>>(&mut self, name: &str) -> Option<T> {
        self.0.remove(name).and_then(|value| T::try_from(value).ok())
    }

    fn or_empty<T: TryFrom<OwnedValue> + Default>(&mut self, name: &str) -> T {
        self.maybe(name).unwrap_or_default()
    }

    fn needed(&mut self, name: &'static str, unit: &str) -> Result<String, Error> {
        self.maybe(name).ok_or_else(|| Error::Malformed { what: name, value: format!("missing in {unit}") })
    }

    /// A point in time, 0 meaning never.
    fn time(&mut self, name: &str) -> Option<Duration> {
        self.maybe(name).filter(|usec| *usec != 0).map(Duration::from_micros)
    }

    /// A length of time, the greatest number meaning without end.
    fn span(&mut self, names: &[&str]) -> Option<Duration> {
        let usec = names.iter().find_map(|name| self.maybe::<u64>(name))?;
        Some(usec).filter(|usec| *usec != u64::MAX).map(Duration::from_micros)
    }

    fn reading(&mut self, unit: &str) -> Result<Reading, Error> {
        let asserts: Vec<(String, bool, bool, String, i32)> = self.or_empty("Asserts");
        Ok(Reading {
            id: self.needed("Id", unit)?,
            names: self.or_empty("Names"),
            load_state: self.needed("LoadState", unit)?,
            active_state: ActiveState::parse(&self.needed("ActiveState", unit)?),
            sub_state: self.needed("SubState", unit)?,
            job: None,
            fragment_path: self.or_empty("FragmentPath"),
            drop_in_paths: self.or_empty("DropInPaths"),
            unit_file_state: self.or_empty("UnitFileState"),
            need_daemon_reload: self.or_empty("NeedDaemonReload"),
            invocation_id: self.or_empty("InvocationID"),
            asserts: asserts
                .into_iter()
                .map(|(name, trigger, negate, parameter, state)| Assert {
                    name,
                    trigger,
                    negate,
                    parameter,
                    state,
                })
                .collect(),
            condition_result: self.or_empty("ConditionResult"),
            assert_result: self.or_empty("AssertResult"),
            relations: self.relations(),
            times: Times {
                state_change: self.time("StateChangeTimestampMonotonic"),
                inactive_exit: self.time("InactiveExitTimestampMonotonic"),
                active_enter: self.time("ActiveEnterTimestampMonotonic"),
                active_exit: self.time("ActiveExitTimestampMonotonic"),
                inactive_enter: self.time("InactiveEnterTimestampMonotonic"),
            },
            can_freeze: self.or_empty("CanFreeze"),
            freezer_state: self.or_empty("FreezerState"),
            stop_when_unneeded: self.or_empty("StopWhenUnneeded"),
            result: self.or_empty("Result"),
            slice: self.or_empty("Slice"),
            control_group: self.or_empty("ControlGroup"),
            main_pid: self.maybe("MainPID").filter(|pid| *pid != 0),
            n_restarts: self.or_empty("NRestarts"),
            exec_main_code: self.or_empty("ExecMainCode"),
            exec_main_status: self.or_empty("ExecMainStatus"),
            restart: self.or_empty("Restart"),
            kill_mode: self.or_empty("KillMode"),
            send_sigkill: self.maybe("SendSIGKILL").unwrap_or(true),
            timeout_stop: self.span(&["TimeoutStopUSec", "TimeoutUSec"]),
            timeout_start: self.span(&["TimeoutStartUSec"]),
            what: self.or_empty("What"),
            where_: self.or_empty("Where"),
            lazy_unmount: self.or_empty("LazyUnmount"),
        })
    }

    fn relations(&mut self) -> Relations {
        Relations {
            requires: self.or_empty("Requires"),
            requisite: self.or_empty("Requisite"),
            wants: self.or_empty("Wants"),
            binds_to: self.or_empty("BindsTo"),
            part_of: self.or_empty("PartOf"),
            upholds: self.or_empty("Upholds"),
            required_by: self.or_empty("RequiredBy"),
            requisite_of: self.or_empty("RequisiteOf"),
            wanted_by: self.or_empty("WantedBy"),
            bound_by: self.or_empty("BoundBy"),
            consists_of: self.or_empty("ConsistsOf"),
            upheld_by: self.or_empty("UpheldBy"),
            conflicts: self.or_empty("Conflicts"),
            conflicted_by: self.or_empty("ConflictedBy"),
            before: self.or_empty("Before"),
            after: self.or_empty("After"),
            triggers: self.or_empty("Triggers"),
            triggered_by: self.or_empty("TriggeredBy"),
            propagates_stop_to: self.or_empty("PropagatesStopTo"),
            stop_propagated_from: self.or_empty("StopPropagatedFrom"),
            on_failure_of: self.or_empty("OnFailureOf"),
            on_success_of: self.or_empty("OnSuccessOf"),
        }
    }
}
