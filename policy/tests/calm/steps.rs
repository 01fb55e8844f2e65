//! How a history begins, and what happens in it: wishes and faults.

use super::rng::Rng;
use super::{History, Kind, Violation, mixed, role};

/// One of them, each as likely.
pub(super) fn pick<'a>(rng: &mut Rng, choices: &[&'a str]) -> &'a str {
    let position = rng.below(choices.len());
    choices.get(position).copied().unwrap_or_default()
}

impl History {
    /// A cluster whose units are all started.
    pub(super) fn found(&mut self) -> Result<(), Violation> {
        self.run(&format!("cluster {}", self.nodes.join(" ")));
        let settings = mixed::settings(&mut self.rng, &self.nodes);
        self.run(&settings);
        for node in self.nodes.clone() {
            self.run(&format!("look {node} on"));
        }
        for unit in self.units.clone() {
            self.offer(unit);
        }
        for unit in self.units.clone() {
            self.run(&format!("start {unit}"));
        }
        self.settle()?;
        self.form()
    }

    /// The files of a unit say something on all nodes, or something else from now on.
    fn offer(&mut self, unit: &str) {
        let keys = match self.kind {
            Kind::Mixed => mixed::keys(&mut self.rng, unit, &self.units),
            Kind::Role => role::keys(&mut self.rng, unit),
        };
        self.run(&format!("offer {} {unit} {keys}", self.nodes.join(",")));
    }

    /// One thing happens.
    pub(super) fn step(&mut self) {
        let (unit, node) = (pick(&mut self.rng, &self.units), pick(&mut self.rng, &self.nodes));
        let line = match self.rng.below(24) {
            0 => format!("start {unit}"),
            1 => format!("stop {unit}"),
            2 => format!("move {unit} from {node}"),
            3 => format!("move {unit} from {node} to {}", pick(&mut self.rng, &self.nodes)),
            4 | 5 => format!("drain {node}"),
            6 | 7 => format!("undrain {node}"),
            8 => format!("maintain {node}"),
            9 => format!("unmaintain {node}"),
            10 => format!("maintain unit {unit}"),
            11 => format!("unmaintain unit {unit}"),
            12 | 13 => format!("lost {node}"),
            14 => return self.boot(node),
            15 => format!("fence {node} off"),
            16 => format!("fence {node} failed no"),
            17 => return self.come_back(node),
            18 => return self.release(unit, node, "failed it broke"),
            19 => return self.release(unit, node, "no start it broke"),
            20 => format!("time +{}s", self.rng.below(80)),
            21 => return self.offer(unit),
            22 => return self.rare(unit, node),
            _ => format!("start {unit} on {node}"),
        };
        self.run(&line);
    }

    /// What happens less often.
    fn rare(&mut self, unit: &str, node: &str) {
        match self.rng.below(6) {
            0 => drop(self.run(&format!("observed {node} {unit} running"))),
            1 => {
                self.run(&format!("stop {unit} by hand on {node}"));
                self.release(unit, node, "stopped by root");
            }
            2 => drop(self.run(&format!("unwell {unit} on {node} bad"))),
            3 => drop(self.run(&format!("rests {unit} on {node} restarts"))),
            4 => self.release(unit, node, "along with net.service"),
            _ => {
                let there = |node: &&str| self.named(node).is_some_and(|id| self.is_there(id));
                let nodes: Vec<&str> = self.nodes.iter().copied().filter(there).collect();
                self.run("term a");
                for node in nodes {
                    self.hello(node);
                }
            }
        }
    }

    fn release(&mut self, unit: &str, node: &str, because: &str) {
        if self.holds(unit, node) {
            self.run(&format!("released {unit} on {node} because {because}"));
        }
    }

    /// A node that fell silent is heard again, and runs what it ran.
    fn come_back(&mut self, node: &str) {
        if !self.named(node).is_some_and(|id| self.is_there(id)) {
            self.hello(node);
            self.run(&format!("look {node} on"));
        }
    }

    /// A node says hello, and that all runs on which it had started.
    fn hello(&mut self, node: &str) {
        let id = self.named(node);
        let active = |unit: &&&str| {
            let known = self.world.state.units.get(&super::service(unit));
            let permit = known.zip(id).and_then(|(known, id)| known.permit_on(id));
            permit.is_some_and(|(_, permit)| permit.active_at.is_some())
        };
        let running: Vec<&str> = self.units.iter().filter(active).copied().collect();
        self.run(&format!("hello {node}"));
        match running.as_slice() {
            [] => self.run(&format!("inventory {node}")),
            running => self.run(&format!("inventory {node} running {}", running.join(" "))),
        };
    }
}
