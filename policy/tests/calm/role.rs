//! A replicated database, the role of its leader, an address beside the leader, and who uses them (P80 to P85).

use super::rng::Rng;
use super::steps::pick;
use super::{History, Kind, Violation};

pub(super) const UNITS: [&str; 4] = ["pg", "role", "vip", "app"];
const NODES: [&str; 4] = ["a", "b", "c", "d"];

/// Questions for ranks that follow from each other at most: a copy that came late, a holder that moved.
const QUESTIONS: usize = 6;

/// What the files of one of them say.
pub(super) fn keys(rng: &mut Rng, name: &str) -> String {
    let copies = ["replicas=all", "replicas=2", "replicas=3"];
    let uses = ["requires=vip", "requires=vip", "binds=role", "after=role"];
    let (first, more): (&str, &[(usize, &str)]) = match name {
        "pg" => (pick(rng, &copies), &[(30, "fencing=required"), (30, "uses=mem:2"), (20, "oneatatime")]),
        "role" => ("beside=pg rank", &[(70, "requires=pg"), (50, "after=pg"), (30, "fencing=lease")]),
        "vip" => ("beside=role", &[(30, "binds=role"), (30, "uses=mem:2")]),
        _ => (pick(rng, &uses), &[(40, "replicas=2"), (40, "uses=mem:3 priority=2"), (30, "part=pg")]),
    };
    let mut keys: Vec<String> = vec![first.into()];
    for (percent, key) in more {
        keys.extend(rng.percent(*percent).then(|| (*key).into()));
    }
    if name != "app" && rng.percent(30) {
        keys.push(format!("prefer={}:10", pick(rng, &NODES)));
    }
    keys.join(" ")
}

impl History {
    /// The role gets its first holder.
    pub(super) fn form(&mut self) -> Result<(), Violation> {
        if self.kind != Kind::Role {
            return Ok(());
        }
        self.say_ranks(100)?;
        for node in self.nodes.clone() {
            self.run(&format!("assemble role from {node}"));
        }
        self.settle()?;
        self.say_ranks(100)?;
        Ok(())
    }

    /// Each node that is asked says how far its data is, with this chance, until nobody is asked; whether any did.
    pub(super) fn say_ranks(&mut self, percent: usize) -> Result<bool, Violation> {
        if self.kind != Kind::Role {
            return Ok(false);
        }
        let mut said = false;
        for _ in 0..QUESTIONS {
            self.rank += 1;
            let before = self.lines.len();
            for node in self.nodes.clone() {
                let duties = self.world.command(&format!("duties {node}")).unwrap_or_default();
                let asked = duties.iter().any(|line| line.starts_with("role.service, say its rank"));
                if !asked || !self.rng.percent(percent) {
                    continue;
                }
                if percent < 100 && self.rng.percent(5) {
                    self.run(&format!("rank role on {node} failed no answer"));
                } else {
                    let rank = self.rank - u64::from(self.rng.percent(15));
                    self.run(&format!("rank role on {node} {rank} h1"));
                }
            }
            if self.lines.len() == before {
                break;
            }
            said = true;
            self.settle()?;
        }
        Ok(said)
    }
}
