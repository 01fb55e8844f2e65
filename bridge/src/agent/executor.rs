//! Carries out fence attempts and looks at power, through real fence agents.
//!
//! Decides how an agent is called and what its end means; whom to fence is decided elsewhere. The step is `off` through
//! every device of the level, and after the last of them a separate `status` that says off through each: an agent's exit 0
//! alone was seen to be false, and of two feeds the first may have come back while the second was switched off. Where nodes
//! register themselves, this node's own registration is looked for last: a disk that has lost all keys reads as off for everybody.
//! Everything goes by standard input, `action=` first, and nothing of it appears in arguments, properties or logs.

mod begun;
mod door;
mod prepared;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy::{AgentAction, FenceOutcome, Power};
use units::systemd::{Outcome, Systemd, TransientEnd, TransientSpec};

use crate::agent::event::Fenced;
use crate::agent::executor::begun::Begun;
use crate::agent::executor::door::{Door, Doors};
pub(crate) use crate::agent::executor::prepared::Prepared;
use crate::fence_agents;
use crate::paths::Paths;
use crate::secrets::{Secrets, machine};
use crate::session::message::{AgentCall, FenceOrder, LookOrder, Reply, Request, SwitchOnOrder};
use crate::session::{Asker, Lease};

/// First part of the names of transient units: what is left over is found by it.
pub(super) const PREFIX: &str = "convoke-fence-";
const ROOT: &str = "/";
/// Kept of an agent's output; of one that floods, the first lines and the last.
const OUTPUT_CAP: usize = 16 * 1024;
/// Longest text of a device that goes into the log.
const WORDS_MAX: usize = 300;
/// How long the confirmation may take (F24). The order is repeated if it does not come.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);
/// `status` of a fence agent: the plug has power.
const SAYS_ON: i32 = 0;
/// It has none.
const SAYS_OFF: i32 = 2;

/// What runs agents on this node.
#[derive(Clone, Debug)]
pub(super) struct Executor {
    asker: Asker,
    lease: Lease,
    /// The unit whose end kills the agents.
    binds_to: Option<String>,
    agents: PathBuf,
    /// Where the files of this machine are.
    root: PathBuf,
    secrets: Secrets,
    /// What may be done through each device at a time.
    doors: Doors,
    /// What an earlier daemon of this boot may have done.
    begun: Begun,
}

/// How one call of an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Called {
    Exited(i32, String),
    TimedOut(String),
    NotRun(String),
}

impl Executor {
    pub(super) fn new(asker: Asker, lease: Lease, binds_to: Option<String>, paths: &Paths) -> Self {
        Self {
            asker,
            lease,
            binds_to,
            agents: fence_agents::DIRECTORY.into(),
            root: ROOT.into(),
            secrets: Secrets::default(),
            doors: Doors::default(),
            begun: Begun::new(paths),
        }
    }

    /// Carries out an attempt; `None` if it was not begun, for want of a lease or of a confirmation.
    pub(super) async fn fence(&self, systemd: &Systemd, order: &FenceOrder) -> Option<Fenced> {
        // By their names, so that two attempts never wait for each other.
        let devices: BTreeMap<&str, Arc<Door>> =
            order.calls.iter().map(|call| (call.device.as_str(), self.doors.of(call))).collect();
        let level = devices.keys().copied().collect::<Vec<_>>().join(", ");
        let mut alone = Vec::new();
        for door in devices.values() {
            alone.push(door.enter_to_fence(door::COURTESY).await);
        }
        // Whatever keeps this daemon from it: an earlier one may have run it.
        let (case, attempt) = (order.case.to_string(), order.attempt.to_string());
        let again = self.begun.may_have(&case, &attempt);
        let unable = |why| Some(Fenced { outcome: FenceOutcome::Unable(why), again });
        // What cannot be complete is not begun: half a level that was switched off proves nothing.
        let mut steps = Vec::new();
        for call in &order.calls {
            let name = format!("{PREFIX}{}-{}-{}", order.case, order.attempt, call.device);
            match self.pair(call, AgentAction::Off, &name).await {
                Ok(step) => steps.push(step),
                Err(why) => return unable(why),
            }
        }
        let mut own = Vec::new();
        for call in &order.own {
            let name = format!("{PREFIX}{}-{}-{}-own.service", order.case, order.attempt, call.device);
            match self.status(call, name).await {
                Ok(status) => own.push(status),
                Err(why) => return unable(why),
            }
        }
        let node = order.calls.first().map(|call| call.node_name.clone()).unwrap_or_default();
        if !self.confirm(order).await? {
            return Some(Fenced { outcome: FenceOutcome::CalledOff, again });
        }
        if let Err(error) = self.begun.begin(&case, &attempt) {
            return unable(unnoted(&error));
        }
        tracing::warn!(node, device = level, case = %order.case, again, "fencing: off");
        let run = |spec| {
            let systemd = systemd.clone();
            async move { systemd.run_transient(spec).await }
        };
        let mut outcome = strike(steps, || self.confirm(order), run).await;
        if outcome == FenceOutcome::Off {
            outcome = registered(own, run).await;
        }
        tracing::warn!(node, device = level, ?outcome, "fencing: the attempt ended");
        Some(Fenced { outcome, again })
    }

