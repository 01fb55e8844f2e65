//! The lines that tell of clustered services.

use std::collections::BTreeSet;

use policy::{
    Assembly, AssemblyStyle, BootUp, Election, Fact, Found, GatherThen, Ground, Incarnation, Start, UnitName,
    Wish, Word,
};

use super::{Lines, World};

impl World {
    fn boot_up(&self, unit: &UnitName) -> Result<&BootUp, String> {
        let known = self.state.units.get(unit).ok_or("no such unit")?;
        known.boot_up.as_ref().ok_or_else(|| "no clustered service".into())
    }

    /// The present epoch; `of the epoch before` is another.
    pub(super) fn epoch(&self, unit: &str, rest: &[&str]) -> Result<u64, String> {
        let known = self.state.units.get(&Self::unit(unit)).ok_or("no such unit")?;
        let role = known.succession.as_ref().map(|succession| succession.epoch);
        let epoch = role.map_or_else(|| self.boot_up(&Self::unit(unit)).map(|it| it.epoch), Ok)?;
        Ok(epoch - u64::from(rest.ends_with(&["of", "the", "epoch", "before"])))
    }

    /// `position db on a 17 h1`, `position db on a empty`, `… failed no answer`; `early` began before all that is known.
    pub(super) fn position(&mut self, unit: &str, name: &str, rest: &[&str]) -> Lines {
        let epoch = self.epoch(unit, rest)?;
        let seen = if rest.contains(&"early") { 0 } else { self.index };
        let incarnation = rest
            .iter()
            .position(|word| *word == "as")
            .and_then(|at| rest.get(at + 1))
            .map_or_else(|| self.incarnation(name), |life| Incarnation::from(*life));
        let found = match rest {
            ["empty", ..] => Found::Empty,
            ["unusable", ..] => Found::Unusable,
            ["busy", ..] => Found::Busy,
            ["live", ..] => Found::Live,
            ["failed", why @ ..] => Found::Failed(why.join(" ")),
            [rank, identity, ..] => Found::Data {
                rank: rank.parse().map_err(|_| "no rank")?,
                identity: (*identity).into(),
                safe: rest.contains(&"safe"),
            },
            other => return Err(format!("no position {other:?}")),
        };
        let (node, unit) = (self.node(name)?, Self::unit(unit));
        Ok(self.fact(Fact::PositionReported { node, incarnation, unit, epoch, seen, found }))
    }

    /// `rank primary on a 17 h1`, `… failed no answer`; `early` began to look when nothing was known, `at t4` when that
    /// permit was granted. `latest` names the report's own place in the log, `ahead` one behind it.
    pub(super) fn rank(&mut self, unit: &str, name: &str, rest: &[&str]) -> Lines {
        let copy = || Some(self.token(&UnitName::from("pg.service"), self.node(name).ok()?).ok()?.index());
        let seen = match rest.last() {
            Some(&"early") => 0,
            // Before the copy of pg that runs there now was granted.
            Some(&"before") => copy().ok_or("no copy")? - 1,
            Some(&"latest") => self.index + 1,
            Some(&"ahead") => self.index + 2,
            Some(token) if rest.get(rest.len() - 2) == Some(&"at") => self.token_named(token)?.index(),
            _ => self.index,
        };
        let found = match rest {
            ["failed", why @ ..] => Found::Failed(why.join(" ")),
            [rank, identity, ..] => Found::Data {
                rank: rank.parse().map_err(|_| "no rank")?,
                identity: (*identity).into(),
                safe: false,
            },
            other => return Err(format!("no rank {other:?}")),
        };
        let (node, incarnation, unit) = (self.node(name)?, self.incarnation(name), Self::unit(unit));
        Ok(self.fact(Fact::RankReported { node, incarnation, unit, seen, found }))
    }

    /// `ready db on a`, `ready db on a not: state 2`, `ready db on a as h1`; `early` looked before all that is known, `before` before the permit was
    /// granted. `latest` names the report's own place in the log, `ahead` one behind it.
    pub(super) fn ready(&mut self, unit: &str, name: &str, rest: &[&str]) -> Lines {
        let (node, incarnation, unit) = (self.node(name)?, self.incarnation(name), Self::unit(unit));
        let token = self.token(&unit, node)?;
        let member = self.boot_up(&unit)?.members.get(&node);
        let started = member.map_or(0, |member| member.token.index());
        let seen = match rest.first() {
            Some(&"early") => started + 1,
            Some(&"before") => token.index() - 1,
            Some(&"latest") => self.index + 1,
            Some(&"ahead") => self.index + 2,
            _ => self.index,
        };
        let lacks = rest.iter().position(|word| *word == "not:").and_then(|at| rest.get(at + 1..));
        let lacks = lacks.map(|words| words.join(" "));
        let identity = match rest {
            [.., "as", identity] => Some((*identity).to_string()),
            _ => None,
        };
        Ok(self.fact(Fact::ReadyReported { node, incarnation, unit, token, seen, lacks, identity }))
    }

