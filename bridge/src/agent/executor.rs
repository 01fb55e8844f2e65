//! Carries out fence attempts and looks at power, through real fence agents.
//!
//! Decides how an agent is called and what its end means; whom to fence is decided elsewhere. The step is `off` through
//! every device of the level, and after the last of them a separate `status` that says off through each: an agent's exit 0
//! alone was seen to be false, and of two feeds the first may have come back while the second was switched off. Where nodes
//! register themselves, this node's own registration is looked for last: a disk that has lost all keys reads as off for everybody.
//! Everything goes by standard input, `action=` first, and nothing of it appears in arguments, properties or logs.

mod door;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy::{AgentAction, FenceOutcome, Power};
use units::systemd::{Outcome, Systemd, TransientEnd, TransientSpec};

use crate::agent::executor::door::{Door, Doors};
use crate::fence_agents;
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
    /// What may be done through each device at a time.
    doors: Doors,
}

/// How one call of an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Called {
    Exited(i32, String),
    TimedOut(String),
    NotRun(String),
}

impl Executor {
    pub(super) fn new(asker: Asker, lease: Lease, binds_to: Option<String>) -> Self {
        let (agents, root) = (fence_agents::DIRECTORY.into(), ROOT.into());
        Self { asker, lease, binds_to, agents, root, doors: Doors::default() }
    }