    /// Switches a node's power on and looks whether it is; `None` if it was not begun, for want of a lease or of a
    /// confirmation.
    pub(super) async fn switch_on(
        &self,
        systemd: &Systemd,
        order: &SwitchOnOrder,
        number: u64,
    ) -> Option<Power> {
        let call = &order.call;
        let door = self.doors.of(call);
        let _patient = door.patient.lock().await;
        let user = door.enter().await;
        let pair = self.pair(call, AgentAction::On, &format!("{PREFIX}on-{number}")).await;
        let (prepared, on, status) = match pair {
            Ok(pair) => pair,
            Err(why) => return Some(Power::Unknown(why)),
        };
        if let Some(why) = self.unprepared(call) {
            return Some(Power::Unknown(why));
        }
        let (node, device, since, configured) =
            (call.node, call.device.clone(), order.since, call.configured);
        if !self.confirmed(Request::MaySwitchOn { node, device, since, configured }).await? {
            return None;
        }
        if order.once {
            let errand = format!("on-{}-{}", call.device, call.node);
            match self.begun.begin(&errand, &format!("{since} {} {configured}", order.failures)) {
                Ok(true) => {}
                Ok(false) => {
                    let why = format!("convoked on {} was restarted while it ran the agent", machine());
                    return Some(Power::Unknown(why));
                }
                Err(error) => return Some(Power::Unknown(unnoted(&error))),
            }
        }
        tracing::info!(node = call.node_name, device = call.device, "switching on");
        match called(&systemd.run_transient(on).await, &prepared, AgentAction::On) {
            Called::Exited(0, _) => {
                // A fence of another node may come between.
                drop(user);
                let _user = door.enter().await;
                Some(power(called(&systemd.run_transient(status).await, &prepared, AgentAction::Status)))
            }
            Called::Exited(status, said) => {
                Some(Power::Unknown(format!("on exited with status {status}{said}")))
            }
            Called::TimedOut(why) | Called::NotRun(why) => Some(Power::Unknown(format!("on: {why}"))),
        }
    }

    /// Why this node is not to register itself, though its agent would: it would not keep what it gets, or fence nobody.
    fn unprepared(&self, call: &AgentCall) -> Option<String> {
        let own = ["key", "plug"].into_iter().find_map(|name| call.options.get(name));
        let why = fence_agents::lacks(&self.root, &call.agent, own.map(String::as_str))?;
        Some(format!("on was not run: on {} {why}", machine()))
    }

    /// Looks at a node's power; `None` if it was given up, because a fence wanted the device.
    pub(super) async fn look(&self, systemd: &Systemd, order: &LookOrder, number: u64) -> Option<Power> {
        let call = &order.call;
        let door = self.doors.of(call);
        let _patient = door.patient.lock().await;
        let _user = door.enter().await;
        let name = format!("{PREFIX}look-{number}.service");
        let look = async {
            let (prepared, status) = self.status(call, name.clone()).await?;
            Ok(power(called(&systemd.run_transient(status).await, &prepared, AgentAction::Status)))
        };
        if let Some(seen) = door.unless_hurried(look).await {
            return Some(seen.unwrap_or_else(Power::Unable));
        }
        if let Err(error) = systemd.end_transient(&name).await {
            tracing::warn!(unit = name, %error, "a look that was given up may run on");
        }
        tracing::info!(
            node = call.node_name,
            device = call.device,
            "a look was given up: a fence wants the device"
        );
        None
    }

    async fn confirm(&self, order: &FenceOrder) -> Option<bool> {
        self.confirmed(Request::MayFence { case: order.case, attempt: order.attempt }).await
    }

    /// Just before an agent runs: a valid lease, and a fresh word whether this is still to be done (F24). `None` without either.
    async fn confirmed(&self, request: Request) -> Option<bool> {
        self.lease.left()?;
        match self.asker.ask(request.clone(), CONFIRM_LIMIT).await {
            Ok(Reply::MayRun(true)) => self.lease.left().map(|_| true),
            Ok(Reply::MayRun(false)) => {
                tracing::info!(?request, "no fence agent is to run for this any more");
                Some(false)
            }
            other => {
                tracing::warn!(?request, ?other, "no confirmation that a fence agent is to run");
                None
            }
        }
    }

