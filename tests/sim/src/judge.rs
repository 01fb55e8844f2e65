//! What is judged after every step: by the machines, and not by what the cluster says.

use crate::machine::Birth;
use crate::panics;
use crate::shell::lock;
use crate::world::World;

impl World {
    pub(crate) fn judge(&mut self) {
        let mut wrong = {
            let mut ledger = self.ledger.lock();
            ledger.compare();
            ledger.broken()
        };
        wrong =
            wrong.or_else(|| panics::take().map(|what| format!("a task of the product panicked: {what}")));
        wrong = wrong.or_else(|| self.switch.wrong());
        self.note_quorum();
        let births: Vec<_> = (0..self.sites.len())
            .flat_map(|at| {
                let births = std::mem::take(&mut lock(&self.sites[at].machine).births);
                births.into_iter().map(move |birth| (at, birth))
            })
            .collect();
        for (at, birth) in births {
            self.note(self.now ^ (at as u64) << 40 ^ birth.token.map_or(0, |token| token.0) << 20);
            self.say(&format!("n{} starts {} under {:?}", at + 1, birth.unit, birth.token));
            wrong = wrong.or_else(|| self.judge_birth(at, &birth));
        }
        for (name, _) in self.units.iter().filter(|(_, definition)| definition.is_exclusive()) {
            let on: Vec<String> = (0..self.sites.len())
                .filter(|at| {
                    let machine = lock(&self.sites[*at].machine);
                    machine.powered && machine.units.get(name).is_some_and(|unit| unit.alive)
                })
                .map(|at| format!("n{}", at + 1))
                .collect();
            if on.len() > 1 && !self.has_a_liar() {
                wrong = wrong.or_else(|| Some(format!("S1: {name} runs on {}", on.join(" and "))));
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    fn judge_birth(&self, at: usize, birth: &Birth) -> Option<String> {
        let (unit, me) = (&birth.unit, format!("n{}", at + 1));
        let Some(token) = birth.token else {
            return Some(format!("S3: {unit} starts on {me} without a permit"));
        };
        if birth.restart {
            return None;
        }
        // A lease, its faster clock, and a start under way.
        let reach = self.settings.lease_ms() + self.settings.lease_ms() / 50 + 50;
        let quorum_at = self.sites[at].quorum_at;
        if self.now > quorum_at + reach {
            let ago = self.now - quorum_at;
            return Some(format!(
                "S3: {unit} starts on {me}, which was cut off from every quorum {ago} ms ago"
            ));
        }
        // Tokens carry the log's index below their generation.
        if self.ledger.lock().forbids(unit, token.0 & 0xffff_ffff_ffff) {
            return Some(format!("S6: {unit} starts on {me} though an operator's stop is recorded"));
        }
        None
    }

    /// Which machines may have a word of a quorum now: those that reach a majority of the voters, over whatever relays.
    fn note_quorum(&mut self) {
        let alive: Vec<bool> = self
            .sites
            .iter()
            .map(|site| site.daemon.is_some() && lock(&site.machine).paused_until <= self.now)
            .collect();
        let voters = self.sites.iter().filter(|site| site.votes && site.node.is_some()).count();
        // Where no cable is cut everybody reaches everybody, and a large cluster need not be walked from each of its machines.
        let whole = self.net.is_whole();
        for at in 0..self.sites.len() {
            if lock(&self.sites[at].machine).paused_until > self.now {
                // What stands still counts no time: a paused machine is the one that no lease holds.
                self.sites[at].quorum_at = self.now;
                continue;
            }
            let mut reached: Vec<usize> = if whole { (0..alive.len()).collect() } else { vec![at] };
            let mut looked = if whole { reached.len() } else { 0 };
            while looked < reached.len() {
                let from = reached[looked];
                looked += 1;
                for (to, alive) in alive.iter().enumerate() {
                    if *alive && !reached.contains(&to) && self.net.is_open(from, to) {
                        reached.push(to);
                    }
                }
            }
            let heard = reached.iter().filter(|at| self.sites[**at].votes && alive[**at]).count();
            if 2 * heard > voters {
                self.sites[at].quorum_at = self.now;
            }
        }
    }
}
