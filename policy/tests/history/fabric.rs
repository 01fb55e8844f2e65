//! A switch whose ports cut machines off, and the agents that open them again: late, twice, or never.
//!
//! What a unit with `Fencing=isolated` shares with others lies behind the port of its machine, so that a copy behind a port that is
//! shut does no harm (P120), and one behind a port that was opened too early does (P123).

use std::collections::BTreeSet;

use policy::{Decision, Device, Fact, Fencing, Incarnation, NodeId, Power, Reconnect, SwitchOn, UnitName};

use super::machine::Instance;
use super::{Checked, Machine, World};

/// The one device that cuts.
pub(super) const PORT: &str = "port";
/// How long an agent lives.
const DEADLINE_MS: u64 = 5_000;

/// What is under way at the ports.
#[derive(Debug, Default)]
pub(crate) struct Fabric {
    /// Machines are registered by themselves in each life, instead of being let in after a cut.
    registers: bool,
    /// Agents that are to open a port.
    agents: Vec<Agent>,
    /// Late commands: a port is opened, or shut, at that time.
    late: Vec<(u64, NodeId, bool)>,
    /// Copies that were found running, and have a permit that takes a cut for a proof, told to their machine or not.
    taken_over: BTreeSet<(UnitName, Incarnation)>,
    /// How often a node was cut off.
    pub(crate) cuts: usize,
    /// How often one was let in.
    pub(crate) opened: usize,
}

#[derive(Clone, Debug)]
struct Agent {
    node: NodeId,
    executor: NodeId,
    executor_incarnation: Incarnation,
    since: u64,
    /// When the leader said that it may run.
    confirmed: Option<u64>,
    /// Its machine stood still since: its deadline does not hold.
    paused: bool,
}

/// Whether a copy reaches what it shares.
pub(super) fn reaches(world: &World, unit: &UnitName, machine: &Machine, copy: &Instance) -> bool {
    let taken_over = |fabric: &Fabric| fabric.taken_over.contains(&(unit.clone(), machine.incarnation()));
    let behind = match &copy.terms {
        Some(terms) => terms.fencing == Fencing::Isolated,
        None => world.fabric.as_ref().is_some_and(taken_over),
    };
    machine.open || !behind
}

impl World {
    /// A world of machines at a switch. Some units take a cut for a proof, and their files change their mind.
    pub(crate) fn with_fabric(seed: u64, broken: Option<super::Mutation>) -> Self {
        let mut world = Self::new(seed, broken);
        let registers = world.topology.percent(40);
        world.fabric = Some(Fabric { registers, ..Fabric::default() });
        for machine in &mut world.machines {
            machine.registers = registers;
            machine.open = !registers;
        }
        for (unit, choices) in &mut world.definitions {
            if ["pg", "ip", "rival", "big"].contains(&unit.as_str()) {
                let isolated: Vec<_> = choices.iter().filter(|one| one.is_exclusive()).cloned().collect();
                let isolated =
                    isolated.into_iter().map(|one| policy::Definition { fencing: Fencing::Isolated, ..one });
                let mut all: Vec<_> = isolated.collect();
                all.append(choices);
                let leased =
                    all.first().map(|one| policy::Definition { fencing: Fencing::Lease, ..one.clone() });
                all.extend(leased);
                *choices = all;
            }
        }
        world
    }

    /// A machine with a copy that takes a cut for a proof falls silent: what a port is there for.
    pub(super) fn silence_a_holder(&mut self) -> bool {
        let holds = |machine: &&mut Machine| {
            let takes =
                |copy: &Instance| copy.terms.as_ref().is_some_and(|terms| terms.fencing == Fencing::Isolated);
            machine.heard() && machine.copies.values().any(takes)
        };
        let mut holders: Vec<&mut Machine> = self.machines.iter_mut().filter(holds).collect();
        if holders.is_empty() {
            return false;
        }
        let at = self.rng.below(holders.len());
        let freezes = self.rng.percent(50);
        let Some(machine) = holders.get_mut(at) else { return false };
        self.story.push(format!("{} {} falls silent, and runs what its port guards", self.now, machine.name));
        if freezes {
            self.paused |= machine.rests_on_a_lease();
            machine.frozen = true;
        } else {
            machine.cut = true;
        }
        true
    }

    /// A copy that was found running is behind its port from when its permit says so, though its machine may never hear.
    pub(super) fn adopt_behind_port(&mut self, decision: &Decision) {
        let Decision::Grant { unit, node, incarnation, adopt: true, .. } = decision else { return };
        let isolated = self.state.units.get(unit).is_some_and(|unit| {
            let mut here = unit.permits.values().filter(|permit| permit.node == *node);
            here.any(|permit| permit.terms.fencing == Fencing::Isolated)
        });
        if let Some(fabric) = self.fabric.as_mut().filter(|_| isolated) {
            fabric.taken_over.insert((unit.clone(), incarnation.clone()));
        }
    }

