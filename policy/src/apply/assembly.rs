//! The boot-up of clustered services: what was heard and said, and who was elected (F16).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};

use crate::assembly::{BootUp, Election, Formation, Found, Heard, Start, Word, Words};
use crate::event::{EventKind, Severity};
use crate::name::{Incarnation, NodeId, Token, UnitName};
use crate::permit::Phase;
use crate::refusal::Refusal;

use super::{Step, stale};

impl Step<'_> {
    /// A position counts for its epoch, its life and its session, and for data that nothing touched since the look began.
    pub(super) fn position_reported(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        unit: &UnitName,
        epoch: u64,
        seen: u64,
        found: &Found,
    ) -> Result<(), Refusal> {
        let (index, state) = (self.index, &self.state);
        let session = self.heard(id, incarnation)?.session;
        let (known, _, boot_up) = state.assembled(unit)?;
        if boot_up.epoch != epoch {
            return Err(stale("another gathering is under way"));
        }
        if known.permit_on(id).is_some() {
            return Err(stale("it holds a permit: its data may change"));
        }
        let stray = self.life(id, incarnation)?.strays.contains(unit);
        if stray && found.is_told() {
            return Err(stale("a copy runs on its data"));
        }
        if boot_up.touched.get(&id).is_some_and(|touched| seen < *touched) {
            return Err(stale("a copy ran on its data since the look began"));
        }
        let boot_up = self.boot_up(unit)?;
        if let Found::Data { identity, .. } = found {
            boot_up.learn(id, identity);
        }
        let heard = Heard { incarnation: incarnation.clone(), session, found: found.clone(), void: false };
        boot_up.heard.insert(id, heard);
        // The node looked with no copy running and none that could start: its word is a release, if one was due.
        if let Some(member) = boot_up.members.get_mut(&id)
            && found.is_told()
            && member.incarnation == *incarnation
        {
            member.ended.get_or_insert(index);
        }
        Ok(())
    }

    /// Whoever ended is forgotten as soon as another is found ready by a look that began after that (F16). `look` is the
    /// identity of a copy that is ready, if it was said, or what the copy lacks.
    pub(super) fn ready_reported(
        &mut self,
        id: NodeId,
        incarnation: &Incarnation,
        unit: &UnitName,
        token: Token,
        seen: u64,
        look: Result<Option<&str>, &str>,
    ) -> Result<(), Refusal> {
        self.heard(id, incarnation)?;
        let asked = token.index().max(self.boot_up(unit)?.epoch);
        if seen > self.index || seen < asked {
            return Err(stale("it looked before it was asked"));
        }
        let permit = self.permit_held(id, incarnation, unit, token)?;
        if permit.phase != Phase::Active {
            return Err(stale("the copy is not active"));
        }
        let adopted = permit.adopted;
        let doubted = self.state.runs_strange(unit);
        let boot_up = self.boot_up(unit)?;
        let known = boot_up.members.get(&id).filter(|member| member.token == token);
        let start = known.ok_or_else(|| stale("no such permit"))?.start;
        let before = known.and_then(|member| member.ready);
        let said = known.and_then(|member| member.lacks.clone());
        if before.is_some_and(|before| seen <= before) {
            return Err(stale("a later look is known"));
        }
        let formation = formed(boot_up, id, adopted, look.ok().flatten(), doubted);
        let stranger = look.ok().flatten().and_then(|own| {
            let one = formation.as_ref()?.identity.as_deref().filter(|one| *one != own)?;
            Some((own, format!("it is of another history ({own}) than the service ({one})")))
        });
        let lacks = stranger.as_ref().map(|(_, why)| why.as_str()).or(look.err());
        if let Some(member) = boot_up.members.get_mut(&id) {
            let joined = matches!(start, Some(Start::Join | Start::Resync));
            member.stranger = stranger.as_ref().filter(|_| joined).map(|(own, _)| (*own).into());
            member.lacks = lacks.map(String::from);
            member.ready = lacks.is_none().then_some(seen);
            member.served |= lacks.is_none();
        }
        if stranger.is_some() && start != Some(Start::Alone) {
            boot_up.estrange(id);
        }
        if let Some(lacks) = lacks {
            if before.is_some() || (stranger.is_some() && said.as_deref() != Some(lacks)) {
                let kind = EventKind::NotReady { token, lacks: lacks.into() };
                self.record(Severity::Warning, Some(id), Some(unit), kind);
            }
            return Ok(());
        }
        if boot_up.is_gathering() {
            boot_up.election = None;
        }
        boot_up.formed = true;
        boot_up.formation = formation;
        boot_up.joins(id);
        boot_up.members.retain(|_, member| member.ended.is_none_or(|ended| ended > seen));
        if before.is_none() {
            self.record(Severity::Info, Some(id), Some(unit), EventKind::Ready { token });
        }
        Ok(())
    }

    pub(super) fn open_gather(&mut self, unit: &UnitName) -> Result<(), Refusal> {
        self.state.may_touch_unit(unit)?;
        self.state.may_gather(unit)?;
        let (epoch, time) = (self.index, self.time);
        let boot_up = self.boot_up(unit)?;
        boot_up.epoch = epoch;
        boot_up.opened_at = time;
        boot_up.heard.clear();
        boot_up.words = Words::none();
        boot_up.election = None;
        // Who is silent now and comes back is asked anew, and with its answer this gathering is over.
        boot_up.members.values_mut().for_each(|member| member.ready = None);
        self.record(Severity::Info, None, Some(unit), EventKind::GatherOpened { epoch });
        Ok(())
    }

    /// The decision before the deed. What is elected joins the last active set at once: it may write before anybody
    /// hears that it is ready.
    pub(super) fn elect(&mut self, unit: &UnitName, epoch: u64, election: &Election) -> Result<(), Refusal> {
        self.state.may_touch(unit, election.node)?;
        let (_, _, boot_up) = self.state.assembled(unit)?;
        if boot_up.epoch != epoch {
            return Err(stale("another gathering is under way"));
        }
        let known = self.state.may_elect(unit, election.node, self.time)?;
        if known != *election {
            return Err(stale("what was heard has changed"));
        }
        let kind = EventKind::Elected {
            epoch,
            identity: known.identity.clone(),
            rank: known.rank,
            absent: known.absent.iter().copied().collect(),
            ground: known.ground.clone(),
        };
        let severity = if known.absent.is_empty() { Severity::Info } else { Severity::Warning };
        self.boot_up(unit)?.election = Some(known);
        self.record(severity, Some(election.node), Some(unit), kind);
        Ok(())
    }

    pub(super) fn assemble(
        &mut self,
        unit: &UnitName,
        epoch: u64,
        word: Word,
        by: &str,
    ) -> Result<(), Refusal> {
        if self.state.units.get(unit).is_some_and(|known| known.succession.is_some()) {
            return self.role_word(unit, epoch, word, by);
        }
        let (_, assembly, boot_up) = self.state.assembled(unit)?;
        if boot_up.epoch != epoch {
            let why = format!(
                "{unit} is in another gathering than you were shown; `convoke why {unit}` shows the present one"
            );
            return Err(Refusal::Impossible(why));
        }
        let impossible = |why: String| Err(Refusal::Impossible(why));
        let elects = boot_up.is_gathering() && boot_up.election.is_none();
        match word {
            Word::Without(_) | Word::From(_) if !elects => {
                return impossible(format!(
                    "{unit} is not waiting to be assembled; `convoke why {unit}` says what it waits for"
                ));
            }
            Word::Without(node) if !boot_up.members.contains_key(&node) => {
                let name = self.state.node_name(node);
                return impossible(format!("{name} was not live last: nobody waits for its data"));
            }
            Word::From(node) => {
                if let Err(refusal) = self.state.chosen(boot_up, node) {
                    return impossible(refusal.to_string());
                }
            }
            Word::Resync(_) if !assembly.resync => {
                return impossible(format!("no StartResync= of {unit} says how data is replaced"));
            }
            Word::Without(_) | Word::Resync(_) => {}
        }
        let words = &mut self.boot_up(unit)?.words;
        let node = match word {
            Word::Without(node) => {
                words.without.insert(node, by.into());
                node
            }
            Word::From(node) => {
                words.from = Some((node, by.into()));
                node
            }
            Word::Resync(node) => {
                words.resync.insert(node);
                node
            }
        };
        self.record(
            Severity::Warning,
            Some(node),
            Some(unit),
            EventKind::AssemblyWord { word, by: by.into() },
        );
        Ok(())
    }

    pub(super) fn boot_up(&mut self, unit: &UnitName) -> Result<&mut BootUp, Refusal> {
        let known = self.state.units.get_mut(unit).ok_or_else(|| Refusal::UnknownUnit(unit.clone()))?;
        known.boot_up.as_mut().ok_or_else(|| stale("it is no clustered service"))
    }
}

