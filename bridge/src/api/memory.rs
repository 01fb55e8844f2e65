//! What is shown where no leader answers: what this node last knew, marked as old, and the truth of its own units.
//!
//! Pure: memories, links and the agent's view go in, models come out. The cluster's part may be hours old; the part on this
//! node's own units is from PID 1 and of this moment (L2).

use std::collections::BTreeSet;

use super::model::{AlarmLine, CopyLine, HereLine, Memory, NodeLine, Overview, UnitLine, UnitWhy, WhyLine};
use super::picture;
use crate::agent::Snapshot;
use crate::agent::UnitSnapshot;
use crate::net::Book;

/// What this node knows by itself.
#[derive(Clone, Debug)]
pub(super) struct Here {
    /// Its name.
    pub(super) name: String,
    /// Its id.
    pub(super) id: u64,
    /// Nodes and addresses.
    pub(super) book: Book,
    /// Nodes that neither a direct path nor a relay leads to.
    pub(super) unreached: BTreeSet<u64>,
    /// How long ago its lease ended; none if it still lasts, or there was none since the boot.
    pub(super) lease_ended_s: Option<u64>,
    /// Whether it has a lease.
    pub(super) leased: bool,
    /// Its agent's view; none if the agent does not answer.
    pub(super) agent: Option<Snapshot>,
}

const REMEDY: &str =
    "bring back a majority of the voters: start the nodes that are down, mend the network between them";

impl Here {
    /// Why nobody confirms anything, in one sentence.
    pub(super) fn why(&self) -> String {
        let voters: Vec<u64> = self.book.voters().collect();
        let gone = self.unreached_voters();
        let (all, reached) = (voters.len(), voters.len().saturating_sub(gone.len()));
        let name = &self.name;
        let lease = match self.lease_ended_s {
            Some(seconds) => format!("; its lease ended {seconds} s ago"),
            None if self.leased => String::new(),
            None => "; it has had no lease since its boot".to_owned(),
        };
        let what = if gone.is_empty() {
            format!(
                "no leader answers, though {name} reaches every voter: an election may be under way, or the others lack a \
                 majority"
            )
        } else if reached * 2 <= all {
            format!(
                "{name} does not reach {} and counts {reached} of {all} voters, no majority",
                gone.join(", ")
            )
        } else {
            format!("no leader answers, and {name} does not reach {}", gone.join(", "))
        };
        what + &lease
    }

    fn unreached_voters(&self) -> Vec<String> {
        let gone = self.book.voters().filter(|id| self.unreached.contains(id));
        let mut names: Vec<String> = gone
            .map(|id| self.book.nodes.get(&id).map_or_else(|| id.to_string(), |entry| entry.name.clone()))
            .collect();
        names.sort_by_key(|name| picture::natural(name));
        names
    }

    fn memory(&self, known: Option<&Overview>) -> Memory {
        Memory {
            node: self.name.clone(),
            why: self.why(),
            unreached: self.unreached_voters(),
            lease_ended_s: self.lease_ended_s,
            keeps_log: known.is_some(),
            here: self.lines(known),
        }
    }

    /// This node's own units: those that run, or may, and those that the memory has here.
    fn lines(&self, known: Option<&Overview>) -> Vec<HereLine> {
        let Some(agent) = &self.agent else { return Vec::new() };
        let remembered = |unit: &str| {
            let copies = known.iter().flat_map(|known| &known.units).find(|line| line.name == unit);
            copies.is_some_and(|line| line.copies.iter().any(|copy| copy.node == self.name))
        };
        // Without a log nothing tells a unit that has just been stopped here from one that never ran here.
        let shown =
            |unit: &&UnitSnapshot| known.is_none() || state(unit) != "stopped" || remembered(&unit.unit);
        let mine = agent.units.iter().filter(shown);
        mine.map(|unit| self.line(unit, agent)).collect()
    }

