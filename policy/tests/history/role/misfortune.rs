//! What the rules of a role are there for, brought about on purpose: a standby lags behind, those that have more are away, and
//! the primary fails. Left to chance alone, each of them mends itself before the next one comes.

use policy::{Wanted, Wish};

use super::{Checked, World, copy};

/// How far the present misfortune is.
#[derive(Default)]
pub(super) struct Misfortune {
    step: u32,
    /// One begins to lag before others are taken away; or after that.
    lags_first: bool,
}

impl World {
    /// The next step, if there is a primary to be unlucky.
    pub(super) fn misfortune(&mut self) -> Checked {
        let Some(database) = &self.database else { return Ok(()) };
        let (step, lags_first, own_lines) =
            (database.misfortune.step, database.misfortune.lags_first, database.own_lines);
        let primary = (0..self.machines.len()).find(|at| self.is_primary(*at));
        if step == 3 {
            self.mend_in_part()?;
        } else {
            let Some(primary) = primary else { return Ok(()) };
            let follows = |at: &usize| {
                *at != primary && self.machines.get(*at).is_some_and(|machine| machine.follows(own_lines))
            };
            let mut followers: Vec<usize> = (0..self.machines.len()).filter(follows).collect();
            match (step, (step == 0) == lags_first) {
                (2, _) => self.primary_fails(primary),
                _ if followers.is_empty() => return Ok(()),
                (_, true) => {
                    let at = followers.swap_remove(self.rng.below(followers.len()));
                    self.machines.get_mut(at).into_iter().for_each(|machine| machine.deaf = true);
                }
                (_, false) => followers.into_iter().for_each(|at| self.take_away(at)),
            }
        }
        let lags_first = self.rng.percent(50);
        if let Some(database) = &mut self.database {
            database.misfortune.step = (step + 1) % 4;
            if step == 3 {
                database.misfortune.lags_first = lags_first;
            }
        }
        Ok(())
    }

    fn take_away(&mut self, at: usize) {
        let how = self.rng.below(5);
        let Some(machine) = self.machines.get_mut(at) else { return };
        self.story.push(format!("{} {} is taken away: {how}", self.now, machine.name));
        match how {
            0 => machine.power_off(),
            1 => {
                machine.stop_by_hand(&copy());
            }
            2 | 3 => machine.cut = true,
            _ => {}
        }
    }

    fn primary_fails(&mut self, at: usize) {
        let how = self.rng.below(4);
        let Some(machine) = self.machines.get_mut(at) else { return };
        self.story.push(format!("{} the primary on {} fails: {how}", self.now, machine.name));
        match how {
            0 => machine.power_off(),
            1 => {
                machine.power_off();
                machine.boot();
            }
            2 => machine.cut = true,
            _ => machine.ended(&copy()),
        }
    }

    /// Some of it, so that those that are back do not have all that the others have.
    fn mend_in_part(&mut self) -> Checked {
        for at in 0..self.machines.len() {
            let (hears, comes) = (self.rng.percent(60), self.rng.percent(60));
            let Some(machine) = self.machines.get_mut(at) else { continue };
            machine.deaf &= !hears;
            if comes {
                machine.cut = false;
                if !machine.power {
                    machine.boot();
                }
            }
        }
        let (wanted, by) = (Wanted::Started, "o".to_string());
        self.wish(Wish::SetGoal { unit: copy(), wanted, node: None, seen: None, by })
    }
}
