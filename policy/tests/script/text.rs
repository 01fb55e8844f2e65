//! What happened, as golden text.

use policy::{Cause, Decision, Event, EventKind, Evidence, Severity, Start, Token, Wanted, Word};

use super::World;

impl World {
    pub(super) fn t(&self, token: Token) -> String {
        self.tokens.get(&token).map_or_else(|| format!("token {token}"), |number| format!("t{number}"))
    }

    pub(super) fn c(&self, case: policy::CaseId) -> String {
        self.cases.get(&case.0).map_or_else(|| format!("case {case}"), |number| format!("case{number}"))
    }

    /// `permit 17` in a sentence of the crate, as `t2`.
    pub(super) fn rename(&self, text: &str) -> String {
        let mut out = text.to_string();
        for (token, number) in self.tokens.iter().rev() {
            out = out.replace(&format!("permit {token}"), &format!("permit t{number}"));
        }
        out
    }

    pub(super) fn decision(&self, decision: &Decision) -> String {
        match decision {
            Decision::AdoptDefinition { unit, .. } => format!("adopt the definition of {unit}"),
            Decision::Grant { unit, node, adopt, start, .. } => {
                let verb = if *adopt { "adopt" } else { "grant" };
                let how = start.map_or(String::new(), |start| format!(", {}", start_text(start)));
                format!("{verb} {unit} on {}{how}", self.name(*node))
            }
            Decision::OpenGather { unit } => format!("gather the positions of {unit}"),
            Decision::Elect { unit, election, .. } => {
                format!("elect {} for {unit}", self.name(election.node))
            }
            Decision::PullIn { unit, by } => format!("have {unit} started because {by} wants it"),
            Decision::Revoke { unit, token, reason } => {
                let node = self.state.permit(unit, *token).map(|permit| self.name(permit.node));
                format!("revoke {} of {unit} on {}: {reason}", self.t(*token), node.unwrap_or_default())
            }
            Decision::Reterm { unit, token, .. } => format!("new terms for {} of {unit}", self.t(*token)),
            Decision::Expire { unit, token } => format!("expire {} of {unit}", self.t(*token)),
            Decision::OpenCase { node, because, .. } => {
                format!("fence {} because {because} waits for it", self.name(*node))
            }
            Decision::BeginAttempt { case, attempt, level, executor, .. } => {
                let target = self.state.cases.get(case).map(|case| case.node);
                let by = target.map(|node| self.state.level_name(node, *level)).unwrap_or_default();
                format!(
                    "begin attempt {attempt} of {} by {by}, run on {}",
                    self.c(*case),
                    self.name(*executor)
                )
            }
            Decision::AbandonAttempt { case, attempt } => {
                format!("abandon attempt {attempt} of {}", self.c(*case))
            }
            Decision::CancelCase { case } => format!("cancel {}", self.c(*case)),
            Decision::BeginOpening { node, device, executor, .. } => {
                format!(
                    "open the way of {} through {device}, run on {}",
                    self.name(*node),
                    self.name(*executor)
                )
            }
            Decision::RaiseFeatureLevel { level } => format!("raise the feature level to {level}"),
            Decision::AbandonOpening { node, device, .. } => {
                format!("abandon the opening of {} through {device}", self.name(*node))
            }
        }
    }

    /// A decision with the number that its entry made: the token of a grant, the name of a case.
    pub(super) fn with_names(&self, text: String, events: &[String]) -> String {
        let number = events.iter().find_map(|event| event.split_whitespace().find(|word| is_number(word)));
        match number {
            Some(number) if !text.split([' ', ':', ',']).any(is_number) => {
                format!("{text} ({})", number.trim_end_matches([':', ',']))
            }
            _ => text,
        }
    }

