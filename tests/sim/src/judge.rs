//! What is judged after every step: by the machines, and not by what the cluster says.

use policy::{NodeId, Token};

use crate::daemon::boot;
use crate::ledger::Lost;
use crate::machine::Birth;
use crate::panics;
use crate::shell::lock;
use crate::site::Site;
use crate::store::{self, Store};
use crate::world::World;

/// A machine's clock is looked at once in a step.
const LEASE_SLACK_MS: u64 = 10;

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
        wrong = wrong.or_else(|| self.store.as_ref().and_then(Store::wrong));
        self.note_quorum();
        self.note_order();
        wrong = wrong.or_else(|| self.judge_leases());
        if self.draining {
            wrong = wrong.or_else(|| self.out_of_order());
        }
        let births: Vec<_> = (0..self.sites.len())
            .flat_map(|at| {
                let births = std::mem::take(&mut lock(&self.sites[at].machine).births);
                births.into_iter().map(move |birth| (at, birth))
            })
            .collect();
        for (at, birth) in births {
            self.note(self.now ^ (at as u64) << 40 ^ birth.token.map_or(0, |token| token.0) << 20);
            let Birth { unit, token, start, .. } = &birth;
            let how = if *unit == store::name() { format!(", {start:?}") } else { String::new() };
            self.say(&format!("n{} starts {unit} under {token:?}{how}", at + 1));
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
            let clustered = self.units.get(unit).is_some_and(|definition| definition.assembly.is_some());
            return clustered.then(|| format!("F16: {unit} is started again on {me} under one permit"));
        }
        if let Some(wrong) = self.judge_grant(at, birth, token) {
            return Some(wrong);
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

    /// A start rests on a grant that is in the log, for this node and this life of it, and on what the unit needs.
    fn judge_grant(&self, at: usize, birth: &Birth, token: Token) -> Option<String> {
        let (unit, me) = (&birth.unit, format!("n{}", at + 1));
        let granted = self.ledger.lock().granted(token).filter(|granted| granted.unit == *unit);
        let Some(granted) = granted else {
            return Some(format!("S3: {unit} starts on {me} by a grant that is not in the log"));
        };
        let site = &self.sites[at];
        let life = boot(at, lock(&site.machine).boots);
        if site.node != Some(granted.node.0) || granted.incarnation.as_str() != life {
            return Some(format!("S3: {unit} starts on {me} by a grant to another node, or to another life"));
        }
        if self.kinds.witness() == Some(at) {
            return Some(format!("F38: {unit} starts on {me}, which is a witness"));
        }
        let wrong = self.needs_more(self.units.get(unit)?, &granted)?;
        Some(format!("S4: {unit} is granted to {me}, and {wrong}"))
    }

    /// Nobody is called lost while the lease runs that its daemon has, or would honour (F5). It is called so when that is
    /// proposed: from then on nobody extends its lease any more.
    fn judge_leases(&self) -> Option<String> {
        let mut ledger = self.ledger.lock();
        let lost = ledger.take_lost();
        lost.into_iter().find_map(|Lost { node, incarnation, at: called }| {
            let at = self.sites.iter().position(|site| site.node.map(NodeId) == Some(node))?;
            let site = &self.sites[at];
            let machine = lock(&site.machine);
            let counts = machine.powered
                && boot(at, machine.boots) == incarnation.as_str()
                && self.counts_time(site, called);
            let since = self.now.saturating_sub(called);
            let local = (site.local + site.slept_ms).saturating_sub(since - since / 100);
            let left = ledger.leases.get(&at)?.ends_ms().saturating_sub(local);
            let wrong = || format!("F5: n{} is called lost, and its lease has {left} ms to run", at + 1);
            (counts && left > LEASE_SLACK_MS).then(wrong)
        })
    }

    /// Whether a machine's clocks have gone on since before `called`: one that stands still, or has, holds a lease that
    /// nobody waits for.
    fn counts_time(&self, site: &Site, called: u64) -> bool {
        called >= site.still_until + 2 * self.settings.loss_ms()
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