    fn line(&self, unit: &UnitSnapshot, agent: &Snapshot) -> HereLine {
        let state = state(unit);
        let text = match (state, &unit.stuck) {
            (_, Some(what)) => format!("it was to stop, and does not: {what}"),
            ("stopped", _) if agent.leased => "it is not running".to_owned(),
            ("stopped", _) => "it is not running: without a lease nothing is started here".to_owned(),
            ("stopping", _) if !agent.leased => "it is being stopped, as the lease has ended".to_owned(),
            ("running", _) if unit.token.is_none() => "it runs without a permit".to_owned(),
            ("running", _) if agent.leased => "it runs; the lease still lasts".to_owned(),
            ("running", _) => "it runs on without a lease, as its OnQuorumLoss= lets it".to_owned(),
            ("frozen", _) => "it is frozen, as its OnQuorumLoss= says".to_owned(),
            ("unknown", _) => "PID 1 has not said yet".to_owned(),
            (other, _) => format!("it is {other}"),
        };
        HereLine {
            unit: unit.unit.clone(),
            state: state.to_owned(),
            token: unit.token.map(|token| token.0),
            text,
        }
    }

    /// The cluster as this node remembers it, with its own units as they are now.
    pub(super) fn overview(&self, known: Option<Overview>) -> Overview {
        let memory = self.memory(known.as_ref());
        let mut picture = match known {
            Some(known) => known,
            None => self.bare_overview(),
        };
        picture.alarms.insert(
            0,
            AlarmLine { severity: "alert".to_owned(), text: memory.why.clone(), remedy: REMEDY.to_owned() },
        );
        picture.quorum = false;
        picture.leader = None;
        if let Some(mine) = picture.nodes.iter_mut().find(|node| node.id == self.id) {
            mine.units = self.running();
        }
        for unit in &mut picture.units {
            self.put_right(unit, &memory.here);
        }
        picture.memory = Some(memory);
        picture
    }

    /// Why a unit is where it is, as far as this node can tell.
    pub(super) fn why_unit(&self, name: &str, known: Option<(Option<UnitWhy>, Overview)>) -> Option<UnitWhy> {
        let (why, overview) = known.unzip();
        let memory = self.memory(overview.as_ref());
        let mut why = match why.flatten() {
            Some(why) => why,
            None => {
                let snapshot =
                    self.agent.iter().flat_map(|agent| &agent.units).find(|unit| unit.unit == name)?;
                let unit = self.bare_unit(snapshot);
                UnitWhy {
                    unit,
                    quorum: false,
                    reasons: Vec::new(),
                    history: Vec::new(),
                    memory: None,
                    definition: None,
                    offers: Vec::new(),
                }
            }
        };
        self.put_right(&mut why.unit, &memory.here);
        let mut first =
            vec![WhyLine { rule: "S3".to_owned(), fact: memory.why.clone(), release: REMEDY.to_owned() }];
        if let Some(line) = memory.here.iter().find(|line| line.unit == name) {
            first.push(WhyLine {
                rule: "S3".to_owned(),
                fact: format!("on {} now: {}", self.name, line.text),
                release: "the cluster decides on it as soon as there is a quorum".to_owned(),
            });
        }
        first.append(&mut why.reasons);
        why.reasons = first;
        why.quorum = false;
        why.memory = Some(memory);
        Some(why)
    }

    /// Shows this node's own copy as it is, whatever the memory says of it.
    fn put_right(&self, unit: &mut UnitLine, here: &[HereLine]) {
        let Some(agent) = &self.agent else { return };
        if !agent.units.iter().any(|known| known.unit == unit.name) {
            return;
        }
        unit.copies.retain(|copy| copy.node != self.name);
        let elsewhere = !unit.copies.is_empty();
        let line = here.iter().find(|line| line.unit == unit.name);
        if let Some(line) = line.filter(|line| line.state != "stopped") {
            unit.copies.push(CopyLine {
                node: self.name.clone(),
                state: copy_state(&line.state, line.token).to_owned(),
                token: line.token,
                adopted: agent.units.iter().any(|known| known.unit == unit.name && known.adopted),
            });
        }
        if !elsewhere {
            unit.state = match line.map(|line| line.state.as_str()) {
                Some("running") => "active",
                Some("starting") => "starting",
                Some("stopping") => "stopping",
                Some("frozen" | "unknown") => "unknown",
                _ if unit.goal == "started" => "waiting",
                _ => "stopped",
            }
            .to_owned();
        }
        unit.reason = line.map(|line| format!("on {} now: {}", self.name, line.text)).or(unit.reason.take());
    }

