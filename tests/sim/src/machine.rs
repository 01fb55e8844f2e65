//! A machine as it really is: its power, its PID 1 with units and gates, and the files that a reboot takes with it.
//!
//! What runs here is the truth that the cluster only hears of. Times are of the machine's own monotonic clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bridge::agent::{Look, PermitFile};
use policy::{CaseId, Definition, Start, Token, UnitName};
use tokio::sync::mpsc;
use units::systemd::{
    ActiveState, Assert, CurrentJob, JobKind, JobResult, Reading, Relations, Remembered, Signal, SystemState,
    Times,
};

use crate::dog::Dog;
use crate::rng::Rng;

/// `TimeoutStopSec=` of every unit: its stop budget comes from it.
pub(crate) const TIMEOUT_STOP: Duration = Duration::from_millis(600);
const RESTART_MS: u64 = 100;

/// What PID 1 does with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Down,
    Failed,
    Starting {
        until: u64,
    },
    Up,
    Stopping {
        until: u64,
    },
    /// It crashed, and is started again then.
    Restarting {
        until: u64,
    },
}

/// One unit of a machine.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) definition: Definition,
    /// `Restart=on-failure`.
    pub(crate) restarts: bool,
    pub(crate) doing: Doing,
    /// Whether its control group is populated.
    pub(crate) alive: bool,
    job: Option<(u32, JobKind, bool)>,
    entered: [Option<Duration>; 4],
    /// How often it was started in this life of the machine.
    pub(crate) runs: u8,
}

/// A process of a unit came to life.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    pub(crate) unit: UnitName,
    /// The permit whose file opened the gate.
    pub(crate) token: Option<Token>,
    /// PID 1's own restart.
    pub(crate) restart: bool,
    /// What it finds in its environment: how a clustered service starts.
    pub(crate) start: Start,
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) powered: bool,
    /// It stands still until then, in time of the world.
    pub(crate) paused_until: u64,
    pub(crate) boots: u32,
    pub(crate) units: BTreeMap<UnitName, Unit>,
    /// Below /run/convoke/permits.
    pub(crate) permits: BTreeMap<UnitName, PermitFile>,
    /// Below /run/convoke/spent: their one start was begun.
    pub(crate) spent: BTreeMap<UnitName, PermitFile>,
    /// Below /run/convoke/releasing.
    pub(crate) releasing: BTreeMap<UnitName, PermitFile>,
    /// Below /run/convoke/begun: fence attempts.
    pub(crate) begun: BTreeSet<(CaseId, u32)>,
    /// Below /run/convoke/env: how a start is made.
    pub(crate) starts: BTreeMap<UnitName, Start>,
    /// Its watchdog, while that runs.
    pub(crate) dog: Option<Dog>,
    pub(crate) births: Vec<Birth>,
    /// A fault that was put in: gates do not look for a permit.
    pub(crate) gates_open: bool,
    /// The agent took the node down.
    pub(crate) must_reboot: Option<String>,
    /// Its daemon ended itself: Raft cannot go on.
    pub(crate) daemon_ended: Option<String>,
    pub(crate) now: u64,
    /// Time of the world, which its watchdog counts.
    pub(crate) world: u64,
    pub(crate) rng: Rng,
    signals: Option<mpsc::UnboundedSender<Signal>>,
    last_job: u32,
}

