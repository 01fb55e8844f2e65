//! One random history: a cluster, units, wishes and faults, and at last calm.
//!
//! Whatever happens is a line of a script, so that what is found can be kept as one.

mod copies;
mod laws;
mod mixed;
#[path = "../history/rng.rs"]
mod rng;
mod role;
mod steps;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use policy::{NodeId, Reason, UnitName};

use crate::script::World;
use copies::Copies;
use rng::Rng;

/// Rounds of the calm after which the plan is at rest. A round takes all starts and stops that follow from each other; the
/// next one is due to the answers that the plan waited for: what runs without a permit is gone, terms, ranks.
const ROUNDS: usize = 6;

/// Long enough that failures are forgiven.
const FORGIVEN: &str = "time +700s";

const REST: &str = "the plan comes to rest";

/// Which units there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Up to five units that need each other, or stand in each other's way.
    Mixed,
    /// A replicated database, the role of its leader, an address beside it, and who uses that.
    Role,
}

/// A law that was broken, and how.
pub(crate) struct Violation {
    law: &'static str,
    what: String,
}

pub(crate) struct History {
    pub(crate) violation: Option<Violation>,
    /// Copies that were granted or revoked.
    pub(crate) moves: usize,
    /// Units that wait for a node, or for another one, at rest.
    pub(crate) missing: usize,
    pub(crate) seed: u64,
    kind: Kind,
    world: World,
    /// All lines so far.
    lines: Vec<String>,
    rng: Rng,
    nodes: Vec<&'static str>,
    units: Vec<&'static str>,
    /// How far the data of the role is.
    rank: u64,
}