    /// A member keeps no log: it knows the nodes from its address book, and its own units.
    fn bare_overview(&self) -> Overview {
        let agent = self.agent.iter().flat_map(|agent| &agent.units);
        let units = agent.map(|unit| self.bare_unit(unit)).collect();
        let mut nodes: Vec<NodeLine> = self.book.nodes.keys().map(|id| self.bare_node(*id)).collect();
        nodes.sort_by_key(|node| picture::natural(&node.name));
        Overview {
            cluster: String::new(),
            cluster_id: String::new(),
            quorum: false,
            leader: None,
            term: 0,
            index: self.agent.as_ref().map_or(0, |agent| agent.index),
            nodes,
            units,
            fences: Vec::new(),
            fences_closed: Vec::new(),
            links: Vec::new(),
            maintenance: Vec::new(),
            drained: None,
            alarms: Vec::new(),
            findings: None,
            foretells_files: false,
            memory: None,
        }
    }

    fn bare_node(&self, id: u64) -> NodeLine {
        let entry = self.book.nodes.get(&id);
        NodeLine {
            name: entry.map_or_else(|| id.to_string(), |entry| entry.name.clone()),
            id,
            role: if entry.is_some_and(|entry| entry.voter) { "voter" } else { "member" }.to_owned(),
            state: "unknown".to_owned(),
            drained: None,
            maintenance: false,
            fencing: "unknown".to_owned(),
            device: None,
            fencing_error: None,
            devices: Vec::new(),
            drills: Vec::new(),
            watchdog: None,
            addresses: entry.iter().flat_map(|entry| &entry.addresses).map(ToString::to_string).collect(),
            units: Vec::new(),
            quarantine_s: None,
            losses: 0,
            left_off: false,
            held_back_s: None,
            last_end: None,
            incarnation: self
                .agent
                .as_ref()
                .filter(|_| id == self.id)
                .map(|agent| agent.incarnation.0.clone()),
        }
    }

    /// This node's units that run, or may.
    fn running(&self) -> Vec<String> {
        let units = self.agent.iter().flat_map(|agent| &agent.units);
        units.filter(|unit| state(unit) != "stopped").map(|unit| unit.unit.clone()).collect()
    }

    fn bare_unit(&self, unit: &UnitSnapshot) -> UnitLine {
        UnitLine {
            name: unit.unit.clone(),
            goal: "unknown".to_owned(),
            goal_by: None,
            state: "unknown".to_owned(),
            copies: Vec::new(),
            wanted: None,
            exclusive: false,
            maintenance: false,
            reason: None,
            failed: Vec::new(),
            assembly: None,
        }
    }
}

/// What PID 1 shows of a unit, in one word.
fn state(unit: &UnitSnapshot) -> &'static str {
    if unit.doing == Some("stop") {
        return "stopping";
    }
    match unit.run.as_str() {
        "up" => "running",
        "starting" | "restarting" => "starting",
        "down" => "stopped",
        "frozen" => "frozen",
        "unknown" => "unknown",
        // On its way down, or down with something left.
        _ => "stopping",
    }
}

fn copy_state(state: &str, token: Option<u64>) -> &'static str {
    match state {
        "running" if token.is_none() => "stray",
        "running" => "active",
        "starting" => "starting",
        "stopping" => "stopping",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests;