    /// A look.
    async fn status<'a>(
        &self,
        call: &'a AgentCall,
        name: String,
    ) -> Result<(Prepared<'a>, TransientSpec), String> {
        let prepared = Prepared::read(call, &self.secrets).await?;
        let status = self.spec(&prepared, AgentAction::Status, name)?;
        Ok((prepared, status))
    }

    /// An action and the status that verifies it, with secrets that are read once for both.
    async fn pair<'a>(
        &self,
        call: &'a AgentCall,
        action: AgentAction,
        name: &str,
    ) -> Result<Step<'a>, String> {
        let prepared = Prepared::read(call, &self.secrets).await?;
        let spec =
            |action: AgentAction| self.spec(&prepared, action, format!("{name}-{}.service", action.word()));
        let (first, status) = (spec(action)?, spec(AgentAction::Status)?);
        Ok((prepared, first, status))
    }

    fn spec(
        &self,
        prepared: &Prepared<'_>,
        action: AgentAction,
        name: String,
    ) -> Result<TransientSpec, String> {
        let call = prepared.call();
        let program = program(&self.agents, &call.agent)?;
        let word = action.word();
        Ok(TransientSpec {
            name,
            description: format!("Fence agent of {}: {word} {}", call.device, call.node_name),
            program,
            args: Vec::new(),
            stdin: prepared.stdin(word),
            deadline: Duration::from_millis(call.deadline_ms(action)),
            output_cap: OUTPUT_CAP,
            environment: BTreeMap::new(),
            binds_to: self.binds_to.clone(),
        })
    }
}

fn unnoted(error: &io::Error) -> String {
    format!("{} cannot note in /run/convoke/begun what it begins: {error}", machine())
}

/// A call, the action that is asked for, and the status that verifies it.
type Step<'a> = (Prepared<'a>, TransientSpec, TransientSpec);

/// Off through each device, then a status through each. Ends with the first that does not prove its part.
///
/// The first off has been confirmed; each other one is before it begins, since the ones before it may have taken long (F24).
async fn strike<Run: Future<Output = TransientEnd>, Confirm: Future<Output = Option<bool>>>(
    steps: Vec<Step<'_>>,
    confirm: impl Fn() -> Confirm,
    run: impl Fn(TransientSpec) -> Run,
) -> FenceOutcome {
    let mut looks = Vec::new();
    for (prepared, off, status) in steps {
        let call = prepared.call();
        if !looks.is_empty() && confirm().await != Some(true) {
            return FenceOutcome::TimedOut(format!(
                "nobody confirmed that the fence still stands, so {} was not used; the devices before it were",
                call.device
            ));
        }
        match called(&run(off).await, &prepared, AgentAction::Off) {
            // No device was asked for anything yet.
            Called::NotRun(why) if looks.is_empty() => {
                return FenceOutcome::Unable(format!("{}: {why}", call.device));
            }
            ended => {
                if let Err(outcome) = after_off(call, ended) {
                    return outcome;
                }
            }
        }
        looks.push((prepared, status));
    }
    let mut proven = FenceOutcome::Failed("the level has no devices".to_owned());
    for (prepared, status) in looks {
        let ended = called(&run(status).await, &prepared, AgentAction::Status);
        proven = verdict(prepared.call(), ended);
        if proven != FenceOutcome::Off {
            break;
        }
    }
    proven
}

