//! What somebody should look at, and what to do about it.
//!
//! An alarm is derived from the state as it is: it goes when its cause goes, and nobody has to acknowledge it. Only what
//! may have damaged data outlasts its cause, by a day.

use std::collections::{BTreeMap, BTreeSet};

use policy::{
    AlarmKind, EventKind, FenceCase, FencePhase, Fencing, Finding, Node, NodeId, Power, Reason, Scope,
    UnitName, Wanted,
};

use super::ways;
use super::{Live, View};
use crate::api::model::AlarmLine;

/// How long it is shown that units may have run twice: until somebody who was asleep has seen it.
const CONTRADICTED_SHOWN_MS: policy::Millis = 86_400_000;

/// Nodes that can use a device, so that the loss of one of them leaves another.
const ENOUGH_TO_FENCE: usize = 2;

impl View<'_> {
    /// All alarms, alerts first; `flaws` are those of the set of units.
    pub(super) fn alarms(&self, flaws: &[Finding], live: &Live) -> Vec<AlarmLine> {
        let mut alarms = self.standing();
        alarms.extend(live.set_aside.iter().map(|id| self.votes_no_more(*id)));
        alarms.extend(live.behind.iter().map(|id| self.has_no_vote(*id)));
        alarms.extend(live.differ.iter().map(|why| states_differ(why)));
        alarms.extend(self.fences_in_trouble());
        alarms.extend(self.contradicted_lately());
        alarms.extend(self.lost_nodes());
        alarms.extend(self.not_switched_on());
        alarms.extend(self.shut_ways());
        alarms.extend(self.strays());
        alarms.extend(self.units_in_trouble());
        alarms.extend(self.pressing_flaws(flaws));
        alarms.extend(self.unfenceable());
        alarms.extend(self.unable_to_fence());
        alarms.extend(self.unwatched());
        alarms.extend(self.too_few_voters());
        alarms.extend(self.exposed_votes());
        alarms.sort_by_key(|alarm| alarm.severity != "alert");
        alarms
    }

    fn standing(&self) -> Vec<AlarmLine> {
        let name = |id: &NodeId| self.state.node_name(*id);
        let line = |(kind, alarm): (&AlarmKind, &policy::Alarm)| match kind {
            AlarmKind::ProofContradicted(node) => alert(
                format!(
                    "{0} was proven off and then spoke: its units may have run twice ({1})",
                    name(node),
                    alarm.detail
                ),
                format!(
                    "check the data of the units that {0} ran, mend its fence device, then reboot {0}",
                    name(node)
                ),
            ),
            AlarmKind::OtherMachine(node) => alert(
                format!("two machines use the identity of {} ({})", name(node), alarm.detail),
                "stop convoked on the copy, remove /var/lib/convoke there and join it under another name"
                    .to_owned(),
            ),
            AlarmKind::WrongPlug(node, device) => {
                let text =
                    format!("fence device {device} does not see {} as running: {}", name(node), alarm.detail);
                let life = self.state.nodes.get(node).and_then(|node| node.life.as_ref());
                let seen = life.and_then(|life| self.state.seen(device, *node, &life.incarnation));
                let check = match seen.map(|seen| &seen.power) {
                    // The settings may be good: what is missing is missing on the nodes that were to look.
                    Some(Power::Unable(_)) => {
                        format!(
                            "mend that, then `convoke reset-failed {}`, which has it asked again",
                            name(node)
                        )
                    }
                    _ => format!(
                        "check address, plug, login and options of {device} with its agent, then `convoke config apply`"
                    ),
                };
                let lost = self.state.nodes.get(node).is_some_and(|node| node.lost_since().is_some());
                let ready = self.ready_levels(*node);
                let cuts = |level: u32| self.state.level_isolates(*node, level);
                // One that only cuts it off is named where there is no better one.
                let best = ready.iter().find(|level| !cuts(**level)).or(ready.first()).copied();
                match best {
                    // Too late for this life of it; what there is to do stands beside its loss.
                    None if lost => warning(text, format!("{check} as soon as {} is back", name(node))),
                    Some(level) if cuts(level) => warning(
                        text,
                        format!(
                            "{check}; until then {} can only be cut off, by {}: no proof for units without Fencing=isolated",
                            name(node),
                            self.state.level_name(*node, level)
                        ),
                    ),
                    Some(level) => warning(
                        text,
                        format!(
                            "{check}; until then {} is fenced by {} alone",
                            name(node),
                            self.state.level_name(*node, level)
                        ),
                    ),
                    None => alert(
                        text,
                        format!("{check}; until then a loss of {} needs `convoke fence confirm`", name(node)),
                    ),
                }
            }
            AlarmKind::StopStuck(unit, node) => alert(
                format!("{unit} does not stop on {}: {}", name(node), alarm.detail),
                format!("see `systemctl status {unit}` on {0}; end what is left, or reboot {0}", name(node)),
            ),
            AlarmKind::LeftOff(node) => alert(
                format!("{} stays off: it was fenced {}", name(node), alarm.detail),
                format!(
                    "find out why it fails (`convoke events --node {0}`) and start it by hand, or `convoke reset-failed \
                     {0}`, which has it switched on",
                    name(node)
                ),
            ),
            AlarmKind::ManyLost => alert(
                format!("many nodes were lost at once, so fencing waits a moment: {}", alarm.detail),
                "look at the network and the power of the site first; fencing goes on by itself".to_owned(),
            ),
        };
        let held = self.state.fencing_held_until().is_some_and(|until| until > self.now);
        // What fencing waited for is over by itself, long before the nodes are back.
        self.state.alarms.iter().filter(|(kind, _)| held || **kind != AlarmKind::ManyLost).map(line).collect()
    }

    /// A voter that was found to have another state than most. For the quorum it is like one that is down.
    fn votes_no_more(&self, id: NodeId) -> AlarmLine {
        let name = self.state.node_name(id);
        alert(
            format!("{name} votes no more: its state was not that of most voters"),
            format!(
                "its units go on; `convoke drain {name}`, then take it out and let it join again (its journal says how)"
            ),
        )
    }

    /// A node that is to vote and is heard, while the leader does not bring the log to it.
    fn has_no_vote(&self, id: NodeId) -> AlarmLine {
        let name = self.state.node_name(id);
        let addresses = self.state.nodes.get(&id).map(|node| node.addresses.join(", ")).unwrap_or_default();
        warning(
            format!("{name} is to vote, and has no vote: it does not get the log from the leader"),
            format!(
                "see that each voter reaches {name} at {addresses} (firewall, address translation); it is tried again every minute or so"
            ),
        )
    }

    /// Nodes that hold what rests on a watchdog that is not armed any more: lost, they are waited for until there is proof.
    fn unwatched(&self) -> Vec<AlarmLine> {
        let nodes = self.state.nodes.iter().filter(|(id, _)| self.state.rests_on_watchdog(**id));
        let faults = nodes.filter_map(|(id, node)| Some((*id, node, node.in_session()?.unwatched()?)));
        let line = |(id, node, why): (NodeId, &Node, &str)| {
            let name = &node.name;
            let alone = self.state.node_maintenance(id).is_some();
            let away = if alone { "" } else { ", or move them away" };
            alert(
                format!("units on {name} rest on its watchdog (Fencing=watchdog), which is not armed: {why}"),
                format!("mend it on {name}{away}; until then a loss of {name} needs a fence or your word"),
            )
        };
        faults.map(line).collect()
    }

    /// A node that spoke after its proof is told to reboot and does so in a second. What it may have written before
    /// does not go with that, and the person who has to look is not there yet.
    fn contradicted_lately(&self) -> Vec<AlarmLine> {
        let stands = |id: NodeId| self.state.alarms.contains_key(&AlarmKind::ProofContradicted(id));
        let mut told = BTreeSet::new();
        let events = self.state.history.iter().rev();
        let lately = events.take_while(|event| self.now.saturating_sub(event.time) < CONTRADICTED_SHOWN_MS);
        let nodes = lately.filter(|event| matches!(event.kind, EventKind::ProofContradicted { .. }));
        let nodes = nodes.filter_map(|event| event.node.map(|id| (id, event.time)));
        let last_of_each = nodes.filter(|(id, _)| !stands(*id) && told.insert(*id));
        let line = |(id, time): (NodeId, policy::Millis)| {
            let (name, minutes) = (self.state.node_name(id), self.now.saturating_sub(time) / 60_000);
            alert(
                format!(
                    "{name} was proven off and then spoke, {minutes} min ago: its units may have run twice; it has \
                     booted since"
                ),
                format!(
                    "check the data of the units that {name} ran (`convoke events --node {name}`), and its fence \
                     device; this is shown for a day"
                ),
            )
        };
        last_of_each.map(line).collect()
    }

    fn fences_in_trouble(&self) -> Vec<AlarmLine> {
        let mut found = Vec::new();
        for case in self.state.cases.values().filter(|case| case.is_open()) {
            // A drill is in nobody's way, and tells how it ended.
            let Some(because) = case.because.unit() else { continue };
            let troubled = match case.phase {
                FencePhase::Failed { .. } => self.is_waited_for(case),
                // Without a level that would end something of what waits, no attempt ever begins (P120).
                FencePhase::Wanted => self.state.next_level(case, self.now).is_none(),
                _ => false,
            };
            if troubled {
                let text = Reason::WaitsForFence { node: case.node }.text(self.state, because, self.now);
                let remedy = self.fence_remedy(case, because);
                found.push(alert(format!("{text}; {because} waits for it"), remedy));
            }
        }
        found
    }

    fn fence_remedy(&self, case: &FenceCase, because: &UnitName) -> String {
        if let Some(scope) = self.state.copy_maintenance(because, case.node) {
            return format!("`{}` lets the cluster act", self.state.maintenance_release(&scope));
        }
        let name = self.state.node_name(case.node);
        let cut = self.state.isolation(case.node).is_some();
        // With a retry left the next one is the level that failed, as long as that helps. What is passed over proves nothing,
        // mended or not: it never saw this life with power on, or would only cut it off.
        let tried = FenceCase { retries_left: 1, ..case.clone() };
        if let Some(level) = self.state.next_level(&tried, self.now) {
            let device = self.state.level_name(case.node, level);
            return match cut {
                true => format!("mend {device}; or {}", ways::end_of_cut(&name)),
                false => format!("mend {device}, start {name} again, or {}", off_by_hand(&name)),
            };
        }
        let mut devices = self.state.devices_of(case.node).peekable();
        let none = devices.peek().is_none();
        let only_cut = devices.all(|(_, device)| device.isolates.is_some());
        match (none, only_cut) {
            _ if cut => ways::end_of_cut(&name),
            (true, _) => format!("start {name} again, or {}", off_by_hand(&name)),
            (false, true) => format!(
                "start {name} again, or see that it is off, or has booted since, and type `convoke fence confirm {name}`; \
                 with a power switch the next loss of {name} needs nobody"
            ),
            (false, false) => {
                format!("start {name} again, or {}: no device can prove it off any more", off_by_hand(&name))
            }
        }
    }

    fn lost_nodes(&self) -> Vec<AlarmLine> {
        let lost = |(id, node): (&NodeId, &Node)| {
            let since = node.lost_since()?;
            // With a case open, the case says more.
            if self.state.open_case(*id).is_some() {
                return None;
            }
            if let Some(told) = self.cut_off(*id, node) {
                return Some(told);
            }
            let ago = self.now.saturating_sub(since) / 1000;
            if self.is_away(*id, node) {
                // Somebody drained it, or has the hands on it, and switched it off: that is no news to them.
                if self.state.drained_by(*id).is_some() || self.state.node_maintenance(*id).is_some() {
                    return None;
                }
                return Some(warning(
                    format!(
                        "{} has been away for {ago} s after an orderly end of its daemon, and holds no permit",
                        node.name
                    ),
                    format!(
                        "start it when it is to work again; `convoke drain {0}` says that it is meant to be away, and \
                         `convoke leave {0}` takes it out for good",
                        node.name
                    ),
                ));
            }
            let running = self.state.units.values().any(|unit| unit.permit_on(*id).is_some());
            let what = if running { "may still run its units" } else { "is not known to run anything" };
            let remedy = if let Some(scope) = self.state.node_maintenance(*id) {
                let release = self.state.maintenance_release(&scope);
                format!("start it; in maintenance it is not fenced, and `{release}` lets the cluster act")
            } else if self.state.drained_by(*id).is_some() {
                format!("start it, or see that its power is off: `convoke fence confirm {}`", node.name)
            } else {
                format!("start it, or take it out of the cluster: `convoke leave {}`", node.name)
            };
            Some(warning(format!("{} has been lost for {ago} s and {what}", node.name), remedy))
        };
        self.state.nodes.iter().filter_map(lost).collect()
    }

    fn strays(&self) -> Vec<AlarmLine> {
        let mut found = Vec::new();
        for (id, node) in &self.state.nodes {
            for unit in node.life.iter().filter(|life| life.gone.is_none()).flat_map(|life| &life.strays) {
                let alone = self.state.copy_maintenance(unit, *id);
                if let Some(scope) = alone.filter(|_| node.role.runs_units()) {
                    found.push(self.left_stray(unit, *id, node, &scope));
                    continue;
                }
                let remedy = if node.role.runs_units() {
                    format!("see `convoke why {unit}`; stop it there, or `convoke start {unit}` to adopt it")
                } else {
                    format!("a witness runs no unit of the cluster: `systemctl stop {unit}` on {}", node.name)
                };
                found.push(warning(format!("{unit} runs on {} without a permit", node.name), remedy));
            }
        }
        found
    }

    /// What runs without a permit and is left alone. Of a unit that may run once, a second copy is for people to stop.
    fn left_stray(&self, unit: &UnitName, id: NodeId, node: &Node, scope: &Scope) -> AlarmLine {
        let release = self.state.maintenance_release(scope);
        let text = format!("{unit} runs on {} without a permit, and is in maintenance", node.name);
        let exclusive = self.state.units.get(unit).is_some_and(policy::Unit::is_exclusive);
        let running = self.state.possibly_running(unit);
        match running.iter().find(|(other, _)| exclusive && *other != id) {
            Some((other, _)) => alert(
                format!("{text}, and may run on {} too", self.state.node_name(*other)),
                format!("stop one of them by hand now: the cluster does not until `{release}`"),
            ),
            None => warning(
                text,
                format!("stop it there by hand, or `{release}`: the cluster takes it over or stops it"),
            ),
        }
    }

    /// Units that are meant to run and cannot by a fault in files, or run by older ones: which no waiting mends.
    fn units_in_trouble(&self) -> Vec<AlarmLine> {
        let mut found = Vec::new();
        for (name, unit) in &self.state.units {
            let reasons = self.plan.reasons.get(name).into_iter().flatten();
            for reason in reasons {
                let matters = match reason {
                    Reason::NoDefinition => unit.goal.wanted == Wanted::Started,
                    Reason::Fault { .. } | Reason::Differs(_) | Reason::NotAdopted(_) => true,
                    Reason::RestartPending { .. } => true,
                    _ => false,
                };
                if matters {
                    let fact = reason.text(self.state, name, self.now);
                    found.push(warning(format!("{name}: {fact}"), reason.release(self.state, name)));
                }
            }
        }
        found
    }

    /// Nodes whose loss would leave an exclusive unit waiting for a person. Said before the loss, not after it.
    fn unfenceable(&self) -> Vec<AlarmLine> {
        if self.state.nodes.values().filter(|node| node.role.runs_units()).count() < 2 {
            return Vec::new();
        }
        let mut found = Vec::new();
        // A witness has the files perhaps, but never a permit: nothing waits for it.
        let runs = |node: &Node| node.role.runs_units() && node.in_session().is_some();
        for (id, node) in self.state.nodes.iter().filter(|(_, node)| runs(node)) {
            let needs = |definition: &policy::Definition| {
                matches!(definition.fencing, Fencing::Required | Fencing::Isolated)
            };
            let offers = node.offers.iter().filter(|(_, offer)| offer.present);
            let unit = offers.map(|(name, _)| name).find(|name| {
                self.state.units.get(*name).and_then(policy::Unit::definition).is_some_and(needs)
            });
            let Some(unit) = unit else { continue };
            let only_cut = {
                let mut devices = self.state.devices_of(*id).peekable();
                devices.peek().is_some() && devices.all(|(_, device)| device.isolates.is_some())
            };
            let strict =
                node.offers.iter().filter(|(_, offer)| offer.present).map(|(name, _)| name).find(|name| {
                    let definition = self.state.units.get(*name).and_then(policy::Unit::definition);
                    definition.is_some_and(|definition| definition.fencing == Fencing::Required)
                });
            if let Some(unit) = strict.filter(|_| only_cut) {
                found.push(warning(
                    format!(
                        "{} can only be cut off ({}), and {unit} has Fencing=required: if it is lost, {unit} waits for a person",
                        node.name,
                        self.state.fenced_by(*id).unwrap_or_default()
                    ),
                    format!(
                        "add a power switch for {}; or say Fencing=isolated, if all that {unit} shares with others lies behind \
                         what is cut",
                        node.name
                    ),
                ));
            }
            match self.fencing(*id, node) {
                ("none", _) => found.push(warning(
                    format!("{} has no fence device: if it is lost, {unit} waits for a person", node.name),
                    format!("add a device for {} with `convoke config apply FILE`", node.name),
                )),
                ("unready", Some(error)) if !self.wrong_plug(*id) => found.push(warning(
                    format!("{} could not be fenced now: {error}", node.name),
                    format!(
                        "mend its fence device; without it {unit} waits for a person when {} is lost",
                        node.name
                    ),
                )),
                _ => {}
            }
        }
        found
    }

    /// Nodes that leave fence devices to others, where these are too few: the last of them may be lost with its target.
    fn unable_to_fence(&self) -> Vec<AlarmLine> {
        let mut found: BTreeMap<(NodeId, &str), Vec<&str>> = BTreeMap::new();
        for (name, device) in &self.state.devices {
            let unable: BTreeMap<NodeId, &str> = self.state.unable_of(name).collect();
            let here = self.state.nodes.iter().filter(|(_, node)| node.in_session().is_some());
            let able: BTreeSet<NodeId> =
                here.map(|(id, _)| *id).filter(|id| !unable.contains_key(id)).collect();
            let few = |target: &NodeId| able.len() < ENOUGH_TO_FENCE + usize::from(able.contains(target));
            for (id, lacks) in unable {
                let works = self.state.nodes.get(&id).is_some_and(|node| node.role.runs_units());
                if works && device.targets.keys().any(|target| *target != id && few(target)) {
                    found.entry((id, lacks)).or_default().push(name);
                }
            }
        }
        let line = |((id, lacks), devices): ((NodeId, &str), Vec<&str>)| {
            let name = self.state.node_name(id);
            warning(
                format!("{name} cannot use {}: {lacks}", devices.join(", ")),
                format!(
                    "mend that, then `convoke reset-failed {name}`, which has it look again; until then at most one other node can use it"
                ),
            )
        };
        found.into_iter().map(line).collect()
    }

    fn wrong_plug(&self, id: NodeId) -> bool {
        self.state.alarms.keys().any(|kind| matches!(kind, AlarmKind::WrongPlug(node, _) if *node == id))
    }

    fn too_few_voters(&self) -> Vec<AlarmLine> {
        let voters = self.state.nodes.values().filter(|node| node.role.votes()).count();
        if voters != 2 {
            return Vec::new();
        }
        vec![warning(
            "with two voters the loss of either one stops all decisions".to_owned(),
            "let a third machine join, if only as `--role witness`".to_owned(),
        )]
    }
}

fn off_by_hand(name: &str) -> String {
    format!("switch {name} off by hand and type `convoke fence confirm {name}`")
}

fn states_differ(why: &str) -> AlarmLine {
    let remedy = "one of them decides on wrong facts: test their memory, `convoke drain` the one that fails, then let it leave and \
                  join again";
    alert(why.to_owned(), remedy.to_owned())
}

pub(super) fn alert(text: String, remedy: String) -> AlarmLine {
    AlarmLine { severity: "alert".to_owned(), text, remedy }
}

pub(super) fn warning(text: String, remedy: String) -> AlarmLine {
    AlarmLine { severity: "warning".to_owned(), text, remedy }
}