/// What others are compared with once this copy is ready: the first in an epoch makes it. Which history that is, where it
/// began without data or ran before, is a copy's first word on it; after a copy ran behind the gate, only the word of the
/// one that began.
fn formed(
    boot_up: &BootUp,
    id: NodeId,
    adopted: bool,
    said: Option<&str>,
    strange: bool,
) -> Option<Formation> {
    let epoch = boot_up.epoch;
    let fresh = |identity| Formation { epoch, identity, joined: BTreeSet::new(), doubted: false };
    let member = boot_up.members.get(&id);
    let mut formation = match &boot_up.formation {
        _ if boot_up.is_gathering() => forms(boot_up, id, adopted),
        Some(before) => before.clone(),
        None if said.is_some() => fresh(None),
        None => return None,
    };
    let began = member.is_some_and(|member| member.began.is_some());
    formation.doubted |= formation.identity.is_none() && strange;
    if formation.identity.is_none() && (began || !formation.doubted) {
        formation.identity = said.map(String::from);
    }
    Some(formation)
}

fn forms(boot_up: &BootUp, id: NodeId, adopted: bool) -> Formation {
    let epoch = boot_up.epoch;
    let fresh = |identity| Formation { epoch, identity, joined: BTreeSet::new(), doubted: false };
    let member = boot_up.members.get(&id);
    let again = |before: &Formation| Formation { epoch, ..before.clone() };
    let started = member.is_some_and(|member| !adopted && member.token.index() > epoch);
    if let Some((identity, _)) = member.and_then(|member| member.began.clone()) {
        return match &boot_up.formation {
            // What it began is live again, and with it all that joined it since.
            Some(before) if !started && (identity.is_none() || before.identity == identity) => again(before),
            _ => fresh(identity),
        };
    }
    let told = boot_up.heard.get(&id).and_then(|heard| {
        let Found::Data { identity, .. } = &heard.found else { return None };
        Some(identity.clone())
    });
    match &boot_up.formation {
        // One that was taken for lost is back, and the service with it, as it was; or those that were started together
        // found each other, and nobody else's data was later.
        Some(before) if !started || told == before.identity => again(before),
        _ => fresh(told.filter(|_| started)),
    }
}
