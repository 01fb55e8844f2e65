//! The commands of the scripts that are about fence devices.

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    AfterFence, AgentAction, Device, DrillResult, Fact, FenceOutcome, NodeId, Power, Settings, Wish,
};

use super::{Lines, World};

/// `on`, `off`, `unable` and why no agent could be run, or why the device could not say.
fn shown(words: &[&str]) -> Power {
    match words {
        ["on", ..] => Power::On,
        ["off", ..] => Power::Off,
        ["unable", why @ ..] => Power::Unable(why.join(" ")),
        other => Power::Unknown(other.join(" ")),
    }
}

fn device(targets: impl IntoIterator<Item = NodeId>) -> Device {
    Device {
        agent: "fence_test".into(),
        options: BTreeMap::new(),
        secrets: BTreeMap::new(),
        targets: targets.into_iter().map(|node| (node, BTreeMap::new())).collect(),
        timeout_ms: 20_000,
        timeouts: BTreeMap::new(),
        level: 1,
        delay_ms: 0,
        retries: 0,
        at_once: 1,
        isolates: None,
    }
}

impl World {
    /// `look a on`, `look a through pdu-a no answer`, `look a through pdu-a from b on`: through its own device where none is named, from
    /// whom it is planned where nobody is.
    pub(super) fn look(&mut self, name: &str, rest: &[&str], late: bool) -> Lines {
        let own = format!("bmc-{name}");
        let (device, rest) = match rest {
            ["through", device, rest @ ..] => ((*device).to_owned(), rest),
            rest => (own, rest),
        };
        let node = self.node(name)?;
        let (by, rest) = match rest {
            ["from", by, rest @ ..] => (Some(self.node(by)?), rest),
            rest => {
                let planned = policy::plan(&self.state, self.time).observe;
                let look = planned.into_iter().find(|look| look.node == node && look.device == device);
                (look.map(|look| look.executor), rest)
            }
        };
        let (incarnation, power) = (self.incarnation(name), shown(rest));
        // A late one was taken under the settings before.
        let configured = if late { 0 } else { self.state.configured };
        Ok(self.fact(Fact::PowerObserved { node, incarnation, device, configured, power, by }))
    }

    /// `switch a on by pdu-a no answer`; a late one is of an earlier attempt.
    pub(super) fn switch(&mut self, name: &str, device: &str, rest: &[&str], late: bool) -> Lines {
        let (node, power) = (self.node(name)?, shown(rest));
        let off = self.state.switched_off.get(&(device.to_owned(), node));
        let since = off.filter(|_| !late).map_or(0, |off| off.since);
        Ok(self.fact(Fact::SwitchedOn { node, device: device.into(), since, power }))
    }

    /// Looks that are due, and what is to be switched on.
    pub(super) fn looks(&self) -> Vec<String> {
        let planned = policy::plan(&self.state, self.time);
        let line = |what: &str, node: NodeId, device: &str, executor: NodeId| {
            format!("{what} {} through {device}, from {}", self.name(node), self.name(executor))
        };
        let looks = planned.observe.iter().map(|it| line("look at", it.node, &it.device, it.executor));
        let ons = planned.switch_on.iter().map(|it| line("switch on", it.node, &it.device, it.executor));
        looks.chain(ons).collect()
    }

    pub(super) fn fence_repeated(&mut self, name: &str) -> Lines {
        let (case, attempt) = self.case(self.node(name)?)?;
        Ok(self.fact(Fact::FenceRepeated { case, attempt }))
    }

    pub(super) fn fence(&mut self, name: &str, rest: &[&str]) -> Lines {
        let (case, latest) = self.case(self.node(name)?)?;
        let (attempt, rest) = match rest {
            ["attempt", number, rest @ ..] => (number.parse().map_err(|_| "no attempt")?, rest),
            rest => (latest, rest),
        };
        let outcome = match rest {
            ["off"] => FenceOutcome::Off,
            ["failed", why @ ..] => FenceOutcome::Failed(why.join(" ")),
            ["unable", why @ ..] => FenceOutcome::Unable(why.join(" ")),
            ["called", "off"] => FenceOutcome::CalledOff,
            ["hung"] => FenceOutcome::TimedOut("no answer within 20 s".into()),
            other => return Err(format!("no outcome {other:?}")),
        };
        Ok(self.fact(Fact::FenceReported { case, attempt, outcome }))
    }

    /// What a node is fenced for, and which unit waits for it.
    pub(super) fn fence_is_for(&self, name: &str) -> Lines {
        let (id, _) = self.case(self.node(name)?)?;
        let case = self.state.cases.get(&id).ok_or("no fence case")?;
        let waits = case.because.unit().map_or("no unit waits".into(), |unit| format!("{unit} waits"));
        Ok(vec![format!("{}: {}; {waits}", self.c(id), case.because)])
    }