    pub(super) fn event(&self, event: &Event) -> String {
        let unit = event.unit.as_ref().map(ToString::to_string).unwrap_or_default();
        let node = event.node.map(|node| self.name(node)).unwrap_or_default();
        let t = |token: &Token| self.t(*token);
        let ms = |ms: &u64| if *ms == 0 { String::new() } else { format!(" after {ms} ms") };
        match &event.kind {
            EventKind::Founded => format!("{node} founded the cluster"),
            EventKind::LeaderChanged { term } => format!("{node} leads term {term}"),
            EventKind::FeatureLevelRaised { level } => format!("feature level {level} is in force"),
            EventKind::NodeEnrolled => format!("{node} joined"),
            EventKind::NodeRemoved { .. } => format!("{node} was taken out"),
            EventKind::NodeBooted => format!("{node} booted"),
            EventKind::NodeReturned => format!("{node} is back in the same life"),
            EventKind::NodeLeaving => format!("{node} is shutting down"),
            EventKind::NodeLost => format!("{node} is lost"),
            EventKind::OtherMachine { machine } => {
                format!("ALERT {node}: machine {machine} shows its identity")
            }
            EventKind::NodeDrained { drained, .. } => {
                let what = event.node.map_or("the cluster", |_| node.as_str());
                format!("{what} is {}", if *drained { "drained" } else { "not drained any more" })
            }
            // Of what the event says that it is about, as every list of one node's or one unit's events goes by that.
            EventKind::MaintenanceBegan { reason, .. } => {
                let what = reason.as_ref().map(|what| format!(": {what}")).unwrap_or_default();
                format!("{} is in maintenance{what}", scope(&node, &unit))
            }
            EventKind::MaintenanceEnded { .. } => {
                format!("{} is in maintenance no more", scope(&node, &unit))
            }
            EventKind::DefinitionAdopted => format!("{unit}: definition in force"),
            EventKind::GoalSet { wanted, by } => {
                format!(
                    "{unit}: goal {} by {}",
                    wanted_text(*wanted),
                    by.as_deref().unwrap_or("its enablement")
                )
            }
            EventKind::HeldOnNode { by } => format!("{unit}: held on {node} by {by}"),
            EventKind::MoveAsked { to, .. } => {
                format!("{unit}: to leave {node} for {}", to.map_or("anywhere".into(), |to| self.name(to)))
            }
            EventKind::Granted { token } => format!("{unit}: {} granted to {node}", t(token)),
            EventKind::GatherOpened { .. } => format!("{unit}: positions are gathered"),
            EventKind::AssemblyWord { word, by } => match word {
                Word::Without(_) => format!("{unit}: {by} does without the data of {node}"),
                Word::From(_) => format!("{unit}: {by} begins with the data of {node}"),
                Word::Resync(_) => format!("{unit}: {by} throws the data of {node} away"),
            },
            EventKind::RankChosen { identity, rank, without } => {
                let without: Vec<String> = without.iter().map(|node| self.name(*node)).collect();
                let unheard = if without.is_empty() {
                    String::new()
                } else {
                    format!(", without {}", without.join(" "))
                };
                format!("{unit}: {node} chosen, {identity} {rank}{unheard}")
            }
            EventKind::Elected { identity, rank, absent, ground, .. } => {
                let absent: Vec<String> = absent.iter().map(|node| self.name(*node)).collect();
                let without =
                    if absent.is_empty() { String::new() } else { format!(", without {}", absent.join(" ")) };
                let data = identity.as_ref().map_or("no data".into(), |one| format!("{one} {rank}"));
                format!("{unit}: {node} elected, {data}{without} ({ground:?})")
            }
            EventKind::GrantedAs { token, start } => {
                format!("{unit}: {} granted to {node}, {}", t(token), start_text(*start))
            }
            EventKind::Ready { token } => format!("{unit}: {} is ready on {node}", t(token)),
            EventKind::NotReady { token, lacks } => {
                format!("{unit}: {} is not ready any more on {node}: {lacks}", t(token))
            }
            EventKind::Adopted { token } => format!("{unit}: {} adopted on {node}", t(token)),
            EventKind::Started { token, after_ms } => {
                format!("{unit}: {} started on {node}{}", t(token), ms(after_ms))
            }
            EventKind::Revoked { token, reason } => {
                format!("{unit}: {} revoked on {node}: {reason}", t(token))
            }
            EventKind::CheckFailed { token, why } => {
                format!("{unit}: {} is unwell on {node}: {why}", t(token))
            }
            EventKind::StopStuck { what } => format!("ALERT {unit}: its stop on {node} hangs: {what}"),
            EventKind::Released { token, because } => {
                format!("{unit}: {} released by {node}: {}", t(token), cause(because))
            }
            EventKind::Voided { token, evidence } => {
                format!("{unit}: {} on {node} voided: {}", t(token), self.evidence(*evidence))
            }
            EventKind::FenceWanted { case, because } => {
                format!("{}: {node} is to be fenced, for {because}", self.c(*case))
            }
            EventKind::FenceBegan { case, attempt, device, executor } => {
                format!("{}: attempt {attempt} by {device}, run on {}", self.c(*case), self.name(*executor))
            }
            EventKind::FenceFailed { case, attempt, error, .. } => {
                let alert = if event.severity == Severity::Alert { "ALERT " } else { "" };
                format!("{alert}{}: attempt {attempt} failed: {error}", self.c(*case))
            }
            EventKind::FenceProven { case, evidence, by, .. } => {
                let case = case.map_or("without a case".into(), |case| self.c(case));
                let by = by.as_ref().map_or(String::new(), |by| format!(" of {by}"));
                format!("{node} is proven gone ({case}): {}{by}", self.evidence(*evidence))
            }
            EventKind::NodeIsolated { case, devices, .. } => {
                format!("{node} is cut off by {devices} ({}), and may still run", self.c(*case))
            }
            EventKind::OpeningBegan { device, executor } => {
                format!("the way of {node} through {device} is being opened, run on {}", self.name(*executor))
            }
            EventKind::WayOpened { device } => format!("the way of {node} through {device} is open"),
            EventKind::FenceCancelled { case } => format!("{}: cancelled", self.c(*case)),
            EventKind::ProofContradicted { .. } => format!("ALERT {node} spoke after it was proven gone"),
            EventKind::DrillAsked { case, level, by } => {
                format!("{}: a drill of level {level} of {node}, asked for by {by}", self.c(*case))
            }
            EventKind::DrillPassed { case, level, device, after_ms } => {
                format!(
                    "{}: {node} passed the drill of level {level}, off by {device}{}",
                    self.c(*case),
                    ms(after_ms)
                )
            }
            EventKind::DrillFailed { case, level, device, why } => {
                format!(
                    "ALERT {}: {node} failed the drill of level {level} by {device}: {why}",
                    self.c(*case)
                )
            }
            EventKind::DrillCancelled { case, why } => {
                format!("{}: the drill is given up: {why}", self.c(*case))
            }
            EventKind::DrillEnded { case, after_ms } => {
                format!("{}: {node} is back from the drill{}", self.c(*case), ms(after_ms))
            }
            EventKind::WatchdogArmed { timeout_ms, .. } => {
                format!("{node} has armed its watchdog of {timeout_ms} ms")
            }
            EventKind::WatchdogDisarmed { why } => {
                let alert = if event.severity == Severity::Alert { "ALERT " } else { "" };
                format!("{alert}{node} has no watchdog armed: {why}")
            }
            EventKind::SwitchedOn { device } => format!("{node} has its power back by {device}"),
            EventKind::NotSwitchedOn { device, why, again } => {
                let then = if *again { "it is tried again" } else { "that is left to a person" };
                format!("{device} did not switch {node} on: {why}; {then}")
            }
            EventKind::LeftOff { times } => {
                format!("ALERT {node} stays off: it was fenced {times} times of late")
            }
            EventKind::NodeForgiven { .. } => format!("{node} is held back no more"),
            EventKind::DeviceRefused { device, why } => format!("{device} does not count for {node}: {why}"),
            EventKind::AgentUnable { device, why } => {
                format!("{node} cannot use {device}: {why}")
            }
            EventKind::Configured { .. } => "configured".into(),
            EventKind::Forgotten { .. } => format!("{unit}: forgotten"),
        }
    }