/// Whether this node's own registrations are there still, without which the one that is gone says nothing.
async fn registered<Run: Future<Output = TransientEnd>>(
    own: Vec<(Prepared<'_>, TransientSpec)>,
    run: impl Fn(TransientSpec) -> Run,
) -> FenceOutcome {
    for (prepared, status) in own {
        let AgentCall { device, node_name: name, .. } = prepared.call();
        let why = match called(&run(status).await, &prepared, AgentAction::Status) {
            Called::Exited(SAYS_ON, _) => continue,
            Called::Exited(SAYS_OFF, _) => {
                format!(
                    "{name}, which ran it, is not registered either, so that nothing says that anybody is refused"
                )
            }
            Called::Exited(status, said) => {
                format!("for {name}, which ran it, status exited with status {status}{said}")
            }
            Called::TimedOut(why) | Called::NotRun(why) => {
                format!("there is no status of {name}, which ran it: {why}")
            }
        };
        return FenceOutcome::Failed(format!("{device} says off, but {why}"));
    }
    FenceOutcome::Off
}

/// The agent's path. Its name comes from the cluster's settings, so it is checked here again.
fn program(dir: &Path, agent: &str) -> Result<String, String> {
    if !fence_agents::usable_name(agent) {
        return Err(format!("`{agent}` is not the name of a fence agent"));
    }
    let path = dir.join(agent);
    match fs::metadata(&path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => {
            Ok(path.to_string_lossy().into_owned())
        }
        Ok(_) => Err(format!("{} cannot be executed", path.display())),
        Err(_) => Err(format!(
            "{} is not installed on {}; install the package that has it there (on Debian: fence-agents)",
            path.display(),
            machine()
        )),
    }
}

fn called(end: &TransientEnd, prepared: &Prepared<'_>, action: AgentAction) -> Called {
    let said = words(end, prepared);
    match &end.outcome {
        Outcome::Exited(status) => {
            Called::Exited(*status, format!("{said}{}", unsaid(*status, prepared.call(), action)))
        }
        Outcome::Signaled(signal) => {
            Called::TimedOut(format!("the agent was killed by signal {signal}{said}"))
        }
        Outcome::TimedOut => {
            let left = end.left.as_ref().map(|left| format!("; {left}")).unwrap_or_default();
            let limit = prepared.call().deadline_ms(action);
            Called::TimedOut(format!("the agent did not end within {limit} ms{left}{said}"))
        }
        // It may have sent its command: as after a deadline, nobody knows the node's power.
        Outcome::Unknown(why) => Called::TimedOut(format!("nobody knows how the agent ended: {why}{said}")),
        Outcome::NotStarted(why) => Called::NotRun(format!("the agent was not started: {why}")),
    }
}

/// Why an `off` failed, where the agent keeps that to itself: what is known of the machine that it ran on.
fn unsaid(status: i32, call: &AgentCall, action: AgentAction) -> String {
    let lacks = match (status, action) {
        (1.., AgentAction::Off) => fence_agents::lacks(Path::new(ROOT), &call.agent, None),
        _ => None,
    };
    lacks.map(|why| format!("; on {} {why}", machine())).unwrap_or_default()
}

/// What `off` allows: the status read, or the end of the attempt.
fn after_off(call: &AgentCall, ended: Called) -> Result<(), FenceOutcome> {
    match ended {
        Called::Exited(0, _) => Ok(()),
        Called::Exited(status, said) => {
            Err(FenceOutcome::Failed(format!("{}: off exited with status {status}{said}", call.device)))
        }
        Called::TimedOut(why) => Err(FenceOutcome::TimedOut(format!("{}: off: {why}", call.device))),
        Called::NotRun(why) => Err(FenceOutcome::Failed(format!("{}: {why}", call.device))),
    }
}

/// What the status read proves.
fn verdict(call: &AgentCall, ended: Called) -> FenceOutcome {
    let device = &call.device;
    match ended {
        Called::Exited(SAYS_OFF, _) => FenceOutcome::Off,
        Called::Exited(SAYS_ON, _) => FenceOutcome::Failed(format!("{device} said off, status says on")),
        Called::Exited(status, said) => {
            FenceOutcome::Failed(format!("{device} said off, but status exited with status {status}{said}"))
        }
        Called::TimedOut(why) | Called::NotRun(why) => {
            FenceOutcome::Failed(format!("{device} said off, but there is no status: {why}"))
        }
    }
}

fn power(ended: Called) -> Power {
    match ended {
        Called::Exited(SAYS_ON, _) => Power::On,
        Called::Exited(SAYS_OFF, _) => Power::Off,
        Called::Exited(status, said) => match lacks(&said) {
            Some(program) => Power::Unable(format!(
                "the agent calls {program}, which cannot be run on {}; install it there",
                machine()
            )),
            None => Power::Unknown(format!("status exited with status {status}{said}")),
        },
        Called::TimedOut(why) => Power::Unknown(why),
        Called::NotRun(why) => Power::Unable(why),
    }
}

/// The program that an agent could not call, in the words of the library that all agents share.
fn lacks(said: &str) -> Option<&str> {
    let (_, command) = said.split_once("Unable to run ")?;
    command.split_whitespace().next()
}

/// What the agent says went wrong, without secrets.
fn words(end: &TransientEnd, prepared: &Prepared<'_>) -> String {
    let [stderr, stdout] = [&end.stderr, &end.stdout].map(|output| prepared.without_secrets(output));
    let Some(said) = fence_agents::said(stderr.as_bytes(), stdout.as_bytes()) else { return String::new() };
    // What follows are the program's arguments: the address and the login, and nobody knows what else.
    let said = lacks(&said).map(|program| format!("Unable to run {program}")).unwrap_or(said);
    format!(": {}", said.chars().take(WORDS_MAX).collect::<String>())
}

#[cfg(test)]
mod tests;
