//! What may befall a cluster: one blow at a time, drawn from the seed.

use policy::{Definition, Fencing, NodeId, UnitName, Wanted, Wish};
use std::sync::atomic::Ordering;

use crate::operator;
use crate::power::Mood;
use crate::shell::lock;
use crate::site::Site;
use crate::world::World;

/// In so many of a hundred blows at a cluster with a clustered service all power is lost.
const DARK_PERCENT: u64 = 6;

impl World {
    /// Something happens.
    pub(crate) fn strike(&mut self) {
        // What a clustered service has to come out of.
        if self.kinds.clustered && self.rng.percent(DARK_PERCENT) {
            return self.cut_all();
        }
        let count = self.sites.len();
        let at = self.rng.below(count as u64) as usize;
        let other = (at + 1 + self.rng.below(count as u64 - 1) as usize) % count;
        let unit: UnitName = {
            let names: Vec<_> = self.units.keys().cloned().collect();
            self.rng.pick(&names).clone()
        };
        let blow = self.rng.below(21);
        // What stands still is of interest where something rests on it.
        let at = match blow {
            9..=11 if self.kinds.watched => self.watched_at().unwrap_or(at),
            _ => at,
        };
        match blow {
            0 => self.isolate(at, true, true),
            1 => self.split(),
            2 => {
                self.say(&format!("the cable between n{} and n{} is cut", at + 1, other + 1));
                self.net.cut(at, other);
                self.net.cut(other, at);
            }
            3 => {
                self.say(&format!("n{} does not reach n{}", at + 1, other + 1));
                self.net.cut(at, other);
            }
            4 => {
                let inward = self.rng.percent(50);
                self.isolate(at, inward, !inward);
            }
            5..=7 => {
                self.say("the cables are mended");
                self.net.mend();
            }
            8 => {
                self.say(&format!("n{} loses its power", at + 1));
                self.power_off(at);
                self.sites[at].power_at = Some(self.now + self.rng.between(1_000, 12_000));
            }
            9 | 10 => {
                // One whose machine has a watchdog may stay away for longer than others wait for that.
                let long = if self.kinds.watched { 25_000 } else { 12_000 };
                let most = if self.rng.percent(30) && !self.rests_on_leases() { long } else { 1_000 };
                let pause = self.rng.between(50, most);
                self.say(&format!("the daemon of n{} is killed for {pause} ms", at + 1));
                self.kill_daemon(at);
                if lock(&self.sites[at].machine).powered {
                    self.sites[at].restart_at = Some(self.now + pause);
                }
            }
            11 if !self.rests_on_leases() => {
                let longest = if self.kinds.watched { 25_000 } else { 7_000 };
                let (ms, sleeps) = (self.rng.between(100, longest), self.rng.percent(50));
                self.say(&format!("n{} stands still for {ms} ms, sleeping: {sleeps}", at + 1));
                let now = self.now;
                self.sites[at].pause(now, ms, sleeps);
            }
            12 => {
                let slow = *self.rng.pick(&[0, 30, 200, 900]);
                self.say(&format!("the disk of n{} takes up to {slow} ms", at + 1));
                self.sites[at].slow.store(slow, Ordering::Relaxed);
            }
            13 => {
                let high = *self.rng.pick(&[4, 20, 80, 250]);
                let (low, least) = self.kinds.latency_ms();
                self.say(&format!("the network takes up to {} ms", high.max(least)));
                self.net.set_latency(low, high.max(least));
            }
            14 => {
                self.say(&format!("{unit} crashes on n{}", at + 1));
                lock(&self.sites[at].machine).crash(&unit);
            }
            15 => {
                self.say(&format!("somebody stops {unit} on n{} by hand", at + 1));
                lock(&self.sites[at].machine).stop(&unit, false);
            }
            19 => {
                self.say(&format!("somebody starts {unit} on n{} by hand", at + 1));
                lock(&self.sites[at].machine).start(&unit, false);
            }
            16 => {
                let mood = *self.rng.pick(&[Mood::Works, Mood::Works, Mood::Refuses, Mood::Hangs]);
                self.say(&format!("the fence device: {mood:?}"));
                self.switch.set_mood(mood);
            }
            17 | 18 => {
                let wanted = if self.rng.percent(60) { Wanted::Started } else { Wanted::Stopped };
                self.wish_goal(at, unit, wanted);
            }
            _ => self.wish_place(at, other, unit),
        }
    }

    /// The machine that runs what rests on watchdogs.
    fn watched_at(&self) -> Option<usize> {
        let rests = |(_, definition): &(&UnitName, &Definition)| definition.fencing == Fencing::Watchdog;
        let (name, _) = self.units.iter().find(rests)?;
        let runs = |site: &Site| lock(&site.machine).units.get(name).is_some_and(|unit| unit.alive);
        self.sites.iter().position(runs)
    }

    /// All machines lose their power, within a moment of each other.
    fn cut_all(&mut self) {
        self.say("all machines lose their power");
        for at in 0..self.sites.len() {
            self.sites[at].cut_at = Some(self.now + self.rng.between(0, 1_500));
        }
    }

    fn isolate(&mut self, at: usize, inward: bool, outward: bool) {
        self.say(&format!("n{} is cut off, inward: {inward}, outward: {outward}", at + 1));
        for other in (0..self.sites.len()).filter(|other| *other != at) {
            if outward {
                self.net.cut(at, other);
            }
            if inward {
                self.net.cut(other, at);
            }
        }
    }

    fn split(&mut self) {
        let sides: Vec<bool> = (0..self.sites.len()).map(|_| self.rng.percent(50)).collect();
        self.say(&format!("the network is split: {sides:?}"));
        for from in 0..sides.len() {
            for to in 0..sides.len() {
                if sides[from] != sides[to] {
                    self.net.cut(from, to);
                }
            }
        }
    }

    fn wish_goal(&mut self, at: usize, unit: UnitName, wanted: Wanted) {
        let client = format!("operator {}", self.now);
        let Some(daemon) = &self.sites[at].daemon else { return };
        self.say(&format!("{unit} is to be {wanted:?}, asked on n{}", at + 1));
        self.ledger.lock().doubt(&unit);
        daemon.spawn(operator::wish_goal(daemon.asker.clone(), client, unit, wanted, self.ledger.clone()));
    }

    fn wish_place(&mut self, at: usize, other: usize, unit: UnitName) {
        let client = format!("operator {}", self.now);
        let by = "simulated operator".to_owned();
        let Some(node) = self.sites[other].node.map(NodeId) else { return };
        let wish = match self.rng.below(3) {
            0 => Wish::Move { unit, from: None, to: Some(node), by },
            drain => Wish::SetDrained { node: Some(node), drained: drain == 1, by },
        };
        self.say(&format!("{wish:?}, asked on n{}", at + 1));
        if let Some(daemon) = &self.sites[at].daemon {
            daemon.spawn(operator::wish(daemon.asker.clone(), client, wish));
        }
    }
}