    /// `drill a`, `drill a level 2`.
    pub(super) fn drill(&mut self, name: &str, rest: &[&str]) -> Lines {
        let level = match rest {
            ["level", level] => Some(level.parse().map_err(|_| "no level")?),
            [] => None,
            other => return Err(format!("no drill {other:?}")),
        };
        let node = self.node(name)?;
        Ok(self.wish(Wish::TestFence { node, level, by: "ann".into() }))
    }

    /// The last drills, and whether their levels count.
    pub(super) fn drills(&self) -> Vec<String> {
        let all = self.state.drills.iter();
        let all = all.flat_map(|(node, drills)| drills.iter().map(|(level, drill)| (*node, *level, drill)));
        all.map(|(node, level, drill)| {
            let life = self.state.nodes.get(&node).and_then(|node| node.life.as_ref());
            let counts = life.is_some_and(|life| self.state.level_counts(node, level, &life.incarnation));
            let result = match &drill.result {
                DrillResult::Passed { off_ms, back_ms: None } => {
                    format!("passed in {off_ms} ms, not back yet")
                }
                DrillResult::Passed { off_ms, back_ms: Some(back) } => {
                    format!("passed in {off_ms} ms, back after {back} ms")
                }
                DrillResult::Failed { why } => format!("failed: {why}"),
            };
            let counts = if counts { "" } else { " (does not count)" };
            match &drill.by {
                Some(by) => format!("drill of {} level {level} by {by}: {result}{counts}", self.name(node)),
                None => format!("fence of {} level {level}: {result}{counts}", self.name(node)),
            }
        })
        .collect()
    }

    /// One device of level 1 for each node, but for those that are named (`no-device=all`: none), and others that all
    /// nodes share: `device=pdu-a,level:2,delay:5,retries:1,at-once:2,timeout:9,timeout-off:40`; attributes as `a.rack=1`.
    pub(super) fn configure(&mut self, rest: &[&str]) -> Lines {
        let without: BTreeSet<&str> =
            rest.iter().filter_map(|word| word.strip_prefix("no-device=")).collect();
        let mut attributes: BTreeMap<_, BTreeMap<String, String>> = BTreeMap::new();
        let mut settings = Settings::default();
        for word in rest {
            if let Some(ms) = word.strip_prefix("detect=") {
                settings.detect_ms = ms.parse().map_err(|_| "no number")?;
            } else if let Some(most) = word.strip_prefix("starts-per-node=") {
                settings.starts_per_node = Some(most.parse().map_err(|_| "no number")?);
            } else if let Some(most) = word.strip_prefix("starts-per-cluster=") {
                settings.starts_per_cluster = Some(most.parse().map_err(|_| "no number")?);
            } else if let Some(word) = word.strip_prefix("after-fence=") {
                settings.after_fence = if word == "on" { AfterFence::On } else { AfterFence::Off };
            } else if let Some(attribute) = word.strip_prefix("failure-domain=") {
                settings.failure_domain = Some(attribute.into());
            } else if let Some((name, (key, value))) =
                word.split_once('.').and_then(|(name, rest)| Some((name, rest.split_once('=')?)))
            {
                attributes.entry(self.node(name)?).or_default().insert(key.into(), value.into());
            }
        }
        let targets = self.state.nodes.iter().filter(|(_, node)| !without.contains(node.name.as_str()));
        let own = targets.clone().filter(|_| !without.contains("all"));
        let mut devices: BTreeMap<_, _> =
            own.map(|(id, node)| (format!("bmc-{}", node.name), device([*id]))).collect();
        for word in rest.iter().filter_map(|word| word.strip_prefix("device=")) {
            let mut shared = device(targets.clone().map(|(id, _)| *id));
            let (name, keys) = word.split_once(',').unwrap_or((word, ""));
            for key in keys.split(',').filter(|key| !key.is_empty()) {
                let (key, value) = key.split_once(':').ok_or("KEY:VALUE")?;
                if key == "but" {
                    shared.targets.remove(&self.node(value)?);
                    continue;
                }
                if key == "cuts" {
                    shared.isolates = Some(match value {
                        "after" => policy::Reconnect::AfterCut,
                        "boot" => policy::Reconnect::AtBoot,
                        "node" => policy::Reconnect::ByNode,
                        other => return Err(format!("no way to connect {other}")),
                    });
                    continue;
                }
                let value: u32 = value.parse().map_err(|_| "no number")?;
                let own = key.strip_prefix("timeout-");
                if let Some(action) = AgentAction::ALL.into_iter().find(|it| own == Some(it.word())) {
                    shared.timeouts.insert(action, u64::from(value) * 1_000);
                    continue;
                }
                match key {
                    "level" => shared.level = value,
                    "delay" => shared.delay_ms = u64::from(value) * 1_000,
                    "retries" => shared.retries = value,
                    "at-once" => shared.at_once = value,
                    "port" => drop(shared.options.insert("ipport".into(), value.to_string())),
                    "timeout" => shared.timeout_ms = u64::from(value) * 1_000,
                    other => return Err(format!("no key {other}")),
                }
            }
            devices.insert(name.to_owned(), shared);
        }
        Ok(self.wish(Wish::Configure { settings, devices, attributes, by: "ann".into() }))
    }
}