    /// Carries out an attempt; `None` if it was not begun, for want of a lease or of a confirmation.
    pub(super) async fn fence(&self, systemd: &Systemd, order: &FenceOrder) -> Option<FenceOutcome> {
        // By their names, so that two attempts never wait for each other.
        let devices: BTreeMap<&str, Arc<Door>> =
            order.calls.iter().map(|call| (call.device.as_str(), self.doors.of(call))).collect();
        let level = devices.keys().copied().collect::<Vec<_>>().join(", ");
        let mut alone = Vec::new();
        for door in devices.values() {
            alone.push(door.enter().await);
        }
        // What cannot be complete is not begun: half a level that was switched off proves nothing.
        let mut steps = Vec::new();
        for call in &order.calls {
            let name = format!("{PREFIX}{}-{}-{}", order.case, order.attempt, call.device);
            let spec =
                |action: AgentAction| self.spec(call, action, format!("{name}-{}.service", action.word()));
            match (spec(AgentAction::Off), spec(AgentAction::Status)) {
                (Ok(off), Ok(status)) => steps.push((call, off, status)),
                (Err(why), _) | (_, Err(why)) => return Some(FenceOutcome::Unable(why)),
            }
        }
        let mut own = Vec::new();
        for call in &order.own {
            let name = format!("{PREFIX}{}-{}-{}-own.service", order.case, order.attempt, call.device);
            match self.spec(call, AgentAction::Status, name) {
                Ok(status) => own.push((call, status)),
                Err(why) => return Some(FenceOutcome::Unable(why)),
            }
        }
        let node = order.calls.first().map(|call| call.node_name.clone()).unwrap_or_default();
        self.confirm(order).await?;
        tracing::warn!(node, device = level, case = %order.case, "fencing: off");
        let run = |spec| {
            let systemd = systemd.clone();
            async move { systemd.run_transient(spec).await }
        };
        let mut outcome = strike(steps, || self.confirm(order), run).await;
        if outcome == FenceOutcome::Off {
            outcome = registered(own, run).await;
        }
        tracing::warn!(node, device = level, ?outcome, "fencing: the attempt ended");
        Some(outcome)
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
        let spec = |action: AgentAction| {
            self.spec(call, action, format!("{PREFIX}on-{number}-{}.service", action.word()))
        };
        let (on, status) = match (spec(AgentAction::On), spec(AgentAction::Status)) {
            (Ok(on), Ok(status)) => (on, status),
            (Err(why), _) | (_, Err(why)) => return Some(Power::Unknown(why)),
        };
        if let Some(why) = self.unprepared(call) {
            return Some(Power::Unknown(why));
        }
        let (node, device, since, configured) =
            (call.node, call.device.clone(), order.since, call.configured);
        self.confirmed(Request::MaySwitchOn { node, device, since, configured }).await?;
        tracing::info!(node = call.node_name, device = call.device, "switching on");
        match called(&systemd.run_transient(on).await, call, AgentAction::On) {
            Called::Exited(0, _) => {
                // A fence of another node may come between.
                drop(user);
                let _user = door.enter().await;
                Some(power(called(&systemd.run_transient(status).await, call, AgentAction::Status)))
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

    /// Looks at a node's power.
    pub(super) async fn look(&self, systemd: &Systemd, order: &LookOrder, number: u64) -> Power {
        let call = &order.call;
        let door = self.doors.of(call);
        let _patient = door.patient.lock().await;
        let _user = door.enter().await;
        let spec = match self.spec(call, AgentAction::Status, format!("{PREFIX}look-{number}.service")) {
            Ok(spec) => spec,
            Err(why) => return Power::Unable(why),
        };
        power(called(&systemd.run_transient(spec).await, call, AgentAction::Status))
    }

    async fn confirm(&self, order: &FenceOrder) -> Option<()> {
        self.confirmed(Request::MayFence { case: order.case, attempt: order.attempt }).await
    }

    /// Just before an agent runs: a valid lease, and a fresh word that this is still to be done (F24).
    async fn confirmed(&self, request: Request) -> Option<()> {
        self.lease.left()?;
        match self.asker.ask(request.clone(), CONFIRM_LIMIT).await {
            Ok(Reply::MayRun(true)) => self.lease.left().map(drop),
            Ok(Reply::MayRun(false)) => {
                tracing::info!(?request, "no fence agent is to run for this any more");
                None
            }
            other => {
                tracing::warn!(?request, ?other, "no confirmation that a fence agent is to run");
                None
            }
        }
    }

    fn spec(&self, call: &AgentCall, action: AgentAction, name: String) -> Result<TransientSpec, String> {
        let program = program(&self.agents, &call.agent)?;
        let word = action.word();
        Ok(TransientSpec {
            name,
            description: format!("Fence agent of {}: {word} {}", call.device, call.node_name),
            program,
            args: Vec::new(),
            stdin: stdin(call, word)?,
            deadline: Duration::from_millis(call.deadline_ms(action)),
            output_cap: OUTPUT_CAP,
            environment: BTreeMap::new(),
            binds_to: self.binds_to.clone(),
        })
    }
}

/// Off through each device, then a status through each. Ends with the first that does not prove its part.
///
/// The first off has been confirmed; each other one is before it begins, since the ones before it may have taken long (F24).
async fn strike<Run: Future<Output = TransientEnd>, Confirm: Future<Output = Option<()>>>(
    steps: Vec<(&AgentCall, TransientSpec, TransientSpec)>,
    confirm: impl Fn() -> Confirm,
    run: impl Fn(TransientSpec) -> Run,
) -> FenceOutcome {
    let mut looks = Vec::new();
    for (call, off, status) in steps {
        if !looks.is_empty() && confirm().await.is_none() {
            return FenceOutcome::TimedOut(format!(
                "nobody confirmed that the fence still stands, so {} was not used; the devices before it were",
                call.device
            ));
        }
        match called(&run(off).await, call, AgentAction::Off) {
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
        looks.push((call, status));
    }
    let mut proven = FenceOutcome::Failed("the level has no devices".to_owned());
    for (call, status) in looks {
        proven = verdict(call, called(&run(status).await, call, AgentAction::Status));
        if proven != FenceOutcome::Off {
            break;
        }
    }
    proven
}

/// Whether this node's own registrations are there still, without which the one that is gone says nothing.
async fn registered<Run: Future<Output = TransientEnd>>(
    own: Vec<(&AgentCall, TransientSpec)>,
    run: impl Fn(TransientSpec) -> Run,
) -> FenceOutcome {
    for (call, status) in own {
        let (device, name) = (&call.device, &call.node_name);
        let why = match called(&run(status).await, call, AgentAction::Status) {
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

/// The agent's complete input.
pub(crate) fn stdin(call: &AgentCall, action: &str) -> Result<Vec<u8>, String> {
    let mut text = format!("action={action}\n");
    let mut given = BTreeSet::new();
    for name in call.options.keys().chain(call.secrets.keys()) {
        // What the call is for is nobody's option; and of two lines an agent takes the last.
        if fence_agents::says_what_to_do(name) || !given.insert(fence_agents::present(name)) {
            return Err(format!(
                "the option `{name}` of {} is not taken; `convoke config diff` says why",
                call.device
            ));
        }
    }
    for (name, value) in &call.options {
        text.push_str(&line(name, value)?);
    }
    for (name, path) in &call.secrets {
        text.push_str(&line(name, &secret(Path::new(path))?)?);
    }
    Ok(text.into_bytes())
}

fn line(name: &str, value: &str) -> Result<String, String> {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !plain || value.contains(['\n', '\r', '\0']) {
        return Err(format!("the option `{name}` has a name or value of more than one line"));
    }
    Ok(format!("{name}={value}\n"))
}

/// A secret from a file that root alone can read. Which machine lacks it is not told by who is to be fenced.
fn secret(path: &Path) -> Result<String, String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(format!("the secret's file `{shown}` must be an absolute path"));
    }
    let unreadable =
        |error: std::io::Error| format!("the secret's file {shown} cannot be read on {}: {error}", machine());
    let found = fs::metadata(path).map_err(unreadable)?;
    if found.mode() & 0o077 != 0 {
        let machine = machine();
        return Err(format!(
            "the secret's file {shown} on {machine} can be read by others than root; run `chmod 600 {shown}` there"
        ));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// This machine's own name, which its node has too unless somebody chose another.
fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn called(end: &TransientEnd, call: &AgentCall, action: AgentAction) -> Called {
    let said = words(end, call);
    match &end.outcome {
        Outcome::Exited(status) => {
            Called::Exited(*status, format!("{said}{}", unsaid(*status, call, action)))
        }
        Outcome::Signaled(signal) => {
            Called::TimedOut(format!("the agent was killed by signal {signal}{said}"))
        }
        Outcome::TimedOut => {
            let left = end.left.as_ref().map(|left| format!("; {left}")).unwrap_or_default();
            let limit = call.deadline_ms(action);
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

/// The program that an agent could not call, in the words of the library that all agents share. Its arguments are left out: they
/// are about the target, and some have a password among them.
fn lacks(said: &str) -> Option<&str> {
    let (_, command) = said.split_once("Unable to run ")?;
    command.split_whitespace().next()
}

/// What the agent says went wrong, without secrets.
fn words(end: &TransientEnd, call: &AgentCall) -> String {
    let Some(mut said) = fence_agents::said(&end.stderr, &end.stdout) else { return String::new() };
    let hidden = call.options.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.clone());
    let read = call.secrets.values().filter_map(|path| secret(Path::new(path)).ok());
    for value in hidden.chain(read).filter(|value| !value.is_empty()) {
        said = said.replace(&value, "***");
    }
    // Not before: half a password would be none that is known.
    format!(": {}", said.chars().take(WORDS_MAX).collect::<String>())
}

fn is_secret(name: &str) -> bool {
    ["pass", "secret", "community", "token", "key"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests;
