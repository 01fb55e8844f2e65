//! The commands of the scripts.

use std::collections::{BTreeMap, BTreeSet};

use policy::{Cause, Fact, Incarnation, InventoryItem, Origin, Rest, Role, Token, UnitName, Wanted, Wish};

use super::offers::offer;
use super::{Lines, World};

impl World {
    /// Runs one line.
    pub(crate) fn command(&mut self, line: &str) -> Lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (by, text) = ("ann".to_string(), |from: usize| words.get(from..).unwrap_or_default().join(" "));
        Ok(match words.as_slice() {
            // A founded cluster whose nodes are in session, have nothing to report, and have a tried fence device each.
            ["cluster", rest @ ..] => self.cluster(rest)?,
            ["as", client, number, ..] => {
                let number = number.trim_end_matches(':').parse().map_err(|_| "no number")?;
                self.origin = Some(Origin { client: (*client).into(), number });
                return self.command(&text(3));
            }
            ["join", name, rest @ ..] => self.join(name, rest)?,
            ["issue", token] => self.issue(token),
            ["enroll", name, "with", token] => self.enroll(name, token, None),
            ["term", leader] => {
                self.term += 1;
                let (term, leader) = (self.term, self.node(leader)?);
                self.fact(Fact::TermBegan { term, leader })
            }
            ["time", by] => self.pass(by)?,
            // Nodes
            ["power-cycle", name] => {
                *self.boots.entry((*name).into()).or_default() += 1;
                Vec::new()
            }
            ["boot", name] => {
                *self.boots.entry((*name).into()).or_default() += 1;
                self.hello(name, self.incarnation(name), None)?
            }
            // Another version of the software, which says hello in the same boot.
            ["software", name, "knows", level] => {
                let level = level.parse().map_err(|_| "no level")?;
                self.levels.insert((*name).into(), level);
                self.hello(name, self.incarnation(name), None)?
            }
            ["hello", name] => self.hello(name, self.incarnation(name), None)?,
            ["hello", name, "as", incarnation] => self.hello(name, Incarnation::from(*incarnation), None)?,
            ["hello", name, "from", "machine", machine] => {
                self.hello(name, self.incarnation(name), Some(machine))?
            }
            ["late", "hello", name, "of", "the", "session", "before"] => {
                let node = self.node(name)?;
                let life = self.state.nodes.get(&node).and_then(|node| node.life.as_ref());
                let before = life.ok_or("never heard")?.session - 1;
                self.hello_of(name, self.incarnation(name), None, before)?
            }
            ["shared", name, "by", machine] => {
                let node = self.node(name)?;
                let own = self.state.nodes.get(&node).map(|node| node.machine.clone()).unwrap_or_default();
                let machine = if *machine == "itself" { own } else { (*machine).into() };
                self.fact(Fact::IdentityShared { node, machine })
            }
            ["lost", names @ ..] => self.lost(names, 0)?,
            ["late", "lost", name, "of", "term", term] => {
                let term = self.term - term.parse::<u64>().map_err(|_| "no term")?;
                self.lost(&[name], term)?
            }
            ["late", "lost", name, "of", "the", "session", "before"] => {
                let (node, term) = (self.node(name)?, self.term);
                let life =
                    self.state.nodes.get(&node).and_then(|node| node.life.as_ref()).ok_or("never heard")?;
                let (incarnation, session) = (life.incarnation.clone(), life.session.saturating_sub(1));
                self.fact(Fact::NodeLost { node, incarnation, session, term })
            }
            ["leaving", name] => {
                let (node, incarnation) = (self.node(name)?, self.incarnation(name));
                self.fact(Fact::NodeLeaving { node, incarnation })
            }
            ["inventory", name] => self.inventory(name, &[])?,
            ["inventory", name, "running", units @ ..] => self.inventory(name, units)?,
            ["slow", name] => {
                self.slow.insert((*name).into());
                Vec::new()
            }
            ["surveyed", name] => {
                self.slow.remove(*name);
                Vec::new()
            }
            ["offer", names, unit, keys @ ..] => self.offer(names, unit, keys)?,
            ["remove", "the", "files", "of", unit, "from", name] => {
                self.files.remove(&((*name).to_string(), Self::unit(unit)));
                Vec::new()
            }
            ["observed", name, unit, how @ ("running" | "gone")] => {
                self.observed(name, unit, *how == "running")?
            }
            // Devices
            ["look", name, rest @ ..] => self.look(name, rest, false)?,
            ["late", "look", name, rest @ ..] => self.look(name, rest, true)?,
            ["switch", name, "on", "by", device, rest @ ..] => self.switch(name, device, rest, false)?,
            ["late", "switch", name, "on", "by", device, rest @ ..] => {
                self.switch(name, device, rest, true)?
            }
            ["repeat", "fence", name] => self.fence_repeated(name)?,
            ["fence", name, rest @ ..] => self.fence(name, rest)?,
            ["speaks", name] => {
                let (node, incarnation, term) = (self.node(name)?, self.incarnation(name), self.term);
                self.fact(Fact::CutOffHeard { node, incarnation, term })
            }
            ["contradict", name] => {
                let (node, incarnation, term) = (self.node(name)?, self.incarnation(name), self.term);
                self.fact(Fact::ProofContradicted { node, incarnation, term })
            }
            ["armed", name, seconds] => self.armed(name, seconds, false)?,
            ["late", "armed", name, seconds] => self.armed(name, seconds, true)?,
            ["disarmed", name, ..] => self.disarmed(name, text(2))?,
            // Agents
            ["started", unit, "on", name, rest @ ..] => {
                let (node, unit) = (self.node(name)?, Self::unit(unit));
                let (incarnation, token) = self.life_and_token(name, &unit, rest)?;
                self.fact(Fact::Started { node, incarnation, unit, token })
            }
            ["released", unit, "on", name, rest @ ..] => self.released(unit, name, rest)?,
            ["acknowledged", unit, "on", name, rest @ ..] => {
                let (node, unit) = (self.node(name)?, Self::unit(unit));
                let token = self.token(&unit, node)?;
                let next = self.state.permit(&unit, token).and_then(|permit| permit.next_terms.as_ref());
                let revision = next.map_or(0, |terms| terms.revision) - u64::from(*rest == ["late"]);
                self.fact(Fact::TermsAcknowledged { node, unit, token, revision })
            }
            ["stuck", unit, "on", name, ..] => {
                let (node, incarnation, unit) = (self.node(name)?, self.incarnation(name), Self::unit(unit));
                let (token, what) = (self.token(&unit, node)?, text(4));
                self.fact(Fact::StopStuck { node, incarnation, unit, token, what })
            }
            ["rests", unit, "on", name, how] => {
                let (node, incarnation, unit) = (self.node(name)?, self.incarnation(name), Self::unit(unit));
                let token = self.token(&unit, node)?;
                let rest = match *how {
                    "up" => None,
                    "restarts" => Some(Rest::Restarts),
                    "stops" => Some(Rest::Stops),
                    other => return Err(format!("no rest {other}")),
                };
                self.fact(Fact::RestReported { node, incarnation, unit, token, rest })
            }
            ["unwell", unit, "on", name, ..] => {
                let (node, incarnation, unit) = (self.node(name)?, self.incarnation(name), Self::unit(unit));
                let (token, why) = (self.token(&unit, node)?, text(4));
                self.fact(Fact::CheckFailed { node, incarnation, unit, token, why })
            }
            // Clustered services
            ["position", unit, "on", name, rest @ ..] => self.position(unit, name, rest)?,
            ["rank", unit, "on", name, rest @ ..] => self.rank(unit, name, rest)?,
            ["ready", unit, "on", name, rest @ ..] => self.ready(unit, name, rest)?,
            ["assemble", unit, rest @ ..] => self.assemble(unit, rest)?,
            ["bring", "up", unit, "on", names, rank, identity] => {
                self.bring_up(unit, names, rank, identity)?
            }
            ["duties", name] => self.duties(name)?,
            ["remembered", "of", unit] => self.remembered(unit)?,
            // Operators
            ["start", unit, rest @ ..] => self.goal(unit, Wanted::Started, rest)?,
            ["cancel", "the", "start", "of", unit, "on", name, "by", gate] => {
                let (unit, node) = (Self::unit(unit), self.node(name)?);
                self.wish(Wish::WithdrawStart { unit, node, gate: (*gate).into(), by: "root".into() })
            }
            ["stop", unit, "by", "hand", "on", name, rest @ ..] => {
                let (node, unit) = (self.node(name)?, Self::unit(unit));
                let (_, token) = self.life_and_token(name, &unit, rest)?;
                self.wish(Wish::StoppedByHand { unit, node, token, by: "root".into() })
            }
            ["stop", unit, rest @ ..] => self.goal(unit, Wanted::Stopped, rest)?,
            ["move", unit, rest @ ..] => {
                let place = |word: &str| {
                    let at = rest.iter().position(|found| *found == word)?;
                    rest.get(at + 1).and_then(|name| self.state.node_named(name))
                };
                let (from, to) = (place("from"), place("to"));
                self.wish(Wish::Move { unit: Self::unit(unit), from, to, by })
            }
            [verb @ ("drain" | "undrain"), name] => {
                let node = if *name == "cluster" { None } else { Some(self.node(name)?) };
                self.wish(Wish::SetDrained { node, drained: *verb == "drain", by })
            }
            ["maintain", rest @ ..] => {
                let wish = self.maintenance(rest, true)?;
                self.wish(wish)
            }
            ["unmaintain", rest @ ..] => {
                let wish = self.maintenance(rest, false)?;
                self.wish(wish)
            }
            ["held"] => self.held_back(),
            ["alarms"] => self.alarms(),
            ["told", name] => self.told(name)?,
            ["left", "alone", "on", name] => self.left_alone(name)?,
            ["reset", "node", name] => self.wish(Wish::ForgiveNode { node: self.node(name)?, by }),
            ["reset", unit, "on", name] => {
                let node = Some(self.node(name)?);
                self.wish(Wish::ResetFailed { unit: Self::unit(unit), node })
            }
            ["reset", unit] => self.wish(Wish::ResetFailed { unit: Self::unit(unit), node: None }),
            ["vouch", name] => self.vouch(name, self.incarnation(name))?,
            ["vouch", name, "as", incarnation] => self.vouch(name, Incarnation::from(*incarnation))?,
            ["drill", name, rest @ ..] => self.drill(name, rest)?,
            ["take", "back", "the", "fence", "of", name] => {
                self.wish(Wish::CancelFence { node: self.node(name)?, by })
            }
            ["drills"] => self.drills(),
            ["what", "the", "fence", "of", name, "is", "for"] => self.fence_is_for(name)?,
            ["leave", name] => self.wish(Wish::RemoveNode { node: self.node(name)?, by }),
            ["forget", unit] => self.wish(Wish::Forget { unit: Self::unit(unit), by }),
            ["adopt", unit, "from", name] => {
                self.wish(Wish::AdoptFrom { unit: Self::unit(unit), node: self.node(name)?, by })
            }
            ["configure", rest @ ..] => self.configure(rest)?,
            // The leader
            ["plan"] => {
                self.survey();
                let mut lines = self.plan_to_fixpoint();
                lines.extend(self.waits());
                lines
            }
            ["settle"] => {
                self.survey();
                self.settle()
            }
            ["apply", rest @ ..] => {
                self.survey();
                self.raw(rest)?
            }
            // Looking
            ["state"] => self.show(),
            ["why", unit] => {
                let unit = Self::unit(unit);
                let planned = policy::plan(&self.state, self.time);
                let reasons = planned.reasons.get(&unit).cloned().unwrap_or_default();
                let line = |reason: &policy::Reason| {
                    let what = self.rename(&reason.text(&self.state, &unit, self.time));
                    format!("{}: {what} -> {}", reason.rule(), reason.release(&self.state, &unit))
                };
                reasons.iter().map(line).collect()
            }
            ["check"] => self.check(),
            ["terms", unit] => self.terms(unit),
            ["what", "ends", "a", "permit", "of", fencing] => self.ends(fencing)?,
            ["forecast", what @ ..] => self.forecast(what)?,
            ["looks"] => self.looks(),
            ["wakes"] => {
                let planned = policy::plan(&self.state, self.time);
                vec![
                    planned
                        .wake_at
                        .map_or("never".into(), |at| format!("in {} ms", at.saturating_sub(self.time))),
                ]
            }
            ["events", count] => {
                let count: usize = count.parse().map_err(|_| "no number")?;
                let skip = self.state.history.len().saturating_sub(count);
                self.state.history.iter().skip(skip).map(|event| self.event(event)).collect()
            }
            _ => return Err("unknown command".into()),
        })
    }

    fn cluster(&mut self, rest: &[&str]) -> Lines {
        let plain = rest.contains(&"plain");
        let witness =
            rest.iter().position(|word| *word == "witness").and_then(|at| rest.get(at + 1)).copied();
        let names: Vec<&str> =
            rest.iter().copied().take_while(|word| !["plain", "witness", "without"].contains(word)).collect();
        let first = *names.first().ok_or("a cluster needs a node")?;
        self.wish(Wish::Found {
            cluster: "c".into(),
            name: "test".into(),
            generation: 0,
            node: policy::NodeId(1),
            node_name: first.into(),
            addresses: Vec::new(),
            machine: format!("machine-{first}"),
        });
        for name in names.iter().skip(1) {
            self.join(name, &[])?;
        }
        if let Some(witness) = witness {
            self.join(witness, &["witness"])?;
        }
        self.command(&format!("term {first}"))?;
        if !rest.contains(&"without") {
            self.configure(&[])?;
        }
        if plain {
            return Ok(Vec::new());
        }
        for name in names.iter().copied().chain(witness) {
            self.command(&format!("boot {name}"))?;
            self.command(&format!("inventory {name}"))?;
        }
        // Only now there is somebody to look at each.
        for name in names.iter().copied().chain(witness) {
            self.command(&format!("look {name} on"))?;
        }
        Ok(Vec::new())
    }

    fn join(&mut self, name: &str, rest: &[&str]) -> Lines {
        let token = format!("token-{name}");
        self.issue(&token);
        let role = match rest.first() {
            Some(&"witness") => Some(Role::Witness),
            Some(&"member") => Some(Role::Member),
            _ => None,
        };
        Ok(self.enroll(name, &token, role))
    }

    /// A token that is valid for a second.
    fn issue(&mut self, id: &str) -> Vec<String> {
        let (id, secret_hash) = (id.into(), "hash".into());
        self.wish(Wish::IssueToken { id, secret_hash, valid_ms: 1_000, by: "ann".into() })
    }

    fn enroll(&mut self, name: &str, token: &str, role: Option<Role>) -> Vec<String> {
        let (token, secret_hash) = (token.into(), "hash".into());
        let (name, addresses, machine) = (name.into(), Vec::new(), format!("machine-{name}"));
        self.wish(Wish::Enroll { token, secret_hash, name, addresses, machine, role })
    }

    fn pass(&mut self, by: &str) -> Lines {
        let by = by.trim_start_matches('+');
        let (number, unit) = match by.strip_suffix("ms") {
            Some(number) => (number, 1),
            None => (by.trim_end_matches('s'), 1_000),
        };
        self.time += number.parse::<u64>().map_err(|_| "no time")? * unit;
        Ok(Vec::new())
    }

    fn hello(&mut self, name: &str, incarnation: Incarnation, machine: Option<&str>) -> Lines {
        self.session += 1;
        self.hello_of(name, incarnation, machine, self.session)
    }

    fn hello_of(
        &mut self,
        name: &str,
        incarnation: Incarnation,
        machine: Option<&str>,
        session: u64,
    ) -> Lines {
        let machine = machine.map_or_else(|| format!("machine-{name}"), ToString::to_string);
        let (node, term) = (self.node(name)?, self.term);
        let level = self.levels.get(name).copied().unwrap_or(policy::FEATURE_LEVEL);
        let addresses = Vec::new();
        Ok(self.fact(Fact::NodeHeard { node, incarnation, session, machine, addresses, level, term }))
    }

    fn lost(&mut self, names: &[&str], term: u64) -> Lines {
        let term = if term == 0 { self.term } else { term };
        let mut lines = Vec::new();
        for name in names {
            let node = self.node(name)?;
            let life =
                self.state.nodes.get(&node).and_then(|node| node.life.as_ref()).ok_or("never heard")?;
            let (incarnation, session) = (life.incarnation.clone(), life.session);
            lines.extend(self.fact(Fact::NodeLost { node, incarnation, session, term }));
        }
        Ok(lines)
    }

    fn inventory(&mut self, name: &str, running: &[&str]) -> Lines {
        // Those behind the word are on their way up again.
        let up = running.iter().position(|word| *word == "restarts").unwrap_or(running.len());
        let (up, again) = running.split_at(up);
        let again: Vec<UnitName> = again.iter().skip(1).map(|unit| Self::unit(unit)).collect();
        let mut running: BTreeSet<UnitName> = up.iter().map(|unit| Self::unit(unit)).collect();
        running.extend(again.iter().cloned());
        let files = self.files.iter().filter(|((node, _), _)| node == name);
        let mut items: BTreeMap<UnitName, InventoryItem> = files
            .map(|((_, unit), offer)| {
                let item = InventoryItem {
                    unit: unit.clone(),
                    offer: Some(offer.clone()),
                    running: running.contains(unit),
                };
                (unit.clone(), item)
            })
            .collect();
        for unit in running {
            items.entry(unit.clone()).or_insert(InventoryItem { unit, offer: None, running: true });
        }
        let (node, incarnation, items) =
            (self.node(name)?, self.incarnation(name), items.into_values().collect());
        let rests = again.iter().map(|unit| Ok((self.token(unit, node)?, Rest::Restarts)));
        let rests = rests.collect::<Result<_, String>>()?;
        Ok(self.fact(Fact::InventoryReported { node, incarnation, items, rests, highest_token: Token(0) }))
    }

    fn observed(&mut self, name: &str, unit: &str, running: bool) -> Lines {
        let unit = Self::unit(unit);
        let offer = self.files.get(&(name.to_string(), unit.clone())).cloned();
        let (node, incarnation) = (self.node(name)?, self.incarnation(name));
        Ok(self.fact(Fact::UnitObserved { node, incarnation, item: InventoryItem { unit, offer, running } }))
    }

    /// Changes the files on some nodes; those in session say so at once.
    fn offer(&mut self, names: &str, unit: &str, keys: &[&str]) -> Lines {
        let unit = Self::unit(unit);
        let mut lines = Vec::new();
        for name in names.split(',') {
            let offer = offer(keys)?;
            self.files.insert((name.into(), unit.clone()), offer.clone());
            let node = self.node(name)?;
            let known = self.state.nodes.get(&node);
            if known.and_then(|node| node.in_session()).is_some_and(|life| life.inventory) {
                let running =
                    known.and_then(|node| node.life.as_ref()).is_some_and(|life| life.strays.contains(&unit));
                let running =
                    running || self.state.units.get(&unit).is_some_and(|unit| unit.permit_on(node).is_some());
                lines.extend(self.observed(name, unit.as_str(), running)?);
            }
        }
        Ok(lines)
    }

    fn life_and_token(
        &self,
        name: &str,
        unit: &UnitName,
        rest: &[&str],
    ) -> Result<(Incarnation, Token), String> {
        let word = |key: &str| {
            let at = rest.iter().position(|word| *word == key)?;
            rest.get(at + 1).copied()
        };
        let incarnation = word("as").map_or_else(|| self.incarnation(name), Incarnation::from);
        let token = match word("under") {
            Some(token) => self.token_named(token)?,
            None => self.token(unit, self.node(name)?)?,
        };
        Ok((incarnation, token))
    }

    fn released(&mut self, unit: &str, name: &str, rest: &[&str]) -> Lines {
        let unit = Self::unit(unit);
        let because = rest.iter().position(|word| *word == "because").and_then(|at| rest.get(at + 1..));
        let because = match because {
            None | Some(["ordered"]) => Cause::Ordered,
            Some(["failed", why @ ..]) => Cause::Failed(why.join(" ")),
            Some(["no", "start", why @ ..]) => Cause::StartFailed(why.join(" ")),
            Some(["stopped", "by", who]) => Cause::Operator((*who).into()),
            Some(["along", "with", other]) => Cause::Propagated((*other).into()),
            Some(["shutdown"]) => Cause::Shutdown,
            Some(["lease"]) => Cause::LeaseEnded,
            Some(["unused"]) => Cause::Unused,
            Some(["down", "in", "maintenance"]) => Cause::DownInMaintenance,
            Some(other) => return Err(format!("no cause {other:?}")),
        };
        let (incarnation, token) = self.life_and_token(name, &unit, rest)?;
        let node = self.node(name)?;
        Ok(self.fact(Fact::Released { node, incarnation, unit, token, because }))
    }

    fn goal(&mut self, unit: &str, wanted: Wanted, rest: &[&str]) -> Lines {
        let node = match rest {
            ["on", name] => Some(self.node(name)?),
            ["seen", "before"] | [] => None,
            other => return Err(format!("no place {other:?}")),
        };
        let seen = (rest == ["seen", "before"]).then_some(1);
        Ok(self.wish(Wish::SetGoal { unit: Self::unit(unit), wanted, node, seen, by: "ann".into() }))
    }

    fn vouch(&mut self, name: &str, incarnation: Incarnation) -> Lines {
        let node = self.node(name)?;
        Ok(self.wish(Wish::VouchFenced { node, incarnation, by: "ann".into() }))
    }
}