    /// The switch, before or behind the power switches.
    pub(super) fn port(&mut self, mut device: Device) -> Option<(String, Device)> {
        let registers = self.fabric.as_ref()?.registers;
        device.isolates = Some(if registers { Reconnect::ByNode } else { Reconnect::AfterCut });
        device.level = if self.topology.percent(70) { 1 } else { 9 };
        Some((PORT.into(), device))
    }

    pub(super) fn order_opening(&mut self, on: &SwitchOn) {
        let executor = self.machines.iter().find(|machine| machine.id == on.executor && machine.heard());
        let (Some(executor), Some(fabric)) = (executor, &mut self.fabric) else { return };
        let known = fabric.agents.iter().any(|agent| agent.node == on.node && agent.since == on.since);
        if !known {
            fabric.agents.push(Agent {
                node: on.node,
                executor: on.executor,
                executor_incarnation: executor.incarnation(),
                since: on.since,
                confirmed: None,
                paused: false,
            });
        }
    }

    /// One of the agents goes on; all of them once there are no more faults.
    pub(super) fn open_ports(&mut self) -> Checked {
        let waiting = self.fabric.as_ref().map_or(0, |fabric| fabric.agents.len());
        let times = if self.calm { waiting * 2 } else { waiting.min(1) };
        for _ in 0..times {
            let waiting = self.fabric.as_ref().map_or(0, |fabric| fabric.agents.len());
            if waiting > 0 {
                let at = if self.calm { 0 } else { self.rng.below(waiting) };
                self.agent_goes_on(at);
            }
        }
        Ok(())
    }

    fn agent_goes_on(&mut self, at: usize) {
        let Some(fabric) = &mut self.fabric else { return };
        let agent = fabric.agents.swap_remove(at);
        let machine = self.machines.iter().find(|machine| {
            machine.id == agent.executor
                && machine.power
                && machine.incarnation() == agent.executor_incarnation
        });
        // It died with its machine.
        let Some(machine) = machine else { return };
        if machine.frozen {
            fabric.agents.push(Agent { paused: true, ..agent });
            return;
        }
        let Some(confirmed) = agent.confirmed else {
            let debt = self.state.switched_off.get(&(PORT.to_string(), agent.node));
            let due = debt.is_some_and(|debt| debt.since == agent.since && debt.opening.is_some());
            if machine.heard() && due {
                fabric.agents.push(Agent { confirmed: Some(self.now), ..agent });
            }
            return;
        };
        let unknown = || Power::Unknown("no answer".into());
        let power = if self.now > confirmed + DEADLINE_MS && !agent.paused {
            unknown()
        } else {
            match self.rng.below(10) {
                _ if self.calm => Power::On,
                0..=6 => Power::On,
                7 | 8 => unknown(),
                _ => {
                    fabric.late.push((self.now + self.rng.below(9_000) as u64, agent.node, true));
                    unknown()
                }
            }
        };
        if power == Power::On {
            fabric.opened += 1;
            self.set_port(agent.node, true, "an agent");
        }
        let fact = Fact::SwitchedOn { node: agent.node, device: PORT.into(), since: agent.since, power };
        self.facts.push(fact);
    }

    /// An attempt through the switch has shut a port.
    pub(super) fn cut_off(&mut self, node: NodeId) {
        if let Some(fabric) = &mut self.fabric {
            fabric.cuts += 1;
        }
        self.set_port(node, false, "a fence");
    }

    pub(super) fn cut_late(&mut self, node: NodeId, by: u64) {
        if let Some(fabric) = &mut self.fabric {
            fabric.late.push((by, node, false));
        }
    }

    pub(super) fn late_ports(&mut self) {
        let Some(fabric) = &mut self.fabric else { return };
        let late = std::mem::take(&mut fabric.late);
        let (due, rest): (Vec<_>, Vec<_>) = late.into_iter().partition(|(by, ..)| *by <= self.now);
        fabric.late = rest;
        for (_, node, open) in due {
            self.set_port(node, open, "a late command");
        }
        for machine in self.machines.iter().filter(|machine| machine.frozen) {
            let agents = self.fabric.iter_mut().flat_map(|fabric| &mut fabric.agents);
            agents.filter(|agent| agent.executor == machine.id).for_each(|agent| agent.paused = true);
        }
    }

    fn set_port(&mut self, node: NodeId, open: bool, by: &str) {
        if let Some(machine) = self.machines.iter_mut().find(|machine| machine.id == node) {
            let what = if open { "opened" } else { "shut" };
            self.story.push(format!("{} the port of {} is {what} by {by}", self.now, machine.name));
            machine.open = open;
        }
    }

    /// P121: whoever was cut off is lost, and stays so.
    pub(super) fn ports_are_heeded(&self) -> Checked {
        for (id, node) in &self.state.nodes {
            let Some(life) = &node.life else { continue };
            if life.isolated.is_some() && !matches!(life.presence, policy::Presence::Lost { .. }) {
                let what = format!("{id} was cut off and is in session");
                return Err(super::Violation { rule: "P121 cut off", what });
            }
        }
        Ok(())
    }
}
