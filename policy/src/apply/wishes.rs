//! What operators ask for: recorded if it can be meant, refused with a remedy if it cannot.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{AfterFence, Device, Settings, Wish};
use crate::event::{EventKind, Severity};
use crate::fence::{Phase, SwitchedOff};
use crate::lately::Lately;
use crate::name::{Millis, NodeId, Token, UnitName};
use crate::node::{Node, Role};
use crate::refusal::Refusal;
use crate::state::JoinToken;
use crate::unit::{Goal, MoveWish, Unit, Wanted};

use super::{Step, stale};

/// Voters that a cluster takes by itself; more are an operator's choice (`convoke promote`).
const VOTERS: usize = 3;
/// Shortest and longest `detect`, in milliseconds: below, no disk or scheduler keeps up; above, nobody would wait.
const DETECT_MS: core::ops::RangeInclusive<Millis> = 500..=60_000;

impl Step<'_> {
    pub(super) fn found(&mut self, wish: &Wish) -> Result<(), Refusal> {
        let Wish::Found { cluster, name, generation, node, node_name, addresses, machine } = wish else {
            return Err(stale("not a foundation"));
        };
        if !self.state.cluster.is_empty() {
            return Err(stale("the cluster was founded already"));
        }
        self.state.cluster.clone_from(cluster);
        self.state.name.clone_from(name);
        self.state.generation = *generation;
        self.state.nodes.insert(*node, enrolled(node_name, addresses, machine, Role::Voter));
        self.changes(*node);
        self.record(Severity::Info, Some(*node), None, EventKind::Founded);
        Ok(())
    }

    pub(super) fn issue_token(
        &mut self,
        id: &str,
        secret_hash: &str,
        valid_ms: Millis,
    ) -> Result<(), Refusal> {
        let now = self.time;
        self.state.tokens.retain(|_, token| token.expires > now);
        let token = JoinToken { secret_hash: secret_hash.into(), expires: now.saturating_add(valid_ms) };
        self.state.tokens.insert(id.into(), token);
        Ok(())
    }

    /// A machine joins. Its id is this entry's number and is never given again (F14).
    pub(super) fn enroll(
        &mut self,
        token: &str,
        secret_hash: &str,
        name: &str,
        addresses: &[String],
        machine: &str,
        role: Option<Role>,
    ) -> Result<(), Refusal> {
        self.state.knows_token(token, secret_hash, self.time)?;
        // First the machine: another name would not help one that is a node already, as after a join that was cut short.
        if let Some((_, other)) = self.state.nodes.iter().find(|(_, node)| node.machine == machine) {
            let why = format!(
                "this machine id belongs to {0} already; if this is {0}, take it out with `convoke leave {0}` on a node \
                 of the cluster and join again; a cloned machine needs a machine id of its own \
                 (`systemd-machine-id-setup` after removing /etc/machine-id)",
                other.name
            );
            return Err(Refusal::Impossible(why));
        }
        if self.state.node_named(name).is_some() {
            let why = format!(
                "a node named {name} is in the cluster already; choose another name with --name, \
                 or take the old one out with `convoke leave {name}`"
            );
            return Err(Refusal::Impossible(why));
        }
        let voters = self.state.nodes.values().filter(|node| node.role.votes()).count();
        let role = role.unwrap_or(if voters < VOTERS { Role::Voter } else { Role::Member });
        let id = NodeId(self.state.number(self.index));
        self.state.nodes.insert(id, enrolled(name, addresses, machine, role));
        self.changes(id);
        self.record(Severity::Info, Some(id), None, EventKind::NodeEnrolled);
        Ok(())
    }

    /// Not while anything may run there, or a fence is under way (F19).
    pub(super) fn remove_node(&mut self, id: NodeId, by: &str) -> Result<(), Refusal> {
        self.state.may_be_asked(self.state.node_maintenance(id))?;
        let node = self.node(id)?;
        let name = node.name.clone();
        if let Some(unit) = self.state.possibly_there(id, node).first() {
            // A node that is silent cannot be emptied.
            let remedy = match node.in_session() {
                Some(_) => format!("drain it (`convoke drain {name}`)"),
                None => format!("start it again, or vouch that it is off (`convoke fence confirm {name}`)"),
            };
            let why = format!("{unit} is possibly running on {name}; {remedy}");
            return Err(Refusal::Impossible(why));
        }
        if let Some(isolation) = self.state.isolation(id) {
            let why = format!(
                "{name} was cut off by {}, and may still run; what ends that is {}",
                isolation.devices,
                self.state.end_of_cut(id)
            );
            return Err(Refusal::Impossible(why));
        }
        let opens = |debt: &SwitchedOff| debt.opening.as_ref().is_some_and(|opening| opening.executor == id);
        let over = node.life.as_ref().is_none_or(|life| life.gone.is_some());
        if !over && let Some(((device, of), _)) = self.state.switched_off.iter().find(|(_, debt)| opens(debt))
        {
            let of = self.state.node_name(*of);
            let why = format!(
                "{name} was to let {of} in through {device}, and its agent may still run; start it again, or vouch that it is \
                 off (`convoke fence confirm {name}`)"
            );
            return Err(Refusal::Impossible(why));
        }
        if let Some((device, executor)) = self.way_being_opened(id) {
            let why = format!(
                "{executor} is letting {name} in through {device}; try again in a moment, or, if {executor} is gone, after \
                 `convoke fence confirm {executor}`"
            );
            return Err(Refusal::Impossible(why));
        }
        if let Some((unit, member)) = self.state.live_last(id) {
            let remedy = match (member.ended, node.in_session()) {
                (None, None) => format!("see that its power is off, then `convoke fence confirm {name}`"),
                _ => "it can be taken out once another copy is ready without it".to_string(),
            };
            let why = format!("{name} was live last of {unit}, and may have its latest data; {remedy}");
            return Err(Refusal::Impossible(why));
        }
        if let Some(unit) = self.state.role_awaits(id, self.time) {
            let why = format!(
                "{name} may have the latest data of {unit}; it can be taken out once another holds that, or after \
                 `convoke assemble {unit} --without {name}`"
            );
            return Err(Refusal::Impossible(why));
        }
        if self.state.open_case(id).is_some() {
            let why = format!("{name} is being fenced; wait for the end of it (`convoke fence`)");
            return Err(Refusal::Impossible(why));
        }
        if node.in_session().is_some() {
            let why = format!(
                "{name} is in session; stop convoked there first (`systemctl disable --now convoked`)"
            );
            return Err(Refusal::Impossible(why));
        }
        let owed =
            self.state.switched_off.keys().filter(|(_, node)| *node == id).map(|(device, _)| device.clone());
        let left = format!("{name} was taken out of the cluster, and its way stays shut");
        for device in owed.collect::<Vec<_>>() {
            self.left_shut(id, &device, &left);
        }
        self.state.nodes.remove(&id);
        self.changes(id);
        self.state.cases.retain(|_, case| case.node != id);
        self.state.drills.remove(&id);
        self.state.alarms.retain(|kind, _| kind.node() != Some(id));
        self.state.observations.retain(|(_, node), _| *node != id);
        self.state.forget_reach(id);
        self.state.switched_off.retain(|(_, node), _| *node != id);
        // Its plug may be given to another.
        self.late_openings_may_be_elsewhere();
        for device in self.state.devices.values_mut() {
            device.targets.remove(&id);
        }
        for unit in self.state.units.values_mut() {
            unit.holds.remove(&id);
            unit.failures.remove(&id);
            unit.moving.take_if(|moving| moving.to == Some(id));
            unit.asked_for.take_if(|node| *node == id);
            if let Some(boot_up) = &mut unit.boot_up {
                boot_up.forget_node(id);
            }
            if let Some(succession) = &mut unit.succession {
                succession.forget_node(id);
            }
        }
        self.record(Severity::Info, Some(id), None, EventKind::NodeRemoved { by: by.into() });
        Ok(())
    }

    pub(super) fn set_goal(
        &mut self,
        unit: &UnitName,
        wanted: Wanted,
        node: Option<NodeId>,
        seen: Option<u64>,
        by: &str,
    ) -> Result<(), Refusal> {
        if let Some(node) = node {
            self.node(node)?;
        }
        self.state.goal_may_be_set(unit, wanted, node)?;
        let (index, wall_ms) = (self.index, self.wall_ms);
        let known = self.known_unit(unit)?;
        if seen.is_some_and(|seen| seen != known.goal.revision) {
            return Err(stale("the goal was changed since it was looked at"));
        }
        known.goal = Goal { wanted, revision: index, by: Some(by.into()), wall_ms };
        known.moving = None;
        known.asked_for = None;
        if wanted == Wanted::Started {
            // Whoever starts a unit wants it to run: what kept it from a node before is forgotten.
            match node {
                Some(node) => {
                    known.holds.remove(&node);
                    known.failures.remove(&node);
                    // A copy that is there already needs no grant, and the next one may be anybody's.
                    let stays = known.permit_on(node).is_some_and(|(_, permit)| !permit.is_revoking());
                    known.asked_for = Some(node).filter(|_| !stays);
                }
                None => {
                    known.holds.clear();
                    known.failures.clear();
                }
            }
        }
        let kind = EventKind::GoalSet { wanted, by: Some(by.into()) };
        self.record(Severity::Info, node, Some(unit), kind);
        if wanted == Wanted::Started {
            self.stop_opponents(unit, by);
        }
        Ok(())
    }

    /// Whoever starts a unit stops what it conflicts with, as in systemd.
    fn stop_opponents(&mut self, unit: &UnitName, by: &str) {
        let (revision, wall_ms) = (self.index, self.wall_ms);
        let by = format!("{by}, by starting {unit}");
        let opponents: BTreeSet<UnitName> = self.state.opponents(unit).cloned().collect();
        for name in opponents {
            let Some(other) = self.state.units.get_mut(&name) else { continue };
            if other.goal.wanted == Wanted::Stopped {
                continue;
            }
            other.goal = Goal { wanted: Wanted::Stopped, revision, by: Some(by.clone()), wall_ms };
            other.moving = None;
            other.asked_for = None;
            let kind = EventKind::GoalSet { wanted: Wanted::Stopped, by: Some(by.clone()) };
            self.record(Severity::Info, None, Some(&name), kind);
        }
    }

    pub(super) fn move_unit(
        &mut self,
        unit: &UnitName,
        from: Option<NodeId>,
        to: Option<NodeId>,
        by: &str,
    ) -> Result<(), Refusal> {
        if let Some(to) = to {
            self.node(to)?;
        }
        self.state.may_be_asked(self.state.unit_maintenance(unit))?;
        self.state.may_be_asked(to.and_then(|to| self.state.node_maintenance(to)))?;
        let names: BTreeMap<NodeId, String> =
            self.state.nodes.iter().map(|(id, node)| (*id, node.name.clone())).collect();
        let name_of = |id: NodeId| names.get(&id).cloned().unwrap_or_default();
        let known = self.known_unit(unit)?;
        if known.goal.wanted == Wanted::Stopped {
            let why = format!("{unit} is stopped; start it with `convoke start {unit}`");
            return Err(Refusal::Impossible(why));
        }
        if let Some(to) = to.filter(|to| known.permit_on(*to).is_some()) {
            return Err(Refusal::Impossible(format!("{unit} is on {} already", name_of(to))));
        }
        let mut held = known.permits.iter().filter(|(_, permit)| from.is_none_or(|from| permit.node == from));
        let (token, permit) = match (held.next(), held.next()) {
            (Some((token, permit)), None) => (*token, permit),
            (Some(_), Some(_)) => {
                let why = format!("{unit} runs on several nodes; say which one to leave with --from");
                return Err(Refusal::Impossible(why));
            }
            (None, _) => {
                let why = format!("{unit} runs nowhere yet; `convoke why {unit}` says what it waits for");
                return Err(Refusal::Impossible(why));
            }
        };
        let leaving = permit.node;
        self.state.may_be_asked(self.state.node_maintenance(leaving))?;
        let known = self.known_unit(unit)?;
        known.moving = Some(MoveWish { from: token, leaving, to, by: by.into() });
        known.asked_for = None;
        if let Some(to) = to {
            known.failures.remove(&to);
        }
        self.record(Severity::Info, Some(leaving), Some(unit), EventKind::MoveAsked { to, by: by.into() });
        Ok(())
    }

    pub(super) fn reset_failed(&mut self, unit: &UnitName, node: Option<NodeId>) -> Result<(), Refusal> {
        let known = self.known_unit(unit)?;
        known.failures.retain(|id, _| node.is_some_and(|node| node != *id));
        Ok(())
    }

    pub(super) fn configure(
        &mut self,
        settings: &Settings,
        devices: &BTreeMap<String, Device>,
        attributes: &BTreeMap<NodeId, BTreeMap<String, String>>,
        by: &str,
    ) -> Result<(), Refusal> {
        if !DETECT_MS.contains(&settings.detect_ms) {
            let why = format!("detect must lie between {} and {} ms", DETECT_MS.start(), DETECT_MS.end());
            return Err(Refusal::Impossible(why));
        }
        if settings.detect_ms != self.state.settings.detect_ms && self.state.nodes.len() > 1 {
            // A shorter lease must not end one that was given at the longer length (F15).
            let why = "detect can be set only while the cluster has one node, in this version";
            return Err(Refusal::Impossible(why.to_string()));
        }
        for (name, device) in devices {
            if device.level == 0 || device.at_once == 0 {
                let why = format!("{name}: levels and attempts at once are counted from 1");
                return Err(Refusal::Impossible(why));
            }
            for id in device.targets.keys() {
                self.node(*id)?;
            }
        }
        let old = &self.state.devices;
        for (id, node) in &self.state.nodes {
            let open = self.state.open_case(*id).map(|(_, case)| case);
            // While no agent runs, a device may be given more time: that may be all that the fence lacks.
            let runs = open.is_some_and(|case| matches!(case.phase, Phase::Running { .. }));
            let same = if runs { Device::eq } else { Device::proves_as };
            if are_alike([old, devices], |device| device.targets.contains_key(id), same) {
                continue;
            }
            if open.is_some() {
                let why = format!(
                    "{0} is being fenced, and its devices cannot change meanwhile, but for timeouts, retries and delays between two \
                     attempts: what ends that is a fence, a boot of {0}, or `convoke fence confirm {0}`",
                    node.name
                );
                return Err(Refusal::Impossible(why));
            }
            self.devices_are_needed(*id)?;
            // F19: the only way to prove what a lost node does is not taken away, nor swapped for an untried one.
            if node.lost_since().is_some() && !self.state.possibly_there(*id, node).is_empty() {
                let why = format!(
                    "{0} is lost and may still run units, and its devices cannot change meanwhile: boot it, or, if it is off, \
                     `convoke fence confirm {0}`",
                    node.name
                );
                return Err(Refusal::Impossible(why));
            }
        }
        for id in attributes.keys() {
            self.node(*id)?;
        }
        // What a drill found of other devices says nothing of these.
        for (id, drills) in &mut self.state.drills {
            drills.retain(|level, _| {
                let of_level = |device: &Device| device.level == *level && device.targets.contains_key(id);
                are_alike([&self.state.devices, devices], of_level, Device::proves_as)
            });
        }
        let renewed: BTreeSet<String> = devices
            .iter()
            .filter(|(name, device)| !self.state.devices.get(*name).is_some_and(|old| old.asks_as(device)))
            .map(|(name, _)| name.clone())
            .collect();
        self.state.observations.retain(|(name, node), _| {
            !renewed.contains(name)
                && devices.get(name).is_some_and(|device| device.targets.contains_key(node))
        });
        self.state.reach.retain(|name, _| !renewed.contains(name) && devices.contains_key(name));
        // Under new settings what could not say is asked at once.
        for seen in self.state.observations.values_mut() {
            seen.misses = 0;
        }
        let kept = |name: &String, node: &NodeId| {
            devices.get(name).is_some_and(|device| device.targets.contains_key(node))
        };
        let dropped = self.state.switched_off.keys().filter(|(name, node)| !kept(name, node)).cloned();
        for (device, id) in dropped.collect::<Vec<_>>() {
            self.left_shut(id, &device, "it was taken out of the settings, and what it has shut stays shut");
        }
        self.state.switched_off.retain(|(name, node), _| kept(name, node));
        self.state.alarms.retain(|kind, _| !matches!(kind, crate::state::AlarmKind::WrongPlug(_, _)));
        let stay_off = self.state.settings.after_fence == AfterFence::On;
        self.state.settings = settings.clone();
        let same = self.state.devices == *devices;
        self.state.devices.clone_from(devices);
        self.state.configured = self.index;
        if !same {
            self.late_openings_may_be_elsewhere();
        }
        self.are_to_register(&renewed);
        if stay_off && settings.after_fence == AfterFence::Off {
            self.nodes_stay_off();
        }
        for (id, node) in &mut self.state.nodes {
            node.attributes = attributes.get(id).cloned().unwrap_or_default();
        }
        self.state.review_places();
        self.record(Severity::Info, None, None, EventKind::Configured { by: by.into() });
        Ok(())
    }

    pub(super) fn adopt_from(&mut self, unit: &UnitName, node: NodeId, _by: &str) -> Result<(), Refusal> {
        let offer = self.node(node)?.offers.get(unit).filter(|offer| offer.present);
        let definition = offer.and_then(|offer| offer.definition.clone());
        let Some(definition) = definition else {
            let why = format!("{} offers no definition of {unit} without errors", self.state.node_name(node));
            return Err(Refusal::Impossible(why));
        };
        self.known_unit(unit)?;
        self.take_definition(unit, &definition)
    }

    pub(super) fn forget(&mut self, unit: &UnitName, by: &str) -> Result<(), Refusal> {
        self.known_unit(unit)?;
        self.state.may_be_asked(self.state.unit_maintenance(unit))?;
        if let Some((node, _)) = self.state.possibly_running(unit).first() {
            let why = format!("{unit} is possibly running on {}", self.state.node_name(*node));
            return Err(Refusal::Impossible(why));
        }
        let offering =
            self.state.nodes.values().find(|node| node.offers.get(unit).is_some_and(|offer| offer.present));
        if let Some(node) = offering {
            let why = format!("{} still has a drop-in for {unit}; remove it first", node.name);
            return Err(Refusal::Impossible(why));
        }
        self.state.relate(unit, None);
        self.state.units.remove(unit);
        for node in self.state.nodes.values_mut() {
            node.offers.remove(unit);
        }
        self.record(Severity::Info, None, Some(unit), EventKind::Forgotten { by: by.into() });
        Ok(())
    }

    fn known_unit(&mut self, unit: &UnitName) -> Result<&mut Unit, Refusal> {
        self.state.units.get_mut(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))
    }
}

/// Whether two settings have the same devices, of those that are meant.
fn are_alike(
    both: [&BTreeMap<String, Device>; 2],
    meant: impl Fn(&Device) -> bool,
    same: fn(&Device, &Device) -> bool,
) -> bool {
    let [before, after] = both.map(|all| all.iter().filter(|(_, device)| meant(device)).collect::<Vec<_>>());
    let pairs = || before.iter().zip(&after);
    before.len() == after.len() && pairs().all(|((a, one), (b, other))| a == b && same(one, other))
}

fn enrolled(name: &str, addresses: &[String], machine: &str, role: Role) -> Node {
    Node {
        name: name.into(),
        addresses: addresses.to_vec(),
        role,
        attributes: BTreeMap::new(),
        machine: machine.into(),
        drained: None,
        maintenance: None,
        kept: BTreeSet::new(),
        feature_level: None,
        life: None,
        past: BTreeSet::new(),
        offers: BTreeMap::new(),
        quarantined_until: 0,
        lately: Lately::default(),
        highest_token: Token(0),
        surveyed: 0,
    }
}