    pub(super) fn assemble(&mut self, unit: &str, rest: &[&str]) -> Lines {
        let epoch = self.epoch(unit, rest)?;
        let word = match rest {
            ["without", name, ..] => Word::Without(self.node(name)?),
            ["from", name, ..] => Word::From(self.node(name)?),
            ["resync", name, ..] => Word::Resync(self.node(name)?),
            other => return Err(format!("no word {other:?}")),
        };
        Ok(self.wish(Wish::Assemble { unit: Self::unit(unit), epoch, word, by: "ann".into() }))
    }

    /// First formation from the first of these nodes, all with the same data, until all of them are ready.
    pub(super) fn bring_up(&mut self, unit: &str, names: &str, rank: &str, identity: &str) -> Lines {
        let names: Vec<&str> = names.split(',').collect();
        let first = names.first().ok_or("nobody")?;
        self.command(&format!("start {unit}"))?;
        self.command("plan")?;
        for name in &names {
            self.position(unit, name, &[rank, identity])?;
        }
        self.assemble(unit, &["from", first])?;
        for name in &names {
            self.command("settle")?;
            let ready = self.ready(unit, name, &[])?;
            if !ready.iter().any(|line| line.contains("is ready")) {
                return Err(format!("{name} did not become ready: {ready:?}"));
            }
        }
        Ok(Vec::new())
    }

    /// The nodes of whose data anything is remembered.
    pub(super) fn remembered(&self, unit: &str) -> Lines {
        let boot_up = self.boot_up(&Self::unit(unit))?;
        let joined = boot_up.formation.iter().flat_map(|formation| &formation.joined);
        let forks = boot_up.forks.values().flat_map(|forks| forks.since.keys());
        let words = boot_up.words.without.keys().chain(&boot_up.words.resync);
        let nodes: BTreeSet<_> = (boot_up.members.keys().chain(boot_up.stops.keys()))
            .chain(boot_up.touched.keys().chain(boot_up.heard.keys()))
            .chain(boot_up.ran_before.iter().chain(&boot_up.estranged))
            .chain(words.chain(joined).chain(forks))
            .collect();
        Ok(vec![nodes.into_iter().map(|id| self.name(*id)).collect::<Vec<_>>().join(" ")])
    }

    /// What a node's agent owes.
    pub(super) fn duties(&self, name: &str) -> Lines {
        let view = self.state.view(self.node(name)?);
        let line = |(unit, duty): (&UnitName, &policy::Duty)| {
            let start = match duty.start {
                None => "",
                Some(Start::Join) => ", start it to join",
                Some(Start::Alone) => ", start it alone",
                Some(Start::Resync) => ", start it to copy all anew",
            };
            let position = if duty.position.is_some() { ", say how its data stands" } else { "" };
            let ready = if duty.ready.is_some() { ", say whether it is ready" } else { "" };
            format!("{unit}{start}{position}{ready}")
        };
        let ranks = view.ranks.keys().map(|unit| format!("{unit}, say its rank"));
        Ok(view.assembly.iter().map(line).chain(ranks).collect())
    }

    /// An election that no planner made: `elect a for db 17 h1 without c by word`.
    pub(super) fn election(&self, name: &str, rest: &[&str]) -> Result<Election, String> {
        let node = self.node(name)?;
        let (rank, identity) = match rest {
            ["elect", _, "for", _, "nothing", ..] => (0, None),
            ["elect", _, "for", _, rank, identity, ..] => {
                (rank.parse().map_err(|_| "no rank")?, Some((*identity).to_string()))
            }
            other => return Err(format!("no election {other:?}")),
        };
        let without = rest.iter().skip_while(|word| **word != "without").skip(1);
        let absent: BTreeSet<_> = without.map_while(|name| self.state.node_named(name)).collect();
        let ground = match rest {
            [.., "by", "word"] => Ground::Word,
            [.., "by", "time"] => Ground::Best,
            _ => Ground::AllHeard,
        };
        Ok(Election {
            node,
            incarnation: self.incarnation(name),
            identity,
            rank,
            absent,
            ground,
            token: None,
        })
    }
}

/// `assembly=serial` or `together`, `without=alone`, `wait=60`, `then=best`, `resync`.
pub(super) fn keys(keys: &[&str]) -> Result<Option<Assembly>, String> {
    let value = |key: &str| keys.iter().find_map(|word| word.split_once('=').filter(|(k, _)| *k == key));
    let style = match value("assembly") {
        None => return Ok(None),
        Some((_, "serial")) => AssemblyStyle::OneThenSerial,
        Some((_, "together")) => AssemblyStyle::AllTogether,
        Some(other) => return Err(format!("no style {other:?}")),
    };
    let mut assembly = Assembly::of(style);
    match value("without") {
        Some((_, "alone")) => assembly.alone = false,
        Some((_, "position")) => assembly.position = false,
        _ => {}
    }
    if let Some((_, seconds)) = value("wait") {
        assembly.gather_wait_ms = Some(seconds.parse::<u64>().map_err(|_| "no wait")? * 1_000);
    }
    if value("then") == Some(("then", "best")) {
        assembly.gather_then = GatherThen::Best;
    }
    assembly.resync = keys.contains(&"resync");
    Ok(Some(assembly))
}
