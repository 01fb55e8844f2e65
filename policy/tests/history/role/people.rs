//! What people do to a database: words by guess while all is in flux, and what `why` asks for in the end.

use policy::{Command, Decision, Reason, Wanted, Wish, Word, plan};

use super::check::reasons;
use super::{Checked, Data, Disk, Machine, World, copy, role};

impl World {
    /// How likely the next word is on the role, in percent: nothing is tried before somebody held it.
    pub(crate) fn hurry(&self) -> usize {
        let succession = self.state.units.get(&role()).and_then(|unit| unit.succession.as_ref());
        if succession.is_some_and(|succession| succession.heirs.is_empty()) {
            return 80;
        }
        if self.database.as_ref().is_some_and(|database| database.wordless) { 0 } else { 10 }
    }

    /// An operator who knows little: says something about some machine.
    pub(crate) fn say_of_role(&mut self, at: usize) -> Checked {
        let succession = self.state.units.get(&role()).and_then(|unit| unit.succession.as_ref());
        let (Some(succession), Some(machine)) = (succession, self.machines.get(at)) else { return Ok(()) };
        let (epoch, node, formed) = (succession.epoch, machine.id, !succession.heirs.is_empty());
        let word = if formed && self.rng.percent(90) { Word::Without(node) } else { Word::From(node) };
        self.wish(Wish::Assemble { unit: role(), epoch, word, by: "o".into() })
    }

    /// What goes wrong with the database alone.
    pub(crate) fn harm_database(&mut self, at: usize) -> Checked {
        let what = self.rng.below(10);
        let Some(machine) = self.machines.get_mut(at) else { return Ok(()) };
        self.story.push(format!("{} harm {what} to the database at {}", self.now, machine.name));
        match what {
            0 | 1 => machine.deaf = !machine.deaf,
            2 => machine.blind = !machine.blind && self.rng.percent(40),
            3..=6 => return self.misfortune(),
            7 if self.disks_fail && self.rng.percent(40) => {
                machine.power_off();
                machine.disk = Disk::Empty;
                machine.boot();
            }
            8 if self.disks_fail => self.replace_database(at),
            _ => {}
        }
        Ok(())
    }

    /// Somebody puts another database where a standby's was, while an heir has all that was told: that nobody has it any
    /// more is a person's own doing. Its rank is above those of all histories so far, and it follows nobody before its lines are
    /// mended.
    fn replace_database(&mut self, at: usize) {
        let (Some(database), Some(machine)) = (&mut self.database, self.machines.get(at)) else { return };
        let succession = self.state.units.get(&role()).and_then(|unit| unit.succession.as_ref());
        let Some(succession) = succession else { return };
        let has_all = |other: &Machine| match &other.disk {
            Disk::Data(data) => other.id != machine.id && database.told.is_subset(&data.writes),
            Disk::Empty | Disk::Half => false,
        };
        let heirs = self.machines.iter().filter(|other| succession.heirs.contains_key(&other.id));
        // The number of the last entry is that of no history, unless a permit came of it.
        let granted = self
            .log
            .last()
            .is_some_and(|entry| matches!(entry.command, Command::Decision(Decision::Grant { .. })));
        if granted || !heirs.into_iter().any(has_all) {
            return;
        }
        database.next += 1;
        let (history, write) = (self.index, database.next);
        self.story.push(format!("{} another database is put on {}", self.now, machine.name));
        if let Some(machine) = self.machines.get_mut(at) {
            machine.power_off();
            machine.disk =
                Disk::Data(Data { history, writes: [write].into(), origin: history, peers: [].into() });
            machine.boot();
            machine.deaf = true;
        }
    }

    /// First nobody says anything; then an operator does what `why` asks for.
    pub(crate) fn role_calms_down(&mut self, dead: Option<usize>, round: usize) -> Checked {
        if self.database.is_none() {
            return Ok(());
        }
        if round.is_multiple_of(10) {
            self.mend_database()?;
        }
        if round == 40 {
            self.is_held_or_says_why(dead)?;
        }
        if round > 45 && round % 3 == 2 && !self.is_held() {
            self.heed_role(dead)?;
        }
        self.replicate()
    }

    /// Files, drains and holds are mended; nobody says anything of the data.
    fn mend_database(&mut self) -> Checked {
        for unit in [copy(), role()] {
            let definition = self.state.units.get(&unit).and_then(|unit| unit.definition()).cloned();
            for at in 0..self.machines.len() {
                let Some(machine) = self.machines.get_mut(at) else { continue };
                (machine.deaf, machine.blind) = (false, false);
                let node = machine.id;
                if let Some(definition) = &definition {
                    machine.offers.insert(unit.clone(), super::super::offer(definition.clone()));
                    if machine.connected {
                        self.reports.push((node, machine.session, machine.observed(&unit)));
                    }
                }
                if self.state.drained.is_some() {
                    self.wish(Wish::SetDrained { node: None, drained: false, by: "o".into() })?;
                }
                if self.state.nodes.get(&node).is_some_and(|node| node.drained.is_some()) {
                    self.wish(Wish::SetDrained { node: Some(node), drained: false, by: "o".into() })?;
                }
            }
            let known = self.state.units.get(&unit);
            if known.is_some_and(|known| !known.holds.is_empty() || known.goal.wanted == Wanted::Stopped) {
                let (wanted, by) = (Wanted::Started, "o".to_string());
                self.wish(Wish::SetGoal { unit, wanted, node: None, seen: None, by })?;
            }
        }
        Ok(())
    }

    /// An operator does what `why` asks for, and nothing else.
    fn heed_role(&mut self, dead: Option<usize>) -> Checked {
        let succession = self.state.units.get(&role()).and_then(|unit| unit.succession.as_ref());
        let Some(epoch) = succession.map(|succession| succession.epoch) else { return Ok(()) };
        for reason in reasons(&self.state, self.now) {
            let word = match reason {
                Reason::Rank { node, .. } if self.has_no_data(node, dead) => Word::Without(node),
                Reason::NoRank(_) | Reason::FirstFormation => {
                    let living = self.machines.iter().filter(|machine| !self.has_no_data(machine.id, dead));
                    let most = living.max_by_key(|machine| match &machine.disk {
                        Disk::Data(data) => (data.history, data.writes.len()),
                        Disk::Empty | Disk::Half => (0, 0),
                    });
                    let Some(most) = most.map(|machine| machine.id) else { continue };
                    Word::From(most)
                }
                _ => continue,
            };
            self.wish(Wish::Assemble { unit: role(), epoch, word, by: "o".into() })?;
        }
        // A copy on a node that is passed over says no rank.
        let copies = plan(&self.state, self.now).reasons.remove(&copy());
        for reason in copies.into_iter().flatten() {
            if let Reason::HeldBack { node, .. } = reason {
                let (node, by) = (Some(node), "o".to_string());
                self.wish(Wish::SetGoal { unit: copy(), wanted: Wanted::Started, node, seen: None, by })?;
            }
        }
        Ok(())
    }
}