impl Machine {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            powered: false,
            paused_until: 0,
            boots: 0,
            units: BTreeMap::new(),
            permits: BTreeMap::new(),
            spent: BTreeMap::new(),
            releasing: BTreeMap::new(),
            begun: BTreeSet::new(),
            starts: BTreeMap::new(),
            dog: None,
            births: Vec::new(),
            gates_open: false,
            must_reboot: None,
            daemon_ended: None,
            now: 0,
            world: 0,
            rng,
            signals: None,
            last_job: 0,
        }
    }

    pub(crate) fn offer(&mut self, name: &str, definition: Definition, restarts: bool) {
        let unit = Unit {
            definition,
            restarts,
            doing: Doing::Down,
            alive: false,
            job: None,
            entered: [None; 4],
            runs: 0,
        };
        self.units.insert(name.into(), unit);
    }

    /// Everything that is not on disk is gone.
    pub(crate) fn power_off(&mut self) {
        self.powered = false;
        self.signals = None;
        self.must_reboot = None;
        self.permits.clear();
        self.spent.clear();
        self.releasing.clear();
        self.begun.clear();
        self.starts.clear();
        self.dog = None;
        for unit in self.units.values_mut() {
            (unit.doing, unit.alive, unit.job, unit.entered, unit.runs) =
                (Doing::Down, false, None, [None; 4], 0);
        }
    }

    /// An agent hears PID 1 from now on.
    pub(crate) fn subscribe(&mut self) -> mpsc::UnboundedReceiver<Signal> {
        let (signals, heard) = mpsc::unbounded_channel();
        self.signals = Some(signals);
        heard
    }

    fn say(&self, signal: Signal) {
        if let Some(signals) = &self.signals {
            // The agent may have gone.
            let _ = signals.send(signal);
        }
    }

    fn mono(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn enter(&mut self, name: &UnitName, doing: Doing, alive: bool) {
        let now = self.mono();
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.doing = doing;
        unit.alive = alive;
        match doing {
            Doing::Starting { .. } => {
                unit.entered[0] = Some(now);
                unit.runs = unit.runs.wrapping_add(1);
            }
            Doing::Up => unit.entered[1] = Some(now),
            Doing::Stopping { .. } => unit.entered[2] = Some(now),
            Doing::Down | Doing::Failed | Doing::Restarting { .. } => unit.entered[3] = Some(now),
        }
        let sub_state = Some(states(doing).1.to_owned());
        self.say(Signal::UnitChanged { unit: name.0.clone(), active_state: None, sub_state });
    }

    fn queue(&mut self, name: &UnitName, kind: JobKind, ours: bool) -> u32 {
        self.end_job(name, JobResult::Canceled);
        self.last_job += 1;
        let id = self.last_job;
        if let Some(unit) = self.units.get_mut(name) {
            unit.job = Some((id, kind, ours));
        }
        let at = self.mono();
        self.say(Signal::JobNew { id, unit: name.0.clone(), kind: Some(kind), ours, at });
        id
    }

    fn end_job(&mut self, name: &UnitName, result: JobResult) {
        let job = self.units.get_mut(name).and_then(|unit| unit.job.take());
        if let Some((id, _, ours)) = job {
            self.say(Signal::JobRemoved { id, unit: name.0.clone(), result, ours, at: self.mono() });
        }
    }

    /// Whether this job has ended.
    pub(crate) fn is_over(&self, name: &UnitName, id: u32) -> bool {
        self.units.get(name).is_none_or(|unit| unit.job.is_none_or(|(job, _, _)| job != id))
    }

    /// `StartUnit`; the job's number.
    pub(crate) fn start(&mut self, name: &UnitName, ours: bool) -> u32 {
        let doing = self.units.get(name).map_or(Doing::Up, |unit| unit.doing);
        if matches!(doing, Doing::Stopping { .. }) && !ours {
            return 0;
        }
        let id = self.queue(name, JobKind::Start, ours);
        match doing {
            Doing::Down | Doing::Failed | Doing::Restarting { .. } => self.bear(name, false),
            Doing::Up => self.end_job(name, JobResult::Done),
            Doing::Starting { .. } | Doing::Stopping { .. } => {}
        }
        id
    }

    /// `StopUnit`; the job's number.
    pub(crate) fn stop(&mut self, name: &UnitName, ours: bool) -> u32 {
        let Some(unit) = self.units.get(name) else { return 0 };
        let doing = unit.doing;
        if let (Doing::Stopping { .. }, Some((id, JobKind::Stop, _))) = (doing, unit.job) {
            return id;
        }
        let id = self.queue(name, JobKind::Stop, ours);
        match doing {
            Doing::Down | Doing::Failed => self.end_job(name, JobResult::Done),
            Doing::Restarting { .. } => {
                self.enter(name, Doing::Down, false);
                self.end_job(name, JobResult::Done);
            }
            Doing::Starting { .. } | Doing::Up => {
                let until = match self.rng.percent(4) {
                    // It hangs: TimeoutStopSec= has PID 1 kill it.
                    true => self.now + TIMEOUT_STOP.as_millis() as u64,
                    false => self.now + self.rng.between(5, 500),
                };
                self.enter(name, Doing::Stopping { until }, true);
            }
            Doing::Stopping { .. } => {}
        }
        id
    }

    /// Kills what is in the control group.
    pub(crate) fn kill(&mut self, name: &UnitName) {
        match self.units.get(name).map(|unit| unit.doing) {
            Some(Doing::Stopping { .. }) => {
                self.enter(name, Doing::Failed, false);
                self.end_job(name, JobResult::Done);
            }
            Some(Doing::Starting { .. } | Doing::Up) => self.crash(name),
            _ => {}
        }
    }

    /// Its main process dies.
    pub(crate) fn crash(&mut self, name: &UnitName) {
        let Some(unit) = self.units.get(name) else { return };
        let restarts = unit.restarts;
        match unit.doing {
            Doing::Up if restarts => {
                let until = self.now + RESTART_MS;
                self.enter(name, Doing::Restarting { until }, false);
            }
            Doing::Starting { .. } | Doing::Up => {
                self.enter(name, Doing::Failed, false);
                self.end_job(name, JobResult::Failed);
            }
            _ => {}
        }
    }

    /// The gate is looked at, and the process forked.
    fn bear(&mut self, name: &UnitName, restart: bool) {
        let token = self.permits.get(name).map(|permit| permit.token);
        if token.is_none() && !self.gates_open {
            if restart {
                self.enter(name, Doing::Failed, false);
            }
            return self.end_job(name, JobResult::Assert);
        }
        let comes_up = self.now + self.rng.between(5, 400);
        // When a clustered service is up is its group's matter (src/store.rs).
        let clustered = self.units.get(name).is_some_and(|unit| unit.definition.assembly.is_some());
        let until = if clustered { u64::MAX } else { comes_up };
        let start = self.starts.get(name).copied().unwrap_or(Start::Join);
        self.births.push(Birth { unit: name.clone(), token, restart, start });
        self.enter(name, Doing::Starting { until }, true);
    }

    /// A copy of a clustered service has come up, or has given up to.
    pub(crate) fn comes(&mut self, name: &UnitName, up: bool) {
        if !matches!(self.units.get(name).map(|unit| unit.doing), Some(Doing::Starting { .. })) {
            return;
        }
        let (doing, result) = match up {
            true => (Doing::Up, JobResult::Done),
            false => (Doing::Failed, JobResult::Failed),
        };
        self.enter(name, doing, up);
        self.end_job(name, result);
    }

    /// Brings what is due.
    pub(crate) fn step(&mut self, now: u64) {
        self.now = now;
        let names: Vec<UnitName> = self.units.keys().cloned().collect();
        for name in names {
            let Some(unit) = self.units.get(&name) else { continue };
            match unit.doing {
                Doing::Starting { until } if until <= now => {
                    self.enter(&name, Doing::Up, true);
                    self.end_job(&name, JobResult::Done);
                }
                Doing::Stopping { until } if until <= now => {
                    self.enter(&name, Doing::Down, false);
                    self.end_job(&name, JobResult::Done);
                }
                Doing::Restarting { until } if until <= now => self.bear(&name, true),
                _ => {}
            }
        }
    }

    /// What the agent sees of a unit.
    pub(crate) fn look(&self, name: &UnitName) -> Look {
        let reading = self.reading(name);
        let alive = self.units.get(name).is_some_and(|unit| unit.alive);
        let down = reading.active_state.is_down();
        Look {
            remembered: Remembered::of(&reading),
            left: (down && alive).then(|| "processes".to_owned()),
            manager: down.then_some(SystemState::Running),
            bonds: units::systemd::stops::Bonds::default(),
            partners_gone: Vec::new(),
            reading,
        }
    }

    fn reading(&self, name: &UnitName) -> Reading {
        let unit = self.units.get(name);
        let (active_state, sub_state) = states(unit.map_or(Doing::Down, |unit| unit.doing));
        let failed = active_state == ActiveState::Failed || sub_state == "auto-restart";
        let entered = unit.map_or([None; 4], |unit| unit.entered);
        let job = unit.and_then(|unit| unit.job);
        Reading {
            id: name.0.clone(),
            names: vec![name.0.clone()],
            load_state: if unit.is_some() { "loaded" } else { "not-found" }.to_owned(),
            active_state,
            sub_state: sub_state.to_owned(),
            job: job.map(|(id, kind, _)| CurrentJob { id, kind: Some(kind), activation_details: None }),
            fragment_path: format!("/etc/systemd/system/{name}"),
            drop_in_paths: vec![format!("/run/systemd/generator.early/{name}.d/~convoke-gate.conf")],
            unit_file_state: "disabled".to_owned(),
            need_daemon_reload: false,
            invocation_id: unit.filter(|unit| unit.runs > 0).map_or(Vec::new(), |unit| vec![unit.runs; 16]),
            asserts: vec![Assert {
                name: "AssertPathExists".to_owned(),
                trigger: false,
                negate: false,
                parameter: format!("/run/convoke/permits/{name}"),
                state: 1,
            }],
            condition_result: true,
            assert_result: true,
            relations: Relations {
                wants: vec![format!("convoke-gate@{name}.service")],
                after: vec![format!("convoke-gate@{name}.service")],
                ..Relations::default()
            },
            times: Times {
                state_change: entered.iter().flatten().max().copied(),
                inactive_exit: entered[0],
                active_enter: entered[1],
                active_exit: entered[2],
                inactive_enter: entered[3],
            },
            can_freeze: true,
            freezer_state: "running".to_owned(),
            stop_when_unneeded: false,
            result: if failed { "signal" } else { "success" }.to_owned(),
            slice: "system.slice".to_owned(),
            control_group: if unit.is_some_and(|unit| unit.alive) {
                format!("/system.slice/{name}")
            } else {
                String::new()
            },
            main_pid: None,
            n_restarts: 0,
            exec_main_code: if failed { 2 } else { 1 },
            exec_main_status: if failed { 9 } else { 0 },
            restart: if unit.is_some_and(|unit| unit.restarts) { "on-failure" } else { "no" }.to_owned(),
            kill_mode: "control-group".to_owned(),
            send_sigkill: true,
            timeout_stop: Some(TIMEOUT_STOP),
            timeout_start: Some(Duration::from_secs(10)),
            what: String::new(),
            where_: String::new(),
            lazy_unmount: false,
        }
    }
}

/// `ActiveState` and `SubState`.
fn states(doing: Doing) -> (ActiveState, &'static str) {
    match doing {
        Doing::Down => (ActiveState::Inactive, "dead"),
        Doing::Failed => (ActiveState::Failed, "failed"),
        Doing::Starting { .. } => (ActiveState::Activating, "start"),
        Doing::Up => (ActiveState::Active, "running"),
        Doing::Stopping { .. } => (ActiveState::Deactivating, "stop"),
        Doing::Restarting { .. } => (ActiveState::Activating, "auto-restart"),
    }
}