impl History {
    pub(crate) fn play(seed: u64, kind: Kind) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = ["a", "b", "c", "d"].into_iter().take(2 + rng.below(3)).collect();
        let units = match kind {
            Kind::Mixed => mixed::UNITS.into_iter().take(2 + rng.below(4)).collect(),
            Kind::Role => role::UNITS.to_vec(),
        };
        let (world, lines) = (World::new(), Vec::new());
        let mut history = Self {
            violation: None,
            moves: 0,
            missing: 0,
            seed,
            kind,
            world,
            lines,
            rng,
            nodes,
            units,
            rank: 10,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| history.live()));
        history.violation = outcome.unwrap_or_else(|panic| Err(of_panic(panic.as_ref()))).err();
        history
    }

    /// The seed, and which law it breaks.
    pub(crate) fn title(&self) -> String {
        let (seed, kind) = (self.seed, self.kind);
        match &self.violation {
            Some(Violation { law, what }) => {
                format!("{kind:?} seed {seed}: {law}: {}", what.lines().next().unwrap_or_default())
            }
            None => format!("{kind:?} seed {seed} breaks nothing"),
        }
    }

    /// The history as a script.
    pub(crate) fn script(&self) -> String {
        format!("# {}\n{}\n---", self.title(), self.lines.join("\n"))
    }

    pub(crate) fn lines(&self) -> usize {
        self.lines.len()
    }

    fn live(&mut self) -> Result<(), Violation> {
        self.found()?;
        for _ in 0..2 + self.rng.below(13) {
            self.step();
            match self.rng.below(4) {
                0 => {}
                1 => drop(self.plan("plan")?),
                2 => drop(self.settle()?),
                _ => {
                    self.settle()?;
                    self.say_ranks(80)?;
                }
            }
        }
        self.calm_down()?;
        self.check()
    }

    /// Runs a line, and keeps it unless nobody could say it now.
    fn run(&mut self, line: &str) -> Vec<String> {
        self.lines.push(line.into());
        self.world.command(line).unwrap_or_else(|_| {
            self.lines.pop();
            Vec::new()
        })
    }

    /// Plans, and looks at what is granted and revoked; says so.
    fn plan(&mut self, line: &str) -> Result<Vec<String>, Violation> {
        let mut copies = Copies::of(&self.world.state);
        let lines = self.run(line);
        self.moves += lines.iter().filter(|line| is_move(line)).count();
        copies.follow(&lines)?;
        Ok(lines)
    }

    /// The agents do what they are told until nothing is left to do, and answer; whether anything moved.
    fn settle(&mut self) -> Result<bool, Violation> {
        let lines = self.plan("settle")?;
        for line in &lines {
            if let ["have", unit, "on", node, "stopped"] = line.split(' ').collect::<Vec<_>>().as_slice() {
                self.run(&format!("observed {node} {unit} gone"));
            }
        }
        let units = self.world.state.units.iter();
        let due: Vec<(UnitName, NodeId)> = units
            .flat_map(|(name, unit)| unit.permits.values().map(move |permit| (name, permit)))
            .filter(|(_, permit)| permit.next_terms.is_some() && self.is_there(permit.node))
            .map(|(name, permit)| (name.clone(), permit.node))
            .collect();
        for (unit, node) in due {
            self.run(&format!("acknowledged {unit} on {}", self.world.state.node_name(node)));
        }
        Ok(lines.iter().any(|line| is_move(line)))
    }

    /// Ends all faults, drains and maintenances, has all units started, and waits for rest.
    fn calm_down(&mut self) -> Result<(), Violation> {
        let (nodes, units) = (self.nodes.clone(), self.units.clone());
        for unit in &units {
            self.run(&format!("unmaintain unit {unit}"));
        }
        for node in &nodes {
            self.run(&format!("unmaintain {node}"));
            self.run(&format!("undrain {node}"));
            self.run(&format!("fence {node} off"));
        }
        for node in &nodes {
            if !self.named(node).is_some_and(|id| self.is_there(id)) {
                self.boot(node);
            }
        }
        for node in &nodes {
            self.run(&format!("look {node} on"));
            for unit in units.iter().filter(|unit| self.holds(unit, node)).collect::<Vec<_>>() {
                self.run(&format!("rests {unit} on {node} up"));
            }
        }
        for _ in 0..2 {
            self.run(FORGIVEN);
            for node in &nodes {
                self.run(&format!("look {node} on"));
            }
            self.settle()?;
            self.say_ranks(100)?;
        }
        for unit in &units {
            self.run(&format!("start {unit}"));
        }
        for _ in 0..ROUNDS {
            let moved = self.settle()?;
            let said = self.say_ranks(100)?;
            if !moved && !said {
                return Ok(());
            }
        }
        let what = format!("granted or revoked after {ROUNDS} rounds still");
        Err(Violation { law: REST, what })
    }

    /// A node boots anew after whatever befell it.
    fn boot(&mut self, node: &str) {
        self.run(&format!("lost {node}"));
        self.run(&format!("boot {node}"));
        self.run(&format!("inventory {node}"));
        self.run(&format!("look {node} on"));
    }

    fn named(&self, node: &str) -> Option<NodeId> {
        self.world.state.node_named(node)
    }

    /// Whether a node is in session and has said what it runs.
    fn is_there(&self, node: NodeId) -> bool {
        let node = self.world.state.nodes.get(&node);
        node.and_then(|node| node.in_session()).is_some_and(|life| life.inventory)
    }

    fn holds(&self, unit: &str, node: &str) -> bool {
        let unit = self.world.state.units.get(&service(unit));
        let node = self.named(node);
        unit.zip(node).is_some_and(|(unit, node)| unit.permit_on(node).is_some())
    }

    fn reasons(&self, unit: &UnitName) -> Vec<Reason> {
        let planned = policy::plan(&self.world.state, self.world.time);
        planned.reasons.get(unit).cloned().unwrap_or_default()
    }
}

fn service(name: &str) -> UnitName {
    UnitName(format!("{name}.service"))
}

fn is_move(line: &str) -> bool {
    line.starts_with("grant ") || line.starts_with("revoke ")
}

/// What the runner of the scripts finds by itself.
fn of_panic(panic: &(dyn Any + Send)) -> Violation {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
    let law = if text.contains("does not settle") {
        REST
    } else if text.starts_with("planned, but") {
        "what is planned is accepted"
    } else {
        "no panic"
    };
    Violation { law, what: text.into() }
}