    fn evidence(&self, evidence: Evidence) -> String {
        match evidence {
            Evidence::Released => "its release".into(),
            Evidence::Fenced(case) => format!("{} says off", self.c(case)),
            Evidence::Reborn => "the machine has a new life".into(),
            Evidence::Expired => "its time is over".into(),
            Evidence::Vouched => "the word".into(),
            Evidence::Isolated(case) => format!("{} says cut off", self.c(case)),
        }
    }
}

fn scope<'a>(node: &'a str, unit: &'a str) -> &'a str {
    [node, unit].into_iter().find(|name| !name.is_empty()).unwrap_or("the cluster")
}

fn is_number(word: &str) -> bool {
    let word = word.trim_end_matches([':', ',']);
    ["t", "case"].iter().any(|prefix| {
        word.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn start_text(start: Start) -> &'static str {
    match start {
        Start::Join => "to join",
        Start::Alone => "alone",
        Start::Resync => "to copy all anew",
    }
}

pub(super) fn wanted_text(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Started => "started",
        Wanted::Stopped => "stopped",
    }
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Ordered => "as ordered".into(),
        Cause::Operator(who) => format!("{who} stopped it"),
        Cause::Failed(why) => format!("failed ({why})"),
        Cause::StartFailed(why) => format!("did not start ({why})"),
        Cause::Propagated(by) => format!("stopped along with {by}"),
        Cause::Shutdown => "shutdown".into(),
        Cause::LeaseEnded => "the lease ended".into(),
        Cause::Unused => "unused".into(),
        Cause::DownInMaintenance => "down in maintenance".into(),
    }
}
