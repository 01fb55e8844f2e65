//! Decisions that no planner made: what `apply` refuses is seen by asking.

use policy::{Decision, Incarnation, Start};

use super::{Lines, World};

impl World {
    /// A decision that no planner made.
    pub(super) fn raw(&mut self, rest: &[&str]) -> Lines {
        let has = |word: &str| rest.contains(&word);
        let value = |key: &str| {
            let at = rest.iter().position(|word| *word == key)?;
            rest.get(at + 1).copied()
        };
        let decision = match rest {
            ["grant", unit, "on", name, ..] => {
                let unit = Self::unit(unit);
                let revision = self.state.units.get(&unit).and_then(|unit| unit.adopted.as_ref());
                let revision = revision.map_or(0, |adopted| adopted.revision) - u64::from(has("before"));
                let incarnation = value("as").map_or_else(|| self.incarnation(name), Incarnation::from);
                let node = self.node(name)?;
                let start = [("alone", Start::Alone), ("join", Start::Join), ("resync", Start::Resync)];
                let start = start.iter().find(|(word, _)| has(word)).map(|(_, start)| *start);
                Decision::Grant { unit, node, incarnation, revision, adopt: has("running"), start }
            }
            ["gather", unit] => Decision::OpenGather { unit: Self::unit(unit) },
            ["elect", name, "for", unit, ..] => {
                let election = self.election(name, rest)?;
                Decision::Elect { unit: Self::unit(unit), epoch: self.epoch(unit, rest)?, election }
            }
            ["revoke", unit, "on", name] => {
                let unit = Self::unit(unit);
                let token = self.token(&unit, self.node(name)?)?;
                Decision::Revoke { unit, token, reason: policy::StopReason::Surplus }
            }
            ["reterm", unit, "on", name] => {
                let unit = Self::unit(unit);
                let token = self.token(&unit, self.node(name)?)?;
                let adopted = self.state.units.get(&unit).and_then(|unit| unit.adopted.as_ref());
                let revision = adopted.map_or(0, |adopted| adopted.revision);
                Decision::Reterm { unit, token, revision }
            }
            ["expire", unit, "on", name] => {
                let unit = Self::unit(unit);
                let token = self.token(&unit, self.node(name)?)?;
                Decision::Expire { unit, token }
            }
            ["case", name, "for", unit] => {
                let (node, incarnation) = (self.node(name)?, self.incarnation(name));
                Decision::OpenCase { node, incarnation, because: Self::unit(unit) }
            }
            ["attempt", number, "at", name, rest @ .., "by", executor] => {
                let attempt = number.parse().map_err(|_| "no number")?;
                let level = match rest {
                    ["level", level] => level.parse().map_err(|_| "no level")?,
                    _ => 1,
                };
                let (case, _) = self.case(self.node(name)?)?;
                let (executor, executor_incarnation) = self.executor(self.node(executor)?)?;
                Decision::BeginAttempt { case, attempt, level, executor, executor_incarnation }
            }
            ["abandon", name] => {
                let (case, attempt) = self.case(self.node(name)?)?;
                Decision::AbandonAttempt { case, attempt }
            }
            ["pull", "in", unit, "for", by] => {
                Decision::PullIn { unit: Self::unit(unit), by: Self::unit(by) }
            }
            ["open", name, "through", device, "by", executor] => {
                let node = self.node(name)?;
                let (executor, executor_incarnation) = self.executor(self.node(executor)?)?;
                Decision::BeginOpening { node, device: (*device).into(), executor, executor_incarnation }
            }
            ["abandon", "opening", name, "through", device] => {
                let node = self.node(name)?;
                let debt = self.state.switched_off.get(&((*device).to_owned(), node));
                let since = debt.map_or(0, |debt| debt.since);
                Decision::AbandonOpening { node, device: (*device).into(), since }
            }
            ["raise", "to", level] => {
                Decision::RaiseFeatureLevel { level: level.parse().map_err(|_| "no level")? }
            }
            ["cancel", name] => Decision::CancelCase { case: self.case(self.node(name)?)?.0 },
            ["adopt", unit, "of", name] => {
                let unit = Self::unit(unit);
                let definition = self.offered(name, &unit).cloned().ok_or("no such offer")?;
                Decision::AdoptDefinition { unit, definition }
            }
            other => return Err(format!("no decision {other:?}")),
        };
        let text = self.decide(decision);
        Ok(if text.is_empty() { vec!["accepted".into()] } else { text })
    }
}
